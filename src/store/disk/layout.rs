//! Creates, opens and checks the folder of a store, and names its objects.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{DirBuilder, File};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::digest::Digest;
use crate::system::access;
use crate::system::file_lock;

/// The content of `version`.
const VERSION: &str = "fbuild store 1\n";
/// The content of `CACHEDIR.TAG`: the signature that backup programs look for, and a note.
pub const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55
# This folder holds results that fbuild can make again.
";

/// The open folder of a store.
#[derive(Debug)]
pub(super) struct Layout {
    /// The path, for messages.
    pub(super) path: PathBuf,
    pub(super) dir: OwnedFd,
    pub(super) artifacts: OwnedFd,
    pub(super) actions: OwnedFd,
    pub(super) access: Access,
    /// The shared lock; `None` if the file system has no locks.
    pub(super) lock: Option<OwnedFd>,
}

/// The kind of access to a store.
#[derive(Debug)]
pub(super) enum Access {
    Full,
    /// The store is writable, but opened for reading.
    Look,
    ReadOnly(io::Error),
}

/// The reason why a folder cannot be a store.
#[derive(Debug)]
pub(super) enum Problem {
    NotFolder(PathBuf),
    Owner(PathBuf),
    Writable(PathBuf),
    Version(PathBuf),
    Io(PathBuf, io::Error),
}

impl Layout {
    /// Opens a store. The access is read-only if the folder is not writable.
    pub(super) fn open(path: &Path, wanted: Access) -> Result<Self, Problem> {
        let dir = open_or_create(path)?;
        check_owner(path, &dir)?;
        let io = |error: io::Error| Problem::Io(path.to_owned(), error);
        let mut access = wanted;
        if !has_version(path, &dir)?
            && let Err(error) = initialise(&dir)
        {
            access = Access::ReadOnly(error);
        }
        let artifacts = subfolder(&dir, "artifacts").map_err(io)?;
        let actions = subfolder(&dir, "actions").map_err(io)?;
        for folder in [&artifacts, &actions] {
            if let Err(error) = check_writable(folder) {
                access = Access::ReadOnly(error);
            }
        }
        let lock = open_lock(&dir).unwrap_or_else(|error| {
            // Without the lock, a collection could remove blobs that a build is recording.
            if !matches!(access, Access::ReadOnly(_)) {
                access = Access::ReadOnly(error);
            }
            None
        });
        Ok(Self {
            path: path.to_owned(),
            lock,
            dir,
            artifacts,
            actions,
            access,
        })
    }

    /// Returns true if a folder is an existing, trusted and writable store.
    pub(super) fn is_sound(path: &Path) -> bool {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(dir) = rustix::fs::open(path, flags, Mode::empty()) else {
            return false;
        };
        let is_writable = |name: &str| {
            let flags = flags | OFlags::NOFOLLOW;
            rustix::fs::openat(&dir, name, flags, Mode::empty())
                .is_ok_and(|folder| check_writable(&folder).is_ok())
        };
        check_owner(path, &dir).is_ok()
            && has_version(path, &dir).is_ok_and(|has| has)
            && is_writable("artifacts")
            && is_writable("actions")
    }
}

fn check_writable(folder: &OwnedFd) -> io::Result<()> {
    access::check_at(folder, Path::new("."), rustix::fs::Access::WRITE_OK)
}

/// Returns the path of an object below its folder: `ab/ab12…`.
pub(super) fn name(digest: &Digest) -> String {
    let hex = digest.hex();
    [&hex[..2], "/", &hex].concat()
}

/// Opens an object without following a link or blocking on a pipe.
pub(super) fn open_object(folder: impl AsFd, name: &str, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    Ok(File::from(file))
}

/// Creates a folder with mode 0700, unless the name exists.
pub(super) fn make_folder(at: impl AsFd, name: &str) -> io::Result<()> {
    match rustix::fs::mkdirat(at, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn open_or_create(path: &Path) -> Result<OwnedFd, Problem> {
    let open = || {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty())
    };
    let opened = match open() {
        Err(Errno::NOENT) => DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .and_then(|()| Ok(open()?)),
        other => other.map_err(io::Error::from),
    };
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            Problem::NotFolder(path.to_owned())
        }
        _ => Problem::Io(path.to_owned(), error),
    })
}

/// Refuses a folder in which another user could put results.
fn check_owner(path: &Path, dir: &OwnedFd) -> Result<(), Problem> {
    let stat =
        rustix::fs::fstat(dir).map_err(|error| Problem::Io(path.to_owned(), error.into()))?;
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(Problem::Owner(path.to_owned()));
    }
    if stat.st_mode & 0o022 != 0 {
        return Err(Problem::Writable(path.to_owned()));
    }
    Ok(())
}

/// Returns true if the folder is a store of this version, false if it has no version yet.
fn has_version(path: &Path, dir: &OwnedFd) -> Result<bool, Problem> {
    let mut text = Vec::new();
    let read = open_object(dir, "version", OFlags::RDONLY)
        .and_then(|file| file.take(64).read_to_end(&mut text));
    match read {
        Ok(_) if text == VERSION.as_bytes() => Ok(true),
        // A power cut can leave the file empty.
        Ok(0) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Ok(_) => Err(Problem::Version(path.to_owned())),
        Err(error) => Err(Problem::Io(path.to_owned(), error)),
    }
}

/// The names in a store, also in an incomplete one, and names that do no harm there.
const OWN: [&str; 12] = [
    "artifacts",
    "actions",
    "quarantine",
    "incoming",
    "lock",
    "usage",
    "version",
    "CACHEDIR.TAG",
    ".gitignore",
    ".gitkeep",
    ".keep",
    "lost+found",
];

/// Returns true if an entry of this name belongs to a store or does no harm there.
pub fn is_store_name(name: &OsStr) -> bool {
    OWN.iter().any(|own| name == *own)
}

/// Returns true if a folder has content and is not a store, so that none may be created in it.
pub fn is_foreign(path: &Path) -> bool {
    let mut text = Vec::new();
    let version = File::open(path)
        .and_then(|dir| open_object(&dir, "version", OFlags::RDONLY))
        .and_then(|file| file.take(64).read_to_end(&mut text));
    // A power cut can leave the file empty.
    if version.is_ok() && (text.is_empty() || text.starts_with(b"fbuild store ")) {
        return false;
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name());
    names.any(|name| !is_store_name(&name))
}

/// Creates the files and folders of a store; `version` last, as the mark of a complete one.
fn initialise(dir: &OwnedFd) -> io::Result<()> {
    for name in ["artifacts", "actions", "quarantine", "incoming"] {
        make_folder(dir, name)?;
    }
    for (name, text) in [("CACHEDIR.TAG", TAG), (".gitignore", "*\n")] {
        match write_file(dir, name, text) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            written => drop(written?),
        }
    }
    // A truncated file after a power cut would look like another version, so rename it into
    // place after flushing it.
    let temporary = format!("incoming/version-{:016x}", RandomState::new().hash_one(0));
    write_file(dir, &temporary, VERSION)?.sync_all()?;
    rustix::fs::renameat(dir, &*temporary, dir, "version")?;
    // Flush the names of the folders, which no later flush includes.
    Ok(rustix::fs::fsync(dir)?)
}

/// Creates and writes a new file.
fn write_file(dir: &OwnedFd, name: &str, text: &str) -> io::Result<File> {
    let new = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | new;
    let mode = Mode::RUSR | Mode::WUSR;
    let mut file = File::from(rustix::fs::openat(dir, name, flags, mode)?);
    file.write_all(text.as_bytes())?;
    Ok(file)
}

/// Opens a folder of the store, creating it if it was removed.
fn subfolder(dir: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => {
            make_folder(dir, name)?;
            Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)
        }
        other => Ok(other?),
    }
}

/// Takes the shared lock, waiting for a collection to end; `None` if the file system has no
/// locks.
fn open_lock(dir: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let mode = Mode::RUSR | Mode::WUSR;
    let common = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(dir, "lock", OFlags::RDWR | OFlags::CREATE | common, mode);
    let lock = made.or_else(|error| {
        let there = rustix::fs::openat(dir, "lock", OFlags::RDONLY | common, mode);
        there.map_err(|_| error)
    })?;
    match file_lock::lock(&lock, FlockOperation::LockShared) {
        Ok(()) => Ok(Some(lock)),
        Err(error) if file_lock::is_unsupported(error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, why) = match self {
            Self::NotFolder(path) => (path, "is not a folder".to_owned()),
            Self::Owner(path) => (path, "belongs to another user".to_owned()),
            Self::Writable(path) => (path, "can be written by other users".to_owned()),
            Self::Version(path) => (path, "was made by another version of fbuild".to_owned()),
            Self::Io(path, error) => (path, format!("cannot be opened: {error}")),
        };
        let path = path.display();
        write!(f, "the cache folder `{path}` {why}; nothing is cached")
    }
}
