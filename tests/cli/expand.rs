//! `for`, parameters of templates, and patterns over names.

use super::project::Project;

/// Returns a project with a target for each C file, and one that needs all of them.
fn units() -> Project {
    Project::new(
        r#"
        project demo { default prog }
        target "obj-{unit}" {
            for unit files="src/{unit}.c"
            inputs "src/{unit}.c"
            outputs "out/{unit}.o"
            run cp "src/{unit}.c" "out/{unit}.o"
        }
        target prog {
            needs "obj-*"
            outputs prog
            sh "cat out/*.o > prog"
        }
        "#,
    )
    .file("src/main.c", "main\n")
    .file("src/util.c", "util\n")
    .file("src/util.h", "header\n")
}

#[test]
fn each_file_is_a_target() {
    let project = units();
    project.run("run -q").ok("");
    assert_eq!(project.read("prog"), "main\nutil\n");
    project
        .run("run")
        .ok("nothing to do: 3 targets up to date ([time])\n");
    project.write("src/util.h", "changed\n");
    project
        .run("run")
        .ok("nothing to do: 3 targets up to date ([time])\n");
}

#[test]
fn new_file_is_a_new_target() {
    let project = units();
    project.run("run -q").ok("");
    project.write("src/new.c", "new\n");
    project.run("run -q").ok("");
    assert_eq!(project.read("prog"), "main\nnew\nutil\n");
    project.run("list").ok("
        obj-main
        obj-new
        obj-util
        prog
        ");
}

#[test]
fn removed_file_is_no_target() {
    let project = units();
    project.run("run -q").ok("");
    std::fs::remove_file(project.path("src/util.c")).unwrap();
    project.run("list").ok("
        obj-main
        prog
        ");
    project.run("run obj-util").ended(
        2,
        "",
        "
        error[fbuild::graph::unknown]: unknown target `obj-util`
          help: `fbuild list` shows all of them
        ",
    );
}

#[test]
fn combinations_are_targets_except_some() {
    let project = Project::new(
        r#"
        target "build-{os}-{arch}" {
            for os linux windows
            for arch amd64 arm64 { except os=windows arch=arm64 }
            outputs "bin/{os}/{arch}"
            run touch "bin/{os}/{arch}"
        }
        group "all-{arch}" {
            for arch amd64 arm64
            needs "build-*-{arch}"
        }
        "#,
    );
    project.run("list").ok("
        build-linux-amd64
        build-linux-arm64
        build-windows-amd64
        all-amd64            (group)
        all-arm64            (group)
        ");
    project.run("graph all-amd64").ok("
        all-amd64 (group)
        ├─ build-linux-amd64 [would run: never built here]
        └─ build-windows-amd64 [would run: never built here]
        ");
}

#[test]
fn pattern_on_the_command_line_names_targets() {
    let project = Project::new(
        r#"
        target "test-{pkg}" {
            for pkg api worker
            run echo "{pkg}"
        }
        target lint { run echo lint; }
        "#,
    );
    let run = project.fbuild_args(["run", "-j1", "test-*"]).end().code(0);
    assert!(
        run.stdout.contains("output of test-api:\napi\n"),
        "{}",
        run.stdout
    );
    assert!(run.stdout.contains("output of test-worker:\nworker\n"));
    assert!(!run.stdout.contains("lint"));
    project.fbuild_args(["run", "tset-*"]).end().ended(
        2,
        "",
        "
        error[fbuild::graph::unknown]: no target matches `tset-*`
          help: `*` stands for any characters of a name; `fbuild list` shows all names
        ",
    );
    project.fbuild_args(["explain", "test-*"]).end().ended(
        2,
        "",
        "
        error: `test-*` matches several targets
          help: explain one of them: test-api and test-worker
        ",
    );
}

#[test]
fn parameters_fill_a_template() {
    let project = Project::new(
        r#"
        template say {
            param what
            param end default="!"
            env WHAT="{what}{end}"
            outputs "{what}.txt"
            run touch "{what}.txt"
        }
        target hello from=say what=hello
        target "ask-{word}" from=say what="{word}" end="?" {
            for word why how
        }
        "#,
    );
    let key = |name: &str| {
        let run = project.run(&format!("explain {name}")).code(0);
        run.stdout
    };
    assert!(key("hello").contains("WHAT=hello!"), "{}", key("hello"));
    assert!(key("ask-why").contains("WHAT=why?"), "{}", key("ask-why"));
    assert!(key("ask-how").contains("how.txt"), "{}", key("ask-how"));
}

#[test]
fn mistake_names_the_value() {
    let project = Project::new(
        r#"
        target "test-{pkg}" {
            for pkg api "a b"
            run echo "{pkg}"
        }
        "#,
    );
    let run = project.run("run").code(2);
    for text in ["`test-a b` cannot be a name", "with `pkg` = `a b`"] {
        assert!(
            run.stderr.contains(text) || run.stdout.contains(text),
            "{}",
            run.stderr
        );
    }
}
