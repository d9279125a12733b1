//! The end of a run: the recorder has recorded, and the summary is emitted.

use super::Run;
use crate::build::slot::Workers;
use crate::build::{Finished, warnings};
use crate::event::{EventKind, Warning};
use crate::graph::TargetId;

impl<'a> Run<'a> {
    /// Ends the run once all successes are recorded.
    pub(super) fn finish(self, workers: Workers<'_, 'a>, early_warnings: Vec<Warning>) -> Finished {
        let Self {
            step,
            request,
            memory,
            mut tally,
            mut emitter,
            channels,
            targets,
            locked,
            ..
        } = self;
        let parts = step.parts;
        // Slots and recorder end when nothing can be sent to them any more.
        drop(channels);
        // Saved meanwhile, because the recorder waits for the disk.
        let unsaved = if request.options.policy.dry_run {
            None
        } else {
            parts.save(memory).err()
        };
        let recorded = workers.finish().into_iter();
        parts.ledger.end();
        let is_settled = |id: &TargetId| {
            let locked = locked.as_ref();
            locked.is_some_and(|locked| locked.settled().contains_key(id))
        };
        let wanted = request.wanted.iter().copied();
        let built: Vec<TargetId> = wanted.filter(|id| !is_settled(id)).collect();
        let succeeded = built.iter().copied();
        let succeeded = succeeded.filter(|id| targets[id.index()].made.is_some());
        // Manifests are read back: the recorder has ended.
        let unwritable = locked.and_then(|locked| locked.record(succeeded, memory, step));
        let warnings = recorded.chain(early_warnings).chain(unwritable);
        for warning in warnings.chain(parts.store.take_warnings()) {
            tally.warn();
            emitter.warning(warning);
        }
        if let Some(cache) = parts.shared {
            let usage = cache.usage();
            if let Some(reason) = &usage.off {
                tally.warn();
                emitter.warning(warnings::remote_off(reason));
            }
            tally.note_remote(usage);
        }
        let summary = tally.finish(emitter.elapsed_ms(), parts.cancel.is_raised());
        emitter.emit(EventKind::RunFinished(summary.clone()));
        Finished {
            summary,
            built,
            unsaved,
        }
    }
}
