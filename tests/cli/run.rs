//! `fbuild run`: its effects and its output.

use super::project::Project;

/// Returns a project with two targets, one of which needs the other.
fn two() -> Project {
    Project::new(
        r#"
        project demo { default shout }
        jobs 2
        target copy {
            inputs "in.txt"
            outputs "copy.txt"
            sh "cp in.txt copy.txt"
        }
        target shout {
            needs copy
            outputs "shout.txt"
            sh "tr a-z A-Z < copy.txt > shout.txt; echo shouting"
        }
        "#,
    )
    .file("in.txt", "hello\n")
}

/// Returns a project with a failing target, one that needs it, and an independent one.
fn failing() -> Project {
    Project::new(
        r#"
        jobs 1
        target bad {
            sh "echo one; echo two >&2; exit 3"
        }
        target late {
            needs bad
            sh "true"
        }
        target other {
            outputs other
            sh "touch other"
        }
        group all { needs late other }
        "#,
    )
}

#[test]
fn second_run_does_nothing() {
    let project = two();
    project.run("run").ok("
        Building 2 targets, up to 2 at once
        [1/2] Starting copy: never built here
        [1/2] Completed copy ([time], total elapsed: [time])
        [2/2] Starting shout: never built here
        output of shout:
        shouting
        [2/2] Completed shout ([time], total elapsed: [time])
        Finished in [time]: 2 built; [time] of work
        ");
    assert_eq!(project.read("shout.txt"), "HELLO\n");
    project
        .run("run")
        .ok("nothing to do: 2 targets up to date ([time])\n");
    project
        .run("run copy")
        .ok("nothing to do: 1 target up to date ([time])\n");
}

#[test]
fn changed_input_is_the_reason() {
    let project = two();
    project.run("run -q").ok("");
    project.write("in.txt", "other\n");
    project.run("run shout").ok("
        Building 2 targets, up to 2 at once; everything takes about [time]
        [1/2] Starting copy: `in.txt` changed
        [1/2] Completed copy ([time], total elapsed: [time])
        [2/2] Starting shout: `copy.txt` changed, made by `copy`
        output of shout:
        shouting
        [2/2] Completed shout ([time], total elapsed: [time])
        Finished in [time]: 2 built; [time] of work
        ");
}

#[test]
fn equal_output_rebuilds_no_dependants() {
    let project = Project::new(
        r#"
        target generate { inputs in; outputs made; sh "head -n 1 in > made" }
        target use { needs generate; outputs used; sh "cp made used" }
        "#,
    )
    .file("in", "kept\nold\n");
    project.run("run -q use").ok("");
    project.write("in", "kept\nnew\n");
    project.run("run -v -j1 use").ok("
        Building 2 targets; everything takes about [time]
        [1/2] Starting generate: `in` changed
        [1/2] Completed generate ([time], total elapsed: [time])
        [2/2] Up to date: use
        Finished in [time]: 1 built, 1 up to date
        ");
}

#[test]
fn failure_shows_output_and_command() {
    let project = failing();
    project.run("run all").ended(
        1,
        "
        Building 3 targets
        [1/3] Starting bad: never built here
        output of bad:
        one
        two
        [1/3] Failed bad ([time], total elapsed: [time]): `sh` exited with code 3

        error[fbuild::exec::exit]: bad failed: `sh` exited with code 3
          to repeat it by hand:
            cd [root] && env -i HOME=/nonexistent LANG=C.UTF-8 PATH=[path] FBUILD_TARGET=bad sh -eu -c 'echo one; echo two >&2; exit 3'
          not built because of it: late and other

        Failed after [time]: 1 failed, 2 skipped
        ",
        "",
    );
    assert!(!project.has("other"));
}

#[test]
fn keep_going_builds_independent_targets() {
    let project = failing();
    project.run("run -k all").ended(
        1,
        "
        Building 3 targets
        [1/3] Starting bad: never built here
        output of bad:
        one
        two
        [1/3] Failed bad ([time], total elapsed: [time]): `sh` exited with code 3
        [3/3] Starting other: never built here
        [3/3] Completed other ([time], total elapsed: [time])

        error[fbuild::exec::exit]: bad failed: `sh` exited with code 3
          | one
          | two
          to repeat it by hand:
            cd [root] && env -i HOME=/nonexistent LANG=C.UTF-8 PATH=[path] FBUILD_TARGET=bad sh -eu -c 'echo one; echo two >&2; exit 3'
          not built because of it: late

        Failed after [time]: 1 failed, 1 skipped, 1 built; [time] of work
        ",
        "",
    );
}

#[test]
fn quiet_run_prints_only_failures() {
    let project = failing();
    project.run("run -q other").ok("");
    project.run("run --quiet bad").ended(
        1,
        "

        error[fbuild::exec::exit]: bad failed: `sh` exited with code 3
          | one
          | two
          to repeat it by hand:
            cd [root] && env -i HOME=/nonexistent LANG=C.UTF-8 PATH=[path] FBUILD_TARGET=bad sh -eu -c 'echo one; echo two >&2; exit 3'

        Failed after [time]: 1 failed
        ",
        "",
    );
}

#[test]
fn verbose_run_names_every_target() {
    let project = two();
    project.run("run -q copy").ok("");
    project.run("run --verbose").ok("
        [1/2] Up to date: copy
        Building 2 targets, up to 2 at once; everything takes about [time]
        [2/2] Starting shout: never built here
        output of shout:
        shouting
        [2/2] Completed shout ([time], total elapsed: [time])
        Finished in [time]: 1 built, 1 up to date
        ");
}

#[test]
fn dry_run_prints_planned_work() {
    let project = two();
    project.run("run -n").ok("
        [1/2] Would run copy: never built here
        [2/2] Would run shout: `copy` would run before it
        2 would run
        ");
    project.run("run -q").ok("");
    project
        .run("run --dry-run")
        .ok("nothing to do: 2 targets up to date ([time])\n");
    std::fs::remove_file(project.path("shout.txt")).unwrap();
    project.run("run --dry-run").ok("
        [2/2] Would restore shout: its output `shout.txt` was deleted
        1 would be restored, 1 up to date
        ");
}

#[test]
fn force_runs_targets_that_are_up_to_date() {
    let project = two();
    project.run("run -q").ok("");
    project.run("run --force copy").ok("
        Building 1 target; everything takes about [time]
        [1/1] Starting copy: `--force` was given
        [1/1] Completed copy ([time], total elapsed: [time])
        Finished in [time]: 1 built
        ");
}

#[test]
fn no_cache_neither_reads_nor_stores_results() {
    let project = two();
    project.run("run -q copy").ok("");
    project.run("run --no-cache copy").ok("
        Building 1 target; everything takes about [time]
        [1/1] Starting copy: `--no-cache` was given
        [1/1] Completed copy ([time], total elapsed: [time])
        Finished in [time]: 1 built
        ");
    project.write("in.txt", "second\n");
    project.run("run --no-cache -q copy").ok("");
    std::fs::remove_file(project.path("copy.txt")).unwrap();
    project.run("run copy").ok("
        warning[fbuild::build::evicted]: copy: `copy.txt` (content [id]) is not in the cache any more; it is made again
        Building 1 target; everything takes about [time]
        [1/1] Starting copy: its output `copy.txt` was deleted
        [1/1] Completed copy ([time], total elapsed: [time])
        Finished in [time]: 1 built
        ");
}

#[test]
fn changed_outputs_are_restored_with_their_log() {
    let project = two();
    project.run("run -q").ok("");
    project.write("copy.txt", "meddled\n");
    std::fs::remove_file(project.path("shout.txt")).unwrap();
    project.run("run").ok("
        warning[fbuild::store::trashed]: copy: `copy.txt` was in the place of an output and is in the trash now; `fbuild trash restore` returns what it can
        Building 2 targets, up to 2 at once; everything takes about [time]
        [1/2] Restored copy from the cache: its output `copy.txt` was modified (total elapsed: [time])
        output of shout:
        shouting
        [2/2] Restored shout from the cache: its output `shout.txt` was deleted (total elapsed: [time])
        Finished in [time]: 2 restored
        ");
    assert_eq!(project.read("copy.txt"), "hello\n");
    assert_eq!(project.read("shout.txt"), "HELLO\n");
}

#[test]
fn colours_need_a_terminal_or_the_option() {
    let project = two();
    let plain = project.run("run -n").code(0);
    assert!(!plain.stdout.contains('\x1b'));
    let always = project.run("run -n --color always").code(0);
    assert!(always.stdout.contains('\x1b'));
    let never = project.run("run -n --color never").code(0);
    assert_eq!(never.stdout, plain.stdout);
}

#[test]
fn progress_can_be_live_or_plain() {
    let project = two();
    let live = project.run("run --progress live copy").code(0);
    assert!(live.stdout.contains("Completed copy"), "{}", live.stdout);
    project
        .run("run --progress plain copy")
        .ok("nothing to do: 1 target up to date ([time])\n");
}

#[test]
fn unknown_target_error_suggests_a_name() {
    let project = two();
    project.run("run cpoy").ended(
        2,
        "",
        "
        error[fbuild::graph::unknown]: unknown target `cpoy`
          help: did you mean `copy`?
        ",
    );
    project.run("run nothing everything copy").ended(
        2,
        "",
        "
        error[fbuild::graph::unknown]: unknown target `nothing`
        error[fbuild::graph::unknown]: unknown target `everything`
          help: `fbuild list` shows all of them
        ",
    );
}

#[test]
fn run_without_default_shows_how_to_set_one() {
    let project = failing();
    project.run("run").ended(
        2,
        "",
        "
        error[fbuild::graph::unknown]: no target is named, and the project has no default
          help: name one, as in `fbuild run all`, or write `default all` into `project`
        ",
    );
}

#[test]
fn failed_target_is_retried_as_declared() {
    let project = Project::new(
        r##"
        target flaky {
            retries 2
            outputs done
            sh #"echo x >> tries; echo "attempt $(wc -l < tries)"; test $(wc -l < tries) -ge 3; touch done"#
        }
        "##,
    );
    project.run("run flaky").ok("
        Building 1 target
        [1/1] Starting flaky: never built here
        output of flaky:
        attempt 1
        warning[fbuild::build::retried]: flaky: attempt 1 failed and another follows: `sh` exited with code 1
        [1/1] Starting flaky again (attempt 2): never built here
        output of flaky:
        attempt 2
        warning[fbuild::build::retried]: flaky: attempt 2 failed and another follows: `sh` exited with code 1
        [1/1] Starting flaky again (attempt 3): never built here
        output of flaky:
        attempt 3
        [1/1] Completed flaky ([time], total elapsed: [time])
        Finished in [time]: 1 built
        ");
}

#[test]
fn uncached_target_always_runs() {
    let project = Project::new(r#"target now { cache #false; sh "echo now" }"#);
    for _ in 0..2 {
        let done = project.run("run now").code(0);
        let lines: Vec<&str> = done.stdout.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "[1/1] Starting now: it always runs",
                "output of now:",
                "now",
                "[1/1] Completed now ([time], total elapsed: [time])",
                "Finished in [time]: 1 built"
            ]
        );
    }
}

#[test]
fn after_target_is_not_in_the_key() {
    let project = Project::new(
        r#"
        jobs 2
        target first { cache #false; sh "date +%N > first" }
        target second { after first; outputs second; sh "cp first second" }
        "#,
    );
    project.run("run -q second").ok("");
    project.run("run second").ok("
        Building 2 targets, up to 2 at once; everything takes about [time]
        [1/2] Starting first: it always runs
        [1/2] Completed first ([time], total elapsed: [time])
        Finished in [time]: 1 built, 1 up to date
        ");
}

#[test]
fn commands_run_in_order_in_their_folder() {
    let project = Project::new(
        r#"
        target here {
            dir "sub/folder"
            inputs "sub/folder/in"
            outputs "sub/folder/out"
            run cp in out
            run pwd
            sh "cat out; false"
            run echo never
        }
        "#,
    )
    .file("sub/folder/in", "in\n");
    let done = project.run("run here").code(1);
    let expected = "output of here:\n[root]/sub/folder\nin\n[1/1] Failed here";
    assert!(done.stdout.contains(expected), "{}", done.stdout);
    assert!(
        !project.has("sub/folder/out"),
        "a failed target leaves nothing"
    );
}

#[test]
fn known_key_of_a_need_without_outputs_counts() {
    let project = Project::new(
        r#"
        target a { inputs in; sh "true" }
        target b { needs a; outputs out; sh "cat in > out" }
        "#,
    )
    .file("in", "1\n");
    for text in ["1\n", "2\n", "1\n"] {
        project.write("in", text);
        project.run("run -q b").ok("");
        assert_eq!(project.read("out"), text);
    }
}
