//! Defines the interface between a comparison and the two ways to run fbuild, and the report
//! that both build from the events of a run.

use std::collections::BTreeMap;
use std::path::Path;

use fbuild::digest::Digest;
use fbuild::event::{EventKind, Outcome, Warning};

use crate::model::expected::World;
use crate::model::step::{Harm, Preview, Written};

/// Runs fbuild in a folder.
pub(crate) trait Builder {
    /// Returns the program that a Buildfile should name as `mix`, if the builder needs one.
    fn mix(&self) -> Option<&'static str>;

    /// Returns true if the Buildfile has no mistakes.
    fn check(&mut self) -> bool;

    /// Brings everything up to date.
    fn build(&mut self, world: &World, intrusion: Option<&Intrusion>) -> Report;

    /// Asks fbuild what a run would do.
    fn preview(&mut self, world: &World, preview: Preview) -> Report;

    /// Damages an object of the store and returns it.
    fn harm(&mut self, how: Harm, pick: u64) -> Harmed;

    /// Returns true if the store is in the state folder and is deleted with it.
    fn keeps_store_in_state(&self) -> bool;
}

/// Writes that happen while a target is built.
#[derive(Clone, Debug)]
pub(crate) struct Intrusion {
    pub(crate) target: String,
    /// Files written before the target reads its inputs.
    pub(crate) before: Vec<Written>,
    /// Files written after it has read its inputs.
    pub(crate) after: Vec<Written>,
    /// Whether the run is stopped after these writes.
    pub(crate) stops: bool,
}

/// A damaged object.
#[derive(Clone, Debug)]
pub(crate) enum Harmed {
    Nothing,
    /// The blob with this hash, in hexadecimal.
    Blob(String),
    /// The record with this key, in hexadecimal.
    Record(String),
}

/// The report of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// The exit code.
    pub(crate) exit: i32,
    /// The targets whose commands ran, once for each execution.
    pub(crate) executed: Vec<String>,
    pub(crate) ends: BTreeMap<String, Ended>,
    /// The code and text of each warning.
    pub(crate) warnings: Vec<String>,
    /// Whether the target of the intrusion ran.
    pub(crate) intruded: bool,
    /// All other output.
    pub(crate) messages: String,
}

/// The end of a target.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) how: How,
    pub(crate) key: Option<String>,
    /// The reason for the run or the failure.
    #[expect(dead_code, reason = "printed in reports")]
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
    /// Adds an event.
    pub(crate) fn on_event(&mut self, kind: &EventKind) {
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

    /// Returns the key of a target, if the run computed one.
    pub(crate) fn key(&self, target: &str) -> Option<&String> {
        self.ends.get(target).and_then(|ended| ended.key.as_ref())
    }

    /// Returns the kind of a target's end.
    pub(crate) fn how(&self, target: &str) -> Option<How> {
        self.ends.get(target).map(|ended| ended.how)
    }
}

impl How {
    fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Built => Self::Built,
            Outcome::Restored | Outcome::Fetched => Self::Restored,
            Outcome::UpToDate => Self::UpToDate,
            Outcome::WouldRun => Self::WouldRun,
            Outcome::WouldRestore => Self::WouldRestore,
            Outcome::Failed { .. } => Self::Failed,
            Outcome::Skipped { .. } => Self::Skipped,
            Outcome::Cancelled => Self::Cancelled,
        }
    }

    /// Returns true if the outputs are the expected ones.
    pub(crate) fn is_success(self) -> bool {
        matches!(self, Self::Built | Self::Restored | Self::UpToDate)
    }
}

/// Damages one file of a store, selected by a number.
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

/// Damages bytes at an offset selected by a number.
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
