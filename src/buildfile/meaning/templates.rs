//! Reads the templates, and resolves what each starts from. It knows no targets.

use std::collections::HashMap;

use super::body::{self, Body};
use super::definitions::{Definitions, Placed};
use super::scope::{Scope, cycle};
use crate::buildfile::grammar::Kind;
use crate::buildfile::model::Spanned;
use crate::buildfile::sink::Sink;
use crate::buildfile::syntax::node::Node;
use crate::source::Span;

/// The templates, each read once, and the template that each starts from.
pub(crate) struct Templates {
    index: HashMap<String, usize>,
    pub(crate) bodies: Vec<Body>,
    from: Vec<Option<usize>>,
}

impl Templates {
    pub(crate) fn new(definitions: &Definitions<'_>, scope: &mut Scope<'_>) -> Self {
        let all: Vec<&Placed> = definitions.of_kind(Kind::Template).collect();
        let names: Vec<Spanned<String>> = all.iter().filter_map(|p| p.node.first()).collect();
        let index = names
            .iter()
            .enumerate()
            .map(|(i, name)| (name.value.clone(), i));
        let mut templates = Self {
            index: index.collect(),
            bodies: all
                .iter()
                .map(|p| body::read(&p.node, &p.base, scope))
                .collect(),
            from: Vec::new(),
        };
        for placed in all {
            let from = templates.named_by(&placed.node, definitions, scope.sink);
            templates.from.push(from);
        }
        templates.break_cycles(&names, scope.sink);
        templates
    }

    /// Returns the template that a node starts from.
    pub(crate) fn named_by(
        &self,
        node: &Node,
        definitions: &Definitions<'_>,
        sink: &mut Sink,
    ) -> Option<usize> {
        let from = node.prop("from")?;
        let found = self.index.get(from.text()).copied();
        if found.is_none() {
            let name = Spanned::new(from.text().to_owned(), from.span);
            definitions.unknown(Kind::Template, &name, sink);
        }
        found
    }

    /// Reports cycles of templates, and cuts each of them.
    fn break_cycles(&mut self, names: &[Spanned<String>], sink: &mut Sink) {
        // The number of the walk that saw each template first, or 0.
        let mut seen = vec![0; self.from.len()];
        for start in 0..self.from.len() {
            let (mut path, mut at) = (Vec::new(), Some(start));
            while let Some(index) = at.filter(|index| seen[*index] == 0) {
                seen[index] = start + 1;
                path.push(index);
                at = self.from[index];
            }
            let Some(closed) = at.filter(|index| seen[*index] == start + 1) else {
                continue;
            };
            let begin = path.iter().position(|index| *index == closed).unwrap_or(0);
            let hop = |index: &usize| (names[*index].value.as_str(), names[*index].span);
            let hops: Vec<_> = path[begin..].iter().map(hop).collect();
            sink.push(cycle("templates", &hops));
            self.from[closed] = None;
        }
    }

    /// Returns the bodies of `first` and of the templates that it builds on, base first.
    pub(crate) fn layers(
        &self,
        first: Option<usize>,
        scope: &mut Scope<'_>,
        span: Span,
    ) -> Vec<&Body> {
        let mut layers = Vec::new();
        let mut at = first;
        while let Some(index) = at {
            if !scope.charge(1 + self.bodies[index].len(), span) {
                break;
            }
            layers.push(&self.bodies[index]);
            at = self.from[index];
        }
        layers.reverse();
        layers
    }
}
