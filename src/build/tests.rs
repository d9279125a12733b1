//! Whole builds without processes: results are kept in memory, and commands are scripts of
//! [`Fake`](crate::exec::Fake). Each test asserts the events.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;

use super::Policy;
use super::testing::{Build, CancelOnLookup, Project};
use crate::cancel::Cancel;
use crate::digest::Digest;
use crate::exec::{End, Gate, Script};
use crate::store;

/// Two targets, of which the second reads the output of the first.
const CHAIN: &str = "
    target a { inputs src; outputs \"out/a\"; run one }
    target b { needs a; outputs \"out/b\"; run two }";

#[test]
fn needs_run_before_their_dependants() {
    let mut project = Project::new(CHAIN);
    let fake = project.commands(&["a", "b"]);
    assert_eq!(
        project.build(&fake),
        [
            "start a: never built here",
            "built a",
            "start b: never built here",
            "built b",
        ]
    );
}

#[test]
fn nothing_runs_if_nothing_changed() {
    let mut project = Project::new(CHAIN);
    let fake = project.commands(&["a", "b"]);
    project.build(&fake);
    fake.take_names();
    assert_eq!(project.build(&fake), ["up to date a", "up to date b"]);
    assert!(fake.requests().is_empty());
}

#[test]
fn a_changed_input_runs_its_target() {
    let mut project = Project::new(CHAIN);
    let fake = project.commands(&["a", "b"]);
    project.build(&fake);
    project.write("src", "other");
    let events = project.build(&fake);
    assert_eq!(events[0], "start a: `src` changed");
}

#[test]
fn equal_outputs_stop_a_rebuild_early() {
    let mut project = Project::new(CHAIN);
    let fake = project.commands(&["a", "b"]);
    project.build(&fake);
    project.write("src", "other");
    assert_eq!(
        project.build(&fake)[1..],
        ["built a".to_owned(), "up to date b".to_owned()]
    );
}

#[test]
fn changed_outputs_run_the_dependants() {
    let mut project = Project::new(CHAIN);
    let fake = project
        .fake()
        .on("a", Script::new().writes("out/a", "1"))
        .on("a", Script::new().writes("out/a", "2"))
        .on("b", Script::new().writes("out/b", "b"));
    project.build(&fake);
    project.write("src", "other");
    let events = project.build(&fake);
    assert_eq!(events[2], "start b: `out/a` changed, made by `a`");
}

#[test]
fn need_without_commands_passes_outputs_on() {
    let mut project = Project::new(
        "target a { inputs src; outputs \"out/a\"; run one }
         target all { needs a }
         target b { needs all; outputs \"out/b\"; run two }",
    );
    let fake = project
        .fake()
        .on("a", Script::new().writes("out/a", "1"))
        .on("a", Script::new().writes("out/a", "2"))
        .on("b", Script::new().writes("out/b", "b"));
    project.build(&fake);
    project.write("src", "other");
    let events = project.build(&fake);
    let expected = "start b: `out/a` changed, made by `a`".to_owned();
    assert!(events.contains(&expected), "{events:?}");
}

#[test]
fn need_without_outputs_runs_dependants() {
    let mut project = Project::new(
        "target install { inputs src; run one }
         target b { needs install; outputs \"out/b\"; run two }",
    );
    let fake = project.commands(&["b"]);
    project.build(&fake);
    project.write("src", "other");
    let events = project.build(&fake);
    assert_eq!(events[2], "start b: `install`, which it needs, ran again");
}

#[test]
fn a_failure_skips_its_dependants() {
    let mut project = Project::new(CHAIN);
    let fake = project.fake().on("a", Script::new().fails(2));
    assert_eq!(
        project.build(&fake),
        [
            "start a: never built here",
            "failed a: fbuild::exec::exit",
            "skipped b: because of a",
        ]
    );
}

const INDEPENDENT: &str = "
    target a { outputs \"out/a\"; run one }
    target b { outputs \"out/b\"; run two }";

#[test]
fn a_failure_stops_the_run() {
    let mut project = Project::new(INDEPENDENT);
    let fake = project.commands(&["b"]).on("a", Script::new().fails(1));
    assert_eq!(
        project.build(&fake)[1..],
        [
            "failed a: fbuild::exec::exit".to_owned(),
            "skipped b: because of a".to_owned(),
        ]
    );
}

#[test]
fn keep_going_runs_independent_targets() {
    let mut project = Project::new(INDEPENDENT);
    let fake = project.commands(&["b"]).on("a", Script::new().fails(1));
    assert_eq!(
        project.build_with(&fake, Build::keep_going()),
        [
            "start a: never built here",
            "failed a: fbuild::exec::exit",
            "start b: never built here",
            "built b",
        ]
    );
}

#[test]
fn a_retry_follows_a_failed_attempt() {
    let mut project = Project::new("target a { outputs \"out/a\"; retries 1; run one }");
    let fake = project
        .fake()
        .on("a", Script::new().prints("no").fails(1))
        .on("a", Script::new().prints("yes").writes("out/a", ""));
    assert_eq!(
        project.build(&fake),
        [
            "start a: never built here",
            "print a: no",
            "warn a: fbuild::build::retried",
            "start a again, attempt 2",
            "print a: yes",
            "built a",
        ]
    );
}

#[test]
fn the_last_failed_attempt_fails_the_target() {
    let mut project = Project::new("target a { outputs \"out/a\"; retries 1; run one }");
    let fake = project.fake().on("a", Script::new().fails(1));
    let events = project.build(&fake);
    assert_eq!(events.last().unwrap(), "failed a: fbuild::exec::exit");
    assert_eq!(fake.requests().len(), 2);
}

#[test]
fn a_timeout_fails_the_target() {
    let mut project = Project::new("target a { timeout \"1s\"; run one }");
    let fake = project.fake().on("a", Script::new().ends(End::TimedOut));
    let events = project.build(&fake);
    assert_eq!(events[1], "failed a: fbuild::exec::timeout");
}

#[test]
fn interrupt_of_an_interactive_target_ends_the_run() {
    use std::os::unix::process::ExitStatusExt as _;
    // Killed by SIGINT, and a shell whose command was.
    for status in [2, 130 << 8] {
        let end = End::Exited(std::process::ExitStatus::from_raw(status));
        for (interactive, last) in [
            ("#true", "interrupted"),
            ("#false", "skipped b: because of a"),
        ] {
            let mut project = Project::new(&format!(
                "target a {{ interactive {interactive}; run one }}\n\
                 target b {{ needs a; run two }}"
            ));
            let fake = project.fake().on("a", Script::new().ends(end));
            assert_eq!(project.build(&fake).last().unwrap(), last, "{status}");
        }
    }
}

#[test]
fn a_missing_output_fails_the_target() {
    let mut project = Project::new("target a { outputs \"out/a\"; run one }");
    let fake = project.fake();
    let events = project.build(&fake);
    assert_eq!(events[1], "failed a: fbuild::store::output_missing");
}

#[test]
fn a_failure_leaves_the_old_outputs() {
    let mut project = Project::new(CHAIN);
    let fake = project
        .commands(&["a", "b"])
        .on("a", Script::new().writes("out/a", "broken").fails(1));
    project.build(&fake);
    project.write("src", "other");
    project.build(&fake);
    assert_eq!(project.read("out/a"), "a");
}

#[test]
fn cancelling_stops_running_commands() {
    let mut project = Project::new(
        "target a { outputs \"out/a\"; run one }
         target b { needs a; run two }
         target c { run three }",
    );
    let fake = project
        .fake()
        .on("a", Script::new().waits_for(&Gate::new()));
    let build = Build {
        cancel_at: "start a: never built here",
        ..Build::default()
    };
    let mut events = project.build_with(&fake, build);
    events[1..].sort();
    assert_eq!(
        events,
        [
            "start a: never built here",
            "cancelled a",
            "cancelled b",
            "cancelled c",
            "interrupted",
        ]
    );
}

#[test]
fn cancelling_while_preparing_starts_nothing() {
    let mut project = Project::new(
        "target a { run one }
         target b { run two }
         target c { run three }",
    );
    let fake = project.fake();
    let (cancel, memory) = (Cancel::new(), store::Memory::new());
    let store = CancelOnLookup {
        store: &memory,
        cancel: &cancel,
    };
    let build = Build {
        store: Some(&store),
        cancel: cancel.clone(),
        ..Build::default()
    };
    let mut events = project.build_with(&fake, build);
    events.sort();
    let expected = ["cancelled a", "cancelled b", "cancelled c", "interrupted"];
    assert_eq!(events, expected);
    assert!(fake.requests().is_empty());
}

#[test]
fn a_cancelled_target_runs_in_the_next_run() {
    let mut project = Project::new("target a { outputs \"out/a\"; run one }");
    let fake = project.commands(&["a"]);
    let build = Build {
        cancel_at: "start a: never built here",
        ..Build::default()
    };
    project.build_with(&fake, build);
    assert_eq!(project.build(&fake)[1], "built a");
}

#[test]
fn targets_with_one_lock_run_one_by_one() {
    let mut project = Project::new(
        "target a { locks db; run one }
         target b { locks db; run two }",
    );
    let fake = project.fake();
    let events = project.build_with(&fake, Build::jobs(2));
    let place = |event: &str| events.iter().position(|e| e == event).unwrap();
    assert!(place("built a") < place("start b: never built here"));
}

#[test]
fn independent_targets_run_at_the_same_time() {
    let mut project = Project::new(INDEPENDENT);
    let gate = Gate::new();
    let opener = gate.clone();
    let open = move |_: &Path| {
        opener.open();
        Ok(())
    };
    // The first one ends only after the second one has started.
    let fake = project
        .fake()
        .on("a", Script::new().writes("out/a", "").waits_for(&gate))
        .on("b", Script::new().writes("out/b", "").calls(open));
    let mut events = project.build_with(&fake, Build::jobs(2));
    events.sort();
    assert_eq!(events[..2], ["built a".to_owned(), "built b".to_owned()]);
}

#[test]
fn an_input_changed_during_a_command_is_not_stored() {
    let mut project = Project::new("target a { inputs src; outputs \"out/a\"; run one }");
    let edit = |root: &Path| fs::write(root.join("src"), "edited");
    let fake = project
        .commands(&[])
        .on("a", Script::new().writes("out/a", "stale").calls(edit));
    let fake = fake.on("a", Script::new().writes("out/a", "fresh"));
    assert_eq!(
        project.build(&fake),
        [
            "start a: never built here",
            "warn a: fbuild::build::input_changed",
            "built a",
        ]
    );
    assert_eq!(project.build(&fake)[1], "built a");
    assert_eq!(project.read("out/a"), "fresh");
}

#[test]
fn deleted_outputs_are_restored_with_the_log() {
    let mut project = Project::new("target a { outputs \"out/a\"; run one }");
    let script = Script::new().writes("out/a", "a").prints("made\n");
    let fake = project.fake().on("a", script);
    project.build(&fake);
    project.remove("out/a");
    assert_eq!(
        project.build(&fake),
        [
            "print a: made\n",
            "restored a: its output `out/a` was deleted",
        ]
    );
    assert_eq!(project.read("out/a"), "a");
}

#[test]
fn an_earlier_result_is_restored_by_its_key() {
    let mut project = Project::new("target a { inputs src; outputs \"out/a\"; run one }");
    let fake = project
        .fake()
        .on("a", Script::new().writes("out/a", "1"))
        .on("a", Script::new().writes("out/a", "2"));
    project.build(&fake);
    project.write("src", "other");
    project.build(&fake);
    project.write("src", "text");
    assert_eq!(project.build(&fake), ["restored a: `src` changed"]);
    assert_eq!(project.read("out/a"), "1");
}

#[test]
fn an_evicted_blob_is_made_again() {
    let mut project = Project::new("target a { outputs \"out/a\"; run one }");
    let fake = project.commands(&["a"]);
    project.build(&fake);
    project.remove("out/a");
    project.store.forget(Digest::of(b"a"));
    assert_eq!(
        project.build(&fake),
        [
            "warn a: fbuild::build::evicted",
            "start a: its output `out/a` was deleted",
            "built a",
        ]
    );
}

#[test]
fn foreign_file_in_an_owned_folder_fails_the_target() {
    let mut project = Project::new("target a { outputs \"out/\"; run one }");
    let fake = project.commands(&["a"]);
    project.build(&fake);
    project.write("out/stray", "");
    assert_eq!(project.build(&fake), ["failed a: fbuild::store::foreign"]);
    assert!(project.path("out/stray").exists());
}

#[test]
fn foreign_file_stops_a_target_before_its_commands() {
    let mut project = Project::new("target a { outputs \"out/\"; run one; retries 2 }");
    let fake = project.commands(&["a"]);
    project.write("out/stray", "");
    let events = project.build(&fake);
    assert_eq!(
        events,
        [
            "start a: never built here",
            "failed a: fbuild::store::foreign"
        ]
    );
    assert!(project.path("out/stray").exists());
    assert!(!project.path("out/a").exists());
}

#[test]
fn replaced_foreign_file_goes_to_the_trash() {
    let mut project = Project::new("target a { outputs \"out/\"; run one }");
    let fake = project.commands(&["a"]);
    project.build(&fake);
    project.write("out/stray", "");
    let build = Build::policy(Policy {
        replace: true,
        ..Policy::default()
    });
    let reason = "`out/stray` is in its output folder but is not one of its outputs";
    assert_eq!(
        project.build_with(&fake, build),
        [
            "warn a: fbuild::store::trashed".to_owned(),
            format!("restored a: {reason}"),
        ]
    );
    assert!(!project.path("out/stray").exists());
}

#[test]
fn a_dry_run_changes_nothing() {
    let mut project = Project::new(CHAIN);
    let fake = project.commands(&["a", "b"]);
    let dry_run = || {
        Build::policy(Policy {
            dry_run: true,
            ..Policy::default()
        })
    };
    assert_eq!(
        project.build_with(&fake, dry_run()),
        [
            "would run a: never built here",
            "would run b: `a` would run before it",
        ]
    );
    assert!(!project.path("out").exists());
    project.build(&fake);
    project.remove("out/b");
    assert_eq!(
        project.build_with(&fake, dry_run()),
        [
            "up to date a",
            "would restore b: its output `out/b` was deleted",
        ]
    );
    assert!(!project.path("out/b").exists());
}

#[test]
fn missing_tool_fails_before_anything_starts() {
    let mut project = Project::new(
        "tool no-such-tool; tool no-other-tool
         target a { run one }
         target b { needs a; tools no-such-tool; run two }
         target c { tools no-such-tool; run three }
         target d { needs b; tools no-other-tool; run four }
         target e { needs c; run five }",
    );
    let fake = project.fake();
    let mut events = project.build(&fake);
    events.sort();
    assert_eq!(
        events,
        [
            "failed b: fbuild::tool::missing",
            "failed d: fbuild::tool::missing",
            "skipped a: because of b",
            "skipped c: because of b",
            "skipped e: because of c",
        ]
    );
    let mut events = project.build_with(&fake, Build::keep_going());
    events.retain(|event| !event.starts_with("skipped"));
    assert_eq!(
        events,
        [
            "failed b: fbuild::tool::missing",
            "failed d: fbuild::tool::missing",
            "start a: never built here",
            "built a",
        ]
    );
}

#[test]
fn failure_names_hidden_variables() {
    let mut project = Project::new("target a { pass HTTP_PROXY; run one }");
    let fake = project.fake().on("a", Script::new().fails(1));
    let variables = ["HTTP_PROXY", "HTTPS_PROXY"].map(|name| (name.into(), "x".into()));
    let build = Build {
        host_env: variables.into(),
        ..Build::default()
    };
    let events = project.build_with(&fake, build);
    assert_eq!(
        events[1..],
        [
            "failed a: fbuild::exec::exit".to_owned(),
            "warn a: fbuild::action::hidden_variable".to_owned(),
        ]
    );
}

#[test]
fn force_runs_targets_that_are_up_to_date() {
    let mut project = Project::new(CHAIN);
    let fake = project.commands(&["a", "b"]);
    project.build(&fake);
    let build = Build::policy(Policy {
        force: true,
        ..Policy::default()
    });
    assert_eq!(
        project.build_with(&fake, build),
        [
            "start a: `--force` was given",
            "built a",
            "start b: `--force` was given",
            "built b",
        ]
    );
}

#[test]
fn an_uncached_target_always_runs() {
    let mut project = Project::new("target a { cache #false; run one }");
    let fake = project.fake();
    project.build(&fake);
    assert_eq!(project.build(&fake), ["start a: it always runs", "built a"]);
}

#[test]
fn a_group_stands_for_its_targets() {
    let mut project = Project::new(
        "target a { run one }
         target b { run two }
         target c { run three }
         group g { needs a c }",
    );
    let fake = project.fake();
    let build = Build {
        names: &["g"],
        ..Build::default()
    };
    project.build_with(&fake, build);
    assert_eq!(fake.take_names(), ["a", "c"]);
}

#[test]
fn after_orders_targets_without_a_need() {
    let mut project = Project::new(
        "target a { after z; run one }
         target z { inputs src; run two }",
    );
    let fake = project.fake();
    project.build(&fake);
    assert_eq!(fake.take_names(), ["z", "a"]);
    project.write("src", "other");
    assert_eq!(project.build(&fake).last().unwrap(), "up to date a");
}

#[test]
fn stale_committed_outputs_fail_a_drift_check() {
    let mut project = Project::new("target a { outputs \"out/a\" committed=#true; run one }");
    project.write("out/a", "committed");
    let fake = project.commands(&["a"]);
    let build = Build::policy(Policy {
        drift: true,
        ..Policy::default()
    });
    let events = project.build_with(&fake, build);
    assert_eq!(events[1], "failed a: fbuild::build::drift");
    assert_eq!(project.read("out/a"), "committed");
}

#[test]
fn changed_committed_outputs_are_reported() {
    let text = "target a { inputs src; outputs \"out/\" committed=#true; run one }";
    let mut project = Project::new(text);
    project.write("src", "1");
    project.write("out/a", "1");
    let write = |text: &str| project.fake().on("a", Script::new().writes("out/a", text));
    let (same, other) = (write("1"), write("2"));
    let changed = "warn a: fbuild::build::committed_changed".to_owned();
    assert!(!project.build(&same).contains(&changed), "the same bytes");
    project.write("src", "2");
    assert!(project.build(&other).contains(&changed), "built");
    project.write("src", "1");
    assert!(project.build(&other).contains(&changed), "restored");
}

#[test]
fn a_panic_in_a_command_fails_one_target() {
    let mut project = Project::new(INDEPENDENT);
    let fake = project
        .commands(&["b"])
        .on("a", Script::new().calls(|_| panic!("a test")));
    let events = project.build_with(&fake, Build::keep_going());
    assert_eq!(events[1], "failed a: fbuild::bug");
    assert_eq!(events[3], "built b");
}

#[test]
fn a_signal_names_its_number() {
    let mut project = Project::new("target a { run one }");
    let killed = End::Exited(ExitStatus::from_raw(9));
    let fake = project.fake().on("a", Script::new().ends(killed));
    assert_eq!(project.build(&fake)[1], "failed a: fbuild::exec::signal");
}
