//! Emits events with the time at which they happened.

use std::io::Read;
use std::time::Instant;

use super::runner::millis;
use crate::event::{Event, EventKind, Printed, Sink, Warning};

/// The longest piece of output in one event, in bytes.
const PIECE: u64 = 64 * 1024;

/// Passes events to a sink, with milliseconds since the start of the run.
pub(super) struct Emitter<'a> {
    sink: &'a mut dyn Sink,
    start: Instant,
}

impl<'a> Emitter<'a> {
    /// Returns an emitter for a run that began at `start`.
    pub(super) fn new(sink: &'a mut dyn Sink, start: Instant) -> Self {
        Self { sink, start }
    }

    /// Emits an event that happens now.
    pub(super) fn emit(&mut self, kind: EventKind) {
        let at_ms = self.elapsed_ms();
        self.sink.on_event(&Event { at_ms, kind });
    }

    /// Emits a warning, about a target if one is named.
    pub(super) fn warning(&mut self, warning: Warning) {
        self.emit(EventKind::Warning(warning));
    }

    /// Emits a piece of a target's output.
    pub(super) fn output(&mut self, target: &str, bytes: Vec<u8>) {
        self.emit(EventKind::TargetOutput {
            target: target.to_owned(),
            text: Printed(bytes),
        });
    }

    /// Emits a target's whole output, up to the first read error.
    pub(super) fn output_of(&mut self, target: &str, mut printed: impl Read) {
        loop {
            let mut piece = Vec::new();
            let read = printed.by_ref().take(PIECE).read_to_end(&mut piece);
            if read.is_err() || piece.is_empty() {
                return;
            }
            self.output(target, piece);
        }
    }

    /// Lets the sink show that time passes.
    pub(super) fn tick(&mut self) {
        let at_ms = self.elapsed_ms();
        self.sink.tick(at_ms);
    }

    /// Returns the milliseconds since the start of the run.
    pub(super) fn elapsed_ms(&self) -> u64 {
        millis(self.start.elapsed())
    }
}
