//! One run: the loop, and the transitions of a target.
//!
//! The loop repeats three steps until every target is finished:
//!
//! 1. Prepare the targets that are ready, which means that everything they need succeeded.
//! 2. Start the prepared targets whose commands must run and may: there is a free job, and
//!    their locks are free.
//! 3. Wait for an answer from another thread. Each answer is a transition of one target
//!    (`on_prepared`, `on_ended`, `on_failed`, …) and may make other targets ready.
//!
//! The first failure stops new work unless the run keeps going; commands that are running
//! may finish. [`Plan`] knows which targets are ready and which may run.

mod early;
mod events;
mod finish;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::select;

use super::emitter::Emitter;
use super::locked::Locked;
use super::plan::Plan;
use super::recorder::{NewSuccess, Origin};
use super::runner::{Attempt, Miss, millis};
use super::slot::{self, Channels, Job, Message, Workers};
use super::step::{self, Need, Preparation, Prepare, Prepared, Step};
use super::tally::Tally;
use super::{Finished, Options, Parts, Request, failure, tools, warnings};
use crate::action::ActionKey;
use crate::event::{EventKind, Failure, Outcome, Reason, Sink, Warning};
use crate::graph::{Graph, TargetId};
use crate::journal::{Memory, Success};

/// How long to wait for an answer before time is shown passing and `cancel` is checked.
const TICK: Duration = Duration::from_millis(100);
/// The expected duration of a target that never ran, in milliseconds.
const UNKNOWN_COST: u64 = 1000;
/// The most targets that the loop prepares itself while nothing else goes on.
const FEW: usize = 2;
/// The number of portions into which targets to prepare are split, for each processor.
const PORTIONS: usize = 4;

/// Brings the wanted targets up to date.
pub fn run(
    parts: &Parts<'_>,
    mut request: Request<'_>,
    memory: &mut Memory,
    sink: &mut dyn Sink,
) -> Finished {
    let emitter = Emitter::new(sink, Instant::now());
    let early_warnings = std::mem::take(&mut request.warnings);
    let (snapshot, probing) = (request.snapshot, request.options.policy.probing());
    let mut versions = tools::versions(parts, request.wanted, memory, snapshot, probing);
    let mut locked = Locked::read(parts);
    let wanted = locked
        .as_mut()
        .map(|locked| locked.settle(&request, memory, &mut versions));
    let request = Request {
        wanted: wanted.as_deref().unwrap_or(request.wanted),
        ..request
    };
    let step = Step {
        parts,
        versions: &versions,
        policy: request.options.policy,
        arguments: request.arguments,
    };
    let (channels, slot, recorder) = slot::channels(&step);
    std::thread::scope(|threads| {
        let mut workers = Workers::new(threads, slot, recorder);
        let mut run = Run::new(&step, &request, memory, emitter, channels);
        run.locked = locked;
        run.emit_started();
        run.fail_without_tools();
        // Most runs prepare so little that starting a pool would take longer.
        if run.advance(&mut workers, None) == Pause::NeedsPool {
            rayon::in_place_scope(|pool| run.advance(&mut workers, Some(pool)));
        }
        run.finish(workers, early_warnings)
    })
}

/// Everything that the loop's thread owns.
struct Run<'a> {
    step: &'a Step<'a>,
    request: &'a Request<'a>,
    plan: Plan<'a>,
    tally: Tally<'a>,
    memory: &'a mut Memory,
    emitter: Emitter<'a>,
    channels: Channels,
    targets: Vec<Target>,
    /// Targets to prepare for which a pool must be started first.
    postponed: Vec<Prepare>,
    /// Misses to look up in the shared cache.
    #[expect(clippy::vec_box, reason = "they arrive boxed and are passed on boxed")]
    to_look_up: Vec<Box<Miss>>,
    first_failed: Option<TargetId>,
    /// The committed outputs, if there are any.
    locked: Option<Locked<'a>>,
}

/// The progress of one target, as far as it is not in the plan.
#[derive(Default)]
struct Target {
    /// Its commands, while they wait for a slot.
    miss: Option<Box<Miss>>,
    /// The commands that run.
    started: Option<Started>,
    /// Its result, once it succeeded.
    made: Option<Need>,
    /// Whether it was up to date, its result is the one of the last run, and the same holds
    /// for all targets before it.
    is_unchanged: bool,
}

/// Commands that run.
struct Started {
    /// The reason why they run.
    reason: Reason,
    key: ActionKey,
    since: Instant,
}

/// The reason why [`Run::advance`] returns.
#[derive(PartialEq, Eq)]
enum Pause {
    /// Every target is finished.
    Finished,
    /// There is so much to prepare that a pool of threads must be started.
    NeedsPool,
}

impl<'a> Run<'a> {
    fn new(
        step: &'a Step<'a>,
        request: &'a Request<'a>,
        memory: &'a mut Memory,
        emitter: Emitter<'a>,
        channels: Channels,
    ) -> Self {
        let graph = step.parts.graph();
        let mut targets: Vec<Target> = graph.ids().map(|_| Target::default()).collect();
        // A target that takes no part does not change.
        let mut others: Vec<bool> = vec![true; graph.len()];
        for id in request.wanted {
            others[id.index()] = false;
        }
        for (target, is_other) in targets.iter_mut().zip(others) {
            target.is_unchanged = is_other;
        }
        let cost = |id| cost(graph, memory, id);
        let mut plan = Plan::new(graph, request.wanted, cost, request.options.jobs);
        if !request.first.is_empty() {
            plan.prefer(request.first);
        }
        Self {
            plan,
            tally: Tally::new(graph, request.wanted.len(), request.options.jobs),
            step,
            request,
            memory,
            emitter,
            channels,
            targets,
            postponed: Vec::new(),
            to_look_up: Vec::new(),
            first_failed: None,
            locked: None,
        }
    }

    /// Advances the run until every target is finished, or until a pool is needed.
    fn advance<'s>(
        &mut self,
        workers: &mut Workers<'_, 'a>,
        pool: Option<&rayon::Scope<'s>>,
    ) -> Pause
    where
        'a: 's,
    {
        loop {
            self.prepare_ready(pool);
            if !self.postponed.is_empty() {
                return Pause::NeedsPool;
            }
            for miss in std::mem::take(&mut self.to_look_up) {
                workers.look_up(miss, self.plan.preparing());
            }
            while let Some(id) = self.plan.next_to_run() {
                workers.start_slots(self.plan.running());
                self.start_commands(id);
            }
            if self.plan.is_finished() {
                return Pause::Finished;
            }
            // A target that was up to date has made others ready: there is nothing to wait for.
            if self.plan.has_ready() {
                continue;
            }
            assert!(self.plan.is_busy(), "bug: targets wait and nothing is done");
            self.wait_for_answers();
            if self.step.parts.cancel.is_raised() {
                for id in self.plan.close() {
                    self.finish_target(id, Outcome::Cancelled, None, None);
                }
            }
        }
    }

    /// Prepares the targets that are ready: on this thread if they are few, otherwise in the
    /// pool. Postpones them if there is none.
    fn prepare_ready<'s>(&mut self, pool: Option<&rayon::Scope<'s>>)
    where
        'a: 's,
    {
        let mut ready = std::mem::take(&mut self.postponed);
        while let Some(id) = self.plan.next_to_prepare() {
            if let Some(success) = self.settled(id) {
                self.on_settled(id, success);
            } else if let Some(success) = self.unchanged_success(id) {
                self.on_up_to_date(id, success);
            } else {
                ready.push(self.prepare(id));
            }
        }
        // While this thread prepares, it emits nothing: that is fine if nothing else happens.
        let is_idle = self.plan.running() == 0 && self.plan.preparing() == ready.len();
        if is_idle && ready.len() <= FEW {
            for prepare in ready {
                let prepared = prepare.run(self.step);
                self.on_prepared(prepared);
            }
        } else if let Some(pool) = pool {
            self.prepare_in_pool(pool, ready);
        } else {
            self.postponed = ready;
        }
    }

    /// Splits the work into as few portions as keep all processors busy: waking a thread for
    /// each target takes longer than most of them.
    fn prepare_in_pool<'s>(&self, pool: &rayon::Scope<'s>, mut ready: Vec<Prepare>)
    where
        'a: 's,
    {
        let portions = PORTIONS * rayon::current_num_threads();
        let size = ready.len().div_ceil(portions);
        while !ready.is_empty() {
            let rest = ready.split_off(size.min(ready.len()));
            let portion = std::mem::replace(&mut ready, rest);
            let (step, answers) = (self.step, self.channels.answers.clone());
            pool.spawn(move |_| slot::prepare_all(&portion, step, &answers));
        }
    }

    /// Collects what is needed to prepare a target.
    fn prepare(&self, id: TargetId) -> Prepare {
        let needs = step::needs(self.graph(), id).into_iter();
        Prepare {
            id,
            needs: needs
                .filter_map(|need| self.targets[need.index()].made.clone())
                .collect(),
            last: self.memory.success(self.name(id)).cloned(),
        }
    }

    /// Returns a target's last success if it is up to date according to the snapshot, and no
    /// target before it changed anything in this run.
    fn unchanged_success(&self, id: TargetId) -> Option<Arc<Success>> {
        let snapshot = self.request.snapshot?;
        let target = self.graph().target(id);
        let last = self.memory.success(self.name(id))?;
        let mut needs = self.graph().needs(id).iter();
        let is_unchanged = target.cache
            && self.is_unchanged_before(id)
            && !snapshot.concerns(target)
            && !needs.any(|need| snapshot.concerns_outputs(self.graph().target(*need)));
        is_unchanged.then(|| last.clone())
    }

    /// Returns true if this run changed nothing that a target may read: the outputs of the
    /// targets before it, directly or not.
    fn is_unchanged_before(&self, id: TargetId) -> bool {
        let graph = self.graph();
        let mut before = graph.needs(id).iter().chain(graph.after(id));
        before.all(|id| self.targets[id.index()].is_unchanged)
    }

    /// Hands the commands of a target to a slot.
    fn start_commands(&mut self, id: TargetId) {
        let Some(miss) = self.targets[id.index()].miss.take() else {
            unreachable!("bug: a target runs that was not prepared");
        };
        self.emit_target_started(id, miss.reason.clone(), 1);
        self.targets[id.index()].started = Some(Started {
            reason: miss.reason.clone(),
            key: miss.draft.key,
            since: Instant::now(),
        });
        let stream = self.request.options.stream || self.plan.is_alone();
        // Slots receive as long as the loop runs.
        let _ = self.channels.jobs.send(Job { miss, stream });
    }

    /// Waits for the next answer, then takes all there are.
    fn wait_for_answers(&mut self) {
        let first = select! {
            recv(self.channels.messages) -> message => message.ok(),
            recv(self.channels.pieces) -> piece => {
                if let Ok((id, bytes)) = piece {
                    self.emitter.output(self.step.parts.graph().name(id), bytes);
                }
                None
            }
            default(TICK) => None,
        };
        let rest = self.channels.messages.clone();
        for message in first.into_iter().chain(rest.try_iter()) {
            self.on_message(message);
        }
        self.emitter.tick();
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Prepared(all) => {
                for preparation in all {
                    self.on_prepared(preparation);
                }
            }
            Message::Retried {
                id,
                attempt,
                failure,
                spool,
                ..
            } => {
                self.emit_output(id, &spool);
                self.warn(id, warnings::retried(attempt, &failure));
                if let Some(started) = &self.targets[id.index()].started {
                    self.emit_target_started(id, started.reason.clone(), attempt + 1);
                }
            }
            Message::Ended(id, attempt, spool) => {
                self.emit_output(id, &spool);
                self.on_ended(id, attempt);
            }
            Message::Warned(id, warning) => self.warn(id, warning),
            Message::Found(findings) => {
                for finding in findings {
                    self.tally.warn();
                    self.emitter.emit(EventKind::Finding(finding));
                }
            }
        }
    }

    fn on_prepared(&mut self, preparation: Preparation) {
        let Preparation {
            id,
            result,
            warnings,
        } = preparation;
        for warning in warnings {
            self.warn(id, warning);
        }
        match result {
            Ok(Prepared::UpToDate(success)) => self.on_up_to_date(id, success),
            Ok(Prepared::Restored(success, reason)) => self.on_restored(id, success, reason),
            Ok(Prepared::Fetched(success, reason)) => {
                self.emit_log(id, &success);
                self.remember(id, &success, Origin::Fetched);
                let made = Need::Made(id, success);
                self.on_success(id, made, Outcome::Fetched, Some(reason));
            }
            Ok(Prepared::WouldRestore(success, reason)) => {
                let made = Need::Restorable(id, success);
                self.on_success(id, made, Outcome::WouldRestore, Some(reason));
            }
            Ok(Prepared::WouldRun(reason)) => {
                self.on_success(id, Need::Unknown(id), Outcome::WouldRun, Some(reason));
            }
            Ok(Prepared::Miss(_)) if self.plan.is_closed() => self.on_too_late(id),
            Ok(Prepared::Miss(miss)) if self.step.may_be_shared(&miss) => {
                self.to_look_up.push(miss)
            }
            Ok(Prepared::Miss(miss)) => {
                self.targets[id.index()].miss = Some(miss);
                self.plan.queue(id);
            }
            Err(failure) => self.on_failed(id, failure, None),
        }
    }

    fn on_up_to_date(&mut self, id: TargetId, success: Arc<Success>) {
        if !self.request.options.policy.dry_run {
            let is_same = |last: &Arc<Success>| {
                Arc::ptr_eq(last, &success) || last.result.outputs == success.result.outputs
            };
            let is_same = self.memory.success(self.name(id)).is_some_and(is_same);
            self.targets[id.index()].is_unchanged = is_same && self.is_unchanged_before(id);
            self.remember(id, &success, Origin::Known);
        }
        self.on_success(id, Need::Made(id, success), Outcome::UpToDate, None);
    }

    fn on_restored(&mut self, id: TargetId, success: Arc<Success>, reason: Reason) {
        self.emit_log(id, &success);
        self.remember(id, &success, Origin::Known);
        self.on_success(id, Need::Made(id, success), Outcome::Restored, Some(reason));
    }

    /// Finishes a target that was prepared after the plan was closed: its commands do not
    /// start any more.
    fn on_too_late(&mut self, id: TargetId) {
        let outcome = match self.first_failed {
            Some(failed) if !self.step.parts.cancel.is_raised() => self.skipped(failed),
            _ => Outcome::Cancelled,
        };
        for id in std::iter::once(id).chain(self.plan.fail(id)) {
            self.finish_target(id, outcome.clone(), None, None);
        }
    }

    fn on_ended(&mut self, id: TargetId, attempt: Attempt) {
        let started = self.targets[id.index()].started.as_ref();
        let reason = started.map(|started| started.reason.clone());
        match attempt {
            Attempt::Built {
                success,
                is_sound,
                is_stored,
            } => {
                if is_sound {
                    let origin = if is_stored {
                        Origin::Built
                    } else {
                        Origin::Known
                    };
                    self.remember(id, &success, origin);
                } else if self.step.arguments_of(id).is_none() {
                    // The outputs in the tree belong to no known key.
                    self.memory.forget(self.step.parts.graph().name(id));
                }
                self.on_success(id, Need::Made(id, success), Outcome::Built, reason);
            }
            Attempt::Failed(failure) => {
                let is_of_command = failure::is_of_command(&failure);
                self.on_failed(id, *failure, reason);
                if is_of_command {
                    self.warn_of_hidden_variables(id);
                }
            }
            Attempt::Cancelled => {
                self.finish_target(id, Outcome::Cancelled, reason, None);
                for id in self.plan.fail(id) {
                    self.finish_target(id, Outcome::Cancelled, None, None);
                }
            }
        }
    }

    /// Finishes a target after which others may go on.
    fn on_success(&mut self, id: TargetId, made: Need, outcome: Outcome, reason: Option<Reason>) {
        let success = made.success().cloned();
        self.targets[id.index()].made = Some(made);
        self.plan.succeed(id);
        self.finish_target(id, outcome, reason, success.as_deref());
    }

    /// Finishes a target, those that wait for it, and all others unless the run keeps going.
    fn on_failed(&mut self, id: TargetId, failure: Failure, reason: Option<Reason>) {
        self.first_failed.get_or_insert(id);
        self.finish_target(id, Outcome::Failed { failure }, reason, None);
        let mut skipped = self.plan.fail(id);
        if !self.request.options.keep_going {
            skipped.extend(self.plan.close());
        }
        let outcome = self.skipped(id);
        for id in skipped {
            self.finish_target(id, outcome.clone(), None, None);
        }
    }

    fn skipped(&self, because: TargetId) -> Outcome {
        Outcome::Skipped {
            because: self.name(because).to_owned(),
        }
    }

    fn finish_target(
        &mut self,
        id: TargetId,
        outcome: Outcome,
        reason: Option<Reason>,
        success: Option<&Success>,
    ) {
        let started = self.targets[id.index()].started.take();
        let duration_ms = match (&outcome, success) {
            (Outcome::Built, Some(success)) => success.result.duration_ms,
            _ => started
                .as_ref()
                .map_or(0, |started| millis(started.since.elapsed())),
        };
        let key = success.map(|success| success.key);
        let key = key.or(started.map(|started| started.key));
        let number = self.tally.count(id, &outcome, duration_ms);
        self.emitter.emit(EventKind::TargetFinished {
            target: self.name(id).to_owned(),
            number,
            outcome,
            reason,
            key: key.map(|key| key.0.hex()),
            duration_ms,
        });
    }

    /// Remembers a success, and has it recorded unless it is the last one again.
    fn remember(&mut self, id: TargetId, success: &Arc<Success>, origin: Origin) {
        let name = self.step.parts.graph().name(id);
        // A run with arguments leaves the last success without any as it is.
        let is_last = self.step.arguments_of(id).is_none();
        let is_new = is_last && self.memory.succeed(name, success);
        if is_new || origin != Origin::Known {
            // The recorder receives as long as the loop runs.
            let _ = self.channels.successes.send(NewSuccess {
                target: is_last.then(|| name.to_owned()),
                success: success.clone(),
                origin,
            });
        }
    }

    fn warn(&mut self, id: TargetId, warning: Warning) {
        self.tally.warn();
        self.emitter.warning(warning.about(self.name(id)));
    }

    fn graph(&self) -> &'a Graph {
        self.step.parts.graph()
    }

    fn name(&self, id: TargetId) -> &'a str {
        self.graph().name(id)
    }
}

/// Returns how long a target is expected to take, in milliseconds.
fn cost(graph: &Graph, memory: &Memory, id: TargetId) -> u64 {
    let last = memory.success(graph.name(id));
    last.map_or(UNKNOWN_COST, |last| last.result.duration_ms)
}
