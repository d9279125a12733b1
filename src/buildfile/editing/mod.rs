//! Changes a Buildfile's text: adds targets, and formats. It writes no file.

pub(super) mod add;
pub(super) mod format;
pub(super) mod quote;
