//! Process control (suite T8): whatever a command does, it is told how it ended, nothing it
//! printed is lost, and nothing of it is left.
//!
//! Each test marks its processes with a word of its own, which stands in their arguments and
//! their environment, and looks for it in `/proc` afterwards.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod helpers;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use fbuild::cancel::Cancel;
use fbuild::exec::{End, Ended, Error, Program, Streams, run};
use helpers::Place;

/// Longer than anything here takes when it works.
const LONG: Duration = Duration::from_secs(30);
/// Short, for what does not end when it is asked to.
const SHORT: Duration = Duration::from_millis(300);

/// The time that a command has.
#[derive(Clone, Copy)]
struct Limits {
    timeout: Option<Duration>,
    grace: Duration,
}

const NO_LIMITS: Limits = Limits {
    timeout: None,
    grace: LONG,
};

/// What came of a command.
#[derive(Debug)]
struct Done {
    ended: Result<Ended, Error>,
    said: Vec<u8>,
    took: Duration,
}

/// Running things in a place, within this process.
impl Place {
    /// Runs `argv`, passing on what it prints as it does.
    fn watch(
        &self,
        argv: &[OsString],
        limits: Limits,
        output: &mut dyn FnMut(&[u8]),
        cancel: &Cancel,
    ) -> Done {
        let env = [("PATH", "/usr/bin:/bin"), ("FBT_MARK", &self.mark)];
        let env = env.map(|(name, value)| (name.into(), value.into()));
        let (started, mut said) = (Instant::now(), Vec::new());
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
            said.extend_from_slice(bytes);
            output(bytes);
        };
        let ended = run(&program, &mut keep, cancel);
        let took = started.elapsed();
        Done { ended, said, took }
    }

    /// Runs a program to its end.
    fn run_program(&self, argv: &[&str]) -> Done {
        let argv: Vec<OsString> = argv.iter().map(OsString::from).collect();
        self.watch(&argv, NO_LIMITS, &mut |_| {}, &Cancel::new())
    }

    /// Runs `fbt` with these words to its end.
    fn run(&self, words: &str) -> Done {
        self.watch(&self.fbt(words), NO_LIMITS, &mut |_| {}, &Cancel::new())
    }

    /// Runs `fbt` with these words; once it has said `ready`, does `then`.
    fn run_and(&self, words: &str, grace: Duration, then: impl FnOnce(&Cancel) + Send) -> Done {
        let (cancel, argv) = (Cancel::new(), self.fbt(words));
        let (tell, told) = mpsc::channel();
        let mut output = |bytes: &[u8]| {
            if bytes.ends_with(b"ready\n") {
                tell.send(()).unwrap();
            }
        };
        let (stop, limits) = (cancel.clone(), Limits { grace, ..NO_LIMITS });
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let told = told.recv_timeout(LONG);
                told.expect("the command was never ready");
                then(&stop);
            });
            self.watch(&argv, limits, &mut output, &cancel)
        })
    }

    fn assert_nothing_left(&self, what: &str) {
        assert_eq!(self.alive(), Vec::<i32>::new(), "left by: {what}");
    }
}

impl Done {
    fn end(&self) -> End {
        self.ended.as_ref().unwrap().end
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.said).unwrap()
    }

    fn code(&self) -> Option<i32> {
        match self.end() {
            End::Exited(status) => status.code(),
            _ => None,
        }
    }
}

// How commands end.

#[test]
fn exit_codes_and_signals_are_told() {
    let place = Place::new();
    for code in [0, 1, 127, 255] {
        assert_eq!(place.run(&format!("exit {code}")).code(), Some(code));
    }
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGABRT, libc::SIGUSR1] {
        let End::Exited(status) = place.run(&format!("kill {signal}")).end() else {
            panic!("it ended by itself");
        };
        assert_eq!((status.signal(), status.success()), (Some(signal), false));
    }
}

#[test]
fn what_cannot_be_started_says_why() {
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
        let error = place.run_program(argv).ended.unwrap_err();
        assert_eq!(error.to_string(), message);
        let helped = miette::Diagnostic::help(&error).map_or(String::new(), |h| h.to_string());
        assert!(helped.contains(help), "{helped}");
    }
}

#[test]
fn a_missing_working_directory_is_no_missing_program() {
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
fn a_file_that_stays_open_for_writing_is_given_up_and_one_just_written_is_not() {
    let place = Place::new();
    let program = place.path("program");
    fs::copy("/bin/true", &program).unwrap();
    let writer = fs::OpenOptions::new().write(true).open(&program).unwrap();
    let error = place
        .run_program(&[program.to_str().unwrap()])
        .ended
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot start `{}`", program.display())
    );
    drop(writer);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let place = &place;
            scope.spawn(move || {
                for number in 0..50 {
                    let file = place.path(&format!("{thread}-{number}"));
                    fs::write(&file, fs::read("/bin/true").unwrap()).unwrap();
                    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
                    let done = place.run_program(&[file.to_str().unwrap()]);
                    assert_eq!(done.code(), Some(0));
                }
            });
        }
    });
}

// What they read and print.

#[test]
fn every_byte_arrives_in_order() {
    let place = Place::new();
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(place.run("binary").said, all);
    let lines: String = (0..5000).map(|number| format!("{number}\n")).collect();
    assert_eq!(place.run("both 5000").text(), lines);
    assert_eq!(place.run("spam 3000000").said.len(), 3_000_000);
    assert_eq!(place.run("echo no newline").text(), "no newline\n");
}

#[test]
fn a_command_inherits_no_descriptor() {
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
fn a_command_starts_with_no_signal_blocked_and_pipe_not_ignored() {
    let place = Place::new();
    let done = std::thread::spawn(move || {
        block_every_signal();
        place.run_program(&["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"])
    });
    let done = done.join().unwrap();
    let (blocked, ignored) = done.text().split_once('\n').unwrap();
    assert_eq!(blocked, "SigBlk:\t0000000000000000");
    let ignored = ignored.trim_start_matches("SigIgn:").trim();
    let ignored = u64::from_str_radix(ignored, 16).unwrap();
    assert_eq!(ignored >> (libc::SIGPIPE - 1) & 1, 0);
}

fn block_every_signal() {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: `sigfillset` initialises the set that it is given.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
    }
}

#[test]
fn to_wait_for_a_command_takes_no_time_of_a_processor() {
    let used = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::try_from(now).unwrap()
    };
    let (place, before) = (Place::new(), used());
    let done = place.run("sleep 1000");
    let used = used() - before;
    assert!(done.took >= Duration::from_secs(1));
    assert!(used < Duration::from_millis(150), "{used:?}");
}

#[test]
fn a_command_that_somebody_stops_for_a_while_goes_on() {
    let place = Place::new();
    // Longer than fbuild takes to look whether it is stopped.
    let script = "(sleep 1.2; kill -CONT $$) & kill -STOP $$; wait; echo on";
    let done = place.run_program(&["sh", "-c", script]);
    assert_eq!((done.code(), done.text()), (Some(0), "on\n"));
    assert_eq!(done.ended.unwrap().left_behind, 0);
}

// What they leave behind.

#[test]
fn whatever_outlives_its_command_is_killed_before_the_command_counts_as_done() {
    let place = Place::new();
    let ways = ["", "session", "fork", "fork session"];
    for way in ways {
        for mute in ["", "mute"] {
            for what in [
                "wait MARK",
                "ignore-term MARK",
                "write FILE MARK",
                "stop MARK",
            ] {
                let words = format!("launch {way} {mute} -- {what}");
                let done = place.run(&words);
                place.assert_nothing_left(&words);
                assert_eq!(done.code(), Some(0), "{words}");
                assert_eq!(done.ended.unwrap().left_behind, 1, "{words}");
                assert!(
                    done.took < Duration::from_secs(2),
                    "{words}: {:?}",
                    done.took
                );
            }
        }
    }
}

#[test]
fn nobody_writes_to_a_file_after_the_command_is_done() {
    let place = Place::new();
    let done = place.run("write-after-exit FILE MARK");
    let written = fs::read(place.path("file")).unwrap();
    assert_eq!(done.code(), Some(0));
    assert!(written.starts_with(b"begin\n"));
    place.assert_nothing_left("write-after-exit");
    assert_eq!(fs::read(place.path("file")).unwrap(), written);
}

#[test]
fn a_tree_of_sessions_is_killed_to_the_last_leaf() {
    let place = Place::new();
    let branch = "launch session stay -- launch session stay -- launch fork session stay --";
    let done = place.run(&format!("launch session -- {branch} wait MARK"));
    assert_eq!(done.code(), Some(0));
    place.assert_nothing_left("a deep tree");
    assert_eq!(done.ended.unwrap().left_behind, 4);
}

#[test]
fn a_process_in_the_background_may_print_its_last_lines_but_not_hold_up_the_build() {
    let place = Place::new();
    let late = place.run("launch -- later 20 last words");
    assert_eq!(late.text(), "last words\n");
    assert_eq!(late.ended.unwrap().left_behind, 0);
    let held = place.run("hold-pipe MARK");
    assert!(held.took < Duration::from_secs(2), "{:?}", held.took);
    assert_eq!(held.ended.unwrap().left_behind, 1);
    place.assert_nothing_left("hold-pipe");
}

#[test]
fn what_a_process_in_the_background_would_print_much_later_is_not_waited_for() {
    let place = Place::new();
    let held = place.run("launch -- later 8000 MARK");
    assert_eq!(held.text(), "");
    assert_eq!(held.ended.unwrap().left_behind, 1);
    place.assert_nothing_left("later");
}

#[test]
fn the_end_of_one_command_spares_the_processes_of_another() {
    let (one, other) = (Place::new(), Place::new());
    let done = one.run_and(
        "launch fork session mute stay -- wait MARK",
        LONG,
        |cancel| {
            assert_eq!(one.alive().len(), 2);
            // The last has no marker, but the group of its command.
            for way in ["session", "fork session mute", "", "mute bare"] {
                let done = other.run(&format!("launch {way} -- wait MARK"));
                assert_eq!(done.ended.unwrap().left_behind, 1);
                other.assert_nothing_left(way);
            }
            assert_eq!(one.alive().len(), 2);
            cancel.raise();
        },
    );
    assert_eq!(done.end(), End::Cancelled);
    one.assert_nothing_left("the first command");
}

#[test]
fn many_commands_with_orphans_at_once_leave_nothing() {
    let places: Vec<Place> = (0..4).map(|_| Place::new()).collect();
    std::thread::scope(|scope| {
        for place in &places {
            scope.spawn(|| {
                for _ in 0..10 {
                    let done = place.run("launch fork session mute -- wait MARK");
                    place.assert_nothing_left("one of many");
                    assert_eq!(done.ended.unwrap().left_behind, 1);
                }
            });
        }
    });
}

#[test]
fn a_panic_while_output_is_handled_leaves_nothing() {
    let place = Place::new();
    let argv = place.fbt("launch session mute stay -- wait MARK");
    let panic = std::panic::AssertUnwindSafe(|| {
        place.watch(&argv, NO_LIMITS, &mut |_| panic!("no room"), &Cancel::new())
    });
    assert!(std::panic::catch_unwind(panic).is_err());
    place.assert_nothing_left("a panic");
}

// How they are stopped.

/// What may be running when it is stopped, and whether it ends when it is asked to.
const RUNNING: [(&str, bool); 6] = [
    ("wait MARK", true),
    ("stop MARK", true),
    ("launch session stay -- wait MARK", true),
    ("ignore-term MARK", false),
    ("launch session mute stay -- ignore-term MARK", false),
    ("launch fork session stay -- stop MARK", true),
];

/// Returns the grace for a command: so long that it ends before, or so short that the test
/// does not take long.
fn grace(polite: bool) -> Duration {
    if polite { LONG } else { SHORT }
}

fn assert_stopped(place: &Place, words: &str, done: &Done, end: End, polite: bool) {
    place.assert_nothing_left(words);
    assert_eq!(done.end(), end, "{words}");
    let took = done.took;
    assert_eq!(took < grace(polite), polite, "{words}: {took:?}");
}

#[test]
fn a_cancelled_command_is_asked_to_end_and_killed_if_it_does_not() {
    let place = Place::new();
    for (words, polite) in RUNNING {
        let done = place.run_and(words, grace(polite), Cancel::raise);
        assert_stopped(&place, words, &done, End::Cancelled, polite);
    }
}

#[test]
fn a_second_request_kills_at_once() {
    let place = Place::new();
    for (words, _) in RUNNING {
        let done = place.run_and(words, LONG, |cancel| {
            cancel.raise();
            cancel.raise();
        });
        assert_stopped(&place, words, &done, End::Cancelled, true);
    }
}

#[test]
fn a_second_request_ends_the_grace_of_the_first() {
    let (place, cancel) = (Place::new(), Cancel::new());
    let mut output = |bytes: &[u8]| {
        if bytes.ends_with(b"ready\n") || bytes.ends_with(b"term\n") {
            cancel.raise();
        }
    };
    let argv = place.fbt("ignore-term MARK");
    let done = place.watch(&argv, NO_LIMITS, &mut output, &cancel);
    assert_eq!(done.text(), "ready\nterm\n");
    assert_stopped(&place, "ignore-term", &done, End::Cancelled, true);
}

#[test]
fn a_command_whose_time_is_up_is_stopped_in_the_same_way() {
    let place = Place::new();
    for (words, polite) in RUNNING {
        let limits = Limits {
            timeout: Some(SHORT),
            grace: grace(polite),
        };
        let done = place.watch(&place.fbt(words), limits, &mut |_| {}, &Cancel::new());
        assert_stopped(&place, words, &done, End::TimedOut, polite);
    }
}

#[test]
fn a_cancelled_run_starts_nothing() {
    let (place, cancel) = (Place::new(), Cancel::new());
    cancel.raise();
    let done = place.watch(&place.fbt("write FILE"), NO_LIMITS, &mut |_| {}, &cancel);
    assert_eq!(done.end(), End::Cancelled);
    assert!(!place.path("file").exists());
}

#[test]
fn everybody_is_asked_once_and_may_clean_up_though_the_leader_is_gone() {
    let place = Place::new();
    for way in ["stay", "session stay", "fork stay", "fork session stay"] {
        let words = format!("launch {way} -- on-term FILE MARK");
        let done = place.run_and(&words, LONG, Cancel::raise);
        assert_stopped(&place, &words, &done, End::Cancelled, true);
        let file = place.path("file");
        assert_eq!(fs::read_to_string(&file).unwrap(), "term\n", "{words}");
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn a_command_that_prints_without_end_is_stopped() {
    let (place, cancel) = (Place::new(), Cancel::new());
    let argv = place.fbt("spam 1000000000000 MARK");
    let done = place.watch(&argv, NO_LIMITS, &mut |_| cancel.raise(), &cancel);
    assert_stopped(&place, "spam", &done, End::Cancelled, true);
}
