//! Finds out which files version control ignores, by the rules of git.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::path::{RelPath, Root};

/// The maximum length of a file with rules, in bytes.
const MAX_LENGTH: u64 = 1 << 20;

/// The rules of the repository around a tree.
pub struct IgnoreRules {
    root: PathBuf,
    /// The folder of the repository; `None` without version control.
    repository: Option<PathBuf>,
    /// The rules by folder.
    rules: Mutex<HashMap<PathBuf, Arc<Gitignore>>>,
}

impl IgnoreRules {
    /// Finds the repository of a tree.
    pub fn new(root: &Root) -> Self {
        let has = |folder: &Path, name: &str| folder.join(name).symlink_metadata().is_ok();
        let repository = root
            .path()
            .ancestors()
            .find(|folder| has(folder, ".git") || has(folder, ".jj"));
        Self {
            root: root.path().to_owned(),
            repository: repository.map(Path::to_owned),
            rules: Mutex::default(),
        }
    }

    /// Returns true if version control ignores a path. Without version control, no path is
    /// ignored.
    pub fn is_ignored(&self, path: &RelPath, is_folder: bool) -> bool {
        let Some(repository) = &self.repository else {
            return false;
        };
        let full = self.root.join(OsStr::from_bytes(path.as_bytes()));
        let Ok(below) = full.strip_prefix(repository) else {
            return false;
        };
        // A path in an ignored folder is ignored, whatever the rules in the folder are.
        let mut at = repository.clone();
        let mut components = below.components().peekable();
        while let Some(component) = components.next() {
            at.push(component);
            let is_folder = components.peek().is_some() || is_folder;
            if self.is_matched(repository, &at, is_folder) {
                return true;
            }
        }
        false
    }

    /// Returns true if the nearest rule for a path ignores it.
    fn is_matched(&self, repository: &Path, path: &Path, is_folder: bool) -> bool {
        let folders = path.ancestors().skip(1);
        for folder in folders.take_while(|folder| folder.starts_with(repository)) {
            match self.rules(folder, ".gitignore").matched(path, is_folder) {
                Match::None => {}
                found => return found.is_ignore(),
            }
        }
        let exclude = self.rules(repository, ".git/info/exclude");
        exclude.matched(path, is_folder).is_ignore()
    }

    fn rules(&self, folder: &Path, name: &str) -> Arc<Gitignore> {
        let file = folder.join(name);
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let found = rules
            .entry(file)
            .or_insert_with_key(|file| Arc::new(read(folder, file)));
        found.clone()
    }
}

/// Reads a file with rules. One that is missing, a link or too long has none.
fn read(folder: &Path, file: &Path) -> Gitignore {
    let is_readable = file
        .symlink_metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.len() <= MAX_LENGTH);
    if !is_readable {
        return Gitignore::empty();
    }
    let mut builder = GitignoreBuilder::new(folder);
    // Ignore errors: invalid lines match nothing, as in git.
    let _ = builder.add(file);
    builder.build().unwrap_or_else(|_| Gitignore::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn ignored(root: &Path, paths: &[&str]) -> Vec<bool> {
        let rules = IgnoreRules::new(&Root::open(root).unwrap());
        let is_ignored = |path: &&str| rules.is_ignored(&RelPath::new(*path).unwrap(), false);
        paths.iter().map(is_ignored).collect()
    }

    #[test]
    fn nearest_rule_decides() {
        let dir = tree(&[
            (".git/info/exclude", "excluded\n"),
            (".gitignore", "out/\n*.log\n/top\n"),
            ("sub/.gitignore", "!keep.log\nown\n"),
            ("out/.gitignore", "!*\n"),
        ]);
        for (path, expected) in [
            ("out/a", true),
            ("sub/out/deep/a", true),
            ("a.log", true),
            ("sub/a.log", true),
            ("sub/keep.log", false),
            ("keep.log", true),
            ("top", true),
            ("sub/top", false),
            ("sub/own", true),
            ("own", false),
            ("sub/excluded", true),
            ("a.txt", false),
        ] {
            assert_eq!(ignored(dir.path(), &[path]), [expected], "{path}");
        }
    }

    #[test]
    fn rules_above_the_root_count() {
        let dir = tree(&[
            (".gitignore", "dist/\n"),
            (".git/HEAD", ""),
            ("project/a", ""),
        ]);
        let root = dir.path().join("project");
        assert_eq!(ignored(&root, &["dist/a", "a"]), [true, false]);
    }

    #[test]
    fn nothing_is_ignored_without_version_control() {
        let dir = tree(&[(".gitignore", "*\n")]);
        assert_eq!(ignored(dir.path(), &["a"]), [false]);
    }

    #[test]
    fn rules_in_a_link_do_not_count() {
        let dir = tree(&[(".git/HEAD", ""), ("rules", "*\n")]);
        std::os::unix::fs::symlink("rules", dir.path().join(".gitignore")).unwrap();
        assert_eq!(ignored(dir.path(), &["a"]), [false]);
    }
}
