//! What commands see: the variables and tools that are declared, and what a change of them
//! does; secrets, which nobody else sees.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::project::{PATH, Project, unindent};

#[test]
fn the_environment_is_closed() {
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
    let names = seen
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0));
    let names: Vec<&str> = names.collect();
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
fn a_change_of_a_declared_variable_is_a_reason_and_of_a_passed_one_is_none() {
    let project = Project::new(
        r#"target t { env CGO_ENABLED EMPTY; pass GOCACHE; outputs out; sh "echo ${CGO_ENABLED-unset} > out" }"#,
    );
    let starting = |value: Option<&str>, cache: &str| {
        let run = project.fbuild("run -v t").env("GOCACHE", cache);
        let run = match value {
            Some(value) => run.env("CGO_ENABLED", value),
            None => run,
        };
        let said = run.end().code(0).stdout;
        let line = said.lines().find(|line| line.starts_with("[1/1]"));
        line.unwrap_or("").to_owned()
    };
    assert_eq!(
        starting(Some("0"), "a"),
        "[1/1] Starting t: never built here"
    );
    assert_eq!(starting(Some("0"), "b"), "[1/1] Up to date: t");
    assert_eq!(
        starting(Some("1"), "b"),
        "[1/1] Starting t: `CGO_ENABLED` changed from `0` to `1`"
    );
    assert_eq!(
        starting(None, "b"),
        "[1/1] Starting t: `CGO_ENABLED` is no longer set, and was `1`"
    );
    assert_eq!(
        starting(Some(""), "b"),
        "[1/1] Starting t: `CGO_ENABLED` was set to ``"
    );
    assert_eq!(
        starting(Some("0"), "b"),
        "[1/1] Restored t from the cache: `CGO_ENABLED` changed from `` to `0` (total elapsed: [time])"
    );
    assert_eq!(project.read("out"), "0\n");
}

#[test]
fn values_reach_commands_as_they_are() {
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
fn the_temporary_folder_is_private_and_gone_afterwards() {
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

/// A Buildfile with a tool that is a script on `PATH`.
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
fn another_version_of_a_tool_is_a_reason() {
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
fn a_tool_that_would_be_found_first_now_is_the_tool() {
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
        assert_eq!(made(), "1.2.3\n", "it cannot be executed");
        fs::set_permissions(&first, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(made(), "1.4.0\n");
        fs::remove_file(&first).unwrap();
    }
}

#[test]
fn a_tool_is_asked_once_and_remembered_by_its_file() {
    let project = Project::new(
        r#"
        tool compiler { probe compiler -version }
        target a { tools compiler; sh "true" }
        target b { tools compiler; sh "true" }
        group all { needs a b }
        "#,
    )
    .tool("compiler", "echo asked >> asked; echo 1.0\n");
    project.run("run -q all").ok("");
    project.run("run -q all").ok("");
    project.run("status all").code(0);
    assert_eq!(project.read("asked"), "asked\n");
}

#[test]
fn a_tool_that_is_too_old_is_said_with_where_it_is_and_what_wants_it() {
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
fn a_tool_that_is_missing_or_does_not_say_its_version_is_said() {
    let project = Project::new("tool none\ntarget t { tools none; sh \"true\" }\n");
    let done = project.run("run t").code(1);
    assert!(done.stdout.contains("`none`"), "{}", done.stdout);
    assert!(done.stdout.contains("not found"), "{}", done.stdout);
    let project = with_tool("unknown");
    let done = project.run("run t").code(1);
    assert!(
        done.stdout
            .contains("`compiler -version` printed no version number"),
        "{}",
        done.stdout
    );
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
fn a_variable_one_letter_away_is_a_warning() {
    let project = Project::new("target t {\n    env CGOENABLED=\"0\"\n    sh \"true\"\n}\n");
    project.run("check").ended(
        0,
        "1 target and 0 groups: no mistakes found\n",
        "
        fbuild::buildfile::near_miss

          ⚠ `CGOENABLED` is one slip away from `CGO_ENABLED`
           ╭─[Buildfile.kdl:2:9]
         1 │ target t {
         2 │     env CGOENABLED=\"0\"
           ·         ─────┬────
           ·              ╰── not what common tools read
         3 │     sh \"true\"
           ╰────
          help: did you mean `CGO_ENABLED`?

        ",
    );
}

#[test]
fn secrets_are_seen_by_the_command_and_by_nobody_else() {
    const SECRET: &str = "hunter2-correct-horse";
    let project = Project::new(
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
    );
    let run = |words: &str| project.fbuild(words).env("DEPLOY_TOKEN", SECRET).end();
    let done = run("run t").code(0);
    assert!(
        done.stdout.contains("token is ***\nDEPLOY_TOKEN=***\n"),
        "{}",
        done.stdout
    );
    assert_eq!(project.read("out").trim(), SECRET.len().to_string());
    for words in [
        "run fails",
        "run splits",
        "run -v t --force",
        "run --json fails",
        "explain t",
        "status t",
        "run t",
    ] {
        let done = run(words);
        let said = [done.stdout, done.stderr].concat();
        assert!(!said.contains(SECRET), "{words}: {said}");
    }
    // Another value is the same result, restored with what was printed.
    fs::remove_file(project.path("out")).unwrap();
    let done = project
        .fbuild("run t")
        .env("DEPLOY_TOKEN", "another")
        .end()
        .code(0);
    assert!(done.stdout.contains("token is ***"), "{}", done.stdout);
    assert!(
        done.stdout.contains("Restored t from the cache"),
        "{}",
        done.stdout
    );
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
