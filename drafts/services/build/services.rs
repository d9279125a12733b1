//! The services that a test uses: starts them before its commands, waits until they are ready,
//! watches them, and stops them afterwards. The processes are in `exec`.
//!
//! Each attempt has instances of its own. A service starts after those that it uses itself,
//! and stops before them. If one ends early, the commands of the test are stopped.

mod instance;
mod places;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Parts, warnings};
use crate::action::Action;
use crate::action::environment::{Environment, inherited};
use crate::buildfile::model::Target;
use crate::cancel::{Cancel, Urgency};
use crate::event::{Failure, Warning};
use crate::graph::TargetId;

pub(super) use instance::Instance;
use instance::{NotReady, Start};
pub(super) use places::Places;

/// The interval at which a cancellation is passed on.
const POLL: Duration = Duration::from_millis(20);
/// How many of the last lines of a log are shown.
const LOG_LINES: usize = 40;

/// What happened to the services of an attempt.
#[derive(Default)]
pub(super) struct Notes {
    /// The logs, to be shown if the test failed.
    pub(super) logs: Vec<(String, String)>,
    pub(super) warnings: Vec<Warning>,
}

/// Runs `work` while the services of a target run. It receives the places of the services, and
/// a flag that is raised when it must stop. `None` means that the run was cancelled.
pub(super) fn run_with<T>(
    parts: &Parts<'_>,
    id: TargetId,
    notes: &mut Notes,
    work: impl FnOnce(&Places, &Cancel) -> Result<Option<T>, Failure>,
) -> Result<Option<T>, Failure> {
    let instances = instance::all(parts, &[id])?;
    let visible = Places::of_users(&instances, parts.graph().target(id));
    let cancel = Cancel::new();
    let is_done = AtomicBool::new(false);
    let worked = std::thread::scope(|threads| {
        threads.spawn(|| watch(parts, &instances, &cancel, &is_done));
        let started = start_all(parts, &instances, threads);
        let worked = match started {
            Ok(Start::Ready) => work(&visible, &cancel),
            Ok(Start::Cancelled) => Ok(None),
            Err(failure) => Err(failure),
        };
        let worked = fail_if_one_died(&instances, worked, parts.cancel);
        stop_all(&instances, notes);
        is_done.store(true, Ordering::SeqCst);
        worked
    });
    for instance in &instances {
        notes.add(instance);
    }
    worked
}

/// Starts the services in their order, and waits until each is ready.
pub(super) fn start_all<'scope, 'env>(
    parts: &'env Parts<'env>,
    instances: &'env [Instance<'env>],
    threads: &'scope std::thread::Scope<'scope, 'env>,
) -> Result<Start, Failure> {
    let mut rest = instances;
    while let Some(first) = rest.first() {
        // The instances of one service do not use each other.
        let same = rest.iter().take_while(|next| next.id == first.id).count();
        let (these, others) = rest.split_at(same);
        for instance in these {
            instance.start(parts, instances, threads);
        }
        for instance in these {
            match instance.wait_until_ready(parts) {
                Ok(Start::Ready) => {}
                Ok(Start::Cancelled) => return Ok(Start::Cancelled),
                Err(problem) => return Err(of_not_ready(instance, &problem)),
            }
        }
        rest = others;
    }
    Ok(Start::Ready)
}

/// Stops the services, those that use others first.
pub(super) fn stop_all(instances: &[Instance<'_>], notes: &mut Notes) {
    let mut rest = instances;
    while let Some(last) = rest.last() {
        let same = rest.iter().rev().take_while(|i| i.id == last.id).count();
        let (others, these) = rest.split_at(rest.len() - same);
        for instance in these {
            instance.begin_stop();
        }
        for instance in these {
            let began = Instant::now();
            instance.wait_for_end();
            if began.elapsed() >= instance.service.stop.grace {
                notes.warnings.push(not_stopped(instance));
            }
        }
        rest = others;
    }
}

/// Passes a cancellation of the run on, and cancels the commands of a test if a service ends.
fn watch(parts: &Parts<'_>, instances: &[Instance<'_>], cancel: &Cancel, is_done: &AtomicBool) {
    while !is_done.load(Ordering::SeqCst) {
        let urgency = parts.cancel.urgency();
        raise_to(cancel, urgency);
        if urgency != Urgency::None {
            for instance in instances {
                instance.cancel(urgency);
            }
        }
        if instances.iter().any(Instance::has_died) {
            raise_to(cancel, Urgency::Stop);
        }
        std::thread::sleep(POLL);
    }
}

/// Raises a flag to a level.
fn raise_to(cancel: &Cancel, urgency: Urgency) {
    while cancel.urgency() < urgency {
        cancel.raise();
    }
}

/// Replaces the result of a test by the failure of a service that ended during it.
fn fail_if_one_died<T>(
    instances: &[Instance<'_>],
    worked: Result<Option<T>, Failure>,
    cancel: &Cancel,
) -> Result<Option<T>, Failure> {
    // A cancelled run stops its services, too.
    if cancel.is_raised() {
        return worked.map(|_| None).or(Ok(None));
    }
    if worked.as_ref().is_err_and(|failure| is_of_service(failure)) {
        return worked;
    }
    let Some(died) = instances.iter().find(|instance| instance.has_died()) else {
        return worked;
    };
    let before = worked.err().unwrap_or_default();
    Err(Failure {
        code: "fbuild::service::died".to_owned(),
        message: format!(
            "its service `{}` ended while it ran: {}",
            died.name,
            died.end_in_words()
        ),
        help: Some("its log is in the output of the test".to_owned()),
        ..before
    })
}

fn is_of_service(failure: &Failure) -> bool {
    failure.code.starts_with("fbuild::service::")
}

fn of_not_ready(instance: &Instance<'_>, problem: &NotReady) -> Failure {
    let name = &instance.name;
    let (code, message, help) = match problem {
        NotReady::Ended => (
            "fbuild::service::ended",
            format!(
                "its service `{name}` ended before it was ready: {}",
                instance.end_in_words()
            ),
            "a service stays in the foreground until it is stopped; its log is in the output of the test",
        ),
        NotReady::Late { after, last } => (
            "fbuild::service::not_ready",
            format!(
                "its service `{name}` was not ready after {}: {last}",
                crate::event::in_seconds(*after)
            ),
            "its log is in the output of the test; `ready timeout=` gives it more time",
        ),
    };
    Failure {
        code: code.to_owned(),
        message,
        help: Some(help.to_owned()),
        ..Failure::default()
    }
}

fn not_stopped(instance: &Instance<'_>) -> Warning {
    let message = format!(
        "the service `{}` did not stop within its `grace`, and was killed",
        instance.name
    );
    Warning::new("fbuild::service::killed", message)
}

impl Notes {
    fn add(&mut self, instance: &Instance<'_>) {
        let log = instance.log(LOG_LINES);
        if !log.is_empty() {
            self.logs.push((instance.name.clone(), log));
        }
        match instance.left_behind() {
            0 => {}
            n => self.warnings.push(warnings::left_behind(n)),
        }
    }
}

/// Returns an action with the commands of a target and no facts for a key.
fn bare_action(parts: &Parts<'_>, target: &Target) -> Action {
    let environment = Environment::of(target, parts.host_env);
    let commands = target.commands.iter();
    Action {
        commands: commands.map(|c| environment.expand(&c.value)).collect(),
        dir: target.dir.clone(),
        tools: Default::default(),
        inputs: Vec::new(),
        needs: Default::default(),
        ran: Default::default(),
        outputs: Vec::new(),
        env: environment.env,
        inherited: inherited(target, parts.host_env),
        secrets: environment.secrets,
    }
}
