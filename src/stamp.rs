//! The stat data of a file as a value. While the stamp is the same, and old enough, the content
//! is the same.
//!
//! A stamp is only a reason not to read a file again; content decides. The rule follows git's
//! `racy-git` document (a file that changes in the clock tick in which it was read keeps its
//! stamp), and the fact that no program can set back the change time (`ctime`).

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{AtFlags, FileType, Stat};
use rustix::path::Arg;
use serde::{Deserialize, Serialize};

/// The age (in nanoseconds) from which on a stamp is reliable: several ticks of the coarsest
/// clock that Linux file systems with fine stamps use.
const FINE_TICK: i64 = 20_000_000;
/// The same for file systems that store whole seconds (two, because FAT stores even ones).
const COARSE_TICK: i64 = 2_000_000_000;
/// The longest tick of a kernel's clock.
const TICK: i64 = 10_000_000;
const SECOND: i64 = 1_000_000_000;

/// The kind of a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
    /// A folder.
    Folder,
    /// A socket, a device or a pipe; never an input or an output.
    Special,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "a file",
            Self::Link => "a symbolic link",
            Self::Folder => "a folder",
            Self::Special => "a pipe, a socket or a device",
        })
    }
}

impl From<FileType> for FileKind {
    fn from(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Self::File,
            FileType::Symlink => Self::Link,
            FileType::Directory => Self::Folder,
            _ => Self::Special,
        }
    }
}

/// Kind, mode, size, times and identity of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Kind and permissions, as `st_mode` has them.
    pub mode: u32,
    /// Length in bytes.
    pub size: u64,
    /// The time of the last change of the content, in nanoseconds since 1970.
    pub mtime: i64,
    /// The time of the last change of content or metadata, in nanoseconds since 1970.
    pub ctime: i64,
    /// The inode's number.
    pub inode: u64,
    /// The device it is on.
    pub device: u64,
}

/// The permission bits of a file that count in keys and results.
///
/// The write bits of group and others do not: the umask decides them, in a checkout as well as
/// in a copy, and a result must serve checkouts made with umask 002 and 022.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct FileMode(u16);

impl FileMode {
    /// The mode of most files.
    pub const PLAIN: Self = Self(0o644);
    /// The mode of most programs.
    pub const EXECUTABLE: Self = Self(0o755);
    const COUNTED: u16 = 0o7755;

    /// Returns the bits that count of `bits`.
    pub const fn new(bits: u32) -> Self {
        // No bit beyond the lowest 16 counts.
        Self((bits & Self::COUNTED as u32) as u16)
    }

    /// Returns the bits.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Returns the more common mode with the same executable bit.
    #[must_use]
    pub const fn simplified(self) -> Self {
        if self.is_executable() {
            Self::EXECUTABLE
        } else {
            Self::PLAIN
        }
    }

    /// Returns true if the owner may execute the file.
    pub const fn is_executable(self) -> bool {
        self.0 & 0o100 != 0
    }
}

impl TryFrom<u16> for FileMode {
    type Error = &'static str;

    fn try_from(bits: u16) -> Result<Self, &'static str> {
        if bits & !Self::COUNTED == 0 {
            Ok(Self(bits))
        } else {
            Err("not the mode of a file")
        }
    }
}

impl From<FileMode> for u16 {
    fn from(mode: FileMode) -> Self {
        mode.0
    }
}

/// The identity of a file or folder, which a rename keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileId {
    /// The device it is on.
    pub device: u64,
    /// The number of its inode.
    pub inode: u64,
}

impl Stamp {
    /// Returns the identity.
    pub fn id(&self) -> FileId {
        FileId {
            device: self.device,
            inode: self.inode,
        }
    }

    /// Returns the same stamp with another identity.
    #[must_use]
    pub fn with_id(self, id: FileId) -> Self {
        Self {
            device: id.device,
            inode: id.inode,
            ..self
        }
    }

    /// Returns the stamp of `path` below the open folder `at`, without following a link; `None`
    /// if nothing is there.
    pub fn at(at: impl AsFd, path: impl Arg) -> io::Result<Option<Self>> {
        Self::stat(at, path, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Returns the stamp of `path`, links followed; `None` if nothing is there.
    pub fn followed(at: impl AsFd, path: impl Arg) -> io::Result<Option<Self>> {
        Self::stat(at, path, AtFlags::empty())
    }

    fn stat(at: impl AsFd, path: impl Arg, flags: AtFlags) -> io::Result<Option<Self>> {
        use rustix::io::Errno;
        match rustix::fs::statat(at, path, flags) {
            Ok(stat) => Ok(Some(Self::from(&stat))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the stamp of the absolute `path`, links followed; `None` if nothing is there or
    /// the system refuses.
    pub fn of_path(path: &Path) -> Option<Self> {
        Self::followed(rustix::fs::CWD, path).ok().flatten()
    }

    /// Returns the stamp of an open file.
    pub fn of(file: impl AsFd) -> io::Result<Self> {
        Ok(Self::from(&rustix::fs::fstat(file)?))
    }

    /// Returns a stamp that no file has.
    pub const fn unknown() -> Self {
        Self {
            mode: 0,
            size: 0,
            mtime: i64::MIN,
            ctime: i64::MIN,
            inode: 0,
            device: 0,
        }
    }

    /// Returns the kind of the file.
    pub fn kind(&self) -> FileKind {
        FileType::from_raw_mode(self.mode).into()
    }

    /// Returns the permission bits that count.
    pub fn file_mode(&self) -> FileMode {
        FileMode::new(self.mode)
    }

    /// Returns true if its owner may execute it.
    pub fn is_executable(&self) -> bool {
        self.mode & 0o100 != 0
    }

    /// Returns true if its file system seems to store whole seconds only.
    pub fn is_coarse(&self) -> bool {
        self.mtime % SECOND == 0 && self.ctime % SECOND == 0
    }

    /// Returns true if any change after `since` (nanoseconds since 1970) shows in the stamp. A
    /// change in the same tick of the clock as the last one may not.
    pub fn is_old_enough(&self, since: i64) -> bool {
        let tick = if self.is_coarse() {
            COARSE_TICK
        } else {
            FINE_TICK
        };
        self.mtime.max(self.ctime).saturating_add(tick) < since
    }
}

impl From<&Stat> for Stamp {
    #[expect(
        clippy::cast_possible_wrap,
        clippy::unnecessary_cast,
        reason = "the types of these fields differ between platforms; times fit 63 bits until 2262"
    )]
    fn from(stat: &Stat) -> Self {
        Self {
            mode: stat.st_mode as u32,
            size: stat.st_size as u64,
            mtime: (stat.st_mtime as i64) * SECOND + stat.st_mtime_nsec as i64,
            ctime: (stat.st_ctime as i64) * SECOND + stat.st_ctime_nsec as i64,
            inode: stat.st_ino as u64,
            device: stat.st_dev as u64,
        }
    }
}

/// Returns the time now, in nanoseconds since 1970, minus one tick: the clock that stamps are
/// made with is behind by up to that, and a stamp made now must not seem to be older.
pub fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0, |now| i64::try_from(now.as_nanos()).unwrap_or(i64::MAX));
    now.saturating_sub(TICK)
}

/// The clock with which a file system makes stamps, compared with the clock of this machine. A
/// file server has one of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct StampClock {
    /// How far this machine is ahead, in nanoseconds.
    ahead: i64,
}

impl StampClock {
    /// Compares the clocks by a file that is made in `folder` and removed at once. They count
    /// as equal if that is impossible, or if stamps below `root` are made by another file
    /// system and this one is behind.
    pub fn measure(folder: &Path, root: impl AsFd) -> Self {
        let Some(made) = Self::stamp_of_now(folder) else {
            return Self::default();
        };
        // After the file is made, so that the difference is not taken for smaller than it is.
        let ahead = now().saturating_sub(made.ctime);
        let is_same = Stamp::of(root).is_ok_and(|root| root.device == made.device);
        Self {
            ahead: if is_same { ahead } else { ahead.max(0) },
        }
    }

    /// Returns the clock of a file system that is behind by so many nanoseconds.
    #[cfg(test)]
    pub(crate) fn behind_by(ahead: i64) -> Self {
        Self { ahead }
    }

    fn stamp_of_now(folder: &Path) -> Option<Stamp> {
        let file = tempfile::tempfile_in(folder).ok()?;
        Stamp::of(&file).ok()
    }

    /// Returns the time now, or a little earlier, by the clock of the file system.
    pub fn now(self) -> i64 {
        self.of(now())
    }

    /// Converts a time of this machine's clock to the clock of the file system.
    pub fn of(self, time: i64) -> i64 {
        time.saturating_sub(self.ahead)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn young_stamp_is_not_reliable() {
        let stamp = |time| Stamp {
            mode: 0o100_644,
            size: 1,
            mtime: time,
            ctime: time,
            inode: 1,
            device: 1,
        };
        let time = 5 * SECOND + 1;
        assert!(!stamp(time).is_old_enough(time));
        assert!(!stamp(time).is_old_enough(time + FINE_TICK));
        assert!(stamp(time).is_old_enough(time + FINE_TICK + 1));
        assert!(!stamp(5 * SECOND).is_old_enough(6 * SECOND));
        assert!(stamp(5 * SECOND).is_old_enough(8 * SECOND));
        assert!(!stamp(i64::MAX).is_old_enough(time), "a time in the future");
    }

    #[test]
    fn clock_of_a_local_file_system_is_ours() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        let before = now();
        let clock = StampClock::measure(dir.path(), &root);
        std::fs::write(dir.path().join("file"), "").unwrap();
        let stamp = Stamp::at(&root, "file").unwrap().unwrap();
        assert!(clock.of(before) <= stamp.ctime);
        assert!(clock.now() > stamp.ctime - SECOND);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn clock_of_a_missing_folder_is_ours() {
        let root = File::open("/").unwrap();
        let clock = StampClock::measure(Path::new("/no/such/folder"), &root);
        assert_eq!(clock.of(5), 5);
    }

    #[test]
    fn link_is_followed_only_if_asked() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "abc").unwrap();
        std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
        let at = File::open(dir.path()).unwrap();
        let file = Stamp::at(&at, "file").unwrap().unwrap();
        assert_eq!((file.kind(), file.size), (FileKind::File, 3));
        let link = Stamp::at(&at, "link").unwrap().unwrap();
        assert_eq!(link.kind(), FileKind::Link);
        assert_eq!(Stamp::followed(&at, "link").unwrap(), Some(file));
        assert_eq!(Stamp::at(&at, "nothing").unwrap(), None);
        assert_eq!(Stamp::at(&at, "file/below").unwrap(), None);
    }
}
