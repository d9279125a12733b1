//! `fbuild run`: bring targets up to date.

use std::time::Instant;

use crate::build::standstill::Known;
use crate::build::{Options, Policy};
use crate::cli::args::{Progress, Run};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::fanout::{Fanout, Show};
use crate::cli::session::{self, Access, Session};
use crate::cli::signals;
use crate::cli::standstill::{self, Ready};
use crate::report::Verbosity;

/// The most commands at once unless somebody says otherwise: more seldom helps, because
/// the tools that are run use several processors themselves.
const MOST_JOBS: usize = 4;

pub(in crate::cli) fn run(context: &Context, args: &Run) -> Result<(), Failure> {
    let start = Instant::now();
    let Ready { lock, known } = standstill::ask(context, args);
    if let Some(targets) = known.as_ref().and_then(Known::up_to_date)
        && !(args.json || args.verbose)
    {
        standstill::tell(context, targets, (start, verbosity(args)));
        return Ok(());
    }
    let access = match args.dry_run {
        true => Access::Read,
        false => Access::Write,
    };
    let mut session = Session::open_with(context, access, lock)?;
    session.known = known.filter(|known| known.is_of(&session.workspace));
    let wanted = session.select(&args.targets)?;
    session.is_cached = !args.no_cache;
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
        },
    };
    let mut sink = Fanout::new(context, &session, show(context, args), verbosity(args));
    if !args.dry_run {
        sink.keep_log(&session.layout.runs());
    }
    let summary = session.build((&args.targets, &wanted), options, &mut sink);
    session.save();
    if standstill::is_usual(args) && summary.went_well() {
        standstill::keep(context, &mut session, &args.targets, &wanted);
    }
    if let Some(error) = sink.take_log_error() {
        session.cannot_keep(&error);
    }
    session.end();
    session::ended(&summary)
}

pub(in crate::cli) fn jobs(typed: Option<usize>, session: &Session<'_>) -> usize {
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    let written = session.workspace.graph.buildfile().jobs;
    typed
        .or(written)
        .unwrap_or_else(|| processors().min(MOST_JOBS))
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
