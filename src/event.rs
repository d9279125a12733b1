//! All that can happen in a run, as serialisable data: what reporters show, the journal
//! keeps and `--json` prints. It knows nothing of who listens.

use std::error::Error;

use serde::{Deserialize, Serialize};

use crate::source::Diagnostic;

/// Receives the events of a run, in the order they happen.
pub trait Sink {
    /// Receives the next event.
    fn on_event(&mut self, event: &Event);

    /// Called about ten times a second while nothing happens, to show that time passes.
    fn tick(&mut self, _at_ms: u64) {}
}

/// The version of the event format, in every `run-started`.
pub const FORMAT: u32 = 1;

/// Something that happened in a run, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Milliseconds since the run started.
    pub at_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "event",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum What {
    /// The run began.
    RunStarted {
        /// The version of this format: [`FORMAT`].
        format: u32,
        /// Which fbuild.
        fbuild: String,
        /// The names that were asked for.
        wanted: Vec<String>,
        /// How many targets take part.
        targets: usize,
        /// How many may run at once.
        jobs: usize,
        /// How long past runs say it would take, if every target had to be built.
        expected_ms: Option<u64>,
    },
    /// A target's commands are about to run.
    TargetStarted {
        /// Its name.
        target: String,
        /// Its number among those started or settled, from 1.
        number: usize,
        /// Why it runs.
        reason: Reason,
        /// How long it took last time.
        expected_ms: Option<u64>,
        /// Which attempt, from 1.
        attempt: u32,
        /// Whether it is handed the terminal.
        interactive: bool,
    },
    /// A target's commands printed something: as they print when its output is streamed,
    /// otherwise in pieces just before it is settled. Not kept by the journal.
    TargetOutput {
        /// Its name.
        target: String,
        /// The next piece of what it printed, secrets masked.
        text: Printed,
    },
    /// A target is settled.
    TargetFinished {
        /// Its name.
        target: String,
        /// Its number among those settled, from 1.
        number: usize,
        /// What became of it.
        outcome: Outcome,
        /// Why it ran or was restored; `None` when it was up to date or skipped.
        reason: Option<Reason>,
        /// The digest of its manifest, in hexadecimal.
        key: Option<String>,
        /// How long its commands took; 0 when none ran.
        duration_ms: u64,
    },
    /// A problem that does not fail the build.
    Warning(Warning),
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

/// Bytes that a command printed; as JSON, text in which what is not UTF-8 is replaced.
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

/// What became of a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "outcome",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum Outcome {
    /// Its commands ran and succeeded.
    Built,
    /// Its outputs came out of the cache.
    Restored,
    /// Nothing was to be done.
    UpToDate,
    /// In a dry run: its commands would run.
    WouldRun,
    /// In a dry run: its outputs would come out of the cache.
    WouldRestore,
    /// Its commands failed, or their result was no result.
    Failed {
        /// How it failed.
        failure: Failure,
    },
    /// It was not tried, because `because` failed or was itself skipped.
    Skipped {
        /// The target that failed.
        because: String,
    },
    /// It was stopped, or not started, because the run was interrupted.
    Cancelled,
}

impl Outcome {
    /// Tells whether what depends on the target may go on.
    pub fn is_success(&self) -> bool {
        !matches!(
            self,
            Self::Failed { .. } | Self::Skipped { .. } | Self::Cancelled
        )
    }
}

/// How a target failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// A stable code such as `fbuild::exec::exit`.
    pub code: String,
    /// What is wrong, in a sentence.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The command to repeat it by hand, for a shell.
    pub repeat: Option<String>,
    /// The last lines printed.
    pub tail: String,
    /// The exit code, when it ended by itself.
    pub exit_code: Option<i32>,
    /// The places in the Buildfile that it is about, if it is about any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Diagnostic>,
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

/// Why a target runs, or why its outputs are put back. The sentence is in `Display`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "why",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum Reason {
    /// There is no record of an earlier success.
    NeverBuilt,
    /// `--force`.
    Forced,
    /// `--no-cache`.
    Uncached,
    /// `cache #false`.
    NotCached,
    /// In a dry run: a needed target would run, and may make something else.
    NeedWouldRun {
        /// The needed target.
        target: String,
    },
    /// In a dry run that starts nothing: a tool was never asked for its version.
    ToolUnknown {
        /// The tool.
        name: String,
    },
    /// It changed, but what it was is no longer known in detail.
    Changed,
    /// This version of fbuild writes keys in another format.
    FormatChanged,
    /// An input has other content, mode or kind.
    InputChanged {
        /// Which.
        path: String,
        /// How many others changed as well.
        others: usize,
    },
    /// An input is new.
    InputAdded {
        /// Which.
        path: String,
        /// How many others changed as well.
        others: usize,
    },
    /// An input is gone.
    InputRemoved {
        /// Which.
        path: String,
        /// How many others changed as well.
        others: usize,
    },
    /// A needed target produced something else.
    NeedChanged {
        /// The needed target.
        target: String,
        /// One of the paths that changed.
        path: String,
    },
    /// The target needs other targets than before.
    NeedsChanged,
    /// A variable has another value.
    EnvChanged {
        /// Its name.
        name: String,
        /// Its value before; `None` is unset.
        from: Option<String>,
        /// Its value now; `None` is unset.
        to: Option<String>,
    },
    /// A tool has another version.
    ToolChanged {
        /// Its name.
        name: String,
        /// Its version before; `None` when it was not used.
        from: Option<String>,
        /// Its version now; `None` when it is not used.
        to: Option<String>,
    },
    /// The commands are other ones.
    CommandChanged,
    /// The working directory is another one.
    DirChanged,
    /// Other outputs are declared.
    OutputsChanged,
    /// The system or the processor is another kind.
    PlatformChanged,
    /// An output is not there.
    OutputDeleted {
        /// Which.
        path: String,
    },
    /// An output was changed by somebody else.
    OutputModified {
        /// Which.
        path: String,
    },
    /// An owned folder holds something that the target did not make.
    OutputStray {
        /// Which.
        path: String,
    },
    /// Everything is as it was, but the result is no longer in the cache.
    Evicted,
}

/// The end of a run in numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// How many targets took part.
    pub targets: usize,
    /// How many were built.
    pub built: usize,
    /// How many were restored from the cache.
    pub restored: usize,
    /// How many were up to date.
    pub up_to_date: usize,
    /// How many failed.
    pub failed: usize,
    /// How many were not tried because another failed.
    pub skipped: usize,
    /// How many were stopped or not started because the run was interrupted.
    pub cancelled: usize,
    /// In a dry run: how many would run.
    pub would_run: usize,
    /// In a dry run: how many would be restored.
    pub would_restore: usize,
    /// From start to end.
    pub wall_ms: u64,
    /// All commands' times added up.
    pub work_ms: u64,
    /// The longest chain of commands that had to follow each other.
    pub critical_path_ms: u64,
    /// No order could have been faster: the larger of `critical_path_ms` and
    /// `work_ms` divided by the jobs.
    pub bound_ms: u64,
    /// How many targets may run at once.
    pub jobs: usize,
    /// How many warnings were given.
    pub warnings: usize,
    /// Whether the run was interrupted.
    pub interrupted: bool,
}

impl Summary {
    /// Tells whether every target is up to date now and there was nothing to say.
    pub fn went_well(&self) -> bool {
        let good = self.up_to_date + self.restored + self.built;
        good == self.targets && self.warnings == 0 && !self.interrupted
    }
}
