//! The narrow waist of all servers: five blocking verbs about names and bytes. A backend
//! knows its protocol; it has no policy, makes no retries and trusts no content.

use std::io::{Read, Write};
use std::time::Duration;

use crate::digest::Digest;

/// The name of a record on a server: the digest of a REAPI `Action` message that stands for
/// it. Strict servers want to find that message among their blobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordName {
    /// The name.
    pub digest: Digest,
    /// The encoded message.
    pub action: Vec<u8>,
}

impl RecordName {
    /// Returns the name as it appears in paths and URLs: 64 lower-case hexadecimal digits.
    pub fn hex(&self) -> String {
        self.digest.hex()
    }
}

/// A server that keeps records and blobs. All calls block and end within their deadlines.
pub trait Backend: Send + Sync {
    /// Returns the record under `name`; `None` if there is none.
    fn record(&self, name: &RecordName) -> Result<Option<Vec<u8>>, Error>;

    /// Writes a record, replacing an earlier one. `blobs` are those that it names.
    fn put_record(&self, name: &RecordName, record: &[u8], blobs: &[Digest]) -> Result<(), Error>;

    /// Returns those of `digests` that the server lacks.
    fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, Error>;

    /// Writes the bytes of a blob to `to`, unverified but never more than the digest's
    /// size and one byte. Returns false if the server lacks the blob.
    fn fetch(&self, digest: Digest, to: &mut dyn Write) -> Result<bool, Error>;

    /// Sends the bytes of a blob, which `from` yields.
    fn send(&self, digest: Digest, from: &mut (dyn Read + Send)) -> Result<(), Error>;

    /// Returns blobs, in the order of `digests`, in one exchange if the server can do so.
    /// All are small: [`SMALL`] bytes at most each.
    fn fetch_small(&self, digests: &[Digest]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        digests
            .iter()
            .map(|digest| self.fetch_one(*digest))
            .collect()
    }

    /// Sends small blobs, in one exchange if the server can do so.
    fn send_small(&self, blobs: &[(Digest, Vec<u8>)]) -> Result<(), Error> {
        let mut blobs = blobs.iter();
        blobs.try_for_each(|(digest, bytes)| self.send(*digest, &mut &bytes[..]))
    }

    /// Returns one blob in memory.
    fn fetch_one(&self, digest: Digest) -> Result<Option<Vec<u8>>, Error> {
        let mut bytes = Vec::with_capacity(usize::try_from(digest.size()).unwrap_or(0));
        Ok(self.fetch(digest, &mut bytes)?.then_some(bytes))
    }

    /// Checks that the server answers and returns what it says of itself, a line a fact.
    fn probe(&self) -> Result<Vec<String>, Error>;
}

/// Blobs of at most this many bytes travel together where the protocol allows it.
pub const SMALL: u64 = 256 * 1024;
/// No record is longer, in bytes.
pub const MAX_RECORD: u64 = 64 << 20;

/// How long the calls of a backend may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection stands.
    pub connect: Duration,
    /// Between two pieces of data.
    pub idle: Duration,
    /// For one exchange as a whole.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            idle: Duration::from_secs(10),
            total: Duration::from_secs(60),
        }
    }
}

/// A failed exchange with a server. It is never the failure of a build.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The cause, for decisions.
    pub kind: Kind,
    /// The cause, for people. Holds no credentials.
    pub message: String,
}

/// What a failed exchange means for later ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The server cannot be reached, broke off or is overloaded: it may answer later.
    Unavailable,
    /// A deadline passed.
    Timeout,
    /// The server refuses these credentials or this operation: asking again is useless.
    Denied,
    /// The server answered something that the protocol does not allow.
    Protocol,
    /// The server has no room for what was sent.
    Full,
    /// A local file could not be read or written.
    Local,
}

impl Error {
    /// Makes an error.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// Makes an error of a local read or write.
    pub fn local(error: &std::io::Error) -> Self {
        Self::new(Kind::Local, error.to_string())
    }

    /// Makes an error of an I/O operation on a connection.
    pub fn of_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let kind = match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Kind::Timeout,
            ErrorKind::PermissionDenied => Kind::Denied,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Kind::Full,
            ErrorKind::InvalidData => Kind::Protocol,
            _ => Kind::Unavailable,
        };
        Self::new(kind, error.to_string())
    }
}

/// Passes on at most `limit` bytes to a writer and fails on the next one, so that a server
/// cannot fill the disk.
pub struct Limited<'w> {
    to: &'w mut dyn Write,
    left: u64,
}

impl<'w> Limited<'w> {
    /// Returns a writer that takes `limit` bytes.
    pub fn new(to: &'w mut dyn Write, limit: u64) -> Self {
        Self { to, left: limit }
    }
}

impl Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                "the server sent more than the blob's size",
            ));
        }
        let written = self.to.write(bytes)?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}
