//! `fbuild init`: writes a first Buildfile for the project at hand.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::cli::args::Init;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::init::{Proposal, propose};
use crate::report::text::list;
use crate::workspace::FILE_NAME;

/// The most targets to name for one project.
const MAX_NAMES: usize = 8;

pub(in crate::cli) fn run(context: &Context, args: &Init) -> Result<(), Failure> {
    let path = context.named_buildfile();
    let path = path.unwrap_or_else(|| context.folder().join(FILE_NAME));
    if !args.print && path.symlink_metadata().is_ok() {
        return Err(is_there(context, &path));
    }
    let proposal = propose(path.parent().unwrap_or(Path::new("/")));
    if args.print {
        context.eprint(&findings(&proposal));
        return context.print(proposal.text.as_bytes());
    }
    write_new(&path, &proposal.text).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => is_there(context, &path),
        _ => {
            let shown = context.shown(&path);
            Failure::world(&format!("cannot write `{}`", shown.display()), &error)
        }
    })?;
    let shown = context.shown(&path);
    let text = format!(
        "wrote `{}`\n{}next: `fbuild list` shows its targets, `fbuild run` builds them\n",
        shown.display(),
        findings(&proposal)
    );
    context.print(text.as_bytes())
}

fn is_there(context: &Context, path: &Path) -> Failure {
    let shown: PathBuf = context.shown(path);
    Failure::usage_with_help(
        format!("`{}` already exists", shown.display()),
        "`fbuild add NAME` adds a target to it; `fbuild init --print` prints the proposal",
    )
}

/// Words the findings, one project on each line.
fn findings(proposal: &Proposal) -> String {
    let mut text = String::new();
    for finding in &proposal.findings {
        let targets: Vec<&str> = finding.targets.iter().map(String::as_str).collect();
        let targets = if targets.is_empty() {
            "nothing to build or test".to_owned()
        } else {
            list(&targets, MAX_NAMES)
        };
        text += &format!("  {}: {targets}\n", finding.project);
    }
    if proposal.findings.is_empty() {
        text += "  no Go, Cargo, npm or Python project found; the Buildfile has an example\n";
    }
    if proposal.is_partial {
        text += "  too many files to search all of them; some projects may be missing\n";
    }
    text
}

/// Writes a new file, and removes it again if that fails half-way.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes()).inspect_err(|_| {
        // Ignore the error: the failed write is reported, and matters more.
        let _ = std::fs::remove_file(path);
    })
}
