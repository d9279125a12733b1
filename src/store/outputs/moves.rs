//! Moves entries between folders, also between file systems, and makes folders writable.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Mode, OFlags, Timestamps};
use rustix::io::Errno;

use super::dirs::{open_child, os};
use crate::stamp::{FileKind, Stamp};

/// An entry of an open folder, which need not exist.
#[derive(Clone, Copy)]
pub(super) struct EntryAt<'a> {
    pub(super) folder: BorrowedFd<'a>,
    pub(super) name: &'a [u8],
}

impl<'a> EntryAt<'a> {
    pub(super) fn new(folder: &'a impl AsFd, name: &'a [u8]) -> Self {
        let folder = folder.as_fd();
        Self { folder, name }
    }

    /// Returns the stamp, or `None` if the entry does not exist.
    pub(super) fn stamp(self) -> io::Result<Option<Stamp>> {
        Stamp::at(self.folder, os(self.name))
    }

    /// Returns the folder that the entry is in.
    pub(super) fn parent(self) -> Self {
        Self { name: b".", ..self }
    }

    pub(super) fn remove_file(self) -> Result<(), Errno> {
        rustix::fs::unlinkat(self.folder, os(self.name), AtFlags::empty())
    }

    pub(super) fn remove_folder(self) -> Result<(), Errno> {
        rustix::fs::unlinkat(self.folder, os(self.name), AtFlags::REMOVEDIR)
    }
}

/// Moves an entry, replacing a file or a link. Between file systems it is copied, with times
/// and permissions, to a temporary name beside the new one first.
pub(super) fn move_to(from: EntryAt<'_>, to: EntryAt<'_>) -> io::Result<()> {
    match rename(from, to) {
        Err(Errno::XDEV) => {
            make_writable(from.parent());
            move_across(from, to, 0)
        }
        // Both the old parent and a moved folder, whose `..` changes, must be writable.
        Err(Errno::ACCESS) if make_movable(from) => Ok(rename(from, to)?),
        other => Ok(other?),
    }
}

fn rename(from: EntryAt<'_>, to: EntryAt<'_>) -> Result<(), Errno> {
    rustix::fs::renameat(from.folder, os(from.name), to.folder, os(to.name))
}

/// Makes an entry's parent, and the entry if it is a folder, writable for their owner; false
/// if they already were.
fn make_movable(from: EntryAt<'_>) -> bool {
    let is_parent_changed = make_writable(from.parent());
    make_writable(from) || is_parent_changed
}

/// Makes a folder writable for its owner; false if it already was or is not a folder.
pub(super) fn make_writable(place: EntryAt<'_>) -> bool {
    let Ok(Some(stamp)) = place.stamp() else {
        return false;
    };
    if stamp.kind() != FileKind::Folder || stamp.mode & 0o700 == 0o700 {
        return false;
    }
    let mode = Mode::from_raw_mode(stamp.mode & 0o7777 | 0o700);
    // The stamp shows that it is not a link, which chmod would follow.
    rustix::fs::chmodat(place.folder, os(place.name), mode, AtFlags::empty()).is_ok()
}

/// The maximum depth of folders moved between file systems, which is recursive.
const MAX_DEPTH: usize = 200;

fn move_across(from: EntryAt<'_>, to: EntryAt<'_>, depth: usize) -> io::Result<()> {
    let Some(stamp) = from.stamp()? else {
        return Err(Errno::NOENT.into());
    };
    match stamp.kind() {
        FileKind::Folder if depth < MAX_DEPTH => move_folder_across(from, to, stamp.mode, depth),
        FileKind::File => {
            copy_beside(from, to, &stamp)?;
            Ok(from.remove_file()?)
        }
        FileKind::Link => {
            let target = rustix::fs::readlinkat(from.folder, os(from.name), Vec::new())?;
            let beside = beside(to.name);
            rustix::fs::symlinkat(&*target, to.folder, os(&beside))?;
            rename(
                EntryAt {
                    name: &beside,
                    ..to
                },
                to,
            )?;
            Ok(from.remove_file()?)
        }
        _ => Err(Errno::XDEV.into()),
    }
}

fn move_folder_across(
    from: EntryAt<'_>,
    to: EntryAt<'_>,
    mode: u32,
    depth: usize,
) -> io::Result<()> {
    match rustix::fs::mkdirat(to.folder, os(to.name), Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    make_writable(from);
    let source = open_child(from.folder, from.name)?;
    let target = open_child(to.folder, to.name)?;
    for entry in rustix::fs::Dir::read_from(&source)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            let (from, to) = (EntryAt::new(&source, name), EntryAt::new(&target, name));
            move_across(from, to, depth + 1)?;
        }
    }
    rustix::fs::fchmod(&target, Mode::from_raw_mode(mode & 0o7777))?;
    Ok(from.remove_folder()?)
}

/// Copies a file to a temporary name beside `to` and renames it.
fn copy_beside(from: EntryAt<'_>, to: EntryAt<'_>, stamp: &Stamp) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = rustix::fs::openat(from.folder, os(from.name), flags, Mode::empty())?;
    let mut source = File::from(source);
    let beside = beside(to.name);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = rustix::fs::openat(to.folder, os(&beside), flags, Mode::RWXU)?;
    let mut copy = File::from(copy);
    let beside = EntryAt {
        name: &beside,
        ..to
    };
    let copied = io::copy(&mut source, &mut copy)
        .and_then(|_| copy.flush())
        .and_then(|()| keep_metadata(&copy, stamp))
        .and_then(|()| Ok(rename(beside, to)?));
    copied.inspect_err(|_| {
        let _ = beside.remove_file();
    })
}

fn keep_metadata(copy: &File, stamp: &Stamp) -> io::Result<()> {
    const SECOND: i64 = 1_000_000_000;
    let mtime = rustix::fs::Timespec {
        tv_sec: stamp.mtime.div_euclid(SECOND),
        tv_nsec: stamp.mtime.rem_euclid(SECOND),
    };
    let times = Timestamps {
        last_access: mtime,
        last_modification: mtime,
    };
    rustix::fs::fchmod(copy, Mode::from_raw_mode(stamp.mode & 0o7777))?;
    Ok(rustix::fs::futimens(copy, &times)?)
}

/// Returns a temporary name for a file that will be renamed to `name`.
fn beside(name: &[u8]) -> Vec<u8> {
    let kept = &name[..name.len().min(200)];
    [b".fbuild-", kept].concat()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::path::MAX_NAME;

    /// Two folders to move entries between.
    struct TwoFolders {
        dir: tempfile::TempDir,
        from: OwnedFd,
        to: OwnedFd,
    }

    impl TwoFolders {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let [from, to] = ["from", "to"].map(|name| {
                fs::create_dir(dir.path().join(name)).unwrap();
                File::open(dir.path().join(name)).unwrap().into()
            });
            Self { dir, from, to }
        }

        fn path(&self, below: &str) -> PathBuf {
            self.dir.path().join(below)
        }

        fn write(&self, below: &str, text: &str, mode: u32) {
            let path = self.path(below);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }

        fn mode(&self, below: &str) -> u32 {
            self.path(below).metadata().unwrap().mode() & 0o7777
        }

        /// Moves `x` as if the folders were on two file systems.
        fn move_across(&self, depth: usize) -> io::Result<()> {
            let (from, to) = (EntryAt::new(&self.from, b"x"), EntryAt::new(&self.to, b"x"));
            move_across(from, to, depth)
        }

        fn is_empty(&self, folder: &str) -> bool {
            fs::read_dir(self.path(folder)).unwrap().next().is_none()
        }
    }

    #[test]
    fn make_writable_changes_only_the_owners_bits() {
        let two = TwoFolders::new();
        let make_writable = |name: &str| make_writable(EntryAt::new(&two.from, name.as_bytes()));
        fs::create_dir(two.path("from/x")).unwrap();
        for (before, after) in [(0o2550, 0o2750), (0o000, 0o700), (0o1077, 0o1777)] {
            let mode = fs::Permissions::from_mode(before);
            fs::set_permissions(two.path("from/x"), mode).unwrap();
            assert!(make_writable("x"));
            assert_eq!(two.mode("from/x"), after);
            assert!(!make_writable("x"), "it already is");
        }
    }

    #[test]
    fn make_writable_ignores_files_and_links() {
        let two = TwoFolders::new();
        let make_writable = |name: &str| make_writable(EntryAt::new(&two.from, name.as_bytes()));
        fs::create_dir(two.path("from/x")).unwrap();
        two.write("from/file", "", 0o444);
        symlink("x", two.path("from/link")).unwrap();
        fs::set_permissions(two.path("from/x"), fs::Permissions::from_mode(0o500)).unwrap();
        for name in ["file", "link", "nothing"] {
            assert!(!make_writable(name));
        }
        assert_eq!((two.mode("from/file"), two.mode("from/x")), (0o444, 0o500));
    }

    #[test]
    fn move_across_keeps_content_and_metadata() {
        let two = TwoFolders::new();
        two.write("from/x/file", "text", 0o4754);
        two.write("from/x/sub/deep", "more", 0o600);
        symlink("nowhere", two.path("from/x/link")).unwrap();
        fs::create_dir(two.path("from/x/empty")).unwrap();
        let file = File::open(two.path("from/x/file")).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_234_567, 89);
        file.set_modified(time).unwrap();
        // The destination has older files.
        two.write("to/x/file", "old", 0o600);
        symlink("elsewhere", two.path("to/x/link")).unwrap();
        two.move_across(0).unwrap();
        assert!(two.is_empty("from"));
        assert_eq!(fs::read_to_string(two.path("to/x/file")).unwrap(), "text");
        assert_eq!(two.mode("to/x/file"), 0o4754);
        let modified = two.path("to/x/file").metadata().unwrap().modified();
        assert_eq!(modified.unwrap(), time);
        let deep = fs::read_to_string(two.path("to/x/sub/deep"));
        assert_eq!(deep.unwrap(), "more");
        let link = fs::read_link(two.path("to/x/link")).unwrap();
        assert_eq!(link, Path::new("nowhere"));
        assert!(two.is_empty("to/x/empty"));
        assert_eq!(fs::read_dir(two.path("to/x")).unwrap().count(), 4);
    }

    #[test]
    fn failed_move_across_leaves_both_sides_unchanged() {
        let two = TwoFolders::new();
        let error = two.move_across(0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        rustix::fs::mknodat(
            &two.from,
            "x",
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let error = two.move_across(0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::CrossesDevices);
        fs::remove_file(two.path("from/x")).unwrap();
        two.write("from/x", "text", 0o600);
        assert!(two.is_empty("to"));
        fs::create_dir_all(two.path("to/x/full")).unwrap();
        assert!(two.move_across(0).is_err());
        assert_eq!(fs::read_to_string(two.path("from/x")).unwrap(), "text");
        assert_eq!(fs::read_dir(two.path("to")).unwrap().count(), 1);
    }

    #[test]
    fn move_across_is_limited_in_depth() {
        let two = TwoFolders::new();
        fs::create_dir_all(two.path("from/x/y")).unwrap();
        for depth in [MAX_DEPTH, MAX_DEPTH - 1] {
            let error = two.move_across(depth).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::CrossesDevices);
            assert!(two.path("from/x/y").exists());
        }
        two.move_across(MAX_DEPTH - 2).unwrap();
        assert!(two.path("to/x/y").exists());
    }

    #[test]
    fn temporary_name_is_not_too_long() {
        assert_eq!(beside(b"out"), b".fbuild-out");
        assert!(beside(&[b'x'; MAX_NAME]).len() <= MAX_NAME);
    }

    #[test]
    fn copy_does_not_follow_a_link() {
        let two = TwoFolders::new();
        two.write("from/real", "text", 0o600);
        symlink("real", two.path("from/x")).unwrap();
        let (from, to) = (EntryAt::new(&two.from, b"x"), EntryAt::new(&two.to, b"x"));
        let stamp = from.stamp().unwrap().unwrap();
        assert!(copy_beside(from, to, &stamp).is_err());
        assert!(two.is_empty("to"));
    }
}
