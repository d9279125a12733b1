//! The index as a file: read whole, decoded folder by folder on demand, written whole and
//! atomically. Slabs are opaque here: `folder` encodes them.
//!
//! Format 2, in a checked file: the length of the table (u32, little endian), the table
//! (postcard), the slabs one after another.

use std::collections::HashSet;
use std::io;

use serde::{Deserialize, Serialize};

use super::folder::Folder;
use crate::checked_file::{self, CheckedFile, Magic, StateFile};
use crate::path::RelPath;

const MAGIC: &Magic = b"fbuild-index  2\n";
/// How many days an unused folder stays in the file.
const MOST_IDLE: u64 = 30;

/// The index that an earlier run saved.
#[derive(Default)]
pub struct Saved {
    file: CheckedFile,
    table: Table,
    /// Where in the file the slabs begin.
    slabs: usize,
}

#[derive(Default, Serialize, Deserialize)]
struct Table {
    /// The boot in which it was saved: after a crash, stamps that reached the disk may belong
    /// to contents that did not.
    boot: String,
    /// Sorted by path.
    rows: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    path: RelPath,
    /// The day since 1970 on which a run last used it.
    used: u64,
    start: u64,
    len: u64,
}

impl Saved {
    /// Reads the file; empty if it is missing, damaged, of another format or another boot.
    pub fn read(file: &StateFile) -> Self {
        let checked = checked_file::read(file, MAGIC);
        checked.and_then(Self::parse).unwrap_or_default()
    }

    fn parse(file: CheckedFile) -> Option<Self> {
        let (len, rest) = file.split_first_chunk::<4>()?;
        let len = u32::from_le_bytes(*len) as usize;
        let table: Table = postcard::from_bytes(rest.get(..len)?).ok()?;
        if table.boot != boot_id() {
            return None;
        }
        Some(Self {
            slabs: 4 + len,
            table,
            file,
        })
    }

    /// Returns the saved cache of a folder.
    pub(super) fn folder(&self, path: &RelPath) -> Option<Folder> {
        let rows = &self.table.rows;
        let at = rows.binary_search_by(|row| row.path.cmp(path)).ok()?;
        Folder::decode(self.slab(&rows[at])?)
    }

    fn slab(&self, row: &Row) -> Option<&[u8]> {
        let start = self.slabs.checked_add(usize::try_from(row.start).ok()?)?;
        let end = start.checked_add(usize::try_from(row.len).ok()?)?;
        self.file.get(start..end)
    }

    /// Returns the size of the file in bytes.
    pub(super) fn size(&self) -> u64 {
        self.file.len() as u64
    }

    /// Writes the folders that this run used, and the saved ones that it did not.
    pub(super) fn write_with(
        &self,
        used: Vec<(RelPath, Vec<u8>)>,
        file: &StateFile,
    ) -> io::Result<()> {
        let today = u64::try_from(crate::stamp::now()).unwrap_or(0) / 86_400_000_000_000;
        let fresh: HashSet<&RelPath> = used.iter().map(|(path, _)| path).collect();
        let idle = self
            .table
            .rows
            .iter()
            .filter(|row| !fresh.contains(&row.path) && row.used + MOST_IDLE >= today);
        let mut slabs: Vec<(&RelPath, u64, &[u8])> = idle
            .filter_map(|row| Some((&row.path, row.used, self.slab(row)?)))
            .chain(
                used.iter()
                    .map(|(path, slab)| (path, today, slab.as_slice())),
            )
            .collect();
        slabs.sort_unstable_by_key(|(path, ..)| *path);
        write(&slabs, file)
    }
}

fn write(slabs: &[(&RelPath, u64, &[u8])], file: &StateFile) -> io::Result<()> {
    let mut start = 0;
    let rows = slabs.iter().map(|(path, used, slab)| {
        let len = slab.len() as u64;
        start += len;
        Row {
            path: (*path).clone(),
            used: *used,
            start: start - len,
            len,
        }
    });
    let table = Table {
        rows: rows.collect(),
        boot: boot_id(),
    };
    let table = postcard::to_stdvec(&table).map_err(io::Error::other)?;
    let len = u32::try_from(table.len()).map_err(io::Error::other)?;
    let len = len.to_le_bytes();
    let mut parts: Vec<&[u8]> = vec![&len, &table];
    parts.extend(slabs.iter().map(|(_, _, slab)| *slab));
    checked_file::write(file, MAGIC, &parts)
}

/// Returns the system's identifier of the current boot; empty where it has none.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}
