//! Describes the differences between a trace and a declaration: the message, the place in
//! the Buildfile, and the edit that removes them.

use std::collections::BTreeSet;

use super::{Audit, programs};
use crate::buildfile::quoted;
use crate::event::{Failure, Finding, Warning};
use crate::exec::{Access, Change, Process, Uses};
use crate::glob;
use crate::graph::TargetId;
use crate::path::{RelPath, escape};
use crate::source::{Diagnostic, Span};

/// The most paths that a finding names.
const MOST_PATHS: usize = 5;
/// The most paths that a message names.
const MOST_NAMED: usize = 3;
/// The most files that are suggested as inputs one by one.
const MOST_FILES: usize = 3;
/// The most patterns that are suggested.
const MOST_PATTERNS: usize = 4;

impl Audit<'_> {
    /// Describes files that were read and are no inputs.
    pub(super) fn inputs(&self, reads: &[&Access]) -> Option<Finding> {
        let first = reads.first()?;
        let name = self.name();
        let message = format!(
            "`{name}` reads {} and does not declare {}",
            named(reads),
            them(reads)
        );
        let patterns: Vec<String> = patterns(reads).iter().map(|text| quoted(text)).collect();
        let diagnostic = Diagnostic::warning("fbuild::audit::input", message)
            .label(
                self.place(),
                format!("{}; {}", self.verb(first), no_inputs(reads)),
            )
            .help(format!(
                "add `inputs {}`, so that a change of {} rebuilds `{name}`",
                patterns.join(" "),
                them(reads)
            ));
        Some(self.finding(diagnostic, reads))
    }

    /// Describes files that were read and that another target makes.
    pub(super) fn edge(&self, producer: TargetId, reads: &[&Access]) -> Finding {
        let graph = self.declared.graph;
        let (name, other) = (self.name(), graph.name(producer));
        let message = format!("`{name}` reads {}, which `{other}` makes", named(reads));
        let is_circle = graph.closure(&[producer]).contains(&self.declared.id);
        let help = if is_circle {
            format!(
                "`{other}` needs `{name}`, so it cannot be needed: delete the file, or read another one"
            )
        } else {
            format!("add `needs {}`", quoted(other))
        };
        let mut diagnostic = Diagnostic::warning("fbuild::audit::edge", message)
            .label(self.place(), format!("does not need `{other}`"));
        let made = |access: &&&Access| self.output_span(producer, &access.path);
        if let Some(span) = reads.iter().find_map(|access| made(&access)) {
            diagnostic = diagnostic.label(span, "made here");
        }
        self.finding(diagnostic.help(help), reads)
    }

    /// Describes files that were looked for and do not exist.
    pub(super) fn absent(&self, reads: &[&Access]) -> Option<Finding> {
        reads.first()?;
        let name = self.name();
        let is = if reads.len() == 1 { "does" } else { "do" };
        let message = format!("`{name}` looks for {}, which {is} not exist", named(reads));
        let patterns: Vec<String> = patterns(reads).iter().map(|text| quoted(text)).collect();
        let diagnostic = Diagnostic::warning("fbuild::audit::absent", message)
            .label(
                self.place(),
                format!("creating {} could change the result", them(reads)),
            )
            .help(format!(
                "add `inputs {} optional=#true`",
                patterns.join(" ")
            ));
        Some(self.finding(diagnostic, reads))
    }

    /// Describes files that were changed and are no outputs.
    pub(super) fn outputs(&self, writes: &[&Access]) -> Option<Finding> {
        let first = writes.first()?;
        let name = self.name();
        let verb = match first.change {
            Change::Deleted => "deletes",
            Change::Written => "changes",
            _ => "creates",
        };
        let is = if writes.len() == 1 { "is" } else { "are" };
        let message = format!(
            "`{name}` {verb} {}, which {is} not among its outputs",
            named(writes)
        );
        let files = writes
            .iter()
            .take(MOST_NAMED)
            .map(|access| quoted(&text(&access.path)));
        let files: Vec<String> = files.collect();
        let diagnostic = Diagnostic::warning("fbuild::audit::output", message)
            .label(
                self.place(),
                format!("a restored result lacks {}", them(writes)),
            )
            .help(format!(
                "add `outputs {}`, or let the command write below \"$TMPDIR\"",
                files.join(" ")
            ));
        Some(self.finding(diagnostic, writes))
    }

    /// Describes a program that was executed and is no tool.
    pub(super) fn tool(&self, name: &str, process: &Process) -> Finding {
        let file = escape(process.file.as_os_str().as_encoded_bytes());
        let target = self.name();
        let message =
            format!("`{target}` runs `{name}` (`{file}`), which it does not name as a tool");
        let tool = quoted(name);
        let is_known = self.declared.graph.tool(name).is_some();
        let declare = if is_known {
            String::new()
        } else {
            format!("declare `tool {tool}`, and ")
        };
        let diagnostic = Diagnostic::warning("fbuild::audit::tool", message)
            .label(self.place(), "its version is not part of the key")
            .help(format!("{declare}add `tools {tool}`"));
        Finding {
            target: target.to_owned(),
            diagnostic,
            paths: vec![file.into_owned()],
            count: 1,
            program: None,
        }
    }

    fn finding(&self, diagnostic: Diagnostic, accesses: &[&Access]) -> Finding {
        let first = accesses.first();
        Finding {
            target: self.name().to_owned(),
            diagnostic,
            paths: accesses
                .iter()
                .take(MOST_PATHS)
                .map(|access| shown(access))
                .collect(),
            count: accesses.len(),
            program: first.and_then(|access| self.program(access)),
        }
    }

    fn name(&self) -> &str {
        &self.target.name.value
    }

    fn place(&self) -> Span {
        self.target.name.span
    }

    /// Returns the name of the program that made an access.
    fn program(&self, access: &Access) -> Option<String> {
        let process = self.trace.processes.get(access.process? as usize)?;
        Some(programs::name(&process.file))
    }

    fn verb(&self, access: &Access) -> String {
        let verb = if access.uses.contains(Uses::READ) {
            "read"
        } else if access.uses.contains(Uses::EXECUTE) {
            "executed"
        } else {
            "listed"
        };
        match self.program(access) {
            Some(program) => format!("`{program}` {verb} `{}`", shown(access)),
            None => format!("a command {verb} `{}`", shown(access)),
        }
    }

    fn output_span(&self, producer: TargetId, path: &RelPath) -> Option<Span> {
        let outputs = &self.declared.graph.target(producer).outputs;
        let mut paths = outputs.iter().flat_map(|outputs| &outputs.paths);
        paths
            .find(|output| output.value.covers(path))
            .map(|output| output.span)
    }
}

/// Describes the findings that fail a target.
pub(in crate::build) fn denied(findings: Vec<Finding>) -> Failure {
    let diagnostics: Vec<Diagnostic> = findings
        .into_iter()
        .map(|finding| Diagnostic {
            severity: crate::source::Severity::Error,
            ..finding.diagnostic
        })
        .collect();
    let message = match diagnostics.len() {
        1 => "its commands use files that it does not declare".to_owned(),
        n => format!("its commands use files or programs that it does not declare, in {n} ways"),
    };
    Failure {
        code: "fbuild::audit::denied".to_owned(),
        message,
        help: Some("declare them, or write `trace \"warn\"`".to_owned()),
        diagnostics,
        ..Failure::default()
    }
}

fn no_inputs(accesses: &[&Access]) -> &'static str {
    if accesses.len() == 1 {
        "it is no input"
    } else {
        "these are no inputs"
    }
}

fn them(accesses: &[&Access]) -> &'static str {
    if accesses.len() == 1 { "it" } else { "them" }
}

/// Describes a trace that fails a target because it is incomplete.
pub(in crate::build) fn incomplete(warning: Warning) -> Failure {
    Failure {
        code: warning.code,
        message: warning.message,
        help: Some("write `trace \"warn\"` for this target".to_owned()),
        ..Failure::default()
    }
}

/// Returns the first paths and the number of others.
fn named(accesses: &[&Access]) -> String {
    let names = accesses
        .iter()
        .take(MOST_NAMED)
        .map(|access| format!("`{}`", shown(access)));
    let names: Vec<String> = names.collect();
    match accesses.len().saturating_sub(MOST_NAMED) {
        0 => match names.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
            _ => names.join(", "),
        },
        1 => format!("{} and 1 other", names.join(", ")),
        n => format!("{} and {n} others", names.join(", ")),
    }
}

/// Returns the path of an access for messages; a listed folder has a trailing slash.
fn shown(access: &Access) -> String {
    let path = access.real.as_ref().unwrap_or(&access.path);
    if access.uses == Uses::LIST {
        format!("{path}/")
    } else {
        path.to_string()
    }
}

/// Returns patterns for undeclared files: the files if they are few, else their folders.
pub(super) fn patterns(accesses: &[&Access]) -> Vec<String> {
    let paths = accesses
        .iter()
        .map(|access| access.real.as_ref().unwrap_or(&access.path));
    let is_listed = accesses.iter().any(|access| access.uses == Uses::LIST);
    if accesses.len() <= MOST_FILES && !is_listed {
        return paths.map(text).collect();
    }
    let mut folders = BTreeSet::new();
    let mut files = BTreeSet::new();
    for access in accesses {
        let path = access.real.as_ref().unwrap_or(&access.path);
        match path.parent() {
            _ if access.uses == Uses::LIST => folders.insert(path.clone()),
            Some(parent) if !parent.is_root() => folders.insert(parent),
            _ => files.insert(path.clone()),
        };
    }
    let mut outer = outermost(folders);
    while outer.len() > MOST_PATTERNS && outer.iter().any(|folder| folder.components().count() > 1)
    {
        let deepest = outer.iter().map(|folder| folder.components().count()).max();
        let up = |folder: RelPath| match folder.parent() {
            Some(parent) if Some(folder.components().count()) == deepest => parent,
            _ => folder,
        };
        outer = outermost(outer.into_iter().map(up).collect());
    }
    let below = outer.iter().map(|folder| format!("{}/**", text(folder)));
    files.iter().map(text).chain(below).collect()
}

/// Removes folders that are in another one.
fn outermost(folders: BTreeSet<RelPath>) -> BTreeSet<RelPath> {
    let mut kept: Vec<RelPath> = Vec::new();
    for folder in folders {
        if !kept.iter().any(|outer| folder.is_within(outer)) {
            kept.push(folder);
        }
    }
    kept.into_iter().collect()
}

/// Returns a path as a pattern that matches only it.
fn text(path: &RelPath) -> String {
    glob::escaped(&path.to_string())
}
