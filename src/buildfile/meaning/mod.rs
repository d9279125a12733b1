//! From nodes to plain types: values, variables, templates, targets. It resolves names
//! that only the language knows, and judges no target as a whole.

pub(super) mod body;
mod braces;
pub(super) mod definitions;
pub(super) mod scope;
pub(super) mod target;
pub(super) mod templates;
pub(super) mod values;
