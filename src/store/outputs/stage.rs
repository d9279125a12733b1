//! The staging directory, through which outputs move: private, usually on the file system
//! of the tree, and empty between runs.

use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::dirs::{open_child, os};
use super::moves::EntryAt;
use super::{Error, Trash};
use crate::path::{MAX_NAME, RelPath, Root};
use crate::stamp::{FileKind, Stamp};
use crate::store::tmpfile::AnonymousFile;
use crate::system::access;

/// The purpose of an entry of the stage, which its name begins with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To be moved into the tree.
    New,
    /// To be removed.
    Trash,
}

impl Purpose {
    fn prefix(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Trash => "trash",
        }
    }
}

/// Checks that a folder of the state is not a link and is writable. A missing one passes.
pub fn check_writable(folder: &Path) -> io::Result<()> {
    let stamp = Stamp::at(rustix::fs::CWD, folder)?;
    if stamp.is_some_and(|stamp| stamp.kind() == FileKind::Link) {
        return Err(Errno::LOOP.into());
    }
    let rights = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    match access::check(folder, rights) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Opens a file of the state for reading and writing, or creates it. Does not follow a link.
pub fn open_own(file: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o666);
    Ok(rustix::fs::open(file, flags, mode)?.into())
}

/// Replaces slashes in the name of a stashed entry.
const SLASH: u8 = 1;

/// A tree and its staging directory. Clones share it.
#[derive(Clone, Debug)]
pub struct Stage(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: Root,
    path: PathBuf,
    trash: Trash,
    /// Folders below the root that are never outputs.
    excluded: Vec<RelPath>,
    folder: Mutex<Option<Arc<OwnedFd>>>,
    count: AtomicU64,
    tmpfile: AnonymousFile,
}

impl Stage {
    /// Returns the stage of the tree below `root`, in the folder `state`; it is created when
    /// needed. No outputs are in `state`, `trash` and the `excluded` folders.
    pub fn new(root: &Root, state: &Path, trash: &Path, mut excluded: Vec<RelPath>) -> Self {
        let own = [state, trash]
            .into_iter()
            .filter_map(|path| root.relative(path));
        excluded.extend(own.filter(|path| !path.is_root()));
        Self(Arc::new(Inner {
            root: root.clone(),
            path: state.join("stage"),
            trash: Trash::new(trash),
            excluded,
            folder: Mutex::default(),
            count: AtomicU64::new(first_number()),
            tmpfile: AnonymousFile::default(),
        }))
    }

    /// Returns the trash, for files of the user.
    pub fn trash(&self) -> &Trash {
        &self.0.trash
    }

    /// Returns the root of the tree.
    pub fn root(&self) -> &Root {
        &self.0.root
    }

    /// Returns true if a folder is never an output: `.git`, or one of the excluded.
    pub(super) fn excludes(&self, folder: &RelPath) -> bool {
        folder.name() == b".git" || self.0.excluded.contains(folder)
    }

    /// Returns true if there is an excluded folder at or below this one.
    pub(super) fn excludes_below(&self, folder: &RelPath) -> bool {
        self.0.excluded.iter().any(|path| path.is_within(folder))
    }

    /// Makes an [`Error::Stage`].
    pub(super) fn error<E: Into<io::Error>>(
        &self,
        operation: &'static str,
    ) -> impl FnOnce(E) -> Error {
        move |source| Error::Stage {
            operation,
            path: self.0.path.clone(),
            source: source.into(),
        }
    }

    /// Opens the stage, creating it if necessary.
    pub(super) fn folder(&self) -> Result<Arc<OwnedFd>, Error> {
        let mut folder = self.0.folder.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = &*folder {
            return Ok(folder.clone());
        }
        let opened = open_or_create(&self.0.path).map_err(self.error("make files"))?;
        let opened = Arc::new(opened);
        *folder = Some(opened.clone());
        Ok(opened)
    }

    /// Opens the stage if it exists.
    pub(super) fn existing(&self) -> Result<Option<Arc<OwnedFd>>, Error> {
        match self.0.path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => self.folder().map(Some),
        }
    }

    /// Returns a new name. Entries that a killed run left behind have other numbers.
    pub(super) fn name(&self, purpose: Purpose) -> String {
        format!("{}-{}", purpose.prefix(), self.next_number())
    }

    /// Returns a name for a stashed entry. It contains the path, unless that is too long or
    /// contains the replacement for slashes: then the path is lost if the process is killed.
    pub(super) fn stash_name(&self, path: &RelPath) -> Vec<u8> {
        let mut name = format!("old-{}-", self.next_number()).into_bytes();
        let is_odd = path.as_bytes().contains(&SLASH);
        if !is_odd && name.len() + path.as_bytes().len() <= MAX_NAME {
            let slashed = |byte: &u8| if *byte == b'/' { SLASH } else { *byte };
            name.extend(path.as_bytes().iter().map(slashed));
        }
        name
    }

    /// Returns the next number, in as many digits as every other.
    fn next_number(&self) -> String {
        numbered(self.0.count.fetch_add(1, Ordering::Relaxed))
    }

    /// Creates a file without a name; `None` if the system does not support that.
    pub(super) fn create_anonymous(&self, mode: u32) -> Result<Option<File>, Error> {
        let created = self
            .0
            .tmpfile
            .create(&*self.folder()?, ".", Mode::from(mode));
        created.map_err(self.error("make a file"))
    }

    /// Links a file without a name; `EEXIST` if the name is taken.
    pub(super) fn link(&self, file: &File, to: EntryAt<'_>) -> Result<(), Errno> {
        self.0.tmpfile.link(file, to.folder, os(to.name))
    }

    /// Creates a file in the stage.
    pub(super) fn create(&self, mode: u32) -> Result<(File, String), Error> {
        let folder = self.folder()?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let name = self.name(Purpose::New);
            match rustix::fs::openat(&*folder, &*name, flags, Mode::from(mode)) {
                Ok(file) => return Ok((file.into(), name)),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(self.error("make a file")(error)),
            }
        }
    }

    /// Opens a folder in the stage.
    pub(super) fn open(&self, name: &str) -> Result<OwnedFd, Error> {
        open_child(&*self.folder()?, name.as_bytes()).map_err(self.error("open a folder"))
    }

    /// Creates a folder in the stage.
    pub(super) fn make(&self, purpose: Purpose) -> Result<String, Error> {
        let folder = self.folder()?;
        loop {
            let name = self.name(purpose);
            match rustix::fs::mkdirat(&*folder, &*name, Mode::RWXU) {
                Ok(()) => return Ok(name),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(self.error("make a folder")(error)),
            }
        }
    }
}

/// Returns the path in the name of a stashed entry.
pub(super) fn path_of_stashed(name: &[u8]) -> Option<RelPath> {
    let numbered = name.strip_prefix(b"old-")?;
    let digits = numbered.iter().take_while(|byte| byte.is_ascii_digit());
    let path = numbered[digits.count()..].strip_prefix(b"-")?;
    let slashed = |byte: &u8| if *byte == SLASH { b'/' } else { *byte };
    let path: Vec<u8> = path.iter().map(slashed).collect();
    RelPath::new(path).ok().filter(|path| !path.is_root())
}

/// Returns the number of a run's first entry. It is random, because recovery creates entries
/// beside those of a killed run, and a folder cannot replace one that is not empty.
fn first_number() -> u64 {
    u64::from(RandomState::new().hash_one(0) as u32) << 20
}

/// Returns the text of a number. Its fixed width leaves every path the same space in a name.
fn numbered(number: u64) -> String {
    format!("{number:016}")
}

fn open_or_create(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::open(path, flags, Mode::empty());
    match open() {
        Err(Errno::NOENT) => {
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true).mode(0o700).create(path)?;
            Ok(open()?)
        }
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn stash_name_contains_the_path_if_it_fits() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let stage = Stage::new(
            &root,
            &dir.path().join("state"),
            &dir.path().join("trash"),
            Vec::new(),
        );
        let prefix = format!("old-{}-", numbered(0)).len();
        for (text, is_recoverable) in [
            ("a/b".to_owned(), true),
            ("x".repeat(MAX_NAME - prefix), true),
            ("y".repeat(MAX_NAME - prefix + 1), false),
            ("odd\u{1}name".to_owned(), false),
        ] {
            let path = RelPath::new(&text).unwrap();
            let name = stage.stash_name(&path);
            assert!(name.len() <= MAX_NAME);
            assert_eq!(path_of_stashed(&name), is_recoverable.then_some(path));
        }
    }

    #[test]
    fn path_of_other_names_is_none() {
        for name in [
            "new-1", "old-1", "old-1-", "old-x-y", "old-1-/y", "old-1-..",
        ] {
            assert_eq!(path_of_stashed(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn state_folder_that_is_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        symlink("nothing", path("link")).unwrap();
        assert!(check_writable(&path("nothing")).is_ok());
        assert!(check_writable(dir.path()).is_ok());
        assert!(check_writable(&path("link")).is_err());
    }

    #[test]
    fn state_file_that_is_a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        symlink("nothing", path("link")).unwrap();
        assert!(open_own(&path("link")).is_err());
        assert!(!path("nothing").exists());
        let mut own = open_own(&path("own")).unwrap();
        own.write_all(b"kept").unwrap();
        let own = io::read_to_string(open_own(&path("own")).unwrap()).unwrap();
        assert_eq!(own, "kept");
    }

    #[test]
    fn stage_that_is_a_link_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        symlink("real", dir.path().join("stage")).unwrap();
        assert!(open_or_create(&dir.path().join("stage")).is_err());
    }

    #[test]
    fn create_does_not_replace_a_file_in_the_stage() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let stage = Stage::new(
            &Root::open(dir.path()).unwrap(),
            &state,
            &dir.path().join("trash"),
            Vec::new(),
        );
        assert!(stage.existing().unwrap().is_none());
        stage.folder().unwrap();
        let number = stage.0.count.load(Ordering::Relaxed);
        let taken = state.join(format!("stage/new-{}", numbered(number)));
        fs::write(&taken, "old").unwrap();
        let (mut file, name) = stage.create(0o640).unwrap();
        assert_eq!(name, format!("new-{}", numbered(number + 1)));
        file.write_all(b"text").unwrap();
        io::Seek::rewind(&mut file).unwrap();
        assert_eq!(io::read_to_string(&file).unwrap(), "text");
        assert_eq!(fs::read_to_string(&taken).unwrap(), "old");
        assert!(stage.existing().unwrap().is_some());
    }
}
