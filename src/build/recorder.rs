//! Records successes in batches: making results durable waits for the disk, once for each
//! batch.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::Parts;
use crate::event::Warning;
use crate::journal::{self, Success};
use crate::store::Store;

/// How long the first result of a batch waits for others.
const PATIENCE: Duration = Duration::from_secs(1);
/// The most results in a batch.
const MOST: usize = 512;

/// A success that differs from the last one of its target.
pub(super) struct NewSuccess {
    /// The target whose last success it is; `None` if it is not the last one.
    pub(super) target: Option<String>,
    pub(super) success: Arc<Success>,
    /// Where the result comes from.
    pub(super) origin: Origin,
}

/// The origin of a recorded result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The store, or it cannot be stored.
    Known,
    /// Commands of this run made it, and all of it is in the store.
    Built,
    /// The shared cache, and all of it is in the store.
    Fetched,
}

/// Records the successes of a run.
#[derive(Clone)]
pub(super) struct Recorder<'a> {
    successes: Receiver<NewSuccess>,
    store: &'a dyn Store,
    /// The folder of the metadata.
    metadata: PathBuf,
    warnings: Vec<Warning>,
    /// Takes recorded results to be sent to the shared cache.
    uploads: Option<Sender<Arc<Success>>>,
}

impl<'a> Recorder<'a> {
    /// Returns a recorder for what it receives.
    pub(super) fn new(parts: &Parts<'a>, successes: Receiver<NewSuccess>) -> Self {
        Self {
            successes,
            store: parts.store,
            metadata: parts.layout.metadata(),
            warnings: Vec::new(),
            uploads: None,
        }
    }

    /// Has the recorder pass built results on once they are durable.
    pub(super) fn send_new_to(&mut self, uploads: Sender<Arc<Success>>) {
        self.uploads = Some(uploads);
    }

    /// Records until there are no more senders; returns the warnings.
    pub(super) fn record_all(mut self) -> Vec<Warning> {
        while let Ok(first) = self.successes.recv() {
            let batch = self.gather(first);
            self.record(&batch);
        }
        self.warnings
    }

    /// Collects more results into the batch until it is full or the timeout expires. Writes
    /// the metadata meanwhile, which need not wait for the disk.
    fn gather(&mut self, first: NewSuccess) -> Vec<NewSuccess> {
        let until = Instant::now() + PATIENCE;
        self.write_metadata(&first);
        let mut batch = vec![first];
        while batch.len() < MOST {
            match self.successes.recv_deadline(until) {
                Ok(next) => {
                    self.write_metadata(&next);
                    batch.push(next);
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        batch
    }

    fn record(&mut self, batch: &[NewSuccess]) {
        let new = batch.iter().filter(|new| new.origin != Origin::Known);
        let results: Vec<_> = new
            .map(|new| (new.success.key, new.success.result.clone()))
            .collect();
        if !results.is_empty()
            && let Err(error) = self.store.record(&results)
        {
            self.warn(Warning::of(&error));
        }
        let Some(uploads) = &self.uploads else {
            return;
        };
        for built in batch.iter().filter(|new| new.origin == Origin::Built) {
            // The uploads receive as long as the recorder lives.
            let _ = uploads.send(built.success.clone());
        }
    }

    fn write_metadata(&mut self, new: &NewSuccess) {
        let Some(target) = &new.target else { return };
        if let Err(error) = journal::write_metadata(&self.metadata, target, &new.success) {
            let message = format!("cannot write to `{}`: {error}", self.metadata.display());
            self.warn(Warning::new("fbuild::journal::metadata", message));
        }
    }

    /// Adds a warning unless there is the same already.
    fn warn(&mut self, warning: Warning) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}
