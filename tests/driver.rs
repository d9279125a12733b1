//! Process control (suite T8), seen from outside: what shows only when the process that runs
//! commands is alone, is killed, or has a terminal. `fbt drive` is that process.

#![expect(clippy::unwrap_used, reason = "these are tests")]
#![expect(
    clippy::disallowed_methods,
    reason = "this plays the shell that starts fbuild"
)]

mod helpers;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use helpers::Place;

/// Returns `fbt drive` for `fbt` with these words.
fn driver(place: &Place, words: &str) -> Command {
    let mut driver = Command::new(helpers::fbt());
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
    for way in ["stay", "session stay", "fork session mute stay"] {
        let place = Place::new();
        let mut driver = start(&place, &format!("launch {way} -- ignore-term MARK"));
        driver.kill().unwrap();
        driver.wait().unwrap();
        eventually(way, || place.alive().is_empty());
    }
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

/// Runs `sh -c SCRIPT` under `fbt drive`, and then `after`, in a terminal into which two
/// lines are typed; returns what appears there.
fn in_terminal(place: &Place, options: &[&str], script: &str, after: &str) -> String {
    let words = [helpers::fbt().as_os_str(), "drive".as_ref()];
    let words = words.into_iter().chain(options.iter().map(AsRef::as_ref));
    let here = place.path("");
    let words = words.chain([here.as_os_str()]);
    let words = words.chain(["--", "sh", "-c", script].map(AsRef::as_ref));
    let quoted: Vec<String> = words
        .map(|word: &std::ffi::OsStr| fbuild::exec::quote(word.as_encoded_bytes()))
        .collect();
    let line = format!("{}; {after}", quoted.join(" "));
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
