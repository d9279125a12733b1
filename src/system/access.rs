//! Checks access rights of the effective user, and of others.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode};
use rustix::io::Errno;

/// Checks that the effective user has these rights on `path`.
pub fn check(path: &Path, access: Access) -> io::Result<()> {
    check_at(CWD, path, access)
}

/// Checks that the effective user has these rights on `path`, which is relative to `folder`.
pub fn check_at(folder: impl AsFd, path: &Path, access: Access) -> io::Result<()> {
    let checked = rustix::fs::accessat(&folder, path, access, AtFlags::EACCESS);
    if !checked.is_err_and(is_refused) {
        return Ok(checked?);
    }
    // Sandboxes from before `faccessat2` (2020) answer it with EPERM. The older call checks
    // the real user, who differs only in set-user-id programs.
    match rustix::fs::accessat(&folder, path, access, AtFlags::empty()) {
        // EPERM is also the answer for an immutable file.
        Err(error) if is_refused(error) && error != Errno::PERM => {
            // Only the existence can be checked. A later operation reports missing rights.
            rustix::fs::statat(&folder, path, AtFlags::empty())?;
            Ok(())
        }
        checked => Ok(checked?),
    }
}

/// Other users' control over a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Another user, except root, owns it.
    Owned,
    /// Every user can write to it.
    Writable,
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Owned => "belongs to another user",
            Self::Writable => "can be written by every user",
        })
    }
}

/// Returns the control that other users have over a file, with links followed or not. A group
/// may write to it: many systems give each user a group of their own.
pub fn control_of_others(path: &Path, links: AtFlags) -> io::Result<Option<Control>> {
    let stat = rustix::fs::statat(CWD, path, links)?;
    let is_own = stat.st_uid == 0 || stat.st_uid == rustix::process::geteuid().as_raw();
    let mode = Mode::from_raw_mode(stat.st_mode);
    let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
    Ok(if !is_own {
        Some(Control::Owned)
    } else if !is_link && mode.contains(Mode::WOTH) {
        Some(Control::Writable)
    } else {
        None
    })
}

/// Returns true if the system call is missing or refused as a whole, not for this file.
fn is_refused(error: Errno) -> bool {
    matches!(
        error,
        Errno::PERM | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP
    )
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn rights_of_a_file_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        check(&file, Access::WRITE_OK).unwrap();
        let error = check(&file, Access::EXEC_OK).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn missing_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = check(&dir.path().join("none"), Access::EXISTS).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn world_writable_file_is_under_control_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for (mode, control) in [
            (0o644, None),
            (0o664, None),
            (0o602, Some(Control::Writable)),
        ] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let found = control_of_others(&file, AtFlags::empty()).unwrap();
            assert_eq!(found, control, "{mode:o}");
        }
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let of_link = |links| control_of_others(&link, links).unwrap();
        assert_eq!(of_link(AtFlags::SYMLINK_NOFOLLOW), None);
        assert_eq!(of_link(AtFlags::empty()), Some(Control::Writable));
    }

    #[test]
    fn only_refusals_of_the_call_lead_to_another() {
        for error in [Errno::PERM, Errno::NOSYS, Errno::INVAL, Errno::OPNOTSUPP] {
            assert!(is_refused(error));
        }
        for error in [Errno::ACCESS, Errno::NOENT, Errno::ROFS] {
            assert!(!is_refused(error));
        }
    }
}
