//! The threads that work for the loop, and the messages that they answer with.

use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::failure;
use super::recorder::{NewSuccess, Recorder};
use super::remote::{Lookups, Uploading, Uploads};
use super::runner::{Attempt, Listener, Miss, Runner};
use super::spool::Spool;
use super::step::{Preparation, Prepare, Step};
use crate::event::{Failure, Finding, Warning};
use crate::graph::TargetId;

/// How long results of preparing are held back, to be sent together.
const PATIENCE: Duration = Duration::from_millis(1);
/// The most pieces of streamed output that wait for the loop: a command that prints faster
/// than its output is shown must wait itself.
const MOST_PIECES: usize = 64;

/// An answer to the loop.
pub(super) enum Message {
    /// Targets were prepared.
    Prepared(Vec<Preparation>),
    /// An attempt failed. The next one starts when this message is dropped: its output must
    /// not overtake the output of the failed one.
    Retried {
        id: TargetId,
        attempt: u32,
        failure: Failure,
        spool: Spool,
        _dropped: Sender<()>,
    },
    /// Commands ended.
    Ended(TargetId, Attempt, Spool),
    /// A problem that fails nothing.
    Warned(TargetId, Warning),
    /// Undeclared accesses that fail nothing.
    Found(Vec<Finding>),
}

/// The loop's ends of the channels.
pub(super) struct Channels {
    /// Answers from all threads.
    pub(super) messages: Receiver<Message>,
    /// Output that is streamed.
    pub(super) pieces: Receiver<(TargetId, Vec<u8>)>,
    /// The other end of `messages`, to be cloned.
    pub(super) answers: Sender<Message>,
    /// Commands for the slots.
    pub(super) jobs: Sender<Job>,
    /// Successes for the recorder.
    pub(super) successes: Sender<NewSuccess>,
}

/// Creates the channels between the loop, the slots and the recorder.
pub(super) fn channels<'a>(step: &'a Step<'a>) -> (Channels, Slot<'a>, Recorder<'a>) {
    let (answers, messages) = unbounded();
    let (piece_sender, pieces) = bounded(MOST_PIECES);
    let (jobs, job_receiver) = unbounded();
    let (successes, success_receiver) = unbounded();
    let slot = Slot {
        step,
        jobs: job_receiver,
        messages: answers.clone(),
        pieces: piece_sender,
    };
    let channels = Channels {
        messages,
        pieces,
        answers,
        jobs,
        successes,
    };
    (channels, slot, Recorder::new(step.parts, success_receiver))
}

/// Prepares targets one after another, in a worker of the pool.
pub(super) fn prepare_all(all: &[Prepare], step: &Step<'_>, answers: &Sender<Message>) {
    let mut prepared = Vec::with_capacity(all.len());
    let mut since = Instant::now();
    for prepare in all {
        prepared.push(prepare.run(step));
        // Commands need not wait for a slow target behind them.
        if since.elapsed() > PATIENCE {
            // The loop receives until all answers are in.
            let _ = answers.send(Message::Prepared(std::mem::take(&mut prepared)));
            since = Instant::now();
        }
    }
    let _ = answers.send(Message::Prepared(prepared));
}

/// The threads of a run, each started when the loop first needs it.
pub(super) struct Workers<'scope, 'env> {
    threads: &'scope Scope<'scope, 'env>,
    slot: Slot<'env>,
    slots: usize,
    recorder: Recording<'scope, 'env>,
    lookups: Lookups<'scope, 'env>,
    uploads: Option<Uploading<'scope>>,
}

enum Recording<'scope, 'env> {
    Waiting(Recorder<'env>),
    Started(ScopedJoinHandle<'scope, Vec<Warning>>),
}

impl<'scope, 'env> Workers<'scope, 'env> {
    /// Returns the workers of a run; no thread is started yet.
    pub(super) fn new(
        threads: &'scope Scope<'scope, 'env>,
        slot: Slot<'env>,
        mut recorder: Recorder<'env>,
    ) -> Self {
        let uploads = Uploads::new(slot.step.parts).map(|(uploads, sender)| {
            recorder.send_new_to(sender);
            uploads.start(threads)
        });
        Self {
            threads,
            lookups: Lookups::new(threads, slot.step, slot.messages.clone()),
            slot,
            slots: 0,
            recorder: Recording::Waiting(recorder),
            uploads,
        }
    }

    /// Starts slots until there are as many as targets that run, and with the first one the
    /// recorder.
    pub(super) fn start_slots(&mut self, running: usize) {
        if self.slots == 0 {
            let executor = self.slot.step.parts.executor;
            self.threads.spawn(|| executor.get_ready());
        }
        if let Recording::Waiting(recorder) = &self.recorder {
            let recorder = recorder.clone();
            let record = || recorder.record_all();
            self.recorder = Recording::Started(self.threads.spawn(record));
        }
        while self.slots < running {
            self.slots += 1;
            let slot = self.slot.clone();
            self.threads.spawn(move || slot.serve());
        }
    }

    /// Looks the result of a miss up in the shared cache; `waiting` look-ups are under way.
    pub(super) fn look_up(&mut self, miss: Box<Miss>, waiting: usize) {
        self.lookups.start(miss, waiting);
    }

    /// Waits until all successes are recorded and sent; returns the warnings about that.
    pub(super) fn finish(self) -> Vec<Warning> {
        // Its threads end when nothing can be sent to them any more.
        drop(self.lookups);
        let mut warnings = match self.recorder {
            // No command ran, so there is too little to record for a thread.
            Recording::Waiting(recorder) => recorder.record_all(),
            Recording::Started(recorder) => {
                let warnings = recorder.join();
                warnings.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
        };
        warnings.extend(self.uploads.and_then(Uploading::finish));
        warnings
    }
}

/// Commands for a slot.
pub(super) struct Job {
    pub(super) miss: Box<Miss>,
    /// Whether output is passed on while it is printed.
    pub(super) stream: bool,
}

/// A thread that runs the commands of one target after another.
#[derive(Clone)]
pub(super) struct Slot<'a> {
    step: &'a Step<'a>,
    jobs: Receiver<Job>,
    messages: Sender<Message>,
    pieces: Sender<(TargetId, Vec<u8>)>,
}

impl Slot<'_> {
    /// Runs jobs until there are no more senders.
    fn serve(self) {
        while let Ok(Job { miss, stream }) = self.jobs.recv() {
            let id = miss.id;
            let mut listener = ToLoop {
                slot: &self,
                id,
                stream,
            };
            let mut runner = Runner::new(self.step, &miss, &mut listener);
            let ended = guarded(|| Ok(runner.run()));
            let failed = |failure| (Attempt::Failed(Box::new(failure)), Spool::default());
            let (attempt, mut spool) = ended.unwrap_or_else(failed);
            spool.mark_streamed(stream);
            // The loop receives until all answers are in.
            let _ = self.messages.send(Message::Ended(id, attempt, spool));
        }
    }
}

/// Passes on to the loop what happens in a slot.
struct ToLoop<'a> {
    slot: &'a Slot<'a>,
    id: TargetId,
    stream: bool,
}

impl Listener for ToLoop<'_> {
    fn on_output(&mut self, bytes: &[u8]) {
        if self.stream {
            let _ = self.slot.pieces.send((self.id, bytes.to_vec()));
        }
    }

    fn on_retry(&mut self, attempt: u32, failure: Failure, mut spool: Spool) {
        spool.mark_streamed(self.stream);
        let (dropped, until_dropped) = bounded(0);
        let _ = self.slot.messages.send(Message::Retried {
            id: self.id,
            attempt,
            failure,
            spool,
            _dropped: dropped,
        });
        // Fails as soon as the sender is dropped with the message.
        let _ = until_dropped.recv();
    }

    fn on_warning(&mut self, warning: Warning) {
        let _ = self.slot.messages.send(Message::Warned(self.id, warning));
    }

    fn on_findings(&mut self, findings: Vec<Finding>) {
        let _ = self.slot.messages.send(Message::Found(findings));
    }
}

/// Runs `work`; a panic in it, which is a bug, fails one target and not the whole build.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    caught.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(failure::of_bug(text.unwrap_or("no message")))
    })
}
