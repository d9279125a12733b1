//! What a store must have, may have and cannot have, from what was built before: the
//! judge of whether commands ran that should not, or did not that should.

use std::collections::{BTreeMap, HashMap, HashSet};

use fbuild::digest::Digest;

use crate::model::builder::{Harmed, How, Report, digest};
use crate::model::comparison::Fault;
use crate::model::expected::Fate;
use crate::model::project::Project;
use crate::support::tree::Node;

/// What is known of results, by what decides them.
#[derive(Clone, Default)]
pub(crate) struct Known {
    results: HashMap<Digest, Knowledge>,
    /// What each key that was seen decides.
    keys: HashMap<String, Digest>,
    /// Keys of which it is not known what they decide: somebody intruded when they were made.
    doubtful: HashSet<String>,
    /// How far it can be relied on.
    pub(crate) trust: Trust,
}

/// How far it can be relied on that a store has what is known, and no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Trust {
    #[default]
    Exact,
    /// It may have more: a run was killed.
    More,
    /// It may have more or less: what was killed was taking away.
    Either,
    /// It may have less, and nothing may be remembered either: the clock of the file system
    /// is slow.
    Less,
}

#[derive(Clone, Debug)]
struct Knowledge {
    /// Whether it must be in the store; otherwise it may be.
    is_sure: bool,
    /// The hashes of the files in it.
    blobs: Vec<String>,
    key: Option<String>,
}

impl Known {
    /// Tells whether commands must run for this result, which is said to have this key.
    pub(crate) fn must_run(&self, fingerprint: &Digest, key: Option<&String>) -> bool {
        let is_doubtful = key.is_some_and(|key| self.doubtful.contains(key));
        let is_doubtful = is_doubtful || matches!(self.trust, Trust::More | Trust::Either);
        !is_doubtful && !self.results.contains_key(fingerprint)
    }

    /// Checks a run that brought everything up to date, and learns from it.
    pub(crate) fn check(
        &mut self,
        project: &Project,
        fates: &BTreeMap<String, Fate>,
        report: &Report,
    ) -> Result<(), Fault> {
        check_ends(fates, report)?;
        for (name, fate) in fates {
            let times = report.executed.iter().filter(|n| *n == name).count();
            let uncached = project.target(name).is_some_and(|target| target.uncached);
            let (least, most) = match fate {
                Fate::Fails => (1, 1),
                Fate::Refused | Fate::Blocked | Fate::Skipped => (0, 0),
                Fate::Made { .. } if uncached => (1, 1),
                Fate::Made { fingerprint, .. } => {
                    let key = report.key(name);
                    match self.results.get(fingerprint) {
                        None if self.must_run(fingerprint, key) => (1, 1),
                        Some(known) if known.is_sure && self.is_kept() => (0, 0),
                        _ => (0, 1),
                    }
                }
            };
            if times < least || times > most {
                let end = &report.ends.get(name);
                return Err(format!(
                    "{name} ran {times} times, not {least} to {most}: {end:?}"
                ));
            }
            if let Fate::Made {
                fingerprint,
                outputs,
            } = fate
            {
                let key = report.key(name).cloned();
                self.check_key(name, *fingerprint, key.as_ref())?;
                if times == 1 {
                    self.learn(*fingerprint, outputs, key, !uncached);
                }
            }
        }
        Ok(())
    }

    /// Checks a run that had nothing to do, unless the one before said that it did not store
    /// what it made.
    pub(crate) fn check_idle(
        &mut self,
        (project, fates): (&Project, &BTreeMap<String, Fate>),
        report: &Report,
        is_doubted: bool,
    ) -> Result<(), Fault> {
        check_ends(fates, report)?;
        let is_slow = self.trust == Trust::Less || is_doubted;
        for (name, fate) in fates {
            let times = report.executed.iter().filter(|n| *n == name).count();
            let uncached = project.target(name).is_some_and(|target| target.uncached);
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

    /// Two results have one key if and only if the same decides them.
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

    /// Takes in that something in the store was damaged.
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

    /// Takes in what a run made of which nobody knows what it saw.
    pub(crate) fn doubt(&mut self, report: &Report) {
        let built = report.ends.values().filter(|ended| ended.how == How::Built);
        self.doubtful
            .extend(built.filter_map(|ended| ended.key.clone()));
    }

    /// Tells whether what was stored surely is still there.
    fn is_kept(&self) -> bool {
        matches!(self.trust, Trust::Exact | Trust::More)
    }

    /// Takes in that the store is gone.
    pub(crate) fn forget_results(&mut self) {
        self.results.clear();
        self.doubtful.clear();
    }
}

/// Checks how each target ended, and the run.
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
