//! Tests concurrent and interrupted runs: in one tree the second run waits, two checkouts
//! share results, and the next run continues after an interruption.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use rustix::process::{Pid, Signal};

use super::processes::{Place, fbt};
use super::project::{FBUILD, Project, eventually, is_root};

/// A target that reports that it runs, and waits before it goes on.
const MEETING: &str = r#"
    target t {
        inputs in
        outputs out
        sh "cp in out; echo running > ../reached; read go < ../go"
    }
"#;

#[test]
fn second_run_waits_and_names_the_first() {
    let project = Project::new(MEETING).file("in", "1\n");
    let (reached, go) = (project.pipe("../reached"), project.pipe("../go"));
    let first = project.fbuild("run t").start();
    reached.wait();
    let mut second = project.fbuild("run -v t").start();
    let message = second.says("\n");
    assert_eq!(
        message,
        "waiting for another run in this folder: `fbuild run t` (process [pid])\n"
    );
    go.go();
    first.end().ok("
        Building 1 target
        [1/1] Starting t: never built here
        [1/1] Completed t ([time], total elapsed: [time])
        Finished in [time]: 1 built
        ");
    second.end().ok("
        [1/1] Up to date: t
        nothing to do: 1 target up to date ([time])
        ");
}

/// Asserts that a second run waits for the first, if both are started by `wrapper`.
fn assert_second_run_waits(project: &Project, wrapper: &[&OsStr]) {
    let (reached, go) = (project.pipe("../reached"), project.pipe("../go"));
    let first = project.fbuild("run -q t").under(wrapper).start();
    reached.wait();
    let mut second = project.fbuild("run -q t").under(wrapper).start();
    second.says("waiting for another run in this folder: `fbuild run -q t`");
    go.go();
    first.end().code(0);
    // Without state, the second run does not know that nothing changed.
    if project.path(".build-cache").is_file() {
        reached.wait();
        go.go();
    }
    second.end().code(0);
    assert_eq!(project.read("out"), "1\n");
}

#[test]
fn second_run_waits_if_the_state_folder_is_unusable() {
    let project = Project::new(MEETING).file("in", "1\n");
    project.write(".build-cache", "");
    assert_second_run_waits(&project, &[]);
}

#[test]
fn second_run_waits_without_flock() {
    for errno in ["ENOSYS", "ENOLCK", "EOPNOTSUPP"] {
        let project = Project::new(MEETING).file("in", "1\n");
        let refusal = OsString::from(format!("flock={errno}"));
        let refuse = [fbt().as_os_str(), OsStr::new("refuse"), &refusal];
        assert_second_run_waits(&project, &refuse);
    }
}

#[test]
fn run_of_another_target_waits_too() {
    let quick = "target quick { outputs quick; sh \"echo > quick\" }\n";
    let project = Project::new(&format!("{MEETING}{quick}")).file("in", "1\n");
    let (reached, go) = (project.pipe("../reached"), project.pipe("../go"));
    let first = project.fbuild("run -q t").start();
    reached.wait();
    let mut second = project.fbuild("run -q quick").start();
    second.says("waiting for another run in this folder");
    assert!(!project.has("quick"));
    go.go();
    first.end().ok("");
    second.end().ok("");
    assert!(project.has("quick"));
}

#[test]
fn read_only_commands_do_not_wait() {
    let project = Project::new(MEETING).file("in", "1\n");
    let (reached, go) = (project.pipe("../reached"), project.pipe("../go"));
    let first = project.fbuild("run -q t").start();
    reached.wait();
    for command in [
        "status t",
        "run -n t",
        "graph",
        "explain t",
        "list",
        "check",
        "cache status",
    ] {
        project.run(command).code(0);
    }
    go.go();
    first.end().ok("");
}

#[test]
fn waiting_clean_runs_after_the_first_run() {
    let project = Project::new(MEETING).file("in", "1\n");
    let (reached, go) = (project.pipe("../reached"), project.pipe("../go"));
    let first = project.fbuild("run -q t").start();
    reached.wait();
    let mut clean = project.fbuild("clean --all").start();
    clean.says("waiting for another run");
    go.go();
    first.end().ok("");
    clean.end().ok("removed 1 output of 1 target\n");
    assert!(!project.has("out"));
}

#[test]
fn interrupt_stops_commands_and_next_run_continues() {
    let place = Place::new();
    let project = Project::new(&format!(
        r#"
        jobs 1
        target done {{ outputs done; sh "echo done > done" }}
        target long {{
            needs done
            inputs in
            outputs long
            sh "cp in long; echo $$ > ../reached; test -f ../go-on || {fbt} launch session mute stay -- wait {mark} > ../ready"
        }}
        target after {{ needs long; outputs after; sh "cp long after" }}
        "#,
        fbt = fbt().display(),
        mark = place.mark,
    ))
    .file("in", "1\n")
    .file("long", "before\n");
    let reached = project.pipe("../reached");
    let run = project.fbuild("run --replace after").start();
    reached.wait();
    eventually("the grandchild runs", || place.alive().len() >= 2);
    run.signal(Signal::INT);
    let mut done = run.end();
    // The order of these two lines is not fixed.
    done.stdout = done.stdout.replace("[3/3] Stopped", "[2/3] Stopped");
    done.ended(
        130,
        "
        Building 3 targets
        [1/3] Starting done: never built here
        [1/3] Completed done ([time], total elapsed: [time])
        [2/3] Starting long: never built here
        [2/3] Stopped long ([time], total elapsed: [time])
        Interrupted after [time]: 2 not finished, 1 built
        ",
        "",
    );
    assert_eq!(place.alive(), [0; 0], "something still runs");
    assert_eq!(
        project.read("long"),
        "before\n",
        "the old output is restored"
    );
    assert!(!project.has("after"));
    // The next run continues after the finished target.
    project.write("../go-on", "");
    let next = project.fbuild("run --replace after").start();
    reached.wait();
    let stdout = next.end().code(0).stdout;
    let finished = "Finished in [time]: 2 built, 1 up to date";
    assert!(stdout.contains(finished), "{stdout}");
    assert_eq!(project.read("after"), "1\n");
}

#[test]
fn second_interrupt_kills_commands_that_ignore_term() {
    let place = Place::new();
    let project = Project::new(&format!(
        "target t {{\n    sh \"echo > ../reached; exec {} ignore-term {}\"\n}}\n",
        fbt().display(),
        place.mark
    ));
    let reached = project.pipe("../reached");
    let mut run = project.fbuild("run t").start();
    reached.wait();
    eventually("the command runs", || !place.alive().is_empty());
    // Two signals at the same time may count as one, so they are sent until it ends.
    eventually("it ends before the grace period", || {
        run.signal(Signal::INT);
        run.child.try_wait().unwrap().is_some()
    });
    run.end().code(130);
    assert_eq!(place.alive(), [0; 0], "something still runs");
}

#[test]
fn hangup_ends_a_run() {
    let project = Project::new(MEETING).file("in", "1\n");
    let (reached, go) = (project.pipe("../reached"), project.pipe("../go"));
    let run = project
        .fbuild("run t")
        .under(["env", "--default-signal=HUP"]);
    let run = run.start();
    reached.wait();
    run.signal(Signal::HUP);
    run.end().code(130);
    assert!(!project.has("out"));
    drop(go);
}

#[test]
fn hangup_does_not_end_a_run_under_nohup() {
    let project = Project::new(MEETING).file("in", "1\n");
    let (reached, go) = (project.pipe("../reached"), project.pipe("../go"));
    let run = project.fbuild("run -q t").under(["nohup"]).start();
    reached.wait();
    run.signal(Signal::HUP);
    go.go();
    run.end().code(0);
    assert_eq!(project.read("out"), "1\n");
}

#[test]
fn killed_run_leaves_nothing_and_next_run_continues() {
    let place = Place::new();
    let project = Project::new(&MEETING.replace("sh \"", &format!("sh \": {}; ", place.mark)))
        .file("in", "1\n")
        .file("out", "before\n");
    let (reached, go) = (project.pipe("../reached"), project.pipe("../go"));
    let run = project.fbuild("run --replace t").start();
    reached.wait();
    run.signal(Signal::KILL);
    run.end().code(-9);
    eventually("its commands have ended", || place.alive().is_empty());
    let next = project.fbuild("run -q --replace t").start();
    reached.wait();
    go.go();
    let done = next.end().code(0);
    // The old file, and the one that the killed run left.
    assert_eq!(done.stdout.lines().count(), 2, "{}", done.stdout);
    assert!(done.stdout.contains("`out` was in the place of an output"));
    assert_eq!(project.read("out"), "1\n");
    let leftovers: Vec<String> = project.names(".build-cache/tmp");
    assert_eq!(
        leftovers.iter().filter(|name| !name.ends_with('/')).count(),
        0,
        "{leftovers:?}"
    );
}

#[test]
fn watchdog_starts_before_the_first_command() {
    let project = Project::new(r#"target t { outputs out; sh "echo > out" }"#);
    let log = project.path("log");
    let trace = ["strace", "-f", "-qq", "-e", "trace=execve", "-o"].map(OsString::from);
    let wrapper = trace.into_iter().chain([log.clone().into_os_string()]);
    project.fbuild("run -q t").under(wrapper).end().ok("");
    let traced = fs::read_to_string(&log).unwrap();
    let first = |part: &str| {
        let at = traced.lines().position(|line| line.contains(part));
        at.unwrap_or_else(|| panic!("{part} was not started: {traced}"))
    };
    assert!(first("__watchdog") < first("echo > out"), "{traced}");
}

#[test]
fn switching_back_restores_earlier_outputs() {
    let project = Project::new(
        r#"
        target gen { inputs in; outputs "gen/"; sh "mkdir -p gen; for w in $(cat in); do echo $w > gen/$w; done" }
        target use { needs gen; outputs used; sh "cat gen/* > used" }
        "#,
    )
    .file("in", "a b\n");
    project.run("run -q use").ok("");
    project.write("in", "b c\n");
    project.run("run -q use").ok("");
    project.write("in", "a b\n");
    project.run("run use -j1").ok("
        Building 2 targets; everything takes about [time]
        [1/2] Restored gen from the cache: `in` changed (total elapsed: [time])
        [2/2] Restored use from the cache: `gen/a` changed, made by `gen` (total elapsed: [time])
        Finished in [time]: 2 restored
        ");
    assert_eq!(project.names("gen"), ["a", "b"]);
    assert_eq!(project.read("used"), "a\nb\n");
}

#[test]
fn two_checkouts_share_results() {
    const BUILDFILE: &str = r#"
        cache dir="../shared"
        target t { inputs in; outputs out; sh "cp in out; echo printed" }
    "#;
    let project = Project::new(BUILDFILE).file("in", "1\n");
    let other = Project::new(BUILDFILE).file("in", "1\n");
    other.buildfile(
        &BUILDFILE.replace("../shared", project.base().join("shared").to_str().unwrap()),
    );
    project.run("run -q t").ok("");
    // The same user runs both.
    let run = other.fbuild("run t");
    let run = run.env("XDG_STATE_HOME", project.base().join("user"));
    run.end().ok("
        Building 1 target
        output of t:
        printed
        [1/1] Restored t from the cache: never built here (total elapsed: [time])
        Finished in [time]: 1 restored
        ");
    assert_eq!(other.read("out"), "1\n");
    assert!(other.has(".build-cache/metadata/t.meta.json"));
    assert!(!other.has(".build-cache/artifacts"));
    let done = other.run("clean --all").code(0);
    assert_eq!(
        done.stderr,
        "the cache in `[base]/shared` may be shared and is kept; `fbuild cache clear` empties it\n"
            .replace("[base]", project.base().to_str().unwrap())
    );
    assert!(fs::exists(project.path("../shared/artifacts")).unwrap());
}

#[test]
fn targets_with_one_lock_run_one_at_a_time() {
    let target = |name: &str| {
        format!(
            "target {name} {{\n    locks port\n    sh \"mkdir held; echo > ../reached; read go < ../go; rmdir held\"\n}}\n"
        )
    };
    let project = Project::new(&format!(
        "jobs 4\n{}{}{}",
        target("a"),
        target("b"),
        target("c")
    ));
    let (reached, go) = (project.pipe("../reached"), project.pipe("../go"));
    let run = project.fbuild("run -q a b c").start();
    for _ in 0..3 {
        reached.wait();
        go.go();
    }
    run.end().ok("");
}

#[test]
fn jobs_allow_that_many_commands_at_once() {
    // Each of the two commands waits for the other.
    let project = Project::new(
        r#"
        target a { sh "echo > ../a; read x < ../b" }
        target b { sh "read x < ../a; echo > ../b" }
        "#,
    );
    project.pipe("../a");
    project.pipe("../b");
    project.run("run -q -j 2 a b").ok("");
}

#[test]
fn jobs_allow_no_more_commands_at_once() {
    let project = Project::new(
        r#"
        target a { sh "mkdir held; rmdir held" }
        target b { sh "mkdir held; rmdir held" }
        target c { sh "mkdir held; rmdir held" }
        "#,
    );
    project.run("run -q --jobs 1 a b c").ok("");
}

#[test]
fn run_inside_a_command_of_the_same_tree_fails() {
    let project = Project::new(&format!(
        r#"
        target inner {{ outputs i; sh "echo inner > i" }}
        target outer {{ outputs o; sh "{FBUILD} $(cat what); cp i o" }}
        "#
    ));
    let what = ["run inner", "clean"];
    for what in what {
        project.write("what", what);
        let done = project.run("run outer").code(1);
        let expected = "a command of the target `outer` started fbuild in the tree";
        assert!(done.stdout.contains(expected), "{}", done.stdout);
        assert!(done.stdout.contains("`needs`"), "{}", done.stdout);
    }
}

#[test]
fn stop_signal_also_stops_commands() {
    let place = Place::new();
    let project = Project::new(&format!(
        "target t {{ timeout \"20s\"; sh \"{fbt} wait {mark} & {fbt} wait {mark}\" }}\n",
        fbt = fbt().display(),
        mark = place.mark
    ));
    let mut run = project.fbuild("run t").command();
    // The system ignores the signal in a process group that no shell would continue, so the
    // run gets a group of its own, below this process.
    run.process_group(0).stdout(Stdio::null());
    let mut run = run.stderr(Stdio::null()).spawn().unwrap();
    let pid = Pid::from_child(&run);
    let signal = |signal| rustix::process::kill_process(pid, signal).unwrap();
    eventually("the commands run", || place.alive().len() >= 3);
    signal(Signal::TSTP);
    let is_stopped = |pid: &i32| state_of(*pid) == Some('T');
    eventually("the commands are stopped", || {
        place.alive().iter().all(is_stopped)
    });
    eventually("fbuild is stopped", || {
        is_stopped(&pid.as_raw_nonzero().get())
    });
    signal(Signal::CONT);
    eventually("the commands continue", || {
        !place.alive().iter().any(is_stopped)
    });
    signal(Signal::INT);
    assert_eq!(run.wait().unwrap().code(), Some(130));
    assert_eq!(place.alive(), [0; 0], "something still runs");
}

/// Returns the state of a process, as in `/proc/PID/stat`.
fn state_of(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[test]
fn run_without_proc_names_the_lost_promise() {
    let project = Project::new(r#"target t { outputs out; sh "echo 1 > out" }"#);
    let script = "umount -l /proc || exit 77; exec $0 run t";
    let wrapper = ["unshare", "--mount", "sh", "-c", script];
    let Some(done) = project.fbuild("").under(wrapper).command().output().ok() else {
        return;
    };
    // Only root may unmount it, and not in each container.
    if !is_root() || done.status.code() != Some(0) {
        return;
    }
    let stdout = String::from_utf8_lossy(&done.stdout);
    assert_eq!(
        stdout.matches("[fbuild::exec::no_proc]").count(),
        1,
        "{stdout}"
    );
    assert_eq!(project.read("out"), "1\n");
}
