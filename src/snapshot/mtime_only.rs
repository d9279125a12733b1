//! Refreshes observations of files whose mtime changed and whose content did not, so that no
//! target has to be examined because of them, now or later.

use super::entry::Entry;
use super::list::{Edit, List};
use crate::action::index::file_digest;
use crate::action::index::observations::Expectation;
use crate::digest::Digest;
use crate::path::{RelPath, Root};
use crate::stamp::{self, Stamp, StampClock};
use crate::workspace::Layout;

/// The most that is read here, in bytes: this is one thread, and a full run uses all processors.
const MOST_READ: u64 = 32 << 20;

/// Returns the edits that refresh the observations that failed; `None` unless each is of a
/// file with the same content. An observation that is still racy is left as it is.
pub(super) fn refresh(
    list: List<'_>,
    failed: &[usize],
    root: &Root,
    layout: &Layout,
) -> Option<Vec<Edit>> {
    let mut touched = Vec::new();
    for number in failed {
        touched.push(Touched::find(*number, list, root)?);
    }
    let size: u64 = touched.iter().map(|file| file.now.size).sum();
    if size > MOST_READ {
        return None;
    }
    if !touched.iter().all(|file| file.is_unchanged(root)) {
        return None;
    }
    let clock = StampClock::measure(layout.state(), root);
    let mut edits = Vec::new();
    for file in &touched {
        // An old stamp shows any later change; a younger one has to be read again next time.
        if file.now.is_old_enough(clock.of(file.at)) {
            let entry = Entry::new(&Expectation::File(file.now, file.digest));
            edits.push(list.replace(file.number, entry)?);
        }
    }
    Some(edits)
}

/// A file whose stamp changed and whose mode and size did not.
struct Touched {
    number: usize,
    path: RelPath,
    /// The digest of its content when it was observed.
    digest: Digest,
    /// Its stamp now, taken at this time (nanoseconds since 1970, by this machine's clock).
    now: Stamp,
    at: i64,
}

impl Touched {
    fn find(number: usize, list: List<'_>, root: &Root) -> Option<Self> {
        let entry = list.get(number)?;
        let Expectation::File(then, digest) = entry.expectation()? else {
            return None;
        };
        let path = RelPath::new(list.path(&entry)?.to_bytes()).ok()?;
        let at = stamp::now();
        let now = Stamp::at(root, path.as_path()).ok()??;
        let is_plausible = (now.mode, now.size) == (then.mode, then.size);
        is_plausible.then_some(Self {
            number,
            path,
            digest,
            now,
            at,
        })
    }

    /// Reads the file; returns true if it has the content that was observed, and did not
    /// change meanwhile.
    fn is_unchanged(&self, root: &Root) -> bool {
        let digest = file_digest(root, &self.path);
        let now = Stamp::at(root, self.path.as_path());
        digest.is_ok_and(|digest| digest.hash() == self.digest.hash())
            && now.is_ok_and(|now| now == Some(self.now))
    }
}
