//! Everything except files that decides what a run finds: the Buildfile's texts, variables,
//! secrets, tools, the program itself, the boot.
//!
//! [`Conditions::observe`] is the only walk over them. Recording and checking both use it, so
//! what is stored and what is compared cannot differ.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::CleanRun;
use crate::action::environment::HostEnv;
use crate::action::index::boot_id;
use crate::digest::Digest;
use crate::exec;
use crate::path::Root;
use crate::stamp::Stamp;
use crate::store::Disk;

/// The program that runs, wherever it is.
const PROGRAM: &str = "/proc/self/exe";

/// The conditions of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Conditions {
    /// Another version, or another build of the same, may find something else.
    fbuild: String,
    program: Stamp,
    /// After a crash, stamps may have reached the disk and contents not.
    boot: String,
    /// The targets and groups that were named.
    pub(super) names: Vec<String>,
    /// The texts of the Buildfile, the main one first.
    pub(super) texts: Vec<(PathBuf, Digest)>,
    /// The root as the Buildfile names it, and without links.
    pub(super) root_as_named: PathBuf,
    pub(super) root: PathBuf,
    /// The folder of the store, if it has one.
    store: Option<PathBuf>,
    /// The variables in keys; unset ones are `None`.
    variables: Vec<(String, Option<Digest>)>,
    /// The secrets in keys, and whether each is set; their values are stored nowhere.
    secrets: Vec<(String, bool)>,
    pub(super) tools: Vec<FoundTool>,
}

/// A tool in keys, and the program file that it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FoundTool {
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) stamp: Stamp,
}

/// The names of the conditions to observe.
pub(super) struct Subjects<'a> {
    pub(super) names: &'a [String],
    pub(super) texts: Vec<&'a Path>,
    pub(super) root_as_named: &'a Path,
    pub(super) store: Option<&'a Path>,
    pub(super) variables: Vec<&'a str>,
    pub(super) secrets: Vec<&'a str>,
    pub(super) tools: Vec<&'a str>,
}

impl Conditions {
    /// Observes the conditions; `None` if one cannot be relied on: a tool is not found, a text
    /// cannot be read (`digest_of` returns its digest), the store is damaged.
    pub(super) fn observe(
        subjects: &Subjects<'_>,
        host_env: &HostEnv,
        root: &Root,
        digest_of: impl Fn(&Path) -> Option<Digest>,
    ) -> Option<Self> {
        if subjects.store.is_some_and(|store| !Disk::is_sound(store)) {
            return None;
        }
        let text = |path: &&Path| Some((path.to_path_buf(), digest_of(path)?));
        let variable = |name: &&str| ((*name).to_owned(), digest_of_variable(host_env, name));
        let is_set = |name: &str| host_env.contains_key(OsStr::new(name));
        let secret = |name: &&str| ((*name).to_owned(), is_set(name));
        let tool = |name: &&str| FoundTool::find(name, host_env, root);
        Some(Self {
            fbuild: env!("CARGO_PKG_VERSION").to_owned(),
            program: Stamp::of_path(Path::new(PROGRAM))?,
            boot: boot_id(),
            names: subjects.names.to_vec(),
            root_as_named: subjects.root_as_named.to_owned(),
            root: root.path().to_owned(),
            store: subjects.store.map(Path::to_owned),
            variables: subjects.variables.iter().map(variable).collect(),
            secrets: subjects.secrets.iter().map(secret).collect(),
            tools: subjects.tools.iter().map(tool).collect::<Option<_>>()?,
            texts: subjects.texts.iter().map(text).collect::<Option<_>>()?,
        })
    }

    /// Returns the names of these conditions, to observe them again.
    pub(super) fn subjects(&self) -> Subjects<'_> {
        Subjects {
            names: &self.names,
            texts: self.texts.iter().map(|(path, _)| &**path).collect(),
            root_as_named: &self.root_as_named,
            store: self.store.as_deref(),
            variables: self.variables.iter().map(|(name, _)| &**name).collect(),
            secrets: self.secrets.iter().map(|(name, _)| &**name).collect(),
            tools: self.tools.iter().map(|tool| &*tool.name).collect(),
        }
    }

    /// Returns true if the conditions are still the same in `root`, which is opened again.
    pub(super) fn still_hold(&self, host_env: &HostEnv, root: &Root) -> bool {
        Self::observe(&self.subjects(), host_env, root, read_digest).as_ref() == Some(self)
    }
}

impl CleanRun<'_> {
    /// Observes the conditions that the run was made under; `None` if one changed since.
    pub(super) fn conditions(&self) -> Option<Conditions> {
        let (workspace, graph) = (self.workspace, &self.workspace.graph);
        let variables = self.targets().flat_map(|target| &target.env);
        let secrets = self.targets().flat_map(|target| &target.secret);
        let tools = self.targets().flat_map(|target| &target.tools);
        let tools = tools.filter(|tool| graph.tool(&tool.value).is_some());
        // The texts as the run read them: those on the disk may be newer.
        let texts: HashMap<&Path, Digest> =
            workspace.texts().iter().map(|(p, d)| (&**p, *d)).collect();
        let subjects = Subjects {
            names: self.names,
            texts: workspace.texts().iter().map(|(path, _)| &**path).collect(),
            root_as_named: &workspace.root_as_named(),
            store: self.store.as_deref(),
            variables: each_once(variables.map(|var| &*var.name.value)),
            secrets: each_once(secrets.map(|name| &*name.value)),
            tools: each_once(tools.map(|tool| &*tool.value)),
        };
        let digest_of = |text: &Path| texts.get(text).copied();
        let found = Conditions::observe(&subjects, self.host_env, &workspace.root, digest_of)?;
        let is_probed = |tool: &FoundTool| {
            let probed = self.memory.tool(&tool.name);
            probed.is_some_and(|p| (&p.program, p.stamp) == (&tool.program, tool.stamp))
        };
        found.tools.iter().all(is_probed).then_some(found)
    }
}

/// Returns the names, sorted, each once.
fn each_once<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

impl FoundTool {
    fn find(name: &str, host_env: &HostEnv, root: &Root) -> Option<Self> {
        let path = host_env.get(OsStr::new("PATH")).map(|path| &**path);
        let program = exec::find(OsStr::new(name), path, root.path()).ok()?;
        Some(Self {
            name: name.to_owned(),
            stamp: Stamp::of_path(&program)?,
            program,
        })
    }
}

fn digest_of_variable(host_env: &HostEnv, name: &str) -> Option<Digest> {
    let value = host_env.get(OsStr::new(name))?;
    Some(Digest::of(value.as_encoded_bytes()))
}

fn read_digest(path: &Path) -> Option<Digest> {
    let mut file = std::fs::File::open(path).ok()?;
    Digest::of_reader(&mut file, &mut Vec::new()).ok()
}
