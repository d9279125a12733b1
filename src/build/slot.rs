//! The threads that run commands, one target's after another's, and what they and the
//! processors' threads answer to the loop. They decide nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::failure;
use super::make::{Listener, Made, Miss};
use super::spool::Spool;
use super::step::{Need, Prepared, Step};
use crate::event::{Failure, Warning};
use crate::graph::TargetId;
use crate::journal::Success;

/// How long answers are kept back to be sent together.
const PATIENCE: Duration = Duration::from_millis(1);

/// What the other threads answer.
pub(super) enum Message {
    /// Keys were found out.
    Prepared(Vec<Answer>),
    /// An attempt failed and another follows, once this was heard and the last is dropped:
    /// else what that one prints could be told first.
    Retried(TargetId, u32, Failure, Spool, Sender<()>),
    /// Commands ended.
    Made(TargetId, Made, Spool),
    /// Something went wrong that fails nothing.
    Warned(TargetId, Warning),
}

/// What came of preparing a target.
pub(super) struct Answer {
    pub(super) id: TargetId,
    pub(super) prepared: Result<Prepared, Failure>,
    pub(super) warnings: Vec<Warning>,
}

/// A target that is to be prepared.
pub(super) struct Question {
    pub(super) id: TargetId,
    /// What it needs, as far as that is known.
    pub(super) needs: Vec<Need>,
    /// Its last success.
    pub(super) last: Option<Arc<Success>>,
}

impl Question {
    /// Prepares the target.
    pub(super) fn answer(&self, step: &Step<'_>) -> Answer {
        let mut warnings = Vec::new();
        let prepare = || step.prepare(self.id, &self.needs, self.last.as_ref(), &mut warnings);
        let prepared = guarded(prepare);
        Answer {
            id: self.id,
            prepared,
            warnings,
        }
    }
}

/// Prepares targets one after another. Answers that have waited for a while are sent
/// before all are there, so that commands need not wait for a slow one.
pub(super) fn answer_all(questions: &[Question], step: &Step<'_>, sender: &Sender<Message>) {
    let mut answers = Vec::with_capacity(questions.len());
    let mut since = Instant::now();
    for question in questions {
        answers.push(question.answer(step));
        if since.elapsed() > PATIENCE {
            // The loop ends only after all answers are in.
            let _ = sender.send(Message::Prepared(std::mem::take(&mut answers)));
            since = Instant::now();
        }
    }
    let _ = sender.send(Message::Prepared(answers));
}

/// A target's commands for a slot, and whether what they print is told at once.
pub(super) struct Job {
    pub(super) miss: Box<Miss>,
    pub(super) stream: bool,
}

/// A thread that runs one target's commands after another's.
#[derive(Clone)]
pub(super) struct Slot<'a> {
    pub(super) step: &'a Step<'a>,
    pub(super) jobs: Receiver<Job>,
    pub(super) messages: Sender<Message>,
    pub(super) pieces: Sender<(TargetId, Vec<u8>)>,
}

impl Slot<'_> {
    /// Runs what it is given until nobody gives it any more.
    pub(super) fn serve(self) {
        while let Ok(Job { miss, stream }) = self.jobs.recv() {
            let id = miss.id;
            let mut listener = ToLoop {
                slot: &self,
                id,
                stream,
            };
            let made = guarded(|| Ok(self.step.make(&miss, &mut listener)));
            let (made, mut spool) =
                made.unwrap_or_else(|failure| (Made::Failed(Box::new(failure)), Spool::default()));
            spool.mark_streamed(stream);
            // The loop ends only after all answers are in.
            let _ = self.messages.send(Message::Made(id, made, spool));
        }
    }
}

/// Passes on what happens in a slot.
struct ToLoop<'a> {
    slot: &'a Slot<'a>,
    id: TargetId,
    stream: bool,
}

impl Listener for ToLoop<'_> {
    fn printed(&mut self, bytes: &[u8]) {
        if self.stream {
            let _ = self.slot.pieces.send((self.id, bytes.to_vec()));
        }
    }

    fn retried(&mut self, attempt: u32, failure: Failure, mut spool: Spool) {
        spool.mark_streamed(self.stream);
        let (heard, until_heard) = bounded(0);
        let retried = Message::Retried(self.id, attempt, failure, spool, heard);
        let _ = self.slot.messages.send(retried);
        let _ = until_heard.recv();
    }

    fn warned(&mut self, warning: Warning) {
        let _ = self.slot.messages.send(Message::Warned(self.id, warning));
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
