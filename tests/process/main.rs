//! Tests process control (suite T8): whatever a command does, its end is reported correctly,
//! its output is complete, and none of its processes is left.
//!
//! Each test marks its processes with a unique word in their arguments and environment, and
//! searches `/proc` for it afterwards.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "../support/processes.rs"]
mod processes;

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

// Exit status and start errors.

#[test]
fn exit_codes_are_reported() {
    let place = Place::new();
    for code in [0, 1, 127, 255] {
        assert_eq!(place.run(&format!("exit {code}")).code(), Some(code));
    }
}

#[test]
fn fatal_signals_are_reported() {
    let place = Place::new();
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGABRT, libc::SIGUSR1] {
        let End::Exited(status) = place.run(&format!("kill {signal}")).end() else {
            panic!("{signal} is not reported as the command's own end");
        };
        assert_eq!((status.signal(), status.success()), (Some(signal), false));
    }
}

#[test]
fn start_errors_explain_the_cause() {
    let place = Place::new();
    let make = |name: &str, bytes: &str, mode| {
        fs::write(place.path(name), bytes).unwrap();
        fs::set_permissions(place.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    make("plain", "", 0o644);
    make("bare", "echo hello\n", 0o755);
    make("lost", "#!/no/such/interpreter\n", 0o755);
    fs::create_dir(place.path("folder")).unwrap();
    let at = |name: &str| place.path(&format!("./{name}")).display().to_string();
    let long = "x".repeat(200_000);
    let cases: [(&[&str], String, &str); 8] = [
        (
            &["no-such-tool"],
            "command `no-such-tool` not found".into(),
            "/usr/bin:/bin",
        ),
        (
            &["./gone"],
            "command `./gone` not found".into(),
            "there is no file",
        ),
        (
            &["./plain"],
            format!("`{}` is not executable", at("plain")),
            "chmod +x",
        ),
        (
            &["./folder"],
            format!("`{}` is a folder, not a program", at("folder")),
            "",
        ),
        (
            &["./bare"],
            format!("cannot start `{}`", at("bare")),
            "#!/bin/sh",
        ),
        (
            &["./lost"],
            format!("cannot start `{}`", at("lost")),
            "interpreter",
        ),
        (
            &["true", &long],
            "cannot start `/usr/bin/true`".into(),
            "too long",
        ),
        (&["true", "a\0b"], "cannot start `/usr/bin/true`".into(), ""),
    ];
    for (argv, message, help) in cases {
        let error = place.run_program(argv).result.unwrap_err();
        assert_eq!(error.to_string(), message);
        let actual = miette::Diagnostic::help(&error).map_or(String::new(), |h| h.to_string());
        assert!(actual.contains(help), "{actual}");
    }
}

#[test]
fn missing_working_directory_is_named() {
    let place = Place::new();
    let argv = ["true"].map(OsString::from);
    let program = Program {
        argv: &argv,
        env: &BTreeMap::new(),
        dir: &place.path("gone"),
        streams: Streams::Captured,
        deadline: None,
        grace: LONG,
        watchdog: None,
    };
    let error = run(&program, &mut |_| {}, &Cancel::new()).unwrap_err();
    let gone = place.path("gone").display().to_string();
    let message = format!("cannot enter the working directory `{gone}`");
    assert_eq!(error.to_string(), message);
}

#[test]
fn program_open_for_writing_is_an_error() {
    let place = Place::new();
    let program = place.path("program");
    fs::copy("/bin/true", &program).unwrap();
    let writer = fs::OpenOptions::new().write(true).open(&program).unwrap();
    let error = place
        .run_program(&[program.to_str().unwrap()])
        .result
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot start `{}`", program.display())
    );
    drop(writer);
}

#[test]
fn just_written_program_starts() {
    let place = Place::new();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let place = &place;
            scope.spawn(move || {
                for number in 0..50 {
                    let file = place.path(&format!("{thread}-{number}"));
                    fs::write(&file, fs::read("/bin/true").unwrap()).unwrap();
                    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
                    let run = place.run_program(&[file.to_str().unwrap()]);
                    assert_eq!(run.code(), Some(0));
                }
            });
        }
    });
}

// Input, output and inherited state.

#[test]
fn every_byte_value_is_passed_on() {
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(Place::new().run("binary").output, all);
}

#[test]
fn both_streams_keep_their_order() {
    let lines: String = (0..5000).map(|number| format!("{number}\n")).collect();
    assert_eq!(Place::new().run("both 5000").text(), lines);
}

#[test]
fn long_output_is_complete() {
    assert_eq!(Place::new().run("spam 3000000").output.len(), 3_000_000);
}

#[test]
fn command_inherits_no_descriptor() {
    let place = Place::new();
    let inherited = place.run("fds").text().to_owned();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    assert_eq!(place.run("fds").text(), inherited);
                }
            });
        }
    });
    let mut standard = inherited.split_whitespace();
    assert!(
        ["0", "1", "2"]
            .iter()
            .all(|fd| standard.any(|open| open == *fd))
    );
}

#[test]
fn command_starts_with_default_signals() {
    let place = Place::new();
    let thread = std::thread::spawn(move || {
        block_every_signal();
        place.run_program(&["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"])
    });
    let run = thread.join().unwrap();
    let (blocked, ignored) = run.text().split_once('\n').unwrap();
    assert_eq!(blocked, "SigBlk:\t0000000000000000");
    let ignored = ignored.trim_start_matches("SigIgn:").trim();
    let ignored = u64::from_str_radix(ignored, 16).unwrap();
    assert_eq!(ignored >> (libc::SIGPIPE - 1) & 1, 0);
}

fn block_every_signal() {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: `sigfillset` initialises the set.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
    }
}

#[test]
fn waiting_for_a_command_uses_no_cpu_time() {
    let used = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::try_from(now).unwrap()
    };
    let (place, before) = (Place::new(), used());
    let run = place.run("sleep 1000");
    let used = used() - before;
    assert!(run.duration >= Duration::from_secs(1));
    assert!(used < Duration::from_millis(150), "{used:?}");
}

#[test]
fn stopped_command_continues_after_cont() {
    let place = Place::new();
    // Longer than fbuild's interval of checks for a stopped command.
    let script = "(sleep 1.2; kill -CONT $$) & kill -STOP $$; wait; echo on";
    let run = place.run_program(&["sh", "-c", script]);
    assert_eq!((run.code(), run.text()), (Some(0), "on\n"));
    assert_eq!(run.left_behind(), 0);
}

// Orphans.

#[test]
fn orphan_is_killed_before_its_command_counts_as_done() {
    let place = Place::new();
    for how in ["", "session", "fork", "fork session"] {
        for mute in ["", "mute"] {
            for child in [
                "wait MARK",
                "ignore-term MARK",
                "write FILE MARK",
                "stop MARK",
            ] {
                let words = format!("launch {how} {mute} -- {child}");
                let run = place.run(&words);
                place.assert_nothing_left(&words);
                assert_eq!(run.code(), Some(0), "{words}");
                assert_eq!(run.left_behind(), 1, "{words}");
                let duration = run.duration;
                assert!(duration < Duration::from_secs(2), "{words}: {duration:?}");
            }
        }
    }
}

#[test]
fn orphan_does_not_write_after_the_command_is_done() {
    let place = Place::new();
    let run = place.run("write-after-exit FILE MARK");
    let written = fs::read(place.path("file")).unwrap();
    assert_eq!(run.code(), Some(0));
    assert!(written.starts_with(b"begin\n"));
    place.assert_nothing_left("write-after-exit");
    assert_eq!(fs::read(place.path("file")).unwrap(), written);
}

#[test]
fn deep_tree_of_sessions_is_killed() {
    let place = Place::new();
    let branch = "launch session stay -- launch session stay -- launch fork session stay --";
    let run = place.run(&format!("launch session -- {branch} wait MARK"));
    assert_eq!(run.code(), Some(0));
    place.assert_nothing_left("a deep tree");
    assert_eq!(run.left_behind(), 4);
}

#[test]
fn orphan_may_print_its_last_lines() {
    let run = Place::new().run("launch -- later 20 last words");
    assert_eq!(run.text(), "last words\n");
    assert_eq!(run.left_behind(), 0);
}

#[test]
fn orphan_that_keeps_the_pipe_open_is_killed() {
    let place = Place::new();
    let run = place.run("hold-pipe MARK");
    let duration = run.duration;
    assert!(duration < Duration::from_secs(2), "{duration:?}");
    assert_eq!(run.left_behind(), 1);
    place.assert_nothing_left("hold-pipe");
}

#[test]
fn late_output_of_an_orphan_is_not_waited_for() {
    let place = Place::new();
    let run = place.run("launch -- later 8000 MARK");
    assert_eq!(run.text(), "");
    assert_eq!(run.left_behind(), 1);
    place.assert_nothing_left("later");
}

#[test]
fn end_of_one_command_spares_processes_of_another() {
    let (one, other) = (Place::new(), Place::new());
    let run = one.run_and(
        "launch fork session mute stay -- wait MARK",
        LONG,
        |cancel| {
            assert_eq!(one.alive().len(), 2);
            // The last has no marker, but is in the group of its command.
            for how in ["session", "fork session mute", "", "mute bare"] {
                let run = other.run(&format!("launch {how} -- wait MARK"));
                assert_eq!(run.left_behind(), 1);
                other.assert_nothing_left(how);
            }
            assert_eq!(one.alive().len(), 2);
            cancel.raise();
        },
    );
    assert_eq!(run.end(), End::Cancelled);
    one.assert_nothing_left("the first command");
}

#[test]
fn concurrent_commands_leave_no_orphans() {
    let places: Vec<Place> = (0..4).map(|_| Place::new()).collect();
    std::thread::scope(|scope| {
        for place in &places {
            scope.spawn(|| {
                for _ in 0..10 {
                    let run = place.run("launch fork session mute -- wait MARK");
                    place.assert_nothing_left("one of many");
                    assert_eq!(run.left_behind(), 1);
                }
            });
        }
    });
}

#[test]
fn panic_in_the_output_callback_leaves_nothing() {
    let place = Place::new();
    let argv = place.fbt("launch session mute stay -- wait MARK");
    let panic = std::panic::AssertUnwindSafe(|| {
        place.watch(&argv, NO_LIMITS, &mut |_| panic!("no room"), &Cancel::new())
    });
    assert!(std::panic::catch_unwind(panic).is_err());
    place.assert_nothing_left("a panic");
}

// Cancellation and timeouts.

/// Commands to stop, and whether they end on TERM.
const RUNNING: [(&str, bool); 6] = [
    ("wait MARK", true),
    ("stop MARK", true),
    ("launch session stay -- wait MARK", true),
    ("ignore-term MARK", false),
    ("launch session mute stay -- ignore-term MARK", false),
    ("launch fork session stay -- stop MARK", true),
];

/// Returns a grace period that ends after the command, or soon if the command ignores TERM.
fn grace(ends_on_term: bool) -> Duration {
    if ends_on_term { LONG } else { SHORT }
}

impl FinishedCommand {
    /// Asserts that nothing is left, and that the command ended with `end` before the grace
    /// period was over.
    fn assert_ended_in_grace(&self, place: &Place, words: &str, end: End) {
        place.assert_nothing_left(words);
        assert_eq!(self.end(), end, "{words}");
        let duration = self.duration;
        assert!(duration < LONG, "{words}: {duration:?}");
    }

    /// Asserts that nothing is left, and that the command ended with `end`, in its grace
    /// period or, if it ignores TERM, after it.
    fn assert_stopped(&self, place: &Place, words: &str, end: End, ends_on_term: bool) {
        place.assert_nothing_left(words);
        assert_eq!(self.end(), end, "{words}");
        let (duration, grace) = (self.duration, grace(ends_on_term));
        assert_eq!(duration < grace, ends_on_term, "{words}: {duration:?}");
    }
}

#[test]
fn cancelled_command_gets_term_and_later_kill() {
    let place = Place::new();
    for (words, ends_on_term) in RUNNING {
        let run = place.run_and(words, grace(ends_on_term), Cancel::raise);
        run.assert_stopped(&place, words, End::Cancelled, ends_on_term);
    }
}

#[test]
fn second_cancel_kills_at_once() {
    let place = Place::new();
    for (words, _) in RUNNING {
        let run = place.run_and(words, LONG, |cancel| {
            cancel.raise();
            cancel.raise();
        });
        run.assert_ended_in_grace(&place, words, End::Cancelled);
    }
}

#[test]
fn second_cancel_cuts_the_grace_period_short() {
    let (place, cancel) = (Place::new(), Cancel::new());
    let mut output = |bytes: &[u8]| {
        if bytes.ends_with(b"ready\n") || bytes.ends_with(b"term\n") {
            cancel.raise();
        }
    };
    let argv = place.fbt("ignore-term MARK");
    let run = place.watch(&argv, NO_LIMITS, &mut output, &cancel);
    assert_eq!(run.text(), "ready\nterm\n");
    run.assert_ended_in_grace(&place, "ignore-term", End::Cancelled);
}

#[test]
fn timed_out_command_gets_term_and_later_kill() {
    let place = Place::new();
    for (words, ends_on_term) in RUNNING {
        let limits = Limits {
            timeout: Some(SHORT),
            grace: grace(ends_on_term),
        };
        let run = place.watch(&place.fbt(words), limits, &mut |_| {}, &Cancel::new());
        run.assert_stopped(&place, words, End::TimedOut, ends_on_term);
    }
}

#[test]
fn cancelled_run_starts_nothing() {
    let (place, cancel) = (Place::new(), Cancel::new());
    cancel.raise();
    let run = place.watch(&place.fbt("write FILE"), NO_LIMITS, &mut |_| {}, &cancel);
    assert_eq!(run.end(), End::Cancelled);
    assert!(!place.path("file").exists());
}

#[test]
fn each_process_gets_term_once_and_may_clean_up() {
    let place = Place::new();
    for how in ["stay", "session stay", "fork stay", "fork session stay"] {
        let words = format!("launch {how} -- on-term FILE MARK");
        let run = place.run_and(&words, LONG, Cancel::raise);
        run.assert_ended_in_grace(&place, &words, End::Cancelled);
        let file = place.path("file");
        assert_eq!(fs::read_to_string(&file).unwrap(), "term\n", "{words}");
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn command_with_endless_output_is_stopped() {
    let (place, cancel) = (Place::new(), Cancel::new());
    let argv = place.fbt("spam 1000000000000 MARK");
    let run = place.watch(&argv, NO_LIMITS, &mut |_| cancel.raise(), &cancel);
    run.assert_ended_in_grace(&place, "spam", End::Cancelled);
}
