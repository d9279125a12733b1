//! How results are made: an [`Executor`] runs an action's commands and says how they
//! ended. It knows neither the store nor the graph, and captures no outputs.
//!
//! [`Local`] runs them on this machine, [`Fake`] pretends to. Below them, `run` is one
//! command from its start to the end of its last descendant, `process` starts programs
//! (the only file that does), `lookup` finds them, `tree` knows which processes belong to
//! which command, `watchdog` ends them when fbuild itself is killed, and `terminal` lends
//! the terminal. `mask` hides secrets, `shell` writes a command down for people, and
//! `probe` asks a tool for its version.

mod error;
mod fake;
mod local;
mod lookup;
mod mask;
mod private;
mod probe;
mod process;
mod procfs;
mod run;
mod shell;
mod signals;
mod terminal;
mod tree;
mod watchdog;

use std::process::ExitStatus;
use std::time::Duration;

use crate::action::Action;
use crate::cancel::Cancel;

pub use error::Error;
pub use fake::{Asked, Fake, Gate, Script};
pub use local::Local;
pub use lookup::find;
pub use mask::Masker;
pub use probe::{PROBE_LIMIT, PROBE_TIME, probe};
pub use process::{Program, Streams};
pub use run::{Ended, GRACE, run};
pub use shell::{command_line, quote};
pub use tree::MARKER;
pub use watchdog::{WATCHDOG_ARGUMENT, Watchdog, watchdog_main};

/// Runs the commands of an action, in order, stopping at the first that fails.
pub trait Executor: Send + Sync {
    /// Does beforehand what the first task would have to wait for. Nobody has to call it.
    fn get_ready(&self) {}

    /// Runs `task` to its end. `output` receives what the commands print, both streams in
    /// the order written, bytes untouched but for masked secrets; it is called on the
    /// calling thread.
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
    /// How many processes the commands left running, which were then killed.
    pub left_behind: usize,
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

impl End {
    /// Tells whether the command ended by itself and succeeded.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Exited(status) if status.success())
    }
}
