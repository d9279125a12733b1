//! Compares committed outputs with `Buildfile.lock`. While the two agree, neither the target
//! that makes them nor anything that only it needs takes part in a run.
//!
//! The digest of a target's inputs covers its commands, declared variables, required tool
//! versions and input files, and the same of everything that it needs. It does not cover what
//! needed targets make, the platform and the versions of tools: those are not known where
//! nothing is built.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::step::Step;
use super::tools::Versions;
use super::{Parts, Request, outputs, warnings};
use crate::action::environment::Environment;
use crate::action::index::{Scope, Selection};
use crate::action::manifest::Manifest;
use crate::action::{Action, ActionKey, ActionResult, Entry, EntryKind, OutputSpec, inputs};
use crate::buildfile::model::Target;
use crate::digest::{Digest, Hasher};
use crate::event::Warning;
use crate::glob::Pattern;
use crate::graph::{Graph, TargetId};
use crate::journal::{Line, Lockfile, Memory, Success};
use crate::path::{RelPath, unescape};

/// The committed outputs of a run, and the file that describes them.
pub(super) struct Locked<'a> {
    parts: &'a Parts<'a>,
    lockfile: Lockfile,
    /// The targets whose outputs are used as they are.
    settled: BTreeMap<TargetId, Arc<Success>>,
}

/// The facts of a target's own, as text; `None` if they are not known.
type OwnFacts<'f> = &'f dyn Fn(TargetId, &[Pattern]) -> Option<String>;

impl<'a> Locked<'a> {
    /// Reads the file; `None` if no target in the Buildfile has committed outputs.
    pub(super) fn read(parts: &'a Parts<'a>) -> Option<Self> {
        let graph = parts.graph();
        graph.ids().find(|id| is_committed(graph.target(*id)))?;
        let locked = Self {
            parts,
            lockfile: Lockfile::read(parts.workspace.lockfile()),
            settled: BTreeMap::new(),
        };
        locked.observe();
        Some(locked)
    }

    /// Returns the targets whose outputs are used as they are.
    pub(super) fn settled(&self) -> &BTreeMap<TargetId, Arc<Success>> {
        &self.settled
    }

    /// Finds the targets whose outputs can be used as they are, and returns the others that
    /// the run needs. A target that this checkout built itself is judged by its key, unless
    /// a tool for it is missing.
    pub(super) fn settle(
        &mut self,
        request: &Request<'_>,
        memory: &Memory,
        versions: &mut Versions,
    ) -> Vec<TargetId> {
        let policy = request.options.policy;
        if policy.force || policy.no_cache || policy.drift {
            return request.wanted.to_vec();
        }
        let graph = self.parts.graph();
        for &id in request.wanted {
            let target = graph.target(id);
            let Some(line) = self.lockfile.line(&target.name.value).cloned() else {
                continue;
            };
            let has_arguments = request.arguments.is_some_and(|given| given.target == id);
            if !can_be_settled(target) || has_arguments {
                continue;
            }
            let lacking = lacking(graph, id, versions);
            let last = memory.success(&target.name.value);
            let is_unchanged = request.snapshot.is_some_and(|s| !s.concerns(target));
            if lacking.is_empty() && last.is_some() && is_unchanged {
                continue;
            }
            let specs = inputs::specs(target);
            let Ok(found) = outputs::find(self.parts.index, &specs) else {
                continue;
            };
            let described = Described::of(&specs, &found);
            let is_lacking = !lacking.is_empty();
            let is_own = |last: &Arc<Success>| {
                Described::of(&specs, &last.result.outputs).files == described.files
            };
            if !is_lacking && last.is_some_and(is_own) {
                continue;
            }
            let inputs = self.inputs_digest(id, &|id, made| self.facts_of_tree(id, made));
            let is_agreeing = |inputs| {
                let found = described.line(&inputs);
                let is_same = (&found.inputs, &found.outputs) == (&line.inputs, &line.outputs);
                // Version control keeps no empty folders. A generator can make them again.
                is_same && (is_lacking || found.folders == line.folders)
            };
            if inputs.is_some_and(is_agreeing) {
                self.settled.insert(id, success(found, described.files));
                continue;
            }
            let changed = if line.outputs == described.files.hex() {
                "its inputs"
            } else {
                "its committed outputs"
            };
            for lacking in lacking {
                versions.explain(lacking, &warnings::lock_disagrees(target, changed));
            }
        }
        self.needed(request)
    }

    /// Returns the wanted targets without those that only settled ones need.
    fn needed(&self, request: &Request<'_>) -> Vec<TargetId> {
        if self.settled.is_empty() {
            return request.wanted.to_vec();
        }
        let graph = self.parts.graph();
        let before = |id: &TargetId| graph.needs(*id).iter().chain(graph.after(*id));
        let named = graph.select(request.names).unwrap_or_default();
        let inner: BTreeSet<&TargetId> = request.wanted.iter().flat_map(before).collect();
        let last = request.wanted.iter().filter(|id| !inner.contains(id));
        let mut pending: Vec<TargetId> = last.copied().chain(named).collect();
        let mut needed = BTreeSet::new();
        while let Some(id) = pending.pop() {
            if needed.insert(id) && !self.settled.contains_key(&id) {
                pending.extend(before(&id));
            }
        }
        let wanted = request.wanted.iter().copied();
        wanted.filter(|id| needed.contains(id)).collect()
    }

    /// Describes the outputs of targets that succeeded, and writes the file if that changes it.
    pub(super) fn record(
        mut self,
        succeeded: impl Iterator<Item = TargetId>,
        memory: &Memory,
        step: &Step<'_>,
    ) -> Option<Warning> {
        if step.policy.dry_run || step.policy.drift {
            return None;
        }
        let graph = self.parts.graph();
        for id in succeeded {
            let target = graph.target(id);
            let last = memory.success(&target.name.value);
            let has_arguments = step.arguments_of(id).is_some();
            let (Some(last), true) = (last, is_committed(target) && !has_arguments) else {
                continue;
            };
            let facts = |id: TargetId, made: &[Pattern]| match memory.success(graph.name(id)) {
                _ if self.settled.contains_key(&id) => self.facts_of_tree(id, made),
                Some(success) => Some(own_facts(&step.manifest(&success.result)?, made)),
                None => self.facts_of_tree(id, made),
            };
            if let Some(inputs) = self.inputs_digest(id, &facts) {
                let described = Described::of(&inputs::specs(target), &last.result.outputs);
                self.lockfile
                    .set(&target.name.value, described.line(&inputs));
            }
        }
        let committed = graph.ids().filter(|id| is_committed(graph.target(*id)));
        let names: BTreeSet<&str> = committed.map(|id| graph.name(id)).collect();
        self.lockfile.retain(|name| names.contains(name));
        match self.lockfile.write(&self.parts.layout.temporary()) {
            Ok(is_new) => {
                if is_new {
                    self.parts.index.begin_epoch();
                    self.observe();
                    let folder = self.relative().and_then(|path| path.parent());
                    // Ignore the error: without the new listing, the next run makes one.
                    let _ = folder.map(|folder| self.parts.index.children(&folder));
                }
                None
            }
            Err(error) => Some(warnings::lock_unwritable(self.lockfile.path(), &error)),
        }
    }

    /// Has the index observe the file, so that the next run notices if it is edited or removed.
    fn observe(&self) {
        if let Some(path) = self.relative() {
            // Ignore the error: a file that cannot be read has no lines.
            let _ = self.parts.index.entry(&path);
        }
    }

    fn relative(&self) -> Option<RelPath> {
        let root = &self.parts.workspace.root;
        let path: PathBuf = self.lockfile.path().to_owned();
        let folder = path.parent()?.canonicalize().ok()?;
        root.relative(&folder.join(path.file_name()?))
    }

    /// Returns the digest of a target's inputs, and of those of everything that it needs.
    fn inputs_digest(&self, id: TargetId, own: OwnFacts<'_>) -> Option<Digest> {
        let graph = self.parts.graph();
        let needed = needed_by(graph, id);
        let outputs = needed.iter().filter(|other| **other != id);
        let outputs = outputs.flat_map(|other| inputs::specs(graph.target(*other)));
        let made: Vec<Pattern> = outputs.flat_map(|spec| patterns(&spec)).collect();
        let mut digests: BTreeMap<TargetId, Digest> = BTreeMap::new();
        let in_order = graph.closure(&[id]);
        for id in in_order.into_iter().filter(|id| needed.contains(id)) {
            let mut hasher = Hasher::new();
            let mut add = |fields: &[&str]| hasher.update((fields.join("\t") + "\n").as_bytes());
            for tool in &graph.target(id).tools {
                let declared = graph.tool(&tool.value);
                let required = declared.and_then(|tool| tool.requirement.as_ref());
                let required = required.map_or("", |required| &required.value.text);
                add(&["tool", &tool.value, required]);
            }
            add(&[&own(id, &made)?]);
            let mut needs: Vec<(&str, &Digest)> = Vec::new();
            for need in graph.needs(id) {
                needs.push((graph.name(*need), digests.get(need)?));
            }
            needs.sort_unstable_by_key(|(name, _)| *name);
            for (name, digest) in needs {
                add(&["need", name, &digest.hex()]);
            }
            digests.insert(id, hasher.finish());
        }
        digests.remove(&id)
    }

    /// Returns the facts of a target's own in the tree; `None` if they cannot be read.
    fn facts_of_tree(&self, id: TargetId, made: &[Pattern]) -> Option<String> {
        let target = self.parts.graph().target(id);
        let environment = Environment::of(target, self.parts.host_env);
        let commands = target.commands.iter();
        let action = Action {
            commands: commands
                .map(|c| environment.expand(&c.value, &[]))
                .collect(),
            dir: target.dir.clone(),
            tools: BTreeMap::new(),
            inputs: self.find_inputs(target, made)?,
            needs: BTreeMap::new(),
            ran: BTreeMap::new(),
            outputs: inputs::specs(target),
            env: environment.env,
            inherited: BTreeMap::new(),
            secrets: environment.secrets,
        };
        Some(own_facts(&Manifest::of(&action), made))
    }

    fn find_inputs(&self, target: &Target, made: &[Pattern]) -> Option<Vec<Entry>> {
        let own: Vec<Pattern> = inputs::specs(target).iter().flat_map(patterns).collect();
        let mut entries = Vec::new();
        for inputs in &target.inputs {
            let include: Vec<&Pattern> = inputs.patterns.iter().map(|p| &p.value).collect();
            let except = inputs.except.iter().map(|p| &p.value);
            let except: Vec<&Pattern> = except.chain(&own).chain(made).collect();
            let matches = self.parts.index.find(Selection {
                include: &include,
                except: &except,
                scope: Scope::Inputs,
            });
            entries.extend(matches.ok()?.entries);
        }
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        entries.dedup_by(|a, b| a.path == b.path);
        Some(entries)
    }
}

/// Returns true if a target has committed outputs.
fn is_committed(target: &Target) -> bool {
    target.outputs.iter().any(|outputs| outputs.committed)
}

/// Returns true if all outputs of a target are in version control and it may be up to date.
fn can_be_settled(target: &Target) -> bool {
    target.cache
        && !target.outputs.is_empty()
        && target.outputs.iter().all(|outputs| outputs.committed)
}

/// Returns a target and all that it needs, directly or not.
fn needed_by(graph: &Graph, id: TargetId) -> BTreeSet<TargetId> {
    let (mut found, mut pending) = (BTreeSet::new(), vec![id]);
    while let Some(id) = pending.pop() {
        if found.insert(id) {
            pending.extend(graph.needs(id));
        }
    }
    found
}

/// Returns the targets without usable tools among a target and all that it needs.
fn lacking(graph: &Graph, id: TargetId, versions: &Versions) -> Vec<TargetId> {
    let needed = needed_by(graph, id).into_iter();
    needed
        .filter(|id| versions.is_lacking(*id, graph.target(*id)))
        .collect()
}

/// Returns the patterns of everything that an output covers.
fn patterns(spec: &OutputSpec) -> Vec<Pattern> {
    use crate::buildfile::model::Output;
    match &spec.output {
        Output::File(path) => vec![Pattern::literal_path(path)],
        Output::Folder(path) => {
            vec![Pattern::literal_path(path), Pattern::everything_below(path)]
        }
        Output::Glob(pattern) => vec![pattern.clone()],
    }
}

/// Returns the lines of a manifest that hold without its needs, its tools and the platform.
/// Folders do not count: version control keeps no empty ones.
fn own_facts(manifest: &Manifest, made: &[Pattern]) -> String {
    let is_made = |path: &str| {
        let path = unescape(path).and_then(|path| RelPath::new(path).ok());
        path.is_some_and(|path| made.iter().any(|pattern| pattern.matches(&path)))
    };
    let is_own = |line: &&str| {
        let mut fields = line.split('\t');
        match fields.next() {
            Some("dir" | "run" | "sh" | "output" | "env" | "secret") => true,
            Some("input") => {
                let path = fields.next().unwrap_or_default();
                fields.next() != Some("folder") && !is_made(path)
            }
            _ => false,
        }
    };
    let lines = manifest.text().lines().filter(is_own);
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The digests of the committed ones among the outputs of a target.
struct Described {
    files: Digest,
    /// The digest of the empty folders; `None` if there are none.
    folders: Option<Digest>,
}

impl Described {
    fn of(specs: &[OutputSpec], entries: &[Entry]) -> Self {
        let committed = specs.iter().filter(|spec| spec.committed);
        let patterns: Vec<Pattern> = committed.flat_map(patterns).collect();
        let (mut files, mut folders) = (Hasher::new(), Hasher::new());
        let mut has_folders = false;
        let filled: BTreeSet<RelPath> = entries.iter().filter_map(|e| e.path.parent()).collect();
        for entry in entries {
            if !patterns.iter().any(|pattern| pattern.matches(&entry.path)) {
                continue;
            }
            let content = match &entry.kind {
                EntryKind::File { digest, mode } if mode.is_executable() => {
                    format!("exec {digest}")
                }
                EntryKind::File { digest, .. } => format!("file {digest}"),
                EntryKind::Link { target, .. } => format!("link {}", crate::path::escape(target)),
                EntryKind::Folder if filled.contains(&entry.path) => continue,
                EntryKind::Folder => {
                    folders.update(format!("{}\n", entry.path).as_bytes());
                    has_folders = true;
                    continue;
                }
            };
            files.update(format!("{}\t{content}\n", entry.path).as_bytes());
        }
        Self {
            files: files.finish(),
            folders: has_folders.then(|| folders.finish()),
        }
    }

    fn line(&self, inputs: &Digest) -> Line {
        Line::new(inputs, &self.files, self.folders.as_ref())
    }
}

/// Returns the result of a target that is not built, for the targets that need it. They read
/// its outputs only.
fn success(outputs: Vec<Entry>, digest: Digest) -> Arc<Success> {
    Arc::new(Success {
        key: ActionKey(digest),
        result: ActionResult {
            outputs,
            log: None,
            manifest: digest,
            duration_ms: 0,
        },
    })
}
