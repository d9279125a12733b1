//! The observations of a snapshot, encoded in one flat list.
//!
//! Format: the number of entries (u32, little endian), the entries, the paths, each ended by a
//! NUL so that it can be passed to the system as it is.

use std::ffi::CStr;

use super::entry::{Entry, SIZE};
use crate::action::index::observations::Expectation;
use crate::path::RelPath;

/// Bytes to write at an offset of the list.
pub(super) type Edit = (usize, Vec<u8>);

/// A list of observations, borrowed from the bytes of a snapshot.
#[derive(Clone, Copy)]
pub(super) struct List<'a> {
    entries: &'a [[u8; SIZE]],
    pub(super) paths: &'a [u8],
}

impl<'a> List<'a> {
    /// Splits the bytes into entries and paths; `None` if there are too few.
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        let (count, rest) = bytes.split_first_chunk::<4>()?;
        let count = u32::from_le_bytes(*count) as usize;
        let (entries, paths) = rest.split_at_checked(count.checked_mul(SIZE)?)?;
        Some(Self {
            entries: entries.as_chunks::<SIZE>().0,
            paths,
        })
    }

    /// Returns the number of entries.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the entry of that number.
    pub(super) fn get(&self, number: usize) -> Option<Entry> {
        self.entries.get(number).copied().map(Entry)
    }

    /// Returns all entries, in order.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> + use<'a> {
        self.entries.iter().copied().map(Entry)
    }

    /// Returns the path of an entry.
    pub(super) fn path(&self, entry: &Entry) -> Option<&'a CStr> {
        CStr::from_bytes_until_nul(self.paths.get(entry.path_offset()..)?).ok()
    }

    /// Returns true if the path of an entry is `path`; faster than to find where it ends.
    pub(super) fn is_at(&self, entry: &Entry, path: &[u8]) -> bool {
        let rest = self.paths.get(entry.path_offset()..);
        let rest = rest.and_then(|rest| rest.strip_prefix(path));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    }

    /// Returns the edit that replaces the entry of that number; the path stays.
    pub(super) fn replace(&self, number: usize, new: Entry) -> Option<Edit> {
        let new = new.with_path_of(&self.get(number)?);
        Some((size_of::<u32>() + number * SIZE, new.0.to_vec()))
    }
}

/// A list that is being put together.
#[derive(Default)]
pub(super) struct Builder {
    count: u32,
    entries: Vec<u8>,
    paths: Vec<u8>,
}

impl Builder {
    /// Adds an observation.
    pub(super) fn push(&mut self, path: &RelPath, expected: &Expectation) {
        let path = path.as_path().as_os_str().as_encoded_bytes();
        self.push_with_path(Entry::new(expected), path);
    }

    /// Adds an entry and its path.
    pub(super) fn push_with_path(&mut self, entry: Entry, path: &[u8]) {
        // An offset beyond the format's range is noticed by `finish`.
        let offset = u32::try_from(self.paths.len()).unwrap_or(u32::MAX);
        self.paths.extend_from_slice(path);
        self.paths.push(0);
        self.push_entry(&entry.with_path_at(offset));
    }

    /// Adds an entry whose path was added before.
    pub(super) fn push_entry(&mut self, entry: &Entry) {
        self.entries.extend_from_slice(&entry.0);
        self.count += 1;
    }

    /// Starts a list with these paths, and room for as many bytes of entries.
    pub(super) fn with_paths(paths: &[u8], capacity: usize) -> Self {
        Self {
            count: 0,
            entries: Vec::with_capacity(capacity),
            paths: paths.to_vec(),
        }
    }

    /// Returns what was added so far.
    pub(super) fn as_list(&self) -> List<'_> {
        List {
            entries: self.entries.as_chunks::<SIZE>().0,
            paths: &self.paths,
        }
    }

    /// Returns the encoded list; `None` if it is too long for the format.
    pub(super) fn finish(self) -> Option<Vec<u8>> {
        u32::try_from(self.paths.len()).ok()?;
        Some([&self.count.to_le_bytes()[..], &self.entries, &self.paths].concat())
    }
}
