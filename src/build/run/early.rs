//! The ends of targets that are known before any command starts.

use std::sync::Arc;

use super::{Options, Run};
use crate::action::hidden;
use crate::build::step::Need;
use crate::build::warnings;
use crate::event::Outcome;
use crate::graph::TargetId;
use crate::journal::Success;

impl Run<'_> {
    /// Returns the committed outputs of a target, if they are used as they are.
    pub(super) fn settled(&self, id: TargetId) -> Option<Arc<Success>> {
        self.locked.as_ref()?.settled().get(&id).cloned()
    }

    /// Finishes a target whose committed outputs are used. It has no key, and is not remembered:
    /// this checkout did not build it.
    pub(super) fn on_settled(&mut self, id: TargetId, success: Arc<Success>) {
        self.targets[id.index()].made = Some(Need::Made(id, success));
        self.plan.succeed(id);
        self.finish_target(id, Outcome::UpToDate, None, None);
    }

    /// Finishes the targets with tools that cannot be used, those that wait for them, and all
    /// others unless the run keeps going.
    pub(super) fn fail_without_tools(&mut self) {
        let wanted = self.request.wanted.iter().copied();
        let wanted: Vec<TargetId> = wanted.filter(|id| self.settled(*id).is_none()).collect();
        let failing = self.step.versions.failures(self.graph(), &wanted);
        self.first_failed = failing.keys().find(|id| failing[id].is_ok()).copied();
        let Options { keep_going, .. } = self.request.options;
        let closing = self.first_failed.filter(|_| !keep_going);
        let ids: Vec<TargetId> = failing.keys().copied().collect();
        let skipped = self.plan.fail_early(&ids, closing);
        for (id, result) in failing {
            let outcome = match result {
                Ok(failure) => Outcome::Failed { failure },
                Err(because) => self.skipped(because),
            };
            self.finish_target(id, outcome, None, None);
        }
        for (id, because) in skipped {
            self.finish_target(id, self.skipped(because), None, None);
        }
    }

    /// Names the variables that the commands of a failed target did not see.
    pub(super) fn warn_of_hidden_variables(&mut self, id: TargetId) {
        let names = hidden::suspects(self.graph().target(id), self.step.parts.host_env);
        if !names.is_empty() {
            self.warn(id, warnings::hidden_variables(self.name(id), &names));
        }
    }
}
