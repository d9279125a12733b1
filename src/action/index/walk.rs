//! Finds files by patterns, in one walk over each folder that a pattern can reach, and returns
//! their content. Links to folders are never followed.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{Dir, FileType, Mode, OFlags};

use super::folder::{CachedContent, Content, Folder, TimedStamp};
use super::{Error, FileIndex, lock};
use crate::action::{Entry, EntryKind};
use crate::glob::Pattern;
use crate::path::RelPath;
use crate::stamp::{self, FileKind, Stamp};

/// Selects all files that `include` matches and `except` does not.
#[derive(Clone, Copy, Debug)]
pub struct Selection<'a> {
    /// The patterns to find.
    pub include: &'a [&'a Pattern],
    /// The patterns to leave out.
    pub except: &'a [&'a Pattern],
    /// Whether folders are selected, too.
    pub folders: bool,
}

/// The files of a [`Selection`].
#[derive(Debug, Default)]
pub struct Matches {
    /// The files, sorted by path, each once.
    pub entries: Vec<Entry>,
    /// For each included pattern, how many files it matched.
    pub counts: Vec<usize>,
}

/// The content of a file as far as its stamp decides it.
pub(super) enum Lookup {
    Cached(EntryKind),
    /// It has to be read.
    Unread,
}

impl FileIndex {
    /// Finds the files of a selection, with their content.
    pub fn find(&self, selection: Selection<'_>) -> Result<Matches, Error> {
        let mut walk = Walk {
            index: self,
            selection,
            entries: Vec::new(),
            unread: Vec::new(),
        };
        let mut counts = Vec::with_capacity(selection.include.len());
        for pattern in selection.include {
            let before = walk.len();
            walk.pattern(pattern)?;
            counts.push(walk.len() - before);
        }
        let mut entries = walk.entries;
        entries.extend(self.read_all(&walk.unread)?);
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        entries.dedup_by(|a, b| a.path == b.path);
        Ok(Matches { entries, counts })
    }

    /// Returns the paths of all entries of a folder, whatever they are; none if there is no
    /// such folder.
    pub fn children(&self, path: &RelPath) -> Result<Vec<RelPath>, Error> {
        if !self.is_folder(path)? {
            return Ok(Vec::new());
        }
        let folder = self.folder(path);
        let mut folder = lock(&folder);
        self.list(&mut folder, path)?;
        let files = folder.files().iter();
        Ok(files.map(|file| path.child(&file.name)).collect())
    }

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

    /// Returns true if `path` is a folder and no folder above it is a link.
    fn is_folder(&self, path: &RelPath) -> Result<bool, Error> {
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
        let at = stamp::now();
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
    fn lookup_in(&self, folder: &mut Folder, path: &RelPath) -> Result<Option<Lookup>, Error> {
        let epoch = self.epoch();
        let fresh = folder.find(path.name()).filter(|f| f.checked >= epoch);
        if let Some(cached) = fresh.and_then(|file| file.cached.as_ref()) {
            return Ok(Some(Lookup::Cached(cached.to_entry_kind())));
        }
        let stamp = self.stamp(path)?;
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

    /// Returns true if the file behind a link is still the cached one, or if it is no link.
    fn is_valid_behind(&self, cached: &CachedContent, path: &RelPath) -> bool {
        let Content::Link(link) = &cached.content else {
            return true;
        };
        let behind = Stamp::followed(&self.root, path.as_path()).ok().flatten();
        let file = behind.filter(|stamp| stamp.kind() == FileKind::File);
        match (&link.behind, file) {
            (Some((behind, _)), Some(stamp)) => behind.is_valid(&stamp),
            (None, None) => true,
            _ => false,
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

/// A walk in progress.
struct Walk<'a> {
    index: &'a FileIndex,
    selection: Selection<'a>,
    entries: Vec<Entry>,
    unread: Vec<RelPath>,
}

impl Walk<'_> {
    fn len(&self) -> usize {
        self.entries.len() + self.unread.len()
    }

    fn pattern(&mut self, pattern: &Pattern) -> Result<(), Error> {
        if let Some(path) = pattern.as_literal() {
            return self.literal(path);
        }
        let mut pending = vec![pattern.folder().clone()];
        while let Some(folder) = pending.pop() {
            if self.enters(&folder) && self.index.is_folder(&folder)? {
                self.folder(pattern, &folder, &mut pending)?;
            }
        }
        Ok(())
    }

    fn literal(&mut self, path: &RelPath) -> Result<(), Error> {
        let is_hidden = path.parent().is_none_or(|parent| self.is_hidden(&parent));
        if is_hidden || self.is_excepted(path) {
            return Ok(());
        }
        match self.index.lookup(path)? {
            Some(lookup) => self.push(path.clone(), lookup),
            None if self.selection.folders && self.index.is_folder(path)? => {
                self.push(path.clone(), Lookup::Cached(EntryKind::Folder));
            }
            None => {}
        }
        Ok(())
    }

    /// Adds the matches in one folder, and the folders in it to `pending`.
    fn folder(
        &mut self,
        pattern: &Pattern,
        path: &RelPath,
        pending: &mut Vec<RelPath>,
    ) -> Result<(), Error> {
        let folder = self.index.folder(path);
        let mut folder = lock(&folder);
        self.index.list(&mut folder, path)?;
        let all = pattern.covers_folder(path);
        for at in 0..folder.files().len() {
            let file = &folder.files()[at];
            let (child, kind) = (path.child(&file.name), file.kind);
            let matches = (all || pattern.matches(&child)) && !self.is_excepted(&child);
            match kind {
                FileKind::Special => {}
                FileKind::Folder => {
                    if matches && self.selection.folders && self.enters(&child) {
                        self.push(child.clone(), Lookup::Cached(EntryKind::Folder));
                    }
                    if pattern.reaches_into(&child) {
                        pending.push(child);
                    }
                }
                FileKind::File | FileKind::Link if matches => {
                    if let Some(lookup) = self.index.lookup_in(&mut folder, &child)? {
                        self.push(child, lookup);
                    }
                }
                FileKind::File | FileKind::Link => {}
            }
        }
        Ok(())
    }

    fn push(&mut self, path: RelPath, lookup: Lookup) {
        match lookup {
            Lookup::Cached(kind) => self.entries.push(Entry { path, kind }),
            Lookup::Unread => self.unread.push(path),
        }
    }

    fn is_excepted(&self, path: &RelPath) -> bool {
        self.selection.except.iter().any(|e| e.matches(path))
    }

    /// Returns true if the selection can match anything in a folder. If folders are selected,
    /// a folder that is left out is left out with everything in it.
    fn enters(&self, folder: &RelPath) -> bool {
        let folders = self.selection.folders;
        let mut except = self.selection.except.iter();
        !self.is_hidden(folder)
            && !except.any(|e| e.covers_folder(folder) || folders && e.matches(folder))
    }

    fn is_hidden(&self, folder: &RelPath) -> bool {
        let hidden = &self.index.hidden;
        folder.components().any(|part| part == b".git")
            || hidden.iter().any(|hidden| folder.is_within(hidden))
    }
}
