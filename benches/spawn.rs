//! Measures the overhead of running a command: 1,000 times `/bin/true`, bare and as fbuild
//! runs it. Prints the times.
//!
//! `cargo bench --bench spawn`

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement"
)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fbuild::action::{Action, ResolvedCommand};
use fbuild::cancel::Cancel;
use fbuild::exec::{self, Executor as _, GRACE, Local, Program, Streams, Task};
use fbuild::path::{RelPath, Root};
use fbuild::system::user_dirs::UserDirs;

const TIMES: usize = 1000;
const TRUE: &str = "/bin/true";

fn main() {
    let mut words = std::env::args_os().skip(1);
    if words
        .next()
        .is_some_and(|word| word == exec::WATCHDOG_ARGUMENT)
    {
        exec::watchdog_main(words.next());
        return;
    }
    let dir = std::env::temp_dir().join(format!("fbuild-bench-{}", std::process::id()));
    let made = std::fs::create_dir(&dir).and_then(|()| Root::open(&dir));
    let Ok(root) = made else {
        return println!("cannot make {}", dir.display());
    };
    let local = Local::new(root, dir.join("tmp"), UserDirs::default())
        .with_watchdog("/proc/self/exe".into());
    let (action, cancel) = (action(), Cancel::new());
    // Alternate, so that a busy machine affects all of them alike.
    for round in 1..=3 {
        let bare = measure(bare);
        show(round, "Command::output", bare, bare);
        show(round, "exec::run", measure(|| run(&cancel)), bare);
        show(
            round,
            "Local with watchdog",
            measure(|| execute(&local, &action, &cancel)),
            bare,
        );
    }
    drop(local);
    // Ignore the error: the folder is in the system's temporary folder.
    let _ = std::fs::remove_dir_all(&dir);
}

/// Returns the median time, which other load on the machine affects least.
fn measure(mut act: impl FnMut() -> bool) -> Duration {
    let mut time = || {
        let started = Instant::now();
        assert!(act(), "a command failed");
        started.elapsed()
    };
    let mut times: Vec<Duration> = (0..TIMES).map(|_| time()).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

fn show(round: u32, what: &str, time: Duration, bare: Duration) {
    let ratio = time.as_secs_f64() / bare.as_secs_f64();
    let more = time.as_secs_f64() - bare.as_secs_f64();
    println!(
        "{round}  {what:18} {time:>10.1?}  x {ratio:.2}  {:+.0} µs",
        more * 1e6
    );
}

fn bare() -> bool {
    let done = Command::new(TRUE).output();
    done.is_ok_and(|done| done.status.success())
}

fn run(cancel: &Cancel) -> bool {
    let program = Program {
        argv: &[OsString::from(TRUE)],
        env: &BTreeMap::new(),
        dir: Path::new("/"),
        streams: Streams::Captured,
        deadline: None,
        grace: GRACE,
        watchdog: None,
        tracer: None,
    };
    let ended = exec::run(&program, &mut |_| {}, cancel);
    ended.is_ok_and(|ended| ended.end.is_success())
}

fn execute(local: &Local, action: &Action, cancel: &Cancel) -> bool {
    let task = Task {
        name: "true",
        action,
        timeout: None,
        interactive: false,
        tracing: exec::Tracing::Off,
    };
    let execution = local.execute(&task, &mut |_| {}, cancel);
    execution.is_ok_and(|execution| execution.end.is_success())
}

fn action() -> Action {
    Action {
        commands: vec![ResolvedCommand::Run(vec![TRUE.into()])],
        dir: RelPath::root(),
        env: BTreeMap::new(),
        inherited: BTreeMap::new(),
        secrets: BTreeMap::new(),
        tools: BTreeMap::new(),
        inputs: Vec::new(),
        needs: BTreeMap::new(),
        ran: BTreeMap::new(),
        outputs: Vec::new(),
    }
}
