//! Caches the content of files by their stamps, so that a file that did not change is not read
//! again: neither within a run nor in the next. It knows paths and contents, not targets.
//!
//! The unit is the folder: its listing is valid while the folder's own stamp is the same, and
//! each file's digest while the file's is (see [`crate::stamp`]). Within a run a file is
//! examined once per *epoch*; a caller that runs a command or writes outputs begins a new one
//! with [`FileIndex::begin_epoch`].

mod folder;
mod hash;
mod links;
mod lookup;
pub mod observations;
mod saved;
mod walk;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::EntryKind;
use crate::checked_file::StateFile;
use crate::digest::Digest;
use crate::path::{RelPath, Root};
use crate::stamp::{FileId, Stamp, StampClock};

pub use folder::Fingerprint;
use folder::Folder;
pub use hash::file_digest;
use lookup::Lookup;
pub use saved::{Saved, boot_id};
pub use walk::{Matches, Scope, Selection};

/// A file that was hashed outside of the index, for [`FileIndex::insert`].
#[derive(Clone, Debug)]
pub struct HashedFile {
    /// The path.
    pub path: RelPath,
    /// Its stamp, the same before and after it was read.
    pub stamp: Stamp,
    /// The time just before it was read, in nanoseconds since 1970.
    pub read_at: i64,
    /// Its content.
    pub digest: Digest,
}

/// Why files could not be examined.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The system refused.
    #[error("cannot {operation} `{path}`")]
    #[diagnostic(code(fbuild::action::read))]
    Io {
        /// A verb: "read", "list", "examine".
        operation: &'static str,
        /// The path.
        path: RelPath,
        /// The system's error.
        source: io::Error,
    },
    /// A link leads to more folders than a pattern may reach through links.
    #[error("the link `{link}` leads to too many folders to be inputs")]
    #[diagnostic(
        code(fbuild::action::too_many_behind),
        help("leave it out with `except`, or name the folders behind it that the commands read")
    )]
    TooManyBehind {
        /// The link at which the number was reached.
        link: RelPath,
    },
    /// A file changed each time it was read.
    #[error("`{path}` keeps changing while it is read")]
    #[diagnostic(
        code(fbuild::action::unstable),
        help("something is writing to it; wait until that has ended, then run again")
    )]
    Unstable {
        /// The path.
        path: RelPath,
    },
}

/// A cache of file contents below a root. All methods can be called by many threads at once.
pub struct FileIndex {
    root: Root,
    /// Folders and files that are never inputs: the cache, the state, `Buildfile.lock`.
    hidden: Vec<RelPath>,
    /// Files that are never inputs: those that fbuild itself prints to.
    printed: Vec<FileId>,
    shards: Vec<Mutex<HashMap<RelPath, Arc<Mutex<Folder>>>>>,
    hasher: RandomState,
    saved: Saved,
    /// The folder in which the clock of the file system is measured.
    clock_folder: Option<PathBuf>,
    clock: OnceLock<StampClock>,
    epoch: AtomicU64,
    /// The cost of reading again what is cached and not saved, in bytes.
    unsaved: AtomicU64,
}

const SHARDS: usize = 64;
/// The cost of opening a file or folder, in bytes that could be written in that time.
const OPEN_COST: u64 = 16 * 1024;

impl FileIndex {
    /// Returns true if a path is in a folder of fbuild, which is never an input.
    pub fn hides(&self, path: &RelPath) -> bool {
        self.hidden.iter().any(|hidden| path.is_within(hidden))
    }

    /// Opens the index that was saved to `file`. It is empty if the file is missing, damaged,
    /// of another format or from before the last boot. Folders in `hidden` are never inputs.
    pub fn open(root: Root, file: &StateFile, hidden: Vec<RelPath>) -> Self {
        Self::new(root, Saved::read(file), hidden)
    }

    /// Opens a saved index that was read before.
    pub fn new(root: Root, saved: Saved, hidden: Vec<RelPath>) -> Self {
        Self {
            root,
            hidden,
            printed: Vec::new(),
            shards: std::iter::repeat_with(Mutex::default)
                .take(SHARDS)
                .collect(),
            hasher: RandomState::new(),
            saved,
            clock_folder: None,
            clock: OnceLock::new(),
            epoch: AtomicU64::new(1),
            unsaved: AtomicU64::new(0),
        }
    }

    /// Returns the same index, for which the files with these identities do not exist.
    #[must_use]
    pub fn without(mut self, files: Vec<FileId>) -> Self {
        self.printed = files;
        self
    }

    /// Returns the same index, which judges the age of stamps by the clock of the file system
    /// of `folder` instead of this machine's. It makes and removes a file there.
    #[must_use]
    pub fn with_clock_of(mut self, folder: PathBuf) -> Self {
        self.clock_folder = Some(folder);
        self
    }

    /// Returns the time now, or a little earlier, by the clock that makes the stamps.
    pub fn now(&self) -> i64 {
        self.clock().now()
    }

    /// Returns the root that all paths are relative to.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Begins a new epoch: files may have changed, and are examined again.
    pub fn begin_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns the file or link at `path`; `None` if there is neither, or a folder above it is
    /// a link.
    pub fn entry(&self, path: &RelPath) -> Result<Option<EntryKind>, Error> {
        match self.lookup(path)? {
            None => Ok(None),
            Some(Lookup::Cached(kind)) => Ok(Some(kind)),
            Some(Lookup::Unread) => self.read(path),
        }
    }

    /// Returns the fingerprint of a file as it was last examined, without examining it.
    pub fn fingerprint(&self, path: &RelPath) -> Fingerprint {
        let folder = self.folder(&path.parent().unwrap_or_default());
        let folder = lock(&folder);
        folder.fingerprint(path.name())
    }

    /// Caches a file that was hashed while it was read or written for another purpose.
    pub fn insert(&self, hashed: HashedFile) {
        let Some(parent) = hashed.path.parent() else {
            return;
        };
        let read_at = self.clock().of(hashed.read_at);
        let hashed = HashedFile { read_at, ..hashed };
        let folder = self.folder(&parent);
        lock(&folder).insert(&hashed, self.epoch());
        self.add_cost(hashed.stamp.size);
    }

    /// Saves the index to `file`, atomically, if that costs less than reading again what is
    /// not saved. It is not flushed to the disk: if it is lost, files are read again.
    pub fn save(&self, file: &StateFile) -> io::Result<()> {
        if self.unsaved.load(Ordering::Relaxed) <= self.saved.size() {
            return Ok(());
        }
        self.unsaved.store(0, Ordering::Relaxed);
        let mut used = Vec::new();
        for shard in &self.shards {
            for (path, folder) in lock(shard).iter() {
                used.push((path.clone(), lock(folder).encode()));
            }
        }
        self.saved.write_with(used, file)
    }

    /// Adds the cost of reading a file or folder of so many bytes.
    fn add_cost(&self, bytes: u64) {
        self.unsaved.fetch_add(bytes + OPEN_COST, Ordering::Relaxed);
    }

    /// Returns the clock that makes the stamps. It is measured when the first file is read: a
    /// run in which nothing changed does not need it.
    fn clock(&self) -> StampClock {
        let folder = self.clock_folder.as_ref();
        let measure = || folder.map(|folder| StampClock::measure(folder, &self.root));
        *self.clock.get_or_init(|| measure().unwrap_or_default())
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Returns the cache of a folder; at first use, as the last run saved it.
    fn folder(&self, path: &RelPath) -> Arc<Mutex<Folder>> {
        let shard = usize::try_from(self.hasher.hash_one(path) % SHARDS as u64).unwrap_or(0);
        let mut folders = lock(&self.shards[shard]);
        if let Some(folder) = folders.get(path) {
            return folder.clone();
        }
        let folder = Arc::new(Mutex::new(self.saved.folder(path).unwrap_or_default()));
        folders.insert(path.clone(), folder.clone());
        folder
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is complete: a panic elsewhere leaves valid data.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
