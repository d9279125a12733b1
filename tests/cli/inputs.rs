//! Inputs that do not stand still, and files with odd names.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::project::{Project, is_root};

/// A target whose command says when it has read its input, and waits before it goes on.
fn meeting() -> Project {
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

/// Builds, changes something while the command runs, and returns what was said.
#[track_caller]
fn disturbed(project: &Project, change: impl FnOnce(&Project)) -> String {
    let (reached, go) = (project.pipe("../reached"), project.pipe("../go"));
    let run = project.fbuild("run t").start();
    reached.wait();
    change(project);
    go.go();
    let said = run.end().code(0).stdout;
    fs::remove_file(project.path("../reached")).unwrap();
    fs::remove_file(project.path("../go")).unwrap();
    said
}

/// Builds without a disturbance and returns why it was built.
#[track_caller]
fn rebuilt(project: &Project) -> String {
    let said = disturbed(project, |_| ());
    let start = said.lines().find(|line| line.contains("Starting t"));
    start.unwrap_or("").to_owned()
}

#[test]
fn one_edited_while_the_command_runs_is_said_and_the_result_not_kept() {
    let project = meeting();
    assert_eq!(
        disturbed(&project, |project| project.write("src/a", "new\n")),
        "Building 1 target\n\
         [1/1] Starting t: never built here\n\
         warning[fbuild::build::input_changed]: t: `src/a` changed while the commands ran; the result is not stored\n\
         [1/1] Completed t ([time], total elapsed: [time])\n\
         Finished in [time]: 1 built\n"
    );
    assert_eq!(project.read("out"), "old\n");
    assert_eq!(rebuilt(&project), "[1/1] Starting t: never built here");
    assert_eq!(project.read("out"), "new\n");
    // Neither is there a result under the key of the first.
    project.write("src/a", "old\n");
    assert_eq!(rebuilt(&project), "[1/1] Starting t: `src/a` changed");
}

#[test]
fn one_edited_and_put_back_with_the_same_length_is_noticed_or_harmless() {
    let project = meeting();
    let said = disturbed(&project, |project| project.write("src/a", "odl\n"));
    assert!(
        said.contains("`src/a` changed while the commands ran"),
        "{said}"
    );
}

#[test]
fn one_that_is_written_to_and_holds_again_what_it_held_is_said() {
    let project = meeting();
    let said = disturbed(&project, |project| {
        project.write("src/a", "odl\n");
        project.write("src/a", "old\n");
    });
    assert!(
        said.contains(
            "`src/a` was written to while the commands ran, and holds again what it held"
        ),
        "{said}"
    );
    assert_eq!(rebuilt(&project), "[1/1] Starting t: never built here");
}

#[test]
fn one_removed_while_the_command_runs_is_said() {
    let project = meeting().file("src/b", "b\n");
    let said = disturbed(&project, |project| {
        fs::remove_file(project.path("src/a")).unwrap()
    });
    assert!(
        said.contains("warning[fbuild::build::input_changed]: t: `src/a` changed while the commands ran; the result is not stored\n"),
        "{said}"
    );
    assert_eq!(rebuilt(&project), "[1/1] Starting t: never built here");
    assert_eq!(project.read("out"), "b\n");
}

#[test]
fn the_last_one_removed_while_the_command_runs_is_said() {
    let project = meeting();
    let said = disturbed(&project, |project| {
        fs::remove_file(project.path("src/a")).unwrap()
    });
    assert!(
        said.contains("warning[fbuild::build::input_changed]"),
        "{said}"
    );
    let next = project.run("run t").code(1);
    assert!(
        next.stdout.contains("the pattern `src/*` matches no file"),
        "{}",
        next.stdout
    );
}

#[test]
fn one_added_while_the_command_runs_is_said() {
    let project = meeting();
    let said = disturbed(&project, |project| project.write("src/b", "b\n"));
    assert!(
        said.contains("`src/b` changed while the commands ran"),
        "{said}"
    );
    assert_eq!(rebuilt(&project), "[1/1] Starting t: never built here");
    assert_eq!(project.read("out"), "old\nb\n");
}

#[test]
fn what_a_needed_target_made_is_watched_as_well() {
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
    let said = disturbed(&project, |project| project.write("made", "meddled\n"));
    assert!(
        said.contains("t: `made` changed while the commands ran; the result is not stored"),
        "{said}"
    );
}

#[test]
fn a_made_folder_where_a_file_stood_is_nothing_that_was_written_to() {
    let project = Project::new(
        r#"
        target made { inputs in; outputs "gen/"; sh "mkdir gen/s; cp in gen/s/f" }
        target quiet { needs made; outputs out; sh "echo > out; echo > ../reached; read go < ../go" }
        target slow { inputs in; outputs late; sh "read go < ../slow; echo > late" }
        target lister { needs made slow; inputs "gen/**"; outputs list; sh "echo > list; echo > ../listed" }
        project demo { default quiet lister }
        "#,
    )
    .file("in", "in\n")
    .file("gen/s", "a file\n");
    let [reached, go, slow, listed] =
        ["../reached", "../go", "../slow", "../listed"].map(|name| project.pipe(name));
    let run = project.fbuild("run --jobs 4").start();
    // While `quiet` runs, `gen` is listed for somebody else.
    reached.wait();
    slow.go();
    listed.wait();
    go.go();
    let said = run.end().code(0).stdout;
    assert!(!said.contains("warning"), "{said}");
    assert!(said.contains("4 built"), "{said}");
}

#[test]
fn what_a_target_makes_is_no_input_of_its_own() {
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
fn names_of_every_kind_are_inputs_and_outputs() {
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
fn odd_names_can_be_written_in_a_buildfile() {
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
fn an_output_whose_path_leads_out_through_a_link_is_refused() {
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
fn an_owned_folder_that_is_a_link_out_is_not_emptied_through_it() {
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
fn links_are_followed_by_nobody_as_inputs() {
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
fn what_is_neither_a_file_nor_a_link_is_no_input_and_nobody_waits_for_it() {
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
fn one_that_cannot_be_read_is_said() {
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
