//! A first Buildfile for the project at hand: what Go, Cargo, npm and Python projects are
//! in a folder, by their manifests, and targets that build and test each the way its own
//! tools do. It starts nothing, writes nothing, and knows no project but these.

mod cargo;
mod go;
mod names;
mod npm;
mod python;
mod sources;
mod tables;
mod templates;
mod tree;
mod write;

use std::fmt;
use std::path::Path;

use crate::path::RelPath;
use names::Names;
use tree::Tree;

/// What `fbuild init` has to say and to write.
pub(super) struct Proposal {
    /// The projects, with the names of their targets.
    pub(super) found: Vec<Found>,
    /// Whether the folder was too large to be looked through.
    pub(super) is_partial: bool,
    /// The Buildfile.
    pub(super) text: String,
}

/// A project that was found.
pub(super) struct Found {
    /// What it is, what it calls itself, and where it is.
    pub(super) what: String,
    /// Its targets.
    pub(super) targets: Vec<String>,
}

/// Looks through `folder` and proposes a Buildfile for what is there. The project is
/// called by the folder's name.
pub(super) fn propose(folder: &Path) -> Proposal {
    let tree = Tree::look_through(folder);
    let mut projects = [
        go::find(&tree),
        cargo::find(&tree),
        npm::find(&tree),
        python::find(&tree),
    ]
    .concat();
    projects.sort_by(|a, b| a.folder.cmp(&b.folder));
    let named = Names::default().give(projects);
    let found = named.iter().map(|named| Found {
        what: named.project.to_string(),
        targets: named.names.clone(),
    });
    Proposal {
        found: found.collect(),
        is_partial: tree.is_partial,
        text: write::buildfile(&names::of_folder(folder), &named),
    }
}

/// A project that has a manifest.
#[derive(Clone, Debug)]
struct Project {
    kind: Kind,
    folder: RelPath,
    /// What it calls itself, if it does.
    title: Option<String>,
    /// The file that says what it is.
    manifest: &'static str,
    tools: Vec<Tool>,
    /// Patterns below its folder for what its tools make besides outputs.
    litter: Vec<&'static str>,
    /// Patterns below its folder for what its tools read even in another project's folder.
    reaches: Vec<String>,
    /// What is to be known about it before its targets.
    notes: Vec<String>,
    steps: Vec<Step>,
}

/// Whose tools build a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Go,
    Cargo,
    Npm,
    Yarn,
    Pnpm,
    Python,
    Uv,
}

/// A program that a project's commands start.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tool {
    name: &'static str,
    /// What the manifest says of its version, if that is a requirement here as well.
    version: Option<String>,
}

/// What becomes a target.
#[derive(Clone, Debug)]
struct Step {
    purpose: Purpose,
    /// A name that it has already, such as a program's.
    name: Option<String>,
    about: String,
    /// Patterns below the project's folder that are no inputs of this step.
    except: Vec<&'static str>,
    /// Patterns below the project's folder that the project's sources leave out.
    besides: Vec<String>,
    /// Below the project's folder; folders have a slash at the end.
    outputs: Vec<String>,
    commands: Vec<Command>,
    /// Whether another step of the project must not run at the same time.
    is_exclusive: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Build,
    Test,
}

#[derive(Clone, Debug)]
enum Command {
    Run(Vec<String>),
    Sh(Vec<String>),
}

/// A project whose targets have names.
struct Named {
    project: Project,
    /// One for each step.
    names: Vec<String>,
    /// What its `files` node is called.
    sources: String,
}

impl Kind {
    /// What its template and some of its targets are called.
    fn word(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Cargo => "cargo",
            Self::Npm => "npm",
            Self::Yarn => "yarn",
            Self::Pnpm => "pnpm",
            Self::Python => "python",
            Self::Uv => "uv",
        }
    }
}

impl Step {
    fn new(purpose: Purpose, about: impl Into<String>) -> Self {
        Self {
            purpose,
            name: None,
            about: about.into(),
            except: Vec::new(),
            besides: Vec::new(),
            outputs: Vec::new(),
            commands: Vec::new(),
            is_exclusive: false,
        }
    }

    fn run(mut self, words: &[&str]) -> Self {
        let words = words.iter().map(|word| (*word).to_owned());
        self.commands.push(Command::Run(words.collect()));
        self
    }
}

impl fmt::Display for Project {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Go => "Go module",
            Kind::Cargo => "Cargo package",
            Kind::Npm | Kind::Yarn | Kind::Pnpm => "npm package",
            Kind::Python | Kind::Uv => "Python project",
        })?;
        if let Some(title) = &self.title {
            write!(f, " `{}`", crate::report::text::harmless(title))?;
        }
        if self.folder.is_root() {
            Ok(())
        } else {
            write!(f, " in `{}`", self.folder)
        }
    }
}

#[cfg(test)]
mod tests;
