//! Compares committed outputs with what their targets make, before or after they change.

use super::{Policy, outputs, warnings};
use crate::action::index::FileIndex;
use crate::action::{Entry, EntryKind, OutputSpec, inputs};
use crate::buildfile::model::Target;
use crate::event::{Failure, Reason, Warning};

/// Returns true if the run compares this target's outputs instead of replacing them.
pub(super) fn only_compares(policy: Policy, target: &Target) -> bool {
    policy.drift && target.outputs.iter().any(|outputs| outputs.committed)
}

/// Returns the committed outputs of a target that are in the tree.
pub(super) fn committed(index: &FileIndex, target: &Target) -> Result<Vec<Entry>, Failure> {
    outputs::find(index, &committed_specs(target))
}

fn committed_specs(target: &Target) -> Vec<OutputSpec> {
    let mut specs = inputs::specs(target);
    specs.retain(|spec| spec.committed);
    specs
}

/// Fails if the committed outputs that were found are not what the target makes.
pub(super) fn check(
    index: &FileIndex,
    target: &Target,
    made: &[Entry],
    found: &[Entry],
) -> Result<(), Failure> {
    let specs = committed_specs(target);
    let (made, found) = (matching(&specs, made), matching(&specs, found));
    match outputs::change(index, &made, &found) {
        None => Ok(()),
        Some(reason) => Err(stale(&target.name.value, &reason)),
    }
}

/// Returns a warning that names the committed outputs that a target changed or removed. A new
/// file is not committed yet.
pub(super) fn changes(target: &Target, made: &[Entry], before: &[Entry]) -> Option<Warning> {
    let specs = committed_specs(target);
    let (made, before) = (matching(&specs, made), matching(&specs, before));
    let changed = before.iter().filter(|old| !outputs::is_intact(old, &made));
    let paths = changed.filter(|entry| entry.kind != EntryKind::Folder);
    warnings::committed_changed(&paths.map(|entry| &entry.path).collect::<Vec<_>>())
}

/// Returns the entries that match one of the declared outputs.
fn matching(specs: &[OutputSpec], entries: &[Entry]) -> Vec<Entry> {
    let patterns: Vec<_> = specs.iter().map(|spec| spec.output.pattern()).collect();
    let matches = |entry: &&Entry| patterns.iter().any(|p| p.matches(&entry.path));
    entries.iter().filter(matches).cloned().collect()
}

fn stale(target: &str, reason: &Reason) -> Failure {
    let difference = match reason {
        Reason::OutputDeleted { path } => format!("`{path}` is missing"),
        Reason::OutputStray { path } => format!("`{path}` is no longer made"),
        Reason::OutputModified { path } => format!("`{path}` is not what is made now"),
        other => other.to_string(),
    };
    Failure {
        code: "fbuild::build::drift".to_owned(),
        message: format!("committed outputs are stale: {difference}"),
        help: Some(format!("`fbuild run {target}`, and commit what changes")),
        ..Failure::default()
    }
}
