//! Parses the command line, runs a command, and returns its exit code.

mod args;
mod commands;
mod context;
mod failure;
mod hints;
mod init;
#[cfg(feature = "remote")]
mod remote;
mod reporter;
mod rewrite;
mod signals;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Cli, Command};
use context::Context;
use failure::Failure;

use crate::report::{Style, Verbosity};

pub use args::Cli as Arguments;
pub use failure::Exit;

/// Runs the command in the arguments, the first of which is the program's own name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(mut error) => {
            hints::add_tip(&mut error, &arguments);
            // Ignore the error: the stream is gone.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let (done, style) = match Context::new(cli.global) {
        Ok(context) => {
            let style = context.err_style(Verbosity::Normal);
            (dispatch(&context, cli.command), style)
        }
        Err(failure) => (Err(failure), Style::PLAIN),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            context::eprint(&failure.text(style));
            failure.exit.into()
        }
    }
}

fn dispatch(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(args) => commands::run::run(context, &args),
        Command::Test(args) => commands::test::run(context, &args),
        Command::Graph(args) => commands::graph::run(context, &args),
        Command::List(args) => commands::list::run(context, &args),
        Command::Check(args) => commands::check::run(context, &args),
        Command::Status(args) => commands::status::run(context, &args),
        Command::Explain(args) => commands::explain::run(context, &args),
        Command::Cache(args) => commands::cache::run(context, &args),
        #[cfg(feature = "remote")]
        Command::Remote(args) => commands::remote::run(context, &args),
        Command::Clean(args) => commands::clean::run(context, &args),
        Command::Trash(args) => commands::trash::run(context, &args),
        Command::Fmt(args) => commands::fmt::run(context, &args),
        Command::Add(args) => commands::add::run(context, *args),
        Command::Init(args) => commands::init::run(context, &args),
        Command::Completions { shell } => commands::generate::completions(context, shell),
        Command::Man => commands::generate::man(context),
    }
}
