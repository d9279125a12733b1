//! A Buildfile as nodes: checked against the grammar, with the place of everything, not
//! yet understood. It knows neither text nor meaning.

use super::grammar::{NodeSpec, PropSpec};
use super::model::Spanned;
use crate::source::Span;

/// A node that the grammar knows, with everything that it allows.
#[derive(Debug)]
pub(super) struct Node {
    /// What it is.
    pub(super) spec: &'static NodeSpec,
    /// Where its name stands.
    pub(super) span: Span,
    /// Its arguments.
    pub(super) args: Vec<Value>,
    /// Its properties, each once.
    pub(super) props: Vec<Prop>,
    /// The nodes in its block.
    pub(super) children: Vec<Node>,
    /// Whether something wrong was left out of it, so that what is missing may be that.
    pub(super) is_damaged: bool,
}

/// A property and its value.
#[derive(Debug)]
pub(super) struct Prop {
    /// What it is.
    pub(super) spec: &'static PropSpec,
    /// Its name as written.
    pub(super) name: Spanned<String>,
    /// Its value.
    pub(super) value: Value,
    /// Whether it has a name of its own, not one from the grammar.
    pub(super) is_any: bool,
}

/// A value of the type that the grammar asks for.
#[derive(Clone, Debug)]
pub(super) struct Value {
    /// The value.
    pub(super) data: Data,
    /// Where it stands.
    pub(super) span: Span,
}

/// What a [`Value`] holds.
#[derive(Clone, Debug)]
pub(super) enum Data {
    /// Text, for every type but the two below.
    Text(String),
    /// For `Type::Flag`.
    Flag(bool),
    /// For `Type::Count`.
    Count(u32),
}

impl Value {
    /// Returns its text; empty for what is no text.
    pub(super) fn text(&self) -> &str {
        match &self.data {
            Data::Text(text) => text,
            Data::Flag(_) | Data::Count(_) => "",
        }
    }
}

impl Node {
    /// Returns the property called `name`, if it is given.
    pub(super) fn prop(&self, name: &str) -> Option<&Value> {
        let known = self.props.iter().filter(|prop| !prop.is_any);
        known
            .map(|prop| (prop.spec.name, &prop.value))
            .find(|(given, _)| *given == name)
            .map(|(_, value)| value)
    }

    /// Returns the first argument as a name or other text.
    pub(super) fn first(&self) -> Option<Spanned<String>> {
        let value = self.args.first()?;
        Some(Spanned::new(value.text().to_owned(), value.span))
    }
}
