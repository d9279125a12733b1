//! Forged state of every kind: none of it is believed.

use std::os::unix::fs::PermissionsExt as _;

use fbuild::digest::Digest;

use super::super::project::{FinishedRun, Run, is_root, skip};
use super::*;

/// The files that are authenticated as a whole.
const FILES: [&str; 5] = ["graph", "nodes", "index", "state", "snapshot"];
/// The offsets of the fields of their header, and of the content.
const FIELDS: [(&str, usize); 6] = [
    ("magic", 0),
    ("nonce", 16),
    ("length", 32),
    ("proof", 40),
    ("code", 56),
    ("content", 72),
];
const HONEST_TARGET: &str = "target a { inputs in; outputs out; run cp in out }";
const EVIL_TARGET: &str = "target a { inputs in; outputs out; run sh in ooo }";

/// A project whose input is a script, which must never run.
struct Stage {
    project: Project,
}

impl Stage {
    fn new() -> Self {
        let project = Project::in_memory();
        project.write("in", "echo evil > out; echo > ../ran\n");
        let stage = Self { project };
        stage.write(HONEST_TARGET);
        stage
    }

    /// Writes a Buildfile that is long enough for its nodes to be cached.
    fn write(&self, target: &str) {
        let padding =
            |n| format!("target p{n} {{ about \"one of very many targets\"; run \"true\" }}\n");
        let padding: String = (0..60).map(padding).collect();
        self.project
            .write("Buildfile.kdl", format!("{target}\n{padding}"));
    }

    fn state(&self, name: &str) -> PathBuf {
        self.project.path(".build-cache").join(name)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.state(name)).unwrap()
    }

    /// Runs a command within limits.
    fn limited(&self, words: &str) -> Run<'_> {
        let peak = self.project.path("../peak");
        let measure = [fbt().as_os_str(), "peak".as_ref(), peak.as_os_str()];
        self.project.fbuild(words).under(LIMITS).under(measure)
    }

    /// Builds everything until nothing is left to do.
    fn build(&self) {
        for _ in 0..2 {
            self.project.run("run -q a").ok("");
        }
        assert!(
            self.project
                .run("run a")
                .stdout
                .starts_with("nothing to do")
        );
    }

    /// Runs the target and checks that its output is that of the Buildfile's command.
    #[track_caller]
    fn check(&self, case: &str) -> FinishedRun {
        let done = self.limited("run a").end().code(0);
        assert!(
            !self.project.has("../ran"),
            "{case}: an undeclared command ran"
        );
        assert_eq!(self.project.read("out"), self.project.read("in"), "{case}");
        let memory: u64 = self.project.read("../peak").trim().parse().unwrap();
        assert!(memory <= MAX_MEMORY, "{case}: {memory} KiB of memory");
        done
    }

    /// Checks that the target ran or was restored: that nothing claimed it up to date.
    #[track_caller]
    fn check_not_skipped(&self, case: &str) {
        fs::remove_file(self.project.path("out")).unwrap_or_default();
        fs::write(self.project.path("out"), "evil\n").unwrap();
        let done = self.check(case);
        let is_done = done.stdout.contains("1 built") || done.stdout.contains("1 restored");
        assert!(is_done, "{case}: {}", done.stdout);
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[track_caller]
fn warned(done: &FinishedRun, code: &str) {
    let all = [done.stdout.as_str(), &done.stderr].concat();
    assert!(all.contains(code), "no {code} in {all}");
}

#[test]
fn commands_of_another_buildfile_do_not_run() {
    for file in FILES {
        let stage = Stage::new();
        stage.write(EVIL_TARGET);
        // Not the target itself: its command must not run here either.
        stage.project.run("run -q p1").ok("");
        let evil = stage.project.read("Buildfile.kdl");
        stage.write(HONEST_TARGET);
        let honest = stage.project.read("Buildfile.kdl");
        let Ok(mut bytes) = fs::read(stage.state(file)) else {
            continue;
        };
        for (from, to) in [
            (evil.as_str(), honest.as_str()),
            (EVIL_TARGET, HONEST_TARGET),
        ] {
            let [from, to] = [from, to].map(|text| *Digest::of(text.as_bytes()).hash());
            while let Some(at) = bytes.windows(32).position(|window| window == from) {
                bytes[at..at + 32].copy_from_slice(&to);
            }
        }
        fs::write(stage.state(file), bytes).unwrap();
        stage.check(file);
    }
}

#[test]
fn state_with_any_field_changed_is_missing() {
    let stage = Stage::new();
    stage.build();
    for file in FILES {
        let whole = stage.bytes(file);
        for (field, at) in FIELDS.into_iter().chain([("end", whole.len() - 1)]) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(stage.state(file), bytes).unwrap();
            stage.check(&format!("{field} of {file}"));
        }
        fs::write(stage.state(file), whole).unwrap();
    }
}

#[test]
fn state_of_another_kind_or_size_is_not_read() {
    let plants: [Named<fn(&Path)>; 12] = [
        ("a link to itself elsewhere", |path| {
            let moved = path.with_file_name("../moved");
            fs::rename(path, &moved).unwrap();
            symlink(&moved, path).unwrap();
        }),
        ("a link to a device", |path| {
            fs::remove_file(path).unwrap();
            symlink("/dev/zero", path).unwrap();
        }),
        ("a link to nothing", |path| {
            fs::remove_file(path).unwrap();
            symlink("nothing", path).unwrap();
        }),
        ("a pipe", |path| {
            fs::remove_file(path).unwrap();
            make(path, FileType::Fifo);
        }),
        ("a socket", |path| {
            fs::remove_file(path).unwrap();
            make(path, FileType::Socket);
        }),
        ("a folder", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
        ("writable by the group", |path| mode(path, 0o620)),
        ("writable by others", |path| mode(path, 0o602)),
        ("empty", |path| fs::write(path, "").unwrap()),
        ("only a header", |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..72]).unwrap();
        }),
        ("endless", |path| {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_len(1 << 40).unwrap();
        }),
        ("twice", |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, bytes.repeat(2)).unwrap();
        }),
    ];
    for file in FILES {
        let stage = Stage::new();
        stage.build();
        let whole = stage.bytes(file);
        for (kind, plant) in plants {
            let case = format!("{file}: {kind}");
            plant(&stage.state(file));
            for words in ["list", "status a"] {
                stage.limited(words).end().code(0);
            }
            stage.check(&case);
            let path = stage.state(file);
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
            fs::write(&path, &whole).unwrap();
            mode(&path, 0o600);
        }
    }
}

#[test]
fn state_of_another_user_is_missing() {
    let stage = Stage::new();
    let other = stage.project.base().join("other");
    // The same Buildfile, and other results.
    stage
        .project
        .write("../bin/cp", "#!/bin/sh\necho evil > out\n");
    mode(&stage.project.path("../bin/cp"), 0o755);
    for _ in 0..2 {
        let run = stage.project.fbuild("run -q a");
        run.env("XDG_STATE_HOME", &other).end().ok("");
    }
    assert_eq!(stage.project.read("out"), "evil\n");
    fs::remove_file(stage.project.path("../bin/cp")).unwrap();
    let done = stage.check("all state of another user");
    warned(&done, "fbuild::store::untrusted");
    assert!(done.stdout.contains("1 built"), "{}", done.stdout);
}

#[test]
fn state_of_another_checkout_is_missing() {
    let stage = Stage::new();
    stage.build();
    for file in FILES {
        let project = Project::in_memory();
        for name in ["in", "Buildfile.kdl"] {
            fs::copy(stage.project.path(name), project.path(name)).unwrap();
        }
        fs::create_dir(project.path(".build-cache")).unwrap();
        let to = project.path(".build-cache").join(file);
        fs::copy(stage.state(file), to).unwrap();
        let run = project.fbuild("run a");
        let run = run.env("XDG_STATE_HOME", stage.project.base().join("user"));
        let done = run.end().code(0);
        assert!(done.stdout.contains("1 built"), "{file}: {}", done.stdout);
    }
}

#[test]
fn unchanged_state_of_this_user_is_used() {
    let stage = Stage::new();
    stage.build();
    stage.check_not_skipped("an edited output");
}

/// Runs with a state folder that is refused, and checks the code of the warning.
#[track_caller]
fn refused(stage: &Stage, code: &str) {
    for _ in 0..2 {
        let _ = fs::remove_file(stage.project.path("out"));
        let done = stage.check(code);
        warned(&done, code);
        assert!(done.stdout.contains("1 built"), "{}", done.stdout);
    }
    stage.limited("clean --all").end().code(0);
    assert!(!stage.project.has("out"));
}

#[test]
fn linked_state_folder_is_left_alone() {
    for target in ["../other", "."] {
        let stage = Stage::new();
        let other = stage.project.path(target);
        fs::create_dir_all(other.join("stage")).unwrap();
        fs::write(other.join("stage/mine"), "precious").unwrap();
        symlink(target, stage.project.path(".build-cache")).unwrap();
        refused(&stage, "fbuild::store::off");
        assert_eq!(fs::read(other.join("stage/mine")).unwrap(), b"precious");
        assert_eq!(fs::read_dir(other.join("stage")).unwrap().count(), 1);
        assert!(!other.join("artifacts").exists() && !other.join("run.lock").exists());
        assert!(stage.project.path(".build-cache").is_symlink());
        assert!(stage.project.has("in"));
    }
}

#[test]
fn folder_with_other_files_is_left_alone() {
    let stage = Stage::new();
    stage.project.write(".build-cache/stage/mine", "precious");
    stage.project.write(".build-cache/notes.txt", "precious");
    refused(&stage, "fbuild::store::off");
    assert_eq!(stage.project.read(".build-cache/stage/mine"), "precious");
    assert_eq!(stage.project.names(".build-cache").len(), 3);
}

#[test]
fn other_files_beside_the_mark_are_no_obstacle() {
    let stage = Stage::new();
    stage.build();
    stage.project.write(".build-cache/notes.txt", "precious");
    assert!(
        stage
            .project
            .run("run a")
            .stdout
            .starts_with("nothing to do")
    );
    stage.project.run("run -q --force a").ok("");
    assert_eq!(stage.project.read(".build-cache/notes.txt"), "precious");
}

#[test]
fn shared_state_folder_is_left_alone() {
    let stage = Stage::new();
    stage.build();
    for bits in [0o770, 0o707] {
        mode(&stage.state(""), bits);
        refused(&stage, "fbuild::store::off");
    }
    mode(&stage.state(""), 0o755);
    stage.check("readable by others");
}

#[test]
fn state_folder_of_another_user_is_left_alone() {
    if !is_root() {
        return skip("only root can give files away");
    }
    let stage = Stage::new();
    stage.build();
    std::os::unix::fs::lchown(stage.state(""), Some(65534), None).unwrap();
    refused(&stage, "fbuild::store::off");
}

#[test]
fn tracked_state_folder_is_left_alone() {
    let stage = Stage::new();
    stage.build();
    if !stage.project.git("init -q") {
        return skip("there is no git");
    }
    assert!(stage.project.git("add -f .build-cache/graph"));
    fs::remove_file(stage.project.path("out")).unwrap();
    refused(&stage, "fbuild::store::tracked");
    assert!(stage.project.git("rm -q -r --cached .build-cache"));
    let done = stage.check("no longer tracked");
    assert!(!done.stdout.contains("warning"), "{}", done.stdout);
}

#[test]
fn trusted_cache_of_another_user_is_used() {
    let stage = Stage::new();
    let other = stage.project.base().join("other");
    let run = stage.project.fbuild("run -q a");
    run.env("XDG_STATE_HOME", other).end().ok("");
    fs::remove_file(stage.project.path("out")).unwrap();
    stage.project.run("cache trust").ok("accepted 1 result\n");
    stage.project.run("cache trust").ok("accepted no results\n");
    let done = stage.check("trusted");
    assert!(done.stdout.contains("1 restored"), "{}", done.stdout);
}

#[test]
fn users_with_one_secret_share_a_cache() {
    const SECRET: &str = "a secret of twenty bytes or more";
    let stage = Stage::new();
    let run = |user: &str| {
        let run = stage
            .project
            .fbuild("run a")
            .env("FBUILD_CACHE_KEY", SECRET);
        run.env("XDG_STATE_HOME", stage.project.base().join(user))
            .end()
            .code(0)
    };
    run("one");
    fs::remove_file(stage.project.path("out")).unwrap();
    assert!(run("two").stdout.contains("1 restored"));
    assert!(run("two").stdout.starts_with("nothing to do"));
    assert!(
        !stage.project.base().join("one/fbuild/key").exists(),
        "no key file is needed"
    );
}

#[test]
fn short_secret_is_an_error() {
    let stage = Stage::new();
    let run = stage
        .project
        .fbuild("run a")
        .env("FBUILD_CACHE_KEY", "secret");
    let done = run.end().code(2);
    assert!(
        done.stderr.contains("`FBUILD_CACHE_KEY` is too short"),
        "{}",
        done.stderr
    );
    assert!(!stage.project.has("out"));
}

#[test]
fn run_without_a_key_warns_and_is_not_remembered() {
    let stage = Stage::new();
    let unusable = ["", "relative", "/dev/null", "/proc/nothing"];
    let inside = stage.project.path("home");
    let homes = unusable.map(PathBuf::from).into_iter().chain([inside]);
    for home in homes {
        for _ in 0..2 {
            let run = stage.project.fbuild("run a").env("HOME", "");
            let done = run.env("XDG_STATE_HOME", &home).end().code(0);
            warned(&done, "fbuild::store::key");
            assert!(done.stdout.contains("1 built"), "{home:?}: {}", done.stdout);
        }
    }
    assert!(!stage.project.has("home"));
}

#[test]
fn read_only_commands_create_no_key() {
    let stage = Stage::new();
    for words in [
        "list",
        "status a",
        "check",
        "run --dry-run a",
        "cache status",
    ] {
        stage.project.run(words).code(0);
    }
    assert!(!stage.project.has("../user"));
}
