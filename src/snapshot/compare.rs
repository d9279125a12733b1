//! Compares observations with the disk: one `stat` each, on all processors.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::change::Change;
use super::entry::Entry;
use super::list::List;
use crate::path::{RelPath, Root};
use crate::stamp::Stamp;

/// How many entries a thread takes at once.
const CHUNK: usize = 256;
/// The most threads: beyond that they wait for each other's locks in the kernel.
const MOST_THREADS: usize = 8;
/// The most changes that are told apart. With more of them a full run is as fast.
const MOST_CHANGES: usize = 256;

/// An observation that failed: its number in the list, and what changed.
pub(super) type Failed = (usize, Change);

/// Returns the observations that the disk no longer meets, by number; `None` if there are too
/// many, one cannot be checked, or `stop` was raised.
pub(super) fn compare(list: List<'_>, root: &Root, stop: &AtomicBool) -> Option<Vec<Failed>> {
    let comparison = Comparison {
        list,
        root,
        stop,
        next: AtomicUsize::new(0),
        failed: Mutex::default(),
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = list.len().div_ceil(CHUNK).min(processors).min(MOST_THREADS);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| comparison.work());
        }
        comparison.work();
    });
    if stop.load(Ordering::Relaxed) {
        return None;
    }
    let failed = comparison.failed.into_inner();
    let mut failed = failed.unwrap_or_else(PoisonError::into_inner);
    failed.sort_unstable_by_key(|(number, _)| *number);
    Some(failed)
}

struct Comparison<'a> {
    list: List<'a>,
    root: &'a Root,
    stop: &'a AtomicBool,
    /// The first entry that no thread has taken.
    next: AtomicUsize,
    failed: Mutex<Vec<Failed>>,
}

impl Comparison<'_> {
    /// Checks one chunk after another until none is left.
    fn work(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let start = self.next.fetch_add(CHUNK, Ordering::Relaxed);
            let end = self.list.len().min(start + CHUNK);
            if start >= end {
                return;
            }
            if self.check(start..end).is_none() {
                return self.stop.store(true, Ordering::Relaxed);
            }
        }
    }

    fn check(&self, numbers: std::ops::Range<usize>) -> Option<()> {
        for number in numbers {
            if let Some(change) = self.change(&self.list.get(number)?)? {
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.push((number, change));
                if failed.len() > MOST_CHANGES {
                    return None;
                }
            }
        }
        Some(())
    }

    /// Returns the change at an entry's path, if any; `None` if it cannot be checked.
    fn change(&self, entry: &Entry) -> Option<Option<Change>> {
        let path = self.list.path(entry)?;
        let now = if entry.follows_links() {
            Stamp::followed(self.root, path).ok().flatten()
        } else {
            Stamp::at(self.root, path).ok()?
        };
        // Nearly all entries are stamps that did not change, and need not be decoded.
        if now.is_some_and(|now| entry.is_stamp(&now)) {
            return Some(None);
        }
        let expected = entry.expectation()?;
        if expected.is_met_by(now) {
            return Some(None);
        }
        let path = RelPath::new(path.to_bytes()).ok()?;
        Some(Some(Change::new(path, &expected, now)))
    }
}
