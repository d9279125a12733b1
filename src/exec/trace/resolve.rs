//! Resolves the paths of another process as the kernel does, at the moment of its call.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::decode::Place;

/// The mark that the kernel adds to the path of a file without a name.
const DELETED: &[u8] = b" (deleted)";

/// The time of the last change of a file's content or attributes, in seconds and nanoseconds.
pub(super) type ChangeTime = (i64, i64);

/// The file at a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resolved {
    /// It exists.
    Present {
        /// Its path without links.
        real: Vec<u8>,
        /// Its kind.
        kind: FileType,
        /// Its last change.
        changed: ChangeTime,
    },
    /// It does not exist. The path has links only where they dangle.
    Absent(Vec<u8>),
    /// It cannot be found out; the call of the command probably fails.
    Unknown,
}

/// Returns the absolute path of a place for a thread; `None` if it is no path.
pub(super) fn absolute(thread: u32, place: &Place) -> Option<Vec<u8>> {
    if place.path.starts_with(b"/") {
        return Some(place.path.clone());
    }
    let mut path = folder(thread, place.folder)?;
    if !place.path.is_empty() {
        path.push(b'/');
        path.extend_from_slice(&place.path);
    }
    Some(path)
}

/// Returns the path of a descriptor of a thread, or of its working directory.
pub(super) fn folder(thread: u32, descriptor: Option<i32>) -> Option<Vec<u8>> {
    let link = match descriptor {
        Some(descriptor) => format!("/proc/{thread}/fd/{descriptor}"),
        None => format!("/proc/{thread}/cwd"),
    };
    let path = rustix::fs::readlink(link, Vec::new()).ok()?.into_bytes();
    // A pipe, a socket, or a folder that was deleted.
    (path.starts_with(b"/") && !path.ends_with(DELETED)).then_some(path)
}

/// Removes repeated slashes and `.`; `None` if there is a `..`, which may lead behind a link.
pub(super) fn without_dots(path: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(path.len());
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return None,
            part => {
                plain.push(b'/');
                plain.extend_from_slice(part);
            }
        }
    }
    Some(plain)
}

/// Resolves an absolute path.
pub(super) fn resolve(path: &[u8], follows: bool) -> Resolved {
    let unfollowed = if follows {
        OFlags::empty()
    } else {
        OFlags::NOFOLLOW
    };
    match open(path, unfollowed) {
        Ok(file) => present(&file).unwrap_or(Resolved::Unknown),
        Err(Errno::NOENT | Errno::NOTDIR) => absent(path),
        Err(_) => Resolved::Unknown,
    }
}

/// Returns the change time of the entry at an absolute path, if there is one.
pub(super) fn change_time(path: &Path) -> Option<ChangeTime> {
    let stat = rustix::fs::lstat(path).ok()?;
    Some(changed(&stat))
}

fn open(path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | flags;
    rustix::fs::open(path, flags, Mode::empty())
}

fn present(file: &OwnedFd) -> io::Result<Resolved> {
    let stat = rustix::fs::fstat(file)?;
    if stat.st_nlink == 0 {
        return Ok(Resolved::Unknown);
    }
    Ok(Resolved::Present {
        real: path_of(file)?,
        kind: FileType::from_raw_mode(stat.st_mode),
        changed: changed(&stat),
    })
}

fn path_of(file: &OwnedFd) -> io::Result<Vec<u8>> {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::readlink(link, Vec::new())?.into_bytes())
}

#[expect(
    clippy::unnecessary_cast,
    reason = "the types differ between processors"
)]
fn changed(stat: &rustix::fs::Stat) -> ChangeTime {
    (stat.st_ctime as i64, stat.st_ctime_nsec as i64)
}

/// Resolves the longest existing folder of a path that does not exist.
fn absent(path: &[u8]) -> Resolved {
    let mut end = path.len();
    while let Some(slash) = path[..end].iter().rposition(|byte| *byte == b'/') {
        let folder = if slash == 0 { b"/" } else { &path[..slash] };
        match open(folder, OFlags::DIRECTORY) {
            Ok(folder) => {
                let Ok(mut real) = path_of(&folder) else {
                    return Resolved::Unknown;
                };
                let rest = Path::new(OsStr::from_bytes(&path[slash + 1..]));
                for part in rest.iter().filter(|part| *part != ".") {
                    if real != b"/" {
                        real.push(b'/');
                    }
                    real.extend_from_slice(part.as_bytes());
                }
                return Resolved::Absent(real);
            }
            Err(Errno::NOENT | Errno::NOTDIR) if slash > 0 => end = slash,
            Err(_) => return Resolved::Unknown,
        }
    }
    Resolved::Unknown
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Returns what a path below a folder with a file, a folder, and links resolves to, with
    /// the folder left out.
    fn shown(path: &str, follows: bool) -> String {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("real/inner")).unwrap();
        fs::write(root.join("real/file"), "").unwrap();
        symlink("real", root.join("link")).unwrap();
        symlink("real/file", root.join("alias")).unwrap();
        symlink("nothing", root.join("dangling")).unwrap();
        let resolved = resolve(root.join(path).as_os_str().as_bytes(), follows);
        let (what, path) = match &resolved {
            Resolved::Present { real, .. } => ("present", real),
            Resolved::Absent(path) => ("absent", path),
            Resolved::Unknown => return "unknown".to_owned(),
        };
        let path = String::from_utf8(path.clone()).unwrap();
        path.replace(root.to_str().unwrap(), what)
    }

    #[test]
    fn links_are_resolved_as_the_kernel_does() {
        assert_eq!(shown("link/file", true), "present/real/file");
        assert_eq!(shown("alias", true), "present/real/file");
        assert_eq!(shown("alias", false), "present/alias");
        assert_eq!(shown("link/inner/../file", true), "present/real/file");
    }

    #[test]
    fn absent_path_is_resolved_up_to_its_folder() {
        assert_eq!(shown("link/none", true), "absent/real/none");
        assert_eq!(shown("link/none/deep/x", true), "absent/real/none/deep/x");
        assert_eq!(shown("real/file/x", true), "absent/real/file/x");
        assert_eq!(shown("dangling", true), "absent/dangling");
    }

    #[test]
    fn dots_are_removed_unless_they_go_up() {
        assert_eq!(without_dots(b"/a/./b//c/").unwrap(), b"/a/b/c");
        assert_eq!(without_dots(b"/a/../b"), None);
    }
}
