//! What the declared outputs are right now: the one walk that capture, restore and
//! set-aside share. It opens no file.

use std::os::fd::OwnedFd;

use rustix::fs::{Dir, FileType};
use rustix::io::Errno;

use super::at::{Folders, open_child, os};
use super::{Error, Stage, io};
use crate::action::{Entry, EntryKind, OutputSpec};
use crate::buildfile::model::Output;
use crate::glob::Pattern;
use crate::path::{MAX_PATH, RelPath};
use crate::stamp::{FileKind, Stamp};

/// Something that stands where an output belongs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    /// Where.
    pub(super) path: RelPath,
    /// What.
    pub(super) kind: FileKind,
}

/// Lists what stands where a declared output belongs, in no order, each once. A declared
/// file that is something else is listed as what it is.
pub(super) fn list_one(stage: &Stage, spec: &OutputSpec) -> Result<Vec<Found>, Error> {
    let mut walk = Walk::new(stage, spec);
    match &spec.output {
        Output::File(path) => walk.take(path)?,
        Output::Folder(path) => {
            walk.take(path)?;
            if matches!(walk.found.last(), Some(found) if found.kind == FileKind::Folder) {
                walk.below(path)?;
            }
        }
        Output::Glob(pattern) => walk.matches(pattern)?,
    }
    Ok(walk.found)
}

/// Tells whether an entry of a result is one that `spec` declares.
pub(super) fn is_declared(spec: &OutputSpec, entry: &Entry) -> bool {
    let path = &entry.path;
    let is_folder = entry.kind == EntryKind::Folder;
    let is_meant = match &spec.output {
        Output::File(file) => !is_folder && path == file,
        Output::Folder(folder) => path.is_within(folder) && (path != folder || is_folder),
        Output::Glob(pattern) => !is_folder && pattern.matches(path),
    };
    let is_apart = is_folder && path.name() == b".git";
    is_meant
        && !is_apart
        && !path.is_root()
        && !is_kept(spec, path, is_folder)
        && !lies_in_kept(spec, path)
}

/// Tells whether an entry is all that makes `spec` fulfilled.
pub(super) fn fulfils(spec: &OutputSpec, entry: &Entry) -> bool {
    match &spec.output {
        Output::Folder(folder) => entry.path == *folder,
        Output::File(_) | Output::Glob(_) => is_declared(spec, entry),
    }
}

/// Tells whether a folder above `path` is kept, and `path` with it.
fn lies_in_kept(spec: &OutputSpec, path: &RelPath) -> bool {
    let mut above = std::iter::successors(path.parent(), RelPath::parent);
    above.any(|folder| folder.name() == b".git" || is_kept(spec, &folder, true))
}

fn is_kept(spec: &OutputSpec, path: &RelPath, is_folder: bool) -> bool {
    let keeps = |k: &Pattern| k.matches(path) || is_folder && k.covers_folder(path);
    spec.keep.iter().any(keeps)
}

/// A walk for one declared output.
pub(super) struct Walk<'a> {
    stage: &'a Stage,
    spec: &'a OutputSpec,
    folders: Folders<'a>,
    found: Vec<Found>,
}

/// A folder that a walk has met.
struct Met {
    path: RelPath,
    parent: usize,
    /// How many things in it are ours.
    own: usize,
    /// Whether anything in it or below is kept.
    keeps: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(stage: &'a Stage, spec: &'a OutputSpec) -> Self {
        Self {
            stage,
            spec,
            folders: Folders::new(stage.root()),
            found: Vec::new(),
        }
    }

    /// Takes what stands at `path`, if anything does.
    fn take(&mut self, path: &RelPath) -> Result<(), Error> {
        let Some(parent) = path.parent() else {
            return Err(io("own", path)(Errno::BUSY));
        };
        let Some(folder) = self.folders.open(&parent)? else {
            return Ok(());
        };
        let stamp = Stamp::at(&*folder, os(path.name())).map_err(io("look at", path))?;
        if let Some(stamp) = stamp {
            let path = path.clone();
            let kind = stamp.kind();
            self.found.push(Found { path, kind });
        }
        Ok(())
    }

    /// Tells whether something is not ours: kept, or out of bounds.
    pub(super) fn is_kept(&self, found: &Found) -> bool {
        let is_folder = found.kind == FileKind::Folder;
        is_folder && self.stage.leaves_alone(&found.path)
            || is_kept(self.spec, &found.path, is_folder)
    }

    /// Takes everything below the owned folder `top`. Folders that hold only kept things
    /// are left out, which shows only after what is in them was seen.
    fn below(&mut self, top: &RelPath) -> Result<(), Error> {
        let mut met = vec![Met {
            path: top.clone(),
            parent: 0,
            own: 1,
            keeps: false,
        }];
        let mut next = 0;
        while next < met.len() {
            for child in self.children(&met[next].path.clone())? {
                if self.is_kept(&child) {
                    met[next].keeps = true;
                    continue;
                }
                if child.kind == FileKind::Folder {
                    met.push(Met {
                        path: child.path,
                        parent: next,
                        own: 0,
                        keeps: false,
                    });
                } else {
                    met[next].own += 1;
                    self.found.push(child);
                }
            }
            next += 1;
        }
        self.take_folders(met);
        Ok(())
    }

    fn take_folders(&mut self, mut met: Vec<Met>) {
        while met.len() > 1 {
            let Some(folder) = met.pop() else { return };
            if folder.own == 0 && folder.keeps {
                met[folder.parent].keeps = true;
                continue;
            }
            met[folder.parent].own += 1;
            self.found.push(Found {
                path: folder.path,
                kind: FileKind::Folder,
            });
        }
    }

    /// Takes the files and links that match a pattern.
    fn matches(&mut self, pattern: &Pattern) -> Result<(), Error> {
        if let Some(path) = pattern.as_literal() {
            return self.take(path);
        }
        let mut pending = vec![pattern.folder().clone()];
        while let Some(folder) = pending.pop() {
            for child in self.children(&folder)? {
                if self.is_kept(&child) {
                    continue;
                }
                match child.kind {
                    FileKind::Folder if pattern.reaches_into(&child.path) => {
                        pending.push(child.path)
                    }
                    FileKind::Folder => {}
                    _ if pattern.matches(&child.path) => self.found.push(child),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Returns what is in a folder; nothing when there is no such folder.
    pub(super) fn children(&mut self, path: &RelPath) -> Result<Vec<Found>, Error> {
        let Some(folder) = self.folders.open(path)? else {
            return Ok(Vec::new());
        };
        read_folder(&folder, path)
    }

    /// Tells whether something below a folder could be kept, so that it must be looked for.
    pub(super) fn may_keep_below(&self, folder: &RelPath) -> bool {
        let reaches = |k: &Pattern| {
            k.folder().is_within(folder) || folder.is_within(k.folder()) && k.reaches_into(folder)
        };
        self.spec.keep.iter().any(reaches) || self.stage.leaves_alone_below(folder)
    }

    /// Tells whether a folder that is not kept holds something that is.
    pub(super) fn holds_kept(&mut self, folder: &RelPath) -> Result<bool, Error> {
        let mut pending = vec![folder.clone()];
        while let Some(folder) = pending.pop() {
            for child in self.children(&folder)? {
                if self.is_kept(&child) {
                    return Ok(true);
                }
                if child.kind == FileKind::Folder {
                    pending.push(child.path);
                }
            }
        }
        Ok(false)
    }
}

/// Returns what is in an open folder, whose path is `path`.
pub(super) fn read_folder(folder: &OwnedFd, path: &RelPath) -> Result<Vec<Found>, Error> {
    let mut children = Vec::new();
    let open = open_child(folder, b".").and_then(Dir::new);
    for entry in open.map_err(io("list", path))? {
        let entry = entry.map_err(io("list", path))?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let child = path.child(name);
        if child.as_bytes().len() > MAX_PATH {
            return Err(io("list", path)(Errno::NAMETOOLONG));
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                match Stamp::at(folder, os(name)).map_err(io("look at", &child))? {
                    Some(stamp) => stamp.kind(),
                    None => continue,
                }
            }
            kind => kind.into(),
        };
        children.push(Found { path: child, kind });
    }
    Ok(children)
}
