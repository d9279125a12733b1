//! One target's life in a run: its action, its key, and whether its result is there
//! already, is in the store, or has to be made. It knows one target at a time; who comes
//! next is the plan's affair.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;

use super::make::{Draft, Miss, learn};
use super::reason;
use super::tools::{Probing, Versions};
use super::{Parts, failure, warnings};
use crate::action::environment::{Environment, inherited};
use crate::action::manifest::Manifest;
use crate::action::{Action, ActionResult, Entry, ToolVersion, inputs};
use crate::buildfile::model::Target;
use crate::event::{Failure, Reason, Warning};
use crate::graph::TargetId;
use crate::journal::Success;
use crate::store::outputs::{self, Restoration};

/// What a run does besides bringing its targets up to date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Run what is wanted even if its result is known.
    pub force: bool,
    /// The same, because nothing is looked up.
    pub no_cache: bool,
    /// Change nothing, only find out.
    pub dry_run: bool,
    /// Change no committed output; fail if one is not what its target makes.
    pub drift: bool,
    /// Start nothing at all, not even a probe of a tool that is not remembered.
    pub no_probes: bool,
}

impl Policy {
    /// Returns whether tools may be asked for their versions.
    pub(super) fn probing(self) -> Probing {
        match self.no_probes {
            true => Probing::Forbidden,
            false => Probing::Allowed,
        }
    }
}

/// What came of preparing a target.
pub(super) enum Prepared {
    /// Its outputs are what they should be.
    UpToDate(Arc<Success>),
    /// Its outputs came out of the store, or would in a dry run.
    Restored(Arc<Success>, Reason),
    /// Its commands have to run.
    Miss(Box<Miss>),
    /// Its commands would run, in a dry run that cannot know its key.
    WouldRun(Reason),
}

/// What a needed target made.
#[derive(Clone)]
pub(super) enum Need {
    /// This, and it stands in the tree.
    Made(TargetId, Arc<Success>),
    /// This, once it is restored: a dry run did not.
    Restorable(TargetId, Arc<Success>),
    /// Nobody knows: in a dry run, its commands would have run.
    Unknown(TargetId),
}

impl Need {
    /// Returns the target if nobody knows what it makes.
    pub(super) fn unknown(&self) -> Option<TargetId> {
        match self {
            Self::Unknown(id) => Some(*id),
            Self::Made(..) | Self::Restorable(..) => None,
        }
    }
}

/// Prepares targets, many at a time.
pub(super) struct Step<'a> {
    pub(super) parts: &'a Parts<'a>,
    pub(super) versions: &'a Versions,
    pub(super) policy: Policy,
}

impl Step<'_> {
    /// Finds out what a target's result is or why it has to be made. `last` is its last
    /// success. Whatever is wrong with the store is a warning and a miss.
    pub(super) fn prepare(
        &self,
        id: TargetId,
        needs: &[Need],
        last: Option<&Arc<Success>>,
        warnings: &mut Vec<Warning>,
    ) -> Result<Prepared, Failure> {
        let target = self.parts.graph.target(id);
        if let Some(reason) = self.unknowable(target, needs) {
            return Ok(Prepared::WouldRun(reason));
        }
        let draft = Draft::new(self.action(target, needs)?);
        if let Some(reason) = self.must_run(target) {
            return Ok(self.miss(id, draft, reason));
        }
        let found = self.found(&draft.action.outputs);
        let found = found.map_err(|error| Failure::of(&error))?;
        let last_same = last.filter(|last| last.key == draft.key);
        let touched = last_same.map(|last| self.touched(&last.result.outputs, &found));
        if let (Some(last), Some(None)) = (last_same, &touched) {
            return Ok(Prepared::UpToDate(last.clone()));
        }
        let reason = match touched.flatten() {
            Some(reason) => reason,
            None => self.reason(last, &draft),
        };
        let known = match last_same {
            Some(last) => Some(last.clone()),
            None => self.stored(&draft, warnings),
        };
        let settled = match known {
            Some(success) if self.only_compares(target) => {
                self.compare(target, &success.result.outputs, &found)?;
                Some(Prepared::UpToDate(success))
            }
            Some(success) => self.put_back(success, (&found, &draft), &reason, warnings)?,
            None => None,
        };
        Ok(settled.unwrap_or_else(|| self.miss(id, draft, reason)))
    }

    /// Notes that a target has to run.
    fn miss(&self, id: TargetId, mut draft: Draft, reason: Reason) -> Prepared {
        let target = self.parts.graph.target(id);
        draft.action.inherited = inherited(target, self.parts.host_env);
        Prepared::Miss(Box::new(Miss { id, draft, reason }))
    }

    /// Puts together everything that decides the result. What the commands see besides is
    /// added once they are to run.
    pub(super) fn action(&self, target: &Target, needs: &[Need]) -> Result<Action, Failure> {
        let environment = Environment::of(target, self.parts.host_env);
        let commands = target.commands.iter();
        Ok(Action {
            commands: commands.map(|c| environment.expand(&c.value)).collect(),
            dir: target.dir.clone(),
            tools: self.tools(target)?,
            inputs: inputs::find(self.parts.index, target).map_err(of_inputs)?,
            needs: needs.iter().filter_map(|need| self.made(need)).collect(),
            outputs: inputs::specs(target),
            env: environment.env,
            inherited: BTreeMap::new(),
            secrets: environment.secrets,
        })
    }

    fn tools(&self, target: &Target) -> Result<BTreeMap<String, ToolVersion>, Failure> {
        let version = |name: &String| match self.versions.get(name) {
            Some(Ok(version)) => Some(Ok((name.clone(), version.clone()))),
            Some(Err(failure)) => Some(Err(failure.clone())),
            None => None,
        };
        let tools = target.tools.iter();
        tools.filter_map(|tool| version(&tool.value)).collect()
    }

    fn made(&self, need: &Need) -> Option<(String, Vec<Entry>)> {
        match need {
            Need::Made(id, success) | Need::Restorable(id, success) => {
                let name = self.parts.graph.name(*id).to_owned();
                Some((name, success.result.outputs.clone()))
            }
            Need::Unknown(_) => None,
        }
    }

    /// Returns why a dry run cannot know the target's key, if it cannot.
    fn unknowable(&self, target: &Target, needs: &[Need]) -> Option<Reason> {
        let reads = |success: &Success| {
            let patterns = target.inputs.iter().flat_map(|inputs| &inputs.patterns);
            let outputs = &success.result.outputs;
            let mut patterns = patterns.map(|pattern| &pattern.value);
            patterns.any(|pattern| outputs.iter().any(|o| pattern.matches(&o.path)))
        };
        let unknown = needs.iter().find_map(|need| match need {
            Need::Unknown(id) => Some(*id),
            Need::Restorable(id, success) if reads(success) => Some(*id),
            _ => None,
        });
        if let Some(id) = unknown {
            let target = self.parts.graph.name(id).to_owned();
            return Some(Reason::NeedWouldRun { target });
        }
        let is_unknown = |name: &&String| {
            self.parts.graph.tool(name).is_some() && !self.versions.contains_key(*name)
        };
        let mut tools = target.tools.iter().map(|tool| &tool.value);
        let name = tools.find(is_unknown)?.clone();
        Some(Reason::ToolUnknown { name })
    }

    /// Returns why the target runs whatever is known of its result, if it does.
    fn must_run(&self, target: &Target) -> Option<Reason> {
        let Policy {
            force, no_cache, ..
        } = self.policy;
        match (no_cache, force, target.cache) {
            (true, ..) => Some(Reason::Uncached),
            (_, true, _) => Some(Reason::Forced),
            (_, _, false) => Some(Reason::NotCached),
            _ => None,
        }
    }

    /// Looks a result up in the store. One that is not of the declared outputs is none:
    /// nothing else would notice that the tree lacks the same.
    fn stored(&self, draft: &Draft, warnings: &mut Vec<Warning>) -> Option<Arc<Success>> {
        let key = draft.key;
        let checked = match self.parts.store.result(key) {
            Ok(None) => return None,
            Ok(Some(result)) => outputs::check_result(&draft.action.outputs, &result.outputs)
                .map(|()| result)
                .map_err(|error| Warning::of(&error)),
            Err(error) => Err(Warning::of(&error)),
        };
        let result = checked.map_err(|warning| warnings.push(warning)).ok()?;
        Some(Arc::new(Success { key, result }))
    }

    /// Makes the outputs what a known result says; `None` if the store cannot.
    fn put_back(
        &self,
        success: Arc<Success>,
        (found, draft): (&[Entry], &Draft),
        reason: &Reason,
        warnings: &mut Vec<Warning>,
    ) -> Result<Option<Prepared>, Failure> {
        let outputs = &success.result.outputs;
        let is_intact = self.touched(outputs, found).is_none();
        if is_intact && !draft.action.outputs.is_empty() {
            return Ok(Some(Prepared::UpToDate(success)));
        }
        if !is_intact && !self.policy.dry_run && !self.restore(outputs, (found, draft), warnings)? {
            return Ok(None);
        }
        Ok(Some(Prepared::Restored(success, reason.clone())))
    }

    /// Restores the outputs; `false` if the store does not have all of them any more.
    fn restore(
        &self,
        outputs: &[Entry],
        (found, draft): (&[Entry], &Draft),
        warnings: &mut Vec<Warning>,
    ) -> Result<bool, Failure> {
        let mut is_intact = |wanted: &Entry| {
            let at = found.binary_search_by(|found| found.path.cmp(&wanted.path));
            at.is_ok_and(|at| reason::is_same(wanted, &found[at]))
        };
        let (stage, store) = (self.parts.stage, self.parts.store);
        let specs = &draft.action.outputs;
        let restored = outputs::restore(stage, specs, outputs, &mut is_intact, store);
        self.parts.index.begin_epoch();
        match restored {
            Ok(Restoration::Done(done)) => {
                learn(self.parts.index, done.stamps, done.looked_at);
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
            Err(error) => Err(Failure::of(&error)),
        }
    }

    /// Returns why the key is another one than at the last success.
    fn reason(&self, last: Option<&Arc<Success>>, draft: &Draft) -> Reason {
        let Some(last) = last else {
            return Reason::NeverBuilt;
        };
        match self.manifest(&last.result) {
            Some(earlier) => reason::of_changes(&earlier, &draft.manifest, &draft.action),
            None => Reason::Changed,
        }
    }

    /// Reads the manifest of an earlier result back; its loss costs only the reason.
    pub(super) fn manifest(&self, result: &ActionResult) -> Option<Manifest> {
        let mut bytes = Vec::new();
        let blob = self.parts.store.read(result.manifest).ok()??;
        blob.take(MOST_MANIFEST).read_to_end(&mut bytes).ok()?;
        Manifest::from_bytes(bytes)
    }
}

/// The longest manifest that is read back, in bytes.
const MOST_MANIFEST: u64 = 1 << 30;

fn of_inputs(error: inputs::Error) -> Failure {
    match error {
        inputs::Error::Index(error) => Failure::of(&error),
        inputs::Error::Empty(diagnostics) => failure::of_diagnostics(diagnostics),
    }
}
