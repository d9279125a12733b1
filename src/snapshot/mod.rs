//! Detects that nothing changed since the last clean run, so that a build can be skipped
//! entirely or for most of its targets.
//!
//! A clean run (all targets succeeded, no warning) [`record`]s a *snapshot*: the conditions
//! it ran under (Buildfile texts, variables, tools; see [`conditions`]) and what it observed
//! of the tree: every path that it examined, with what must still be true of it (from
//! [`FileIndex::observe`]). Before the next run does anything else, it [`check`]s both:
//!
//! 1. All conditions and observations hold: there is nothing to do.
//! 2. Some files have another mtime and the same content ([`mtime_only`]): the same.
//! 3. Some observations fail ([`compare`]): each is a [`Change`]. A target whose patterns no
//!    change [concerns](Snapshot::concerns) is up to date unless a target before it ran. The
//!    others are examined as usual, and their observations [`merge`]d into the snapshot.
//! 4. A condition differs, or too much changed: there is no snapshot. All is examined.
//!
//! Whatever changed too recently to be sure, or during the run, is recorded as *racy*: it
//! never holds. So a snapshot may be incomplete in the direction of more work only.

mod change;
mod compare;
mod conditions;
mod entry;
mod file;
mod links;
mod list;
mod merge;
mod mtime_only;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::action::environment::HostEnv;
use crate::action::index::FileIndex;
use crate::action::tools::{ProbedTool, ToolSite};
use crate::buildfile::model::{Output, Target};
use crate::glob::Pattern;
use crate::graph::TargetId;
use crate::journal::Memory;
use crate::path::Root;
use crate::workspace::{Layout, Workspace};

pub use change::Change;
use compare::Failed;
pub use conditions::Probing;
use file::{Header, SnapshotFile};
use list::Builder;
use merge::Earlier;

/// From how many bytes of observations on they are compared by another thread, while this
/// one checks the conditions.
const MANY: usize = 64 * 1024;

/// The targets and options of a run.
pub struct Query<'a> {
    /// The Buildfile.
    pub buildfile: &'a Path,
    /// The folders that go with it.
    pub layout: &'a Layout,
    /// The targets and groups that are named.
    pub names: &'a [String],
    /// The variables around fbuild.
    pub host_env: &'a HostEnv,
    /// The permission to probe tools.
    pub probing: Probing<'a>,
}

/// A run in which everything succeeded.
pub struct CleanRun<'a> {
    /// The Buildfile as it was read.
    pub workspace: &'a Workspace,
    /// The paths that it examined.
    pub index: &'a FileIndex,
    /// The last successes and tools, saved before.
    pub memory: &'a Memory,
    /// The variables around fbuild.
    pub host_env: &'a HostEnv,
    /// The folder of its store, if it has one.
    pub store: Option<PathBuf>,
    /// The targets and groups that were named.
    pub names: &'a [String],
    /// The targets that this stands for.
    pub wanted: &'a [TargetId],
    /// Those among them that were not replaced by committed outputs: their tools count.
    pub built: &'a [TargetId],
    /// How many targets took part.
    pub count: usize,
    /// The snapshot that it began with.
    pub earlier: Option<&'a mut Snapshot>,
}

/// The snapshot of the last clean run, and what changed since.
pub struct Snapshot {
    file: SnapshotFile,
    /// The numbers of the observations that failed, sorted.
    failed: Vec<usize>,
    changes: Vec<Change>,
}

/// Returns the snapshot that the last run for the same query left, compared with the disk;
/// `None` if it does not apply. The caller holds the lock of the tree, and keeps it until the
/// run that relies on the snapshot has ended.
pub fn check(query: &Query<'_>) -> Option<Snapshot> {
    let file = SnapshotFile::read(query.layout)?;
    let conditions = &file.header.conditions;
    let buildfile = conditions.facts.texts.first().map(|(path, _)| &**path);
    if conditions.facts.names != query.names || buildfile != Some(query.buildfile) {
        return None;
    }
    let root = Root::open(&conditions.facts.root_as_named).ok()?;
    let failed = failures(&file, &root, query)?;
    let (failed, mut changes): (Vec<usize>, Vec<Change>) = failed.into_iter().unzip();
    if !changes.is_empty() {
        links::add_changes_behind(file.list()?, &mut changes)?;
    }
    let mut snapshot = Snapshot {
        file,
        failed,
        changes,
    };
    snapshot.refresh_touched(query.layout, &root);
    Some(snapshot)
}

/// Returns the observations that fail; `None` if a condition does, or too many of them.
fn failures(file: &SnapshotFile, root: &Root, query: &Query<'_>) -> Option<Vec<Failed>> {
    let (list, conditions) = (file.list()?, &file.header.conditions);
    let still_hold = || conditions.still_hold(query.host_env, root, query.probing);
    let stop = AtomicBool::new(false);
    if file.list_size() < MANY {
        if !still_hold() {
            return None;
        }
        return compare::compare(list, root, &stop);
    }
    std::thread::scope(|threads| {
        let failed = threads.spawn(|| compare::compare(list, root, &stop));
        let still_hold = still_hold();
        if !still_hold {
            stop.store(true, Ordering::Relaxed);
        }
        failed.join().ok().flatten().filter(|_| still_hold)
    })
}

impl Snapshot {
    /// Returns how many targets are up to date, if all are.
    pub fn up_to_date(&self) -> Option<usize> {
        let header = &self.file.header;
        (self.failed.is_empty() && header.is_final).then_some(header.targets)
    }

    /// Returns true if it is of a run for the same names.
    pub fn is_for(&self, names: &[String]) -> bool {
        self.file.header.conditions.facts.names == names
    }

    /// Returns true if it is of the same texts and the same root.
    pub fn is_of(&self, workspace: &Workspace) -> bool {
        let facts = &self.file.header.conditions.facts;
        let texts = facts.texts.iter().map(|(path, digest)| (&**path, digest));
        let read = workspace
            .texts()
            .iter()
            .map(|(path, digest)| (&**path, digest));
        texts.eq(read)
            && facts.listings == workspace.listings()
            && *facts.root == *workspace.root.path()
    }

    /// Returns the version of the tool at a site, which was checked with the snapshot.
    pub fn tool(&self, site: &ToolSite) -> Option<&ProbedTool> {
        self.file.header.conditions.tool(site)
    }

    /// Returns true if something changed that a target may read or that it makes.
    pub fn concerns(&self, target: &Target) -> bool {
        let mut inputs = target.inputs.iter().flat_map(|inputs| &inputs.patterns);
        inputs.any(|input| self.concerns_pattern(&input.value)) || self.concerns_outputs(target)
    }

    /// Returns true if an output of a target changed, or the content behind a link among them.
    /// That concerns the targets that need it, too: such content is part of their keys.
    pub fn concerns_outputs(&self, target: &Target) -> bool {
        let mut outputs = target.outputs.iter().flat_map(|outputs| &outputs.paths);
        outputs.any(|output| match &output.value {
            Output::File(path) => self.concerns_pattern(&Pattern::literal_path(path)),
            Output::Folder(path) => {
                self.concerns_pattern(&Pattern::literal_path(path))
                    || self.concerns_pattern(&Pattern::everything_below(path))
            }
            Output::Glob(pattern) => self.concerns_pattern(pattern),
        })
    }

    fn concerns_pattern(&self, pattern: &Pattern) -> bool {
        self.changes.iter().any(|change| change.concerns(pattern))
    }

    /// Forgets the changes if all of them are files with another mtime and the same content.
    fn refresh_touched(&mut self, layout: &Layout, root: &Root) {
        if self.failed.is_empty() || !self.file.header.is_final {
            return;
        }
        let list = self.file.list();
        let edits = list.and_then(|list| mtime_only::refresh(list, &self.failed, root, layout));
        // Without the edits on disk the observations would fail again in the next run, which
        // must then know that they failed before: keep the changes.
        if edits.is_some_and(|edits| edits.is_empty() || self.file.edit(layout, edits).is_ok()) {
            self.failed.clear();
            self.changes.clear();
        }
    }

    fn as_earlier(&self) -> Option<Earlier<'_>> {
        let (list, failed) = (self.file.list()?, &self.failed);
        Some(Earlier { list, failed })
    }

    /// Replaces the header and the few observations that differ, if that is enough.
    fn update(&mut self, layout: &Layout, header: &Header, fresh: &Builder) -> bool {
        let edits = self
            .as_earlier()
            .and_then(|earlier| merge::edits(fresh, earlier));
        edits.is_some_and(|edits| self.file.edit_with_header(layout, header, edits).is_ok())
    }
}

/// Records the snapshot of a clean run for the next [`check`].
///
/// Records nothing if the run cannot be repeated by doing nothing: it has diagnostics to show
/// each time, or a condition changed while it went on.
pub fn record(mut run: CleanRun<'_>) -> io::Result<()> {
    let layout = &run.workspace.layout;
    if !run.workspace.diagnostics.is_empty() {
        return Ok(());
    }
    let Some(conditions) = run.conditions() else {
        return Ok(());
    };
    let mut earlier = run.earlier.take();
    if let Some(earlier) = &earlier
        && earlier.file.header.conditions != conditions
    {
        return Ok(());
    }
    let is_final = run.targets().all(|target| target.cache);
    let Some(header) = Header::new(layout, conditions, run.count, is_final) else {
        return Ok(());
    };
    let mut fresh = Builder::default();
    run.index
        .observe(|path, expected| fresh.push(path, &expected));
    if let Some(earlier) = &mut earlier
        && earlier.update(layout, &header, &fresh)
    {
        return Ok(());
    }
    let list = match earlier {
        Some(earlier) => earlier
            .as_earlier()
            .and_then(|earlier| merge::merge(&fresh, earlier)),
        None => fresh.finish(),
    };
    match list {
        Some(list) => file::write(layout, &header, &list),
        None => Ok(()),
    }
}

impl CleanRun<'_> {
    /// Returns the targets that it brought up to date.
    fn targets(&self) -> impl Iterator<Item = &Target> {
        let graph = &self.workspace.graph;
        self.wanted.iter().map(|id| graph.target(*id))
    }
}

#[cfg(test)]
mod tests;
