//! Examines one path at a time: with one `stat`, if its cached content is still valid.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{Dir, FileType, Mode, OFlags};

use super::folder::{Behind, CachedContent, Content, Folder, TimedStamp};
use super::{Error, FileIndex, lock};
use crate::action::EntryKind;
use crate::path::RelPath;
use crate::stamp::{FileKind, Stamp};

/// The content of a file as far as its stamp decides it.
pub(super) enum Lookup {
    Cached(EntryKind),
    /// It has to be read.
    Unread,
}

/// The result of following the links on the way to a folder.
pub(super) enum Resolution {
    Folder {
        /// Its path without links.
        path: RelPath,
        /// The links on the way.
        links: Vec<RelPath>,
    },
    /// This link leads out of the root.
    Outside(RelPath),
    Missing,
}

impl FileIndex {
    /// Looks up one path without reading it; `None` if it is neither a file nor a link.
    pub(super) fn lookup(&self, path: &RelPath) -> Result<Option<Lookup>, Error> {
        let Some(parent) = path.parent() else {
            return Ok(None);
        };
        if !self.is_folder(&parent)? {
            return Ok(None);
        }
        let folder = self.folder(&parent);
        let mut folder = lock(&folder);
        self.lookup_in(&mut folder, path)
    }

    /// Returns the entry that the link at `path` leads to; `None` if it is not a link.
    pub(super) fn behind(&self, path: &RelPath) -> Result<Option<Behind>, Error> {
        if !matches!(self.entry(path)?, Some(EntryKind::Link { .. })) {
            return Ok(None);
        }
        let folder = self.folder(&path.parent().unwrap_or_default());
        let folder = lock(&folder);
        let cached = folder
            .find(path.name())
            .and_then(|file| file.cached.as_ref());
        Ok(cached.and_then(|cached| match &cached.content {
            Content::Link(link) => Some(link.behind.clone()),
            Content::File(_) => None,
        }))
    }

    /// Returns the folder below the root that the link at `path` leads to, if any.
    pub fn folder_behind(&self, path: &RelPath) -> Result<Option<RelPath>, Error> {
        Ok(match self.behind(path)? {
            Some(Behind::Folder { path, .. }) => path,
            _ => None,
        })
    }

    /// Follows all links on the way to the folder at `path`, the last component included.
    pub(super) fn resolve(&self, path: &RelPath) -> Result<Resolution, Error> {
        let (mut real, mut links) = (RelPath::root(), Vec::new());
        for name in path.components() {
            let child = real.child(name);
            if self.is_folder(&child)? {
                real = child;
                continue;
            }
            // Known from the check that just failed: a path that is missing is not examined
            // twice.
            if !lock(&self.folder(&child)).is_link {
                return Ok(Resolution::Missing);
            }
            real = match self.behind(&child)? {
                Some(Behind::Folder { path: Some(to), .. }) if self.is_folder(&to)? => to,
                Some(Behind::Folder { path: None, .. }) => return Ok(Resolution::Outside(child)),
                _ => return Ok(Resolution::Missing),
            };
            links.push(child);
        }
        Ok(Resolution::Folder { path: real, links })
    }

    /// Returns true if `path` is a folder and no folder above it is a link.
    pub(super) fn is_folder(&self, path: &RelPath) -> Result<bool, Error> {
        // Read before any check: a check that an epoch overtakes belongs to the one before.
        let epoch = self.epoch();
        // From the top down, so that each folder is checked once and after its parent.
        let mut pending = vec![path.clone()];
        while let Some(parent) = pending.last().and_then(RelPath::parent) {
            if lock(&self.folder(&parent)).checked >= epoch {
                break;
            }
            pending.push(parent);
        }
        while let Some(path) = pending.pop() {
            let parent_exists = match path.parent() {
                Some(parent) => lock(&self.folder(&parent)).exists,
                None => true,
            };
            let folder = self.folder(&path);
            let mut folder = lock(&folder);
            if folder.checked < epoch {
                self.check_folder(&mut folder, &path, parent_exists)?;
                folder.checked = epoch;
            }
        }
        Ok(lock(&self.folder(path)).exists)
    }

    /// Checks a folder's stamp, and drops its listing if that is no longer valid.
    fn check_folder(
        &self,
        folder: &mut Folder,
        path: &RelPath,
        parent_exists: bool,
    ) -> Result<(), Error> {
        let stamp = if parent_exists {
            self.stamp(path)?
        } else {
            None
        };
        folder.is_link = stamp.is_some_and(|stamp| stamp.kind() == FileKind::Link);
        let stamp = stamp.filter(|stamp| stamp.kind() == FileKind::Folder);
        let was_checked = folder.checked != 0;
        folder.racy |= was_checked && folder.exists != stamp.is_some();
        folder.exists = stamp.is_some();
        let is_valid = |listed: &TimedStamp| stamp.is_some_and(|stamp| listed.is_valid(&stamp));
        if !folder.listed.as_ref().is_some_and(is_valid) {
            folder.racy |= was_checked && folder.listed.is_some();
            folder.listed = None;
        }
        Ok(())
    }

    fn stamp(&self, path: &RelPath) -> Result<Option<Stamp>, Error> {
        Stamp::at(&self.root, path.as_path()).map_err(|source| Error::Io {
            operation: "examine",
            path: path.clone(),
            source,
        })
    }

    /// Lists a folder that was checked, unless its listing is cached.
    pub(super) fn list(&self, folder: &mut Folder, path: &RelPath) -> Result<(), Error> {
        if folder.listed.is_some() || !folder.exists {
            return Ok(());
        }
        let at = self.now();
        match read_folder(self, path) {
            Ok((stamp, names)) => folder.relist(TimedStamp { stamp, at }, names),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                folder.exists = false;
                folder.racy = true;
            }
            Err(source) => {
                return Err(Error::Io {
                    operation: "list",
                    path: path.clone(),
                    source,
                });
            }
        }
        self.add_cost(0);
        Ok(())
    }

    /// Looks up a path in its folder, which is locked.
    pub(super) fn lookup_in(
        &self,
        folder: &mut Folder,
        path: &RelPath,
    ) -> Result<Option<Lookup>, Error> {
        let epoch = self.epoch();
        let fresh = folder.find(path.name()).filter(|f| f.checked >= epoch);
        if let Some(cached) = fresh.and_then(|file| file.cached.as_ref()) {
            return Ok(Some(Lookup::Cached(cached.to_entry_kind())));
        }
        let stamp = self.stamp(path)?;
        let stamp = stamp.filter(|stamp| !self.printed.contains(&stamp.id()));
        let stamp = stamp.map(|stamp| (stamp.kind(), stamp));
        let Some((kind @ (FileKind::File | FileKind::Link), stamp)) = stamp else {
            folder.set_absent(path.name());
            return Ok(None);
        };
        let was_absent = !folder.absent.is_empty() && folder.absent.contains(path.name());
        let file = folder.file(path.name(), kind);
        file.kind = kind;
        file.racy |= was_absent;
        match &file.cached {
            Some(cached) if cached.own.is_valid(&stamp) && self.is_valid_behind(cached, path) => {
                file.checked = epoch;
                Ok(Some(Lookup::Cached(cached.to_entry_kind())))
            }
            _ => {
                // Cached in this run and no longer valid: it changed while the run went on.
                file.racy |= file.checked != 0;
                Ok(Some(Lookup::Unread))
            }
        }
    }

    /// Returns true if a link still leads to the cached content, or if it is no link.
    fn is_valid_behind(&self, cached: &CachedContent, path: &RelPath) -> bool {
        let Content::Link(link) = &cached.content else {
            return true;
        };
        let now = Stamp::followed(&self.root, path.as_path()).ok().flatten();
        let is_folder = now.is_some_and(|now| now.kind() == FileKind::Folder);
        let is_at = |path: &RelPath, id| {
            let there = Stamp::at(&self.root, path.as_path()).ok().flatten();
            there.is_some_and(|there| there.id() == id)
        };
        match &link.behind {
            Behind::File { stamp, .. } => now.is_some_and(|now| stamp.is_valid(&now)),
            // Links and folders on the way may have changed although it is the same folder.
            Behind::Folder { id, path: real } => {
                is_folder
                    && now.is_some_and(|now| now.id() == *id)
                    && match real {
                        Some(real) => is_at(real, *id),
                        None => self.real_path(path).is_none(),
                    }
            }
            Behind::Nothing => !is_folder && now.is_none_or(|now| now.kind() != FileKind::File),
        }
    }
}

type Names = Vec<(Box<[u8]>, FileKind)>;

fn read_folder(index: &FileIndex, path: &RelPath) -> io::Result<(Stamp, Names)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = rustix::fs::openat(&index.root, path.as_path(), flags, Mode::empty())?;
    let open = std::fs::File::from(open);
    // Before the first name is read: a name added meanwhile makes the stamp invalid.
    let stamp = Stamp::of(&open)?;
    let mut names = Names::new();
    for entry in Dir::read_from(&open)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let kind = match entry.file_type() {
            // Some file systems do not store kinds in folders.
            FileType::Unknown => match Stamp::at(&open, OsStr::from_bytes(name))? {
                Some(stamp) => stamp.kind(),
                None => continue,
            },
            kind => FileKind::from(kind),
        };
        names.push((name.into(), kind));
    }
    Ok((stamp, names))
}
