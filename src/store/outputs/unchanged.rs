//! Old files in the place of new ones that are equal to them, so that whoever looks at
//! times and inodes sees no change. It does not know which outputs that is wanted for.

use std::fs::File;
use std::io::{self, Read as _};

use rustix::fs::{Mode, OFlags};

use super::at::{Folders, os};
use super::list::read_folder;
use super::stage::{Place, move_to};
use super::{Error, io as io_error};
use crate::path::RelPath;
use crate::stamp::{FileKind, Stamp};

/// Puts old files in the place of equal new ones.
pub(super) struct Watchdog<'a> {
    /// In the stage.
    pub(super) old: Folders<'a>,
    /// In the tree.
    pub(super) new: Folders<'a>,
    pub(super) kept: usize,
}

impl Watchdog<'_> {
    /// Does it for everything in a folder.
    pub(super) fn keep_below(&mut self, old: &RelPath, new: &RelPath) -> Result<(), Error> {
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
                        self.keep(&child.path, &new.join(&below))?;
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn keep(&mut self, old: &RelPath, new: &RelPath) -> Result<(), Error> {
        let parents = (
            self.old.open(&old.parent().unwrap_or_default())?,
            self.new.open(&new.parent().unwrap_or_default())?,
        );
        let (Some(old_parent), Some(new_parent)) = parents else {
            return Ok(());
        };
        let from = Place::new(&*old_parent, old.name());
        let to = Place::new(&*new_parent, new.name());
        if is_same(from, to).map_err(io_error("compare", new))? {
            move_to(from, to).map_err(io_error("put back", new))?;
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
        FileKind::File => has_same_bytes(open(old)?, open(new)?, &a),
        FileKind::Link => Ok(target(old)? == target(new)?),
        _ => Ok(false),
    }
}

fn open(place: Place<'_>) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(place.folder, os(place.name), flags, Mode::empty())?;
    Ok(file.into())
}

fn target(place: Place<'_>) -> io::Result<std::ffi::CString> {
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

    #[test]
    fn files_are_the_same_only_if_every_byte_is() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        let folder = File::open(dir.path()).unwrap();
        fs::write(dir.path().join("to"), "text").unwrap();
        let is_same = || {
            let (a, b) = (Place::new(&folder, b"a"), Place::new(&folder, b"b"));
            is_same(a, b).unwrap()
        };
        for size in [1, 65_535, 65_536, 65_537, 200_000] {
            let mut bytes = vec![b'x'; size];
            fs::write(&a, &bytes).unwrap();
            fs::write(&b, &bytes).unwrap();
            assert!(is_same());
            for at in [0, size / 2, size - 1] {
                bytes[at] = b'y';
                fs::write(&b, &bytes).unwrap();
                assert!(!is_same(), "{at} of {size}");
                bytes[at] = b'x';
            }
        }
        fs::write(&a, "").unwrap();
        fs::write(&b, "").unwrap();
        assert!(is_same());
        fs::set_permissions(&b, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(!is_same(), "one can be executed");
        fs::remove_file(&b).unwrap();
        assert!(!is_same(), "one is not there");
        for (target, expected) in [("to", true), ("ot", false), ("longer", false)] {
            let _ = (fs::remove_file(&a), fs::remove_file(&b));
            symlink("to", &a).unwrap();
            symlink(target, &b).unwrap();
            assert_eq!(is_same(), expected, "{target}");
            assert!(open(Place::new(&folder, b"a")).is_err());
        }
        fs::remove_file(&a).unwrap();
        fs::write(&a, "longer").unwrap();
        assert!(!is_same(), "a file and a link");
        for path in [&a, &b] {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }
        assert!(!is_same(), "folders are not compared");
    }
}
