//! A real folder with files, for the tests of the index and of what observes it.

use std::fs;
use std::path::{Path, PathBuf};

use super::{FileIndex, Scope, Selection};
use crate::checked_file::StateFile;
use crate::digest::Key;
use crate::glob::Pattern;
use crate::path::{RelPath, Root};

/// A folder that exists as long as the test.
pub(crate) struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    /// Makes a folder with files: paths and contents.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(tree.dir.path().join("tree")).unwrap();
        for (path, text) in files {
            tree.write(path, text);
        }
        tree
    }

    /// Writes a file, and the folders above it.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Returns the absolute path of `path`.
    pub(crate) fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join("tree").join(path)
    }

    /// Returns the folder as a root.
    pub(crate) fn root(&self) -> Root {
        Root::open(&self.at("")).unwrap()
    }

    /// Opens the index that was saved last.
    pub(crate) fn index(&self) -> FileIndex {
        FileIndex::open(self.root(), &self.saved(), vec![path(".build-cache")])
    }

    /// Returns the file of the saved index.
    pub(crate) fn saved(&self) -> StateFile {
        StateFile::new(self.dir.path().join("index"), Key::new([1; 32]))
    }
}

/// Returns `text` as a path.
pub(crate) fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

/// Returns the paths that a selection finds.
pub(crate) fn find(index: &FileIndex, include: &[&str], except: &[&str]) -> Vec<String> {
    let patterns = |texts: &[&str]| -> Vec<Pattern> {
        texts.iter().map(|t| Pattern::new(t).unwrap()).collect()
    };
    let (include, except) = (patterns(include), patterns(except));
    let found = index
        .find(Selection {
            include: &include.iter().collect::<Vec<_>>(),
            except: &except.iter().collect::<Vec<_>>(),
            scope: Scope::Inputs,
        })
        .unwrap();
    let names = found.entries.iter().map(|entry| entry.path.to_string());
    names.collect()
}

/// Examines a tree until all of it is so old that nothing is racy, and returns the index.
pub(crate) fn examine_when_old(tree: &Tree, include: &[&str], literals: &[&str]) -> FileIndex {
    loop {
        let index = tree.index();
        find(&index, include, &[]);
        for literal in literals {
            index.entry(&path(literal)).unwrap();
        }
        let mut is_racy = false;
        index.observe(|_, expected| is_racy |= expected == expected.racy());
        if !is_racy {
            return index;
        }
    }
}
