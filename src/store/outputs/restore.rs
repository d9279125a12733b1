//! Restores outputs from a store. It changes nothing in the tree until all new content is
//! verified and in the stage.

use std::collections::{HashMap, HashSet};
use std::fs::File;

use rustix::fs::Mode;
use rustix::io::Errno;

use super::claim::{Claim, Claims};
use super::dirs::{Folders, os};
use super::list::{self, TreeEntry};
use super::moves::{EntryAt, make_writable, move_to};
use super::remove::{RemovalQueue, remove};
use super::stage::Purpose;
use super::stash::survey_all;
use super::trash::{Batch, move_out};
use super::{Error, Stage, io, text};
use crate::action::{Entry, EntryKind, OutputSpec};
use crate::buildfile::model::Output;
use crate::digest::Digest;
use crate::path::RelPath;
use crate::stamp::{self, FileKind, FileMode, Stamp};
use crate::store::{self, Store, check_entries, tmpfile};

/// Declared outputs and the tree that they are in.
#[derive(Clone, Copy)]
pub struct Destination<'a> {
    /// The tree.
    pub stage: &'a Stage,
    /// The declared outputs.
    pub specs: &'a [OutputSpec],
    /// Decides what may happen to existing entries.
    pub claims: &'a dyn Claims,
}

/// The result of a restore.
#[derive(Clone, Debug)]
pub enum Restoration {
    /// The outputs are equal to the result.
    Done(RestoredOutputs),
    /// A blob is missing or damaged. The tree has not changed.
    Miss {
        /// The output.
        path: RelPath,
        /// The digest of its content.
        digest: Digest,
    },
}

/// The changes made by a restore.
#[derive(Clone, Debug, Default)]
pub struct RestoredOutputs {
    /// The number of files and links written; the others were intact.
    pub written: usize,
    /// The number of entries removed because they are not part of the result.
    pub removed: usize,
    /// The stamps of the files written.
    pub stamps: Vec<(RelPath, Stamp, Digest)>,
    /// The time before the first file was written, in nanoseconds since 1970.
    pub looked_at: i64,
    /// The files moved to the trash, sorted.
    pub trashed: Vec<RelPath>,
}

/// Makes the declared outputs equal to `wanted`. Does not write files for which `is_intact`
/// returns true: their content and executable bit are right. Links and folders are checked
/// here.
///
/// Entries that are replaced or removed go to the trash if they are precious. If one is
/// foreign, changes nothing and returns [`Error::Foreign`]. After another error in the tree,
/// some changes may have been made.
pub fn restore(
    destination: &Destination<'_>,
    wanted: &[Entry],
    is_intact: &mut dyn FnMut(&Entry) -> bool,
    store: &dyn Store,
) -> Result<Restoration, Error> {
    let Destination {
        stage,
        specs,
        claims,
    } = *destination;
    check_result(specs, wanted)?;
    let mut restore = Restore {
        stage,
        specs,
        folders: Folders::new(stage.root()),
        staged: Vec::new(),
        queue: RemovalQueue::new(stage),
        batch: None,
        moved: Vec::new(),
        done: RestoredOutputs {
            looked_at: stamp::now(),
            ..RestoredOutputs::default()
        },
    };
    for entry in wanted {
        if let Some((path, digest)) = restore.stage_entry(entry, is_intact, store)? {
            return Ok(Restoration::Miss { path, digest });
        }
    }
    restore.secure(wanted, claims)?;
    restore.clear(wanted)?;
    restore.publish(wanted)?;
    if let Some(batch) = restore.batch.take() {
        restore.done.trashed = batch.close()?;
    }
    Ok(Restoration::Done(std::mem::take(&mut restore.done)))
}

/// Refuses entries that contradict each other, are not declared by `specs`, or lack a
/// declared output.
pub fn check_result(specs: &[OutputSpec], wanted: &[Entry]) -> Result<(), Error> {
    check_entries(wanted)?;
    let is_declared = |entry: &Entry| specs.iter().any(|spec| list::is_declared(spec, entry));
    if let Some(entry) = wanted.iter().find(|entry| !is_declared(entry)) {
        let path = entry.path.clone();
        return Err(Error::Undeclared { path });
    }
    for spec in specs {
        if !wanted.iter().any(|entry| list::satisfies(spec, entry)) {
            let output = text(&spec.output);
            return Err(Error::Lacking { output });
        }
    }
    Ok(())
}

struct Restore<'a> {
    stage: &'a Stage,
    specs: &'a [OutputSpec],
    folders: Folders<'a>,
    staged: Vec<StagedEntry<'a>>,
    queue: RemovalQueue<'a>,
    /// Files of the user that were replaced.
    batch: Option<Batch>,
    /// The paths of the units moved to the batch.
    moved: Vec<RelPath>,
    done: RestoredOutputs,
}

/// An entry in the stage, ready to be moved.
struct StagedEntry<'a> {
    entry: &'a Entry,
    staged_as: StagedAs,
}

/// The form of an entry in the stage.
enum StagedAs {
    /// A file without a name.
    OpenFile(File),
    /// An entry with this name.
    Named(String),
}

/// The maximum number of files of one result staged without a name; each stays open until it
/// is moved.
const MAX_OPEN_FILES: usize = 64;

impl<'a> Restore<'a> {
    /// Stages an entry unless it is intact. Returns the path and digest of a missing blob.
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
            EntryKind::File { digest, mode } => {
                if is_intact(entry) || self.stage_file(entry, *digest, *mode, store)? {
                    return Ok(None);
                }
                Ok(Some((entry.path.clone(), *digest)))
            }
        }
    }

    fn is_link_to(&mut self, path: &RelPath, target: &[u8]) -> bool {
        // If the parent cannot be opened, moving the link there reports the error.
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
        let staged_as = StagedAs::Named(name);
        self.staged.push(StagedEntry { entry, staged_as });
        Ok(())
    }

    /// Stages a file; false if its blob is missing or damaged.
    fn stage_file(
        &mut self,
        entry: &'a Entry,
        digest: Digest,
        mode: FileMode,
        store: &dyn Store,
    ) -> Result<bool, Error> {
        // The umask may take more bits away, so the file is never wider than the original.
        let mode = u32::from(mode.bits()) & 0o777;
        let tmpfile = if self.staged.len() < MAX_OPEN_FILES {
            self.stage.create_anonymous(mode)?
        } else {
            None
        };
        let (mut file, name) = match tmpfile {
            Some(file) => (file, None),
            None => {
                let (file, name) = self.stage.create(mode)?;
                (file, Some(name))
            }
        };
        let copied = store.copy(digest, &mut file);
        let staged_as = name.map_or_else(|| StagedAs::OpenFile(file), StagedAs::Named);
        self.staged.push(StagedEntry { entry, staged_as });
        copied.map_err(|error| match error {
            store::Error::Copy(source) => self.stage.error("write a file")(source),
            error => error.into(),
        })
    }

    /// Moves precious entries that would be replaced or removed to the trash; an error if one
    /// is foreign.
    fn secure(&mut self, wanted: &[Entry], claims: &dyn Claims) -> Result<(), Error> {
        let staged: HashSet<&RelPath> = self.staged.iter().map(|s| &s.entry.path).collect();
        let intact: HashSet<&RelPath> = wanted
            .iter()
            .filter(|entry| entry.kind != EntryKind::Folder && !staged.contains(&entry.path))
            .map(|entry| &entry.path)
            .collect();
        let claims = ExceptIntact {
            intact: &intact,
            claims,
        };
        let surveys = survey_all(self.stage, &mut self.folders, self.specs, &claims)?;
        for found in surveys.into_iter().flat_map(|survey| survey.precious) {
            if self.batch.is_none() {
                self.batch = Some(self.stage.trash().begin()?);
            }
            if let Some(batch) = &self.batch
                && batch.take(&mut self.folders, &found.path)?
            {
                self.done.removed += usize::from(!staged.contains(&found.path));
                self.moved.push(found.path);
            }
        }
        Ok(())
    }

    /// Removes entries of owned folders and matches of patterns that are not wanted or of
    /// another kind.
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
            // Removed folders, and all paths below them.
            let mut gone: HashSet<RelPath> = HashSet::new();
            for found in found {
                let parent = found.path.parent();
                if parent.is_some_and(|parent| gone.contains(&parent)) {
                    gone.insert(found.path);
                } else if is_wanted(&wanted, &found) {
                    self.make_folder_writable(&found)?;
                } else if !self.keeps(spec, &found)? {
                    self.discard(&found.path)?;
                    gone.insert(found.path);
                }
            }
        }
        Ok(())
    }

    /// Makes a folder writable that a command has made read-only.
    fn make_folder_writable(&mut self, found: &TreeEntry) -> Result<(), Error> {
        if found.kind == FileKind::Folder
            && let Some(parent) = self
                .folders
                .open(&found.path.parent().unwrap_or_default())?
        {
            make_writable(EntryAt::new(&*parent, found.path.name()));
        }
        Ok(())
    }

    /// Returns true if an entry is a folder with kept entries.
    fn keeps(&self, spec: &OutputSpec, found: &TreeEntry) -> Result<bool, Error> {
        let mut walk = list::Walk::new(self.stage, spec);
        Ok(found.kind == FileKind::Folder && walk.holds_kept(&found.path)?)
    }

    fn discard(&mut self, path: &RelPath) -> Result<(), Error> {
        let has_existed = self.queue.take(&mut self.folders, path)?;
        self.done.removed += usize::from(has_existed);
        Ok(())
    }

    /// Removes a folder that is in the place of a file or link.
    fn discard_folder(&mut self, entry: &Entry) -> Result<(), Error> {
        let found = TreeEntry {
            path: entry.path.clone(),
            kind: FileKind::Folder,
        };
        let spec = self
            .specs
            .iter()
            .find(|spec| list::is_declared(spec, entry));
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

    /// Creates an owned folder, replacing a file or link.
    fn make_folder(&mut self, path: &RelPath) -> Result<(), Error> {
        let parent = self.folders.make(&path.parent().unwrap_or_default())?;
        match rustix::fs::mkdirat(&*parent, os(path.name()), Mode::from(0o777)) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let stamp = EntryAt::new(&*parent, path.name()).stamp();
                let stamp = stamp.map_err(io("stat", path))?;
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

    /// Moves a staged entry to its path.
    fn place(&mut self, staged: &mut StagedEntry<'_>) -> Result<(), Error> {
        let path = &staged.entry.path;
        let parent = self.folders.make(&path.parent().unwrap_or_default())?;
        let to = EntryAt::new(&*parent, path.name());
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

    /// Renames a named entry of the stage to its path, replacing what is there.
    fn rename(&mut self, staged: &StagedEntry<'_>, to: EntryAt<'_>) -> Result<(), Error> {
        let StagedAs::Named(name) = &staged.staged_as else {
            return Ok(());
        };
        let stage = self.stage.folder()?;
        let from = EntryAt::new(&*stage, name.as_bytes());
        let moved = match move_to(from, to) {
            Err(error) if is_replacing_folder(&error) => {
                self.discard_folder(staged.entry)?;
                move_to(from, to)
            }
            other => other,
        };
        moved.map_err(io("replace", &staged.entry.path))
    }

    /// Links a file without a name to its path. If the path exists or is on another file
    /// system, links it into the stage instead and returns false.
    fn link(&self, staged: &mut StagedEntry<'_>, to: EntryAt<'_>) -> Result<bool, Error> {
        let StagedAs::OpenFile(file) = &staged.staged_as else {
            return Ok(false);
        };
        match self.stage.link(file, to) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST | Errno::XDEV) => {
                let name = self.stage.name(Purpose::New);
                let stage = self.stage.folder()?;
                let linked = self
                    .stage
                    .link(file, EntryAt::new(&*stage, name.as_bytes()));
                linked.map_err(self.stage.error("make a file"))?;
                staged.staged_as = StagedAs::Named(name);
                Ok(false)
            }
            Err(error) if tmpfile::is_refused(error) => {
                staged.staged_as = StagedAs::Named(self.copy_with_name(file)?);
                Ok(false)
            }
            Err(error) => Err(io("make", &staged.entry.path)(error)),
        }
    }

    /// Copies a file without a name to one in the stage; returns its name.
    fn copy_with_name(&self, file: &File) -> Result<String, Error> {
        let mode = rustix::fs::fstat(file).map_err(self.stage.error("make a file"))?;
        let (mut copy, name) = self.stage.create(mode.st_mode & 0o7777)?;
        tmpfile::copy(file, &mut copy).map_err(self.stage.error("write a file"))?;
        Ok(name)
    }
}

/// Claims entries that a restore does not change as owned.
struct ExceptIntact<'a> {
    intact: &'a HashSet<&'a RelPath>,
    claims: &'a dyn Claims,
}

impl Claims for ExceptIntact<'_> {
    fn claim(&self, spec: &OutputSpec, path: &RelPath, kind: FileKind) -> Claim {
        if self.intact.contains(path) {
            return Claim::Owned;
        }
        self.claims.claim(spec, path, kind)
    }
}

/// After an error, returns files from the trash to their paths if those are free. Removes
/// entries that are still in the stage.
impl Drop for Restore<'_> {
    fn drop(&mut self) {
        if let Some(batch) = self.batch.take() {
            let mut folders = Folders::new(&batch.folder);
            for path in &self.moved {
                // Ignore the error: the file stays in the trash.
                let _ = move_out(&mut folders, path, &mut self.folders);
            }
            drop(folders);
            let _ = batch.close();
        }
        for staged in self.staged.drain(..) {
            if let StagedAs::Named(name) = staged.staged_as {
                remove(self.stage, &name);
            }
        }
    }
}

fn is_replacing_folder(error: &std::io::Error) -> bool {
    error.raw_os_error().map(Errno::from_raw_os_error) == Some(Errno::ISDIR)
}

type Wanted<'a> = HashMap<&'a RelPath, &'a EntryKind>;

fn is_wanted(wanted: &Wanted<'_>, found: &TreeEntry) -> bool {
    let kind = match wanted.get(&found.path) {
        Some(EntryKind::File { .. }) => FileKind::File,
        Some(EntryKind::Link { .. }) => FileKind::Link,
        Some(EntryKind::Folder) => FileKind::Folder,
        None => return false,
    };
    // Files and links are replaced by an atomic rename, so the old one must not go before.
    let is_leaf = |kind| matches!(kind, FileKind::File | FileKind::Link);
    kind == found.kind || is_leaf(kind) && is_leaf(found.kind)
}
