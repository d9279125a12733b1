//! The output of one target, kept until it is emitted and stored: in memory while it is
//! short, in an anonymous file when it is long.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek as _, Write as _};

/// The longest output that is kept in memory, in bytes.
const MOST_IN_MEMORY: usize = 256 * 1024;
/// How much of the end is kept for the message about a failure, in bytes.
const TAIL: usize = 8 * 1024;

/// Output in the order it was printed.
#[derive(Default)]
pub(super) struct Spool {
    head: Vec<u8>,
    file: Option<File>,
    tail: Vec<u8>,
    size: u64,
    streamed: bool,
}

impl Spool {
    /// Appends a piece.
    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.size += bytes.len() as u64;
        self.keep_tail(bytes);
        if self.file.is_none() && self.head.len() + bytes.len() > MOST_IN_MEMORY {
            let mut file = tempfile::tempfile()?;
            file.write_all(&self.head)?;
            self.head = Vec::new();
            self.file = Some(file);
        }
        match &mut self.file {
            Some(file) => file.write_all(bytes),
            None => {
                self.head.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Returns true if nothing was printed.
    pub(super) fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Sets whether it was emitted while it was printed.
    pub(super) fn mark_streamed(&mut self, streamed: bool) {
        self.streamed = streamed;
    }

    /// Returns true if it was emitted while it was printed.
    pub(super) fn was_streamed(&self) -> bool {
        self.streamed
    }

    /// Opens the output for reading, from its beginning.
    pub(super) fn open(&self) -> io::Result<Box<dyn Read + Send + '_>> {
        match &self.file {
            None => Ok(Box::new(Cursor::new(&self.head))),
            Some(file) => {
                let mut file = file;
                file.rewind()?;
                Ok(Box::new(file))
            }
        }
    }

    /// Returns the last lines, at most `lines` of them, as text.
    pub(super) fn tail(&self, lines: usize) -> String {
        let text = String::from_utf8_lossy(&self.tail);
        let kept: Vec<&str> = text.trim_end().lines().rev().take(lines).collect();
        kept.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    fn keep_tail(&mut self, bytes: &[u8]) {
        self.tail
            .extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL)..]);
        if self.tail.len() > 2 * TAIL {
            self.tail.drain(..self.tail.len() - TAIL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(spool: &Spool) -> Vec<u8> {
        let mut out = Vec::new();
        spool.open().unwrap().read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn output_of_any_length_can_be_read_twice() {
        for pieces in [0, 3, 3000] {
            let mut spool = Spool::default();
            let mut expected = Vec::new();
            for n in 0..pieces {
                let piece = format!("line {n} \u{0}").into_bytes().repeat(9);
                spool.push(&piece).unwrap();
                expected.extend_from_slice(&piece);
            }
            assert_eq!(read(&spool), expected);
            assert_eq!(read(&spool), expected);
            assert_eq!(spool.is_empty(), pieces == 0);
        }
    }

    #[test]
    fn the_tail_holds_the_last_lines() {
        let mut spool = Spool::default();
        for n in 0..100_000 {
            spool.push(format!("line {n}\n").as_bytes()).unwrap();
        }
        assert_eq!(spool.tail(2), "line 99998\nline 99999");
    }
}
