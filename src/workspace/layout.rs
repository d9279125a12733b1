//! The folders and files that fbuild keeps beside a Buildfile. It only names them.

use std::path::{Path, PathBuf};

/// The state folder and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    state: PathBuf,
}

impl Layout {
    /// The name of the state folder, beside the Buildfile.
    pub const NAME: &'static str = ".build-cache";

    /// Returns the layout for the Buildfile in `folder`.
    pub fn new(folder: &Path) -> Self {
        Self {
            state: folder.join(Self::NAME),
        }
    }

    /// Returns the state folder itself; where blobs and results are, too, unless the
    /// Buildfile sets another one.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The lock that a run holds.
    pub fn lock(&self) -> PathBuf {
        self.state.join("run.lock")
    }

    /// What files held when they were last looked at.
    pub fn index(&self) -> PathBuf {
        self.state.join("index")
    }

    /// The last success of each target.
    pub fn successes(&self) -> PathBuf {
        self.state.join("state")
    }

    /// Returns the path of the last clean run's conditions and observations.
    pub fn snapshot(&self) -> PathBuf {
        self.state.join("snapshot")
    }

    /// The compiled Buildfile.
    pub fn graph(&self) -> PathBuf {
        self.state.join("graph")
    }

    /// The nodes of a long Buildfile, so that a change of one parses no others.
    pub fn nodes(&self) -> PathBuf {
        self.state.join("nodes")
    }

    /// The last success of each target, for people and programs.
    pub fn metadata(&self) -> PathBuf {
        self.state.join("metadata")
    }

    /// The events of each run.
    pub fn runs(&self) -> PathBuf {
        self.state.join("runs")
    }

    /// Private folders of running commands.
    pub fn temporary(&self) -> PathBuf {
        self.state.join("tmp")
    }
}
