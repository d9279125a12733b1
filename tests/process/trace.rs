//! Traces: the paths that a command and its descendants use.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use fbuild::cancel::Cancel;
use fbuild::exec::{
    Access, Change, Completion, Ended, Program, Recording, Refusal, Streams, Trace, Tracer, Uses,
    run,
};
use fbuild::path::Root;

use crate::processes::{Place, fbt};
use crate::{LONG, SHORT};

/// A folder with files, and the commands that use them.
struct Project {
    place: Place,
}

/// The result of a traced command.
struct Traced {
    completion: Completion,
    output: String,
    refusal: Option<Refusal>,
    trace: Trace,
}

impl Project {
    fn new() -> Self {
        let place = Place::new();
        for folder in ["src", "deep/er", "out"] {
            fs::create_dir_all(place.path(folder)).unwrap();
        }
        for file in ["src/a", "src/b", "deep/er/c"] {
            fs::write(place.path(file), file).unwrap();
        }
        symlink("src", place.path("link")).unwrap();
        symlink("src/a", place.path("alias")).unwrap();
        symlink("/etc", place.path("etc")).unwrap();
        Self { place }
    }

    fn root(&self) -> Root {
        Root::open(&self.place.path("")).unwrap()
    }

    /// Runs a script, traced by the helper of this program.
    fn sh(&self, script: &str) -> Traced {
        let argv = ["sh", "-c", script].map(OsString::from);
        self.run(&argv, fbt())
    }

    fn run(&self, argv: &[OsString], helper: &Path) -> Traced {
        let env = [("PATH", "/usr/bin:/bin".into()), ("FBT", fbt().into())];
        let env: [(_, OsString); 2] = env;
        let tracer = Tracer::start(helper, Recording::new(self.root())).unwrap();
        let mut output = Vec::new();
        let completion = run(
            &Program {
                argv,
                env: &BTreeMap::from(env.map(|(name, value)| (name.into(), value))),
                dir: self.root().path(),
                streams: Streams::Captured,
                deadline: Some(std::time::Instant::now() + LONG),
                grace: SHORT,
                watchdog: None,
                tracer: Some(&tracer),
            },
            &mut |bytes| output.extend_from_slice(bytes),
            &Cancel::new(),
        );
        let Ended {
            recording, refusal, ..
        } = tracer.finish();
        Traced {
            completion: completion.unwrap(),
            output: String::from_utf8(output).unwrap(),
            refusal,
            trace: recording.into_trace(),
        }
    }
}

impl Traced {
    /// Returns the accesses, one on each line: uses, path, path behind links, change.
    fn shown(&self) -> String {
        assert_eq!(self.refusal, None);
        assert!(self.completion.end.is_success(), "{}", self.output);
        assert_eq!(self.trace.gaps, []);
        let lines: Vec<String> = self.trace.accesses.iter().map(shown).collect();
        lines.join("\n")
    }
}

fn shown(access: &Access) -> String {
    let letters = [
        (Uses::READ, 'r'),
        (Uses::LIST, 'l'),
        (Uses::EXECUTE, 'x'),
        (Uses::ABSENT, '?'),
        (Uses::MODIFY, 'w'),
    ];
    let letters = letters
        .into_iter()
        .filter(|(uses, _)| access.uses.contains(*uses));
    let mut line: String = letters.map(|(_, letter)| letter).collect();
    line += &format!(" {}", access.path);
    if let Some(real) = &access.real {
        line += &format!(" -> {real}");
    }
    match access.change {
        Change::None => {}
        change => line += &format!(" {change:?}").to_lowercase(),
    }
    line
}

/// Asserts which accesses a script makes.
#[track_caller]
fn assert_trace(script: &str, expected: &str) {
    assert_eq!(Project::new().sh(script).shown(), expected, "{script}");
}

#[test]
fn read_file_is_recorded() {
    assert_trace("cat src/a", "r src/a");
    assert_trace("cat < src/a", "r src/a");
    assert_trace("cd src; cat ./a ../deep//er/c", "r deep/er/c\nr src/a");
}

#[test]
fn path_through_a_link_is_recorded_with_its_end() {
    assert_trace("cat link/b", "r link/b -> src/b");
    assert_trace("cat alias", "r alias -> src/a");
    assert_trace("cat etc/passwd >/dev/null", "r etc/passwd");
    assert_trace("cat link/../src/a", "r src/a");
}

#[test]
fn file_reached_from_outside_is_recorded() {
    assert_trace("cd /; cat \"$OLDPWD/src/a\"", "r src/a");
    let script = "d=$(mktemp -d); ln -s \"$PWD/src\" \"$d/s\"; cat \"$d/s/a\"; rm -r \"$d\"";
    assert_trace(script, "r src/a");
}

#[test]
fn absent_file_is_recorded() {
    assert_trace("cat src/none 2>&1 || true", "? src/none");
    assert_trace("cat none/at/all 2>&1 || true", "? none/at/all");
    assert_trace("cat link/none 2>&1 || true", "? link/none");
}

#[test]
fn listed_folder_is_recorded() {
    assert_trace("ls deep >/dev/null", "l deep");
    assert_trace("echo src/*", "l src");
}

#[test]
fn written_files_are_recorded_with_their_change() {
    assert_trace("echo > out/x", "w out/x created");
    assert_trace("echo > src/a", "w src/a written");
    assert_trace("rm src/a", "w src/a deleted");
    assert_trace("echo > t; rm t", "w t temporary");
    assert_trace("mkdir d; rmdir d", "w d temporary");
    assert_trace("mv src/a src/new", "w src/a deleted\nw src/new created");
    assert_trace("ln -s a src/l", "w src/l created");
    assert_trace("truncate -s 9 src/b", "w src/b written");
}

#[test]
fn file_that_is_opened_and_not_written_is_unchanged() {
    assert_trace("exec 3<>src/a", "rw src/a");
}

#[test]
fn hard_link_reads_its_source() {
    assert_trace("ln src/a out/x", "w out/x created\nr src/a");
}

#[test]
fn descendants_are_recorded() {
    assert_trace(
        "(cat src/a &) ; sh -c 'cat src/b & wait'",
        "r src/a\nr src/b",
    );
    assert_trace("setsid cat src/a; true", "r src/a");
    let script = "find src -type f -exec cat {} + >/dev/null";
    assert_trace(script, "l src\nr src/a\nr src/b");
}

#[test]
fn rare_calls_are_recorded() {
    assert_trace("$FBT call openat2 src/a", "r src/a");
    assert_trace("$FBT call relative deep/er ../er/c", "r deep/er/c");
    let script = "printf '#!/bin/sh\\nexit 0' > out/x; chmod +x out/x; $FBT call execveat out/x";
    assert_trace(script, "rxw out/x created");
}

#[test]
fn io_uring_is_refused_as_on_an_old_kernel() {
    let traced = Project::new().sh("$FBT call uring");
    assert_eq!(traced.output, "Function not implemented (os error 38)");
}

#[test]
fn executed_programs_have_their_callers() {
    let project = Project::new();
    let tool = project.place.path("src/tool");
    fs::write(&tool, "#!/usr/bin/env sh\ncat src/a").unwrap();
    let traced = project.sh("chmod +x src/tool; src/tool");
    let name = |file: &Path| file.file_name().unwrap().to_str().unwrap().to_owned();
    let chain = |process: &fbuild::exec::Process| {
        let parent = |process: &&fbuild::exec::Process| {
            let parent = process.parent?;
            Some(&traced.trace.processes[parent as usize])
        };
        let chain = std::iter::successors(Some(process), parent);
        chain.map(|process| name(&process.file)).collect::<Vec<_>>()
    };
    let last = traced.trace.processes.last().unwrap();
    assert_eq!(chain(last), ["cat", "sh", "env", "tool", "sh"]);
    let read = traced
        .trace
        .accesses
        .iter()
        .find(|access| shown(access) == "r src/a");
    let process = read.unwrap().process.unwrap();
    assert_eq!(&traced.trace.processes[process as usize], last);
}

#[test]
fn traced_command_ends_as_an_untraced_one() {
    let project = Project::new();
    let traced = project.sh("echo out; echo err >&2; cat; exit 3");
    assert_eq!(traced.output, "out\nerr\n");
    assert_eq!(
        format!("{:?}", traced.completion.end),
        "Exited(ExitStatus(unix_wait_status(768)))"
    );
}

#[test]
fn command_that_is_killed_or_stuck_does_not_hang() {
    let project = Project::new();
    let traced = project.sh("cat src/a; kill -9 $$");
    assert!(!traced.completion.end.is_success());
    assert_eq!(traced.trace.accesses.len(), 1);
    let traced = project.sh("(while :; do cat src/b; done >/dev/null) & cat src/a");
    assert_eq!(traced.completion.left_behind, 1);
}

#[test]
fn paths_that_are_no_text_are_recorded() {
    assert_trace(
        "printf x > \"$(printf 'out/\\377')\"",
        "w out/\\xff created",
    );
    let long = "d/".repeat(1500);
    assert_trace(
        &format!("cat {long}x 2>/dev/null || true"),
        &format!("? {long}x"),
    );
    assert_trace(&format!("cat {long}{long}x 2>/dev/null || true"), "");
}

#[test]
fn deleted_working_directory_is_survived() {
    assert_trace(
        "mkdir d; cd d; rmdir ../d; cat x 2>/dev/null; cat ../src/a; true",
        "w d temporary",
    );
}

#[test]
fn traced_command_cannot_be_traced_again() {
    let project = Project::new();
    let file = project.place.path("src/a").display().to_string();
    // The outer tracer is that of the driver.
    let script = format!("$FBT __trace /bin/cat cat {file} < /dev/null; echo $?");
    assert_eq!(project.sh(&script).output.trim(), "127");
}

#[test]
fn helper_that_does_not_start_is_a_refusal() {
    let project = Project::new();
    let argv = ["true"].map(OsString::from);
    let traced = project.run(&argv, Path::new("/bin/false"));
    assert_eq!(traced.refusal, Some(Refusal::Helper));
}

#[test]
fn many_processes_and_files_are_recorded_once() {
    let script = "i=0; while [ $i -lt 300 ]; do /bin/true < src/a; i=$((i+1)); done";
    let traced = Project::new().sh(script);
    assert_eq!(traced.shown(), "r src/a");
    assert_eq!(traced.trace.processes.len(), 2);
}
