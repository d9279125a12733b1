//! Creates private folders for temporary files: one for each action, created when it starts,
//! removed when it ends, and accessible only to the user.
//!
//! All folders of a run are inside one folder that the run holds a lock on. The lock
//! distinguishes folders in use from the leftovers of killed runs, which are removed before
//! the first folder is created.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{CWD, Mode};
use tempfile::TempDir;

/// Creates private folders below one folder.
#[derive(Debug)]
pub(super) struct PrivateDirs {
    parent: PathBuf,
    run: Mutex<Option<Run>>,
}

/// The folder of this run, removed with everything in it when the run ends.
#[derive(Debug)]
struct Run {
    dir: TempDir,
    _lock: File,
    created: u64,
    /// Folders that are empty again. Reusing them saves milliseconds on a busy disk.
    free: Vec<PathBuf>,
}

/// A private folder, emptied or removed when this is dropped.
#[derive(Debug)]
pub(super) struct PrivateDir<'a> {
    dirs: &'a PrivateDirs,
    path: PathBuf,
}

impl PrivateDirs {
    /// Returns a creator of folders below `parent`, which need not exist yet.
    pub(super) fn new(parent: PathBuf) -> Self {
        Self {
            parent,
            run: Mutex::new(None),
        }
    }

    /// Creates an empty folder with mode 0700.
    pub(super) fn create(&self) -> io::Result<PrivateDir<'_>> {
        let mut run = self.lock();
        let run = match &mut *run {
            Some(run) => run,
            none => none.insert(Run::begin(&self.parent)?),
        };
        let path = match run.free.pop() {
            Some(path) => path,
            None => run.create()?,
        };
        Ok(PrivateDir { dirs: self, path })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Run>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PrivateDir<'_> {
    /// Returns its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Run {
    fn begin(parent: &Path) -> io::Result<Self> {
        fs::create_dir_all(parent)?;
        remove_leftovers(parent)?;
        loop {
            let dir = tempfile::Builder::new().prefix("run-").tempdir_in(parent)?;
            // Another run may remove the folder between its creation and its locking.
            if let Ok(lock) = File::open(dir.path())
                && lock.try_lock_shared().is_ok()
                && dir.path().exists()
            {
                return Ok(Self {
                    dir,
                    _lock: lock,
                    created: 0,
                    free: Vec::new(),
                });
            }
        }
    }

    fn create(&mut self) -> io::Result<PathBuf> {
        self.created += 1;
        let path = self.dir.path().join(self.created.to_string());
        rustix::fs::mkdirat(CWD, &path, Mode::RWXU)?;
        Ok(path)
    }
}

/// Removes the folders of runs that were killed.
fn remove_leftovers(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let path = entry?.path();
        if let Ok(folder) = File::open(&path)
            && folder.try_lock().is_ok()
        {
            // Ignore the error: leftovers only waste space, and the next run tries again.
            let _ = remove(&path);
        }
    }
    Ok(())
}

impl Drop for PrivateDir<'_> {
    fn drop(&mut self) {
        if is_as_new(&self.path) {
            if let Some(run) = &mut *self.dirs.lock() {
                run.free.push(std::mem::take(&mut self.path));
            }
        } else {
            // Ignore the error: the next run tries again.
            let _ = remove(&self.path);
        }
    }
}

/// Returns true if a folder is empty and still private.
fn is_as_new(folder: &Path) -> bool {
    let mode = fs::symlink_metadata(folder).map(|metadata| metadata.mode());
    let is_empty = || fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    mode.is_ok_and(|mode| mode & 0o7777 == 0o700) && is_empty()
}

/// Removes a folder with its entries, even if parts of it are read-only.
fn remove(folder: &Path) -> io::Result<()> {
    if fs::remove_dir(folder).is_ok() {
        return Ok(());
    }
    fs::remove_dir_all(folder).or_else(|_| {
        make_writable(folder)?;
        fs::remove_dir_all(folder)
    })
}

/// Sets mode 0700 on `folder` and on the folders below it.
fn make_writable(folder: &Path) -> io::Result<()> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_is_private_and_removed_even_if_read_only() {
        let parent = tempfile::tempdir().unwrap();
        let dirs = PrivateDirs::new(parent.path().join("tmp"));
        let dir = dirs.create().unwrap();
        let path = dir.path().to_owned();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        fs::create_dir(path.join("a")).unwrap();
        fs::write(path.join("a/b"), "").unwrap();
        fs::set_permissions(path.join("a"), Permissions::from_mode(0o500)).unwrap();
        assert_ne!(dirs.create().unwrap().path(), path);
        drop(dir);
        assert!(!path.exists());
        drop(dirs);
        assert_eq!(fs::read_dir(parent.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn empty_folder_is_reused() {
        let parent = tempfile::tempdir().unwrap();
        let dirs = PrivateDirs::new(parent.path().to_owned());
        let path = dirs.create().unwrap().path().to_owned();
        assert_eq!(dirs.create().unwrap().path(), path);
    }

    #[test]
    fn folder_with_changed_permissions_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let dirs = PrivateDirs::new(parent.path().to_owned());
        let dir = dirs.create().unwrap();
        let path = dir.path().to_owned();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn only_folders_of_dead_runs_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let living = PrivateDirs::new(parent.path().to_owned());
        let used = living.create().unwrap();
        let dead = parent.path().join("run-dead");
        fs::create_dir_all(dead.join("1/deep")).unwrap();
        let other = PrivateDirs::new(parent.path().to_owned());
        let _folder = other.create().unwrap();
        assert!(used.path().exists() && !dead.exists());
    }
}
