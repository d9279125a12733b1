//! Failed commands: their exit code, and the problems to print on standard error. Every
//! error of the library becomes one of these here.

use std::io;
use std::process::ExitCode;

use crate::event::{self, Summary, Warning};
use crate::report::text::harmless;
use crate::report::{Style, problem_head};
use crate::source::{Diagnostic, Severity};
use crate::{buildfile, session, workspace};

/// The exit code of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A target failed, or a check did.
    Target = 1,
    /// The arguments or the Buildfile are wrong.
    Usage = 2,
    /// Files, tools or the system are in the way.
    World = 3,
    /// The user interrupted.
    Interrupted = 130,
}

/// A failed command: its exit code and the problems that are not printed yet.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    pub(super) problems: Vec<Problem>,
}

/// A problem as it is printed: its severity, code, message and cure.
#[derive(Debug)]
pub(super) struct Problem {
    severity: Severity,
    /// A stable code, or an empty string.
    code: String,
    message: String,
    help: Option<String>,
}

impl Problem {
    fn error(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code: String::new(),
            message: message.into(),
            help: None,
        }
    }

    /// Returns the problem as a line, and its help as another.
    pub(super) fn text(&self, style: Style) -> String {
        let head = problem_head(self.severity, &self.code, style);
        let mut text = format!("{head}: {}\n", self.message);
        if let Some(help) = &self.help {
            text += &format!("  help: {help}\n");
        }
        text
    }
}

impl From<&Warning> for Problem {
    fn from(warning: &Warning) -> Self {
        let message = match &warning.target {
            Some(target) => format!("{}: {}", harmless(target), warning.message),
            None => warning.message.clone(),
        };
        Self {
            severity: Severity::Warning,
            code: warning.code.clone(),
            ..Self::error(message)
        }
    }
}

impl From<&Diagnostic> for Problem {
    fn from(diagnostic: &Diagnostic) -> Self {
        Self {
            severity: diagnostic.severity,
            code: diagnostic.code.clone(),
            message: diagnostic.message.clone(),
            help: diagnostic.help.clone(),
        }
    }
}

impl Failure {
    /// Reports wrong arguments or a wrong Buildfile.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, Problem::error(message))
    }

    /// Reports wrong arguments or a wrong Buildfile, and the next thing to type.
    pub(super) fn usage_with_help(message: impl Into<String>, help: impl Into<String>) -> Self {
        let problem = Problem {
            help: Some(help.into()),
            ..Problem::error(message)
        };
        Self::new(Exit::Usage, problem)
    }

    /// Reports an error of the system.
    pub(super) fn world(doing: &str, error: &io::Error) -> Self {
        let error = error.to_string();
        // The error of a temporary file ends with its path, which the user never sees.
        let why = error.split(" at path ").next().unwrap_or(&error);
        Self::in_the_way(format!("{doing}: {why}"))
    }

    /// Reports an obstacle outside of fbuild.
    pub(super) fn in_the_way(message: impl Into<String>) -> Self {
        Self::new(Exit::World, Problem::error(message))
    }

    /// Ends with the exit code for a wrong Buildfile; its mistakes are printed already.
    pub(super) fn shown() -> Self {
        Self::silent(Exit::Usage)
    }

    /// Ends with an exit code; the problems are printed already.
    pub(super) fn silent(exit: Exit) -> Self {
        Self {
            exit,
            problems: Vec::new(),
        }
    }

    /// Reports an error with its code, its causes and its help.
    pub(super) fn of<E: std::error::Error + miette::Diagnostic>(exit: Exit, error: &E) -> Self {
        let event::Failure {
            code,
            message,
            help,
            ..
        } = event::Failure::of(error);
        let problem = Problem {
            code,
            help,
            ..Problem::error(message)
        };
        Self::new(exit, problem)
    }

    /// Reports names that stand for no target or group.
    pub(super) fn unknown_names(unknown: &[Diagnostic]) -> Self {
        let mut problems: Vec<Problem> = unknown.iter().map(Problem::from).collect();
        // One cure for several problems is printed once, below the last of them.
        for i in 1..problems.len() {
            if problems[i - 1].help == problems[i].help {
                problems[i - 1].help = None;
            }
        }
        Self {
            exit: Exit::Usage,
            problems,
        }
    }

    /// Returns the text to print.
    pub(super) fn text(&self, style: Style) -> String {
        let texts = self.problems.iter().map(|problem| problem.text(style));
        texts.collect()
    }

    fn new(exit: Exit, problem: Problem) -> Self {
        Self {
            exit,
            problems: vec![problem],
        }
    }
}

/// Returns the result of a command that made a build.
pub(super) fn of_summary(summary: &Summary) -> Result<(), Failure> {
    if summary.interrupted {
        Err(Failure::silent(Exit::Interrupted))
    } else if summary.failed > 0 {
        Err(Failure::silent(Exit::Target))
    } else {
        Ok(())
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<session::Error> for Failure {
    fn from(error: session::Error) -> Self {
        match error {
            session::Error::Workspace(error) => Self::from(error),
            session::Error::Mistakes => Self::shown(),
            session::Error::Secret => Self::usage_with_help(
                error.to_string(),
                "take 20 random characters or more, for example from `openssl rand -hex 32`",
            ),
            session::Error::Nested { ref target } => Self::usage_with_help(
                error.to_string(),
                format!(
                    "remove that command, and let `{target}` declare the targets that it starts as `needs`"
                ),
            ),
            session::Error::Names(unknown) => Self::unknown_names(&unknown),
            session::Error::Folder { ref source, .. } => Self::world(&error.to_string(), source),
            session::Error::Recovery(error) => Self::of(Exit::World, &error),
        }
    }
}

impl From<workspace::Error> for Failure {
    fn from(error: workspace::Error) -> Self {
        let exit = match &error {
            workspace::Error::Root { .. }
            | workspace::Error::Load(buildfile::Error::Unreadable { .. }) => Exit::World,
            workspace::Error::NotFound { .. }
            | workspace::Error::Untrusted { .. }
            | workspace::Error::Load(_) => Exit::Usage,
        };
        Self::of(exit, &error)
    }
}
