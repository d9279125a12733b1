//! Where objects go that are not what their name says: kept for a look, in a bounded
//! number, and out of everybody's way. It does not decide what is damaged.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::layout::{Layout, make_folder};
use crate::stamp::Stamp;

/// No more objects than this are kept.
const MAX_OBJECTS: usize = 32;
/// An object larger than this (bytes) is removed instead of kept.
const MAX_SIZE: u64 = 64 << 20;

/// Moves the object `path` (`ab/ab12…`) below `folder` to the quarantine, or removes it
/// where that fails. Tells whether it went; if not, it is met again.
pub(super) fn move_there(layout: &Layout, folder: &OwnedFd, path: &[u8]) -> bool {
    try_move(layout, folder, path) || remove(folder, path)
}

fn try_move(layout: &Layout, folder: &OwnedFd, path: &[u8]) -> bool {
    let stamp = Stamp::at(folder, OsStr::from_bytes(path));
    let is_small = matches!(stamp, Ok(Some(stamp)) if stamp.size <= MAX_SIZE);
    if !is_small || make_folder(&layout.dir, "quarantine").is_err() {
        return false;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(there) = rustix::fs::openat(&layout.dir, "quarantine", flags, Mode::empty()) else {
        return false;
    };
    make_room(&there);
    let start = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
    rustix::fs::renameat(folder, path, &there, &path[start..]).is_ok()
}

/// Removes the oldest objects until there is room for one more.
fn make_room(there: &OwnedFd) {
    let Ok(entries) = Dir::read_from(there) else {
        return;
    };
    let mut objects: Vec<(i64, std::ffi::CString)> = entries
        .filter_map(Result::ok)
        .filter(|entry| !matches!(entry.file_name().to_bytes(), b"." | b".."))
        .filter_map(|entry| {
            let name = entry.file_name().to_owned();
            // The change time is when it was moved here.
            let stamp = Stamp::at(there, OsStr::from_bytes(name.to_bytes())).ok()??;
            Some((stamp.ctime, name))
        })
        .collect();
    objects.sort();
    let surplus = (objects.len() + 1).saturating_sub(MAX_OBJECTS);
    for (_, name) in &objects[..surplus] {
        let _ = rustix::fs::unlinkat(there, &**name, AtFlags::empty());
    }
}

/// Removes whatever stands where an object should.
pub(super) fn remove(folder: &OwnedFd, path: &[u8]) -> bool {
    match rustix::fs::unlinkat(folder, path, AtFlags::empty()) {
        Err(Errno::ISDIR) => rustix::fs::unlinkat(folder, path, AtFlags::REMOVEDIR).is_ok(),
        other => other.is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::super::tests::Sample;
    use super::*;

    #[test]
    fn the_newest_few_objects_are_kept_and_no_large_ones() {
        let sample = Sample::new();
        let layout = sample.store.0.layout.as_ref().unwrap();
        let folder = sample.path("artifacts/ab");
        fs::create_dir_all(&folder).unwrap();
        let put_aside = |name: &str| {
            let path = format!("ab/{name}");
            assert!(move_there(layout, &layout.artifacts, path.as_bytes()));
            assert!(!folder.join(name).exists());
        };
        for (name, size) in [("large", MAX_SIZE + 1), ("largest", MAX_SIZE)] {
            let file = File::create(folder.join(name)).unwrap();
            file.set_len(size).unwrap();
            put_aside(name);
        }
        assert!(!sample.path("quarantine/large").exists());
        assert!(sample.path("quarantine/largest").exists());
        for number in 0..MAX_OBJECTS {
            let name = number.to_string();
            fs::write(folder.join(&name), &name).unwrap();
            put_aside(&name);
            assert_eq!(
                fs::read_to_string(sample.path("quarantine").join(&name)).unwrap(),
                name
            );
            let expected = MAX_OBJECTS.min(number + 2);
            assert_eq!(sample.quarantined(), expected);
        }
    }

    #[test]
    fn what_cannot_be_kept_is_removed_and_what_cannot_be_removed_is_said() {
        let sample = Sample::new();
        let layout = sample.store.0.layout.as_ref().unwrap();
        fs::remove_dir_all(sample.path("quarantine")).unwrap();
        fs::write(sample.path("quarantine"), "in the way").unwrap();
        let folder = sample.path("artifacts/ab");
        fs::create_dir_all(folder.join("folder")).unwrap();
        fs::create_dir_all(folder.join("full/x")).unwrap();
        fs::write(folder.join("file"), "").unwrap();
        let went = ["file", "folder", "full", "nothing"].map(|name| {
            let path = format!("ab/{name}");
            move_there(layout, &layout.artifacts, path.as_bytes())
        });
        assert_eq!(went, [true, true, false, false]);
        assert!(!folder.join("file").exists() && !folder.join("folder").exists());
    }

    #[test]
    fn a_link_in_the_place_of_the_quarantine_is_not_followed() {
        let sample = Sample::new();
        let layout = sample.store.0.layout.as_ref().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::remove_dir_all(sample.path("quarantine")).unwrap();
        std::os::unix::fs::symlink(outside.path(), sample.path("quarantine")).unwrap();
        fs::create_dir_all(sample.path("artifacts/ab")).unwrap();
        fs::write(sample.path("artifacts/ab/x"), "").unwrap();
        assert!(move_there(layout, &layout.artifacts, b"ab/x"));
        assert!(!sample.path("artifacts/ab/x").exists());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
