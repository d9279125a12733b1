//! Remembers what files hold by what the system says of them, so that nothing that did
//! not change is read twice: not within a run, not from one run to the next. It knows
//! paths and contents, not targets.
//!
//! The unit is the folder: its listing is trusted while the folder's own stamp stands
//! still, and each file's digest while the file's does (see [`crate::stamp`]). Within a
//! run a file is looked at once for each *epoch*; whoever runs a command or writes
//! outputs begins a new one with [`FileIndex::begin_epoch`].

mod folder;
mod hash;
pub mod observations;
mod saved;
mod walk;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::EntryKind;
use crate::digest::Digest;
use crate::path::{RelPath, Root};
use crate::stamp::Stamp;

pub use folder::Fingerprint;
use folder::Folder;
pub use hash::file_digest;
pub use saved::{Saved, boot_id};
pub use walk::{Found, Selection};

/// What a file was when it was looked at, kept by [`FileIndex::learn`].
#[derive(Clone, Debug)]
pub struct Seen {
    /// Where it is.
    pub path: RelPath,
    /// What the system said of it, the same before and after it was read.
    pub stamp: Stamp,
    /// When it was about to be read, in nanoseconds since 1970.
    pub looked_at: i64,
    /// What it held.
    pub digest: Digest,
}

/// What went wrong while files were looked at.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The system refused.
    #[error("cannot {operation} `{path}`")]
    #[diagnostic(code(fbuild::action::read))]
    Io {
        /// A verb: "read", "list", "look at".
        operation: &'static str,
        /// Where.
        path: RelPath,
        /// Why.
        source: io::Error,
    },
    /// A file changed each time it was read.
    #[error("`{path}` keeps changing while it is read")]
    #[diagnostic(
        code(fbuild::action::unstable),
        help("something is writing to it; wait until that has ended, then run again")
    )]
    Unstable {
        /// Which file.
        path: RelPath,
    },
}

/// The memory of what files hold.
pub struct FileIndex {
    root: Root,
    /// Folders that are nobody's inputs: the cache and the state.
    hidden: Vec<RelPath>,
    shards: Vec<Mutex<HashMap<RelPath, Arc<Mutex<Folder>>>>>,
    hasher: RandomState,
    saved: Saved,
    epoch: AtomicU64,
    /// How much would have to be read again, in bytes, if what was found out were not saved.
    owed: AtomicU64,
}

const SHARDS: usize = 64;
/// What opening a file or folder costs, in bytes that could be written meanwhile.
const COST: u64 = 16 * 1024;

impl FileIndex {
    /// Opens the memory kept in `file`; one that is missing, damaged, of another format or
    /// from before the last boot is empty. Folders in `hidden` are nobody's inputs.
    pub fn open(root: Root, file: &Path, hidden: Vec<RelPath>) -> Self {
        Self::new(root, Saved::read(file), hidden)
    }

    /// Opens a memory that was read before.
    pub fn new(root: Root, saved: Saved, hidden: Vec<RelPath>) -> Self {
        Self {
            root,
            hidden,
            shards: std::iter::repeat_with(Mutex::default)
                .take(SHARDS)
                .collect(),
            hasher: RandomState::new(),
            saved,
            epoch: AtomicU64::new(1),
            owed: AtomicU64::new(0),
        }
    }

    /// Returns the root that paths are below.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Says that files may have changed from here on: they are looked at again.
    pub fn begin_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns what stands at `path`, or `None` if nothing does or a link is on the way.
    pub fn entry(&self, path: &RelPath) -> Result<Option<EntryKind>, Error> {
        match self.look(path)? {
            None => Ok(None),
            Some(walk::Looked::Known(kind)) => Ok(Some(kind)),
            Some(walk::Looked::Unread) => self.read(path),
        }
    }

    /// Returns the mark of a file as it was last looked at; it is not looked at for this.
    pub fn mark(&self, path: &RelPath) -> Fingerprint {
        let folder = self.folder(&path.parent().unwrap_or_default());
        let folder = lock(&folder);
        folder.mark(path.name())
    }

    /// Takes in what somebody else found out while reading or writing a file.
    pub fn learn(&self, seen: Seen) {
        let Some(parent) = seen.path.parent() else {
            return;
        };
        let folder = self.folder(&parent);
        lock(&folder).learn(&seen, self.epoch());
        self.owe(seen.stamp.size);
    }

    /// Writes the memory to `file`, atomically, if that is less than what would have to be
    /// read again otherwise. It is not flushed to the disk: a memory that is lost is only a
    /// reason to read files again.
    pub fn save(&self, file: &Path) -> io::Result<()> {
        if self.owed.load(Ordering::Relaxed) <= self.saved.size() {
            return Ok(());
        }
        self.owed.store(0, Ordering::Relaxed);
        let mut used = Vec::new();
        for shard in &self.shards {
            for (path, folder) in lock(shard).iter() {
                used.push((path.clone(), lock(folder).encode()));
            }
        }
        self.saved.write_with(used, file)
    }

    /// Notes that so many bytes of a file or folder were read.
    fn owe(&self, bytes: u64) {
        self.owed.fetch_add(bytes + COST, Ordering::Relaxed);
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Returns the memory of a folder, taken over from the last run when first asked for.
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
    // Every change to what is behind these locks is whole: a panic elsewhere harms nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
