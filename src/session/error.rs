//! The reasons why a session cannot be opened or used.

use std::io;
use std::path::PathBuf;

use super::state_key::SECRET;
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
