//! A path where an observation failed, and which patterns that concerns.

use crate::action::index::observations::Expectation;
use crate::glob::Pattern;
use crate::path::RelPath;
use crate::stamp::{FileKind, Stamp};

/// A difference between a snapshot and the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A file or link was made, removed or changed.
    File(RelPath),
    /// An entry was added to a folder or removed from it.
    Listing(RelPath),
    /// A folder was made or removed, or it is unknown what changed.
    Anything(RelPath),
}

impl Change {
    /// Returns the change that explains why `expected` is not met by the stamp `now`.
    pub(super) fn new(path: RelPath, expected: &Expectation, now: Option<Stamp>) -> Self {
        let is_folder = now.is_some_and(|now| now.kind() == FileKind::Folder);
        match expected {
            // The stamp of the file behind the link: the link itself has its own observation.
            Expectation::LinkToFile(_) => Self::File(path),
            Expectation::LinkToNothing if !is_folder => Self::File(path),
            Expectation::Listing(_) if is_folder => Self::Listing(path),
            Expectation::File(..) | Expectation::Link(_) | Expectation::RacyFile if !is_folder => {
                Self::File(path)
            }
            Expectation::NoFile => Self::File(path),
            _ => Self::Anything(path),
        }
    }

    /// Returns the path.
    pub(super) fn path(&self) -> &RelPath {
        match self {
            Self::File(path) | Self::Listing(path) | Self::Anything(path) => path,
        }
    }

    /// Returns true if a walk for `pattern` may find something else because of this change.
    pub fn concerns(&self, pattern: &Pattern) -> bool {
        let base = pattern.folder();
        let is_entered = |path: &RelPath| path.is_within(base) && pattern.reaches_into(path);
        match self {
            Self::File(path) => pattern.matches(path),
            Self::Listing(path) => pattern.as_literal().is_none() && is_entered(path),
            Self::Anything(path) => {
                pattern.matches(path) || base.is_within(path) || is_entered(path)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).unwrap()
    }

    #[test]
    fn change_concerns_patterns_that_may_match_anew() {
        let concerns = |change: &Change| {
            let patterns = ["d/f", "d/*.c", "d/**/*.c"];
            patterns.map(|pattern| change.concerns(&Pattern::new(pattern).unwrap()))
        };
        for (change, expected) in [
            (Change::File(path("d/f")), [true, false, false]),
            (Change::File(path("d/x.c")), [false, true, true]),
            (Change::File(path("d/s/x.c")), [false, false, true]),
            (Change::File(path("e/x.c")), [false; 3]),
            (Change::Listing(RelPath::root()), [false; 3]),
            (Change::Listing(path("d")), [false, true, true]),
            (Change::Listing(path("d/s")), [false, false, true]),
            (Change::Listing(path("e")), [false; 3]),
            (Change::Anything(RelPath::root()), [true; 3]),
            (Change::Anything(path("d")), [true; 3]),
            (Change::Anything(path("d/f")), [true, false, true]),
            (Change::Anything(path("d/x.c")), [false, true, true]),
            (Change::Anything(path("e")), [false; 3]),
        ] {
            assert_eq!(concerns(&change), expected, "{change:?}");
        }
    }
}
