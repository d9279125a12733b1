//! `fbuild cache`: status, verification and collection, and the limits that runs apply.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use super::project::Project;

fn project() -> Project {
    Project::new(
        r#"
        cache max-size="2 GiB" max-age="30d"
        target a { inputs in; outputs a; sh "cp in a" }
        target b { needs a; outputs b; sh "cat a a > b" }
        "#,
    )
    .file("in", "1\n")
}

/// Replaces sizes, which depend on the length of the manifests.
fn sizes(text: &str) -> String {
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        if let Some((before, _)) = line.split_once("size        ") {
            out += &format!("{before}size        [size]\n");
            continue;
        }
        let mut rest = line;
        while let Some((before, after)) = rest.split_once('(') {
            out += &format!("{before}([size])");
            rest = after.split_once(')').unwrap().1;
        }
        out += rest;
    }
    out
}

/// Returns the paths of all objects in the cache.
fn objects(project: &Project) -> Vec<String> {
    let of = |folder: &str| {
        let names = project.names(format!(".build-cache/{folder}")).into_iter();
        let path = |name| format!(".build-cache/{folder}/{name}");
        names.map(path).collect::<Vec<_>>()
    };
    let mut all = [of("actions"), of("artifacts")].concat();
    all.retain(|path| !path.ends_with('/'));
    all
}

/// Sets the time of the last use of all objects to some days ago.
fn age(project: &Project, days: u64) {
    let then = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
    for path in objects(project).iter().map(|path| project.path(path)) {
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let file = File::options().append(true).open(path).unwrap();
        file.set_modified(then).unwrap();
    }
}

#[test]
fn status_shows_size_folder_and_limits() {
    let project = project();
    project.run("cache status").ok("
        Build Cache Status
          folder      .build-cache
          targets     0 of 2 cached
          results     0, made of 0 blobs
          size        0 B (0 bytes)
          limits      at most 2 GiB, nothing unused for 30 days
          quarantine  empty
        ");
    assert!(!project.has(".build-cache"));
    project.run("run -q b").ok("");
    let status = project.run("cache status").code(0).stdout;
    assert_eq!(
        sizes(&status),
        "Build Cache Status\n  folder      .build-cache\n  targets     2 of 2 cached\n  \
         results     2, made of 4 blobs\n  size        [size]\n  \
         limits      at most 2 GiB, nothing unused for 30 days\n  quarantine  empty\n"
    );
    let length = |path: &String| project.path(path).metadata().unwrap().len();
    let bytes: u64 = objects(&project).iter().map(length).sum();
    let printed: String = status
        .split_once('(')
        .unwrap()
        .1
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    assert!(
        printed.starts_with(&bytes.to_string()),
        "{bytes} bytes: {status}"
    );
}

#[test]
fn status_without_limits_shows_how_to_set_one() {
    let project = Project::new("target t { sh \"true\" }\n");
    let status = project.run("cache status").code(0);
    let line = "  limits      none; `cache max-size=\"2 GiB\"` in the Buildfile sets one\n";
    assert!(status.stdout.contains(line), "{}", status.stdout);
}

#[test]
fn reading_commands_do_not_quarantine() {
    let project = Project::new(r#"target t { inputs in; outputs out; sh "cp in out" }"#);
    let project = project.file("in", "1\n");
    project.run("run -q t").ok("");
    // The manifest of the last success, from which commands read the reason for a run.
    let key = project.read(".build-cache/metadata/t.meta.json");
    let key = key.split("\"key\": \"").nth(1).unwrap()[..64].to_owned();
    let manifest = format!(".build-cache/artifacts/{}/{key}", &key[..2]);
    fs::set_permissions(project.path(&manifest), Permissions::from_mode(0o644)).unwrap();
    project.write(&manifest, "damaged");
    project.write("in", "2\n");
    for words in ["run -n t", "status", "explain t", "graph"] {
        project.run(words);
        assert_eq!(project.read(&manifest), "damaged", "{words}");
    }
    project.run("run -q t").code(0);
    assert!(!project.has(&manifest), "it is in the quarantine");
}

#[test]
fn verify_repairs_damage_only_with_the_option() {
    let project = project();
    project.run("cache verify").ok("nothing is cached\n");
    project.run("run -q b").ok("");
    assert_eq!(
        sizes(&project.run("cache verify").code(0).stdout),
        "read 2 results and 4 blobs ([size]): no damage found\n"
    );
    let is_output = |path: &String| fs::read(project.path(path)).unwrap() == b"1\n1\n";
    let damaged = objects(&project).into_iter().find(is_output).unwrap();
    fs::set_permissions(project.path(&damaged), Permissions::from_mode(0o644)).unwrap();
    project.write(&damaged, "2\n2\n");
    let found = project.run("cache verify").code(1).stdout;
    let lines: Vec<&str> = found.lines().collect();
    let [record, blob, summary] = lines.as_slice() else {
        panic!("{lines:?}")
    };
    assert!(record.starts_with("`actions/"), "{record}");
    assert!(
        record.ends_with("`: 1 of its blobs are missing or damaged"),
        "{record}"
    );
    assert!(blob.starts_with("`artifacts/"), "{blob}");
    assert!(
        blob.ends_with("`: its content does not match its name"),
        "{blob}"
    );
    assert_eq!(
        sizes(summary),
        "read 2 results and 4 blobs ([size]): 2 damaged; `fbuild cache verify --repair` moves them to quarantine"
    );
    let repaired = project.run("cache verify --repair").code(0).stdout;
    let end = ": 2 damaged and moved to quarantine; the next run builds them again\n";
    assert!(repaired.ends_with(end), "{repaired}");
    let status = project.run("cache status").code(0).stdout;
    assert!(status.contains("1 of 2 cached"), "{status}");
    assert!(
        status.contains("quarantine  1 damaged file (4 B), removed after a week\n"),
        "{status}"
    );
    project.run("cache verify").code(0);
    // The next run makes it again.
    fs::remove_file(project.path("b")).unwrap();
    let run = project.run("run b").code(0);
    assert!(
        run.stdout.contains("1 built, 1 up to date"),
        "{}",
        run.stdout
    );
    assert_eq!(project.read("b"), "1\n1\n");
    project.run("cache verify").code(0);
}

#[test]
fn gc_applies_the_limits() {
    let project = project();
    project.run("cache gc").ok("nothing is cached\n");
    project.run("run -q b").ok("");
    assert_eq!(
        sizes(&project.run("cache gc").code(0).stdout),
        "nothing to remove; 2 results and 4 blobs ([size]) are kept\n"
    );
    assert_eq!(
        sizes(&project.run("cache gc --max-size 1B").code(0).stdout),
        "removed 2 results and 4 blobs ([size]); 0 results and 0 blobs ([size]) are left\n"
    );
    assert_eq!(objects(&project), [""; 0]);
    project.run("cache gc").ok("nothing is cached\n");
    // The outputs in the tree are still up to date.
    project
        .run("run b")
        .ok("nothing to do: 2 targets up to date ([time])\n");
}

#[test]
fn gc_drops_old_results_that_are_not_in_use() {
    let project = project();
    project.run("run -q b").ok("");
    project.write("in", "2\n");
    project.run("run -q b").ok("");
    age(&project, 40);
    let done = project.run("cache gc --max-age 50d").code(0);
    assert!(
        done.stdout.starts_with("nothing to remove"),
        "{}",
        done.stdout
    );
    assert_eq!(
        sizes(&project.run("cache gc").code(0).stdout),
        "removed 2 results and 4 blobs ([size]); 2 results and 4 blobs ([size]) are left\n"
    );
}

#[test]
fn gc_refuses_invalid_limits() {
    let project = project();
    project.run("cache gc --max-size lots").ended(
        2,
        "",
        "
        error: `--max-size`: a number is missing before `lots`
          help: write a number with `B`, `KB`, `MB`, `GB`, `TB` or `KiB`, `MiB`, `GiB`, `TiB`, such as \"2 GiB\"
        ",
    );
    project.run("cache gc --max-age 7").ended(
        2,
        "",
        "
        error: `--max-age`: the unit after `7` is missing
          help: write numbers with `ms`, `s`, `m`, `h`, `d` or `w`, such as \"10m\" or \"1h30m\"
        ",
    );
}

#[test]
fn clear_removes_only_the_results() {
    let project = project();
    project.run("cache clear").ok("nothing is cached\n");
    project.run("run -q b").ok("");
    let cleared = project.run("cache clear").code(0).stdout;
    assert!(
        cleared.starts_with("removed 2 results and 4 blobs ("),
        "{cleared}"
    );
    assert_eq!(objects(&project), [""; 0]);
    assert_eq!(project.read("b"), "1\n1\n");
    project
        .run("run b")
        .ok("nothing to do: 2 targets up to date ([time])\n");
    fs::remove_file(project.path("b")).unwrap();
    let run = project.run("run b").code(0);
    assert!(
        run.stdout.contains("1 built, 1 up to date"),
        "{}",
        run.stdout
    );
}

#[test]
fn run_keeps_the_cache_within_its_limits() {
    let project = Project::new(
        r#"
        cache max-size="100 KiB"
        target t { inputs in; outputs out; sh "cat in > out; head -c 40000 /dev/zero >> out" }
        "#,
    );
    for n in 0..6 {
        project.write("in", format!("{n}\n"));
        project.run("run -q t").ok("");
    }
    let length = |path: &String| project.path(path).metadata().unwrap().len();
    let kept: u64 = objects(&project).iter().map(length).sum();
    assert!(kept <= 100 << 10, "{kept} bytes are kept");
    // The last result is still there.
    fs::remove_file(project.path("out")).unwrap();
    let last = project.run("run t").code(0);
    assert!(last.stdout.contains("1 restored"), "{}", last.stdout);
}

/// Blobs are flushed one by one if much other data is dirty, else with `syncfs`.
#[test]
fn record_is_written_after_its_blobs_are_flushed() {
    for waiting in [0, 32 << 20] {
        flushes_blobs_before_records(waiting);
    }
}

fn flushes_blobs_before_records(much: usize) {
    let project = Project::new(r#"target t { inputs in; outputs out; sh "cp in out; cat in" }"#)
        .file("in", "1\n")
        .file("much", &"x".repeat(much));
    let log = project.base().join("log").into_os_string();
    let calls = "trace=linkat,renameat,renameat2,syncfs,fsync,fdatasync";
    let trace = ["strace", "-f", "-y", "-qq", "-e", calls, "-o"];
    let wrapper = trace.map(Into::into).into_iter().chain([log.clone()]);
    project.fbuild("run -q t").under(wrapper).end().ok("");
    let traced = fs::read_to_string(log).unwrap();
    let (mut blobs, mut records) = (0, 0);
    // Blobs that are not flushed yet, and the folders of their names.
    let mut waiting: Vec<String> = Vec::new();
    let is_done = |line: &&str| line.ends_with("= 0") || line.contains("sync(");
    for line in traced.lines().filter(is_done) {
        if let Some((_, name)) = line.split_once("/.build-cache/artifacts>, \"") {
            let (name, _) = name.split_once('"').unwrap();
            let folder = name.split('/').next().unwrap();
            waiting.extend([name, folder].map(|path| format!("/artifacts/{path}>")));
            waiting.push("/artifacts>".to_owned());
            blobs += 1;
        } else if line.contains("syncfs") {
            waiting.clear();
        } else if line.contains("sync(") {
            waiting.retain(|path| !line.contains(path));
        } else if line.contains("/.build-cache/actions>, \"") {
            assert!(blobs > 0 && waiting.is_empty(), "{waiting:?} {traced}");
            records += 1;
        }
    }
    assert!(blobs > 1 && records == 1, "{traced}");
}

#[test]
fn cache_and_clean_work_with_mistakes() {
    let project = project();
    project.run("run -q b").ok("");
    let text = project.read("Buildfile.kdl");
    project.write(
        "Buildfile.kdl",
        format!("{text}\ntarget broken {{ needs nothing; nod }}\n"),
    );
    project.run("run b").code(2);
    let warning = "warning[fbuild::workspace::mistakes]: 2 errors in `Buildfile.kdl`; \
                   `fbuild check` shows them\n";
    for words in ["cache status", "cache verify", "cache gc", "clean b"] {
        let done = project.run(words).code(0);
        assert_eq!(done.stderr, warning, "{words}");
    }
    assert!(!project.has("b"), "cleaned");
    let cleared = project.run("cache clear").code(0);
    assert!(
        cleared.stdout.starts_with("removed 2 results"),
        "{}",
        cleared.stdout
    );
    project.run("clean --all").code(0);
    assert!(!project.has(".build-cache"));
}
