//! The closed environment of a target's commands: the variables that they see, and those that
//! are part of the key. The caller passes the variables around fbuild: nothing is read here.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::ResolvedCommand;
use crate::buildfile::model::{Command, EnvValue, Piece, Target, Text};

/// The variables that every command sees, if they are set, besides those that its target
/// declares. None of them is in a key. `TMPDIR`, a private folder, is set per attempt.
pub const STANDARD: &[&str] = &[
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ",
];

/// The variables around fbuild itself.
pub type HostEnv = BTreeMap<OsString, OsString>;

/// The variables of a target's commands that are part of its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Variables whose values are in the key; unset ones are `None`.
    pub env: BTreeMap<String, Option<OsString>>,
    /// Variables whose values are never shown; only their names are in the key.
    pub secrets: BTreeMap<String, OsString>,
}

impl Environment {
    /// Returns the variables of a target.
    pub fn of(target: &Target, host_env: &HostEnv) -> Self {
        let outer = |name: &str| host_env.get(OsStr::new(name)).cloned();
        let secrets = target.secret.iter().map(|name| &name.value);
        let secrets = secrets.filter_map(|name| Some((name.clone(), outer(name)?)));
        Self {
            env: env_of(target, host_env),
            secrets: secrets.collect(),
        }
    }

    /// Replaces the declared variables in a command by their values, and `{args}` by `args`.
    pub fn expand(&self, command: &Command, args: &[OsString]) -> ResolvedCommand {
        match command {
            Command::Run(argv) => {
                let mut words = Vec::with_capacity(argv.len() + args.len());
                for text in argv {
                    if text.0 == [Piece::Args] {
                        words.extend_from_slice(args);
                    } else {
                        words.push(expand(text, &self.env));
                    }
                }
                ResolvedCommand::Run(words)
            }
            Command::Sh(script) if args.is_empty() => ResolvedCommand::Sh(script.clone()),
            Command::Sh(script) => ResolvedCommand::ShWith(script.clone(), args.to_vec()),
        }
    }
}

/// Variables that describe the terminal.
const TERMINAL: &[&str] = &["TERM", "COLORTERM"];

/// Returns the variables that a target's commands see and its key ignores: the standard
/// ones, those that it passes on, and for an interactive target those of the terminal.
pub fn inherited(target: &Target, host_env: &HostEnv) -> BTreeMap<String, OsString> {
    let passed = target.pass.iter().map(|name| name.value.as_str());
    let terminal = if target.interactive { TERMINAL } else { &[] };
    let names = STANDARD.iter().chain(terminal).copied().chain(passed);
    let is_declared = |name: &str| target.env.iter().any(|var| var.name.value == name);
    names
        .filter(|name| !is_declared(name))
        .filter_map(|name| Some((name.to_owned(), host_env.get(OsStr::new(name))?.clone())))
        .collect()
}

/// Returns the values of the variables that a target declares. Inherited ones come first, so
/// that values written in the Buildfile can refer to them.
fn env_of(target: &Target, host_env: &HostEnv) -> BTreeMap<String, Option<OsString>> {
    let mut env = BTreeMap::new();
    for var in &target.env {
        let outer = host_env.get(OsStr::new(&var.name.value)).cloned();
        env.insert(var.name.value.clone(), outer);
    }
    for var in &target.env {
        let current = env.get(&var.name.value).cloned().flatten();
        let value = match (&var.value, current) {
            (EnvValue::Set(text), _) | (EnvValue::Default(text), None) => Some(expand(text, &env)),
            (EnvValue::Inherit | EnvValue::Default(_), current) => current,
        };
        env.insert(var.name.value.clone(), value);
    }
    env
}

fn expand(text: &Text, env: &BTreeMap<String, Option<OsString>>) -> OsString {
    let mut out = OsString::new();
    for piece in &text.0 {
        match piece {
            Piece::Literal(literal) => out.push(literal),
            Piece::Env(name) => out.push(env.get(name).cloned().flatten().unwrap_or_default()),
            // It is always alone in an argument of `run`, which `Environment::expand` replaces.
            Piece::Args => {}
        }
    }
    out
}
