//! Prints a graph: as a tree for people, for Graphviz and Mermaid, and as JSON.

mod drawing;
mod json;
mod tree;

use crate::buildfile::model::Spanned;
use crate::event::{Outcome, Reason};
use crate::graph::{Graph, Named, TargetId};

use super::{Color, Style};

/// A graph, the part of it to print, and the states of its targets.
pub struct View<'g> {
    /// The graph.
    pub graph: &'g Graph,
    /// The targets and groups to start from; all that they need or follow is printed as well.
    pub roots: Vec<Named>,
    /// The state of each target, by its index; empty if unknown.
    pub states: Vec<Option<State>>,
}

/// The outcome of a target, past or expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The outcome.
    pub outcome: Outcome,
    /// The reason.
    pub reason: Option<Reason>,
}

/// A format of the graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A tree of lines and names; shared parts are printed once.
    #[default]
    Tree,
    /// For Graphviz.
    Dot,
    /// For Mermaid.
    Mermaid,
    /// JSON, as `schemas/graph.schema.json` describes.
    Json,
}

/// Formats a graph; the style applies to the tree only.
pub fn render(view: &View<'_>, format: Format, style: Style) -> String {
    match format {
        Format::Tree => tree::render(view, style),
        Format::Dot => drawing::dot(view),
        Format::Mermaid => drawing::mermaid(view),
        Format::Json => json::render(view),
    }
}

/// Returns the roots that lead to the whole graph: the groups and targets that no other
/// target or group names.
pub fn all_roots(graph: &Graph) -> Vec<Named> {
    let groups = (0..graph.groups().len()).map(Named::Group);
    let all: Vec<Named> = groups.chain(graph.ids().map(Named::Target)).collect();
    let mut is_named = vec![false; all.len()];
    for named in &all {
        for child in children(graph, *named) {
            is_named[slot(graph, child.named)] |= child.named != *named;
        }
    }
    let roots = all.iter().filter(|named| !is_named[slot(graph, **named)]);
    roots.copied().collect()
}

/// A target or group that another one names.
#[derive(Clone, Copy)]
struct Child {
    named: Named,
    /// Whether it is named with `after` only.
    is_after: bool,
}

fn children(graph: &Graph, named: Named) -> Vec<Child> {
    let (needs, after): (&[Spanned<String>], &[Spanned<String>]) = match named {
        Named::Target(id) => (&graph.target(id).needs, &graph.target(id).after),
        Named::Group(group) => (&graph.groups()[group].needs, &[]),
    };
    let children = |name: &Spanned<String>, is_after| {
        let found = graph.matching(&name.value).into_iter();
        let others = found.filter(move |found| *found != named);
        others.map(move |named| Child { named, is_after })
    };
    let needs = needs.iter().flat_map(|name| children(name, false));
    needs
        .chain(after.iter().flat_map(|name| children(name, true)))
        .collect()
}

/// Returns the index of a target or group in a table of both.
fn slot(graph: &Graph, named: Named) -> usize {
    match named {
        Named::Target(id) => id.index(),
        Named::Group(group) => graph.len() + group,
    }
}

fn name(graph: &Graph, named: Named) -> &str {
    match named {
        Named::Target(id) => graph.name(id),
        Named::Group(group) => &graph.groups()[group].name.value,
    }
}

fn about(graph: &Graph, named: Named) -> Option<&str> {
    match named {
        Named::Target(id) => graph.target(id).about.as_deref(),
        Named::Group(group) => graph.groups()[group].about.as_deref(),
    }
}

impl View<'_> {
    fn state(&self, id: TargetId) -> Option<&State> {
        self.states.get(id.index())?.as_ref()
    }

    /// Returns the roots and everything that they lead to, in the order of the Buildfile.
    fn reached(&self) -> Vec<Named> {
        let mut is_reached = vec![false; self.graph.len() + self.graph.groups().len()];
        let mut open = self.roots.clone();
        while let Some(named) = open.pop() {
            if !std::mem::replace(&mut is_reached[slot(self.graph, named)], true) {
                open.extend(children(self.graph, named).iter().map(|child| child.named));
            }
        }
        let groups = (0..self.graph.groups().len()).map(Named::Group);
        let all = groups.chain(self.graph.ids().map(Named::Target));
        all.filter(|named| is_reached[slot(self.graph, *named)])
            .collect()
    }

    fn project(&self) -> Option<&str> {
        let project = self.graph.buildfile().project.as_ref();
        project.map(|project| project.name.value.as_str())
    }
}

impl State {
    /// Words the outcome and its reason.
    fn words(&self) -> String {
        let word = match &self.outcome {
            Outcome::Built => "built",
            Outcome::Restored => "restored",
            Outcome::Fetched => "fetched",
            Outcome::UpToDate => "up to date",
            Outcome::WouldRun => "would run",
            Outcome::WouldRestore => "would be restored",
            Outcome::Failed { .. } => "failed",
            Outcome::Skipped { .. } => "skipped",
            Outcome::Cancelled => "not finished",
        };
        match &self.reason {
            Some(reason) => format!("{word}: {reason}"),
            None => word.to_owned(),
        }
    }

    fn color(&self) -> Color {
        match &self.outcome {
            Outcome::Built | Outcome::UpToDate => Color::Green,
            Outcome::Restored | Outcome::Fetched | Outcome::WouldRestore => Color::Cyan,
            Outcome::WouldRun | Outcome::Skipped { .. } | Outcome::Cancelled => Color::Yellow,
            Outcome::Failed { .. } => Color::Red,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::testing::graph;

    pub(super) const TEXT: &str = "target generate-go
        target generate-js
        target webapp needs generate-js after lint
        target manager needs generate-go webapp
        target worker needs generate-go
        target lint
        target docs
        group build needs manager worker
        group all needs build docs";

    #[test]
    fn all_roots_are_named_by_nothing() {
        let graph = graph(TEXT);
        let names: Vec<&str> = all_roots(&graph).iter().map(|n| name(&graph, *n)).collect();
        assert_eq!(names, ["all"]);
        let view = View {
            roots: graph.resolve(&["worker", "webapp"]).unwrap(),
            graph: &graph,
            states: Vec::new(),
        };
        let names: Vec<&str> = view.reached().iter().map(|n| name(&graph, *n)).collect();
        assert_eq!(
            names,
            ["generate-go", "generate-js", "webapp", "worker", "lint"]
        );
    }
}
