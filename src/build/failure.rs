//! Puts what can go wrong with a target into the words of an event. It decides nothing.

use std::error::Error;
use std::fmt::Write as _;

use crate::event::Failure;
use crate::source::Diagnostic;

/// Returns an error and its causes as one sentence.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

/// Describes an error that has a code and perhaps help.
pub fn of_error<E: Error + miette::Diagnostic>(error: &E) -> Failure {
    Failure {
        code: error.code().map_or_else(String::new, |code| code.to_string()),
        message: chain(error),
        help: error.help().map(|help| help.to_string()),
        ..Failure::default()
    }
}

/// Describes mistakes that have places in the Buildfile.
pub fn of_diagnostics(diagnostics: Vec<Diagnostic>) -> Failure {
    let first = diagnostics.first();
    Failure {
        code: first.map_or_else(String::new, |d| d.code.clone()),
        message: first.map_or_else(String::new, |d| d.message.clone()),
        help: first.and_then(|d| d.help.clone()),
        diagnostics,
        ..Failure::default()
    }
}
