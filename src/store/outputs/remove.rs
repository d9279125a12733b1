//! Removes entries of the tree: files directly, folders by moving them to the stage, also
//! if they are deep or read-only.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir};
use rustix::io::Errno;

use super::claim::{ForeignFiles, Survey};
use super::dirs::{Folders, open_child, os};
use super::moves::{EntryAt, make_writable, move_to};
use super::restore::Destination;
use super::stage::Purpose;
use super::stash::remove_folder;
use super::trash::Batch;
use super::{Error, Stage, io as io_error};
use crate::buildfile::model::Output;
use crate::path::RelPath;

/// Folders moved out of the tree; dropping it removes them.
pub(super) struct RemovalQueue<'a> {
    stage: &'a Stage,
    names: Vec<String>,
}

impl<'a> RemovalQueue<'a> {
    pub(super) fn new(stage: &'a Stage) -> Self {
        let names = Vec::new();
        Self { stage, names }
    }

    /// Removes an entry of the tree; false if it does not exist.
    pub(super) fn take(
        &mut self,
        folders: &mut Folders<'_>,
        path: &RelPath,
    ) -> Result<bool, Error> {
        let Some(folder) = folders.open(&path.parent().unwrap_or_default())? else {
            return Ok(false);
        };
        folders.forget(path);
        let place = EntryAt::new(&*folder, path.name());
        let mut removed = place.remove_file();
        if removed == Err(Errno::ACCESS) && make_writable(place.parent()) {
            removed = place.remove_file();
        }
        match removed {
            Ok(()) => return Ok(true),
            Err(Errno::NOENT) => return Ok(false),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(io_error("remove", path)(error)),
        }
        if place.remove_folder().is_ok() {
            return Ok(true);
        }
        let name = self.stage.make(Purpose::Trash)?;
        let there = self.stage.open(&name)?;
        self.names.push(name);
        move_to(place, EntryAt::new(&there, b"folder")).map_err(io_error("remove", path))?;
        Ok(true)
    }
}

impl Drop for RemovalQueue<'_> {
    fn drop(&mut self) {
        for name in self.names.drain(..) {
            remove(self.stage, &name);
        }
    }
}

/// The result of removing outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemovedOutputs {
    /// The number of files and links removed.
    pub removed: usize,
    /// The files moved to the trash, sorted.
    pub trashed: Vec<RelPath>,
    /// The foreign files, which were left in their place.
    pub left: Vec<ForeignFiles>,
}

/// Removes the current outputs: owned entries are deleted, precious ones go to the trash, and
/// foreign ones stay.
pub fn remove_outputs(destination: &Destination<'_>) -> Result<RemovedOutputs, Error> {
    let Destination {
        stage,
        specs,
        claims,
    } = *destination;
    let mut done = RemovedOutputs::default();
    let mut folders = Folders::new(stage.root());
    let mut queue = RemovalQueue::new(stage);
    let mut batch: Option<Batch> = None;
    for (index, spec) in specs.iter().enumerate() {
        let survey = Survey::of(stage, &mut folders, spec, claims)?;
        done.removed += survey.owned_files;
        for found in &survey.owned {
            queue.take(&mut folders, &found.path)?;
        }
        for found in &survey.precious {
            let batch = match &mut batch {
                Some(batch) => batch,
                none => none.insert(stage.trash().begin()?),
            };
            batch.take(&mut folders, &found.path)?;
        }
        if !survey.foreign.is_empty() {
            let left = ForeignFiles::new(index, spec, survey.foreign);
            done.left.push(left);
        }
        for path in &survey.emptied {
            remove_folder(&mut folders, path);
        }
        if let Output::Folder(path) = &spec.output {
            remove_folder(&mut folders, path);
        }
    }
    done.trashed = batch.map_or(Ok(Vec::new()), Batch::close)?;
    Ok(done)
}

/// Removes the entry `name` of the stage. Errors are ignored: the next run tries again.
pub(super) fn remove(stage: &Stage, name: &str) {
    if let Ok(folder) = stage.folder() {
        let _ = remove_from(stage, &folder, name);
    }
}

/// Moves inner folders up to the stage instead of descending, so that the depth needs
/// neither stack nor descriptors.
fn remove_from(stage: &Stage, folder: &OwnedFd, name: &str) -> io::Result<()> {
    let mut pending = vec![name.to_owned()];
    while let Some(name) = pending.pop() {
        let place = EntryAt::new(folder, name.as_bytes());
        match place.remove_file() {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        if place.remove_folder().is_ok() {
            continue;
        }
        make_writable(place);
        empty(stage, folder, &name, &mut pending)?;
        place.remove_folder()?;
    }
    Ok(())
}

fn empty(stage: &Stage, folder: &OwnedFd, name: &str, pending: &mut Vec<String>) -> io::Result<()> {
    let inner = open_child(folder, name.as_bytes())?;
    for entry in Dir::read_from(&inner)? {
        let entry = entry?;
        let child = entry.file_name().to_bytes();
        if matches!(child, b"." | b"..") {
            continue;
        }
        let place = EntryAt::new(&inner, child);
        if place.remove_file().is_ok() || place.remove_folder().is_ok() {
            continue;
        }
        make_writable(place);
        let moved = stage.name(Purpose::Trash);
        rustix::fs::renameat(&inner, os(child), folder.as_fd(), &*moved)?;
        pending.push(moved);
    }
    Ok(())
}

/// Removes all entries of the stage.
pub(super) fn remove_all(stage: &Stage, folder: &OwnedFd) -> io::Result<()> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        match std::str::from_utf8(name) {
            Ok(name) => remove_from(stage, folder, name)?,
            // fbuild makes only UTF-8 names.
            Err(_) => drop(rustix::fs::unlinkat(folder, os(name), AtFlags::empty())),
        }
    }
    Ok(())
}
