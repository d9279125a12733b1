//! `fbuild run`: brings targets up to date.

use std::time::Instant;

use crate::build::{Options, Policy};
use crate::cli::args::{Progress, Run};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::fanout::{Fanout, Show};
use crate::cli::run_lock::RunLock;
use crate::cli::session::{self, Access, Session};
use crate::cli::signals;
use crate::cli::state;
use crate::event::{Event, EventKind, Sink as _, Summary};
use crate::graph::TargetId;
use crate::report::Verbosity;
use crate::report::terminal::Plain;
use crate::snapshot::{self, CleanRun, Query, Snapshot};
use crate::workspace::Layout;

/// The default for the most commands at once. More rarely helps, because many tools use
/// several processors themselves.
const MAX_JOBS: usize = 4;

pub(in crate::cli) fn run(context: &Context, args: &Run) -> Result<(), Failure> {
    let start = Instant::now();
    let (lock, snapshot) = check_snapshot(context, args).unwrap_or_default();
    if let Some(targets) = snapshot.as_ref().and_then(Snapshot::up_to_date)
        && !(args.json || args.verbose)
    {
        report_up_to_date(context, args, targets, start);
        return Ok(());
    }
    let access = if args.dry_run {
        Access::Read
    } else {
        Access::Write
    };
    let mut session = Session::open_with(context, access, lock)?;
    session.snapshot = snapshot.filter(|snapshot| snapshot.is_of(&session.workspace));
    let wanted = session.select(&args.targets)?;
    session.is_cached = !args.no_cache;
    open_shared(context, args, &mut session)?;
    let _signals = signals::watch(&session.cancel);
    let options = Options {
        jobs: jobs(args.jobs, &session),
        keep_going: args.keep_going,
        stream: args.verbose,
        policy: Policy {
            force: args.force,
            no_cache: args.no_cache,
            dry_run: args.dry_run,
            no_probes: args.dry_run,
            drift: false,
            replace: args.replace,
        },
    };
    let mut sink = Fanout::new(context, &session, show(context, args), verbosity(args));
    if !args.dry_run {
        sink.keep_log(&session.layout.runs());
    }
    let summary = session.build(&args.targets, &wanted, options, &mut sink);
    session.save();
    if is_complete(args) && summary.went_well() {
        record_snapshot(context, &mut session, &args.targets, &wanted);
    }
    if let Some(error) = sink.take_log_error() {
        session.cannot_keep(&error);
    }
    session.end();
    session::ended(&summary)
}

/// Prepares the use of the remote cache.
#[cfg(feature = "remote")]
fn open_shared(context: &Context, args: &Run, session: &mut Session<'_>) -> Result<(), Failure> {
    if args.dry_run || args.no_cache {
        return Ok(());
    }
    let written = session.workspace.graph.buildfile().remote.as_ref();
    let remote = crate::cli::remote::open(context, written, args.remote.as_deref())?;
    session.shared = remote.map(|remote| Box::new(remote) as _);
    Ok(())
}

/// Reports that this program cannot use a remote cache.
#[cfg(not(feature = "remote"))]
fn open_shared(context: &Context, args: &Run, session: &mut Session<'_>) -> Result<(), Failure> {
    let is_wanted = session.workspace.graph.buildfile().remote.is_some() || args.remote.is_some();
    if is_wanted && args.remote.as_deref() != Some("off") {
        let message =
            "this fbuild was built without the feature `remote`; the remote cache is not used";
        context.warn(&crate::event::Warning::new("fbuild::remote::off", message));
    }
    Ok(())
}

/// Returns true if a run with these arguments skips only work that the next run may skip too.
fn is_complete(args: &Run) -> bool {
    !(args.force || args.no_cache || args.dry_run)
}

/// Takes the lock of the tree and checks the snapshot under it. `None` if another run has the
/// lock or the state folder needs attention: the full run reports that.
fn check_snapshot(context: &Context, args: &Run) -> Option<(Option<RunLock>, Option<Snapshot>)> {
    let buildfile = context.buildfile().ok().filter(|_| is_complete(args))?;
    let layout = Layout::new(buildfile.parent()?, context.key().0);
    let lock = state::try_lock_idle(context, &layout)?;
    let query = Query {
        buildfile: &buildfile,
        layout: &layout,
        names: &args.targets,
        host_env: context.host_env(),
    };
    Some((Some(lock), snapshot::check(&query)))
}

/// Reports that all targets are up to date, as a full run would.
fn report_up_to_date(context: &Context, args: &Run, targets: usize, start: Instant) {
    let summary = Summary {
        targets,
        up_to_date: targets,
        wall_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        ..Summary::default()
    };
    let mut reporter = Plain::new(std::io::stdout(), context.out_style(verbosity(args)));
    reporter.on_event(&Event {
        at_ms: summary.wall_ms,
        kind: EventKind::RunFinished(summary),
    });
}

/// Records the snapshot of a clean run. Without a lasting store there is none: the next run
/// would have to report its loss.
fn record_snapshot(
    context: &Context,
    session: &mut Session<'_>,
    names: &[String],
    wanted: &[TargetId],
) {
    let Some(store) = session.lasting_store() else {
        return;
    };
    let recorded = snapshot::record(CleanRun {
        workspace: &session.workspace,
        index: &session.index,
        memory: &session.memory,
        host_env: context.host_env(),
        store: Some(store),
        earlier: session.snapshot.as_mut(),
        names,
        wanted,
    });
    if let Err(error) = recorded {
        session.cannot_keep(&error);
    }
}

pub(in crate::cli) fn jobs(requested: Option<usize>, session: &Session<'_>) -> usize {
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    let declared = session.workspace.graph.buildfile().jobs;
    requested
        .or(declared)
        .unwrap_or_else(|| processors().min(MAX_JOBS))
}

fn show(context: &Context, args: &Run) -> Show {
    match args.progress {
        _ if args.json => Show::Json,
        Progress::Live => Show::Live,
        Progress::Auto if context.is_live() && !args.dry_run => Show::Live,
        Progress::Auto | Progress::Plain => Show::Plain,
    }
}

fn verbosity(args: &Run) -> Verbosity {
    match (args.quiet, args.verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    }
}
