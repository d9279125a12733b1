//! Results beyond this machine: a server that keeps records and blobs, asked after the
//! local store and told what was made here. Knows neither targets nor the graph.
//!
//! [`Remote`] is the policy: which scopes are read and written, whose signatures are
//! trusted, when the server is left alone. A [`backend::Backend`] is a protocol: `files`,
//! `http` (also buckets of S3), `redis` and `grpc` (the only asynchronous code, those two). Whatever
//! goes wrong here is a miss, and is counted and reported, never an error of a build.

pub mod backend;
mod breaker;
mod codec;
mod config;
mod files;
mod grpc;
mod http;
mod record;
mod redis;
mod runtime;
pub mod trust;
mod wire;

use std::io::{Read as _, Seek as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::action::{ActionKey, ActionResult};
use crate::digest::{Digest, Verified};
use crate::event::RemoteUsage;
use crate::store::Store;
use crate::store::shared::{Deadline, Lookup, SharedCache};
use backend::{Backend, Error, Kind, SMALL};
use breaker::Breaker;
use trust::{PublicKey, Signer};

pub use crate::buildfile::model::RemoteMode as Mode;
pub use config::{Auth, Config, ConfigError};

/// A server with the policy of its use.
pub struct Remote {
    backend: Box<dyn Backend>,
    breaker: Breaker,
    mode: Mode,
    trusted: Vec<PublicKey>,
    signer: Option<Signer>,
    /// Scopes whose results are read, the better ones first.
    read: Vec<String>,
    /// The scope that is written.
    write: String,
    /// Blobs above this many bytes are not sent.
    largest: u64,
    upload_jobs: usize,
    figures: Figures,
}

/// Counts what went over the wire.
#[derive(Debug, Default)]
struct Figures {
    hits: AtomicU64,
    misses: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    waited_ms: AtomicU64,
}

impl Remote {
    /// Prepares the use of a server. Sends nothing.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        Ok(Self {
            backend: config.backend()?,
            breaker: Breaker::default(),
            mode: config.mode,
            trusted: config.trusted()?,
            signer: config.signer()?,
            read: config.read_scopes.clone(),
            write: config.write_scope.clone(),
            largest: config.upload_max,
            upload_jobs: config.upload_jobs,
            figures: Figures::default(),
        })
    }

    /// Returns why the server is left alone; `None` while it is used.
    pub fn trouble(&self) -> Option<Error> {
        self.breaker.reason()
    }

    /// Asks the server what it is.
    pub fn probe(&self) -> Result<Vec<String>, Error> {
        self.backend.probe()
    }

    /// Looks a result up in each scope that is read.
    fn look_up(&self, key: ActionKey, local: &dyn Store) -> Lookup {
        let mut refused = None;
        for scope in &self.read {
            let name = record::name(scope, key);
            let bytes = match self.guarded(|| self.backend.record(&name)) {
                None => return Lookup::Off,
                Some(Ok(Some(bytes))) => bytes,
                Some(Ok(None)) => continue,
                Some(Err(error)) => return Lookup::Absent(Some(error.to_string())),
            };
            let result = match record::decode(scope, key, &bytes, &self.trusted) {
                Ok(result) => result,
                Err(refusal) => {
                    refused = Some(refusal.to_string());
                    continue;
                }
            };
            match self.bring(&result.blobs(), local) {
                Ok(true) => return Lookup::Found(Box::new(result)),
                Ok(false) => refused = Some("the server lost a part of the result".to_owned()),
                Err(error) => return Lookup::Absent(Some(error.to_string())),
            }
        }
        Lookup::Absent(refused)
    }

    /// Brings blobs into the local store; false if the server lacks one.
    fn bring(&self, blobs: &[Digest], local: &dyn Store) -> Result<bool, Error> {
        let missing = local.missing(blobs).map_err(of_store)?;
        let (small, large): (Vec<Digest>, Vec<Digest>) = missing
            .into_iter()
            .partition(|digest| digest.size() <= SMALL);
        if !small.is_empty() {
            let found = self
                .guarded(|| self.backend.fetch_small(&small))
                .unwrap_or_else(|| Err(self.off()))?;
            for (digest, bytes) in small.iter().zip(found) {
                let Some(bytes) = bytes else {
                    return Ok(false);
                };
                self.keep(*digest, &mut &bytes[..], local)?;
            }
        }
        for digest in large {
            let mut file = tempfile::tempfile().map_err(|e| Error::local(&e))?;
            let fetched = self.guarded(|| self.backend.fetch(digest, &mut file));
            if !fetched.unwrap_or_else(|| Err(self.off()))? {
                return Ok(false);
            }
            file.rewind().map_err(|e| Error::local(&e))?;
            self.keep(digest, &mut file, local)?;
        }
        Ok(true)
    }

    /// Puts a received blob into the local store if it is the one that was asked for.
    fn keep(
        &self,
        digest: Digest,
        bytes: &mut (dyn std::io::Read + Send),
        local: &dyn Store,
    ) -> Result<(), Error> {
        let mut verified = Verified::new(bytes, digest);
        local.write(&mut verified).map_err(|error| match error {
            // The reader refused: these are not the bytes of that digest.
            crate::store::Error::Input(error) => Error::new(
                Kind::Protocol,
                format!("the server sent wrong bytes: {error}"),
            ),
            error => of_store(error),
        })?;
        self.figures
            .bytes_in
            .fetch_add(digest.size(), Ordering::Relaxed);
        Ok(())
    }

    /// Sends a result with all its blobs; the record last, so that it never names a blob that
    /// is not there.
    fn send(
        &self,
        key: ActionKey,
        result: &ActionResult,
        local: &dyn Store,
        until: &Deadline,
    ) -> Result<(), Error> {
        let Some(signer) = self.signer.as_ref().filter(|_| self.mode.writes()) else {
            return Err(Error::new(
                Kind::Denied,
                "this build does not write to the server",
            ));
        };
        let blobs = result.blobs();
        if let Some(large) = blobs.iter().find(|digest| digest.size() > self.largest) {
            let message = format!("a blob of {} bytes is above `upload max`", large.size());
            return Err(Error::new(Kind::Local, message));
        }
        let missing = self.checked(|| self.backend.missing(&blobs))?;
        self.send_all(&missing, local, until)?;
        let record = record::encode(&self.write, key, result, signer)
            .ok_or_else(|| Error::new(Kind::Local, "the result is too large for a record"))?;
        let name = record::name(&self.write, key);
        self.checked(|| self.backend.put_record(&name, &record, &blobs))
    }

    fn send_all(
        &self,
        digests: &[Digest],
        local: &dyn Store,
        until: &Deadline,
    ) -> Result<(), Error> {
        let mut small = Vec::new();
        for digest in digests {
            let reader = local.read(*digest).map_err(of_store)?;
            let mut reader = reader.ok_or_else(|| {
                Error::new(Kind::Local, "a blob is not in the local cache any more")
            })?;
            if digest.size() <= SMALL {
                let mut bytes = Vec::new();
                reader
                    .read_to_end(&mut bytes)
                    .map_err(|e| Error::local(&e))?;
                small.push((*digest, bytes));
            } else {
                let mut reader = Timely { reader, until };
                self.checked(|| self.backend.send(*digest, &mut reader))?;
            }
            self.figures
                .bytes_out
                .fetch_add(digest.size(), Ordering::Relaxed);
        }
        if small.is_empty() {
            return Ok(());
        }
        self.checked(|| self.backend.send_small(&small))
    }

    /// Sends a request if the breaker allows it, and reports its outcome to the breaker.
    fn guarded<T>(&self, request: impl FnOnce() -> Result<T, Error>) -> Option<Result<T, Error>> {
        if !self.breaker.allows(Instant::now()) {
            return None;
        }
        let answer = request();
        match &answer {
            Ok(_) => self.breaker.succeeded(),
            Err(error) => drop(self.breaker.failed(error, Instant::now())),
        }
        Some(answer)
    }

    /// The same; an open breaker is an error.
    fn checked<T>(&self, request: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        self.guarded(request).unwrap_or_else(|| Err(self.off()))
    }

    fn off(&self) -> Error {
        self.trouble().unwrap_or_else(|| {
            Error::new(Kind::Unavailable, "the server is left alone for a while")
        })
    }
}

impl SharedCache for Remote {
    fn reads(&self) -> bool {
        self.mode.reads()
    }

    fn writes(&self) -> bool {
        self.mode.writes() && self.signer.is_some()
    }

    fn upload_jobs(&self) -> usize {
        self.upload_jobs
    }

    /// A blob that the server has lost makes the result absent: its target runs, and its
    /// result is sent again.
    fn fetch(&self, key: ActionKey, local: &dyn Store) -> Lookup {
        if !self.reads() {
            return Lookup::Off;
        }
        let start = Instant::now();
        let lookup = self.look_up(key, local);
        let waited = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.figures.waited_ms.fetch_add(waited, Ordering::Relaxed);
        let count = match lookup {
            Lookup::Found(_) => &self.figures.hits,
            Lookup::Absent(_) => &self.figures.misses,
            Lookup::Off => return lookup,
        };
        count.fetch_add(1, Ordering::Relaxed);
        lookup
    }

    fn push(
        &self,
        key: ActionKey,
        result: &ActionResult,
        local: &dyn Store,
        until: &Deadline,
    ) -> Result<(), String> {
        self.send(key, result, local, until)
            .map_err(|error| error.to_string())
    }

    fn usage(&self) -> RemoteUsage {
        let count = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let figures = &self.figures;
        RemoteUsage {
            hits: count(&figures.hits),
            misses: count(&figures.misses),
            bytes_in: count(&figures.bytes_in),
            bytes_out: count(&figures.bytes_out),
            waited_ms: count(&figures.waited_ms),
            off: self.trouble().map(|error| error.to_string()),
        }
    }
}

/// A reader that fails once a deadline has passed, which ends an upload.
struct Timely<'r, R> {
    reader: R,
    until: &'r Deadline,
}

impl<R: std::io::Read> std::io::Read for Timely<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.until.is_over() {
            return Err(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                "time was up",
            ));
        }
        self.reader.read(buffer)
    }
}

fn of_store(error: crate::store::Error) -> Error {
    Error::new(Kind::Local, error.to_string())
}
