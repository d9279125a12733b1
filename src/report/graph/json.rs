//! Prints a graph as one JSON document, as `schemas/graph.schema.json` describes. Groups are
//! resolved, so that readers need not follow them.

use serde::Serialize;

use super::{State, View, name};
use crate::buildfile::model::{Inputs, Output, Outputs, Spanned};
use crate::glob::Pattern;
use crate::graph::{Graph, Named, TargetId};

/// The version of the format.
const FORMAT: u32 = 1;

/// Returns the document, indented, with a newline at its end.
pub(super) fn render(view: &View<'_>) -> String {
    let graph = view.graph;
    let mut document = Document {
        format: FORMAT,
        project: view.project(),
        default: names(graph, &graph.default_targets()),
        targets: Vec::new(),
        groups: Vec::new(),
    };
    for named in view.reached() {
        match named {
            Named::Target(id) => document.targets.push(target(view, id)),
            Named::Group(group) => document.groups.push(Group {
                name: name(graph, named),
                about: graph.groups()[group].about.as_deref(),
                targets: names(graph, graph.members(group)),
            }),
        }
    }
    // The document is plain data: serialising it cannot fail.
    serde_json::to_string_pretty(&document).unwrap_or_default() + "\n"
}

#[derive(Serialize)]
struct Document<'g> {
    format: u32,
    project: Option<&'g str>,
    default: Vec<&'g str>,
    targets: Vec<Target<'g>>,
    groups: Vec<Group<'g>>,
}

#[derive(Serialize)]
struct Group<'g> {
    name: &'g str,
    about: Option<&'g str>,
    targets: Vec<&'g str>,
}

#[derive(Serialize)]
struct Target<'g> {
    name: &'g str,
    about: Option<&'g str>,
    needs: Vec<&'g str>,
    after: Vec<&'g str>,
    inputs: Vec<Input<'g>>,
    outputs: Vec<Made<'g>>,
    tools: Vec<&'g str>,
    state: Option<Condition>,
}

#[derive(Serialize)]
struct Input<'g> {
    patterns: Vec<&'g str>,
    except: Vec<&'g str>,
    optional: bool,
}

#[derive(Serialize)]
struct Made<'g> {
    kind: &'static str,
    path: String,
    committed: bool,
    keep: Vec<&'g str>,
}

#[derive(Serialize)]
struct Condition {
    outcome: serde_json::Value,
    reason: Option<String>,
}

fn target<'g>(view: &View<'g>, id: TargetId) -> Target<'g> {
    let graph = view.graph;
    let target = graph.target(id);
    Target {
        name: graph.name(id),
        about: target.about.as_deref(),
        needs: names(graph, graph.needs(id)),
        after: names(graph, graph.after(id)),
        inputs: target.inputs.iter().map(input).collect(),
        outputs: target.outputs.iter().flat_map(made).collect(),
        tools: target
            .tools
            .iter()
            .map(|tool| tool.value.as_str())
            .collect(),
        state: view.state(id).map(condition),
    }
}

fn input(inputs: &Inputs) -> Input<'_> {
    Input {
        patterns: texts(&inputs.patterns),
        except: texts(&inputs.except),
        optional: inputs.optional,
    }
}

fn made(outputs: &Outputs) -> impl Iterator<Item = Made<'_>> {
    outputs.paths.iter().map(|output| {
        let (kind, path) = match &output.value {
            Output::File(path) => ("file", path.to_string()),
            Output::Folder(path) => ("folder", path.to_string()),
            Output::Glob(pattern) => ("glob", pattern.to_string()),
        };
        Made {
            kind,
            path,
            committed: outputs.committed,
            keep: texts(&outputs.keep),
        }
    })
}

/// Converts a state; the outcome is the word used in events.
fn condition(state: &State) -> Condition {
    let outcome = serde_json::to_value(&state.outcome).unwrap_or_default();
    Condition {
        outcome: outcome["outcome"].clone(),
        reason: state.reason.as_ref().map(ToString::to_string),
    }
}

fn texts(patterns: &[Spanned<Pattern>]) -> Vec<&str> {
    patterns
        .iter()
        .map(|pattern| pattern.value.text())
        .collect()
}

fn names<'g>(graph: &'g Graph, targets: &[TargetId]) -> Vec<&'g str> {
    targets.iter().map(|id| graph.name(*id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Outcome, Reason};
    use crate::graph::testing::graph;
    use crate::report::graph::all_roots;

    const TEXT: &str = "default all
        target app needs lib inputs src/** go.mod except **/x outputs out/app gen/*.go
        target lib after lint outputs lib/ keep lib/empty
        target lint
        group libs needs lib
        group all needs app libs";

    fn rendered() -> serde_json::Value {
        let graph = graph(TEXT);
        let state = |outcome, reason| Some(State { outcome, reason });
        let view = View {
            graph: &graph,
            roots: all_roots(&graph),
            states: vec![
                state(Outcome::WouldRun, Some(Reason::NeverBuilt)),
                state(Outcome::UpToDate, None),
            ],
        };
        serde_json::from_str(&render(&view)).unwrap()
    }

    #[test]
    fn document_lists_targets_and_groups() {
        let expected = serde_json::json!({
            "format": 1,
            "project": "test",
            "default": ["app", "lib"],
            "targets": [
                {
                    "name": "app", "about": null, "needs": ["lib"], "after": [],
                    "inputs": [{"patterns": ["src/**", "go.mod"], "except": ["**/x"], "optional": false}],
                    "outputs": [
                        {"kind": "file", "path": "out/app", "committed": false, "keep": []},
                        {"kind": "glob", "path": "gen/*.go", "committed": false, "keep": []},
                    ],
                    "tools": [],
                    "state": {"outcome": "would-run", "reason": "never built here"},
                },
                {
                    "name": "lib", "about": null, "needs": [], "after": ["lint"], "inputs": [],
                    "outputs": [{"kind": "folder", "path": "lib", "committed": false, "keep": ["lib/empty"]}],
                    "tools": [],
                    "state": {"outcome": "up-to-date", "reason": null},
                },
                {
                    "name": "lint", "about": null, "needs": [], "after": [], "inputs": [],
                    "outputs": [], "tools": [], "state": null,
                },
            ],
            "groups": [
                {"name": "libs", "about": null, "targets": ["lib"]},
                {"name": "all", "about": null, "targets": ["app", "lib"]},
            ],
        });
        assert_eq!(rendered(), expected);
    }

    #[test]
    fn document_matches_its_schema() {
        let schema = include_str!("../../../schemas/graph.schema.json");
        let schema = serde_json::from_str(schema).unwrap();
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        let mut document = rendered();
        if let Err(error) = validator.validate(&document) {
            panic!("{error}");
        }
        document["targets"][0]["strange"] = true.into();
        assert!(validator.validate(&document).is_err());
    }
}
