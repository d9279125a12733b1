//! A store in a folder: blobs by digest, records by key, each one file that is published
//! whole. It knows neither workspaces nor outputs, and fails no build: whatever goes wrong
//! is a miss or an unkept blob, and is said through [`Disk::take_warnings`].
//!
//! ```text
//! <dir>/artifacts/ab/<64 hex>   blobs
//! <dir>/actions/ab/<64 hex>     records
//! <dir>/quarantine/             what did not match its name, a bounded number
//! <dir>/incoming/               files being written, where the system needs names for them
//! <dir>/lock                    shared by builds, exclusive for a collection
//! <dir>/usage                   how much there is, roughly
//! <dir>/version, CACHEDIR.TAG, .gitignore
//! ```
//!
//! Protocol: a blob is written into a file without a name, hashing the bytes that are
//! written, and then linked to its name, which never replaces anything. A record is
//! written after a sync has made all blobs before it durable: one `syncfs`, or each blob's
//! own where they are few and much else waits to be written. Readers verify what they read:
//! the sync saves work after a power cut, it is not what makes hits right.

mod blobs;
mod durable;
mod gc;
mod layout;
mod lock;
mod publish;
mod quarantine;
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

use self::durable::Waited;
use self::layout::{Access, Layout};
use self::publish::{Existing, Publisher};
use self::warnings::Warnings;
use super::{Error, Refusal, Store, record};
use crate::action::{ActionKey, ActionResult};
use crate::digest::Digest;
use crate::event::Warning;
use crate::stamp::{self, Stamp};

pub use gc::{Collected, Limits};
pub use layout::is_foreign;
pub use lock::Patience;
pub use usage::Usage;
pub use verify::{Damage, Damaged, Verification};

/// A record used again after less than this (nanoseconds) is not marked as used again.
const USE_INTERVAL: i64 = 24 * 3600 * 1_000_000_000;

/// Whether results survive a power cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Blobs are on the disk before the records that need them, one wait for each batch.
    #[default]
    Batched,
    /// Nothing is waited for. A power cut then costs results, and still never a wrong hit.
    None,
}

/// A store in a folder. Cheap to clone; clones are the same store.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `None` when the folder cannot be used at all.
    layout: Option<Layout>,
    publisher: Publisher,
    durability: Durability,
    warnings: Warnings,
    /// How many blobs were written, and how many of them are known to be durable.
    written: AtomicU64,
    durable: AtomicU64,
    /// How many bytes were added that [`usage`] does not know of yet.
    added: AtomicU64,
}

impl Disk {
    /// Opens the store in `dir`, making it when it is not there. Where that cannot be done
    /// safely the store holds nothing and keeps nothing, with one warning.
    pub fn open(dir: &Path, durability: Durability) -> Self {
        Self::new(dir, durability, Access::Full)
    }

    /// Opens a store that is there, and changes nothing in it: what is damaged stays in its
    /// place.
    pub fn open_to_look(dir: &Path) -> Self {
        Self::new(dir, Durability::None, Access::Look)
    }

    fn new(dir: &Path, durability: Durability, wanted: Access) -> Self {
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
            warnings,
            written: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            added: AtomicU64::new(0),
        }))
    }

    /// Tells whether opening the store in `dir` would go well, and without a word. It
    /// changes nothing.
    pub fn is_sound(dir: &Path) -> bool {
        Layout::is_sound(dir)
    }

    /// Returns the warnings since the last call. What is about the folder as a whole is
    /// said once; what is about an object, for each one up to a bound.
    pub fn take_warnings(&self) -> Vec<Warning> {
        self.0.warnings.take()
    }

    /// Returns how many damaged objects were found since the store was opened.
    pub fn damaged(&self) -> u64 {
        self.0.warnings.damaged()
    }
}

impl Store for Disk {
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
    /// Returns the folder, if it can be written.
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
        match record::decode(key, &bytes) {
            Ok(result) => {
                self.mark_used(&file);
                return Some(result);
            }
            // A record of another version of this program is left alone.
            Err(Refusal::Format(format)) => self.warnings.once("fbuild::store::format", || {
                format!("results in the cache are of the unknown format {format}; taken as missing")
            }),
            Err(refusal) => self.refuse_record(key, &refusal.to_string()),
        }
        None
    }

    /// Puts a damaged record aside.
    fn refuse_record(&self, key: ActionKey, why: &str) {
        let id = key.0.short();
        self.warnings
            .damage(|| format!("the cached result {id} is damaged: {why}; taken as missing"));
        if let Some(layout) = self.writable() {
            quarantine::move_there(layout, &layout.actions, layout::name(&key.0).as_bytes());
        }
    }

    /// Fingerprints a record as used, for the collection that drops the least recently used.
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
        let bytes = record::encode(key, result).map_err(io::Error::other)?;
        let mut temp = self.publisher.create(layout)?;
        temp.write_all(&bytes)?;
        let name = layout::name(&key.0);
        self.publisher
            .publish(temp, &layout.actions, &name, Existing::Replace)?;
        self.added.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Waits until every blob of `batch` is on the disk. Without that no record may be
    /// written.
    fn make_durable(&self, layout: &Layout, batch: &[(ActionKey, ActionResult)]) -> bool {
        let written = self.written.load(Ordering::SeqCst);
        if self.durability == Durability::None || written <= self.durable.load(Ordering::SeqCst) {
            return true;
        }
        let blobs: BTreeSet<Digest> = batch.iter().flat_map(|(_, r)| r.blobs()).collect();
        match durable::wait_for(layout, &blobs) {
            Ok(Waited::ForThese) => true,
            Ok(Waited::ForAll) => {
                self.durable.fetch_max(written, Ordering::SeqCst);
                true
            }
            Err(error) => {
                self.cannot_write(&error);
                false
            }
        }
    }

    /// Says, once for each kind of trouble, that results are not kept.
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

    /// Says, once, that something in the store cannot be read.
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
    // Before anything is read: it may be a hole without end.
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

/// Returns how far from now a file was last changed, in nanoseconds.
fn age(stamp: &Stamp) -> i64 {
    stamp::now().saturating_sub(stamp.mtime).saturating_abs()
}

/// Sets the time of the last change to now. A failure makes an object look older than it
/// is, which costs at most its place in the cache.
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
