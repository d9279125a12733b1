//! Moves outputs between the tree and a store: [`capture`] stores them after a command,
//! [`restore`] writes them from the store, and [`Stash`] moves old ones out of the way of a
//! command. It has no knowledge of targets, keys or commands.
//!
//! `list.rs` decides for all three which paths are outputs. Its rules:
//!
//! - A declared file is a regular file or a link. The matches of a pattern are all files and
//!   links that match. An owned folder includes all its entries, also empty folders.
//! - Paths that match `keep` are not listed, removed or replaced, and neither is a folder
//!   with nothing else in it. The same holds for `.git`, anywhere, and for each folder that
//!   the [`Stage`] excludes.
//! - Links are stored as links, never followed, and refused on the way to an output. Each
//!   folder is opened from the root in one call that the system checks.
//!
//! Outputs move through the [`Stage`], a private folder on the same file system. Files in it
//! at the start of a run are from a killed one; see [`recover`].

mod capture;
mod claim;
mod dirs;
mod list;
mod moves;
mod recover;
mod remove;
mod restore;
mod stage;
mod stash;
mod trash;
mod unchanged;

use std::io;

use crate::buildfile::model::Output;
use crate::path::RelPath;
use crate::stamp::FileKind;
use crate::store;

pub use capture::{CapturedOutputs, capture};
pub use claim::{AllOwned, Claim, Claims, ForeignFiles, list_paths};
pub use recover::{Recovered, recover};
pub use remove::{RemovedOutputs, remove_outputs};
pub use restore::{Destination, Restoration, RestoredOutputs, check_result, restore};
pub use stage::{Stage, check_writable, open_own};
pub use stash::{FinishedStash, Stash};
pub use trash::{Trash, TrashBatch, trashed};

/// A problem with outputs or with the tree around them.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// A command succeeded without making a declared output.
    #[error("the declared output `{output}` was not made")]
    #[diagnostic(
        code(fbuild::store::output_missing),
        help("correct `outputs`, or the command: it succeeded without writing this")
    )]
    Missing {
        /// The output as declared.
        output: String,
    },
    /// A declared output is of another kind.
    #[error("the declared output `{path}` is {found}, not {declared}")]
    #[diagnostic(
        code(fbuild::store::output_kind),
        help("in `outputs`, a folder is written with a trailing `/` and a file without")
    )]
    Kind {
        /// The output.
        path: RelPath,
        /// The kind found, with its article.
        found: FileKind,
        /// The kind declared, with its article.
        declared: &'static str,
    },
    /// An output is of a kind that cannot be stored.
    #[error("the output `{path}` is {found}, which cannot be stored")]
    #[diagnostic(
        code(fbuild::store::output_special),
        help("remove it in the command, or add it to `keep` so that it is not an output")
    )]
    Special {
        /// The output.
        path: RelPath,
        /// The kind found, with its article.
        found: FileKind,
    },
    /// A cached output contains a `.git` folder.
    #[error("the output contains the folder `{path}`, which results do not include")]
    #[diagnostic(
        code(fbuild::store::output_git),
        help("remove it at the end of the command, or add it to `keep`: it is then not an output")
    )]
    Git {
        /// The folder.
        path: RelPath,
    },
    /// An output would run with the rights of another user.
    #[error("the output `{path}` is set-user-ID or set-group-ID")]
    #[diagnostic(
        code(fbuild::store::output_setuid),
        help(
            "results are shared between trees and users; set the bit where the file is installed"
        )
    )]
    SetUid {
        /// The output.
        path: RelPath,
    },
    /// The path of an output leads through a link.
    #[error("the output `{path}` is behind the symbolic link `{link}`")]
    #[diagnostic(
        code(fbuild::store::output_through_link),
        help("declare the output by its path without links, inside the project")
    )]
    ThroughLink {
        /// The output.
        path: RelPath,
        /// The link.
        link: RelPath,
    },
    /// A component of the path of an output is not a folder.
    #[error("the output `{path}` cannot be made: `{parent}` is not a folder")]
    #[diagnostic(
        code(fbuild::store::output_parent),
        help("move that file, or declare the output elsewhere")
    )]
    Parent {
        /// The output.
        path: RelPath,
        /// The path that is not a folder.
        parent: RelPath,
    },
    /// An output changed while it was stored.
    #[error("the output `{path}` changed while it was being stored")]
    #[diagnostic(
        code(fbuild::store::output_changed),
        help("another process still writes to it: one left by the command, or an editor")
    )]
    Changed {
        /// The output.
        path: RelPath,
    },
    /// A result has an entry that the target does not declare.
    #[error("the cached result has `{path}`, which is not a declared output")]
    #[diagnostic(code(fbuild::store::output_undeclared))]
    Undeclared {
        /// The entry.
        path: RelPath,
    },
    /// A result lacks a declared output.
    #[error("the cached result lacks the declared output `{output}`")]
    #[diagnostic(code(fbuild::store::output_lacking))]
    Lacking {
        /// The output as declared.
        output: String,
    },
    /// A folder with kept files is in the place of a file.
    #[error("the folder `{path}` must become a file, but it has files that `keep` matches")]
    #[diagnostic(
        code(fbuild::store::output_kept),
        help("move those files, or correct `keep`")
    )]
    Kept {
        /// The folder.
        path: RelPath,
    },
    /// The entries of a result are invalid.
    #[error("the cached result is invalid: {0}")]
    #[diagnostic(code(fbuild::store::output_refused))]
    Refused(#[from] store::Refusal),
    /// A system call on a path in the tree failed.
    #[error("cannot {operation} `{path}`")]
    #[diagnostic(code(fbuild::store::output_io))]
    Io {
        /// A verb: "read", "list", "replace".
        operation: &'static str,
        /// The path.
        path: RelPath,
        /// The cause.
        source: io::Error,
    },
    /// A system call in the stage failed.
    #[error("cannot {operation} in the folder `{}`", path.display())]
    #[diagnostic(
        code(fbuild::store::stage),
        help("the state folder must be writable and have room for a copy of the outputs")
    )]
    Stage {
        /// A verb.
        operation: &'static str,
        /// The stage.
        path: std::path::PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A system call in the trash failed.
    #[error("cannot keep files safe in the trash `{}`: cannot {operation}", path.display())]
    #[diagnostic(
        code(fbuild::store::trash),
        help(
            "the trash must be a folder of yours that can be written: move what is there instead"
        )
    )]
    Trash {
        /// A verb with its object.
        operation: &'static str,
        /// The trash.
        path: std::path::PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Files that fbuild did not make are in the place of outputs.
    #[error("{}", .0.iter().map(ForeignFiles::to_string).collect::<Vec<_>>().join("; "))]
    #[diagnostic(
        code(fbuild::store::foreign),
        help("move them, or run with `--replace` to move them to the trash")
    )]
    Foreign(Vec<ForeignFiles>),
    /// A store failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    /// Returns true if a failed [`restore`] counts as a miss, because running the commands
    /// may succeed. An obstacle in the tree would stop the commands too.
    pub fn is_miss(&self) -> bool {
        !matches!(
            self,
            Self::ThroughLink { .. }
                | Self::Parent { .. }
                | Self::Kept { .. }
                | Self::Trash { .. }
                | Self::Foreign(_)
        )
    }

    /// Returns true if the system refuses to move a mount point.
    fn is_busy(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::ResourceBusy)
    }
}

/// Returns a declared output as written in the Buildfile.
pub fn text(output: &Output) -> String {
    match output {
        Output::File(path) => path.to_string(),
        Output::Folder(path) => format!("{path}/"),
        Output::Glob(pattern) => pattern.to_string(),
    }
}

/// Makes an [`Error::Io`].
fn io<E: Into<io::Error>>(operation: &'static str, path: &RelPath) -> impl FnOnce(E) -> Error {
    move |source| Error::Io {
        operation,
        path: path.clone(),
        source: source.into(),
    }
}

#[cfg(test)]
mod tests;
