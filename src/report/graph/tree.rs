//! Prints a graph as a tree for people. A target that several others need is printed in
//! full once and referred to afterwards, so the tree is no longer than the Buildfile.

use std::collections::VecDeque;

use super::{Child, View, about, children, name, slot};
use crate::graph::Named;
use crate::report::text::{columns, fit, harmless};
use crate::report::{Color, Style};

/// The deepest level. Deeper targets continue at the left edge, because the indentation
/// of a chain of 50,000 targets would fill gigabytes.
const MAX_DEPTH: usize = 30;
/// The fewest columns worth printing a description in.
const MIN_ABOUT_COLUMNS: usize = 12;

pub(super) fn render(view: &View<'_>, style: Style) -> String {
    let roots = view.roots.iter().map(|root| (*root, ""));
    let mut tree = Tree {
        view,
        style,
        is_shown: vec![false; view.graph.len() + view.graph.groups().len()],
        roots: roots.collect(),
        out: String::new(),
    };
    while let Some((root, mark)) = tree.roots.pop_front() {
        tree.root(root, mark);
    }
    tree.out
}

struct Tree<'v> {
    view: &'v View<'v>,
    style: Style,
    /// Whether the children of each target and group are printed already.
    is_shown: Vec<bool>,
    /// The targets and groups to print at the left edge, each with its mark.
    roots: VecDeque<(Named, &'static str)>,
    out: String,
}

/// How much a line says about a target or group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    Name,
    Full,
}

/// A line to print.
struct Line {
    child: Child,
    /// The indentation of its siblings.
    indent: String,
    /// The branch before it, and the branch before its children.
    branch: [&'static str; 2],
    depth: usize,
}

impl Tree<'_> {
    fn root(&mut self, root: Named, mark: &'static str) {
        let child = Child {
            named: root,
            is_after: false,
        };
        let mut open = vec![Line {
            child,
            indent: String::new(),
            branch: ["", ""],
            depth: 0,
        }];
        let mut mark = Some(mark);
        while let Some(line) = open.pop() {
            let children = self.write(&line, mark.take());
            let indent = line.indent + line.branch[1];
            for (i, child) in children.iter().enumerate().rev() {
                open.push(Line {
                    child: *child,
                    indent: indent.clone(),
                    branch: if i + 1 == children.len() {
                        ["└─ ", "   "]
                    } else {
                        ["├─ ", "│  "]
                    },
                    depth: line.depth + 1,
                });
            }
        }
    }

    /// Writes a line and returns the children to print below it.
    fn write(&mut self, line: &Line, mark: Option<&'static str>) -> Vec<Child> {
        let named = line.child.named;
        let mut below = children(self.view.graph, named);
        let is_deep = line.depth == MAX_DEPTH && !below.is_empty();
        let was_shown = if is_deep {
            self.is_shown[slot(self.view.graph, named)]
        } else {
            std::mem::replace(&mut self.is_shown[slot(self.view.graph, named)], true)
        };
        let reference = match (was_shown && !below.is_empty(), is_deep) {
            (true, _) => " (shown above)",
            (false, true) => " (continued below)",
            (false, false) => "",
        };
        if is_deep && !was_shown {
            self.roots.push_back((named, " (continued)"));
        }
        if was_shown || is_deep {
            below.clear();
        }
        let after = if line.child.is_after { " (after)" } else { "" };
        let marks = format!("{after}{}{reference}", mark.unwrap_or_default());
        let start = format!("{}{}", line.indent, line.branch[0]);
        let detail = if was_shown || is_deep {
            Detail::Name
        } else {
            Detail::Full
        };
        self.line(&start, named, &marks, detail);
        below
    }

    /// Writes a name with its marks; in full, also with its state and description.
    fn line(&mut self, start: &str, named: Named, marks: &str, detail: Detail) {
        let graph = self.view.graph;
        let name = harmless(name(graph, named));
        let group = if matches!(named, Named::Group(_)) {
            " (group)"
        } else {
            ""
        };
        let state = match named {
            Named::Target(id) if detail == Detail::Full => self.view.state(id),
            _ => None,
        };
        let words = state
            .map(|state| format!(" [{}]", state.words()))
            .unwrap_or_default();
        let used =
            columns(start) + columns(&name) + columns(group) + columns(marks) + columns(&words);
        let about = about(graph, named)
            .filter(|_| detail == Detail::Full)
            .map(|about| self.about(about, used));
        let style = self.style;
        self.out.push_str(&style.paint(Color::Dim, start));
        self.out.push_str(&style.paint(Color::Bold, &name));
        self.out.push_str(group);
        self.out.push_str(&style.paint(Color::Dim, marks));
        if let Some(state) = state {
            self.out.push_str(&style.paint(state.color(), &words));
        }
        self.out.push_str(&about.unwrap_or_default());
        self.out.push('\n');
    }

    /// Returns the description of a target; on a terminal, cut to the rest of the line.
    fn about(&self, about: &str, used: usize) -> String {
        let about = harmless(about);
        let left = self.style.width.saturating_sub(used + 2);
        let about = match self.style.terminal {
            true if left < MIN_ABOUT_COLUMNS => return String::new(),
            true => fit(&about, left),
            false => about,
        };
        self.style.paint(Color::Dim, &format!("  {about}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::TEXT;
    use super::super::{State, all_roots};
    use super::*;
    use crate::event::{Outcome, Reason};
    use crate::graph::testing::graph;
    use crate::graph::{Graph, TargetId};

    fn shown(graph: &Graph, names: &[&str], style: Style) -> String {
        let view = View {
            graph,
            roots: graph.resolve(names).unwrap(),
            states: Vec::new(),
        };
        render(&view, style)
    }

    #[test]
    fn tree_prints_shared_parts_once() {
        let text = "target gen needs spec
            target spec
            target web needs gen after lint
            target manager needs gen web
            target worker needs gen spec
            target lint
            group build needs manager worker";
        assert_eq!(
            shown(&graph(text), &["build"], Style::PLAIN),
            "build (group)\n\
             ├─ manager\n\
             │  ├─ gen\n\
             │  │  └─ spec\n\
             │  └─ web\n\
             │     ├─ gen (shown above)\n\
             │     └─ lint (after)\n\
             └─ worker\n   ├─ gen (shown above)\n   └─ spec\n"
        );
    }

    #[test]
    fn tree_prints_states_and_descriptions() {
        let graph = graph("target a needs b\ntarget b");
        let mut buildfile = graph.buildfile().clone();
        buildfile.targets[0].about = Some("the thing\u{1b} itself".to_owned());
        let graph = Graph::new(buildfile).0;
        let path = "x.go".to_owned();
        let state = |outcome, reason| Some(State { outcome, reason });
        let view = View {
            graph: &graph,
            roots: all_roots(&graph),
            states: vec![
                state(
                    Outcome::WouldRun,
                    Some(Reason::InputChanged { path, others: 0 }),
                ),
                state(Outcome::UpToDate, None),
            ],
        };
        assert_eq!(
            render(&view, Style::PLAIN),
            "a [would run: `x.go` changed]  the thing\\x1b itself\n└─ b [up to date]\n"
        );
        let narrow = Style {
            color: true,
            terminal: true,
            width: 45,
            ..Style::PLAIN
        };
        assert_eq!(
            render(&view, narrow),
            "\x1b[1ma\x1b[0m\x1b[33m [would run: `x.go` changed]\x1b[0m\x1b[2m  the thing\\x1b…\x1b[0m\n\
             \x1b[2m└─ \x1b[0m\x1b[1mb\x1b[0m\x1b[32m [up to date]\x1b[0m\n"
        );
    }

    #[test]
    fn tree_nests_groups_as_written() {
        assert_eq!(
            shown(&graph(TEXT), &["all", "lint"], Style::PLAIN),
            "all (group)\n\
             ├─ build (group)\n\
             │  ├─ manager\n\
             │  │  ├─ generate-go\n\
             │  │  └─ webapp\n\
             │  │     ├─ generate-js\n\
             │  │     └─ lint (after)\n\
             │  └─ worker\n\
             │     └─ generate-go\n\
             └─ docs\n\
             lint\n"
        );
    }

    #[test]
    fn tree_of_a_long_chain_stays_narrow() {
        let line = |i: usize| format!("target t{i} needs t{}\n", i + 1);
        let mut text: String = (0..49_999).map(line).collect();
        text.push_str("target t49999");
        let graph = graph(&text);
        let view = View {
            graph: &graph,
            roots: vec![Named::Target(TargetId(0))],
            states: Vec::new(),
        };
        let thread = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(128 * 1024);
            let render = || render(&view, Style::PLAIN);
            thread.spawn_scoped(scope, render).unwrap().join().unwrap()
        });
        let lines: Vec<&str> = thread.lines().collect();
        assert_eq!(lines[30].trim_start(), "└─ t30 (continued below)");
        assert_eq!(lines[31], "t30 (continued)");
        assert_eq!(lines.len(), 50_000 + 49_999 / 30);
        assert!(lines.iter().all(|line| columns(line) < 130));
    }
}
