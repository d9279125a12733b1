//! The staging directory, through which outputs move: private, usually on the file system
//! of the tree, and empty between runs.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, Timestamps};
use rustix::io::Errno;

use super::Error;
use super::dirs::{open_child, os};
use crate::access;
use crate::path::{MAX_NAME, RelPath, Root};
use crate::stamp::{FileKind, Stamp};
use crate::store::tmpfile::AnonymousFile;

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
    /// Folders below the root that are never outputs.
    excluded: Vec<RelPath>,
    folder: Mutex<Option<Arc<OwnedFd>>>,
    count: AtomicU64,
    tmpfile: AnonymousFile,
}

impl Stage {
    /// Returns the stage of the tree below `root`, in the folder `state`; it is created when
    /// needed. No outputs are in `state` and in the `excluded` folders.
    pub fn new(root: &Root, state: &Path, mut excluded: Vec<RelPath>) -> Self {
        excluded.extend(root.relative(state).filter(|state| !state.is_root()));
        Self(Arc::new(Inner {
            root: root.clone(),
            path: state.join("stage"),
            excluded,
            folder: Mutex::default(),
            count: AtomicU64::new(0),
            tmpfile: AnonymousFile::default(),
        }))
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

    /// Returns a new name; no entry has it if the stage was empty at the start.
    pub(super) fn name(&self, purpose: Purpose) -> String {
        let number = self.0.count.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number}", purpose.prefix())
    }

    /// Returns a name for a stashed entry. It contains the path, unless that is too long or
    /// contains the replacement for slashes: then the path is lost if the process is killed.
    pub(super) fn stash_name(&self, path: &RelPath) -> Vec<u8> {
        let number = self.0.count.fetch_add(1, Ordering::Relaxed);
        let mut name = format!("old-{number}-").into_bytes();
        let is_odd = path.as_bytes().contains(&SLASH);
        if !is_odd && name.len() + path.as_bytes().len() <= MAX_NAME {
            let slashed = |byte: &u8| if *byte == b'/' { SLASH } else { *byte };
            name.extend(path.as_bytes().iter().map(slashed));
        }
        name
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
    pub(super) fn create(&self, mode: u32) -> Result<(File, Option<String>), Error> {
        let folder = self.folder()?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let name = self.name(Purpose::New);
            match rustix::fs::openat(&*folder, &*name, flags, Mode::from(mode)) {
                Ok(file) => return Ok((file.into(), Some(name))),
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

/// An entry of an open folder, which need not exist.
#[derive(Clone, Copy)]
pub(super) struct EntryAt<'a> {
    pub(super) folder: BorrowedFd<'a>,
    pub(super) name: &'a [u8],
}

impl<'a> EntryAt<'a> {
    pub(super) fn new(folder: &'a impl AsFd, name: &'a [u8]) -> Self {
        let folder = folder.as_fd();
        Self { folder, name }
    }

    /// Returns the stamp, or `None` if the entry does not exist.
    pub(super) fn stamp(self) -> io::Result<Option<Stamp>> {
        Stamp::at(self.folder, os(self.name))
    }

    pub(super) fn remove_file(self) -> Result<(), Errno> {
        rustix::fs::unlinkat(self.folder, os(self.name), AtFlags::empty())
    }

    pub(super) fn remove_folder(self) -> Result<(), Errno> {
        rustix::fs::unlinkat(self.folder, os(self.name), AtFlags::REMOVEDIR)
    }
}

/// Moves an entry, replacing a file or a link. Between file systems it is copied, with times
/// and permissions, to a temporary name beside the new one first.
pub(super) fn move_to(from: EntryAt<'_>, to: EntryAt<'_>) -> io::Result<()> {
    match rename(from, to) {
        Err(Errno::XDEV) => move_across(from, to, 0),
        // Moving a folder to another parent changes its `..`, so it must be writable.
        Err(Errno::ACCESS) if make_writable(from) => Ok(rename(from, to)?),
        other => Ok(other?),
    }
}

fn rename(from: EntryAt<'_>, to: EntryAt<'_>) -> Result<(), Errno> {
    rustix::fs::renameat(from.folder, os(from.name), to.folder, os(to.name))
}

/// Makes a folder writable for its owner; false if it already was or is not a folder.
pub(super) fn make_writable(place: EntryAt<'_>) -> bool {
    let Ok(Some(stamp)) = place.stamp() else {
        return false;
    };
    if stamp.kind() != FileKind::Folder || stamp.mode & 0o700 == 0o700 {
        return false;
    }
    let mode = Mode::from_raw_mode(stamp.mode & 0o7777 | 0o700);
    // The stamp shows that it is not a link, which chmod would follow.
    rustix::fs::chmodat(place.folder, os(place.name), mode, AtFlags::empty()).is_ok()
}

/// The maximum depth of folders moved between file systems, which is recursive.
const MAX_DEPTH: usize = 200;

fn move_across(from: EntryAt<'_>, to: EntryAt<'_>, depth: usize) -> io::Result<()> {
    let Some(stamp) = from.stamp()? else {
        return Err(Errno::NOENT.into());
    };
    match stamp.kind() {
        FileKind::Folder if depth < MAX_DEPTH => move_folder_across(from, to, depth),
        FileKind::File => {
            copy_beside(from, to, &stamp)?;
            Ok(from.remove_file()?)
        }
        FileKind::Link => {
            let target = rustix::fs::readlinkat(from.folder, os(from.name), Vec::new())?;
            let beside = beside(to.name);
            rustix::fs::symlinkat(&*target, to.folder, os(&beside))?;
            rename(
                EntryAt {
                    name: &beside,
                    ..to
                },
                to,
            )?;
            Ok(from.remove_file()?)
        }
        _ => Err(Errno::XDEV.into()),
    }
}

fn move_folder_across(from: EntryAt<'_>, to: EntryAt<'_>, depth: usize) -> io::Result<()> {
    match rustix::fs::mkdirat(to.folder, os(to.name), Mode::from(0o777)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    make_writable(from);
    let source = open_child(from.folder, from.name)?;
    let target = open_child(to.folder, to.name)?;
    for entry in rustix::fs::Dir::read_from(&source)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            let (from, to) = (EntryAt::new(&source, name), EntryAt::new(&target, name));
            move_across(from, to, depth + 1)?;
        }
    }
    Ok(from.remove_folder()?)
}

/// Copies a file to a temporary name beside `to` and renames it.
fn copy_beside(from: EntryAt<'_>, to: EntryAt<'_>, stamp: &Stamp) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = rustix::fs::openat(from.folder, os(from.name), flags, Mode::empty())?;
    let mut source = File::from(source);
    let beside = beside(to.name);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = rustix::fs::openat(to.folder, os(&beside), flags, Mode::RWXU)?;
    let mut copy = File::from(copy);
    let beside = EntryAt {
        name: &beside,
        ..to
    };
    let copied = io::copy(&mut source, &mut copy)
        .and_then(|_| copy.flush())
        .and_then(|()| keep_metadata(&copy, stamp))
        .and_then(|()| Ok(rename(beside, to)?));
    copied.inspect_err(|_| {
        let _ = beside.remove_file();
    })
}

fn keep_metadata(copy: &File, stamp: &Stamp) -> io::Result<()> {
    const SECOND: i64 = 1_000_000_000;
    let mtime = rustix::fs::Timespec {
        tv_sec: stamp.mtime.div_euclid(SECOND),
        tv_nsec: stamp.mtime.rem_euclid(SECOND),
    };
    let times = Timestamps {
        last_access: mtime,
        last_modification: mtime,
    };
    rustix::fs::fchmod(copy, Mode::from_raw_mode(stamp.mode & 0o7777))?;
    Ok(rustix::fs::futimens(copy, &times)?)
}

/// Returns a temporary name for a file that will be renamed to `name`.
fn beside(name: &[u8]) -> Vec<u8> {
    let kept = &name[..name.len().min(200)];
    [b".fbuild-", kept].concat()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    /// Two folders to move entries between.
    struct TwoFolders {
        dir: tempfile::TempDir,
        from: OwnedFd,
        to: OwnedFd,
    }

    impl TwoFolders {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let [from, to] = ["from", "to"].map(|name| {
                fs::create_dir(dir.path().join(name)).unwrap();
                File::open(dir.path().join(name)).unwrap().into()
            });
            Self { dir, from, to }
        }

        fn path(&self, below: &str) -> PathBuf {
            self.dir.path().join(below)
        }

        fn write(&self, below: &str, text: &str, mode: u32) {
            let path = self.path(below);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }

        fn mode(&self, below: &str) -> u32 {
            self.path(below).metadata().unwrap().mode() & 0o7777
        }

        /// Moves `x` as if the folders were on two file systems.
        fn move_across(&self, depth: usize) -> io::Result<()> {
            let (from, to) = (EntryAt::new(&self.from, b"x"), EntryAt::new(&self.to, b"x"));
            move_across(from, to, depth)
        }

        fn is_empty(&self, folder: &str) -> bool {
            fs::read_dir(self.path(folder)).unwrap().next().is_none()
        }
    }

    #[test]
    fn make_writable_changes_only_the_owners_bits() {
        let two = TwoFolders::new();
        let make_writable = |name: &str| make_writable(EntryAt::new(&two.from, name.as_bytes()));
        fs::create_dir(two.path("from/x")).unwrap();
        for (before, after) in [(0o2550, 0o2750), (0o000, 0o700), (0o1077, 0o1777)] {
            let mode = fs::Permissions::from_mode(before);
            fs::set_permissions(two.path("from/x"), mode).unwrap();
            assert!(make_writable("x"));
            assert_eq!(two.mode("from/x"), after);
            assert!(!make_writable("x"), "it already is");
        }
    }

    #[test]
    fn make_writable_ignores_files_and_links() {
        let two = TwoFolders::new();
        let make_writable = |name: &str| make_writable(EntryAt::new(&two.from, name.as_bytes()));
        fs::create_dir(two.path("from/x")).unwrap();
        two.write("from/file", "", 0o444);
        symlink("x", two.path("from/link")).unwrap();
        fs::set_permissions(two.path("from/x"), fs::Permissions::from_mode(0o500)).unwrap();
        for name in ["file", "link", "nothing"] {
            assert!(!make_writable(name));
        }
        assert_eq!((two.mode("from/file"), two.mode("from/x")), (0o444, 0o500));
    }

    #[test]
    fn move_across_keeps_content_and_metadata() {
        let two = TwoFolders::new();
        two.write("from/x/file", "text", 0o4754);
        two.write("from/x/sub/deep", "more", 0o600);
        symlink("nowhere", two.path("from/x/link")).unwrap();
        fs::create_dir(two.path("from/x/empty")).unwrap();
        let file = File::open(two.path("from/x/file")).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_234_567, 89);
        file.set_modified(time).unwrap();
        // The destination has older files.
        two.write("to/x/file", "old", 0o600);
        symlink("elsewhere", two.path("to/x/link")).unwrap();
        two.move_across(0).unwrap();
        assert!(two.is_empty("from"));
        assert_eq!(fs::read_to_string(two.path("to/x/file")).unwrap(), "text");
        assert_eq!(two.mode("to/x/file"), 0o4754);
        let modified = two.path("to/x/file").metadata().unwrap().modified();
        assert_eq!(modified.unwrap(), time);
        let deep = fs::read_to_string(two.path("to/x/sub/deep"));
        assert_eq!(deep.unwrap(), "more");
        let link = fs::read_link(two.path("to/x/link")).unwrap();
        assert_eq!(link, Path::new("nowhere"));
        assert!(two.is_empty("to/x/empty"));
        assert_eq!(fs::read_dir(two.path("to/x")).unwrap().count(), 4);
    }

    #[test]
    fn failed_move_across_leaves_both_sides_unchanged() {
        let two = TwoFolders::new();
        let error = two.move_across(0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        rustix::fs::mknodat(
            &two.from,
            "x",
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let error = two.move_across(0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::CrossesDevices);
        fs::remove_file(two.path("from/x")).unwrap();
        two.write("from/x", "text", 0o600);
        assert!(two.is_empty("to"));
        fs::create_dir_all(two.path("to/x/full")).unwrap();
        assert!(two.move_across(0).is_err());
        assert_eq!(fs::read_to_string(two.path("from/x")).unwrap(), "text");
        assert_eq!(fs::read_dir(two.path("to")).unwrap().count(), 1);
    }

    #[test]
    fn move_across_is_limited_in_depth() {
        let two = TwoFolders::new();
        fs::create_dir_all(two.path("from/x/y")).unwrap();
        for depth in [MAX_DEPTH, MAX_DEPTH - 1] {
            let error = two.move_across(depth).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::CrossesDevices);
            assert!(two.path("from/x/y").exists());
        }
        two.move_across(MAX_DEPTH - 2).unwrap();
        assert!(two.path("to/x/y").exists());
    }

    #[test]
    fn temporary_name_is_not_too_long() {
        assert_eq!(beside(b"out"), b".fbuild-out");
        assert!(beside(&[b'x'; MAX_NAME]).len() <= MAX_NAME);
    }

    #[test]
    fn stash_name_contains_the_path_if_it_fits() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let stage = Stage::new(&root, &dir.path().join("state"), Vec::new());
        let prefix = "old-0-".len();
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
        let stage = Stage::new(&Root::open(dir.path()).unwrap(), &state, Vec::new());
        assert!(stage.existing().unwrap().is_none());
        stage.folder().unwrap();
        fs::write(state.join("stage/new-0"), "old").unwrap();
        let (mut file, name) = stage.create(0o640).unwrap();
        assert_eq!(name.as_deref(), Some("new-1"));
        file.write_all(b"text").unwrap();
        io::Seek::rewind(&mut file).unwrap();
        assert_eq!(io::read_to_string(&file).unwrap(), "text");
        let left = fs::read_to_string(state.join("stage/new-0")).unwrap();
        assert_eq!(left, "old");
        assert!(stage.existing().unwrap().is_some());
    }

    #[test]
    fn copy_does_not_follow_a_link() {
        let two = TwoFolders::new();
        two.write("from/real", "text", 0o600);
        symlink("real", two.path("from/x")).unwrap();
        let (from, to) = (EntryAt::new(&two.from, b"x"), EntryAt::new(&two.to, b"x"));
        let stamp = from.stamp().unwrap().unwrap();
        assert!(copy_beside(from, to, &stamp).is_err());
        assert!(two.is_empty("to"));
    }
}
