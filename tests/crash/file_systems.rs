//! Tests stores and outputs on full, read-only and multiple file systems (part of suite T6).
//! A failing cache is a miss and a warning, never an error, and never a wrong byte.
//!
//! A test that needs a file system runs itself again in new namespaces, where it may mount
//! one. If the system does not allow that, it is skipped with a message.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use fbuild::action::{ActionKey, ActionResult, OutputSpec};
use fbuild::buildfile::model::Output;
use fbuild::digest::Digest;
use fbuild::path::{RelPath, Root};
use fbuild::store::disk::{Disk, Durability};
use fbuild::store::outputs::{
    AllOwned, Destination, Restoration, Stage, Stash, capture, recover, restore,
};
use fbuild::store::{Error, Store};

use crate::support::scale::print;
use crate::support::user;

/// The variable with the folder of the inner run.
const FOLDER: &str = "FBUILD_TEST_FOLDER";

/// Runs `script` in a new folder and then `test` with that folder, both in new namespaces.
/// `name` is the name of the calling test, which is run again.
fn inside(name: &str, script: &str, test: impl FnOnce(&Path)) {
    #[expect(clippy::disallowed_methods, reason = "how the inner run is reported")]
    if let Some(folder) = std::env::var_os(FOLDER) {
        test(Path::new(&folder));
        return;
    }
    let name = format!("crash::file_systems::{name}");
    let folder = tempfile::tempdir().unwrap();
    let again = std::env::current_exe().unwrap();
    let script = format!("cd \"${FOLDER}\" && {script} && exec \"$0\" \"$@\"");
    #[expect(clippy::disallowed_methods, reason = "tests start programs")]
    let mut command = std::process::Command::new("unshare");
    command.args(["-Urm", "sh", "-c", &script]).arg(again);
    command.args(["--exact", &name, "--nocapture", "--test-threads=1"]);
    command.env(FOLDER, folder.path());
    #[expect(clippy::disallowed_methods, reason = "tests start programs")]
    let probe = std::process::Command::new("unshare")
        .args(["-Urm", "true"])
        .output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        print(&format!("skipped: {name} (needs user name spaces)"));
        return;
    }
    let output = command.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let cause = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}\n{cause}");
    assert!(printed.contains("1 passed"), "{printed}\n{cause}");
}

fn content(number: usize, size: usize) -> Vec<u8> {
    let mut content = vec![b'.'; size];
    content[..8].copy_from_slice(&number.to_le_bytes());
    content
}

/// Stores a blob; returns its digest and whether it was kept.
fn write(store: &Disk, content: &[u8]) -> (Digest, bool) {
    let written = match store.write(&mut &content[..]) {
        Ok(digest) => (digest, true),
        Err(Error::NotStored { digest, .. }) => (digest, false),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(written.0, Digest::of(content));
    written
}

fn read(store: &Disk, digest: Digest) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    store.read(digest).unwrap()?.read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn record(store: &Disk, manifest: Digest) -> ActionKey {
    let key = ActionKey(manifest);
    let result = ActionResult {
        outputs: Vec::new(),
        log: None,
        manifest,
        duration_ms: 1,
    };
    store.record(&[(key, result)]).unwrap();
    key
}

fn codes(store: &Disk) -> Vec<String> {
    store.take_warnings().into_iter().map(|w| w.code).collect()
}

/// Fills a store until its file system is full and checks the kept blobs.
fn overfill(folder: &Path, size: usize) {
    let store = Disk::open(
        &folder.join("small/cache"),
        Durability::Batched,
        &user::key(),
    );
    assert_eq!(store.take_warnings(), []);
    let kept: Vec<(Digest, bool)> = (0..100)
        .map(|number| write(&store, &content(number, size)))
        .collect();
    assert!(kept[0].1 && !kept[99].1, "{kept:?}");
    for (number, (digest, is_kept)) in kept.iter().enumerate() {
        let expected = is_kept.then(|| content(number, size));
        assert_eq!(read(&store, *digest), expected);
    }
    let key = record(&store, kept[0].0);
    assert!(store.result(key).is_ok());
    assert_eq!(codes(&store), ["fbuild::store::full"], "reported once");
    assert_eq!(store.verify(false).unwrap().damaged, []);
    let freed = store.clear().unwrap().unwrap();
    assert!(freed.removed.blobs > 0);
    assert!(write(&store, &content(0, size)).1, "there is room again");
}

#[test]
fn store_on_a_full_disk_keeps_its_content() {
    let script = "mkdir small && mount -t tmpfs -o size=600k none small";
    inside("store_on_a_full_disk_keeps_its_content", script, |folder| {
        overfill(folder, 50_000);
    });
}

#[test]
fn store_hashes_a_blob_larger_than_the_disk() {
    let script = "mkdir small && mount -t tmpfs -o size=600k none small";
    inside(
        "store_hashes_a_blob_larger_than_the_disk",
        script,
        |folder| {
            let store = Disk::open(
                &folder.join("small/cache"),
                Durability::Batched,
                &user::key(),
            );
            assert!(!write(&store, &content(1, 5_000_000)).1);
            assert!(
                write(&store, &content(2, 50_000)).1,
                "the rest of the blob was removed"
            );
            assert_eq!(codes(&store), ["fbuild::store::full"]);
        },
    );
}

#[test]
fn store_without_free_inodes_keeps_its_content() {
    let script = "mkdir small && mount -t tmpfs -o size=10m,nr_inodes=60 none small";
    inside(
        "store_without_free_inodes_keeps_its_content",
        script,
        |folder| {
            overfill(folder, 100);
        },
    );
}

#[test]
fn store_that_cannot_be_created_is_off() {
    let script = "mkdir small && mount -t tmpfs -o size=1m,nr_inodes=3 none small";
    inside("store_that_cannot_be_created_is_off", script, |folder| {
        let store = Disk::open(
            &folder.join("small/cache"),
            Durability::Batched,
            &user::key(),
        );
        assert_eq!(codes(&store), ["fbuild::store::off"]);
        assert!(!write(&store, &content(1, 100)).1);
    });
}

#[test]
fn read_only_store_is_read_and_not_changed() {
    let script = "mkdir small && mount -t tmpfs none small";
    inside(
        "read_only_store_is_read_and_not_changed",
        script,
        |folder| {
            let dir = folder.join("small/cache");
            let store = Disk::open(&dir, Durability::Batched, &user::key());
            let (good, _) = write(&store, &content(1, 100));
            let (bad, _) = write(&store, &content(2, 100));
            let key = record(&store, good);
            let hex = bad.hex();
            let blob = dir.join("artifacts").join(&hex[..2]).join(&hex);
            fs::write(blob, content(3, 100)).unwrap();
            drop(store);
            remount_read_only(&folder.join("small"));
            let store = Disk::open(&dir, Durability::Batched, &user::key());
            assert_eq!(codes(&store), ["fbuild::store::read_only"]);
            assert!(store.result(key).unwrap().is_some());
            assert_eq!(read(&store, good), Some(content(1, 100)));
            for _ in 0..2 {
                assert_eq!(read(&store, bad), None);
                assert_eq!(codes(&store), ["fbuild::store::corrupt"]);
            }
            assert!(!write(&store, &content(4, 100)).1);
            record(&store, bad);
            assert_eq!(store.result(ActionKey(bad)).unwrap(), None);
            assert_eq!(store.clear().unwrap(), None);
            assert_eq!(store.verify(true).unwrap().repaired, 0);
            assert_eq!(store.take_warnings(), [], "no warning is repeated");
        },
    );
}

fn remount_read_only(folder: &Path) {
    #[expect(clippy::disallowed_methods, reason = "tests start programs")]
    let mut mount = std::process::Command::new("mount");
    let mount = mount.args(["-o", "remount,ro"]).arg(folder).status();
    assert!(mount.unwrap().success());
}

fn specs() -> Vec<OutputSpec> {
    let path = |text| RelPath::new(text).unwrap();
    [Output::File(path("bin/tool")), Output::Folder(path("out"))]
        .into_iter()
        .map(|output| OutputSpec {
            output,
            committed: true,
            keep: Vec::new(),
        })
        .collect()
}

/// Returns every path below a folder, with the content of files and the targets of links.
fn tree(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut tree = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(at) = pending.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let what = match metadata.file_type() {
                kind if kind.is_dir() => {
                    pending.push(path.clone());
                    "folder".to_owned()
                }
                kind if kind.is_symlink() => format!("{:?}", fs::read_link(&path).unwrap()),
                _ => {
                    let content = fs::read_to_string(&path).unwrap();
                    format!("{content} {:?}", metadata.modified().unwrap())
                }
            };
            tree.push((path, what));
        }
    }
    tree.sort();
    tree
}

fn fill(root: &Path) {
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::create_dir_all(root.join("out/a/empty")).unwrap();
    fs::write(root.join("bin/tool"), "tool").unwrap();
    fs::write(root.join("out/a/b"), "b").unwrap();
    fs::write(root.join("out/c"), "c").unwrap();
    std::os::unix::fs::symlink("c", root.join("out/link")).unwrap();
}

/// In a container, the state folder is often a volume, on another file system than the tree.
#[test]
fn outputs_move_between_two_file_systems() {
    let script = "mkdir root state && mount -t tmpfs none state";
    inside("outputs_move_between_two_file_systems", script, |folder| {
        let root = Root::open(&folder.join("root")).unwrap();
        let stage = Stage::new(
            &root,
            &folder.join("state"),
            &folder.join("state/trash"),
            Vec::new(),
        );
        let store = Disk::open(
            &folder.join("state/cache"),
            Durability::Batched,
            &user::key(),
        );
        assert_eq!(store.take_warnings(), []);
        let count = |path: &str| fs::read_dir(folder.join(path)).map_or(0, Iterator::count);
        let is_clear = || count("state/stage") == 0 && count("state/trash") <= 1;
        fill(root.path());
        let before = tree(root.path());
        let captured = capture(&stage, &specs(), &store).unwrap();
        let specs_of_all = specs();
        let destination = Destination {
            stage: &stage,
            specs: &specs_of_all,
            claims: &AllOwned,
        };

        let stash = Stash::take(&stage, &specs(), &AllOwned).unwrap();
        assert_eq!(tree(root.path()).len(), 2, "only folders are left");
        fs::write(root.path().join("out/new"), "new").unwrap();
        fs::write(root.path().join("bin/tool"), "new").unwrap();
        stash.restore().unwrap();
        assert_eq!(tree(root.path()), before, "times included");
        assert!(is_clear());

        let stash = Stash::take(&stage, &specs(), &AllOwned).unwrap();
        fill(root.path());
        stash.finish().unwrap();
        assert_eq!(
            tree(root.path()),
            before,
            "unchanged files are the old ones"
        );
        assert!(is_clear());

        std::mem::forget(Stash::take(&stage, &specs(), &AllOwned).unwrap());
        recover(&stage, &|_| true).unwrap();
        assert_eq!(tree(root.path()), before);
        assert!(is_clear());

        fs::remove_dir_all(root.path().join("out")).unwrap();
        fs::write(root.path().join("bin/tool"), "changed").unwrap();
        let restored = restore(&destination, &captured.entries, &mut |_| false, &store);
        match restored.unwrap() {
            Restoration::Done(restored) => assert_eq!(restored.written, 4),
            Restoration::Miss { path, .. } => panic!("{path} is missing: {:?}", codes(&store)),
        }
        let again = capture(&stage, &specs(), &store).unwrap();
        assert_eq!(again.entries, captured.entries);
        assert!(is_clear());
    });
}

#[test]
fn restore_to_a_full_disk_leaves_the_tree() {
    let script = "mkdir small && mount -t tmpfs -o size=300k none small";
    inside("restore_to_a_full_disk_leaves_the_tree", script, |folder| {
        let root = Root::open(&folder.join("small")).unwrap();
        let stage = Stage::new(
            &root,
            &root.path().join("state"),
            &root.path().join("trash"),
            Vec::new(),
        );
        let store = Disk::open(&folder.join("cache"), Durability::Batched, &user::key());
        fill(root.path());
        fs::write(root.path().join("out/big"), vec![b'x'; 100_000]).unwrap();
        let captured = capture(&stage, &specs(), &store).unwrap();
        let specs = specs();
        let destination = Destination {
            stage: &stage,
            specs: &specs,
            claims: &AllOwned,
        };
        fs::write(root.path().join("out/big"), "changed").unwrap();
        fs::write(root.path().join("ballast"), vec![b'x'; 250_000]).unwrap();
        let before = tree(&root.path().join("out"));
        let error = restore(&destination, &captured.entries, &mut |_| false, &store);
        let error = error.unwrap_err();
        assert!(error.is_miss(), "a command may need less room");
        assert!(
            error
                .to_string()
                .starts_with("cannot write a file in the folder"),
            "{error}"
        );
        assert_eq!(tree(&root.path().join("out")), before);
        fs::remove_file(root.path().join("ballast")).unwrap();
        let restored = restore(&destination, &captured.entries, &mut |_| false, &store);
        assert!(matches!(restored.unwrap(), Restoration::Done(_)));
    });
}

#[test]
fn blob_over_the_file_size_limit_is_not_kept() {
    let script = "trap '' XFSZ && ulimit -f 200";
    inside(
        "blob_over_the_file_size_limit_is_not_kept",
        script,
        |folder| {
            let store = Disk::open(&folder.join("cache"), Durability::Batched, &user::key());
            assert!(write(&store, &content(1, 50_000)).1);
            assert!(!write(&store, &content(2, 250_000)).1);
            assert!(!write(&store, &content(3, 1_000_000)).1);
            assert!(write(&store, &content(4, 50_000)).1);
            assert_eq!(codes(&store), ["fbuild::store::write"]);
            assert_eq!(store.verify(false).unwrap().damaged, []);
        },
    );
}
