//! Defines the errors of commands that could not run. A command that ran and failed has an
//! [`End`](super::End) instead.

use std::io;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use super::trace::Refusal;
use crate::path::escape;

/// The reason that a command could not run. It is never stored as an action's result.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The program does not exist.
    #[error("command `{program}` not found")]
    #[diagnostic(code(fbuild::exec::not_found), help("{help}"))]
    NotFound {
        /// The name in the Buildfile.
        program: String,
        /// The searched places.
        help: String,
    },
    /// The file exists but is not executable.
    #[error("`{path}` is not executable")]
    #[diagnostic(
        code(fbuild::exec::not_executable),
        help("`chmod +x {path}`, or start it through its interpreter")
    )]
    NotExecutable {
        /// The file.
        path: String,
    },
    /// The path is a folder.
    #[error("`{path}` is a folder, not a program")]
    #[diagnostic(code(fbuild::exec::folder))]
    Folder {
        /// The folder.
        path: String,
    },
    /// The command's working directory does not exist or cannot be entered.
    #[error("cannot enter the working directory `{dir}`")]
    #[diagnostic(
        code(fbuild::exec::dir),
        help("create it, or correct the target's `dir`")
    )]
    Dir {
        /// The folder.
        dir: String,
        /// The system's error.
        source: io::Error,
    },
    /// The system refused to start the program.
    #[error("cannot start `{program}`")]
    #[diagnostic(code(fbuild::exec::start))]
    Start {
        /// The program.
        program: String,
        /// The system's error.
        source: io::Error,
        /// A possible cure.
        #[help]
        help: Option<String>,
    },
    /// The program reads from a terminal that it does not have.
    #[error("`{program}` waits for an answer from the terminal")]
    #[diagnostic(
        code(fbuild::exec::terminal),
        help(
            "give it what it asks for beforehand, or hand it the terminal with `interactive #true`"
        )
    )]
    WantsTerminal {
        /// The program.
        program: String,
    },
    /// A probe exceeded its time limit.
    #[error("`{program}` did not end within {time:?}")]
    #[diagnostic(
        code(fbuild::exec::probe_timeout),
        help("run it by hand, or give the tool another `probe`")
    )]
    ProbeTimeout {
        /// The program.
        program: String,
        /// The time limit.
        time: Duration,
    },
    /// A probe failed.
    #[error("`{program}` failed ({status})")]
    #[diagnostic(code(fbuild::exec::probe_failed), help("it printed: {said}"))]
    ProbeFailed {
        /// The program.
        program: String,
        /// Its exit status.
        status: ExitStatus,
        /// Its output.
        said: String,
    },
    /// A process did not die after SIGKILL.
    #[error("a process started by `{program}` does not end although it was killed")]
    #[diagnostic(
        code(fbuild::exec::stuck),
        help("it probably waits for a disk or a network file system that does not answer")
    )]
    Stuck {
        /// The program.
        program: String,
    },
    /// The command must be traced and cannot be.
    #[error("the command cannot be traced: {refusal}")]
    #[diagnostic(
        code(fbuild::exec::trace),
        help(
            "allow seccomp user notification where fbuild runs; `trace \"warn\"` runs it all the same"
        )
    )]
    Trace {
        /// The reason.
        refusal: Refusal,
    },
    /// The run was cancelled before or while the command ran.
    #[error("stopped")]
    #[diagnostic(code(fbuild::exec::stopped))]
    Stopped,
    /// A system call about a process, a pipe or the private folder failed.
    #[error("cannot {operation}")]
    #[diagnostic(code(fbuild::exec::system))]
    System {
        /// The operation, as a verb phrase.
        operation: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl Error {
    /// Returns a function that wraps the error of a system call, for `map_err`.
    pub(super) fn system<E: Into<io::Error>>(operation: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System {
            operation,
            source: source.into(),
        }
    }
}

/// Formats a path for messages.
pub(super) fn shown(path: impl AsRef<Path>) -> String {
    escape(path.as_ref().as_os_str().as_encoded_bytes()).into_owned()
}
