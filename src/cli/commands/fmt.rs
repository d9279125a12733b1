//! `fbuild fmt`: formats the Buildfile and the files that it includes.

use std::path::Path;

use crate::buildfile;
use crate::cli::args::Fmt;
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::rewrite::Rewrite;
use crate::report::text::count;
use crate::source::{SourceFile, Sources, render_all};
use crate::workspace;

/// A file that is not in the standard layout.
struct Changed<'l> {
    path: &'l Path,
    shown: &'l Path,
    text: String,
}

pub(in crate::cli) fn run(context: &Context, args: &Fmt) -> Result<(), Failure> {
    let path = context.buildfile()?;
    let loaded = buildfile::load(&path, &context.shown(&path)).map_err(workspace::Error::from)?;
    let sources = loaded.sources.files();
    let paths = loaded.files.iter().map(|(path, _)| path.as_path());
    let mut changed = Vec::new();
    let mut is_broken = false;
    for (source, path) in sources.iter().zip(paths) {
        match buildfile::format(&source.text) {
            Ok(text) if *text == *source.text => {}
            Ok(text) => changed.push(Changed {
                path,
                shown: &source.path,
                text,
            }),
            Err(mistakes) => {
                context.eprint(&broken(context, source, &mistakes));
                is_broken = true;
            }
        }
    }
    if is_broken {
        context.eprint("a file with syntax errors cannot be formatted; nothing was changed\n");
        return Err(Failure::shown());
    }
    if args.check {
        report(context, &changed, sources.len())
    } else {
        write(context, changed, sources.len())
    }
}

/// Formats the mistakes in a file.
fn broken(context: &Context, file: &SourceFile, mistakes: &[crate::source::Diagnostic]) -> String {
    let mut sources = Sources::default();
    sources.add(&file.path, file.text.clone());
    render_all(mistakes, &sources, context.render_options())
}

fn report(context: &Context, changed: &[Changed<'_>], all: usize) -> Result<(), Failure> {
    if changed.is_empty() {
        return nothing(context, all);
    }
    let line = |file: &Changed<'_>| format!("would change `{}`\n", file.shown.display());
    let lines: String = changed.iter().map(line).collect();
    context.print(lines.as_bytes())?;
    Err(Failure::silent(Exit::Target))
}

fn write(context: &Context, changed: Vec<Changed<'_>>, all: usize) -> Result<(), Failure> {
    if changed.is_empty() {
        return nothing(context, all);
    }
    for file in changed {
        let shown = file.shown.display();
        let written = Rewrite::prepare(file.path, &file.text).and_then(Rewrite::finish);
        written.map_err(|error| Failure::world(&format!("cannot write `{shown}`"), &error))?;
        context.print(format!("changed `{shown}`\n").as_bytes())?;
    }
    Ok(())
}

fn nothing(context: &Context, all: usize) -> Result<(), Failure> {
    context.print(format!("nothing to change in {}\n", count(all, "file")).as_bytes())
}
