//! Reads files that the index does not know and takes in what they hold. The only part
//! of the index that opens files.

use std::cell::RefCell;
use std::fs::File;
use std::io;

use rayon::prelude::*;
use rustix::fs::{Mode, OFlags};

use super::folder::{Content, Known, Link, Look};
use super::{Error, FileIndex, lock};
use crate::action::{Entry, EntryKind};
use crate::digest::Digest;
use crate::path::{RelPath, Root};
use crate::stamp::{self, FileKind, Stamp};

/// How often a file is read again when it changed meanwhile.
const ATTEMPTS: usize = 5;
/// From how many files on reading is shared between processors.
const SEVERAL: usize = 2;

impl FileIndex {
    /// Reads many files, on all processors. Those that are gone meanwhile are left out.
    pub(super) fn read_all(&self, paths: &[RelPath]) -> Result<Vec<Entry>, Error> {
        let read = |path: &RelPath| {
            let entry = |kind| Entry {
                path: path.clone(),
                kind,
            };
            Ok(self.read(path)?.map(entry))
        };
        let entries: Result<Vec<Option<Entry>>, Error> = if paths.len() < SEVERAL {
            paths.iter().map(read).collect()
        } else {
            paths.par_iter().map(read).collect()
        };
        Ok(entries?.into_iter().flatten().collect())
    }

    /// Reads a file or a link and remembers what it holds; `None` if it is neither.
    pub(super) fn read(&self, path: &RelPath) -> Result<Option<EntryKind>, Error> {
        let failed = |source| Error::Io {
            operation: "read",
            path: path.clone(),
            source,
        };
        for _ in 0..ATTEMPTS {
            // What is read in part before an epoch begins is no answer of that epoch.
            let epoch = self.epoch();
            match self.try_read(path) {
                Ok(Attempt::Read(known)) => return Ok(Some(self.remember(path, known, epoch))),
                Ok(Attempt::Changed) => {}
                Ok(Attempt::Neither) => return Ok(self.gone(path)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(self.gone(path)),
                Err(error) => return Err(failed(error)),
            }
        }
        Err(Error::Unstable { path: path.clone() })
    }

    /// Notes that something was there when it was looked at and is not any more.
    fn gone(&self, path: &RelPath) -> Option<EntryKind> {
        let folder = self.folder(&path.parent().unwrap_or_default());
        lock(&folder).miss(path.name());
        None
    }

    fn try_read(&self, path: &RelPath) -> io::Result<Attempt> {
        let at = stamp::now();
        let Some(before) = Stamp::at(&self.root, path.as_path())? else {
            return Ok(Attempt::Neither);
        };
        let look = Look { stamp: before, at };
        let content = match before.kind() {
            FileKind::File => Content::File(file_digest(&self.root, path)?),
            FileKind::Link => Content::Link(Box::new(self.read_link(path)?)),
            _ => return Ok(Attempt::Neither),
        };
        let after = Stamp::at(&self.root, path.as_path())?;
        Ok(match after == Some(before) {
            true => Attempt::Read(Known { look, content }),
            false => Attempt::Changed,
        })
    }

    fn read_link(&self, path: &RelPath) -> io::Result<Link> {
        let target = rustix::fs::readlinkat(&self.root, path.as_path(), Vec::new())?;
        let at = stamp::now();
        let behind = match Stamp::followed(&self.root, path.as_path()) {
            Ok(Some(stamp)) if stamp.kind() == FileKind::File => Some((
                Look { stamp, at },
                digest(&self.root, path, OFlags::empty())?,
            )),
            // Dangling, a loop, a folder: the text is all there is to it.
            _ => None,
        };
        Ok(Link {
            target: target.into_bytes(),
            behind,
        })
    }

    fn remember(&self, path: &RelPath, known: Known, epoch: u64) -> EntryKind {
        let kind = known.to_entry_kind();
        if let Some(parent) = path.parent() {
            let folder = self.folder(&parent);
            self.owe(known.look.stamp.size);
            lock(&folder).know(path.name(), known, epoch);
        }
        kind
    }
}

/// Reads the regular file at `path` and returns the digest of its content; a link is refused.
pub fn file_digest(root: &Root, path: &RelPath) -> io::Result<Digest> {
    digest(root, path, OFlags::NOFOLLOW)
}

pub(super) fn digest(root: &Root, path: &RelPath, flags: OFlags) -> io::Result<Digest> {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::openat(root, path.as_path(), flags, Mode::empty())?;
    BUFFER.with_borrow_mut(|buffer| Digest::of_reader(&mut File::from(file), buffer))
}

enum Attempt {
    Read(Known),
    /// It changed while it was read.
    Changed,
    /// It is gone, or neither a file nor a link.
    Neither,
}
