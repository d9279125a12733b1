//! Events for people: as lines that are written once ([`Plain`]), or above a part that
//! shows what is happening now ([`Live`]). Both say the same in the same words (`lines`,
//! `closing`); neither knows what is behind the writer that it is given.

mod closing;
mod lines;
mod live;
mod plain;
mod sieve;

use std::io::Write;

pub use live::{Live, Size, size_of};
pub use plain::Plain;
pub use sieve::Sieve;

/// A writer that falls silent when nobody reads any more: what cannot be shown must not
/// fail a build.
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

    /// Writes all bytes at once and sees to it that they arrive.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if self.is_broken || bytes.is_empty() {
            return;
        }
        let written = self.writer.write_all(bytes);
        self.is_broken = written.and_then(|()| self.writer.flush()).is_err();
    }
}
