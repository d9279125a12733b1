//! The loop: whatever may be prepared is prepared, whatever may run runs, and everything
//! that answers moves the plan on, until every target is settled. The first failure stops
//! new work unless the run keeps going; what runs already is let finish.

use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};

use super::emitter::Emitter;
use super::make::Miss;
use super::plan::Plan;
use super::recorder::{self, Settled};
use super::slot::{Answer, Job, Message, Question, Slot};
use super::step::{Need, Step};
use super::tally::Tally;
use super::{Options, Parts, tools, warnings};
use crate::event::{EventKind, FORMAT, Outcome, Reason, Sink, Summary, Warning};
use crate::graph::{Graph, TargetId};
use crate::journal::Memory;

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
    sink: &mut dyn Sink,
) -> Summary {
    let start = Instant::now();
    let step = Step {
        parts,
        versions: &tools::versions(parts, wanted, memory, options.policy.probing()),
        policy: options.policy,
    };
    let (settled, to_record) = unbounded();
    let (answers, slot, jobs) = channels(&step);
    let metadata = parts.layout.metadata();
    let record = || recorder::record_all(&to_record, parts.store, &metadata);
    std::thread::scope(|threads| {
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
            emitter: Emitter { sink, start },
            made: vec![None; parts.graph.len()],
            misses: std::iter::repeat_with(|| None)
                .take(parts.graph.len())
                .collect(),
            started: vec![None; parts.graph.len()],
            is_same: same_at_first(parts.graph, wanted),
            first_failed: None,
            many: Vec::new(),
            answers,
            jobs,
            settled,
        };
        drive.begin(names, wanted);
        let (mut slots, mut recorder) = (0, None);
        let mut need_slots = |running| {
            recorder.get_or_insert_with(|| {
                threads.spawn(|| parts.executor.get_ready());
                threads.spawn(record)
            });
            while slots < running {
                slots += 1;
                let slot = slot.clone();
                threads.spawn(move || slot.serve());
            }
        };
        // Where little is to be prepared, a pool of threads costs more than it does.
        if drive.turn(None, &mut need_slots) == Turn::NeedsPool {
            rayon::in_place_scope(|pool| drive.turn(Some(pool), &mut need_slots));
        }
        drop(slot);
        drive.end(recorder, record)
    })
}

/// Makes the ways between the loop and a slot.
fn channels<'a>(step: &'a Step<'a>) -> (Answers, Slot<'a>, Sender<Job>) {
    let (messages, pieces, jobs) = (unbounded(), bounded(MOST_PIECES), unbounded());
    let slot = Slot {
        step,
        jobs: jobs.1,
        messages: messages.0.clone(),
        pieces: pieces.0,
    };
    let answers = Answers {
        messages: messages.1,
        pieces: pieces.1,
        sender: messages.0,
    };
    (answers, slot, jobs.0)
}

/// Returns how long a target is expected to take, in milliseconds.
fn cost(graph: &Graph, memory: &Memory, id: TargetId) -> u64 {
    let last = memory.success(graph.name(id));
    last.map_or(UNKNOWN_COST, |last| last.result.duration_ms)
}

/// Returns for each target whether nothing can have changed of it: it takes no part.
fn same_at_first(graph: &Graph, wanted: &[TargetId]) -> Vec<bool> {
    let mut is_same = vec![true; graph.len()];
    for id in wanted {
        is_same[id.index()] = false;
    }
    is_same
}

/// Everything that the loop's thread owns.
pub(super) struct Drive<'a> {
    pub(super) step: &'a Step<'a>,
    pub(super) options: Options,
    pub(super) plan: Plan<'a>,
    pub(super) tally: Tally<'a>,
    pub(super) memory: &'a mut Memory,
    pub(super) emitter: Emitter<'a>,
    /// What each settled target made.
    pub(super) made: Vec<Option<Need>>,
    /// Targets that wait for a slot.
    pub(super) misses: Vec<Option<Box<Miss>>>,
    /// Why each target that has a slot runs, and since when.
    pub(super) started: Vec<Option<(Reason, Instant)>>,
    /// Whether each settled target was up to date, what it made is what it made before, and
    /// the same goes for all that came before it.
    pub(super) is_same: Vec<bool>,
    pub(super) first_failed: Option<TargetId>,
    /// What waits to be prepared by a pool, while there is none.
    pub(super) many: Vec<Question>,
    pub(super) answers: Answers,
    jobs: Sender<Job>,
    pub(super) settled: Sender<Settled>,
}

/// Why the loop ended.
#[derive(PartialEq, Eq)]
enum Turn {
    /// Every target is settled.
    Done,
    /// So much is to be prepared that it wants a pool of threads.
    NeedsPool,
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
        let started = EventKind::RunStarted {
            format: FORMAT,
            fbuild: env!("CARGO_PKG_VERSION").to_owned(),
            wanted: names.to_vec(),
            targets: wanted.len(),
            jobs: self.options.jobs,
            expected_ms: wanted.iter().any(known).then_some(bound),
        };
        self.emitter.emit(started);
    }

    /// Turns until every target is settled, or there is no pool and one is needed.
    /// `need_slots` sees to it that there are as many slots as targets run.
    fn turn<'s>(
        &mut self,
        pool: Option<&rayon::Scope<'s>>,
        need_slots: &mut dyn FnMut(usize),
    ) -> Turn
    where
        'a: 's,
    {
        loop {
            self.prepare_all(pool);
            if !self.many.is_empty() {
                return Turn::NeedsPool;
            }
            while let Some(id) = self.plan.next_to_run() {
                need_slots(self.plan.running());
                self.start(id);
            }
            if self.plan.is_finished() {
                return Turn::Done;
            }
            if self.plan.has_ready() {
                continue;
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
        self.emitter.tick();
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
            Message::Prepared(answers) => {
                for answer in answers {
                    self.hear_answer(answer);
                }
            }
            Message::Retried(id, attempt, failure, spool, _heard) => {
                self.tell_spool(id, &spool);
                self.warn(Some(id), warnings::retried(attempt, &failure));
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

    pub(super) fn hear_answer(&mut self, answer: Answer) {
        let Answer {
            id,
            prepared,
            warnings,
        } = answer;
        for warning in warnings {
            self.warn(Some(id), warning);
        }
        match prepared {
            Ok(prepared) => self.hear_prepared(id, prepared),
            Err(failure) => self.fail(id, failure, None),
        }
    }

    /// Ends the run once what was made is recorded. Where nothing ran there is no recorder,
    /// and what is left to be recorded is so little that it is done here.
    fn end(
        self,
        recorder: Option<ScopedJoinHandle<'_, Vec<Warning>>>,
        record: impl FnOnce() -> Vec<Warning>,
    ) -> Summary {
        let Self {
            mut tally,
            mut emitter,
            jobs,
            settled,
            step,
            memory,
            ..
        } = self;
        drop((jobs, settled));
        let recorded = recorder.map_or_else(record, |recorder| {
            (step.parts.meanwhile)(memory);
            let warnings = recorder.join();
            warnings.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let noticed = (step.parts.notices)();
        for warning in recorded.into_iter().chain(noticed) {
            tally.warn();
            emitter.emit(EventKind::Warning(warning));
        }
        let interrupted = step.parts.cancel.is_raised();
        let summary = tally.finish(emitter.elapsed(), interrupted);
        emitter.emit(EventKind::RunFinished(summary.clone()));
        summary
    }

    pub(super) fn graph(&self) -> &'a Graph {
        self.step.parts.graph
    }

    pub(super) fn name(&self, id: TargetId) -> &'a str {
        self.step.parts.graph.name(id)
    }
}
