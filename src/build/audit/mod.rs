//! Compares the trace of a target's commands with its declaration. It reads no files and
//! changes nothing: `words` describes each difference at its place in the Buildfile, and
//! `programs` decides which executed programs a target must name as tools.

mod programs;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use super::step;
use crate::action::{Action, OutputSpec};
use crate::buildfile::model::{Inputs, Target};
use crate::event::Finding;
use crate::exec::{Access, Change, Trace, Uses};
use crate::graph::{Graph, TargetId};
use crate::path::{RelPath, Root};
use crate::workspace::Layout;

pub(super) use words::{denied, incomplete};

/// The folders of version control systems, whose content is never an input.
const VERSION_CONTROL: &[&[u8]] = &[b".git", b".hg", b".svn", b".jj"];
/// The most undeclared files whose producers are searched.
const MOST_SEARCHED: usize = 5_000;

/// A target, and the declaration that its trace is compared with.
#[derive(Clone, Copy)]
pub(super) struct Declared<'a> {
    /// All targets.
    pub(super) graph: &'a Graph,
    /// The target.
    pub(super) id: TargetId,
    /// Its files, outputs and needs.
    pub(super) action: &'a Action,
    /// The root of its paths.
    pub(super) root: &'a Root,
    /// Returns true for paths of fbuild itself.
    pub(super) is_hidden: &'a dyn Fn(&RelPath) -> bool,
}

/// Returns the differences between a trace and a declaration, in a fixed order.
pub(super) fn findings(declared: Declared<'_>, trace: &Trace) -> Vec<Finding> {
    let audit = Audit::new(declared, trace);
    let mut found = Found::default();
    for access in &trace.accesses {
        audit.add(access, &mut found);
    }
    audit.split_edges(&mut found);
    let mut findings = Vec::new();
    findings.extend(audit.inputs(&found.inputs));
    findings.extend(found.edges.iter().map(|(id, reads)| audit.edge(*id, reads)));
    findings.extend(audit.absent(&found.absent));
    findings.extend(audit.outputs(&innermost(found.outputs)));
    let tools = programs::undeclared(&trace.processes, audit.target, declared.root);
    findings.extend(
        tools
            .into_iter()
            .map(|(name, process)| audit.tool(&name, process)),
    );
    findings
}

/// The accesses that a declaration lacks, by kind.
#[derive(Default)]
struct Found<'t> {
    inputs: Vec<&'t Access>,
    edges: BTreeMap<TargetId, Vec<&'t Access>>,
    absent: Vec<&'t Access>,
    outputs: Vec<&'t Access>,
}

/// A comparison under way.
struct Audit<'a> {
    declared: Declared<'a>,
    target: &'a Target,
    trace: &'a Trace,
    inputs: BTreeSet<&'a RelPath>,
    /// The targets whose results are part of the key.
    needs: Vec<&'a Target>,
    /// The paths that the commands created.
    made: BTreeSet<&'a RelPath>,
}

impl<'a> Audit<'a> {
    fn new(declared: Declared<'a>, trace: &'a Trace) -> Self {
        let Declared {
            graph, id, action, ..
        } = declared;
        let is_made =
            |access: &&Access| matches!(access.change, Change::Created | Change::Temporary);
        let needs = step::needs(graph, id);
        Self {
            declared,
            target: graph.target(id),
            trace,
            inputs: action.inputs.iter().map(|entry| &entry.path).collect(),
            needs: needs.into_iter().map(|need| graph.target(need)).collect(),
            made: trace
                .accesses
                .iter()
                .filter(is_made)
                .map(|access| &access.path)
                .collect(),
        }
    }

    /// Sorts an access into a kind, unless it is declared.
    fn add<'t>(&self, access: &'t Access, found: &mut Found<'t>) {
        let paths = || std::iter::once(&access.path).chain(&access.real);
        if paths().any(|path| self.is_ignored(path)) {
            return;
        }
        let is_changed = matches!(
            access.change,
            Change::Created | Change::Written | Change::Deleted
        );
        if is_changed {
            if !paths().any(|path| self.is_own_output(path)) {
                found.outputs.push(access);
            }
            return;
        }
        if access.change == Change::Temporary || paths().any(|path| self.is_made(path)) {
            return;
        }
        let reads = Uses::READ.with(Uses::EXECUTE);
        if access.uses.intersects(reads) {
            if !paths().any(|path| self.is_readable(path)) {
                found.inputs.push(access);
            }
        } else if access.uses.contains(Uses::LIST) {
            if !paths().any(|path| self.is_listable(path)) {
                found.inputs.push(access);
            }
        } else if access.uses.contains(Uses::ABSENT)
            && !paths().any(|path| self.is_readable(path) || self.is_matched(path))
        {
            found.absent.push(access);
        }
    }

    /// Moves files that other targets make from the undeclared inputs to the missing edges.
    fn split_edges(&self, found: &mut Found<'_>) {
        let Declared { graph, id, .. } = self.declared;
        let mut searched = 0;
        let edges = &mut found.edges;
        found.inputs.retain(|access| {
            searched += 1;
            if searched > MOST_SEARCHED || access.uses == Uses::LIST {
                return true;
            }
            let makes = |other: &TargetId| {
                let mut paths = std::iter::once(&access.path).chain(&access.real);
                *other != id && paths.any(|path| produces(graph.target(*other), path))
            };
            let producer = graph.ids().find(makes);
            if let Some(producer) = producer {
                edges.entry(producer).or_default().push(access);
            }
            producer.is_none()
        });
    }

    /// Returns true for files of fbuild and of version control.
    fn is_ignored(&self, path: &RelPath) -> bool {
        let is_own = |name: &[u8]| Layout::is_own(name) || VERSION_CONTROL.contains(&name);
        path.is_root() || (self.declared.is_hidden)(path) || path.components().any(is_own)
    }

    /// Returns true if a path may be read: it is in the key, or an exception names it.
    fn is_readable(&self, path: &RelPath) -> bool {
        self.inputs.contains(path)
            || self.needs.iter().any(|need| produces(need, path))
            || self.is_own_output(path)
            || self
                .target
                .inputs
                .iter()
                .any(|inputs| is_excepted(inputs, path))
    }

    /// Returns true if creating a file at a path would make it an input.
    fn is_matched(&self, path: &RelPath) -> bool {
        let patterns = self
            .target
            .inputs
            .iter()
            .flat_map(|inputs| &inputs.patterns);
        let mut patterns = patterns.map(|pattern| &pattern.value);
        patterns.any(|pattern| pattern.matches(path))
    }

    /// Returns true if a declared file is or may be in a folder.
    fn is_listable(&self, folder: &RelPath) -> bool {
        let inputs = self.target.inputs.iter();
        let mut patterns = inputs.flat_map(|inputs| inputs.patterns.iter().chain(&inputs.except));
        let own = self
            .declared
            .action
            .outputs
            .iter()
            .map(|spec| spec.output.pattern());
        let needed = self
            .needs
            .iter()
            .flat_map(|need| outputs(need))
            .map(|o| o.pattern());
        let mut made = own.chain(needed);
        patterns.any(|pattern| {
            pattern.value.folder().is_within(folder) || pattern.value.reaches_into(folder)
        }) || made.any(|pattern| pattern.folder().is_within(folder) || pattern.reaches_into(folder))
    }

    fn is_own_output(&self, path: &RelPath) -> bool {
        let specs = self.declared.action.outputs.iter();
        specs.clone().any(|spec| is_output(spec, path))
            // A folder on the way to an output.
            || specs.clone().any(|spec| spec.output.pattern().folder().is_within(path))
    }

    /// Returns true if a path is, or is in, what the commands created.
    fn is_made(&self, path: &RelPath) -> bool {
        let mut paths = std::iter::successors(Some(path.clone()), RelPath::parent);
        paths.any(|path| self.made.contains(&path))
    }
}

fn is_output(spec: &OutputSpec, path: &RelPath) -> bool {
    spec.output.covers(path) && !spec.keep.iter().any(|keep| keep.matches(path))
}

fn is_excepted(inputs: &Inputs, path: &RelPath) -> bool {
    let matches = |patterns: &[crate::buildfile::model::Spanned<crate::glob::Pattern>]| {
        patterns.iter().any(|pattern| pattern.value.matches(path))
    };
    matches(&inputs.except) && matches(&inputs.patterns)
}

fn outputs(target: &Target) -> impl Iterator<Item = &crate::buildfile::model::Output> {
    let paths = target.outputs.iter().flat_map(|outputs| &outputs.paths);
    paths.map(|path| &path.value)
}

/// Returns true if a target makes a file at a path.
fn produces(target: &Target, path: &RelPath) -> bool {
    target.outputs.iter().any(|outputs| {
        outputs.paths.iter().any(|output| output.value.covers(path))
            && !outputs.keep.iter().any(|keep| keep.value.matches(path))
    })
}

/// Removes folders for which a path in them is reported, too.
fn innermost(accesses: Vec<&Access>) -> Vec<&Access> {
    let next = accesses.iter().skip(1).map(Some).chain([None]);
    let is_inner = accesses
        .iter()
        .zip(next)
        .map(|(access, next)| next.is_none_or(|next| !next.path.is_within(&access.path)));
    let is_inner: Vec<bool> = is_inner.collect();
    let all = accesses.into_iter().zip(is_inner);
    all.filter(|(_, is_inner)| *is_inner)
        .map(|(access, _)| access)
        .collect()
}
