//! Stores results: blobs by digest, records by key. It has no knowledge of targets, the
//! graph or commands.
//!
//! [`Store`] is the narrow waist: verbs about keys and bytes. Statistics, levels and
//! policies are wrappers or events, never further methods. [`Disk`] keeps results in a
//! folder, [`Memory`] in the process, for tests. [`outputs`] copies results from the tree
//! into a store and back.

#[cfg(test)]
mod contract;
pub mod disk;
mod memory;
mod off;
pub mod outputs;
mod record;
pub mod shared;
#[cfg(test)]
mod spy;
mod tmpfile;

use std::fs::File;
use std::io::{self, Read, Write};

use crate::action::{ActionKey, ActionResult};
use crate::digest::{BUFFER_SIZE, Digest};
use crate::event::Warning;

pub use disk::Disk;
pub use memory::Memory;
pub use off::Off;
pub use record::{Refusal, check_entries};

/// Keeps results. A failing store must not fail a build: callers treat an error as a miss
/// and report it once.
pub trait Store: Send + Sync {
    /// Returns the result recorded under `key`. A damaged record is `None` and a warning
    /// of the store, never an error.
    fn result(&self, key: ActionKey) -> Result<Option<ActionResult>, Error>;

    /// Records results. Each becomes visible only after all its blobs are durable; a batch
    /// shares one flush.
    fn record(&self, batch: &[(ActionKey, ActionResult)]) -> Result<(), Error>;

    /// Returns those of `digests` that the store does not hold.
    fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, Error>;

    /// Opens a blob. If the bytes do not match the digest, the reader fails with
    /// [`std::io::ErrorKind::InvalidData`] at or before their end: read to the end.
    fn read(&self, digest: Digest) -> Result<Option<Box<dyn Read + Send>>, Error>;

    /// Stores a blob, hashing the bytes as they are written, and returns its digest.
    /// [`Error::NotStored`] has the digest too: the bytes were read, but are not kept.
    fn write(&self, bytes: &mut dyn Read) -> Result<Digest, Error>;

    /// Takes the warnings since the last call: problems that made a miss of a result, or kept
    /// a blob from being stored.
    fn take_warnings(&self) -> Vec<Warning> {
        Vec::new()
    }

    /// Copies a blob into `file`, which is new and empty. Returns true if the copy is
    /// complete and verified; otherwise, and after an error, the caller discards the file.
    ///
    /// Override this if the store can copy faster than by reading.
    fn copy(&self, digest: Digest, file: &mut File) -> Result<bool, Error> {
        let Some(mut blob) = self.read(digest)? else {
            return Ok(false);
        };
        let mut buffer = vec![0; BUFFER_SIZE];
        loop {
            match blob.read(&mut buffer) {
                Ok(0) => return Ok(true),
                Ok(n) => file.write_all(&buffer[..n]).map_err(Error::Copy)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Ok(false),
            }
        }
    }
}

/// A failed operation of a store.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// A system call failed.
    #[error("cannot {operation} `{}`", path.display())]
    #[diagnostic(code(fbuild::store::io))]
    Io {
        /// A verb: "read", "write", "list".
        operation: &'static str,
        /// The file or folder.
        path: std::path::PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The bytes given to [`Store::write`] could not be read to their end.
    #[error("cannot read the bytes to store")]
    #[diagnostic(code(fbuild::store::input))]
    Input(#[source] std::io::Error),
    /// The bytes given to [`Store::write`] were read, and have this digest, but could not
    /// be kept. A result that needs them must not be recorded.
    #[error("cannot keep a blob of {} bytes", digest.size())]
    #[diagnostic(code(fbuild::store::not_stored))]
    NotStored {
        /// The digest of the bytes.
        digest: Digest,
        /// The cause.
        source: std::io::Error,
    },
    /// The file given to [`Store::copy`] could not be written.
    #[error("cannot write a copy of a blob")]
    #[diagnostic(code(fbuild::store::copy))]
    Copy(#[source] std::io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns one byte per call, and fails with `EINTR` before each.
    struct FlakyReader {
        bytes: &'static [u8],
        is_interrupted: bool,
    }

    impl Read for FlakyReader {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.is_interrupted = !self.is_interrupted;
            if self.is_interrupted {
                Err(io::ErrorKind::Interrupted.into())
            } else {
                self.bytes.read(&mut buffer[..1])
            }
        }
    }

    /// A store that returns the same blob for every digest.
    struct ConstStore;

    impl Store for ConstStore {
        fn result(&self, _: ActionKey) -> Result<Option<ActionResult>, Error> {
            Ok(None)
        }
        fn record(&self, _: &[(ActionKey, ActionResult)]) -> Result<(), Error> {
            Ok(())
        }
        fn missing(&self, _: &[Digest]) -> Result<Vec<Digest>, Error> {
            Ok(Vec::new())
        }
        fn read(&self, _: Digest) -> Result<Option<Box<dyn Read + Send>>, Error> {
            Ok(Some(Box::new(FlakyReader {
                bytes: b"content",
                is_interrupted: false,
            })))
        }
        fn write(&self, _: &mut dyn Read) -> Result<Digest, Error> {
            Ok(Digest::of(b""))
        }
    }

    #[test]
    fn copy_retries_after_a_signal() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let copied = ConstStore.copy(Digest::of(b""), &mut file.reopen().unwrap());
        assert!(copied.unwrap());
        assert_eq!(std::fs::read(file.path()).unwrap(), b"content");
    }
}
