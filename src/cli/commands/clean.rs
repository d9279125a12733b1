//! `fbuild clean`: removes what targets made, but for what lives in version control.

use crate::action::{OutputSpec, inputs};
use crate::cli::args::Clean;
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::session::{Access, Session};
use crate::graph::TargetId;
use crate::report::text::count;
use crate::store::outputs;

pub(in crate::cli) fn run(context: &Context, args: &Clean) -> Result<(), Failure> {
    let session = Session::open(context, Access::Write)?;
    let wanted: Vec<TargetId> = match args.targets.is_empty() {
        true => session.workspace.graph.ids().collect(),
        false => session.choose(&args.targets)?,
    };
    let removed = remove_outputs(&session, &wanted)?;
    let text = format!(
        "removed {} of {}\n",
        count(removed, "output"),
        count(wanted.len(), "target")
    );
    match args.all {
        true => remove_state(session)?,
        false => session.close(),
    }
    context.print(text.as_bytes())
}

/// Removes the outputs of targets and returns how many files and links there were.
fn remove_outputs(session: &Session<'_>, wanted: &[TargetId]) -> Result<usize, Failure> {
    let mut removed = 0;
    for id in wanted {
        let target = session.workspace.graph.target(*id);
        let mut specs: Vec<OutputSpec> = inputs::specs(target);
        specs.retain(|spec| !spec.committed);
        let found = inputs::find_outputs(&session.index, &specs);
        removed += found
            .map_err(|error| Failure::of(Exit::World, &error))?
            .len();
        let aside = outputs::set_aside(session.stage(), &specs);
        aside
            .map_err(|error| Failure::of(Exit::World, &error))?
            .discard();
    }
    Ok(removed)
}

/// Removes the cache and all that is remembered.
fn remove_state(session: Session<'_>) -> Result<(), Failure> {
    let state = session.layout.state().to_owned();
    let removed = std::fs::remove_dir_all(&state);
    removed.map_err(|error| Failure::world(&format!("cannot remove `{}`", state.display()), &error))
}
