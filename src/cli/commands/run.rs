//! `fbuild run`: brings targets up to date.

use std::cell::OnceCell;
use std::time::Instant;

use crate::build::{Options, Policy};
use crate::cancel::Cancel;
use crate::cli::args::{Display, Progress, Run};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, of_summary};
use crate::cli::reporter::{reporter, show, verbosity};
use crate::cli::signals;
use crate::event::{Event, EventKind, Sink as _, Summary};
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
        && !(args.display.json || args.display.verbose)
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
    // Without the feature, the call only warns.
    let is_unused = cfg!(feature = "remote") && (args.dry_run || args.no_cache);
    let shared = if is_unused {
        None
    } else {
        open_shared(context, args.remote.as_deref(), &session.workspace)?
    };
    handle_signals();
    let order = Order {
        names: &args.targets,
        wanted: &wanted,
        first: &[],
        options: Options {
            jobs: args.jobs.unwrap_or_else(|| session.jobs()),
            keep_going: args.keep_going,
            stream: args.display.verbose,
            policy,
        },
        arguments: arguments.as_ref(),
        cancel: &cancel,
        shared: shared.as_deref(),
    };
    let display = display(args);
    let (show, verbosity) = (show(context, display), verbosity(display));
    let mut reporter = reporter(context, &session.workspace, show, verbosity);
    let summary = session.build(&order, &mut *reporter);
    session.close_at_exit();
    of_summary(&summary)
}

/// Opens the remote cache, if one is used: the one that the user typed, or the Buildfile's.
#[cfg(feature = "remote")]
pub(super) fn open_shared(
    context: &Context,
    typed: Option<&str>,
    workspace: &Workspace,
) -> Result<Option<Box<dyn SharedCache>>, Failure> {
    let written = workspace.graph.buildfile().remote.as_ref();
    let remote = crate::cli::remote::open(context, written, typed)?;
    Ok(remote.map(|remote| Box::new(remote) as _))
}

/// Reports that this program cannot use a remote cache.
#[cfg(not(feature = "remote"))]
pub(super) fn open_shared(
    context: &Context,
    typed: Option<&str>,
    workspace: &Workspace,
) -> Result<Option<Box<dyn SharedCache>>, Failure> {
    let is_wanted = workspace.graph.buildfile().remote.is_some() || typed.is_some();
    if is_wanted && typed != Some("off") {
        let message =
            "this fbuild was built without the feature `remote`; the remote cache is not used";
        context.warn(&crate::event::Warning::new("fbuild::remote::off", message));
    }
    Ok(None)
}

/// Returns the display of a run; a dry run has nothing to redraw.
fn display(args: &Run) -> Display {
    match args.display.progress {
        Progress::Auto if args.dry_run => Display {
            progress: Progress::Plain,
            ..args.display
        },
        _ => args.display,
    }
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
    let mut reporter = Plain::new(
        std::io::stdout(),
        context.out_style(verbosity(args.display)),
    );
    reporter.on_event(&Event {
        at_ms: summary.wall_ms,
        kind: EventKind::RunFinished(summary),
    });
}
