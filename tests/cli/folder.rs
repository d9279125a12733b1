//! An unusable or damaged cache folder: the build goes on and warns.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::project::{FinishedRun, Project, is_root, skip};

fn project() -> Project {
    Project::new(r#"target t { inputs in; outputs out; sh "cp in out" }"#).file("in", "1\n")
}

/// Asserts that a run built and printed one warning of this code; returns the warning.
#[track_caller]
fn warned(done: &FinishedRun, code: &str) -> String {
    let start = format!("warning[{code}]: ");
    let warnings: Vec<&str> = done
        .stdout
        .lines()
        .filter(|line| line.starts_with("warning"))
        .collect();
    assert_eq!(warnings.len(), 1, "{}\n{}", done.stdout, done.stderr);
    assert!(
        done.stdout.contains("Finished in [time]: 1 built\n"),
        "{}",
        done.stdout
    );
    assert_eq!(done.stderr, "");
    warnings[0]
        .strip_prefix(&start)
        .unwrap_or_else(|| panic!("{}", warnings[0]))
        .to_owned()
}

fn set_mode(project: &Project, path: &str, mode: u32) {
    fs::set_permissions(project.path(path), fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn cache_that_is_a_file_is_replaced_for_one_run() {
    let project = project().file(".build-cache", "not a folder");
    let done = project.run("run t").code(0);
    assert_eq!(
        warned(&done, "fbuild::store::off"),
        "the cache folder `[root]/.build-cache` is not a folder; move it; nothing is remembered of this run"
    );
    assert_eq!(project.read("out"), "1\n");
    assert_eq!(project.read(".build-cache"), "not a folder");
    assert_eq!(
        project.names(""),
        [".build-cache", "Buildfile.kdl", "in", "out"]
    );
    project.run("cache status").code(0);
    project.run("status t").code(0);
}

#[test]
fn cache_that_is_read_only_does_not_fail_the_run() {
    let project = project();
    project.run("run -q t").ok("");
    project.write("in", "2\n");
    if is_root() {
        project.hand_over();
    }
    for folder in [
        "",
        "artifacts",
        "actions",
        "metadata",
        "runs",
        "stage",
        "tmp",
    ] {
        if project.has(format!(".build-cache/{folder}")) {
            set_mode(&project, &format!(".build-cache/{folder}"), 0o555);
        }
    }
    let before = project.snapshot(".build-cache");
    let done = project.fbuild("run t").unprivileged().end().code(0);
    assert!(
        done.stdout.contains("Finished in [time]: 1 built\n"),
        "{}",
        done.stdout
    );
    assert!(
        done.stdout.contains("warning[fbuild::store::"),
        "{}",
        done.stdout
    );
    assert_eq!(project.snapshot(".build-cache"), before);
    assert_eq!(project.read("out"), "2\n");
    assert_eq!(
        project
            .names("")
            .iter()
            .filter(|n| n.starts_with(".fbuild-"))
            .count(),
        0
    );
}

#[test]
fn cache_with_unreadable_files_does_not_fail_the_run() {
    let project = project();
    project.run("run -q t").ok("");
    if is_root() {
        project.hand_over();
    }
    for path in ["index", "state", "graph", "run.lock"] {
        set_mode(&project, &format!(".build-cache/{path}"), 0o000);
    }
    let done = project.fbuild("run t").unprivileged().end().code(0);
    assert_eq!(project.read("out"), "1\n");
    assert!(!done.stdout.contains("Failed"), "{}", done.stdout);
}

#[test]
fn cache_of_another_user_is_not_used() {
    if !is_root() {
        return skip("only root can give files away");
    }
    let project = project();
    project.run("run -q t").ok("");
    // It belongs to the user who built it, too.
    std::fs::remove_file(project.path("out")).unwrap();
    project.hand_over();
    let run = project.fbuild("run --force t");
    let run = run.env("XDG_STATE_HOME", project.base().join("root"));
    let done = run.end().code(0);
    assert_eq!(
        warned(&done, "fbuild::store::off"),
        "the cache folder `[root]/.build-cache` belongs to another user; nothing is remembered of this run"
    );
}

#[test]
fn cache_writable_by_others_is_not_used() {
    let project = project();
    project.run("run -q t").ok("");
    set_mode(&project, ".build-cache", 0o777);
    let done = project.fbuild("run --force t").end().code(0);
    assert_eq!(
        warned(&done, "fbuild::store::off"),
        "the cache folder `[root]/.build-cache` can be written by other users; nothing is remembered of this run"
    );
}

#[test]
fn cache_of_another_version_is_not_used() {
    let project = project();
    project.run("run -q t").ok("");
    project.write(".build-cache/version", "fbuild store 99\n");
    let done = project.fbuild("run --force t").end().code(0);
    assert_eq!(
        warned(&done, "fbuild::store::off"),
        "the cache folder `[root]/.build-cache` was made by another version of fbuild; nothing is cached"
    );
}

/// Runs a script in a new mount namespace, with a small file system at `.build-cache` and
/// fbuild as its first argument; `None` if that is not allowed.
fn on_small_disk(project: &Project, script: &str) -> Option<std::process::Output> {
    fs::create_dir(project.path(".build-cache")).unwrap();
    let mount = "mount -t tmpfs -o size=256k,mode=0700 none .build-cache || exit 77; ";
    let script = format!("{mount}{script}");
    let wrapper = ["unshare", "--mount", "--map-root-user", "sh", "-c", &script];
    let wrapper = wrapper
        .iter()
        .filter(|word| !(is_root() && **word == "--map-root-user"));
    let output = project.fbuild("").under(wrapper).command().output().ok()?;
    (output.status.code() != Some(77) && output.status.code() != Some(1)).then_some(output)
}

#[test]
fn full_cache_does_not_fail_the_run() {
    let project = Project::new(
        r#"
        target big { inputs in; outputs big; sh "cat in > big; head -c 400000 /dev/zero >> big" }
        target small { needs big; outputs small; sh "wc -c < big > small" }
        "#,
    )
    .file("in", "1\n");
    let Some(output) = on_small_disk(
        &project,
        "strace -f -y -qq -e trace=linkat -o ../log $0 run small; $0 run small; rm small; $0 run small",
    ) else {
        return skip("no mount namespaces here");
    };
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert_eq!(project.read("small"), "400002\n");
    let full = text
        .lines()
        .filter(|line| line.starts_with("warning[fbuild::store::full]"))
        .count();
    assert!(full >= 1, "{text}");
    assert!(text.contains("No space left on device"), "{text}");
    assert!(!text.contains("Failed"), "{text}");
    let log = project.read("../log");
    let records = log
        .lines()
        .filter(|line| line.contains("/actions>, \"") && line.ends_with("= 0"));
    assert_eq!(records.count(), 1, "only of the complete result: {log}");
}

#[test]
fn results_are_kept_and_restored_without_links() {
    for error in ["EPERM", "ENOSYS", "EOPNOTSUPP", "EINVAL"] {
        let project = project();
        let run = |names: &str| {
            let inject = format!("inject=linkat:error={error}");
            let trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject];
            project.fbuild(names).under(trace).end()
        };
        run("run -q t").ok("");
        fs::remove_file(project.path("out")).unwrap();
        let done = run("run t").code(0);
        let restored = done.stdout.contains("1 restored");
        assert!(restored, "{error}: {}{}", done.stdout, done.stderr);
        assert_eq!(project.read("out"), "1\n");
    }
}

#[test]
fn missing_blob_is_made_again() {
    let project = project();
    project.run("run -q t").ok("");
    fs::remove_dir_all(project.path(".build-cache/artifacts")).unwrap();
    fs::remove_file(project.path("out")).unwrap();
    let done = project.run("run t").code(0);
    assert_eq!(
        warned(&done, "fbuild::build::evicted"),
        "t: `out` (content [id]) is not in the cache any more; it is made again"
    );
    assert_eq!(project.read("out"), "1\n");
}

#[test]
fn damaged_blob_is_never_restored() {
    let project = project();
    project.run("run -q t").ok("");
    for name in project.names(".build-cache/artifacts") {
        let path = project.path(".build-cache/artifacts").join(&name);
        if path.is_file() {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, bytes.iter().map(|b| b ^ 1).collect::<Vec<_>>()).unwrap();
        }
    }
    fs::remove_file(project.path("out")).unwrap();
    let done = project.run("run t").code(0);
    assert!(
        done.stdout.contains("warning[fbuild::store::corrupt]"),
        "{}",
        done.stdout
    );
    assert!(done.stdout.contains("1 built"), "{}", done.stdout);
    assert_eq!(project.read("out"), "1\n");
}

#[test]
fn damaged_state_counts_as_missing() {
    let project = project();
    project.run("run -q t").ok("");
    for file in ["index", "state", "graph"] {
        project.write(format!(".build-cache/{file}"), "rubbish");
    }
    project
        .run("run t")
        .ok("nothing to do: 1 target up to date ([time])\n");
    for file in ["index", "state", "graph"] {
        let path = project.path(format!(".build-cache/{file}"));
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    }
    project
        .run("run t")
        .ok("nothing to do: 1 target up to date ([time])\n");
}

#[test]
fn cache_dir_is_created_where_declared() {
    let project = Project::new(
        r#"
        cache dir="../shared/cache"
        target t { outputs out; sh "echo 1 > out" }
        "#,
    );
    project.run("run -n t").code(0);
    assert!(!project.has("../shared"));
    project.run("run -q t").ok("");
    assert!(project.has("../shared/cache/artifacts"));
    assert!(!project.has(".build-cache/artifacts"));
    assert!(project.has(".build-cache/metadata/t.meta.json"));
    // Reading commands do not create a store in an existing empty folder.
    fs::remove_dir_all(project.path("../shared/cache")).unwrap();
    fs::create_dir(project.path("../shared/cache")).unwrap();
    project.run("status t").code(0);
    assert_eq!(project.names("../shared/cache"), [""; 0]);
}

#[test]
fn folder_with_other_files_is_not_used_as_cache() {
    for dir in [".", "src", ".."] {
        let buildfile = r#"target t { inputs "src/*"; outputs out; sh "cat src/a > out" }"#;
        let project = Project::new(&format!("cache dir=\"{dir}\"\n{buildfile}\n"));
        for path in [
            "src/a",
            "src/.gitignore",
            "src/incoming/x",
            ".gitignore",
            "../.gitignore",
            "version",
        ] {
            project.write(path, "node_modules\n");
        }
        let done = project.run("run t").code(0);
        let folder = if dir == "src" { "[root]/src" } else { "[root]" };
        let folder = if dir == ".." { "[base]" } else { folder };
        let warning = warned(&done, "fbuild::store::off");
        assert!(warning.ends_with("; nothing is cached"), "{warning}");
        assert!(warning.starts_with(&format!("`{folder}")), "{warning}");
        assert_eq!(project.read("out"), "node_modules\n");
        assert_eq!(
            project.names("src"),
            [".gitignore", "a", "incoming/", "incoming/x"]
        );
        assert_eq!(project.read("src/.gitignore"), "node_modules\n");
        assert_eq!(project.read(".gitignore"), "node_modules\n");
        assert_eq!(project.read("../.gitignore"), "node_modules\n");
        for command in [
            "cache clear",
            "cache gc",
            "cache verify --repair",
            "cache status",
            "clean --all",
        ] {
            let done = project.run(command).code(0);
            assert!(
                done.stderr.contains("warning[fbuild::store::off]") || command.starts_with("clean")
            );
        }
        assert!(project.has("src/incoming/x") && project.has("version"));
    }
}

#[test]
fn output_in_a_read_only_tree_fails_its_target() {
    let project = project();
    fs::set_permissions(project.base(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&project.root, fs::Permissions::from_mode(0o555)).unwrap();
    let stdout = project.fbuild("run t").unprivileged().end().code(1).stdout;
    let cause = "cannot create regular file 'out': Permission denied";
    assert!(stdout.contains(cause), "{stdout}");
    // Reading commands need not write.
    project.fbuild("status t").unprivileged().end().code(0);
}

/// Returns a project that was built and is read-only now, with the user's cache folder.
fn read_only() -> (Project, PathBuf) {
    let project = Project::new(
        r#"
        target a { inputs in; outputs out; sh "cp in out" }
        target t { inputs in; cache #false; sh "cat in" }
        target check { inputs in; sh "echo checking" }
        "#,
    )
    .file("in", "1\n");
    project.hand_over();
    project.fbuild("run -q a").unprivileged().end().ok("");
    let cache = project.base().join("user-cache");
    fs::create_dir(&cache).unwrap();
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).unwrap();
    let script = "find . -type d -exec chmod a-w {} +";
    let mut chmod = Command::new("sh");
    let chmod = chmod
        .args(["-c", script])
        .current_dir(&project.root)
        .status();
    assert!(chmod.unwrap().success());
    (project, cache)
}

fn run_read_only(project: &Project, cache: &Path, words: &str) -> FinishedRun {
    let run = project.fbuild(words).unprivileged();
    run.env("XDG_CACHE_HOME", cache).end()
}

#[test]
fn read_only_tree_is_up_to_date() {
    let (project, cache) = read_only();
    run_read_only(&project, &cache, "run a").ended(
        0,
        "nothing to do: 1 target up to date ([time])\n",
        "",
    );
}

#[test]
fn read_only_tree_runs_targets_without_outputs() {
    let (project, cache) = read_only();
    let stdout = run_read_only(&project, &cache, "run t").code(0).stdout;
    assert!(stdout.contains("output of t:\n1\n"), "{stdout}");
}

#[test]
fn read_only_tree_has_its_state_in_the_users_cache() {
    let (project, cache) = read_only();
    run_read_only(&project, &cache, "run check").code(0);
    assert!(cache.join("fbuild/checkouts").is_dir());
    run_read_only(&project, &cache, "run check a").ended(
        0,
        "nothing to do: 2 targets up to date ([time])\n",
        "",
    );
}

#[test]
fn root_that_is_not_utf_8_keeps_its_state() {
    let root = Path::new(OsStr::from_bytes(b"\xff\xfe"));
    let project = Project::empty();
    let buildfile = r#"target t { outputs o; sh "echo 1 > o" }"#;
    project.write(root.join("Buildfile.kdl"), buildfile);
    let run = || {
        let mut command = project.fbuild("run t").command();
        let done = command.current_dir(project.path(root)).output().unwrap();
        assert!(done.stderr.is_empty(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    assert!(run().contains("Finished"));
    assert!(run().starts_with("nothing to do"));
}
