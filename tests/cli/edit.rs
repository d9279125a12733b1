//! Checks the commands that write a Buildfile: `fmt`, `add` and `init`.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::project::{Project, unindent};

const UNTIDY: &str = "// A comment.\ntarget   a {\nsh  \"true\"   // why\n}\n";
const TIDY: &str = "// A comment.\ntarget a {\n    sh \"true\"  // why\n}\n";

#[test]
fn fmt_formats_the_buildfile() {
    let project = Project::empty().file("Buildfile.kdl", UNTIDY);
    project.run("fmt").ok("changed `Buildfile.kdl`\n");
    assert_eq!(project.read("Buildfile.kdl"), TIDY);
    let stamp = project.stamp("Buildfile.kdl");
    project.run("fmt").ok("nothing to change in 1 file\n");
    assert_eq!(project.stamp("Buildfile.kdl"), stamp);
}

#[test]
fn fmt_check_lists_files_and_changes_none() {
    let main = format!("include \"sub/Buildfile.kdl\"\ninclude \"tidy.kdl\"\n{UNTIDY}");
    let project = Project::empty()
        .file("Buildfile.kdl", &main)
        .file("sub/Buildfile.kdl", &UNTIDY.replace("  a {", "  b {"))
        .file("tidy.kdl", &TIDY.replace(" a {", " c {"));
    let before = project.snapshot("");
    project.run("fmt --check").ended(
        1,
        "would change `Buildfile.kdl`\nwould change `sub/Buildfile.kdl`\n",
        "",
    );
    assert_eq!(project.snapshot(""), before);
    project
        .run("fmt")
        .ok("changed `Buildfile.kdl`\nchanged `sub/Buildfile.kdl`\n");
    assert_eq!(
        project.read("sub/Buildfile.kdl"),
        TIDY.replace(" a {", " b {")
    );
    project
        .run("fmt --check")
        .ok("nothing to change in 3 files\n");
    assert_eq!(
        project.names(""),
        ["Buildfile.kdl", "sub/", "sub/Buildfile.kdl", "tidy.kdl"]
    );
}

#[test]
fn fmt_refuses_syntax_errors() {
    let project = Project::empty()
        .file(
            "Buildfile.kdl",
            &format!("include \"broken.kdl\"\n{UNTIDY}"),
        )
        .file("broken.kdl", "target b {\n    sh \"true\n");
    let before = project.snapshot("");
    let done = project.run("fmt").code(2);
    assert!(
        done.stderr.contains("╭─[broken.kdl:2:8]"),
        "{}",
        done.stderr
    );
    let end = "a file with syntax errors cannot be formatted; nothing was changed\n";
    assert!(done.stderr.ends_with(end), "{}", done.stderr);
    assert_eq!(project.snapshot(""), before);
}

#[test]
fn fmt_formats_files_with_other_mistakes() {
    let project = Project::empty().file("Buildfile.kdl", "target  a { nonsense   1 }\n");
    project.run("fmt").ok("changed `Buildfile.kdl`\n");
    assert_eq!(project.read("Buildfile.kdl"), "target a { nonsense 1 }\n");
}

#[test]
fn fmt_and_add_keep_permissions_and_links() {
    let project = Project::empty().file("real.kdl", UNTIDY);
    fs::set_permissions(project.path("real.kdl"), Permissions::from_mode(0o640)).unwrap();
    symlink("real.kdl", project.path("Buildfile.kdl")).unwrap();
    project.run("fmt").code(0);
    project.run("add new -- make").code(0);
    assert!(project.path("Buildfile.kdl").is_symlink());
    assert_eq!(
        project.read("real.kdl"),
        format!("{TIDY}\ntarget new {{\n    run make\n}}\n")
    );
    let mode = project
        .path("real.kdl")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o640);
    assert_eq!(project.names(""), ["Buildfile.kdl", "real.kdl"]);
}

#[test]
fn add_inserts_and_prints_the_target() {
    let before = unindent(
        r#"
        // The first.
        target one { sh "true" }   // not laid out as fmt would

        // All of them.
        group all { needs one }
        "#,
    );
    let project = Project::empty().file("Buildfile.kdl", &before);
    let mut add = vec!["add", "two", "--about", "the \"second\"", "--needs", "one"];
    add.extend([
        "--inputs",
        "src/**",
        "x y",
        "--outputs",
        "out/",
        "--env",
        "A",
        "B=c d",
    ]);
    add.extend(["--", "make", "--fast", "{env.A}"]);
    let target = unindent(
        r##"
        target two {
            about #"the "second""#
            needs one
            inputs "src/**" "x y"
            outputs "out/"
            env A B="c d"
            run make --fast "{env.A}"
        }
        "##,
    );
    let said = "added to `Buildfile.kdl`; `fbuild run two` builds it\n";
    project.fbuild_args(&add).end().ended(0, &target, said);
    let (first, rest) = before.split_once("// All").unwrap();
    assert_eq!(
        project.read("Buildfile.kdl"),
        format!("{first}{target}\n// All{rest}")
    );
}

#[test]
fn add_takes_scripts_tools_and_templates() {
    let project = Project::new(
        r#"
        tool sh
        template base { tools sh; env A="1" }
        "#,
    );
    let script = "echo 1 > out\necho 2 >> out";
    let add = [
        "add",
        "new",
        "--from",
        "base",
        "--outputs",
        "out",
        "--sh",
        script,
    ];
    project.fbuild_args(add).end().ended(
        0,
        r#"
        target new from=base {
            outputs out
            sh """
                echo 1 > out
                echo 2 >> out
                """
        }
        "#,
        "added to `Buildfile.kdl`; `fbuild run new` builds it\n",
    );
    project.run("list").ok("new\n");
}

#[test]
fn add_refuses_targets_with_mistakes() {
    let project = Project::new("target one { outputs out; sh \"touch out\" }\n");
    let before = project.snapshot("");
    let wrong = [
        (
            "add one -- true",
            "error[fbuild::buildfile::add_exists]: there is a target or group `one` already, in line 1\n",
        ),
        ("add two", "`two` does nothing"),
        ("add two --needs onw -- true", "help: did you mean `one`?"),
        ("add two --tools cc -- true", "unknown tool `cc`"),
        (
            "add two --outputs out -- true",
            "`one` and `two` both produce `out`",
        ),
        (
            "add two --inputs out -- true",
            "`two` reads what `one` produces, but does not need it",
        ),
        (
            "add two --outputs ../out -- true",
            "leaves the project's root",
        ),
        (
            "add two --env A-B -- true",
            "`A-B` cannot be the name of an environment variable",
        ),
        ("add {two} -- true", "unknown variable `two`"),
        ("add two --from none -- true", "unknown template `none`"),
    ];
    for (words, why) in wrong {
        let done = project.run(words).code(2);
        assert!(done.stderr.contains(why), "{words}: {}", done.stderr);
        assert_eq!(done.stdout, "");
        assert_eq!(project.snapshot(""), before, "{words}");
    }
}

#[test]
fn add_keeps_a_broken_buildfile() {
    let project = Project::empty().file("Buildfile.kdl", "target a {\n");
    let done = project.run("add b -- true").code(2);
    let why = "the Buildfile has mistakes that must be fixed first";
    assert!(done.stderr.contains(why), "{}", done.stderr);
    assert_eq!(project.read("Buildfile.kdl"), "target a {\n");
    let project =
        Project::empty().file("Buildfile.kdl", "target a { needs nothing; sh \"true\" }\n");
    project.run("add b -- true").code(0);
    assert!(project.read("Buildfile.kdl").contains("target b {"));
}

#[test]
fn read_only_folder_is_an_error() {
    let project = Project::empty().file("Buildfile.kdl", UNTIDY);
    fs::set_permissions(project.base(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&project.root, Permissions::from_mode(0o555)).unwrap();
    let commands = [
        ("fmt", "Buildfile.kdl"),
        ("add b -- true", "Buildfile.kdl"),
        ("init -f new.kdl", "new.kdl"),
    ];
    for (words, what) in commands {
        let done = project.fbuild(words).unprivileged().end().code(3);
        let why = format!("error: cannot write `{what}`: Permission denied (os error 13)\n");
        assert_eq!(done.stderr, why, "{words}");
        assert_eq!(done.stdout, "");
    }
    assert_eq!(project.read("Buildfile.kdl"), UNTIDY);
}

/// Creates a project of four kinds.
fn polyglot() -> Project {
    Project::empty()
        .file("go.mod", "module example.org/farm\n\ngo 1.22\n")
        .file("cmd/manager/main.go", "package main\n\nfunc main() {}\n")
        .file("cmd/manager/main_test.go", "package main\n")
        .file(
            "web/package.json",
            r#"{"name": "web", "scripts": {"build": "vite build"}}"#,
        )
        .file("web/package-lock.json", "{}")
        .file("addon/pyproject.toml", "[project]\nname = \"addon\"\n")
        .file("addon/uv.lock", "")
        .file("addon/tests/test_it.py", "")
        .file("tool/Cargo.toml", "[package]\nname = \"tool\"\n")
        .file("tool/src/main.rs", "fn main() {}\n")
}

#[test]
fn init_writes_a_buildfile_for_the_projects() {
    let tools = ["go", "python3", "uv", "cargo", "rustc", "node", "npm"];
    let project = tools
        .iter()
        .fold(polyglot(), |project, tool| project.tool(tool, ""));
    project.run("init").ok("
        wrote `Buildfile.kdl`
          Go module `example.org/farm`: manager and go-test
          Python project `addon` in `addon`: addon-test
          Cargo package `tool` in `tool`: tool-build and tool-test
          npm package `web` in `web`: web-build
        next: `fbuild list` shows its targets, `fbuild run` builds them
        ");
    project
        .run("check")
        .ok("6 targets and 2 groups: no mistakes found\n");
    project
        .run("fmt --check")
        .ok("nothing to change in 1 file\n");
    project.run("list").ok("
        manager     the program manager
        go-test     the Go tests
        addon-test  the Python tests
        tool-build  the program tool
        tool-test   the Rust tests
        web-build   runs the build script
        build       (group)
        test        (group)
        ");
}

#[test]
fn init_print_writes_nothing() {
    let project = polyglot();
    let before = project.snapshot("");
    let printed = project.run("init --print").code(0);
    assert_eq!(project.snapshot(""), before);
    let found = "  Go module `example.org/farm`: manager and go-test\n";
    assert!(printed.stderr.starts_with(found), "{}", printed.stderr);
    project.run("init").code(0);
    assert_eq!(project.read("Buildfile.kdl").as_bytes(), printed.bytes);
}

#[test]
fn init_never_replaces_a_buildfile() {
    let project = Project::new("target mine { sh \"true\" }\n");
    project.run("init").ended(
        2,
        "",
        "
        error: `Buildfile.kdl` already exists
          help: `fbuild add NAME` adds a target to it; `fbuild init --print` prints the proposal
        ",
    );
    assert_eq!(
        project.read("Buildfile.kdl"),
        "target mine { sh \"true\" }\n"
    );
    fs::remove_file(project.path("Buildfile.kdl")).unwrap();
    symlink("nowhere", project.path("Buildfile.kdl")).unwrap();
    project.run("init").code(2);
    assert!(!project.has("nowhere"));
}

#[test]
fn init_writes_a_working_example() {
    let project = Project::empty();
    project.run("init").ok("
        wrote `Buildfile.kdl`
          no Go, Cargo, npm or Python project found; the Buildfile has an example
        next: `fbuild list` shows its targets, `fbuild run` builds them
        ");
    let run = project.run("run").code(0);
    assert!(
        run.stdout.contains("output of hello:\nhello\n"),
        "{}",
        run.stdout
    );
    project.run("-C . init -f other.kdl").code(0);
    assert!(project.has("other.kdl"));
}
