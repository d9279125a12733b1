//! `fbuild trash`: lists, restores and deletes files that were in the place of outputs.

use crate::cli::args::Trash;
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::path::RelPath;
use crate::report::text::{count, duration};
use crate::session::{Access, Session, Start};
use crate::stamp;
use crate::store::outputs::{self, TrashBatch};

const MILLISECOND: i64 = 1_000_000;

pub(in crate::cli) fn run(context: &Context, args: &Trash) -> Result<(), Failure> {
    match args {
        Trash::List => list(context),
        Trash::Restore { paths } => {
            let host = context.host()?;
            let session = Session::open(&host, Access::Write, Start::default())?;
            let result = restore(context, &session, paths);
            session.close();
            result
        }
        Trash::Empty => empty(context),
    }
}

fn list(context: &Context) -> Result<(), Failure> {
    let host = context.host()?;
    let session = Session::open(&host, Access::Read, Start::default())?;
    let batches = batches(&session)?;
    let mut text = String::new();
    for batch in batches.iter().rev() {
        let files = count(batch.paths.len(), "file");
        text += &format!("{files}, moved {} ago:\n", age(batch));
        for path in &batch.paths {
            text += &format!("  {path}\n");
        }
    }
    if batches.is_empty() {
        text += "the trash is empty\n";
    }
    context.print(text.as_bytes())
}

/// Moves files back to their paths, the newest version of each.
fn restore(context: &Context, session: &Session<'_>, wanted: &[String]) -> Result<(), Failure> {
    let wanted: Vec<RelPath> = wanted
        .iter()
        .map(|path| parse(context, session, path))
        .collect::<Result<_, _>>()?;
    let is_wanted = |path: &RelPath| wanted.is_empty() || wanted.iter().any(|w| path.is_within(w));
    let root = &session.workspace.root;
    let trash = session.stage.trash();
    let (mut restored, mut seen, mut taken) = (0, Vec::new(), Vec::new());
    for batch in batches(session)?.iter().rev() {
        for path in batch.paths.iter().filter(|path| is_wanted(path)) {
            if seen.contains(path) {
                continue;
            }
            seen.push(path.clone());
            let is_restored = trash.give_back(batch, path, root).map_err(failure)?;
            if is_restored {
                restored += 1;
            } else {
                taken.push(path.clone());
            }
        }
    }
    if seen.is_empty() && !wanted.is_empty() {
        return Err(Failure::usage_with_help(
            "no such file is in the trash",
            "`fbuild trash list` shows all of them",
        ));
    }
    context.print(format!("restored {}\n", count(restored, "file")).as_bytes())?;
    if taken.is_empty() {
        return Ok(());
    }
    let (verb, them) = if taken.len() == 1 {
        ("exists", "it")
    } else {
        ("exist", "them")
    };
    let paths = outputs::list_paths(&taken, taken.len());
    let message = format!("{paths} {verb}; the trash keeps the other version");
    let help = format!("move or delete {them}, then run `fbuild trash restore` again");
    Err(Failure::usage_with_help(message, help))
}

fn empty(context: &Context) -> Result<(), Failure> {
    let host = context.host()?;
    let session = Session::open(&host, Access::Write, Start::default())?;
    let files: usize = batches(&session)?
        .iter()
        .map(|batch| batch.paths.len())
        .sum();
    session.stage.trash().delete_older(0).map_err(failure)?;
    session.close();
    context.print(format!("deleted {}\n", count(files, "file")).as_bytes())
}

fn batches(session: &Session<'_>) -> Result<Vec<TrashBatch>, Failure> {
    session.stage.trash().batches().map_err(failure)
}

/// Reads a path relative to the working directory.
fn parse(context: &Context, session: &Session<'_>, text: &str) -> Result<RelPath, Failure> {
    let folder = context.folder();
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let path = session.workspace.root.relative(&folder.join(text));
    path.ok_or_else(|| Failure::usage(format!("`{text}` is not a path in the project")))
}

fn age(batch: &TrashBatch) -> String {
    let now = stamp::now() / MILLISECOND;
    duration(u64::try_from(now - batch.time).unwrap_or(0))
}

fn failure(error: outputs::Error) -> Failure {
    Failure::of(Exit::World, &error)
}
