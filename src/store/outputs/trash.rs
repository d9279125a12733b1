//! The trash: a folder beside the state that keeps files of the user which were in the place
//! of outputs, until the user takes or deletes them, or they are old.
//!
//! ```text
//! <trash>/<time>-<pid>-<number>/          a batch: the files, by their path below the root
//! <trash>/<time>-<pid>-<number>.pending/  the same while commands run that replace them
//! ```
//!
//! A file is moved by one rename, and its place in the batch is its path, so a kill or a
//! power cut loses neither. Pending batches of killed runs go back to their paths; see
//! [`recover`](super::recover).

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::claim::list_paths;
use super::dirs::{Folders, open_child};
use super::list::read_folder;
use super::moves::{EntryAt, move_to};
use super::{Error, io as io_error};
use crate::event::Warning;
use crate::path::RelPath;
use crate::stamp::{self, FileKind};

/// The end of the name of a batch whose commands still run.
const PENDING: &str = ".pending";
const IGNORE: &str = ".gitignore";
const MILLISECOND: i64 = 1_000_000;

/// The trash of a checkout.
#[derive(Debug)]
pub struct Trash {
    path: PathBuf,
    open: Mutex<Option<Arc<OwnedFd>>>,
    count: AtomicU64,
}

/// A batch in the trash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrashBatch {
    /// Its name.
    pub name: String,
    /// When its files were moved, in milliseconds since 1970.
    pub time: i64,
    /// Its files and links, sorted.
    pub paths: Vec<RelPath>,
}

/// A batch that is being filled.
#[derive(Debug)]
pub(super) struct Batch {
    trash: Arc<OwnedFd>,
    name: String,
    pub(super) folder: OwnedFd,
}

impl Trash {
    /// Returns the trash in the folder `path`, which is created when needed.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            open: Mutex::default(),
            count: AtomicU64::new(0),
        }
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes an [`Error::Trash`].
    pub(super) fn error<E: Into<io::Error>>(
        &self,
        operation: &'static str,
    ) -> impl FnOnce(E) -> Error {
        move |source| Error::Trash {
            operation,
            path: self.path.clone(),
            source: source.into(),
        }
    }

    /// Opens the folder, creating it if necessary.
    fn folder(&self) -> Result<Arc<OwnedFd>, Error> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = &*open {
            return Ok(folder.clone());
        }
        match rustix::fs::mkdir(&self.path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(self.error("make it")(error)),
        }
        let folder = open_own(&self.path).map_err(self.error("open it"))?;
        let folder = Arc::new(folder);
        *open = Some(folder.clone());
        // Ignore the error: version control then shows the folder, which does no harm.
        let _ = write_ignore(&folder);
        Ok(folder)
    }

    /// Opens the folder if it exists.
    pub(super) fn existing(&self) -> Result<Option<Arc<OwnedFd>>, Error> {
        match self.path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => self.folder().map(Some),
        }
    }

    /// Begins a batch for files that commands replace.
    pub(super) fn begin(&self) -> Result<Batch, Error> {
        let trash = self.folder()?;
        let time = stamp::now() / MILLISECOND;
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let name = format!("{time:013}-{}-{number}", std::process::id());
        let pending = format!("{name}{PENDING}");
        rustix::fs::mkdirat(&trash, &*pending, Mode::RWXU).map_err(self.error("make a folder"))?;
        let folder = open_child(&trash, pending.as_bytes()).map_err(self.error("open a folder"))?;
        Ok(Batch {
            trash,
            name,
            folder,
        })
    }

    /// Returns the batches that killed runs have left.
    pub(super) fn pending(&self) -> Result<Vec<Batch>, Error> {
        let Some(trash) = self.existing()? else {
            return Ok(Vec::new());
        };
        let names = self.names(&trash)?;
        let pending = names.iter().filter_map(|name| name.strip_suffix(PENDING));
        let open = |name: &str| {
            let full = format!("{name}{PENDING}");
            let folder = open_child(&trash, full.as_bytes()).map_err(self.error("open a folder"));
            folder.map(|folder| Batch {
                trash: trash.clone(),
                name: name.to_owned(),
                folder,
            })
        };
        pending.map(open).collect()
    }

    fn names(&self, trash: &OwnedFd) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        for entry in Dir::read_from(trash).map_err(self.error("list it"))? {
            let entry = entry.map_err(self.error("list it"))?;
            let name = entry.file_name().to_str().unwrap_or_default();
            if time_of(name).is_some() {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Returns the batches, the oldest first.
    pub fn batches(&self) -> Result<Vec<TrashBatch>, Error> {
        let Some(trash) = self.existing()? else {
            return Ok(Vec::new());
        };
        let mut batches = Vec::new();
        for name in self.names(&trash)? {
            let folder =
                open_child(&trash, name.as_bytes()).map_err(self.error("open a folder"))?;
            let mut paths = Vec::new();
            leaves(&folder, &mut |path| paths.push(path))?;
            paths.sort_unstable();
            let time = time_of(&name).unwrap_or_default();
            batches.push(TrashBatch { name, time, paths });
        }
        Ok(batches)
    }

    /// Moves a file of a batch back to its path in the tree; false if the path is not free.
    pub fn give_back(
        &self,
        batch: &TrashBatch,
        path: &RelPath,
        root: &crate::path::Root,
    ) -> Result<bool, Error> {
        let Some(trash) = self.existing()? else {
            return Ok(false);
        };
        let folder =
            open_child(&trash, batch.name.as_bytes()).map_err(self.error("open a folder"))?;
        let mut tree = Folders::new(root);
        let moved = move_out(&mut Folders::new(&folder), path, &mut tree)?;
        remove_empty_folders(&folder);
        let _ = rustix::fs::unlinkat(&trash, &*batch.name, AtFlags::REMOVEDIR);
        Ok(moved)
    }

    /// Deletes the batches that are older than `age` (milliseconds); returns their number.
    pub fn delete_older(&self, age: i64) -> Result<usize, Error> {
        let Some(trash) = self.existing()? else {
            return Ok(0);
        };
        let now = stamp::now() / MILLISECOND;
        let mut deleted = 0;
        for name in self.names(&trash)? {
            let is_old = time_of(&name).is_some_and(|time| now.saturating_sub(time) >= age);
            // A pending batch has files that belong to the tree.
            if is_old && !name.ends_with(PENDING) {
                delete(&self.path.join(&name)).map_err(self.error("delete files"))?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }

    /// Removes the folder if it has no batches.
    pub fn tidy(&self) {
        let is_open = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.take()
        };
        if let Some(folder) = is_open
            && self.names(&folder).is_ok_and(|names| names.is_empty())
        {
            // Ignore errors: a folder with other files stays.
            let _ = rustix::fs::unlinkat(&folder, IGNORE, AtFlags::empty());
            if rustix::fs::rmdir(&self.path).is_err() {
                let _ = write_ignore(&folder);
            }
        }
    }
}

impl Batch {
    /// Moves an entry of the tree into the batch; false if it does not exist.
    pub(super) fn take(&self, tree: &mut Folders<'_>, path: &RelPath) -> Result<bool, Error> {
        let Some(parent) = tree.open(&path.parent().unwrap_or_default())? else {
            return Ok(false);
        };
        tree.forget(path);
        let mut folders = Folders::new(&self.folder);
        let to = folders.make(&path.parent().unwrap_or_default())?;
        let (from, to) = (
            EntryAt::new(&*parent, path.name()),
            EntryAt::new(&*to, path.name()),
        );
        match move_to(from, to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(io_error("move to the trash", path)(error)),
            Ok(()) => Ok(true),
        }
    }

    /// Ends the batch: what is still in it stays in the trash. Returns its files.
    pub(super) fn close(self) -> Result<Vec<RelPath>, Error> {
        remove_empty_folders(&self.folder);
        let pending = format!("{}{PENDING}", self.name);
        if rustix::fs::unlinkat(&self.trash, &*pending, AtFlags::REMOVEDIR).is_ok() {
            return Ok(Vec::new());
        }
        let mut paths = Vec::new();
        leaves(&self.folder, &mut |path| paths.push(path))?;
        paths.sort_unstable();
        // If this fails, the next run takes the batch for one of a killed run and returns its
        // files to their paths if those are free.
        let _ = rustix::fs::renameat(&self.trash, &*pending, &self.trash, &*self.name);
        Ok(paths)
    }
}

/// Reports files that were moved to the trash, if there are any.
pub fn trashed(paths: &[RelPath]) -> Option<Warning> {
    let list = list_paths(paths, paths.len());
    let message = match paths.len() {
        0 => return None,
        1 => format!("{list} was in the place of an output and is in the trash now"),
        n => format!("{n} files were in the place of outputs and are in the trash now: {list}"),
    };
    let message = format!("{message}; `fbuild trash restore` returns what it can");
    Some(Warning::new("fbuild::store::trashed", message))
}

/// Moves an entry out of a batch to its path in the tree; false if the path is not free.
pub(super) fn move_out(
    batch: &mut Folders<'_>,
    path: &RelPath,
    tree: &mut Folders<'_>,
) -> Result<bool, Error> {
    let parent = path.parent().unwrap_or_default();
    let Some(from) = batch.open(&parent)? else {
        return Ok(false);
    };
    batch.forget(path);
    let to = tree.make(&parent)?;
    let (from, to) = (
        EntryAt::new(&*from, path.name()),
        EntryAt::new(&*to, path.name()),
    );
    if to.stamp().map_err(io_error("stat", path))?.is_some() {
        return Ok(false);
    }
    move_to(from, to).map_err(io_error("restore", path))?;
    Ok(true)
}

/// Opens a folder that is no link and belongs to this user.
fn open_own(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&folder)?;
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("it belongs to another user"));
    }
    Ok(folder)
}

fn write_ignore(folder: &OwnedFd) -> io::Result<()> {
    let new = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | new;
    let file = rustix::fs::openat(folder, IGNORE, flags, Mode::from_raw_mode(0o644))?;
    File::from(file).write_all(b"*\n")
}

/// Returns the time in the name of a batch.
fn time_of(name: &str) -> Option<i64> {
    let (time, rest) = name.split_once('-')?;
    let is_batch = time.len() == 13 && rest.split_once('-').is_some();
    time.parse().ok().filter(|_| is_batch)
}

/// Visits every entry below a folder that is not a folder.
fn leaves(folder: &OwnedFd, visit: &mut dyn FnMut(RelPath)) -> Result<(), Error> {
    let mut folders = Folders::new(folder);
    let mut pending = vec![RelPath::root()];
    while let Some(path) = pending.pop() {
        let Some(open) = folders.open(&path)? else {
            continue;
        };
        for child in read_folder(&open, &path)? {
            match child.kind {
                FileKind::Folder => pending.push(child.path),
                _ => visit(child.path),
            }
        }
    }
    Ok(())
}

/// Removes all empty folders below a folder. Errors are ignored: such a folder stays.
pub(super) fn remove_empty_folders(folder: &OwnedFd) {
    let mut all = Vec::new();
    let mut folders = Folders::new(folder);
    let mut pending = vec![RelPath::root()];
    while let Some(path) = pending.pop() {
        let Ok(Some(open)) = folders.open(&path) else {
            continue;
        };
        for child in read_folder(&open, &path).unwrap_or_default() {
            if child.kind == FileKind::Folder {
                pending.push(child.path.clone());
                all.push(child.path);
            }
        }
    }
    // Parents come before their children.
    for path in all.iter().rev() {
        folders.forget(path);
        if let Ok(Some(parent)) = folders.open(&path.parent().unwrap_or_default()) {
            let _ = EntryAt::new(&*parent, path.name()).remove_folder();
        }
    }
}

/// Deletes a folder with its content, also if folders in it are read-only.
fn delete(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_all_writable(path)?;
            std::fs::remove_dir_all(path)
        }
        other => other,
    }
}

fn make_all_writable(path: &Path) -> io::Result<()> {
    let folder = open_own(path)?;
    let mut pending = vec![folder];
    while let Some(folder) = pending.pop() {
        super::moves::make_writable(EntryAt::new(&folder, b"."));
        for child in read_folder(&folder, &RelPath::root()).unwrap_or_default() {
            if child.kind == FileKind::Folder {
                super::moves::make_writable(EntryAt::new(&folder, child.path.name()));
                pending.extend(open_child(folder.as_fd(), child.path.name()));
            }
        }
    }
    Ok(())
}
