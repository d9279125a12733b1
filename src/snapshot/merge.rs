//! Merges the observations of a run into those of an earlier one, which it did not repeat.
//!
//! Two ways: [`edits`] replaces a few entries in place, [`merge`] writes a new list. Both
//! keep what the run did not examine, and both leave an entry that is never met where the
//! run and the earlier one disagree, so that the next run examines that path again.

use std::collections::{HashMap, HashSet};

use super::entry::Entry;
use super::list::{Builder, Edit, List};

/// An earlier list, and the numbers (sorted) of the observations that failed since.
#[derive(Clone, Copy)]
pub(super) struct Earlier<'a> {
    pub(super) list: List<'a>,
    pub(super) failed: &'a [usize],
}

/// Returns a list of everything in `fresh` and what still holds of `earlier`; `None` if it is
/// too long for the format.
pub(super) fn merge(fresh: &Builder, earlier: Earlier<'_>) -> Option<Vec<u8>> {
    let (fresh, old) = (fresh.as_list(), earlier.list);
    let examined = Observed::of(fresh)?;
    let mut merged = Builder::with_paths(old.paths, (old.len() + fresh.len()) * size_of::<Entry>());
    let mut failed = earlier.failed.iter().peekable();
    // Paths of replaced entries are used again: the file must not grow with each run.
    let mut replaced = HashMap::new();
    for (number, entry) in old.entries().enumerate() {
        let has_failed = failed.next_if(|failed| **failed == number).is_some();
        // An old entry that differs from the fresh one of its path stays: both are kept, and
        // one of them will fail, since the path changed during the run.
        if has_failed || examined.has(&entry, old)? {
            replaced.insert(old.path(&entry)?.to_bytes(), entry);
        } else {
            merged.push_entry(&entry);
        }
    }
    for entry in fresh.entries() {
        let path = fresh.path(&entry)?.to_bytes();
        match replaced.get(path) {
            Some(old) => merged.push_entry(&entry.with_path_of(old)),
            None => merged.push_with_path(entry, path),
        }
    }
    merged.finish()
}

/// Returns the edits that make the earlier list equal to the merged one, except for its order.
///
/// `None` unless the run examined only paths that are in the list, each once, and all that
/// failed are among them.
pub(super) fn edits(fresh: &Builder, earlier: Earlier<'_>) -> Option<Vec<Edit>> {
    let (fresh, old) = (fresh.as_list(), earlier.list);
    let mut failed = failed_paths(earlier)?;
    let (mut edits, mut others) = (Vec::new(), Observed::default());
    let mut examined = HashSet::new();
    for entry in fresh.entries() {
        let path = fresh.path(&entry)?.to_bytes();
        if !examined.insert(path) {
            // Two observations of one path need two entries.
            return None;
        }
        match failed.remove(path) {
            Some(number) => edits.push(old.replace(number, entry)?),
            None => others.add(&entry, path),
        }
    }
    if !failed.is_empty() {
        return None;
    }
    others.remove_all(old)?;
    // What is left differs from the entry that held when the run began: it changed since.
    for (path, entry) in others.entries {
        let racy = Entry::new(&entry.expectation()?.racy());
        edits.push(old.replace(only_at(path, old)?, racy)?);
    }
    Some(edits)
}

/// Returns the number of each failed observation by its path; `None` if two are of one path.
fn failed_paths(earlier: Earlier<'_>) -> Option<HashMap<&[u8], usize>> {
    let mut paths = HashMap::new();
    for number in earlier.failed {
        let entry = earlier.list.get(*number)?;
        let path = earlier.list.path(&entry)?.to_bytes();
        if paths.insert(path, *number).is_some() {
            return None;
        }
    }
    Some(paths)
}

/// Returns the number of the only entry of a path.
fn only_at(path: &[u8], list: List<'_>) -> Option<usize> {
    let mut entries = list.entries().enumerate();
    let mut next = || entries.find(|(_, entry)| list.is_at(entry, path));
    let (number, _) = next()?;
    next().is_none().then_some(number)
}

/// A set of observations.
#[derive(Default)]
struct Observed<'l> {
    entries: HashSet<(&'l [u8], Entry)>,
    /// Their inodes: they rule out most other entries before a path is compared.
    inodes: HashSet<u64>,
}

impl<'l> Observed<'l> {
    fn of(list: List<'l>) -> Option<Self> {
        let mut observed = Self::default();
        for entry in list.entries() {
            observed.add(&entry, list.path(&entry)?.to_bytes());
        }
        Some(observed)
    }

    fn add(&mut self, entry: &Entry, path: &'l [u8]) {
        self.entries.insert((path, entry.with_path_at(0)));
        self.inodes.insert(entry.inode());
    }

    fn has(&self, entry: &Entry, list: List<'_>) -> Option<bool> {
        if !self.inodes.contains(&entry.inode()) {
            return Some(false);
        }
        let path = list.path(entry)?.to_bytes();
        Some(self.entries.contains(&(path, entry.with_path_at(0))))
    }

    /// Removes those that are in `list`.
    fn remove_all(&mut self, list: List<'l>) -> Option<()> {
        for entry in list.entries() {
            if self.has(&entry, list)? {
                let path = list.path(&entry)?.to_bytes();
                self.entries.remove(&(path, entry.with_path_at(0)));
            }
        }
        Some(())
    }
}
