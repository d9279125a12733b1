//! Proposes a first Buildfile: finds Go, Cargo, npm and Python projects by their manifests,
//! and writes targets that build and test each with its own tools. Reads files only.

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

/// The Buildfile that `fbuild init` proposes.
pub(super) struct Proposal {
    /// The projects, with the names of their targets.
    pub(super) findings: Vec<Finding>,
    /// Whether the folder was too large to search completely.
    pub(super) is_partial: bool,
    /// The text of the Buildfile.
    pub(super) text: String,
}

/// A project and its targets.
pub(super) struct Finding {
    /// The kind, name and folder of the project.
    pub(super) project: String,
    /// Its targets.
    pub(super) targets: Vec<String>,
}

/// Proposes a Buildfile for the projects in `folder`, named after the folder.
pub(super) fn propose(folder: &Path) -> Proposal {
    let tree = Tree::read(folder);
    let mut projects = [
        go::find(&tree),
        cargo::find(&tree),
        npm::find(&tree),
        python::find(&tree),
    ]
    .concat();
    projects.sort_by(|a, b| a.folder.cmp(&b.folder));
    let named = Names::default().give(projects);
    let findings = named.iter().map(|named| Finding {
        project: named.project.to_string(),
        targets: named.names.clone(),
    });
    Proposal {
        findings: findings.collect(),
        is_partial: tree.is_partial,
        text: write::buildfile(&names::of_folder(folder), &named),
    }
}

/// A project with a manifest.
#[derive(Clone, Debug)]
struct Project {
    kind: Kind,
    folder: RelPath,
    /// Its name in the manifest.
    title: Option<String>,
    /// The name of the manifest.
    manifest: &'static str,
    tools: Vec<Tool>,
    /// Patterns of files that its tools create in its folder in addition to outputs.
    litter: Vec<&'static str>,
    /// Patterns of files that its tools read in the folders of inner projects.
    reaches: Vec<String>,
    /// The comments before its targets.
    notes: Vec<String>,
    steps: Vec<Step>,
}

/// The tools that build a project.
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

/// A program that the commands of a project start.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tool {
    name: &'static str,
    /// The version that the manifest requires.
    version: Option<String>,
}

/// A future target.
#[derive(Clone, Debug)]
struct Step {
    purpose: Purpose,
    /// The name of the program that it makes, if it makes one.
    name: Option<String>,
    about: String,
    /// Patterns of the project's sources that are not inputs of this step.
    except: Vec<&'static str>,
    /// Patterns of inputs that are not among the project's sources.
    extra_inputs: Vec<String>,
    /// Paths below the project's folder; folders end with a slash.
    outputs: Vec<String>,
    commands: Vec<Command>,
    /// Whether no other step of the project may run at the same time.
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

/// A project with the names of its targets.
struct Named {
    project: Project,
    /// One for each step.
    names: Vec<String>,
    /// The name of its `files` node.
    sources: String,
}

impl Kind {
    /// Returns the name of its template, which is part of the names of some targets.
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
            extra_inputs: Vec::new(),
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
