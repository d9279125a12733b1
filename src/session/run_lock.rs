//! Takes the lock that excludes two runs in one checkout.
//!
//! It is a file in the state folder. If that folder is unusable, or on a file system without
//! locks, a file in the user's own folder replaces it: that excludes runs of one user on one
//! machine.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::Host;
use crate::exec;
use crate::store::outputs;
use crate::system::file_lock;

/// The kind of the error for a lock that a run around this one holds: it would never be
/// released.
pub(super) const NESTED: io::ErrorKind = io::ErrorKind::Deadlock;

/// The lock of a checkout, until it is dropped.
#[derive(Debug)]
pub(super) struct RunLock(File);

/// The result of opening and locking a file.
enum Attempt {
    Locked(RunLock),
    /// Another run holds the lock.
    Busy,
    /// The file system has no locks.
    Unsupported,
}

impl RunLock {
    /// Takes the lock `path` of the checkout in `folder`, unless another run holds it or `path`
    /// does not exist. The holder is not recorded: such a lock is usually released at once.
    pub(super) fn try_take(host: &Host<'_>, folder: &Path, path: &Path) -> Option<Self> {
        if !path.symlink_metadata().is_ok_and(|m| m.is_file()) {
            return None;
        }
        let attempt = match attempt(path).ok()? {
            Attempt::Unsupported => attempt(&substitute(host, folder).ok()?).ok()?,
            attempt => attempt,
        };
        match attempt {
            Attempt::Locked(lock) => Some(lock),
            Attempt::Busy | Attempt::Unsupported => None,
        }
    }

    /// Takes the lock `path` of the checkout in `folder`. Reports the run that it waits for.
    /// `make_folder` creates the folder of the lock, again if another run removed it.
    pub(super) fn take(
        host: &Host<'_>,
        folder: &Path,
        path: &Path,
        make_folder: impl Fn() -> io::Result<()>,
    ) -> io::Result<Option<Self>> {
        loop {
            make_folder()?;
            match attempt(path)? {
                Attempt::Locked(lock) => {
                    lock.record_holder(host)?;
                    return Ok(Some(lock));
                }
                Attempt::Busy => wait(host, path)?,
                Attempt::Unsupported => return Self::take_substitute(host, folder),
            }
        }
    }

    /// Takes the lock in the user's own folder. `None` if there are no locks either. Returns
    /// an error only for a lock that a run around this one holds.
    pub(super) fn take_substitute(host: &Host<'_>, folder: &Path) -> io::Result<Option<Self>> {
        let Ok(path) = substitute(host, folder) else {
            return Ok(None);
        };
        loop {
            match attempt(&path) {
                Ok(Attempt::Locked(lock)) => {
                    // Ignore the error: the text is only shown to another run.
                    let _ = lock.record_holder(host);
                    return Ok(Some(lock));
                }
                Ok(Attempt::Busy) => match wait(host, &path) {
                    Err(error) if error.kind() == NESTED => return Err(error),
                    Err(_) => return Ok(None),
                    Ok(()) => {}
                },
                Ok(Attempt::Unsupported) | Err(_) => return Ok(None),
            }
        }
    }

    /// Writes the command and process of this run and its random name into the lock.
    pub(super) fn record_holder(&self, host: &Host<'_>) -> io::Result<()> {
        let holder = format!("{}\n{}\n", host.name, exec::run_id());
        self.0.write_all_at(holder.as_bytes(), 0)?;
        // The length rarely changes, and truncation is slower than this check.
        if self.0.metadata()?.len() == holder.len() as u64 {
            Ok(())
        } else {
            self.0.set_len(holder.len() as u64)
        }
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // Closing the file is not enough if a thread forks at this moment: its child has the
        // same lock until it executes a program. Ignore the error: the lock then ends there.
        let _ = file_lock::lock(&self.0, FlockOperation::Unlock);
    }
}

/// Opens and locks a file. If the locked file is no longer at `path`, its folder was removed
/// meanwhile: then it is no lock, and counts as busy.
fn attempt(path: &Path) -> io::Result<Attempt> {
    let file = outputs::open_own(path)?;
    match file_lock::lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) if is_at(&file, path) => Ok(Attempt::Locked(RunLock(file))),
        Ok(()) | Err(Errno::WOULDBLOCK) => Ok(Attempt::Busy),
        Err(error) if file_lock::is_unsupported(error) => Ok(Attempt::Unsupported),
        Err(error) => Err(error.into()),
    }
}

/// The maximum length of the text in a lock, in bytes.
const MAX_HOLDER: u64 = 4096;

/// Waits until another run releases a lock, and reports that run.
fn wait(host: &Host<'_>, path: &Path) -> io::Result<()> {
    let mut file = match outputs::open_own(path) {
        // The other run removed the folder. The next attempt creates it again.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let is_busy = || file_lock::lock(&file, FlockOperation::NonBlockingLockExclusive);
    if is_busy() != Err(Errno::WOULDBLOCK) {
        return Ok(());
    }
    let mut holder = Vec::new();
    (&mut file).take(MAX_HOLDER).read_to_end(&mut holder)?;
    let holder = String::from_utf8_lossy(&holder);
    let (holder, run) = holder.split_once('\n').unwrap_or((&holder, ""));
    if is_around(host, run.trim_end()) {
        return Err(NESTED.into());
    }
    let holder = match holder {
        "" => "it has only begun".to_owned(),
        holder => crate::path::escape(holder.as_bytes()).into_owned(),
    };
    host.observer.on_wait(&holder);
    Ok(file_lock::lock(&file, FlockOperation::LockExclusive)?)
}

/// Returns true if a command of a run started this process.
fn is_around(host: &Host<'_>, run: &str) -> bool {
    let marker = host.env.get(OsStr::new(exec::MARKER));
    let marker = marker.and_then(|marker| marker.to_str()?.split_once('.'));
    marker.is_some_and(|(around, _)| around == run)
}

/// Returns true if `file` is the one at `path`, and `path` is no link.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    let found = path.symlink_metadata().map(identity);
    matches!((file.metadata().map(identity), found), (Ok(ours), Ok(found)) if ours == found)
}

/// Returns the lock in the user's own folder of the checkout in `folder`.
fn substitute(host: &Host<'_>, folder: &Path) -> io::Result<PathBuf> {
    // Not the path: the same folder may be mounted twice.
    let metadata = folder.metadata()?;
    let name = format!("run-{:x}-{:x}.lock", metadata.dev(), metadata.ino());
    Ok(host.user_dirs.runtime()?.join(name))
}
