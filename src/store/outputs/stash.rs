//! Old outputs out of the way of a command, and back again if it fails. It does not know
//! commands, and reads no file.

use rustix::fs::Mode;

use super::at::{Folders, os};
use super::list::{Found, Walk, list_one};
use super::remove::{Trash, remove};
use super::stage::{Place, Purpose, move_to};
use super::unchanged::Watchdog;
use super::{Error, Stage, io as io_error};
use crate::action::OutputSpec;
use crate::buildfile::model::Output;
use crate::path::RelPath;
use crate::stamp::FileKind;

/// Outputs that were moved out of a command's way. Unless told otherwise they are put back
/// when this is dropped.
#[derive(Debug)]
#[must_use = "dropping it puts the old outputs back"]
pub struct Stash {
    stage: Stage,
    specs: Vec<OutputSpec>,
    moved: Vec<Moved>,
    /// Owned folders that were made.
    made: Vec<RelPath>,
    is_settled: bool,
}

/// Something that was moved into the stage; a folder with all that is in it.
#[derive(Debug)]
struct Moved {
    /// Where it was.
    path: RelPath,
    /// What it is called in the stage.
    name: Vec<u8>,
    is_folder: bool,
    is_committed: bool,
}

/// Moves what the declared outputs are now out of the way: files, matches of patterns and
/// what is in owned folders, except what is kept. Then makes the owned folders, and the
/// folders in which declared files and matches of patterns will lie.
///
/// When something cannot be moved, what was moved before is put back.
pub fn stash(stage: &Stage, specs: &[OutputSpec]) -> Result<Stash, Error> {
    let mut aside = Stash {
        stage: stage.clone(),
        specs: specs.to_vec(),
        moved: Vec::new(),
        made: Vec::new(),
        is_settled: false,
    };
    let mut folders = Folders::new(stage.root());
    let moved = specs
        .iter()
        .try_for_each(|spec| aside.take(&mut folders, spec));
    if let Err(error) = moved {
        // Nothing is new yet. What cannot be returned is when the next run begins.
        aside.is_settled = true;
        let _ = aside.return_old();
        return Err(error);
    }
    Ok(aside)
}

impl Stash {
    /// Puts everything back as it was: what stands where the outputs belong is removed, and
    /// the old outputs are moved there. For when the command failed or was stopped.
    pub fn put_back(mut self) -> Result<(), Error> {
        self.is_settled = true;
        self.put_all_back()
    }

    /// Keeps the new outputs and forgets the old ones. Where the output is `committed` and
    /// nothing but the times differ, the old file itself takes its place again, so that
    /// version control and other tools see no change. Returns how many there were. For
    /// after success; the old outputs cannot be put back any more.
    pub fn finish(mut self) -> Result<usize, Error> {
        self.is_settled = true;
        let kept = self.keep_unchanged();
        self.remove_old();
        kept
    }

    fn keep_unchanged(&self) -> Result<usize, Error> {
        if !self.moved.iter().any(|moved| moved.is_committed) {
            return Ok(0);
        }
        let stage = self.stage.folder()?;
        let mut watchdog = Watchdog {
            old: Folders::new(&stage),
            new: Folders::new(self.stage.root()),
            kept: 0,
        };
        for moved in self.moved.iter().filter(|moved| moved.is_committed) {
            let name = RelPath::new(&moved.name).unwrap_or_default();
            match moved.is_folder {
                true => watchdog.keep_below(&name, &moved.path)?,
                false => watchdog.keep(&name, &moved.path)?,
            }
        }
        Ok(watchdog.kept)
    }

    /// Forgets the old outputs. For after success.
    pub fn discard(mut self) {
        self.is_settled = true;
        self.remove_old();
    }

    fn remove_old(&self) {
        if self.moved.is_empty() {
            return;
        }
        let Ok(stage) = self.stage.folder() else {
            return;
        };
        for moved in &self.moved {
            let place = Place::new(&*stage, &moved.name);
            if moved.is_folder || place.remove_file().is_err() {
                // Half of it must not be put back when the process is killed now.
                let trash = self.stage.name(Purpose::Trash);
                if move_to(place, Place::new(&*stage, trash.as_bytes())).is_ok() {
                    remove(&self.stage, &trash);
                }
            }
        }
    }

    /// Moves the old outputs of one declaration away.
    fn take(&mut self, folders: &mut Folders<'_>, spec: &OutputSpec) -> Result<(), Error> {
        match &spec.output {
            Output::File(path) => {
                let parent = folders.make(&path.parent().unwrap_or_default())?;
                let stamp = Place::new(&*parent, path.name()).stamp();
                if let Some(stamp) = stamp.map_err(io_error("look at", path))? {
                    let kind = stamp.kind();
                    self.take_one(folders, path, kind, spec)?;
                }
                Ok(())
            }
            Output::Glob(pattern) => {
                folders.make(pattern.folder())?;
                let found = list_one(&self.stage, spec)?;
                let mut found = found.into_iter();
                found.try_for_each(|found| self.take_one(folders, &found.path, found.kind, spec))
            }
            Output::Folder(path) => self.empty(folders, path, spec),
        }
    }

    /// Empties an owned folder, or makes it.
    fn empty(
        &mut self,
        folders: &mut Folders<'_>,
        path: &RelPath,
        spec: &OutputSpec,
    ) -> Result<(), Error> {
        let parent = folders.make(&path.parent().unwrap_or_default())?;
        let stamp = Place::new(&*parent, path.name()).stamp();
        let stamp = stamp.map_err(io_error("look at", path))?;
        match stamp.map(|stamp| stamp.kind()) {
            Some(FileKind::Folder) => {
                for found in movable(&self.stage, spec, path)? {
                    self.take_one(folders, &found.path, found.kind, spec)?;
                }
                return Ok(());
            }
            Some(kind) => self.take_one(folders, path, kind, spec)?,
            None => {}
        }
        rustix::fs::mkdirat(&*parent, os(path.name()), Mode::from(0o777))
            .map_err(io_error("make the folder", path))?;
        self.made.push(path.clone());
        Ok(())
    }

    /// Moves one thing into the stage.
    fn take_one(
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
        let name = self.stage.name_of_old(path);
        let (from, to) = (Place::new(&*from, path.name()), Place::new(&*stage, &name));
        move_to(from, to).map_err(io_error("set aside", path))?;
        self.moved.push(Moved {
            path: path.clone(),
            name,
            is_folder: kind == FileKind::Folder,
            is_committed: spec.committed,
        });
        Ok(())
    }

    fn put_all_back(&mut self) -> Result<(), Error> {
        let removed = self.remove_new();
        self.return_old().and(removed)
    }

    /// Moves the old outputs to where they were.
    fn return_old(&mut self) -> Result<(), Error> {
        let root = self.stage.root().clone();
        let mut folders = Folders::new(&root);
        for path in self.made.drain(..).rev() {
            if let Ok(Some(parent)) = folders.open(&path.parent().unwrap_or_default()) {
                folders.forget(&path);
                // Not empty: it holds something kept.
                let _ = Place::new(&*parent, path.name()).remove_folder();
            }
        }
        if self.moved.is_empty() {
            return Ok(());
        }
        let stage = self.stage.folder()?;
        let mut returned = Ok(());
        for moved in self.moved.drain(..).rev() {
            let from = Place::new(&*stage, &moved.name);
            returned = move_back(from, &mut folders, &moved.path).and(returned);
        }
        returned
    }

    /// Removes what the command made where the outputs belong.
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
        if !self.is_settled {
            // Nobody is left to tell; what is not put back now is when the next run begins.
            let _ = self.put_all_back();
        }
    }
}

/// Moves something from the stage to its place in the tree.
pub(super) fn move_back(
    from: Place<'_>,
    folders: &mut Folders<'_>,
    path: &RelPath,
) -> Result<(), Error> {
    let to = folders.make(&path.parent().unwrap_or_default())?;
    let to = Place::new(&*to, path.name());
    move_to(from, to).map_err(io_error("put back", path))
}

fn is_folder(folders: &mut Folders<'_>, path: &RelPath) -> Result<bool, Error> {
    let Some(parent) = folders.open(&path.parent().unwrap_or_default())? else {
        return Ok(false);
    };
    let stamp = Place::new(&*parent, path.name()).stamp();
    let stamp = stamp.map_err(io_error("look at", path))?;
    Ok(stamp.is_some_and(|stamp| stamp.kind() == FileKind::Folder))
}

/// Lists what in an owned folder can be moved as a whole: everything but what is kept,
/// and folders that hold something kept, whose own content is listed instead.
fn movable(stage: &Stage, spec: &OutputSpec, folder: &RelPath) -> Result<Vec<Found>, Error> {
    let mut walk = Walk::new(stage, spec);
    let mut movable = Vec::new();
    let mut pending = vec![folder.clone()];
    while let Some(folder) = pending.pop() {
        for child in walk.children(&folder)? {
            if walk.is_kept(&child) {
                continue;
            }
            let may_keep = child.kind == FileKind::Folder && walk.may_keep_below(&child.path);
            match may_keep && walk.holds_kept(&child.path)? {
                true => pending.push(child.path),
                false => movable.push(child),
            }
        }
    }
    Ok(movable)
}
