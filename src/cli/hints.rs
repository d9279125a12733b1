//! Suggests `fbuild run` for a target or a common verb that was typed as a command.

use std::ffi::OsString;

use clap::Parser as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::args::Cli;
use super::context::Context;
use crate::report::text::harmless;

/// Verbs of other build tools for `run`.
const VERBS: [&str; 5] = ["build", "make", "exec", "start", "do"];

/// Adds a tip to the error about an unknown command.
pub(super) fn add_tip(error: &mut clap::Error, arguments: &[OsString]) {
    if let Some(tip) = tip(error, arguments) {
        error.remove(ContextKind::SuggestedSubcommand);
        let tips = ContextValue::StyledStrs(vec![tip.into()]);
        error.insert(ContextKind::Suggested, tips);
    }
}

fn tip(error: &clap::Error, arguments: &[OsString]) -> Option<String> {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    let Some(ContextValue::String(command)) = error.get(ContextKind::InvalidSubcommand) else {
        return None;
    };
    let at = arguments
        .iter()
        .position(|argument| argument == command.as_str())?;
    if is_target(command, &arguments[..at]) {
        let rest = words(&arguments[at..]);
        return Some(format!(
            "to run the target `{command}`, type `fbuild run {rest}`"
        ));
    }
    if VERBS.contains(&command.as_str()) {
        let rest = words(&arguments[at + 1..]);
        let typed = format!("fbuild run {rest}");
        return Some(format!("to build, type `{}`", typed.trim_end()));
    }
    None
}

/// Returns true if the Buildfile that these options choose has a target or group of this name.
fn is_target(name: &str, options: &[OsString]) -> bool {
    let arguments = options.iter().cloned().chain(["list".into()]);
    let context = Cli::try_parse_from(arguments).ok();
    let context = context.and_then(|cli| Context::new(cli.global).ok());
    let workspace = context.and_then(|context| context.host().ok()?.read_workspace().ok());
    workspace.is_some_and(|workspace| workspace.graph.find(name).is_some())
}

fn words(arguments: &[OsString]) -> String {
    let words: Vec<_> = arguments
        .iter()
        .map(|word| word.to_string_lossy())
        .collect();
    harmless(&words.join(" ")).into_owned()
}
