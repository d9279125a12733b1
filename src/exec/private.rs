//! Creates private folders for temporary files: one for each action, created when it starts,
//! removed when it ends, and accessible only to the user.
//!
//! All folders of a run are inside one folder that the run holds a lock on. The lock
//! distinguishes folders in use from the leftovers of killed runs, which are removed before
//! the first folder is created.
//!
//! Programs create Unix sockets in their temporary folder, and the path of a socket has at
//! most 107 bytes. Where the folder's own path is too long, commands get a short one: a link
//! in the user's runtime folder.

use std::fs::{self, File, Permissions};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{CWD, FlockOperation, Mode};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::system::file_lock;
use crate::system::user_dirs::UserDirs;

/// The longest path of a private folder. Python adds 32 bytes to it, GnuPG 30.
const MAX_PATH: usize = 70;
/// The number of attempts to create a run's folder.
const TRIES: u32 = 100;

/// Creates private folders below one folder.
#[derive(Debug)]
pub(super) struct PrivateDirs {
    parent: PathBuf,
    /// Has the short links.
    user_dirs: UserDirs,
    run: Mutex<Option<Run>>,
}

/// The folder of this run, removed with everything in it when the run ends.
#[derive(Debug)]
struct Run {
    link: Option<ShortLink>,
    dir: TempDir,
    _lock: Option<File>,
    created: u64,
    /// Folders that are empty again. Reusing them saves milliseconds on a busy disk.
    free: Vec<PathBuf>,
}

/// A link with a short path, removed when this is dropped.
#[derive(Debug)]
struct ShortLink(PathBuf);

/// A private folder, emptied or removed when this is dropped.
#[derive(Debug)]
pub(super) struct PrivateDir<'a> {
    dirs: &'a PrivateDirs,
    path: PathBuf,
}

impl PrivateDirs {
    /// Returns a creator of folders below `parent`, which need not exist yet.
    pub(super) fn new(parent: PathBuf, user_dirs: UserDirs) -> Self {
        Self {
            parent,
            user_dirs,
            run: Mutex::new(None),
        }
    }

    /// Creates an empty folder with mode 0700.
    pub(super) fn create(&self) -> io::Result<PrivateDir<'_>> {
        let mut run = self.lock();
        let run = match &mut *run {
            Some(run) => run,
            none => none.insert(Run::begin(&self.parent, &self.user_dirs)?),
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
    fn begin(parent: &Path, user_dirs: &UserDirs) -> io::Result<Self> {
        fs::create_dir_all(parent)?;
        remove_leftovers(parent)?;
        for _ in 0..TRIES {
            let dir = tempfile::Builder::new().prefix("run-").tempdir_in(parent)?;
            // Another run may remove the folder between its creation and its locking.
            if let Ok(lock) = lock(dir.path(), FlockOperation::NonBlockingLockShared)
                && dir.path().exists()
            {
                return Ok(Self {
                    link: ShortLink::to(dir.path(), user_dirs),
                    dir,
                    _lock: lock,
                    created: 0,
                    free: Vec::new(),
                });
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    fn create(&mut self) -> io::Result<PathBuf> {
        self.created += 1;
        let folder = self.link.as_ref().map_or(self.dir.path(), |link| &link.0);
        let path = folder.join(self.created.to_string());
        rustix::fs::mkdirat(CWD, &path, Mode::RWXU)?;
        Ok(path)
    }
}

impl ShortLink {
    /// Creates a link to a folder whose path is too long. `None` if it is short, or if there is
    /// no better place: then only programs with sockets fail.
    fn to(folder: &Path, user_dirs: &UserDirs) -> Option<Self> {
        // The folders in it have short numbers.
        if folder.as_os_str().len() + "/1000".len() <= MAX_PATH {
            return None;
        }
        let parent = user_dirs.runtime().ok()?;
        remove_dangling(&parent);
        let random = RandomState::new().hash_one(folder);
        let link = parent.join(format!("tmp-{:08x}", random as u32));
        std::os::unix::fs::symlink(folder, &link).ok()?;
        Some(Self(link)).filter(|link| link.0.as_os_str().len() < folder.as_os_str().len())
    }
}

/// Removes the short links of killed runs, whose folders were removed.
fn remove_dangling(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_link = entry.file_name().as_bytes().starts_with(b"tmp-")
            && entry.file_type().is_ok_and(|kind| kind.is_symlink());
        if is_link && !path.exists() {
            // Ignore the error: another run may have removed it.
            let _ = fs::remove_file(path);
        }
    }
}

/// Locks the folder of a run. Where folders have no locks, a file in it has one. `None` if
/// there are no locks at all.
fn lock(folder: &Path, operation: FlockOperation) -> Result<Option<File>, Errno> {
    let file = File::open(folder).map_err(errno)?;
    match rustix::fs::flock(&file, operation) {
        Err(error) if file_lock::is_unsupported(error) => {}
        locked => return locked.map(|()| Some(file)),
    }
    let mut options = File::options();
    let file = options.read(true).write(true).create(true);
    let file = file.open(folder.join(LOCK)).map_err(errno)?;
    match file_lock::lock(&file, operation) {
        Err(error) if file_lock::is_unsupported(error) => Ok(None),
        locked => locked.map(|()| Some(file)),
    }
}

/// The lock in the folder of a run, where folders themselves have no locks.
const LOCK: &str = "lock";

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// Removes the folders of runs that were killed. Without locks they cannot be told from those
/// of living runs, and stay.
fn remove_leftovers(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let path = entry?.path();
        if let Ok(Some(_lock)) = lock(&path, FlockOperation::NonBlockingLockExclusive) {
            // Ignore the error: leftovers only waste space, and the next run tries again.
            let _ = remove(&path);
        }
    }
    Ok(())
}

impl Drop for ShortLink {
    fn drop(&mut self) {
        // Ignore the error: a later run removes dangling links.
        let _ = fs::remove_file(&self.0);
    }
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

    fn private_dirs(parent: &Path) -> PrivateDirs {
        PrivateDirs::new(parent.to_owned(), UserDirs::default())
    }

    /// Returns folders below a long path, and the user's runtime folder.
    fn long_dirs(parent: &Path) -> (PrivateDirs, PathBuf) {
        let user_dirs = UserDirs::new(|_| None);
        let runtime = user_dirs.runtime().unwrap();
        let dirs = PrivateDirs::new(parent.join("x".repeat(MAX_PATH)), user_dirs);
        (dirs, runtime)
    }

    fn links(runtime: &Path, to: &Path) -> usize {
        let entries = fs::read_dir(runtime).unwrap().flatten();
        let targets = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
        targets.filter(|target| target.starts_with(to)).count()
    }

    #[test]
    fn long_path_is_replaced_by_a_short_link() {
        let parent = tempfile::tempdir().unwrap();
        let (dirs, runtime) = long_dirs(parent.path());
        let dir = dirs.create().unwrap();
        assert!(dir.path().as_os_str().len() <= MAX_PATH, "{dir:?}");
        let mode = dir.path().metadata().unwrap().mode();
        assert_eq!(mode & 0o7777, 0o700);
        let real = dir.path().canonicalize().unwrap();
        assert!(real.starts_with(parent.path().canonicalize().unwrap()));
        drop(dir);
        drop(dirs);
        assert_eq!(links(&runtime, parent.path()), 0);
    }

    #[test]
    fn links_of_dead_runs_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let (dirs, runtime) = long_dirs(parent.path());
        let leftover = runtime.join(format!("tmp-test-{}", std::process::id()));
        std::os::unix::fs::symlink(parent.path().join("gone"), &leftover).unwrap();
        let _dir = dirs.create().unwrap();
        assert!(leftover.symlink_metadata().is_err());
    }

    #[test]
    fn folder_is_private_and_removed_even_if_read_only() {
        let parent = tempfile::tempdir().unwrap();
        let dirs = private_dirs(&parent.path().join("tmp"));
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
        let dirs = private_dirs(parent.path());
        let path = dirs.create().unwrap().path().to_owned();
        assert_eq!(dirs.create().unwrap().path(), path);
    }

    #[test]
    fn folder_with_changed_permissions_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let dirs = private_dirs(parent.path());
        let dir = dirs.create().unwrap();
        let path = dir.path().to_owned();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn only_folders_of_dead_runs_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let living = private_dirs(parent.path());
        let used = living.create().unwrap();
        let dead = parent.path().join("run-dead");
        fs::create_dir_all(dead.join("1/deep")).unwrap();
        let other = private_dirs(parent.path());
        let _folder = other.create().unwrap();
        assert!(used.path().exists() && !dead.exists());
    }
}
