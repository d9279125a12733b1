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
use crate::stamp::{FileMode, StampClock};

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
fn wildcards_match_no_files_of_git_and_fbuild() {
    let tree = Tree::new(&[
        (".git/HEAD", ""),
        (".build-cache/x", ""),
        ("sub/.git/x", ""),
        ("worktree/.git", ""),
        ("nested/.build-cache/index", ""),
        ("nested/.build-trash/x", ""),
        (".env", ""),
    ]);
    let index = tree.index();
    assert_eq!(find(&index, &["**", "*/.git", "nested/*/*"], &[]), [".env"]);
}

#[test]
fn files_of_git_are_inputs_if_named() {
    let tree = Tree::new(&[(".git/HEAD", ""), (".git/refs/a", ""), ("w/.git", "")]);
    let index = tree.index();
    let found = find(&index, &[".git/HEAD", ".git/refs/**", "w/.git"], &[]);
    assert_eq!(found, [".git/HEAD", ".git/refs/a", "w/.git"]);
}

#[test]
fn files_of_fbuild_are_never_inputs() {
    let tree = Tree::new(&[(".build-cache/x", ""), ("nested/.build-cache/x", "")]);
    let named = [".build-cache/x", "nested/.build-cache/x", ".build-cache/**"];
    assert_eq!(find(&tree.index(), &named, &[]), [""; 0]);
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

/// Returns the paths that one pattern finds.
fn find_in(index: &FileIndex, scope: Scope, pattern: &str, except: &str) -> Vec<String> {
    let (pattern, except) = (
        Pattern::new(pattern).unwrap(),
        Pattern::new(except).unwrap(),
    );
    let found = index.find(Selection {
        include: &[&pattern],
        except: &[&except],
        scope,
    });
    let found = found.unwrap().entries.into_iter();
    found.map(|entry| entry.path.to_string()).collect()
}

#[test]
fn literal_path_follows_the_rules_of_patterns() {
    let tree = Tree::new(&[("a/b", ""), ("a/dir/x", "")]);
    tree.write(".build-cache/x", "");
    let index = tree.index();
    for scope in [Scope::Inputs, Scope::OutputFiles, Scope::OwnedFolder] {
        assert_eq!(find_in(&index, scope, "a/b", "no"), ["a/b"]);
        assert_eq!(find_in(&index, scope, "a/b", "a/*"), [""; 0]);
        assert_eq!(find_in(&index, scope, "a/b", "a/b"), [""; 0]);
        for none in [".build-cache/x", "a/none", "none"] {
            assert_eq!(find_in(&index, scope, none, "no"), [""; 0]);
        }
    }
}

#[test]
fn only_owned_folders_contain_folders() {
    let tree = Tree::new(&[("a/b", ""), ("a/dir/x", "")]);
    let index = tree.index();
    for scope in [Scope::Inputs, Scope::OutputFiles] {
        assert_eq!(find_in(&index, scope, "a/dir", "no"), [""; 0]);
        assert_eq!(find_in(&index, scope, "a/**", "no"), ["a/b", "a/dir/x"]);
        assert_eq!(find_in(&index, scope, "a/**", "a/dir"), ["a/b", "a/dir/x"]);
    }
    let owned = |pattern, except| find_in(&index, Scope::OwnedFolder, pattern, except);
    assert_eq!(owned("a/dir", "no"), ["a/dir"]);
    assert_eq!(owned("a/**", "no"), ["a/b", "a/dir", "a/dir/x"]);
    assert_eq!(owned("a/**", "a/dir"), ["a/b"]);
    assert_eq!(owned("a/*", "no"), ["a/b", "a/dir"]);
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
            scope: Scope::Inputs,
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
        Expectation::LinkToFolder(stamp.id()),
        Expectation::LinkToNothing,
        Expectation::RacyFile,
    ];
    let folders = [
        Expectation::Listing(stamp),
        Expectation::Folder,
        Expectation::FolderBehind(stamp.id()),
        Expectation::NoFolder,
        Expectation::RacyFolder,
    ];
    assert_eq!(files.map(|e| e.racy()), [Expectation::RacyFile; 7]);
    assert_eq!(folders.map(|e| e.racy()), [Expectation::RacyFolder; 5]);
}

/// Two packages, one of which is linked into the other.
fn workspace() -> Tree {
    let tree = Tree::new(&[
        ("packages/lib/index.js", "1"),
        ("packages/lib/doc/a.md", "1"),
        ("packages/app/src/a.js", "1"),
    ]);
    fs::create_dir(tree.at("packages/app/node_modules")).unwrap();
    symlink("../../lib", tree.at("packages/app/node_modules/lib")).unwrap();
    tree
}

const LINK: &str = "packages/app/node_modules/lib";

#[test]
fn files_behind_a_link_have_their_real_path() {
    let tree = workspace();
    let expected = [
        LINK,
        "packages/app/src/a.js",
        "packages/lib/doc/a.md",
        "packages/lib/index.js",
    ];
    assert_eq!(find(&tree.index(), &["packages/app/**"], &[]), expected);
}

#[test]
fn pattern_applies_to_the_path_through_the_link() {
    let tree = workspace();
    let js = find(&tree.index(), &["packages/app/**/*.js"], &[]);
    let expected = [LINK, "packages/app/src/a.js", "packages/lib/index.js"];
    assert_eq!(js, expected);
}

#[test]
fn link_to_a_folder_without_matches_is_no_input() {
    let found = find(&workspace().index(), &["packages/app/**/*.go"], &[]);
    assert_eq!(found, [""; 0]);
}

#[test]
fn exceptions_apply_to_both_paths_behind_a_link() {
    let tree = workspace();
    for except in ["**/node_modules/lib/doc/**", "packages/lib/doc/**"] {
        let found = find(&tree.index(), &["packages/app/**"], &[except]);
        let expected = [LINK, "packages/app/src/a.js", "packages/lib/index.js"];
        assert_eq!(found, expected, "{except}");
    }
}

#[test]
fn exception_of_a_link_is_not_followed() {
    let tree = workspace();
    for except in ["**/node_modules/**", "packages/app/node_modules/lib/**"] {
        let mut found = find(&tree.index(), &["packages/app/**"], &[except]);
        found.retain(|path| path != LINK);
        assert_eq!(found, ["packages/app/src/a.js"], "{except}");
    }
}

#[test]
fn link_that_an_exception_matches_is_not_followed() {
    for except in [LINK, "**/lib"] {
        let found = find(&workspace().index(), &["packages/app/**"], &[except]);
        assert_eq!(found, ["packages/app/src/a.js"], "{except}");
    }
    // All files behind the link have other paths, too.
    let found = find(&workspace().index(), &["packages/**"], &[LINK]);
    assert!(!found.contains(&LINK.to_owned()), "{found:?}");
}

#[test]
fn file_with_two_paths_is_found_once() {
    let found = find(&workspace().index(), &["packages/**"], &[]);
    let expected = [
        LINK,
        "packages/app/src/a.js",
        "packages/lib/doc/a.md",
        "packages/lib/index.js",
    ];
    assert_eq!(found, expected);
}

#[test]
fn literal_path_through_a_link_is_found() {
    let tree = workspace();
    let text = format!("{LINK}/index.js");
    let found = find(&tree.index(), &[&text], &[]);
    assert_eq!(found, [LINK, "packages/lib/index.js"]);
}

#[test]
fn pattern_in_a_folder_behind_a_link_is_found() {
    let tree = workspace();
    let text = format!("{LINK}/doc/*.md");
    let found = find(&tree.index(), &[&text], &[]);
    assert_eq!(found, [LINK, "packages/lib/doc/a.md"]);
}

#[test]
fn loops_of_links_end() {
    let tree = Tree::new(&[("a/x.c", "1"), ("b/c/y.c", "1")]);
    symlink("../b", tree.at("a/b")).unwrap();
    symlink("../../a", tree.at("b/c/a")).unwrap();
    symlink(".", tree.at("b/self")).unwrap();
    symlink("loop", tree.at("a/loop")).unwrap();
    for pattern in [
        "a/**",
        "a/**/*.c",
        "a/*/c/*.c",
        "a/{b/c,b}/*/*/*/*/*.c",
        "**",
    ] {
        let found = find(&tree.index(), &[pattern], &[]);
        assert!(
            found.contains(&"b/c/y.c".to_owned()),
            "{pattern}: {found:?}"
        );
    }
}

#[test]
fn folders_with_many_paths_are_walked_few_times() {
    // A pattern may see 2 to the power of 40 paths here.
    let tree = Tree::new(&[("d40/x.c", "1")]);
    for depth in 0..40 {
        let folder = format!("d{depth}");
        fs::create_dir(tree.at(&folder)).unwrap();
        for name in ["l", "r"] {
            let target = format!("../d{}", depth + 1);
            symlink(target, tree.at(format!("{folder}/{name}"))).unwrap();
        }
    }
    for pattern in ["d0/**", "d0/**/x.c", "d0/l/**/r/*.c", "d0/**/l/**/*.c"] {
        let found = find(&tree.index(), &[pattern], &[]);
        assert!(found.contains(&"d40/x.c".to_owned()), "{pattern}");
    }
}

#[test]
fn retargeted_link_is_detected_in_the_next_epoch() {
    let tree = workspace();
    tree.write("packages/new/index.js", "2");
    let index = tree.index();
    find(&index, &["packages/app/**/*.js"], &[]);
    fs::remove_file(tree.at(LINK)).unwrap();
    symlink("../../new", tree.at(LINK)).unwrap();
    index.begin_epoch();
    let found = find(&index, &["packages/app/**/*.js"], &[]);
    let expected = [LINK, "packages/app/src/a.js", "packages/new/index.js"];
    assert_eq!(found, expected);
}

#[test]
fn retargeted_link_on_the_way_is_detected() {
    let tree = Tree::new(&[("v1/lib/x", "1"), ("v2/lib/x", "2")]);
    symlink("v1", tree.at("current")).unwrap();
    symlink("current/lib", tree.at("lib")).unwrap();
    examine_when_old(&tree, &["lib/**"], &[])
        .save(&tree.saved())
        .unwrap();
    fs::remove_file(tree.at("current")).unwrap();
    symlink("v2", tree.at("current")).unwrap();
    assert_eq!(find(&tree.index(), &["lib/**"], &[]), ["lib", "v2/lib/x"]);
}

#[test]
fn link_out_of_the_root_is_not_followed() {
    let tree = Tree::new(&[("../outer/x", "1"), ("in/a", "1")]);
    symlink("../../outer", tree.at("in/folder")).unwrap();
    symlink("../../outer/x", tree.at("in/file")).unwrap();
    let pattern = Pattern::new("in/**").unwrap();
    let matches = tree.index().find(Selection {
        include: &[&pattern],
        except: &[],
        scope: Scope::Inputs,
    });
    let matches = matches.unwrap();
    let found: Vec<_> = matches.entries.iter().map(|e| e.path.to_string()).collect();
    assert_eq!(found, ["in/a", "in/file", "in/folder"]);
    assert_eq!(matches.outside, ["in/file", "in/folder"].map(path));
}

#[test]
fn outputs_are_not_found_through_links() {
    let tree = workspace();
    for scope in [Scope::OutputFiles, Scope::OwnedFolder] {
        let mut found = find_in(&tree.index(), scope, "packages/app/**", "no");
        found.retain(|path| path.contains("lib"));
        assert_eq!(found, [LINK]);
    }
}

#[test]
fn empty_folder_that_a_pattern_covers_is_an_input() {
    let tree = Tree::new(&[("in/a", "1")]);
    fs::create_dir_all(tree.at("in/x/empty")).unwrap();
    let find = |pattern| find(&tree.index(), &[pattern], &[]);
    assert_eq!(find("in/"), ["in/a", "in/x/empty"]);
    assert_eq!(find("**"), ["in/a", "in/x/empty"]);
    assert_eq!(find("in/*"), ["in/a"]);
    assert_eq!(find("**/*.c"), [""; 0]);
}

#[test]
fn empty_folder_with_an_exception_is_no_input() {
    let tree = Tree::new(&[("in/a", "1")]);
    fs::create_dir_all(tree.at("in/logs")).unwrap();
    for except in ["in/logs/x", "in/logs/**", "**/*.log", "in/*/*.log"] {
        assert_eq!(
            find(&tree.index(), &["in/"], &[except]),
            ["in/a"],
            "{except}"
        );
    }
    let found = find(&tree.index(), &["in/"], &["other/*.log"]);
    assert_eq!(found, ["in/a", "in/logs"]);
}

#[test]
fn age_is_judged_by_the_clock_of_the_file_system() {
    let tree = Tree::new(&[("a", "1")]);
    examine_when_old(&tree, &["*"], &[]);
    let index = tree.index();
    // A server whose clock is behind by an hour made the stamp just now.
    let hour = 3_600_000_000_000;
    index.clock.set(StampClock::behind_by(hour)).unwrap();
    find(&index, &["*"], &[]);
    let mut observed = Vec::new();
    index.observe(|path, expected| observed.push((path.clone(), expected)));
    assert!(observed.contains(&(path("a"), Expectation::RacyFile)));
}
