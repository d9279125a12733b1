//! Probes the versions of the tools that targets use: in the folder of their commands, with
//! their variables. A program that is no shim is probed once for each file and site.

use std::collections::{BTreeMap, HashMap};

use super::{Parts, failure};
use crate::action::ToolVersion;
use crate::action::environment::HostEnv;
use crate::action::tools::{ProbedTool, ToolFile, ToolSite, ToolSites, ToolUse};
use crate::buildfile::model::{Target, Version};
use crate::event::{Failure, error_chain};
use crate::exec;
use crate::graph::{Graph, TargetId};
use crate::journal::Memory;
use crate::path::Root;
use crate::snapshot::Snapshot;
use crate::source::{Diagnostic, Severity};

/// Whether programs may be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probing {
    /// Tools that are not remembered are probed, and shims in any case.
    Allowed,
    /// Tools that are not remembered are omitted.
    Forbidden,
}

/// The versions of tools at their sites.
pub(super) struct Versions {
    /// The class of each target that uses tools. Targets of a class share their sites.
    classes: HashMap<TargetId, usize>,
    /// The version of each tool in each class, or why it cannot be used. A tool that may not be
    /// probed is missing.
    versions: HashMap<(usize, String), Result<ToolVersion, Failure>>,
}

impl Versions {
    /// Returns the version of a tool for a target; `None` if it is not known.
    pub(super) fn get(&self, id: TargetId, tool: &str) -> Option<&Result<ToolVersion, Failure>> {
        let class = *self.classes.get(&id)?;
        self.versions.get(&(class, tool.to_owned()))
    }

    /// Returns the targets with tools that cannot be used. Each tool fails one target; others
    /// that use it are skipped because of that one.
    pub(super) fn failures(
        &self,
        graph: &Graph,
        wanted: &[TargetId],
    ) -> BTreeMap<TargetId, Result<Failure, TargetId>> {
        let mut reported: Vec<(&Diagnostic, TargetId)> = Vec::new();
        let mut failures = BTreeMap::new();
        for &id in wanted {
            let mut new = Vec::new();
            let mut because = None;
            for mistake in self.mistakes(id, graph.target(id)) {
                match reported.iter().find(|(known, _)| *known == mistake) {
                    Some((_, first)) => because = because.or(Some(*first)),
                    None => new.push(mistake),
                }
            }
            reported.extend(new.iter().map(|mistake| (*mistake, id)));
            let new: Vec<Diagnostic> = new.into_iter().cloned().collect();
            match because {
                _ if !new.is_empty() => drop(failures.insert(id, Ok(failure::of_diagnostics(new)))),
                Some(first) => drop(failures.insert(id, Err(first))),
                None => {}
            }
        }
        failures
    }

    /// Returns the diagnostics of the tools of a target that cannot be used.
    fn mistakes<'v>(&'v self, id: TargetId, target: &Target) -> Vec<&'v Diagnostic> {
        let tools = target.tools.iter();
        let versions = tools.filter_map(|tool| self.get(id, &tool.value)?.as_ref().err());
        versions.flat_map(|failure| &failure.diagnostics).collect()
    }

    /// Returns true if a tool of a target cannot be used.
    pub(super) fn is_lacking(&self, id: TargetId, target: &Target) -> bool {
        let mut versions = target
            .tools
            .iter()
            .filter_map(|tool| self.get(id, &tool.value));
        versions.any(Result::is_err)
    }

    /// Adds to the errors about a target's tools why they are needed.
    pub(super) fn explain(&mut self, id: TargetId, why: &str) {
        let Some(class) = self.classes.get(&id) else {
            return;
        };
        let versions = self.versions.iter_mut().filter(|((of, _), _)| of == class);
        let failures = versions.filter_map(|(_, version)| version.as_mut().err());
        for diagnostic in failures.flat_map(|failure| &mut failure.diagnostics) {
            diagnostic.help = Some(match diagnostic.help.take() {
                Some(help) => format!("{help}; {why}"),
                None => why.to_owned(),
            });
        }
    }
}

/// Returns a warning for each tool whose program some targets cannot find. Starts no program,
/// so it does not know the versions.
pub fn missing_tools(graph: &Graph, root: &Root, host_env: &HostEnv) -> Vec<Diagnostic> {
    let ids: Vec<TargetId> = graph.ids().collect();
    let uses = ToolSites::of(graph, &ids, host_env).uses;
    let sites: Vec<&ToolSite> = uses.iter().map(|used| &used.site).collect();
    let files = exec::find_tools(&sites, host_env, root);
    let mut warnings: Vec<Diagnostic> = Vec::new();
    for (used, file) in uses.iter().zip(files) {
        let Err(error) = file else { continue };
        let warning = Diagnostic {
            severity: Severity::Warning,
            ..diagnostic(used, &error)
        };
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    warnings
}

/// Returns the versions of all tools that `wanted` targets use. Those in the snapshot were
/// checked together with it.
pub(super) fn versions(
    parts: &Parts<'_>,
    wanted: &[TargetId],
    memory: &mut Memory,
    snapshot: Option<&Snapshot>,
    probing: Probing,
) -> Versions {
    let ToolSites { classes, uses } = ToolSites::of(parts.graph(), wanted, parts.host_env);
    let sites: Vec<&ToolSite> = uses.iter().map(|used| &used.site).collect();
    let checked = |site: &&ToolSite| snapshot.and_then(|snapshot| snapshot.tool(site)).cloned();
    let mut found: Vec<Option<ProbedTool>> = sites.iter().map(checked).collect();
    if found.iter().any(Option::is_none) {
        let files = exec::find_tools(&sites, parts.host_env, &parts.workspace.root);
        for ((found, site), file) in found.iter_mut().zip(&sites).zip(files) {
            let remembered = |file| remembered(parts, memory, site, &file, probing);
            *found = found.take().or_else(|| file.ok().and_then(remembered));
        }
    }
    let mut errors = HashMap::new();
    if probing == Probing::Allowed {
        let missing: Vec<usize> = (0..uses.len()).filter(|at| found[*at].is_none()).collect();
        let sites: Vec<&ToolSite> = missing.iter().map(|at| &uses[*at].site).collect();
        let probed = exec::probe_tools(&sites, parts.host_env, &parts.workspace.root, parts.cancel);
        for (at, probed) in missing.into_iter().zip(probed) {
            match probed {
                Ok(probed) => found[at] = Some(probed),
                Err(error) => drop(errors.insert(at, error)),
            }
        }
    }
    let mut versions = HashMap::new();
    for (at, (used, probed)) in uses.into_iter().zip(found).enumerate() {
        let version = match (probed, errors.get(&at)) {
            (Some(probed), _) => {
                memory.probed(&used.site.id(), &probed);
                check(&used, probed)
            }
            (None, Some(error)) => Err(unusable(&used, error)),
            (None, None) => continue,
        };
        versions.insert((used.class, used.site.name), version);
    }
    Versions { classes, versions }
}

/// Returns the remembered version of a tool, if it must still be that version. A shim may be
/// another one; if it may not be started, the last version is the best guess.
fn remembered(
    parts: &Parts<'_>,
    memory: &Memory,
    site: &ToolSite,
    file: &ToolFile,
    probing: Probing,
) -> Option<ProbedTool> {
    let probed = memory.tool(&site.id())?;
    let is_same = probed.file == *file && probed.variables == site.variables(parts.host_env);
    let is_certain = !file.is_shim || probing == Probing::Forbidden;
    (is_same && is_certain).then(|| probed.clone())
}

/// Checks the version of a tool against the requirement in the Buildfile.
fn check(used: &ToolUse<'_>, probed: ProbedTool) -> Result<ToolVersion, Failure> {
    let Some(requirement) = &used.tool.requirement else {
        return Ok(probed.version);
    };
    let (name, place) = (&used.site.name, place(&used.site));
    let message = match probed.version.version.parse::<Version>() {
        Ok(version) if requirement.value.accepts(&version) => return Ok(probed.version),
        Ok(version) => format!(
            "`{name}` is {version}{place}, but {} is required",
            requirement.value.text
        ),
        Err(_) => format!(
            "`{}` printed no version number{place}",
            used.site.probe.join(" ")
        ),
    };
    let diagnostic = Diagnostic::error("fbuild::tool::version", message)
        .label(requirement.span, "required here")
        .help(format!(
            "`{}` is what was found on PATH",
            probed.file.path.display()
        ));
    Err(failure::of_diagnostics(vec![diagnostic]))
}

fn unusable(used: &ToolUse<'_>, error: &exec::Error) -> Failure {
    failure::of_diagnostics(vec![diagnostic(used, error)])
}

fn diagnostic(used: &ToolUse<'_>, error: &exec::Error) -> Diagnostic {
    let message = format!(
        "tool `{}` cannot be used{}: {}",
        used.site.name,
        place(&used.site),
        error_chain(error)
    );
    let mut diagnostic = Diagnostic::error("fbuild::tool::missing", message)
        .label(used.tool.name.span, "declared here");
    diagnostic.help = miette::Diagnostic::help(error).map(|help| help.to_string());
    diagnostic
}

/// Words the folder of a site; empty for the root.
fn place(site: &ToolSite) -> String {
    if site.dir.is_root() {
        String::new()
    } else {
        format!(" in `{}`", site.dir)
    }
}
