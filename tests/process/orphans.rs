//! Tests that no process of a command outlives it.

use super::*;

#[test]
fn orphan_is_killed_before_its_command_counts_as_done() {
    let place = Place::new();
    for how in ["", "session", "fork", "fork session"] {
        for mute in ["", "mute"] {
            for child in [
                "wait MARK",
                "ignore-term MARK",
                "write FILE MARK",
                "stop MARK",
            ] {
                let words = format!("launch {how} {mute} -- {child}");
                let run = place.run(&words);
                place.assert_nothing_left(&words);
                assert_eq!(run.code(), Some(0), "{words}");
                assert_eq!(run.left_behind(), 1, "{words}");
                let duration = run.duration;
                assert!(duration < Duration::from_secs(2), "{words}: {duration:?}");
            }
        }
    }
}

#[test]
fn orphan_does_not_write_after_the_command_is_done() {
    let place = Place::new();
    let run = place.run("write-after-exit FILE MARK");
    let written = fs::read(place.path("file")).unwrap();
    assert_eq!(run.code(), Some(0));
    assert!(written.starts_with(b"begin\n"));
    place.assert_nothing_left("write-after-exit");
    assert_eq!(fs::read(place.path("file")).unwrap(), written);
}

#[test]
fn deep_tree_of_sessions_is_killed() {
    let place = Place::new();
    let branch = "launch session stay -- launch session stay -- launch fork session stay --";
    let run = place.run(&format!("launch session -- {branch} wait MARK"));
    assert_eq!(run.code(), Some(0));
    place.assert_nothing_left("a deep tree");
    assert_eq!(run.left_behind(), 4);
}

#[test]
fn orphan_may_print_its_last_lines() {
    let run = Place::new().run("launch -- later 20 last words");
    assert_eq!(run.text(), "last words\n");
    assert_eq!(run.left_behind(), 0);
}

#[test]
fn orphan_that_keeps_the_pipe_open_is_killed() {
    let place = Place::new();
    let run = place.run("hold-pipe MARK");
    let duration = run.duration;
    assert!(duration < Duration::from_secs(2), "{duration:?}");
    assert_eq!(run.left_behind(), 1);
    place.assert_nothing_left("hold-pipe");
}

#[test]
fn late_output_of_an_orphan_is_not_waited_for() {
    let place = Place::new();
    let run = place.run("launch -- later 8000 MARK");
    assert_eq!(run.text(), "");
    assert_eq!(run.left_behind(), 1);
    place.assert_nothing_left("later");
}

#[test]
fn end_of_one_command_spares_processes_of_another() {
    let (one, other) = (Place::new(), Place::new());
    let run = one.run_and(
        "launch fork session mute stay -- wait MARK",
        LONG,
        |cancel| {
            assert_eq!(one.alive().len(), 2);
            // The last has no marker, but is in the group of its command.
            for how in ["session", "fork session mute", "", "mute bare"] {
                let run = other.run(&format!("launch {how} -- wait MARK"));
                assert_eq!(run.left_behind(), 1);
                other.assert_nothing_left(how);
            }
            assert_eq!(one.alive().len(), 2);
            cancel.raise();
        },
    );
    assert_eq!(run.end(), End::Cancelled);
    one.assert_nothing_left("the first command");
}

#[test]
fn concurrent_commands_leave_no_orphans() {
    let places: Vec<Place> = (0..4).map(|_| Place::new()).collect();
    std::thread::scope(|scope| {
        for place in &places {
            scope.spawn(|| {
                for _ in 0..10 {
                    let run = place.run("launch fork session mute -- wait MARK");
                    place.assert_nothing_left("one of many");
                    assert_eq!(run.left_behind(), 1);
                }
            });
        }
    });
}

#[test]
fn panic_in_the_output_callback_leaves_nothing() {
    let place = Place::new();
    let argv = place.fbt("launch session mute stay -- wait MARK");
    let panic = std::panic::AssertUnwindSafe(|| {
        place.watch(&argv, NO_LIMITS, &mut |_| panic!("no room"), &Cancel::new())
    });
    assert!(std::panic::catch_unwind(panic).is_err());
    place.assert_nothing_left("a panic");
}
