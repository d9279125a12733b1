//! Finds the user's folders outside of projects: one for state that replaces a project's own,
//! and a short one for locks and links, which lasts until the system restarts.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// The user's folders. None is created before it is needed.
#[derive(Clone, Debug, Default)]
pub struct UserDirs {
    cache: Option<PathBuf>,
    /// Candidates, the best first.
    runtime: Vec<PathBuf>,
}

impl UserDirs {
    /// Derives the folders from the user's id and these environment variables.
    pub fn new(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let absolute = |name: &str| {
            let path = PathBuf::from(variable(name)?);
            path.is_absolute().then_some(path)
        };
        let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
        let cache = cache.map(|cache| cache.join("fbuild"));
        let own = format!("fbuild-{}", rustix::process::geteuid().as_raw());
        // Not $TMPDIR: runs with different environments must find the same locks.
        let mut runtime = vec![Path::new("/tmp").join(&own)];
        runtime.extend(absolute("XDG_RUNTIME_DIR").map(|folder| folder.join("fbuild")));
        runtime.push(Path::new("/var/tmp").join(own));
        runtime.extend(cache.as_ref().map(|cache| cache.join("run")));
        Self { cache, runtime }
    }

    /// Returns the folder for state, which may not exist.
    pub fn cache(&self) -> Option<&Path> {
        self.cache.as_deref()
    }

    /// Creates the folder for locks and links, with a short path if possible. No other user
    /// can write to it.
    pub fn runtime(&self) -> io::Result<PathBuf> {
        let mut error = io::Error::from(io::ErrorKind::NotFound);
        for folder in &self.runtime {
            match create_private(folder) {
                Ok(()) => return Ok(folder.clone()),
                Err(refused) => error = refused,
            }
        }
        Err(error)
    }
}

/// Creates a folder with mode 0700. An existing one must be the user's, and no link.
fn create_private(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    match builder.mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            builder.recursive(true).create(folder)?;
        }
        created => created?,
    }
    let metadata = fs::symlink_metadata(folder)?;
    let is_own = metadata.uid() == rustix::process::geteuid().as_raw();
    if metadata.is_dir() && is_own && metadata.mode() & 0o022 == 0 {
        // A read-only file system accepts no lock files.
        crate::system::access::check(folder, rustix::fs::Access::WRITE_OK)
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn with(variables: &[(&str, &Path)]) -> UserDirs {
        UserDirs::new(|name| {
            let found = variables.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| value.as_os_str().to_owned())
        })
    }

    #[test]
    fn cache_variable_wins_over_home() {
        let home = ("HOME", Path::new("/h"));
        let cache = ("XDG_CACHE_HOME", Path::new("/c"));
        assert_eq!(with(&[home, cache]).cache(), Some(Path::new("/c/fbuild")));
        assert_eq!(with(&[home]).cache(), Some(Path::new("/h/.cache/fbuild")));
        assert_eq!(with(&[]).cache(), None);
    }

    #[test]
    fn relative_variable_is_ignored() {
        let relative = ("XDG_CACHE_HOME", Path::new("c"));
        assert_eq!(with(&[relative]).cache(), None);
    }

    #[test]
    fn runtime_folder_is_private() {
        let folder = with(&[]).runtime().unwrap();
        let metadata = folder.symlink_metadata().unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o700);
        assert!(folder.as_os_str().len() < 24, "{}", folder.display());
    }

    #[test]
    fn link_is_no_private_folder() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert!(create_private(&link).is_err());
    }

    #[test]
    fn folder_that_others_may_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        create_private(&folder).unwrap();
        create_private(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
        assert!(create_private(&folder).is_err());
    }
}
