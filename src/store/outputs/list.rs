//! Lists the current files of declared outputs, for capture, restore and stash. It opens
//! no file.

use std::os::fd::OwnedFd;

use rustix::fs::{Dir, FileType};
use rustix::io::Errno;

use super::dirs::{Folders, open_child, os};
use super::{Error, Stage, io};
use crate::action::{Entry, EntryKind, OutputSpec};
use crate::buildfile::model::Output;
use crate::glob::Pattern;
use crate::path::{MAX_PATH, RelPath};
use crate::stamp::{FileKind, Stamp};

/// A path in the tree and its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TreeEntry {
    pub(super) path: RelPath,
    pub(super) kind: FileKind,
}

/// Lists the entries that a declared output owns, unordered, each once. A declared file of
/// another kind is listed with that kind.
pub(super) fn list_one(stage: &Stage, spec: &OutputSpec) -> Result<Vec<TreeEntry>, Error> {
    Ok(walk(stage, spec)?.found)
}

/// Lists the entries that a declared output owns, and finds a `.git` folder among them that no
/// `keep` covers.
pub(super) fn list_with_git(
    stage: &Stage,
    spec: &OutputSpec,
) -> Result<(Vec<TreeEntry>, Option<RelPath>), Error> {
    let walk = walk(stage, spec)?;
    Ok((walk.found, walk.git))
}

fn walk<'a>(stage: &'a Stage, spec: &'a OutputSpec) -> Result<Walk<'a>, Error> {
    let mut walk = Walk::new(stage, spec);
    match &spec.output {
        Output::File(path) => walk.add(path)?,
        Output::Folder(path) => {
            walk.add(path)?;
            if matches!(walk.found.last(), Some(found) if found.kind == FileKind::Folder) {
                walk.below(path)?;
            }
        }
        Output::Glob(pattern) => walk.matches(pattern)?,
    }
    Ok(walk)
}

/// Returns true if `spec` declares an entry of a result.
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
        && !is_below_kept(spec, path)
}

/// Returns true if a result with this entry satisfies `spec`.
pub(super) fn satisfies(spec: &OutputSpec, entry: &Entry) -> bool {
    match &spec.output {
        Output::Folder(folder) => entry.path == *folder,
        Output::File(_) | Output::Glob(_) => is_declared(spec, entry),
    }
}

/// Returns true if a folder above `path` is kept.
fn is_below_kept(spec: &OutputSpec, path: &RelPath) -> bool {
    let mut above = std::iter::successors(path.parent(), RelPath::parent);
    above.any(|folder| folder.name() == b".git" || is_kept(spec, &folder, true))
}

fn is_kept(spec: &OutputSpec, path: &RelPath, is_folder: bool) -> bool {
    let keeps = |k: &Pattern| k.matches(path) || is_folder && k.covers_folder(path);
    spec.keep.iter().any(keeps)
}

/// Walks the tree for one declared output.
pub(super) struct Walk<'a> {
    stage: &'a Stage,
    spec: &'a OutputSpec,
    folders: Folders<'a>,
    found: Vec<TreeEntry>,
    /// A `.git` folder in an owned folder that no `keep` covers.
    git: Option<RelPath>,
}

/// A folder in an owned folder.
struct FolderNode {
    path: RelPath,
    parent: usize,
    /// The number of its entries that are outputs.
    own: usize,
    /// Whether an entry in it or below is kept.
    keeps: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(stage: &'a Stage, spec: &'a OutputSpec) -> Self {
        Self {
            stage,
            spec,
            folders: Folders::new(stage.root()),
            found: Vec::new(),
            git: None,
        }
    }

    pub(super) fn spec(&self) -> &'a OutputSpec {
        self.spec
    }

    /// Adds the entry at `path`, if it exists.
    fn add(&mut self, path: &RelPath) -> Result<(), Error> {
        let Some(parent) = path.parent() else {
            return Err(io("own", path)(Errno::BUSY));
        };
        let Some(folder) = self.folders.open(&parent)? else {
            return Ok(());
        };
        let stamp = Stamp::at(&*folder, os(path.name())).map_err(io("stat", path))?;
        if let Some(stamp) = stamp {
            let path = path.clone();
            let kind = stamp.kind();
            self.found.push(TreeEntry { path, kind });
        }
        Ok(())
    }

    /// Returns true if an entry is not an output: kept, or excluded by the stage.
    pub(super) fn is_kept(&self, found: &TreeEntry) -> bool {
        let is_folder = found.kind == FileKind::Folder;
        is_folder && self.stage.excludes(&found.path) || is_kept(self.spec, &found.path, is_folder)
    }

    /// Adds everything below the owned folder `top`, except folders with only kept entries.
    fn below(&mut self, top: &RelPath) -> Result<(), Error> {
        let mut folders = vec![FolderNode {
            path: top.clone(),
            parent: 0,
            own: 1,
            keeps: false,
        }];
        let mut next = 0;
        while next < folders.len() {
            for child in self.children(&folders[next].path.clone())? {
                if self.is_kept(&child) {
                    folders[next].keeps = true;
                    if child.path.name() == b".git" && !is_kept(self.spec, &child.path, true) {
                        self.git.get_or_insert(child.path);
                    }
                    continue;
                }
                if child.kind == FileKind::Folder {
                    folders.push(FolderNode {
                        path: child.path,
                        parent: next,
                        own: 0,
                        keeps: false,
                    });
                } else {
                    folders[next].own += 1;
                    self.found.push(child);
                }
            }
            next += 1;
        }
        self.add_folders(folders);
        Ok(())
    }

    // Children come after their parent in `folders`, so from the end, each folder is complete.
    fn add_folders(&mut self, mut folders: Vec<FolderNode>) {
        while folders.len() > 1 {
            let Some(folder) = folders.pop() else { return };
            if folder.own == 0 && folder.keeps {
                folders[folder.parent].keeps = true;
                continue;
            }
            folders[folder.parent].own += 1;
            self.found.push(TreeEntry {
                path: folder.path,
                kind: FileKind::Folder,
            });
        }
    }

    /// Adds the files and links that match a pattern.
    fn matches(&mut self, pattern: &Pattern) -> Result<(), Error> {
        if let Some(path) = pattern.as_literal() {
            return self.add(path);
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

    /// Returns the entries of a folder; none if it does not exist.
    pub(super) fn children(&mut self, path: &RelPath) -> Result<Vec<TreeEntry>, Error> {
        let Some(folder) = self.folders.open(path)? else {
            return Ok(Vec::new());
        };
        read_folder(&folder, path)
    }

    /// Returns true if a path below a folder may be kept, judging by the patterns.
    pub(super) fn may_keep_below(&self, folder: &RelPath) -> bool {
        let reaches = |k: &Pattern| {
            k.folder().is_within(folder) || folder.is_within(k.folder()) && k.reaches_into(folder)
        };
        self.spec.keep.iter().any(reaches) || self.stage.excludes_below(folder)
    }

    /// Returns true if a folder has a kept entry in it or below.
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

/// Returns the entries of an open folder, whose path is `path`.
pub(super) fn read_folder(folder: &OwnedFd, path: &RelPath) -> Result<Vec<TreeEntry>, Error> {
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
            FileType::Unknown => match Stamp::at(folder, os(name)).map_err(io("stat", &child))? {
                Some(stamp) => stamp.kind(),
                None => continue,
            },
            kind => kind.into(),
        };
        children.push(TreeEntry { path: child, kind });
    }
    Ok(children)
}
