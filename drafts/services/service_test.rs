//! Services of tests: when they start and stop, what their users see, and how misbehaving ones
//! are reported. No process is left behind, whatever happens.

use rustix::process::Signal;

use super::processes::{Place, fbt};
use super::project::{FinishedRun, Project};

/// Returns a project in which the test `a` uses the service `s`. `MARK` marks its processes,
/// `FBT` is the helper program.
fn with(place: &Place, service: &str, test: &str) -> Project {
    let text = format!("service s {{\n{service}\n}}\ntest a {{\n    with s\n{test}\n}}\n");
    let fbt = format!("\"{}\"", fbt().display());
    Project::new(&text.replace("FBT", &fbt).replace("MARK", &place.mark))
}

/// Asserts that a run failed with this message, and left no process.
#[track_caller]
fn fails(place: &Place, run: FinishedRun, message: &str) {
    let run = run.code(1);
    assert!(run.stdout.contains(message), "{}", run.stdout);
    assert_eq!(place.alive(), [], "{}", run.stdout);
}

#[test]
fn service_runs_while_the_test_does() {
    let place = Place::new();
    let project = with(
        &place,
        r#"
        port HTTP
        run FBT serve "{port.HTTP}" "{tmp}" MARK
        ready http="http://127.0.0.1:{port.HTTP}/health"
        "#,
        r#"
        run FBT get "127.0.0.1:{port.HTTP}"
        sh "test $PORT_HTTP = $S_PORT_HTTP -a $S_COUNT = 1"
        "#,
    );
    let run = project.run("test -v").code(0);
    assert!(run.stdout.contains("\nGET / at "), "{}", run.stdout);
    assert!(run.stdout.contains("Tests: 1 passed\n"), "{}", run.stdout);
    assert_eq!(place.alive(), []);
    let again = project.run("test").code(0);
    assert!(
        again.stdout.contains("Tests: 1 passed (1 cached)\n"),
        "{}",
        again.stdout
    );
}

#[test]
fn change_of_a_service_runs_its_tests_again() {
    let place = Place::new();
    let project = with(
        &place,
        r#"inputs conf; sh "cat conf; exec sleep 1000"; ready line="ok""#,
        r#"sh "true""#,
    )
    .file("conf", "ok\n");
    project.run("test").code(0);
    project.run("run -q a").ok("");
    project.write("conf", "still ok\n");
    let run = project.run("test").code(0);
    assert!(run.stdout.contains("Starting a: "), "{}", run.stdout);
    project.write("conf", "and this is ok\n");
    let run = project.run("run a").code(0);
    assert!(run.stdout.contains("Starting a: "), "{}", run.stdout);
}

#[test]
fn services_start_after_those_that_they_use() {
    let place = Place::new();
    let project = Project::new(
        &r#"
        service db {
            port SQL
            run FBT serve "{port.SQL}" MARK
            ready tcp="127.0.0.1:{port.SQL}"
        }
        service worker {
            with db
            run FBT get "127.0.0.1:{port.db.SQL}" MARK
            run FBT wait MARK
            ready line="ready"
        }
        test a {
            with worker count=3
            with db
            sh "test $WORKER_COUNT = 3; test $DB_PORT_SQL = $PORT_SQL"
        }
        "#
        .replace("FBT", &format!("\"{}\"", fbt().display()))
        .replace("MARK", &place.mark),
    );
    let run = project.run("test").code(0);
    assert!(run.stdout.contains("Tests: 1 passed\n"), "{}", run.stdout);
    assert_eq!(place.alive(), []);
}

#[test]
fn log_is_shown_only_after_a_failure() {
    let place = Place::new();
    let service = r#"sh "echo inside; exec sleep 1000"; ready line="inside""#;
    let passed = with(&place, service, r#"sh "true""#).run("test");
    assert!(!passed.stdout.contains("inside"), "{}", passed.stdout);
    let failed = with(&place, service, r#"sh "exit 3""#).run("test");
    let expected = "output of a:\nlog of the service `s`:\ninside\n";
    assert!(failed.stdout.contains(expected), "{}", failed.stdout);
}

#[test]
fn service_that_is_never_ready_is_reported() {
    let place = Place::new();
    let project = with(
        &place,
        r#"
        port HTTP
        run FBT wait MARK
        ready http="http://127.0.0.1:{port.HTTP}/" timeout="300ms"
        "#,
        r#"sh "true""#,
    );
    let run = project.run("test").code(1);
    assert!(
        run.stdout.contains("error[fbuild::service::not_ready]: a failed: its service `s` was not ready after [time]: http://127.0.0.1:"),
        "{}",
        run.stdout
    );
    assert!(run.stdout.contains("cannot connect to 127.0.0.1:"));
    assert_eq!(place.alive(), []);
}

#[test]
fn service_with_an_error_status_is_not_ready() {
    let place = Place::new();
    let project = with(
        &place,
        r#"
        port HTTP
        run FBT serve "{port.HTTP}" 503 MARK
        ready http="http://127.0.0.1:{port.HTTP}/" timeout="300ms"
        "#,
        r#"sh "true""#,
    );
    fails(&place, project.run("test"), "it answered with status 503");
}

#[test]
fn service_that_ends_at_once_is_reported() {
    let place = Place::new();
    let project = with(
        &place,
        r#"sh "echo address already in use; exit 4"; ready line="never""#,
        r#"sh "true""#,
    );
    let run = project.run("test").code(1);
    assert!(
        run.stdout
            .contains("its service `s` ended before it was ready: it exited with code 4"),
        "{}",
        run.stdout
    );
    assert!(run.stdout.contains("address already in use\n"));
}

#[test]
fn service_that_forks_and_exits_is_reported() {
    let place = Place::new();
    let project = with(
        &place,
        "run FBT fork-setsid MARK; ready line=\"never\"",
        r#"sh "true""#,
    );
    let message = "its service `s` ended before it was ready: it exited with code 0";
    fails(&place, project.run("test"), message);
}

#[test]
fn service_that_dies_stops_and_fails_the_test() {
    let place = Place::new();
    let project = with(
        &place,
        r#"sh "echo ready; read line < ../die; echo bye; exit 5"; ready line="ready""#,
        "sh \"echo die > ../die\"; run FBT wait MARK",
    );
    let _die = project.pipe("../die");
    let message = "its service `s` ended while it ran: it exited with code 5";
    fails(&place, project.run("test"), message);
}

#[test]
fn service_that_ignores_term_is_killed() {
    let place = Place::new();
    let project = with(
        &place,
        "run FBT ignore-term MARK; ready line=\"ready\"; stop grace=\"100ms\"",
        r#"sh "true""#,
    );
    let run = project.run("test").code(0);
    assert!(
        run.stdout.contains("warning[fbuild::service::killed]: a: the service `s` did not stop within its `grace`, and was killed"),
        "{}",
        run.stdout
    );
    assert_eq!(place.alive(), []);
}

#[test]
fn stop_signal_is_the_declared_one() {
    let place = Place::new();
    let project = with(
        &place,
        r#"
        sh "trap 'echo int > ../got; exit 0' INT; echo ready; while :; do sleep 0.05; done"
        ready line="ready"
        stop signal=SIGINT grace="60s"
        "#,
        r#"sh "true""#,
    );
    project.run("test").code(0);
    assert_eq!(project.read("../got"), "int\n");
}

#[test]
fn service_that_prints_a_lot_is_not_blocked() {
    let place = Place::new();
    let project = with(
        &place,
        "run FBT spam 50000000; run FBT wait MARK; ready line=\"ready\" timeout=\"120s\"",
        r#"sh "exit 1""#,
    );
    let run = project.run("test").code(1);
    assert!(run.stdout.len() < 100_000, "{}", run.stdout.len());
    assert_eq!(place.alive(), []);
}

#[test]
fn processes_of_a_service_end_with_it() {
    let place = Place::new();
    for how in [
        "launch stay -- wait",
        "launch stay session mute -- wait",
        "launch stay fork session bare -- ignore-term",
    ] {
        let service = format!("run FBT {how} MARK; ready line=\"ready\"; stop grace=\"100ms\"");
        let project = with(&place, &service, r#"sh "true""#);
        let run = project.run("test").code(0);
        assert_eq!(place.alive(), [], "{how}: {}", run.stdout);
    }
}

#[test]
fn dependency_that_fails_fails_the_test() {
    let place = Place::new();
    let project = Project::new(
        r#"
        service db { sh "exit 9"; ready line="up" }
        service app { with db; sh "sleep 1000"; ready line="up" }
        test a { with app; sh "true" }
        "#,
    );
    let message = "its service `db` ended before it was ready: it exited with code 9";
    fails(&place, project.run("test"), message);
}

#[test]
fn need_of_a_service_that_fails_skips_the_test() {
    let place = Place::new();
    let project = Project::new(
        r#"
        target lib { sh "exit 2" }
        service s { needs lib; sh "sleep 1000" }
        test a { with s; sh "true" }
        "#,
    );
    fails(&place, project.run("test"), "skipped      a: `s` failed");
}

#[test]
fn interrupt_stops_services() {
    let place = Place::new();
    let project = with(
        &place,
        "run FBT wait MARK; ready line=\"ready\"",
        "sh \"echo started > ../started\"; run FBT wait MARK",
    );
    let started = project.pipe("../started");
    let run = project.fbuild("test").start();
    started.wait();
    run.signal(Signal::INT);
    let run = run.end().code(130);
    assert!(run.stdout.contains("Tests: 1 cancelled\n"), "{}", run.stdout);
    assert_eq!(place.alive(), []);
}

#[test]
fn kill_of_fbuild_ends_services() {
    let place = Place::new();
    let project = with(
        &place,
        "run FBT ignore-term MARK; ready line=\"ready\"",
        "sh \"echo started > ../started\"; run FBT wait MARK",
    );
    let started = project.pipe("../started");
    let run = project.fbuild("test").start();
    started.wait();
    assert_eq!(place.alive().len(), 2);
    run.signal(Signal::KILL);
    // The pipes that its commands inherited end with them.
    run.end().code(-9);
    place.wait_until_none_is_alive();
}

#[test]
fn two_runs_at_once_have_different_ports() {
    let place = Place::new();
    let service = r#"
        port HTTP
        run FBT serve "{port.HTTP}" MARK
        ready tcp="127.0.0.1:{port.HTTP}"
        "#;
    let test = r#"sh "echo $PORT_HTTP > ../port; read line < ../go""#;
    let projects = [with(&place, service, test), with(&place, service, test)];
    let pipes = projects.each_ref().map(|p| (p.pipe("../port"), p.pipe("../go")));
    let runs = projects.each_ref().map(|p| p.fbuild("test").start());
    let ports = pipes.each_ref().map(|(port, _)| port.wait());
    assert_ne!(ports[0], ports[1]);
    for (_, go) in &pipes {
        go.go();
    }
    for run in runs {
        run.end().code(0);
    }
    assert_eq!(place.alive(), []);
}

#[test]
fn script_that_succeeds_shows_readiness() {
    let place = Place::new();
    let project = with(
        &place,
        r#"
        port P
        sh "sleep 0.1; touch ../up; exec sleep 1000"
        ready run="test -e ../up -a -n $PORT_P"
        "#,
        r#"sh "test -e ../up""#,
    );
    let run = project.run("test").code(0);
    assert!(run.stdout.contains("Tests: 1 passed\n"), "{}", run.stdout);
}
