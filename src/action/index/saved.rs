//! The index as a file: read whole, decoded folder by folder as they are asked for,
//! written whole and atomically. It knows nothing of what the slabs mean.
//!
//! Format 1: the magic, a CRC-32 (little endian) of all that follows, the length of the
//! table (u32, little endian), the table (postcard), the slabs one after another.

use std::collections::HashSet;
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::folder::Folder;
use crate::path::RelPath;

const MAGIC: &[u8; 16] = b"fbuild-index  1\n";
const HEADER: usize = MAGIC.len() + 8;
/// How long (in days) a folder is remembered that no run asked for.
const MOST_IDLE: u64 = 30;

/// What an earlier run left.
#[derive(Default)]
pub(super) struct Saved {
    bytes: Vec<u8>,
    table: Table,
    slabs: usize,
}

#[derive(Default, Serialize, Deserialize)]
struct Table {
    /// What the system calls the time since it was started: after a crash, stamps that
    /// reached the disk may belong to contents that did not.
    boot: String,
    /// Sorted by path.
    rows: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    path: RelPath,
    /// Days since 1970 on which a run last asked for it.
    used: u64,
    start: u64,
    len: u64,
}

impl Saved {
    /// Reads the file; whatever is wrong with it, it is then empty.
    pub(super) fn read(file: &Path) -> Self {
        let Ok(bytes) = std::fs::read(file) else {
            return Self::default();
        };
        Self::parse(bytes).unwrap_or_default()
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let checked = bytes.strip_prefix(MAGIC)?;
        let (crc, checked) = checked.split_first_chunk::<4>()?;
        if crc32fast::hash(checked) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (len, rest) = checked.split_first_chunk::<4>()?;
        let len = u32::from_le_bytes(*len) as usize;
        let table: Table = postcard::from_bytes(rest.get(..len)?).ok()?;
        (table.boot == boot_id()).then_some(())?;
        Some(Self {
            slabs: HEADER + len,
            table,
            bytes,
        })
    }

    /// Returns what was remembered of a folder.
    pub(super) fn folder(&self, path: &RelPath) -> Option<Folder> {
        let rows = &self.table.rows;
        let at = rows.binary_search_by(|row| row.path.cmp(path)).ok()?;
        Folder::decode(self.slab(&rows[at])?)
    }

    fn slab(&self, row: &Row) -> Option<&[u8]> {
        let start = self.slabs.checked_add(usize::try_from(row.start).ok()?)?;
        let end = start.checked_add(usize::try_from(row.len).ok()?)?;
        self.bytes.get(start..end)
    }

    /// Writes the folders of this run, and those of earlier runs that it did not ask for.
    pub(super) fn write_with(&self, used: Vec<(RelPath, Vec<u8>)>, file: &Path) -> io::Result<()> {
        let today = u64::try_from(crate::stamp::now()).unwrap_or(0) / 86_400_000_000_000;
        let asked: HashSet<&RelPath> = used.iter().map(|(path, _)| path).collect();
        let idle = self
            .table
            .rows
            .iter()
            .filter(|row| !asked.contains(&row.path) && row.used + MOST_IDLE >= today);
        let mut slabs: Vec<(&RelPath, u64, &[u8])> = idle
            .filter_map(|row| Some((&row.path, row.used, self.slab(row)?)))
            .chain(
                used.iter()
                    .map(|(path, slab)| (path, today, slab.as_slice())),
            )
            .collect();
        slabs.sort_unstable_by_key(|(path, ..)| *path);
        write(&encode(&slabs), file)
    }
}

fn encode(slabs: &[(&RelPath, u64, &[u8])]) -> Vec<u8> {
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
    // Writing plain data to memory cannot fail; an empty table reads as unknown.
    let table = postcard::to_stdvec(&table).unwrap_or_default();
    let mut bytes = Vec::with_capacity(HEADER + table.len() + usize::try_from(start).unwrap_or(0));
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&u32::try_from(table.len()).unwrap_or(0).to_le_bytes());
    bytes.extend_from_slice(&table);
    for (_, _, slab) in slabs {
        bytes.extend_from_slice(slab);
    }
    let crc = crc32fast::hash(&bytes[MAGIC.len() + 4..]);
    bytes[MAGIC.len()..MAGIC.len() + 4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn write(bytes: &[u8], file: &Path) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(bytes)?;
    temporary.persist(file)?;
    Ok(())
}

/// Returns the system's name for the time since it was started; empty where it has none.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}
