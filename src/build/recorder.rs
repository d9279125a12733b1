//! Records results in the background, many at a time: making them durable waits for the
//! disk, once for each batch. It decides nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::event::Warning;
use crate::journal::{self, Success};
use crate::store::Store;

/// How long the first result of a batch waits for others.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many results a batch has at most.
const MOST: usize = 512;

/// A target that succeeded.
pub(super) struct Settled {
    pub(super) target: String,
    pub(super) success: Arc<Success>,
    /// Whether the result is new and all of it is in the store.
    pub(super) is_new: bool,
}

/// Records what comes in until nobody sends any more; returns what went wrong.
pub(super) fn record_all(
    settled: &Receiver<Settled>,
    store: &dyn Store,
    metadata: &Path,
) -> Vec<Warning> {
    let mut recorder = Recorder {
        store,
        metadata,
        warnings: Vec::new(),
    };
    while let Ok(first) = settled.recv() {
        let batch = recorder.gather(first, settled);
        recorder.record(&batch);
    }
    recorder.warnings
}

struct Recorder<'a> {
    store: &'a dyn Store,
    /// The folder of the metadata.
    metadata: &'a Path,
    /// What went wrong so far.
    warnings: Vec<Warning>,
}

impl Recorder<'_> {
    /// Waits a little for more of what there is one of. What need not wait for the disk is
    /// done meanwhile.
    fn gather(&mut self, first: Settled, settled: &Receiver<Settled>) -> Vec<Settled> {
        let until = Instant::now() + PATIENCE;
        self.write_metadata(&first);
        let mut batch = vec![first];
        while batch.len() < MOST {
            match settled.recv_deadline(until) {
                Ok(next) => {
                    self.write_metadata(&next);
                    batch.push(next);
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        batch
    }

    fn record(&mut self, batch: &[Settled]) {
        let new = batch.iter().filter(|settled| settled.is_new);
        let results: Vec<_> = new
            .map(|settled| (settled.success.key, settled.success.result.clone()))
            .collect();
        if !results.is_empty()
            && let Err(error) = self.store.record(&results)
        {
            warn(&mut self.warnings, Warning::of(&error));
        }
    }

    fn write_metadata(&mut self, settled: &Settled) {
        let Settled {
            target, success, ..
        } = settled;
        if let Err(error) = journal::write_metadata(self.metadata, target, success) {
            let message = format!("cannot write to `{}`: {error}", self.metadata.display());
            let warning = Warning::new("fbuild::journal::metadata", message);
            warn(&mut self.warnings, warning);
        }
    }
}

/// Adds a warning unless the same was given before.
fn warn(warnings: &mut Vec<Warning>, warning: Warning) {
    if !warnings.contains(&warning) {
        warnings.push(warning);
    }
}
