//! The remote cache on the command line: two machines, each with a project and a cache of
//! its own, share results through a folder.

use super::project::{Project, Run};

/// The private key of seed 1, and its public key.
const SECRET: &str =
    "ed25519-secret:0101010101010101010101010101010101010101010101010101010101010101";
const PUBLIC: &str = "ed25519:8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c";

/// Returns a machine that shares the folder `shared`, with these lines in its `remote` node.
fn machine(shared: &str, lines: &str) -> Project {
    let buildfile = format!(
        r#"
        remote "file:{shared}" {{
            {lines}
            sign key-env=SIGNING_KEY trust="{PUBLIC}"
        }}
        target t {{ inputs in; outputs out; sh "cp in out; echo printed" }}
        target own {{ inputs in; outputs own; remote #false; sh "cp in own" }}
        "#
    );
    Project::new(&buildfile).file("in", "1\n")
}

fn signed<'p>(project: &'p Project, words: &str) -> Run<'p> {
    project.fbuild(words).env("SIGNING_KEY", SECRET)
}

/// Returns a folder that two machines can share.
fn shared() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn result_is_fetched_on_another_machine() {
    let (_folder, shared) = shared();
    let (first, second) = (
        machine(&shared, "mode read-write"),
        machine(&shared, "mode read"),
    );
    signed(&first, "run -q t").end().ok("");
    let done = second.run("run t").code(0);
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(
        lines[..4],
        [
            "Building 1 target",
            "output of t:",
            "printed",
            "[1/1] Fetched t from the remote cache: never built here (total elapsed: [time])",
        ]
    );
    // The number of bytes depends on the length of paths.
    assert!(
        lines[4].starts_with("Finished in [time]: 1 fetched; remote: "),
        "{}",
        lines[4]
    );
    assert!(
        lines[4].ends_with(" in, 0 B out, [time] waiting"),
        "{}",
        lines[4]
    );
    assert_eq!(second.read("out"), "1\n");
    second.run("run t").ok("
        nothing to do: 1 target up to date ([time])
        ");
}

#[test]
fn fetched_result_is_kept_in_the_local_cache() {
    let (_folder, shared) = shared();
    let first = machine(&shared, "mode read-write");
    let second = machine(&shared, "mode read");
    signed(&first, "run -q t").end().ok("");
    second.run("run -q t").ok("");
    std::fs::remove_file(second.path("out")).unwrap();
    let done = second.run("run --remote off t").code(0);
    assert!(
        done.stdout.contains("Restored t from the cache"),
        "{}",
        done.stdout
    );
}

#[test]
fn target_with_remote_false_is_not_shared() {
    let (_folder, shared) = shared();
    let first = machine(&shared, "mode read-write");
    let second = machine(&shared, "mode read");
    signed(&first, "run -q own").end().ok("");
    let done = second.run("run own").code(0);
    assert!(done.stdout.contains("Completed own"), "{}", done.stdout);
}

#[test]
fn build_without_the_private_key_sends_nothing() {
    let (_folder, shared) = shared();
    let first = machine(&shared, "mode read-write");
    let second = machine(&shared, "mode read");
    first.run("run -q t").ok("");
    let done = second.run("run t").code(0);
    assert!(done.stdout.contains("Completed t"), "{}", done.stdout);
}

#[test]
fn scope_of_a_pull_request_is_not_read_by_main() {
    let (_folder, shared) = shared();
    let request = machine(&shared, "mode read-write\nscope pr-12 read=\"main pr-12\"");
    let main = machine(&shared, "mode read");
    let other = machine(&shared, "mode read\nscope pr-12");
    signed(&request, "run -q t").end().ok("");
    let done = main.run("run t").code(0);
    assert!(done.stdout.contains("Completed t"), "{}", done.stdout);
    let done = other.run("run t").code(0);
    assert!(done.stdout.contains("Fetched t"), "{}", done.stdout);
}

#[test]
fn unreachable_server_costs_a_warning() {
    let project = machine("unused", "mode read-write");
    let url = "http://127.0.0.1:1/cache";
    let done = project
        .fbuild("run t")
        .env("FBUILD_REMOTE", url)
        .end()
        .code(0);
    assert!(done.stdout.contains("Completed t"), "{}", done.stdout);
    assert_eq!(project.read("out"), "1\n");
}

#[test]
fn unknown_mode_in_the_environment_is_refused() {
    let project = machine("unused", "mode read");
    let run = project.fbuild("run t").env("FBUILD_REMOTE_MODE", "both");
    run.end().ended(
        2,
        "",
        "
        error: `FBUILD_REMOTE_MODE` is `both`, which is not a mode
          help: set it to `off`, `read`, `write` or `read-write`
        ",
    );
}

#[test]
fn status_of_a_folder_names_it() {
    let (_folder, shared) = shared();
    let project = machine(&shared, "mode read-write");
    let done = signed(&project, "remote status").end().code(0);
    assert!(
        done.stdout.contains("reads       yes\n  writes      yes"),
        "{}",
        done.stdout
    );
}

#[test]
fn pushed_results_are_fetched() {
    let (_folder, shared) = shared();
    let first = machine(&shared, "mode write");
    let second = machine(&shared, "mode read");
    first.run("run -q --remote off t own").ok("");
    signed(&first, "remote push t").end().ok("1 result sent\n");
    let done = second.run("run t").code(0);
    assert!(done.stdout.contains("Fetched t"), "{}", done.stdout);
}
