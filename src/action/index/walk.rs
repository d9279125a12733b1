//! Finds files by patterns, in one walk over each folder that a pattern can reach, and
//! tells of each what it holds. Links to folders are never followed.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{Dir, FileType, Mode, OFlags};

use super::folder::{Content, Folder, Known, Look};
use super::{Error, FileIndex, lock};
use crate::action::{Entry, EntryKind};
use crate::glob::Pattern;
use crate::path::RelPath;
use crate::stamp::{self, FileKind, Stamp};

/// Which files are meant: all that `include` matches but `except` does not.
#[derive(Clone, Copy, Debug)]
pub struct Selection<'a> {
    /// What is included.
    pub include: &'a [&'a Pattern],
    /// What is left out again.
    pub except: &'a [&'a Pattern],
    /// Whether folders are told of as well.
    pub folders: bool,
}

/// What a [`Selection`] found.
#[derive(Debug, Default)]
pub struct Found {
    /// The files, sorted by path, each once.
    pub entries: Vec<Entry>,
    /// For each included pattern, how many files it matched.
    pub matches: Vec<usize>,
}

/// What is known of a file after a look at its stamp.
pub(super) enum Looked {
    Known(EntryKind),
    /// It has to be read.
    Unread,
}

impl FileIndex {
    /// Finds the files of a selection and what they hold.
    pub fn find(&self, selection: Selection<'_>) -> Result<Found, Error> {
        let mut walk = Walk {
            index: self,
            selection,
            entries: Vec::new(),
            unread: Vec::new(),
        };
        let mut matches = Vec::with_capacity(selection.include.len());
        for pattern in selection.include {
            let before = walk.entries.len() + walk.unread.len();
            walk.pattern(pattern)?;
            matches.push(walk.entries.len() + walk.unread.len() - before);
        }
        let mut entries = walk.entries;
        entries.extend(self.read_all(&walk.unread)?);
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        entries.dedup_by(|a, b| a.path == b.path);
        Ok(Found { entries, matches })
    }

    /// Returns the paths of what is in a folder, whatever it is; none if there is no such
    /// folder.
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

    /// Looks at one path without reading it; `None` if there is no file or link.
    pub(super) fn look(&self, path: &RelPath) -> Result<Option<Looked>, Error> {
        let Some(parent) = path.parent() else {
            return Ok(None);
        };
        if !self.is_folder(&parent)? {
            return Ok(None);
        }
        let folder = self.folder(&parent);
        let mut folder = lock(&folder);
        self.look_in(&mut folder, path)
    }

    /// Tells whether `path` is a folder with no link on the way to it.
    fn is_folder(&self, path: &RelPath) -> Result<bool, Error> {
        // What was asked before an epoch began, of it or of a folder above, is no answer of
        // that epoch.
        let epoch = self.epoch();
        // The ancestors first, so that each is looked at once and none is a link.
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

    /// Looks at a folder's stamp and forgets its listing if that no longer holds.
    fn check_folder(
        &self,
        folder: &mut Folder,
        path: &RelPath,
        parent_exists: bool,
    ) -> Result<(), Error> {
        let stamp = match parent_exists {
            true => self.stamp(path)?,
            false => None,
        };
        let stamp = stamp.filter(|stamp| stamp.kind() == FileKind::Folder);
        let was_checked = folder.checked != 0;
        folder.racy |= was_checked && folder.exists != stamp.is_some();
        folder.exists = stamp.is_some();
        if !matches!((&folder.listed, &stamp), (Some(look), Some(stamp)) if look.holds(stamp)) {
            folder.racy |= was_checked && folder.listed.is_some();
            folder.listed = None;
        }
        Ok(())
    }

    fn stamp(&self, path: &RelPath) -> Result<Option<Stamp>, Error> {
        Stamp::at(&self.root, path.as_path()).map_err(|source| Error::Io {
            operation: "look at",
            path: path.clone(),
            source,
        })
    }

    /// Lists a folder that was checked, unless its listing is known.
    pub(super) fn list(&self, folder: &mut Folder, path: &RelPath) -> Result<(), Error> {
        if folder.listed.is_some() || !folder.exists {
            return Ok(());
        }
        let at = stamp::now();
        match read_folder(self, path) {
            Ok((stamp, names)) => folder.relist(Look { stamp, at }, names),
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
        self.owe(0);
        Ok(())
    }

    /// Looks at a file in a folder whose lock is held.
    fn look_in(&self, folder: &mut Folder, path: &RelPath) -> Result<Option<Looked>, Error> {
        let epoch = self.epoch();
        let fresh = folder.find(path.name()).filter(|f| f.checked >= epoch);
        if let Some(known) = fresh.and_then(|file| file.known.as_ref()) {
            return Ok(Some(Looked::Known(known.to_entry_kind())));
        }
        let stamp = self.stamp(path)?;
        let stamp = stamp.map(|stamp| (stamp.kind(), stamp));
        let Some((kind @ (FileKind::File | FileKind::Link), stamp)) = stamp else {
            folder.miss(path.name());
            return Ok(None);
        };
        let was_absent = !folder.absent.is_empty() && folder.absent.contains(path.name());
        let file = folder.file(path.name(), kind);
        file.kind = kind;
        file.racy |= was_absent;
        match &file.known {
            Some(known) if known.look.holds(&stamp) && self.is_same_behind(known, path) => {
                file.checked = epoch;
                Ok(Some(Looked::Known(known.to_entry_kind())))
            }
            _ => {
                file.racy |= file.checked != 0;
                Ok(Some(Looked::Unread))
            }
        }
    }

    /// Tells whether what is behind a link is what it was; true for what is no link.
    fn is_same_behind(&self, known: &Known, path: &RelPath) -> bool {
        let Content::Link(link) = &known.content else {
            return true;
        };
        let behind = Stamp::followed(&self.root, path.as_path()).ok().flatten();
        let file = behind.filter(|stamp| stamp.kind() == FileKind::File);
        match (&link.behind, file) {
            (Some((look, _)), Some(stamp)) => look.holds(&stamp),
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
    let stamp = Stamp::of(&open)?;
    let mut names = Names::new();
    for entry in Dir::read_from(&open)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => match Stamp::at(&open, OsStr::from_bytes(name))? {
                Some(stamp) => stamp.kind(),
                None => continue,
            },
            kind => kind.into(),
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
        match self.index.look(path)? {
            Some(looked) => self.push(path.clone(), looked),
            None if self.selection.folders && self.index.is_folder(path)? => {
                self.push(path.clone(), Looked::Known(EntryKind::Folder));
            }
            None => {}
        }
        Ok(())
    }

    /// Takes what matches in one folder and notes the folders below it.
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
                        self.push(child.clone(), Looked::Known(EntryKind::Folder));
                    }
                    if pattern.reaches_into(&child) {
                        pending.push(child);
                    }
                }
                FileKind::File | FileKind::Link if matches => {
                    if let Some(looked) = self.index.look_in(&mut folder, &child)? {
                        self.push(child, looked);
                    }
                }
                FileKind::File | FileKind::Link => {}
            }
        }
        Ok(())
    }

    fn push(&mut self, path: RelPath, looked: Looked) {
        match looked {
            Looked::Known(kind) => self.entries.push(Entry { path, kind }),
            Looked::Unread => self.unread.push(path),
        }
    }

    fn is_excepted(&self, path: &RelPath) -> bool {
        self.selection.except.iter().any(|e| e.matches(path))
    }

    /// Tells whether anything in a folder can be meant. Where folders are told of, one that
    /// is left out is left out with all that is in it.
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
