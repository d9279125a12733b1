//! Tests the environment of commands: declared variables and tools, the effect of changing
//! them, and secrets.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::project::{FinishedRun, PATH, Project, unindent};

#[test]
fn environment_is_closed() {
    let project = Project::new(
        r#"
        target t {
            env DECLARED SET="set" FALLBACK
            env GIVEN default="given"
            pass PASSED
            outputs out
            sh "env | sort > out"
        }
        "#,
    );
    let run = project.fbuild("run -q t");
    let run = run
        .env("DECLARED", "declared")
        .env("PASSED", "passed")
        .env("HIDDEN", "hidden");
    run.env("SET", "outer").env("TZ", "UTC").end().ok("");
    let seen = project.read("out");
    let names: Vec<&str> = seen
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
        .collect();
    assert_eq!(
        names.join(" "),
        "DECLARED FBUILD_ACTION FBUILD_TARGET GIVEN HOME LANG PASSED PATH PWD SET TMPDIR TZ"
    );
    assert!(
        seen.contains("SET=set\n") && seen.contains("GIVEN=given\n"),
        "{seen}"
    );
}

#[test]
fn changed_declared_variable_is_a_reason() {
    let project = Project::new(
        r#"target t { env CGO_ENABLED; outputs out; sh "echo ${CGO_ENABLED-unset} > out" }"#,
    );
    let first_line = |value: Option<&str>| {
        let mut run = project.fbuild("run -v t");
        if let Some(value) = value {
            run = run.env("CGO_ENABLED", value);
        }
        let stdout = run.end().code(0).stdout;
        let line = stdout.lines().find(|line| line.starts_with("[1/1]"));
        line.unwrap_or("").to_owned()
    };
    let runs = [
        (Some("0"), "Starting t: never built here"),
        (
            Some("1"),
            "Starting t: `CGO_ENABLED` changed from `0` to `1`",
        ),
        (
            None,
            "Starting t: `CGO_ENABLED` is no longer set, and was `1`",
        ),
        (Some(""), "Starting t: `CGO_ENABLED` was set to ``"),
        (
            Some("0"),
            "Restored t from the cache: `CGO_ENABLED` changed from `` to `0` (total elapsed: [time])",
        ),
    ];
    for (value, expected) in runs {
        assert_eq!(first_line(value), format!("[1/1] {expected}"));
    }
    assert_eq!(project.read("out"), "0\n");
}

#[test]
fn changed_passed_variable_is_no_reason() {
    let project =
        Project::new(r#"target t { pass GOCACHE; outputs out; sh "echo ${GOCACHE} > out" }"#);
    let run = |cache: &str| {
        project
            .fbuild("run -v t")
            .env("GOCACHE", cache)
            .end()
            .code(0)
    };
    run("a");
    let stdout = run("b").stdout;
    assert!(stdout.contains("[1/1] Up to date: t\n"), "{stdout}");
}

#[test]
fn special_characters_in_values_are_kept() {
    let project = Project::new(
        r#"
        var greeting "hello there"
        target t {
            env WHO
            outputs a b
            run cp "in" "a"
            run sh -c "printf '%s|' \"$@\" > b" sh "{greeting}, {env.WHO}" "$HOME" "*" ";rm a"
        }
        "#,
    )
    .file("in", "");
    project
        .fbuild("run -q t")
        .env("WHO", "a 'b' $(c) `d` \"e\"\n")
        .end()
        .ok("");
    assert_eq!(
        project.read("b"),
        "hello there, a 'b' $(c) `d` \"e\"\n|$HOME|*|;rm a|"
    );
}

#[test]
fn temporary_folder_is_private_and_removed() {
    let project = Project::new(
        r#"target t { outputs out; sh "ls -A $TMPDIR > out; echo x > $TMPDIR/left; echo $TMPDIR >> out" }"#,
    );
    project.run("run -q t").ok("");
    let folder = project.read("out");
    let folder = folder.trim_end();
    assert!(
        folder.starts_with(project.root.to_str().unwrap()),
        "it was not empty: {folder}"
    );
    assert!(!fs::exists(format!("{folder}/left")).unwrap());
}

#[test]
fn temporary_folder_has_room_for_a_unix_socket() {
    let project = Project::empty();
    let folder = "x".repeat(100);
    let buildfile = r#"target t { outputs out; sh "echo $TMPDIR > out; touch $TMPDIR/x" }"#;
    project.write(format!("{folder}/Buildfile.kdl"), buildfile);
    project.fbuild("run -q t").from(&folder).end().ok("");
    let temporary = project.read(format!("{folder}/out"));
    let temporary = temporary.trim_end();
    assert!(temporary.len() <= 74, "{temporary}");
    assert!(fs::symlink_metadata(temporary).is_err());
    let parent = Path::new(temporary).parent().unwrap();
    assert!(parent.symlink_metadata().is_err(), "the link is left");
}

/// Returns a project with a tool that is a script on `PATH`.
fn with_tool(version: &str) -> Project {
    Project::new(
        r#"
        tool compiler version=">=1.2" { probe compiler -version }
        target t { tools compiler; outputs out; run compiler out }
        "#,
    )
    .tool("compiler", &compiler(version))
}

fn compiler(version: &str) -> String {
    format!(
        "if test \"$1\" = -version; then echo \"compiler {version}\"; else echo {version} > \"$1\"; fi\n"
    )
}

#[test]
fn changed_tool_version_is_a_reason() {
    let project = with_tool("1.2.3");
    project.run("run -q t").ok("");
    let project = project.tool("compiler", &compiler("1.3.0"));
    project.run("run t").ok("
        Building 1 target; everything takes about [time]
        [1/1] Starting t: `compiler` changed from 1.2.3 to 1.3.0
        [1/1] Completed t ([time], total elapsed: [time])
        Finished in [time]: 1 built
        ");
    assert_eq!(project.read("out"), "1.3.0\n");
    let project = project.tool("compiler", &compiler("1.2.3"));
    project.run("run t").ok("
        Building 1 target; everything takes about [time]
        [1/1] Restored t from the cache: `compiler` changed from 1.3.0 to 1.2.3 (total elapsed: [time])
        Finished in [time]: 1 restored
        ");
}

#[test]
fn first_executable_tool_on_path_is_used() {
    let project = with_tool("1.2.3");
    let base = project.base().to_str().unwrap();
    let path = format!("{base}/first:{base}/bin:{PATH}");
    let made = || {
        let run = project.fbuild("run -q t").env("PATH", &path);
        run.end().ok("");
        project.read("out")
    };
    for _ in 0..3 {
        assert_eq!(made(), "1.2.3\n");
        let script = format!("#!/bin/sh\n{}", compiler("1.4.0"));
        project.write("../first/compiler", script);
        let first = project.path("../first/compiler");
        assert_eq!(made(), "1.2.3\n", "the first file is not executable");
        fs::set_permissions(&first, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(made(), "1.4.0\n");
        fs::remove_file(&first).unwrap();
    }
}

#[test]
fn binary_tool_is_probed_once_per_file() {
    let project = Project::new(
        r#"
        tool compiler { probe compiler -c "echo probed >> probes; echo 1.0" }
        target a { tools compiler; sh "true" }
        target b { tools compiler; sh "true" }
        group all { needs a b }
        "#,
    )
    .tool("compiler", "");
    // A copy of a shell is a program that is neither a link nor a script.
    fs::remove_file(project.path("../bin/compiler")).unwrap();
    fs::copy("/bin/sh", project.path("../bin/compiler")).unwrap();
    project.run("run -q all").ok("");
    project.run("run -q all").ok("");
    project.run("status all").code(0);
    assert_eq!(project.read("probes"), "probed\n");
}

#[test]
fn script_tool_is_probed_in_each_run() {
    let project = Project::new("tool shim\ntarget t { tools shim; outputs out; run shim out }")
        .tool(
            "shim",
            "v=$(cat .tool-versions); case $1 in --version) echo $v ;; *) echo $v > $1 ;; esac",
        )
        .file(".tool-versions", "1.0\n");
    project.run("run -q t").ok("");
    project.run("run t").code(0);
    project.write(".tool-versions", "2.0\n");
    let done = project.run("run t").code(0);
    let reason = "Starting t: `shim` changed from 1.0 to 2.0";
    assert!(done.stdout.contains(reason), "{}", done.stdout);
    assert_eq!(project.read("out"), "2.0\n");
}

#[test]
fn tool_is_probed_in_the_folder_of_the_commands() {
    let project = Project::new(
        r#"
        tool shim version=">=2" { probe shim }
        target t { tools shim; dir sub; run shim }
        "#,
    )
    .tool("shim", "cat .tool-versions\n")
    .file(".tool-versions", "1.0\n")
    .file("sub/.tool-versions", "2.0\n");
    project.run("run -q t").ok("");
    project.write("sub/.tool-versions", "1.5\n");
    let done = project.run("run t").code(1);
    let message = "`shim` is 1.5 in `sub`, but >=2 is required";
    assert!(done.stdout.contains(message), "{}", done.stdout);
}

#[test]
fn passed_variable_decides_the_version_of_a_tool() {
    let project = Project::new(
        r#"
        tool shim
        target t { tools shim; pass V; outputs out; sh "shim --version > out" }
        "#,
    )
    .tool("shim", "echo ${V-1.0}\n");
    project.run("run -q t").ok("");
    assert_eq!(project.read("out"), "1.0\n");
    project.fbuild("run -q t").env("V", "3.0").end().ok("");
    assert_eq!(project.read("out"), "3.0\n");
}

#[test]
fn earlier_probe_does_not_run_after_an_edit() {
    let project = Project::new("tool shim { probe shim old }\ntarget t { tools shim; run shim }")
        .tool("shim", "echo $1 >> probes; echo 1.0\n");
    project.run("run -q t").code(0);
    project.buildfile("tool shim { probe shim new }\ntarget t { tools shim; run shim }");
    fs::remove_file(project.path("probes")).unwrap();
    project.run("run -q t").code(0);
    assert!(!project.read("probes").contains("old"));
}

#[test]
fn old_tool_error_shows_its_path_and_the_requirement() {
    let project = with_tool("1.1.9");
    let done = project.run("run t").code(1);
    let expected = unindent(
        "
        error[fbuild::tool::version]: t failed: `compiler` is 1.1.9, but >=1.2 is required
        fbuild::tool::version

          × `compiler` is 1.1.9, but >=1.2 is required
           ╭─[Buildfile.kdl:1:23]
         1 │ tool compiler version=\">=1.2\" { probe compiler -version }
           ·                       ───┬───
           ·                          ╰── required here
         2 │ target t { tools compiler; outputs out; run compiler out }
           ╰────
          help: `[base]/bin/compiler` is what was found on PATH
        ",
    );
    assert!(done.stdout.contains(&expected), "{}", done.stdout);
    assert!(!project.has("out"));
}

#[test]
fn missing_tool_is_an_error() {
    let project = Project::new("tool none\ntarget t { tools none; sh \"true\" }\n");
    let done = project.run("run t").code(1);
    assert!(done.stdout.contains("`none`"), "{}", done.stdout);
    assert!(done.stdout.contains("not found"), "{}", done.stdout);
}

#[test]
fn probe_without_version_is_an_error() {
    let project = with_tool("unknown");
    let done = project.run("run t").code(1);
    assert!(
        done.stdout
            .contains("`compiler -version` printed no version number"),
        "{}",
        done.stdout
    );
}

#[test]
fn failing_probe_is_an_error() {
    let project = Project::new("tool bad\ntarget t { tools bad; sh \"true\" }\n")
        .tool("bad", "echo no such option >&2; exit 2\n");
    let done = project.run("run t").code(1);
    assert!(
        done.stdout.contains("`bad` failed (exit status: 2)"),
        "{}",
        done.stdout
    );
}

#[test]
fn misspelled_variable_is_a_warning() {
    let project = Project::new("target t {\n    env CGOENABLED=\"0\"\n    sh \"true\"\n}\n");
    project.run("check").ended(
        0,
        "1 target and 0 groups: no mistakes found\n",
        "
        fbuild::buildfile::near_miss

          ⚠ `CGOENABLED` is one typo away from `CGO_ENABLED`
           ╭─[Buildfile.kdl:2:9]
         1 │ target t {
         2 │     env CGOENABLED=\"0\"
           ·         ─────┬────
           ·              ╰── not the name that common tools read
         3 │     sh \"true\"
           ╰────
          help: did you mean `CGO_ENABLED`?

        ",
    );
}

const SECRET: &str = "hunter2-correct-horse";

/// Returns a project whose commands print a secret.
fn with_secret() -> Project {
    Project::new(
        r#"
        target t {
            secret DEPLOY_TOKEN
            outputs out
            sh "echo token is $DEPLOY_TOKEN; printf %s \"$DEPLOY_TOKEN\" | wc -c > out; env | grep DEPLOY"
        }
        target fails {
            secret DEPLOY_TOKEN
            sh "echo failing with $DEPLOY_TOKEN >&2; exit 1"
        }
        target splits {
            secret DEPLOY_TOKEN
            sh "printf hunter2-; printf correct-horse"
        }
        "#,
    )
}

fn run_with_secret(project: &Project, words: &str) -> FinishedRun {
    project.fbuild(words).env("DEPLOY_TOKEN", SECRET).end()
}

#[test]
fn command_gets_its_secret() {
    let project = with_secret();
    let stdout = run_with_secret(&project, "run t").code(0).stdout;
    let masked = "token is ***\nDEPLOY_TOKEN=***\n";
    assert!(stdout.contains(masked), "{stdout}");
    assert_eq!(project.read("out").trim(), SECRET.len().to_string());
}

#[test]
fn changed_secret_keeps_the_result() {
    let project = with_secret();
    run_with_secret(&project, "run t").code(0);
    fs::remove_file(project.path("out")).unwrap();
    let run = project.fbuild("run t").env("DEPLOY_TOKEN", "another");
    let stdout = run.end().code(0).stdout;
    assert!(stdout.contains("token is ***"), "{stdout}");
    assert!(stdout.contains("Restored t from the cache"), "{stdout}");
}

#[test]
fn secret_is_neither_printed_nor_stored() {
    let project = with_secret();
    for words in [
        "run t",
        "run fails",
        "run splits",
        "run -v t --force",
        "run --json fails",
        "explain t",
        "status t",
        "run t",
    ] {
        let done = run_with_secret(&project, words);
        let printed = [done.stdout, done.stderr].concat();
        assert!(!printed.contains(SECRET), "{words}: {printed}");
    }
    for name in project.names("") {
        let path = project.path(&name);
        if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            let is_in = bytes
                .windows(SECRET.len())
                .any(|window| window == SECRET.as_bytes());
            assert!(!is_in, "{name} has the secret");
        }
    }
}

#[test]
fn interactive_command_sees_the_kind_of_terminal() {
    let project = Project::new(
        r#"
        target i { interactive #true; outputs i; sh "echo ${TERM-none} ${COLORTERM-none} > i" }
        target t { outputs t; sh "echo ${TERM-none} > t" }
        group all { needs i t }
        "#,
    );
    let run = project.fbuild("run -q all").env("TERM", "xterm");
    run.env("COLORTERM", "truecolor").end().ok("");
    assert_eq!(project.read("i"), "xterm truecolor\n");
    assert_eq!(project.read("t"), "none\n");
}
