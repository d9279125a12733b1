//! Changes to a Buildfile's text: new targets, and one layout. It writes no file.

pub(super) mod add;
pub(super) mod format;
pub(super) mod quote;
