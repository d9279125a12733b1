//! Guesses from the indentation which block lacks its `}`. It counts no braces; that is
//! the task of [`structure`](super::structure).

use super::lex::{Kind, Token};

/// The indentation of the lines so far.
#[derive(Default)]
pub(super) struct Indents {
    line_start: usize,
    /// The indentation of this line in bytes, once its first token is known.
    indent: Option<usize>,
    /// A block that seems to lack its `}`, and the node after it that shows it.
    suspect: Option<(usize, usize)>,
}

impl Indents {
    /// Records the next token.
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

    /// Records a node in the block that opens at `open` on a line indented by `indent`. A
    /// node that is indented no further than that line suggests a missing `}` before it.
    pub(crate) fn node(&mut self, node: Token, open: usize, indent: usize) {
        let is_first = self.indent == Some(node.start.saturating_sub(self.line_start));
        if is_first && open < self.line_start && self.of_line() <= indent {
            self.suspect.get_or_insert((open, node.start));
        }
    }

    /// Records that the block that opens at `open` is closed.
    pub(crate) fn close(&mut self, open: usize) {
        self.suspect = self.suspect.filter(|(suspect, _)| *suspect != open);
    }

    /// Returns the open block that seems to lack its `}`, and the node that shows it.
    pub(super) fn suspect(&self) -> Option<(usize, usize)> {
        self.suspect
    }
}
