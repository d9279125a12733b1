//! Temporary files without a directory entry (`O_TMPFILE`), linked into place once complete.
//!
//! If the process is killed, the system deletes such a file, and linking takes one call
//! less than creating and renaming. Not every file system supports them.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

const FLAGS: OFlags = OFlags::TMPFILE.union(OFlags::RDWR).union(OFlags::CLOEXEC);

/// Creates files without a name and links them, remembering which method works.
#[derive(Debug, Default)]
pub(super) struct AnonymousFile {
    /// A [`LinkMethod`]; it only increases.
    method: AtomicU8,
    was_probed: AtomicBool,
    probing: Mutex<()>,
}

/// A way to link a file without a name, the cheapest first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkMethod {
    /// `linkat` with `AT_EMPTY_PATH`.
    Descriptor = 0,
    /// `linkat` on `/proc/self/fd`, for kernels that restrict the first.
    Proc = 1,
    /// The system cannot create or link such files.
    None = 2,
}

impl AnonymousFile {
    fn method(&self) -> LinkMethod {
        match self.method.load(Ordering::Relaxed) {
            0 => LinkMethod::Descriptor,
            1 => LinkMethod::Proc,
            _ => LinkMethod::None,
        }
    }

    /// Rules out all methods cheaper than `method`.
    pub(super) fn fall_back(&self, method: LinkMethod) {
        self.method.fetch_max(method as u8, Ordering::Relaxed);
    }

    /// Creates a file that can be linked anywhere on the file system of `folder`. `None` if
    /// the system does not support that.
    pub(super) fn create(
        &self,
        at: impl AsFd,
        folder: &str,
        mode: Mode,
    ) -> Result<Option<File>, Errno> {
        if self.method() == LinkMethod::None {
            return Ok(None);
        }
        self.probe(&at, folder);
        if self.method() == LinkMethod::None {
            return Ok(None);
        }
        match rustix::fs::openat(at, folder, FLAGS, mode) {
            Ok(file) => Ok(Some(file.into())),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                self.fall_back(LinkMethod::None);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Links a first file and unlinks it again: sandboxes and some file systems refuse links.
    fn probe(&self, at: impl AsFd, folder: &str) {
        if self.was_probed.load(Ordering::Acquire) {
            return;
        }
        let _probing = self.probing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.was_probed.load(Ordering::Acquire) {
            return;
        }
        if !has_proc() {
            // Without /proc, some kernels cannot link such a file at all.
            self.fall_back(LinkMethod::None);
        } else if let Ok(file) = rustix::fs::openat(&at, folder, FLAGS, Mode::RUSR | Mode::WUSR) {
            let name = format!("{folder}/.probe-{}", std::process::id());
            match self.link(&file.into(), &at, &*name) {
                // Ignore the error: the folder is emptied later.
                Ok(()) => drop(rustix::fs::unlinkat(&at, &*name, AtFlags::empty())),
                Err(Errno::EXIST) => {}
                Err(_) => self.fall_back(LinkMethod::None),
            }
        } else {
            // The caller reports the error, or creates the folder.
            return;
        }
        self.was_probed.store(true, Ordering::Release);
    }

    /// Links a file to a name; `EEXIST` if the name is taken.
    pub(super) fn link<N>(&self, file: &File, folder: impl AsFd, name: N) -> Result<(), Errno>
    where
        N: rustix::path::Arg + Copy,
    {
        if self.method() == LinkMethod::Descriptor {
            let linked = rustix::fs::linkat(file, "", &folder, name, AtFlags::EMPTY_PATH);
            // ENOENT: the kernel does not allow this, or the folder does not exist. The
            // second method shows which. A sandbox may refuse only the flag.
            if !matches!(linked, Err(Errno::NOENT | Errno::PERM | Errno::INVAL)) {
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

    /// Creates, writes and links a file; returns the method that was used.
    fn link_new(tmpfile: &AnonymousFile, folder: &File, name: &str) -> Option<LinkMethod> {
        let mode = Mode::from(0o640);
        let mut file = tmpfile.create(folder, ".", mode).unwrap()?;
        file.write_all(name.as_bytes()).unwrap();
        tmpfile.link(&file, folder, name).unwrap();
        assert_eq!(tmpfile.link(&file, folder, name), Err(Errno::EXIST));
        let mut content = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut content).unwrap();
        assert_eq!(content, name);
        Some(tmpfile.method())
    }

    #[test]
    fn file_is_linked_by_the_cheapest_allowed_method() {
        let dir = tempfile::tempdir().unwrap();
        let folder = File::open(dir.path()).unwrap();
        let tmpfile = AnonymousFile::default();
        assert!(
            link_new(&tmpfile, &folder, "first").is_some_and(|method| method != LinkMethod::None)
        );
        tmpfile.fall_back(LinkMethod::Proc);
        assert!(link_new(&tmpfile, &folder, "second") == Some(LinkMethod::Proc));
        tmpfile.fall_back(LinkMethod::Descriptor);
        assert!(tmpfile.method() == LinkMethod::Proc);
        for name in ["first", "second"] {
            let content = std::fs::read_to_string(dir.path().join(name)).unwrap();
            assert_eq!(content, name);
        }
        tmpfile.fall_back(LinkMethod::None);
        assert!(link_new(&tmpfile, &folder, "third").is_none());
        let names = std::fs::read_dir(dir.path()).unwrap();
        assert_eq!(names.count(), 2, "only linked files are left");
    }
}
