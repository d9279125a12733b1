//! Who builds: the contract between a bench and the two ways to run fbuild, and what both
//! take from the events of a run.

use std::collections::BTreeMap;
use std::path::Path;

use fbuild::digest::Digest;
use fbuild::event::{EventKind, Outcome, Warning};

use crate::model::expected::World;
use crate::model::step::{Harm, Look, Written};

/// Someone who runs fbuild in a folder.
pub(crate) trait Builder {
    /// Returns the program that a Buildfile should name as `mix`, if it needs one.
    fn mix(&self) -> Option<&'static str>;

    /// Tells whether the Buildfile has no mistakes.
    fn check(&mut self) -> bool;

    /// Brings everything up to date.
    fn build(&mut self, world: &World, intrusion: Option<&Intrusion>) -> Report;

    /// Asks what would be done.
    fn look(&mut self, world: &World, look: Look) -> Report;

    /// Damages something in the store, and says what.
    fn harm(&mut self, how: Harm, pick: u64) -> Harmed;

    /// Tells whether the store lies in the state folder, and goes with it.
    fn keeps_store_in_state(&self) -> bool;
}

/// What happens while a target is built.
#[derive(Clone, Debug)]
pub(crate) struct Intrusion {
    pub(crate) target: String,
    /// Written before it reads its inputs.
    pub(crate) before: Vec<Written>,
    /// Written after that.
    pub(crate) after: Vec<Written>,
    /// Whether the run is stopped then.
    pub(crate) stops: bool,
}

/// What was damaged.
#[derive(Clone, Debug)]
pub(crate) enum Harmed {
    Nothing,
    /// The blob with this hash, in hexadecimal.
    Blob(String),
    /// The record with this key, in hexadecimal.
    Record(String),
}

/// What a run did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// The exit code.
    pub(crate) exit: i32,
    /// The targets whose commands ran, each as often as they did.
    pub(crate) executed: Vec<String>,
    pub(crate) ends: BTreeMap<String, Ended>,
    /// Code and text of each warning.
    pub(crate) warnings: Vec<String>,
    /// Whether the target of the intrusion was reached.
    pub(crate) intruded: bool,
    /// What was said besides.
    pub(crate) talk: String,
}

/// What became of a target.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) how: How,
    pub(crate) key: Option<String>,
    /// Why it failed, or ran.
    #[expect(dead_code, reason = "it is there to be printed")]
    pub(crate) why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Built,
    Restored,
    UpToDate,
    WouldRun,
    WouldRestore,
    Failed,
    Skipped,
    Cancelled,
}

impl Report {
    /// Takes in an event.
    pub(crate) fn hear(&mut self, kind: &EventKind) {
        match kind {
            EventKind::TargetFinished {
                target,
                outcome,
                key,
                reason,
                ..
            } => {
                let why = match outcome {
                    Outcome::Failed { failure } => format!("{}: {}", failure.code, failure.message),
                    _ => format!("{reason:?}"),
                };
                let (how, key) = (How::of(outcome), key.clone());
                self.ends.insert(target.clone(), Ended { how, key, why });
            }
            EventKind::Warning(warning) => {
                let Warning { code, message, .. } = warning;
                self.warnings.push(format!("{code}: {message}"));
            }
            _ => {}
        }
    }

    /// Returns the key of a target, if it came to have one.
    pub(crate) fn key(&self, target: &str) -> Option<&String> {
        self.ends.get(target).and_then(|ended| ended.key.as_ref())
    }

    /// Returns how a target ended.
    pub(crate) fn how(&self, target: &str) -> Option<How> {
        self.ends.get(target).map(|ended| ended.how)
    }
}

impl How {
    fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Built => Self::Built,
            Outcome::Restored => Self::Restored,
            Outcome::UpToDate => Self::UpToDate,
            Outcome::WouldRun => Self::WouldRun,
            Outcome::WouldRestore => Self::WouldRestore,
            Outcome::Failed { .. } => Self::Failed,
            Outcome::Skipped { .. } => Self::Skipped,
            Outcome::Cancelled => Self::Cancelled,
        }
    }

    /// Tells whether the outputs are what they should be.
    pub(crate) fn is_success(self) -> bool {
        matches!(self, Self::Built | Self::Restored | Self::UpToDate)
    }
}

/// Damages a file of a store in a folder, chosen by a number.
pub(crate) fn harm_disk(store: &Path, how: Harm, pick: u64) -> Harmed {
    let mut objects = Vec::new();
    for kind in ["artifacts", "actions"] {
        let shards = std::fs::read_dir(store.join(kind))
            .into_iter()
            .flatten()
            .flatten();
        for shard in shards {
            let names = std::fs::read_dir(shard.path())
                .into_iter()
                .flatten()
                .flatten();
            objects.extend(names.map(|entry| (kind, entry.path())));
        }
    }
    objects.sort();
    if objects.is_empty() {
        return Harmed::Nothing;
    }
    let chosen = usize::try_from(pick % objects.len() as u64).unwrap();
    let (kind, path) = &objects[chosen];
    let mut bytes = std::fs::read(path).unwrap();
    damage(&mut bytes, how, pick);
    match how {
        Harm::Remove => std::fs::remove_file(path).unwrap(),
        _ => std::fs::write(path, bytes).unwrap(),
    }
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    match *kind {
        "artifacts" => Harmed::Blob(name),
        _ => Harmed::Record(name),
    }
}

/// Damages some bytes at a place chosen by a number.
pub(crate) fn damage(bytes: &mut Vec<u8>, how: Harm, pick: u64) {
    if bytes.is_empty() {
        bytes.push(1);
        return;
    }
    let at = usize::try_from(pick / 7 % bytes.len() as u64).unwrap();
    match how {
        Harm::Cut => bytes.truncate(at),
        Harm::Flip | Harm::Remove => bytes[at] ^= 1 << (pick % 8),
    }
}

/// Returns the digest of a file's content.
pub(crate) fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}
