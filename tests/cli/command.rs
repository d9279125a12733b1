//! Checks misbehaving commands: missing, not executable, killed, hanging, printing without
//! end, or without the declared outputs. Each fails only its own target, with the reason.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::processes;
use super::project::Project;

/// Runs a target that fails and returns the final error.
#[track_caller]
fn failure(body: &str) -> String {
    let project = Project::new(&format!("target bad {{\n{body}\n}}\n"));
    failure_in(&project)
}

#[track_caller]
fn failure_in(project: &Project) -> String {
    let done = project.run("run bad").code(1);
    assert_eq!(done.stderr, "");
    let at = done.stdout.find("\nerror[").expect("an error is told");
    let text = done.stdout[at + 1..].to_owned();
    // A failure is not cached: the next run fails again.
    assert!(project.run("run bad").code(1).stdout.ends_with(&text));
    text
}

#[test]
fn missing_command_names_the_searched_folders() {
    assert_eq!(
        failure("run no-such-program x"),
        "error[fbuild::exec::not_found]: bad failed: command `no-such-program` not found\n  \
         help: install it, or correct `PATH`, which is `[path]`\n  \
         to repeat it by hand:\n    \
         cd [root] && env -i HOME=/nonexistent LANG=C.UTF-8 PATH=[path] FBUILD_TARGET=bad no-such-program x\n\n\
         Failed after [time]: 1 failed\n"
    );
}

#[test]
fn command_without_x_bit_suggests_chmod() {
    let project = Project::new("target bad { run \"./tool\" x }\n").file("tool", "#!/bin/sh\n");
    assert_eq!(
        failure_in(&project),
        "error[fbuild::exec::not_executable]: bad failed: `[root]/./tool` is not executable\n  \
         help: `chmod +x [root]/./tool`, or start it through its interpreter\n  \
         to repeat it by hand:\n    \
         cd [root] && env -i HOME=/nonexistent LANG=C.UTF-8 PATH=[path] FBUILD_TARGET=bad ./tool x\n\n\
         Failed after [time]: 1 failed\n"
    );
}

#[test]
fn command_without_interpreter_is_reported() {
    for text in ["#!/no/such/interpreter\n", "\x7fELF nonsense", ""] {
        let project = Project::new("target bad { run \"./tool\" }\n").file("tool", text);
        fs::set_permissions(project.path("tool"), fs::Permissions::from_mode(0o755)).unwrap();
        let said = failure_in(&project);
        assert!(said.starts_with("error[fbuild::exec::"), "{said}");
        assert!(said.contains("./tool"), "{said}");
    }
}

#[test]
fn killed_command_names_the_signal() {
    assert_eq!(
        failure("sh \"kill -9 $$\""),
        "error[fbuild::exec::signal]: bad failed: `sh` was killed by SIGKILL (perhaps the system ran out of memory)\n  \
         to repeat it by hand:\n    \
         cd [root] && env -i HOME=/nonexistent LANG=C.UTF-8 PATH=[path] FBUILD_TARGET=bad sh -eu -c 'kill -9 $$'\n\n\
         Failed after [time]: 1 failed\n"
    );
    let crashed = failure("sh \"kill -SEGV $$\"");
    assert!(
        crashed.contains("`sh` was killed by SIGSEGV (it crashed)"),
        "{crashed}"
    );
}

#[test]
fn timeout_ends_the_command_and_its_children() {
    let (fbt, place) = (processes::fbt().display(), processes::Place::new());
    let project = Project::new(&format!(
        "target bad {{\n    timeout \"200ms\"\n    run \"{fbt}\" launch stay -- wait {}\n}}\n",
        place.mark
    ));
    let said = failure_in(&project);
    let first = said.lines().next();
    assert_eq!(
        first,
        Some(
            "error[fbuild::exec::timeout]: bad failed: `[fbt]` took longer than its `timeout` allows"
        )
    );
    assert_eq!(place.alive(), [0; 0]);
}

#[test]
fn timeout_ends_a_slow_command() {
    let project = Project::new(
        "target bad {\n    timeout \"100ms\"\n    outputs out\n    sh \"sleep 8; echo > out\"\n}\n",
    );
    let said = project.run("run bad").code(1).stdout;
    assert!(said.contains("fbuild::exec::timeout"), "{said}");
    assert!(!project.has("out"));
}

#[test]
fn orphans_are_stopped_and_reported() {
    let (fbt, place) = (processes::fbt().display(), processes::Place::new());
    let project = Project::new(&format!(
        "target ok {{\n    run \"{fbt}\" launch session mute -- wait {}\n}}\n",
        place.mark
    ));
    project.run("run ok").ok("
        Building 1 target
        [1/1] Starting ok: never built here
        warning[fbuild::exec::left_behind]: ok: 1 process was left running, and was stopped
        [1/1] Completed ok ([time], total elapsed: [time])
        Finished in [time]: 1 built
        ");
    assert_eq!(place.alive(), [0; 0]);
}

#[test]
fn endless_output_needs_little_memory() {
    const BYTES: usize = 256 << 20;
    let fbt = processes::fbt().display();
    let project = Project::new(&format!(
        "target loud {{\n    run \"{fbt}\" spam {BYTES}\n}}\n"
    ));
    // Once while it prints, once out of the cache.
    for run in ["run loud", "run loud"] {
        if project.has(".build-cache/state") {
            fs::remove_file(project.path(".build-cache/state")).unwrap();
        }
        let (printed, memory) = project.fbuild(run).start().drain();
        assert!(printed > BYTES, "{printed} bytes were printed");
        assert!(memory < 64 << 20, "{memory} bytes of memory were used");
    }
}

#[test]
fn invalid_utf8_passes_and_is_replaced_in_json() {
    let fbt = processes::fbt().display();
    let project = Project::new(&format!(
        "target binary {{\n    outputs x\n    run \"{fbt}\" binary\n    sh \"touch x\"\n}}\n"
    ));
    let all: Vec<u8> = (0..=255).collect();
    let is_in = |bytes: &[u8]| bytes.windows(256).any(|window| window == all);
    let built = project.run("run binary").code(0);
    assert!(is_in(&built.bytes), "{}", built.stdout);
    fs::remove_file(project.path("x")).unwrap();
    let restored = project.run("run binary").code(0);
    assert!(restored.stdout.contains("Restored binary"));
    assert!(is_in(&restored.bytes), "{}", restored.stdout);
    let json = project.run("run --force --json binary").code(0);
    String::from_utf8(json.bytes).expect("JSON is UTF-8");
}

#[test]
fn missing_output_fails_the_target() {
    assert_eq!(
        failure("outputs made missing\n    sh \"touch made other\""),
        "error[fbuild::store::output_missing]: bad failed: the declared output `missing` was not made\n  \
         help: correct `outputs`, or the command: it succeeded without writing this\n\n\
         Failed after [time]: 1 failed\n"
    );
    let folder = failure("outputs \"made/\"\n    sh \"rm -rf made; touch made\"");
    assert!(folder.contains("made"), "{folder}");
    let pattern = failure("outputs \"made/*.txt\"\n    sh \"true\"");
    assert!(
        pattern.contains("the declared output `made/*.txt` was not made"),
        "{pattern}"
    );
}

#[test]
fn failed_command_keeps_the_old_outputs() {
    let project = Project::new(
        r#"target t { inputs in; outputs out "folder/"; sh "mkdir -p folder; cp in out; cp in folder/f; grep -q good in" }"#,
    )
    .file("in", "good\n");
    project.run("run -q t").ok("");
    project.write("in", "bad\n");
    project.run("run -q t").code(1);
    assert_eq!(project.read("out"), "good\n");
    assert_eq!(project.read("folder/f"), "good\n");
    project.write("in", "good\n");
    project
        .run("run t")
        .ok("nothing to do: 1 target up to date ([time])\n");
}

#[test]
fn command_inherits_no_input_or_files() {
    let fbt = processes::fbt().display();
    let project = Project::new(&format!(
        "target t {{\n    run \"{fbt}\" stdin\n    run \"{fbt}\" fds\n}}\n"
    ));
    let done = project.run("run t").code(0);
    // fbuild keeps descriptors open that its own parent passed on.
    let inherited = std::process::Command::new(processes::fbt())
        .arg("fds")
        .stdin(std::process::Stdio::null())
        .output();
    let inherited = String::from_utf8(inherited.unwrap().stdout).unwrap();
    let expected = format!("output of t:\n0\n{inherited}");
    assert!(done.stdout.contains(&expected), "{}", done.stdout);
}

#[test]
fn script_longer_than_an_argument_runs() {
    let comment = format!("# {}\n", "x".repeat(98)).repeat(2000);
    let text = format!(
        "target t {{ outputs out; sh #\"\"\"\n{comment}ls -A \"$TMPDIR\" > out; echo \"$0 $#\" >> out\n\"\"\"# }}\n"
    );
    let project = Project::new("");
    project.write("Buildfile.kdl", text);
    project.run("run -q t").ok("");
    assert_eq!(project.read("out"), "sh 0\n");
}
