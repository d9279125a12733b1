//! Symbolic links among inputs: every file that a command reads through one is part of the key.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::project::Project;
use super::snapshot::{is_skipped, settle_with};

const UP_TO_DATE: &str = "nothing to do: 1 target up to date ([time])\n";

/// Makes a link in the place of the one that is there.
fn relink(project: &Project, target: &str, link: &str) {
    let _ = fs::remove_file(project.path(link));
    symlink(target, project.path(link)).unwrap();
}

/// Two packages, one of which is linked into the other, and a target that reads both.
fn workspace(inputs: &str) -> Project {
    let text = format!(
        "target app {{ inputs {inputs}; outputs out; \
         sh \"cat packages/app/node_modules/lib/*.js > out\" }}\n"
    );
    let project = Project::new(&text)
        .file("packages/lib/index.js", "one\n")
        .file("packages/app/src/a.js", "a\n");
    fs::create_dir(project.path("packages/app/node_modules")).unwrap();
    relink(&project, "../../lib", "packages/app/node_modules/lib");
    project
}

#[test]
fn executable_bit_behind_a_link_is_in_the_key() {
    let text = r#"target t { inputs "tools/*"; outputs out; run cp "tools/x" out }"#;
    let project = Project::new(text).file("shared/x", "#!/bin/sh\n");
    fs::create_dir(project.path("tools")).unwrap();
    relink(&project, "../shared/x", "tools/x");
    project.run("run t").code(0);
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(project.path("shared/x"), mode).unwrap();
    project.run("run t").code(0);
    let made = fs::metadata(project.path("out")).unwrap();
    assert_eq!(made.permissions().mode() & 0o111, 0o111);
}

#[test]
fn change_in_a_linked_package_is_detected() {
    for inputs in [
        "\"packages/app/**\"",
        "\"packages/app/node_modules/lib/index.js\"",
        "\"packages/app/node_modules/lib/*.js\"",
        "\"packages/*/node_modules/**/*.js\"",
    ] {
        let project = workspace(inputs);
        settle_with(&project, "run app");
        project.write("packages/lib/index.js", "two\n");
        project.run("run app").code(0);
        assert_eq!(project.read("out"), "two\n", "{inputs}");
    }
}

#[test]
fn new_file_in_a_linked_package_is_detected() {
    for inputs in ["\"packages/app/**\"", "\"packages/app/node_modules/lib/*\""] {
        let project = workspace(inputs);
        settle_with(&project, "run app");
        project.write("packages/lib/new.js", "new\n");
        project.run("run app").code(0);
        assert_eq!(project.read("out"), "one\nnew\n", "{inputs}");
    }
}

#[test]
fn retargeted_link_to_a_folder_is_detected() {
    let project = workspace("\"packages/app/**\"").file("packages/other/index.js", "other\n");
    settle_with(&project, "run app");
    relink(&project, "../../other", "packages/app/node_modules/lib");
    project.run("run app").code(0);
    assert_eq!(project.read("out"), "other\n");
}

#[test]
fn link_that_is_replaced_by_a_folder_is_detected() {
    let project = workspace("\"packages/app/**\"");
    settle_with(&project, "run app");
    fs::remove_file(project.path("packages/app/node_modules/lib")).unwrap();
    project.write("packages/app/node_modules/lib/index.js", "own\n");
    project.run("run app").code(0);
    assert_eq!(project.read("out"), "own\n");
}

#[test]
fn change_behind_two_links_is_detected() {
    let text = r#"target t { inputs "a/**"; outputs out; sh "cat a/b/x a/b/c/y > out" }"#;
    let project = Project::new(text)
        .file("a/z", "")
        .file("b/own", "")
        .file("c/y", "one\n")
        .file("x", "one\n");
    relink(&project, "../b", "a/b");
    relink(&project, "../c", "b/c");
    relink(&project, "../x", "b/x");
    for (changed, expected) in [("x", "two\none\n"), ("c/y", "two\ntwo\n")] {
        settle_with(&project, "run t");
        project.write(changed, "two\n");
        project.run("run t").code(0);
        assert_eq!(project.read("out"), expected, "{changed}");
    }
}

#[test]
fn unchanged_files_behind_links_are_not_examined() {
    let project = workspace("\"packages/app/**\"");
    settle_with(&project, "run app");
    assert!(is_skipped(&project, || project
        .run("run app")
        .ok(UP_TO_DATE)));
}

#[test]
fn link_made_by_a_need_counts_with_the_file_behind_it() {
    let text = r#"
        target a { outputs cfg; sh "ln -s src/cfg cfg" }
        target b { needs a; outputs o; sh "cat cfg > o" }
    "#;
    let project = Project::new(text).file("src/cfg", "1\n");
    settle_with(&project, "run b");
    project.write("src/cfg", "2\n");
    project.run("run b").code(0);
    assert_eq!(project.read("o"), "2\n");
}

#[test]
fn link_made_by_a_need_counts_with_its_folder() {
    let text = r#"
        target a { outputs lnk; sh "ln -s src lnk" }
        target b { needs a; outputs o; sh "cat lnk/* > o" }
    "#;
    let project = Project::new(text).file("src/cfg", "1\n");
    settle_with(&project, "run b");
    project.write("src/cfg", "2\n");
    project.run("run b").code(0);
    assert_eq!(project.read("o"), "2\n");
    settle_with(&project, "run b");
    project.write("src/new", "3\n");
    project.run("run b").code(0);
    assert_eq!(project.read("o"), "2\n3\n");
}

#[test]
fn outputs_behind_the_link_of_a_need_do_not_count() {
    let text = r#"
        target a { outputs lnk; sh "ln -s . lnk" }
        target b { needs a; outputs o; sh "cat src > o" }
        target c { outputs other; cache #false; sh "date +%N > other" }
        project demo { default b c }
    "#;
    let project = Project::new(text).file("src", "1\n");
    project.run("run").code(0);
    let done = project.run("run").code(0);
    assert!(done.stdout.contains("1 built"), "{}", done.stdout);
}

#[test]
fn output_read_through_a_link_needs_an_edge() {
    let text = r#"
        target lib { outputs "lib/dist/"; sh "echo 1 > lib/dist/a" }
        target app { inputs "app/**"; outputs o; sh "cat app/lib/dist/a > o" }
    "#;
    let project = Project::new(text).file("app/main", "");
    relink(&project, "../lib", "app/lib");
    project.run("run lib").code(0);
    for (arguments, code) in [("run app", 1), ("check", 2)] {
        let done = project.run(arguments).code(code);
        let printed = done.stdout + &done.stderr;
        assert!(printed.contains("missing_edge"), "{printed}");
        let label = "reaches `lib/dist/a` through a link";
        assert!(printed.contains(label), "{printed}");
    }
    let fixed = text.replace("target app {", "target app { needs lib;");
    project.write("Buildfile.kdl", &fixed);
    project.run("run app").code(0);
    assert_eq!(project.read("o"), "1\n");
}

#[test]
fn link_out_of_the_project_is_named() {
    let text = r#"target t { inputs "in/**"; outputs out; sh "cat in/x/a > out" }"#;
    let project = Project::new(text)
        .file("in/own", "1\n")
        .file("../outer/a", "1\n");
    relink(&project, "../../outer", "in/x");
    let done = project.run("run t").code(0);
    assert!(
        done.stdout
            .contains("warning[fbuild::build::link_out]: t: the input `in/x` is a link out"),
        "{}",
        done.stdout
    );
    project.run("run t").ok(UP_TO_DATE);
}

#[test]
fn input_behind_a_link_out_is_refused() {
    let text = "target t { inputs \"in/x/a\"; outputs out; sh \"cat in/x/a > out\" }";
    let project = Project::new(text)
        .file("in/own", "1\n")
        .file("../outer/a", "1\n");
    relink(&project, "../../outer", "in/x");
    let done = project.run("run t").code(1);
    assert!(
        done.stdout
            .contains("the link `in/x` leads out of the project"),
        "{}",
        done.stdout
    );
}

#[test]
fn file_that_fbuild_prints_to_is_no_input() {
    let project = Project::new("target t { inputs \"**\"; outputs out; sh \"cat in > out\" }\n");
    let project = project.file("in", "1\n");
    for _ in 0..2 {
        let printing = ["sh", "-c", "exec \"$0\" \"$@\" > log"];
        let done = project.fbuild("run t").under(printing).end().code(0);
        assert_eq!(done.stderr, "");
        assert!(
            !project.read("log").contains("warning"),
            "{}",
            project.read("log")
        );
    }
    assert!(
        project.read("log").contains("nothing to do"),
        "{}",
        project.read("log")
    );
}
