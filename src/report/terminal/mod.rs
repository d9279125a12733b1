//! Prints events for people: as plain lines ([`Plain`]), or as lines above a footer that
//! shows the progress ([`Live`]). `lines` and `closing` word them for both.

mod closing;
mod escapes;
mod lines;
mod live;
mod plain;

use std::io::Write;

pub use escapes::{EscapeFilter, Origin};
pub use live::{Live, Size, size_of};
pub use plain::Plain;

/// A writer that ignores everything after its first error: a closed pipe must not fail a
/// build.
pub(super) struct Out<W> {
    writer: W,
    is_broken: bool,
}

impl<W: Write> Out<W> {
    pub(super) fn new(writer: W) -> Self {
        Self {
            writer,
            is_broken: false,
        }
    }

    /// Writes and flushes all bytes at once.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if self.is_broken || bytes.is_empty() {
            return;
        }
        let written = self.writer.write_all(bytes);
        self.is_broken = written.and_then(|()| self.writer.flush()).is_err();
    }
}
