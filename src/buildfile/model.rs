//! What a Buildfile means, as plain types: names still unresolved, variables and
//! templates already expanded, every value with the place it was written at.
//! It knows neither KDL nor the graph.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::glob::Pattern;
use crate::path::RelPath;
use crate::source::Span;

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// Puts a value and its place together.
    pub const fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

/// Everything that a Buildfile and the files it includes say.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Buildfile {
    /// `project NAME { … }`.
    pub project: Option<Project>,
    /// `cache dir= max-size= max-age=`.
    pub cache: Cache,
    /// `jobs N`.
    pub jobs: Option<usize>,
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
    /// What `fbuild run` without names does.
    pub default: Vec<Spanned<String>>,
}

/// `cache …`: where results are kept, and how much of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// Where blobs and results live, relative to the Buildfile's folder; default `.build-cache`.
    pub dir: Option<Spanned<String>>,
    /// The most bytes to keep.
    pub max_size: Option<u64>,
    /// The longest time to keep what nobody used.
    pub max_age: Option<Duration>,
}

/// `tool NAME version="…" { probe ARGV… }`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tool {
    /// The program's name, looked for on `PATH`.
    pub name: Spanned<String>,
    /// What its version must satisfy, such as `>=1.21`.
    pub requirement: Option<Spanned<Requirement>>,
    /// The command that prints its version; default `NAME --version` or a known spelling of it.
    pub probe: Vec<String>,
}

/// A requirement on a version: comparisons that must all hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// As written, for messages.
    pub text: String,
    /// Each comparison and the version it compares with.
    pub bounds: Vec<(Comparison, Version)>,
}

/// How a version is compared with a bound.
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
    /// `=`, or no sign: equal in every part that is written (`1.26` takes `1.26.8`)
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
    /// One line for people.
    pub about: Option<String>,
    /// What runs before it, and whose outputs are its inputs.
    pub needs: Vec<Spanned<String>>,
    /// What runs before it and nothing else.
    pub after: Vec<Spanned<String>>,
    /// The files that decide its result.
    pub inputs: Vec<Inputs>,
    /// What it makes.
    pub outputs: Vec<Outputs>,
    /// Variables that its commands see; names and values are in the key.
    pub env: Vec<EnvVar>,
    /// Variables that its commands see and the key ignores.
    pub pass: Vec<Spanned<String>>,
    /// Variables that its commands see and that are never written anywhere.
    pub secret: Vec<Spanned<String>>,
    /// Tools it uses.
    pub tools: Vec<Spanned<String>>,
    /// What it runs, in order.
    pub commands: Vec<Spanned<Command>>,
    /// The working directory of its commands.
    pub dir: RelPath,
    /// The longest time for one attempt.
    pub timeout: Option<Duration>,
    /// How many more attempts follow a failed one.
    pub retries: u32,
    /// Whether results are stored; `false` also means it always runs.
    pub cache: bool,
    /// Whether it owns the terminal.
    pub interactive: bool,
    /// Names it must hold alone while it runs.
    pub locks: Vec<Spanned<String>>,
}

/// One `inputs` node: patterns, the exceptions to them, and whether they may match nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Inputs {
    /// What is included.
    pub patterns: Vec<Spanned<Pattern>>,
    /// What is excluded from it again.
    pub except: Vec<Spanned<Pattern>>,
    /// Whether a pattern that matches nothing is fine.
    pub optional: bool,
}

/// One `outputs` node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outputs {
    /// What is made.
    pub paths: Vec<Spanned<Output>>,
    /// Generated files that live in version control.
    pub committed: bool,
    /// Files in an owned folder that are not ours; relative to the root.
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
    /// Returns the pattern for all that it can be.
    pub fn pattern(&self) -> Pattern {
        match self {
            Self::File(path) => Pattern::literal_path(path),
            Self::Folder(path) => Pattern::everything_below(path),
            Self::Glob(pattern) => pattern.clone(),
        }
    }
}

/// One variable of `env`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnvVar {
    /// Its name.
    pub name: Spanned<String>,
    /// Where its value comes from.
    pub value: EnvValue,
}

/// Where the value of a variable comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnvValue {
    /// `env NAME`: from the environment; unset stays unset.
    Inherit,
    /// `env NAME="value"`: always this.
    Set(Text),
    /// `env NAME default="value"`: from the environment, this when unset there.
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

/// A string in which `{env.NAME}` may stand; variables of the Buildfile are already in place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text(pub Vec<Piece>);

/// A piece of a [`Text`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// As it is.
    Literal(String),
    /// The value of an environment variable that the target declares; empty when unset.
    Env(String),
}

/// `group NAME { needs … }`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Group {
    /// Its name, unique among targets and groups.
    pub name: Spanned<String>,
    /// One line for people.
    pub about: Option<String>,
    /// What it stands for.
    pub needs: Vec<Spanned<String>>,
}
