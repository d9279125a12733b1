//! Whether a run need not be made because nothing changed since the last one, and what is
//! said then. It does not know how that is found out.

use std::fs::File;
use std::time::Instant;

use super::args::Run;
use super::context::Context;
use super::session::Session;
use super::state;
use crate::build::standstill::{self, Asked, Done, Known};
use crate::event::{Event, Sink as _, Summary, What};
use crate::graph::TargetId;
use crate::report::Verbosity;
use crate::report::terminal::Plain;
use crate::workspace::Layout;

/// What there is before a run begins.
#[derive(Default)]
pub(super) struct Ready {
    /// The lock of the tree, if it was free.
    pub(super) lock: Option<File>,
    /// What is known from an earlier run, and holds while the lock is held.
    pub(super) known: Option<Known>,
}

/// Tells whether a run with these arguments leaves nothing out, so that what it does not do
/// need not be done by the next one either.
pub(super) fn is_usual(args: &Run) -> bool {
    !(args.force || args.no_cache || args.dry_run)
}

/// Asks what is known. Nothing is said or made anew: whatever is not as it should be is for
/// the run to find.
pub(super) fn ask(context: &Context, args: &Run) -> Ready {
    let Some(buildfile) = context.buildfile().ok().filter(|_| is_usual(args)) else {
        return Ready::default();
    };
    let layout = buildfile.parent().map(Layout::new);
    let Some((lock, layout)) = layout.and_then(|l| Some((state::try_lock_idle(&l)?, l))) else {
        return Ready::default();
    };
    let known = standstill::ask(&Asked {
        buildfile: &buildfile,
        layout: &layout,
        names: &args.targets,
        host_env: context.host_env(),
    });
    let lock = Some(lock);
    Ready { lock, known }
}

/// Says that all targets are up to date, as a run would that found it out.
pub(super) fn tell(context: &Context, targets: usize, (start, verbosity): (Instant, Verbosity)) {
    let summary = Summary {
        targets,
        up_to_date: targets,
        wall_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        ..Summary::default()
    };
    let mut reporter = Plain::new(std::io::stdout(), context.out_style(verbosity));
    reporter.on_event(&Event {
        at_ms: summary.wall_ms,
        what: What::RunFinished(summary),
    });
}

/// Remembers what a run that went well found out, for [`ask`].
pub(super) fn keep(
    context: &Context,
    session: &mut Session<'_>,
    names: &[String],
    wanted: &[TargetId],
) {
    let Some(store) = session.lasting_store() else {
        return;
    };
    let kept = standstill::keep(Done {
        workspace: &session.workspace,
        index: &session.index,
        memory: &session.memory,
        host_env: context.host_env(),
        store: Some(store),
        known: session.known.as_mut(),
        names,
        wanted,
    });
    if let Err(error) = kept {
        session.cannot_keep(&error);
    }
}
