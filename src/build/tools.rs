//! Finds the tools that targets use and asks each for its version: once for each program
//! file, remembered by its stamp. Runs nothing but probes.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use super::failure;
use crate::action::ToolVersion;
use crate::action::environment::{STANDARD, Surrounding};
use crate::buildfile::model::{Tool, Version};
use crate::digest::Digest;
use crate::event::Failure;
use crate::exec;
use crate::graph::{Graph, TargetId};
use crate::journal::{Memory, Probed};
use crate::path::Root;
use crate::source::Diagnostic;
use crate::stamp::Stamp;

/// How long a probe may take.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// How much of what a probe prints is read.
const OUTPUT_LIMIT: usize = 64 * 1024;

/// What each tool said, or why it cannot be used.
pub type Versions = BTreeMap<String, Result<ToolVersion, Failure>>;

/// Asks all tools that `wanted` targets use, at the same time, those that are remembered
/// not at all.
pub fn versions(
    graph: &Graph,
    wanted: &[TargetId],
    (root, surrounding): (&Root, &Surrounding),
    memory: &mut Memory,
) -> Versions {
    let used = wanted.iter().flat_map(|id| &graph.target(*id).tools);
    let mut tools: Vec<&Tool> = used.filter_map(|tool| graph.tool(&tool.value)).collect();
    tools.sort_unstable_by(|a, b| a.name.value.cmp(&b.name.value));
    tools.dedup_by(|a, b| a.name.value == b.name.value);
    let probes = std::thread::scope(|threads| {
        let ask = |tool| {
            let remembered = memory.tool(&tool_name(tool)).cloned();
            threads.spawn(move || probe(tool, remembered, root, surrounding))
        };
        let asked: Vec<_> = tools.iter().copied().map(ask).collect();
        let answers = asked.into_iter().map(std::thread::ScopedJoinHandle::join);
        answers.collect::<Vec<_>>()
    });
    let mut versions = Versions::new();
    for (tool, probed) in tools.into_iter().zip(probes) {
        let name = tool_name(tool);
        let version = match probed {
            Ok(Ok(probed)) => {
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

/// Finds a tool and asks it, unless the same file was asked the same before.
fn probe(
    tool: &Tool,
    remembered: Option<Probed>,
    root: &Root,
    surrounding: &Surrounding,
) -> Result<Probed, exec::Error> {
    let path = surrounding.get(OsStr::new("PATH")).map(OsString::as_os_str);
    let program = exec::lookup::find(OsStr::new(&tool.name.value), path, root.path())?;
    let stamp = stamp_of(&program);
    if let Some(known) = remembered
        && Some(known.stamp) == stamp
        && known.program == program
        && known.probe == tool.probe
    {
        return Ok(known);
    }
    let argv: Vec<OsString> = tool.probe.iter().map(OsString::from).collect();
    let env = STANDARD.iter().map(OsStr::new);
    let env = env.filter_map(|name| Some((name.to_owned(), surrounding.get(name)?.clone())));
    let limits = (TIME_LIMIT, OUTPUT_LIMIT);
    let output = exec::probe(&argv, &env.collect(), root.path(), limits)?;
    let text = String::from_utf8_lossy(&output);
    let version = Version::find(&text).map_or_else(String::new, |version| version.to_string());
    Ok(Probed {
        program,
        stamp: stamp.unwrap_or_else(Stamp::unknown),
        probe: tool.probe.clone(),
        version: ToolVersion {
            version,
            output: Digest::of(&output),
        },
    })
}

fn stamp_of(program: &PathBuf) -> Option<Stamp> {
    Stamp::followed(rustix::fs::CWD, program).ok().flatten()
}

/// Checks the version against what the Buildfile requires.
fn check(tool: &Tool, probed: &Probed) -> Result<ToolVersion, Failure> {
    let Some(requirement) = &tool.requirement else {
        return Ok(probed.version.clone());
    };
    let name = &tool.name.value;
    let message = match probed.version.version.parse::<Version>() {
        Ok(version) if requirement.value.accepts(&version) => return Ok(probed.version.clone()),
        Ok(version) => format!("`{name}` is {version}, but {} is required", requirement.value.text),
        Err(_) => format!("`{}` printed no version number", tool.probe.join(" ")),
    };
    let diagnostic = Diagnostic::error("fbuild::tool::version", message)
        .label(requirement.span, "required here")
        .help(format!("`{}` is what was found on PATH", probed.program.display()));
    Err(failure::of_diagnostics(vec![diagnostic]))
}

fn unusable(tool: &Tool, error: &exec::Error) -> Failure {
    let message = format!("tool `{}` cannot be used: {}", tool.name.value, failure::chain(error));
    let mut diagnostic = Diagnostic::error("fbuild::tool::missing", message)
        .label(tool.name.span, "declared here");
    diagnostic.help = miette::Diagnostic::help(error).map(|help| help.to_string());
    failure::of_diagnostics(vec![diagnostic])
}
