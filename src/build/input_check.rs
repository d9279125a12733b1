//! Checks that inputs did not change while the commands were running: otherwise the result
//! may belong to another key.

use super::{Parts, outputs, reason, warnings};
use crate::action::index::{FileIndex, Fingerprint};
use crate::action::{Action, Entry, EntryKind, inputs};
use crate::event::{Failure, Warning};
use crate::graph::{Graph, TargetId};
use crate::path::RelPath;

/// A check that began before the commands of a target.
pub(super) struct InputCheck<'a> {
    index: &'a FileIndex,
    graph: &'a Graph,
    id: TargetId,
    action: &'a Action,
    /// The fingerprints before the commands, in the order of [`read_by`].
    before: Vec<Fingerprint>,
    /// When the check began, in nanoseconds since 1970.
    since: i64,
}

impl<'a> InputCheck<'a> {
    /// Fingerprints every file that the key says the commands read.
    pub(super) fn begin(
        parts: &Parts<'a>,
        id: TargetId,
        action: &'a Action,
    ) -> Result<Self, Failure> {
        let index = parts.index;
        // The index may not have read outputs of needed targets since they were made.
        for entry in outputs_of_needs(action) {
            let read = index.entry(&entry.path);
            read.map_err(|error| Failure::of(&error))?;
        }
        // The time is taken first: a file written in between must count as young.
        let since = index.now();
        Ok(Self {
            index,
            graph: parts.graph(),
            id,
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
        // The content is the same, or `changed` would have found that.
        if let Some((entry, _)) = read.find(|(_, (before, now))| !before.is_unwritten(now)) {
            return Ok(Some(warnings::input_written(&entry.path)));
        }
        Ok(self.unobservable().map(warnings::input_hidden))
    }

    /// Returns an input that is not what it was when the key was computed.
    fn changed(&self) -> Result<Option<String>, Failure> {
        let before = &self.action.inputs;
        match inputs::find(self.index, self.graph, self.id, &self.action.needs) {
            Ok(now) if now.entries == *before => self.changed_need(),
            Ok(now) => Ok(reason::first_difference(before, &now.entries)),
            Err(inputs::Error::Empty(_)) => Ok(self.removed()),
            Err(inputs::Error::Index(error)) => Err(Failure::of(&error)),
        }
    }

    /// Returns an input that does not exist any more.
    fn removed(&self) -> Option<String> {
        let is_removed = |entry: &&Entry| matches!(self.index.entry(&entry.path), Ok(None));
        let removed = files(&self.action.inputs).find(is_removed);
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
            let is_same = |now: &Entry| {
                // Of the file behind a link, the content is part of the key.
                let is_link = matches!(entry.kind, EntryKind::Link { .. });
                outputs::is_same(entry, now) && (!is_link || *now == *entry)
            };
            if !now.as_ref().is_some_and(is_same) {
                return Ok(Some(entry.path.to_string()));
            }
        }
        Ok(None)
    }

    /// Returns an input that was so young when the commands began that, by the coarse clock
    /// of its file system, it could be changed and changed back without a trace. Outputs of
    /// needed targets are always so young; nothing but fbuild writes them.
    fn unobservable(&self) -> Option<&'a RelPath> {
        let mut inputs = files(&self.action.inputs).zip(&self.before);
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
    files(&action.inputs).chain(outputs_of_needs(action))
}

/// Returns the files and links that needed targets made.
fn outputs_of_needs(action: &Action) -> impl Iterator<Item = &Entry> {
    action.needs.values().flat_map(|made| files(made))
}

/// Returns the files and links among entries. Folders are not read, and the index may know a
/// file that had the same name before.
fn files(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    let is_file = |entry: &&Entry| entry.kind != EntryKind::Folder;
    entries.iter().filter(is_file)
}
