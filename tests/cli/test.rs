//! `fbuild test`: which tests run, their verdicts, and the files that it writes.

use super::project::{FinishedRun, Project};

/// Returns a project with a test whose two cases follow from a file: each word of it is the
/// result of one.
fn cases() -> Project {
    Project::new(
        r#"
        test api {
            inputs "words"
            report "out/api.xml"
            sh "sh report.sh words > out/api.xml"
            inputs report.sh
        }
        "#,
    )
    .file("words", "pass pass\n")
    .file(
        "report.sh",
        r#"
        mkdir -p out
        echo "<testsuite name='s'>"
        bad=0
        for word in $(cat "$1"); do
            echo "<testcase classname='s' name='$word' time='0.002'>"
            case $word in
            fail) echo "<failure message='expected 1&#10;found 2'/>"; bad=1 ;;
            quiet) echo "<failure message='unnoticed'/>" ;;
            esac
            echo "</testcase>"
        done
        test "$(cat "$1")" = cut || echo "</testsuite>"
        exit $bad
        "#,
    )
    .file("out/other", "")
}

/// Returns the lines of the table at the end of the output.
#[track_caller]
fn table(run: &FinishedRun) -> &str {
    let at = run.stdout.find("Tests: ");
    &run.stdout[at.unwrap_or_else(|| panic!("no table in {}", run.stdout))..]
}

#[test]
fn known_result_is_cached_with_its_cases() {
    let project = cases();
    let first = project.run("test").code(0);
    assert_eq!(table(&first), "Tests: 1 passed; 2 cases: 2 passed\n");
    project.run("test api").ok("
        nothing to do: 1 target up to date ([time])
        Tests: 1 passed (1 cached); 2 cases: 2 passed
        ");
    project.run("clean").code(0);
    let restored = project.run("test");
    assert_eq!(
        table(&restored),
        "Tests: 1 passed (1 cached); 2 cases: 2 passed\n"
    );
}

#[test]
fn failed_case_is_shown_with_its_message() {
    let project = cases();
    project.write("words", "pass fail");
    let failed = project.run("test").code(1);
    assert_eq!(
        table(&failed),
        "Tests: 1 failed; 2 cases: 1 passed, 1 failed\n\
         \x20 failed       api: `sh` exited with code 1\n\
         \x20                s fail: expected 1\n"
    );
    let again = project.run("test").code(1);
    assert!(again.stdout.contains("Starting api"), "{again:?}");
}

#[test]
fn failed_case_fails_a_test_that_exits_with_0() {
    let project = cases();
    project.write("words", "pass quiet");
    let failed = project.run("test").code(1);
    assert!(
        failed.stdout.contains(
            "error[fbuild::test::cases]: api failed: its commands succeeded, but its report has 1 failed case"
        ),
        "{failed:?}"
    );
}

#[test]
fn unreadable_report_fails_the_test() {
    let project = cases();
    project.write("words", "cut");
    let failed = project.run("test").code(1);
    assert!(
        failed.stdout.contains(
            "api failed: cannot read the report `out/api.xml`: it ends before it is complete"
        ),
        "{failed:?}"
    );
}

/// Returns a project with tests that pass, fail, need a failing target, and pass at the second attempt.
fn verdicts() -> Project {
    Project::new(
        r#"
        jobs 1
        target broken { sh "exit 7" }
        target lib { outputs lib; sh "touch lib" }
        test a { needs lib; sh "true" }
        test b { sh "exit 3" }
        test c { needs broken; sh "true" }
        test d { retries 1; sh "test -e ../once || { touch ../once; exit 1; }" }
        group some { needs a lib }
        "#,
    )
}

#[test]
fn tests_continue_after_a_failure() {
    let run = verdicts().run("test").code(1);
    let table = table(&run);
    let (table, slowest) = table.split_once("  slowest").unwrap();
    assert_eq!(
        table,
        "Tests: 1 passed, 1 failed, 1 flaky, 1 skipped\n\
         \x20 failed       b: `sh` exited with code 3\n\
         \x20 flaky        d: passed on attempt 2\n\
         \x20 skipped      c: `broken` failed\n"
    );
    assert_eq!(slowest.matches("[time]").count(), 3, "{slowest}");
}

#[test]
fn last_failure_runs_first() {
    let project = verdicts();
    project.run("test a b").code(1);
    let again = project.run("test --rerun a b");
    let at = |name: &str| again.stdout.find(&format!("Starting {name}:"));
    assert!(at("b").unwrap() < at("a").unwrap(), "{again:?}");
}

#[test]
fn failed_runs_only_what_did_not_pass() {
    let project = verdicts();
    project.run("test").code(1);
    let again = project.run("test --failed").code(1);
    assert!(
        table(&again).starts_with("Tests: 1 failed, 1 skipped\n"),
        "{again:?}"
    );
    let project = cases();
    project.run("test").code(0);
    project
        .run("test --failed")
        .ok("nothing to do: no test failed last time\n");
}

#[test]
fn rerun_runs_tests_but_not_their_needs() {
    let project = verdicts();
    project.run("test a").code(0);
    let again = project.run("test --rerun some").code(0);
    assert!(again.stdout.contains("Starting a: `--rerun` was given"));
    assert!(!again.stdout.contains("Starting lib"), "{again:?}");
}

#[test]
fn success_after_a_failed_run_is_flaky() {
    let project = Project::new(r#"test d { sh "test -e ../once || { touch ../once; exit 1; }" }"#);
    project.run("test").code(1);
    let run = project.run("test").code(0);
    assert_eq!(
        table(&run),
        "Tests: 1 flaky\n  \
         flaky        d: passed now, and failed last time with the same key\n"
    );
}

#[test]
fn failure_in_quarantine_does_not_count() {
    let project = Project::new(r#"test a { quarantine until="9999-12-31"; sh "exit 1" }"#);
    let run = project.run("test").code(0);
    assert_eq!(
        table(&run),
        "Tests: 1 quarantined\n  \
         quarantined  a: `sh` exited with code 1; does not count until 9999-12-31\n"
    );
    project.run("run a").code(1);
}

#[test]
fn failure_after_quarantine_counts() {
    let project = Project::new(r#"test a { quarantine until="2020-02-29"; sh "exit 1" }"#);
    let run = project.run("test").code(1);
    assert!(
        table(&run).contains("its quarantine ended on 2020-02-29"),
        "{run:?}"
    );
}

/// Returns a JUnit file without times.
fn junit(project: &Project, words: &str) -> String {
    project.run(&format!("test -q --junit all.xml {words}"));
    let text = project.read("all.xml");
    let mut out = String::new();
    for (number, part) in text.split(" time=\"").enumerate() {
        let rest = part.split_once('"').filter(|_| number > 0);
        out += rest.map_or(part, |(_, rest)| rest);
    }
    out
}

#[test]
fn junit_file_has_all_tests() {
    let project = verdicts();
    assert_eq!(
        junit(&project, ""),
        r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="fbuild" tests="4" failures="1" errors="0" skipped="1">
  <testsuite name="a" tests="1" failures="0" errors="0" skipped="0">
    <testcase classname="a" name="a"/>
  </testsuite>
  <testsuite name="b" tests="1" failures="1" errors="0" skipped="0">
    <testcase classname="b" name="b">
      <failure message="`sh` exited with code 3" type="failure">`sh` exited with code 3</failure>
    </testcase>
  </testsuite>
  <testsuite name="c" tests="1" failures="0" errors="0" skipped="1">
    <testcase classname="c" name="c">
      <skipped message="`broken` failed"/>
    </testcase>
  </testsuite>
  <testsuite name="d" tests="1" failures="0" errors="0" skipped="0">
    <testcase classname="d" name="d"/>
  </testsuite>
</testsuites>
"#
    );
}

#[test]
fn junit_file_is_the_same_from_the_cache() {
    let project = cases();
    let first = junit(&project, "");
    assert!(first.contains("tests=\"2\""), "{first}");
    assert_eq!(junit(&project, ""), first);
    assert_eq!(junit(&project, "--rerun"), first);
}

#[test]
fn shards_cover_all_tests_once() {
    let project = verdicts();
    let mut names = Vec::new();
    for shard in ["1/3", "2/3", "3/3"] {
        let text = junit(&project, &format!("--shard {shard}"));
        let suites = text.split("<testsuite name=\"").skip(1);
        names.extend(suites.map(|suite| suite.split('"').next().unwrap().to_owned()));
    }
    names.sort_unstable();
    assert_eq!(names, ["a", "b", "c", "d"]);
    project
        .run("test --shard 9/9")
        .ok("nothing to do: no test in shard 9/9\n");
    project.run("test --shard 4/3").code(2);
}

#[test]
fn name_that_is_no_test_is_refused() {
    verdicts().run("test broken").ended(
        2,
        "",
        "error: `broken` is not a test, and no group of tests\n  \
         help: `fbuild run broken` builds it, and `fbuild test` runs all tests\n",
    );
    Project::new(r#"target x { sh "true" }"#).run("test").ended(
        2,
        "",
        "error: the Buildfile has no test\n  \
         help: declare one: test unit { run go test \"./...\" }\n",
    );
}

#[test]
fn interrupted_tests_are_reported_as_cancelled() {
    let project = Project::new(
        r#"
        jobs 1
        test a { sh "echo started > ../started; exec sleep 1000" }
        test b { needs a; sh "true" }
        "#,
    );
    let started = project.pipe("../started");
    let run = project.fbuild("test").start();
    started.wait();
    run.signal(rustix::process::Signal::INT);
    let run = run.end().code(130);
    assert!(table(&run).starts_with("Tests: 2 cancelled\n"), "{run:?}");
}
