//! Protects the `kdl` crate from the text: one linear pass finds every structural mistake
//! and passes on only what that parser handles well.
//!
//! The crate needs exponential time for nested slash-dashes, overflows the stack on deep
//! nesting and on comments, and stops at the first mistake it cannot recover from. So it
//! gets a copy of the text, of the same length, in which comments, slash-dashed parts and
//! mistakes are blanks, and it gets that copy node by node.

use std::ops::Range;

use super::lex;
use super::mistake::span;
use super::structure::scan;
use crate::buildfile::codes;
use crate::buildfile::sink::Sink;
use crate::source::{Diagnostic, FileId};

/// The most bytes of one Buildfile.
pub(crate) const MOST_BYTES: u64 = 8 << 20;

/// The text for the parser, and where its nodes are.
#[derive(Debug)]
pub(crate) struct Guarded {
    /// The text with blanks in place of everything that the parser must not see.
    pub(crate) clean: String,
    /// The range of each top-level node, without the rest of its last line.
    pub(crate) nodes: Vec<Range<usize>>,
    /// The starts of the nodes of which a part was blanked, sorted.
    pub(crate) damaged: Vec<usize>,
    /// Whether whole nodes were blanked.
    pub(crate) has_lost_nodes: bool,
}

/// Reports every structural mistake of a text, and returns what can be parsed of it.
/// Returns `None` if the rest is meaningless, or unsafe for the parser.
pub(crate) fn guard(text: &str, file: FileId, sink: &mut Sink) -> Option<Guarded> {
    if has_forbidden_characters(text, file, sink) {
        return None;
    }
    let structure = scan(text, file, sink)?;
    Some(Guarded {
        clean: blanked(text, structure.blanks),
        nodes: structure.nodes,
        damaged: structure.damaged,
        has_lost_nodes: structure.has_lost_nodes,
    })
}

/// Reports characters that KDL forbids because they act on terminals or hide text.
fn has_forbidden_characters(text: &str, file: FileId, sink: &mut Sink) -> bool {
    let is_forbidden =
        |(at, c): &(usize, char)| lex::is_forbidden(*c) && (*at, *c) != (0, '\u{FEFF}');
    let mut found = false;
    for (at, c) in text.char_indices().filter(is_forbidden) {
        found = true;
        if sink.is_full() {
            break;
        }
        let code = format!("U+{:04X}", c as u32);
        let span = span(file, at, at + c.len_utf8());
        let message = format!("the character {code} is not allowed in a Buildfile");
        let help = format!(
            "delete it, or write it in a quoted string as `\\u{{{:X}}}`",
            c as u32
        );
        let diagnostic = Diagnostic::error(codes::CHARACTER, message);
        sink.push(diagnostic.label(span, "it cannot be seen").help(help));
    }
    found
}

/// Returns the text with blanks in place of the given ranges.
fn blanked(text: &str, mut blanks: Vec<Range<usize>>) -> String {
    blanks.sort_unstable_by_key(|range| range.start);
    let mut clean = String::with_capacity(text.len());
    for range in blanks {
        let start = range.start.max(clean.len());
        if start < range.end {
            clean.push_str(&text[clean.len()..start]);
            clean.extend(std::iter::repeat_n(' ', range.end - start));
        }
    }
    clean.push_str(&text[clean.len()..]);
    clean
}
