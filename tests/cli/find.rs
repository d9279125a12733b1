//! Finding the Buildfile: the nearest one above, a named one, one in another folder.

use super::project::Project;

const BUILDFILE: &str = "
    target here {
        outputs out
        sh \"touch out\"
    }
";

#[test]
fn buildfile_is_found_from_any_folder_below() {
    let project = Project::new(BUILDFILE).file("a/b/c/x", "");
    let below = project.fbuild("run here").from("a/b/c").end();
    below.code(0);
    assert!(project.has("out") && project.has(".build-cache"));
    assert!(!project.has("a/b/c/out"));
    project.fbuild("list").from("a").end().ok("here\n");
}

#[test]
fn nearest_buildfile_wins() {
    let project = Project::new(BUILDFILE).file("a/Buildfile.kdl", "target inner { sh \"true\" }\n");
    project.fbuild("list").from("a").end().ok("inner\n");
    project.fbuild("list").end().ok("here\n");
}

#[test]
fn buildfile_above_in_a_shared_folder_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let project = Project::new(BUILDFILE).file("mine/x", "");
    let shared = std::fs::Permissions::from_mode(0o1777);
    std::fs::set_permissions(project.path(""), shared).unwrap();
    let file = project.path("Buildfile.kdl").display().to_string();
    project.fbuild("run here").from("mine").end().ended(
        2,
        "",
        "
        error[fbuild::workspace::untrusted]: `[root]/Buildfile.kdl` is not used: `[root]` can be written by every user
          help: its commands would run as you; if you trust it, name it: `fbuild -f [root]/Buildfile.kdl …`
        ",
    );
    let run = |words: &str| project.fbuild(words).from("mine").end().code(0);
    run("run -q here -C ..");
    run(&format!("run -q here -f {file}"));
    project.run("run -q here").ok("");
}

#[test]
fn buildfile_of_another_user_above_is_refused() {
    let project = Project::new(BUILDFILE).file("mine/x", "");
    let given = std::os::unix::fs::chown(project.path("Buildfile.kdl"), Some(65534), None);
    if given.is_err() {
        return super::project::skip("only root can give files away");
    }
    let done = project.fbuild("run here").from("mine").end().code(2);
    let message = "` belongs to another user\n";
    assert!(done.stderr.contains(message), "{}", done.stderr);
}

#[test]
fn folder_or_file_can_be_named() {
    let project = Project::empty()
        .file(
            "sub/Buildfile.kdl",
            "target sub { outputs s; sh \"touch s\" }\n",
        )
        .file(
            "sub/other.kdl",
            "target other { outputs o; sh \"touch o\" }\n",
        )
        .file("sub/deep/x", "");
    project.run("-C sub list").ok("sub\n");
    project.run("list -C sub/deep").ok("sub\n");
    project.run("--directory sub run -q sub").ok("");
    project.run("-f sub/other.kdl list").ok("other\n");
    project.run("run -q other -C sub --file other.kdl").ok("");
    assert!(project.has("sub/s") && project.has("sub/o"));
    project.run("-f nope.kdl list").ended(
        2,
        "",
        "
        error[fbuild::buildfile::file_missing]: there is no Buildfile at `nope.kdl`
          help: `fbuild init` writes a first one; `-f FILE` names another file, `-C DIR` another folder
        ",
    );
}

#[test]
fn inaccessible_folder_is_an_error() {
    let project = Project::new(BUILDFILE);
    project.run("-C nope list").ended(
        2,
        "",
        "error: cannot enter `[root]/nope`: No such file or directory (os error 2)\n",
    );
    project.run("-C Buildfile.kdl list").ended(
        2,
        "",
        "error: cannot enter `[root]/Buildfile.kdl`: it is not a folder\n",
    );
}

#[test]
fn target_typed_as_a_command_is_suggested() {
    let project = Project::empty().file("sub/Buildfile.kdl", "target quux { sh \"true\" }\n");
    let tip = |words: &str| {
        let stderr = project.run(words).code(2).stderr;
        let line = stderr
            .lines()
            .find(|line| line.trim_start().starts_with("tip: "));
        line.unwrap_or_default().trim().to_owned()
    };
    assert_eq!(
        tip("-C sub quux -v"),
        "tip: to run the target `quux`, type `fbuild run quux -v`"
    );
    assert_eq!(tip("build x"), "tip: to build, type `fbuild run x`");
    assert_eq!(tip("build"), "tip: to build, type `fbuild run`");
    assert_eq!(tip("rum"), "tip: a similar subcommand exists: 'run'");
    assert_eq!(tip("quux"), "");
}

#[test]
fn unknown_arguments_are_refused() {
    let project = Project::new(BUILDFILE);
    project.run("run --jobs 0").ended(
        2,
        "",
        "
        error: invalid value '0' for '--jobs <N>': expected a whole number, at least 1

        For more information, try '--help'.
        ",
    );
    project.run("rum").ended(
        2,
        "",
        "
        error: unrecognized subcommand 'rum'

          tip: a similar subcommand exists: 'run'

        Usage: fbuild [OPTIONS] <COMMAND>

        For more information, try '--help'.
        ",
    );
    project.run("run -v -q").ended(
        2,
        "",
        "
        error: the argument '--verbose' cannot be used with '--quiet'

        Usage: fbuild run --verbose [TARGETS]... [-- <ARGS>...]

        For more information, try '--help'.
        ",
    );
    for words in [
        "",
        "run --colour",
        "cache",
        "explain",
        "add",
        "completions",
        "run --color blue",
    ] {
        project.run(words).code(2);
    }
}

#[test]
fn version_and_help_go_to_stdout() {
    let project = Project::empty();
    project
        .run("--version")
        .ok(concat!("fbuild ", env!("CARGO_PKG_VERSION"), "\n"));
    for words in ["--help", "help", "run --help", "cache gc -h"] {
        let help = project.run(words).code(0);
        assert!(help.stdout.contains("Usage: fbuild"), "{}", help.stdout);
        assert_eq!(help.stderr, "");
    }
}
