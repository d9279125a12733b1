//! What was typed: the commands and their options, exactly, with no effects. The help,
//! the completions and the man page come from here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Builds what changed, restores what is known, explains everything.
#[derive(Debug, Parser)]
#[command(
    name = "fbuild",
    version,
    about,
    long_about = "Builds the targets of a Buildfile.kdl in parallel against a content-addressed \
                  cache: nothing runs whose inputs did not change, and everything that runs says why.",
    after_help = "`fbuild init` writes a first Buildfile; `fbuild run` builds; `fbuild explain TARGET` says why.",
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
    /// Do as if started in DIR
    #[arg(short = 'C', long = "directory", value_name = "DIR", global = true)]
    pub directory: Option<PathBuf>,
    /// Use this Buildfile instead of looking for one
    #[arg(short = 'f', long = "file", value_name = "FILE", global = true)]
    pub file: Option<PathBuf>,
    /// When to use colours
    #[arg(long, value_name = "WHEN", default_value = "auto", global = true)]
    pub color: When,
}

/// When to do something that only some outputs can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// If it goes to a terminal
    Auto,
    /// In any case
    Always,
    /// In no case
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring targets up to date
    Run(Run),
    /// Show the targets and what they need
    Graph(Graph),
    /// List targets and groups
    List(List),
    /// Find every mistake that can be seen without running anything
    Check(Check),
    /// Show what would run, and why
    Status(Status),
    /// Show what a target's result depends on, and what changed since its last success
    Explain(Explain),
    /// Look at the cache, verify it, make it smaller
    #[command(subcommand)]
    Cache(Cache),
    /// Remove what targets made
    Clean(Clean),
    /// Lay the Buildfile out in the standard way
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
    /// Targets and groups; without any, the project's default
    pub targets: Vec<String>,
    /// How many commands may run at once
    #[arg(short, long, value_name = "N", value_parser = jobs)]
    pub jobs: Option<usize>,
    /// After a failure, go on with what does not depend on it
    #[arg(short, long)]
    pub keep_going: bool,
    /// Only show what would run, and why
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Run the targets even if their results are known
    #[arg(long)]
    pub force: bool,
    /// Run the targets without reading or writing results in the cache
    #[arg(long)]
    pub no_cache: bool,
    /// Show output while it is printed, and targets that are up to date
    #[arg(short, long, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Show only failures
    #[arg(short, long)]
    pub quiet: bool,
    /// Print events as JSON, one in a line, instead of text
    #[arg(long)]
    pub json: bool,
    /// How to show progress
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub progress: Progress,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// Live on a terminal, plain elsewhere
    Auto,
    /// A view that is redrawn
    Live,
    /// A line for each start and end
    Plain,
}

fn jobs(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("it takes a whole number from 1 on".to_owned()),
        Ok(jobs) => Ok(jobs),
    }
}

#[derive(Debug, Args)]
pub struct Graph {
    /// Targets and groups to show; without any, all
    pub targets: Vec<String>,
    /// The form
    #[arg(long, value_name = "FORMAT", default_value = "tree")]
    pub format: GraphFormat,
}

/// The form in which a graph is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// Lines for people, with each target's state
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
    /// Also run generators and fail if committed outputs are not what they make; the
    /// tree stays as it is
    #[arg(long)]
    pub drift: bool,
}

#[derive(Debug, Args)]
pub struct Status {
    /// Targets and groups; without any, the project's default
    pub targets: Vec<String>,
    /// Print events as JSON, one in a line, instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Explain {
    /// The target
    pub target: String,
}

#[derive(Debug, Subcommand)]
pub enum Cache {
    /// Show how much is kept, and where
    Status,
    /// Read everything and name what is damaged
    Verify {
        /// Put damaged results aside, so that they are made again
        #[arg(long)]
        repair: bool,
    },
    /// Remove what was not used for longest, down to the limits
    Gc {
        /// Keep at most so much (such as `500 MiB`); default: the Buildfile's `max-size`
        #[arg(long, value_name = "SIZE")]
        max_size: Option<String>,
        /// Keep nothing unused for longer (such as `7d`); default: the Buildfile's `max-age`
        #[arg(long, value_name = "AGE")]
        max_age: Option<String>,
    },
    /// Remove every result
    Clear,
}

#[derive(Debug, Args)]
pub struct Clean {
    /// Targets and groups; without any, all. Committed outputs stay.
    pub targets: Vec<String>,
    /// Remove the cache and all that fbuild remembers as well
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Args)]
pub struct Fmt {
    /// Only tell whether anything would change; exit code 1 if so
    #[arg(long)]
    pub check: bool,
}

#[derive(Debug, Args)]
pub struct Add {
    /// The new target's name
    pub name: String,
    /// The template to start from
    #[arg(long, value_name = "TEMPLATE")]
    pub from: Option<String>,
    /// One line for people
    #[arg(long, value_name = "TEXT")]
    pub about: Option<String>,
    /// Targets that it needs
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub needs: Vec<String>,
    /// Tools that it uses
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub tools: Vec<String>,
    /// Patterns of its input files
    #[arg(long, value_name = "PATTERN", num_args = 1..)]
    pub inputs: Vec<String>,
    /// What it makes: files, globs, folders with a trailing slash
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub outputs: Vec<String>,
    /// Variables that decide its result: NAME or NAME=VALUE
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
    /// Print it instead of writing the file
    #[arg(long)]
    pub print: bool,
}
