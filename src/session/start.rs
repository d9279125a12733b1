//! What a session starts with: the lock of an idle tree, and the snapshot of the last run.

use super::run_lock::RunLock;
use super::{Host, state};
use crate::snapshot::{self, Probing, Query, Snapshot};

/// The lock and the snapshot that a session takes over; by default, neither.
#[derive(Default)]
pub struct Start {
    pub(super) lock: Option<RunLock>,
    pub(super) snapshot: Option<Snapshot>,
    pub(super) mistakes: Mistakes,
}

/// The treatment of mistakes in the Buildfile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mistakes {
    /// They are passed on, and nothing is opened.
    #[default]
    Refused,
    /// They are a warning.
    Tolerated,
}

impl Start {
    /// Opens the session even if the Buildfile has mistakes: for commands that run no target.
    pub fn with_mistakes() -> Self {
        Self {
            mistakes: Mistakes::Tolerated,
            ..Self::default()
        }
    }

    /// Takes the lock of the tree and checks the snapshot under it. Has neither if another run
    /// holds the lock or the state folder needs attention: the session reports that.
    pub fn check(host: &Host<'_>, names: &[String], probing: Probing<'_>) -> Self {
        let layout = host.layout();
        let Some(lock) = state::try_lock_idle(host, &layout) else {
            return Self::default();
        };
        let query = Query {
            buildfile: &host.buildfile,
            layout: &layout,
            names,
            host_env: host.env,
            probing,
        };
        Self {
            lock: Some(lock),
            snapshot: snapshot::check(&query),
            mistakes: Mistakes::Refused,
        }
    }

    /// Returns how many targets are up to date, if all are.
    pub fn up_to_date(&self) -> Option<usize> {
        self.snapshot.as_ref()?.up_to_date()
    }
}
