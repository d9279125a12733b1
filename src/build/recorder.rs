//! Records results in the background, many at a time: making them durable waits for the
//! disk, once for each batch. It decides nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::Warning;
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
    let mut warnings = Vec::new();
    while let Ok(first) = settled.recv() {
        let batch = gather(first, settled);
        record(&batch, store, &mut warnings);
        for settled in &batch {
            write_metadata(settled, metadata, &mut warnings);
        }
    }
    warnings
}

/// Waits a little for more of what there is one of.
fn gather(first: Settled, settled: &Receiver<Settled>) -> Vec<Settled> {
    let until = Instant::now() + PATIENCE;
    let mut batch = vec![first];
    while batch.len() < MOST {
        match settled.recv_deadline(until) {
            Ok(next) => batch.push(next),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    batch
}

fn record(batch: &[Settled], store: &dyn Store, warnings: &mut Vec<Warning>) {
    let new = batch.iter().filter(|settled| settled.is_new);
    let results: Vec<_> = new
        .map(|settled| (settled.success.key, settled.success.result.clone()))
        .collect();
    if !results.is_empty()
        && let Err(error) = store.record(&results)
    {
        warn(warnings, Warning::of(&error));
    }
}

fn write_metadata(settled: &Settled, folder: &Path, warnings: &mut Vec<Warning>) {
    if let Err(error) = journal::write_metadata(folder, &settled.target, &settled.success) {
        let message = format!("cannot write to `{}`: {error}", folder.display());
        warn(warnings, Warning::new("fbuild::journal::metadata", message));
    }
}

/// Adds a warning unless the same was given before.
fn warn(warnings: &mut Vec<Warning>, warning: Warning) {
    if !warnings.contains(&warning) {
        warnings.push(warning);
    }
}
