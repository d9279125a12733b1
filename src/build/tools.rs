//! Probes the versions of the tools that targets use: in the folder of their commands, with
//! their variables. A program that is no shim is probed once for each file and site.

use std::collections::HashMap;

use super::{Parts, failure};
use crate::action::ToolVersion;
use crate::action::tools::{ProbedTool, ToolFile, ToolSite, ToolSites, ToolUse};
use crate::buildfile::model::{Target, Version};
use crate::event::{Failure, error_chain};
use crate::exec;
use crate::graph::TargetId;
use crate::journal::Memory;
use crate::snapshot::Snapshot;
use crate::source::Diagnostic;

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
    let message = format!(
        "tool `{}` cannot be used{}: {}",
        used.site.name,
        place(&used.site),
        error_chain(error)
    );
    let mut diagnostic = Diagnostic::error("fbuild::tool::missing", message)
        .label(used.tool.name.span, "declared here");
    diagnostic.help = miette::Diagnostic::help(error).map(|help| help.to_string());
    failure::of_diagnostics(vec![diagnostic])
}

/// Words the folder of a site; empty for the root.
fn place(site: &ToolSite) -> String {
    if site.dir.is_root() {
        String::new()
    } else {
        format!(" in `{}`", site.dir)
    }
}
