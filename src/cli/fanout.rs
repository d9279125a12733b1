//! Forwards the events of a run to the reporter that the arguments choose, and to the log.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::context::Context;
use super::session::Session;
use crate::event::{Event, Sink};
use crate::journal::RunLog;
use crate::report::Verbosity;
use crate::report::json::Json;
use crate::report::terminal::{Live, Plain, size_of};

/// How a run is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Show {
    /// As lines of text.
    Plain,
    /// As a view that is redrawn.
    Live,
    /// As lines of JSON.
    Json,
}

/// Forwards events to a reporter and a log.
pub(super) struct Fanout {
    reporter: Box<dyn Sink>,
    log: Option<RunLog>,
    /// The error that ended the log early.
    log_error: Option<io::Error>,
}

impl Fanout {
    /// Returns a fan-out with the reporter for `show`, and without a log.
    pub(super) fn new(
        context: &Context,
        session: &Session<'_>,
        show: Show,
        verbosity: Verbosity,
    ) -> Self {
        let sources = Arc::new(session.workspace.sources.clone());
        let style = context.out_style(verbosity);
        let out = std::io::stdout();
        let reporter: Box<dyn Sink> = match show {
            Show::Json => Box::new(Json::new(out)),
            Show::Plain => Box::new(Plain::new(out, style).with_sources(sources)),
            Show::Live => {
                let size = || size_of(std::io::stdout());
                Box::new(Live::new(out, style, size).with_sources(sources))
            }
        };
        Self {
            reporter,
            log: None,
            log_error: None,
        }
    }

    /// Also writes a log of the run into `folder`.
    pub(super) fn keep_log(&mut self, folder: &Path) {
        self.log = Some(RunLog::new(folder));
    }

    /// Takes the error that ended the log early, if there was one.
    pub(super) fn take_log_error(&mut self) -> Option<io::Error> {
        self.log_error.take()
    }
}

impl Sink for Fanout {
    fn on_event(&mut self, event: &Event) {
        self.reporter.on_event(event);
        if let Some(log) = &mut self.log
            && let Err(error) = log.record(event)
        {
            (self.log, self.log_error) = (None, Some(error));
        }
    }

    fn tick(&mut self, at_ms: u64) {
        self.reporter.tick(at_ms);
    }
}
