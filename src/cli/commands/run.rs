//! `fbuild run`: brings targets up to date.

use std::cell::OnceCell;
use std::time::Instant;

use crate::build::{Options, Policy};
use crate::cancel::Cancel;
use crate::cli::args::{Progress, Run};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, of_summary};
use crate::cli::reporter::{Show, reporter};
use crate::cli::signals;
use crate::event::{Event, EventKind, Sink as _, Summary};
use crate::report::Verbosity;
use crate::report::terminal::Plain;
use crate::session::{Access, Order, Session, Start};
use crate::snapshot::Probing;
use crate::store::shared::SharedCache;
use crate::workspace::Workspace;

pub(in crate::cli) fn run(context: &Context, args: &Run) -> Result<(), Failure> {
    let began = Instant::now();
    let host = context.host()?;
    let policy = policy(args);
    // A run that is to do something in any case has no use for the snapshot.
    let cancel = Cancel::new();
    let watch = OnceCell::new();
    // Most runs without changes end before a signal needs to be handled.
    let handle_signals = || {
        watch.get_or_init(|| signals::watch(&cancel));
    };
    let start = if policy == Policy::default() && args.args.is_empty() {
        let probing = Probing {
            begin: &handle_signals,
            cancel: &cancel,
        };
        Start::check(&host, &args.targets, probing)
    } else {
        Start::default()
    };
    if let Some(targets) = start.up_to_date()
        && !(args.json || args.verbose)
    {
        report_up_to_date(context, args, targets, began);
        return Ok(());
    }
    let access = if args.dry_run {
        Access::Read
    } else {
        Access::Write
    };
    let mut session = Session::open(&host, access, start)?;
    let wanted = session.select(&args.targets)?;
    let arguments = session.arguments(&args.targets, &args.args)?;
    let shared = open_shared(context, args, &session.workspace)?;
    handle_signals();
    let order = Order {
        names: &args.targets,
        wanted: &wanted,
        first: &[],
        options: Options {
            jobs: args.jobs.unwrap_or_else(|| session.jobs()),
            keep_going: args.keep_going,
            stream: args.verbose,
            policy,
        },
        arguments: arguments.as_ref(),
        cancel: &cancel,
        shared: shared.as_deref(),
    };
    let (show, verbosity) = (show(context, args), verbosity(args));
    let mut reporter = reporter(context, &session.workspace, show, verbosity);
    let summary = session.build(&order, &mut *reporter);
    session.close_at_exit();
    of_summary(&summary)
}

/// Opens the remote cache, if one is used.
#[cfg(feature = "remote")]
pub(super) fn open_shared(
    context: &Context,
    args: &Run,
    workspace: &Workspace,
) -> Result<Option<Box<dyn SharedCache>>, Failure> {
    if args.dry_run || args.no_cache {
        return Ok(None);
    }
    let written = workspace.graph.buildfile().remote.as_ref();
    let remote = crate::cli::remote::open(context, written, args.remote.as_deref())?;
    Ok(remote.map(|remote| Box::new(remote) as _))
}

/// Reports that this program cannot use a remote cache.
#[cfg(not(feature = "remote"))]
pub(super) fn open_shared(
    context: &Context,
    args: &Run,
    workspace: &Workspace,
) -> Result<Option<Box<dyn SharedCache>>, Failure> {
    let is_wanted = workspace.graph.buildfile().remote.is_some() || args.remote.is_some();
    if is_wanted && args.remote.as_deref() != Some("off") {
        let message =
            "this fbuild was built without the feature `remote`; the remote cache is not used";
        context.warn(&crate::event::Warning::new("fbuild::remote::off", message));
    }
    Ok(None)
}

fn policy(args: &Run) -> Policy {
    Policy {
        // A result that is not made now was not observed.
        force: args.force || args.trace,
        rerun_tests: false,
        no_cache: args.no_cache,
        dry_run: args.dry_run,
        no_probes: args.dry_run,
        drift: false,
        replace: args.replace,
        trace: args.trace,
    }
}

/// Reports that all targets are up to date, as a full run would.
fn report_up_to_date(context: &Context, args: &Run, targets: usize, began: Instant) {
    let summary = Summary {
        targets,
        up_to_date: targets,
        wall_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        ..Summary::default()
    };
    let mut reporter = Plain::new(std::io::stdout(), context.out_style(verbosity(args)));
    reporter.on_event(&Event {
        at_ms: summary.wall_ms,
        kind: EventKind::RunFinished(summary),
    });
}

pub(super) fn show(context: &Context, args: &Run) -> Show {
    match args.progress {
        _ if args.json => Show::Json,
        Progress::Live => Show::Live,
        Progress::Auto if context.is_live() && !args.dry_run => Show::Live,
        Progress::Auto | Progress::Plain => Show::Plain,
    }
}

pub(super) fn verbosity(args: &Run) -> Verbosity {
    match (args.quiet, args.verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    }
}
