//! Reads text into nodes that the grammar allows. It knows the shape of a Buildfile, not
//! its meaning.
//!
//! [`guard`](guard) scans the text (with [`lex`], [`structure`] and [`entries`]) and blanks
//! what the `kdl` crate must not see; [`parse`] runs that crate node by node and passes the
//! result to [`check`], which compares it with the grammar.

// The text before it is parsed.
mod entries;
pub(super) mod guard;
mod indent;
pub(super) mod lex;
mod mistake;
mod structure;

// The nodes.
mod check;
pub(super) mod node;
pub(super) mod node_cache;
pub(super) mod parse;
