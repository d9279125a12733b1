//! A store in a folder: blobs by digest, records by key, each one file that is published
//! atomically. It has no knowledge of workspaces and outputs, and fails no build: a failure
//! is a miss or a blob that is not kept, and a warning in [`Store::take_warnings`].
//!
//! ```text
//! <dir>/artifacts/ab/<64 hex>   blobs
//! <dir>/actions/ab/<64 hex>     records
//! <dir>/quarantine/             damaged objects, a bounded number
//! <dir>/incoming/               files being written, on systems without `O_TMPFILE`
//! <dir>/lock                    shared by builds, exclusive for a collection
//! <dir>/usage                   an estimate of the total size
//! <dir>/version, CACHEDIR.TAG, .gitignore
//! ```
//!
//! Protocol: a blob is written to a file without a name, hashed as it is written, and then
//! linked to its name, which never replaces a file. A record is written after all blobs
//! before it were flushed: by one `syncfs`, or by one `fsync` per blob if they are few and
//! much other data is dirty. Readers verify the bytes they read: flushing saves work after
//! a power cut, correct hits do not depend on it.

mod blobs;
mod durable;
mod gc;
mod layout;
mod lock;
mod publish;
mod quarantine;
mod trust;
mod usage;
mod verify;
mod walk;
mod warnings;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{OFlags, Timestamps};
use rustix::io::Errno;

use self::durable::Flushed;
use self::layout::{Access, Layout};
use self::publish::{IfExists, Publisher};
use self::warnings::Warnings;
use super::{Error, Refusal, Store, record};
use crate::action::{ActionKey, ActionResult};
use crate::digest::{Digest, Key};
use crate::event::Warning;
use crate::stamp::{self, Stamp};

pub use gc::{CollectionSummary, Limits};
pub use layout::{TAG, is_foreign, is_store_name};
pub use lock::WhenBusy;
pub use usage::Usage;
pub use verify::{Damage, DamagedObject, Verification};

/// The minimum time between two updates of a record's time of use, in nanoseconds.
const USE_INTERVAL: i64 = 24 * 3600 * 1_000_000_000;

/// Whether results survive a power cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Blobs are flushed before the records that need them, once per batch.
    #[default]
    Batched,
    /// Nothing is flushed. A power cut can lose results, but never causes a wrong hit.
    None,
}

/// A store in a folder. Cheap to clone; clones share the store.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `None` if the folder cannot be used.
    layout: Option<Layout>,
    publisher: Publisher,
    durability: Durability,
    /// The key that seals the records of this user.
    key: Key,
    warnings: Warnings,
    /// The number of blobs written, and of those known to be durable.
    written: AtomicU64,
    durable: AtomicU64,
    /// The number of bytes added since the last update of [`usage`].
    added: AtomicU64,
}

impl Disk {
    /// Opens the store in `dir`, or creates it. If that is not possible or not safe, the
    /// store is empty and keeps nothing, with one warning. Results that the owner of `key`
    /// did not record count as missing.
    pub fn open(dir: &Path, durability: Durability, key: &Key) -> Self {
        Self::new(dir, durability, Access::Full, key)
    }

    /// Opens an existing store for reading: damaged objects stay in their place.
    pub fn open_to_look(dir: &Path, key: &Key) -> Self {
        Self::new(dir, Durability::None, Access::Look, key)
    }

    fn new(dir: &Path, durability: Durability, wanted: Access, key: &Key) -> Self {
        let warnings = Warnings::default();
        let layout = match Layout::open(dir, wanted) {
            Ok(layout) => Some(layout),
            Err(problem) => {
                warnings.once("fbuild::store::off", || problem.to_string());
                None
            }
        };
        if let Some(Access::ReadOnly(cause)) = layout.as_ref().map(|layout| &layout.access) {
            warnings.once("fbuild::store::read_only", || {
                let dir = dir.display();
                format!("the cache folder `{dir}` cannot be written: {cause}; results are not kept")
            });
        }
        Self(Arc::new(Inner {
            layout,
            publisher: Publisher::default(),
            durability,
            key: key.derive(&[b"fbuild record 1"]),
            warnings,
            written: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            added: AtomicU64::new(0),
        }))
    }

    /// Returns true if the store in `dir` can be opened without a warning. Changes nothing.
    pub fn is_sound(dir: &Path) -> bool {
        Layout::is_sound(dir)
    }

    /// Returns the number of damaged objects found since the store was opened.
    pub fn damaged(&self) -> u64 {
        self.0.warnings.damaged()
    }
}

impl Store for Disk {
    /// Takes the warnings since the last call. A problem of the folder is reported once, one
    /// of an object for each object up to a bound.
    fn take_warnings(&self) -> Vec<Warning> {
        self.0.warnings.take()
    }

    fn result(&self, key: ActionKey) -> Result<Option<ActionResult>, Error> {
        Ok(self.0.result(key))
    }

    fn record(&self, batch: &[(ActionKey, ActionResult)]) -> Result<(), Error> {
        self.0.record(batch);
        Ok(())
    }

    fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, Error> {
        let is_missing = |digest: &&Digest| !self.0.has_blob(**digest);
        Ok(digests.iter().filter(is_missing).copied().collect())
    }

    fn read(&self, digest: Digest) -> Result<Option<Box<dyn Read + Send>>, Error> {
        Ok(blobs::read(&self.0, digest))
    }

    fn write(&self, bytes: &mut dyn Read) -> Result<Digest, Error> {
        self.0.write_blob(bytes)
    }

    fn copy(&self, digest: Digest, file: &mut File) -> Result<bool, Error> {
        self.0.copy_blob(digest, file)
    }
}

impl Inner {
    /// Returns the folder if it is writable.
    fn writable(&self) -> Option<&Layout> {
        self.layout
            .as_ref()
            .filter(|layout| matches!(layout.access, Access::Full))
    }

    fn result(&self, key: ActionKey) -> Option<ActionResult> {
        let layout = self.layout.as_ref()?;
        let name = layout::name(&key.0);
        let (bytes, file) = match read_record(layout, &name) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) if blobs::is_damage(&error) => {
                self.refuse_record(key, &error.to_string());
                return None;
            }
            Err(error) => {
                self.unreadable("record", &key.0, &error);
                return None;
            }
        };
        match record::decode(key, &bytes, &self.key) {
            Ok(result) => {
                self.mark_used(&file);
                return Some(result);
            }
            // Another version of this program may still need the record.
            Err(Refusal::Format(format)) => self.warnings.once("fbuild::store::format", || {
                format!("results in the cache are of the unknown format {format}; taken as missing")
            }),
            // Another user of the folder may still need the record.
            Err(Refusal::Origin) => self.warnings.once("fbuild::store::untrusted", || {
                let dir = layout.path.display();
                format!(
                    "the cache folder `{dir}` has results that this user did not record; they are \
                     not used unless `fbuild cache trust` accepts them"
                )
            }),
            Err(refusal) => self.refuse_record(key, &refusal.to_string()),
        }
        None
    }

    /// Moves a damaged record to the quarantine.
    fn refuse_record(&self, key: ActionKey, why: &str) {
        let id = key.0.short();
        self.warnings
            .damage(|| format!("the cached result {id} is damaged: {why}; taken as missing"));
        if let Some(layout) = self.writable() {
            quarantine::move_there(layout, &layout.actions, layout::name(&key.0).as_bytes());
        }
    }

    /// Updates the time of use of a record, which decides what a collection drops first.
    fn mark_used(&self, file: &File) {
        if self.writable().is_none() {
            return;
        }
        let Ok(stamp) = Stamp::of(file) else { return };
        if age(&stamp) > USE_INTERVAL {
            touch(file);
        }
    }

    fn record(&self, batch: &[(ActionKey, ActionResult)]) {
        let Some(layout) = self.writable() else {
            return;
        };
        if batch.is_empty() || !self.make_durable(layout, batch) {
            return;
        }
        for (key, result) in batch {
            if let Err(cause) = self.write_record(layout, *key, result) {
                self.cannot_write(&cause);
            }
        }
        usage::add(layout, self.added.swap(0, Ordering::Relaxed));
    }

    fn write_record(
        &self,
        layout: &Layout,
        key: ActionKey,
        result: &ActionResult,
    ) -> io::Result<()> {
        let bytes = record::encode(key, result, &self.key).map_err(io::Error::other)?;
        let mut temp = self.publisher.create(layout)?;
        temp.write_all(&bytes)?;
        let name = layout::name(&key.0);
        self.publisher
            .publish(temp, &layout.actions, &name, IfExists::Replace)?;
        self.added.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Flushes every blob of `batch`. If that fails, no record may be written.
    fn make_durable(&self, layout: &Layout, batch: &[(ActionKey, ActionResult)]) -> bool {
        let written = self.written.load(Ordering::SeqCst);
        if self.durability == Durability::None || written <= self.durable.load(Ordering::SeqCst) {
            return true;
        }
        let blobs: BTreeSet<Digest> = batch.iter().flat_map(|(_, r)| r.blobs()).collect();
        match durable::flush(layout, &blobs) {
            Ok(Flushed::Blobs) => true,
            Ok(Flushed::FileSystem) => {
                self.durable.fetch_max(written, Ordering::SeqCst);
                true
            }
            Err(error) => {
                self.cannot_write(&error);
                false
            }
        }
    }

    /// Warns, once per kind of error, that results are not kept.
    fn cannot_write(&self, cause: &io::Error) {
        let code = match cause.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT) => "fbuild::store::full",
            _ => "fbuild::store::write",
        };
        self.warnings.once(code, || {
            let dir = self.layout.as_ref().map(|l| l.path.display().to_string());
            let dir = dir.unwrap_or_default();
            format!("cannot write to the cache folder `{dir}`: {cause}; some results are not kept")
        });
    }

    /// Warns, once, that an object cannot be read.
    fn unreadable(&self, what: &str, digest: &Digest, cause: &io::Error) {
        self.warnings.once("fbuild::store::read", || {
            let id = digest.short();
            format!("cannot read the cached {what} {id}: {cause}; taken as missing")
        });
    }
}

/// Makes an [`Error::Io`].
fn io_error<E: Into<io::Error>>(operation: &'static str, path: &Path) -> impl FnOnce(E) -> Error {
    move |source| Error::Io {
        operation,
        path: path.to_owned(),
        source: source.into(),
    }
}

fn read_record(layout: &Layout, name: &str) -> io::Result<(Vec<u8>, File)> {
    let file = layout::open_object(&layout.actions, name, OFlags::RDONLY)?;
    // Check the size before reading: the file may be sparse and huge.
    if Stamp::of(&file)?.size > record::MAX_RECORD {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            Refusal::TooLarge,
        ));
    }
    let mut bytes = Vec::with_capacity(1024);
    (&file)
        .take(record::MAX_RECORD + 1)
        .read_to_end(&mut bytes)?;
    Ok((bytes, file))
}

/// Returns the difference between now and a file's mtime, in nanoseconds.
fn age(stamp: &Stamp) -> i64 {
    stamp::now().saturating_sub(stamp.mtime).saturating_abs()
}

/// Sets a file's mtime to now. Errors are ignored: the object is then dropped earlier.
fn touch(file: &File) {
    let now = rustix::fs::Timespec {
        tv_sec: 0,
        tv_nsec: rustix::fs::UTIME_NOW,
    };
    let times = Timestamps {
        last_access: now,
        last_modification: now,
    };
    let _ = rustix::fs::futimens(file, &times);
}

#[cfg(test)]
mod tests;
