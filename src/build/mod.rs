//! Brings targets up to date, many at once.
//!
//! [`run`] is one loop on one thread, which alone owns the plan, the memory and the sink.
//! rayon computes keys and restores outputs, which is work for processors. Commands run on
//! slots, plain threads of which there are at most `jobs`. One more thread records results
//! in batches, because that waits for the disk. All of them answer over channels.
//!
//! | file | contents |
//! |---|---|
//! | `run` | the loop, and the transitions of a target |
//! | `plan`, `tally` | the state of each target, and the counts; no I/O |
//! | `step` | one target: its key, and whether its result is known |
//! | `locked` | committed outputs that are used as they are |
//! | `runner`, `input_check` | one target: its commands, and whether inputs changed meanwhile |
//! | `audit` | the files that commands used, compared with the declaration |
//! | `test_cases` | the cases in the reports of a test |
//! | `slot`, `recorder`, `remote` | the threads |
//! | `emitter`, `spool` | events, and the output of commands |

mod audit;
mod drift;
mod emitter;
mod explain;
mod failure;
mod input_check;
mod locked;
mod outputs;
mod plan;
mod reason;
mod recorder;
mod remote;
mod run;
mod runner;
mod slot;
mod spool;
mod step;
mod tally;
mod test_cases;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tools;
mod warnings;

use std::ffi::OsString;
use std::io;

use crate::action::environment::HostEnv;
use crate::action::index::FileIndex;
use crate::cancel::Cancel;
use crate::event::{Summary, Warning};
use crate::exec::Executor;
use crate::graph::{Graph, TargetId};
use crate::journal::Memory;
use crate::journal::ownership::{IgnoreRules, Ledger};
use crate::snapshot::Snapshot;
use crate::store::Store;
use crate::store::outputs::Stage;
use crate::store::shared::SharedCache;
use crate::workspace::{Layout, Workspace};

pub use explain::{Explained, explain};
pub use run::run;
pub use test_cases::reported_cases;
pub use tools::missing_tools;

/// Everything that a build works with.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// The targets, and the folder that their paths are relative to.
    pub workspace: &'a Workspace,
    /// The folders that fbuild keeps for this run.
    pub layout: &'a Layout,
    /// The folder through which outputs move.
    pub stage: &'a Stage,
    /// The content of files.
    pub index: &'a FileIndex,
    /// The records of what fbuild made in this checkout.
    pub ledger: &'a Ledger,
    /// The files that version control ignores.
    pub ignored: &'a IgnoreRules,
    /// Where results are kept.
    pub store: &'a dyn Store,
    /// The cache that machines share, if one is configured.
    pub shared: Option<&'a dyn SharedCache>,
    /// Runs commands.
    pub executor: &'a dyn Executor,
    /// The variables of fbuild's own process.
    pub host_env: &'a HostEnv,
    /// Raised to stop the run.
    pub cancel: &'a Cancel,
}

/// A request to bring targets up to date.
pub struct Request<'a> {
    /// The names that the user typed.
    pub names: &'a [String],
    /// The targets, with everything that they need.
    pub wanted: &'a [TargetId],
    /// Those of them that run before all others, with those that they wait for.
    pub first: &'a [TargetId],
    /// How to do it.
    pub options: Options,
    /// The arguments that the user gave to a target.
    pub arguments: Option<&'a Arguments>,
    /// The observations of the last clean run, if this run may rely on them.
    pub snapshot: Option<&'a Snapshot>,
    /// Warnings from before the run, emitted at its end.
    pub warnings: Vec<Warning>,
}

/// Arguments for the commands of one target. A run with them has a key of its own, and its
/// success is not the last one of its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arguments {
    /// The target.
    pub target: TargetId,
    /// The arguments, at least one.
    pub values: Vec<OsString>,
}

/// The options of a run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many commands may run at once.
    pub jobs: usize,
    /// Whether to continue with targets that do not depend on a failed one.
    pub keep_going: bool,
    /// Whether output is emitted while it is printed, not when its target is finished.
    pub stream: bool,
    /// What else to do or to omit.
    pub policy: Policy,
}

/// Deviations from the usual run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Run the commands of every target even if its result is known.
    pub force: bool,
    /// Run the commands of every test even if its result is known.
    pub rerun_tests: bool,
    /// Look nothing up in the store and keep nothing in it.
    pub no_cache: bool,
    /// Change nothing; only report what a run would do.
    pub dry_run: bool,
    /// Change no committed output; fail if one differs from what its target makes.
    pub drift: bool,
    /// Move files that fbuild did not make out of the way, to the trash.
    pub replace: bool,
    /// Start no program, not even the probe of a tool whose version is unknown.
    pub no_probes: bool,
    /// Trace the commands of every target, and report undeclared files and programs.
    pub trace: bool,
}

/// A run that ended.
#[derive(Debug)]
pub struct Finished {
    /// Its numbers, as in its last event.
    pub summary: Summary,
    /// The targets that took part, except those whose committed outputs were used as they are.
    pub built: Vec<TargetId>,
    /// The error that kept its index, memory or compiled Buildfile from being saved.
    pub unsaved: Option<io::Error>,
}

impl Policy {
    fn probing(self) -> tools::Probing {
        if self.no_probes {
            tools::Probing::Forbidden
        } else {
            tools::Probing::Allowed
        }
    }
}

impl<'a> Parts<'a> {
    /// Saves the index, the memory and the compiled Buildfile for the next run.
    pub fn save(&self, memory: &mut Memory) -> io::Result<()> {
        // Each is of use without the others.
        let results = [
            self.index.save(&self.layout.index()),
            memory.save(&self.layout.successes()),
            self.workspace.keep_compiled(self.layout),
        ];
        results.into_iter().collect()
    }

    fn graph(&self) -> &'a Graph {
        &self.workspace.graph
    }
}
