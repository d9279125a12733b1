//! Outputs: owned folders are exact, kept files stay, committed files are rewritten only if
//! they differ, and the cache restores all of them.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::project::{Project, is_root};

/// A target that owns a folder with entries of every kind and a kept file.
fn site() -> Project {
    Project::new(
        r#"
        target site {
            inputs "in/*"
            outputs "site/" { keep "kept" "more/kept" }
            sh """
                mkdir -p site/empty site/sub
                cp in/* site/sub
                printf '#!/bin/sh\n' > site/run.sh
                chmod +x site/run.sh
                ln -s sub/a site/link
                ln -s /nowhere site/dangling
                """
        }
        "#,
    )
    .file("in/a", "a\n")
    .file("site/kept", "mine\n")
    .file("site/more/kept", "mine too\n")
}

const SITE: [&str; 9] = [
    "dangling",
    "empty/",
    "kept",
    "link",
    "more/",
    "more/kept",
    "run.sh",
    "sub/",
    "sub/a",
];

#[test]
fn owned_folder_has_only_outputs_and_kept_files() {
    let project = site();
    project.run("run -q site").ok("");
    assert_eq!(project.names("site"), SITE);
    let kept = project.stamp("site/kept");
    project.write("in/b", "b\n");
    project.run("run -q site").ok("");
    assert!(project.has("site/sub/b"));
    fs::remove_file(project.path("in/b")).unwrap();
    project.run("run site").ok("
        Building 1 target; everything takes about [time]
        [1/1] Restored site from the cache: `in/b` was removed (total elapsed: [time])
        Finished in [time]: 1 restored
        ");
    assert_eq!(project.names("site"), SITE);
    assert_eq!(project.read("site/kept"), "mine\n");
    assert_eq!(project.stamp("site/kept"), kept);
}

#[test]
fn replaced_file_in_an_owned_folder_causes_a_restore() {
    let project = site();
    project.run("run -q site").ok("");
    project.write("site/sub/stray", "x");
    project.run("run --replace site").ok("
        warning[fbuild::store::trashed]: site: `site/sub/stray` was in the place of an output and is in the trash now; `fbuild trash restore` returns what it can
        Building 1 target; everything takes about [time]
        [1/1] Restored site from the cache: `site/sub/stray` is in its output folder but is not one of its outputs (total elapsed: [time])
        Finished in [time]: 1 restored
        ");
    assert_eq!(project.names("site"), SITE);
}

#[test]
fn restored_outputs_equal_the_built_ones() {
    let project = site();
    project.run("run -q site").ok("");
    project.run("clean").ok("removed 4 outputs of 1 target\n");
    assert_eq!(project.names("site"), ["kept", "more/", "more/kept"]);
    project.run("run -q site").ok("");
    assert_eq!(project.names("site"), SITE);
    let mode = project
        .path("site/run.sh")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o111, 0o111);
    let mode = project
        .path("site/sub/a")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o111, 0);
    let link = |name: &str| fs::read_link(project.path(name)).unwrap();
    assert_eq!(link("site/link").to_str(), Some("sub/a"));
    assert_eq!(link("site/dangling").to_str(), Some("/nowhere"));
    project
        .run("run site")
        .ok("nothing to do: 1 target up to date ([time])\n");
}

#[test]
fn changed_mode_or_kind_is_a_modified_output() {
    let project = site();
    project.run("run -q site").ok("");
    fs::set_permissions(
        project.path("site/run.sh"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    let done = project.run("run site").code(0);
    assert!(
        done.stdout
            .contains("its output `site/run.sh` was modified"),
        "{}",
        done.stdout
    );
    fs::remove_file(project.path("site/link")).unwrap();
    symlink("sub/b", project.path("site/link")).unwrap();
    let done = project.run("run site").code(0);
    assert!(
        done.stdout.contains("its output `site/link` was modified"),
        "{}",
        done.stdout
    );
    fs::remove_dir(project.path("site/empty")).unwrap();
    project.write("site/empty", "a file now");
    let done = project.run("run --replace site").code(0);
    assert!(
        done.stdout.contains("its output `site/empty` was modified"),
        "{}",
        done.stdout
    );
    assert_eq!(project.names("site"), SITE);
}

/// A generator with two committed outputs.
fn committed() -> Project {
    Project::new(
        r#"
        target generate {
            inputs in
            outputs "gen/one" "gen/two" committed=#true
            sh "mkdir -p gen; head -n 1 in > gen/one; tail -n 1 in > gen/two"
        }
        "#,
    )
    .file("in", "1\n2\n")
}

const CHANGED: &str = "warning[fbuild::build::committed_changed]: generate: \
                       `gen/two` is committed, and was changed\n";

#[test]
fn committed_files_are_rewritten_only_if_different() {
    let project = committed().file("gen/one", "1\n").file("gen/two", "old\n");
    let one = project.stamp("gen/one");
    let done = project.run("run -q generate").code(0);
    // The file of the user is not lost.
    assert!(done.stdout.contains("`gen/two` was in the place"));
    assert_eq!(project.stamp("gen/one"), one);
    assert_eq!(project.read("gen/two"), "2\n");
    let two = project.stamp("gen/two");
    project.write("in", "1\n3\n");
    project.run("run -q generate").ok(CHANGED);
    assert_eq!(project.stamp("gen/one"), one);
    assert_ne!(project.stamp("gen/two"), two);
    // A restore rewrites only the different file, too.
    project.write("in", "1\n2\n");
    project.run("run -q generate").ok(CHANGED);
    assert_eq!(project.stamp("gen/one"), one);
    assert_eq!(project.read("gen/two"), "2\n");
}

#[test]
fn clean_leaves_committed_outputs() {
    let project = committed();
    project.run("run -q generate").ok("");
    project.run("clean").ok("removed 0 outputs of 1 target\n");
    assert!(project.has("gen/one") && project.has("gen/two"));
}

#[test]
fn drift_is_found_without_changes() {
    let project = committed()
        .file("gen/one", "1\n")
        .file("gen/two", "by hand\n");
    let tree = |project: &Project| (project.snapshot("gen"), project.stamp("in"));
    let before = tree(&project);
    let done = project.run("check --drift").code(1);
    assert!(done.stdout.contains("`gen/two`"), "{}", done.stdout);
    assert!(!done.stdout.contains("`gen/one`"), "{}", done.stdout);
    assert_eq!(tree(&project), before);
    project.run("run -q generate").code(0);
    project.run("check --drift").code(0);
    project.write("gen/one", "by hand\n");
    let before = tree(&project);
    let done = project.run("check --drift").code(1);
    assert!(done.stdout.contains("`gen/one`"), "{}", done.stdout);
    assert_eq!(tree(&project), before);
}

#[test]
fn clean_removes_folders_that_become_empty() {
    let project = Project::new(
        r#"
        target a { outputs "out/deep/a" "gen/x/*.c" "lib/a/"; sh "mkdir -p gen/x/y lib/a/b; echo > out/deep/a; echo > gen/x/1.c" }
        target b { outputs "mixed/b" "empty/b" "work/b"; dir work; sh "echo > ../mixed/b; echo > ../empty/b; echo > b" }
        target never { outputs "never/made" "nor/this/"; sh "echo > never/made" }
        "#,
    )
    .file("mixed/mine", "")
    .file("work/mine", "");
    fs::create_dir_all(project.path("lonely")).unwrap();
    project.run("run -q a b").ok("");
    fs::remove_file(project.path("work/mine")).unwrap();
    project.run("clean").ok("removed 5 outputs of 3 targets\n");
    let left = [
        "Buildfile.kdl",
        "gen/",
        "gen/x/",
        "gen/x/y/",
        "lonely/",
        "mixed/",
        "mixed/mine",
        "work/",
    ];
    let mut names = project.names("");
    names.retain(|name| !name.starts_with(".build-cache"));
    assert_eq!(names, left);
}

#[test]
fn clean_removes_the_named_targets_outputs() {
    let project = Project::new(
        r#"
        target a { outputs a; sh "echo a > a" }
        target b { needs a; outputs "b/"; sh "mkdir -p b; cp a b" }
        "#,
    );
    project.run("run -q b").ok("");
    project.run("clean b").ok("removed 1 output of 1 target\n");
    assert!(project.has("a") && !project.has("b"));
    project.run("run -q b").ok("");
    project
        .run("clean --all")
        .ok("removed 2 outputs of 2 targets\n");
    assert_eq!(project.names(""), ["Buildfile.kdl"]);
    project.run("clean").ok("removed 0 outputs of 2 targets\n");
    project.run("clean nothing").ended(
        2,
        "",
        "
        error[fbuild::graph::unknown]: unknown target `nothing`
          help: `fbuild list` shows all of them
        ",
    );
}

#[test]
fn failed_command_does_not_ruin_an_existing_file() {
    // The command overwrites a file of the user that is declared, and then fails.
    let project = Project::new(r#"target t { outputs notes; sh "echo ruined > notes; false" }"#)
        .file("notes", "years of work\n");
    project.run("run -q t").code(1);
    assert_eq!(project.read("notes"), "years of work\n");
}

#[test]
fn read_only_folders_of_outputs_are_replaced() {
    let project = Project::new(
        r#"
        target t {
            inputs in
            outputs "out/"
            sh """
                mkdir -p out/ro/inner $TMPDIR/ro/inner
                cat in | tee out/ro/inner/a $TMPDIR/ro/inner/a
                chmod 555 out/ro/inner out/ro $TMPDIR/ro/inner $TMPDIR/ro
                """
        }
        "#,
    )
    .file("in", "1\n");
    if is_root() {
        project.hand_over();
    }
    let chmod = |path, mode| {
        fs::set_permissions(project.path(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    project.fbuild("run -q t").unprivileged().end().ok("");
    project.write("in", "2\n");
    project.fbuild("run -q t").unprivileged().end().ok("");
    assert_eq!(project.read("out/ro/inner/a"), "2\n");
    // A restore also changes files in read-only folders.
    project.write("in", "1\n");
    chmod("out/ro/inner", 0o755);
    project.write("out/ro/inner/extra", "");
    chmod("out/ro/inner", 0o555);
    let done = project
        .fbuild("run -v --replace t")
        .unprivileged()
        .end()
        .code(0);
    assert!(done.stdout.contains("restored"), "{}", done.stdout);
    assert_eq!(project.read("out/ro/inner/a"), "1\n");
    assert!(!project.has("out/ro/inner/extra"));
    for folder in ["stage", "tmp"] {
        let left = project.names(format!(".build-cache/{folder}"));
        assert_eq!(left, <[String; 0]>::default(), "{folder}");
    }
}

#[test]
fn git_folder_in_an_output_is_refused() {
    let project = |body: &str| {
        let make = "mkdir -p vendor/x/.git; echo 1 > vendor/x/a; echo 1 > vendor/x/.git/HEAD";
        Project::new(&format!("target t {{ {body}; sh \"{make}\" }}\n"))
    };
    let done = project(r#"outputs "vendor/""#).run("run t").code(1);
    let error = "error[fbuild::store::output_git]: t failed: the output contains the folder \
                 `vendor/x/.git`";
    assert!(done.stdout.contains(error), "{}", done.stdout);
    project(r#"outputs "vendor/" { keep "x/.git" }"#)
        .run("run -q t")
        .ok("");
    project(r#"cache #false; outputs "vendor/""#)
        .run("run -q t")
        .ok("");
}
