//! The file of a snapshot: a checked file with a header and the list of observations.

use std::io;

use serde::{Deserialize, Serialize};

use super::conditions::Conditions;
use super::list::{Edit, List};
use crate::checked_file::{self, CheckedFile, Magic, StateFile};
use crate::digest::Digest;
use crate::stamp::Stamp;
use crate::workspace::Layout;

const MAGIC: &Magic = b"fbuild-snap   5\n";

/// Everything in a snapshot except its observations.
#[derive(Serialize, Deserialize)]
pub(super) struct Header {
    /// The identity of the last successes that the run left: they belong together. Its length
    /// is fixed, so that a later header can replace this one in place.
    successes: [u8; 32],
    pub(super) conditions: Conditions,
    /// How many targets the run brought up to date.
    pub(super) targets: usize,
    /// Whether all of them stay up to date while nothing changes.
    pub(super) is_final: bool,
}

/// A snapshot file as it was read.
pub(super) struct SnapshotFile {
    pub(super) header: Header,
    content: CheckedFile,
    /// Where in the content the list begins.
    list: usize,
}

impl Header {
    /// Makes a header that belongs to the last successes of now; `None` if there are none.
    pub(super) fn new(
        layout: &Layout,
        conditions: Conditions,
        targets: usize,
        is_final: bool,
    ) -> Option<Self> {
        Some(Self {
            successes: identity(&layout.successes())?,
            conditions,
            targets,
            is_final,
        })
    }
}

impl SnapshotFile {
    /// Reads the file; `None` if it is missing, damaged, of another format, or does not belong
    /// to the last successes.
    pub(super) fn read(layout: &Layout) -> Option<Self> {
        let content = checked_file::read(&layout.snapshot(), MAGIC)?;
        let (header, list) = postcard::take_from_bytes::<Header>(&content).ok()?;
        if Some(header.successes) != identity(&layout.successes()) {
            return None;
        }
        Some(Self {
            list: content.len() - list.len(),
            header,
            content,
        })
    }

    /// Returns the observations; `None` if they are malformed.
    pub(super) fn list(&self) -> Option<List<'_>> {
        List::new(self.content.get(self.list..)?)
    }

    /// Returns the size of the observations in bytes.
    pub(super) fn list_size(&self) -> usize {
        self.content.len() - self.list
    }

    /// Replaces entries of the list, here and on the disk.
    pub(super) fn edit(&mut self, layout: &Layout, edits: Vec<Edit>) -> io::Result<()> {
        let edits = edits.into_iter().map(|(at, bytes)| (self.list + at, bytes));
        checked_file::patch(
            &layout.snapshot(),
            &mut self.content,
            &edits.collect::<Vec<_>>(),
        )
    }

    /// Replaces the header and entries of the list, here and on the disk. The header must
    /// be as long as the old one.
    pub(super) fn edit_with_header(
        &mut self,
        layout: &Layout,
        header: &Header,
        edits: Vec<Edit>,
    ) -> io::Result<()> {
        let header = postcard::to_stdvec(header).map_err(io::Error::other)?;
        if header.len() != self.list {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let edits = edits.into_iter().map(|(at, bytes)| (self.list + at, bytes));
        let edits: Vec<Edit> = std::iter::once((0, header)).chain(edits).collect();
        checked_file::patch(&layout.snapshot(), &mut self.content, &edits)
    }
}

/// Writes a new file.
pub(super) fn write(layout: &Layout, header: &Header, list: &[u8]) -> io::Result<()> {
    let header = postcard::to_stdvec(header).map_err(io::Error::other)?;
    checked_file::write(&layout.snapshot(), MAGIC, &[&header, list])
}

/// Returns a digest that no earlier or later content of a checked file shares.
fn identity(file: &StateFile) -> Option<[u8; 32]> {
    let identity = (Stamp::of_path(file.path())?, checked_file::nonce(file)?);
    let bytes = postcard::to_stdvec(&identity).ok()?;
    Some(*Digest::of(&bytes).hash())
}
