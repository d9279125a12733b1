//! Which block seems to lack its `}`, judged by how lines are indented. It counts no
//! braces; that is the guard's part.

use super::lex::{Kind, Token};

/// What the indentation of the lines so far tells.
#[derive(Default)]
pub(super) struct Indents {
    line_start: usize,
    /// The indentation of this line in bytes, once something stands on it.
    indent: Option<usize>,
    /// A block that seems to lack its `}`, and the node that makes it seem so.
    suspect: Option<(usize, usize)>,
}

impl Indents {
    /// Takes note of the next token.
    pub(super) fn note(&mut self, token: Token) {
        match token.kind {
            Kind::Newline => (self.line_start, self.indent) = (token.end, None),
            Kind::Space => {}
            _ => {
                let indent = token.start.saturating_sub(self.line_start);
                self.indent.get_or_insert(indent);
            }
        }
    }

    /// Returns the indentation of this line.
    pub(super) fn of_line(&self) -> usize {
        self.indent.unwrap_or(0)
    }

    /// Takes note of a node in the block that begins at `open`, on a line with the
    /// indentation `indent`: one that stands no further right than that is odd.
    pub(crate) fn node(&mut self, node: Token, open: usize, indent: usize) {
        let is_first = self.indent == Some(node.start.saturating_sub(self.line_start));
        if is_first && open < self.line_start && self.of_line() <= indent {
            self.suspect.get_or_insert((open, node.start));
        }
    }

    /// Takes note that the block that begins at `open` is closed.
    pub(crate) fn close(&mut self, open: usize) {
        self.suspect = self.suspect.filter(|(suspect, _)| *suspect != open);
    }

    /// Returns the open block that seems to lack its `}`, and the node that tells.
    pub(super) fn suspect(&self) -> Option<(usize, usize)> {
        self.suspect
    }
}
