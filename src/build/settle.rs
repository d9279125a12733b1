//! What the loop makes of an answer: a target is settled, queued, or takes others with it.
//! It decides in the order in which answers come, and asks nobody.

use std::sync::Arc;

use super::drive::Drive;
use super::make::{Made, Miss, millis};
use super::recorder::Settled;
use super::step::{Need, Prepared};
use crate::event::{EventKind, Failure, Outcome, Reason};
use crate::graph::TargetId;
use crate::journal::Success;

impl Drive<'_> {
    pub(super) fn hear_prepared(&mut self, id: TargetId, prepared: Prepared) {
        let is_dry = self.options.policy.dry_run;
        match prepared {
            Prepared::UpToDate(success) => {
                if !is_dry {
                    let last = self.memory.success(self.name(id));
                    let is_same = last.is_some_and(|last| {
                        Arc::ptr_eq(last, &success) || last.result.outputs == success.result.outputs
                    });
                    self.is_same[id.index()] = is_same && self.is_same_before(id);
                    self.remember(id, &success, false);
                }
                self.succeed(id, Need::Made(id, success), Outcome::UpToDate, None);
            }
            Prepared::Restored(success, reason) if is_dry => {
                let need = Need::Restorable(id, success);
                self.succeed(id, need, Outcome::WouldRestore, Some(reason));
            }
            Prepared::Restored(success, reason) => {
                self.tell_log(id, &success);
                self.remember(id, &success, false);
                self.succeed(id, Need::Made(id, success), Outcome::Restored, Some(reason));
            }
            Prepared::WouldRun(reason) => {
                self.succeed(id, Need::Unknown(id), Outcome::WouldRun, Some(reason));
            }
            Prepared::Miss(miss) if is_dry => {
                self.succeed(id, Need::Unknown(id), Outcome::WouldRun, Some(miss.reason));
            }
            Prepared::Miss(miss) if self.plan.is_closed() => self.stop(id, miss),
            Prepared::Miss(miss) => {
                self.misses[id.index()] = Some(miss);
                self.plan.queue(id);
            }
        }
    }

    /// Settles a target that was prepared after the plan was closed.
    fn stop(&mut self, id: TargetId, miss: Box<Miss>) {
        drop(miss);
        let outcome = self.outcome_of_closing();
        for id in [id].into_iter().chain(self.plan.fail(id)) {
            self.settle(id, outcome.clone(), None, None);
        }
    }

    pub(super) fn hear_made(&mut self, id: TargetId, made: Made) {
        let reason = self.started[id.index()]
            .as_ref()
            .map(|(reason, _)| reason.clone());
        match made {
            Made::Built {
                success,
                is_sound,
                is_stored,
            } => {
                match is_sound {
                    true => self.remember(id, &success, is_stored),
                    false => self.memory.forget(self.step.parts.graph.name(id)),
                }
                self.succeed(id, Need::Made(id, success), Outcome::Built, reason);
            }
            Made::Failed(failure) => self.fail(id, *failure, reason),
            Made::Cancelled => {
                self.settle(id, Outcome::Cancelled, reason, None);
                for id in self.plan.fail(id) {
                    self.settle(id, Outcome::Cancelled, None, None);
                }
            }
        }
    }

    fn succeed(&mut self, id: TargetId, need: Need, outcome: Outcome, reason: Option<Reason>) {
        let success = match &need {
            Need::Made(_, success) | Need::Restorable(_, success) => Some(success.clone()),
            Need::Unknown(_) => None,
        };
        self.made[id.index()] = Some(need);
        self.plan.succeed(id);
        self.settle(id, outcome, reason, success.as_deref());
    }

    pub(super) fn fail(&mut self, id: TargetId, failure: Failure, reason: Option<Reason>) {
        self.first_failed.get_or_insert(id);
        self.settle(id, Outcome::Failed { failure }, reason, None);
        let because = self.name(id).to_owned();
        let mut skipped = self.plan.fail(id);
        if !self.options.keep_going {
            skipped.extend(self.plan.close());
        }
        for id in skipped {
            let because = because.clone();
            self.settle(id, Outcome::Skipped { because }, None, None);
        }
    }

    /// What becomes of a target because nothing more is started.
    fn outcome_of_closing(&self) -> Outcome {
        match self.first_failed {
            Some(id) if !self.step.parts.cancel.is_raised() => Outcome::Skipped {
                because: self.name(id).to_owned(),
            },
            _ => Outcome::Cancelled,
        }
    }

    /// Notes a success, and has it recorded unless it is the last one again.
    fn remember(&mut self, id: TargetId, success: &Arc<Success>, is_new: bool) {
        let name = self.step.parts.graph.name(id);
        if self.memory.succeed(name, success) || is_new {
            // The recorder ends only after the loop.
            let _ = self.settled.send(Settled {
                target: name.to_owned(),
                success: success.clone(),
                is_new,
            });
        }
    }

    pub(super) fn settle(
        &mut self,
        id: TargetId,
        outcome: Outcome,
        reason: Option<Reason>,
        success: Option<&Success>,
    ) {
        let since = self.started[id.index()].take().map(|(_, since)| since);
        let duration_ms = match (&outcome, success) {
            (Outcome::Built, Some(success)) => success.result.duration_ms,
            _ => since.map_or(0, |since| millis(since.elapsed())),
        };
        let finished = EventKind::TargetFinished {
            target: self.name(id).to_owned(),
            number: self.tally.settle(id, &outcome, duration_ms),
            outcome,
            reason,
            key: success.map(|success| success.key.0.hex()),
            duration_ms,
        };
        self.emitter.emit(finished);
    }
}
