//! Turns the differences between two manifests into the one [`Reason`] to show.

use std::collections::BTreeMap;

use crate::action::manifest::{Change, Fact, Manifest};
use crate::action::{Action, ActionKey, Entry};
use crate::event::Reason;

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
        Fact::Ran => of_ran(&changes, &action.ran),
    }
}

/// Names a changed output and the target that makes it. The maker of a removed output is not
/// known.
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

/// Names a needed target that ran again. One that is not needed any more has no name.
fn of_ran(changes: &[Change], ran: &BTreeMap<String, ActionKey>) -> Reason {
    let is_new = |key: &str| changes.iter().any(|c| c.fact == Fact::Ran && c.name == key);
    match ran.iter().find(|(_, key)| is_new(&key.0.to_string())) {
        Some((target, _)) => Reason::NeedRan {
            target: target.clone(),
        },
        None => Reason::NeedsChanged,
    }
}

/// Returns the version in the value of a `tool` line.
fn version(value: &str) -> String {
    value.split('\t').next().unwrap_or(value).to_owned()
}

/// Returns the value in an `env` line; `None` if the variable is unset.
fn value(value: &str) -> Option<String> {
    value.strip_prefix('=').map(str::to_owned)
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
