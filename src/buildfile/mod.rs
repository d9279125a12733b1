//! The Buildfile language: from text to plain types, with every mistake reported at
//! once. Loading runs nothing, and nothing in here knows the graph.
//!
//! A text passes through these, each a file: `guard` (what the `kdl` crate must not
//! see), `parse` (that crate), `check` (the table in [`grammar`]), `load` (included
//! files), `expand` (names, variables, templates) into the types of [`model`]. They get
//! as far as they can: a mistake costs what it spoils, not what stands around it.

// The language: its types, its table, its words.
pub mod codes;
pub mod grammar;
pub mod model;
mod names;
pub mod quantity;
mod sink;
mod version;

// From files to nodes, and from nodes to meaning.
mod checks;
mod expand;
mod load;
mod meaning;
mod read;
mod syntax;

// What is made from the grammar, and changes to a text.
mod editing;
mod schema;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::source::{Diagnostic, Sources};
use load::Files;
use model::Buildfile;

pub use codes::CODES;
pub use editing::add::{AddError, NewCommand, NewTarget, add_target};
pub use editing::format::format;
pub use editing::quote::{in_quotes, quoted};
pub use read::Error;
pub use schema::generated_files;
pub use syntax::node_cache::NodeCache;

/// What came of reading a Buildfile.
#[derive(Debug)]
pub struct Loaded {
    /// What was understood.
    pub buildfile: Buildfile,
    /// The texts, for showing diagnostics.
    pub sources: Sources,
    /// Everything that is wrong, in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
    /// Whether every name that is declared is known; if not, an unknown name may be one
    /// that was lost with a mistake that is reported already.
    pub is_complete: bool,
    /// The folder that every path is relative to.
    pub root: PathBuf,
    /// Every file that was read, with the digest of its text: what a compiled form of
    /// the Buildfile depends on.
    pub files: Vec<(PathBuf, Digest)>,
}

/// Reads the Buildfile at `path` and all that it includes; `shown` is how people know it.
///
/// An error means that there is no text at all; everything else is in the diagnostics.
pub fn load(path: &Path, shown: &Path) -> Result<Loaded, Error> {
    load_cached(path, shown, &mut NodeCache::default())
}

/// Reads the Buildfile at `path` as [`load`] does, but parses no node that is in `known`,
/// which then has those that were read.
pub fn load_cached(path: &Path, shown: &Path, cache: &mut NodeCache) -> Result<Loaded, Error> {
    Ok(finish(Files::load(path, shown, cache)?))
}

/// Reads a text that need not be on the disk; `include` is a mistake in it.
pub fn load_text(text: &str, shown: &Path) -> Loaded {
    finish(Files::from_text(text, shown))
}

/// What may follow from a name that was lost with a mistake elsewhere.
const FOLLOWING: [&str; 4] = [
    codes::UNKNOWN_NAME,
    codes::VARIABLE,
    codes::ENV_UNDECLARED,
    codes::NOTHING,
];

fn finish(files: Files) -> Loaded {
    let Files {
        nodes,
        sources,
        mut sink,
        ..
    } = files;
    let buildfile = expand::expand(&nodes, &files.protected, &sources, &mut sink);
    let is_empty = buildfile.targets.is_empty() && buildfile.groups.is_empty();
    if is_empty && sink.errors() == 0 {
        sink.push(nothing_to_build());
    }
    let mut diagnostics = sink.into_diagnostics();
    if files.has_lost_names {
        diagnostics.retain(|d| !FOLLOWING.contains(&d.code.as_str()));
    }
    diagnostics.sort_by_key(|d| d.labels.first().map(|label| label.span));
    Loaded {
        buildfile,
        sources,
        diagnostics,
        is_complete: !files.has_lost_names,
        root: files.root,
        files: files.read,
    }
}

fn nothing_to_build() -> Diagnostic {
    Diagnostic::error(codes::EMPTY, "there is nothing to build")
        .label(load::start_of(0), "no target in this file")
        .help("add a first target:\n\ntarget hello {\n    sh \"echo hello\"\n}")
}
