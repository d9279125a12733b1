//! A tool as the commands of a target use it: from their folder, with their variables. Finding
//! its program and running its probe is up to `exec`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};

use serde::{Deserialize, Serialize};

use super::ToolVersion;
use super::environment::{Environment, HostEnv, STANDARD};
use crate::buildfile::model::{EnvValue, Target, Tool};
use crate::digest::Digest;
use crate::graph::{Graph, TargetId};
use crate::path::{RelPath, StatePath};
use crate::stamp::Stamp;

/// A tool and the circumstances that can decide its version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ToolSite {
    /// The name of the program.
    pub name: String,
    /// The command that prints its version.
    pub probe: Vec<String>,
    /// The working directory of the commands.
    pub dir: RelPath,
    /// The declared variables with their values; unset ones are `None`.
    pub env: BTreeMap<String, Option<OsString>>,
    /// The names of the variables that commands inherit besides [`STANDARD`].
    pub pass: Vec<String>,
}

/// The sites of the tools of several targets.
pub struct ToolSites<'g> {
    /// The class of each target that uses tools. Targets of a class share their sites.
    pub classes: HashMap<TargetId, usize>,
    /// The tools of each class.
    pub uses: Vec<ToolUse<'g>>,
}

/// A tool at the site of a class.
pub struct ToolUse<'g> {
    /// The class.
    pub class: usize,
    /// The tool as declared.
    pub tool: &'g Tool,
    /// Its site.
    pub site: ToolSite,
}

/// The facts that make a class: those of a target that a site depends on.
#[derive(PartialEq, Eq, Hash)]
struct Class<'g> {
    dir: &'g RelPath,
    env: Vec<(&'g str, &'g EnvValue)>,
    pass: Vec<&'g str>,
}

/// The program file of a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolFile {
    /// Its path.
    pub path: StatePath,
    /// Its stamp.
    pub stamp: Stamp,
    /// Whether it can be another version without having changed, because it starts another
    /// program: it is a link, a script, or a known shim.
    pub is_shim: bool,
}

/// A version of a tool, and what it was found under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbedTool {
    /// The program file.
    pub file: ToolFile,
    /// The digest of the variables; see [`ToolSite::variables`].
    pub variables: Digest,
    /// The version.
    pub version: ToolVersion,
}

impl ToolSite {
    /// Returns the site of a tool in a target.
    pub fn of(target: &Target, tool: &Tool, host_env: &HostEnv) -> Self {
        let is_declared = |name: &str| target.env.iter().any(|var| var.name.value == name);
        let mut pass: Vec<String> = target.pass.iter().map(|name| name.value.clone()).collect();
        pass.retain(|name| !is_declared(name));
        pass.sort_unstable();
        pass.dedup();
        Self {
            name: tool.name.value.clone(),
            probe: tool.probe.clone(),
            dir: target.dir.clone(),
            env: Environment::of(target, host_env).env,
            pass,
        }
    }

    /// Returns the `PATH` of the commands.
    pub fn path<'a>(&'a self, host_env: &'a HostEnv) -> Option<&'a OsStr> {
        match self.env.get("PATH") {
            Some(declared) => declared.as_deref(),
            None => host_env.get(OsStr::new("PATH")).map(OsString::as_os_str),
        }
    }

    /// Returns the variables of the commands, except secrets: the declared ones, those of
    /// `pass` and the standard ones.
    pub fn environment(&self, host_env: &HostEnv) -> BTreeMap<OsString, OsString> {
        let standard = STANDARD.iter().copied();
        let inherited = standard.chain(self.pass.iter().map(String::as_str));
        let mut env: BTreeMap<OsString, OsString> = inherited
            .filter_map(|name| Some((name.into(), host_env.get(OsStr::new(name))?.clone())))
            .collect();
        for (name, value) in &self.env {
            match value {
                Some(value) => env.insert(name.into(), value.clone()),
                None => env.remove(OsStr::new(name)),
            };
        }
        env
    }

    /// Returns a digest of the variables that decide the version of a program that is no shim:
    /// the declared ones and those of `pass`. The standard ones are the user's, not the
    /// target's.
    pub fn variables(&self, host_env: &HostEnv) -> Digest {
        let mut text = Vec::new();
        let passed = self.pass.iter().map(|name| {
            let value = host_env.get(OsStr::new(name));
            (name, value)
        });
        let declared = self.env.iter().map(|(name, value)| (name, value.as_ref()));
        for (name, value) in declared.chain(passed) {
            text.extend_from_slice(name.as_bytes());
            text.push(b'=');
            if let Some(value) = value {
                text.extend_from_slice(value.as_encoded_bytes());
                // An unset variable differs from an empty one.
                text.push(b'.');
            }
            text.push(0);
        }
        Digest::of(&text)
    }

    /// Returns a name for the site: equal for equal sites only.
    pub fn id(&self) -> String {
        let mut text: Vec<&[u8]> = self.probe.iter().map(String::as_bytes).collect();
        for (name, value) in &self.env {
            text.push(name.as_bytes());
            text.push(value.as_ref().map_or(b"", |value| value.as_encoded_bytes()));
        }
        text.extend(self.pass.iter().map(String::as_bytes));
        text.push(self.dir.as_bytes());
        let digest = Digest::of(&text.join(&0));
        format!("{} {}", self.name, digest.short())
    }
}

impl<'g> ToolSites<'g> {
    /// Collects the declared tools of these targets.
    pub fn of(graph: &'g Graph, targets: &[TargetId], host_env: &HostEnv) -> Self {
        let (mut numbers, mut seen) = (HashMap::new(), HashSet::new());
        let (mut classes, mut uses) = (HashMap::new(), Vec::new());
        for id in targets {
            let target = graph.target(*id);
            if target.tools.is_empty() {
                continue;
            }
            let next = numbers.len();
            let class = *numbers.entry(Class::of(target)).or_insert(next);
            classes.insert(*id, class);
            for name in &target.tools {
                if let Some(tool) = graph.tool(&name.value)
                    && seen.insert((class, &*name.value))
                {
                    let site = ToolSite::of(target, tool, host_env);
                    uses.push(ToolUse { class, tool, site });
                }
            }
        }
        Self { classes, uses }
    }
}

impl<'g> Class<'g> {
    fn of(target: &'g Target) -> Self {
        let env = target.env.iter();
        let pass = target.pass.iter();
        Self {
            dir: &target.dir,
            env: env.map(|var| (&*var.name.value, &var.value)).collect(),
            pass: pass.map(|name| &*name.value).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::buildfile;

    fn site(body: &str, host_env: &HostEnv) -> ToolSite {
        let text = format!("tool go\ntarget a {{ tools go; {body}; run go }}");
        let loaded = buildfile::load_text(&text, Path::new("Buildfile.kdl"));
        assert_eq!(loaded.diagnostics, []);
        let file = &loaded.buildfile;
        ToolSite::of(&file.targets[0], &file.tools[0], host_env)
    }

    fn env(variables: &[(&str, &str)]) -> HostEnv {
        let variables = variables.iter();
        variables.map(|(n, v)| (n.into(), v.into())).collect()
    }

    #[test]
    fn tool_sees_the_variables_of_the_commands() {
        let host = env(&[("A", "1"), ("B", "2"), ("C", "3"), ("HOME", "/h")]);
        let site = site("env A B=\"x\" D; pass C", &host);
        let expected = env(&[("A", "1"), ("B", "x"), ("C", "3"), ("HOME", "/h")]);
        assert_eq!(site.environment(&host), expected);
    }

    #[test]
    fn passed_variables_change_the_digest() {
        let one = env(&[("C", "3"), ("HOME", "/h")]);
        let site = site("pass C", &one);
        for other in [env(&[]), env(&[("C", "")]), env(&[("C", "4")])] {
            assert_ne!(site.variables(&one), site.variables(&other));
        }
        assert_eq!(site.variables(&one), site.variables(&env(&[("C", "3")])));
    }
}
