//! Everybody who hears of a run: the reporter that was asked for, and the log.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::context::Context;
use super::session::Session;
use crate::build::Audience;
use crate::event::Event;
use crate::journal::RunLog;
use crate::report::json::Json;
use crate::report::terminal::{Live, Plain, size_of};
use crate::report::{Reporter, Verbosity};

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

/// Everybody who hears of a run.
pub(super) struct Hearing {
    reporter: Box<dyn Reporter>,
    log: Option<RunLog>,
    /// Why the log is not whole.
    lost: Option<io::Error>,
}

impl Hearing {
    pub(super) fn new(
        context: &Context,
        session: &Session<'_>,
        show: Show,
        verbosity: Verbosity,
    ) -> Self {
        let sources = Arc::new(session.workspace.sources.clone());
        let style = context.out_style(verbosity);
        let out = std::io::stdout();
        let reporter: Box<dyn Reporter> = match show {
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
            lost: None,
        }
    }

    /// Keeps a log of the run in `folder` as well.
    pub(super) fn keep_log(&mut self, folder: &Path) {
        self.log = Some(RunLog::new(folder));
    }

    /// Returns why the log is not whole, if it is not.
    pub(super) fn take_lost(&mut self) -> Option<io::Error> {
        self.lost.take()
    }
}

impl Audience for Hearing {
    fn hear(&mut self, event: &Event) {
        self.reporter.report(event);
        if let Some(log) = &mut self.log
            && let Err(error) = log.record(event)
        {
            (self.log, self.lost) = (None, Some(error));
        }
    }

    fn tick(&mut self, at_ms: u64) {
        self.reporter.tick(at_ms);
    }
}
