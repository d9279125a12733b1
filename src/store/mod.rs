//! Where results live: blobs by digest, results by key. It does not know targets, the
//! graph or how a result is made.
//!
//! [`Store`] is the narrow waist: verbs about keys and bytes. Statistics, levels and
//! policies are wrappers or events, never further methods. [`Disk`] keeps results in a
//! folder, [`Memory`] in the process, for tests. How a result gets out of the tree and
//! back into it is the business of [`outputs`].

#[cfg(test)]
mod contract;
pub mod disk;
mod memory;
mod off;
pub mod outputs;
mod record;
mod tmpfile;
#[cfg(test)]
mod watched;

use std::fs::File;
use std::io::{self, Read, Write};

use crate::action::{ActionKey, ActionResult};
use crate::digest::{BUFFER_SIZE, Digest};

pub use disk::Disk;
pub use memory::Memory;
pub use off::Off;
pub use record::{Refusal, check_entries};

/// A place for results. No trouble in it may fail a build: callers take an error as a
/// miss and say it once.
pub trait Store: Send + Sync {
    /// Returns the result recorded under `key`. A damaged record is `None` (and said in
    /// the store's own way), never an error.
    fn result(&self, key: ActionKey) -> Result<Option<ActionResult>, Error>;

    /// Records results. Each becomes visible only after all its blobs are durable; a whole
    /// batch shares one wait for the disk.
    fn record(&self, batch: &[(ActionKey, ActionResult)]) -> Result<(), Error>;

    /// Returns those of `digests` that the store does not hold.
    fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, Error>;

    /// Opens a blob. The reader itself refuses bytes that do not match the digest, with
    /// [`std::io::ErrorKind::InvalidData`] at or before their end: read to the end.
    fn read(&self, digest: Digest) -> Result<Option<Box<dyn Read + Send>>, Error>;

    /// Takes in a blob, hashing the same bytes that are written, and returns its digest.
    /// [`Error::NotStored`] has the digest too: the bytes were read, but are not kept.
    fn write(&self, bytes: &mut dyn Read) -> Result<Digest, Error>;

    /// Writes a blob into `file`, which is new and empty, and tells whether it is there,
    /// whole and verified. On `false` and on an error the file is to be thrown away.
    ///
    /// A store that can do better than [`Store::read`] and a loop overrides this.
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

/// What went wrong in a store: the operation, the place and the cause.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The system refused.
    #[error("cannot {operation} `{}`", path.display())]
    #[diagnostic(code(fbuild::store::io))]
    Io {
        /// A verb: "read", "write", "list".
        operation: &'static str,
        /// What it was done to.
        path: std::path::PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The bytes given to [`Store::write`] could not be read to their end.
    #[error("cannot read what was to be stored")]
    #[diagnostic(code(fbuild::store::input))]
    Input(#[source] std::io::Error),
    /// The bytes given to [`Store::write`] were read, and have this digest, but could not
    /// be kept. A result that needs them must not be recorded.
    #[error("cannot keep a blob of {} bytes", digest.size())]
    #[diagnostic(code(fbuild::store::not_stored))]
    NotStored {
        /// What the bytes are.
        digest: Digest,
        /// Why they could not be kept.
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

    /// Gives one byte at a time of a blob, and is interrupted before each.
    struct Stuttering(&'static [u8], bool);

    impl Read for Stuttering {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            match self.1 {
                true => Err(io::ErrorKind::Interrupted.into()),
                false => self.0.read(&mut buffer[..1]),
            }
        }
    }

    /// A store whose every blob is the same.
    struct Same;

    impl Store for Same {
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
            Ok(Some(Box::new(Stuttering(b"content", false))))
        }
        fn write(&self, _: &mut dyn Read) -> Result<Digest, Error> {
            Ok(Digest::of(b""))
        }
    }

    #[test]
    fn a_signal_while_a_blob_is_copied_costs_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let copied = Same.copy(Digest::of(b""), &mut file.reopen().unwrap());
        assert!(copied.unwrap());
        assert_eq!(std::fs::read(file.path()).unwrap(), b"content");
    }
}
