//! Makes a result: runs the commands, checks that the inputs stood still meanwhile, and
//! takes the outputs into the store. It knows one target at a time, on its own thread.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use super::spool::Spool;
use super::step::Step;
use super::{failure, warnings};
use crate::action::index::{FileIndex, HashedFile};
use crate::action::manifest::Manifest;
use crate::action::{Action, ActionKey, ActionResult};
use crate::digest::Digest;
use crate::event::{Failure, Reason, Warning};
use crate::exec::{self, End, Execution, Task};
use crate::graph::TargetId;
use crate::journal::Success;
use crate::path::RelPath;
use crate::stamp::Stamp;
use crate::store::outputs;
use crate::store::{self, Store};

/// How many of the last lines printed go with a failure.
const TAIL_LINES: usize = 20;

/// An action with its manifest and its key.
pub(super) struct Draft {
    pub(super) action: Action,
    pub(super) manifest: Manifest,
    pub(super) key: ActionKey,
}

/// A target whose commands have to run, and why.
pub(super) struct Miss {
    pub(super) id: TargetId,
    pub(super) draft: Draft,
    pub(super) reason: Reason,
}

/// What came of running a target's commands.
pub(super) enum Made {
    /// A result; `is_sound` unless an input changed while the commands ran.
    Built {
        /// The result under its key.
        success: Arc<Success>,
        /// Whether the result belongs to the key.
        is_sound: bool,
        /// Whether all of it is in the store.
        is_stored: bool,
    },
    /// No result.
    Failed(Box<Failure>),
    /// The run was stopped.
    Cancelled,
}

/// Who is told what happens while commands run.
pub(super) trait Listener {
    /// They printed something.
    fn printed(&mut self, bytes: &[u8]);
    /// An attempt failed and another follows.
    fn retried(&mut self, attempt: u32, failure: Failure, spool: Spool);
    /// Something that does not fail the target must not be silent.
    fn warned(&mut self, warning: Warning);
}

impl Draft {
    /// Writes an action down.
    pub(super) fn new(action: Action) -> Self {
        let manifest = Manifest::of(&action);
        Self {
            key: manifest.key(),
            manifest,
            action,
        }
    }
}

impl Step<'_> {
    /// Runs the commands of a target until an attempt succeeds or none is left. Returns what
    /// came of it, and what the last attempt printed.
    pub(super) fn make(&self, miss: &Miss, listener: &mut dyn Listener) -> (Made, Spool) {
        let target = self.parts.graph.target(miss.id);
        for attempt in 1.. {
            let mut spool = Spool::default();
            match self.attempt(miss, &mut spool, listener) {
                Err(failure) if attempt <= target.retries && !self.parts.cancel.is_raised() => {
                    listener.retried(attempt, failure, spool);
                }
                Err(failure) => return (Made::Failed(Box::new(failure)), spool),
                Ok(made) => return (made, spool),
            }
        }
        unreachable!("bug: the attempts have no end");
    }

    /// Runs the commands once. The old outputs are stashed before, and restored unless
    /// there are new ones: a failed attempt leaves the tree as it was.
    fn attempt(
        &self,
        miss: &Miss,
        spool: &mut Spool,
        listener: &mut dyn Listener,
    ) -> Result<Made, Failure> {
        let target = self.parts.graph.target(miss.id);
        let outputs = &miss.draft.action.outputs;
        let before = match self.only_compares(target) {
            true => Some(self.found(outputs).map_err(of_error)?),
            false => None,
        };
        let stash = outputs::Stash::take(self.parts.stage, outputs).map_err(of_error)?;
        let marks = self.mark(miss)?;
        let executed = self.execute(miss, spool, listener);
        self.parts.index.begin_epoch();
        let made = match executed {
            Ok(Some(execution)) => {
                let disturbed = self.disturbed(miss, &marks);
                disturbed.and_then(|disturbed| {
                    let is_sound = disturbed.is_none();
                    disturbed
                        .into_iter()
                        .for_each(|warning| listener.warned(warning));
                    self.take_in(miss, (&execution, is_sound), spool)
                })
            }
            Ok(None) => Ok(Made::Cancelled),
            Err(failure) => Err(failure),
        };
        let tidied = match (&made, &before) {
            (Ok(Made::Built { .. }), None) => stash.finish().map(drop),
            _ => stash.restore(),
        };
        if let Err(error) = tidied {
            listener.warned(Warning::of(&error));
        }
        self.parts.index.begin_epoch();
        if let (Ok(Made::Built { success, .. }), Some(before)) = (&made, &before) {
            self.compare(target, &success.result.outputs, before)?;
        }
        made
    }

    /// Runs the commands; `None` if they were stopped because the run was.
    fn execute(
        &self,
        miss: &Miss,
        spool: &mut Spool,
        listener: &mut dyn Listener,
    ) -> Result<Option<Execution>, Failure> {
        let task = self.task(miss);
        let mut spooled = Ok(());
        let mut output = |bytes: &[u8]| {
            listener.printed(bytes);
            spooled = std::mem::replace(&mut spooled, Ok(())).and_then(|()| spool.push(bytes));
        };
        let executor = self.parts.executor;
        let execution = executor.execute(&task, &mut output, self.parts.cancel);
        if let Err(error) = spooled {
            listener.warned(warnings::output_lost(&error));
        }
        let execution = execution.map_err(|error| self.with_repeat(of_error(error), miss, 0))?;
        if execution.left_behind > 0 {
            listener.warned(warnings::left_behind(execution.left_behind));
        }
        match execution.end {
            End::Cancelled => Ok(None),
            end if end.is_success() => Ok(Some(execution)),
            end => {
                let mut failure = failure::of_end(end, &task, execution.command);
                failure.tail = spool.tail(TAIL_LINES);
                Err(self.with_repeat(failure, miss, execution.command))
            }
        }
    }

    fn task<'m>(&'m self, miss: &'m Miss) -> Task<'m> {
        let target = self.parts.graph.target(miss.id);
        Task {
            name: &target.name.value,
            action: &miss.draft.action,
            timeout: target.timeout,
            interactive: target.interactive,
        }
    }

    /// Adds the line that repeats a command by hand.
    fn with_repeat(&self, mut failure: Failure, miss: &Miss, command: usize) -> Failure {
        let command = miss.draft.action.commands.get(command);
        failure.repeat =
            command.map(|command| exec::command_line(self.parts.root, &self.task(miss), command));
        failure
    }

    /// Takes the outputs, the log and the manifest into the store, if the result `is_sound`.
    fn take_in(
        &self,
        miss: &Miss,
        (execution, is_sound): (&Execution, bool),
        spool: &Spool,
    ) -> Result<Made, Failure> {
        let target = self.parts.graph.target(miss.id);
        let off = store::Off;
        let store: &dyn Store = match is_sound && target.cache {
            true => self.parts.store,
            false => &off,
        };
        let outputs = &miss.draft.action.outputs;
        let captured = outputs::capture(self.parts.stage, outputs, store).map_err(of_error)?;
        if !self.only_compares(target) {
            learn(self.parts.index, captured.stamps, captured.looked_at);
        }
        let mut keep = Keep {
            store,
            is_whole: captured.is_stored,
        };
        let log = match spool.is_empty() {
            true => None,
            false => spool.open().ok().and_then(|mut log| keep.blob(&mut log)),
        };
        let manifest = miss.draft.manifest.text();
        let manifest = keep.blob(&mut manifest.as_bytes());
        let result = ActionResult {
            outputs: captured.entries,
            log,
            manifest: manifest.unwrap_or(miss.draft.key.0),
            duration_ms: millis(execution.duration),
        };
        let key = miss.draft.key;
        Ok(Made::Built {
            success: Arc::new(Success { key, result }),
            is_sound,
            is_stored: keep.is_whole && is_sound && target.cache,
        })
    }
}

/// Puts blobs into a store. What it cannot keep, the store says itself.
struct Keep<'a> {
    store: &'a dyn Store,
    is_whole: bool,
}

impl Keep<'_> {
    /// Returns the digest of a blob, stored or not; `None` if it could not be read.
    fn blob(&mut self, bytes: &mut dyn Read) -> Option<Digest> {
        let error = match self.store.write(bytes) {
            Ok(digest) => return Some(digest),
            Err(error) => error,
        };
        self.is_whole = false;
        match error {
            store::Error::NotStored { digest, .. } => Some(digest),
            _ => None,
        }
    }
}

/// Has the index remember files that were just written or read.
pub(super) fn learn(index: &FileIndex, stamps: Vec<(RelPath, Stamp, Digest)>, looked_at: i64) {
    for (path, stamp, digest) in stamps {
        index.insert(HashedFile {
            path,
            stamp,
            read_at: looked_at,
            digest,
        });
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn of_error<E: std::error::Error + miette::Diagnostic>(error: E) -> Failure {
    Failure::of(&error)
}
