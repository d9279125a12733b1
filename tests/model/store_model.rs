//! Tracks the results that a store must, may and cannot have after the builds so far, to decide
//! whether commands ran without need or failed to run.

use std::collections::{BTreeMap, HashMap, HashSet};

use fbuild::digest::Digest;

use crate::model::builder::{Harmed, How, Report, digest};
use crate::model::comparison::Fault;
use crate::model::expected::Fate;
use crate::model::project::{Project, Target};
use crate::support::tree::Node;

/// The known results, by the fingerprints of their inputs.
#[derive(Clone, Default)]
pub(crate) struct StoreModel {
    results: HashMap<Digest, Knowledge>,
    /// The fingerprint of each known key.
    keys: HashMap<String, Digest>,
    /// Keys without a known fingerprint: files were written while these targets ran.
    uncertain: HashSet<String>,
    /// The reliability of this model.
    pub(crate) trust: Trust,
}

/// How the real store may differ from the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Trust {
    #[default]
    Exact,
    /// It may have more results: a run was killed.
    More,
    /// It may have more or fewer results: a run that removes results was killed.
    Either,
    /// It may have fewer results, and no snapshot: the file system has a slow clock.
    Less,
}

#[derive(Clone, Debug)]
struct Knowledge {
    /// Whether the store must have the result; otherwise it may.
    is_sure: bool,
    /// The hashes of its blobs.
    blobs: Vec<String>,
    key: Option<String>,
}

impl StoreModel {
    /// Returns true if commands must run for the result with this fingerprint and reported key.
    pub(crate) fn must_run(&self, fingerprint: &Digest, key: Option<&String>) -> bool {
        let is_uncertain = key.is_some_and(|key| self.uncertain.contains(key));
        let is_uncertain = is_uncertain || matches!(self.trust, Trust::More | Trust::Either);
        !is_uncertain && !self.results.contains_key(fingerprint)
    }

    /// Checks a complete run and records its results.
    pub(crate) fn check(
        &mut self,
        project: &Project,
        fates: &BTreeMap<String, Fate>,
        report: &Report,
    ) -> Result<(), Fault> {
        check_ends(fates, report)?;
        for (name, fate) in fates {
            let times = times(report, name);
            let (least, most) = self.bounds(project, fates, (name, fate), report);
            if times < least || times > most {
                let end = &report.ends.get(name);
                return Err(format!(
                    "{name} ran {times} times, not {least} to {most}: {end:?}"
                ));
            }
        }
        for (name, fate) in fates {
            let Fate::Made {
                fingerprint,
                outputs,
            } = fate
            else {
                continue;
            };
            if is_settled(project, report, name) {
                continue;
            }
            let key = report.key(name).cloned();
            self.check_key(name, *fingerprint, key.as_ref())?;
            if times(report, name) == 1 {
                self.learn(*fingerprint, outputs, key, !is_uncached(project, name));
            }
        }
        Ok(())
    }

    /// Returns the least and the greatest number of executions of a target in a complete run.
    /// Targets with the same fingerprint share a result, and two that are executed at the same
    /// time both run their commands.
    fn bounds(
        &self,
        project: &Project,
        fates: &BTreeMap<String, Fate>,
        (name, fate): (&String, &Fate),
        report: &Report,
    ) -> (usize, usize) {
        let Fate::Made { fingerprint, .. } = fate else {
            let times = usize::from(*fate == Fate::Fails);
            return (times, times);
        };
        if is_uncached(project, name) {
            return (1, 1);
        }
        if is_settled(project, report, name) {
            return (0, 0);
        }
        let is_shared = fates.iter().any(|(other, fate)| {
            let is_same =
                matches!(fate, Fate::Made { fingerprint: same, .. } if same == fingerprint);
            is_same && other != name && !is_uncached(project, other) && times(report, other) > 0
        });
        match self.results.get(fingerprint) {
            None if self.must_run(fingerprint, report.key(name)) => (usize::from(!is_shared), 1),
            Some(known) if known.is_sure && self.is_kept() => (0, 0),
            _ => (0, 1),
        }
    }

    /// Checks a run after a complete one: it runs nothing, unless the first run did not store a
    /// result.
    pub(crate) fn check_idle(
        &mut self,
        (project, fates): (&Project, &BTreeMap<String, Fate>),
        report: &Report,
        is_spurious: bool,
    ) -> Result<(), Fault> {
        check_ends(fates, report)?;
        let is_slow = self.trust == Trust::Less || is_spurious;
        for (name, fate) in fates {
            let times = times(report, name);
            let uncached = is_uncached(project, name);
            let is_made = matches!(fate, Fate::Made { .. });
            let expected = usize::from(*fate == Fate::Fails || is_made && uncached);
            if times != expected && !(is_slow && is_made && times == 1) {
                return Err(format!("{name} ran {times} times when nothing had changed"));
            }
            let how = report.how(name);
            if is_made && !uncached && how != Some(How::UpToDate) && !is_slow {
                let end = &report.ends.get(name);
                return Err(format!(
                    "{name} is not up to date when nothing had changed: {end:?}"
                ));
            }
        }
        Ok(())
    }

    /// Checks that two results have the same key if and only if they have the same fingerprint.
    fn check_key(&mut self, name: &str, what: Digest, key: Option<&String>) -> Result<(), Fault> {
        let Some(key) = key else {
            return Err(format!("{name} has no key"));
        };
        let before = self.keys.insert(key.clone(), what);
        if before.is_some_and(|before| before != what) {
            return Err(format!("{name} has the key of another result"));
        }
        let known = self.results.get(&what).and_then(|known| known.key.as_ref());
        if known.is_some_and(|known| known != key) {
            return Err(format!("{name} has another key than the same had before"));
        }
        Ok(())
    }

    fn learn(
        &mut self,
        fingerprint: Digest,
        outputs: &[(String, Node)],
        key: Option<String>,
        is_stored: bool,
    ) {
        let blobs = outputs.iter().filter_map(|(_, node)| match node {
            Node::File { text, .. } => Some(digest(text).hex()),
            _ => None,
        });
        let before = self.results.get(&fingerprint);
        let is_sure = is_stored || before.is_some_and(|before| before.is_sure);
        let blobs = blobs.collect();
        self.results.insert(
            fingerprint,
            Knowledge {
                is_sure,
                blobs,
                key,
            },
        );
    }

    /// Records the damage of an object.
    pub(crate) fn harm(&mut self, harmed: &Harmed) {
        for known in self.results.values_mut() {
            let is_hit = match harmed {
                Harmed::Nothing => false,
                Harmed::Blob(blob) => known.blobs.contains(blob),
                Harmed::Record(key) => known.key.as_ref() == Some(key),
            };
            known.is_sure &= !is_hit;
        }
    }

    /// Records the keys of a run whose inputs changed during the run.
    pub(crate) fn forget_origin_of(&mut self, report: &Report) {
        let built = report.ends.values().filter(|ended| ended.how == How::Built);
        self.uncertain
            .extend(built.filter_map(|ended| ended.key.clone()));
    }

    /// Returns true if a certainly stored result must still be in the store.
    fn is_kept(&self) -> bool {
        matches!(self.trust, Trust::Exact | Trust::More)
    }

    /// Records the deletion of the store.
    pub(crate) fn forget_results(&mut self) {
        self.results.clear();
        self.uncertain.clear();
    }
}

/// Returns the number of executions of a target in a run.
fn times(report: &Report, name: &str) -> usize {
    report.executed.iter().filter(|n| *n == name).count()
}

/// Returns true if the committed outputs of a target were used, as `Buildfile.lock` describes
/// them: it has no key.
pub(crate) fn is_settled(project: &Project, report: &Report, name: &str) -> bool {
    let is_committed = |target: &Target| {
        !target.outputs.is_empty() && target.outputs.iter().all(|output| output.committed)
    };
    report.how(name) == Some(How::UpToDate)
        && report.key(name).is_none()
        && project.target(name).is_some_and(is_committed)
}

fn is_uncached(project: &Project, name: &str) -> bool {
    project.target(name).is_some_and(|target| target.uncached)
}

/// Checks the end of each target and of the run.
fn check_ends(fates: &BTreeMap<String, Fate>, report: &Report) -> Result<(), Fault> {
    for (name, fate) in fates {
        let how = report.how(name);
        let is_right = match fate {
            Fate::Made { .. } => how.is_some_and(How::is_success),
            Fate::Fails | Fate::Refused | Fate::Blocked => how == Some(How::Failed),
            Fate::Skipped => how == Some(How::Skipped),
        };
        if !is_right {
            let end = &report.ends.get(name);
            return Err(format!("{name} should be {fate:?} and ended so: {end:?}"));
        }
    }
    let is_good = fates.values().all(|fate| matches!(fate, Fate::Made { .. }));
    let exit = i32::from(!is_good);
    match report.exit == exit {
        true => Ok(()),
        false => Err(format!("the exit code is {} and not {exit}", report.exit)),
    }
}
