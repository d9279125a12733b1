//! Where objects go that are not what their name says: kept for a look, in a bounded
//! number, and out of everybody's way. It does not decide what is damaged.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::layout::{Layout, make_folder};
use crate::stamp::Stamp;

/// No more objects than this are kept.
const MAX_OBJECTS: usize = 32;
/// An object larger than this (bytes) is removed instead of kept.
const MAX_SIZE: u64 = 64 << 20;

/// Moves the object `name` (`ab/ab12…`) below `folder` to the quarantine, or removes it
/// where that fails. Whether it went is not said: it is met again if it did not.
pub(super) fn move_there(layout: &Layout, folder: &OwnedFd, name: &str) {
    if !try_move(layout, folder, name) {
        remove(folder, name);
    }
}

fn try_move(layout: &Layout, folder: &OwnedFd, name: &str) -> bool {
    let is_small = matches!(Stamp::at(folder, name), Ok(Some(stamp)) if stamp.size <= MAX_SIZE);
    if !is_small || make_folder(&layout.dir, "quarantine").is_err() {
        return false;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(there) = rustix::fs::openat(&layout.dir, "quarantine", flags, Mode::empty()) else {
        return false;
    };
    make_room(&there);
    rustix::fs::renameat(folder, name, &there, &name[3..]).is_ok()
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
            let stamp = Stamp::at(there, std::ffi::OsStr::new(&*name.to_string_lossy())).ok()??;
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
fn remove(folder: impl AsFd, name: &str) {
    if rustix::fs::unlinkat(&folder, name, AtFlags::empty()) == Err(Errno::ISDIR) {
        let _ = rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR);
    }
}
