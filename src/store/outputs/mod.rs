//! Outputs in the tree: taken into a store after a command ([`capture`]), put back from
//! it ([`restore`]), and moved out of the way before a command ([`stash`]). It knows
//! declared outputs and a store, not targets, keys or commands.
//!
//! What counts as an output is decided in one place, `list.rs`, for all three. Its rules:
//!
//! - A declared file is a regular file or a link. A pattern's matches are all files and
//!   links that match. An owned folder is everything in it, empty folders included.
//! - What `keep` matches is nobody's here: not listed, not removed, not replaced. A folder
//!   in which nothing but kept things lies is itself kept. So is `.git`, anywhere, and
//!   each folder that the [`Stage`] was told to leave alone.
//! - Links are links: stored as they are written, never followed, and refused on the way
//!   to an output. Each folder is opened from the root in one step that the system checks.
//!
//! Outputs move through the [`Stage`], a private folder on the same file system. Whatever
//! stands in it when a program starts was left by one that was killed: [`recover`].

mod at;
mod capture;
mod list;
mod recover;
mod remove;
mod restore;
mod stage;
mod stash;
mod unchanged;

use std::io;

use crate::buildfile::model::Output;
use crate::path::RelPath;
use crate::stamp::FileKind;
use crate::store;

pub use capture::{Captured, capture};
pub use recover::recover;
pub use restore::{Restoration, Restored, check_result, restore};
pub use stage::{Stage, check_writable, open_own};
pub use stash::{Stash, stash};

/// What is wrong with outputs, or with the tree that they are in.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// A command ended well and did not make what was declared.
    #[error("the declared output `{output}` was not made")]
    #[diagnostic(
        code(fbuild::store::output_missing),
        help("correct `outputs`, or the command: it ended with success and did not write this")
    )]
    Missing {
        /// The output as declared.
        output: String,
    },
    /// Something of another kind stands where an output was declared.
    #[error("the declared output `{path}` is {found}, not {declared}")]
    #[diagnostic(
        code(fbuild::store::output_kind),
        help("in `outputs`, a folder is written with a trailing `/` and a file without")
    )]
    Kind {
        /// Where.
        path: RelPath,
        /// What stands there, with its article.
        found: FileKind,
        /// What was declared, with its article.
        declared: &'static str,
    },
    /// An output is something that cannot be stored.
    #[error("the output `{path}` is {found}, which cannot be stored")]
    #[diagnostic(
        code(fbuild::store::output_special),
        help("remove it in the command, or name it with `keep` so that it is not an output")
    )]
    Special {
        /// Where.
        path: RelPath,
        /// What stands there, with its article.
        found: FileKind,
    },
    /// An output would run with somebody else's rights.
    #[error("the output `{path}` is set-user-ID or set-group-ID")]
    #[diagnostic(
        code(fbuild::store::output_setuid),
        help(
            "results are shared between trees and people; set the bit where the file is installed"
        )
    )]
    SetUid {
        /// Where.
        path: RelPath,
    },
    /// The way to an output leads through a link.
    #[error("the output `{path}` lies behind the symbolic link `{link}`")]
    #[diagnostic(
        code(fbuild::store::output_through_link),
        help("declare the output by the path that has no link in it, inside the project")
    )]
    ThroughLink {
        /// The output.
        path: RelPath,
        /// The link.
        link: RelPath,
    },
    /// The way to an output leads through something that is no folder.
    #[error("the output `{path}` cannot be there: `{parent}` is not a folder")]
    #[diagnostic(
        code(fbuild::store::output_parent),
        help("move what stands in the way, or declare the output elsewhere")
    )]
    Parent {
        /// The output.
        path: RelPath,
        /// What should be a folder.
        parent: RelPath,
    },
    /// An output was written to while it was stored.
    #[error("the output `{path}` changed while it was being stored")]
    #[diagnostic(
        code(fbuild::store::output_changed),
        help("something still writes to it: a process that the command left behind, or an editor")
    )]
    Changed {
        /// Where.
        path: RelPath,
    },
    /// A result has something that the target does not declare.
    #[error("the cached result has `{path}`, which is not a declared output")]
    #[diagnostic(code(fbuild::store::output_undeclared))]
    Undeclared {
        /// Where.
        path: RelPath,
    },
    /// A result lacks something that the target declares.
    #[error("the cached result lacks the declared output `{output}`")]
    #[diagnostic(code(fbuild::store::output_lacking))]
    Lacking {
        /// The output as declared.
        output: String,
    },
    /// A folder with kept things in it stands where a result has a file.
    #[error("the folder `{path}` must become a file, but it holds what `keep` names")]
    #[diagnostic(
        code(fbuild::store::output_kept),
        help("move what is kept elsewhere, or correct `keep`")
    )]
    Kept {
        /// Where.
        path: RelPath,
    },
    /// The entries of a result cannot be those of a result.
    #[error("the cached result is not one: {0}")]
    #[diagnostic(code(fbuild::store::output_refused))]
    Refused(#[from] store::Refusal),
    /// The system refused something in the tree.
    #[error("cannot {operation} `{path}`")]
    #[diagnostic(code(fbuild::store::output_io))]
    Io {
        /// A verb: "read", "list", "replace".
        operation: &'static str,
        /// Where.
        path: RelPath,
        /// Why.
        source: io::Error,
    },
    /// The system refused something in the stage.
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
        /// Why.
        source: io::Error,
    },
    /// A store had trouble that is no miss.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    /// Tells whether [`restore`] met something that making the outputs anew need not meet:
    /// to be taken as a miss. What stands in the way of outputs stands in the way of a
    /// command too.
    pub fn is_miss(&self) -> bool {
        !matches!(
            self,
            Self::ThroughLink { .. } | Self::Parent { .. } | Self::Kept { .. }
        )
    }
}

/// Returns a declared output as it is written.
fn text(output: &Output) -> String {
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
