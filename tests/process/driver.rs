//! Process control (suite T8), seen from outside: what shows only when the process that runs
//! commands is alone, is killed, or has a terminal. `fbt drive` is that process.

#![expect(clippy::unwrap_used, reason = "these are tests")]
#![expect(
    clippy::disallowed_methods,
    reason = "this plays the shell that starts fbuild"
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

/// Returns `fbt drive` for `fbt` with these words.
fn driver(place: &Place, words: &str) -> Command {
    let mut driver = Command::new(processes::fbt());
    driver.arg("drive").arg(place.path("")).arg("--");
    driver.args(place.fbt(words));
    driver
}

/// Runs `fbt drive` with these words to its end. Returns how much it printed, and the two
/// lines that it says: how the commands ended, and how much memory it used.
fn drive(place: &Place, words: &str) -> (usize, String, String) {
    let done = driver(place, words).output().unwrap();
    let told = String::from_utf8(done.stderr).unwrap();
    let (ends, memory) = told.trim_end().rsplit_once('\n').unwrap();
    let end = ends.lines().last().unwrap();
    (done.stdout.len(), end.to_owned(), memory.to_owned())
}

/// Waits until `what` holds, looking again and again.
fn eventually(law: &str, what: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !what() {
        assert!(Instant::now() < limit, "never came true: {law}");
        std::thread::yield_now();
    }
}

#[test]
fn a_gigabyte_of_output_takes_no_more_memory_than_a_line() {
    let place = Place::new();
    let (said, end, memory) = drive(&place, "spam 1000000000");
    assert_eq!(
        (said, end.as_str()),
        (1_000_000_000, "exit status: 0, left 0")
    );
    let kilobytes = memory.split_whitespace().nth(1).unwrap();
    assert!(kilobytes.parse::<u64>().unwrap() < 32 << 10, "{memory}");
}

#[test]
fn a_process_that_hides_completely_is_killed_when_the_last_command_ends() {
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
fn hidden_processes_of_commands_that_end_together_are_found_by_the_last() {
    let place = Place::new();
    let hidden = "launch session mute bare -- wait MARK";
    for _ in 0..5 {
        drive(&place, &[hidden; 4].join(" ++ FBT "));
        assert!(place.alive().is_empty());
    }
}

#[test]
fn a_command_reads_nothing_whatever_fbuild_could_read() {
    let place = Place::new();
    let mut driver = driver(&place, "stdin");
    driver.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut driver = driver.spawn().unwrap();
    let mut input = driver.stdin.take().unwrap();
    // It may have ended already.
    let _ = input.write_all(b"a line\n");
    let said = driver.wait_with_output().unwrap().stdout;
    assert_eq!(said, b"0\n");
    drop(input);
}

#[test]
fn when_fbuild_is_killed_its_commands_die() {
    // The last has no marker, but the group of its command.
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
fn a_process_of_another_user_is_left_alone_and_nobody_waits_for_it_or_its_output() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can play two users");
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
        let told = String::from_utf8(done.stderr).unwrap();
        assert!(told.starts_with("exit status: 0, left 0\n"), "{told}");
        eventually("it is dead", || place.alive().is_empty());
    }
}

#[test]
fn while_a_command_runs_somebody_else_waits_for_the_end_of_fbuild() {
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
fn a_signal_to_fbuild_stops_its_commands_and_is_no_crash() {
    for (signal, way) in [("INT", "stay"), ("TERM", "session stay")] {
        let place = Place::new();
        let driver = start(&place, &format!("launch {way} -- wait MARK"));
        send(signal, driver.id());
        let told = driver.wait_with_output().unwrap();
        let told = String::from_utf8(told.stderr).unwrap();
        assert!(told.starts_with("Cancelled, left 0\n"), "{told}");
        assert!(place.alive().is_empty());
    }
}

#[test]
fn what_another_run_started_is_no_business_of_a_run_that_is_stopped() {
    let (one, other) = (Place::new(), Place::new());
    let words = "launch session mute stay -- wait MARK";
    let (first, second) = (start(&one, words), start(&other, words));
    let before = other.alive();
    send("INT", first.id());
    let told = first.wait_with_output().unwrap();
    assert!(told.stderr.starts_with(b"Cancelled, left 0\n"));
    assert!(one.alive().is_empty());
    assert_eq!(other.alive(), before);
    send("INT", second.id());
    let told = second.wait_with_output().unwrap();
    assert!(told.stderr.starts_with(b"Cancelled, left 0\n"));
}

/// Plays fbuild for a watchdog: starts one for the run `run` with this table, signals it, and
/// is gone. Returns how long the watchdog needed from then on.
fn keep(run: &str, table: &[i32]) -> Duration {
    let mut file = tempfile::tempfile().unwrap();
    let table: Vec<u8> = table.iter().flat_map(|slot| slot.to_ne_bytes()).collect();
    file.write_all(&table).unwrap();
    let mut watchdog = Command::new(processes::fbt());
    watchdog.args([fbuild::exec::WATCHDOG_ARGUMENT, run]);
    watchdog.stdin(Stdio::piped()).stdout(file);
    let mut watchdog = watchdog.spawn().unwrap();
    let status = format!("/proc/{}/status", watchdog.id());
    let heeded = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];
    let heeded: u64 = heeded.map(|signal| 1 << (signal - 1)).iter().sum();
    eventually("the watchdog heeds signals", || {
        let status = std::fs::read_to_string(&status).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
        caught & heeded == heeded
    });
    for signal in ["INT", "TERM", "HUP", "QUIT"] {
        send(signal, watchdog.id());
    }
    let gone = Instant::now();
    drop(watchdog.stdin.take());
    assert!(watchdog.wait().unwrap().success());
    gone.elapsed()
}

/// A process of its own group that waits until this is dropped.
struct Waiting {
    place: Place,
    child: std::process::Child,
}

impl Waiting {
    /// Starts one with a marker, if there is one.
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
fn a_keeper_outlives_signals_and_kills_what_is_in_its_table_or_has_the_marker_of_its_run() {
    let run = format!("{:016x}", std::process::id());
    let listed = Waiting::start(None);
    let marked = Waiting::start(Some(&format!("{run}.7")));
    let others = Waiting::start(Some("0123456789abcdef.7"));
    let took = keep(&run, &[listed.child.id().try_into().unwrap(), 0]);
    eventually("what is in the table is killed", || !listed.is_alive());
    assert!(!marked.is_alive() && others.is_alive());
    assert!(took < Duration::from_secs(5), "nobody was left: {took:?}");
}

#[test]
fn a_keeper_of_a_run_that_ended_as_it_should_kills_nobody() {
    let run = format!("{:015x}f", std::process::id());
    let marked = Waiting::start(Some(&format!("{run}.7")));
    keep(&run, &[]);
    assert!(marked.is_alive());
}

#[test]
fn a_keeper_waits_a_moment_for_a_command_that_was_about_to_start() {
    let took = keep("0000000000000000", &[-1]);
    let expected = Duration::from_secs(1)..Duration::from_secs(6);
    assert!(expected.contains(&took), "{took:?}");
}

#[test]
fn whoever_starts_fbuild_may_ignore_the_death_of_children() {
    let place = Place::new();
    let driver = driver(&place, "exit 3");
    let mut starter = Command::new("env");
    starter
        .arg("--ignore-signal=CHLD")
        .arg(driver.get_program());
    let done = starter.args(driver.get_args()).output().unwrap();
    let told = String::from_utf8(done.stderr).unwrap();
    assert!(told.starts_with("exit status: 3, left 0\n"), "{told}");
}

/// Returns the words of each child of a process, each ended by a NUL.
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

/// Starts `fbt drive` with these words, and waits until the command says that it is ready.
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
fn an_interactive_command_has_the_terminal_and_gives_it_back() {
    let place = Place::new();
    let script = "read x; echo first=$x";
    let said = in_terminal(&place, &["--terminal"], script, "read y; echo then=$y");
    assert!(said.contains("first=one\r\n"), "{said}");
    assert!(said.contains("exit status: 0, left 0\r\n"), "{said}");
    assert!(said.contains("then=two\r\n"), "{said}");
}

#[test]
fn a_captured_command_that_asks_the_terminal_is_an_error() {
    let place = Place::new();
    let said = in_terminal(&place, &[], "read x </dev/tty", "true");
    assert!(
        said.contains("`sh` waits for an answer from the terminal"),
        "{said}"
    );
}

#[test]
fn an_interactive_command_can_be_stopped_at_the_terminal_and_goes_on_with_fbuild() {
    let place = Place::new();
    // If it stops before it has the terminal, it is woken once it has.
    let script = "while [ ! -e seen ]; do kill -TSTP $$; done; read x; echo first=$x";
    let seen = place.path("seen").display().to_string();
    let said = in_shell(&place, &["--terminal"], script, |drive| {
        format!("set -m; {drive}; echo stopped >{seen}; fg >/dev/null; read y; echo then=$y")
    });
    let at = |part: &str| {
        said.find(part)
            .unwrap_or_else(|| panic!("no {part}: {said}"))
    };
    assert!(
        at("first=one\r\n") < at("exit status: 0, left 0\r\n"),
        "{said}"
    );
    assert!(
        at("exit status: 0, left 0\r\n") < at("then=two\r\n"),
        "{said}"
    );
}

#[test]
fn in_the_background_fbuild_takes_the_terminal_from_nobody() {
    let place = Place::new();
    let said = in_shell(&place, &["--terminal"], "echo first", |drive| {
        format!("set -m; {drive} & wait; read y; echo then=$y")
    });
    assert!(said.contains("first\r\n"), "{said}");
    assert!(said.contains("then=one\r\n"), "{said}");
}

/// Runs `sh -c SCRIPT` under `fbt drive`, and then `after`, in a terminal into which two
/// lines are typed; returns what appears there.
fn in_terminal(place: &Place, options: &[&str], script: &str, after: &str) -> String {
    in_shell(place, options, script, |drive| format!("{drive}; {after}"))
}

/// The same, with a line of a shell that is made of the one that runs `fbt drive`.
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
    let said = terminal.wait_with_output().unwrap().stdout;
    String::from_utf8(said).unwrap()
}
