//! The Buildfile language: reads text into plain types, and reports every mistake at
//! once. Loading runs nothing, and knows no graph.
//!
//! A text passes through [`load`] (the files), [`syntax`] (text to nodes, checked against
//! the [`grammar`]), [`expand`] and [`meaning`] (nodes to the types of [`model`]), and
//! [`checks`] (mistakes of single targets). Each continues after a mistake, and leaves out
//! only what the mistake affects.

// The types, the grammar and the words of the language.
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
pub mod listing;
mod load;
mod meaning;
mod read;
mod syntax;

// Files made from the grammar, and changes to a text.
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
use expand::Surroundings;
use listing::Listing;
use load::Files;
use model::Buildfile;

pub use codes::CODES;
pub use editing::add::{AddError, NewCommand, NewTarget, add_target};
pub use editing::format::format;
pub use editing::quote::{in_quotes, quoted};
pub use read::Error;
pub use schema::generated_files;
pub use syntax::node_cache::NodeCache;

/// A loaded Buildfile and everything reported about it.
#[derive(Debug)]
pub struct Loaded {
    /// The content, as far as it could be read.
    pub buildfile: Buildfile,
    /// The texts, to show diagnostics with.
    pub sources: Sources,
    /// Every mistake, in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
    /// Whether every definition could be read; if not, an unknown name may be one that was
    /// lost with a mistake that is reported already.
    pub is_complete: bool,
    /// The folder that every path is relative to.
    pub root: PathBuf,
    /// Every file that was read, with the digest of its text; the compiled form of the
    /// Buildfile depends on them.
    pub files: Vec<(PathBuf, Digest)>,
    /// The names of files that `for` found; the compiled form depends on them, too.
    pub listings: Vec<Listing>,
}

/// Reads the Buildfile at `path`, called `shown` in messages, and all that it includes.
///
/// Returns an error only if there is no text at all; mistakes are in the diagnostics.
pub fn load(path: &Path, shown: &Path) -> Result<Loaded, Error> {
    load_cached(path, shown, &mut NodeCache::default())
}

/// Reads the Buildfile at `path` as [`load`] does, but takes nodes from `cache` where it
/// can, and leaves in it the nodes of this load.
pub fn load_cached(path: &Path, shown: &Path, cache: &mut NodeCache) -> Result<Loaded, Error> {
    Ok(finish(Files::load(path, shown, cache)?))
}

/// Reads a text that need not be in a file; `include` is a mistake in it.
pub fn load_text(text: &str, shown: &Path) -> Loaded {
    finish(Files::from_text(text, shown))
}

/// The codes of mistakes that a lost name may cause.
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
    let has_file = !files.read.is_empty();
    let surroundings = Surroundings {
        protected: &files.protected,
        sources: &sources,
        root: has_file.then_some(&*files.root),
    };
    let expanded = expand::expand(&nodes, &surroundings, &mut sink);
    let buildfile = expanded.buildfile;
    let has_lost_names = files.has_lost_names || expanded.has_lost_names;
    let is_empty = buildfile.targets.is_empty() && buildfile.groups.is_empty();
    if is_empty && sink.errors() == 0 && !has_lost_names {
        sink.push(nothing_to_build());
    }
    let mut diagnostics = sink.into_diagnostics();
    // A target that is lost takes no name of a variable, template, set or tool with it.
    if files.has_lost_names {
        diagnostics.retain(|d| !FOLLOWING.contains(&d.code.as_str()));
    }
    diagnostics.sort_by_key(|d| d.labels.first().map(|label| label.span));
    Loaded {
        buildfile,
        sources,
        diagnostics,
        is_complete: !has_lost_names,
        listings: expanded.listings,
        root: files.root,
        files: files.read,
    }
}

fn nothing_to_build() -> Diagnostic {
    Diagnostic::error(codes::EMPTY, "there is nothing to build")
        .label(load::start_of(0), "no target in this file")
        .help("add a first target:\n\ntarget hello {\n    sh \"echo hello\"\n}")
}
