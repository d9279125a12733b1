//! Committed outputs against what their targets make: the tree is compared, never
//! changed. It runs nothing itself.

use super::reason;
use super::step::Step;
use crate::action::index;
use crate::action::{Entry, EntryKind, OutputSpec, inputs};
use crate::buildfile::model::Target;
use crate::event::{Failure, Reason};
use crate::path::RelPath;

impl Step<'_> {
    /// Tells whether the run only compares this target's outputs.
    pub(super) fn only_compares(&self, target: &Target) -> bool {
        self.policy.drift && target.outputs.iter().any(|outputs| outputs.committed)
    }

    /// Compares what a target makes with its committed outputs as they are in the tree.
    pub(super) fn compare(
        &self,
        target: &Target,
        made: &[Entry],
        found: &[Entry],
    ) -> Result<(), Failure> {
        let mut specs = inputs::specs(target);
        specs.retain(|spec| spec.committed);
        match self.touched(&of_specs(&specs, made), &of_specs(&specs, found)) {
            None => Ok(()),
            Some(reason) => Err(stale(&target.name.value, &reason)),
        }
    }

    /// Returns what is different between outputs as they should be and as they are.
    pub(super) fn touched(&self, wanted: &[Entry], found: &[Entry]) -> Option<Reason> {
        reason::of_outputs(wanted, found, &|folder| self.is_kept(folder, found))
    }

    /// Tells whether a folder is there only for something in it that is kept: something that
    /// is not among the outputs `found`, all sorted by path.
    fn is_kept(&self, folder: &RelPath, found: &[Entry]) -> bool {
        let mut holds_kept = false;
        let mut pending = vec![folder.clone()];
        while let Some(folder) = pending.pop() {
            // A folder that cannot be looked into holds nothing of anybody's.
            for child in self.parts.index.children(&folder).unwrap_or_default() {
                match found.binary_search_by(|entry| entry.path.cmp(&child)) {
                    Err(_) => holds_kept = true,
                    Ok(at) if found[at].kind == EntryKind::Folder => pending.push(child),
                    Ok(_) => return false,
                }
            }
        }
        holds_kept
    }

    /// Returns what stands where a target's outputs belong.
    pub(super) fn found(&self, specs: &[OutputSpec]) -> Result<Vec<Entry>, index::Error> {
        inputs::find_outputs(self.parts.index, specs)
    }
}

/// Returns the entries that some of the declared outputs are.
fn of_specs(specs: &[OutputSpec], entries: &[Entry]) -> Vec<Entry> {
    let patterns: Vec<_> = specs.iter().map(|spec| spec.output.pattern()).collect();
    let is_meant = |entry: &&Entry| patterns.iter().any(|p| p.matches(&entry.path));
    entries.iter().filter(is_meant).cloned().collect()
}

fn stale(target: &str, reason: &Reason) -> Failure {
    let what = match reason {
        Reason::OutputDeleted { path } => format!("`{path}` is missing"),
        Reason::OutputStray { path } => format!("`{path}` is no longer made"),
        Reason::OutputModified { path } => format!("`{path}` is not what is made now"),
        other => other.to_string(),
    };
    Failure {
        code: "fbuild::build::drift".to_owned(),
        message: format!("committed outputs are stale: {what}"),
        help: Some(format!("`fbuild run {target}`, and commit what changes")),
        ..Failure::default()
    }
}
