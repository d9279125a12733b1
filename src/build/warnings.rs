//! The warnings that a build gives about its targets. When each is given is decided
//! elsewhere.

use std::path::Path;

use crate::buildfile::model::Target;
use crate::digest::Digest;
use crate::event::{Failure, Warning};
use crate::exec::{Gap, Refusal};
use crate::path::RelPath;
use crate::source::Diagnostic;

pub(super) fn input_changed(path: &str) -> Warning {
    let message = format!("`{path}` changed while the commands ran; the result is not stored");
    Warning::new("fbuild::build::input_changed", message)
}

pub(super) fn input_written(path: &RelPath) -> Warning {
    let message = format!(
        "`{path}` was written to while the commands ran, and holds again what it held; \
         the commands may have seen something else, and the result is not stored"
    );
    Warning::new("fbuild::build::input_changed", message)
}

pub(super) fn input_hidden(path: &RelPath) -> Warning {
    let message = format!(
        "`{path}` was written just before the commands ran, on a file system that counts \
         whole seconds; a change meanwhile would not show, and the result is not stored"
    );
    Warning::new("fbuild::build::input_changed", message)
}

/// Names some of the committed files that a target changed; `None` if there are none.
pub(super) fn committed_changed(paths: &[&RelPath]) -> Option<Warning> {
    let (first, others) = paths.split_first()?;
    let message = match others.len() {
        0 => format!("`{first}` is committed, and was changed"),
        1 => format!("`{first}` and 1 other committed file were changed"),
        n => format!("`{first}` and {n} other committed files were changed"),
    };
    Some(Warning::new("fbuild::build::committed_changed", message))
}

/// Returns a warning about inputs that are links out of the root, if there are any.
pub(super) fn links_out(links: &[RelPath]) -> Option<Warning> {
    const MOST: usize = 3;
    let named = links.iter().take(MOST).map(|link| format!("`{link}`"));
    let named = named.collect::<Vec<_>>().join(", ");
    let others = links.len().saturating_sub(MOST);
    let message = match (links.len(), others) {
        (0, _) => return None,
        (1, _) => format!("the input {named} is a link out of the project"),
        (_, 0) => format!("the inputs {named} are links out of the project"),
        _ => format!("the inputs {named} and {others} others are links out of the project"),
    };
    let message = format!(
        "{message}; a file behind it counts by its content, a folder behind it does not count"
    );
    Some(Warning::new("fbuild::build::link_out", message))
}

/// Words why a target with committed outputs must run.
pub(super) fn lock_disagrees(target: &Target, changed: &str) -> String {
    let name = &target.name.value;
    format!("`{name}` must run because {changed} changed since `Buildfile.lock` was written")
}

pub(super) fn lock_unwritable(path: &Path, error: &std::io::Error) -> Warning {
    let message = format!("cannot write `{}`: {error}", path.display());
    Warning::new("fbuild::build::lock_unwritable", message)
}

pub(super) fn evicted(path: &RelPath, digest: Digest) -> Warning {
    let digest = digest.short();
    let message =
        format!("`{path}` (content {digest}) is not in the cache any more; it is made again");
    Warning::new("fbuild::build::evicted", message)
}

pub(super) fn of_diagnostic(diagnostic: &Diagnostic) -> Warning {
    let help = diagnostic.help.iter().map(|help| format!("; {help}"));
    let message = diagnostic.message.clone() + &help.collect::<String>();
    Warning::new(&diagnostic.code, message)
}

pub(super) fn remote_refused(reason: &str) -> Warning {
    let message = format!("the remote cache gave no usable result: {reason}");
    Warning::new("fbuild::remote::refused", message)
}

pub(super) fn remote_off(reason: &str) -> Warning {
    let message = format!("the remote cache is not used any more: {reason}");
    Warning::new("fbuild::remote::off", message)
}

pub(super) fn hidden_variables(target: &str, names: &[&str]) -> Warning {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    let (are, them) = if names.len() == 1 {
        ("is", "it")
    } else {
        ("are", "them")
    };
    let message = format!(
        "{} {are} set here and hidden from `{target}`; if its commands need {them}, write `pass`, \
         or `env` if the value decides the result",
        quoted.join(", "),
    );
    Warning::new("fbuild::action::hidden_variable", message)
}

pub(super) fn output_lost(error: &std::io::Error) -> Warning {
    let message = format!("cannot keep all of what was printed: {error}");
    Warning::new("fbuild::build::output_lost", message)
}

pub(super) fn retried(attempt: u32, failure: &Failure) -> Warning {
    let message = format!(
        "attempt {attempt} failed and another follows: {}",
        failure.message
    );
    Warning::new("fbuild::build::retried", message)
}

pub(super) fn not_traced(refusal: Refusal) -> Warning {
    let message = format!("the commands ran without a trace: {refusal}");
    Warning::new("fbuild::audit::not_traced", message)
}

/// Returns a warning about an incomplete trace, if it is one.
pub(super) fn trace_gaps(gaps: &[Gap]) -> Option<Warning> {
    let reason = match gaps.first()? {
        Gap::TooLarge => "the commands use too many files",
        Gap::Unreadable => "the system does not let fbuild read the arguments of system calls",
        Gap::ForeignCalls => "a program makes system calls of another processor architecture",
    };
    let message = format!("not every access of the commands was seen: {reason}");
    Some(Warning::new("fbuild::audit::gap", message))
}

pub(super) fn left_behind(processes: usize) -> Warning {
    let message = if processes == 1 {
        "1 process was left running, and was stopped".to_owned()
    } else {
        format!("{processes} processes were left running, and were stopped")
    };
    Warning::new("fbuild::exec::left_behind", message)
}
