//! The threads that talk to a shared cache: some look results up, others send those that
//! were recorded. They wait for the network, so they are neither rayon workers nor slots.

use std::sync::Arc;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::Parts;
use super::runner::Miss;
use super::slot::{Message, guarded};
use super::step::{Preparation, Step};
use crate::event::Warning;
use crate::graph::TargetId;
use crate::journal::Success;
use crate::store::shared::{Deadline, SharedCache};

/// The most look-ups at a time: enough to hide the latency of a distant server.
const MOST_LOOKUPS: usize = 64;
/// How long uploads may go on after everything else has ended.
const UPLOADS_END: Duration = Duration::from_secs(10);

/// Looks up the results of misses, on threads that are started as they are needed.
pub(super) struct Lookups<'scope, 'env> {
    threads: &'scope Scope<'scope, 'env>,
    step: &'env Step<'env>,
    answers: Sender<Message>,
    jobs: (Sender<Box<Miss>>, Receiver<Box<Miss>>),
    started: usize,
}

impl<'scope, 'env> Lookups<'scope, 'env> {
    /// Returns the look-ups of a run; no thread is started yet.
    pub(super) fn new(
        threads: &'scope Scope<'scope, 'env>,
        step: &'env Step<'env>,
        answers: Sender<Message>,
    ) -> Self {
        Self {
            threads,
            step,
            answers,
            jobs: unbounded(),
            started: 0,
        }
    }

    /// Looks the result of a miss up. The answer is a prepared target. `waiting` is the
    /// number of look-ups under way, this one included.
    pub(super) fn start(&mut self, miss: Box<Miss>, waiting: usize) {
        if self.started < waiting.min(MOST_LOOKUPS) {
            self.started += 1;
            let (step, jobs, answers) = (self.step, self.jobs.1.clone(), self.answers.clone());
            self.threads.spawn(move || serve(step, &jobs, &answers));
        }
        // This end of the channel receives as long as the run lasts.
        let _ = self.jobs.0.send(miss);
    }
}

/// Answers look-ups until there are no more senders.
fn serve(step: &Step<'_>, jobs: &Receiver<Box<Miss>>, answers: &Sender<Message>) {
    while let Ok(miss) = jobs.recv() {
        let id: TargetId = miss.id;
        let mut warnings = Vec::new();
        let result = guarded(|| step.fetch(miss, &mut warnings));
        let preparation = Preparation {
            id,
            result,
            warnings,
        };
        // The loop receives until all answers are in.
        let _ = answers.send(Message::Prepared(vec![preparation]));
    }
}

/// Sends recorded results to a shared cache.
#[derive(Clone)]
pub(super) struct Uploads<'a> {
    parts: &'a Parts<'a>,
    cache: &'a dyn SharedCache,
    jobs: Receiver<Arc<Success>>,
    deadline: Arc<Deadline>,
}

/// The running threads of [`Uploads`].
pub(super) struct Uploading<'scope> {
    threads: Vec<ScopedJoinHandle<'scope, Unsent>>,
    deadline: Arc<Deadline>,
}

/// The results that could not be sent, and the first error.
#[derive(Default)]
struct Unsent {
    results: usize,
    error: Option<String>,
}

impl<'a> Uploads<'a> {
    /// Returns the uploads of a run and the end of the channel that takes results; `None`
    /// if the run sends nothing.
    pub(super) fn new(parts: &'a Parts<'a>) -> Option<(Self, Sender<Arc<Success>>)> {
        let cache = parts.shared.filter(|cache| cache.writes())?;
        let (sender, jobs) = unbounded();
        let uploads = Self {
            parts,
            cache,
            jobs,
            deadline: Arc::default(),
        };
        Some((uploads, sender))
    }

    /// Starts the threads.
    pub(super) fn start<'scope>(self, threads: &'scope Scope<'scope, 'a>) -> Uploading<'scope> {
        let deadline = self.deadline.clone();
        let jobs = self.cache.upload_jobs().max(1);
        let serve = || {
            let uploads = self.clone();
            threads.spawn(move || uploads.serve())
        };
        Uploading {
            threads: std::iter::repeat_with(serve).take(jobs).collect(),
            deadline,
        }
    }

    fn serve(self) -> Unsent {
        let mut unsent = Unsent::default();
        while let Ok(success) = self.jobs.recv() {
            if self.parts.cancel.is_raised() {
                self.deadline.set(Instant::now());
            }
            let sent = if self.deadline.is_over() {
                Err("time was up".to_owned())
            } else {
                let (key, result) = (success.key, &success.result);
                self.cache
                    .push(key, result, self.parts.store, &self.deadline)
            };
            if let Err(error) = sent {
                unsent.results += 1;
                unsent.error.get_or_insert(error);
            }
        }
        unsent
    }
}

impl Uploading<'_> {
    /// Waits until all results are sent, but not for longer than [`UPLOADS_END`]; returns a
    /// warning if some were not.
    pub(super) fn finish(self) -> Option<Warning> {
        self.deadline.set(Instant::now() + UPLOADS_END);
        let mut all = Unsent::default();
        for thread in self.threads {
            let unsent = thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            all.results += unsent.results;
            all.error = all.error.or(unsent.error);
        }
        let error = all.error?;
        let results = match all.results {
            1 => "1 result was".to_owned(),
            n => format!("{n} results were"),
        };
        let message = format!("{results} not sent to the remote cache: {error}");
        Some(Warning::new("fbuild::remote::upload", message))
    }
}
