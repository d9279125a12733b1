//! Describes failures of targets in the words of an event.

use std::borrow::Cow;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;

use crate::action::ResolvedCommand;
use crate::buildfile::model::{Output, Target};
use crate::event::Failure;
use crate::exec::{End, Task};
use crate::path::escape;
use crate::source::{Diagnostic, Span};
use crate::store::outputs::{self, ForeignFiles};

/// Describes mistakes that have places in the Buildfile.
pub(super) fn of_diagnostics(diagnostics: Vec<Diagnostic>) -> Failure {
    let first = diagnostics.first();
    Failure {
        code: first.map_or_else(String::new, |d| d.code.clone()),
        message: first.map_or_else(String::new, |d| d.message.clone()),
        help: first.and_then(|d| d.help.clone()),
        diagnostics,
        ..Failure::default()
    }
}

/// Describes a problem with a target's outputs. Foreign files are shown at the output that
/// they are in the place of.
pub(super) fn of_outputs(error: &outputs::Error, target: &Target) -> Failure {
    let outputs::Error::Foreign(files) = error else {
        return Failure::of(error);
    };
    let spans: Vec<Span> = target
        .outputs
        .iter()
        .flat_map(|outputs| outputs.paths.iter().map(|path| path.span))
        .collect();
    let diagnostics = files.iter().map(|files| {
        let message = files.to_string();
        let diagnostic = Diagnostic::error("fbuild::store::foreign", message);
        let diagnostic = diagnostic.help(cure(files));
        match spans.get(files.index) {
            Some(span) => diagnostic.label(*span, "the files are in the place of this output"),
            None => diagnostic,
        }
    });
    of_diagnostics(diagnostics.collect())
}

/// Returns what a user can do about foreign files.
fn cure(files: &ForeignFiles) -> String {
    let other = match &files.output {
        Output::File(path) if files.is_folder_for_file() => {
            return format!(
                "`{path}` is a folder: write `{path}/` if the target owns it, or move it; \
                 `--replace` moves it to the trash"
            );
        }
        Output::Folder(path) if files.paths == [path.clone()] => "",
        Output::File(_) => "",
        Output::Folder(_) => ", or name {them} with `keep`",
        Output::Glob(_) => ", or write a pattern that does not match {them}",
    };
    let (files, them) = if files.count == 1 {
        ("the file", "it")
    } else {
        ("the files", "them")
    };
    let other = other.replace("{them}", them);
    format!("move {files}{other}; `--replace` moves {them} to the trash")
}

/// Describes the end of commands that did not succeed.
pub(super) fn of_end(end: End, task: &Task<'_>, command: usize) -> Failure {
    let shown = match task.action.commands.get(command) {
        Some(ResolvedCommand::Run(argv)) => argv.first().map(|program| escape(program.as_bytes())),
        _ => None,
    };
    let shown = shown.map_or_else(|| "sh".to_owned(), Cow::into_owned);
    let (code, message) = match end {
        End::TimedOut => (
            "fbuild::exec::timeout",
            format!("`{shown}` took longer than its `timeout` allows"),
        ),
        End::Cancelled => ("fbuild::exec::cancelled", format!("`{shown}` was stopped")),
        End::Exited(status) => match (status.code(), status.signal()) {
            (Some(code), _) => (
                "fbuild::exec::exit",
                format!("`{shown}` exited with code {code}"),
            ),
            (_, Some(signal)) => (
                "fbuild::exec::signal",
                format!("`{shown}` was killed by {}", name_of(signal)),
            ),
            _ => (
                "fbuild::exec::exit",
                format!("`{shown}` ended in an unknown way"),
            ),
        },
    };
    Failure {
        code: code.to_owned(),
        message,
        exit_code: match end {
            End::Exited(status) => status.code(),
            _ => None,
        },
        ..Failure::default()
    }
}

/// Returns true if a command failed or hung, rather than fbuild or another check.
pub(super) fn is_of_command(failure: &Failure) -> bool {
    matches!(
        &*failure.code,
        "fbuild::exec::exit" | "fbuild::exec::timeout"
    )
}

fn name_of(signal: i32) -> String {
    match signal {
        libc::SIGKILL => "SIGKILL (perhaps the system ran out of memory)".to_owned(),
        libc::SIGSEGV => "SIGSEGV (it crashed)".to_owned(),
        libc::SIGABRT => "SIGABRT (it gave up)".to_owned(),
        libc::SIGTERM => "SIGTERM".to_owned(),
        libc::SIGINT => "SIGINT".to_owned(),
        libc::SIGPIPE => "SIGPIPE".to_owned(),
        other => format!("signal {other}"),
    }
}

/// Describes a bug in fbuild itself.
pub(super) fn of_bug(message: &str) -> Failure {
    Failure {
        code: "fbuild::bug".to_owned(),
        message: format!("fbuild has a bug: {message}"),
        help: Some("please report it, with this message and the Buildfile".to_owned()),
        ..Failure::default()
    }
}
