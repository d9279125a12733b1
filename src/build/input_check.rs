//! Whether the inputs stood still while commands ran: if not, what the commands made may be
//! the result of another key. It looks at files and changes nothing.

use super::make::Miss;
use super::step::Step;
use super::{reason, warnings};
use crate::action::index::Fingerprint;
use crate::action::{Entry, EntryKind, inputs};
use crate::event::{Failure, Warning};
use crate::path::RelPath;
use crate::stamp;

/// What the inputs of a target were before its commands ran.
pub(super) struct Fingerprints {
    /// In the order of [`read_by`].
    marks: Vec<Fingerprint>,
    /// When, in nanoseconds since 1970.
    since: i64,
}

impl Step<'_> {
    /// Fingerprints everything that the key says the commands read. What needed targets made may
    /// not have been looked at since.
    pub(super) fn mark(&self, miss: &Miss) -> Result<Fingerprints, Failure> {
        for entry in made_by_needs(miss) {
            let looked = self.parts.index.entry(&entry.path);
            looked.map_err(|error| Failure::of(&error))?;
        }
        Ok(Fingerprints {
            since: stamp::now(),
            marks: self.marks_now(miss),
        })
    }

    /// Returns a warning if an input is not what it was when the key was made, or was or may
    /// have been something else in between: then the result is not the key's.
    pub(super) fn disturbed(
        &self,
        miss: &Miss,
        marks: &Fingerprints,
    ) -> Result<Option<Warning>, Failure> {
        if let Some(path) = self.changed(miss)? {
            return Ok(Some(warnings::input_changed(&path)));
        }
        let now = self.marks_now(miss);
        let mut read = read_by(miss).zip(marks.marks.iter().zip(&now));
        if let Some((entry, _)) = read.find(|(_, (before, now))| before != now) {
            return Ok(Some(warnings::input_written(&entry.path)));
        }
        let hidden = self.hidden(miss, marks);
        Ok(hidden.map(warnings::input_hidden))
    }

    fn marks_now(&self, miss: &Miss) -> Vec<Fingerprint> {
        let marks = read_by(miss).map(|entry| self.parts.index.fingerprint(&entry.path));
        marks.collect()
    }

    /// Returns an input that is not what it was when the key was made.
    fn changed(&self, miss: &Miss) -> Result<Option<String>, Failure> {
        let target = self.parts.graph.target(miss.id);
        let before = &miss.draft.action.inputs;
        match inputs::find(self.parts.index, target) {
            Ok(now) if now == *before => self.changed_need(miss),
            Ok(now) => Ok(reason::first_difference(before, &now)),
            Err(inputs::Error::Empty(_)) => Ok(self.gone(before)),
            Err(inputs::Error::Index(error)) => Err(Failure::of(&error)),
        }
    }

    /// Returns an input that is no longer there.
    fn gone(&self, before: &[Entry]) -> Option<String> {
        let is_gone = |entry: &&Entry| matches!(self.parts.index.entry(&entry.path), Ok(None));
        let gone = before.iter().find(is_gone);
        gone.map(|entry| entry.path.to_string())
    }

    fn changed_need(&self, miss: &Miss) -> Result<Option<String>, Failure> {
        for entry in made_by_needs(miss) {
            let kind = self.parts.index.entry(&entry.path);
            let kind = kind.map_err(|error| Failure::of(&error))?;
            let now = kind.map(|kind| Entry {
                path: entry.path.clone(),
                kind,
            });
            if !now.is_some_and(|now| reason::is_same(entry, &now)) {
                return Ok(Some(entry.path.to_string()));
            }
        }
        Ok(None)
    }

    /// Returns an input that was so young when the commands began, by the slow clock of its
    /// file system, that it could be changed and changed back unseen. What needed targets
    /// just made is always so young, and nobody's to change.
    fn hidden<'m>(&self, miss: &'m Miss, marks: &Fingerprints) -> Option<&'m RelPath> {
        let read = miss.draft.action.inputs.iter().zip(&marks.marks);
        let mut young = read.filter(|(_, mark)| mark.hides_changes(marks.since));
        let is_made = |path: &RelPath| made_by_needs(miss).any(|made| made.path == *path);
        let found = young.find(|(entry, _)| !is_made(&entry.path));
        found.map(|(entry, _)| &entry.path)
    }
}

/// Returns everything that the key says the commands read: the inputs first.
fn read_by(miss: &Miss) -> impl Iterator<Item = &Entry> {
    miss.draft.action.inputs.iter().chain(made_by_needs(miss))
}

/// Returns the files and links that needed targets made. Nobody reads a folder: what the
/// index knows of its name is of a file that was there before.
fn made_by_needs(miss: &Miss) -> impl Iterator<Item = &Entry> {
    let made = miss.draft.action.needs.values().flatten();
    made.filter(|entry| entry.kind != EntryKind::Folder)
}
