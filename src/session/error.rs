//! The reasons why a session cannot be opened or used.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;

use super::Host;
use super::state_key::SECRET;
use crate::path::escape;
use crate::source::Diagnostic;
use crate::store::outputs;
use crate::workspace;

/// Why a session cannot be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no workspace.
    #[error(transparent)]
    Workspace(#[from] workspace::Error),
    /// The Buildfile has mistakes, which the observer has received.
    #[error("the Buildfile has mistakes")]
    Mistakes,
    /// The secret for the state is too short.
    #[error("`{SECRET}` is too short to be a secret")]
    Secret,
    /// A command of a run in the same tree started the process.
    #[error(
        "a command of the target `{target}` started fbuild in the tree that its run is changing"
    )]
    Nested {
        /// The target.
        target: String,
    },
    /// Names stand for no target or group.
    #[error("some names are unknown")]
    Names(Vec<Diagnostic>),
    /// Neither the state folder nor a temporary one can be used.
    #[error("cannot write to `{}`", folder.display())]
    Folder {
        /// The folder in which a temporary one was to be created.
        folder: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Outputs that an interrupted run moved cannot be moved back.
    #[error(transparent)]
    Recovery(#[from] outputs::Error),
}

impl Error {
    /// Returns the error of a process that a command of a run in the same tree started.
    pub(super) fn nested(host: &Host<'_>) -> Self {
        let target = host.env.get(OsStr::new("FBUILD_TARGET"));
        let target = target.map_or(&b""[..], |target| target.as_encoded_bytes());
        Self::Nested {
            target: escape(target).into_owned(),
        }
    }
}
