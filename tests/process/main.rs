//! Tests process control (suite T8): whatever a command does, its end is reported correctly,
//! its output is complete, and none of its processes is left.
//!
//! Each test marks its processes with a unique word in their arguments and environment, and
//! searches `/proc` for it afterwards.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "../support/processes.rs"]
mod processes;

mod cancellation;
mod orphans;
mod starts;
mod streams;
mod trace;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use fbuild::cancel::Cancel;
use fbuild::exec::{Completion, End, Error, Program, Streams, run};
use processes::Place;

/// Longer than any test takes if it passes.
const LONG: Duration = Duration::from_secs(30);
/// The grace period of commands that ignore TERM.
const SHORT: Duration = Duration::from_millis(300);

/// The time limits of a command.
#[derive(Clone, Copy)]
struct Limits {
    timeout: Option<Duration>,
    grace: Duration,
}

const NO_LIMITS: Limits = Limits {
    timeout: None,
    grace: LONG,
};

/// The result of a command.
#[derive(Debug)]
struct FinishedCommand {
    result: Result<Completion, Error>,
    output: Vec<u8>,
    duration: Duration,
}

/// Runs commands in a place, within this process.
impl Place {
    /// Runs `argv`, and passes on its output while it runs.
    fn watch(
        &self,
        argv: &[OsString],
        limits: Limits,
        output: &mut dyn FnMut(&[u8]),
        cancel: &Cancel,
    ) -> FinishedCommand {
        let env = [("PATH", "/usr/bin:/bin"), ("FBT_MARK", &self.mark)];
        let env = env.map(|(name, value)| (name.into(), value.into()));
        let (started, mut printed) = (Instant::now(), Vec::new());
        let program = Program {
            argv,
            env: &BTreeMap::from(env),
            dir: &self.path(""),
            streams: Streams::Captured,
            deadline: limits.timeout.map(|timeout| started + timeout),
            grace: limits.grace,
            watchdog: None,
            tracer: None,
        };
        let mut keep = |bytes: &[u8]| {
            printed.extend_from_slice(bytes);
            output(bytes);
        };
        FinishedCommand {
            result: run(&program, &mut keep, cancel),
            output: printed,
            duration: started.elapsed(),
        }
    }

    /// Runs a program to its end.
    fn run_program(&self, argv: &[&str]) -> FinishedCommand {
        let argv: Vec<OsString> = argv.iter().map(OsString::from).collect();
        self.watch(&argv, NO_LIMITS, &mut |_| {}, &Cancel::new())
    }

    /// Runs `fbt` with these words to its end.
    fn run(&self, words: &str) -> FinishedCommand {
        self.watch(&self.fbt(words), NO_LIMITS, &mut |_| {}, &Cancel::new())
    }

    /// Runs `fbt` with these words, and calls `then` once it has printed `ready`.
    fn run_and(
        &self,
        words: &str,
        grace: Duration,
        then: impl FnOnce(&Cancel) + Send,
    ) -> FinishedCommand {
        let (cancel, argv) = (Cancel::new(), self.fbt(words));
        let (send, ready) = mpsc::channel();
        let mut output = |bytes: &[u8]| {
            if bytes.ends_with(b"ready\n") {
                send.send(()).unwrap();
            }
        };
        let (stop, limits) = (cancel.clone(), Limits { grace, ..NO_LIMITS });
        std::thread::scope(|scope| {
            scope.spawn(move || {
                ready
                    .recv_timeout(LONG)
                    .expect("the command never printed `ready`");
                then(&stop);
            });
            self.watch(&argv, limits, &mut output, &cancel)
        })
    }

    fn assert_nothing_left(&self, words: &str) {
        assert_eq!(self.alive(), Vec::<i32>::new(), "left by: {words}");
    }
}

impl FinishedCommand {
    fn end(&self) -> End {
        self.result.as_ref().unwrap().end
    }

    fn left_behind(&self) -> usize {
        self.result.as_ref().unwrap().left_behind
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.output).unwrap()
    }

    fn code(&self) -> Option<i32> {
        match self.end() {
            End::Exited(status) => status.code(),
            _ => None,
        }
    }
}
