//! Tests capture, restore and stash on real trees.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::action::{Entry, EntryKind, OutputSpec};
use crate::digest::{BUFFER_SIZE, Digest, Key};
use crate::glob::Pattern;
use crate::path::{MAX_PATH, Root};
use crate::stamp::{self, FileKind, FileMode};
use crate::store::disk::Durability;
use crate::store::spy::SpyStore;
use crate::store::{Disk, Memory, Store};

/// A workspace with a stage and a store, all in one temporary folder.
struct Sample {
    folder: tempfile::TempDir,
    stage: Stage,
    store: Memory,
}

/// Returns the stage of a tree with this state folder.
fn stage(root: &Root, state: &str, excluded: Vec<RelPath>) -> Stage {
    let at = |name: &str| root.path().join(name);
    Stage::new(root, &at(state), &at(".build-trash"), excluded)
}

/// An entry of a tree, for comparisons.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    File(Vec<u8>, bool),
    Link(Vec<u8>),
    Folder,
}

impl Sample {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("root")).unwrap();
        let root = Root::open(&folder.path().join("root")).unwrap();
        let stage = stage(&root, ".build-cache", Vec::new());
        let store = Memory::new();
        Self {
            folder,
            stage,
            store,
        }
    }

    fn path(&self, below: impl AsRef<[u8]>) -> PathBuf {
        let below = OsStr::from_bytes(below.as_ref());
        self.folder.path().join("root").join(below)
    }

    fn write(&self, below: impl AsRef<[u8]>, content: impl AsRef<[u8]>) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn read(&self, below: &str) -> Option<String> {
        fs::read_to_string(self.path(below)).ok()
    }

    fn capture(&self, specs: &[OutputSpec]) -> Result<CapturedOutputs, Error> {
        capture(&self.stage, specs, &self.store)
    }

    fn entries(&self, specs: &[OutputSpec]) -> Vec<Entry> {
        self.capture(specs).unwrap().entries
    }

    fn restore(&self, specs: &[OutputSpec], wanted: &[Entry]) -> Result<Restoration, Error> {
        let mut is_intact = |entry: &Entry| self.is_intact(entry);
        restore(
            &self.destination(specs),
            wanted,
            &mut is_intact,
            &self.store,
        )
    }

    fn destination<'a>(&'a self, specs: &'a [OutputSpec]) -> Destination<'a> {
        Destination {
            stage: &self.stage,
            specs,
            claims: &AllOwned,
        }
    }

    fn restored(&self, specs: &[OutputSpec], wanted: &[Entry]) -> RestoredOutputs {
        match self.restore(specs, wanted).unwrap() {
            Restoration::Done(restored) => restored,
            Restoration::Miss { path, .. } => panic!("{path} is missing"),
        }
    }

    fn is_intact(&self, entry: &Entry) -> bool {
        let path = self.path(entry.path.as_bytes());
        let EntryKind::File { digest, mode } = &entry.kind else {
            return false;
        };
        let Ok(metadata) = path.symlink_metadata() else {
            return false;
        };
        metadata.is_file()
            && (metadata.mode() & 0o100 != 0) == mode.is_executable()
            && Digest::of(&fs::read(path).unwrap()) == *digest
    }

    fn tree(&self) -> BTreeMap<PathBuf, Node> {
        let mut nodes = BTreeMap::new();
        snapshot(&self.path(""), Path::new(""), &mut nodes);
        nodes
    }

    /// Returns the paths of the entries of the stage.
    fn staged(&self) -> Vec<PathBuf> {
        let stage = self.path(".build-cache/stage");
        let Ok(entries) = fs::read_dir(stage) else {
            return Vec::new();
        };
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    fn inode(&self, below: &str) -> u64 {
        self.path(below).symlink_metadata().unwrap().ino()
    }
}

fn snapshot(folder: &Path, below: &Path, nodes: &mut BTreeMap<PathBuf, Node>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() == ".build-cache" || entry.file_name() == ".build-trash" {
            continue;
        }
        let (path, name) = (entry.path(), below.join(entry.file_name()));
        let metadata = path.symlink_metadata().unwrap();
        let node = if metadata.is_symlink() {
            Node::Link(
                fs::read_link(&path)
                    .unwrap()
                    .as_os_str()
                    .as_bytes()
                    .to_vec(),
            )
        } else if metadata.is_dir() {
            snapshot(&path, &name, nodes);
            Node::Folder
        } else {
            Node::File(fs::read(&path).unwrap(), metadata.mode() & 0o100 != 0)
        };
        nodes.insert(name, node);
    }
}

/// Parses outputs: `a`, `a/` or `*.a`, with a leading `+` for committed and `!` before each
/// kept pattern.
fn specs(texts: &[&str]) -> Vec<OutputSpec> {
    let spec = |text: &&str| {
        let (output, keep) = text.split_once('!').unwrap_or((text, ""));
        let (committed, output) = match output.strip_prefix('+') {
            Some(output) => (true, output),
            None => (false, output),
        };
        let output = match output.strip_suffix('/') {
            Some(folder) => Output::Folder(RelPath::new(folder).unwrap()),
            None if output.contains('*') => Output::Glob(Pattern::new(output).unwrap()),
            None => Output::File(RelPath::new(output).unwrap()),
        };
        let keep = keep.split('!').filter(|k| !k.is_empty());
        let keep = keep.map(|k| Pattern::new(k).unwrap()).collect();
        OutputSpec {
            output,
            committed,
            keep,
        }
    };
    texts.iter().map(spec).collect()
}

fn paths(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| entry.path.to_string()).collect()
}

fn code(error: &Error) -> String {
    miette::Diagnostic::code(error).unwrap().to_string()
}

fn make_pipe(path: &Path) {
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
}

#[test]
fn stash_can_be_sent_to_another_thread() {
    fn is_send<T: Send>() {}
    fn is_shared<T: Send + Sync>() {}
    is_send::<Stash>();
    is_shared::<Stage>();
}

mod capturing {
    use super::*;

    #[test]
    fn folder_is_captured_whole_and_pattern_only_files() {
        let sample = Sample::new();
        sample.write("out/a/b", "b");
        sample.write("out/.hidden", "");
        sample.write("gen/x.go", "x");
        sample.write("gen/sub.go/y.go", "y");
        fs::create_dir(sample.path("out/empty")).unwrap();
        symlink("nowhere", sample.path("gen/link.go")).unwrap();
        symlink("/", sample.path("out/root")).unwrap();
        let entries = sample.entries(&specs(&["out/", "gen/*.go"]));
        let expected = [
            "gen/link.go",
            "gen/x.go",
            "out",
            "out/.hidden",
            "out/a",
            "out/a/b",
            "out/empty",
            "out/root",
        ];
        assert_eq!(paths(&entries), expected);
    }

    #[test]
    fn pattern_matches_files_in_subfolders() {
        let sample = Sample::new();
        for path in ["gen/a/b/x.go", "gen/x.go", "gen/a/x.txt", "else/x.go"] {
            sample.write(path, "");
        }
        let entries = sample.entries(&specs(&["gen/**/*.go"]));
        assert_eq!(paths(&entries), ["gen/a/b/x.go", "gen/x.go"]);
    }

    #[test]
    fn path_over_the_maximum_length_is_an_error() {
        let sample = Sample::new();
        sample.write("x/abc", "");
        let folder = fs::File::open(sample.path("x")).unwrap().into();
        let is_listed = |length: usize| {
            let last = "d".repeat(2 - length % 2);
            let path = "d/".repeat((length - last.len()) / 2) + &last;
            assert_eq!(path.len(), length);
            list::read_folder(&folder, &RelPath::new(path).unwrap()).is_ok()
        };
        let longest = MAX_PATH - "/abc".len();
        let lengths = [longest, longest + 1, longest + 2, longest + 4];
        assert_eq!(lengths.map(is_listed), [true, false, false, false]);
    }

    #[test]
    fn kept_files_and_their_folders_are_not_captured() {
        let sample = Sample::new();
        sample.write("out/a", "");
        sample.write("out/keep", "");
        sample.write("out/only/kept/keep", "");
        sample.write("out/both/keep", "");
        sample.write("out/both/own", "");
        sample.write("out/modules/x/y", "");
        sample.write("out/clone/.git/HEAD", "");
        sample.write("out/clone/a", "");
        fs::create_dir(sample.path("out/empty")).unwrap();
        let specs = specs(&["out/!out/**/keep!out/keep!out/modules/**"]);
        let expected = [
            "out",
            "out/a",
            "out/both",
            "out/both/own",
            "out/clone",
            "out/clone/a",
            "out/empty",
        ];
        assert_eq!(paths(&sample.entries(&specs)), expected);
    }

    #[test]
    fn state_cache_and_git_folders_are_not_listed() {
        let sample = Sample::new();
        sample.write("a.x", "");
        sample.write(".build-cache/b.x", "");
        sample.write("other/cache/c.x", "");
        sample.write(".git/d.x", "");
        sample.write("sub/.git/e.x", "");
        let root = sample.stage.root();
        let cache = RelPath::new("other/cache").unwrap();
        let stage = stage(root, ".build-cache", vec![cache]);
        let found = list::list_one(&stage, &specs(&["**/*.x"])[0]).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn missing_or_wrong_output_is_named() {
        let sample = Sample::new();
        sample.write("a", "");
        sample.write("folder/x", "");
        for (text, expected) in [
            ("missing", "the declared output `missing` was not made"),
            ("no/parent", "the declared output `no/parent` was not made"),
            ("a/below", "the declared output `a/below` was not made"),
            ("out/", "the declared output `out/` was not made"),
            ("*.go", "the declared output `*.go` was not made"),
            (
                "folder",
                "the declared output `folder` is a folder, not a file",
            ),
            ("a/", "the declared output `a` is a file, not a folder"),
        ] {
            let error = sample.capture(&specs(&["a", text])).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn pipe_or_setuid_file_is_refused() {
        let sample = Sample::new();
        fs::create_dir(sample.path("out")).unwrap();
        make_pipe(&sample.path("out/pipe"));
        let error = sample.capture(&specs(&["out/"])).unwrap_err();
        assert_eq!(code(&error), "fbuild::store::output_special");
        sample.write("tool", "");
        fs::set_permissions(sample.path("tool"), fs::Permissions::from_mode(0o4755)).unwrap();
        let error = sample.capture(&specs(&["tool"])).unwrap_err();
        assert_eq!(code(&error), "fbuild::store::output_setuid");
    }

    #[test]
    fn output_behind_a_link_is_refused() {
        let sample = Sample::new();
        sample.write("real/sub/a", "");
        symlink("real", sample.path("link")).unwrap();
        for text in ["link/sub/a", "link/sub/", "link/sub/*"] {
            let error = sample.capture(&specs(&[text])).unwrap_err();
            assert_eq!(code(&error), "fbuild::store::output_through_link", "{text}");
            assert!(
                error
                    .to_string()
                    .ends_with("behind the symbolic link `link`")
            );
        }
    }

    #[test]
    fn file_that_changes_during_capture_is_an_error() {
        let sample = Sample::new();
        sample.write("a", "content");
        let meddle = || {
            let mut file = fs::OpenOptions::new();
            let mut file = file.append(true).open(sample.path("a")).unwrap();
            io::Write::write_all(&mut file, b"more").unwrap();
        };
        let store = SpyStore::new(&sample.store).after_write(&meddle);
        let error = capture(&sample.stage, &specs(&["a"]), &store).unwrap_err();
        assert_eq!(code(&error), "fbuild::store::output_changed");
    }

    #[test]
    fn entries_are_the_same_without_a_store() {
        let sample = Sample::new();
        sample.write("a", "content");
        sample.write("b", vec![1; BUFFER_SIZE * 2]);
        sample.write("not-a-folder", "");
        let off = Disk::open(
            &sample.path("not-a-folder"),
            Durability::Batched,
            &Key::new([7; 32]),
        );
        let specs = specs(&["a", "b"]);
        let captured = capture(&sample.stage, &specs, &off).unwrap();
        assert!(!captured.is_stored);
        assert_eq!(captured.entries, sample.entries(&specs));
        assert_eq!(captured.stamps.len(), 2);
    }
}

mod restoring {
    use super::*;

    fn busy_sample() -> (Sample, Vec<OutputSpec>, Vec<Entry>) {
        let sample = Sample::new();
        sample.write("bin/tool", "tool");
        fs::set_permissions(sample.path("bin/tool"), fs::Permissions::from_mode(0o755)).unwrap();
        sample.write("out/a/b", "b");
        sample.write("out/c", vec![3; BUFFER_SIZE * 2]);
        sample.write(b"out/odd\n\xff \"'", "odd");
        fs::create_dir(sample.path("out/empty")).unwrap();
        symlink("../bin/tool", sample.path("out/link")).unwrap();
        symlink("dangling", sample.path("out/a/dangling")).unwrap();
        sample.write("gen/x.go", "x");
        let specs = specs(&["bin/tool", "out/!out/kept/**", "gen/*.go"]);
        let entries = sample.entries(&specs);
        (sample, specs, entries)
    }

    #[test]
    fn second_restore_writes_nothing() {
        let (sample, specs, entries) = busy_sample();
        fs::remove_dir_all(sample.path("out")).unwrap();
        sample.restored(&specs, &entries);
        let inode = sample.inode("out/c");
        let again = sample.restored(&specs, &entries);
        assert_eq!((again.written, again.removed), (0, 0));
        assert_eq!(sample.inode("out/c"), inode);
        assert_eq!(sample.staged(), <[PathBuf; 0]>::default());
    }

    #[test]
    fn restore_returns_deleted_outputs() {
        let (sample, specs, entries) = busy_sample();
        let before = sample.tree();
        for name in ["bin", "out", "gen"] {
            fs::remove_dir_all(sample.path(name)).unwrap();
        }
        let then = stamp::now();
        let restored = sample.restored(&specs, &entries);
        assert!((then..=stamp::now()).contains(&restored.looked_at));
        assert_eq!(sample.tree(), before);
        assert_eq!((restored.written, restored.removed), (7, 0));
        assert_eq!(restored.stamps.len(), 5);
        let mode = |below: &str| sample.path(below).metadata().unwrap().mode() & 0o7777;
        assert_eq!((mode("bin/tool"), mode("gen/x.go")), (0o755, 0o644));
    }

    #[test]
    fn restore_keeps_narrow_permissions() {
        let sample = Sample::new();
        let modes = [
            0o600, 0o640, 0o644, 0o700, 0o750, 0o755, 0o444, 0o555, 0o664,
        ];
        for mode in modes {
            let path = format!("out/{mode:o}");
            sample.write(&path, "");
            fs::set_permissions(sample.path(&path), fs::Permissions::from_mode(mode)).unwrap();
        }
        let specs = specs(&["out/"]);
        let entries = sample.entries(&specs);
        fs::remove_dir_all(sample.path("out")).unwrap();
        sample.restored(&specs, &entries);
        for mode in modes {
            let path = sample.path(format!("out/{mode:o}"));
            let restored = path.metadata().unwrap().mode() & 0o777;
            assert_eq!(restored & !mode, 0, "{mode:o} became {restored:o}");
            assert_eq!(restored & 0o700, mode & 0o700, "{mode:o}");
        }
    }

    #[test]
    fn restore_removes_other_files_except_kept_ones() {
        let (sample, specs, entries) = busy_sample();
        let mut expected = sample.tree();
        sample.write("out/kept/deep/file", "kept");
        sample.write("out/extra/deep/file", "");
        sample.write("out/a/extra", "");
        sample.write("gen/old.go", "");
        sample.write("gen/hand.txt", "not an output");
        symlink("/etc", sample.path("out/a/etc")).unwrap();
        make_pipe(&sample.path("out/pipe"));
        let restored = sample.restored(&specs, &entries);
        assert_eq!((restored.written, restored.removed), (0, 5));
        expected.insert("out/kept".into(), Node::Folder);
        expected.insert("out/kept/deep".into(), Node::Folder);
        expected.insert(
            "out/kept/deep/file".into(),
            Node::File(b"kept".to_vec(), false),
        );
        let hand = Node::File(b"not an output".to_vec(), false);
        expected.insert("gen/hand.txt".into(), hand);
        assert_eq!(sample.tree(), expected);
    }

    #[test]
    fn restore_replaces_any_kind_by_any_other() {
        let kinds: [&dyn Fn(&Path); 4] = [
            &|path| fs::write(path, "file").unwrap(),
            &|path| symlink("/etc", path).unwrap(),
            &|path| {
                fs::create_dir(path).unwrap();
                fs::write(path.join("inner"), "").unwrap();
            },
            &|path| fs::create_dir(path).unwrap(),
        ];
        for (text, place) in [("out/", "out/x"), ("x", "x")] {
            for make in kinds {
                for replace in kinds {
                    let sample = Sample::new();
                    fs::create_dir(sample.path("out")).unwrap();
                    make(&sample.path(place));
                    let specs = specs(&[text]);
                    let Ok(captured) = sample.capture(&specs) else {
                        continue;
                    };
                    let before = sample.tree();
                    let path = sample.path(place);
                    fs::remove_file(&path)
                        .or_else(|_| fs::remove_dir_all(&path))
                        .unwrap();
                    replace(&path);
                    sample.restored(&specs, &captured.entries);
                    assert_eq!(sample.tree(), before);
                    assert_eq!(sample.staged(), <[PathBuf; 0]>::default());
                }
            }
        }
    }

    #[test]
    fn folder_with_kept_files_is_not_replaced() {
        let sample = Sample::new();
        sample.write("out/x", "file");
        let specs = specs(&["out/!out/x/keep"]);
        let entries = sample.entries(&specs);
        fs::remove_file(sample.path("out/x")).unwrap();
        sample.write("out/x/keep", "kept");
        let error = sample.restore(&specs, &entries).unwrap_err();
        assert_eq!(code(&error), "fbuild::store::output_kept");
        assert_eq!(sample.read("out/x/keep").unwrap(), "kept");
    }

    #[test]
    fn missing_blob_leaves_the_tree_unchanged() {
        let (sample, specs, entries) = busy_sample();
        sample.write("out/c", "changed");
        sample.write("out/extra", "extra");
        fs::remove_file(sample.path("bin/tool")).unwrap();
        let before = sample.tree();
        for entry in entries.iter().rev() {
            let EntryKind::File { digest, .. } = entry.kind else {
                continue;
            };
            if sample.is_intact(entry) {
                continue;
            }
            let good = sample.store.read(digest).unwrap().unwrap();
            let good: Vec<u8> = io::Read::bytes(good).map(Result::unwrap).collect();
            for damage in [
                None,
                Some(&good[1..]),
                Some(&[&good[1..], b"?"].concat()[..]),
            ] {
                match damage {
                    None => sample.store.forget(digest),
                    Some(bytes) => sample.store.damage(digest, bytes),
                }
                match sample.restore(&specs, &entries).unwrap() {
                    Restoration::Miss {
                        digest: missing,
                        path,
                    } => {
                        assert_eq!((missing, &path), (digest, &entry.path));
                    }
                    Restoration::Done(_) => panic!("restored from a damaged store"),
                }
                assert_eq!(sample.tree(), before);
                assert_eq!(sample.staged(), <[PathBuf; 0]>::default());
            }
            sample.store.damage(digest, &good);
        }
        sample.restored(&specs, &entries);
    }

    #[test]
    fn failed_restore_empties_the_stage() {
        let (sample, specs, entries) = busy_sample();
        fs::remove_dir_all(sample.path("out")).unwrap();
        let before = sample.tree();
        sample.store.forget(Digest::of(&vec![3; BUFFER_SIZE * 2]));
        let restored = sample.restore(&specs, &entries).unwrap();
        assert!(matches!(restored, Restoration::Miss { .. }));
        assert_eq!(sample.tree(), before);
        assert_eq!(sample.staged(), <[PathBuf; 0]>::default());
    }

    #[test]
    fn folder_replaced_by_a_file_counts_once() {
        let sample = Sample::new();
        sample.write("out/x", "file");
        let specs = specs(&["out/"]);
        let entries = sample.entries(&specs);
        fs::remove_file(sample.path("out/x")).unwrap();
        sample.write("out/x/a", "");
        sample.write("out/x/b/c", "");
        let restored = sample.restored(&specs, &entries);
        assert_eq!((restored.written, restored.removed), (1, 1));
        assert_eq!(sample.read("out/x").unwrap(), "file");
    }

    #[test]
    fn restore_keeps_few_files_open() {
        let sample = Sample::new();
        for number in 0..300 {
            sample.write(format!("out/{number}"), "content");
        }
        let specs = specs(&["out/"]);
        let entries = sample.entries(&specs);
        fs::remove_dir_all(sample.path("out")).unwrap();
        let stage = sample.path("").canonicalize().unwrap().join(".build-cache");
        let most = AtomicUsize::new(0);
        let count = || {
            let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
            let open = open.filter_map(|entry| fs::read_link(entry.path()).ok());
            let open = open.filter(|to| to.starts_with(&stage)).count();
            most.fetch_max(open, Ordering::Relaxed);
        };
        let counting = SpyStore::new(&sample.store).before_read(&count);
        let restored = restore(
            &sample.destination(&specs),
            &entries,
            &mut |_| false,
            &counting,
        );
        assert!(matches!(restored, Ok(Restoration::Done(_))));
        // One more is being written, and the stage is open.
        assert!((1..=66).contains(&most.into_inner()));
        assert_eq!(sample.entries(&specs), entries);
    }

    #[test]
    fn link_in_the_path_is_never_followed() {
        for planted in [
            "p",
            "p/q",
            "p/q/out",
            "p/q/out/a",
            "p/q/out/a/b",
            "p/q/file",
        ] {
            let sample = Sample::new();
            let outside = sample.folder.path().join("outside");
            fs::create_dir_all(outside.join("q/out/a/b")).unwrap();
            fs::create_dir_all(outside.join("out/a/b")).unwrap();
            fs::write(outside.join("file"), "outside").unwrap();
            sample.write("p/q/out/a/b/c", "c");
            sample.write("p/q/file", "file");
            symlink("x", sample.path("p/q/out/a/b/link")).unwrap();
            let specs = specs(&["p/q/out/", "p/q/file"]);
            let entries = sample.entries(&specs);
            let (before, outer) = (sample.tree(), tree_of(&outside));
            let place = sample.path(planted);
            fs::remove_dir_all(&place)
                .or_else(|_| fs::remove_file(&place))
                .unwrap();
            let to = if planted == "p/q/file" {
                outside.join("file")
            } else {
                outside.clone()
            };
            symlink(to, &place).unwrap();
            match sample.restore(&specs, &entries) {
                Ok(_) => assert_eq!(sample.tree(), before, "{planted}"),
                Err(error) => {
                    assert_eq!(code(&error), "fbuild::store::output_through_link");
                    assert!(!error.is_miss(), "a command would fail too");
                }
            }
            let stash = Stash::take(&sample.stage, &specs, &AllOwned);
            drop(stash);
            assert_eq!(tree_of(&outside), outer, "{planted}");
        }
    }

    fn tree_of(folder: &Path) -> BTreeMap<PathBuf, Node> {
        let mut nodes = BTreeMap::new();
        snapshot(folder, Path::new(""), &mut nodes);
        nodes
    }

    #[test]
    fn result_with_undeclared_entry_writes_nothing() {
        let sample = Sample::new();
        let digest = sample.store.write(&mut &b"evil"[..]).unwrap();
        let file = |path: &str| Entry {
            path: RelPath::new(path).unwrap(),
            kind: EntryKind::File {
                digest,
                mode: FileMode::EXECUTABLE,
            },
        };
        let folder = |path: &str| Entry {
            kind: EntryKind::Folder,
            ..file(path)
        };
        let specs = specs(&["out/!out/kept/**!out/keep", "bin", "gen/*.go"]);
        let honest = [file("bin"), file("gen/a.go"), folder("out"), file("out/a")];
        let hostile = [
            file("Makefile"),
            file("bin/below"),
            file("binary"),
            file("gen/sub/b.go"),
            folder("gen/folder.go"),
            file("gen/b.txt"),
            file("out/keep"),
            file("out/kept/x"),
            folder("out/kept"),
            file("out/.git/hooks/post-checkout"),
            file("out2/a"),
            folder("."),
            folder("gen"),
        ];
        for entry in hostile {
            let mut wanted = honest.to_vec();
            wanted.push(entry.clone());
            wanted.sort_by(|a, b| a.path.cmp(&b.path));
            let error = sample.restore(&specs, &wanted).unwrap_err();
            assert!(error.is_miss(), "{entry:?}: {error}");
        }
        for lacking in 0..3 {
            let mut wanted = honest.to_vec();
            wanted.remove(lacking);
            let error = sample.restore(&specs, &wanted).unwrap_err();
            assert_eq!(code(&error), "fbuild::store::output_lacking");
        }
        assert_eq!(sample.tree(), BTreeMap::new());
        sample.restored(&specs, &honest);
    }

    #[test]
    fn file_in_the_place_of_a_parent_is_an_error() {
        let sample = Sample::new();
        sample.write("gen/a/x", "x");
        let specs = specs(&["gen/a/x"]);
        let entries = sample.entries(&specs);
        fs::remove_dir_all(sample.path("gen")).unwrap();
        sample.write("gen", "a file of the user");
        let error = sample.restore(&specs, &entries).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the output `gen/a` cannot be made: `gen` is not a folder"
        );
        assert!(!error.is_miss());
        assert_eq!(sample.read("gen").unwrap(), "a file of the user");
    }

    #[test]
    fn threads_restore_into_the_same_new_folders() {
        let sample = Sample::new();
        let store = Disk::open(
            &sample.path(".build-cache"),
            Durability::None,
            &Key::new([7; 32]),
        );
        let all: Vec<String> = (0..200).map(|n| format!("deep/er/{}/{n}", n % 3)).collect();
        let spec = |text: &String| specs(&[text]);
        let entries = |text: &String| {
            sample.write(text, text);
            capture(&sample.stage, &spec(text), &store).unwrap().entries
        };
        let all: Vec<_> = all.iter().map(|text| (spec(text), entries(text))).collect();
        let before = sample.tree();
        fs::remove_dir_all(sample.path("deep")).unwrap();
        std::thread::scope(|scope| {
            for some in all.chunks(25) {
                let (sample, store) = (&sample, &store);
                scope.spawn(move || {
                    for (specs, entries) in some {
                        let destination = sample.destination(specs);
                        restore(&destination, entries, &mut |_| false, store).unwrap();
                    }
                });
            }
        });
        assert_eq!(sample.tree(), before);
    }
}

mod stashing {
    use super::*;

    fn specs_of_all() -> Vec<OutputSpec> {
        specs(&[
            "+bin/tool",
            "+out/!out/kept/**!out/sub/keep",
            "+gen/*.go",
            "new/file",
            "new/dir/",
        ])
    }

    fn sample() -> Sample {
        let sample = Sample::new();
        sample.write("bin/tool", "tool");
        sample.write("bin/other", "other");
        sample.write("out/a/b/c", "c");
        sample.write("out/kept/x", "kept");
        sample.write("out/sub/keep", "kept");
        sample.write("out/sub/own", "own");
        sample.write("out/sub/deep/own", "own");
        sample.write("gen/x.go", "x");
        sample.write("gen/x.txt", "not ours");
        symlink("a", sample.path("out/link")).unwrap();
        sample
    }

    fn cleared() -> Vec<&'static str> {
        vec![
            "bin",
            "bin/other",
            "gen",
            "gen/x.txt",
            "new",
            "new/dir",
            "out",
            "out/kept",
            "out/kept/x",
            "out/sub",
            "out/sub/keep",
        ]
    }

    #[test]
    fn stash_restore_returns_all_outputs() {
        let sample = sample();
        let mut before = sample.tree();
        let inode = sample.inode("out/a/b/c");
        let stash = Stash::take(&sample.stage, &specs_of_all(), &AllOwned).unwrap();
        let tree = sample.tree();
        let names: Vec<&str> = tree.keys().map(|p| p.to_str().unwrap()).collect();
        assert_eq!(names, cleared());
        sample.write("bin/tool/is/a/folder", "");
        sample.write("out/a", "now a file");
        sample.write("out/new/x", "");
        sample.write("gen/y.go", "");
        sample.write("new/file", "");
        sample.write("new/dir/x", "");
        sample.write("out/sub/new", "");
        fs::remove_file(sample.path("out/kept/x")).unwrap();
        stash.restore().unwrap();
        // Kept files are not restored, and the parent of a declared file stays.
        before.remove(Path::new("out/kept/x"));
        before.insert("new".into(), Node::Folder);
        assert_eq!(sample.tree(), before);
        assert_eq!(sample.inode("out/a/b/c"), inode);
        assert_eq!(sample.staged(), <[PathBuf; 0]>::default());
    }

    #[test]
    fn drop_restores_the_stash() {
        let sample = sample();
        let mut before = sample.tree();
        drop(Stash::take(&sample.stage, &specs_of_all(), &AllOwned).unwrap());
        before.insert("new".into(), Node::Folder);
        assert_eq!(sample.tree(), before);
    }

    #[test]
    fn finish_removes_the_old_outputs() {
        let sample = sample();
        Stash::take(&sample.stage, &specs_of_all(), &AllOwned)
            .unwrap()
            .finish()
            .unwrap();
        let tree = sample.tree();
        let names: Vec<&str> = tree.keys().map(|p| p.to_str().unwrap()).collect();
        assert_eq!(names, cleared());
        assert_eq!(sample.staged(), <[PathBuf; 0]>::default());
    }

    #[test]
    fn finish_reinstates_unchanged_committed_files() {
        let sample = sample();
        sample.write("plain", "plain");
        let mut specs = specs_of_all();
        specs.extend(super::specs(&["plain"]));
        let inodes = [
            "bin/tool",
            "out/a/b/c",
            "out/link",
            "out/sub/own",
            "gen/x.go",
            "plain",
        ];
        let inodes = inodes.map(|below| (below, sample.inode(below)));
        let stash = Stash::take(&sample.stage, &specs, &AllOwned).unwrap();
        sample.write("bin/tool", "tool");
        sample.write("out/a/b/c", "c");
        sample.write("out/sub/own", "new");
        sample.write("gen/x.go", "x");
        sample.write("plain", "plain");
        symlink("a", sample.path("out/link")).unwrap();
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(sample.path("gen/x.go"), executable).unwrap();
        let expected = sample.tree();
        assert_eq!(stash.finish().unwrap().reinstated, 3);
        assert_eq!(sample.tree(), expected);
        let kept = inodes.map(|(below, inode)| sample.inode(below) == inode);
        assert_eq!(kept, [true, true, true, false, false, false]);
        assert_eq!(sample.staged(), <[PathBuf; 0]>::default());
    }

    #[test]
    fn finish_keeps_a_changed_committed_file() {
        let sample = Sample::new();
        sample.write("tool", "tool");
        let stash = Stash::take(&sample.stage, &specs(&["+tool"]), &AllOwned).unwrap();
        sample.write("tool", "tool and more");
        assert_eq!(stash.finish().unwrap().reinstated, 0);
        assert_eq!(sample.read("tool").unwrap(), "tool and more");
    }

    #[test]
    fn failed_stash_restore_is_an_error() {
        let sample = Sample::new();
        sample.write("folder/out", "old");
        let stash = Stash::take(&sample.stage, &specs(&["folder/out"]), &AllOwned).unwrap();
        fs::rename(sample.path("folder"), sample.path("moved")).unwrap();
        symlink("moved", sample.path("folder")).unwrap();
        let error = stash.restore().unwrap_err();
        assert_eq!(code(&error), "fbuild::store::output_through_link");
        assert_eq!(sample.read("moved/out"), None);
    }

    #[test]
    fn stash_restore_replaces_a_file_by_the_folder() {
        let sample = Sample::new();
        sample.write("out/a", "old");
        let before = sample.tree();
        let stash = Stash::take(&sample.stage, &specs(&["out/"]), &AllOwned).unwrap();
        fs::remove_dir(sample.path("out")).unwrap();
        sample.write("out", "a file");
        stash.restore().unwrap();
        assert_eq!(sample.tree(), before);
    }

    #[test]
    fn excluded_folder_in_an_owned_folder_stays() {
        let sample = Sample::new();
        sample.write("out/deep/er/cache/x", "");
        sample.write("out/deep/own", "");
        sample.write("out/own/x", "");
        let root = sample.stage.root();
        let cache = RelPath::new("out/deep/er/cache").unwrap();
        let stage = stage(root, ".build-cache", vec![cache]);
        let inode = sample.inode("out/deep");
        Stash::take(&stage, &specs(&["out/"]), &AllOwned)
            .unwrap()
            .finish()
            .unwrap();
        let left: Vec<PathBuf> = sample.tree().into_keys().collect();
        let expected = ["out", "out/deep", "out/deep/er", "out/deep/er/cache"];
        let expected = expected.into_iter().chain(["out/deep/er/cache/x"]);
        assert_eq!(left, expected.map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(sample.inode("out/deep"), inode);
    }

    #[test]
    fn stage_that_is_a_file_is_an_error() {
        let sample = Sample::new();
        sample.write(".build-cache/stage", "a file");
        sample.write("tool", "old");
        let root = sample.stage.root();
        let below = stage(root, "tool/state", Vec::new());
        for stage in [&sample.stage, &below] {
            assert!(stage.folder().is_err());
            let error = recover(stage, &|_| true).unwrap_err();
            assert_eq!(code(&error), "fbuild::store::stage");
        }
        assert_eq!(sample.read("tool").unwrap(), "old");
    }

    #[test]
    fn stash_takes_entries_of_any_kind() {
        let sample = Sample::new();
        sample.write("file/inner", "");
        sample.write("folder", "");
        symlink("/", sample.path("link")).unwrap();
        make_pipe(&sample.path("pipe"));
        let before = sample.path("pipe").symlink_metadata().unwrap().ino();
        let specs = specs(&["file", "folder/", "link/", "pipe"]);
        let stash = Stash::take(&sample.stage, &specs, &AllOwned).unwrap();
        assert_eq!(
            sample.tree().into_values().collect::<Vec<_>>(),
            [Node::Folder, Node::Folder]
        );
        sample.write("file", "");
        stash.restore().unwrap();
        assert!(sample.path("file/inner").is_file());
        assert!(sample.path("folder").is_file());
        assert!(sample.path("link").is_symlink());
        assert_eq!(sample.inode("pipe"), before);
    }

    #[test]
    fn failed_take_restores_moved_outputs() {
        let sample = sample();
        symlink("bin", sample.path("loop")).unwrap();
        let before = sample.tree();
        let error = Stash::take(
            &sample.stage,
            &specs(&["bin/tool", "out/", "loop/x"]),
            &AllOwned,
        )
        .unwrap_err();
        assert_eq!(code(&error), "fbuild::store::output_through_link");
        assert_eq!(sample.tree(), before);
    }

    /// Creates a folder with paths over the maximum length.
    fn make_endless(sample: &Sample, below: &str) {
        let deep = [&"d".repeat(240); 10].map(String::as_str).join("/");
        sample.write("tail/file", "");
        fs::create_dir_all(sample.path("tail").join(&deep)).unwrap();
        fs::create_dir_all(sample.path(below).join(&deep)).unwrap();
        let end = sample.path(below).join(&deep).join("tail");
        fs::rename(sample.path("tail"), end).unwrap();
    }

    #[test]
    fn folders_without_matches_are_not_walked() {
        let sample = Sample::new();
        for folder in ["out/any", "out/kept/any", "gen/any"] {
            make_endless(&sample, folder);
        }
        for file in ["out/a", "out/kept/a.txt", "gen/x.go"] {
            sample.write(file, "old");
        }
        let inodes = ["out/any", "out/kept/any", "gen/any"];
        let inodes = inodes.map(|folder| (folder, sample.inode(folder)));
        let specs = specs(&["out/!out/kept/*.txt", "gen/*.go"]);
        let stash = Stash::take(&sample.stage, &specs, &AllOwned).unwrap();
        let is_there = inodes.map(|(folder, _)| sample.path(folder).exists());
        assert_eq!(is_there, [false, false, true]);
        assert_eq!(sample.read("out/kept/a.txt").unwrap(), "old");
        stash.restore().unwrap();
        for (folder, inode) in inodes {
            assert_eq!(sample.inode(folder), inode);
        }
        for file in ["out/a", "out/kept/a.txt", "gen/x.go"] {
            assert_eq!(sample.read(file).unwrap(), "old");
        }
    }

    #[test]
    fn read_only_and_deep_folders_are_stashed() {
        let sample = Sample::new();
        let deep = format!("out/{}file", "d/".repeat(1500));
        sample.write("out/ro/inner/file", "");
        for below in ["out/ro/inner", "out/ro"] {
            fs::set_permissions(sample.path(below), fs::Permissions::from_mode(0o555)).unwrap();
        }
        sample.write(deep, "");
        let specs = specs(&["out/"]);
        Stash::take(&sample.stage, &specs, &AllOwned)
            .unwrap()
            .restore()
            .unwrap();
        assert!(sample.path("out/ro/inner/file").is_file());
        Stash::take(&sample.stage, &specs, &AllOwned)
            .unwrap()
            .finish()
            .unwrap();
        assert_eq!(sample.staged(), <[PathBuf; 0]>::default());
        assert_eq!(sample.tree().len(), 1);
    }
}

mod recovering {
    use super::*;

    #[test]
    fn recover_returns_outputs_to_free_paths() {
        let sample = Sample::new();
        sample.write("bin/tool", "old tool");
        sample.write("out/a", "old a");
        sample.write("out/b/c", "old c");
        sample.write("out/b/d", "old d");
        sample.write("gen/x.go", "old x");
        let specs = specs(&["bin/tool", "out/", "gen/*.go"]);
        // A killed process does not run destructors.
        std::mem::forget(Stash::take(&sample.stage, &specs, &AllOwned).unwrap());
        sample.write(".build-cache/stage/new-7", "half a file");
        sample.write(".build-cache/stage/trash-8/x/y", "");
        sample.write("out/b/c", "new c");
        sample.write("bin/tool", "new tool");
        fs::remove_dir(sample.path("gen")).unwrap();
        assert_eq!(recover(&sample.stage, &|_| true).unwrap().returned, 3);
        assert_eq!(sample.read("bin/tool").unwrap(), "new tool");
        assert_eq!(sample.read("out/b/c").unwrap(), "new c");
        for (below, content) in [
            ("out/a", "old a"),
            ("out/b/d", "old d"),
            ("gen/x.go", "old x"),
        ] {
            assert_eq!(sample.read(below).unwrap(), content);
        }
        assert_eq!(sample.staged(), <[PathBuf; 0]>::default());
        assert_eq!(recover(&sample.stage, &|_| true).unwrap().returned, 0);
    }

    #[test]
    fn restore_returns_paths_too_long_for_a_name() {
        let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
        for (path, is_recovered) in [(&*long, false), ("a\u{1}b/c", false), ("a/b/c", true)] {
            let sample = Sample::new();
            sample.write(path, "old");
            let specs = specs(&[path]);
            Stash::take(&sample.stage, &specs, &AllOwned)
                .unwrap()
                .restore()
                .unwrap();
            assert_eq!(sample.read(path).unwrap(), "old");
            std::mem::forget(Stash::take(&sample.stage, &specs, &AllOwned).unwrap());
            assert_eq!(
                recover(&sample.stage, &|_| true).unwrap().returned,
                usize::from(is_recovered)
            );
            assert_eq!(sample.read(path).is_some(), is_recovered);
            assert_eq!(sample.staged(), <[PathBuf; 0]>::default());
        }
    }

    #[test]
    fn recover_returns_committed_files_without_the_state() {
        let long = format!("gen/{}/{}", "d".repeat(200), "f".repeat(200));
        let sample = Sample::new();
        for path in ["gen/one", "gen/two", "odd\u{1}name", &long] {
            sample.write(path, "old");
        }
        let before = sample.tree();
        let long = format!("+{long}");
        let specs = specs(&["+gen/one", "+gen/two", "+odd\u{1}name", &long]);
        std::mem::forget(Stash::take(&sample.stage, &specs, &AllOwned).unwrap());
        let _ = fs::remove_dir_all(sample.path(".build-cache"));
        let recovered = recover(&sample.stage, &|_| true).unwrap();
        assert_eq!((recovered.returned, recovered.trashed), (4, Vec::new()));
        assert_eq!(sample.tree(), before);
    }

    #[test]
    fn recover_keeps_both_versions_of_a_committed_file() {
        let sample = Sample::new();
        sample.write("gen/one", "old");
        sample.write("gen/two", "old");
        let specs = specs(&["+gen/one", "+gen/two"]);
        std::mem::forget(Stash::take(&sample.stage, &specs, &AllOwned).unwrap());
        sample.write("gen/one", "half a file");
        sample.write("gen/two", "old");
        let recovered = recover(&sample.stage, &|_| true).unwrap();
        assert_eq!(recovered.trashed, [RelPath::new("gen/one").unwrap()]);
        assert_eq!(sample.read("gen/one").unwrap(), "half a file");
        let batches = sample.stage.trash().batches().unwrap();
        assert_eq!(batches[0].paths, recovered.trashed);
    }

    #[test]
    fn recover_returns_only_to_declared_outputs() {
        let sample = Sample::new();
        sample.write(
            ".build-trash/0000000000001-1-1.pending/.git/hooks/x",
            "planted",
        );
        sample.write(".build-trash/0000000000001-1-1.pending/out", "planted");
        let is_output = |path: &RelPath| path.as_bytes() == b"out";
        let recovered = recover(&sample.stage, &is_output).unwrap();
        assert_eq!(recovered.returned, 1);
        assert!(!sample.path(".git").exists());
    }

    #[test]
    fn recover_changes_nothing_in_a_new_tree() {
        let sample = Sample::new();
        assert_eq!(recover(&sample.stage, &|_| true).unwrap().returned, 0);
        assert_eq!(sample.tree(), BTreeMap::new());
        assert!(!sample.path(".build-cache").exists());
    }
}

/// Claims by name: `mine*` is foreign, `edited*` is precious, and the rest is owned.
struct ByName;

impl Claims for ByName {
    fn claim(&self, _: &OutputSpec, path: &RelPath, _: FileKind) -> Claim {
        match path.name() {
            name if name.starts_with(b"mine") => Claim::Foreign,
            name if name.starts_with(b"edited") => Claim::Precious,
            _ => Claim::Owned,
        }
    }
}

mod claiming {
    use super::*;

    fn foreign(error: Error) -> Vec<String> {
        match error {
            Error::Foreign(files) => files.iter().map(ForeignFiles::to_string).collect(),
            error => panic!("{error}"),
        }
    }

    fn trashed(sample: &Sample) -> Vec<String> {
        let batches = sample.stage.trash().batches().unwrap();
        let paths = batches.iter().flat_map(|batch| &batch.paths);
        paths.map(ToString::to_string).collect()
    }

    #[test]
    fn foreign_files_stop_the_stash() {
        let sample = Sample::new();
        for path in ["out/a", "out/b/mine", "out/mine", "gen/mine.go", "mine.txt"] {
            sample.write(path, "content");
        }
        let before = sample.tree();
        let specs = specs(&["out/", "gen/*.go", "new/file", "mine.txt"]);
        let error = Stash::take(&sample.stage, &specs, &ByName).unwrap_err();
        let expected = [
            "`out/` has 2 files that fbuild did not make: `out/b/mine`, `out/mine`",
            "`gen/*.go` has a file that fbuild did not make: `gen/mine.go`",
            "`mine.txt` has a file that fbuild did not make: `mine.txt`",
        ];
        assert_eq!(foreign(error), expected);
        assert_eq!(sample.tree(), before);
        assert!(!sample.path(".build-trash").exists());
    }

    #[test]
    fn foreign_files_are_listed_in_part() {
        let sample = Sample::new();
        for number in 0..9 {
            sample.write(format!("out/mine-{number}"), "");
        }
        let error = Stash::take(&sample.stage, &specs(&["out/"]), &ByName).unwrap_err();
        let expected = "`out/` has 9 files that fbuild did not make: `out/mine-0`, `out/mine-1`, \
            `out/mine-2`, `out/mine-3`, `out/mine-4` and 4 more";
        assert_eq!(foreign(error), [expected]);
    }

    #[test]
    fn foreign_files_in_a_folder_for_a_file_stop_it() {
        let sample = Sample::new();
        sample.write("report/deep/mine", "content");
        let specs = specs(&["report"]);
        match Stash::take(&sample.stage, &specs, &ByName).unwrap_err() {
            Error::Foreign(files) => assert!(files[0].is_folder_for_file()),
            error => panic!("{error}"),
        }
        assert_eq!(sample.read("report/deep/mine").unwrap(), "content");
    }

    #[test]
    fn foreign_files_stop_the_restore() {
        let sample = Sample::new();
        sample.write("out/a", "a");
        let specs = specs(&["out/"]);
        let entries = sample.entries(&specs);
        sample.write("out/a", "changed");
        sample.write("out/sub/mine", "content");
        let before = sample.tree();
        let destination = Destination {
            claims: &ByName,
            ..sample.destination(&specs)
        };
        let restored = restore(&destination, &entries, &mut |_| false, &sample.store);
        assert_eq!(code(&restored.unwrap_err()), "fbuild::store::foreign");
        assert_eq!(sample.tree(), before);
        assert_eq!(sample.staged(), <[PathBuf; 0]>::default());
    }

    #[test]
    fn intact_files_are_not_claimed_by_a_restore() {
        let sample = Sample::new();
        sample.write("out/mine", "a");
        sample.write("out/other", "b");
        let specs = specs(&["out/"]);
        let entries = sample.entries(&specs);
        fs::remove_file(sample.path("out/other")).unwrap();
        let destination = Destination {
            claims: &ByName,
            ..sample.destination(&specs)
        };
        let mut is_intact = |entry: &Entry| sample.is_intact(entry);
        restore(&destination, &entries, &mut is_intact, &sample.store).unwrap();
        assert_eq!(sample.read("out/other").unwrap(), "b");
    }

    #[test]
    fn precious_files_go_to_the_trash_on_success() {
        let sample = Sample::new();
        for path in [
            "out/a",
            "out/b/edited",
            "out/c/edited",
            "out/c/own",
            "edited",
        ] {
            sample.write(path, path);
        }
        let specs = specs(&["out/", "edited"]);
        let stash = Stash::take(&sample.stage, &specs, &ByName).unwrap();
        assert_eq!(
            sample.tree().into_keys().collect::<Vec<_>>(),
            [PathBuf::from("out")]
        );
        sample.write("edited", "new");
        let finished = stash.finish().unwrap();
        let expected = ["edited", "out/b/edited", "out/c/edited"];
        let paths: Vec<String> = finished.trashed.iter().map(ToString::to_string).collect();
        assert_eq!(paths, expected);
        assert_eq!(trashed(&sample), expected);
        assert_eq!(sample.staged(), <[PathBuf; 0]>::default());
    }

    #[test]
    fn precious_files_return_on_failure() {
        let sample = Sample::new();
        for path in [
            "out/a",
            "out/b/edited",
            "out/c/edited",
            "out/c/own",
            "edited",
        ] {
            sample.write(path, path);
        }
        let before = sample.tree();
        let specs = specs(&["out/", "edited"]);
        let stash = Stash::take(&sample.stage, &specs, &ByName).unwrap();
        sample.write("edited/now/a/folder", "new");
        sample.write("out/b", "new");
        stash.restore().unwrap();
        assert_eq!(sample.tree(), before);
        assert_eq!(trashed(&sample), <[String; 0]>::default());
    }

    #[test]
    fn precious_files_go_to_the_trash_on_restore() {
        let sample = Sample::new();
        sample.write("out/edited", "made");
        let specs = specs(&["out/"]);
        let entries = sample.entries(&specs);
        sample.write("out/edited", "by hand");
        sample.write("out/edited-too", "by hand");
        let destination = Destination {
            claims: &ByName,
            ..sample.destination(&specs)
        };
        let mut is_intact = |entry: &Entry| sample.is_intact(entry);
        let restored = restore(&destination, &entries, &mut is_intact, &sample.store).unwrap();
        let Restoration::Done(done) = restored else {
            panic!("it is missing")
        };
        assert_eq!(done.trashed.len(), 2);
        assert_eq!(sample.read("out/edited").unwrap(), "made");
        assert_eq!(trashed(&sample), ["out/edited", "out/edited-too"]);
    }

    #[test]
    fn files_in_the_trash_return_to_free_paths() {
        let sample = Sample::new();
        sample.write("edited", "old");
        sample.write("out/deep/edited", "deep");
        let specs = specs(&["out/", "edited"]);
        let stash = Stash::take(&sample.stage, &specs, &ByName).unwrap();
        sample.write("edited", "new");
        stash.finish().unwrap();
        let trash = sample.stage.trash();
        let give_back = || {
            let batches = trash.batches().unwrap();
            let batch = batches.first().unwrap();
            let paths = batch.paths.iter();
            let given = paths.map(|path| trash.give_back(batch, path, sample.stage.root()));
            given.map(Result::unwrap).collect::<Vec<_>>()
        };
        assert_eq!(give_back(), [false, true]);
        assert_eq!(sample.read("out/deep/edited").unwrap(), "deep");
        fs::remove_file(sample.path("edited")).unwrap();
        assert_eq!(give_back(), [true]);
        assert_eq!(sample.read("edited").unwrap(), "old");
        assert_eq!(trash.batches().unwrap(), []);
        trash.tidy();
        assert!(!sample.path(".build-trash").exists());
    }

    #[test]
    fn trash_deletes_only_old_batches() {
        let sample = Sample::new();
        sample.write("out/edited/ro/file", "old");
        let mode = fs::Permissions::from_mode(0o555);
        fs::set_permissions(sample.path("out/edited/ro"), mode).unwrap();
        let specs = specs(&["out/"]);
        let stash = Stash::take(&sample.stage, &specs, &ByName).unwrap();
        stash.finish().unwrap();
        sample.write("out/edited", "old");
        let stash = Stash::take(&sample.stage, &specs, &ByName).unwrap();
        stash.finish().unwrap();
        let trash = sample.stage.trash();
        assert_eq!(trash.delete_older(3_600_000).unwrap(), 0);
        assert_eq!(trashed(&sample), ["out/edited"]);
        assert_eq!(trash.delete_older(0).unwrap(), 1);
        assert_eq!(trash.batches().unwrap(), []);
    }

    #[test]
    fn trash_that_is_a_link_is_refused() {
        let sample = Sample::new();
        let outside = sample.folder.path().join("outside");
        fs::create_dir(&outside).unwrap();
        symlink(&outside, sample.path(".build-trash")).unwrap();
        sample.write("edited", "old");
        let error = Stash::take(&sample.stage, &specs(&["edited"]), &ByName).unwrap_err();
        assert_eq!(code(&error), "fbuild::store::trash");
        assert!(!error.is_miss());
        assert_eq!(sample.read("edited").unwrap(), "old");
        assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
    }

    #[test]
    fn remove_outputs_leaves_foreign_files() {
        let sample = Sample::new();
        for path in ["out/a", "out/b/c", "out/b/mine", "out/edited", "other/d"] {
            sample.write(path, path);
        }
        let specs = specs(&["out/", "other/"]);
        let destination = Destination {
            claims: &ByName,
            ..sample.destination(&specs)
        };
        let removed = remove_outputs(&destination).unwrap();
        assert_eq!(removed.removed, 3);
        assert_eq!(removed.left[0].paths, [RelPath::new("out/b/mine").unwrap()]);
        assert_eq!(trashed(&sample), ["out/edited"]);
        let left: Vec<PathBuf> = sample.tree().into_keys().collect();
        let expected = ["out", "out/b", "out/b/mine"];
        assert_eq!(left, expected.map(PathBuf::from));
    }
}

/// Generates a few names, some unusual, so that trees overlap.
fn any_name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => proptest::sample::select(vec![&b"a"[..], b"b", b"a-b", b".c", b"-d"]).prop_map(<[u8]>::to_vec),
        1 => proptest::sample::select(vec![&b"new\nline"[..], b"\xff\xfe", b" ", b"\"'$`", b"keep", b"new-1"]).prop_map(<[u8]>::to_vec),
    ]
}

fn any_node() -> impl Strategy<Value = Node> {
    prop_oneof![
        4 => (proptest::collection::vec(any::<u8>(), 0..40), any::<bool>())
            .prop_map(|(bytes, executable)| Node::File(bytes, executable)),
        1 => proptest::collection::vec(1..=255_u8, 1..20).prop_map(Node::Link),
        1 => Just(Node::Link(b"../a".to_vec())),
        2 => Just(Node::Folder),
    ]
}

type Plan = Vec<(Vec<Vec<u8>>, Node)>;

fn any_plan(below: &'static str) -> impl Strategy<Value = Plan> {
    let path = proptest::collection::vec(any_name(), 1..5).prop_map(move |mut names| {
        names.insert(0, below.as_bytes().to_vec());
        names
    });
    proptest::collection::vec((path, any_node()), 0..25)
}

/// Creates the entries of a plan, replacing files in the place of folders.
fn carry_out(sample: &Sample, plan: &Plan) {
    for (names, node) in plan {
        let path = sample.path(names.join(&b'/'));
        let mut at = sample.path("");
        for name in &names[..names.len() - 1] {
            at = at.join(OsStr::from_bytes(name));
            if !at.symlink_metadata().is_ok_and(|m| m.is_dir()) {
                let _ = fs::remove_file(&at);
                fs::create_dir(&at).unwrap();
            }
        }
        let _ = fs::remove_file(&path);
        match node {
            Node::Folder if !path.is_dir() => fs::create_dir(&path).unwrap(),
            Node::Folder => {}
            _ if path.is_dir() => {}
            Node::Link(target) => symlink(OsStr::from_bytes(target), &path).unwrap(),
            Node::File(bytes, executable) => {
                fs::write(&path, bytes).unwrap();
                let mode = if *executable { 0o755 } else { 0o644 };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
    }
}

/// Omits kept files, and folders with nothing else.
fn without_kept(tree: &BTreeMap<PathBuf, Node>) -> BTreeMap<PathBuf, Node> {
    let is_kept = |path: &Path| path.iter().any(|name| name == "keep");
    let is_empty = |path: &Path| !tree.keys().any(|other| other.parent() == Some(path));
    let own = |path: &Path, node: &Node| {
        let is_own_leaf = |(other, node): (&PathBuf, &Node)| {
            let is_leaf = *node != Node::Folder || is_empty(other);
            other.starts_with(path) && is_leaf && !is_kept(other)
        };
        !is_kept(path) && (*node != Node::Folder || tree.iter().any(is_own_leaf))
    };
    let kept = tree.iter().filter(|(path, node)| own(path, node));
    kept.map(|(path, node)| (path.clone(), node.clone()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_tree_is_restored_after_changes(
        first in any_plan("out"),
        second in any_plan("out"),
        wipe in any::<bool>(),
    ) {
        let sample = Sample::new();
        fs::create_dir(sample.path("out")).unwrap();
        carry_out(&sample, &first);
        let specs = specs(&["out/"]);
        let entries = sample.entries(&specs);
        let before = sample.tree();
        if wipe {
            fs::remove_dir_all(sample.path("out")).unwrap();
        } else {
            carry_out(&sample, &second);
        }
        sample.restored(&specs, &entries);
        prop_assert_eq!(sample.tree(), before);
        prop_assert_eq!(sample.entries(&specs), entries);
        prop_assert_eq!(sample.staged(), <[PathBuf; 0]>::default());
    }

    #[test]
    fn any_tree_is_returned_after_a_failed_command(first in any_plan("out"), second in any_plan("out")) {
        let sample = Sample::new();
        carry_out(&sample, &first);
        let before = sample.tree();
        let stash = Stash::take(&sample.stage, &specs(&["out/"]), &AllOwned).unwrap();
        carry_out(&sample, &second);
        stash.restore().unwrap();
        prop_assert_eq!(sample.tree(), before);
        prop_assert_eq!(sample.staged(), <[PathBuf; 0]>::default());
    }

    #[test]
    fn kept_files_are_never_captured_or_changed(
        first in any_plan("out"),
        second in any_plan("out"),
    ) {
        let sample = Sample::new();
        fs::create_dir(sample.path("out")).unwrap();
        carry_out(&sample, &first);
        let specs = specs(&["out/!out/**/keep"]);
        let entries = sample.entries(&specs);
        let listed: Vec<PathBuf> = entries
            .iter()
            .map(|e| PathBuf::from(OsStr::from_bytes(e.path.as_bytes())))
            .collect();
        let mut own: Vec<PathBuf> = without_kept(&sample.tree()).into_keys().collect();
        own.retain(|path| path.parent() != Some(Path::new("")));
        own.push("out".into());
        own.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
        prop_assert_eq!(listed, own);
        carry_out(&sample, &second);
        let kept = |sample: &Sample| {
            let mut tree = sample.tree();
            let own = without_kept(&tree);
            tree.retain(|path, node| !own.contains_key(path) && *node != Node::Folder);
            tree
        };
        let before = kept(&sample);
        if let Ok(Restoration::Done(_)) = sample.restore(&specs, &entries) {
            // An empty folder that got a kept file is no longer listed.
            let mut now = sample.entries(&specs);
            for entry in &entries {
                let is_hidden = entry.kind == EntryKind::Folder && !now.contains(entry);
                prop_assert!(!is_hidden || sample.path(entry.path.as_bytes()).is_dir());
                now.extend(is_hidden.then(|| entry.clone()));
            }
            now.sort_by(|a, b| a.path.cmp(&b.path));
            prop_assert_eq!(now, entries);
        }
        prop_assert_eq!(kept(&sample), before);
    }
}
