//! Private folders for temporary files: one for each action, made when it starts, gone when
//! it ends, and readable by nobody else. It does not know what an action is.
//!
//! All of a run's folders lie in one that the run holds a lock on. What killed runs left
//! behind is thus told from what is in use, by any process on this machine, and removed
//! before the first folder is made.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{CWD, Mode};
use tempfile::TempDir;

/// Makes private folders below one folder.
#[derive(Debug)]
pub(super) struct PrivateDirs {
    above: PathBuf,
    run: Mutex<Option<Run>>,
}

/// The folder of this run, removed with everything in it when the run ends.
#[derive(Debug)]
struct Run {
    dir: TempDir,
    _lock: File,
    /// How many folders were made in it.
    made: u64,
    /// Those that are empty again: on a busy disk, making one takes milliseconds.
    free: Vec<PathBuf>,
}

/// A private folder. What is in it is removed when this is dropped.
#[derive(Debug)]
pub(super) struct PrivateDir<'a> {
    dirs: &'a PrivateDirs,
    path: PathBuf,
}

impl PrivateDirs {
    /// Prepares to make folders below `above`, which need not exist; nothing is made yet.
    pub(super) fn new(above: PathBuf) -> Self {
        Self {
            above,
            run: Mutex::new(None),
        }
    }

    /// Makes an empty folder that only its owner may look into.
    pub(super) fn create(&self) -> io::Result<PrivateDir<'_>> {
        let mut run = self.lock();
        let run = match &mut *run {
            Some(run) => run,
            none => none.insert(Run::begin(&self.above)?),
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
    /// Returns where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Run {
    fn begin(above: &Path) -> io::Result<Self> {
        fs::create_dir_all(above)?;
        sweep(above)?;
        loop {
            let dir = tempfile::Builder::new().prefix("run-").tempdir_in(above)?;
            // Another run's sweep may come between making it and locking it.
            if let Ok(lock) = File::open(dir.path())
                && lock.try_lock_shared().is_ok()
                && dir.path().exists()
            {
                return Ok(Self {
                    dir,
                    _lock: lock,
                    made: 0,
                    free: Vec::new(),
                });
            }
        }
    }

    fn create(&mut self) -> io::Result<PathBuf> {
        self.made += 1;
        let path = self.dir.path().join(self.made.to_string());
        rustix::fs::mkdirat(CWD, &path, Mode::RWXU)?;
        Ok(path)
    }
}

/// Removes what runs that have ended left behind. What cannot be removed stays.
fn sweep(above: &Path) -> io::Result<()> {
    for entry in fs::read_dir(above)? {
        let path = entry?.path();
        if let Ok(folder) = File::open(&path)
            && folder.try_lock().is_ok()
        {
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
            // What cannot be removed now is tried again by the next run.
            let _ = remove(&self.path);
        }
    }
}

/// Tells whether a folder is empty and nobody else's.
fn is_as_new(folder: &Path) -> bool {
    let mode = fs::symlink_metadata(folder).map(|metadata| metadata.mode());
    let is_empty = || fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    mode.is_ok_and(|mode| mode & 0o7777 == 0o700) && is_empty()
}

/// Removes a folder and everything in it, though parts of it may be read-only.
fn remove(folder: &Path) -> io::Result<()> {
    if fs::remove_dir(folder).is_ok() {
        return Ok(());
    }
    fs::remove_dir_all(folder).or_else(|_| {
        open_up(folder)?;
        fs::remove_dir_all(folder)
    })
}

/// Allows the owner everything in `folder` and in the folders below it.
fn open_up(folder: &Path) -> io::Result<()> {
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
    fn a_folder_is_private_and_gone_afterwards_even_if_read_only() {
        let above = tempfile::tempdir().unwrap();
        let dirs = PrivateDirs::new(above.path().join("tmp"));
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
        assert_eq!(fs::read_dir(above.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn an_empty_folder_serves_again_and_one_with_other_permissions_does_not() {
        let above = tempfile::tempdir().unwrap();
        let dirs = PrivateDirs::new(above.path().to_owned());
        let path = dirs.create().unwrap().path().to_owned();
        assert_eq!(dirs.create().unwrap().path(), path);
        let dir = dirs.create().unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn leftovers_of_dead_runs_go_and_folders_of_living_ones_stay() {
        let above = tempfile::tempdir().unwrap();
        let living = PrivateDirs::new(above.path().to_owned());
        let used = living.create().unwrap();
        let dead = above.path().join("run-dead");
        fs::create_dir_all(dead.join("1/deep")).unwrap();
        let other = PrivateDirs::new(above.path().to_owned());
        let _folder = other.create().unwrap();
        assert!(used.path().exists() && !dead.exists());
    }
}
