//! Files that were touched and hold what they held: looks at them are taken again, so that
//! neither this run nor the next has to find out for whom that means nothing.

use rustix::fs::OFlags;

use super::entry::{
    Entry, PLACE, Question, decode, encode, is_of, path_of, place_of, split, with_digest,
    with_place,
};
use super::hash::digest;
use crate::path::{RelPath, Root};
use crate::stamp::{self, FileKind, Stamp};

/// The most that is read for it, in bytes: a run of the usual kind reads on all processors.
const MOST_READ: u64 = 32 << 20;

/// Takes those of `looks` again that do not hold any more (by number), and returns what is
/// to be written where among the looks for that; `None` unless all are of files that hold
/// what they held. A look that is too young to be relied on is left as it was.
pub fn renewed(looks: &[u8], failed: &[usize], root: &Root) -> Option<Vec<(usize, Vec<u8>)>> {
    let (entries, paths) = split(looks)?;
    let touched = failed.iter().map(|number| {
        let entry = entries.get(*number)?;
        Touched::find(*number, entry, path_of(entry, paths)?, root)
    });
    let touched = touched.collect::<Option<Vec<Touched>>>()?;
    let size: u64 = touched.iter().map(|file| file.now.size).sum();
    (size <= MOST_READ).then_some(())?;
    let renewed = touched.iter().map(|file| file.renewed(root));
    let renewed = renewed.collect::<Option<Vec<_>>>()?;
    Some(renewed.into_iter().flatten().collect())
}

/// A file that is not as it was when it was looked at, and may hold what it held.
struct Touched {
    number: usize,
    path: RelPath,
    /// The look that does not hold.
    entry: Entry,
    /// What the system says of it, and since when.
    now: Stamp,
    at: i64,
}

impl Touched {
    /// `None` if the look was at something else, or it cannot be the same by what the system
    /// says of it.
    fn find(number: usize, entry: &Entry, path: &[u8], root: &Root) -> Option<Self> {
        let (question, _, then) = decode(entry)?;
        let at = stamp::now();
        let path = RelPath::new(path).ok()?;
        let now = Stamp::at(root, path.as_path()).ok()??;
        let is_file = question == Question::Stamp && then.kind() == FileKind::File;
        let is_plausible = is_file && (now.mode, now.size) == (then.mode, then.size);
        is_plausible.then_some(Self {
            number,
            path,
            entry: *entry,
            now,
            at,
        })
    }

    /// Reads it; `None` if it does not hold what it held. Returns what is to be written
    /// where, unless it is too young.
    fn renewed(&self, root: &Root) -> Option<Option<(usize, Vec<u8>)>> {
        let content = digest(root, &self.path, OFlags::NOFOLLOW).ok()?;
        let is_still = Stamp::at(root, self.path.as_path()).ok()? == Some(self.now);
        (is_still && is_of(&self.entry, &content)).then_some(())?;
        let entry = with_digest(encode(Question::Stamp, self.now), &content);
        let entry = with_place(entry, &self.entry[PLACE]);
        let is_old = self.now.is_settled(self.at);
        Some(is_old.then(|| (place_of(self.number), entry.to_vec())))
    }
}
