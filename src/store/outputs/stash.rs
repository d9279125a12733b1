//! Stashes a target's old outputs before its commands run, and restores them if they fail.
//! It reads no file content, except to reinstate unchanged committed files.

use rustix::fs::Mode;

use super::dirs::{Folders, os};
use super::list::{TreeEntry, Walk, list_one};
use super::remove::{Trash, remove};
use super::stage::{EntryAt, Purpose, move_to};
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
    /// Owned folders that were created.
    created: Vec<RelPath>,
    is_finished: bool,
}

/// An entry moved into the stage; a folder with all its content.
#[derive(Debug)]
struct StashedEntry {
    /// The path in the tree.
    path: RelPath,
    /// The name in the stage.
    name: Vec<u8>,
    is_folder: bool,
    is_committed: bool,
}

impl Stash {
    /// Moves the current outputs into the stage: files, matches of patterns and the entries of
    /// owned folders, except kept ones. Then creates the owned folders, and the parents of
    /// files and matches.
    ///
    /// If an output cannot be moved, those moved before are restored.
    pub fn take(stage: &Stage, specs: &[OutputSpec]) -> Result<Self, Error> {
        let mut stash = Self {
            stage: stage.clone(),
            specs: specs.to_vec(),
            entries: Vec::new(),
            created: Vec::new(),
            is_finished: false,
        };
        let mut folders = Folders::new(stage.root());
        let taken = specs
            .iter()
            .try_for_each(|spec| stash.take_output(&mut folders, spec));
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

    /// Keeps the new outputs and removes the old ones, after the command succeeded. Reinstates
    /// old files of `committed` outputs if the new ones are equal, so that version control and
    /// other tools see no change; returns their number.
    pub fn finish(mut self) -> Result<usize, Error> {
        self.is_finished = true;
        let reinstated = self.reinstate_unchanged();
        self.remove_old();
        reinstated
    }

    fn reinstate_unchanged(&self) -> Result<usize, Error> {
        if !self.entries.iter().any(|entry| entry.is_committed) {
            return Ok(0);
        }
        let stage = self.stage.folder()?;
        let mut unchanged = UnchangedFiles {
            old: Folders::new(&stage),
            new: Folders::new(self.stage.root()),
            reinstated: 0,
        };
        for entry in self.entries.iter().filter(|entry| entry.is_committed) {
            let name = RelPath::new(&entry.name).unwrap_or_default();
            if entry.is_folder {
                unchanged.reinstate_below(&name, &entry.path)?;
            } else {
                unchanged.reinstate(&name, &entry.path)?;
            }
        }
        Ok(unchanged.reinstated)
    }

    /// Removes the old outputs.
    pub fn discard(mut self) {
        self.is_finished = true;
        self.remove_old();
    }

    fn remove_old(&self) {
        if self.entries.is_empty() {
            return;
        }
        let Ok(stage) = self.stage.folder() else {
            return;
        };
        for entry in &self.entries {
            let stashed = EntryAt::new(&*stage, &entry.name);
            if entry.is_folder || stashed.remove_file().is_err() {
                // Rename the folder first: if the process is killed while removing it, the
                // next run must not restore the rest.
                let trash = self.stage.name(Purpose::Trash);
                if move_to(stashed, EntryAt::new(&*stage, trash.as_bytes())).is_ok() {
                    remove(&self.stage, &trash);
                }
            }
        }
    }

    /// Moves the current entries of one declared output into the stage.
    fn take_output(&mut self, folders: &mut Folders<'_>, spec: &OutputSpec) -> Result<(), Error> {
        match &spec.output {
            Output::File(path) => {
                let parent = folders.make(&path.parent().unwrap_or_default())?;
                let stamp = EntryAt::new(&*parent, path.name()).stamp();
                if let Some(stamp) = stamp.map_err(io_error("stat", path))? {
                    let kind = stamp.kind();
                    self.take_entry(folders, path, kind, spec)?;
                }
                Ok(())
            }
            Output::Glob(pattern) => {
                folders.make(pattern.folder())?;
                for found in list_one(&self.stage, spec)? {
                    self.take_entry(folders, &found.path, found.kind, spec)?;
                }
                Ok(())
            }
            Output::Folder(path) => self.empty_folder(folders, path, spec),
        }
    }

    /// Empties an owned folder, or creates it.
    fn empty_folder(
        &mut self,
        folders: &mut Folders<'_>,
        path: &RelPath,
        spec: &OutputSpec,
    ) -> Result<(), Error> {
        let parent = folders.make(&path.parent().unwrap_or_default())?;
        let stamp = EntryAt::new(&*parent, path.name()).stamp();
        let stamp = stamp.map_err(io_error("stat", path))?;
        match stamp.map(|stamp| stamp.kind()) {
            Some(FileKind::Folder) => {
                for found in movable(&self.stage, spec, path)? {
                    self.take_entry(folders, &found.path, found.kind, spec)?;
                }
                return Ok(());
            }
            Some(kind) => self.take_entry(folders, path, kind, spec)?,
            None => {}
        }
        rustix::fs::mkdirat(&*parent, os(path.name()), Mode::from(0o777))
            .map_err(io_error("make the folder", path))?;
        self.created.push(path.clone());
        Ok(())
    }

    /// Moves one entry into the stage.
    fn take_entry(
        &mut self,
        folders: &mut Folders<'_>,
        path: &RelPath,
        kind: FileKind,
        spec: &OutputSpec,
    ) -> Result<(), Error> {
        let Some(from) = folders.open(&path.parent().unwrap_or_default())? else {
            return Ok(());
        };
        folders.forget(path);
        let stage = self.stage.folder()?;
        let name = self.stage.stash_name(path);
        let (from, to) = (
            EntryAt::new(&*from, path.name()),
            EntryAt::new(&*stage, &name),
        );
        move_to(from, to).map_err(io_error("stash", path))?;
        self.entries.push(StashedEntry {
            path: path.clone(),
            name,
            is_folder: kind == FileKind::Folder,
            is_committed: spec.committed,
        });
        Ok(())
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
            if let Ok(Some(parent)) = folders.open(&path.parent().unwrap_or_default()) {
                folders.forget(&path);
                // Ignore the error: a folder with kept entries stays.
                let _ = EntryAt::new(&*parent, path.name()).remove_folder();
            }
        }
        if self.entries.is_empty() {
            return Ok(());
        }
        let stage = self.stage.folder()?;
        let mut moved = Ok(());
        for entry in self.entries.drain(..).rev() {
            let from = EntryAt::new(&*stage, &entry.name);
            moved = move_back(from, &mut folders, &entry.path).and(moved);
        }
        moved
    }

    /// Removes the new outputs.
    fn remove_new(&self) -> Result<(), Error> {
        let mut folders = Folders::new(self.stage.root());
        let mut trash = Trash::new(&self.stage);
        for spec in &self.specs {
            match &spec.output {
                Output::File(path) => drop(trash.take(&mut folders, path)?),
                Output::Glob(_) => {
                    for found in list_one(&self.stage, spec)? {
                        trash.take(&mut folders, &found.path)?;
                    }
                }
                Output::Folder(path) => {
                    if !is_folder(&mut folders, path)? {
                        trash.take(&mut folders, path)?;
                        continue;
                    }
                    for found in movable(&self.stage, spec, path)? {
                        trash.take(&mut folders, &found.path)?;
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

/// Lists the entries of an owned folder that can be moved. Kept entries are omitted; of a
/// folder with kept entries, its other content is listed instead.
fn movable(stage: &Stage, spec: &OutputSpec, folder: &RelPath) -> Result<Vec<TreeEntry>, Error> {
    let mut walk = Walk::new(stage, spec);
    let mut movable = Vec::new();
    let mut pending = vec![folder.clone()];
    while let Some(folder) = pending.pop() {
        for child in walk.children(&folder)? {
            if walk.is_kept(&child) {
                continue;
            }
            let may_keep = child.kind == FileKind::Folder && walk.may_keep_below(&child.path);
            if may_keep && walk.holds_kept(&child.path)? {
                pending.push(child.path);
            } else {
                movable.push(child);
            }
        }
    }
    Ok(movable)
}
