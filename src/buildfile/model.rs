//! The content of a Buildfile as plain types: variables and templates expanded, names of
//! targets still unresolved, every value with its span. It knows neither KDL nor the graph.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::glob::Pattern;
use crate::path::RelPath;
use crate::source::Span;

/// A value and its span.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// The span of the text that it was read from.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// Joins a value and its span.
    pub const fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

/// The content of a Buildfile and the files that it includes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Buildfile {
    /// `project NAME { … }`.
    pub project: Option<Project>,
    /// `cache dir= max-size= max-age=`.
    pub cache: Cache,
    /// `jobs N`.
    pub jobs: Option<usize>,
    /// `remote URL { … }`.
    pub remote: Option<RemoteServer>,
    /// `tool NAME …`, in the order written.
    pub tools: Vec<Tool>,
    /// `target NAME …`, in the order written.
    pub targets: Vec<Target>,
    /// `group NAME …`, in the order written.
    pub groups: Vec<Group>,
}

/// `project NAME { root "…"; default NAME… }`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Project {
    /// Its name.
    pub name: Spanned<String>,
    /// The folder that every path is relative to, itself relative to the Buildfile's folder.
    pub root: Option<Spanned<RelPath>>,
    /// The targets of `fbuild run` without names.
    pub default: Vec<Spanned<String>>,
    /// The mode of targets without one.
    pub trace: Option<TraceMode>,
}

/// The use of traces: the files that commands use, compared with the declaration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TraceMode {
    /// Commands are not traced.
    #[default]
    Off,
    /// Differences are reported.
    Warn,
    /// Differences fail the target.
    Deny,
}

impl TraceMode {
    /// Reads a mode as written in a Buildfile.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "off" => Self::Off,
            "warn" => Self::Warn,
            "deny" => Self::Deny,
            _ => return None,
        })
    }
}

/// `cache …`: the place and the limits of stored results.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// The folder of blobs and results, relative to the Buildfile's; default `.build-cache`.
    pub dir: Option<Spanned<String>>,
    /// The most bytes to keep.
    pub max_size: Option<u64>,
    /// The longest time to keep unused results.
    pub max_age: Option<Duration>,
}

/// `remote URL { … }`: a server that shares results.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RemoteServer {
    /// Its URL.
    pub url: Spanned<String>,
    /// The use of the server; default: read.
    pub mode: Option<RemoteMode>,
    /// The time limit of opening a connection.
    pub connect: Option<Duration>,
    /// The time limit between two pieces of data.
    pub idle: Option<Duration>,
    /// The time limit of one exchange.
    pub total: Option<Duration>,
    /// Results with a file of more bytes are not sent.
    pub upload_max: Option<u64>,
    /// How many results are sent at once.
    pub upload_jobs: Option<u32>,
    /// The source of the credentials.
    pub auth: Option<RemoteAuth>,
    /// The variable with the private key that signs results.
    pub signing_key_env: Option<String>,
    /// The public keys whose results are believed.
    pub trusted: Vec<Spanned<String>>,
    /// The scope that is written; default `main`.
    pub write_scope: Option<String>,
    /// The scopes that are read; empty: the one that is written.
    pub read_scopes: Vec<String>,
}

impl RemoteServer {
    /// Returns the server at `url`, with the default of everything else.
    pub fn new(url: Spanned<String>) -> Self {
        Self {
            url,
            mode: None,
            connect: None,
            idle: None,
            total: None,
            upload_max: None,
            upload_jobs: None,
            auth: None,
            signing_key_env: None,
            trusted: Vec::new(),
            write_scope: None,
            read_scopes: Vec::new(),
        }
    }
}

/// The use of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RemoteMode {
    /// Neither.
    Off,
    /// Asked only.
    #[default]
    Read,
    /// Sent to only.
    Write,
    /// Both.
    ReadWrite,
}

impl RemoteMode {
    /// Reads a mode as written in a Buildfile.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "off" => Self::Off,
            "read" => Self::Read,
            "write" => Self::Write,
            "read-write" => Self::ReadWrite,
            _ => return None,
        })
    }

    /// Returns whether results are looked up.
    pub fn reads(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }

    /// Returns whether results are sent.
    pub fn writes(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }
}

/// The source of a server's credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RemoteAuth {
    /// A bearer token in a variable.
    Token {
        /// The variable.
        env: String,
    },
    /// A user and a password in variables; for buckets, an access key and its secret.
    Password {
        /// The variable with the user.
        user_env: String,
        /// The variable with the password.
        password_env: String,
    },
    /// `~/.netrc`.
    Netrc,
}

/// `tool NAME version="…" { probe ARGV… }`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tool {
    /// The program's name, looked for on `PATH`.
    pub name: Spanned<String>,
    /// The required version, such as `>=1.21`.
    pub requirement: Option<Spanned<Requirement>>,
    /// The command that prints its version.
    pub probe: Vec<String>,
}

/// A requirement on a version: comparisons that must all hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// The text as written, for messages.
    pub text: String,
    /// Each comparison and its version.
    pub bounds: Vec<(Comparison, Version)>,
}

/// A comparison of a version with a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    /// `>=`
    AtLeast,
    /// `>`
    Above,
    /// `<=`
    AtMost,
    /// `<`
    Below,
    /// `=`, or no sign: equal in every written part (`1.26` accepts `1.26.8`)
    Exactly,
}

/// A version as numbers, most significant first; missing parts count as zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version(pub Vec<u64>);

/// `target NAME { … }` after templates and variables.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Target {
    /// Its name, unique among targets and groups.
    pub name: Spanned<String>,
    /// The values of `for` that it was made with, by their names.
    pub values: Vec<(String, Spanned<String>)>,
    /// A line that describes it.
    pub about: Option<String>,
    /// The targets that run before it, and whose outputs are its inputs.
    pub needs: Vec<Spanned<String>>,
    /// The targets that only run before it.
    pub after: Vec<Spanned<String>>,
    /// The files that decide its result.
    pub inputs: Vec<Inputs>,
    /// The files that it makes.
    pub outputs: Vec<Outputs>,
    /// Variables that its commands see; names and values are in the key.
    pub env: Vec<EnvVar>,
    /// Variables that its commands see and the key ignores.
    pub pass: Vec<Spanned<String>>,
    /// Variables that its commands see and that are never written anywhere.
    pub secret: Vec<Spanned<String>>,
    /// The tools that it uses.
    pub tools: Vec<Spanned<String>>,
    /// The commands that it runs, in order.
    pub commands: Vec<Spanned<Command>>,
    /// The working directory of its commands.
    pub dir: RelPath,
    /// The time limit of one attempt.
    pub timeout: Option<Duration>,
    /// The number of attempts after a failed one.
    pub retries: u32,
    /// Whether results are stored; `false` also means it always runs.
    pub cache: bool,
    /// True if its results are shared through the remote cache.
    pub remote: bool,
    /// Whether it owns the terminal.
    pub interactive: bool,
    /// The locks that it holds while it runs.
    pub locks: Vec<Spanned<String>>,
    /// The use of traces of its commands; `None` for that of the project.
    pub trace: Option<TraceMode>,
    /// The part that only a `test` has; `None` for a `target`.
    pub test: Option<Test>,
}

/// The part of `test NAME { … }` that a target does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Test {
    /// The outputs with the results of its cases; also among its outputs.
    pub reports: Vec<Spanned<Output>>,
    /// The last day on which its failure does not fail `fbuild test`.
    pub quarantine: Option<Date>,
}

/// A day of the calendar; the order is that of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Date {
    /// The year, from 1 to 9999.
    pub year: u16,
    /// The month, from 1 to 12.
    pub month: u8,
    /// The day of the month, from 1.
    pub day: u8,
}

impl Date {
    /// Returns the day in UTC that contains a time, in seconds since 1970.
    pub fn at(seconds: i64) -> Self {
        // Counted from the first of March of the year 0, so that a leap day ends a year.
        let days = seconds.div_euclid(86_400) + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let month = if shifted < 10 {
            shifted + 3
        } else {
            shifted - 9
        };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        Self {
            year: u16::try_from(year).unwrap_or(u16::MAX),
            month: u8::try_from(month).unwrap_or(12),
            day: u8::try_from(day_of_year - (153 * shifted + 2) / 5 + 1).unwrap_or(31),
        }
    }
}

impl std::fmt::Display for Date {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// One `inputs` node: patterns, the exceptions to them, and whether they may match nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Inputs {
    /// The included paths.
    pub patterns: Vec<Spanned<Pattern>>,
    /// The paths excluded again.
    pub except: Vec<Spanned<Pattern>>,
    /// Whether a pattern may match nothing.
    pub optional: bool,
}

/// One `outputs` node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outputs {
    /// The files, folders and patterns.
    pub paths: Vec<Spanned<Output>>,
    /// Whether they are generated files in version control.
    pub committed: bool,
    /// Files in an owned folder that are not the target's; relative to the root.
    pub keep: Vec<Spanned<Pattern>>,
}

/// One declared output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// One file (or symbolic link).
    File(RelPath),
    /// A folder that is owned: emptied before the command, restored exactly.
    Folder(RelPath),
    /// Every file that matches.
    Glob(Pattern),
}

impl Output {
    /// Returns the pattern that its files match.
    pub fn pattern(&self) -> Pattern {
        match self {
            Self::File(path) => Pattern::literal_path(path),
            Self::Folder(path) => Pattern::everything_below(path),
            Self::Glob(pattern) => pattern.clone(),
        }
    }

    /// Returns true if a path is this output or in it.
    pub fn covers(&self, path: &RelPath) -> bool {
        match self {
            Self::File(file) => path == file,
            Self::Folder(folder) => path.is_within(folder),
            Self::Glob(pattern) => pattern.matches(path),
        }
    }
}

/// One variable of `env`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnvVar {
    /// Its name.
    pub name: Spanned<String>,
    /// The source of its value.
    pub value: EnvValue,
}

/// The source of a variable's value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EnvValue {
    /// `env NAME`: the environment; unset there, it stays unset.
    Inherit,
    /// `env NAME="value"`: this value.
    Set(Text),
    /// `env NAME default="value"`: the environment; unset there, this value.
    Default(Text),
}

/// A command of a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// `run ARGV…`: a program and its arguments, no shell.
    Run(Vec<Text>),
    /// `sh "…"`: a script for `sh -eu`.
    Sh(String),
}

impl Command {
    /// Returns true if the arguments given to a run reach it.
    pub fn takes_args(&self) -> bool {
        match self {
            Self::Run(argv) => argv.iter().any(|text| text.0 == [Piece::Args]),
            Self::Sh(script) => ["$@", "$*", "${@", "${*"]
                .iter()
                .any(|all| script.contains(all)),
        }
    }
}

/// A string with `{env.NAME}` in it; variables of the Buildfile are already expanded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Text(pub Vec<Piece>);

/// A piece of a [`Text`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Piece {
    /// Plain text.
    Literal(String),
    /// The value of an environment variable that the target declares; empty when unset.
    Env(String),
    /// `{args}`, alone in its text: the arguments given to the run, each an argument.
    Args,
}

impl Target {
    /// Returns true if the arguments given to a run reach one of its commands.
    pub fn takes_args(&self) -> bool {
        self.commands
            .iter()
            .any(|command| command.value.takes_args())
    }
}

/// `group NAME { needs … }`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Group {
    /// Its name, unique among targets and groups.
    pub name: Spanned<String>,
    /// A line that describes it.
    pub about: Option<String>,
    /// The targets and groups that it is a name for.
    pub needs: Vec<Spanned<String>>,
}
