//! Wrong and hostile Buildfiles: each is refused with a clear error, soon, and without
//! much memory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use super::project::Project;

/// The longest time to refuse a Buildfile: generous, because the program may be built
/// without optimisation and the machine be busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `check` on a Buildfile that is refused, within limits of time and of output;
/// returns the output.
#[track_caller]
fn refused(text: impl AsRef<[u8]>) -> String {
    let project = Project::empty();
    project.write("Buildfile.kdl", text);
    let start = Instant::now();
    let done = project.run("check").code(2);
    assert!(start.elapsed() < PATIENCE, "took {:?}", start.elapsed());
    assert!(
        done.stderr.len() < 200_000,
        "{} bytes of output",
        done.stderr.len()
    );
    assert_eq!(done.stdout, "");
    assert!(!project.has(".build-cache"), "it changed something");
    done.stderr
}

#[test]
fn missing_buildfile_error_shows_how_to_get_one() {
    let project = Project::empty();
    for command in [
        "run",
        "list",
        "check",
        "status",
        "graph",
        "explain x",
        "clean",
        "fmt",
        "add x",
        "cache status",
    ] {
        project.run(command).ended(
            2,
            "",
            "
            error[fbuild::workspace::not_found]: no `Buildfile.kdl` in `[root]` or any folder above it
              help: `fbuild init` writes a first one; `-C DIR` looks elsewhere, `-f FILE` names one
            ",
        );
    }
}

#[test]
fn empty_buildfile_error_shows_a_first_target() {
    for text in ["", "\n", "// a comment\n"] {
        let output = refused(text);
        assert!(
            output.starts_with("fbuild::buildfile::empty\n\n  × there is nothing to build\n"),
            "{output}"
        );
        assert!(output.contains("target hello {"), "{output}");
        assert!(
            output.ends_with("1 error in `Buildfile.kdl`; nothing was run\n"),
            "{output}"
        );
    }
}

#[test]
fn unreadable_buildfile_exits_with_3() {
    let project = Project::new("target a { sh \"true\" }\n");
    let locked = fs::Permissions::from_mode(0o000);
    fs::set_permissions(project.path("Buildfile.kdl"), locked).unwrap();
    project.fbuild("check").unprivileged().end().ended(
        3,
        "",
        "
        error[fbuild::buildfile::file_unreadable]: cannot read `Buildfile.kdl`: permission denied
          help: check its permissions and its owner: `ls -l Buildfile.kdl`
        ",
    );
}

#[test]
fn buildfile_that_is_not_a_file_is_refused() {
    let project = Project::empty().file("Buildfile.kdl/x", "");
    project.run("check").ended(
        2,
        "",
        "
        error[fbuild::buildfile::file_folder]: `Buildfile.kdl` is a folder, not a file
          help: name the file, as in `-f path/to/Buildfile.kdl`
        ",
    );
    fs::remove_dir_all(project.path("Buildfile.kdl")).unwrap();
    project.pipe("Buildfile.kdl");
    project.run("check").ended(
        2,
        "",
        "
        error[fbuild::buildfile::file_folder]: `Buildfile.kdl` is a device or a pipe, not a file
          help: name the file, as in `-f path/to/Buildfile.kdl`
        ",
    );
    fs::remove_file(project.path("Buildfile.kdl")).unwrap();
    std::os::unix::fs::symlink("nowhere", project.path("Buildfile.kdl")).unwrap();
    project.run("check").ended(
        2,
        "",
        "
        error[fbuild::buildfile::file_missing]: there is no Buildfile at `Buildfile.kdl`
          help: `fbuild init` writes a first one; `-f FILE` names another file, `-C DIR` another folder
        ",
    );
}

#[test]
fn text_that_is_not_utf8_is_refused_with_its_place() {
    assert_eq!(
        refused(b"target a {\n  sh \"caf\xe9\"\n}\n"),
        "error[fbuild::buildfile::file_encoding]: `Buildfile.kdl` is not UTF-8 text: line 2, byte 20\n  \
         help: save it as UTF-8 in your editor; `file` guesses what it is, `iconv -t UTF-8` converts it\n"
    );
    refused(b"\xff\xfet\0a\0r\0");
}

#[test]
fn nesting_10000_levels_deep_is_refused() {
    let deep = "a {".repeat(10_000) + &"}".repeat(10_000);
    let output = refused(&deep);
    assert!(
        output
            .starts_with("fbuild::buildfile::nesting\n\n  × blocks are nested more than 64 deep\n"),
        "{output}"
    );
    refused("a {\n".repeat(10_000) + &"}\n".repeat(10_000));
    refused("/*".repeat(10_000) + &"*/".repeat(10_000));
    refused("target a {".repeat(10_000));
    refused("}".repeat(10_000));
}

#[test]
fn fifty_megabytes_are_too_large() {
    let output = refused(format!(
        "target a {{ sh \"true\" }}\n// {}\n",
        "x".repeat(50_000_000)
    ));
    assert_eq!(
        output,
        "error[fbuild::buildfile::file_too_large]: `Buildfile.kdl` is too large to be a Buildfile: 50000027 bytes\n  \
         help: the most is 8388608 bytes; split it with `include`, or check that this is the right file\n"
    );
}

#[test]
fn unending_slash_dashes_are_refused() {
    let output = refused("/-{".repeat(1_000_000));
    assert!(
        output.starts_with(
            "fbuild::buildfile::syntax\n\n  × a `{` where a node's name is expected\n"
        ),
        "{output}"
    );
    refused("/-{\n".repeat(100_000));
    refused("/-".repeat(1_000_000));
    refused("target a { /-{".repeat(100_000));
}

#[test]
fn mistakes_of_every_kind_are_reported_at_once() {
    let output = refused(
        "target a {\n    timeout 5\n    inputs 3 optional=\"x\"\n    sh #true\n}\n\
         target b { runn x; inputz y; outputs o comitted=#true }\n\
         target a { sh \"true\" }\n\
         what 1\n\
         jobs \"many\"\n",
    );
    let messages: Vec<&str> = output
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("× "))
        .collect();
    assert_eq!(
        messages,
        [
            "expected a duration, found a number",
            "expected a pattern, found a number",
            "expected #true or #false, found text",
            "expected a script, found a flag",
            "unknown node `runn`",
            "unknown node `inputz`",
            "`outputs` has no property `comitted`",
            "the target `a` is defined twice",
            "unknown node `what`",
            "expected a whole number, found text",
        ]
    );
    for help in [
        "did you mean `run`?",
        "did you mean `inputs`?",
        "did you mean `committed`?",
    ] {
        assert!(output.contains(help), "{help} is not in\n{output}");
    }
    assert!(
        output.ends_with("10 errors in `Buildfile.kdl`; nothing was run\n"),
        "{output}"
    );
}

#[test]
fn mistakes_in_the_graph_are_reported_at_once() {
    let output = refused(
        "target a { needs b wroker; sh \"true\" }\n\
         target b { needs a; sh \"true\" }\n\
         target worker { outputs \"out/app\"; sh \"true\" }\n\
         target again { outputs \"out/app\"; sh \"true\" }\n\
         target reads { inputs \"out/app\"; sh \"true\" }\n\
         target outside { outputs \"../x\"; sh \"true\" }\n",
    );
    let messages: Vec<&str> = output
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("× "))
        .collect();
    assert_eq!(
        messages,
        [
            "`../x` leaves the project's root, or could",
            "unknown target `wroker`",
            "targets need each other in a cycle: `a` → `b` → `a`",
            "`worker` and `again` both produce `out/app`",
            "`reads` reads what `worker` produces, but does not need it",
            "`reads` reads what `again` produces, but does not need it",
        ]
    );
}

#[test]
fn nothing_runs_while_a_node_is_unknown() {
    let project = Project::new("target a { sh \"touch ran\" }\ntarget b { nonsense }\n");
    for command in [
        "run a",
        "run -n a",
        "status a",
        "graph a",
        "list",
        "explain a",
    ] {
        let done = project.run(command).code(2);
        assert!(
            done.stderr.contains("unknown node `nonsense`"),
            "{command}: {}",
            done.stderr
        );
        assert_eq!(done.stdout, "", "{command}");
    }
    assert_eq!(project.names(""), ["Buildfile.kdl"]);
}

#[test]
fn mistake_in_an_included_file_shows_that_file() {
    let project =
        Project::new("include \"sub/Buildfile.kdl\"\ntarget a { needs b; sh \"true\" }\n")
            .file("sub/Buildfile.kdl", "target b {\n    sh 1\n}\n");
    let done = project.run("check").code(2);
    assert_eq!(
        done.stderr,
        "fbuild::buildfile::type\n\n  × expected a script, found a number\n   \
         ╭─[sub/Buildfile.kdl:2:8]\n 1 │ target b {\n 2 │     sh 1\n   ·        ┬\n   ·        ╰── this is a number\n \
         3 │ }\n   ╰────\n  help: put it in quotes: \"1\"\n\n1 error in `Buildfile.kdl`; nothing was run\n"
    );
}

#[test]
fn missing_root_is_reported() {
    let project = Project::new("project p { root \"nowhere\" }\ntarget a { sh \"true\" }\n");
    let done = project.run("check").code(2);
    assert!(
        done.stderr.contains("× there is no folder `nowhere`"),
        "{}",
        done.stderr
    );
}
