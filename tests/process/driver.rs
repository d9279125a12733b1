//! Tests process control (suite T8) from outside: cases in which the process that runs commands
//! must be alone, killed, or attached to a terminal. `fbt drive` is that process, and this is a
//! binary of its own because the tests in `main.rs` make their process the reaper of all
//! orphans.

#![expect(clippy::unwrap_used, reason = "these are tests")]
#![expect(
    clippy::disallowed_methods,
    reason = "stands in for the shell that starts fbuild"
)]

#[path = "../support/processes.rs"]
mod processes;

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fbuild::exec::WATCHDOG_ARGUMENT;
use processes::Place;

/// Returns `fbt drive` with a command `fbt` of these words.
fn driver(place: &Place, words: &str) -> Command {
    let mut driver = Command::new(processes::fbt());
    driver.arg("drive").arg(place.path("")).arg("--");
    driver.args(place.fbt(words));
    driver
}

/// Runs `fbt drive` to its end. Returns the length of its output and its two lines on stderr:
/// the ends of the commands and the used memory.
fn drive(place: &Place, words: &str) -> (usize, String, String) {
    let done = driver(place, words).output().unwrap();
    let report = String::from_utf8(done.stderr).unwrap();
    let (ends, memory) = report.trim_end().rsplit_once('\n').unwrap();
    let end = ends.lines().last().unwrap();
    (done.stdout.len(), end.to_owned(), memory.to_owned())
}

/// Polls until `holds` returns true.
fn eventually(law: &str, holds: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < limit, "never came true: {law}");
        std::thread::yield_now();
    }
}

#[test]
fn gigabyte_of_output_needs_little_memory() {
    let place = Place::new();
    let (shown, end, memory) = drive(&place, "spam 1000000000");
    assert_eq!(
        (shown, end.as_str()),
        (1_000_000_000, "exit status: 0, left 0")
    );
    let kilobytes = memory.split_whitespace().nth(1).unwrap();
    assert!(kilobytes.parse::<u64>().unwrap() < 32 << 10, "{memory}");
}

#[test]
fn unmarked_orphan_is_killed_after_the_last_command() {
    let place = Place::new();
    let hidden = "launch session mute bare -- wait MARK";
    let (_, end, _) = drive(&place, hidden);
    assert_eq!(end, "exit status: 0, left 1");
    assert!(place.alive().is_empty());
    let (_, end, _) = drive(&place, &format!("{hidden} ++ FBT sleep 500"));
    assert_eq!(end, "exit status: 0, left 0; exit status: 0, left 1");
    assert!(place.alive().is_empty());
}

#[test]
fn unmarked_orphans_of_parallel_commands_are_killed() {
    let place = Place::new();
    let hidden = "launch session mute bare -- wait MARK";
    for _ in 0..5 {
        drive(&place, &[hidden; 4].join(" ++ FBT "));
        assert!(place.alive().is_empty());
    }
}

#[test]
fn command_has_empty_stdin() {
    let place = Place::new();
    let mut driver = driver(&place, "stdin");
    driver.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut driver = driver.spawn().unwrap();
    let mut input = driver.stdin.take().unwrap();
    // Ignore the error: the command may have ended.
    let _ = input.write_all(b"a line\n");
    let shown = driver.wait_with_output().unwrap().stdout;
    assert_eq!(shown, b"0\n");
    drop(input);
}

#[test]
fn commands_die_when_fbuild_is_killed() {
    // The last one has no marker, but is in the group of its command.
    for way in [
        "stay",
        "session stay",
        "fork session mute stay",
        "bare stay",
    ] {
        let place = Place::new();
        let mut driver = start(&place, &format!("launch {way} -- ignore-term MARK"));
        driver.kill().unwrap();
        driver.wait().unwrap();
        eventually(way, || place.alive().is_empty());
    }
}

#[test]
fn process_of_another_user_is_not_waited_for() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let place = Place::new();
    let copy = |file: &Path, name: &str, mode| {
        let to = place.path(name);
        std::fs::copy(file, &to).unwrap();
        std::fs::set_permissions(&to, Permissions::from_mode(mode)).unwrap();
        to
    };
    let fbt = copy(processes::fbt(), "fbt", 0o755);
    let as_root = copy(Path::new("/usr/bin/setpriv"), "as-root", 0o4755);
    std::fs::set_permissions(place.path(""), Permissions::from_mode(0o777)).unwrap();
    let loud = format!("yes {} & exit 0", place.mark);
    let silent = [fbt.as_os_str(), "hold-pipe".as_ref(), place.mark.as_ref()];
    for command in [["sh", "-c", &loud].map(OsStr::new), silent] {
        let mut driver = Command::new("/usr/bin/setpriv");
        driver.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        driver.arg(&fbt).arg("drive").arg(place.path("")).arg("--");
        driver
            .arg(&as_root)
            .args(["--reuid=0", "--regid=0", "--clear-groups"]);
        let driver = driver
            .args(command)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let done = driver.spawn().unwrap().wait_with_output().unwrap();
        let left = place.alive();
        for pid in &left {
            send("KILL", pid.unsigned_abs());
        }
        let report = String::from_utf8(done.stderr).unwrap();
        assert!(report.starts_with("exit status: 0, left 0\n"), "{report}");
        eventually("it is dead", || place.alive().is_empty());
    }
}

#[test]
fn watchdog_runs_while_a_command_runs() {
    let place = Place::new();
    let driver = start(&place, "wait MARK");
    let is_watchdog = |words: &Vec<u8>| {
        let mut words = words.split(|byte| *byte == 0).skip(1);
        words.next() == Some(WATCHDOG_ARGUMENT.as_bytes())
    };
    let children = children(driver.id());
    assert_eq!(
        children.iter().filter(|words| is_watchdog(words)).count(),
        1
    );
    send("TERM", driver.id());
    driver.wait_with_output().unwrap();
}

#[test]
fn signal_to_fbuild_stops_its_commands() {
    for (signal, way) in [("INT", "stay"), ("TERM", "session stay")] {
        let place = Place::new();
        let driver = start(&place, &format!("launch {way} -- wait MARK"));
        send(signal, driver.id());
        let report = driver.wait_with_output().unwrap();
        let report = String::from_utf8(report.stderr).unwrap();
        assert!(report.starts_with("Cancelled, left 0\n"), "{report}");
        assert!(place.alive().is_empty());
    }
}

#[test]
fn stopped_run_spares_commands_of_another_run() {
    let (one, other) = (Place::new(), Place::new());
    let words = "launch session mute stay -- wait MARK";
    let (first, second) = (start(&one, words), start(&other, words));
    let before = other.alive();
    send("INT", first.id());
    let report = first.wait_with_output().unwrap();
    assert!(report.stderr.starts_with(b"Cancelled, left 0\n"));
    assert!(one.alive().is_empty());
    assert_eq!(other.alive(), before);
    send("INT", second.id());
    let report = second.wait_with_output().unwrap();
    assert!(report.stderr.starts_with(b"Cancelled, left 0\n"));
}

/// Starts a watchdog for the run `run` with this table, signals it, and closes its input, as a
/// killed fbuild would. Returns how long the watchdog needed after that.
fn time_watchdog(run: &str, table: &[i32]) -> Duration {
    let mut file = tempfile::tempfile().unwrap();
    let table: Vec<u8> = table.iter().flat_map(|slot| slot.to_ne_bytes()).collect();
    file.write_all(&table).unwrap();
    let mut watchdog = Command::new(processes::fbt());
    watchdog.args([fbuild::exec::WATCHDOG_ARGUMENT, run]);
    watchdog.stdin(Stdio::piped()).stdout(file);
    let mut watchdog = watchdog.spawn().unwrap();
    let status = format!("/proc/{}/status", watchdog.id());
    let handled = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];
    let handled: u64 = handled.map(|signal| 1 << (signal - 1)).iter().sum();
    eventually("the watchdog handles signals", || {
        let status = std::fs::read_to_string(&status).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
        caught & handled == handled
    });
    for signal in ["INT", "TERM", "HUP", "QUIT"] {
        send(signal, watchdog.id());
    }
    let gone = Instant::now();
    drop(watchdog.stdin.take());
    assert!(watchdog.wait().unwrap().success());
    gone.elapsed()
}

/// A process in a group of its own that waits until this is dropped.
struct Waiting {
    place: Place,
    child: std::process::Child,
}

impl Waiting {
    /// Starts a process, with a marker if there is one.
    fn start(marker: Option<&str>) -> Self {
        let place = Place::new();
        let argv = place.fbt("wait MARK");
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).env_clear().process_group(0);
        command.envs(marker.map(|marker| ("FBUILD_ACTION", marker)));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self { place, child }
    }

    fn is_alive(&self) -> bool {
        !self.place.alive().is_empty()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn watchdog_kills_listed_and_marked_processes() {
    let run = format!("{:016x}", std::process::id());
    let listed = Waiting::start(None);
    let marked = Waiting::start(Some(&format!("{run}.7")));
    let others = Waiting::start(Some("0123456789abcdef.7"));
    let took = time_watchdog(&run, &[listed.child.id().try_into().unwrap(), 0]);
    eventually("the listed process is killed", || !listed.is_alive());
    assert!(!marked.is_alive() && others.is_alive());
    assert!(took < Duration::from_secs(5), "the watchdog took {took:?}");
}

#[test]
fn watchdog_of_a_clean_run_kills_nothing() {
    let run = format!("{:015x}f", std::process::id());
    let marked = Waiting::start(Some(&format!("{run}.7")));
    time_watchdog(&run, &[]);
    assert!(marked.is_alive());
}

#[test]
fn watchdog_waits_for_a_starting_command() {
    let took = time_watchdog("0000000000000000", &[-1]);
    let expected = Duration::from_secs(1)..Duration::from_secs(6);
    assert!(expected.contains(&took), "{took:?}");
}

#[test]
fn fbuild_works_with_sigchld_ignored() {
    let place = Place::new();
    let driver = driver(&place, "exit 3");
    let mut starter = Command::new("env");
    starter
        .arg("--ignore-signal=CHLD")
        .arg(driver.get_program());
    let done = starter.args(driver.get_args()).output().unwrap();
    let report = String::from_utf8(done.stderr).unwrap();
    assert!(report.starts_with("exit status: 3, left 0\n"), "{report}");
}

/// Returns the arguments of each child of a process, each terminated by NUL.
fn children(pid: u32) -> Vec<Vec<u8>> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let parent = format!("PPid:\t{pid}\n");
    let is_child = |path: &PathBuf| {
        let status = fs::read_to_string(path.join("status"));
        status.is_ok_and(|status| status.contains(&parent))
    };
    let children = all.map(|entry| entry.path()).filter(is_child);
    children
        .filter_map(|path| fs::read(path.join("cmdline")).ok())
        .collect()
}

/// Starts `fbt drive` and waits until the command prints `ready`.
fn start(place: &Place, words: &str) -> std::process::Child {
    let mut driver = driver(place, words);
    driver.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut driver = driver.spawn().unwrap();
    let mut line = String::new();
    let output = driver.stdout.take().unwrap();
    BufReader::new(output).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    driver
}

fn send(signal: &str, pid: u32) {
    let mut kill = Command::new("kill");
    let done = kill
        .args(["-s", signal, &pid.to_string()])
        .status()
        .unwrap();
    assert!(done.success());
}

#[test]
fn interactive_command_gets_and_returns_the_terminal() {
    let place = Place::new();
    let script = "read x; echo first=$x";
    let shown = in_terminal(&place, &["--terminal"], script, "read y; echo then=$y");
    assert!(shown.contains("first=one\r\n"), "{shown}");
    assert!(shown.contains("exit status: 0, left 0\r\n"), "{shown}");
    assert!(shown.contains("then=two\r\n"), "{shown}");
}

#[test]
fn captured_command_that_reads_the_terminal_fails() {
    let place = Place::new();
    let shown = in_terminal(&place, &[], "read x </dev/tty", "true");
    assert!(
        shown.contains("`sh` waits for an answer from the terminal"),
        "{shown}"
    );
}

#[test]
fn stopped_interactive_command_resumes_with_fbuild() {
    let place = Place::new();
    // If it stops before it has the terminal, it is woken once it has it.
    let script = "while [ ! -e seen ]; do kill -TSTP $$; done; read x; echo first=$x";
    let seen = place.path("seen").display().to_string();
    let shown = in_shell(&place, &["--terminal"], script, |drive| {
        format!("set -m; {drive}; echo stopped >{seen}; fg >/dev/null; read y; echo then=$y")
    });
    let at = |part: &str| {
        shown
            .find(part)
            .unwrap_or_else(|| panic!("no {part}: {shown}"))
    };
    assert!(
        at("first=one\r\n") < at("exit status: 0, left 0\r\n"),
        "{shown}"
    );
    assert!(
        at("exit status: 0, left 0\r\n") < at("then=two\r\n"),
        "{shown}"
    );
}

#[test]
fn background_fbuild_leaves_the_terminal_alone() {
    let place = Place::new();
    let shown = in_shell(&place, &["--terminal"], "echo first", |drive| {
        format!("set -m; {drive} & wait; read y; echo then=$y")
    });
    assert!(shown.contains("first\r\n"), "{shown}");
    assert!(shown.contains("then=one\r\n"), "{shown}");
}

/// Runs `sh -c SCRIPT` under `fbt drive`, and then `after`, in a terminal with two typed lines;
/// returns the content of the terminal.
fn in_terminal(place: &Place, options: &[&str], script: &str, after: &str) -> String {
    in_shell(place, options, script, |drive| format!("{drive}; {after}"))
}

/// Like [`in_terminal`], with a shell line built from the command line of `fbt drive`.
fn in_shell(
    place: &Place,
    options: &[&str],
    script: &str,
    line: impl FnOnce(String) -> String,
) -> String {
    let words = [processes::fbt().as_os_str(), "drive".as_ref()];
    let words = words.into_iter().chain(options.iter().map(AsRef::as_ref));
    let here = place.path("");
    let words = words.chain([here.as_os_str()]);
    let words = words.chain(["--", "sh", "-c", script].map(AsRef::as_ref));
    let quoted: Vec<String> = words
        .map(|word: &std::ffi::OsStr| fbuild::exec::quote(word.as_encoded_bytes()))
        .collect();
    let line = line(quoted.join(" "));
    let mut terminal = Command::new("script");
    terminal
        .args(["-qec", &line, "/dev/null"])
        .env("SHELL", "/bin/sh");
    terminal.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut terminal = terminal.spawn().unwrap();
    let mut keyboard = terminal.stdin.take().unwrap();
    keyboard.write_all(b"one\ntwo\n").unwrap();
    drop(keyboard);
    let shown = terminal.wait_with_output().unwrap().stdout;
    String::from_utf8(shown).unwrap()
}
