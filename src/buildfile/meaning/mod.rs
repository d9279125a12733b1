//! Gives nodes their meaning, as plain types: values, variables, templates, targets. It
//! resolves names of the language only, and does not check targets as a whole.

pub(super) mod body;
mod braces;
pub(super) mod definitions;
pub(super) mod loops;
pub(super) mod remote;
pub(super) mod scope;
pub(super) mod target;
pub(super) mod templates;
pub(super) mod values;
