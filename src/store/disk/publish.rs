//! How a file gets its name in the store: all of it at once, and by default only if
//! nothing has that name yet. It does not know what is in the file.
//!
//! A file is made without a name where the system can do that, else below `incoming/`.

use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::fd::{IntoRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::layout::{Layout, make_folder};
use crate::store::tmpfile::AnonymousFile;

/// What is done about something that has the name already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    Keep,
    Replace,
}

/// What came of publishing.
pub(super) enum Published<'l> {
    Done,
    /// Something has that name; the file is still to be had.
    Exists(Temp<'l>),
}

/// A file on its way into the store. Dropped, it is gone.
pub(super) struct Temp<'l> {
    layout: &'l Layout,
    /// `None` once closed, which a file with a name is before it is moved.
    file: Option<File>,
    /// Its name below the store's folder; `None` while it has none.
    name: Option<String>,
}

impl Temp<'_> {
    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.file {
            Some(file) => io::Write::write_all(file, bytes),
            None => Err(Errno::BADF.into()),
        }
    }

    /// Closes the file; some file systems say only then that it could not be written.
    fn close(&mut self) -> io::Result<()> {
        self.file.take().map_or(Ok(()), close)
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // What is left here is removed by the next collection.
            let _ = rustix::fs::unlinkat(&self.layout.dir, &**name, AtFlags::empty());
        }
    }
}

#[expect(unsafe_code, reason = "no safe function returns what `close` returns")]
fn close(file: File) -> io::Result<()> {
    // SAFETY: the descriptor was owned by `file`, which gave it up, and is used nowhere else.
    Ok(unsafe { rustix::io::try_close(file.into_raw_fd()) }?)
}

/// Makes files and gives them names.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    pub(super) tmpfile: AnonymousFile,
    /// Random, so that names differ between processes, containers included.
    id: RandomState,
    count: AtomicU64,
}

impl Publisher {
    /// Makes an empty file in the store, for its owner only.
    pub(super) fn create<'l>(&self, layout: &'l Layout) -> io::Result<Temp<'l>> {
        match self.try_create(layout) {
            Err(Errno::NOENT) => {
                make_folder(&layout.dir, "incoming")?;
                Ok(self.try_create(layout)?)
            }
            other => Ok(other?),
        }
    }

    fn try_create<'l>(&self, layout: &'l Layout) -> Result<Temp<'l>, Errno> {
        let mode = Mode::RUSR | Mode::WUSR;
        let mut temp = Temp {
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

    /// Gives `temp` the name `name` (`ab/ab12…`) below `folder`.
    pub(super) fn publish<'l>(
        &self,
        mut temp: Temp<'l>,
        folder: &OwnedFd,
        name: &str,
        existing: Existing,
    ) -> io::Result<Published<'l>> {
        if temp.name.is_some() {
            temp.close()?;
        }
        let mut placed = self.place(&temp, folder, name, existing);
        if placed == Err(Errno::EXIST) && existing == Existing::Replace {
            let temp_name = self.temp_name();
            self.link(&temp, &temp.layout.dir, &temp_name)?;
            temp.name = Some(temp_name);
            temp.close()?;
            placed = self.place(&temp, folder, name, existing);
        }
        match placed {
            Err(Errno::EXIST) => return Ok(Published::Exists(temp)),
            other => other?,
        }
        temp.name = None;
        temp.close().inspect_err(|_| {
            let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
        })?;
        Ok(Published::Done)
    }

    /// Links or renames, making the folder `ab` when it is not there yet.
    fn place(
        &self,
        temp: &Temp<'_>,
        folder: &OwnedFd,
        name: &str,
        existing: Existing,
    ) -> Result<(), Errno> {
        let place = || match (&temp.name, existing) {
            (None, _) => self.link(temp, folder, name),
            (Some(from), Existing::Keep) => rename_new(&temp.layout.dir, from, folder, name),
            (Some(from), Existing::Replace) => {
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

    /// Links a file without a name to one.
    fn link(&self, temp: &Temp<'_>, folder: &OwnedFd, name: &str) -> Result<(), Errno> {
        let file = temp.file.as_ref().ok_or(Errno::BADF)?;
        self.tmpfile.link(file, folder, name)
    }
}

/// Renames without replacing, also where the file system cannot do that in one call.
fn rename_new(dir: &OwnedFd, from: &str, folder: &OwnedFd, name: &str) -> Result<(), Errno> {
    match rustix::fs::renameat_with(dir, from, folder, name, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            rustix::fs::linkat(dir, from, folder, name, AtFlags::empty())?;
            rustix::fs::unlinkat(dir, from, AtFlags::empty())
        }
        other => other,
    }
}
