//! Files that fbuild did not make: nothing deletes, overwrites or moves them unless the user
//! or version control allows it.

use std::fs;

use rustix::process::Signal;

use super::project::{Project, skip};

/// A target with an owned folder, and files of the user in the place of it.
fn foreign() -> Project {
    let project = Project::new(
        r#"target site { inputs in; outputs "site/"; sh "echo > ../ran; cp in site/page" }"#,
    )
    .file("in", "1\n");
    for number in 1..=7 {
        project.write(format!("site/mine{number}"), "years of work\n");
    }
    project
}

/// A target whose outputs fbuild made here.
fn built() -> Project {
    let project = Project::new(
        r#"target site { inputs in; outputs "site/" out; sh "cp in site/page; cp in out" }"#,
    )
    .file("in", "1\n");
    project.run("run -q site").ok("");
    project
}

#[test]
fn foreign_files_stop_a_target_before_its_commands() {
    let project = foreign();
    let before = project.snapshot("site");
    let done = project.run("run site").code(1);
    let expected = "`site/` has 7 files that fbuild did not make: `site/mine1`, `site/mine2`, \
                    `site/mine3`, `site/mine4`, `site/mine5` and 2 more";
    assert!(done.stdout.contains(expected), "{}", done.stdout);
    let cure = "move the files, or name them with `keep`; `--replace` moves them";
    assert!(done.stdout.contains(cure), "{}", done.stdout);
    assert_eq!(project.snapshot("site"), before);
    assert!(!project.has("../ran") && !project.has(".build-trash"));
}

#[test]
fn folder_in_place_of_a_file_names_the_slash() {
    let project = Project::new(r#"target a { outputs dist; sh "echo > dist" }"#)
        .file("dist/mine", "years of work\n");
    let done = project.run("run a").code(1);
    let cure = "`dist` is a folder: write `dist/` if the target owns it";
    assert!(done.stdout.contains(cure), "{}", done.stdout);
    project.run("clean").ended(
        0,
        "removed 0 outputs of 1 target\n",
        "left: `dist` has a file that fbuild did not make: `dist/mine`\n",
    );
    assert_eq!(project.read("dist/mine"), "years of work\n");
}

#[test]
fn replaced_files_are_restored_from_the_trash() {
    let project = foreign();
    let done = project.run("run --replace site").code(0);
    assert!(
        done.stdout.contains("7 files were in the place of outputs"),
        "{}",
        done.stdout
    );
    assert_eq!(project.names("site"), ["page"]);
    let list = project.run("trash list").code(0).stdout;
    assert!(list.contains("  site/mine7\n"), "{list}");
    project
        .run("trash restore site/mine1")
        .ok("restored 1 file\n");
    project.run("trash restore").ok("restored 6 files\n");
    assert_eq!(project.read("site/mine7"), "years of work\n");
    project.run("trash list").ok("the trash is empty\n");
    assert!(!project.has(".build-trash"));
}

#[test]
fn restore_keeps_the_file_in_its_place() {
    let project = Project::new(r#"target a { outputs out; sh "echo > out" }"#).file("out", "mine");
    project.run("run -q --replace a").code(0);
    project.run("trash restore").ended(
        2,
        "restored 0 files\n",
        "
        error: `out` exists; the trash keeps the other version
          help: move or delete it, then run `fbuild trash restore` again
        ",
    );
    assert_eq!(project.read("out"), "\n");
    project.run("trash restore nothing").code(2);
    project.run("trash empty").ok("deleted 1 file\n");
    assert!(!project.has(".build-trash"));
}

#[test]
fn ignored_files_go_to_the_trash() {
    let project = foreign().file(".gitignore", "site\n").file(".git/HEAD", "");
    let done = project.run("run site").code(0);
    assert!(
        done.stdout.contains("are in the trash now"),
        "{}",
        done.stdout
    );
    project.run("trash restore").ok("restored 7 files\n");
}

#[test]
fn edited_output_goes_to_the_trash() {
    let project = built();
    project.write("site/page", "by hand\n");
    project.write("in", "2\n");
    project.run("run -q site").code(0);
    assert_eq!(project.read("site/page"), "2\n");
    fs::remove_file(project.path("site/page")).unwrap();
    project.run("trash restore").ok("restored 1 file\n");
    assert_eq!(project.read("site/page"), "by hand\n");
}

#[test]
fn outputs_stay_owned_when_the_cache_is_deleted() {
    let project = built();
    fs::remove_dir_all(project.path(".build-cache")).unwrap();
    project.write("in", "2\n");
    let done = project.run("run site").code(0);
    assert!(done.stdout.contains("1 built"), "{}", done.stdout);
    assert!(!project.has(".build-trash"));
    fs::remove_dir_all(project.path(".build-cache")).unwrap();
    project.run("clean").ok("removed 2 outputs of 1 target\n");
}

#[test]
fn clean_leaves_files_that_fbuild_did_not_make() {
    let project = built();
    project.write("site/mine", "years of work\n");
    project.write("out", "by hand\n");
    let done = project.run("clean").code(0);
    assert_eq!(done.stdout, "removed 1 output of 1 target\n");
    let left = "left: `site/` has a file that fbuild did not make: `site/mine`\n";
    assert!(done.stderr.contains(left), "{}", done.stderr);
    assert_eq!(project.names("site"), ["mine"]);
    assert!(!project.has("out"));
    project.run("trash restore").ok("restored 1 file\n");
    assert_eq!(project.read("out"), "by hand\n");
    project.run("clean --all --replace").code(0);
    assert!(!project.has("site/mine"));
    project.run("trash restore").code(0);
    assert_eq!(project.read("site/mine"), "years of work\n");
}

#[test]
fn replaced_outputs_of_a_killed_run_are_no_obstacle() {
    let project = Project::new(
        r#"target a { outputs "out/"; sh "echo half > out/half; echo > ../reached; read go < ../go" }"#,
    );
    let (reached, _go) = (project.pipe("../reached"), project.pipe("../go"));
    let run = project.fbuild("run a").start();
    reached.wait();
    run.signal(Signal::KILL);
    run.end();
    project.buildfile(r#"target a { outputs "out/"; sh "echo > out/whole" }"#);
    project.run("run -q a").code(0);
    assert_eq!(project.names("out"), ["whole"]);
}

#[test]
fn committed_file_survives_a_kill_and_a_removed_cache() {
    let project = Project::new(
        r#"
        target a {
            outputs gen committed=#true
            sh "echo half > gen; echo > ../reached; read go < ../go"
        }
        "#,
    )
    .file("gen", "by hand\n");
    let (reached, _go) = (project.pipe("../reached"), project.pipe("../go"));
    let run = project.fbuild("run a").start();
    reached.wait();
    run.signal(Signal::KILL);
    run.end();
    fs::remove_dir_all(project.path(".build-cache")).unwrap();
    fs::remove_file(project.path("gen")).unwrap();
    project.run("clean").code(0);
    assert_eq!(project.read("gen"), "by hand\n");
}

#[test]
fn check_warns_of_outputs_that_cover_tracked_files() {
    let project = Project::new(
        r#"
        target a { outputs "out/" { keep "kept" }; sh "true" }
        target b { outputs "gen/*.c" committed=#true; sh "true" }
        target c { outputs "src/*.js"; sh "true" }
        "#,
    );
    for path in [
        "out/kept", "out/x", "gen/a.c", "src/a.js", "src/b.js", "src/c.ts",
    ] {
        project.write(path, "");
    }
    if !(project.git("init -q") && project.git("add .")) {
        return skip("there is no git");
    }
    let done = project.run("check").code(0);
    for text in [
        "`out/` covers 1 file under version control: `out/x`",
        "`src/*.js` covers 2 files under version control: `src/a.js`, `src/b.js`",
    ] {
        assert!(done.stderr.contains(text), "{text}: {}", done.stderr);
    }
    assert_eq!(
        done.stderr.matches("fbuild::build::tracked_output").count(),
        2,
        "{}",
        done.stderr
    );
}
