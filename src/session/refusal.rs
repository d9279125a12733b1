//! Decides whether an existing state folder can be used, before anything in it is read or
//! changed: it may have come with the project.

use std::ffi::OsStr;
use std::io::Read as _;
use std::path::Path;

use crate::checked_file;
use crate::event::Warning;
use crate::store::disk::{TAG, is_store_name};
use crate::workspace::is_tracked;

/// The reason why an existing state folder is not used. Each is the end of a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Link,
    NotFolder,
    Owner,
    Writable,
    Foreign,
    Tracked,
}

impl Refusal {
    /// Returns the warning about the folder.
    pub(super) fn warning(self, state: &Path) -> Warning {
        let (state, why) = (state.display(), self.text());
        Warning::new(
            self.code(),
            format!("the cache folder `{state}` {why}; nothing is remembered of this run"),
        )
    }

    fn code(self) -> &'static str {
        match self {
            Self::Tracked => "fbuild::store::tracked",
            _ => "fbuild::store::off",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Link => {
                "is a symbolic link; remove it, and name the folder that it leads to with \
                 `cache dir=` in the Buildfile"
            }
            Self::NotFolder => "is not a folder; move it",
            Self::Owner => "belongs to another user",
            Self::Writable => "can be written by other users",
            Self::Foreign => "was not made by fbuild and has other files in it; move them",
            Self::Tracked => {
                "is under version control; `git rm -r --cached .build-cache` takes it out"
            }
        }
    }
}

/// Returns the reason not to use an existing state folder, before anything in it is read or
/// changed.
pub(super) fn refusal(state: &Path) -> Option<Refusal> {
    let found = state.symlink_metadata().ok()?;
    if found.is_symlink() {
        return Some(Refusal::Link);
    }
    if !found.is_dir() {
        return Some(Refusal::NotFolder);
    }
    if !checked_file::is_mine(&found) {
        return Some(Refusal::Owner);
    }
    if checked_file::is_shared(&found) {
        return Some(Refusal::Writable);
    }
    if is_tracked(state) {
        return Some(Refusal::Tracked);
    }
    (!is_marked(state) && has_other_files(state)).then_some(Refusal::Foreign)
}

/// Returns true if fbuild made a state folder.
fn is_marked(state: &Path) -> bool {
    let mut text = Vec::new();
    let tag = checked_file::open(&state.join("CACHEDIR.TAG"));
    let read = tag.map(|tag| tag.take(TAG.len() as u64).read_to_end(&mut text));
    matches!(read, Some(Ok(_))) && text == TAG.as_bytes()
}

/// Returns true if a folder has entries that no version of fbuild makes there.
fn has_other_files(state: &Path) -> bool {
    let entries = std::fs::read_dir(state).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name());
    names.any(|name| !is_state_name(&name))
}

/// Returns true if fbuild, or an earlier version, makes an entry of this name in a state folder.
pub fn is_state_name(name: &OsStr) -> bool {
    const NAMES: [&str; 12] = [
        "checkouts",
        "graph",
        "index",
        "metadata",
        "nodes",
        "run.lock",
        "runs",
        "snapshot",
        "stage",
        "standstill",
        "state",
        "tmp",
    ];
    NAMES.iter().any(|own| name == *own)
        || is_store_name(name)
        // A killed run has left it before its rename.
        || name.as_encoded_bytes().starts_with(b".tmp")
}

/// Returns true if a state folder is one that only this user can write to.
pub(super) fn is_private(state: &Path) -> bool {
    state.symlink_metadata().is_ok_and(|found| {
        found.is_dir() && checked_file::is_mine(&found) && !checked_file::is_shared(&found)
    })
}
