//! The size of a store: counted by listing it, or estimated from a line in `usage` that
//! every writer updates.

use std::fs::File;
use std::io::{self, Read as _, Write as _};

use rustix::fs::{Mode, OFlags};

use super::layout::{Layout, open_object};
use super::walk::{StoreEntry, walk};
use super::{Disk, io_error};
use crate::stamp;
use crate::store::Error;

/// The size of a store, without the overhead of the file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The number of results.
    pub results: usize,
    /// The number of blobs.
    pub blobs: usize,
    /// The number of bytes of both.
    pub bytes: u64,
}

impl Disk {
    /// Counts results and blobs; none if the store cannot be used.
    pub fn usage(&self) -> Result<Usage, Error> {
        let Some(layout) = &self.0.layout else {
            return Ok(Usage::default());
        };
        count(layout).map_err(io_error("list", &layout.path))
    }
}

fn count(layout: &Layout) -> io::Result<Usage> {
    let mut usage = Usage::default();
    walk(&layout.actions, &mut |met| {
        if let StoreEntry::Object(object) = met {
            usage.results += 1;
            usage.bytes += object.digest.size();
        }
    })?;
    walk(&layout.artifacts, &mut |met| {
        if let StoreEntry::Object(object) = met {
            usage.blobs += 1;
            usage.bytes += object.digest.size();
        }
    })?;
    Ok(usage)
}

/// The content of `usage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UsageEstimate {
    pub(super) bytes: u64,
    /// The time of the last count, in nanoseconds since 1970.
    pub(super) counted_at: i64,
}

/// Reads the line; `None` if it is missing or malformed.
pub(super) fn estimate(layout: &Layout) -> Option<UsageEstimate> {
    let mut text = String::new();
    let file = open_object(&layout.dir, "usage", OFlags::RDONLY).ok()?;
    file.take(100).read_to_string(&mut text).ok()?;
    // Without the newline the line is truncated.
    let mut words = text.strip_suffix('\n')?.split(' ');
    let estimate = UsageEstimate {
        bytes: words.next()?.parse().ok()?,
        counted_at: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(estimate)
}

/// Adds to the estimate. Concurrent additions can be lost; the next count corrects that.
pub(super) fn add(layout: &Layout, bytes: u64) {
    if bytes > 0
        && let Some(estimate) = estimate(layout)
    {
        let bytes = estimate.bytes.saturating_add(bytes);
        write(layout, UsageEstimate { bytes, ..estimate });
    }
}

/// Stores the result of a count.
pub(super) fn set(layout: &Layout, bytes: u64) {
    let counted_at = stamp::now();
    write(layout, UsageEstimate { bytes, counted_at });
}

/// Writes the line. Errors are ignored: a missing line only causes another count.
fn write(layout: &Layout, estimate: UsageEstimate) {
    let flags = OFlags::WRONLY
        | OFlags::CREATE
        | OFlags::TRUNC
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    if let Ok(file) = rustix::fs::openat(&layout.dir, "usage", flags, mode) {
        let line = format!("{} {}\n", estimate.bytes, estimate.counted_at);
        let _ = File::from(file).write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::tests::Sample;
    use super::*;

    #[test]
    fn add_keeps_the_time_of_the_count() {
        let sample = Sample::new();
        let layout = sample.store.0.layout.as_ref().unwrap();
        add(layout, 5);
        assert_eq!(estimate(layout), None, "not counted yet");
        set(layout, 100);
        let counted = estimate(layout).unwrap();
        assert_eq!(counted.bytes, 100);
        assert!((0..60_000_000_000).contains(&(stamp::now() - counted.counted_at)));
        fs::write(sample.path("usage"), "100 7\n").unwrap();
        add(layout, 5);
        add(layout, 0);
        let counted_at = 7;
        let bytes = 105;
        assert_eq!(estimate(layout), Some(UsageEstimate { bytes, counted_at }));
    }

    #[test]
    fn usage_is_one_private_line() {
        let sample = Sample::new();
        set(sample.store.0.layout.as_ref().unwrap(), 1);
        let mode = fs::metadata(sample.path("usage")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o7777, 0o600);
        let line = fs::read_to_string(sample.path("usage")).unwrap();
        assert!(line.starts_with("1 ") && line.ends_with('\n'), "{line}");
    }
}
