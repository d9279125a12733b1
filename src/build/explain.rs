//! Explains a target: what its result depends on, and what changed since its last success.
//! Compares two manifests; runs no commands.

use std::sync::Arc;

use super::step::{Need, Step, needs};
use super::{Parts, Policy, outputs, tools};
use crate::action::manifest::{Change, Manifest};
use crate::event::{Failure, Reason};
use crate::graph::TargetId;
use crate::journal::{Memory, Success};

/// The facts behind a target's key.
pub struct Explained {
    /// Everything that decides its result now.
    pub manifest: Manifest,
    /// The differences from the last success; `None` if they are not known.
    pub changes: Option<Vec<Change>>,
    /// A difference between its outputs in the tree and those of the last success.
    pub touched: Option<Reason>,
    /// Its last success.
    pub last: Option<Arc<Success>>,
    /// Needed targets that never succeeded: their outputs are not known.
    pub unknown: Vec<TargetId>,
}

/// Explains a target as if everything it needs were up to date.
pub fn explain(parts: &Parts<'_>, id: TargetId, memory: &mut Memory) -> Result<Explained, Failure> {
    let graph = parts.graph();
    let step = Step {
        parts,
        versions: &tools::versions(parts, &[id], memory, None, tools::Probing::Allowed),
        policy: Policy {
            dry_run: true,
            ..Policy::default()
        },
        arguments: None,
    };
    let needs = needs(graph, id).into_iter();
    let needs = needs.map(|need| match memory.success(graph.name(need)) {
        Some(success) => Need::Made(need, success.clone()),
        None => Need::Unknown(need),
    });
    let needs: Vec<Need> = needs.collect();
    let draft = step.draft(id, &needs)?;
    let last = memory.success(graph.name(id)).cloned();
    let earlier = last.as_ref().map(|last| step.manifest(&last.result));
    let touched = match &last {
        Some(last) => {
            let found = outputs::find(parts.index, &draft.action.outputs)?;
            outputs::change(parts.index, &last.result.outputs, &found)
        }
        None => None,
    };
    let unknown = needs.iter().filter(|need| need.success().is_none());
    let unknown = unknown.map(Need::target);
    Ok(Explained {
        changes: earlier
            .flatten()
            .map(|earlier| draft.manifest.changes_since(&earlier)),
        manifest: draft.manifest,
        touched,
        last,
        unknown: unknown.collect(),
    })
}
