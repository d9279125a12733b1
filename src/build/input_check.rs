//! Checks that inputs did not change while the commands were running: otherwise the result
//! may belong to another key.

use super::{outputs, reason, warnings};
use crate::action::index::{FileIndex, Fingerprint};
use crate::action::{Action, Entry, EntryKind, inputs};
use crate::buildfile::model::Target;
use crate::event::{Failure, Warning};
use crate::path::RelPath;
use crate::stamp;

/// A check that began before the commands of a target.
pub(super) struct InputCheck<'a> {
    index: &'a FileIndex,
    target: &'a Target,
    action: &'a Action,
    /// The fingerprints before the commands, in the order of [`read_by`].
    before: Vec<Fingerprint>,
    /// When the check began, in nanoseconds since 1970.
    since: i64,
}

impl<'a> InputCheck<'a> {
    /// Fingerprints every file that the key says the commands read.
    pub(super) fn begin(
        index: &'a FileIndex,
        target: &'a Target,
        action: &'a Action,
    ) -> Result<Self, Failure> {
        // The index may not have read outputs of needed targets since they were made.
        for entry in outputs_of_needs(action) {
            let read = index.entry(&entry.path);
            read.map_err(|error| Failure::of(&error))?;
        }
        // The time is taken first: a file written in between must count as young.
        let since = stamp::now();
        Ok(Self {
            index,
            target,
            action,
            before: fingerprints(index, action),
            since,
        })
    }

    /// Returns a warning if an input is not what it was when the key was computed, or if it
    /// was or may have been something else in between.
    pub(super) fn finish(&self) -> Result<Option<Warning>, Failure> {
        if let Some(path) = self.changed()? {
            return Ok(Some(warnings::input_changed(&path)));
        }
        let now = fingerprints(self.index, self.action);
        let mut read = read_by(self.action).zip(self.before.iter().zip(&now));
        if let Some((entry, _)) = read.find(|(_, (before, now))| before != now) {
            return Ok(Some(warnings::input_written(&entry.path)));
        }
        Ok(self.unobservable().map(warnings::input_hidden))
    }

    /// Returns an input that is not what it was when the key was computed.
    fn changed(&self) -> Result<Option<String>, Failure> {
        let before = &self.action.inputs;
        match inputs::find(self.index, self.target) {
            Ok(now) if now == *before => self.changed_need(),
            Ok(now) => Ok(reason::first_difference(before, &now)),
            Err(inputs::Error::Empty(_)) => Ok(self.removed()),
            Err(inputs::Error::Index(error)) => Err(Failure::of(&error)),
        }
    }

    /// Returns an input that does not exist any more.
    fn removed(&self) -> Option<String> {
        let is_removed = |entry: &&Entry| matches!(self.index.entry(&entry.path), Ok(None));
        let removed = self.action.inputs.iter().find(is_removed);
        removed.map(|entry| entry.path.to_string())
    }

    /// Returns an output of a needed target that is not what that target made.
    fn changed_need(&self) -> Result<Option<String>, Failure> {
        for entry in outputs_of_needs(self.action) {
            let kind = self.index.entry(&entry.path);
            let kind = kind.map_err(|error| Failure::of(&error))?;
            let now = kind.map(|kind| Entry {
                path: entry.path.clone(),
                kind,
            });
            if !now.is_some_and(|now| outputs::is_same(entry, &now)) {
                return Ok(Some(entry.path.to_string()));
            }
        }
        Ok(None)
    }

    /// Returns an input that was so young when the commands began that, by the coarse clock
    /// of its file system, it could be changed and changed back without a trace. Outputs of
    /// needed targets are always so young; nothing but fbuild writes them.
    fn unobservable(&self) -> Option<&'a RelPath> {
        let mut inputs = self.action.inputs.iter().zip(&self.before);
        let is_made = |path: &RelPath| outputs_of_needs(self.action).any(|e| e.path == *path);
        let found = inputs.find(|(entry, fingerprint)| {
            fingerprint.hides_changes(self.since) && !is_made(&entry.path)
        });
        found.map(|(entry, _)| &entry.path)
    }
}

fn fingerprints(index: &FileIndex, action: &Action) -> Vec<Fingerprint> {
    let read = read_by(action);
    read.map(|entry| index.fingerprint(&entry.path)).collect()
}

/// Returns every file that the key says the commands read: the inputs first.
fn read_by(action: &Action) -> impl Iterator<Item = &Entry> {
    action.inputs.iter().chain(outputs_of_needs(action))
}

/// Returns the files and links that needed targets made. Folders are not read, and the
/// index may know a file that had the same name before.
fn outputs_of_needs(action: &Action) -> impl Iterator<Item = &Entry> {
    let made = action.needs.values().flatten();
    made.filter(|entry| entry.kind != EntryKind::Folder)
}
