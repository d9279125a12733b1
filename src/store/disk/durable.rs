//! How blobs get onto the disk: together with all that waits to be written, or one by one
//! if that is faster. It does not know what they are needed for.

use std::collections::BTreeSet;
use std::io;

use rustix::fs::OFlags;

use super::layout::{self, Layout};
use crate::digest::Digest;

/// From how many blobs on the whole file system is flushed, however much that is.
const MANY_BLOBS: usize = 33;
/// How much can be written in the time that waiting for one blob alone takes, in KiB.
const INSTEAD_OF_ONE: u64 = 128;

/// What was waited for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// The blobs.
    ForThese,
    /// All blobs that were written until then.
    ForAll,
}

/// Waits until blobs, and the names that they have, are on the disk.
pub(super) fn wait_for(layout: &Layout, blobs: &BTreeSet<Digest>) -> io::Result<Waited> {
    let is_better_alone = blobs.len() < MANY_BLOBS && !is_little(waiting(), blobs.len());
    if is_better_alone && wait_for_each(layout, blobs).is_ok() {
        return Ok(Waited::ForThese);
    }
    rustix::fs::syncfs(&layout.artifacts)?;
    Ok(Waited::ForAll)
}

/// Tells whether so much (KiB) is written faster than some blobs are one by one. How much
/// waits is not always known.
fn is_little(waiting: Option<u64>, blobs: usize) -> bool {
    waiting.is_some_and(|waiting| waiting <= blobs as u64 * INSTEAD_OF_ONE)
}

/// Returns how much waits to be written in the whole system, in KiB.
fn waiting() -> Option<u64> {
    waiting_of(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn waiting_of(meminfo: &str) -> Option<u64> {
    let size = |name: &str| {
        let value = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        value.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    Some(size("Dirty:")?.saturating_add(size("Writeback:")?))
}

fn wait_for_each(layout: &Layout, blobs: &BTreeSet<Digest>) -> io::Result<()> {
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
    fn what_waits_in_the_whole_system_is_flushed_for_a_few_blobs_only_if_it_is_little() {
        assert_eq!(waiting_of(MEMINFO), Some(256));
        assert!(!is_little(Some(256), 1));
        assert!(is_little(Some(256), 2));
        assert!(!is_little(Some(257), 2));
    }

    #[test]
    fn what_the_system_does_not_say_is_not_taken_for_little() {
        for meminfo in ["", "Dirty: 1 kB\n", "Dirty: 1 kB\nWriteback: much\n"] {
            assert_eq!(waiting_of(meminfo), None, "{meminfo}");
        }
        assert!(!is_little(None, 32));
    }

    #[test]
    fn this_system_says_how_much_waits() {
        assert!(waiting().is_some());
    }
}
