//! What stands in front of the `kdl` crate: one linear pass over the text that finds
//! every mistake of structure and hands on only what that parser takes in its stride.
//!
//! The crate needs exponential time for nested slash-dashes, overflows the stack on deep
//! nesting and on comments, and stops at the first mistake it cannot recover from. So it
//! is given a copy of the text, of the same length, in which comments, what is
//! slash-dashed and what is wrong are blanks, and it is given that node by node.

use std::ops::Range;

use super::lex;
use super::mistake::span;
use super::structure::scan;
use crate::buildfile::codes;
use crate::buildfile::sink::Sink;
use crate::source::{Diagnostic, FileId};

/// The longest text that is read, in bytes.
pub(crate) const MOST_BYTES: u64 = 8 << 20;

/// A text as the guard leaves it.
#[derive(Debug)]
pub(crate) struct Guarded {
    /// The text for the parser.
    pub(crate) clean: String,
    /// Where each node outside all blocks stands, without what follows it on its line.
    pub(crate) nodes: Vec<Range<usize>>,
    /// Where nodes begin from which something wrong was taken away, in order.
    pub(crate) damaged: Vec<usize>,
    /// Whether whole nodes had to be taken away.
    pub(crate) has_lost_nodes: bool,
}

/// Looks through a text and says everything that is wrong with its structure. Returns
/// `None` when what is left could not be understood, or not safely.
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

/// Reports characters that KDL forbids: they act on terminals, or hide what stands there.
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

/// Returns the text with blanks in place of everything that is not to be seen.
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
