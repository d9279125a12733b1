//! Files without a name, which get one when they are whole. Who makes them, and where
//! they are to be, it does not know.
//!
//! A process that is killed leaves nothing of such a file behind, and it takes a call less
//! than a name that is changed. Not every file system has them.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

/// Makes files without a name and gives them one, remembering what the system offers.
#[derive(Debug, Default)]
pub(super) struct Unnamed {
    /// A [`Way`], only ever raised.
    way: AtomicU8,
    was_probed: AtomicBool,
}

/// From the cheapest to the last.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Linked by descriptor.
    Descriptor = 0,
    /// Linked through `/proc`: for kernels that restrict the first.
    Proc = 1,
    /// There are no such files here.
    None = 2,
}

impl Unnamed {
    fn way(&self) -> Way {
        match self.way.load(Ordering::Relaxed) {
            0 => Way::Descriptor,
            1 => Way::Proc,
            _ => Way::None,
        }
    }

    /// Uses no cheaper way than `way` from now on.
    pub(super) fn fall_back(&self, way: Way) {
        self.way.fetch_max(way as u8, Ordering::Relaxed);
    }

    /// Makes a file that can be linked to any place on the file system of a folder; `None`
    /// where that cannot be done.
    pub(super) fn create(
        &self,
        at: impl AsFd,
        folder: &str,
        mode: Mode,
    ) -> Result<Option<File>, Errno> {
        if self.way() == Way::None {
            return Ok(None);
        }
        if !self.was_probed.swap(true, Ordering::Relaxed) && !has_proc() {
            // Then some kernels can link such a file in no way at all.
            self.fall_back(Way::None);
            return Ok(None);
        }
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::openat(at, folder, flags, mode) {
            Ok(file) => Ok(Some(file.into())),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                self.fall_back(Way::None);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Gives a file its name; `EEXIST` when something has it already.
    pub(super) fn link<N>(&self, file: &File, folder: impl AsFd, name: N) -> Result<(), Errno>
    where
        N: rustix::path::Arg + Copy,
    {
        if self.way() == Way::Descriptor {
            let linked = rustix::fs::linkat(file, "", &folder, name, AtFlags::EMPTY_PATH);
            // "Not found" is what a kernel says that does not allow this, or that there is
            // no such folder; the second way tells which.
            if linked != Err(Errno::NOENT) {
                return linked;
            }
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let linked = rustix::fs::linkat(CWD, path, folder, name, AtFlags::SYMLINK_FOLLOW);
        if linked.is_ok() {
            self.fall_back(Way::Proc);
        }
        linked
    }
}

fn has_proc() -> bool {
    rustix::fs::access("/proc/self/fd", Access::EXISTS).is_ok()
}
