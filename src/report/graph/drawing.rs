//! Prints a graph for Graphviz and Mermaid. An arrow leads from a target to a target that
//! it needs, a dashed arrow to one that it only follows.

use std::fmt::Write as _;

use super::{State, View, about, children, name, slot};
use crate::event::Outcome;
use crate::graph::Named;
use crate::report::text::harmless;

/// Formats the graph for Graphviz.
pub(super) fn dot(view: &View<'_>) -> String {
    let graph = view.graph;
    let project = dot_string(view.project().unwrap_or("fbuild"));
    let mut out = format!("digraph {project} {{\n  rankdir=LR\n  node [shape=box]\n");
    let reached = view.reached();
    for named in &reached {
        let mut attributes = Vec::new();
        if matches!(named, Named::Group(_)) {
            attributes.push("shape=folder".to_owned());
        }
        if let Some(state) = state(view, *named) {
            let label = format!(
                "{}\n{}",
                harmless(name(graph, *named)),
                harmless(&state.words())
            );
            attributes.push(format!("label={}", dot_lines(&label)));
            attributes.push(format!("color={}", color(state)));
        }
        if let Some(about) = about(graph, *named) {
            attributes.push(format!("tooltip={}", dot_string(about)));
        }
        let attributes = if attributes.is_empty() {
            String::new()
        } else {
            format!(" [{}]", attributes.join(", "))
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  {}{attributes}", dot_string(name(graph, *named)));
    }
    for named in &reached {
        for child in children(graph, *named) {
            let dashes = if child.is_after {
                " [style=dashed, label=after]"
            } else {
                ""
            };
            let (from, to) = (
                dot_string(name(graph, *named)),
                dot_string(name(graph, child.named)),
            );
            let _ = writeln!(out, "  {from} -> {to}{dashes}");
        }
    }
    out + "}\n"
}

/// Formats the graph for Mermaid.
pub(super) fn mermaid(view: &View<'_>) -> String {
    let graph = view.graph;
    let id = |named: Named| format!("n{}", slot(graph, named));
    let mut out = "flowchart LR\n".to_owned();
    let reached = view.reached();
    for named in &reached {
        let state = state(view, *named);
        let words = state.map(|state| format!("<br>{}", mermaid_text(&state.words())));
        let label = format!(
            "{}{}",
            mermaid_text(name(graph, *named)),
            words.unwrap_or_default()
        );
        // Writing to a String cannot fail.
        let _ = match named {
            Named::Group(_) => writeln!(out, "  {}[[\"{label}\"]]", id(*named)),
            Named::Target(_) => writeln!(out, "  {}[\"{label}\"]", id(*named)),
        };
        if let Some(state) = state {
            let _ = writeln!(out, "  style {} stroke:{}", id(*named), color(state));
        }
    }
    for named in &reached {
        for child in children(graph, *named) {
            let arrow = if child.is_after {
                "-. after .->"
            } else {
                "-->"
            };
            let _ = writeln!(out, "  {} {arrow} {}", id(*named), id(child.named));
        }
    }
    out
}

fn state<'v>(view: &'v View<'_>, named: Named) -> Option<&'v State> {
    match named {
        Named::Target(id) => view.state(id),
        Named::Group(_) => None,
    }
}

fn color(state: &State) -> &'static str {
    match &state.outcome {
        Outcome::Built | Outcome::UpToDate => "green",
        Outcome::Restored | Outcome::Fetched | Outcome::WouldRestore => "blue",
        Outcome::WouldRun | Outcome::Skipped { .. } | Outcome::Cancelled => "orange",
        Outcome::Failed { .. } => "red",
    }
}

/// Quotes text for Graphviz.
fn dot_string(text: &str) -> String {
    dot_lines(&harmless(text))
}

/// Quotes harmless text with line breaks for Graphviz.
fn dot_lines(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", text.replace('\n', "\\n"))
}

/// Escapes text for a quoted label of Mermaid, which reads it as HTML and, in backquotes, as
/// Markdown: all characters except letters, digits and a few marks become numbers.
fn mermaid_text(text: &str) -> String {
    let mut out = String::new();
    for c in harmless(text).chars() {
        match c {
            ' ' | '-' | '.' | '/' | ':' | ',' => out.push(c),
            c if c.is_alphanumeric() => out.push(c),
            c => {
                // Writing to a String cannot fail.
                let _ = write!(out, "#{};", c as u32);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Reason;
    use crate::graph::Graph;
    use crate::graph::testing::graph;
    use crate::report::graph::all_roots;

    fn sample() -> Graph {
        let graph =
            graph("target app needs gen after lint\ntarget gen\ntarget lint\ngroup all needs app");
        let mut buildfile = graph.buildfile().clone();
        buildfile.targets[1].about = Some("says \"hi\" \\ <b>\n".to_owned());
        Graph::new(buildfile).0
    }

    fn view(graph: &Graph) -> View<'_> {
        let state = State {
            outcome: Outcome::WouldRun,
            reason: Some(Reason::NeverBuilt),
        };
        View {
            graph,
            roots: all_roots(graph),
            states: vec![Some(state)],
        }
    }

    #[test]
    fn dot_prints_nodes_and_edges() {
        assert_eq!(
            dot(&view(&sample())),
            r#"digraph "fbuild" {
  rankdir=LR
  node [shape=box]
  "all" [shape=folder]
  "app" [label="app\nwould run: never built here", color=orange]
  "gen" [tooltip="says \"hi\" \\ <b>\\x0a"]
  "lint"
  "all" -> "app"
  "app" -> "gen"
  "app" -> "lint" [style=dashed, label=after]
}
"#
        );
    }

    #[test]
    fn mermaid_prints_nodes_and_edges() {
        assert_eq!(
            mermaid(&view(&sample())),
            "flowchart LR
  n3[[\"all\"]]
  n0[\"app<br>would run: never built here\"]
  style n0 stroke:orange
  n1[\"gen\"]
  n2[\"lint\"]
  n3 --> n0
  n0 --> n1
  n0 -. after .-> n2
"
        );
    }

    #[test]
    fn quotes_hold_any_name() {
        assert_eq!(dot_string("a\"]\n\\"), r#""a\"]\\x0a\\""#);
        assert_eq!(mermaid_text("a\"]<b>`#;"), "a#34;#93;#60;b#62;#96;#35;#59;");
    }
}
