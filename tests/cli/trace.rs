//! `trace` and `--trace`: files and programs that commands use and targets do not declare.

use serde_json::Value;

use super::project::Project;

/// Returns a project with a target `app` of this body, a target `gen` that makes `gen/a`, and
/// files.
fn project(body: &str) -> Project {
    let buildfile = format!(
        "target app {{\n{body}\n}}\ntarget gen {{\n    outputs \"gen/\"\n    sh \"mkdir -p gen; echo 1 > gen/a\"\n}}\n"
    );
    Project::new(&buildfile)
        .file("in.txt", "in")
        .file("data/one", "1")
        .file("data/two", "2")
        .file("src/a.c", "a")
        .file("src/a_test.c", "t")
}

/// Runs `app` traced, and returns the code and the message of each finding.
fn findings(project: &Project) -> Vec<String> {
    let run = project.run("run --trace --json app gen");
    let events = run
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let findings = events.filter(|event| event["event"] == "finding");
    let line = |event: Value| {
        let diagnostic = &event["diagnostic"];
        let code = diagnostic["code"]
            .as_str()
            .unwrap()
            .replace("fbuild::audit::", "");
        format!("{code}: {}", diagnostic["message"].as_str().unwrap())
    };
    findings.map(line).collect()
}

#[track_caller]
fn assert_findings(body: &str, expected: &[&str]) {
    assert_eq!(findings(&project(body)), expected, "{body}");
}

/// Asserts that a body has no findings.
#[track_caller]
fn assert_clean(body: &str) {
    assert_findings(body, &[]);
}

#[test]
fn declared_accesses_are_no_findings() {
    assert_clean("inputs in.txt\noutputs out\nsh \"cat in.txt > out; cat out\"");
    assert_clean("inputs \"src/**\"\nsh \"cat src/*\"");
    assert_clean("needs gen\nsh \"cat gen/a; ls gen\"");
    assert_clean("outputs \"out/\"\nsh \"mkdir -p out/x; echo > out/x/y\"");
    assert_clean("sh \"echo > $TMPDIR/x; cat $TMPDIR/x\"");
    assert_clean("sh \"echo x | sed s/x/y/ | sort\"");
}

#[test]
fn undeclared_input_is_a_finding() {
    let read = |paths: &str| format!("input: `app` reads {paths}");
    assert_findings(
        "sh \"cat in.txt\"",
        &[&read("`in.txt` and does not declare it")],
    );
    assert_findings(
        "inputs in.txt\nsh \"cat data/../data/one src/a.c in.txt\"",
        &[&read("`data/one` and `src/a.c` and does not declare them")],
    );
    assert_findings(
        "sh \"ls data\"",
        &[&read("`data/` and does not declare it")],
    );
    assert_findings(
        "sh \"cp -R src copy; rm -r copy\"",
        &[&read(
            "`src/`, `src/a.c` and `src/a_test.c` and does not declare them",
        )],
    );
}

#[test]
fn excluded_file_may_be_read() {
    assert_clean("inputs \"src/**\" { except \"**/*_test.c\" }\nsh \"cat src/a_test.c\"");
}

#[test]
fn file_of_another_target_is_a_missing_edge() {
    let edge = "edge: `app` reads `gen/a`, which `gen` makes";
    assert_findings("after gen\nsh \"cat gen/a\"", &[edge]);
}

#[test]
fn absent_file_is_a_finding_unless_a_pattern_matches() {
    let absent = "absent: `app` looks for `none`, which does not exist";
    assert_findings("sh \"cat none || true\"", &[absent]);
    assert_clean("inputs none optional=#true\nsh \"cat none || true\"");
    assert_clean("inputs \"src/**\"\nsh \"cat src/none || true\"");
}

#[test]
fn undeclared_output_is_a_finding() {
    let output = |text: &str| format!("output: `app` {text}");
    assert_findings(
        "outputs out\nsh \"echo > out; mkdir -p d/e; echo > d/e/log\"",
        &[&output("creates `d/e/log`, which is not among its outputs")],
    );
    assert_findings(
        "inputs in.txt\nsh \"rm data/one; echo x >> data/two\"",
        &[&output(
            "deletes `data/one` and `data/two`, which are not among its outputs",
        )],
    );
}

#[test]
fn temporary_file_is_no_finding() {
    assert_clean("sh \"echo > scratch; cat scratch; rm scratch\"");
    assert_clean("outputs out\nsh \"echo > out.tmp; mv out.tmp out\"");
}

#[test]
fn undeclared_tool_is_a_finding() {
    let project = |body: &str| {
        project(body)
            .tool("outer", "exec inner")
            .tool("inner", "exit 0")
    };
    let found = findings(&project("sh \"outer\""));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("tool: `app` runs `outer` (`[base]"),
        "{found:?}"
    );
    let declared = project("tools outer\nrun outer");
    let buildfile = declared.read("Buildfile.kdl");
    declared.write(
        "Buildfile.kdl",
        format!("tool outer {{ probe echo \"1.0\" }}\n{buildfile}"),
    );
    assert_eq!(findings(&declared), [""; 0]);
}

#[test]
fn files_of_version_control_are_no_findings() {
    let project = project("sh \"cat .git/HEAD\"").file(".git/HEAD", "ref: x");
    assert_eq!(findings(&project), [""; 0]);
}

#[test]
fn warning_shows_the_place_and_the_edit() {
    let project = Project::new(
        "
        target app {
            trace warn
            outputs out
            sh \"cat in.txt > out\"
        }
        ",
    )
    .file("in.txt", "x");
    project.run("run app").ok("
        Building 1 target
        [1/1] Starting app: never built here
        fbuild::audit::input

          ⚠ `app` reads `in.txt` and does not declare it
           ╭─[Buildfile.kdl:1:8]
         1 │ target app {
           ·        ─┬─
           ·         ╰── `cat` read `in.txt`; it is no input
         2 │     trace warn
           ╰────
          help: add `inputs in.txt`, so that a change of it rebuilds `app`

        [1/1] Completed app ([time], total elapsed: [time])
        Finished in [time]: 1 built
        ");
}

#[test]
fn warned_result_is_stored() {
    let project = project("trace warn\noutputs out\nsh \"cat in.txt > out\"");
    project.run("run app").code(0);
    assert!(
        project
            .run("run app -v")
            .code(0)
            .stdout
            .contains("up to date")
    );
}

#[test]
fn denied_target_fails_and_leaves_nothing() {
    let project = project("trace deny\noutputs out\nsh \"cat in.txt > out\"");
    let run = project.run("run app").code(1);
    assert!(
        run.stdout.contains("fbuild::audit::denied"),
        "{}",
        run.stdout
    );
    assert!(run.stdout.contains("add `inputs in.txt`"), "{}", run.stdout);
    assert!(!project.has("out"));
    project.run("run app").code(1);
}

#[test]
fn mode_of_a_target_overrides_that_of_the_project() {
    let project = project("trace off\nsh \"cat in.txt\"");
    let buildfile = project.read("Buildfile.kdl");
    let buildfile = format!("project p {{ trace deny }}\n{buildfile}");
    project.write("Buildfile.kdl", &buildfile);
    project.run("run app").code(0);
    project.write("Buildfile.kdl", buildfile.replace("trace off", ""));
    project.run("run app --force").code(1);
}

#[test]
fn mode_is_not_part_of_the_key() {
    let project = project("outputs out\nsh \"cat in.txt > out\"");
    project.run("run app").code(0);
    let buildfile = project
        .read("Buildfile.kdl")
        .replace("outputs out", "outputs out\ntrace deny");
    project.write("Buildfile.kdl", buildfile);
    assert!(
        project
            .run("run app -v")
            .code(0)
            .stdout
            .contains("up to date")
    );
}
