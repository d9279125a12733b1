//! The folder through which outputs move: private, on the file system of the tree if the
//! state is, and empty between runs. It names things and moves them; what and why is the
//! business of those who use it.

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
use super::at::{open_child, os};
use crate::path::{MAX_NAME, RelPath, Root};
use crate::stamp::{FileKind, Stamp};
use crate::store::tmpfile::AnonymousFile;

/// What a thing in the stage is; its name says so.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// On its way into the tree.
    New,
    /// On its way out.
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

/// Tells why nothing can be put into a folder of the state, if that is so. One that is not
/// there is not in the way; a link is, wherever it leads.
pub fn check_writable(folder: &Path) -> io::Result<()> {
    let stamp = Stamp::at(rustix::fs::CWD, folder)?;
    if stamp.is_some_and(|stamp| stamp.kind() == FileKind::Link) {
        return Err(Errno::LOOP.into());
    }
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    match rustix::fs::accessat(rustix::fs::CWD, folder, access, AtFlags::EACCESS) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens a file of the state for reading and writing, or makes it. A link in its place is
/// not followed.
pub fn open_own(file: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o666);
    Ok(rustix::fs::open(file, flags, mode)?.into())
}

/// Stands for a slash in the name of something that was set aside.
const SLASH: u8 = 1;

/// A tree and the folder through which its outputs move. Clones are the same.
#[derive(Clone, Debug)]
pub struct Stage(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: Root,
    path: PathBuf,
    /// Folders that are left alone, below the root.
    apart: Vec<RelPath>,
    folder: Mutex<Option<Arc<OwnedFd>>>,
    count: AtomicU64,
    tmpfile: AnonymousFile,
}

impl Stage {
    /// Returns the stage of the tree below `root`, in the folder `state`; it is made when
    /// it is needed. Nothing is looked for in `state`, nor in the folders `apart`.
    pub fn new(root: &Root, state: &Path, mut apart: Vec<RelPath>) -> Self {
        apart.extend(root.relative(state).filter(|state| !state.is_root()));
        Self(Arc::new(Inner {
            root: root.clone(),
            path: state.join("stage"),
            apart,
            folder: Mutex::default(),
            count: AtomicU64::new(0),
            tmpfile: AnonymousFile::default(),
        }))
    }

    /// Returns the root of the tree.
    pub fn root(&self) -> &Root {
        &self.0.root
    }

    /// Tells whether a folder is nobody's output: version control's, or another's.
    pub(super) fn leaves_alone(&self, folder: &RelPath) -> bool {
        folder.name() == b".git" || self.0.apart.contains(folder)
    }

    /// Tells whether there is a folder below this one that is another's.
    pub(super) fn leaves_alone_below(&self, folder: &RelPath) -> bool {
        self.0.apart.iter().any(|apart| apart.is_within(folder))
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

    /// Returns the open stage, making it first if need be.
    pub(super) fn folder(&self) -> Result<Arc<OwnedFd>, Error> {
        let mut folder = self.0.folder.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = &*folder {
            return Ok(folder.clone());
        }
        let opened = open_or_make(&self.0.path).map_err(self.error("make files"))?;
        let opened = Arc::new(opened);
        *folder = Some(opened.clone());
        Ok(opened)
    }

    /// Opens the stage if there is one.
    pub(super) fn existing(&self) -> Result<Option<Arc<OwnedFd>>, Error> {
        match self.0.path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => self.folder().map(Some),
        }
    }

    /// Returns a name that nothing in the stage has, if it was empty to begin with.
    pub(super) fn name(&self, purpose: Purpose) -> String {
        let number = self.0.count.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number}", purpose.prefix())
    }

    /// Returns a name for what is taken out of the tree and put back if its maker fails.
    /// It says where that was, unless the path is too long or too odd for that: then it
    /// is not known any more after the process was killed.
    pub(super) fn name_of_old(&self, path: &RelPath) -> Vec<u8> {
        let number = self.0.count.fetch_add(1, Ordering::Relaxed);
        let mut name = format!("old-{number}-").into_bytes();
        let is_odd = path.as_bytes().contains(&SLASH);
        if !is_odd && name.len() + path.as_bytes().len() <= MAX_NAME {
            let slashed = |byte: &u8| if *byte == b'/' { SLASH } else { *byte };
            name.extend(path.as_bytes().iter().map(slashed));
        }
        name
    }

    /// Makes a file in the stage that has no name, where there can be such files.
    pub(super) fn create_unnamed(&self, mode: u32) -> Result<Option<File>, Error> {
        let created = self
            .0
            .tmpfile
            .create(&*self.folder()?, ".", Mode::from(mode));
        created.map_err(self.error("make a file"))
    }

    /// Gives a file without a name a place in the tree, or what it was made in the stage
    /// for: `EEXIST` when something stands there.
    pub(super) fn link(&self, file: &File, to: Place<'_>) -> Result<(), Errno> {
        self.0.tmpfile.link(file, to.folder, os(to.name))
    }

    /// Makes a file in the stage.
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

    /// Makes a folder in the stage.
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

/// Returns where something that was set aside belongs.
pub(super) fn place_of_old(name: &[u8]) -> Option<RelPath> {
    let numbered = name.strip_prefix(b"old-")?;
    let digits = numbered.iter().take_while(|byte| byte.is_ascii_digit());
    let path = numbered[digits.count()..].strip_prefix(b"-")?;
    let slashed = |byte: &u8| if *byte == SLASH { b'/' } else { *byte };
    let path: Vec<u8> = path.iter().map(slashed).collect();
    RelPath::new(path).ok().filter(|path| !path.is_root())
}

fn open_or_make(path: &Path) -> io::Result<OwnedFd> {
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

/// A place: a name in an open folder.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) folder: BorrowedFd<'a>,
    pub(super) name: &'a [u8],
}

impl<'a> Place<'a> {
    pub(super) fn new(folder: &'a impl AsFd, name: &'a [u8]) -> Self {
        let folder = folder.as_fd();
        Self { folder, name }
    }

    /// Returns what stands there.
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

/// Moves what stands at one place to another, replacing a file or a link there. Where the
/// two are not on one file system it is copied, times and permissions included, to a name
/// beside its new one first.
pub(super) fn move_to(from: Place<'_>, to: Place<'_>) -> io::Result<()> {
    match rename(from, to) {
        Err(Errno::XDEV) => move_across(from, to, 0),
        // To move a folder the system wants to write in it.
        Err(Errno::ACCESS) if make_writable(from) => Ok(rename(from, to)?),
        other => Ok(other?),
    }
}

fn rename(from: Place<'_>, to: Place<'_>) -> Result<(), Errno> {
    rustix::fs::renameat(from.folder, os(from.name), to.folder, os(to.name))
}

/// Gives the owner of a folder the right to change it; `false` if it is none, or was there.
pub(super) fn make_writable(place: Place<'_>) -> bool {
    let Ok(Some(stamp)) = place.stamp() else {
        return false;
    };
    if stamp.kind() != FileKind::Folder || stamp.mode & 0o700 == 0o700 {
        return false;
    }
    let mode = Mode::from_raw_mode(stamp.mode & 0o7777 | 0o700);
    // Not a link: the stamp says so, and nobody is to work here meanwhile.
    rustix::fs::chmodat(place.folder, os(place.name), mode, AtFlags::empty()).is_ok()
}

/// Folders nested deeper than this are not moved between file systems.
const MAX_DEPTH: usize = 200;

fn move_across(from: Place<'_>, to: Place<'_>, depth: usize) -> io::Result<()> {
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
                Place {
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

fn move_folder_across(from: Place<'_>, to: Place<'_>, depth: usize) -> io::Result<()> {
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
            let (from, to) = (Place::new(&source, name), Place::new(&target, name));
            move_across(from, to, depth + 1)?;
        }
    }
    Ok(from.remove_folder()?)
}

/// Copies a file to a name beside `to` and renames it.
fn copy_beside(from: Place<'_>, to: Place<'_>, stamp: &Stamp) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = rustix::fs::openat(from.folder, os(from.name), flags, Mode::empty())?;
    let mut source = File::from(source);
    let beside = beside(to.name);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = rustix::fs::openat(to.folder, os(&beside), flags, Mode::RWXU)?;
    let mut copy = File::from(copy);
    let beside = Place {
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

/// Returns a name for a file that will be called `name`.
fn beside(name: &[u8]) -> Vec<u8> {
    let kept = &name[..name.len().min(200)];
    [b".fbuild-", kept].concat()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    /// Two folders, to move things from one to the other.
    struct Two {
        dir: tempfile::TempDir,
        from: OwnedFd,
        to: OwnedFd,
    }

    impl Two {
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

        /// Moves `x` as if the two were on two file systems.
        fn move_across(&self, depth: usize) -> io::Result<()> {
            let (from, to) = (Place::new(&self.from, b"x"), Place::new(&self.to, b"x"));
            move_across(from, to, depth)
        }

        fn is_empty(&self, folder: &str) -> bool {
            fs::read_dir(self.path(folder)).unwrap().next().is_none()
        }
    }

    #[test]
    fn a_folder_becomes_its_owners_and_keeps_all_other_permissions() {
        let two = Two::new();
        let make_writable = |name: &str| make_writable(Place::new(&two.from, name.as_bytes()));
        fs::create_dir(two.path("from/x")).unwrap();
        for (before, after) in [(0o2550, 0o2750), (0o000, 0o700), (0o1077, 0o1777)] {
            let mode = fs::Permissions::from_mode(before);
            fs::set_permissions(two.path("from/x"), mode).unwrap();
            assert!(make_writable("x"));
            assert_eq!(two.mode("from/x"), after);
            assert!(!make_writable("x"), "there is nothing left to do");
        }
        two.write("from/file", "", 0o444);
        symlink("x", two.path("from/link")).unwrap();
        fs::set_permissions(two.path("from/x"), fs::Permissions::from_mode(0o500)).unwrap();
        for name in ["file", "link", "nothing"] {
            assert!(!make_writable(name));
        }
        assert_eq!((two.mode("from/file"), two.mode("from/x")), (0o444, 0o500));
    }

    #[test]
    fn what_moves_to_another_file_system_arrives_as_it_was() {
        let two = Two::new();
        two.write("from/x/file", "text", 0o4754);
        two.write("from/x/sub/deep", "more", 0o600);
        symlink("nowhere", two.path("from/x/link")).unwrap();
        fs::create_dir(two.path("from/x/empty")).unwrap();
        let file = File::open(two.path("from/x/file")).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_234_567, 89);
        file.set_modified(time).unwrap();
        // Something older stands there.
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
    fn what_cannot_move_to_another_file_system_stays_and_leaves_nothing_there() {
        let two = Two::new();
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
    fn folders_without_end_are_not_moved_to_another_file_system() {
        let two = Two::new();
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
    fn a_name_beside_another_is_one_that_a_file_can_have() {
        assert_eq!(beside(b"out"), b".fbuild-out");
        assert!(beside(&[b'x'; MAX_NAME]).len() <= MAX_NAME);
    }

    #[test]
    fn the_name_of_what_was_set_aside_says_where_it_was_if_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let stage = Stage::new(&root, &dir.path().join("state"), Vec::new());
        let prefix = "old-0-".len();
        for (text, is_said) in [
            ("a/b".to_owned(), true),
            ("x".repeat(MAX_NAME - prefix), true),
            ("y".repeat(MAX_NAME - prefix + 1), false),
            ("odd\u{1}name".to_owned(), false),
        ] {
            let path = RelPath::new(&text).unwrap();
            let name = stage.name_of_old(&path);
            assert!(name.len() <= MAX_NAME);
            assert_eq!(place_of_old(&name), is_said.then_some(path));
        }
        for name in [
            "new-1", "old-1", "old-1-", "old-x-y", "old-1-/y", "old-1-..",
        ] {
            assert_eq!(place_of_old(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn a_link_where_the_state_belongs_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        symlink("nothing", path("link")).unwrap();
        assert!(check_writable(&path("nothing")).is_ok());
        assert!(check_writable(dir.path()).is_ok());
        assert!(check_writable(&path("link")).is_err());
        assert!(open_own(&path("link")).is_err());
        assert!(!path("nothing").exists());
        let mut own = open_own(&path("own")).unwrap();
        own.write_all(b"kept").unwrap();
        let own = io::read_to_string(open_own(&path("own")).unwrap()).unwrap();
        assert_eq!(own, "kept");
    }

    #[test]
    fn the_stage_is_no_link_and_what_is_made_in_it_is_new() {
        let dir = tempfile::tempdir().unwrap();
        let (state, real) = (dir.path().join("state"), dir.path().join("real"));
        fs::create_dir_all(&state).unwrap();
        fs::create_dir(&real).unwrap();
        symlink(&real, state.join("stage")).unwrap();
        assert!(open_or_make(&state.join("stage")).is_err());
        fs::remove_file(state.join("stage")).unwrap();
        let stage = Stage::new(&Root::open(dir.path()).unwrap(), &state, Vec::new());
        assert!(stage.existing().unwrap().is_none());
        stage.folder().unwrap();
        fs::write(state.join("stage/new-0"), "left behind").unwrap();
        let (mut file, name) = stage.create(0o640).unwrap();
        assert_eq!(name.as_deref(), Some("new-1"));
        file.write_all(b"text").unwrap();
        io::Seek::rewind(&mut file).unwrap();
        assert_eq!(io::read_to_string(&file).unwrap(), "text");
        let left = fs::read_to_string(state.join("stage/new-0")).unwrap();
        assert_eq!(left, "left behind");
        assert!(stage.existing().unwrap().is_some());
    }

    #[test]
    fn a_link_in_the_place_of_a_file_is_not_copied() {
        let two = Two::new();
        two.write("from/real", "text", 0o600);
        symlink("real", two.path("from/x")).unwrap();
        let (from, to) = (Place::new(&two.from, b"x"), Place::new(&two.to, b"x"));
        let stamp = from.stamp().unwrap().unwrap();
        assert!(copy_beside(from, to, &stamp).is_err());
        assert!(two.is_empty("to"));
    }
}
