//! Flushes blobs to the disk: with one `syncfs`, or one by one if that is faster.

use std::collections::BTreeSet;
use std::io;

use rustix::fs::OFlags;

use super::layout::{self, Layout};
use crate::digest::Digest;

/// The minimum number of blobs for which the whole file system is always flushed.
const MANY_BLOBS: usize = 33;
/// The amount of dirty data that takes as long to flush as one blob alone, in KiB.
const COST_OF_ONE: u64 = 128;

/// The extent of a flush.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    /// The given blobs.
    Blobs,
    /// The whole file system, with all blobs written before.
    FileSystem,
}

/// Flushes blobs and their directory entries.
pub(super) fn flush(layout: &Layout, blobs: &BTreeSet<Digest>) -> io::Result<Flushed> {
    let is_faster_alone = blobs.len() < MANY_BLOBS && !is_syncfs_cheaper(dirty(), blobs.len());
    if is_faster_alone && flush_each(layout, blobs).is_ok() {
        return Ok(Flushed::Blobs);
    }
    rustix::fs::syncfs(&layout.artifacts)?;
    Ok(Flushed::FileSystem)
}

/// Returns true if flushing all dirty data (KiB) is cheaper than flushing each blob.
/// `None` means unknown.
fn is_syncfs_cheaper(dirty: Option<u64>, blobs: usize) -> bool {
    dirty.is_some_and(|dirty| dirty <= blobs as u64 * COST_OF_ONE)
}

/// Returns the amount of dirty data in the whole system, in KiB.
fn dirty() -> Option<u64> {
    dirty_in(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn dirty_in(meminfo: &str) -> Option<u64> {
    let size = |name: &str| {
        let value = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        value.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    Some(size("Dirty:")?.saturating_add(size("Writeback:")?))
}

fn flush_each(layout: &Layout, blobs: &BTreeSet<Digest>) -> io::Result<()> {
    let mut folders = BTreeSet::new();
    for digest in blobs {
        let name = layout::name(digest);
        layout::open_object(&layout.artifacts, &name, OFlags::RDONLY)?.sync_data()?;
        folders.insert(name[..2].to_owned());
    }
    for folder in &folders {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        layout::open_object(&layout.artifacts, folder, flags)?.sync_all()?;
    }
    Ok(rustix::fs::fsync(&layout.artifacts)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "\
MemTotal:       24616136 kB
Dirty:               200 kB
Writeback:            56 kB
WritebackTmp:       5000 kB
";

    #[test]
    fn syncfs_is_used_if_little_data_is_dirty() {
        assert_eq!(dirty_in(MEMINFO), Some(256));
        assert!(!is_syncfs_cheaper(Some(256), 1));
        assert!(is_syncfs_cheaper(Some(256), 2));
        assert!(!is_syncfs_cheaper(Some(257), 2));
    }

    #[test]
    fn unknown_dirty_data_counts_as_much() {
        for meminfo in ["", "Dirty: 1 kB\n", "Dirty: 1 kB\nWriteback: much\n"] {
            assert_eq!(dirty_in(meminfo), None, "{meminfo}");
        }
        assert!(!is_syncfs_cheaper(None, 32));
    }

    #[test]
    fn system_reports_dirty_data() {
        assert!(dirty().is_some());
    }
}
