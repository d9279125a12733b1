//! Opens folders below another one without following links, and names entries in them.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::rc::Rc;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Error, io};
use crate::path::RelPath;
use crate::stamp::{FileKind, Stamp};

/// The number of folders that one operation keeps open.
const KEPT_OPEN: usize = 16;

/// Converts a name for system calls.
pub(super) fn os(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

/// A cache of the folders that one operation has opened.
pub(super) struct Folders<'r> {
    root: BorrowedFd<'r>,
    open: Vec<(RelPath, Rc<OwnedFd>)>,
}

impl<'r> Folders<'r> {
    pub(super) fn new(root: &'r impl AsFd) -> Self {
        Self {
            root: root.as_fd(),
            open: Vec::new(),
        }
    }

    /// Opens a folder; `None` if it does not exist.
    pub(super) fn open(&mut self, path: &RelPath) -> Result<Option<Rc<OwnedFd>>, Error> {
        if let Some((_, folder)) = self.open.iter().find(|(open, _)| open == path) {
            return Ok(Some(folder.clone()));
        }
        match open_folder(self.root, path) {
            Ok(folder) => Ok(Some(self.keep(path, folder))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(Errno::LOOP) => Err(through_link(self.root, path)),
            Err(error) => Err(io("open", path)(error)),
        }
    }

    /// Opens a folder, creating it and its parents if necessary.
    pub(super) fn make(&mut self, path: &RelPath) -> Result<Rc<OwnedFd>, Error> {
        let mut missing = Vec::new();
        let mut at = path.clone();
        let mut folder = loop {
            if let Some(folder) = self.open(&at)? {
                break folder;
            }
            let Some(parent) = at.parent() else {
                return Err(io("open", &at)(Errno::NOENT));
            };
            missing.push(std::mem::replace(&mut at, parent));
        };
        while let Some(child) = missing.pop() {
            match rustix::fs::mkdirat(&*folder, os(child.name()), Mode::from(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(io("make the folder", &child)(error)),
            }
            folder = self.open(&child)?.ok_or_else(|| Error::Parent {
                path: path.clone(),
                parent: child.clone(),
            })?;
        }
        Ok(folder)
    }

    /// Closes the folders at and below `path`, which is about to be removed.
    pub(super) fn forget(&mut self, path: &RelPath) {
        self.open.retain(|(open, _)| !open.is_within(path));
    }

    fn keep(&mut self, path: &RelPath, folder: OwnedFd) -> Rc<OwnedFd> {
        if self.open.len() == KEPT_OPEN {
            self.open.remove(0);
        }
        let folder = Rc::new(folder);
        self.open.push((path.clone(), folder.clone()));
        folder
    }
}

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opens the folder `name` in another folder.
pub(super) fn open_child(folder: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(folder, os(name), FOLDER, Mode::empty())
}

/// Opens a folder below `root`; `ELOOP` if any component is a link.
fn open_folder(root: BorrowedFd<'_>, path: &RelPath) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // With O_NOFOLLOW, the error for a link at the end would be ENOTDIR as for other files.
    let flags = FOLDER.difference(OFlags::NOFOLLOW);
    loop {
        match rustix::fs::openat2(root, path.as_path(), flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The kernel is older than 5.6, or a container filters the call.
            Err(Errno::NOSYS | Errno::PERM) => return open_by_steps(root, path),
            other => return other,
        }
    }
}

/// Opens a folder one component at a time, with the results of [`open_folder`].
fn open_by_steps(root: BorrowedFd<'_>, path: &RelPath) -> Result<OwnedFd, Errno> {
    let mut folder = open_child(root, b".")?;
    for name in path.components() {
        folder = match open_child(&folder, name) {
            // O_DIRECTORY turns ELOOP into ENOTDIR.
            Err(Errno::NOTDIR) if is_link(&folder, name) => return Err(Errno::LOOP),
            other => other?,
        };
    }
    Ok(folder)
}

fn is_link(folder: &OwnedFd, name: &[u8]) -> bool {
    let stamp = Stamp::at(folder, os(name));
    matches!(stamp, Ok(Some(stamp)) if stamp.kind() == FileKind::Link)
}

/// Makes an [`Error::ThroughLink`] with the first link on `path`.
fn through_link(root: BorrowedFd<'_>, path: &RelPath) -> Error {
    let mut link = RelPath::root();
    for name in path.components() {
        link = link.child(name);
        let stamp = Stamp::at(root, link.as_path());
        if matches!(stamp, Ok(Some(stamp)) if stamp.kind() == FileKind::Link) {
            break;
        }
    }
    Error::ThroughLink {
        path: path.clone(),
        link,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).unwrap()
    }

    #[test]
    fn opening_by_steps_equals_opening_in_one_call() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        fs::write(dir.path().join("a/file"), "").unwrap();
        symlink("b", dir.path().join("a/link")).unwrap();
        let root = File::open(dir.path()).unwrap();
        for (text, expected) in [
            ("a/b/c", None),
            ("a/none", Some(Errno::NOENT)),
            ("a/file", Some(Errno::NOTDIR)),
            ("a/file/x", Some(Errno::NOTDIR)),
            ("a/link", Some(Errno::LOOP)),
            ("a/link/c", Some(Errno::LOOP)),
        ] {
            for open in [open_folder, open_by_steps] {
                let opened = open(root.as_fd(), &path(text));
                assert_eq!(opened.err(), expected, "{text}");
            }
        }
    }

    #[test]
    fn forget_closes_the_folder_and_those_below() {
        let dir = tempfile::tempdir().unwrap();
        for below in ["a/b", "ab"] {
            fs::create_dir_all(dir.path().join(below)).unwrap();
        }
        let root = File::open(dir.path()).unwrap();
        let mut folders = Folders::new(&root);
        let open = ["a", "a/b", "ab"].map(|text| folders.open(&path(text)).unwrap());
        assert!(open.iter().all(Option::is_some));
        fs::rename(dir.path().join("a"), dir.path().join("moved")).unwrap();
        folders.forget(&path("a"));
        let open = ["a", "a/b"].map(|text| folders.open(&path(text)).unwrap());
        assert!(open.iter().all(Option::is_none));
        fs::remove_dir(dir.path().join("ab")).unwrap();
        assert!(
            folders.open(&path("ab")).unwrap().is_some(),
            "a folder in the cache"
        );
    }
}
