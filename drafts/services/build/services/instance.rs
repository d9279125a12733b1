//! One instance of a service: its process, its log, and whether it is ready.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

use super::places::Places;
use super::{Parts, bare_action, raise_to};
use crate::action::{Action, ResolvedCommand};
use crate::buildfile::model::{Check, Service, Target};
use crate::cancel::{Cancel, Urgency};
use crate::event::Failure;
use crate::exec::{self, End, Execution, ReservedPort, ServiceTask, Task};
use crate::graph::{Graph, TargetId};

/// The most bytes of a log that are kept.
const MOST_LOG: usize = 64 << 10;
/// The time between two checks whether an instance is ready.
const INTERVAL: Duration = Duration::from_millis(25);
/// The longest time for one check.
const MOST_CHECK: Duration = Duration::from_secs(2);

/// One instance of a service, before, while and after it runs.
pub(in crate::build) struct Instance<'a> {
    pub(super) id: TargetId,
    pub(super) target: &'a Target,
    pub(super) service: &'a Service,
    /// Its name in messages.
    pub(in crate::build) name: String,
    /// Its number among those of the service, from 1.
    pub(super) number: u32,
    pub(super) ports: Vec<(String, ReservedPort)>,
    /// Raised to stop it.
    stop: Cancel,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_started: bool,
    is_stopping: bool,
    /// The end of its commands, or the error of running them.
    ended: Option<Result<Execution, String>>,
    log: VecDeque<u8>,
    /// The end of the output that was searched for the line that shows readiness.
    searched: Vec<u8>,
    has_line: bool,
}

/// The result of starting services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::build) enum Start {
    /// They are ready.
    Ready,
    /// The run was cancelled meanwhile.
    Cancelled,
}

/// Why an instance is not ready.
pub(super) enum NotReady {
    /// Its commands ended.
    Ended,
    /// Its deadline passed.
    Late {
        /// The time that it had.
        after: Duration,
        /// The result of the last check.
        last: String,
    },
}

/// Returns instances of all services that targets use, directly or not, each after those that
/// it uses. Their ports are reserved.
pub(in crate::build) fn all<'a>(
    parts: &Parts<'a>,
    users: &[TargetId],
) -> Result<Vec<Instance<'a>>, Failure> {
    let graph = parts.graph();
    let mut counts: Vec<(TargetId, u32)> = Vec::new();
    let mut pending: Vec<TargetId> = users.to_vec();
    while let Some(user) = pending.pop() {
        for with in &graph.target(user).with {
            let Some(id) = service(graph, &with.service.value) else {
                continue;
            };
            match counts.iter_mut().find(|(known, _)| *known == id) {
                Some((_, count)) => *count = (*count).max(with.count),
                None => {
                    counts.push((id, with.count));
                    pending.push(id);
                }
            }
        }
    }
    let position = |id: &TargetId| graph.order().iter().position(|other| other == id);
    counts.sort_by_key(|(id, _)| position(id));
    let mut instances = Vec::new();
    for (id, count) in counts {
        for number in 1..=count {
            instances.extend(Instance::new(parts, id, number, count)?);
        }
    }
    Ok(instances)
}

/// Returns the service with a name.
pub(super) fn service(graph: &Graph, name: &str) -> Option<TargetId> {
    match graph.find(name)? {
        crate::graph::Named::Target(id) if graph.target(id).service.is_some() => Some(id),
        _ => None,
    }
}

impl<'a> Instance<'a> {
    /// Returns an instance that is not started; `None` if the target is no service.
    pub(super) fn new(
        parts: &Parts<'a>,
        id: TargetId,
        number: u32,
        count: u32,
    ) -> Result<Option<Self>, Failure> {
        let target = parts.graph().target(id);
        let Some(service) = &target.service else {
            return Ok(None);
        };
        let mut ports = Vec::new();
        for name in &service.ports {
            let port = parts.executor.reserve_port();
            let port = port.map_err(|error| Failure::of(&error))?;
            ports.push((name.value.clone(), port));
        }
        let name = &target.name.value;
        Ok(Some(Self {
            id,
            target,
            service,
            name: if count == 1 {
                name.clone()
            } else {
                format!("{name} {number}")
            },
            number,
            ports,
            stop: Cancel::new(),
            state: Mutex::default(),
            changed: Condvar::new(),
        }))
    }

    /// Starts its commands on a thread of their own.
    pub(super) fn start<'scope, 'env>(
        &'env self,
        parts: &'env Parts<'env>,
        instances: &[Instance<'_>],
        threads: &'scope Scope<'scope, 'env>,
    ) {
        let places = Places::of_users(instances, self.target).and_own(self);
        self.lock().is_started = true;
        threads.spawn(move || {
            let action = |folder: &std::path::Path| {
                let places = places.clone().and_folder(folder);
                let mut action = bare_action(parts, self.target);
                places.apply(&mut action);
                action
            };
            let task = ServiceTask {
                name: &self.target.name.value,
                action: &action,
                stop: exec::Stop {
                    signal: self.service.stop.signal,
                    grace: self.service.stop.grace,
                },
            };
            let mut output = |bytes: &[u8]| self.add_output(bytes);
            let ended = parts.executor.serve(&task, &mut output, &self.stop);
            self.lock().ended = Some(ended.map_err(|error| crate::event::error_chain(&error)));
            self.changed.notify_all();
        });
    }

    /// Waits until it is ready, its commands end, its deadline passes or the run is cancelled.
    pub(super) fn wait_until_ready(&self, parts: &Parts<'_>) -> Result<Start, NotReady> {
        let Some(ready) = &self.service.ready else {
            return Ok(Start::Ready);
        };
        let began = Instant::now();
        loop {
            if parts.cancel.is_raised() {
                return Ok(Start::Cancelled);
            }
            if self.lock().ended.is_some() {
                return Err(NotReady::Ended);
            }
            let left = ready.timeout.saturating_sub(began.elapsed());
            let limit = left.clamp(Duration::from_millis(1), MOST_CHECK);
            let last = match self.check(parts, &ready.check, limit) {
                // Another program may have answered while this one ended.
                Ok(()) if self.lock().ended.is_none() => return Ok(Start::Ready),
                Ok(()) => return Err(NotReady::Ended),
                Err(problem) => problem,
            };
            if began.elapsed() >= ready.timeout {
                return Err(NotReady::Late {
                    after: ready.timeout,
                    last,
                });
            }
            let state = self.lock();
            if state.ended.is_none() {
                // The result does not matter: the loop checks everything again.
                drop(self.changed.wait_timeout(state, INTERVAL));
            }
        }
    }

    /// Checks once whether it is ready; the error says why not.
    fn check(&self, parts: &Parts<'_>, check: &Check, limit: Duration) -> Result<(), String> {
        let places = Places::default().and_own(self);
        match check {
            Check::Http(url) => {
                let url = places.fill(url);
                exec::check_http(&url, limit).map_err(|problem| format!("{url}: {problem}"))
            }
            Check::Tcp(address) => exec::check_tcp(&places.fill(address), limit),
            Check::Line(line) if self.lock().has_line => {
                let _ = line;
                Ok(())
            }
            Check::Line(line) => Err(format!("it has not printed `{line}`")),
            Check::Run(script) => self.check_by_script(parts, script, &places, limit),
        }
    }

    fn check_by_script(
        &self,
        parts: &Parts<'_>,
        script: &str,
        places: &Places,
        limit: Duration,
    ) -> Result<(), String> {
        let mut action = Action {
            commands: vec![ResolvedCommand::Sh(script.to_owned())],
            ..bare_action(parts, self.target)
        };
        places.apply(&mut action);
        let task = Task {
            name: &self.target.name.value,
            action: &action,
            timeout: Some(limit),
            interactive: false,
        };
        let mut printed = Vec::new();
        let mut output = |bytes: &[u8]| printed.extend_from_slice(bytes);
        let executed = parts.executor.execute(&task, &mut output, parts.cancel);
        match executed.map_err(|error| error.to_string())?.end {
            end if end.is_success() => Ok(()),
            end => {
                let text = String::from_utf8_lossy(&printed);
                let last = text.lines().last().unwrap_or("").trim().to_owned();
                Err(format!("`ready run=` {}: {last}", in_words(end)))
            }
        }
    }

    fn add_output(&self, bytes: &[u8]) {
        let mut state = self.lock();
        state.log.extend(bytes);
        let excess = state.log.len().saturating_sub(MOST_LOG);
        state.log.drain(..excess);
        if let Some(Check::Line(line)) = self.service.ready.as_ref().map(|ready| &ready.check)
            && !state.has_line
        {
            state.searched.extend_from_slice(bytes);
            let line = line.as_bytes();
            let mut windows = state.searched.windows(line.len().max(1));
            if windows.any(|window| window == line) {
                state.has_line = true;
                state.searched.clear();
                self.changed.notify_all();
            } else {
                let excess = state.searched.len().saturating_sub(line.len());
                state.searched.drain(..excess);
            }
        }
    }

    /// Asks it to stop.
    pub(super) fn begin_stop(&self) {
        self.cancel(Urgency::Stop);
    }

    /// Asks it to stop with this urgency.
    pub(super) fn cancel(&self, urgency: Urgency) {
        self.lock().is_stopping = true;
        raise_to(&self.stop, urgency);
    }

    /// Waits until its last process has ended.
    pub(super) fn wait_for_end(&self) {
        let mut state = self.lock();
        while state.is_started && state.ended.is_none() {
            let woken = self.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns true if it ended although it was not asked to.
    pub(super) fn has_died(&self) -> bool {
        let state = self.lock();
        state.ended.is_some() && !state.is_stopping
    }

    /// Describes how it ended.
    pub(super) fn end_in_words(&self) -> String {
        match &self.lock().ended {
            Some(Ok(execution)) => in_words(execution.end),
            Some(Err(problem)) => problem.clone(),
            None => "it did not end".to_owned(),
        }
    }

    /// Returns how many of its processes had to be killed.
    pub(super) fn left_behind(&self) -> usize {
        match &self.lock().ended {
            Some(Ok(execution)) => execution.left_behind,
            _ => 0,
        }
    }

    /// Returns the last lines of its log.
    pub(super) fn log(&self, lines: usize) -> String {
        let state = self.lock();
        let bytes: Vec<u8> = state.log.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let all: Vec<&str> = text.lines().collect();
        let last = &all[all.len().saturating_sub(lines)..];
        last.iter().map(|line| format!("{line}\n")).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn in_words(end: End) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match end {
        End::Exited(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("it exited with code {code}"),
            (None, Some(signal)) => format!("it was killed by signal {signal}"),
            (None, None) => "it ended in an unknown way".to_owned(),
        },
        End::TimedOut => "it took too long".to_owned(),
        End::Cancelled => "it was stopped".to_owned(),
    }
}
