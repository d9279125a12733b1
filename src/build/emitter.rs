//! What the loop tells its audience: events, with the time at which they happened. It
//! decides nothing.

use std::io::Read as _;
use std::time::Instant;

use super::drive::Drive;
use super::make::millis;
use super::spool::Spool;
use crate::event::{Event, EventKind, Printed, Reason, Sink, Warning};
use crate::graph::TargetId;
use crate::journal::Success;

/// How much of an output is told at once.
const PIECE: usize = 64 * 1024;

/// Tells the audience what happens, and when.
pub(super) struct Emitter<'a> {
    pub(super) sink: &'a mut dyn Sink,
    pub(super) start: Instant,
}

impl Emitter<'_> {
    pub(super) fn emit(&mut self, kind: EventKind) {
        let at_ms = self.elapsed();
        self.sink.on_event(&Event { at_ms, kind });
    }

    pub(super) fn tick(&mut self) {
        let at_ms = self.elapsed();
        self.sink.tick(at_ms);
    }

    pub(super) fn elapsed(&self) -> u64 {
        millis(self.start.elapsed())
    }
}

impl Drive<'_> {
    pub(super) fn warn(&mut self, id: Option<TargetId>, warning: Warning) {
        self.tally.warn();
        let warning = match id {
            Some(id) => warning.about(self.name(id)),
            None => warning,
        };
        self.emitter.emit(EventKind::Warning(warning));
    }

    pub(super) fn tell_started(&mut self, id: TargetId, reason: Reason, attempt: u32) {
        let name = self.step.parts.graph.name(id);
        let last = self.memory.success(name);
        let started = EventKind::TargetStarted {
            target: name.to_owned(),
            number: self.tally.settled() + self.plan.running(),
            reason,
            expected_ms: last.map(|last| last.result.duration_ms),
            attempt,
            interactive: self.graph().target(id).interactive,
        };
        self.emitter.emit(started);
    }

    pub(super) fn tell_output(&mut self, id: TargetId, bytes: Vec<u8>) {
        let printed = EventKind::TargetOutput {
            target: self.name(id).to_owned(),
            text: Printed(bytes),
        };
        self.emitter.emit(printed);
    }

    /// Tells what a target printed, unless that was streamed.
    pub(super) fn tell_spool(&mut self, id: TargetId, spool: &Spool) {
        let streamed = self.answers.pieces.clone();
        for (id, bytes) in streamed.try_iter() {
            self.tell_output(id, bytes);
        }
        if !spool.was_streamed()
            && let Ok(printed) = spool.open()
        {
            self.tell_all(id, printed);
        }
    }

    /// Tells what a restored target printed when it was made.
    pub(super) fn tell_log(&mut self, id: TargetId, success: &Success) {
        let store = self.step.parts.store;
        let log = success.result.log.map(|digest| store.read(digest));
        if let Some(Ok(Some(log))) = log {
            self.tell_all(id, log);
        }
    }

    fn tell_all(&mut self, id: TargetId, mut printed: impl std::io::Read) {
        loop {
            let mut piece = Vec::new();
            let read = printed.by_ref().take(PIECE as u64).read_to_end(&mut piece);
            if read.is_err() || piece.is_empty() {
                return;
            }
            self.tell_output(id, piece);
        }
    }
}
