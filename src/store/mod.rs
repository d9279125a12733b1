//! Where results live: blobs by digest, results by key. It does not know targets, the
//! graph or how a result is made.
//!
//! [`Store`] is the narrow waist: five verbs about keys and bytes. Statistics, levels
//! and policies are wrappers or events, never further methods.

use std::io::Read;

use crate::action::{ActionKey, ActionResult};
use crate::digest::Digest;

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
    /// [`std::io::ErrorKind::InvalidData`] at or before their end.
    fn read(&self, digest: Digest) -> Result<Option<Box<dyn Read + Send>>, Error>;

    /// Takes in a blob, hashing the same bytes that are written, and returns its digest.
    fn write(&self, bytes: &mut dyn Read) -> Result<Digest, Error>;
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
}
