//! Brings targets up to date, many at once: the one loop that drives plan, steps and
//! store and tells what happens.
//!
//! [`run`] loops on one thread, which alone owns the plan, the memory and the audience.
//! rayon finds out keys and restores outputs (work for processors); commands run on slots,
//! plain threads of which there are as many as jobs; one more thread records results, many
//! at a time, because that waits for the disk. All of them answer over channels.

mod drift;
mod drive;
mod emitter;
mod explain;
mod failure;
mod input_check;
mod make;
mod plan;
mod ready;
mod reason;
mod recorder;
mod settle;
mod slot;
mod spool;
mod step;
mod tally;
mod tools;
mod warnings;

use crate::action::environment::HostEnv;
use crate::action::index::FileIndex;
use crate::cancel::Cancel;
use crate::event::Warning;
use crate::exec::Executor;
use crate::graph::Graph;
use crate::journal::Memory;
use crate::path::Root;
use crate::snapshot::Snapshot;
use crate::store::Store;
use crate::store::outputs::Stage;
use crate::workspace::Layout;

pub use drive::run;
pub use explain::{Explained, explain};
pub use step::Policy;

/// What a build works with.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// The targets.
    pub graph: &'a Graph,
    /// The folder that their paths are below.
    pub root: &'a Root,
    /// The folders that fbuild keeps.
    pub layout: &'a Layout,
    /// The folder through which outputs move.
    pub stage: &'a Stage,
    /// What files hold.
    pub index: &'a FileIndex,
    /// Where results live.
    pub store: &'a dyn Store,
    /// Who runs commands.
    pub executor: &'a dyn Executor,
    /// The variables around fbuild.
    pub host_env: &'a HostEnv,
    /// The snapshot of the last run; `None` with `--force`, `--no-cache` or `--dry-run`.
    pub snapshot: Option<&'a Snapshot>,
    /// Raised when the run is to stop.
    pub cancel: &'a Cancel,
    /// What the store has to say at the end of a run.
    pub notices: &'a (dyn Fn() -> Vec<Warning> + Sync),
    /// Called once all targets of a run are settled, while what they made is recorded, which
    /// waits for the disk.
    pub meanwhile: &'a (dyn Fn(&mut Memory) + Sync),
}

/// How a build is to go about it.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many commands may run at once.
    pub jobs: usize,
    /// Whether to go on with what does not depend on a failed target.
    pub keep_going: bool,
    /// Whether output is told as it is printed, not when its target is settled.
    pub stream: bool,
    /// What else the run is to do or not to do.
    pub policy: Policy,
}
