//! Old outputs out of the way of a command, and back again if it fails. It does not know
//! commands, and reads files only to compare them.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};

use super::at::{Folders, os};
use super::list::{Found, Kind, Walk, list_one, read_folder};
use super::remove::{Trash, remove};
use super::stage::{Place, Purpose, move_to};
use super::{Error, Stage, io as io_error};
use crate::action::OutputSpec;
use crate::buildfile::model::Output;
use crate::path::RelPath;
use crate::stamp::Stamp;

/// Outputs that were moved out of a command's way. Unless told otherwise they are put back
/// when this is dropped.
#[derive(Debug)]
#[must_use = "dropping it puts the old outputs back"]
pub struct SetAside {
    stage: Stage,
    specs: Vec<OutputSpec>,
    /// The folder in the stage where the old outputs are; `None` while there are none.
    old: Option<String>,
    /// What was moved, and whether it is `committed`. A folder stands for all in it.
    moved: Vec<(Found, bool)>,
    /// Owned folders that were made.
    made: Vec<RelPath>,
    is_settled: bool,
}

/// Moves what the declared outputs are now out of the way: files, matches of patterns and
/// what is in owned folders, except what is kept. Then makes the owned folders, and the
/// folders in which declared files and matches of patterns will lie.
///
/// When something cannot be moved, what was moved before is put back.
pub fn set_aside(stage: &Stage, specs: &[OutputSpec]) -> Result<SetAside, Error> {
    let mut aside = SetAside {
        stage: stage.clone(),
        specs: specs.to_vec(),
        old: None,
        moved: Vec::new(),
        made: Vec::new(),
        is_settled: false,
    };
    let mut folders = Folders::new(stage.root());
    let mut mover = Mover {
        aside: &mut aside,
        old: None,
    };
    let moved = specs
        .iter()
        .try_for_each(|spec| mover.set_aside(&mut folders, spec));
    if let Err(error) = moved {
        // Nothing is new yet. What cannot be returned is when the next run begins.
        aside.is_settled = true;
        let _ = aside.return_old();
        return Err(error);
    }
    Ok(aside)
}

impl SetAside {
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

    fn keep_unchanged(&mut self) -> Result<usize, Error> {
        let Some(old) = &self.old else { return Ok(0) };
        let old = self.stage.open(old)?;
        let mut keeper = Keeper {
            old: Folders::new(&old),
            new: Folders::new(self.stage.root()),
            kept: 0,
        };
        let committed = self.moved.iter().filter(|(_, committed)| *committed);
        let mut pending: Vec<Found> = committed.map(|(found, _)| found.clone()).collect();
        while let Some(found) = pending.pop() {
            match found.kind {
                Kind::Folder => {
                    if let Some(folder) = keeper.old.open(&found.path)? {
                        pending.extend(read_folder(&folder, &found.path)?);
                    }
                }
                _ => keeper.keep(&found.path)?,
            }
        }
        Ok(keeper.kept)
    }

    /// Forgets the old outputs. For after success.
    pub fn discard(mut self) {
        self.is_settled = true;
        self.remove_old();
    }

    fn remove_old(&mut self) {
        let Some(old) = self.old.take() else { return };
        // What is found here under its old name when the next run begins would be put back.
        let trash = self.stage.name(Purpose::Trash);
        let renamed = self
            .stage
            .folder()
            .is_ok_and(|folder| rustix::fs::renameat(&*folder, &*old, &*folder, &*trash).is_ok());
        remove(&self.stage, if renamed { &trash } else { &old });
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
        let Some(old) = &self.old else { return Ok(()) };
        let old = self.stage.open(old)?;
        let mut mirror = Folders::new(&old);
        for (found, _) in std::mem::take(&mut self.moved).into_iter().rev() {
            move_back(&mut mirror, &mut folders, &found.path)?;
        }
        self.remove_old();
        Ok(())
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

impl Drop for SetAside {
    fn drop(&mut self) {
        if !self.is_settled {
            // Nobody is left to tell; what is not put back now is when the next run begins.
            let _ = self.put_all_back();
        }
    }
}

/// Moves what has `path` in the mirror to the same path in the tree.
pub(super) fn move_back(
    mirror: &mut Folders<'_>,
    folders: &mut Folders<'_>,
    path: &RelPath,
) -> Result<(), Error> {
    let parent = path.parent().unwrap_or_default();
    let Some(from) = mirror.open(&parent)? else {
        return Ok(());
    };
    let to = folders.make(&parent)?;
    let (from, to) = (
        Place::new(&*from, path.name()),
        Place::new(&*to, path.name()),
    );
    move_to(from, to).map_err(io_error("put back", path))
}

fn is_folder(folders: &mut Folders<'_>, path: &RelPath) -> Result<bool, Error> {
    let Some(parent) = folders.open(&path.parent().unwrap_or_default())? else {
        return Ok(false);
    };
    let stamp = Place::new(&*parent, path.name()).stamp();
    let stamp = stamp.map_err(io_error("look at", path))?;
    Ok(stamp.is_some_and(|stamp| stamp.kind() == FileType::Directory))
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
            let may_keep = child.kind == Kind::Folder && walk.may_keep_below(&child.path);
            match may_keep && walk.holds_kept(&child.path)? {
                true => pending.push(child.path),
                false => movable.push(child),
            }
        }
    }
    Ok(movable)
}

/// Moves old outputs into the stage.
struct Mover<'a> {
    aside: &'a mut SetAside,
    /// The open folder in the stage, once there is one.
    old: Option<OwnedFd>,
}

impl Mover<'_> {
    fn set_aside(&mut self, folders: &mut Folders<'_>, spec: &OutputSpec) -> Result<(), Error> {
        match &spec.output {
            Output::File(path) => {
                let parent = folders.make(&path.parent().unwrap_or_default())?;
                let stamp = Place::new(&*parent, path.name()).stamp();
                if let Some(stamp) = stamp.map_err(io_error("look at", path))? {
                    let path = path.clone();
                    let kind = Kind::of(stamp.kind());
                    self.take(folders, Found { path, kind }, spec)?;
                }
            }
            Output::Glob(pattern) => {
                folders.make(pattern.folder())?;
                for found in list_one(&self.aside.stage, spec)? {
                    self.take(folders, found, spec)?;
                }
            }
            Output::Folder(path) => self.empty(folders, path, spec)?,
        }
        Ok(())
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
        let kind = stamp
            .map_err(io_error("look at", path))?
            .map(|stamp| Kind::of(stamp.kind()));
        if kind == Some(Kind::Folder) {
            for found in movable(&self.aside.stage, spec, path)? {
                self.take(folders, found, spec)?;
            }
            return Ok(());
        }
        if let Some(kind) = kind {
            let path = path.clone();
            self.take(folders, Found { path, kind }, spec)?;
        }
        rustix::fs::mkdirat(&*parent, os(path.name()), Mode::from(0o777))
            .map_err(io_error("make the folder", path))?;
        self.aside.made.push(path.clone());
        Ok(())
    }

    /// Moves something to its path in the stage.
    fn take(
        &mut self,
        folders: &mut Folders<'_>,
        found: Found,
        spec: &OutputSpec,
    ) -> Result<(), Error> {
        let parent = found.path.parent().unwrap_or_default();
        let Some(from) = folders.open(&parent)? else {
            return Ok(());
        };
        folders.forget(&found.path);
        let old = self.open_old()?;
        let to = Folders::new(old).make(&parent)?;
        let (from, to) = (
            Place::new(&*from, found.path.name()),
            Place::new(&*to, found.path.name()),
        );
        move_to(from, to).map_err(io_error("set aside", &found.path))?;
        self.aside.moved.push((found, spec.committed));
        Ok(())
    }

    fn open_old(&mut self) -> Result<&OwnedFd, Error> {
        let old = match self.old.take() {
            Some(old) => old,
            None => {
                let name = self.aside.stage.make(Purpose::Old)?;
                let old = self.aside.stage.open(&name)?;
                self.aside.old = Some(name);
                old
            }
        };
        Ok(self.old.insert(old))
    }
}

/// Puts old files in the place of equal new ones.
struct Keeper<'a> {
    old: Folders<'a>,
    new: Folders<'a>,
    kept: usize,
}

impl Keeper<'_> {
    fn keep(&mut self, path: &RelPath) -> Result<(), Error> {
        let parent = path.parent().unwrap_or_default();
        let (Some(old), Some(new)) = (self.old.open(&parent)?, self.new.open(&parent)?) else {
            return Ok(());
        };
        let (old, new) = (
            Place::new(&*old, path.name()),
            Place::new(&*new, path.name()),
        );
        if is_same(old, new).map_err(io_error("compare", path))? {
            move_to(old, new).map_err(io_error("put back", path))?;
            self.kept += 1;
        }
        Ok(())
    }
}

/// Tells whether two files have the same content and executable bit, or two links the
/// same target.
fn is_same(old: Place<'_>, new: Place<'_>) -> io::Result<bool> {
    let (Some(a), Some(b)) = (old.stamp()?, new.stamp()?) else {
        return Ok(false);
    };
    if a.kind() != b.kind() || a.size != b.size || a.is_executable() != b.is_executable() {
        return Ok(false);
    }
    match a.kind() {
        FileType::RegularFile => has_same_bytes(open(old)?, open(new)?, &a),
        FileType::Symlink => Ok(target(old)? == target(new)?),
        _ => Ok(false),
    }
}

fn open(place: Place<'_>) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(place.folder, os(place.name), flags, Mode::empty())?;
    Ok(file.into())
}

fn target(place: Place<'_>) -> io::Result<std::ffi::CString> {
    let target = rustix::fs::readlinkat(place.folder.as_fd(), os(place.name), Vec::new());
    Ok(target?)
}

fn has_same_bytes(mut old: File, mut new: File, stamp: &Stamp) -> io::Result<bool> {
    const PIECE: usize = 64 * 1024;
    let (mut a, mut b) = (vec![0; PIECE], vec![0; PIECE]);
    let mut left = stamp.size;
    while left > 0 {
        let piece = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
        old.read_exact(&mut a[..piece])?;
        new.read_exact(&mut b[..piece])?;
        if a[..piece] != b[..piece] {
            return Ok(false);
        }
        left -= piece as u64;
    }
    Ok(true)
}
