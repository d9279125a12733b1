//! Compares the outputs of a target in the tree with those of a result. Changes nothing.

use crate::action::index::FileIndex;
use crate::action::{Entry, EntryKind, OutputSpec, inputs};
use crate::event::{Failure, Reason};
use crate::path::RelPath;

/// Returns the files, links and folders at a target's outputs, sorted by path.
pub(super) fn find(index: &FileIndex, specs: &[OutputSpec]) -> Result<Vec<Entry>, Failure> {
    inputs::find_outputs(index, specs).map_err(|error| Failure::of(&error))
}

/// Returns a difference between the outputs that a result has and those that were found,
/// both sorted by path. `None` if there is none.
pub(super) fn change(index: &FileIndex, wanted: &[Entry], found: &[Entry]) -> Option<Reason> {
    let may_stay = |folder: &RelPath| holds_only_kept(index, folder, found);
    difference(wanted, found, &may_stay)
}

/// Returns the found entry that is at the path of a wanted one, if it is the same.
pub(super) fn is_intact(wanted: &Entry, found: &[Entry]) -> bool {
    let at = found.binary_search_by(|found| found.path.cmp(&wanted.path));
    at.is_ok_and(|at| is_same(wanted, &found[at]))
}

/// Returns true if an output is as it should be. A link counts by its text: the file behind
/// it is not the target's output.
pub(super) fn is_same(wanted: &Entry, found: &Entry) -> bool {
    use EntryKind::{File, Link};
    match (&wanted.kind, &found.kind) {
        (Link { target: a, .. }, Link { target: b, .. }) => a == b,
        (File { digest: a, mode: m }, File { digest: b, mode: n }) => {
            a == b && m.is_executable() == n.is_executable()
        }
        (wanted, found) => wanted == found,
    }
}

/// Like [`change`]; folders of which `may_stay` are ignored.
fn difference(
    wanted: &[Entry],
    found: &[Entry],
    may_stay: &dyn Fn(&RelPath) -> bool,
) -> Option<Reason> {
    for entry in wanted {
        let path = || entry.path.to_string();
        match found.binary_search_by(|f| f.path.cmp(&entry.path)) {
            Err(_) => return Some(Reason::OutputDeleted { path: path() }),
            Ok(at) if !is_same(entry, &found[at]) => {
                return Some(Reason::OutputModified { path: path() });
            }
            Ok(_) => {}
        }
    }
    // All of `wanted` was found, so equal lengths mean equal lists.
    if found.len() == wanted.len() {
        return None;
    }
    let is_wanted = |path: &RelPath| wanted.binary_search_by(|w| w.path.cmp(path)).is_ok();
    let may_stay = |entry: &Entry| entry.kind == EntryKind::Folder && may_stay(&entry.path);
    let mut strays = found.iter().filter(|entry| !is_wanted(&entry.path));
    let stray = strays.find(|entry| !may_stay(entry))?;
    Some(Reason::OutputStray {
        path: stray.path.to_string(),
    })
}

/// Returns true if a folder exists only for the sake of files that `keep` exempts: files in
/// it that are not among the outputs found, and no others.
fn holds_only_kept(index: &FileIndex, folder: &RelPath, found: &[Entry]) -> bool {
    let mut holds_kept = false;
    let mut pending = vec![folder.clone()];
    while let Some(folder) = pending.pop() {
        // A folder that cannot be listed counts as empty.
        for child in index.children(&folder).unwrap_or_default() {
            match found.binary_search_by(|entry| entry.path.cmp(&child)) {
                Err(_) => holds_kept = true,
                Ok(at) if found[at].kind == EntryKind::Folder => pending.push(child),
                Ok(_) => return false,
            }
        }
    }
    holds_kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::stamp::FileMode;

    fn entry(path: &str, text: &str) -> Entry {
        Entry {
            path: RelPath::new(path).unwrap(),
            kind: EntryKind::File {
                digest: Digest::of(text.as_bytes()),
                mode: FileMode::PLAIN,
            },
        }
    }

    #[test]
    fn a_difference_names_the_path_and_its_kind() {
        let wanted = [entry("a", "1"), entry("b", "2")];
        let path = || "b".to_owned();
        let difference = |wanted: &[Entry], found: &[Entry]| difference(wanted, found, &|_| false);
        assert_eq!(difference(&wanted, &wanted), None);
        let deleted = Reason::OutputDeleted { path: path() };
        assert_eq!(difference(&wanted, &wanted[..1]), Some(deleted));
        let modified = Reason::OutputModified { path: path() };
        let found = [entry("a", "1"), entry("b", "x")];
        assert_eq!(difference(&wanted, &found), Some(modified));
        let stray = Reason::OutputStray { path: path() };
        assert_eq!(difference(&wanted[..1], &wanted), Some(stray));
    }

    #[test]
    fn a_folder_of_kept_files_is_no_stray() {
        let folder = Entry {
            kind: EntryKind::Folder,
            ..entry("out/kept", "")
        };
        let difference = |is_kept| difference(&[], std::slice::from_ref(&folder), &|_| is_kept);
        assert_eq!(difference(true), None);
        assert!(difference(false).is_some());
    }
}
