//! Tests claims and their records on real trees.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::PathBuf;

use super::*;
use crate::action::Entry;
use crate::action::index::Saved;
use crate::buildfile::model::Output;
use crate::digest::Digest;
use crate::path::Root;
use crate::stamp::{self, FileMode};
use crate::store::Memory;
use crate::store::disk::Durability;

/// In nanoseconds.
const HOUR: i64 = 3_600_000_000_000;

/// A checkout with its records, in one temporary folder.
struct Sample {
    dir: tempfile::TempDir,
    root: Root,
    store: Memory,
}

impl Sample {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        let root = Root::open(&dir.path().join("tree")).unwrap();
        let store = Memory::new();
        Self { dir, root, store }
    }

    fn ledger(&self) -> Ledger {
        let checkout = Checkout::of(self.root.path(), self.root.path()).unwrap();
        Ledger::new(&self.dir.path().join("user"), checkout, Durability::Batched)
    }

    fn log(&self) -> PathBuf {
        let checkouts = self.dir.path().join("user/checkouts");
        let mut folders = fs::read_dir(checkouts).unwrap();
        folders.next().unwrap().unwrap().path().join("ledger")
    }

    fn write(&self, below: &str, content: &str) {
        let path = self.root.path().join(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn claim(&self, ledger: &Ledger, below: &str, replace: bool) -> Claim {
        self.claim_of(ledger, below, replace, false)
    }

    fn claim_of(&self, ledger: &Ledger, below: &str, replace: bool, committed: bool) -> Claim {
        let path = path(below);
        let index = FileIndex::new(self.root.clone(), Saved::default(), Vec::new());
        let ownership = Ownership {
            ledger,
            index: &index,
            store: &self.store,
            ignored: &IgnoreRules::new(&self.root),
            replace,
        };
        let absolute = self.root.path().join(below);
        let kind = absolute.symlink_metadata().unwrap().file_type();
        let kind = if kind.is_symlink() {
            FileKind::Link
        } else {
            FileKind::File
        };
        let spec = OutputSpec {
            output: Output::File(path.clone()),
            committed,
            keep: Vec::new(),
        };
        ownership.of("target", None).claim(&spec, &path, kind)
    }
}

fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

fn file(below: &str, content: &str) -> Entry {
    let digest = Digest::of(content.as_bytes());
    let mode = FileMode::PLAIN;
    Entry {
        path: path(below),
        kind: EntryKind::File { digest, mode },
    }
}

#[test]
fn recorded_file_is_owned() {
    let sample = Sample::new();
    sample.write("a", "made");
    sample.ledger().succeed("target", &[file("a", "made")]);
    assert_eq!(sample.claim(&sample.ledger(), "a", false), Claim::Owned);
}

#[test]
fn file_recorded_for_another_target_is_owned() {
    let sample = Sample::new();
    sample.write("a", "made");
    let ledger = sample.ledger();
    ledger.succeed("renamed", &[file("a", "made")]);
    assert_eq!(sample.claim(&ledger, "a", false), Claim::Owned);
}

#[test]
fn recorded_link_is_owned_with_the_same_target() {
    let sample = Sample::new();
    let kind = EntryKind::Link {
        target: b"to".to_vec(),
        content: None,
    };
    let path = path("link");
    let ledger = sample.ledger();
    ledger.succeed("target", &[Entry { path, kind }]);
    let link = sample.root.path().join("link");
    symlink("to", &link).unwrap();
    assert_eq!(sample.claim(&ledger, "link", false), Claim::Owned);
    fs::remove_file(&link).unwrap();
    symlink("elsewhere", &link).unwrap();
    assert_eq!(sample.claim(&ledger, "link", false), Claim::Precious);
}

#[test]
fn edited_file_is_precious() {
    let sample = Sample::new();
    sample.write("a", "by hand");
    let ledger = sample.ledger();
    ledger.succeed("target", &[file("a", "made")]);
    assert_eq!(sample.claim(&ledger, "a", false), Claim::Precious);
}

#[test]
fn stored_file_is_owned_unless_empty() {
    let sample = Sample::new();
    sample.write("a", "stored");
    sample.write("empty", "");
    for content in ["stored", ""] {
        sample.store.write(&mut content.as_bytes()).unwrap();
    }
    let ledger = sample.ledger();
    assert_eq!(sample.claim(&ledger, "a", false), Claim::Owned);
    assert_eq!(sample.claim(&ledger, "empty", false), Claim::Foreign);
}

#[test]
fn other_file_is_foreign_unless_replaced() {
    let sample = Sample::new();
    sample.write("a", "by hand");
    let ledger = sample.ledger();
    assert_eq!(sample.claim(&ledger, "a", false), Claim::Foreign);
    assert_eq!(sample.claim(&ledger, "a", true), Claim::Precious);
}

#[test]
fn other_committed_file_is_precious() {
    let sample = Sample::new();
    sample.write("a", "by hand");
    let claim = sample.claim_of(&sample.ledger(), "a", false, true);
    assert_eq!(claim, Claim::Precious);
}

#[test]
fn ignored_file_is_precious() {
    let sample = Sample::new();
    sample.write(".git/HEAD", "");
    sample.write(".gitignore", "out/\n");
    sample.write("out/a", "by another tool");
    let claim = sample.claim(&sample.ledger(), "out/a", false);
    assert_eq!(claim, Claim::Precious);
}

#[test]
fn file_of_a_killed_run_is_precious() {
    let sample = Sample::new();
    let ledger = sample.ledger();
    ledger.begin(stamp::now());
    sample.write("out/a", "half a fi");
    assert_eq!(sample.claim(&ledger, "out/a", false), Claim::Foreign);
    let next = sample.ledger();
    assert_eq!(sample.claim(&next, "out/a", false), Claim::Precious);
    next.begin(stamp::now());
    next.end();
    let third = sample.ledger();
    assert_eq!(sample.claim(&third, "out/a", false), Claim::Precious);
}

#[test]
fn file_from_before_a_killed_run_is_foreign() {
    let sample = Sample::new();
    sample.write("out/a", "by hand");
    sample.ledger().begin(stamp::now() + HOUR);
    let claim = sample.claim(&sample.ledger(), "out/a", false);
    assert_eq!(claim, Claim::Foreign);
}

#[test]
fn target_that_succeeds_settles_a_killed_run() {
    let sample = Sample::new();
    sample.ledger().begin(stamp::now());
    sample.write("out/a", "half a fi");
    let next = sample.ledger();
    next.begin(stamp::now());
    next.succeed("another", &[]);
    assert_eq!(sample.claim(&next, "out/a", false), Claim::Precious);
    next.succeed("target", &[]);
    assert_eq!(sample.claim(&next, "out/a", false), Claim::Foreign);
    next.end();
    assert_eq!(
        sample.claim(&sample.ledger(), "out/a", false),
        Claim::Foreign
    );
}

#[test]
fn file_of_a_run_that_ended_is_foreign() {
    let sample = Sample::new();
    let ledger = sample.ledger();
    ledger.begin(stamp::now());
    sample.write("out/a", "by hand");
    ledger.end();
    let claim = sample.claim(&sample.ledger(), "out/a", false);
    assert_eq!(claim, Claim::Foreign);
}

#[test]
fn unsettled_run_does_not_end() {
    let sample = Sample::new();
    let ledger = sample.ledger();
    ledger.begin(stamp::now());
    sample.write("out/a", "half a fi");
    ledger.unsettle();
    ledger.end();
    let claim = sample.claim(&sample.ledger(), "out/a", false);
    assert_eq!(claim, Claim::Precious);
}

#[test]
fn killed_run_survives_a_rewrite() {
    let sample = Sample::new();
    sample.ledger().begin(stamp::now());
    sample.write("out/a", "half a fi");
    for number in 0..40 {
        let ledger = sample.ledger();
        ledger.begin(stamp::now());
        for _ in 0..100 {
            ledger.succeed("one", &[file("b", &number.to_string())]);
        }
        ledger.end();
    }
    assert!(fs::read(sample.log()).unwrap().len() < 100 << 10);
    let claim = sample.claim(&sample.ledger(), "out/a", false);
    assert_eq!(claim, Claim::Precious);
}

#[test]
fn file_is_precious_if_the_records_are_unreadable() {
    let sample = Sample::new();
    sample.ledger().succeed("one", &[]);
    let log = sample.log();
    fs::remove_file(&log).unwrap();
    fs::create_dir(&log).unwrap();
    sample.write("a", "by hand");
    let ledger = sample.ledger();
    assert_eq!(sample.claim(&ledger, "a", false), Claim::Precious);
    assert!(ledger.take_problem().is_some());
}

#[test]
fn log_without_its_end_keeps_the_beginning() {
    let sample = Sample::new();
    let ledger = sample.ledger();
    ledger.succeed("one", &[file("a", "1")]);
    let length = fs::read(sample.log()).unwrap().len();
    ledger.succeed("two", &[file("b", "2")]);
    let whole = fs::read(sample.log()).unwrap();
    for end in length..whole.len() {
        fs::write(sample.log(), &whole[..end]).unwrap();
        let ledger = sample.ledger();
        assert!(ledger.made("one", &path("a")).is_some(), "{end}");
        assert!(ledger.made("two", &path("b")).is_none(), "{end}");
        ledger.succeed("three", &[file("c", "3")]);
        let ledger = sample.ledger();
        let made = ["a", "c"].map(|name| ledger.made("", &path(name)).is_some());
        assert_eq!(made, [true, true], "{end}");
    }
}

#[test]
fn changed_byte_never_makes_another_record() {
    let sample = Sample::new();
    sample.ledger().succeed("one", &[file("a", "1")]);
    let whole = fs::read(sample.log()).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x41;
        fs::write(sample.log(), bytes).unwrap();
        assert_eq!(sample.ledger().made("one", &path("a")), None, "byte {at}");
    }
}

#[test]
fn superseded_records_are_dropped() {
    let sample = Sample::new();
    for number in 0..40 {
        let ledger = sample.ledger();
        for _ in 0..100 {
            ledger.succeed("one", &[file("a", &number.to_string())]);
        }
    }
    assert!(fs::read(sample.log()).unwrap().len() < 100 << 10);
    let made = sample.ledger().made("one", &path("a"));
    assert_eq!(made, Some(file("a", "39").kind));
}

#[test]
fn log_is_private() {
    let sample = Sample::new();
    sample.ledger().succeed("one", &[]);
    let mode = |path: PathBuf| path.metadata().unwrap().mode() & 0o777;
    assert_eq!(mode(sample.log()), 0o600);
    assert_eq!(mode(sample.log().parent().unwrap().to_owned()), 0o700);
}

#[test]
fn log_that_others_can_write_is_not_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let sample = Sample::new();
    sample.ledger().succeed("one", &[file("a", "1")]);
    let mode = fs::Permissions::from_mode(0o622);
    fs::set_permissions(sample.log(), mode).unwrap();
    assert_eq!(sample.ledger().made("one", &path("a")), None);
}

#[test]
fn undeclared_files_are_listed_until_checked() {
    let sample = Sample::new();
    let ledger = sample.ledger();
    ledger.succeed("one", &[file("gen/new", "1"), file("gen/old", "2")]);
    let texts = Digest::of(b"Buildfile");
    let is_declared = |at: &RelPath| *at == path("gen/new");
    let undeclared = ledger.undeclared(texts, &is_declared);
    assert_eq!(undeclared, [file("gen/old", "2")]);
    ledger.release(vec![path("gen/old")]);
    ledger.check(texts);
    let ledger = sample.ledger();
    assert_eq!(ledger.undeclared(texts, &|_| false), []);
    let other = ledger.undeclared(Digest::of(b"other"), &|_| false);
    assert_eq!(other, [file("gen/new", "1")]);
}

#[test]
fn folder_of_the_user_must_be_private_and_outside() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let (user, project) = (dir.join("user/deep"), dir.join("project"));
    fs::create_dir(&project).unwrap();
    let check = |user: &std::path::Path| {
        Ledger::check_folder(user, &project).map_err(|problem| problem.to_string())
    };
    assert_eq!(check(&user), Ok(user.clone()));
    let inside = check(&project.join("state")).unwrap_err();
    assert!(inside.ends_with("is inside the project"), "{inside}");
    fs::set_permissions(&user, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(check(&user).unwrap_err().ends_with("is not only yours"));
}

#[test]
fn folder_replaced_at_a_path_is_another_checkout() {
    let sample = Sample::new();
    sample.ledger().succeed("one", &[file("a", "1")]);
    fs::rename(sample.root.path(), sample.dir.path().join("moved")).unwrap();
    fs::create_dir(sample.root.path()).unwrap();
    assert_eq!(sample.ledger().made("one", &path("a")), None);
}

#[test]
fn ledger_that_is_off_records_nothing() {
    let ledger = Ledger::off();
    ledger.begin(stamp::now());
    ledger.succeed("one", &[file("a", "1")]);
    ledger.end();
    assert_eq!(ledger.made("one", &path("a")), None);
    assert_eq!(ledger.take_problem(), None);
}

#[test]
fn failed_write_is_reported_once() {
    let sample = Sample::new();
    fs::write(sample.dir.path().join("user"), "a file").unwrap();
    let ledger = sample.ledger();
    ledger.succeed("one", &[file("a", "1")]);
    assert!(ledger.take_problem().is_some());
    assert_eq!(ledger.take_problem(), None);
}
