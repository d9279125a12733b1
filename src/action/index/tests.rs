//! The laws of the index, on real folders.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::atomic::AtomicBool;

use super::observations::Expectation;
use super::testing::{Tree, examine_when_old, find, path};
use super::*;
use crate::action::FileContent;
use crate::checked_file;
use crate::glob::Pattern;
use crate::stamp::FileMode;

fn file(text: &str) -> EntryKind {
    EntryKind::File {
        digest: Digest::of(text.as_bytes()),
        mode: FileMode::PLAIN,
    }
}

#[test]
fn patterns_find_files_sorted_and_each_once() {
    let tree = Tree::new(&[
        ("b/x.go", ""),
        ("a.go", ""),
        ("b/y.txt", ""),
        ("c/d/z.go", ""),
    ]);
    let index = tree.index();
    assert_eq!(
        find(&index, &["**/*.go", "b/*"], &[]),
        ["a.go", "b/x.go", "b/y.txt", "c/d/z.go"]
    );
    assert_eq!(find(&index, &["**"], &["b/**", "**/z.go"]), ["a.go"]);
    assert_eq!(find(&index, &["nothing/**", "a.go/x"], &[]), [""; 0]);
}

#[test]
fn paths_looked_up_by_name_are_found_by_pattern() {
    let names = ["m", "z", "a", "q"];
    let tree = Tree::new(&names.map(|name| (name, name)));
    let index = tree.index();
    let check = |index: &FileIndex| {
        for name in names {
            assert_eq!(index.entry(&path(name)).unwrap(), Some(file(name)));
        }
    };
    check(&index);
    index.save(&tree.saved()).unwrap();
    let later = tree.index();
    check(&later);
    tree.write("c", "new");
    later.begin_epoch();
    assert_eq!(later.entry(&path("c")).unwrap(), Some(file("new")));
    assert_eq!(find(&later, &["*"], &[]), ["a", "c", "m", "q", "z"]);
    check(&later);
}

#[test]
fn git_and_cache_folders_are_never_inputs() {
    let tree = Tree::new(&[
        (".git/HEAD", ""),
        (".build-cache/x", ""),
        ("sub/.git/x", ""),
        (".env", ""),
    ]);
    let index = tree.index();
    assert_eq!(find(&index, &["**", ".git/HEAD"], &[]), [".env"]);
}

#[test]
fn rewrite_within_a_clock_tick_is_detected() {
    let tree = Tree::new(&[("a", "one")]);
    let index = tree.index();
    assert_eq!(index.entry(&path("a")).unwrap(), Some(file("one")));
    tree.write("a", "two");
    index.begin_epoch();
    assert_eq!(index.entry(&path("a")).unwrap(), Some(file("two")));
    index.save(&tree.saved()).unwrap();
    tree.write("a", "tri");
    assert_eq!(tree.index().entry(&path("a")).unwrap(), Some(file("tri")));
}

#[test]
fn next_epoch_finds_new_and_removed_files() {
    let tree = Tree::new(&[("d/a", "1"), ("d/b", "2")]);
    let index = tree.index();
    assert_eq!(find(&index, &["d/**"], &[]), ["d/a", "d/b"]);
    tree.write("d/c", "3");
    fs::remove_file(index.root().absolute(&path("d/a"))).unwrap();
    fs::remove_file(index.root().absolute(&path("d/b"))).unwrap();
    tree.write("d/b/inner", "4");
    index.begin_epoch();
    assert_eq!(find(&index, &["d/**"], &[]), ["d/b/inner", "d/c"]);
}

fn link(target: &str, content: Option<&str>) -> Option<EntryKind> {
    Some(EntryKind::Link {
        target: target.into(),
        content: content.map(|c| FileContent {
            digest: Digest::of(c.as_bytes()),
            mode: FileMode::PLAIN,
        }),
    })
}

#[test]
fn link_has_its_text_and_the_content_behind_it() {
    let tree = Tree::new(&[("real", "1"), ("folder/x", "")]);
    symlink("real", tree.at("to-file")).unwrap();
    symlink("folder", tree.at("to-folder")).unwrap();
    symlink("nowhere", tree.at("dangling")).unwrap();
    let index = tree.index();
    let entry = |name| index.entry(&path(name)).unwrap();
    assert_eq!(entry("to-file"), link("real", Some("1")));
    assert_eq!(entry("to-folder"), link("folder", None));
    assert_eq!(entry("dangling"), link("nowhere", None));
    assert_eq!(find(&index, &["to-folder/**", "to-folder/x"], &[]), [""; 0]);
}

#[test]
fn next_epoch_finds_new_content_behind_a_link() {
    let tree = Tree::new(&[("real", "1")]);
    symlink("real", tree.at("to-file")).unwrap();
    let index = tree.index();
    let entry = || index.entry(&path("to-file")).unwrap();
    assert_eq!(entry(), link("real", Some("1")));
    tree.write("real", "2");
    index.begin_epoch();
    assert_eq!(entry(), link("real", Some("2")));
}

#[test]
fn executable_bit_is_part_of_the_content() {
    let tree = Tree::new(&[("a", "1")]);
    let index = tree.index();
    assert_eq!(index.entry(&path("a")).unwrap(), Some(file("1")));
    let at = index.root().absolute(&path("a"));
    fs::set_permissions(&at, fs::Permissions::from_mode(0o755)).unwrap();
    index.begin_epoch();
    let digest = Digest::of(b"1");
    let mode = FileMode::EXECUTABLE;
    let expected = Some(EntryKind::File { digest, mode });
    assert_eq!(index.entry(&path("a")).unwrap(), expected);
}

#[test]
fn damaged_index_is_empty() {
    let tree = Tree::new(&[("a", "one"), ("d/b", "two")]);
    let index = tree.index();
    find(&index, &["**"], &[]);
    index.save(&tree.saved()).unwrap();
    let whole = fs::read(tree.saved().path()).unwrap();
    assert!(
        Saved::read(&tree.saved())
            .folder(&RelPath::root())
            .is_some()
    );
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x41;
        fs::write(tree.saved().path(), &bytes).unwrap();
        assert!(
            Saved::read(&tree.saved())
                .folder(&RelPath::root())
                .is_none(),
            "byte {at}"
        );
        fs::write(tree.saved().path(), &whole[..at]).unwrap();
        assert!(
            Saved::read(&tree.saved())
                .folder(&RelPath::root())
                .is_none(),
            "cut at {at}"
        );
    }
}

#[test]
fn unused_folders_stay_in_the_saved_index() {
    let tree = Tree::new(&[("a/x", "1"), ("b/x", "2")]);
    let first = tree.index();
    find(&first, &["**"], &[]);
    first.save(&tree.saved()).unwrap();
    let second = tree.index();
    tree.write("a/x", "3");
    find(&second, &["a/**"], &[]);
    second.save(&tree.saved()).unwrap();
    assert!(Saved::read(&tree.saved()).folder(&path("b")).is_some());
}

#[test]
fn index_from_before_a_boot_is_empty() {
    let tree = Tree::new(&[("a", "1")]);
    let index = tree.index();
    find(&index, &["**"], &[]);
    index.save(&tree.saved()).unwrap();
    let bytes = fs::read(tree.saved().path()).unwrap();
    let magic = bytes.first_chunk().unwrap();
    let mut content = checked_file::read(&tree.saved(), magic).unwrap().to_vec();
    let boot = fs::read("/proc/sys/kernel/random/boot_id").unwrap();
    let at = content.windows(boot.len()).position(|w| w == boot).unwrap();
    let is_remembered = |content: &[u8]| {
        checked_file::write(&tree.saved(), magic, &[content]).unwrap();
        Saved::read(&tree.saved())
            .folder(&RelPath::root())
            .is_some()
    };
    assert!(is_remembered(&content));
    content[at] ^= 1;
    assert!(!is_remembered(&content));
}

#[test]
fn literal_path_follows_the_rules_of_patterns() {
    let tree = Tree::new(&[("a/b", ""), ("a/dir/x", ""), (".git/HEAD", "")]);
    tree.write(".build-cache/x", "");
    let index = tree.index();
    let found = |text: &str, except: &str, folders: bool| {
        let (pattern, except) = (Pattern::new(text).unwrap(), Pattern::new(except).unwrap());
        let (include, except) = (&[&pattern][..], &[&except][..]);
        let selection = Selection {
            include,
            except,
            folders,
        };
        let found = index.find(selection).unwrap().entries;
        let found: Vec<_> = found.iter().map(|entry| entry.path.to_string()).collect();
        found
    };
    for folders in [false, true] {
        assert_eq!(found("a/b", "no", folders), ["a/b"]);
        assert_eq!(found("a/b", "a/*", folders), [""; 0]);
        assert_eq!(found("a/b", "a/b", folders), [""; 0]);
        for hidden in [".git/HEAD", ".build-cache/x", "a/none", "none"] {
            assert_eq!(found(hidden, "no", folders), [""; 0]);
        }
    }
    assert_eq!(found("a/dir", "no", false), [""; 0]);
    assert_eq!(found("a/dir", "no", true), ["a/dir"]);
    assert_eq!(found("a/**", "no", false), ["a/b", "a/dir/x"]);
    assert_eq!(found("a/**", "no", true), ["a/b", "a/dir", "a/dir/x"]);
    assert_eq!(found("a/**", "a/dir", false), ["a/b", "a/dir/x"]);
    assert_eq!(found("a/**", "a/dir", true), ["a/b"]);
    assert_eq!(found("a/*", "no", true), ["a/b", "a/dir"]);
}

#[test]
fn matches_are_counted_per_pattern() {
    let tree = Tree::new(&[("a", "1"), ("b", "1")]);
    let index = tree.index();
    let patterns = ["*", "none*", "a", "none"].map(|text| Pattern::new(text).unwrap());
    for _ in ["read", "known"] {
        let selection = Selection {
            include: &patterns.iter().collect::<Vec<_>>(),
            except: &[],
            folders: false,
        };
        assert_eq!(index.find(selection).unwrap().counts, [2, 0, 1, 0]);
    }
}

fn make_pipe(tree: &Tree, name: &str) {
    let (kind, mode) = (rustix::fs::FileType::Fifo, 0o600.into());
    rustix::fs::mknodat(rustix::fs::CWD, tree.at(name), kind, mode, 0).unwrap();
}

#[test]
fn digest_follows_a_link_only_if_asked() {
    let tree = Tree::new(&[("a", "1")]);
    symlink("a", tree.at("link")).unwrap();
    let digest = |text, flags| hash::digest(&tree.root(), &path(text), flags);
    let nofollow = rustix::fs::OFlags::NOFOLLOW;
    assert_eq!(digest("a", nofollow).unwrap(), Digest::of(b"1"));
    assert!(digest("link", nofollow).is_err());
    let followed = digest("link", rustix::fs::OFlags::empty());
    assert_eq!(followed.unwrap(), Digest::of(b"1"));
}

#[test]
fn digest_of_a_pipe_does_not_wait_for_a_writer() {
    let tree = Tree::new(&[]);
    make_pipe(&tree, "pipe");
    let digest = file_digest(&tree.root(), &path("pipe"));
    assert_eq!(digest.unwrap(), Digest::of(b""));
}

/// Lists a path that was a folder when it was checked; returns whether that went well, and
/// whether the folder exists and is racy then.
fn list(tree: &Tree, name: &str) -> (bool, bool, bool) {
    let mut folder = folder::Folder::default();
    folder.exists = true;
    let listed = tree.index().list(&mut folder, &path(name)).is_ok();
    (listed, folder.exists, folder.racy)
}

#[test]
fn folder_gone_before_it_is_listed_is_absent() {
    let tree = Tree::new(&[("d/a", "1")]);
    assert_eq!(list(&tree, "d"), (true, true, false));
    assert_eq!(list(&tree, "gone"), (true, false, true));
}

#[test]
fn listing_anything_but_a_folder_is_an_error() {
    let tree = Tree::new(&[("a", "1"), ("d/a", "1")]);
    symlink("d", tree.at("link")).unwrap();
    make_pipe(&tree, "pipe");
    for name in ["a", "link", "pipe"] {
        assert_eq!(list(&tree, name), (false, true, false), "{name}");
    }
}

#[test]
fn folder_that_changes_during_a_run_is_racy() {
    let tree = Tree::new(&[("d/a", "1"), ("e/a", "1")]);
    let at = |text: &str| tree.at(text);
    // All of it is old.
    examine_when_old(&tree, &["**"], &[]);
    let index = tree.index();
    let patterns = ["d/*", "e/*", "f/*"];
    let racy = |index: &FileIndex| -> Vec<&str> {
        find(index, &patterns, &[]);
        let names = ["d", "e", "f"];
        let is_racy = |name: &&str| lock(&index.folder(&path(name))).racy;
        names.into_iter().filter(is_racy).collect()
    };
    assert_eq!(racy(&index), [""; 0]);
    index.begin_epoch();
    assert_eq!(racy(&index), [""; 0], "nothing happened");
    fs::remove_dir_all(at("e")).unwrap();
    fs::create_dir(at("f")).unwrap();
    index.begin_epoch();
    assert_eq!(racy(&index), ["e", "f"]);
    tree.write("d/b", "2");
    index.begin_epoch();
    assert_eq!(racy(&index), ["d", "e", "f"], "a new file");
    index.begin_epoch();
    assert_eq!(racy(&index), ["d", "e", "f"], "they stay so");
}

#[test]
fn answer_from_before_an_epoch_is_not_used_in_it() {
    let tree = Tree::new(&[("other", "1")]);
    let at = |text: &str| tree.at(text);
    let (index, is_done) = (tree.index(), AtomicBool::new(false));
    let ask = |text: &str| index.entry(&path(text)).unwrap();
    let mut wrong = Vec::new();
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    index.begin_epoch();
                    ask("made/nothing");
                }
            });
        }
        for round in 0..1000 {
            fs::create_dir(at("made")).unwrap();
            symlink("nowhere", at("made/link")).unwrap();
            index.begin_epoch();
            wrong.extend(ask("made/link").is_none().then_some((round, "there")));
            fs::remove_dir_all(at("made")).unwrap();
            index.begin_epoch();
            wrong.extend(ask("made/link").is_some().then_some((round, "gone")));
        }
        is_done.store(true, Ordering::Relaxed);
    });
    assert_eq!(wrong, []);
}

/// A tree with files and links that are old, and its saved index.
fn saved_when_old() -> Tree {
    let tree = Tree::new(&[("d/a", "1"), ("e/b", "2"), ("real", "3")]);
    symlink("../real", tree.at("d/link")).unwrap();
    symlink("nowhere", tree.at("d/dangling")).unwrap();
    examine_when_old(&tree, &["**"], &[]);
    let index = tree.index();
    assert_eq!(find(&index, &["**"], &[]).len(), 5);
    assert!(index.unsaved.load(Ordering::Relaxed) >= 5 * OPEN_COST);
    index.save(&tree.saved()).unwrap();
    assert_eq!(index.unsaved.load(Ordering::Relaxed), 0);
    tree
}

#[test]
fn unchanged_files_are_not_read_again() {
    let tree = saved_when_old();
    let index = tree.index();
    for _ in ["a run", "the next epoch"] {
        assert_eq!(find(&index, &["**"], &[]).len(), 5);
        assert_eq!(index.unsaved.load(Ordering::Relaxed), 0);
        index.begin_epoch();
    }
}

#[test]
fn index_is_saved_only_if_that_is_cheaper() {
    let tree = saved_when_old();
    let size = fs::metadata(tree.saved().path()).unwrap().len();
    let index = tree.index();
    assert!((2..=size).contains(&index.saved.size()));
    find(&index, &["**"], &[]);
    fs::remove_file(tree.saved().path()).unwrap();
    index.save(&tree.saved()).unwrap();
    assert!(!tree.saved().path().exists(), "nothing is unsaved");
    index.add_cost(0);
    assert!(OPEN_COST > size, "else this shows nothing");
    index.save(&tree.saved()).unwrap();
    assert_eq!(fs::metadata(tree.saved().path()).unwrap().len(), size);
}

#[test]
fn file_gone_before_it_is_read_is_observed_absent() {
    let tree = Tree::new(&[("d/a", "1")]);
    let index = tree.index();
    for gone in ["d/gone", "d"] {
        assert_eq!(index.read(&path(gone)).unwrap(), None);
    }
    let mut absent = Vec::new();
    index.observe(|path, expected| {
        if expected == Expectation::NoFile {
            absent.push(path.clone());
        }
    });
    assert_eq!(absent, ["d", "d/gone"].map(path));
}

#[test]
fn files_gone_before_they_are_read_are_left_out() {
    let tree = Tree::new(&[("d/a", "1")]);
    let index = tree.index();
    assert!(index.read(&path("d/a/below")).unwrap().is_none());
    let read = index.read_all(&[path("d/a"), path("none")]).unwrap();
    assert_eq!(read.len(), 1);
}

#[test]
fn paths_that_are_not_examined_are_not_observed() {
    let tree = Tree::new(&[("d/a", "1")]);
    let index = tree.index();
    index.fingerprint(&path("d/a"));
    index.observe(|path, _| panic!("{path} was not examined"));
}

#[test]
fn young_files_are_observed_as_racy() {
    let tree = Tree::new(&[("d/a", "1")]);
    let index = tree.index();
    find(&index, &["d/*"], &[]);
    let mut observed = Vec::new();
    index.observe(|path, expected| observed.push((path.to_string(), expected)));
    assert!(observed.contains(&("d".into(), Expectation::RacyFolder)));
    assert!(observed.contains(&("d/a".into(), Expectation::RacyFile)));
}

#[test]
fn racy_expectation_is_of_the_same_kind_of_path() {
    let stamp = Stamp::unknown();
    let files = [
        Expectation::File(stamp, Digest::of(b"")),
        Expectation::Link(stamp),
        Expectation::NoFile,
        Expectation::LinkToFile(stamp),
        Expectation::LinkToNoFile,
        Expectation::RacyFile,
    ];
    let folders = [
        Expectation::Listing(stamp),
        Expectation::Folder,
        Expectation::NoFolder,
        Expectation::RacyFolder,
    ];
    assert_eq!(files.map(|e| e.racy()), [Expectation::RacyFile; 6]);
    assert_eq!(folders.map(|e| e.racy()), [Expectation::RacyFolder; 4]);
}
