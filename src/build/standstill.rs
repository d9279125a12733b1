//! What need not be found out because a run that went well found it out, and nothing has
//! moved since: that all targets are up to date, or that most of them are. It asks of each
//! file only what the system says of it, and knows of targets only their patterns; whatever
//! moved leaves the question to a run of the usual kind.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::tools;
use crate::action::environment::HostEnv;
use crate::action::index::FileIndex;
use crate::buildfile::model::{Output, Target};
use crate::digest::Digest;
use crate::glob::Pattern;
use crate::graph::TargetId;
use crate::journal::standstill::{Conditions, Standstill};
use crate::journal::{Memory, standstill};
use crate::path::Root;
use crate::stamp::Stamp;
use crate::store::Disk;
use crate::workspace::{Layout, Workspace};

/// Who asks, and for what.
pub struct Asked<'a> {
    /// The Buildfile.
    pub buildfile: &'a Path,
    /// The folders that go with it.
    pub layout: &'a Layout,
    /// The names of what is wanted.
    pub names: &'a [String],
    /// The variables around fbuild.
    pub host_env: &'a HostEnv,
}

/// What an earlier run found out that still holds.
pub struct Known(Standstill);

/// A run that went well.
pub struct Done<'a> {
    /// The Buildfile as it was read.
    pub workspace: &'a Workspace,
    /// What it looked at.
    pub index: &'a FileIndex,
    /// What it remembered, saved by now.
    pub memory: &'a Memory,
    /// The variables around fbuild.
    pub host_env: &'a HostEnv,
    /// The folder of its store, if that is in one.
    pub store: Option<PathBuf>,
    /// What was asked for.
    pub names: &'a [String],
    /// The targets that this stands for.
    pub wanted: &'a [TargetId],
    /// What was known when it began.
    pub known: Option<&'a mut Known>,
}

/// Returns what is known from an earlier run that was asked the same. To be called under
/// the lock of the tree, which the run that relies on it must not let go in between.
pub fn ask(asked: &Asked<'_>) -> Option<Known> {
    let layout = asked.layout;
    let still = Standstill::read(&layout.standstill(), &layout.successes())?;
    let then = still.conditions();
    let is_first = |(path, _): &(PathBuf, Digest)| path == asked.buildfile;
    let is_asked = then.names == asked.names && then.texts.first().is_some_and(is_first);
    is_asked.then_some(())?;
    let root = Root::open(&then.root_as_named).ok()?;
    let is_same = |then: &Conditions| is_same(then, &root, asked.host_env);
    let mut still = still.compare(&root, is_same)?;
    still.refresh_touched(&layout.standstill(), &root);
    Some(Known(still))
}

impl Known {
    /// Returns how many targets are up to date, if all are.
    pub fn up_to_date(&self) -> Option<usize> {
        self.0.up_to_date()
    }

    /// Tells whether it is of the same texts and the same root.
    pub fn is_of(&self, workspace: &Workspace) -> bool {
        let then = self.0.conditions();
        then.texts == workspace.texts() && then.root == workspace.root.path()
    }

    /// Tells whether anything moved that a target looks at.
    pub(super) fn has_moved(&self, target: &Target) -> bool {
        let inputs = target.inputs.iter().flat_map(|inputs| &inputs.patterns);
        let outputs = target.outputs.iter().flat_map(|outputs| &outputs.paths);
        let has_output_moved = |output: &Output| match output {
            Output::File(path) => self.0.has_moved(&Pattern::literal_path(path)),
            Output::Folder(path) => {
                self.0.has_moved(&Pattern::literal_path(path))
                    || self.0.has_moved(&Pattern::everything_below(path))
            }
            Output::Glob(pattern) => self.0.has_moved(pattern),
        };
        inputs
            .into_iter()
            .any(|input| self.0.has_moved(&input.value))
            || outputs
                .into_iter()
                .any(|output| has_output_moved(&output.value))
    }
}

/// Keeps for [`ask`] what a run found out, unless there is something to be said each time.
pub fn keep(mut done: Done<'_>) -> io::Result<()> {
    let (workspace, layout) = (done.workspace, &done.workspace.layout);
    let Some(tools) = done.tools().filter(|_| workspace.diagnostics.is_empty()) else {
        return Ok(());
    };
    let conditions = Conditions {
        texts: workspace.texts().to_vec(),
        root_as_named: workspace.root_as_named(),
        root: workspace.root.path().to_owned(),
        store: done.store.clone(),
        names: done.names.to_vec(),
        variables: done.variables(),
        secrets: done.secrets(),
        tools,
    };
    let earlier = done.known.take().map(|known| &mut known.0);
    if earlier
        .as_ref()
        .is_some_and(|earlier| *earlier.conditions() != conditions)
    {
        // Something changed while the run went on, which found out some of it before that.
        return Ok(());
    }
    let run = standstill::Run {
        index: done.index,
        earlier,
        targets: done.wanted.len(),
        is_final: done.targets().all(|target| target.cache),
    };
    standstill::keep(&layout.standstill(), &layout.successes(), run, conditions)
}

impl Done<'_> {
    fn targets(&self) -> impl Iterator<Item = &Target> {
        let graph = &self.workspace.graph;
        self.wanted.iter().map(|id| graph.target(*id))
    }

    /// Returns the variables that targets declare, with the digests of their values.
    fn variables(&self) -> Vec<(String, Option<Digest>)> {
        let variables = self.targets().flat_map(|target| &target.env);
        let names: BTreeSet<&str> = variables.map(|var| var.name.value.as_str()).collect();
        let value = |name: &str| (name.to_owned(), value_of(self.host_env, name));
        names.into_iter().map(value).collect()
    }

    /// Returns the names of secrets and whether each is set.
    fn secrets(&self) -> Vec<(String, bool)> {
        let secrets = self.targets().flat_map(|target| &target.secret);
        let names: BTreeSet<&str> = secrets.map(|name| name.value.as_str()).collect();
        let is_set = |name: &str| (name.to_owned(), is_set(self.host_env, name));
        names.into_iter().map(is_set).collect()
    }

    /// Returns the tools as they are found now; `None` if one is not what the run asked.
    fn tools(&self) -> Option<Vec<(String, PathBuf, Stamp)>> {
        let graph = &self.workspace.graph;
        let names = self.targets().flat_map(|target| &target.tools);
        let names = names.map(|tool| tool.value.as_str());
        let names: BTreeSet<&str> = names.filter(|name| graph.tool(name).is_some()).collect();
        let tools = names.into_iter().map(|name| {
            let found = find(self.host_env, &self.workspace.root, name)?;
            let probed = self.memory.tool(name)?;
            let is_probed = probed.program == found.0 && probed.stamp == found.1;
            is_probed.then(|| (name.to_owned(), found.0, found.1))
        });
        tools.collect()
    }
}

/// Tells whether the conditions are what they were; `root` is the root of now.
fn is_same(then: &Conditions, root: &Root, host_env: &HostEnv) -> bool {
    let is_same_variable =
        |(name, value): &(String, Option<Digest>)| value_of(host_env, name) == *value;
    let is_same_secret = |(name, was_set): &(String, bool)| is_set(host_env, name) == *was_set;
    let is_same_tool = |(name, program, stamp): &(String, PathBuf, Stamp)| {
        find(host_env, root, name).is_some_and(|found| found == (program.clone(), *stamp))
    };
    let is_same_text = |(path, digest): &(PathBuf, Digest)| digest_of(path) == Some(*digest);
    root.path() == then.root
        && then.variables.iter().all(is_same_variable)
        && then.secrets.iter().all(is_same_secret)
        && then.store.as_deref().is_none_or(Disk::is_sound)
        && then.tools.iter().all(is_same_tool)
        && then.texts.iter().all(is_same_text)
}

fn is_set(host_env: &HostEnv, name: &str) -> bool {
    host_env.contains_key(OsStr::new(name))
}

/// Returns the digest of a variable's value.
fn value_of(host_env: &HostEnv, name: &str) -> Option<Digest> {
    let value = host_env.get(OsStr::new(name))?;
    Some(Digest::of(value.as_encoded_bytes()))
}

/// Finds a tool's program file and its stamp; `None` unless it has both.
fn find(host_env: &HostEnv, root: &Root, name: &str) -> Option<(PathBuf, Stamp)> {
    let (program, stamp) = tools::find(host_env, root, name).ok()?;
    Some((program, stamp?))
}

fn digest_of(path: &Path) -> Option<Digest> {
    let mut file = std::fs::File::open(path).ok()?;
    Digest::of_reader(&mut file, &mut Vec::new()).ok()
}
