//! Finds, reads and checks a Buildfile, and names the folders that belong to it. It runs
//! nothing and knows no keys.
//!
//! KDL is slow to read (some megabytes a second), so the graph is stored in compiled form,
//! under the digests of the texts that it was made from.

mod compiled;
mod layout;
mod tracked;

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::AtFlags;

use crate::buildfile::listing::Listing;
use crate::buildfile::{self, NodeCache};
use crate::digest::{Digest, Key};
use crate::graph::{self, Graph};
use crate::path::Root;
use crate::source::{Diagnostic, Severity, Sources};
use crate::system::access::{self, Control};

pub use layout::Layout;
pub use tracked::{is_tracked, tracked_files};

/// The name of a Buildfile.
pub const FILE_NAME: &str = "Buildfile.kdl";

/// A Buildfile with its graph, its diagnostics and its folders.
pub struct Workspace {
    /// The folder that every path is relative to.
    pub root: Root,
    /// The paths of fbuild's own files.
    pub layout: Layout,
    /// The targets and the settings.
    pub graph: Graph,
    /// The texts, for diagnostics.
    pub sources: Sources,
    /// Every diagnostic about the texts.
    pub diagnostics: Vec<Diagnostic>,
    files: Vec<(PathBuf, Digest)>,
    listings: Vec<Listing>,
    /// The nodes of this load, if the texts were parsed.
    cache: NodeCache,
    is_compiled: bool,
}

/// The error of opening a workspace.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// Neither the folder nor a parent has a Buildfile.
    #[error("no `{FILE_NAME}` in `{}` or any folder above it", .from.display())]
    #[diagnostic(
        code(fbuild::workspace::not_found),
        help("`fbuild init` writes a first one; `-C DIR` looks elsewhere, `-f FILE` names one")
    )]
    NotFound {
        /// The folder where the search started.
        from: PathBuf,
    },
    /// Other users control the nearest Buildfile, which is in a parent folder.
    #[error("`{}` is not used: `{}` {control}", path.display(), controlled.display())]
    #[diagnostic(
        code(fbuild::workspace::untrusted),
        help("its commands would run as you; if you trust it, name it: `fbuild -f {} …`", path.display())
    )]
    Untrusted {
        /// The path of the Buildfile.
        path: PathBuf,
        /// The file or folder that they control.
        controlled: PathBuf,
        /// Their control over it.
        control: Control,
    },
    /// The Buildfile could not be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Load(#[from] buildfile::Error),
    /// The project's root could not be opened.
    #[error("cannot open the project's root `{}`", path.display())]
    #[diagnostic(
        code(fbuild::workspace::root),
        help("make the folder, or correct `root` in the Buildfile")
    )]
    Root {
        /// The path of the root.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

impl Workspace {
    /// Saves the compiled form to `layout`, unless it was read from there.
    pub fn keep_compiled(&self, layout: &Layout) -> io::Result<()> {
        if self.is_compiled || self.has_errors() {
            return Ok(());
        }
        self.cache.save(&layout.nodes())?;
        let facts = (self.files.as_slice(), &self.sources, &*self.listings);
        compiled::write(&layout.graph(), facts, (&self.diagnostics, &self.graph))
    }

    /// Returns every text that was read, in order, with its digest.
    pub fn texts(&self) -> &[(PathBuf, Digest)] {
        &self.files
    }

    /// Returns the names of files that the targets depend on.
    pub fn listings(&self) -> &[Listing] {
        &self.listings
    }

    /// Returns the path of the root as the Buildfile names it, with unresolved links.
    pub fn root_as_named(&self) -> PathBuf {
        let folder = self.layout.state().parent().unwrap_or(Path::new("."));
        root_path(folder, &self.graph)
    }

    /// Returns the path of the file that describes committed outputs, beside the Buildfile.
    pub fn lockfile(&self) -> PathBuf {
        let buildfile = self.files.first().map(|(path, _)| path.as_path());
        let buildfile = buildfile.unwrap_or(Path::new(FILE_NAME));
        buildfile.with_extension("lock")
    }

    /// Returns true if there are errors, so that nothing can be built.
    pub fn has_errors(&self) -> bool {
        has_errors(&self.diagnostics)
    }
}

/// Searches for a Buildfile in `from` and its parents. Refuses one in a parent folder that
/// other users control: they could put it there to run commands as this user.
pub fn find(from: &Path) -> Result<PathBuf, Error> {
    let mut candidates = from.ancestors().map(|folder| folder.join(FILE_NAME));
    let is_there = |path: &PathBuf| path.symlink_metadata().is_ok();
    let path = candidates.find(is_there).ok_or_else(|| Error::NotFound {
        from: from.to_owned(),
    })?;
    let folder = path.parent().filter(|folder| *folder != from);
    match folder.and_then(|folder| controlled(&path, folder)) {
        None => Ok(path),
        Some((controlled, control)) => Err(Error::Untrusted {
            path,
            controlled,
            control,
        }),
    }
}

/// Returns the control that other users have over a Buildfile, a link to it, or its folder.
fn controlled(path: &Path, folder: &Path) -> Option<(PathBuf, Control)> {
    let checks = [
        (path, AtFlags::SYMLINK_NOFOLLOW),
        (path, AtFlags::empty()),
        (folder, AtFlags::empty()),
    ];
    // A file that cannot be examined is reported when it is opened.
    checks.into_iter().find_map(|(path, links)| {
        let control = access::control_of_others(path, links).ok().flatten()?;
        Some((path.to_owned(), control))
    })
}

/// Reads and checks the Buildfile at `path` (absolute), called `shown` in diagnostics. Uses
/// the compiled form if the texts are unchanged.
pub fn open(path: &Path, shown: &Path, key: &Key) -> Result<Workspace, Error> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let layout = Layout::new(folder, key);
    let mut cache = NodeCache::default();
    let (parts, is_compiled) = match compiled::read(&layout.graph(), path) {
        Some(parts) => (parts, true),
        None => {
            cache = NodeCache::read(&layout.nodes());
            (compile(path, shown, &mut cache)?, false)
        }
    };
    let root = match open_root(folder, &parts.graph) {
        // The missing root is among the diagnostics already.
        Err(_) if has_errors(&parts.diagnostics) => open_at(folder)?,
        root => root?,
    };
    Ok(Workspace {
        root,
        layout,
        graph: parts.graph,
        sources: parts.sources,
        diagnostics: parts.diagnostics,
        files: parts.files,
        listings: parts.listings,
        cache,
        is_compiled,
    })
}

fn compile(path: &Path, shown: &Path, cache: &mut NodeCache) -> Result<compiled::Parts, Error> {
    let loaded = buildfile::load_cached(path, shown, cache)?;
    let (graph, mut mistakes) = Graph::new(loaded.buildfile);
    if !loaded.is_complete {
        // The name may be one that was lost with a mistake that is reported already.
        mistakes.retain(|mistake| mistake.code != graph::UNKNOWN);
    }
    let mut diagnostics = loaded.diagnostics;
    diagnostics.extend(mistakes);
    Ok(compiled::Parts {
        graph,
        sources: loaded.sources,
        diagnostics,
        files: loaded.files,
        listings: loaded.listings,
    })
}

fn open_root(folder: &Path, graph: &Graph) -> Result<Root, Error> {
    open_at(&root_path(folder, graph))
}

fn root_path(folder: &Path, graph: &Graph) -> PathBuf {
    let project = graph.buildfile().project.as_ref();
    let below = project.and_then(|project| project.root.as_ref());
    match below {
        Some(below) => folder.join(below.value.as_path()),
        None => folder.to_owned(),
    }
}

fn open_at(path: &Path) -> Result<Root, Error> {
    Root::open(path).map_err(|source| Error::Root {
        path: path.to_owned(),
        source,
    })
}

fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    let mut severities = diagnostics.iter().map(|d| d.severity);
    severities.any(|severity| severity == Severity::Error)
}
