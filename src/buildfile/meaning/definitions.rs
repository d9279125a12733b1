//! Finds definitions by name: templates, sets, tools and variables. It does not know their
//! meaning.

use std::collections::HashMap;
use std::sync::Arc;

use crate::buildfile::codes;
use crate::buildfile::grammar::Kind;
use crate::buildfile::model::Spanned;
use crate::buildfile::sink::{Sink, shown};
use crate::buildfile::syntax::node::Node;
use crate::path::RelPath;
use crate::source::{Diagnostic, Span};

/// A top-level node, and the folder that its paths are relative to.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) node: Node,
    pub(crate) base: Arc<RelPath>,
}

/// The nodes that define a name, by kind and name.
pub(crate) struct Definitions<'n> {
    by_name: HashMap<(Kind, &'n str), &'n Placed>,
    all: &'n [Placed],
}

impl<'n> Definitions<'n> {
    pub(crate) fn of(nodes: &'n [Placed], sink: &mut Sink) -> Self {
        let mut by_name: HashMap<_, &Placed> = HashMap::with_capacity(nodes.len());
        for placed in nodes {
            let (Some(kind), Some(name)) = (space(placed), placed.node.args.first()) else {
                continue;
            };
            match by_name.get(&(kind, name.text())) {
                None => {
                    by_name.insert((kind, name.text()), placed);
                }
                Some(earlier) => sink.push(duplicate(placed, earlier)),
            }
        }
        let all = nodes;
        Self { by_name, all }
    }

    /// Returns the nodes of one kind, without later ones of the same name.
    pub(crate) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &'n Placed> {
        let all = self.all.iter().filter(move |p| p.node.spec.kind == kind);
        all.filter(|placed| self.is_first(placed))
    }

    pub(crate) fn is_first(&self, placed: &Placed) -> bool {
        let (Some(kind), Some(name)) = (space(placed), placed.node.args.first()) else {
            return false;
        };
        let first = self.by_name.get(&(kind, name.text()));
        first.is_some_and(|first| std::ptr::eq(*first, placed))
    }

    pub(crate) fn get(&self, kind: Kind, name: &str) -> Option<&'n Placed> {
        self.by_name.get(&(kind, name)).copied()
    }

    /// Reports a name that no node of this kind defines.
    pub(crate) fn unknown(&self, kind: Kind, name: &Spanned<String>, sink: &mut Sink) {
        let word = name.value.as_str();
        let (what, declaration) = match kind {
            Kind::Template => ("template", format!("template {word} {{ … }}")),
            Kind::Files => ("set of files", format!("files {word} \"…\"")),
            _ => ("tool", format!("tool {word}")),
        };
        let known = self
            .by_name
            .keys()
            .filter(|(k, _)| *k == kind)
            .map(|(_, name)| *name);
        let help = match sink.nearest(word, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("declare it: {}", shown(&declaration)),
        };
        let message = format!("unknown {what} `{}`", shown(word));
        let diagnostic = Diagnostic::error(codes::UNKNOWN_NAME, message);
        sink.push(diagnostic.label(name.span, "not declared").help(help));
    }
}

/// Returns the kind whose names a node shares. Those of targets and groups are known only when
/// they are expanded.
fn space(placed: &Placed) -> Option<Kind> {
    match placed.node.spec.kind {
        kind @ (Kind::Template | Kind::Files | Kind::Tool | Kind::Var) => Some(kind),
        _ => None,
    }
}

fn duplicate(placed: &Placed, earlier: &Placed) -> Diagnostic {
    let of = |placed: &Placed| Defined {
        kind: placed.node.spec.name,
        span: placed
            .node
            .args
            .first()
            .map_or(placed.node.span, |v| v.span),
    };
    let name = placed
        .node
        .first()
        .map_or_else(String::new, |name| name.value);
    of(placed).duplicate(&name, of(earlier))
}

/// The place that defines a name.
#[derive(Clone, Copy)]
pub(crate) struct Defined {
    /// The name of the node.
    pub(crate) kind: &'static str,
    pub(crate) span: Span,
}

impl Defined {
    /// Returns the report of a name that is defined here, and earlier.
    pub(crate) fn duplicate(self, name: &str, earlier: Self) -> Diagnostic {
        let (this, other) = (self.kind, earlier.kind);
        let what = match this {
            "files" => "set of files",
            "var" => "variable",
            this => this,
        };
        let message = if this == other {
            format!("the {what} `{}` is defined twice", shown(name))
        } else {
            format!("`{}` is the name of a {other} and of a {this}", shown(name))
        };
        Diagnostic::error(codes::DUPLICATE, message)
            .label(self.span, "again here")
            .label(earlier.span, "first defined here")
            .help("rename one of them")
    }
}
