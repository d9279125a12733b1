//! The files below a folder, as far as manifests may lie there: neither hidden folders nor
//! what tools download or make is looked into. It reads files and knows no manifest.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::path::RelPath;

/// The most entries that are looked at.
const MOST_ENTRIES: usize = 200_000;
/// The most bytes of a file that are read.
const MOST_BYTES: u64 = 1 << 20;
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
    /// Whether there were too many.
    pub(super) is_partial: bool,
}

impl Tree {
    /// Looks at everything below `folder`. What cannot be looked at is not there.
    pub(super) fn look_through(folder: &Path) -> Self {
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
                if entries > MOST_ENTRIES {
                    tree.is_partial = true;
                    return tree;
                }
                let name = entry.file_name();
                let (Some(name), Ok(kind)) = (name.to_str(), entry.file_type()) else {
                    continue;
                };
                match kind.is_dir() {
                    true if is_ours(name) => folders.push(at.child(name.as_bytes())),
                    false if kind.is_file() => drop(tree.files.insert(at.child(name.as_bytes()))),
                    _ => {}
                }
            }
        }
        tree
    }

    /// Returns the folders in which a file of this name lies, each before those below it.
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

    /// Tells whether there is such a file in a folder.
    pub(super) fn has(&self, folder: &RelPath, name: &str) -> bool {
        self.files.contains(&folder.child(name.as_bytes()))
    }

    /// Tells whether there is such a folder, a hidden one included.
    pub(super) fn has_folder(&self, folder: &RelPath) -> bool {
        self.folder.join(folder.as_path()).is_dir()
    }

    /// Returns the beginning of a file as text; nothing if it cannot be read.
    pub(super) fn text(&self, file: &RelPath) -> String {
        let mut bytes = Vec::new();
        let opened = File::open(self.folder.join(file.as_path()));
        let read = opened.and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes));
        match read {
            Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(_) => String::new(),
        }
    }

    /// Returns the text of a file in a folder; nothing if there is none.
    pub(super) fn text_in(&self, folder: &RelPath, name: &str) -> String {
        self.text(&folder.child(name.as_bytes()))
    }
}

/// Tells whether a folder holds what people wrote, and whether patterns and strings can
/// name it without further thought.
fn is_ours(name: &str) -> bool {
    let is_plain = |c: char| c.is_alphanumeric() || "-_.+@ ,=~".contains(c);
    !name.starts_with('.') && !FOREIGN.contains(&name) && name.chars().all(is_plain)
}
