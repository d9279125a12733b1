//! Inputs that change while commands run, and files with unusual names.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::project::{Project, is_root};

/// A target whose command signals that it has read its input, and waits.
fn waiting_target() -> Project {
    Project::new(
        r#"
        target t {
            inputs "src/*"
            outputs out
            sh "cat src/* > out; echo read > ../reached; read go < ../go"
        }
        "#,
    )
    .file("src/a", "old\n")
}

/// Builds, changes something while the command runs, and returns the output.
#[track_caller]
fn run_while(project: &Project, change: impl FnOnce(&Project)) -> String {
    let (reached, go) = (project.pipe("../reached"), project.pipe("../go"));
    let run = project.fbuild("run t").start();
    reached.wait();
    change(project);
    go.go();
    let output = run.end().code(0).stdout;
    fs::remove_file(project.path("../reached")).unwrap();
    fs::remove_file(project.path("../go")).unwrap();
    output
}

/// Builds without a change and returns the line with the reason.
#[track_caller]
fn rebuilt(project: &Project) -> String {
    let output = run_while(project, |_| ());
    let start = output.lines().find(|line| line.contains("Starting t"));
    start.unwrap_or("").to_owned()
}

#[test]
fn input_edited_during_the_command_is_reported() {
    let project = waiting_target();
    assert_eq!(
        run_while(&project, |project| project.write("src/a", "new\n")),
        "Building 1 target\n\
         [1/1] Starting t: never built here\n\
         warning[fbuild::build::input_changed]: t: `src/a` changed while the commands ran; the result is not stored\n\
         [1/1] Completed t ([time], total elapsed: [time])\n\
         Finished in [time]: 1 built\n"
    );
    assert_eq!(project.read("out"), "old\n");
    assert_eq!(rebuilt(&project), "[1/1] Starting t: never built here");
    assert_eq!(project.read("out"), "new\n");
    // The first result is not stored under its key either.
    project.write("src/a", "old\n");
    assert_eq!(rebuilt(&project), "[1/1] Starting t: `src/a` changed");
}

#[test]
fn edit_that_keeps_the_length_is_noticed() {
    let project = waiting_target();
    let output = run_while(&project, |project| project.write("src/a", "odl\n"));
    assert!(
        output.contains("`src/a` changed while the commands ran"),
        "{output}"
    );
}

#[test]
fn input_rewritten_with_the_same_content_is_reported() {
    let project = waiting_target();
    let output = run_while(&project, |project| {
        project.write("src/a", "odl\n");
        project.write("src/a", "old\n");
    });
    assert!(
        output.contains(
            "`src/a` was written to while the commands ran, and holds again what it held"
        ),
        "{output}"
    );
    assert_eq!(rebuilt(&project), "[1/1] Starting t: never built here");
}

#[test]
fn input_removed_during_the_command_is_reported() {
    let project = waiting_target().file("src/b", "b\n");
    let output = run_while(&project, |project| {
        fs::remove_file(project.path("src/a")).unwrap()
    });
    assert!(
        output.contains("warning[fbuild::build::input_changed]: t: `src/a` changed while the commands ran; the result is not stored\n"),
        "{output}"
    );
    assert_eq!(rebuilt(&project), "[1/1] Starting t: never built here");
    assert_eq!(project.read("out"), "b\n");
}

#[test]
fn removal_of_the_last_input_is_reported() {
    let project = waiting_target();
    let output = run_while(&project, |project| {
        fs::remove_file(project.path("src/a")).unwrap()
    });
    assert!(
        output.contains("warning[fbuild::build::input_changed]"),
        "{output}"
    );
    let next = project.run("run t").code(1);
    assert!(
        next.stdout.contains("the pattern `src/*` matches no file"),
        "{}",
        next.stdout
    );
}

#[test]
fn input_added_during_the_command_is_reported() {
    let project = waiting_target();
    let output = run_while(&project, |project| project.write("src/b", "b\n"));
    assert!(
        output.contains("`src/b` changed while the commands ran"),
        "{output}"
    );
    assert_eq!(rebuilt(&project), "[1/1] Starting t: never built here");
    assert_eq!(project.read("out"), "old\nb\n");
}

#[test]
fn outputs_of_needed_targets_are_checked_too() {
    let project = Project::new(
        r#"
        target first { outputs made; sh "echo made > made" }
        target t {
            needs first
            outputs out
            sh "cat made > out; echo read > ../reached; read go < ../go"
        }
        "#,
    );
    let output = run_while(&project, |project| project.write("made", "meddled\n"));
    assert!(
        output.contains("t: `made` changed while the commands ran; the result is not stored"),
        "{output}"
    );
}

#[test]
fn folder_made_in_place_of_a_file_is_not_a_change() {
    let project = Project::new(r#"target made { inputs in; outputs "gen/"; sh "cp in gen/s" }"#)
        .file("in", "in\n");
    project.run("run -q made").ok("");
    project.write(
        "Buildfile.kdl",
        r#"
        target made { inputs in; outputs "gen/"; sh "mkdir gen/s; cp in gen/s/f" }
        target quiet { needs made; outputs out; sh "echo > out; echo > ../reached; read go < ../go" }
        target slow { inputs in; outputs late; sh "read go < ../slow; echo > late" }
        target lister { needs made slow; inputs "gen/**"; outputs list; sh "echo > list; echo > ../listed" }
        project demo { default quiet lister }
        "#,
    );
    let [reached, go, slow, listed] =
        ["../reached", "../go", "../slow", "../listed"].map(|name| project.pipe(name));
    let run = project.fbuild("run --jobs 4").start();
    // While `quiet` runs, `gen` is listed for another target.
    reached.wait();
    slow.go();
    listed.wait();
    go.go();
    let output = run.end().code(0).stdout;
    assert!(!output.contains("warning"), "{output}");
    assert!(output.contains("4 built"), "{output}");
}

#[test]
fn own_outputs_are_not_inputs() {
    let project = Project::new(
        r#"target t { inputs "src/**"; outputs "src/all.txt"; sh "cat src/* > src/all.txt" }"#,
    )
    .file("src/a", "a\n");
    project.run("run -q t").ok("");
    project
        .run("run t")
        .ok("nothing to do: 1 target up to date ([time])\n");
    assert_eq!(project.read("src/all.txt"), "a\n");
}

#[test]
fn unusual_names_are_inputs_and_outputs() {
    let names: [&[u8]; 9] = [
        b"with space",
        b"new\nline",
        b"quo\"te's",
        b"-leading-dash",
        "grüße-日本".as_bytes(),
        b"not-utf8-\xff\xfe",
        b"back\\slash",
        b"tab\there",
        b"*[a]?{b}",
    ];
    let project =
        Project::new(r#"target t { inputs "in/**"; outputs "out/"; sh "cp -R in/. out" }"#);
    for name in names {
        project.write(
            std::path::Path::new("in").join(OsStr::from_bytes(name)),
            name,
        );
    }
    project.run("run -q t").ok("");
    let listed = project.names("out");
    assert_eq!(listed, project.names("in"));
    fs::remove_dir_all(project.path("out")).unwrap();
    project.run("run t").ok("
        Building 1 target; everything takes about [time]
        [1/1] Restored t from the cache: its output `out` was deleted (total elapsed: [time])
        Finished in [time]: 1 restored
        ");
    for name in names {
        let path = std::path::Path::new("out").join(OsStr::from_bytes(name));
        assert_eq!(fs::read(project.path(path)).unwrap(), name);
    }
    project.write(
        std::path::Path::new("in").join(OsStr::from_bytes(b"new\nline")),
        "changed",
    );
    let done = project.run("run t").code(0);
    assert!(
        done.stdout
            .contains(r"[1/1] Starting t: `in/new\x0aline` changed"),
        "{}",
        done.stdout
    );
    project.write(
        std::path::Path::new("in").join(OsStr::from_bytes(b"not-utf8-\xff\xfe")),
        "changed",
    );
    let done = project.run("run --json t").code(0);
    assert!(
        done.stdout.contains(r"in/not-utf8-\\xff\\xfe"),
        "{}",
        done.stdout
    );
}

#[test]
fn unusual_names_can_be_written_in_a_buildfile() {
    let project = Project::new(
        r##"
        target t {
            inputs "with space" "-dash" "grüße" #"quo"te"#
            outputs "-out put"
            run cp -- "-dash" "-out put"
        }
        "##,
    );
    for name in ["with space", "-dash", "grüße", "quo\"te"] {
        project.write(name, name);
    }
    project.run("run -q t").ok("");
    assert_eq!(project.read("-out put"), "-dash");
}

#[test]
fn output_behind_a_link_out_of_the_root_is_refused() {
    let project = Project::new(r#"target t { outputs "link/out"; sh "echo x > link/out" }"#);
    fs::create_dir(project.path("../elsewhere")).unwrap();
    symlink("../elsewhere", project.path("link")).unwrap();
    let done = project.run("run t").code(1);
    assert!(
        done.stdout.contains("error[fbuild::store::"),
        "{}",
        done.stdout
    );
    assert!(done.stdout.contains("`link`"), "{}", done.stdout);
    assert_eq!(
        project.names("../elsewhere"),
        [""; 0],
        "something was written outside"
    );
}

#[test]
fn owned_folder_that_is_a_link_out_is_not_emptied() {
    let project =
        Project::new(r#"target t { outputs "owned/"; sh "mkdir -p owned; echo x > owned/x" }"#);
    project.write("../precious/file", "precious\n");
    symlink("../precious", project.path("owned")).unwrap();
    project.run("run t");
    assert_eq!(project.read("../precious/file"), "precious\n");
    project.run("clean");
    assert_eq!(project.read("../precious/file"), "precious\n");
    assert_eq!(project.names("../precious"), ["file"]);
}

#[test]
fn changed_target_of_an_input_link_is_a_change() {
    let project = Project::new(r#"target t { inputs "in/*"; outputs out; sh "ls in > out" }"#)
        .file("in/file", "x")
        .file("a", "a")
        .file("b", "b");
    symlink("../a", project.path("in/link")).unwrap();
    project.run("run -q t").ok("");
    fs::remove_file(project.path("in/link")).unwrap();
    symlink("../b", project.path("in/link")).unwrap();
    let done = project.run("run t").code(0);
    assert!(
        done.stdout.contains("Starting t: `in/link` changed"),
        "{}",
        done.stdout
    );
}

#[test]
fn pipes_and_folders_are_not_inputs() {
    let project = Project::new(
        r#"
        target all { inputs "in/*"; outputs out; sh "ls in > out" }
        target pipe { inputs "in/pipe"; sh "true" }
        target folder { inputs in; sh "true" }
        "#,
    )
    .file("in/file", "x");
    project.pipe("in/pipe");
    project.run("run -q all").ok("");
    assert_eq!(project.read("out"), "file\npipe\n");
    let pipe = project.run("run pipe").code(1).stdout;
    assert!(
        pipe.contains("the input `in/pipe` is neither a file nor a link"),
        "{pipe}"
    );
    assert_eq!(pipe.matches("help:").count(), 1, "{pipe}");
    let folder = project.run("run folder").code(1).stdout;
    assert!(
        folder.contains("for everything below it, write `in/`"),
        "{folder}"
    );
}

#[test]
fn unreadable_input_is_reported() {
    let project = Project::new(r#"target t { inputs "in/*"; outputs out; sh "cat in/* > out" }"#)
        .file("in/secret", "x");
    if is_root() {
        project.hand_over();
    }
    fs::set_permissions(project.path("in/secret"), fs::Permissions::from_mode(0o000)).unwrap();
    let done = project.fbuild("run t").unprivileged().end().code(1);
    assert!(done.stdout.contains("in/secret"), "{}", done.stdout);
    assert!(done.stdout.contains("Permission denied"), "{}", done.stdout);
}

#[test]
fn permission_bits_of_an_input_are_in_the_key() {
    let project = Project::new("target t { inputs in; outputs out; run cp in out }\n");
    let project = project.file("in", "1\n");
    let chmod = |mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(project.path("in"), mode).unwrap();
    };
    for mode in [0o644, 0o600, 0o755, 0o444] {
        chmod(mode);
        project.run("run t").code(0);
        let made = fs::metadata(project.path("out")).unwrap();
        let made = made.permissions().mode();
        assert_eq!(made & 0o777, mode & 0o755, "of {mode:o}");
    }
}

#[test]
fn group_write_bit_of_an_input_is_not_in_the_key() {
    let project = Project::new("target t { inputs in; outputs out; run cp in out }\n");
    let project = project.file("in", "1\n");
    project.run("run t").code(0);
    let mode = fs::Permissions::from_mode(0o664);
    fs::set_permissions(project.path("in"), mode).unwrap();
    project
        .run("run t")
        .ok("nothing to do: 1 target up to date ([time])\n");
}

/// A target that reads files which another one makes, without an edge between the two.
fn unordered() -> Project {
    Project::new(
        r#"
        target gen { inputs seed; outputs "a/{x,y}/f"; sh "mkdir -p a/x a/y; cp seed a/x/f; cp seed a/y/f" }
        target use { inputs "a/**" { except "a/x/**" }; outputs out; sh "cat a/y/* > out" }
        "#,
    )
    .file("seed", "seed\n")
    .file("a/y/other", "other\n")
}

const POSSIBLE: &str = "`use` may read what `gen` produces, but does not need it";
const CERTAIN: &str = "`use` reads what `gen` produces, but does not need it";

#[test]
fn possible_read_without_an_edge_is_a_warning() {
    let project = unordered();
    let check = project.run("check").code(0).stderr;
    assert!(check.contains(&format!("⚠ {POSSIBLE}")), "{check}");
    assert!(check.contains("may match `a/y/f`"), "{check}");
    let run = project.run("run use").code(0);
    assert!(run.stderr.contains(POSSIBLE), "{}", run.stderr);
}

#[test]
fn file_read_without_an_edge_is_an_error() {
    let project = unordered();
    project.run("run gen").code(0);
    let check = project.run("check").code(2).stderr;
    assert!(check.contains(&format!("× {CERTAIN}")), "{check}");
    assert!(check.contains("matches `a/y/f`"), "{check}");
    let run = project.run("run use").code(1).stdout;
    assert!(run.contains(CERTAIN), "{run}");
    assert!(!project.has("out"));
}

#[test]
fn exception_for_a_possible_read_is_accepted() {
    let project = unordered();
    let text = project.read("Buildfile.kdl");
    project.buildfile(&text.replace("a/x/**", "a/{x,y}/f"));
    project.run("run -q gen use").ok("");
}

#[test]
fn command_that_links_an_input_keeps_its_result() {
    let project = Project::new("target t { inputs in; outputs out; sh \"ln in out\" }\n");
    let project = project.file("in", "1\n");
    let done = project.run("run t").code(0);
    assert_eq!(done.stdout.matches("warning").count(), 0, "{}", done.stdout);
    project
        .run("run t")
        .ok("nothing to do: 1 target up to date ([time])\n");
}

#[test]
fn file_with_brackets_is_suggested_literally() {
    let project = Project::new(
        r#"
        target matched { inputs "a/x[12].c"; outputs out; sh "echo > out" }
        target unmatched { inputs "b/x[12].c"; outputs other; sh "echo > other" }
        "#,
    )
    .file("a/x[12].c", "")
    .file("a/x1.c", "")
    .file("b/x[12].c", "");
    let literal = |folder: &str| format!(r##"#"{folder}/x\[12\].c"#"##);
    let run = project.run("run matched").code(0).stdout;
    assert!(run.contains("`a/x[12].c` is not an input"), "{run}");
    assert!(run.contains(&literal("a")), "{run}");
    let run = project.run("run unmatched").code(1).stdout;
    assert!(run.contains(&literal("b")), "{run}");
    let text = project.read("Buildfile.kdl");
    project.buildfile(&text.replace("\"a/x[12].c\"", &literal("a")));
    project.run("run -q matched").ok("");
}
