//! Everything except files that decides what a run finds: the Buildfile's texts, variables,
//! secrets, tools, the program itself, the boot.
//!
//! [`Facts::observe`] is the only walk over them. Recording and checking both use it, so
//! what is stored and what is compared cannot differ.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::CleanRun;
use crate::action::environment::HostEnv;
use crate::action::index::boot_id;
use crate::action::tools::{ProbedTool, ToolFile, ToolSite, ToolSites};
use crate::buildfile::listing::Listing;
use crate::cancel::Cancel;
use crate::digest::Digest;
use crate::exec;
use crate::path::{Root, StatePath};
use crate::stamp::Stamp;
use crate::store::Disk;

/// The program that runs, wherever it is.
const PROGRAM: &str = "/proc/self/exe";

/// The conditions of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Conditions {
    pub(super) facts: Facts,
    /// The tools in keys, sorted by their sites.
    tools: Vec<FoundTool>,
}

/// The conditions that are observed without starting a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    /// Another version, or another build of the same, may find something else.
    fbuild: String,
    program: Stamp,
    /// After a crash, stamps may have reached the disk and contents not.
    boot: String,
    /// The targets and groups that were named.
    pub(super) names: Vec<String>,
    /// The texts of the Buildfile, the main one first.
    pub(super) texts: Vec<(StatePath, Digest)>,
    /// The names of files that targets are made of.
    pub(super) listings: Vec<Listing>,
    /// The root as the Buildfile names it, and without links.
    pub(super) root_as_named: StatePath,
    pub(super) root: StatePath,
    /// The folder of the store, if it has one.
    store: Option<StatePath>,
    /// The variables in keys; unset ones are `None`.
    variables: Vec<(String, Option<Digest>)>,
    /// The secrets in keys, and whether each is set; their values are stored nowhere.
    secrets: Vec<(String, bool)>,
}

/// A tool in keys, at the site of its commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FoundTool {
    site: ToolSite,
    probed: ProbedTool,
}

/// The names of the facts to observe.
struct Subjects<'a> {
    names: &'a [String],
    texts: Vec<&'a Path>,
    listings: Vec<Listing>,
    root_as_named: &'a Path,
    store: Option<&'a Path>,
    variables: Vec<&'a str>,
    secrets: Vec<&'a str>,
}

/// The permission to probe tools.
#[derive(Clone, Copy)]
pub struct Probing<'a> {
    /// Called before the first probe.
    pub begin: &'a dyn Fn(),
    /// Raised to stop the probes.
    pub cancel: &'a Cancel,
}

impl Conditions {
    /// Returns true if the conditions are still the same in `root`, which is opened again.
    pub(super) fn still_hold(&self, host_env: &HostEnv, root: &Root, probing: Probing<'_>) -> bool {
        let facts = Facts::observe(&self.facts.subjects(), host_env, root, read_digest);
        // Tools come last: another text of the Buildfile may probe them in another way.
        facts.as_ref() == Some(&self.facts)
            && self.facts.listings.iter().all(Listing::is_current)
            && self.tools_are_same(host_env, root, probing)
    }

    /// Compares the tools. Probes only shims: any other program has the same version while its
    /// file is the same.
    fn tools_are_same(&self, host_env: &HostEnv, root: &Root, probing: Probing<'_>) -> bool {
        let sites: Vec<&ToolSite> = self.tools.iter().map(|tool| &tool.site).collect();
        let files = exec::find_tools(&sites, host_env, root);
        let mut found = self.tools.iter().zip(files);
        let is_same = found.all(|(tool, file)| {
            file.is_ok_and(|file| file == tool.probed.file)
                && tool.site.variables(host_env) == tool.probed.variables
        });
        if !is_same {
            return false;
        }
        let shims = self.tools.iter().filter(|tool| tool.probed.file.is_shim);
        let sites: Vec<&ToolSite> = shims.clone().map(|tool| &tool.site).collect();
        if sites.is_empty() {
            return true;
        }
        (probing.begin)();
        let probed = exec::probe_tools(&sites, host_env, root, probing.cancel);
        let mut probed = shims.zip(probed);
        probed.all(|(tool, now)| now.is_ok_and(|now| now.version == tool.probed.version))
    }

    /// Returns the version of the tool at a site.
    pub(super) fn tool(&self, site: &ToolSite) -> Option<&ProbedTool> {
        let at = self
            .tools
            .binary_search_by(|tool| tool.site.cmp(site))
            .ok()?;
        Some(&self.tools[at].probed)
    }
}

impl Facts {
    /// Observes the facts; `None` if one cannot be relied on: a text cannot be read
    /// (`digest_of` returns its digest), the store is damaged.
    fn observe(
        subjects: &Subjects<'_>,
        host_env: &HostEnv,
        root: &Root,
        digest_of: impl Fn(&Path) -> Option<Digest>,
    ) -> Option<Self> {
        if subjects.store.is_some_and(|store| !Disk::is_sound(store)) {
            return None;
        }
        let text = |path: &&Path| Some((StatePath::from(*path), digest_of(path)?));
        let variable = |name: &&str| ((*name).to_owned(), digest_of_variable(host_env, name));
        let is_set = |name: &str| host_env.contains_key(OsStr::new(name));
        let secret = |name: &&str| ((*name).to_owned(), is_set(name));
        Some(Self {
            fbuild: env!("CARGO_PKG_VERSION").to_owned(),
            program: Stamp::of_path(Path::new(PROGRAM))?,
            boot: boot_id(),
            names: subjects.names.to_vec(),
            root_as_named: subjects.root_as_named.into(),
            root: root.path().into(),
            store: subjects.store.map(StatePath::from),
            variables: subjects.variables.iter().map(variable).collect(),
            secrets: subjects.secrets.iter().map(secret).collect(),
            texts: subjects.texts.iter().map(text).collect::<Option<_>>()?,
            listings: subjects.listings.clone(),
        })
    }

    /// Returns the names of these facts, to observe them again.
    fn subjects(&self) -> Subjects<'_> {
        Subjects {
            names: &self.names,
            texts: self.texts.iter().map(|(path, _)| &**path).collect(),
            listings: self.listings.clone(),
            root_as_named: &self.root_as_named,
            store: self.store.as_deref(),
            variables: self.variables.iter().map(|(name, _)| &**name).collect(),
            secrets: self.secrets.iter().map(|(name, _)| &**name).collect(),
        }
    }
}

impl CleanRun<'_> {
    /// Observes the conditions of a run; `None` if one changed while it went on.
    pub(super) fn conditions(&self) -> Option<Conditions> {
        let workspace = self.workspace;
        let variables = self.targets().flat_map(|target| &target.env);
        let secrets = self.targets().flat_map(|target| &target.secret);
        // The texts as the run read them: those on the disk may be newer.
        let texts: HashMap<&Path, Digest> =
            workspace.texts().iter().map(|(p, d)| (&**p, *d)).collect();
        let subjects = Subjects {
            names: self.names,
            texts: workspace.texts().iter().map(|(path, _)| &**path).collect(),
            listings: workspace.listings().to_vec(),
            root_as_named: &workspace.root_as_named(),
            store: self.store.as_deref(),
            variables: each_once(variables.map(|var| &*var.name.value)),
            secrets: each_once(secrets.map(|name| &*name.value)),
        };
        let digest_of = |text: &Path| texts.get(text).copied();
        Some(Conditions {
            facts: Facts::observe(&subjects, self.host_env, &workspace.root, digest_of)?,
            tools: self.tools()?,
        })
    }

    /// Returns the tools that the run used; `None` if the file of one changed since.
    fn tools(&self) -> Option<Vec<FoundTool>> {
        let workspace = self.workspace;
        let uses = ToolSites::of(&workspace.graph, self.built, self.host_env).uses;
        let sites: BTreeSet<ToolSite> = uses.into_iter().map(|used| used.site).collect();
        let sites: Vec<&ToolSite> = sites.iter().collect();
        let files = exec::find_tools(&sites, self.host_env, &workspace.root);
        let tool = |(site, file): (&&ToolSite, Result<ToolFile, exec::Error>)| {
            let probed = self.memory.tool(&site.id())?;
            (probed.file == file.ok()?).then(|| FoundTool {
                site: (*site).clone(),
                probed: probed.clone(),
            })
        };
        sites.iter().zip(files).map(tool).collect()
    }
}

/// Returns the names, sorted, each once.
fn each_once<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

fn digest_of_variable(host_env: &HostEnv, name: &str) -> Option<Digest> {
    let value = host_env.get(OsStr::new(name))?;
    Some(Digest::of(value.as_encoded_bytes()))
}

fn read_digest(path: &Path) -> Option<Digest> {
    let mut file = std::fs::File::open(path).ok()?;
    Digest::of_reader(&mut file, &mut Vec::new()).ok()
}
