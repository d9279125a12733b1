//! Why a command ends with another exit code than 0, and what is said about it: the edge
//! at which all errors meet.

use std::io;
use std::process::ExitCode;

use miette::Diagnostic;

use crate::{buildfile, workspace};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A target failed, or a check did.
    Target = 1,
    /// Arguments or Buildfile are wrong.
    Usage = 2,
    /// Files, tools or the system are in the way.
    World = 3,
    /// The person interrupted.
    Interrupted = 130,
}

/// An end that is no success.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    /// What to say; nothing if it was said already.
    pub(super) report: Option<Report>,
}

/// What is said about a failure.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) code: Option<String>,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Failure {
    /// The arguments or the Buildfile are wrong.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message.into())
    }

    /// The same, with the next thing to type.
    pub(super) fn usage_with_help(message: impl Into<String>, help: impl Into<String>) -> Self {
        let mut failure = Self::usage(message);
        if let Some(report) = &mut failure.report {
            report.help = Some(help.into());
        }
        failure
    }

    /// Something outside is in the way.
    pub(super) fn world(doing: &str, error: &io::Error) -> Self {
        let error = error.to_string();
        // The path of a temporary file says nothing to anybody.
        let why = error.split(" at path ").next().unwrap_or(&error);
        Self::new(Exit::World, format!("{doing}: {why}"))
    }

    /// Something outside is in the way, as the message says.
    pub(super) fn in_the_way(message: impl Into<String>) -> Self {
        Self::new(Exit::World, message.into())
    }

    /// Everything was said already, and the Buildfile is wrong.
    pub(super) fn shown() -> Self {
        Self::silent(Exit::Usage)
    }

    /// Everything was said already.
    pub(super) fn silent(exit: Exit) -> Self {
        Self { exit, report: None }
    }

    /// An error with a code.
    pub(super) fn of<E: std::error::Error + Diagnostic>(exit: Exit, error: &E) -> Self {
        let mut failure = Self::new(exit, chain(error));
        if let Some(report) = &mut failure.report {
            report.code = error.code().map(|code| code.to_string());
            report.help = error.help().map(|help| help.to_string());
        }
        failure
    }

    fn new(exit: Exit, message: String) -> Self {
        let report = Report {
            code: None,
            message,
            help: None,
        };
        Self {
            exit,
            report: Some(report),
        }
    }

    /// Returns the text to say, if there is any.
    pub(super) fn text(&self) -> Option<String> {
        let report = self.report.as_ref()?;
        let mut text = format!("error: {}\n", report.message);
        if let Some(help) = &report.help {
            text += &format!("  help: {help}\n");
        }
        if let Some(code) = &report.code {
            text += &format!("  code: {code}\n");
        }
        Some(text)
    }
}

/// Returns an error and its causes as one sentence.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<workspace::Error> for Failure {
    fn from(error: workspace::Error) -> Self {
        let exit = match &error {
            workspace::Error::Root { .. }
            | workspace::Error::Load(buildfile::Error::Unreadable { .. }) => Exit::World,
            workspace::Error::NotFound { .. } | workspace::Error::Load(_) => Exit::Usage,
        };
        Self::of(exit, &error)
    }
}
