//! Removing what was in the tree: files at once, folders by way of the stage, however
//! deep and however guarded they are. It does not decide what goes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir};
use rustix::io::Errno;

use super::at::{Folders, open_child, os};
use super::stage::{Place, Purpose, make_writable, move_to};
use super::{Error, Stage, io as io_error};
use crate::path::RelPath;

/// What was moved out of the tree and waits to be removed, which happens when it is dropped.
pub(super) struct Trash<'a> {
    stage: &'a Stage,
    names: Vec<String>,
}

impl<'a> Trash<'a> {
    pub(super) fn new(stage: &'a Stage) -> Self {
        let names = Vec::new();
        Self { stage, names }
    }

    /// Takes something out of the tree; tells whether anything was there.
    pub(super) fn take(
        &mut self,
        folders: &mut Folders<'_>,
        path: &RelPath,
    ) -> Result<bool, Error> {
        let Some(folder) = folders.open(&path.parent().unwrap_or_default())? else {
            return Ok(false);
        };
        folders.forget(path);
        let place = Place::new(&*folder, path.name());
        match place.remove_file() {
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
        move_to(place, Place::new(&there, b"folder")).map_err(io_error("remove", path))?;
        Ok(true)
    }
}

impl Drop for Trash<'_> {
    fn drop(&mut self) {
        for name in self.names.drain(..) {
            remove(self.stage, &name);
        }
    }
}

/// Removes what stands at `name` in the stage. What cannot be removed stays, and is tried
/// again when the next run begins.
pub(super) fn remove(stage: &Stage, name: &str) {
    if let Ok(folder) = stage.folder() {
        let _ = remove_from(stage, &folder, name);
    }
}

/// Folders inside are moved up into the stage instead of being gone into, so that depth
/// costs neither stack nor descriptors.
fn remove_from(stage: &Stage, folder: &OwnedFd, name: &str) -> io::Result<()> {
    let mut pending = vec![name.to_owned()];
    while let Some(name) = pending.pop() {
        let place = Place::new(folder, name.as_bytes());
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
        let place = Place::new(&inner, child);
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

/// Removes everything in the stage.
pub(super) fn remove_all(stage: &Stage, folder: &OwnedFd) -> io::Result<()> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        match std::str::from_utf8(name) {
            Ok(name) => remove_from(stage, folder, name)?,
            // Not one of ours.
            Err(_) => drop(rustix::fs::unlinkat(folder, os(name), AtFlags::empty())),
        }
    }
    Ok(())
}
