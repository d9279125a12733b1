//! Replaces new files by equal old ones, so that their times and inodes do not change.

use std::fs::File;
use std::io::{self, Read as _};

use rustix::fs::{Mode, OFlags};

use super::dirs::{Folders, os};
use super::list::read_folder;
use super::moves::{EntryAt, move_to};
use super::{Error, io as io_error};
use crate::path::RelPath;
use crate::stamp::{FileKind, Stamp};

/// Moves old files over equal new ones.
pub(super) struct UnchangedFiles<'a> {
    /// In the stage.
    pub(super) old: Folders<'a>,
    /// In the tree.
    pub(super) new: Folders<'a>,
    /// The number of files moved.
    pub(super) reinstated: usize,
}

impl UnchangedFiles<'_> {
    /// Reinstates all unchanged files in a folder.
    pub(super) fn reinstate_below(&mut self, old: &RelPath, new: &RelPath) -> Result<(), Error> {
        let mut pending = vec![old.clone()];
        while let Some(path) = pending.pop() {
            let Some(folder) = self.old.open(&path)? else {
                continue;
            };
            for child in read_folder(&folder, &path)? {
                match child.kind {
                    FileKind::Folder => pending.push(child.path),
                    _ => {
                        let below = child.path.below(old).unwrap_or_default();
                        self.reinstate(&child.path, &new.join(&below))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Moves the file or link `old` over `new` if they are equal.
    pub(super) fn reinstate(&mut self, old: &RelPath, new: &RelPath) -> Result<(), Error> {
        let parents = (
            self.old.open(&old.parent().unwrap_or_default())?,
            self.new.open(&new.parent().unwrap_or_default())?,
        );
        let (Some(old_parent), Some(new_parent)) = parents else {
            return Ok(());
        };
        let from = EntryAt::new(&*old_parent, old.name());
        let to = EntryAt::new(&*new_parent, new.name());
        if is_same(from, to).map_err(io_error("compare", new))? {
            move_to(from, to).map_err(io_error("put back", new))?;
            self.reinstated += 1;
        }
        Ok(())
    }
}

/// Returns true for two files with the same content and executable bit, and for two links
/// with the same target.
pub(super) fn is_same(old: EntryAt<'_>, new: EntryAt<'_>) -> io::Result<bool> {
    let (Some(a), Some(b)) = (old.stamp()?, new.stamp()?) else {
        return Ok(false);
    };
    if a.kind() != b.kind() || a.size != b.size || a.is_executable() != b.is_executable() {
        return Ok(false);
    }
    match a.kind() {
        FileKind::File => has_same_bytes(open(old)?, open(new)?, &a),
        FileKind::Link => Ok(target(old)? == target(new)?),
        _ => Ok(false),
    }
}

fn open(place: EntryAt<'_>) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(place.folder, os(place.name), flags, Mode::empty())?;
    Ok(file.into())
}

fn target(place: EntryAt<'_>) -> io::Result<std::ffi::CString> {
    let target = rustix::fs::readlinkat(place.folder, os(place.name), Vec::new());
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// Two paths to compare.
    struct Pair {
        dir: tempfile::TempDir,
        folder: File,
        a: std::path::PathBuf,
        b: std::path::PathBuf,
    }

    impl Pair {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
            let folder = File::open(dir.path()).unwrap();
            Self { dir, folder, a, b }
        }

        fn is_same(&self) -> bool {
            let [a, b] = [b"a", b"b"].map(|name| EntryAt::new(&self.folder, name));
            is_same(a, b).unwrap()
        }
    }

    #[test]
    fn files_differ_in_any_byte() {
        let pair = Pair::new();
        let (a, b) = (&pair.a, &pair.b);
        let is_same = || pair.is_same();
        for size in [1, 65_535, 65_536, 65_537, 200_000] {
            let mut bytes = vec![b'x'; size];
            fs::write(a, &bytes).unwrap();
            fs::write(b, &bytes).unwrap();
            assert!(is_same());
            for at in [0, size / 2, size - 1] {
                bytes[at] = b'y';
                fs::write(b, &bytes).unwrap();
                assert!(!is_same(), "{at} of {size}");
                bytes[at] = b'x';
            }
        }
    }

    #[test]
    fn files_differ_in_the_executable_bit() {
        let pair = Pair::new();
        fs::write(&pair.a, "").unwrap();
        fs::write(&pair.b, "").unwrap();
        assert!(pair.is_same());
        fs::set_permissions(&pair.b, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(!pair.is_same());
    }

    #[test]
    fn links_differ_in_their_targets() {
        let pair = Pair::new();
        let (a, b) = (&pair.a, &pair.b);
        fs::write(pair.dir.path().join("to"), "text").unwrap();
        for (target, expected) in [("to", true), ("ot", false), ("longer", false)] {
            let _ = (fs::remove_file(a), fs::remove_file(b));
            symlink("to", a).unwrap();
            symlink(target, b).unwrap();
            assert_eq!(pair.is_same(), expected, "{target}");
            assert!(open(EntryAt::new(&pair.folder, b"a")).is_err());
        }
    }

    #[test]
    fn entries_of_other_kinds_differ() {
        let pair = Pair::new();
        let (a, b) = (&pair.a, &pair.b);
        fs::write(a, "longer").unwrap();
        assert!(!pair.is_same(), "a file and no entry");
        symlink("longer", b).unwrap();
        assert!(!pair.is_same(), "a file and a link");
        for path in [a, b] {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }
        assert!(!pair.is_same(), "folders are not compared");
    }
}
