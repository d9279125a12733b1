//! Chooses the reporter that shows a run.

use std::sync::Arc;

use super::args::{Display, Progress};
use super::context::Context;
use crate::event::Sink;
use crate::report::Verbosity;
use crate::report::json::Json;
use crate::report::terminal::{Live, Plain, size_of};
use crate::workspace::Workspace;

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

/// Returns a reporter that writes to standard output.
pub(super) fn reporter(
    context: &Context,
    workspace: &Workspace,
    show: Show,
    verbosity: Verbosity,
) -> Box<dyn Sink> {
    let sources = Arc::new(workspace.sources.clone());
    let style = context.out_style(verbosity);
    let out = std::io::stdout();
    match show {
        Show::Json => Box::new(Json::new(out)),
        Show::Plain => Box::new(Plain::new(out, style).with_sources(sources)),
        Show::Live => {
            let size = || size_of(std::io::stdout());
            Box::new(Live::new(out, style, size).with_sources(sources))
        }
    }
}

/// Returns how a run is shown.
pub(super) fn show(context: &Context, display: Display) -> Show {
    match display.progress {
        _ if display.json => Show::Json,
        Progress::Live => Show::Live,
        Progress::Auto if context.is_live() => Show::Live,
        Progress::Auto | Progress::Plain => Show::Plain,
    }
}

/// Returns how much of a run is shown.
pub(super) fn verbosity(display: Display) -> Verbosity {
    match (display.quiet, display.verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    }
}
