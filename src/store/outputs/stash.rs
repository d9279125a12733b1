//! Stashes a target's old outputs before its commands run, and restores them if they fail.
//!
//! Outputs that fbuild made go to the stage, where losing them costs time. Files of the user
//! and committed outputs go to a pending batch of the trash, which survives the deletion of
//! the state.

use rustix::fs::Mode;

use super::claim::{Claims, ForeignFiles, Survey, movable};
use super::dirs::{Folders, os};
use super::list::{TreeEntry, Walk, list_one};
use super::moves::{EntryAt, move_to};
use super::remove::{RemovalQueue, remove};
use super::stage::Purpose;
use super::trash::{Batch, move_out};
use super::unchanged::UnchangedFiles;
use super::{Error, Stage, io as io_error};
use crate::action::OutputSpec;
use crate::buildfile::model::Output;
use crate::path::RelPath;
use crate::stamp::FileKind;

/// Old outputs, moved out of the way of a command. Dropping it restores them.
#[derive(Debug)]
#[must_use = "dropping it restores the old outputs"]
pub struct Stash {
    stage: Stage,
    specs: Vec<OutputSpec>,
    entries: Vec<StashedEntry>,
    batch: Option<Batch>,
    /// Owned folders that were created.
    created: Vec<RelPath>,
    /// Read-only owned folders that were made writable, with their modes.
    modes: Vec<(RelPath, u32)>,
    is_finished: bool,
}

/// A stashed entry; a folder with all its content.
#[derive(Debug)]
struct StashedEntry {
    /// The path in the tree.
    path: RelPath,
    place: Place,
    is_folder: bool,
    is_committed: bool,
    /// Whether fbuild made it.
    is_owned: bool,
}

/// The place of a stashed entry.
#[derive(Debug)]
enum Place {
    /// In the stage, under this name.
    Stage(Vec<u8>),
    /// In the batch, under its path.
    Batch,
}

/// The changes of a successful target to old files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FinishedStash {
    /// The number of unchanged committed files that were reinstated.
    pub reinstated: usize,
    /// The files that are in the trash now, sorted.
    pub trashed: Vec<RelPath>,
}

impl Stash {
    /// Moves the current outputs out of the way: files, matches of patterns and the entries
    /// of owned folders, except kept ones. Then creates the owned folders, and the parents of
    /// files and matches.
    ///
    /// If any of them is foreign, changes nothing and returns [`Error::Foreign`]. If one
    /// cannot be moved, those moved before are restored.
    pub fn take(stage: &Stage, specs: &[OutputSpec], claims: &dyn Claims) -> Result<Self, Error> {
        let mut folders = Folders::new(stage.root());
        let surveys = survey_all(stage, &mut folders, specs, claims)?;
        let mut stash = Self {
            stage: stage.clone(),
            specs: specs.to_vec(),
            entries: Vec::new(),
            batch: None,
            created: Vec::new(),
            modes: Vec::new(),
            is_finished: false,
        };
        let taken = specs
            .iter()
            .zip(surveys)
            .try_for_each(|(spec, survey)| stash.take_output(&mut folders, spec, survey));
        if let Err(error) = taken {
            // No command has run, so there are no new outputs to remove. If this fails, the
            // next run recovers the entries.
            stash.is_finished = true;
            let _ = stash.move_old_back();
            return Err(error);
        }
        Ok(stash)
    }

    /// Removes the new outputs and restores the old ones, after the command failed or was
    /// stopped.
    pub fn restore(mut self) -> Result<(), Error> {
        self.is_finished = true;
        self.restore_all()
    }

    /// Keeps the new outputs, after the command succeeded. Old outputs that fbuild made are
    /// removed, other old files stay in the trash. Reinstates old files of `committed`
    /// outputs if the new ones are equal, so that version control and other tools see no
    /// change.
    pub fn finish(mut self) -> Result<FinishedStash, Error> {
        self.is_finished = true;
        let reinstated = self.reinstate_unchanged();
        let trashed = self.remove_owned();
        Ok(FinishedStash {
            reinstated: reinstated?,
            trashed: trashed?,
        })
    }

    fn reinstate_unchanged(&self) -> Result<usize, Error> {
        let Some(batch) = &self.batch else {
            return Ok(0);
        };
        let mut unchanged = UnchangedFiles {
            old: Folders::new(&batch.folder),
            new: Folders::new(self.stage.root()),
            reinstated: 0,
        };
        for entry in self.entries.iter().filter(|entry| entry.is_committed) {
            if entry.is_folder {
                unchanged.reinstate_below(&entry.path, &entry.path)?;
            } else {
                unchanged.reinstate(&entry.path, &entry.path)?;
            }
        }
        Ok(unchanged.reinstated)
    }

    /// Removes the old outputs that fbuild made; returns the other files, which stay in the
    /// trash.
    fn remove_owned(&mut self) -> Result<Vec<RelPath>, Error> {
        for entry in self.entries.iter().filter(|entry| entry.is_owned) {
            // Ignore errors: the next run empties the stage, and more than necessary may stay
            // in the trash.
            let _ = self.remove_entry(entry);
        }
        self.batch.take().map_or(Ok(Vec::new()), Batch::close)
    }

    fn remove_entry(&self, entry: &StashedEntry) -> Result<(), Error> {
        let stage = self.stage.folder()?;
        let stashed_parent;
        let stashed = match (&entry.place, &self.batch) {
            (Place::Stage(name), _) => EntryAt::new(&*stage, name),
            (Place::Batch, Some(batch)) => {
                let mut folders = Folders::new(&batch.folder);
                let parent = folders.open(&entry.path.parent().unwrap_or_default())?;
                let Some(parent) = parent else { return Ok(()) };
                stashed_parent = parent;
                EntryAt::new(&*stashed_parent, entry.path.name())
            }
            (Place::Batch, None) => return Ok(()),
        };
        if entry.is_folder || stashed.remove_file().is_err() {
            // Rename the folder first: if the process is killed while removing it, the next
            // run must not restore the rest.
            let name = self.stage.name(Purpose::Trash);
            if move_to(stashed, EntryAt::new(&*stage, name.as_bytes())).is_ok() {
                remove(&self.stage, &name);
            }
        }
        Ok(())
    }

    /// Moves the entries of one declared output out of the way and creates its folder.
    fn take_output(
        &mut self,
        folders: &mut Folders<'_>,
        spec: &OutputSpec,
        survey: Survey,
    ) -> Result<(), Error> {
        let folder = match &spec.output {
            Output::File(path) | Output::Folder(path) => path.parent().unwrap_or_default(),
            Output::Glob(pattern) => pattern.folder().clone(),
        };
        folders.make(&folder)?;
        self.note_mode(folders, spec)?;
        for (entries, is_owned) in [(survey.owned, true), (survey.precious, false)] {
            for found in entries {
                self.take_entry(folders, spec, &found, is_owned)?;
            }
        }
        for path in &survey.emptied {
            remove_folder(folders, path);
        }
        if let Output::Folder(path) = &spec.output {
            self.create_folder(folders, path)?;
        }
        Ok(())
    }

    /// Notes the mode of a read-only owned folder, which moving its entries changes.
    fn note_mode(&mut self, folders: &mut Folders<'_>, spec: &OutputSpec) -> Result<(), Error> {
        if let Output::Folder(path) = &spec.output
            && let Some(folder) = folders.open(&path.parent().unwrap_or_default())?
            && let Ok(Some(stamp)) = EntryAt::new(&*folder, path.name()).stamp()
            && stamp.kind() == FileKind::Folder
            && stamp.mode & 0o700 != 0o700
        {
            self.modes.push((path.clone(), stamp.mode));
        }
        Ok(())
    }

    fn create_folder(&mut self, folders: &mut Folders<'_>, path: &RelPath) -> Result<(), Error> {
        let Some(parent) = folders.open(&path.parent().unwrap_or_default())? else {
            return Ok(());
        };
        match rustix::fs::mkdirat(&*parent, os(path.name()), Mode::from(0o777)) {
            Ok(()) => self.created.push(path.clone()),
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(io_error("make the folder", path)(error)),
        }
        Ok(())
    }

    /// Moves one entry out of the way.
    fn take_entry(
        &mut self,
        folders: &mut Folders<'_>,
        spec: &OutputSpec,
        found: &TreeEntry,
        is_owned: bool,
    ) -> Result<(), Error> {
        let mut pending = vec![found.clone()];
        while let Some(found) = pending.pop() {
            match self.move_entry(folders, spec, &found, is_owned) {
                // The folder is a mount point, so only its entries can be moved.
                Err(error) if found.kind == FileKind::Folder && error.is_busy() => {
                    let mut walk = Walk::new(&self.stage, spec);
                    pending.extend(walk.children(&found.path)?);
                }
                other => other?,
            }
        }
        Ok(())
    }

    fn move_entry(
        &mut self,
        folders: &mut Folders<'_>,
        spec: &OutputSpec,
        found: &TreeEntry,
        is_owned: bool,
    ) -> Result<(), Error> {
        let path = &found.path;
        let place = if is_owned && !spec.committed {
            self.move_to_stage(folders, path)?
        } else {
            self.move_to_batch(folders, path)?
        };
        self.entries.extend(place.map(|place| StashedEntry {
            path: path.clone(),
            place,
            is_folder: found.kind == FileKind::Folder,
            is_committed: spec.committed,
            is_owned,
        }));
        Ok(())
    }

    /// Moves an entry to the stage; `None` if it does not exist, because another output of
    /// the target includes it.
    fn move_to_stage(
        &self,
        folders: &mut Folders<'_>,
        path: &RelPath,
    ) -> Result<Option<Place>, Error> {
        let Some(from) = folders.open(&path.parent().unwrap_or_default())? else {
            return Ok(None);
        };
        folders.forget(path);
        let stage = self.stage.folder()?;
        let name = self.stage.stash_name(path);
        let from = EntryAt::new(&*from, path.name());
        match move_to(from, EntryAt::new(&*stage, &name)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("stash", path)(error)),
            Ok(()) => Ok(Some(Place::Stage(name))),
        }
    }

    fn move_to_batch(
        &mut self,
        folders: &mut Folders<'_>,
        path: &RelPath,
    ) -> Result<Option<Place>, Error> {
        if self.batch.is_none() {
            self.batch = Some(self.stage.trash().begin()?);
        }
        let Some(batch) = &self.batch else {
            return Ok(None);
        };
        Ok(batch.take(folders, path)?.then_some(Place::Batch))
    }

    fn restore_all(&mut self) -> Result<(), Error> {
        let removed = self.remove_new();
        self.move_old_back().and(removed)
    }

    /// Moves the old outputs to their paths.
    fn move_old_back(&mut self) -> Result<(), Error> {
        let root = self.stage.root().clone();
        let mut folders = Folders::new(&root);
        for path in self.created.drain(..).rev() {
            // A folder with kept entries stays.
            remove_folder(&mut folders, &path);
        }
        let mut moved = Ok(());
        for entry in std::mem::take(&mut self.entries).into_iter().rev() {
            moved = self.move_back(&mut folders, &entry).and(moved);
        }
        for (path, mode) in self.modes.drain(..).rev() {
            set_mode(&mut folders, &path, mode);
        }
        // Files whose path is not free stay in the trash.
        let closed = self.batch.take().map_or(Ok(Vec::new()), Batch::close);
        moved.and(closed.map(drop))
    }

    fn move_back(&self, folders: &mut Folders<'_>, entry: &StashedEntry) -> Result<(), Error> {
        match (&entry.place, &self.batch) {
            (Place::Stage(name), _) => {
                let stage = self.stage.folder()?;
                move_back(EntryAt::new(&*stage, name), folders, &entry.path)
            }
            (Place::Batch, Some(batch)) => {
                let is_moved = move_out(&mut Folders::new(&batch.folder), &entry.path, folders)?;
                if is_moved {
                    return Ok(());
                }
                Err(io_error("restore", &entry.path)(rustix::io::Errno::EXIST))
            }
            (Place::Batch, None) => Ok(()),
        }
    }

    /// Removes the new outputs.
    fn remove_new(&self) -> Result<(), Error> {
        let mut folders = Folders::new(self.stage.root());
        let mut queue = RemovalQueue::new(&self.stage);
        for spec in &self.specs {
            match &spec.output {
                Output::File(path) => drop(queue.take(&mut folders, path)?),
                Output::Glob(_) => {
                    for found in list_one(&self.stage, spec)? {
                        queue.take(&mut folders, &found.path)?;
                    }
                }
                Output::Folder(path) => {
                    if !is_folder(&mut folders, path)? {
                        queue.take(&mut folders, path)?;
                        continue;
                    }
                    for found in movable(&self.stage, spec, path)? {
                        queue.take(&mut folders, &found.path)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Drop for Stash {
    fn drop(&mut self) {
        if !self.is_finished {
            // Ignore the error: there is no caller, and the next run recovers the entries.
            let _ = self.restore_all();
        }
    }
}

/// Moves an entry from the stage to its path in the tree.
pub(super) fn move_back(
    from: EntryAt<'_>,
    folders: &mut Folders<'_>,
    path: &RelPath,
) -> Result<(), Error> {
    let to = folders.make(&path.parent().unwrap_or_default())?;
    let to = EntryAt::new(&*to, path.name());
    move_to(from, to).map_err(io_error("restore", path))
}

fn is_folder(folders: &mut Folders<'_>, path: &RelPath) -> Result<bool, Error> {
    let Some(parent) = folders.open(&path.parent().unwrap_or_default())? else {
        return Ok(false);
    };
    let stamp = EntryAt::new(&*parent, path.name()).stamp();
    let stamp = stamp.map_err(io_error("stat", path))?;
    Ok(stamp.is_some_and(|stamp| stamp.kind() == FileKind::Folder))
}

/// Surveys the current entries of all outputs; an error if any is foreign.
pub(super) fn survey_all(
    stage: &Stage,
    folders: &mut Folders<'_>,
    specs: &[OutputSpec],
    claims: &dyn Claims,
) -> Result<Vec<Survey>, Error> {
    let mut surveys = Vec::with_capacity(specs.len());
    let mut foreign = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let mut survey = Survey::of(stage, folders, spec, claims)?;
        if !survey.foreign.is_empty() {
            let paths = std::mem::take(&mut survey.foreign);
            foreign.push(ForeignFiles::new(index, spec, paths));
        }
        surveys.push(survey);
    }
    if foreign.is_empty() {
        return Ok(surveys);
    }
    Err(Error::Foreign(foreign))
}

/// Removes a folder. Errors are ignored: one that is not empty stays.
pub(super) fn remove_folder(folders: &mut Folders<'_>, path: &RelPath) {
    if let Ok(Some(parent)) = folders.open(&path.parent().unwrap_or_default()) {
        folders.forget(path);
        let _ = EntryAt::new(&*parent, path.name()).remove_folder();
    }
}

/// Sets the mode of a folder. Errors are ignored: the folder then stays writable.
fn set_mode(folders: &mut Folders<'_>, path: &RelPath, mode: u32) {
    if let Ok(Some(folder)) = folders.open(path) {
        let _ = rustix::fs::fchmod(&*folder, Mode::from_raw_mode(mode & 0o7777));
    }
}
