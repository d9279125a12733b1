//! Prepares one target: computes its key, and finds out whether its result is known, in the
//! tree or in the store, or must be made. Has no view of other targets but what they made.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Read as _;
use std::sync::Arc;

use super::runner::Miss;
use super::slot::guarded;
use super::tools::Versions;
use super::{Arguments, Parts, Policy, drift, failure, outputs, reason, warnings};
use crate::action::environment::{Environment, inherited};
use crate::action::index::{FileIndex, HashedFile};
use crate::action::manifest::Manifest;
use crate::action::{
    Action, ActionKey, ActionResult, Entry, EntryKind, OutputSpec, ToolVersion, inputs,
};
use crate::buildfile::model::{Spanned, Target};
use crate::digest::Digest;
use crate::event::{Failure, Reason, Warning};
use crate::graph::{Graph, TargetId};
use crate::journal::Success;
use crate::journal::ownership::Ownership;
use crate::path::RelPath;
use crate::stamp::Stamp;
use crate::store::outputs::{Destination, Restoration, check_result, restore, trashed};
use crate::store::shared::{Lookup, SharedCache};

/// The longest manifest that is read back, in bytes.
const MOST_MANIFEST: u64 = 1 << 30;

/// A target to prepare.
pub(super) struct Prepare {
    pub(super) id: TargetId,
    /// What the targets made that it needs.
    pub(super) needs: Vec<Need>,
    /// Its last success.
    pub(super) last: Option<Arc<Success>>,
}

/// What a needed target made.
#[derive(Clone)]
pub(super) enum Need {
    /// A result that is in the tree.
    Made(TargetId, Arc<Success>),
    /// A result that a dry run found in the store and did not restore.
    Restorable(TargetId, Arc<Success>),
    /// An unknown result: in a dry run, its commands would run.
    Unknown(TargetId),
}

/// A prepared target.
pub(super) struct Preparation {
    pub(super) id: TargetId,
    pub(super) result: Result<Prepared, Failure>,
    pub(super) warnings: Vec<Warning>,
}

/// The result of preparing a target.
pub(super) enum Prepared {
    /// Its outputs are in the tree.
    UpToDate(Arc<Success>),
    /// Its outputs were restored from the store.
    Restored(Arc<Success>, Reason),
    /// Its outputs came from the shared cache, and its result is not recorded yet.
    Fetched(Arc<Success>, Reason),
    /// In a dry run: its outputs would be restored.
    WouldRestore(Arc<Success>, Reason),
    /// Its commands must run.
    Miss(Box<Miss>),
    /// In a dry run: its commands would run.
    WouldRun(Reason),
}

/// An action with its manifest and its key.
pub(super) struct Draft {
    pub(super) action: Action,
    pub(super) manifest: Manifest,
    pub(super) key: ActionKey,
    /// The inputs that are links out of the root.
    pub(super) outside: Vec<RelPath>,
    /// The inputs that a pattern reaches through a link.
    behind: Vec<Spanned<RelPath>>,
}

/// The means to prepare targets, shared by all threads.
pub(super) struct Step<'a> {
    pub(super) parts: &'a Parts<'a>,
    pub(super) versions: &'a Versions,
    pub(super) policy: Policy,
    pub(super) arguments: Option<&'a Arguments>,
}

/// Returns the targets whose results decide the result of a target: its needs. A need without
/// commands stands for its own needs, as a group does.
pub(super) fn needs(graph: &Graph, id: TargetId) -> Vec<TargetId> {
    let is_empty = |id: &TargetId| graph.target(*id).commands.is_empty();
    let direct = graph.needs(id);
    if !direct.iter().any(is_empty) {
        return direct.to_vec();
    }
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    let mut pending: Vec<TargetId> = direct.iter().rev().copied().collect();
    while let Some(id) = pending.pop() {
        if !seen.insert(id) {
            continue;
        }
        if is_empty(&id) {
            pending.extend(graph.needs(id).iter().rev());
        } else {
            found.push(id);
        }
    }
    found
}

/// The place of a target's outputs, and what is there.
#[derive(Clone, Copy)]
struct Place<'a> {
    target: &'a Target,
    /// The target's last success.
    last: Option<&'a Success>,
    specs: &'a [OutputSpec],
    found: &'a [Entry],
}

impl Need {
    /// Returns the result, if it is known.
    pub(super) fn success(&self) -> Option<&Arc<Success>> {
        match self {
            Self::Made(_, success) | Self::Restorable(_, success) => Some(success),
            Self::Unknown(_) => None,
        }
    }

    /// Returns the target.
    pub(super) fn target(&self) -> TargetId {
        match self {
            Self::Made(id, _) | Self::Restorable(id, _) | Self::Unknown(id) => *id,
        }
    }
}

impl Draft {
    /// Computes the key of an action.
    fn new(action: Action, outside: Vec<RelPath>, behind: Vec<Spanned<RelPath>>) -> Self {
        let manifest = Manifest::of(&action);
        Self {
            key: manifest.key(),
            manifest,
            action,
            outside,
            behind,
        }
    }
}

impl Prepare {
    /// Prepares the target. A panic in it fails only this target.
    pub(super) fn run(&self, step: &Step<'_>) -> Preparation {
        let mut warnings = Vec::new();
        let result = guarded(|| step.prepare(self, &mut warnings));
        Preparation {
            id: self.id,
            result,
            warnings,
        }
    }
}

impl Step<'_> {
    /// Finds a target's result, or the reason why its commands must run. Store errors are
    /// warnings and count as a miss.
    fn prepare(&self, job: &Prepare, warnings: &mut Vec<Warning>) -> Result<Prepared, Failure> {
        let target = self.parts.graph().target(job.id);
        if let Some(reason) = self.unknown_key(job.id, &job.needs) {
            return Ok(Prepared::WouldRun(reason));
        }
        let draft = self.draft(job.id, &job.needs)?;
        let paths = draft.action.inputs.iter().map(|entry| &entry.path);
        let misread = inputs::bracket_warnings(self.parts.index, target);
        warnings.extend(misread.iter().map(warnings::of_diagnostic));
        let graph = self.parts.graph();
        let unordered = graph.unordered_reads(job.id, paths, &draft.behind);
        if !unordered.is_empty() {
            return Err(failure::of_diagnostics(unordered));
        }
        if let Some(reason) = self.unconditional(target) {
            return Ok(self.miss(job, draft, reason));
        }
        let index = self.parts.index;
        let found = outputs::find(index, &draft.action.outputs)?;
        let last = job.last.as_ref();
        let same = last.filter(|last| last.key == draft.key);
        let change = same.and_then(|last| outputs::change(index, &last.result.outputs, &found));
        if let (Some(same), None) = (same, &change) {
            return Ok(Prepared::UpToDate(same.clone()));
        }
        let reason = if self.arguments_of(job.id).is_some() {
            Reason::Arguments
        } else {
            change.unwrap_or_else(|| self.reason(last, &draft))
        };
        let known = same.cloned().or_else(|| self.stored(&draft, warnings));
        let Some(success) = known else {
            return Ok(self.miss(job, draft, reason));
        };
        let wanted = &success.result.outputs;
        if drift::only_compares(self.policy, target) {
            drift::check(index, target, wanted, &found)?;
            return Ok(Prepared::UpToDate(success));
        }
        let is_intact = outputs::change(index, wanted, &found).is_none();
        let place = Place {
            target,
            last: job.last.as_deref(),
            specs: &draft.action.outputs,
            found: &found,
        };
        // Without outputs there is still the log to emit.
        if is_intact && !draft.action.outputs.is_empty() {
            if !self.policy.dry_run {
                self.parts.ledger.succeed(&target.name.value, wanted);
            }
            Ok(Prepared::UpToDate(success))
        } else if self.policy.dry_run {
            Ok(Prepared::WouldRestore(success, reason))
        } else if is_intact || self.restore(place, wanted, warnings)? {
            warnings.extend(drift::changes(target, wanted, &found));
            Ok(Prepared::Restored(success, reason))
        } else {
            Ok(self.miss(job, draft, reason))
        }
    }

    /// Returns the knowledge about the files in the tree.
    pub(super) fn ownership(&self) -> Ownership<'_> {
        Ownership {
            ledger: self.parts.ledger,
            index: self.parts.index,
            store: self.parts.store,
            ignored: self.parts.ignored,
            replace: self.policy.replace,
        }
    }

    /// Returns true if the result of a miss may be in the shared cache.
    pub(super) fn may_be_shared(&self, miss: &Miss) -> bool {
        let target = self.parts.graph().target(miss.id);
        let is_wanted = !self.policy.drift && self.unconditional(target).is_none();
        let reads = self.parts.shared.is_some_and(SharedCache::reads);
        reads && is_wanted && target.remote && !miss.was_looked_up
    }

    /// Looks the result of a miss up in the shared cache and restores its outputs. Blocks.
    pub(super) fn fetch(
        &self,
        mut miss: Box<Miss>,
        warnings: &mut Vec<Warning>,
    ) -> Result<Prepared, Failure> {
        miss.was_looked_up = true;
        let Some(cache) = self.parts.shared else {
            return Ok(Prepared::Miss(miss));
        };
        let key = miss.draft.key;
        let result = match cache.fetch(key, self.parts.store) {
            Lookup::Found(result) => *result,
            Lookup::Absent(Some(reason)) => {
                warnings.push(warnings::remote_refused(&reason));
                return Ok(Prepared::Miss(miss));
            }
            Lookup::Absent(None) | Lookup::Off => return Ok(Prepared::Miss(miss)),
        };
        let specs = &miss.draft.action.outputs;
        if let Err(error) = check_result(specs, &result.outputs) {
            warnings.push(Warning::of(&error));
            return Ok(Prepared::Miss(miss));
        }
        let found = outputs::find(self.parts.index, specs)?;
        let target = self.parts.graph().target(miss.id);
        let place = Place {
            target,
            last: miss.last.as_deref(),
            specs,
            found: &found,
        };
        if self.restore(place, &result.outputs, warnings)? {
            warnings.extend(drift::changes(target, &result.outputs, &found));
            let success = Arc::new(Success { key, result });
            return Ok(Prepared::Fetched(success, miss.reason));
        }
        Ok(Prepared::Miss(miss))
    }

    /// Collects everything that decides the result, and computes its key. Variables outside
    /// the key are added when the commands are about to run.
    pub(super) fn draft(&self, id: TargetId, needs: &[Need]) -> Result<Draft, Failure> {
        let (index, graph) = (self.parts.index, self.parts.graph());
        let target = graph.target(id);
        let environment = Environment::of(target, self.parts.host_env);
        let commands = target.commands.iter();
        let args = self.arguments_of(id).unwrap_or(&[]);
        let mut outputs = inputs::Needs::new();
        for need in needs {
            outputs.extend(self.outputs(need)?);
        }
        let found = inputs::find(index, graph, id, &outputs).map_err(inputs_failure)?;
        let action = Action {
            commands: commands
                .map(|c| environment.expand(&c.value, args))
                .collect(),
            dir: target.dir.clone(),
            tools: self.tools(id)?,
            inputs: found.entries,
            needs: outputs,
            ran: needs.iter().filter_map(|need| self.ran(need)).collect(),
            outputs: inputs::specs(target),
            env: environment.env,
            inherited: BTreeMap::new(),
            secrets: environment.secrets,
        };
        Ok(Draft::new(action, found.outside, found.behind))
    }

    /// Returns the arguments that the user gave to a target.
    pub(super) fn arguments_of(&self, id: TargetId) -> Option<&[OsString]> {
        let arguments = self.arguments.filter(|arguments| arguments.target == id)?;
        Some(&arguments.values)
    }

    /// Reads the manifest of an earlier result back. Its loss costs only the reason.
    pub(super) fn manifest(&self, result: &ActionResult) -> Option<Manifest> {
        let mut bytes = Vec::new();
        let blob = self.parts.store.read(result.manifest).ok()??;
        blob.take(MOST_MANIFEST).read_to_end(&mut bytes).ok()?;
        Manifest::from_bytes(bytes)
    }

    /// Returns why a dry run cannot compute the target's key, if it cannot.
    fn unknown_key(&self, id: TargetId, needs: &[Need]) -> Option<Reason> {
        let target = self.parts.graph().target(id);
        let is_read = |entry: &Entry| {
            let mut patterns = target.inputs.iter().flat_map(|inputs| &inputs.patterns);
            // The content behind a link is part of the key.
            matches!(entry.kind, EntryKind::Link { .. })
                || patterns.any(|pattern| pattern.value.matches(&entry.path))
        };
        let is_unknown = |need: &&Need| match need {
            Need::Made(..) => false,
            // Not restored, so the inputs in the tree are not those of a real run.
            Need::Restorable(_, success) => success.result.outputs.iter().any(is_read),
            Need::Unknown(_) => true,
        };
        if let Some(need) = needs.iter().find(is_unknown) {
            let target = self.parts.graph().name(need.target()).to_owned();
            return Some(Reason::NeedWouldRun { target });
        }
        let is_unprobed = |name: &&String| {
            self.parts.graph().tool(name).is_some() && self.versions.get(id, name).is_none()
        };
        let mut tools = target.tools.iter().map(|tool| &tool.value);
        let name = tools.find(is_unprobed)?.clone();
        Some(Reason::ToolUnknown { name })
    }

    /// Returns why the commands run whether or not the result is known, if they do.
    fn unconditional(&self, target: &Target) -> Option<Reason> {
        if self.policy.no_cache {
            Some(Reason::Uncached)
        } else if self.policy.force {
            Some(Reason::Forced)
        } else if self.policy.rerun_tests && target.test.is_some() {
            Some(Reason::Rerun)
        } else if !target.cache {
            Some(Reason::NotCached)
        } else {
            None
        }
    }

    fn miss(&self, job: &Prepare, mut draft: Draft, reason: Reason) -> Prepared {
        if self.policy.dry_run {
            return Prepared::WouldRun(reason);
        }
        let target = self.parts.graph().target(job.id);
        draft.action.inherited = inherited(target, self.parts.host_env);
        Prepared::Miss(Box::new(Miss {
            id: job.id,
            draft,
            reason,
            last: job.last.clone(),
            was_looked_up: false,
        }))
    }

    fn tools(&self, id: TargetId) -> Result<BTreeMap<String, ToolVersion>, Failure> {
        let tools = &self.parts.graph().target(id).tools;
        let versions = tools.iter().filter_map(|tool| {
            let version = self.versions.get(id, &tool.value)?.clone();
            Some(version.map(|version| (tool.value.clone(), version)))
        });
        versions.collect()
    }

    /// Returns the outputs of a needed target, with the content behind links.
    fn outputs(&self, need: &Need) -> Result<Option<(String, Vec<Entry>)>, Failure> {
        let Some(success) = need.success() else {
            return Ok(None);
        };
        let name = self.parts.graph().name(need.target()).to_owned();
        let mut outputs = success.result.outputs.clone();
        let read = inputs::read_behind(self.parts.index, &mut outputs);
        read.map_err(|error| Failure::of(&error))?;
        Ok(Some((name, outputs)))
    }

    /// Returns the key of a need that declares no outputs: nothing else shows that it ran.
    fn ran(&self, need: &Need) -> Option<(String, ActionKey)> {
        let target = self.parts.graph().target(need.target());
        let success = need.success().filter(|_| target.outputs.is_empty())?;
        Some((target.name.value.clone(), success.key))
    }

    /// Looks a result up in the store. One that does not fit the declared outputs is refused:
    /// it would count as intact although declared outputs are missing.
    fn stored(&self, draft: &Draft, warnings: &mut Vec<Warning>) -> Option<Arc<Success>> {
        let key = draft.key;
        let checked = match self.parts.store.result(key) {
            Ok(None) => return None,
            Ok(Some(result)) => check_result(&draft.action.outputs, &result.outputs)
                .map(|()| result)
                .map_err(|error| Warning::of(&error)),
            Err(error) => Err(Warning::of(&error)),
        };
        match checked {
            Ok(result) => Some(Arc::new(Success { key, result })),
            Err(warning) => {
                warnings.push(warning);
                None
            }
        }
    }

    /// Restores outputs; `false` if the store does not have all of them any more.
    fn restore(
        &self,
        place: Place<'_>,
        wanted: &[Entry],
        warnings: &mut Vec<Warning>,
    ) -> Result<bool, Failure> {
        let Place {
            target,
            specs,
            last,
            found,
        } = place;
        let Parts {
            stage,
            store,
            index,
            ..
        } = *self.parts;
        let mut is_intact = |wanted: &Entry| outputs::is_intact(wanted, found);
        let destination = Destination {
            stage,
            specs,
            claims: &self.ownership().of(&target.name.value, last),
        };
        self.parts.ledger.begin(index.now());
        let restored = restore(&destination, wanted, &mut is_intact, store);
        index.begin_epoch();
        match restored {
            Ok(Restoration::Done(done)) => {
                learn(index, done.stamps, done.looked_at);
                self.parts.ledger.succeed(&target.name.value, wanted);
                warnings.extend(trashed(&done.trashed));
                Ok(true)
            }
            Ok(Restoration::Miss { path, digest }) => {
                warnings.push(warnings::evicted(&path, digest));
                Ok(false)
            }
            Err(error) if error.is_miss() => {
                warnings.push(Warning::of(&error));
                Ok(false)
            }
            Err(error) => {
                self.parts.ledger.unsettle();
                Err(failure::of_outputs(&error, target))
            }
        }
    }

    /// Returns why the key differs from the one of the last success.
    fn reason(&self, last: Option<&Arc<Success>>, draft: &Draft) -> Reason {
        let Some(last) = last else {
            return Reason::NeverBuilt;
        };
        match self.manifest(&last.result) {
            Some(earlier) => reason::of_changes(&earlier, &draft.manifest, &draft.action),
            None => Reason::Changed,
        }
    }
}

/// Adds files that were just written or read to the index, so that they are not read again.
pub(super) fn learn(index: &FileIndex, stamps: Vec<(RelPath, Stamp, Digest)>, read_at: i64) {
    for (path, stamp, digest) in stamps {
        index.insert(HashedFile {
            path,
            stamp,
            read_at,
            digest,
        });
    }
}

fn inputs_failure(error: inputs::Error) -> Failure {
    match error {
        inputs::Error::Index(error) => Failure::of(&error),
        inputs::Error::Empty(diagnostics) => failure::of_diagnostics(diagnostics),
    }
}
