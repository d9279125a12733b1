//! What a target's result depends on, and what changed since its last success: the two
//! manifests compared, nothing run.

use std::sync::Arc;

use super::make::Draft;
use super::step::{Need, Policy, Step};
use super::{Parts, tools};
use crate::action::inputs;
use crate::action::manifest::{Change, Manifest};
use crate::event::{Failure, Reason};
use crate::graph::TargetId;
use crate::journal::{Memory, Success};

/// Everything there is to say about a target's key.
pub struct Explained {
    /// What decides its result now.
    pub manifest: Manifest,
    /// What is different from the last success; `None` if that is not known.
    pub changes: Option<Vec<Change>>,
    /// What is wrong with its outputs; `None` if nothing is.
    pub touched: Option<Reason>,
    /// Its last success.
    pub last: Option<Arc<Success>>,
    /// Needed targets of which nobody knows what they make: they never succeeded.
    pub unknown: Vec<TargetId>,
}

/// Explains a target as it would be if what it needs were up to date.
pub fn explain(parts: &Parts<'_>, id: TargetId, memory: &mut Memory) -> Result<Explained, Failure> {
    let step = Step {
        parts,
        versions: &tools::versions(parts, &[id], memory, tools::Probing::Allowed),
        policy: Policy {
            dry_run: true,
            ..Policy::default()
        },
    };
    let needs =
        parts
            .graph
            .needs(id)
            .iter()
            .map(|need| match memory.success(parts.graph.name(*need)) {
                Some(success) => Need::Made(*need, success.clone()),
                None => Need::Unknown(*need),
            });
    let needs: Vec<Need> = needs.collect();
    let draft = Draft::new(step.action(parts.graph.target(id), &needs)?);
    let last = memory.success(parts.graph.name(id)).cloned();
    let earlier = last.as_ref().map(|last| step.manifest(&last.result));
    let touched = match &last {
        Some(last) => {
            let found = inputs::find_outputs(parts.index, &draft.action.outputs);
            let found = found.map_err(|error| Failure::of(&error))?;
            step.touched(&last.result.outputs, &found)
        }
        None => None,
    };
    Ok(Explained {
        changes: earlier
            .flatten()
            .map(|earlier| draft.manifest.changes_since(&earlier)),
        manifest: draft.manifest,
        touched,
        last,
        unknown: needs.iter().filter_map(Need::unknown).collect(),
    })
}
