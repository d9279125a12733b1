//! Lists the files below a folder where manifests may be: skips hidden folders and folders
//! that tools fill.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::path::RelPath;

/// The most entries to list.
const MAX_ENTRIES: usize = 200_000;
/// The most bytes to read of a file.
const MAX_BYTES: u64 = 1 << 20;
/// Folders that tools fill.
const FOREIGN: &[&str] = &[
    "node_modules",
    "target",
    "vendor",
    "__pycache__",
    "venv",
    "testdata",
];

/// The files below a folder.
pub(super) struct Tree {
    folder: PathBuf,
    files: BTreeSet<RelPath>,
    /// Whether there were too many to list.
    pub(super) is_partial: bool,
}

impl Tree {
    /// Lists all files below `folder`. Unreadable folders count as empty.
    pub(super) fn read(folder: &Path) -> Self {
        let mut tree = Self {
            folder: folder.to_owned(),
            files: BTreeSet::new(),
            is_partial: false,
        };
        let (mut folders, mut entries) = (vec![RelPath::root()], 0);
        while let Some(at) = folders.pop() {
            let listed = std::fs::read_dir(folder.join(at.as_path()));
            for entry in listed.into_iter().flatten().flatten() {
                entries += 1;
                if entries > MAX_ENTRIES {
                    tree.is_partial = true;
                    return tree;
                }
                let name = entry.file_name();
                let (Some(name), Ok(kind)) = (name.to_str(), entry.file_type()) else {
                    continue;
                };
                if kind.is_dir() && is_source_folder(name) {
                    folders.push(at.child(name.as_bytes()));
                } else if kind.is_file() {
                    tree.files.insert(at.child(name.as_bytes()));
                }
            }
        }
        tree
    }

    /// Returns the folders with a file of this name, each before the folders in it.
    pub(super) fn folders_with(&self, name: &str) -> Vec<RelPath> {
        let named = self
            .files
            .iter()
            .filter(|file| file.name() == name.as_bytes());
        let mut folders: Vec<RelPath> = named.filter_map(RelPath::parent).collect();
        folders.sort();
        folders
    }

    /// Returns all files below a folder.
    pub(super) fn below<'t>(&'t self, folder: &'t RelPath) -> impl Iterator<Item = &'t RelPath> {
        self.files.iter().filter(|file| file.is_within(folder))
    }

    /// Returns true if a folder has a file of this name.
    pub(super) fn has(&self, folder: &RelPath, name: &str) -> bool {
        self.files.contains(&folder.child(name.as_bytes()))
    }

    /// Returns true if the folder exists, even if it is hidden.
    pub(super) fn has_folder(&self, folder: &RelPath) -> bool {
        self.folder.join(folder.as_path()).is_dir()
    }

    /// Reads the beginning of a file as text; empty if it is unreadable.
    pub(super) fn text(&self, file: &RelPath) -> String {
        let mut bytes = Vec::new();
        let opened = File::open(self.folder.join(file.as_path()));
        let read = opened.and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
        match read {
            Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(_) => String::new(),
        }
    }

    /// Reads a file in a folder as text; empty if it does not exist.
    pub(super) fn text_in(&self, folder: &RelPath, name: &str) -> String {
        self.text(&folder.child(name.as_bytes()))
    }
}

/// Returns true if a folder may contain sources, and its name needs no escape in patterns
/// and strings.
fn is_source_folder(name: &str) -> bool {
    let is_plain = |c: char| c.is_alphanumeric() || "-_.+@ ,=~".contains(c);
    !name.starts_with('.') && !FOREIGN.contains(&name) && name.chars().all(is_plain)
}
