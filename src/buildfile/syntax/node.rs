//! The nodes of a Buildfile, checked against the grammar, with their spans. They have no
//! meaning yet.

use crate::buildfile::grammar::{NodeSpec, PropSpec};
use crate::buildfile::model::Spanned;
use crate::source::Span;

/// A node that the grammar allows.
#[derive(Debug)]
pub(crate) struct Node {
    /// Its row in the grammar.
    pub(crate) spec: &'static NodeSpec,
    /// The span of its name.
    pub(crate) span: Span,
    /// Its arguments.
    pub(crate) args: Vec<Value>,
    /// Its properties, each once.
    pub(crate) props: Vec<Prop>,
    /// The nodes in its block.
    pub(crate) children: Vec<Node>,
    /// Whether a mistake in it was left out, so that a missing part may be that.
    pub(crate) is_damaged: bool,
}

/// A property and its value.
#[derive(Debug)]
pub(crate) struct Prop {
    /// Its row in the grammar.
    pub(crate) spec: &'static PropSpec,
    /// Its name as written.
    pub(crate) name: Spanned<String>,
    /// Its value.
    pub(crate) value: Value,
    /// Whether the grammar allows any name here, as for the variables of `env`.
    pub(crate) is_any: bool,
}

/// A value of the type that the grammar requires.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    /// The value.
    pub(crate) data: Data,
    /// Its span.
    pub(crate) span: Span,
}

/// The content of a [`Value`].
#[derive(Clone, Debug)]
pub(crate) enum Data {
    /// Text, for every type except the two below.
    Text(String),
    /// For `Type::Flag`.
    Flag(bool),
    /// For `Type::Count`.
    Count(u32),
}

impl Value {
    /// Returns its text, or "" if it is a flag or a count.
    pub(crate) fn text(&self) -> &str {
        match &self.data {
            Data::Text(text) => text,
            Data::Flag(_) | Data::Count(_) => "",
        }
    }
}

impl Node {
    /// Returns the property called `name`, if it is given.
    pub(crate) fn prop(&self, name: &str) -> Option<&Value> {
        let known = self.props.iter().filter(|prop| !prop.is_any);
        known
            .map(|prop| (prop.spec.name, &prop.value))
            .find(|(given, _)| *given == name)
            .map(|(_, value)| value)
    }

    /// Returns the first argument as text.
    pub(crate) fn first(&self) -> Option<Spanned<String>> {
        let value = self.args.first()?;
        Some(Spanned::new(value.text().to_owned(), value.span))
    }
}
