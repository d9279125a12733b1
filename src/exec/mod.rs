//! Runs the commands of actions. An [`Executor`] runs an action's commands in order and
//! returns how they ended. It depends on neither the store nor the graph, and captures no
//! outputs.
//!
//! [`Local`] runs commands on this machine, [`Fake`] is for tests. Below them, `run`
//! supervises one command until its last descendant has ended, `process` starts programs
//! (no other file does), `lookup` finds them on `PATH`, `tree` tracks which processes
//! belong to which command, `handle` holds one process, `watchdog` kills the commands if fbuild itself is killed, and
//! `terminal` passes the terminal to interactive commands. `mask` hides secrets (`secret_forms`), `shell`
//! formats commands for display, `probe` reads the version of a tool, and `trace` records the
//! files that commands use.

mod error;
mod fake;
mod handle;
mod local;
mod lookup;
mod mask;
mod private;
mod probe;
mod process;
mod procfs;
mod run;
mod secret_forms;
mod shell;
mod signals;
mod terminal;
mod tool;
mod trace;
mod tree;
mod watchdog;

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use crate::action::Action;
use crate::cancel::Cancel;

pub use error::Error;
pub use fake::{Fake, Gate, Request, Script};
pub use local::Local;
pub use lookup::find;
pub use mask::Masker;
pub use probe::{PROBE_LIMIT, PROBE_TIME, probe};
pub use process::{Program, Streams};
pub use procfs::finds_processes;
pub use run::{Completion, GRACE, run};
pub use shell::{command_line, quote};
pub use tool::{find_tools, probe_tools};
pub use trace::{
    Access, Change, Ended, Gap, Process, Recording, Refusal, TRACE_ARGUMENT, Trace, Tracer, Uses,
    trace_main,
};
pub use tree::{MARKER, run_id, suspend};
pub use watchdog::{WATCHDOG_ARGUMENT, Watchdog, watchdog_main};

/// Runs the commands of an action, in order, stopping at the first that fails.
pub trait Executor: Send + Sync {
    /// Performs setup that the first task would otherwise wait for. Calling it is optional.
    fn get_ready(&self) {}

    /// Runs `task` to its end. `output` receives the commands' output, both streams in the
    /// order written, unchanged except for masked secrets; it is called on the calling
    /// thread.
    ///
    /// Postcondition: no process that was started for the task is still running.
    fn execute(
        &self,
        task: &Task<'_>,
        output: &mut dyn FnMut(&[u8]),
        cancel: &Cancel,
    ) -> Result<Execution, Error>;
}

/// The commands of one target, with the limits that they run under.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// The target's name, used for `FBUILD_TARGET` and in messages.
    pub name: &'a str,
    /// The commands, their environment and their working directory.
    pub action: &'a Action,
    /// The time limit of this attempt.
    pub timeout: Option<Duration>,
    /// Whether the commands get the terminal, instead of having their output captured.
    pub interactive: bool,
    /// The recording of the files that they use.
    pub tracing: Tracing,
}

/// The recording of the files that commands use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tracing {
    /// They are not.
    #[default]
    Off,
    /// They are if the system allows it.
    Preferred,
    /// They are, or the commands do not run.
    Required,
}

/// The result of running a task's commands.
#[derive(Clone, Debug)]
pub struct Execution {
    /// How the last command that ran ended.
    pub end: End,
    /// The index of that command in the action.
    pub command: usize,
    /// The duration of all commands together.
    pub duration: Duration,
    /// The number of processes that outlived their command and were killed.
    pub left_behind: usize,
    /// The files that the commands used, or why they were not recorded; `None` if that was
    /// not requested.
    pub trace: Option<Result<Trace, Refusal>>,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The command exited with this status, or was killed by a signal that fbuild did not send.
    Exited(ExitStatus),
    /// The command exceeded its time limit and was terminated.
    TimedOut,
    /// The run was cancelled and the command was terminated.
    Cancelled,
}

impl End {
    /// Returns true if the command exited successfully.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Exited(status) if status.success())
    }

    /// Returns true if Ctrl-C or Ctrl-\ ended the command. Shells report the signal that
    /// killed their last command as an exit code.
    pub fn is_interrupt(self) -> bool {
        const SHELL: i32 = 128;
        let Self::Exited(status) = self else {
            return false;
        };
        let signal = status.signal().or(status.code().map(|code| code - SHELL));
        matches!(signal, Some(libc::SIGINT | libc::SIGQUIT))
    }
}
