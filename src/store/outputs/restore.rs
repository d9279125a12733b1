//! Outputs out of a store and into the tree. Nothing in the tree is touched before
//! everything that is needed lies verified in the stage.

use std::collections::{HashMap, HashSet};
use std::fs::File;

use rustix::fs::Mode;
use rustix::io::Errno;

use super::at::{Folders, os};
use super::list::{self, Found};
use super::remove::{Trash, remove};
use super::stage::{Place, Purpose, make_writable, move_to};
use super::{Error, Stage, io, text};
use crate::action::{Entry, EntryKind, OutputSpec};
use crate::buildfile::model::Output;
use crate::digest::Digest;
use crate::path::RelPath;
use crate::stamp::{self, FileKind, Stamp};
use crate::store::{self, Store, check_entries};

/// What came of an attempt to restore.
#[derive(Clone, Debug)]
pub enum Restoration {
    /// The outputs are what they were.
    Done(Restored),
    /// The store has not got this, or not whole. The tree is as it was.
    Miss {
        /// An output that cannot be restored.
        path: RelPath,
        /// Its content.
        digest: Digest,
    },
}

/// What was done to restore outputs.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// How many files and links were written; the others were right already.
    pub written: usize,
    /// How many things were removed because they were not part of the result.
    pub removed: usize,
    /// The files that were written, as they are now.
    pub stamps: Vec<(RelPath, Stamp, Digest)>,
    /// When the first of them was about to be written, in nanoseconds since 1970.
    pub looked_at: i64,
}

/// Makes the declared outputs exactly `wanted`. Files of which `is_intact` says that they
/// are right already, content and executable bit, are not touched; links and folders are
/// looked at here.
///
/// On an error in the tree itself some of it may have been done.
pub fn restore(
    stage: &Stage,
    specs: &[OutputSpec],
    wanted: &[Entry],
    is_intact: &mut dyn FnMut(&Entry) -> bool,
    store: &dyn Store,
) -> Result<Restoration, Error> {
    check_result(specs, wanted)?;
    let mut restore = Restore {
        stage,
        specs,
        folders: Folders::new(stage.root()),
        staged: Vec::new(),
        trash: Trash::new(stage),
        done: Restored {
            looked_at: stamp::now(),
            ..Restored::default()
        },
    };
    for entry in wanted {
        if let Some((path, digest)) = restore.stage_entry(entry, is_intact, store)? {
            return Ok(Restoration::Miss { path, digest });
        }
    }
    restore.clear(wanted)?;
    restore.publish(wanted)?;
    Ok(Restoration::Done(std::mem::take(&mut restore.done)))
}

/// Refuses entries that are no result of `specs`: that contradict each other, have what was
/// not declared, or lack what was.
pub fn check_result(specs: &[OutputSpec], wanted: &[Entry]) -> Result<(), Error> {
    check_entries(wanted)?;
    let is_declared = |entry: &Entry| specs.iter().any(|spec| list::is_declared(spec, entry));
    if let Some(entry) = wanted.iter().find(|entry| !is_declared(entry)) {
        let path = entry.path.clone();
        return Err(Error::Undeclared { path });
    }
    let is_there = |spec: &OutputSpec| wanted.iter().any(|entry| list::fulfils(spec, entry));
    if let Some(spec) = specs.iter().find(|spec| !is_there(spec)) {
        let output = text(&spec.output);
        return Err(Error::Lacking { output });
    }
    Ok(())
}

struct Restore<'a> {
    stage: &'a Stage,
    specs: &'a [OutputSpec],
    folders: Folders<'a>,
    staged: Vec<Staged<'a>>,
    trash: Trash<'a>,
    done: Restored,
}

/// An entry that lies in the stage, ready to be moved.
struct Staged<'a> {
    entry: &'a Entry,
    held: Held,
}

/// How the stage has something.
enum Held {
    /// As an open file without a name.
    Open(File),
    /// By this name.
    Named(String),
}

/// So many files of one result are staged without a name; each is open until it is placed.
const HELD_OPEN: usize = 64;

impl<'a> Restore<'a> {
    /// Stages an entry, unless it is right already; returns what is not in the store.
    fn stage_entry(
        &mut self,
        entry: &'a Entry,
        is_intact: &mut dyn FnMut(&Entry) -> bool,
        store: &dyn Store,
    ) -> Result<Option<(RelPath, Digest)>, Error> {
        match &entry.kind {
            EntryKind::Folder => Ok(None),
            EntryKind::Link { target, .. } => {
                if !self.is_link_to(&entry.path, target) {
                    self.stage_link(entry, target)?;
                }
                Ok(None)
            }
            EntryKind::File { digest, executable } => {
                if is_intact(entry) || self.stage_file(entry, *digest, *executable, store)? {
                    return Ok(None);
                }
                Ok(Some((entry.path.clone(), *digest)))
            }
        }
    }

    fn is_link_to(&mut self, path: &RelPath, target: &[u8]) -> bool {
        // A parent that cannot be opened is dealt with when it is needed.
        let Ok(Some(folder)) = self.folders.open(&path.parent().unwrap_or_default()) else {
            return false;
        };
        let found = rustix::fs::readlinkat(&*folder, os(path.name()), Vec::new());
        found.is_ok_and(|found| found.to_bytes() == target)
    }

    fn stage_link(&mut self, entry: &'a Entry, target: &[u8]) -> Result<(), Error> {
        let folder = self.stage.folder()?;
        let name = loop {
            let name = self.stage.name(Purpose::New);
            match rustix::fs::symlinkat(os(target), &*folder, &*name) {
                Ok(()) => break name,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(self.stage.error("make a link")(error)),
            }
        };
        let held = Held::Named(name);
        self.staged.push(Staged { entry, held });
        Ok(())
    }

    /// Stages a file; `false` when the store cannot give its content.
    fn stage_file(
        &mut self,
        entry: &'a Entry,
        digest: Digest,
        executable: bool,
        store: &dyn Store,
    ) -> Result<bool, Error> {
        let mode = if executable { 0o755 } else { 0o644 };
        let tmpfile = match self.staged.len() < HELD_OPEN {
            true => self.stage.create_unnamed(mode)?,
            false => None,
        };
        let (mut file, name) = match tmpfile {
            Some(file) => (file, None),
            None => self.stage.create(mode)?,
        };
        let copied = store.copy(digest, &mut file);
        let held = name.map_or_else(|| Held::Open(file), Held::Named);
        self.staged.push(Staged { entry, held });
        copied.map_err(|error| match error {
            store::Error::Copy(source) => self.stage.error("write a file")(source),
            error => error.into(),
        })
    }

    /// Moves away what is in an owned folder, or matches a pattern, and is not wanted or
    /// is of another kind.
    fn clear(&mut self, wanted: &[Entry]) -> Result<(), Error> {
        let specs = self.specs;
        if specs
            .iter()
            .all(|spec| matches!(spec.output, Output::File(_)))
        {
            return Ok(());
        }
        let wanted = wanted.iter().map(|e| (&e.path, &e.kind)).collect();
        for spec in specs {
            let mut found = list::list_one(self.stage, spec)?;
            found.sort_unstable();
            // Folders that went, and all that was in them with them.
            let mut gone: HashSet<RelPath> = HashSet::new();
            for found in found {
                let parent = found.path.parent();
                if parent.is_some_and(|parent| gone.contains(&parent)) {
                    gone.insert(found.path);
                } else if is_wanted(&wanted, &found) {
                    self.open_up(&found)?;
                } else if !self.keeps(spec, &found)? {
                    self.discard(&found.path)?;
                    gone.insert(found.path);
                }
            }
        }
        Ok(())
    }

    /// Lets what is in a folder that a command made read-only be changed.
    fn open_up(&mut self, found: &Found) -> Result<(), Error> {
        if found.kind == FileKind::Folder
            && let Some(parent) = self
                .folders
                .open(&found.path.parent().unwrap_or_default())?
        {
            make_writable(Place::new(&*parent, found.path.name()));
        }
        Ok(())
    }

    /// Tells whether something must stay for what is kept in it.
    fn keeps(&self, spec: &OutputSpec, found: &Found) -> Result<bool, Error> {
        let mut walk = list::Walk::new(self.stage, spec);
        Ok(found.kind == FileKind::Folder && walk.holds_kept(&found.path)?)
    }

    fn discard(&mut self, path: &RelPath) -> Result<(), Error> {
        let is_gone = self.trash.take(&mut self.folders, path)?;
        self.done.removed += usize::from(is_gone);
        Ok(())
    }

    /// Moves a folder away that stands where a file or a link must be.
    fn discard_folder(&mut self, entry: &Entry) -> Result<(), Error> {
        let found = Found {
            path: entry.path.clone(),
            kind: FileKind::Folder,
        };
        let mut specs = self.specs.iter();
        let spec = specs.find(|spec| list::is_declared(spec, entry));
        if let Some(spec) = spec
            && self.keeps(spec, &found)?
        {
            let path = found.path;
            return Err(Error::Kept { path });
        }
        self.discard(&found.path)
    }

    fn publish(&mut self, wanted: &[Entry]) -> Result<(), Error> {
        for entry in wanted.iter().filter(|e| e.kind == EntryKind::Folder) {
            self.make_folder(&entry.path)?;
        }
        let mut staged = std::mem::take(&mut self.staged);
        let placed = staged.iter_mut().try_for_each(|staged| self.place(staged));
        if placed.is_err() {
            self.staged = staged;
        }
        placed
    }

    /// Makes an owned folder; what stands there instead goes.
    fn make_folder(&mut self, path: &RelPath) -> Result<(), Error> {
        let parent = self.folders.make(&path.parent().unwrap_or_default())?;
        match rustix::fs::mkdirat(&*parent, os(path.name()), Mode::from(0o777)) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let stamp = Place::new(&*parent, path.name()).stamp();
                let stamp = stamp.map_err(io("look at", path))?;
                if stamp.is_some_and(|stamp| stamp.kind() == FileKind::Folder) {
                    return Ok(());
                }
                self.discard(path)?;
                rustix::fs::mkdirat(&*parent, os(path.name()), Mode::from(0o777))
                    .map_err(io("make the folder", path))
            }
            Err(error) => Err(io("make the folder", path)(error)),
        }
    }

    /// Moves a staged entry to its place.
    fn place(&mut self, staged: &mut Staged<'_>) -> Result<(), Error> {
        let path = &staged.entry.path;
        let parent = self.folders.make(&path.parent().unwrap_or_default())?;
        let to = Place::new(&*parent, path.name());
        if !self.link(staged, to)? {
            self.rename(staged, to)?;
        }
        self.done.written += 1;
        if let EntryKind::File { digest, .. } = staged.entry.kind
            && let Ok(Some(stamp)) = to.stamp()
        {
            self.done.stamps.push((path.clone(), stamp, digest));
        }
        Ok(())
    }

    /// Renames what has a name in the stage to its place, replacing what stands there.
    fn rename(&mut self, staged: &Staged<'_>, to: Place<'_>) -> Result<(), Error> {
        let Held::Named(name) = &staged.held else {
            return Ok(());
        };
        let stage = self.stage.folder()?;
        let from = Place::new(&*stage, name.as_bytes());
        let moved = match move_to(from, to) {
            Err(error) if is_folder_there(&error) => {
                self.discard_folder(staged.entry)?;
                move_to(from, to)
            }
            other => other,
        };
        moved.map_err(io("replace", &staged.entry.path))
    }

    /// Links a file without a name to its place. If something stands there, or it is on
    /// another file system, the file gets a name in the stage instead: then `false`.
    fn link(&self, staged: &mut Staged<'_>, to: Place<'_>) -> Result<bool, Error> {
        let Held::Open(file) = &staged.held else {
            return Ok(false);
        };
        match self.stage.link(file, to) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST | Errno::XDEV) => {
                let name = self.stage.name(Purpose::New);
                let stage = self.stage.folder()?;
                let linked = self.stage.link(file, Place::new(&*stage, name.as_bytes()));
                linked.map_err(self.stage.error("make a file"))?;
                staged.held = Held::Named(name);
                Ok(false)
            }
            Err(error) => Err(io("make", &staged.entry.path)(error)),
        }
    }
}

/// What was staged and not moved to its place is removed, however it ends.
impl Drop for Restore<'_> {
    fn drop(&mut self) {
        for staged in self.staged.drain(..) {
            if let Held::Named(name) = staged.held {
                remove(self.stage, &name);
            }
        }
    }
}

fn is_folder_there(error: &std::io::Error) -> bool {
    error.raw_os_error().map(Errno::from_raw_os_error) == Some(Errno::ISDIR)
}

type Wanted<'a> = HashMap<&'a RelPath, &'a EntryKind>;

fn is_wanted(wanted: &Wanted<'_>, found: &Found) -> bool {
    let kind = match wanted.get(&found.path) {
        Some(EntryKind::File { .. }) => FileKind::File,
        Some(EntryKind::Link { .. }) => FileKind::Link,
        Some(EntryKind::Folder) => FileKind::Folder,
        None => return false,
    };
    // What replaces a file or a link does so in one step, and must not be gone before.
    let is_leaf = |kind| matches!(kind, FileKind::File | FileKind::Link);
    kind == found.kind || is_leaf(kind) && is_leaf(found.kind)
}
