//! Forwards the events of a run to a sink and to the log of the run.

use std::io;

use crate::event::{Event, Sink};
use crate::journal::RunLog;

/// Forwards events to a sink and a log.
pub(super) struct Fanout<'a> {
    sink: &'a mut dyn Sink,
    pub(super) log: Option<RunLog>,
    /// The error that ended the log early.
    pub(super) log_error: Option<io::Error>,
}

impl<'a> Fanout<'a> {
    /// Returns a fan-out without a log.
    pub(super) fn new(sink: &'a mut dyn Sink) -> Self {
        Self {
            sink,
            log: None,
            log_error: None,
        }
    }
}

impl Sink for Fanout<'_> {
    fn on_event(&mut self, event: &Event) {
        self.sink.on_event(event);
        if let Some(log) = &mut self.log
            && let Err(error) = log.record(event)
        {
            (self.log, self.log_error) = (None, Some(error));
        }
    }

    fn tick(&mut self, at_ms: u64) {
        self.sink.tick(at_ms);
    }
}
