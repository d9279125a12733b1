//! How much a store holds: counted by looking, or roughly, from a line that is kept up to
//! date by those who add to it. It decides nothing.

use std::fs::File;
use std::io::{self, Read as _, Write as _};

use rustix::fs::{Mode, OFlags};

use super::layout::{Layout, open_object};
use super::walk::{Met, walk};
use super::{Disk, io_error};
use crate::stamp;
use crate::store::Error;

/// How much a store holds. Lengths are those of the files, without what the file system
/// needs besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many results.
    pub results: usize,
    /// How many blobs.
    pub blobs: usize,
    /// How many bytes both have together.
    pub bytes: u64,
}

impl Disk {
    /// Counts what the store holds. A store that cannot be used holds nothing.
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
        if let Met::Object(object) = met {
            usage.results += 1;
            usage.bytes += object.digest.size();
        }
    })?;
    walk(&layout.artifacts, &mut |met| {
        if let Met::Object(object) = met {
            usage.blobs += 1;
            usage.bytes += object.digest.size();
        }
    })?;
    Ok(usage)
}

/// What the line in `usage` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rough {
    pub(super) bytes: u64,
    /// When it was counted, in nanoseconds since 1970.
    pub(super) counted_at: i64,
}

/// Reads the line; `None` when there is none, or not one of ours.
pub(super) fn rough(layout: &Layout) -> Option<Rough> {
    let mut text = String::new();
    let file = open_object(&layout.dir, "usage", OFlags::RDONLY).ok()?;
    file.take(100).read_to_string(&mut text).ok()?;
    // The newline says that the line is whole.
    let mut words = text.strip_suffix('\n')?.split(' ');
    let rough = Rough {
        bytes: words.next()?.parse().ok()?,
        counted_at: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(rough)
}

/// Adds to the line. Two that do so at once may lose one of the additions: the next count
/// sets that right.
pub(super) fn add(layout: &Layout, bytes: u64) {
    if bytes > 0
        && let Some(rough) = rough(layout)
    {
        let bytes = rough.bytes.saturating_add(bytes);
        write(layout, Rough { bytes, ..rough });
    }
}

/// Writes the line after a count.
pub(super) fn set(layout: &Layout, bytes: u64) {
    let counted_at = stamp::now();
    write(layout, Rough { bytes, counted_at });
}

/// A line that cannot be written is a reason to count again, and no more.
fn write(layout: &Layout, rough: Rough) {
    let flags = OFlags::WRONLY
        | OFlags::CREATE
        | OFlags::TRUNC
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    if let Ok(file) = rustix::fs::openat(&layout.dir, "usage", flags, mode) {
        let line = format!("{} {}\n", rough.bytes, rough.counted_at);
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
    fn what_is_added_is_added_to_the_line_and_the_time_of_the_count_stays() {
        let sample = Sample::new();
        let layout = sample.store.0.layout.as_ref().unwrap();
        add(layout, 5);
        assert_eq!(rough(layout), None, "nobody counted");
        set(layout, 100);
        let counted = rough(layout).unwrap();
        assert_eq!(counted.bytes, 100);
        assert!((0..60_000_000_000).contains(&(stamp::now() - counted.counted_at)));
        fs::write(sample.path("usage"), "100 7\n").unwrap();
        add(layout, 5);
        add(layout, 0);
        let counted_at = 7;
        let bytes = 105;
        assert_eq!(rough(layout), Some(Rough { bytes, counted_at }));
        fs::remove_file(sample.path("usage")).unwrap();
        set(layout, 1);
        let mode = fs::metadata(sample.path("usage")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o7777, 0o600);
        let line = fs::read_to_string(sample.path("usage")).unwrap();
        assert!(line.starts_with("1 ") && line.ends_with('\n'), "{line}");
    }
}
