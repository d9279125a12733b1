//! The events of a run that are more than one line of the loop.

use super::{Run, cost};
use crate::build::spool::Spool;
use crate::event::{EventKind, FORMAT, Reason};
use crate::graph::TargetId;
use crate::journal::Success;

impl Run<'_> {
    /// Emits what a target printed when it was built, as if it had been built now.
    pub(super) fn emit_log(&mut self, id: TargetId, success: &Success) {
        let store = self.step.parts.store;
        let log = success.result.log.map(|digest| store.read(digest));
        if let Some(Ok(Some(log))) = log {
            self.emitter.output_of(self.name(id), log);
        }
    }

    pub(super) fn emit_started(&mut self) {
        let wanted = self.request.wanted;
        let (graph, jobs) = (self.graph(), self.request.options.jobs);
        let work: u64 = wanted.iter().map(|id| cost(graph, self.memory, *id)).sum();
        let expected_ms = self.plan.longest_chain().max(work / jobs.max(1) as u64);
        let is_known = |id: &TargetId| self.memory.success(graph.name(*id)).is_some();
        self.emitter.emit(EventKind::RunStarted {
            format: FORMAT,
            fbuild: env!("CARGO_PKG_VERSION").to_owned(),
            wanted: self.request.names.to_vec(),
            targets: wanted.len(),
            jobs,
            expected_ms: wanted.iter().any(is_known).then_some(expected_ms),
        });
    }

    pub(super) fn emit_target_started(&mut self, id: TargetId, reason: Reason, attempt: u32) {
        let name = self.name(id);
        let last = self.memory.success(name);
        self.emitter.emit(EventKind::TargetStarted {
            target: name.to_owned(),
            number: self.tally.finished() + self.plan.running(),
            reason,
            expected_ms: last.map(|last| last.result.duration_ms),
            attempt,
            interactive: self.graph().target(id).interactive,
        });
    }

    /// Emits what a target printed, as far as it was not streamed.
    pub(super) fn emit_output(&mut self, id: TargetId, spool: &Spool) {
        // Pieces sent before this message come first.
        let pieces = self.channels.pieces.clone();
        for (id, bytes) in pieces.try_iter() {
            self.emitter.output(self.step.parts.graph().name(id), bytes);
        }
        if !spool.was_streamed()
            && let Ok(printed) = spool.open()
        {
            let name = self.name(id);
            self.emitter.output_of(name, printed);
        }
    }
}
