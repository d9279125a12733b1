//! Publishes files in the store atomically, by default without replacing.
//!
//! A file is created without a name if the system supports that, else in `incoming/`.

use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::fd::{IntoRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::layout::{Layout, make_folder};
use crate::store::tmpfile::AnonymousFile;

/// The behaviour of [`Publisher::publish`] if the name is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum IfExists {
    Keep,
    Replace,
}

/// The result of publishing.
pub(super) enum PublishOutcome<'l> {
    Done,
    /// The name is taken; the file is returned.
    Exists(IncomingFile<'l>),
}

/// A file that is not published yet. Dropping it deletes it.
pub(super) struct IncomingFile<'l> {
    layout: &'l Layout,
    /// `None` once closed; a file with a name is closed before it is renamed.
    file: Option<File>,
    /// The path below the store's folder, if it has one.
    name: Option<String>,
}

impl IncomingFile<'_> {
    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.file {
            Some(file) => io::Write::write_all(file, bytes),
            None => Err(Errno::BADF.into()),
        }
    }

    /// Closes the file; some file systems report write errors only then.
    fn close(&mut self) -> io::Result<()> {
        self.file.take().map_or(Ok(()), close)
    }
}

impl Drop for IncomingFile<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // Ignore the error: the next collection removes the file.
            let _ = rustix::fs::unlinkat(&self.layout.dir, &**name, AtFlags::empty());
        }
    }
}

#[expect(unsafe_code, reason = "no safe function returns what `close` returns")]
fn close(file: File) -> io::Result<()> {
    // SAFETY: the descriptor was owned by `file`, which gave it up, and is used nowhere else.
    Ok(unsafe { rustix::io::try_close(file.into_raw_fd()) }?)
}

/// Creates and publishes files.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    pub(super) tmpfile: AnonymousFile,
    /// Random, so that names differ between processes, including those in containers.
    id: RandomState,
    count: AtomicU64,
}

impl Publisher {
    /// Creates an empty file in the store with mode 0600.
    pub(super) fn create<'l>(&self, layout: &'l Layout) -> io::Result<IncomingFile<'l>> {
        match self.try_create(layout) {
            Err(Errno::NOENT) => {
                make_folder(&layout.dir, "incoming")?;
                Ok(self.try_create(layout)?)
            }
            other => Ok(other?),
        }
    }

    fn try_create<'l>(&self, layout: &'l Layout) -> Result<IncomingFile<'l>, Errno> {
        let mode = Mode::RUSR | Mode::WUSR;
        let mut temp = IncomingFile {
            layout,
            file: None,
            name: None,
        };
        temp.file = self.tmpfile.create(&layout.dir, "incoming", mode)?;
        if temp.file.is_some() {
            return Ok(temp);
        }
        let name = self.temp_name();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        temp.file = Some(rustix::fs::openat(&layout.dir, &*name, flags, mode)?.into());
        temp.name = Some(name);
        Ok(temp)
    }

    fn temp_name(&self) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        format!("incoming/{:016x}", self.id.hash_one(count))
    }

    /// Publishes `temp` as `name` (`ab/ab12…`) below `folder`.
    pub(super) fn publish<'l>(
        &self,
        mut temp: IncomingFile<'l>,
        folder: &OwnedFd,
        name: &str,
        if_exists: IfExists,
    ) -> io::Result<PublishOutcome<'l>> {
        if temp.name.is_some() {
            temp.close()?;
        }
        let mut placed = self.place(&temp, folder, name, if_exists);
        if placed == Err(Errno::EXIST) && if_exists == IfExists::Replace {
            let temp_name = self.temp_name();
            self.link(&temp, &temp.layout.dir, &temp_name)?;
            temp.name = Some(temp_name);
            temp.close()?;
            placed = self.place(&temp, folder, name, if_exists);
        }
        match placed {
            Err(Errno::EXIST) => return Ok(PublishOutcome::Exists(temp)),
            other => other?,
        }
        temp.name = None;
        temp.close().inspect_err(|_| {
            let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
        })?;
        Ok(PublishOutcome::Done)
    }

    /// Links or renames the file, creating the folder `ab` if necessary.
    fn place(
        &self,
        temp: &IncomingFile<'_>,
        folder: &OwnedFd,
        name: &str,
        if_exists: IfExists,
    ) -> Result<(), Errno> {
        let place = || match (&temp.name, if_exists) {
            (None, _) => self.link(temp, folder, name),
            (Some(from), IfExists::Keep) => rename_new(&temp.layout.dir, from, folder, name),
            (Some(from), IfExists::Replace) => {
                rustix::fs::renameat(&temp.layout.dir, &**from, folder, name)
            }
        };
        match place() {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(folder, &name[..2], Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
                place()
            }
            other => other,
        }
    }

    /// Links a file without a name.
    fn link(&self, temp: &IncomingFile<'_>, folder: &OwnedFd, name: &str) -> Result<(), Errno> {
        let file = temp.file.as_ref().ok_or(Errno::BADF)?;
        self.tmpfile.link(file, folder, name)
    }
}

/// Renames without replacing, also on file systems without `RENAME_NOREPLACE`.
fn rename_new(dir: &OwnedFd, from: &str, folder: &OwnedFd, name: &str) -> Result<(), Errno> {
    match rustix::fs::renameat_with(dir, from, folder, name, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            match rustix::fs::linkat(dir, from, folder, name, AtFlags::empty()) {
                Err(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    // Neither call works. Equal blobs replace each other without harm.
                    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                        Ok(_) => Err(Errno::EXIST),
                        Err(_) => rustix::fs::renameat(dir, from, folder, name),
                    }
                }
                linked => {
                    linked?;
                    rustix::fs::unlinkat(dir, from, AtFlags::empty())
                }
            }
        }
        other => other,
    }
}
