//! Turns the differences between two manifests, or between a result and the tree, into
//! the one [`Reason`] that a person wants to read. It compares nothing itself but lists.

use std::collections::BTreeMap;

use crate::action::manifest::{Change, Fact, Manifest};
use crate::action::{Action, Entry, EntryKind};
use crate::event::Reason;
use crate::path::RelPath;

/// Returns why an action with this manifest has another key than the last success.
pub(super) fn of_changes(earlier: &Manifest, now: &Manifest, action: &Action) -> Reason {
    let changes = now.changes_since(earlier);
    let Some(first) = changes.first() else {
        return Reason::Evicted;
    };
    let name = || first.name.clone();
    let others = changes.iter().filter(|c| c.fact == first.fact).count() - 1;
    match first.fact {
        Fact::Format => Reason::FormatChanged,
        Fact::Platform => Reason::PlatformChanged,
        Fact::Command => Reason::CommandChanged,
        Fact::Dir => Reason::DirChanged,
        Fact::Output => Reason::OutputsChanged,
        Fact::Tool => Reason::ToolChanged {
            name: name(),
            from: first.from.as_deref().map(version),
            to: first.to.as_deref().map(version),
        },
        Fact::Env | Fact::Secret => Reason::EnvChanged {
            name: name(),
            from: first.from.as_deref().and_then(value),
            to: first.to.as_deref().and_then(value),
        },
        Fact::Input => match (&first.from, &first.to) {
            (None, _) => Reason::InputAdded {
                path: name(),
                others,
            },
            (_, None) => Reason::InputRemoved {
                path: name(),
                others,
            },
            _ => Reason::InputChanged {
                path: name(),
                others,
            },
        },
        Fact::Need => of_needs(&changes, &action.needs),
    }
}

/// Names a change of which it is known which target made it: of what is gone, it is not.
fn of_needs(changes: &[Change], needs: &BTreeMap<String, Vec<Entry>>) -> Reason {
    let makes = |entries: &[Entry], path: &str| entries.iter().any(|e| e.path.to_string() == path);
    let maker = |path: &str| needs.iter().find(|(_, entries)| makes(entries, path));
    let changes = changes.iter().filter(|change| change.fact == Fact::Need);
    let mut named = changes.filter_map(|change| Some((maker(&change.name)?.0, &change.name)));
    match named.next() {
        Some((target, path)) => Reason::NeedChanged {
            target: target.clone(),
            path: path.clone(),
        },
        None => Reason::NeedsChanged,
    }
}

/// The version in the value of a `tool` line.
fn version(value: &str) -> String {
    value.split('\t').next().unwrap_or(value).to_owned()
}

/// The value in an `env` line: nothing when the variable is unset.
fn value(value: &str) -> Option<String> {
    value.strip_prefix('=').map(str::to_owned)
}

/// Returns what is different between the outputs as they should be and as they are; both
/// sorted by path. `None` if nothing is. A folder of which `is_kept` may be there or not.
pub(super) fn of_outputs(
    wanted: &[Entry],
    found: &[Entry],
    is_kept: &dyn Fn(&RelPath) -> bool,
) -> Option<Reason> {
    for entry in wanted {
        let path = || entry.path.to_string();
        match found.binary_search_by(|f| f.path.cmp(&entry.path)) {
            Err(_) => return Some(Reason::OutputDeleted { path: path() }),
            Ok(at) if !is_same(entry, &found[at]) => {
                return Some(Reason::OutputModified { path: path() });
            }
            Ok(_) => {}
        }
    }
    if found.len() == wanted.len() {
        return None;
    }
    let is_wanted = |path: &RelPath| wanted.binary_search_by(|w| w.path.cmp(path)).is_ok();
    let may_stay = |entry: &Entry| entry.kind == EntryKind::Folder && is_kept(&entry.path);
    let mut strays = found.iter().filter(|entry| !is_wanted(&entry.path));
    let stray = strays.find(|entry| !may_stay(entry))?;
    Some(Reason::OutputStray {
        path: stray.path.to_string(),
    })
}

/// Returns a path at which two lists of entries, both sorted by path, differ.
pub(super) fn first_difference(before: &[Entry], now: &[Entry]) -> Option<String> {
    let odd = |list: &[Entry], entry: &Entry| {
        let at = list.binary_search_by(|other| other.path.cmp(&entry.path));
        at.map_or(true, |at| list[at] != *entry)
    };
    let changed = before.iter().find(|entry| odd(now, entry));
    let added = now.iter().find(|entry| odd(before, entry));
    changed.or(added).map(|entry| entry.path.to_string())
}

/// Tells whether an output is as it should be. A link counts by its text: what is behind
/// it is somebody else's.
pub(super) fn is_same(wanted: &Entry, found: &Entry) -> bool {
    use crate::action::EntryKind::Link;
    match (&wanted.kind, &found.kind) {
        (Link { target: a, .. }, Link { target: b, .. }) => a == b,
        (wanted, found) => wanted == found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn entry(path: &str, text: &str) -> Entry {
        Entry {
            path: RelPath::new(path).unwrap(),
            kind: EntryKind::File {
                digest: Digest::of(text.as_bytes()),
                executable: false,
            },
        }
    }

    #[test]
    fn outputs_are_intact_deleted_modified_or_joined_by_a_stray() {
        let wanted = [entry("a", "1"), entry("b", "2")];
        let path = || "b".to_owned();
        let of_outputs = |wanted: &[Entry], found: &[Entry]| of_outputs(wanted, found, &|_| false);
        assert_eq!(of_outputs(&wanted, &wanted), None);
        let deleted = Reason::OutputDeleted { path: path() };
        assert_eq!(of_outputs(&wanted, &wanted[..1]), Some(deleted));
        let modified = Reason::OutputModified { path: path() };
        let found = [entry("a", "1"), entry("b", "x")];
        assert_eq!(of_outputs(&wanted, &found), Some(modified));
        let stray = Reason::OutputStray { path: path() };
        assert_eq!(of_outputs(&wanted[..1], &wanted), Some(stray));
    }

    #[test]
    fn a_folder_that_is_there_for_what_is_kept_in_it_is_no_stray() {
        let folder = Entry {
            kind: EntryKind::Folder,
            ..entry("out/kept", "")
        };
        let of_outputs = |is_kept| of_outputs(&[], std::slice::from_ref(&folder), &|_| is_kept);
        assert_eq!(of_outputs(true), None);
        assert!(of_outputs(false).is_some());
    }
}
