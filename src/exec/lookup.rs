//! Finds a program with the command's own environment: on its `PATH`, or relative to its
//! working directory if the name contains a slash. It starts no process.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::error::{Error, shown};
use crate::system::access;

/// The search path of a command without `PATH`, as in `execvp`.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Returns the file that `program` names for a command with this `PATH`, run in `dir`.
///
/// The rules are those of a shell: a name with a slash is relative to `dir`; otherwise the
/// first folder on `PATH` with an executable file of that name wins. An empty entry means
/// `dir`, and files that are not executable are skipped.
pub fn find(program: &OsStr, path: Option<&OsStr>, dir: &Path) -> Result<PathBuf, Error> {
    if program.as_bytes().contains(&b'/') {
        return check(program, &dir.join(program));
    }
    let path = path.unwrap_or(OsStr::new(DEFAULT_PATH));
    let mut refused = None;
    for folder in folders(path).filter(|_| !program.is_empty()) {
        match check(program, &dir.join(folder).join(program)) {
            Ok(found) => return Ok(found),
            Err(Error::NotFound { .. }) => {}
            Err(other) => refused = refused.or(Some(other)),
        }
    }
    Err(refused.unwrap_or_else(|| not_on_path(program, path)))
}

fn folders(path: &OsStr) -> impl Iterator<Item = &Path> {
    let folders = path.as_bytes().split(|byte| *byte == b':');
    folders.map(|folder| Path::new(OsStr::from_bytes(folder)))
}

fn check(program: &OsStr, file: &Path) -> Result<PathBuf, Error> {
    let Ok(metadata) = file.metadata() else {
        return Err(Error::NotFound {
            program: shown(program),
            help: format!("there is no file `{}`", shown(file)),
        });
    };
    let path = shown(file);
    if metadata.is_dir() {
        return Err(Error::Folder { path });
    }
    match access::check(file, Access::EXEC_OK) {
        Ok(()) if metadata.is_file() => Ok(file.to_owned()),
        _ => Err(Error::NotExecutable { path }),
    }
}

fn not_on_path(program: &OsStr, path: &OsStr) -> Error {
    Error::NotFound {
        program: shown(program),
        help: format!("install it, or correct `PATH`, which is `{}`", shown(path)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, mode) in [("a/tool", 0o644), ("b/tool", 0o755), ("a/plain", 0o644)] {
            let file = dir.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir(dir.path().join("a/folder")).unwrap();
        dir
    }

    fn find_in(dir: &Path, program: &str, path: &str) -> Result<PathBuf, String> {
        find(OsStr::new(program), Some(OsStr::new(path)), dir).map_err(|e| e.to_string())
    }

    #[test]
    fn first_executable_on_path_wins() {
        let dir = folder();
        let found = dir.path().join("b/tool");
        assert_eq!(find_in(dir.path(), "tool", "none:a:b"), Ok(found.clone()));
        assert_eq!(find_in(&dir.path().join("b"), "tool", "a:"), Ok(found));
    }

    #[test]
    fn name_with_slash_is_relative_to_dir() {
        let dir = folder();
        let found = dir.path().join("b/tool");
        assert_eq!(find_in(dir.path(), "b/tool", "nowhere"), Ok(found));
        let missing = find_in(dir.path(), "./tool", "b").unwrap_err();
        assert_eq!(missing, "command `./tool` not found");
    }

    #[test]
    fn each_lookup_error_has_its_own_message() {
        let dir = folder();
        let at = |name: &str| dir.path().join("a").join(name).display().to_string();
        let refused = |program| find_in(dir.path(), program, "a").unwrap_err();
        assert_eq!(refused("gone"), "command `gone` not found");
        assert_eq!(refused(""), "command `` not found");
        let plain = format!("`{}` is not executable", at("plain"));
        assert_eq!(refused("plain"), plain);
        let pipe = dir.path().join("a/pipe");
        let (kind, mode) = (rustix::fs::FileType::Fifo, 0o755.into());
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).unwrap();
        fs::set_permissions(&pipe, fs::Permissions::from_mode(0o755)).unwrap();
        let pipe = format!("`{}` is not executable", at("pipe"));
        assert_eq!(refused("pipe"), pipe);
        let folder = format!("`{}` is a folder, not a program", at("folder"));
        assert_eq!(refused("folder"), folder);
    }
}
