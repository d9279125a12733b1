//! The no-op check: if nothing changed since the last clean run, a run ends early. Its output
//! and effects equal those of a full run, and every change is detected.

mod changes;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use super::project::{FBUILD, FinishedRun, Project};

/// A Buildfile with every kind of dependency.
const BUILDFILE: &str = r#"
    include "lib/Buildfile.kdl"
    tool teller
    target t {
        needs base
        tools teller
        inputs "src/**" "link" "dangling"
        inputs "maybe/*.txt" optional=#true
        env MODE FALLBACK="x"
        secret TOKEN
        outputs "out.txt"
        outputs "site/" { keep "kept" }
        outputs "gen/*.c"
        outputs "committed.txt" committed=#true
        sh "mkdir -p site/deep gen; cat base.txt src/a > out.txt; echo > site/deep/page; echo > gen/a.c; echo > committed.txt"
    }
    target base { inputs "base.in"; outputs "base.txt"; sh "cp base.in base.txt" }
    target other { outputs "other.txt"; sh "echo > other.txt" }
    project demo { default t }
"#;

type Change = fn(&Project);

const BUILT: &str = "nothing to do: 2 targets up to date ([time])\n";

fn project() -> Project {
    let project = Project::new(BUILDFILE)
        .file("lib/Buildfile.kdl", "// nothing\n")
        .file("src/a", "1\n")
        .file("src/below/b", "2\n")
        .file("base.in", "3\n")
        .file("real", "4\n")
        .file("site/kept", "mine\n")
        .tool("teller", "echo teller 1.0");
    symlink("real", project.path("link")).unwrap();
    symlink("nowhere", project.path("dangling")).unwrap();
    project
}

/// Runs until the snapshot is reliable: the files must be old enough for the next change to
/// show.
fn settle(project: &Project) {
    settle_with(project, "run");
}

pub(crate) fn settle_with(project: &Project, words: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_skipped(project, || project.run(words).code(0)) {
        assert!(Instant::now() < deadline, "no run is ever cut short");
    }
}

/// Returns true if a run ended early. A full run would create a missing state folder.
pub(crate) fn is_skipped<T>(project: &Project, run: impl FnOnce() -> T) -> bool {
    let ignore = project.path(".build-cache/.gitignore");
    let _ = fs::remove_file(&ignore);
    run();
    !ignore.exists()
}

#[test]
fn skipped_run_prints_and_leaves_what_a_full_one_does() {
    let project = project();
    project.run("run").code(0);
    project.run("run").ok(BUILT);
    settle(&project);
    let before = project.snapshot(".");
    for words in [
        "run",
        "run --jobs 7 --keep-going",
        "run --progress plain",
        "run --progress live",
    ] {
        assert!(
            is_skipped(&project, || project.run(words).ok(BUILT)),
            "{words}"
        );
    }
    assert!(is_skipped(&project, || project.run("run --quiet").ok("")));
    let lock = |line: &String| !line.contains("run.lock") && !line.contains(".gitignore");
    let left = |lines: Vec<String>| lines.into_iter().filter(lock).collect::<Vec<_>>();
    assert_eq!(left(project.snapshot(".")), left(before));
    assert_eq!(
        project.names(".build-cache/runs").len(),
        1,
        "only runs with events are logged"
    );
}

#[test]
fn verbose_json_force_and_dry_run_skip_the_check() {
    let project = project();
    settle(&project);
    for words in [
        "run --verbose",
        "run --json",
        "run --dry-run",
        "run --force",
        "run --no-cache",
    ] {
        assert!(
            !is_skipped(&project, || project.run(words).code(0)) || words.contains("dry"),
            "{words}"
        );
        settle(&project);
    }
    project.run("run -v").ok("
        [1/2] Up to date: base
        [2/2] Up to date: t
        nothing to do: 2 targets up to date ([time])
        ");
}

#[test]
fn snapshot_is_of_the_named_targets() {
    let project = project();
    settle(&project);
    has(&project.run("run other"), "1 built");
    assert!(!is_skipped(&project, || project
        .run("run base")
        .ok("nothing to do: 1 target up to date ([time])\n")));
    settle_with(&project, "run base");
    assert!(!is_skipped(&project, || project.run("run").ok(BUILT)));
}

#[test]
fn snapshot_does_not_depend_on_the_working_folder() {
    let project = project();
    settle(&project);
    assert!(is_skipped(&project, || project
        .fbuild("run")
        .from("src/below")
        .end()
        .ok(BUILT)));
    project.write(
        "sub/Buildfile.kdl",
        "target inner { outputs o; sh \"echo > o\" }\n",
    );
    has(&project.fbuild("run inner").from("sub").end(), "1 built");
    has(
        &project.run("run -f sub/Buildfile.kdl inner"),
        "nothing to do: 1 target",
    );
}

#[test]
fn outputs_deleted_repeatedly_are_restored() {
    let project = project();
    settle(&project);
    for round in 0..6 {
        for output in ["out.txt", "base.txt", "site/deep/page", "committed.txt"] {
            fs::remove_file(project.path(output)).unwrap();
        }
        let done = text(&project.run("run"));
        for output in ["out.txt", "base.txt", "site/deep/page", "committed.txt"] {
            assert!(project.has(output), "{output} is missing, {round}: {done}");
        }
    }
}

#[test]
fn links_and_folders_deleted_at_once_are_restored() {
    let project = Project::new(
        r#"
        target old { inputs in; outputs out; sh "cp in out" }
        target linker { inputs in; outputs link; sh "ln -s in link" }
        target owner { inputs in; outputs "deep/empty/"; sh ":" }
        target below { inputs in; outputs "new/link"; sh "mkdir -p new; ln -s ../in new/link" }
        "#,
    )
    .file("in", "1\n");
    // Their inputs are old enough, and their outputs need not be.
    settle_with(&project, "run old");
    for (target, made) in [
        ("linker", "link"),
        ("owner", "deep/empty"),
        ("below", "new/link"),
    ] {
        project.run(&format!("run {target}")).code(0);
        for round in 0..4 {
            let _ = fs::remove_file(project.path("link"));
            for folder in ["deep", "new"] {
                let _ = fs::remove_dir_all(project.path(folder));
            }
            project.run(&format!("run {target}")).code(0);
            let is_made = project.path(made).symlink_metadata().is_ok();
            assert!(is_made, "{target}, {round}");
        }
    }
}

#[test]
fn snapshot_is_not_written_through_a_link() {
    let project = project();
    settle(&project);
    let (still, aside) = (project.path(".build-cache/snapshot"), project.path("aside"));
    let kept = fs::read(&still).unwrap();
    fs::rename(&still, &aside).unwrap();
    symlink(&aside, &still).unwrap();
    project.write("src/a", "1\n");
    let deadline = Instant::now() + Duration::from_secs(20);
    while still.is_symlink() {
        assert!(Instant::now() < deadline, "the link stays");
        assert_eq!(text(&project.run("run")), BUILT);
    }
    assert_eq!(fs::read(&aside).unwrap(), kept);
}

#[test]
fn readers_without_a_direct_need_see_new_outputs() {
    let project = Project::new(
        r#"
        target first { inputs "first.in"; outputs "gen/a.c"; sh "mkdir -p gen; cp first.in gen/a.c" }
        target second { needs first; inputs "x"; outputs "second"; sh "echo > second" }
        target third { needs second; inputs "x"; outputs "third"; sh "echo > third" }
        target reader { needs third; inputs "gen/*.c"; outputs "out"; sh "cat gen/*.c > out" }
        target later { after first; inputs "gen/*.c"; outputs "late"; sh "cat gen/*.c > late" }
        project demo { default reader later }
        "#,
    )
    .file("first.in", "1\n")
    .file("x", "x\n");
    project.run("run").code(0);
    settle(&project);
    project.write("first.in", "2\n");
    let events = project.run("run --json").code(0);
    has(&events, r#""event":"target-started","#);
    assert_eq!(
        (project.read("out"), project.read("late")),
        ("2\n".into(), "2\n".into())
    );
    assert!(!text(&events).contains(r#""event":"target-started","target":"third""#));
}

#[test]
fn lost_and_damaged_state_is_detected() {
    let changes: &[(&str, Change, &str)] = &[
        (
            "all of it",
            |p| fs::remove_dir_all(p.path(".build-cache")).unwrap(),
            "2 built",
        ),
        (
            "the last successes",
            |p| fs::remove_file(p.path(".build-cache/state")).unwrap(),
            BUILT,
        ),
        (
            "damaged last successes",
            |p| p.write(".build-cache/state", "?"),
            BUILT,
        ),
        (
            "the last successes and the results",
            |p| {
                fs::remove_file(p.path(".build-cache/state")).unwrap();
                fs::remove_dir_all(p.path(".build-cache/actions")).unwrap();
            },
            "2 built",
        ),
        (
            "this memory",
            |p| fs::remove_file(p.path(".build-cache/snapshot")).unwrap(),
            BUILT,
        ),
        (
            "this memory, damaged",
            |p| {
                let mut bytes = fs::read(p.path(".build-cache/snapshot")).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                p.write(".build-cache/snapshot", bytes);
            },
            BUILT,
        ),
        (
            "leftovers of a killed run in the stage",
            |p| p.write(".build-cache/stage/left", "?"),
            BUILT,
        ),
        (
            "a cache of another version",
            |p| p.write(".build-cache/version", "fbuild store 9\n"),
            "another version",
        ),
        (
            "a link in the place of the lock",
            |p| {
                let lock = p.path(".build-cache/run.lock");
                p.write("mine", "mine");
                fs::remove_file(&lock).unwrap();
                symlink(p.path("mine"), lock).unwrap();
            },
            "",
        ),
        (
            "a missing store",
            |p| fs::remove_dir_all(p.path(".build-cache/artifacts")).unwrap(),
            BUILT,
        ),
    ];
    for (name, change, expected) in changes {
        let project = project();
        settle(&project);
        change(&project);
        let mut all = String::new();
        let run = || all = text(&project.run("run"));
        assert!(!is_skipped(&project, run), "{name}");
        assert!(all.contains(expected), "{name}: {all}");
        assert!(!project.has("mine") || project.read("mine") == "mine");
    }
    // A state folder that others can write to is not read.
    let shared = project();
    settle(&shared);
    chmod(&shared.path(".build-cache"), 0o777);
    let all = text(&shared.run("run"));
    assert!(all.contains("can be written by other users"), "{all}");
    assert!(all.contains("2 built"), "{all}");
    // The run cleans up like any other.
    let project = project();
    settle(&project);
    project.write(".build-cache/stage/left", "?");
    project.run("run").ok(BUILT);
    assert!(!project.has(".build-cache/stage/left"));
}

#[test]
fn variables_and_secrets_count_as_in_keys() {
    let project = project();
    let run = |env: &[(&str, &str)]| {
        let mut run = project.fbuild("run");
        for (name, value) in env {
            run = run.env(name, value);
        }
        run.end()
    };
    settle(&project);
    has(&run(&[("MODE", "fast")]), "1 built");
    run(&[("MODE", "fast")]).ok(BUILT);
    has(&run(&[("MODE", "slow")]), "1 built");
    settle(&project);
    has(&run(&[("MODE", "")]), "1 built");
    settle(&project);
    has(&run(&[("TOKEN", "a")]), "1 built");
    run(&[("TOKEN", "b")]).ok(BUILT);
    run(&[]).ok(BUILT);
    settle(&project);
    let other = || run(&[("UNDECLARED", "1")]).ok(BUILT);
    assert!(is_skipped(&project, other));
}

#[test]
fn another_build_of_fbuild_ignores_the_snapshot() {
    let project = project();
    settle(&project);
    let copy = project.base().join("another-fbuild");
    fs::copy(FBUILD, &copy).unwrap();
    let run = || project.fbuild("run").under(["env"]).end().ok(BUILT);
    assert!(is_skipped(&project, run));
    let words = ["sh", "-c", "shift; exec \"$0\" \"$@\""];
    let mut words: Vec<&str> = words.to_vec();
    words.push(copy.to_str().unwrap());
    assert!(!is_skipped(&project, || project
        .fbuild("run")
        .under(words)
        .end()
        .ok(BUILT)));
}

#[test]
fn run_waits_for_another_run_in_the_tree() {
    let project = Project::new(
        r#"
        target idle { inputs in; outputs out; sh "cp in out" }
        target meet { sh "echo running > ../reached; read go < ../go" }
        "#,
    )
    .file("in", "1\n");
    settle_with(&project, "run idle");
    let (reached, go) = (project.pipe("../reached"), project.pipe("../go"));
    let first = project.fbuild("run -q meet").start();
    reached.wait();
    let mut second = project.fbuild("run idle").start();
    second.says("waiting for another run in this folder: `fbuild run -q meet`");
    go.go();
    first.end().ok("");
    second
        .end()
        .ok("nothing to do: 1 target up to date ([time])\n");
}

#[test]
fn read_only_cache_is_reported_each_time() {
    let project = Project::new("target t { inputs in; outputs out; sh \"cp in out\" }\n");
    let project = project.file("in", "1\n");
    project.hand_over();
    let run = || project.fbuild("run t").unprivileged().end();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_skipped(&project, || run().code(0)) {
        assert!(Instant::now() < deadline, "no run is ever cut short");
    }
    for folder in ["metadata", "runs", "tmp", "artifacts", "actions"] {
        let folder = project.path(format!(".build-cache/{folder}"));
        chmod(&folder, 0o500);
        let done = run().code(0);
        assert!(
            text(&done).contains("warning"),
            "{folder:?}: {}",
            text(&done)
        );
        chmod(&folder, 0o700);
    }
}

#[test]
fn warnings_are_printed_each_time() {
    let project = Project::new(
        "target t {\n    env CGOENABLED=\"0\"\n    outputs o\n    sh \"echo > o\"\n}\n",
    );
    project.run("run t").code(0);
    let first = text(&project.run("run t"));
    assert!(first.contains("near_miss"), "{first}");
    for _ in 0..40 {
        assert_eq!(text(&project.run("run t")), first);
    }
}

#[test]
fn uncached_target_runs_each_time() {
    let project = Project::new("target t { cache #false; outputs o; sh \"echo > o\" }\n");
    for _ in 0..20 {
        has(&project.run("run t"), "1 built");
    }
    // A target without outputs, which would have to grow old.
    let project = Project::new(
        r#"
        target cached { inputs in; outputs out; sh "cp in out" }
        target t { cache #false; inputs in; sh "cat in" }
        "#,
    )
    .file("in", "1\n");
    settle_with(&project, "run cached");
    for _ in 0..3 {
        has(&project.run("run t"), "1 built");
    }
}

#[test]
fn root_behind_a_retargeted_link_is_detected() {
    let project = Project::new(
        "project demo { root \"here\" }\ntarget t { inputs in; outputs out; sh \"cp in out\" }\n",
    );
    for name in ["one", "two"] {
        project.write(format!("{name}/in"), name);
    }
    symlink("one", project.path("here")).unwrap();
    settle_with(&project, "run t");
    fs::remove_file(project.path("here")).unwrap();
    symlink("two", project.path("here")).unwrap();
    project.run("run t").code(0);
    assert_eq!(project.read("two/out"), "two");
}

#[test]
fn edit_at_any_moment_is_detected() {
    let project = project();
    settle(&project);
    for round in 0..60 {
        let text = format!("{round:04}\n");
        project.write("base.in", &text);
        project.run("run").code(0);
        assert_eq!(project.read("base.txt"), text);
        if round % 5 == 0 {
            settle(&project);
        }
        project.run("run").ok(BUILT);
    }
}

/// Returns the output and messages of a run.
fn text(done: &FinishedRun) -> String {
    done.stdout.clone() + &done.stderr
}

#[track_caller]
fn has(done: &FinishedRun, part: &str) {
    assert!(text(done).contains(part), "{}", text(done));
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn edit_keeping_time(path: &Path, text: &str) {
    let before = path.metadata().unwrap().modified().unwrap();
    fs::write(path, text).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(before).unwrap();
}
