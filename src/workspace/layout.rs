//! Names the folders and files that fbuild keeps beside a Buildfile.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::checked_file::StateFile;
use crate::digest::Key;

/// The paths below the state folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    state: PathBuf,
    /// The key of the state of this checkout.
    key: Key,
}

impl Layout {
    /// The name of the trash, beside the state folder.
    pub const TRASH: &'static str = ".build-trash";
    /// The name of the state folder, beside the Buildfile.
    pub const NAME: &'static str = ".build-cache";

    /// Returns the layout for the Buildfile in `folder`, with state that belongs to the owner
    /// of `key` and to this checkout: state copied from another folder counts as missing.
    pub fn new(folder: &Path, key: &Key) -> Self {
        let checkout = folder.canonicalize();
        let checkout = checkout.as_deref().unwrap_or(folder).as_os_str();
        Self {
            state: folder.join(Self::NAME),
            key: key.derive(&[b"fbuild state 1", checkout.as_bytes()]),
        }
    }

    /// Returns true for the name of a folder that fbuild keeps, here or in a project below.
    pub fn is_own(name: &[u8]) -> bool {
        [Self::NAME, Self::TRASH].map(str::as_bytes).contains(&name)
    }

    fn file(&self, name: &str) -> StateFile {
        StateFile::new(self.state.join(name), self.key.clone())
    }

    /// Returns the state folder, which also holds blobs and results unless the Buildfile
    /// sets another folder for them.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Returns the path of the trash, which keeps files of the user that were in the place of outputs.
    pub fn trash(&self) -> PathBuf {
        self.state.with_file_name(Self::TRASH)
    }

    /// Returns the path of the lock that a run holds.
    pub fn lock(&self) -> PathBuf {
        self.state.join("run.lock")
    }

    /// Returns the path of the file index: digests by stat data.
    pub fn index(&self) -> StateFile {
        self.file("index")
    }

    /// Returns the path of the last success of each target.
    pub fn successes(&self) -> StateFile {
        self.file("state")
    }

    /// Returns the path of the last clean run's conditions and observations.
    pub fn snapshot(&self) -> StateFile {
        self.file("snapshot")
    }

    /// Returns the path of the compiled Buildfile.
    pub fn graph(&self) -> StateFile {
        self.file("graph")
    }

    /// Returns the path of the cached nodes of a long Buildfile.
    pub fn nodes(&self) -> StateFile {
        self.file("nodes")
    }

    /// Returns the folder of the last success of each target, as JSON.
    pub fn metadata(&self) -> PathBuf {
        self.state.join("metadata")
    }

    /// Returns the folder of the events of each run.
    pub fn runs(&self) -> PathBuf {
        self.state.join("runs")
    }

    /// Returns the folder of the commands' private temporary folders.
    pub fn temporary(&self) -> PathBuf {
        self.state.join("tmp")
    }
}
