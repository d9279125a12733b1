//! The loop: whatever may be prepared is prepared, whatever may run runs, and everything
//! that answers moves the plan on, until every target is settled. The first failure stops
//! new work unless the run keeps going; what runs already is let finish.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};

use super::make::{Made, Miss, millis};
use super::plan::Plan;
use super::recorder::{self, Settled};
use super::slot::{Job, Message, Slot, guarded};
use super::step::{Need, Prepared, Step};
use super::tally::Tally;
use super::telling::Telling;
use super::{Audience, Options, Parts, Warning, tools};
use crate::event::{FORMAT, Failure, Outcome, Reason, Summary, What};
use crate::graph::{Graph, TargetId};
use crate::journal::{Memory, Success};

/// How often time is shown passing, and the wish to stop noticed.
const TICK: Duration = Duration::from_millis(100);
/// How many pieces of streamed output may wait: a command that prints faster than they
/// are shown has to wait itself.
const MOST_PIECES: usize = 64;
/// How long a target that never ran is expected to take, in milliseconds.
const UNKNOWN_COST: u64 = 1000;

/// Brings `wanted` targets, which must hold everything they need, up to date. `names` is
/// what was asked for.
pub fn run(
    parts: &Parts<'_>,
    (names, wanted): (&[String], &[TargetId]),
    options: Options,
    memory: &mut Memory,
    audience: &mut dyn Audience,
) -> Summary {
    let start = Instant::now();
    let step = Step {
        parts,
        versions: &tools::versions(parts, wanted, memory, options.policy.probing()),
        policy: options.policy,
    };
    let (settled, to_record) = unbounded();
    let (messages, pieces, jobs) = (unbounded(), bounded(MOST_PIECES), unbounded());
    std::thread::scope(|threads| {
        let metadata = parts.layout.metadata();
        let recorder =
            threads.spawn(move || recorder::record_all(&to_record, parts.store, &metadata));
        let slot = Slot {
            step: &step,
            jobs: jobs.1,
            messages: messages.0.clone(),
            pieces: pieces.0,
        };
        let mut drive = Drive {
            plan: Plan::new(
                parts.graph,
                wanted,
                |id| cost(parts.graph, memory, id),
                options.jobs,
            ),
            tally: Tally::new(parts.graph, wanted.len(), options.jobs),
            step: &step,
            options,
            memory,
            telling: Telling { audience, start },
            made: vec![None; parts.graph.len()],
            misses: std::iter::repeat_with(|| None)
                .take(parts.graph.len())
                .collect(),
            started: vec![None; parts.graph.len()],
            first_failed: None,
            answers: Answers {
                messages: messages.1,
                pieces: pieces.1,
                sender: messages.0,
            },
            jobs: jobs.0,
            settled,
        };
        drive.begin(names, wanted);
        rayon::in_place_scope(|pool| {
            let mut slots = 0;
            drive.turn(pool, &mut |running| {
                while slots < running {
                    slots += 1;
                    let slot = slot.clone();
                    threads.spawn(move || slot.serve());
                }
            });
        });
        drop(slot);
        drive.end(|| recorder.join())
    })
}

/// Returns how long a target is expected to take, in milliseconds.
fn cost(graph: &Graph, memory: &Memory, id: TargetId) -> u64 {
    let last = memory.success(graph.name(id));
    last.map_or(UNKNOWN_COST, |last| last.result.duration_ms)
}

/// Everything that the loop's thread owns.
pub(super) struct Drive<'a> {
    pub(super) step: &'a Step<'a>,
    options: Options,
    pub(super) plan: Plan<'a>,
    pub(super) tally: Tally<'a>,
    pub(super) memory: &'a mut Memory,
    pub(super) telling: Telling<'a>,
    /// What each settled target made.
    made: Vec<Option<Need>>,
    /// Targets that wait for a slot.
    misses: Vec<Option<Box<Miss>>>,
    /// Why each target that has a slot runs, and since when.
    started: Vec<Option<(Reason, Instant)>>,
    first_failed: Option<TargetId>,
    pub(super) answers: Answers,
    jobs: Sender<Job>,
    settled: Sender<Settled>,
}

pub(super) struct Answers {
    pub(super) messages: Receiver<Message>,
    pub(super) pieces: Receiver<(TargetId, Vec<u8>)>,
    pub(super) sender: Sender<Message>,
}

impl<'a> Drive<'a> {
    fn begin(&mut self, names: &[String], wanted: &[TargetId]) {
        let known = |id: &TargetId| self.memory.success(self.name(*id)).is_some();
        let work: u64 = wanted
            .iter()
            .map(|id| cost(self.graph(), self.memory, *id))
            .sum();
        let bound = self
            .plan
            .longest_chain()
            .max(work / self.options.jobs.max(1) as u64);
        let started = What::RunStarted {
            format: FORMAT,
            fbuild: env!("CARGO_PKG_VERSION").to_owned(),
            wanted: names.to_vec(),
            targets: wanted.len(),
            jobs: self.options.jobs,
            expected_ms: wanted.iter().any(known).then_some(bound),
        };
        self.telling.tell(started);
    }

    /// Turns until every target is settled. `need_slots` sees to it that there are as many
    /// slots as targets run.
    fn turn<'s>(&mut self, pool: &rayon::Scope<'s>, need_slots: &mut dyn FnMut(usize))
    where
        'a: 's,
    {
        loop {
            while let Some(id) = self.plan.next_to_prepare() {
                self.prepare(id, pool);
            }
            while let Some(id) = self.plan.next_to_run() {
                need_slots(self.plan.running());
                self.start(id);
            }
            if self.plan.is_finished() {
                return;
            }
            assert!(self.plan.is_busy(), "bug: targets wait and nothing is done");
            self.wait();
            if self.step.parts.cancel.is_raised() {
                for id in self.plan.close() {
                    self.settle(id, Outcome::Cancelled, None, None);
                }
            }
        }
    }

    /// Waits for an answer, takes in all there are, and shows time passing.
    fn wait(&mut self) {
        let first = select! {
            recv(self.answers.messages) -> message => message.ok(),
            recv(self.answers.pieces) -> piece => {
                if let Ok((id, bytes)) = piece {
                    self.tell_output(id, bytes);
                }
                None
            }
            default(TICK) => None,
        };
        let rest = self.answers.messages.clone();
        for message in first.into_iter().chain(rest.try_iter()) {
            self.hear(message);
        }
        self.telling.tick();
    }

    fn prepare<'s>(&mut self, id: TargetId, pool: &rayon::Scope<'s>)
    where
        'a: 's,
    {
        let needs = self.graph().needs(id).iter();
        let needs: Vec<Need> = needs
            .filter_map(|need| self.made[need.index()].clone())
            .collect();
        let last = self.memory.success(self.name(id)).cloned();
        let (step, sender) = (self.step, self.answers.sender.clone());
        pool.spawn(move |_| {
            let mut warnings = Vec::new();
            let prepared = guarded(|| step.prepare(id, &needs, last.as_ref(), &mut warnings));
            // The loop ends only after all answers are in.
            let _ = sender.send(Message::Prepared(id, prepared, warnings));
        });
    }

    /// Hands a target to a slot.
    fn start(&mut self, id: TargetId) {
        let Some(miss) = self.misses[id.index()].take() else {
            unreachable!("bug: a target runs that was not prepared");
        };
        self.tell_started(id, miss.reason.clone(), 1);
        self.started[id.index()] = Some((miss.reason.clone(), Instant::now()));
        let stream = self.options.stream || self.plan.is_alone();
        // The slots end only after the loop.
        let _ = self.jobs.send(Job { miss, stream });
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Prepared(id, prepared, warnings) => {
                for warning in warnings {
                    self.warn(Some(id), warning);
                }
                match prepared {
                    Ok(prepared) => self.hear_prepared(id, prepared),
                    Err(failure) => self.fail(id, failure, None),
                }
            }
            Message::Retried(id, attempt, failure, spool) => {
                self.tell_spool(id, &spool);
                self.warn(Some(id), Warning::retried(attempt, &failure));
                if let Some((reason, _)) = self.started[id.index()].clone() {
                    self.tell_started(id, reason, attempt + 1);
                }
            }
            Message::Made(id, made, spool) => {
                self.tell_spool(id, &spool);
                self.hear_made(id, made);
            }
            Message::Warned(id, warning) => self.warn(Some(id), warning),
        }
    }

    fn hear_prepared(&mut self, id: TargetId, prepared: Prepared) {
        let is_dry = self.options.policy.dry_run;
        match prepared {
            Prepared::UpToDate(success) => {
                if !is_dry {
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

    fn hear_made(&mut self, id: TargetId, made: Made) {
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

    fn fail(&mut self, id: TargetId, failure: Failure, reason: Option<Reason>) {
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

    fn settle(
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
        let finished = What::TargetFinished {
            target: self.name(id).to_owned(),
            number: self.tally.settle(id, &outcome, duration_ms),
            outcome,
            reason,
            key: success.map(|success| success.key.0.hex()),
            duration_ms,
        };
        self.telling.tell(finished);
    }

    /// Ends the run once what was made is recorded.
    fn end(self, recorder: impl FnOnce() -> std::thread::Result<Vec<Warning>>) -> Summary {
        let Self {
            mut tally,
            mut telling,
            jobs,
            settled,
            step,
            ..
        } = self;
        drop((jobs, settled));
        let recorded = recorder().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let noticed = (step.parts.notices)();
        for warning in recorded
            .into_iter()
            .chain(noticed.into_iter().map(Warning::from))
        {
            tally.warn();
            telling.tell(warning.into_event(None));
        }
        let interrupted = step.parts.cancel.is_raised();
        let summary = tally.finish(telling.elapsed(), interrupted);
        telling.tell(What::RunFinished(summary.clone()));
        summary
    }

    pub(super) fn graph(&self) -> &'a Graph {
        self.step.parts.graph
    }

    pub(super) fn name(&self, id: TargetId) -> &'a str {
        self.step.parts.graph.name(id)
    }
}
