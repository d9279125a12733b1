//! The seam between a build and a cache that machines share. The build asks it after its
//! own store, and hands it the results that it made; protocols and policies are behind it.

use std::time::Instant;

use super::Store;
use crate::action::{ActionKey, ActionResult};
use crate::event::RemoteUsage;

/// A cache that machines share. No trouble with it fails a build.
pub trait SharedCache: Send + Sync {
    /// Returns whether results may be looked up.
    fn reads(&self) -> bool;

    /// Returns whether results are sent.
    fn writes(&self) -> bool;

    /// Returns how many results are sent at once.
    fn upload_jobs(&self) -> usize;

    /// Looks a result up and brings all its blobs into `local`. Blocks until then; the
    /// calling thread must have nothing else to do.
    fn fetch(&self, key: ActionKey, local: &dyn Store) -> Lookup;

    /// Sends a result whose blobs `local` holds. Stops, with an error, when `until` says so.
    fn push(
        &self,
        key: ActionKey,
        result: &ActionResult,
        local: &dyn Store,
        until: &Deadline,
    ) -> Result<(), String>;

    /// Returns the traffic of this process so far.
    fn usage(&self) -> RemoteUsage;
}

/// The answer to the question whether a shared cache has a result.
#[derive(Debug)]
pub enum Lookup {
    /// The result; the local store has all its blobs now.
    Found(Box<ActionResult>),
    /// There is no usable result. The text is the reason, unless there simply is none.
    Absent(Option<String>),
    /// The cache is not asked.
    Off,
}

/// A point in time that may still be unknown, shared by threads.
#[derive(Debug, Default)]
pub struct Deadline {
    at: std::sync::OnceLock<Instant>,
}

impl Deadline {
    /// Sets the deadline, unless it is set already.
    pub fn set(&self, at: Instant) {
        // Only the first value counts.
        let _ = self.at.set(at);
    }

    /// Returns true once the deadline has passed.
    pub fn is_over(&self) -> bool {
        self.at.get().is_some_and(|at| Instant::now() >= *at)
    }
}
