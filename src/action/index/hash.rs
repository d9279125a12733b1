//! Reads files that are not cached and caches their content. No other part of the index opens
//! files.

use std::cell::RefCell;
use std::fs::File;
use std::io;

use rayon::prelude::*;
use rustix::fs::{Mode, OFlags};

use super::folder::{Behind, CachedContent, Content, Link, TimedStamp};
use super::{Error, FileIndex, lock};
use crate::action::{Entry, EntryKind};
use crate::digest::Digest;
use crate::path::{RelPath, Root};
use crate::stamp::{FileKind, Stamp};

/// How often a file is read again if it changed meanwhile.
const ATTEMPTS: usize = 5;
/// From how many files on reading is spread over all processors.
const SEVERAL: usize = 2;

impl FileIndex {
    /// Reads many files, on all processors. Files that no longer exist are left out.
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

    /// Reads a file or a link and caches its content; `None` if the path is neither.
    pub(super) fn read(&self, path: &RelPath) -> Result<Option<EntryKind>, Error> {
        for _ in 0..ATTEMPTS {
            // Before the first byte is read: if an epoch begins meanwhile, this read belongs
            // to the one before.
            let epoch = self.epoch();
            match self.try_read(path) {
                Ok(Attempt::Read(cached)) => return Ok(Some(self.cache(path, cached, epoch))),
                Ok(Attempt::Changed) => {}
                Ok(Attempt::Neither) => return Ok(self.set_absent(path)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok(self.set_absent(path));
                }
                Err(source) => {
                    return Err(Error::Io {
                        operation: "read",
                        path: path.clone(),
                        source,
                    });
                }
            }
        }
        Err(Error::Unstable { path: path.clone() })
    }

    fn set_absent(&self, path: &RelPath) -> Option<EntryKind> {
        let folder = self.folder(&path.parent().unwrap_or_default());
        lock(&folder).set_absent(path.name());
        None
    }

    fn try_read(&self, path: &RelPath) -> io::Result<Attempt> {
        let at = self.now();
        let Some(before) = Stamp::at(&self.root, path.as_path())? else {
            return Ok(Attempt::Neither);
        };
        let content = match before.kind() {
            FileKind::File => Content::File(file_digest(&self.root, path)?),
            FileKind::Link => Content::Link(Box::new(self.read_link(path)?)),
            FileKind::Folder | FileKind::Special => return Ok(Attempt::Neither),
        };
        let after = Stamp::at(&self.root, path.as_path())?;
        if after != Some(before) {
            return Ok(Attempt::Changed);
        }
        let own = TimedStamp { stamp: before, at };
        Ok(Attempt::Read(CachedContent { own, content }))
    }

    fn read_link(&self, path: &RelPath) -> io::Result<Link> {
        let target = rustix::fs::readlinkat(&self.root, path.as_path(), Vec::new())?;
        Ok(Link {
            target: target.into_bytes(),
            behind: self.follow(path)?,
        })
    }

    /// Follows a link, and reads the file behind it.
    fn follow(&self, path: &RelPath) -> io::Result<Behind> {
        let at = self.now();
        // An error is a link that dangles, or a loop, as it is for the commands.
        let Ok(Some(stamp)) = Stamp::followed(&self.root, path.as_path()) else {
            return Ok(Behind::Nothing);
        };
        Ok(match stamp.kind() {
            FileKind::File => Behind::File {
                stamp: TimedStamp { stamp, at },
                digest: digest(&self.root, path, OFlags::empty())?,
                is_outside: self.real_path(path).is_none(),
            },
            FileKind::Folder => Behind::Folder {
                id: stamp.id(),
                path: self.real_path(path),
            },
            FileKind::Link | FileKind::Special => Behind::Nothing,
        })
    }

    /// Returns the path below the root that a link leads to; `None` if it leads out of it.
    pub(super) fn real_path(&self, link: &RelPath) -> Option<RelPath> {
        let path = self.root.absolute(link).canonicalize().ok()?;
        self.root.relative(&path)
    }

    fn cache(&self, path: &RelPath, cached: CachedContent, epoch: u64) -> EntryKind {
        let kind = cached.to_entry_kind();
        if let Some(parent) = path.parent() {
            let folder = self.folder(&parent);
            self.add_cost(cached.own.stamp.size);
            lock(&folder).set_content(path.name(), cached, epoch);
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
    // If a pipe took the file's place, opening it must not wait for a writer.
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::openat(root, path.as_path(), flags, Mode::empty())?;
    BUFFER.with_borrow_mut(|buffer| Digest::of_reader(&mut File::from(file), buffer))
}

enum Attempt {
    Read(CachedContent),
    /// It changed while it was read.
    Changed,
    /// It is absent, or neither a file nor a link.
    Neither,
}
