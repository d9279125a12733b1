//! `fbuild remote`: check the server that shares results, send results to it, and make the
//! keys that sign them.

use std::time::Instant;

use crate::cli::args::Remote as Arguments;
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::remote;
use crate::digest::random;
use crate::remote::Remote;
use crate::remote::trust::Signer;
use crate::report::text::{count, duration};
use crate::session::{Access, Session, Start};
use crate::store::shared::{Deadline, SharedCache as _};

/// An error of the server, worded for one command.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
enum Trouble {
    /// It does not answer, or refuses.
    #[error("the remote cache does not answer as it should: {0}")]
    #[diagnostic(code(fbuild::remote::off))]
    Off(String),
    /// A result cannot be sent.
    #[error("cannot send the result of `{target}`: {error}")]
    #[diagnostic(code(fbuild::remote::upload))]
    Unsent {
        /// The target.
        target: String,
        /// The cause.
        error: String,
    },
}

pub(in crate::cli) fn run(context: &Context, args: &Arguments) -> Result<(), Failure> {
    match args {
        Arguments::Status { remote } => status(context, remote.as_deref()),
        Arguments::Push { targets, remote } => push(context, targets, remote.as_deref()),
        Arguments::Key => key(context),
    }
}

/// Opens the server that is meant; an error if there is none.
fn open(context: &Context, session: &Session<'_>, typed: Option<&str>) -> Result<Remote, Failure> {
    let written = session.workspace.graph.buildfile().remote.as_ref();
    let remote = remote::open(context, written, typed)?;
    remote.ok_or_else(|| {
        Failure::usage_with_help(
            "no remote cache is configured",
            "add `remote \"URL\" { sign trust=\"ed25519:…\" }` to the Buildfile, or give `--remote URL`".to_owned(),
        )
    })
}

fn status(context: &Context, typed: Option<&str>) -> Result<(), Failure> {
    let host = context.host()?;
    let session = Session::open(&host, Access::Read, Start::default())?;
    let remote = open(context, &session, typed)?;
    let start = Instant::now();
    let facts = remote
        .probe()
        .map_err(|error| Failure::of(Exit::World, &Trouble::Off(error.to_string())))?;
    let took = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let yes = |is: bool| if is { "yes" } else { "no" };
    let mut text = format!("Remote Cache\n  answers     in {}\n", duration(took));
    for fact in facts {
        text.push_str(&format!("  server      {fact}\n"));
    }
    text.push_str(&format!("  reads       {}\n", yes(remote.reads())));
    text.push_str(&format!("  writes      {}\n", yes(remote.writes())));
    context.print(text.as_bytes())
}

fn push(context: &Context, targets: &[String], typed: Option<&str>) -> Result<(), Failure> {
    let host = context.host()?;
    let session = Session::open(&host, Access::Read, Start::default())?;
    let remote = open(context, &session, typed)?;
    let Some(disk) = &session.disk else {
        return Err(Failure::usage("there is no cache to send from"));
    };
    let (mut sent, mut absent) = (0, 0);
    for id in session.select(targets)? {
        let name = session.workspace.graph.name(id);
        let Some(last) = session.memory.success(name) else {
            absent += 1;
            continue;
        };
        let pushed = remote.push(last.key, &last.result, disk, &Deadline::default());
        pushed.map_err(|error| {
            let target = name.to_owned();
            Failure::of(Exit::World, &Trouble::Unsent { target, error })
        })?;
        sent += 1;
    }
    let sent = count(sent, "result");
    let text = match absent {
        0 => format!("{sent} sent\n"),
        n => format!("{sent} sent; {} never built here\n", count(n, "target")),
    };
    context.print(text.as_bytes())
}

/// Prints a new pair of keys. The private one goes to standard output alone, so that it can
/// be piped into a secret store.
fn key(context: &Context) -> Result<(), Failure> {
    let seed = random().map_err(|error| Failure::world("cannot read random bytes", &error))?;
    let signer = Signer::from_seed(seed);
    context.eprint(&format!(
        "public key, for the Buildfile:\n  sign key-env=FBUILD_SIGNING_KEY trust=\"{}\"\nprivate key, for the variable `FBUILD_SIGNING_KEY` of builds that write (a secret):\n",
        signer.public()
    ));
    context.print(format!("{}\n", signer.secret_text()).as_bytes())
}
