//! Moves damaged objects out of the way and keeps a bounded number of them for inspection.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::layout::{Layout, make_folder};
use crate::stamp::Stamp;

/// The maximum number of objects kept.
const MAX_OBJECTS: usize = 32;
/// The maximum size of an object kept, in bytes; larger ones are removed.
const MAX_SIZE: u64 = 64 << 20;

/// Moves the object `path` (`ab/ab12…`) below `folder` to the quarantine, or removes it if
/// that fails. Returns false if it is still in its place.
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

/// Removes the oldest objects to make room for one more.
fn make_room(there: &OwnedFd) {
    let Ok(entries) = Dir::read_from(there) else {
        return;
    };
    let mut objects: Vec<(i64, std::ffi::CString)> = entries
        .filter_map(Result::ok)
        .filter(|entry| !matches!(entry.file_name().to_bytes(), b"." | b".."))
        .filter_map(|entry| {
            let name = entry.file_name().to_owned();
            // Renaming an object to the quarantine sets its ctime.
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

/// Removes the file, link or empty folder at `path`.
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
    fn quarantine_is_bounded_in_number() {
        let sample = Sample::new();
        let layout = sample.store.0.layout.as_ref().unwrap();
        let folder = sample.path("artifacts/ab");
        fs::create_dir_all(&folder).unwrap();
        for number in 0..MAX_OBJECTS + 3 {
            let name = number.to_string();
            fs::write(folder.join(&name), &name).unwrap();
            let path = format!("ab/{name}");
            assert!(move_there(layout, &layout.artifacts, path.as_bytes()));
            assert!(!folder.join(&name).exists());
            assert_eq!(
                fs::read_to_string(sample.path("quarantine").join(&name)).unwrap(),
                name
            );
            assert_eq!(sample.quarantined(), MAX_OBJECTS.min(number + 1));
        }
    }

    #[test]
    fn quarantine_keeps_no_large_objects() {
        let sample = Sample::new();
        let layout = sample.store.0.layout.as_ref().unwrap();
        let folder = sample.path("artifacts/ab");
        fs::create_dir_all(&folder).unwrap();
        let is_kept = [("large", MAX_SIZE + 1), ("largest", MAX_SIZE)].map(|(name, size)| {
            let file = File::create(folder.join(name)).unwrap();
            file.set_len(size).unwrap();
            let path = format!("ab/{name}");
            assert!(move_there(layout, &layout.artifacts, path.as_bytes()));
            assert!(!folder.join(name).exists());
            sample.path("quarantine").join(name).exists()
        });
        assert_eq!(is_kept, [false, true]);
    }

    #[test]
    fn object_is_removed_if_it_cannot_be_moved() {
        let sample = Sample::new();
        let layout = sample.store.0.layout.as_ref().unwrap();
        fs::remove_dir_all(sample.path("quarantine")).unwrap();
        fs::write(sample.path("quarantine"), "a file").unwrap();
        let folder = sample.path("artifacts/ab");
        fs::create_dir_all(folder.join("folder")).unwrap();
        fs::create_dir_all(folder.join("full/x")).unwrap();
        fs::write(folder.join("file"), "").unwrap();
        let is_gone = ["file", "folder", "full", "nothing"].map(|name| {
            let path = format!("ab/{name}");
            move_there(layout, &layout.artifacts, path.as_bytes())
        });
        assert_eq!(is_gone, [true, true, false, false]);
        assert!(!folder.join("file").exists() && !folder.join("folder").exists());
    }

    #[test]
    fn quarantine_that_is_a_link_is_not_followed() {
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
