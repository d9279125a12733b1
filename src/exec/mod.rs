//! How results are made: an [`Executor`] runs an action's commands and says how they
//! ended. It knows neither the store nor the graph, and captures no outputs.

use std::process::ExitStatus;
use std::time::Duration;

use crate::action::Action;
use crate::cancel::Cancel;

/// Runs the commands of an action, in order, stopping at the first that fails.
pub trait Executor: Send + Sync {
    /// Runs `task` to its end. `output` receives what the commands print, both streams in
    /// the order written, bytes untouched; it is called on the calling thread.
    ///
    /// Postcondition: no process that was started for the task is left.
    fn execute(
        &self,
        task: &Task<'_>,
        output: &mut dyn FnMut(&[u8]),
        cancel: &Cancel,
    ) -> Result<Execution, Error>;
}

/// What is to be executed.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// The target's name, for `FBUILD_TARGET` and messages.
    pub name: &'a str,
    /// The commands, the environment and the directory.
    pub action: &'a Action,
    /// The longest time for this attempt.
    pub timeout: Option<Duration>,
    /// Whether the terminal is handed to the commands instead of captured.
    pub interactive: bool,
}

/// How the commands ended.
#[derive(Clone, Debug)]
pub struct Execution {
    /// How the last command that ran ended.
    pub end: End,
    /// Which of the action's commands that was, from 0.
    pub command: usize,
    /// How long all of them took.
    pub duration: Duration,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this status (success, a code, or a signal from elsewhere).
    Exited(ExitStatus),
    /// It was stopped because its time was up.
    TimedOut,
    /// It was stopped because the run was.
    Cancelled,
}

impl Execution {
    /// Tells whether every command succeeded.
    pub fn is_success(&self) -> bool {
        matches!(self.end, End::Exited(status) if status.success())
    }
}

/// Why a command could not be run at all.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// No program of this name is on `PATH`.
    #[error("command `{program}` not found on PATH")]
    #[diagnostic(code(fbuild::exec::not_found))]
    NotFound {
        /// The name as written.
        program: String,
    },
    /// The system refused to start it.
    #[error("cannot start `{program}`")]
    #[diagnostic(code(fbuild::exec::start))]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// A system call about a process, a pipe or the private folder failed.
    #[error("cannot {operation}")]
    #[diagnostic(code(fbuild::exec::system))]
    System {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}
