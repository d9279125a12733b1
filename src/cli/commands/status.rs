//! `fbuild status`: prints the targets that would run, and the reasons. Runs no command except
//! probes of tools.

use crate::build::{Options, Policy};
use crate::cancel::Cancel;
use crate::cli::args::Status;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, of_summary};
use crate::cli::reporter::{Show, reporter};
use crate::report::Verbosity;
use crate::session::{Access, Order, Session, Start};

pub(in crate::cli) fn run(context: &Context, args: &Status) -> Result<(), Failure> {
    let host = context.host()?;
    let mut session = Session::open(&host, Access::Read, Start::default())?;
    let order = Order {
        names: &args.targets,
        wanted: &session.select(&args.targets)?,
        first: &[],
        options: Options {
            jobs: session.jobs(),
            keep_going: true,
            stream: false,
            policy: Policy {
                dry_run: true,
                ..Policy::default()
            },
        },
        cancel: &Cancel::new(),
        shared: None,
        arguments: None,
    };
    let show = if args.json { Show::Json } else { Show::Plain };
    let mut reporter = reporter(context, &session.workspace, show, Verbosity::Verbose);
    let summary = session.build(&order, &mut *reporter);
    of_summary(&summary)
}
