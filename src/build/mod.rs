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
pub mod standstill;
mod step;
mod tally;

mod tools;

use crate::action::environment::HostEnv;
use crate::action::index::FileIndex;
use crate::cancel::Cancel;
use crate::digest::Digest;
use crate::event::{Failure, What};
use crate::exec::Executor;
use crate::graph::Graph;
use crate::journal::Memory;
use crate::path::{RelPath, Root};
use crate::store::outputs::Stage;
use crate::store::{self, Store};
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
    /// What is known before it is looked at; only for a run that leaves nothing out.
    pub known: Option<&'a standstill::Known>,
    /// Raised when the run is to stop.
    pub cancel: &'a Cancel,
    /// What the store has to say at the end of a run.
    pub notices: &'a (dyn Fn() -> Vec<store::Warning> + Sync),
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

/// Something that does not fail a build but must not be silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    code: String,
    message: String,
}

impl Warning {
    fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
        }
    }

    fn of<E: std::error::Error + miette::Diagnostic>(error: &E) -> Self {
        let code = error
            .code()
            .map_or_else(String::new, |code| code.to_string());
        Self::new(&code, failure::chain(error))
    }

    fn input_changed(path: &str) -> Self {
        let message = format!("`{path}` changed while the commands ran; the result is not stored");
        Self::new("fbuild::build::input_changed", message)
    }

    fn input_written(path: &RelPath) -> Self {
        let message = format!(
            "`{path}` was written to while the commands ran, and holds again what it held; \
             the commands may have seen something else, and the result is not stored"
        );
        Self::new("fbuild::build::input_changed", message)
    }

    fn input_hidden(path: &RelPath) -> Self {
        let message = format!(
            "`{path}` was written just before the commands ran, on a file system that counts \
             whole seconds; a change meanwhile would not show, and the result is not stored"
        );
        Self::new("fbuild::build::input_changed", message)
    }

    fn evicted(path: &RelPath, digest: Digest) -> Self {
        let digest = digest.short();
        let message =
            format!("`{path}` (content {digest}) is not in the cache any more; it is made again");
        Self::new("fbuild::build::evicted", message)
    }

    fn output_lost(error: &std::io::Error) -> Self {
        let message = format!("cannot keep all of what was printed: {error}");
        Self::new("fbuild::build::output_lost", message)
    }

    fn retried(attempt: u32, failure: &Failure) -> Self {
        let message = format!(
            "attempt {attempt} failed and another follows: {}",
            failure.message
        );
        Self::new("fbuild::build::retried", message)
    }

    fn into_event(self, target: Option<String>) -> What {
        What::Warning {
            code: self.code,
            message: self.message,
            target,
        }
    }

    fn left_behind(processes: usize) -> Self {
        let message = match processes {
            1 => "1 process was left running, and was stopped".to_owned(),
            n => format!("{n} processes were left running, and were stopped"),
        };
        Self::new("fbuild::exec::left_behind", message)
    }
}

impl From<store::Warning> for Warning {
    fn from(warning: store::Warning) -> Self {
        Self::new(warning.code, warning.message)
    }
}
