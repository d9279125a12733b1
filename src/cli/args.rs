//! Defines the commands and their options. The help, the completions and the manual page
//! are generated from these definitions.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Builds only the targets that changed, and explains why.
#[derive(Debug, Parser)]
#[command(
    name = "fbuild",
    version,
    about,
    long_about = "Builds the targets of a Buildfile.kdl in parallel, with a content-addressed \
                  cache. A target runs only if its inputs changed, and fbuild prints the reason.",
    after_help = "To begin: `fbuild init` writes a first Buildfile, `fbuild run` builds its targets.",
    subcommand_required = true,
    arg_required_else_help = true,
    propagate_version = true
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Change to DIR first
    #[arg(short = 'C', long = "directory", value_name = "DIR", global = true)]
    pub directory: Option<PathBuf>,
    /// Use this Buildfile instead of searching for one
    #[arg(short = 'f', long = "file", value_name = "FILE", global = true)]
    pub file: Option<PathBuf>,
    /// When to print colours
    #[arg(long, value_name = "WHEN", default_value = "auto", global = true)]
    pub color: When,
}

/// When to print colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring targets up to date
    Run(Run),
    /// Run tests, and report their results
    Test(Test),
    /// Show the targets and their dependencies
    Graph(Graph),
    /// List targets and groups
    List(List),
    /// Find mistakes without running any target
    Check(Check),
    /// Show the targets that would run, and the reasons
    Status(Status),
    /// Show the inputs of a target, and their changes since its last success
    Explain(Explain),
    /// Show, verify or shrink the cache
    #[command(subcommand)]
    Cache(Cache),
    /// Check the remote cache, and make keys for it
    #[cfg(feature = "remote")]
    #[command(subcommand)]
    Remote(Remote),
    /// Remove the outputs of targets
    Clean(Clean),
    /// Show, restore or delete files that were in the place of outputs
    #[command(subcommand)]
    Trash(Trash),
    /// Format the Buildfile in the standard layout
    Fmt(Fmt),
    /// Add a target to the Buildfile
    Add(Box<Add>),
    /// Write a first Buildfile for the project at hand
    Init(Init),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man,
}

#[derive(Debug, Args)]
pub struct Run {
    /// Targets and groups [default: the project's `default`]
    pub targets: Vec<String>,
    /// The most commands at once
    #[arg(short, long, value_name = "N", value_parser = jobs)]
    pub jobs: Option<usize>,
    /// Continue after a failure with targets that do not depend on it
    #[arg(short, long)]
    pub keep_going: bool,
    /// Show the targets that would run, and run none
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Run the targets even if they are up to date or cached
    #[arg(long)]
    pub force: bool,
    /// Run the targets without the cache
    #[arg(long)]
    pub no_cache: bool,
    /// Run the targets, and report files and programs that they use and do not declare
    #[arg(long)]
    pub trace: bool,
    /// Move files that fbuild did not make and that are in the place of outputs to the trash
    #[arg(long)]
    pub replace: bool,
    /// Use this remote cache instead of the Buildfile's, or `off`
    #[arg(long, value_name = "URL")]
    pub remote: Option<String>,
    #[command(flatten)]
    pub display: Display,
    /// Arguments for the commands of the one target that is named
    #[arg(last = true, value_name = "ARGS")]
    pub args: Vec<OsString>,
}

/// The display of a run.
#[derive(Clone, Copy, Debug, Args)]
pub struct Display {
    /// Stream the output of commands, and show targets that are up to date
    #[arg(short, long, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Show only failures
    #[arg(short, long)]
    pub quiet: bool,
    /// Print events as JSON, one on each line, instead of text
    #[arg(long)]
    pub json: bool,
    /// The display of progress
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub progress: Progress,
}

/// The display of progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// Live on a terminal, plain otherwise
    Auto,
    /// A footer that is redrawn
    Live,
    /// One line for each start and end
    Plain,
}

#[derive(Debug, Args)]
pub struct Test {
    /// Tests and groups [default: all tests]
    pub targets: Vec<String>,
    /// Run only tests that failed or did not finish last time
    #[arg(long)]
    pub failed: bool,
    /// Run the tests even if their results are known; their needs are built only if they changed
    #[arg(long)]
    pub rerun: bool,
    /// Run one of N parts of the tests, which are dealt out by name
    #[arg(long, value_name = "K/N", value_parser = shard)]
    pub shard: Option<Shard>,
    /// Write the results of all tests to one JUnit file
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// The most commands at once
    #[arg(short, long, value_name = "N", value_parser = jobs)]
    pub jobs: Option<usize>,
    /// Use this remote cache instead of the Buildfile's, or `off`
    #[arg(long, value_name = "URL")]
    pub remote: Option<String>,
    #[command(flatten)]
    pub display: Display,
}

/// A part of the tests.
#[derive(Clone, Copy, Debug)]
pub struct Shard {
    /// Its number, from 1.
    pub number: usize,
    /// The number of parts.
    pub of: usize,
}

fn shard(text: &str) -> Result<Shard, String> {
    let parts = text.split_once('/');
    let parts = parts.and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
    match parts {
        Some((number, of)) if 1 <= number && number <= of => Ok(Shard { number, of }),
        _ => Err("expected a part and the number of parts, such as 2/5".to_owned()),
    }
}

fn jobs(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number, at least 1".to_owned()),
        Ok(jobs) => Ok(jobs),
    }
}

#[cfg(feature = "remote")]
#[derive(Debug, Subcommand)]
pub enum Remote {
    /// Check whether the server answers, how fast, and what this build may do there
    Status {
        /// Check this server instead of the Buildfile's
        #[arg(long, value_name = "URL")]
        remote: Option<String>,
    },
    /// Send the results of targets that are in the cache
    Push {
        /// Targets and groups; without any, the project's default
        targets: Vec<String>,
        /// Send to this server instead of the Buildfile's
        #[arg(long, value_name = "URL")]
        remote: Option<String>,
    },
    /// Make a pair of keys that sign results
    Key,
}

#[derive(Debug, Args)]
pub struct Graph {
    /// Targets and groups to show [default: all]
    pub targets: Vec<String>,
    /// The format
    #[arg(long, value_name = "FORMAT", default_value = "tree")]
    pub format: GraphFormat,
}

/// The format of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// A tree with the state of each target
    Tree,
    /// For Graphviz
    Dot,
    /// For Mermaid
    Mermaid,
    /// For programs
    Json,
}

#[derive(Debug, Args)]
pub struct List {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Check {
    /// Also run generators, and fail if committed outputs differ; changes no file
    #[arg(long)]
    pub drift: bool,
}

#[derive(Debug, Args)]
pub struct Status {
    /// Targets and groups [default: the project's `default`]
    pub targets: Vec<String>,
    /// Print events as JSON, one on each line, instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Explain {
    /// The target
    pub target: String,
    /// List every path instead of folding large folders
    #[arg(short, long)]
    pub verbose: bool,
}

#[derive(Debug, Subcommand)]
pub enum Cache {
    /// Show the size and folder of the cache
    Status,
    /// Accept all results that other users, machines or containers put into the cache
    Trust,
    /// Read all results and list damaged ones
    Verify {
        /// Move damaged results to quarantine, so that they are built again
        #[arg(long)]
        repair: bool,
    },
    /// Remove the least recently used results, down to the limits
    Gc {
        /// The most to keep, such as `500 MiB` [default: the Buildfile's `max-size`]
        #[arg(long, value_name = "SIZE")]
        max_size: Option<String>,
        /// The longest time without use, such as `7d` [default: the Buildfile's `max-age`]
        #[arg(long, value_name = "AGE")]
        max_age: Option<String>,
    },
    /// Remove every result
    Clear,
}

#[derive(Debug, Args)]
pub struct Clean {
    /// Targets and groups [default: all]. Committed outputs stay
    pub targets: Vec<String>,
    /// Also remove the cache and all other state
    #[arg(long)]
    pub all: bool,
    /// Move files that fbuild did not make to the trash, too
    #[arg(long)]
    pub replace: bool,
}

#[derive(Debug, Subcommand)]
pub enum Trash {
    /// Show the files in the trash
    List,
    /// Move files back to their paths, the newest version of each
    Restore {
        /// Files and folders [default: all]
        paths: Vec<String>,
    },
    /// Delete all files in the trash
    Empty,
}

#[derive(Debug, Args)]
pub struct Fmt {
    /// Change no file; exit with 1 if a file is not in the standard layout
    #[arg(long)]
    pub check: bool,
}

#[derive(Debug, Args)]
pub struct Add {
    /// The name of the new target
    pub name: String,
    /// The template to start from
    #[arg(long, value_name = "TEMPLATE")]
    pub from: Option<String>,
    /// Its description, in one line
    #[arg(long, value_name = "TEXT")]
    pub about: Option<String>,
    /// The targets that it needs
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub needs: Vec<String>,
    /// The tools that it uses
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub tools: Vec<String>,
    /// The patterns of its input files
    #[arg(long, value_name = "PATTERN", num_args = 1..)]
    pub inputs: Vec<String>,
    /// Its outputs: files, globs, or folders with a trailing slash
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub outputs: Vec<String>,
    /// The variables that it depends on: NAME or NAME=VALUE
    #[arg(long, value_name = "VAR", num_args = 1..)]
    pub env: Vec<String>,
    /// A script for `sh -eu` instead of a command
    #[arg(long, value_name = "SCRIPT", conflicts_with = "command")]
    pub sh: Option<String>,
    /// The command, after `--`
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Init {
    /// Print the Buildfile instead of writing it
    #[arg(long)]
    pub print: bool,
}
