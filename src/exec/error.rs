//! Why a command could not be run at all. A command that ran and failed is no error but
//! an [`End`](super::End).

use std::io;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use crate::path::escape;

/// Why a command could not be run at all. Such a trouble is never an action's result.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// There is no such program.
    #[error("command `{program}` not found")]
    #[diagnostic(code(fbuild::exec::not_found), help("{help}"))]
    NotFound {
        /// The name as written.
        program: String,
        /// Where it was looked for.
        help: String,
    },
    /// The file is there and may not be executed.
    #[error("`{path}` is not executable")]
    #[diagnostic(
        code(fbuild::exec::not_executable),
        help("`chmod +x {path}`, or start it through its interpreter")
    )]
    NotExecutable {
        /// The file.
        path: String,
    },
    /// The name is a folder's.
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
        /// Why.
        source: io::Error,
    },
    /// The system refused to start it.
    #[error("cannot start `{program}`")]
    #[diagnostic(code(fbuild::exec::start))]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
        /// What may be done about it.
        #[help]
        help: Option<String>,
    },
    /// It waits for an answer from a terminal that it was not given.
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
    /// A probe did not end in time.
    #[error("`{program}` did not end within {time:?}")]
    #[diagnostic(
        code(fbuild::exec::probe_timeout),
        help("run it by hand, or give the tool another `probe`")
    )]
    ProbeTimeout {
        /// The program.
        program: String,
        /// How long it was given.
        time: Duration,
    },
    /// A probe did not succeed.
    #[error("`{program}` failed ({status})")]
    #[diagnostic(code(fbuild::exec::probe_failed), help("it said: {said}"))]
    ProbeFailed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it printed.
        said: String,
    },
    /// Processes survive being killed.
    #[error("a process started by `{program}` does not end although it was killed")]
    #[diagnostic(
        code(fbuild::exec::stuck),
        help("it probably waits for a disk or a network file system that does not answer")
    )]
    Stuck {
        /// The program.
        program: String,
    },
    /// The run was stopped before or while the command ran.
    #[error("stopped")]
    #[diagnostic(code(fbuild::exec::stopped))]
    Stopped,
    /// A system call about a process, a pipe or the private folder failed.
    #[error("cannot {operation}")]
    #[diagnostic(code(fbuild::exec::system))]
    System {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    /// Returns a function that turns a failed system call into an error.
    pub(super) fn system<E: Into<io::Error>>(operation: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System {
            operation,
            source: source.into(),
        }
    }
}

/// Returns a path as text for messages.
pub(super) fn shown(path: impl AsRef<Path>) -> String {
    escape(path.as_ref().as_os_str().as_encoded_bytes()).into_owned()
}
