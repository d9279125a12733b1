//! Finds the tools that targets use and probes their versions: once for each program file,
//! remembered by its stamp. Runs only probes.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::{Parts, failure};
use crate::action::ToolVersion;
use crate::action::environment::{HostEnv, STANDARD};
use crate::buildfile::model::{Tool, Version};
use crate::digest::Digest;
use crate::event::{Failure, error_chain};
use crate::exec;
use crate::graph::TargetId;
use crate::journal::{Memory, Probed};
use crate::path::Root;
use crate::source::Diagnostic;
use crate::stamp::Stamp;

/// The version of each tool, or why it cannot be used.
pub(super) type Versions = BTreeMap<String, Result<ToolVersion, Failure>>;

/// Whether programs may be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probing {
    /// Tools that are not remembered are probed.
    Allowed,
    /// Tools that are not remembered are omitted.
    Forbidden,
}

/// Returns the versions of all tools that `wanted` targets use. Probes those that are not
/// remembered, all at the same time.
pub(super) fn versions(
    parts: &Parts<'_>,
    wanted: &[TargetId],
    memory: &mut Memory,
    probing: Probing,
) -> Versions {
    let used = wanted
        .iter()
        .flat_map(|id| &parts.graph().target(*id).tools);
    let names: BTreeSet<&str> = used.map(|tool| tool.value.as_str()).collect();
    let tools: Vec<&Tool> = names
        .iter()
        .filter_map(|name| parts.graph().tool(name))
        .collect();
    let probes = std::thread::scope(|threads| {
        let probe = |tool| {
            let remembered = memory.tool(&tool_name(tool)).cloned();
            threads.spawn(move || version(tool, remembered, parts, probing))
        };
        let probes: Vec<_> = tools.iter().copied().map(probe).collect();
        let results = probes.into_iter().map(std::thread::ScopedJoinHandle::join);
        results.collect::<Vec<_>>()
    });
    let mut versions = Versions::new();
    for (tool, probed) in tools.into_iter().zip(probes) {
        let name = tool_name(tool);
        let version = match probed {
            Ok(Ok(None)) => continue,
            Ok(Ok(Some(probed))) => {
                memory.probed(&name, probed.clone());
                check(tool, &probed)
            }
            Ok(Err(error)) => Err(unusable(tool, &error)),
            Err(panic) => std::panic::resume_unwind(panic),
        };
        versions.insert(name, version);
    }
    versions
}

fn tool_name(tool: &Tool) -> String {
    tool.name.value.clone()
}

/// Finds a tool and its version: from memory if the same file was probed with the same
/// command. `None` if it may not be probed.
fn version(
    tool: &Tool,
    remembered: Option<Probed>,
    parts: &Parts<'_>,
    probing: Probing,
) -> Result<Option<Probed>, exec::Error> {
    let (program, stamp) = find(parts.host_env, &parts.workspace.root, &tool.name.value)?;
    let stamp = stamp.unwrap_or_else(Stamp::unknown);
    let is_same = |known: &Probed| {
        known.stamp == stamp && known.program == program && known.probe == tool.probe
    };
    match (remembered.filter(is_same), probing) {
        (Some(known), _) => Ok(Some(known)),
        (None, Probing::Forbidden) => Ok(None),
        (None, Probing::Allowed) => Ok(Some(Probed {
            version: run_probe(tool, parts)?,
            probe: tool.probe.clone(),
            program,
            stamp,
        })),
    }
}

/// Runs a tool's probe.
fn run_probe(tool: &Tool, parts: &Parts<'_>) -> Result<ToolVersion, exec::Error> {
    let argv: Vec<OsString> = tool.probe.iter().map(OsString::from).collect();
    let host_env = |name: &str| Some((name.into(), parts.host_env.get(OsStr::new(name))?.clone()));
    let env = STANDARD.iter().copied().filter_map(host_env).collect();
    let output = exec::probe(
        &argv,
        &env,
        parts.workspace.root.path(),
        exec::PROBE_TIME,
        parts.cancel,
    )?;
    let version = Version::find(&String::from_utf8_lossy(&output));
    Ok(ToolVersion {
        version: version.map_or_else(String::new, |version| version.to_string()),
        output: Digest::of(&output),
    })
}

/// Finds a tool's program file and its stamp.
fn find(
    host_env: &HostEnv,
    root: &Root,
    name: &str,
) -> Result<(PathBuf, Option<Stamp>), exec::Error> {
    let path = host_env.get(OsStr::new("PATH"));
    let path = path.map(OsString::as_os_str);
    let program = exec::find(OsStr::new(name), path, root.path())?;
    let stamp = Stamp::of_path(&program);
    Ok((program, stamp))
}

/// Checks the version against what the Buildfile requires.
fn check(tool: &Tool, probed: &Probed) -> Result<ToolVersion, Failure> {
    let Some(requirement) = &tool.requirement else {
        return Ok(probed.version.clone());
    };
    let name = &tool.name.value;
    let message = match probed.version.version.parse::<Version>() {
        Ok(version) if requirement.value.accepts(&version) => return Ok(probed.version.clone()),
        Ok(version) => format!(
            "`{name}` is {version}, but {} is required",
            requirement.value.text
        ),
        Err(_) => format!("`{}` printed no version number", tool.probe.join(" ")),
    };
    let diagnostic = Diagnostic::error("fbuild::tool::version", message)
        .label(requirement.span, "required here")
        .help(format!(
            "`{}` is what was found on PATH",
            probed.program.display()
        ));
    Err(failure::of_diagnostics(vec![diagnostic]))
}

fn unusable(tool: &Tool, error: &exec::Error) -> Failure {
    let message = format!(
        "tool `{}` cannot be used: {}",
        tool.name.value,
        error_chain(error)
    );
    let mut diagnostic =
        Diagnostic::error("fbuild::tool::missing", message).label(tool.name.span, "declared here");
    diagnostic.help = miette::Diagnostic::help(error).map(|help| help.to_string());
    failure::of_diagnostics(vec![diagnostic])
}
