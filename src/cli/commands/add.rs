//! `fbuild add`: adds a target to the Buildfile and keeps its layout and comments. Refuses a
//! target with mistakes.

use std::path::Path;

use crate::buildfile::{self, AddError, Loaded, NewCommand, NewTarget, add_target};
use crate::cli::args::Add;
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::rewrite::Rewrite;
use crate::graph::Graph;
use crate::source::{Diagnostic, Severity, Sources, render_all};
use crate::workspace;

pub(in crate::cli) fn run(context: &Context, args: Add) -> Result<(), Failure> {
    let path = context.buildfile()?;
    let shown = context.shown(&path);
    let before = load(&path, &shown)?;
    let Some(text) = before.sources.files().first().map(|file| file.text.clone()) else {
        unreachable!("bug: a Buildfile was read and has no text");
    };
    let name = args.name.clone();
    let after = add_target(&text, &new_target(args));
    let after = after.map_err(|error| refusal(context, &shown, &text, error))?;
    let cannot = |error| Failure::world(&format!("cannot write `{}`", shown.display()), &error);
    let rewrite = Rewrite::prepare(&path, &after).map_err(cannot)?;
    check(context, before, load(rewrite.path(), &shown)?)?;
    rewrite.finish().map_err(cannot)?;
    context.print(added(&text, &after).as_bytes())?;
    context.eprint(&format!(
        "added to `{}`; `fbuild run {name}` builds it\n",
        shown.display()
    ));
    Ok(())
}

fn load(path: &Path, shown: &Path) -> Result<Loaded, Failure> {
    Ok(buildfile::load(path, shown).map_err(workspace::Error::from)?)
}

fn new_target(args: Add) -> NewTarget {
    let variable = |text: String| match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text, None),
    };
    let script = args.sh.map(NewCommand::Sh);
    let command = (!args.command.is_empty()).then_some(NewCommand::Run(args.command));
    NewTarget {
        name: args.name,
        from: args.from,
        about: args.about,
        needs: args.needs,
        tools: args.tools,
        inputs: args.inputs,
        outputs: args.outputs,
        env: args.env.into_iter().map(variable).collect(),
        commands: script.into_iter().chain(command).collect(),
    }
}

/// Prints the mistakes that prevent a target from being added.
fn refusal(context: &Context, shown: &Path, text: &str, error: AddError) -> Failure {
    let failure = Failure::of(Exit::Usage, &error);
    let (diagnostics, text) = match error {
        AddError::Exists { .. } => return failure,
        AddError::Broken { diagnostics } => (diagnostics, text.to_owned()),
        AddError::Wrong { diagnostics, text } => (diagnostics, text),
    };
    let mut sources = Sources::default();
    sources.add(shown, text);
    context.eprint(&render_all(
        &diagnostics,
        &sources,
        context.render_options(),
    ));
    failure
}

/// Fails if the Buildfile has mistakes that it did not have before.
fn check(context: &Context, before: Loaded, after: Loaded) -> Result<(), Failure> {
    let old: Vec<String> = mistakes(before).0.into_iter().map(|d| d.message).collect();
    let (mut new, sources) = mistakes(after);
    new.retain(|diagnostic| !old.contains(&diagnostic.message));
    context.eprint(&render_all(&new, &sources, context.render_options()));
    if new.iter().any(|d| d.severity == Severity::Error) {
        context.eprint("the new target has mistakes; nothing was written\n");
        Err(Failure::shown())
    } else {
        Ok(())
    }
}

fn mistakes(loaded: Loaded) -> (Vec<Diagnostic>, Sources) {
    let (_, graph_diagnostics) = Graph::new(loaded.buildfile);
    let mut all = loaded.diagnostics;
    all.extend(graph_diagnostics);
    (all, loaded.sources)
}

/// Returns the lines in `after` that are not in `before`, without blank lines around them.
fn added(before: &str, after: &str) -> String {
    let same = |a: &mut dyn Iterator<Item = u8>, b: &mut dyn Iterator<Item = u8>| {
        a.zip(b).take_while(|(a, b)| a == b).count()
    };
    let start = same(&mut before.bytes(), &mut after.bytes());
    let rest = &before.as_bytes()[start..];
    let end = same(&mut rest.iter().rev().copied(), &mut after.bytes().rev());
    let lines = after.get(start..after.len() - end).unwrap_or(after);
    format!("{}\n", lines.trim())
}
