//! A Buildfile as nodes: checked against the grammar, with the place of everything, not
//! yet understood. It knows neither text nor meaning.

use crate::buildfile::grammar::{NodeSpec, PropSpec};
use crate::buildfile::model::Spanned;
use crate::source::Span;

/// A node that the grammar knows, with everything that it allows.
#[derive(Debug)]
pub(crate) struct Node {
    /// What it is.
    pub(crate) spec: &'static NodeSpec,
    /// Where its name stands.
    pub(crate) span: Span,
    /// Its arguments.
    pub(crate) args: Vec<Value>,
    /// Its properties, each once.
    pub(crate) props: Vec<Prop>,
    /// The nodes in its block.
    pub(crate) children: Vec<Node>,
    /// Whether something wrong was left out of it, so that what is missing may be that.
    pub(crate) is_damaged: bool,
}

/// A property and its value.
#[derive(Debug)]
pub(crate) struct Prop {
    /// What it is.
    pub(crate) spec: &'static PropSpec,
    /// Its name as written.
    pub(crate) name: Spanned<String>,
    /// Its value.
    pub(crate) value: Value,
    /// Whether it has a name of its own, not one from the grammar.
    pub(crate) is_any: bool,
}

/// A value of the type that the grammar asks for.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    /// The value.
    pub(crate) data: Data,
    /// Where it stands.
    pub(crate) span: Span,
}

/// What a [`Value`] holds.
#[derive(Clone, Debug)]
pub(crate) enum Data {
    /// Text, for every type but the two below.
    Text(String),
    /// For `Type::Flag`.
    Flag(bool),
    /// For `Type::Count`.
    Count(u32),
}

impl Value {
    /// Returns its text; empty for what is no text.
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

    /// Returns the first argument as a name or other text.
    pub(crate) fn first(&self) -> Option<Spanned<String>> {
        let value = self.args.first()?;
        Some(Spanned::new(value.text().to_owned(), value.span))
    }
}
