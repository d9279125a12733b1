//! Runs the commands of one target: stashes its old outputs, executes, checks that the
//! inputs did not change meanwhile, and captures the new outputs into the store.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use super::audit::{self, Declared};
use super::input_check::InputCheck;
use super::spool::Spool;
use super::step::{Draft, Step, learn};
use super::{drift, failure, test_cases, warnings};
use crate::action::{ActionResult, Entry};
use crate::buildfile::model::{Target, TraceMode};
use crate::digest::Digest;
use crate::event::{Failure, Finding, Reason, Warning};
use crate::exec::{self, End, Execution, Task, Tracing};
use crate::graph::TargetId;
use crate::journal::Success;
use crate::store::outputs::{Stash, trashed};
use crate::store::{self, Store};

/// How many of the last lines printed a failure quotes.
const TAIL_LINES: usize = 20;

/// A target whose commands must run, and why.
pub(super) struct Miss {
    pub(super) id: TargetId,
    pub(super) draft: Draft,
    pub(super) reason: Reason,
    /// The target's last success.
    pub(super) last: Option<Arc<Success>>,
    /// Whether the shared cache was asked for its result.
    pub(super) was_looked_up: bool,
}

/// The result of the last attempt at a target's commands.
pub(super) enum Attempt {
    /// They succeeded.
    Built {
        /// The result under its key.
        success: Arc<Success>,
        /// Whether the result belongs to the key: no input changed while they ran.
        is_sound: bool,
        /// Whether all of the result is in the store.
        is_stored: bool,
    },
    /// They failed, or made something else than the declared outputs.
    Failed(Box<Failure>),
    /// They were stopped because the run was.
    Cancelled,
}

/// Receives what happens while commands run.
pub(super) trait Listener {
    /// Receives the next piece of their output.
    fn on_output(&mut self, bytes: &[u8]);
    /// Receives the failure of an attempt after which another one follows.
    fn on_retry(&mut self, attempt: u32, failure: Failure, spool: Spool);
    /// Receives a problem that does not fail the target.
    fn on_warning(&mut self, warning: Warning);
    /// Receives the undeclared accesses of the commands.
    fn on_findings(&mut self, findings: Vec<Finding>);
}

/// The old outputs of a target whose commands are about to run.
struct Stashed {
    stash: Stash,
    /// The committed outputs that were in the tree.
    committed: Vec<Entry>,
    /// Whether the run compares the outputs instead of replacing them.
    only_compares: bool,
}

/// Runs the commands of one target.
pub(super) struct Runner<'a> {
    step: &'a Step<'a>,
    miss: &'a Miss,
    target: &'a Target,
    listener: &'a mut dyn Listener,
}

impl<'a> Runner<'a> {
    /// Returns a runner that reports to `listener`.
    pub(super) fn new(step: &'a Step<'a>, miss: &'a Miss, listener: &'a mut dyn Listener) -> Self {
        Self {
            step,
            miss,
            target: step.parts.graph().target(miss.id),
            listener,
        }
    }

    /// Makes attempts until one succeeds or none is left. Returns the last one with its
    /// output.
    pub(super) fn run(&mut self) -> (Attempt, Spool) {
        if let Some(warning) = warnings::links_out(&self.miss.draft.outside) {
            self.listener.on_warning(warning);
        }
        let mut number = 1;
        loop {
            let mut spool = Spool::default();
            let is_stopped = || self.step.parts.cancel.is_raised();
            let stash = match self.stash() {
                Ok(stash) => stash,
                // Another attempt would find the same files.
                Err(failure) => return (Attempt::Failed(Box::new(failure)), spool),
            };
            match self.attempt(stash, &mut spool) {
                Ok(attempt) => return (attempt, spool),
                Err(failure) if number <= self.target.retries && !is_stopped() => {
                    self.listener.on_retry(number, failure, spool);
                }
                Err(failure) => return (Attempt::Failed(Box::new(failure)), spool),
            }
            number += 1;
        }
    }

    /// Moves the old outputs out of the way of the commands.
    fn stash(&self) -> Result<Stashed, Failure> {
        let parts = self.step.parts;
        let specs = &self.miss.draft.action.outputs;
        let only_compares = drift::only_compares(self.step.policy, self.target);
        let committed = drift::committed(parts.index, self.target)?;
        let last = self.miss.last.as_deref();
        let claims = self.step.ownership().of(&self.target.name.value, last);
        if !only_compares {
            // From here on, a kill leaves half-made outputs.
            parts.ledger.begin(parts.index.now());
        }
        let stash = Stash::take(parts.stage, specs, &claims)
            .map_err(|error| failure::of_outputs(&error, self.target))?;
        Ok(Stashed {
            stash,
            committed,
            only_compares,
        })
    }

    /// Runs the commands once. Unless they succeed, the tree is left as it was.
    fn attempt(&mut self, stashed: Stashed, spool: &mut Spool) -> Result<Attempt, Failure> {
        let parts = self.step.parts;
        let Stashed {
            stash,
            committed,
            only_compares,
        } = stashed;
        let check = InputCheck::begin(parts, self.miss.id, &self.miss.draft.action)?;
        let executed = self.execute(spool);
        parts.index.begin_epoch();
        // The reports of a failed test disappear with its other outputs.
        let executed = match self.target.test {
            Some(_) => test_cases::check(parts, self.target, executed),
            None => executed,
        };
        let attempt = match executed {
            Ok(Some(execution)) => match self.audit(&execution) {
                Ok(()) => self.capture(&execution, &check, spool),
                // Another attempt would use the same files.
                Err(failure) => Ok(Attempt::Failed(Box::new(failure))),
            },
            Ok(None) => Ok(Attempt::Cancelled),
            Err(failure) => Err(failure),
        };
        match &attempt {
            Ok(Attempt::Built { success, .. }) if !only_compares => {
                self.keep_new(stash, &success.result.outputs);
            }
            // Compared outputs come back whatever the commands made.
            _ => self.restore_old(stash),
        }
        parts.index.begin_epoch();
        if let Ok(Attempt::Built { success, .. }) = &attempt {
            let made = &success.result.outputs;
            if only_compares {
                drift::check(parts.index, self.target, made, &committed)?;
            } else if let Some(warning) = drift::changes(self.target, made, &committed) {
                self.listener.on_warning(warning);
            }
        }
        attempt
    }

    /// Keeps the outputs that the commands made.
    fn keep_new(&mut self, stash: Stash, outputs: &[Entry]) {
        match stash.finish() {
            Ok(finished) => {
                if let Some(warning) = trashed(&finished.trashed) {
                    self.listener.on_warning(warning);
                }
            }
            Err(error) => self.listener.on_warning(Warning::of(&error)),
        }
        let ledger = self.step.parts.ledger;
        ledger.succeed(&self.target.name.value, outputs);
    }

    /// Restores the old outputs. Unless that succeeds, the run leaves them half-made.
    fn restore_old(&mut self, stash: Stash) {
        if let Err(error) = stash.restore() {
            self.step.parts.ledger.unsettle();
            self.listener.on_warning(Warning::of(&error));
        }
    }

    /// Executes the commands; `None` if they were stopped because the run was.
    fn execute(&mut self, spool: &mut Spool) -> Result<Option<Execution>, Failure> {
        let parts = self.step.parts;
        let task = self.task();
        let mut spooled = Ok(());
        let mut output = |bytes: &[u8]| {
            self.listener.on_output(bytes);
            // After an error, the rest would be output with a hole in it.
            if spooled.is_ok() {
                spooled = spool.push(bytes);
            }
        };
        let execution = parts.executor.execute(&task, &mut output, parts.cancel);
        if let Err(error) = spooled {
            self.listener.on_warning(warnings::output_lost(&error));
        }
        let execution = execution.map_err(|error| self.with_repeat(Failure::of(&error), 0))?;
        if execution.left_behind > 0 {
            let warning = warnings::left_behind(execution.left_behind);
            self.listener.on_warning(warning);
        }
        match execution.end {
            End::Cancelled => Ok(None),
            // The terminal sends Ctrl-C only to the command that it was passed to.
            end if self.target.interactive && end.is_interrupt() => {
                parts.cancel.raise();
                Ok(None)
            }
            end if end.is_success() => Ok(Some(execution)),
            end => {
                let mut failure = failure::of_end(end, &task, execution.command);
                failure.tail = spool.tail(TAIL_LINES);
                Err(self.with_repeat(failure, execution.command))
            }
        }
    }

    fn task(&self) -> Task<'a> {
        Task {
            name: &self.target.name.value,
            action: &self.miss.draft.action,
            timeout: self.target.timeout,
            interactive: self.target.interactive,
            tracing: match self.trace_mode() {
                TraceMode::Off => Tracing::Off,
                TraceMode::Warn => Tracing::Preferred,
                TraceMode::Deny => Tracing::Required,
            },
        }
    }

    /// Returns the use of traces for this target.
    fn trace_mode(&self) -> TraceMode {
        let project = self.step.parts.graph().buildfile().project.as_ref();
        let inherited = || project.and_then(|project| project.trace);
        let declared = self.target.trace.or_else(inherited).unwrap_or_default();
        if self.step.policy.trace {
            declared.max(TraceMode::Warn)
        } else {
            declared
        }
    }

    /// Compares the trace of the commands, if there is one, with the declaration. Returns an
    /// error if that fails the target.
    fn audit(&mut self, execution: &Execution) -> Result<(), Failure> {
        let trace = match &execution.trace {
            None => return Ok(()),
            Some(Ok(trace)) => trace,
            Some(Err(refusal)) => {
                self.listener.on_warning(warnings::not_traced(*refusal));
                return Ok(());
            }
        };
        let parts = self.step.parts;
        let declared = Declared {
            graph: parts.graph(),
            id: self.miss.id,
            action: &self.miss.draft.action,
            root: &parts.workspace.root,
            is_hidden: &|path| parts.index.hides(path),
        };
        let findings = audit::findings(declared, trace);
        let is_denied = self.trace_mode() == TraceMode::Deny;
        if let Some(warning) = warnings::trace_gaps(&trace.gaps) {
            if is_denied {
                return Err(audit::incomplete(warning));
            }
            self.listener.on_warning(warning);
        }
        if is_denied && !findings.is_empty() {
            return Err(audit::denied(findings));
        }
        if !findings.is_empty() {
            self.listener.on_findings(findings);
        }
        Ok(())
    }

    /// Adds the line with which a user can repeat the command.
    fn with_repeat(&self, mut failure: Failure, command: usize) -> Failure {
        let command = self.miss.draft.action.commands.get(command);
        let root = &self.step.parts.workspace.root;
        failure.repeat = command.map(|command| exec::command_line(root, &self.task(), command));
        failure
    }

    /// Captures outputs, log and manifest into the store, unless the result does not belong
    /// to the key or is not to be cached.
    fn capture(
        &mut self,
        execution: &Execution,
        check: &InputCheck<'_>,
        spool: &Spool,
    ) -> Result<Attempt, Failure> {
        let parts = self.step.parts;
        let Draft {
            action,
            manifest,
            key,
            ..
        } = &self.miss.draft;
        let warning = check.finish()?;
        let is_sound = warning.is_none();
        if let Some(warning) = warning {
            self.listener.on_warning(warning);
        }
        let is_kept = is_sound && self.target.cache;
        let store = if is_kept { parts.store } else { &store::Off };
        let captured = store::outputs::capture(parts.stage, &action.outputs, store);
        let captured = captured.map_err(|error| Failure::of(&error))?;
        if let Some(path) = captured.git.filter(|_| self.target.cache) {
            // The result would be restored without it.
            return Err(Failure::of(&store::outputs::Error::Git { path }));
        }
        if !drift::only_compares(self.step.policy, self.target) {
            learn(parts.index, captured.stamps, captured.looked_at);
        }
        let mut writer = BlobWriter {
            store,
            is_whole: captured.is_stored,
        };
        let log = if spool.is_empty() {
            None
        } else {
            spool.open().ok().and_then(|mut log| writer.write(&mut log))
        };
        let manifest = writer.write(&mut manifest.text().as_bytes());
        let result = ActionResult {
            outputs: captured.entries,
            log,
            manifest: manifest.unwrap_or(key.0),
            duration_ms: millis(execution.duration),
        };
        Ok(Attempt::Built {
            success: Arc::new(Success { key: *key, result }),
            is_sound,
            is_stored: writer.is_whole && is_kept,
        })
    }
}

/// Writes blobs into a store, which reports its own errors.
struct BlobWriter<'a> {
    store: &'a dyn Store,
    /// Whether everything that belongs to the result is in the store.
    is_whole: bool,
}

impl BlobWriter<'_> {
    /// Returns the digest of a blob, stored or not; `None` if it could not be read.
    fn write(&mut self, bytes: &mut dyn Read) -> Option<Digest> {
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

/// Returns a duration in whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
