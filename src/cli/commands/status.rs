//! `fbuild status`: prints the targets that would run, and the reasons. Runs no command except
//! probes of tools.

use crate::build::{Options, Policy};
use crate::cli::args::Status;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::fanout::{Fanout, Show};
use crate::cli::session::{self, Access, Session};
use crate::report::Verbosity;

pub(in crate::cli) fn run(context: &Context, args: &Status) -> Result<(), Failure> {
    let mut session = Session::open(context, Access::Read)?;
    let wanted = session.select(&args.targets)?;
    let options = Options {
        jobs: super::run::jobs(None, &session),
        keep_going: true,
        stream: false,
        policy: Policy {
            dry_run: true,
            ..Policy::default()
        },
    };
    let show = if args.json { Show::Json } else { Show::Plain };
    let mut sink = Fanout::new(context, &session, show, Verbosity::Verbose);
    let summary = session.build(&args.targets, &wanted, options, &mut sink);
    session::ended(&summary)
}
