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
use crate::action::ToolVersion;
use crate::action::environment::HostEnv;
use crate::action::index::boot_id;
use crate::action::tools::{ProbedTool, ToolFile, ToolSite, ToolSites};
use crate::cancel::Cancel;
use crate::digest::Digest;
use crate::exec;
use crate::journal::Memory;
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
    /// The tools in keys, sorted by their sites.
    pub(super) tools: Vec<FoundTool>,
}

/// A tool in keys, at the site of its commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FoundTool {
    pub(super) site: ToolSite,
    pub(super) probed: ProbedTool,
}

/// The names of the conditions to observe.
pub(super) struct Subjects<'a> {
    pub(super) names: &'a [String],
    pub(super) texts: Vec<&'a Path>,
    pub(super) root_as_named: &'a Path,
    pub(super) store: Option<&'a Path>,
    pub(super) variables: Vec<&'a str>,
    pub(super) secrets: Vec<&'a str>,
    pub(super) tools: Vec<&'a ToolSite>,
}

/// The sources of facts that are expensive to observe.
trait Sources {
    /// Returns the digest of a text of the Buildfile.
    fn digest(&self, text: &Path) -> Option<Digest>;
    /// Returns the versions of tools with these program files.
    fn versions(&self, sites: &[&ToolSite], files: &[ToolFile]) -> Option<Vec<ToolVersion>>;
}

impl Conditions {
    /// Observes the conditions; `None` if one cannot be relied on: a tool is not found, a text
    /// cannot be read, the store is damaged.
    fn observe(
        subjects: &Subjects<'_>,
        host_env: &HostEnv,
        root: &Root,
        sources: &dyn Sources,
    ) -> Option<Self> {
        if subjects.store.is_some_and(|store| !Disk::is_sound(store)) {
            return None;
        }
        let text = |path: &&Path| Some((path.to_path_buf(), sources.digest(path)?));
        let variable = |name: &&str| ((*name).to_owned(), digest_of_variable(host_env, name));
        let is_set = |name: &str| host_env.contains_key(OsStr::new(name));
        let secret = |name: &&str| ((*name).to_owned(), is_set(name));
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
            texts: subjects.texts.iter().map(text).collect::<Option<_>>()?,
            tools: observe_tools(&subjects.tools, host_env, root, sources)?,
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
            tools: self.tools.iter().map(|tool| &tool.site).collect(),
        }
    }

    /// Returns true if the conditions are still the same in `root`, which is opened again.
    pub(super) fn still_hold(&self, host_env: &HostEnv, root: &Root) -> bool {
        let now = Now {
            before: self,
            host_env,
            root,
        };
        Self::observe(&self.subjects(), host_env, root, &now).as_ref() == Some(self)
    }

    /// Returns the version of the tool at a site.
    pub(super) fn tool(&self, site: &ToolSite) -> Option<&ProbedTool> {
        let at = self.tools.binary_search_by(|tool| tool.site.cmp(site)).ok()?;
        Some(&self.tools[at].probed)
    }
}

/// The facts of now, to compare with earlier conditions.
struct Now<'a> {
    before: &'a Conditions,
    host_env: &'a HostEnv,
    root: &'a Root,
}

impl Sources for Now<'_> {
    fn digest(&self, text: &Path) -> Option<Digest> {
        let mut file = std::fs::File::open(text).ok()?;
        Digest::of_reader(&mut file, &mut Vec::new()).ok()
    }

    /// Probes shims only: any other program has the same version while its file is the same.
    fn versions(&self, sites: &[&ToolSite], files: &[ToolFile]) -> Option<Vec<ToolVersion>> {
        let before = self.before.tools.iter().map(|tool| &tool.probed);
        if before.clone().map(|probed| &probed.file).ne(files) {
            return None;
        }
        let mut versions: Vec<_> = before.map(|probed| probed.version.clone()).collect();
        let shims: Vec<usize> = (0..files.len()).filter(|at| files[*at].is_shim).collect();
        let sites: Vec<&ToolSite> = shims.iter().map(|at| sites[*at]).collect();
        let probed = exec::probe_tools(&sites, self.host_env, self.root, &Cancel::new());
        for (at, probed) in shims.into_iter().zip(probed) {
            versions[at] = probed.ok()?.version;
        }
        Some(versions)
    }
}

/// The facts that a run found: those of now may be newer.
struct Found<'a> {
    texts: HashMap<&'a Path, Digest>,
    memory: &'a Memory,
}

impl Sources for Found<'_> {
    fn digest(&self, text: &Path) -> Option<Digest> {
        self.texts.get(text).copied()
    }

    fn versions(&self, sites: &[&ToolSite], files: &[ToolFile]) -> Option<Vec<ToolVersion>> {
        let version = |(site, file): (&&ToolSite, &ToolFile)| {
            let probed = self.memory.tool(&site.id())?;
            (probed.file == *file).then(|| probed.version.clone())
        };
        sites.iter().zip(files).map(version).collect()
    }
}

impl CleanRun<'_> {
    /// Observes the conditions that the run was made under; `None` if one changed since.
    pub(super) fn conditions(&self) -> Option<Conditions> {
        let (workspace, graph) = (self.workspace, &self.workspace.graph);
        let variables = self.targets().flat_map(|target| &target.env);
        let secrets = self.targets().flat_map(|target| &target.secret);
        let tools = ToolSites::of(graph, self.wanted, self.host_env).uses;
        let tools: BTreeSet<&ToolSite> = tools.iter().map(|used| &used.site).collect();
        let texts = workspace.texts().iter();
        let found = Found {
            texts: texts.map(|(path, digest)| (&**path, *digest)).collect(),
            memory: self.memory,
        };
        let subjects = Subjects {
            names: self.names,
            texts: workspace.texts().iter().map(|(path, _)| &**path).collect(),
            root_as_named: &workspace.root_as_named(),
            store: self.store.as_deref(),
            variables: each_once(variables.map(|var| &*var.name.value)),
            secrets: each_once(secrets.map(|name| &*name.value)),
            tools: tools.into_iter().collect(),
        };
        Conditions::observe(&subjects, self.host_env, &workspace.root, &found)
    }
}

/// Finds the tools, and takes their versions from `sources`.
fn observe_tools(
    sites: &[&ToolSite],
    host_env: &HostEnv,
    root: &Root,
    sources: &dyn Sources,
) -> Option<Vec<FoundTool>> {
    let file = |site: &&ToolSite| exec::find_tool(site, host_env, root).ok();
    let files: Vec<ToolFile> = sites.iter().map(file).collect::<Option<_>>()?;
    let versions = sources.versions(sites, &files)?;
    let found = sites.iter().zip(files).zip(versions);
    let found = found.map(|((site, file), version)| FoundTool {
        site: (*site).clone(),
        probed: ProbedTool {
            file,
            variables: site.variables(host_env),
            version,
        },
    });
    Some(found.collect())
}

/// Returns the names, sorted, each once.
fn each_once<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

fn digest_of_variable(host_env: &HostEnv, name: &str) -> Option<Digest> {
    let value = host_env.get(OsStr::new(name))?;
    Some(Digest::of(value.as_encoded_bytes()))
}
