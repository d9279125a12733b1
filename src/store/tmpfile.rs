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
pub(super) struct AnonymousFile {
    /// A [`LinkMethod`], only ever raised.
    way: AtomicU8,
    was_probed: AtomicBool,
}

/// From the cheapest to the last.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkMethod {
    /// Linked by descriptor.
    Descriptor = 0,
    /// Linked through `/proc`: for kernels that restrict the first.
    Proc = 1,
    /// There are no such files here.
    None = 2,
}

impl AnonymousFile {
    fn way(&self) -> LinkMethod {
        match self.way.load(Ordering::Relaxed) {
            0 => LinkMethod::Descriptor,
            1 => LinkMethod::Proc,
            _ => LinkMethod::None,
        }
    }

    /// Uses no cheaper way than `way` from now on.
    pub(super) fn fall_back(&self, way: LinkMethod) {
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
        if self.way() == LinkMethod::None {
            return Ok(None);
        }
        if !self.was_probed.swap(true, Ordering::Relaxed) && !has_proc() {
            // Then some kernels can link such a file in no way at all.
            self.fall_back(LinkMethod::None);
            return Ok(None);
        }
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::openat(at, folder, flags, mode) {
            Ok(file) => Ok(Some(file.into())),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                self.fall_back(LinkMethod::None);
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
        if self.way() == LinkMethod::Descriptor {
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
            self.fall_back(LinkMethod::Proc);
        }
        linked
    }
}

fn has_proc() -> bool {
    rustix::fs::access("/proc/self/fd", Access::EXISTS).is_ok()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, Write as _};

    use super::*;

    /// Makes a file, says something in it and gives it a name; the way that is used then.
    fn made(tmpfile: &AnonymousFile, folder: &File, name: &str) -> Option<LinkMethod> {
        let mode = Mode::from(0o640);
        let mut file = tmpfile.create(folder, ".", mode).unwrap()?;
        file.write_all(name.as_bytes()).unwrap();
        tmpfile.link(&file, folder, name).unwrap();
        assert_eq!(tmpfile.link(&file, folder, name), Err(Errno::EXIST));
        let (mut said, mut file) = (String::new(), file);
        file.rewind().unwrap();
        file.read_to_string(&mut said).unwrap();
        assert_eq!(said, name);
        Some(tmpfile.way())
    }

    #[test]
    fn a_file_gets_its_name_in_each_way_that_there_is_and_never_in_one_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let folder = File::open(dir.path()).unwrap();
        let tmpfile = AnonymousFile::default();
        assert!(made(&tmpfile, &folder, "first").is_some_and(|way| way != LinkMethod::None));
        tmpfile.fall_back(LinkMethod::Proc);
        assert!(made(&tmpfile, &folder, "second") == Some(LinkMethod::Proc));
        tmpfile.fall_back(LinkMethod::Descriptor);
        assert!(tmpfile.way() == LinkMethod::Proc);
        for name in ["first", "second"] {
            let there = std::fs::read_to_string(dir.path().join(name)).unwrap();
            assert_eq!(there, name);
        }
        tmpfile.fall_back(LinkMethod::None);
        assert!(made(&tmpfile, &folder, "third").is_none());
        let names = std::fs::read_dir(dir.path()).unwrap();
        assert_eq!(names.count(), 2, "nothing but what got a name is left");
    }
}
