//! `fbuild clean`: removes the outputs of targets, except committed ones.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use crate::action::{Entry, EntryKind, OutputSpec, inputs};
use crate::buildfile::model::Output;
use crate::cli::args::Clean;
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::graph::TargetId;
use crate::journal::ownership::Ownership;
use crate::path::{RelPath, Root};
use crate::report::text::count;
use crate::session::{Access, Session, Start, is_state_name, store_folder};
use crate::store::outputs::{self, Destination};

pub(in crate::cli) fn run(context: &Context, args: &Clean) -> Result<(), Failure> {
    let host = context.host()?;
    let session = Session::open(&host, Access::Write, Start::with_mistakes())?;
    let wanted: Vec<TargetId> = if args.targets.is_empty() {
        session.workspace.graph.ids().collect()
    } else {
        let chosen = session.workspace.graph.select(&args.targets);
        chosen.map_err(|unknown| Failure::unknown_names(&unknown))?
    };
    let removed = remove_outputs(context, args, &session, &wanted)?;
    let text = format!(
        "removed {} of {}\n",
        count(removed, "output"),
        count(wanted.len(), "target")
    );
    if args.all {
        remove_state(context, &session)?
    } else {
        session.close_at_exit()
    }
    context.print(text.as_bytes())
}

/// Removes the outputs of targets and returns the number of files and links.
fn remove_outputs(
    context: &Context,
    args: &Clean,
    session: &Session<'_>,
    wanted: &[TargetId],
) -> Result<usize, Failure> {
    let mut removed = 0;
    let mut emptied = Emptied::new(session);
    let ownership = Ownership {
        replace: args.replace,
        ..session.ownership()
    };
    for id in wanted {
        let target = session.workspace.graph.target(*id);
        let mut specs: Vec<OutputSpec> = inputs::specs(target);
        specs.retain(|spec| !spec.committed);
        let found = inputs::find_outputs(&session.index, &specs);
        let found = found.map_err(|error| Failure::of(Exit::World, &error))?;
        let is_folder = |entry: &&Entry| entry.kind == EntryKind::Folder;
        emptied.add(&specs, &found);
        let destination = Destination {
            stage: &session.stage,
            specs: &specs,
            claims: &ownership.of(&target.name.value, session.last(*id)),
        };
        let cleaned = outputs::remove_outputs(&destination)
            .map_err(|error| Failure::of(Exit::World, &error))?;
        session.release(found.iter().map(|entry| entry.path.clone()).collect());
        removed += cleaned.removed;
        for files in &cleaned.left {
            context.eprint(&format!("left: {files}\n"));
        }
        if let Some(warning) = outputs::trashed(&cleaned.trashed) {
            context.warn(&warning);
        }
        for folder in found.iter().filter(is_folder).rev() {
            // Ignore the error: a folder with kept files stays.
            let _ = std::fs::remove_dir(session.workspace.root.absolute(&folder.path));
        }
    }
    emptied.remove();
    Ok(removed)
}

/// Folders that may be empty once the outputs are removed.
struct Emptied<'s> {
    root: &'s Root,
    /// The working directories of commands, which the next run needs.
    kept: BTreeSet<&'s RelPath>,
    folders: BTreeSet<RelPath>,
}

impl<'s> Emptied<'s> {
    fn new(session: &'s Session<'_>) -> Self {
        let graph = &session.workspace.graph;
        Self {
            root: &session.workspace.root,
            kept: graph.ids().map(|id| &graph.target(id).dir).collect(),
            folders: BTreeSet::new(),
        }
    }

    /// Adds the folders of a target's outputs, before these are removed.
    fn add(&mut self, specs: &[OutputSpec], found: &[Entry]) {
        for entry in found {
            self.folders.extend(above(&entry.path));
        }
        for spec in specs {
            let folder = match &spec.output {
                Output::File(path) => path.parent().unwrap_or_default(),
                Output::Folder(path) => path.clone(),
                Output::Glob(pattern) => pattern.folder().clone(),
            };
            let folders = above(&folder).chain([folder.clone()]);
            let is_new = |folder: &RelPath| !self.root.absolute(folder).exists();
            self.folders
                .extend(folders.filter(is_new).collect::<Vec<_>>());
        }
    }

    /// Removes the folders that are empty now, the innermost first.
    fn remove(self) {
        let gone = self.folders.iter().rev();
        for folder in gone.filter(|folder| !folder.is_root() && !self.kept.contains(folder)) {
            // Ignore the error: a folder with other files stays.
            let _ = std::fs::remove_dir(self.root.absolute(folder));
        }
    }
}

/// Returns the folders above a path.
fn above(path: &RelPath) -> impl Iterator<Item = RelPath> + use<> {
    std::iter::successors(path.parent(), RelPath::parent)
}

/// Removes the cache and all other state. Removes the lock last, because it makes other runs
/// wait until then.
fn remove_state(context: &Context, session: &Session<'_>) -> Result<(), Failure> {
    let state = session.layout().state();
    remove_own(state, &session.layout().lock())
        .and_then(|()| std::fs::remove_file(session.layout().lock()))
        .or_else(|error| ignore(error, io::ErrorKind::NotFound))
        .and_then(|()| std::fs::remove_dir(state))
        .or_else(|error| ignore(error, io::ErrorKind::DirectoryNotEmpty))
        .map_err(|error| Failure::world(&format!("cannot remove `{}`", state.display()), &error))?;
    let store = store_folder(&session.workspace);
    if store.is_dir() {
        let store = context.shown(&store);
        context.eprint(&format!(
            "the cache in `{}` may be shared and is kept; `fbuild cache clear` empties it\n",
            store.display()
        ));
    }
    Ok(())
}

/// Removes the entries of a state folder that fbuild makes, except one.
fn remove_own(folder: &Path, kept: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        match entry.path() {
            path if path == kept || !is_state_name(&entry.file_name()) => {}
            path if entry.file_type()?.is_dir() => std::fs::remove_dir_all(path)?,
            path => std::fs::remove_file(path)?,
        }
    }
    Ok(())
}

fn ignore(error: io::Error, kind: io::ErrorKind) -> io::Result<()> {
    if error.kind() == kind {
        Ok(())
    } else {
        Err(error)
    }
}
