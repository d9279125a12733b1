//! The events of a run as serialisable data: reporters show them, the journal keeps them
//! and `--json` prints them.

use std::error::Error;

use serde::{Deserialize, Serialize};

use crate::source::Diagnostic;
use crate::test_report::Case;

/// Receives the events of a run, in the order they happen.
pub trait Sink {
    /// Receives the next event.
    fn on_event(&mut self, event: &Event);

    /// Called about ten times a second while nothing happens, to show that time passes.
    fn tick(&mut self, _at_ms: u64) {}
}

/// The version of the event format, in every `run-started`.
pub const FORMAT: u32 = 1;

/// An event of a run, and its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Milliseconds since the run started.
    pub at_ms: u64,
    /// The event itself.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The event itself, without its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "event",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum EventKind {
    /// The run began.
    RunStarted {
        /// The version of this format: [`FORMAT`].
        format: u32,
        /// The version of fbuild.
        fbuild: String,
        /// The targets and groups that were requested.
        wanted: Vec<String>,
        /// The number of targets in the run.
        targets: usize,
        /// The most commands at once.
        jobs: usize,
        /// The expected time if every target had to be built, estimated from past runs.
        expected_ms: Option<u64>,
    },
    /// A target's commands are about to run.
    TargetStarted {
        /// The target's name.
        target: String,
        /// Its number among the targets started or finished, from 1.
        number: usize,
        /// The reason to run it.
        reason: Reason,
        /// The time it took last.
        expected_ms: Option<u64>,
        /// The number of the attempt, from 1.
        attempt: u32,
        /// Whether it gets the terminal.
        interactive: bool,
    },
    /// A target's commands printed text. Streamed output arrives while they run, other output
    /// just before the target finishes. The journal does not keep it.
    TargetOutput {
        /// The target's name.
        target: String,
        /// The next piece of output, with secrets masked.
        text: Printed,
    },
    /// A target is finished.
    TargetFinished {
        /// The target's name.
        target: String,
        /// Its number among the finished targets, from 1.
        number: usize,
        /// The outcome.
        outcome: Outcome,
        /// The reason to run or restore it; `None` if it was up to date or skipped.
        reason: Option<Reason>,
        /// The digest of its manifest, in hexadecimal; `None` if it was not computed.
        key: Option<String>,
        /// The time its commands took; 0 if none ran.
        duration_ms: u64,
    },
    /// A problem that does not fail the build.
    Warning(Warning),
    /// The commands of a target used a file or a program that it does not declare.
    Finding(Finding),
    /// The run ended.
    RunFinished(Summary),
}

/// A problem that does not fail the build but must be reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// A stable code such as `fbuild::store::corrupt`.
    pub code: String,
    /// The problem, in a sentence.
    pub message: String,
    /// The target concerned, if it is a single one.
    pub target: Option<String>,
}

/// A difference between the declaration of a target and a trace of its commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The target's name.
    pub target: String,
    /// The difference, its place in the Buildfile, and the edit that removes it.
    pub diagnostic: Diagnostic,
    /// The first paths concerned.
    pub paths: Vec<String>,
    /// The number of paths concerned.
    pub count: usize,
    /// The program that used the first path, if it is known.
    pub program: Option<String>,
}

impl Warning {
    /// Creates a warning about no particular target.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            target: None,
        }
    }

    /// Turns an error into a warning.
    pub fn of<E: Error + miette::Diagnostic>(error: &E) -> Self {
        Self::new(&error_code(error), error_chain(error))
    }

    /// Names the target concerned.
    #[must_use]
    pub fn about(mut self, target: &str) -> Self {
        self.target = Some(target.to_owned());
        self
    }
}

/// Returns the messages of an error and of its causes, joined by colons.
pub fn error_chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error: &&dyn Error| error.source());
    let messages: Vec<String> = causes.map(ToString::to_string).collect();
    messages.join(": ")
}

/// Returns the stable code of an error, or an empty string.
fn error_code<E: miette::Diagnostic>(error: &E) -> String {
    let code = error.code();
    code.map_or_else(String::new, |code| code.to_string())
}

/// Bytes that a command printed. In JSON they are text, with invalid UTF-8 replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed(pub Vec<u8>);

impl Serialize for Printed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&String::from_utf8_lossy(&self.0))
    }
}

impl<'de> Deserialize<'de> for Printed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(text.into_bytes()))
    }
}

/// The outcome of a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "outcome",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum Outcome {
    /// Its commands ran and succeeded.
    Built,
    /// Its outputs were restored from the cache.
    Restored,
    /// Its outputs came from the remote cache.
    Fetched,
    /// Its outputs were up to date.
    UpToDate,
    /// In a dry run: its commands would run.
    WouldRun,
    /// In a dry run: its outputs would be restored from the cache.
    WouldRestore,
    /// Its commands failed, or did not make the declared outputs.
    Failed {
        /// The failure.
        failure: Failure,
    },
    /// It was skipped because a needed target failed or was skipped.
    Skipped {
        /// The needed target.
        because: String,
    },
    /// It was stopped, or not started, because the run was interrupted.
    Cancelled,
}

impl Outcome {
    /// Returns true if the targets that depend on this one may run.
    pub fn is_success(&self) -> bool {
        !matches!(
            self,
            Self::Failed { .. } | Self::Skipped { .. } | Self::Cancelled
        )
    }
}

/// The failure of a target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// A stable code such as `fbuild::exec::exit`.
    pub code: String,
    /// The error, in a sentence.
    pub message: String,
    /// The cure.
    pub help: Option<String>,
    /// A shell command that repeats it by hand.
    pub repeat: Option<String>,
    /// The last lines printed.
    pub tail: String,
    /// The exit code, unless a signal or fbuild ended the command.
    pub exit_code: Option<i32>,
    /// The mistakes in the Buildfile that caused it, with their places.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Diagnostic>,
    /// The cases in the reports of a test. The journal does not keep them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cases: Vec<Case>,
}

impl Failure {
    /// Describes an error with its code, its causes and its help.
    pub fn of<E: Error + miette::Diagnostic>(error: &E) -> Self {
        Self {
            code: error_code(error),
            message: error_chain(error),
            help: error.help().map(|help| help.to_string()),
            ..Self::default()
        }
    }
}

/// The reason to run a target or to restore its outputs. `Display` words it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "why",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum Reason {
    /// No earlier success is recorded.
    NeverBuilt,
    /// `--force`.
    Forced,
    /// `fbuild test --rerun`.
    Rerun,
    /// `--no-cache`.
    Uncached,
    /// `cache #false`.
    NotCached,
    /// The user gave it arguments.
    Arguments,
    /// In a dry run: a needed target would run, and may change its outputs.
    NeedWouldRun {
        /// The needed target.
        target: String,
    },
    /// In a dry run without probes: the version of a tool is unknown.
    ToolUnknown {
        /// The tool.
        name: String,
    },
    /// It changed, and the earlier manifest is lost.
    Changed,
    /// This version of fbuild writes keys in another format.
    FormatChanged,
    /// The content, mode or kind of an input changed.
    InputChanged {
        /// The path.
        path: String,
        /// The number of other changes.
        others: usize,
    },
    /// An input is new.
    InputAdded {
        /// The path.
        path: String,
        /// The number of other changes.
        others: usize,
    },
    /// An input was removed.
    InputRemoved {
        /// The path.
        path: String,
        /// The number of other changes.
        others: usize,
    },
    /// A needed target's outputs changed.
    NeedChanged {
        /// The needed target.
        target: String,
        /// One of the paths that changed.
        path: String,
    },
    /// The list of needed targets changed.
    NeedsChanged,
    /// A needed target that declares no outputs ran again.
    NeedRan {
        /// The needed target.
        target: String,
    },
    /// The value of a variable changed.
    EnvChanged {
        /// The name.
        name: String,
        /// Its value before; `None` is unset.
        from: Option<String>,
        /// Its value now; `None` is unset.
        to: Option<String>,
    },
    /// The version of a tool changed.
    ToolChanged {
        /// The name.
        name: String,
        /// Its version before; `None` if it was not used.
        from: Option<String>,
        /// Its version now; `None` if it is not used.
        to: Option<String>,
    },
    /// The commands changed.
    CommandChanged,
    /// The working directory changed.
    DirChanged,
    /// The declared outputs changed.
    OutputsChanged,
    /// The platform changed.
    PlatformChanged,
    /// An output is missing.
    OutputDeleted {
        /// The path.
        path: String,
    },
    /// An output was changed by another program.
    OutputModified {
        /// The path.
        path: String,
    },
    /// An owned folder contains a file that the target did not make.
    OutputStray {
        /// The path.
        path: String,
    },
    /// Nothing changed, but the result is no longer in the cache.
    Evicted,
}

/// The totals of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The targets in the run.
    pub targets: usize,
    /// The targets built.
    pub built: usize,
    /// The targets restored from the cache.
    pub restored: usize,
    /// The targets whose results came from the remote cache.
    pub fetched: usize,
    /// The targets that were up to date.
    pub up_to_date: usize,
    /// The targets that failed.
    pub failed: usize,
    /// The targets skipped because another failed.
    pub skipped: usize,
    /// The targets stopped or not started because the run was interrupted.
    pub cancelled: usize,
    /// In a dry run: the targets that would run.
    pub would_run: usize,
    /// In a dry run: the targets that would be restored.
    pub would_restore: usize,
    /// The time from start to end.
    pub wall_ms: u64,
    /// The sum of the times of all commands.
    pub work_ms: u64,
    /// The time of the longest chain of dependent commands.
    pub critical_path_ms: u64,
    /// The lower bound of the time in any order: the larger of `critical_path_ms` and
    /// `work_ms` divided by the jobs.
    pub bound_ms: u64,
    /// The most commands at once.
    pub jobs: usize,
    /// The number of warnings.
    pub warnings: usize,
    /// Whether the run was interrupted.
    pub interrupted: bool,
    /// The traffic with the remote cache; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteUsage>,
}

/// The traffic of a run with a remote cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoteUsage {
    /// The results that it had.
    pub hits: u64,
    /// The results that it lacked.
    pub misses: u64,
    /// The bytes received.
    pub bytes_in: u64,
    /// The bytes sent.
    pub bytes_out: u64,
    /// The time that look-ups took, added up over all threads.
    pub waited_ms: u64,
    /// Why it is not used any more; absent while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off: Option<String>,
}

impl Summary {
    /// Returns true if every target is up to date now and nothing was reported.
    pub fn went_well(&self) -> bool {
        let good = self.up_to_date + self.restored + self.fetched + self.built;
        good == self.targets && self.warnings == 0 && !self.interrupted
    }
}
