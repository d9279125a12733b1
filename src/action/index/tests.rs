//! The laws of the index, on real folders.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::atomic::AtomicBool;

use super::entry::{self, Question};
use super::observations::{Earlier, Moved};
use super::*;
use crate::checked_file;
use crate::glob::Pattern;
use crate::stamp;

struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for (path, text) in files {
            tree.write(path, text);
        }
        tree
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join("tree").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn index(&self) -> FileIndex {
        let root = Root::open(&self.dir.path().join("tree")).unwrap();
        FileIndex::open(root, &self.saved(), vec![path(".build-cache")])
    }

    fn saved(&self) -> std::path::PathBuf {
        self.dir.path().join("index")
    }
}

fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

fn file(text: &str) -> EntryKind {
    EntryKind::File {
        digest: Digest::of(text.as_bytes()),
        executable: false,
    }
}

fn find(index: &FileIndex, include: &[&str], except: &[&str]) -> Vec<String> {
    let patterns = |texts: &[&str]| -> Vec<Pattern> {
        texts.iter().map(|t| Pattern::new(t).unwrap()).collect()
    };
    let (include, except) = (patterns(include), patterns(except));
    let found = index
        .find(Selection {
            include: &include.iter().collect::<Vec<_>>(),
            except: &except.iter().collect::<Vec<_>>(),
            folders: false,
        })
        .unwrap();
    let names = found.entries.iter().map(|entry| entry.path.to_string());
    names.collect()
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
fn what_was_asked_for_by_name_in_any_order_is_found_by_name_by_pattern_and_later() {
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
fn version_control_and_the_cache_are_nobodys_inputs() {
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
fn a_rewrite_of_the_same_size_in_the_same_instant_is_seen() {
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
fn a_new_file_a_removed_file_and_a_new_kind_are_seen_in_the_next_epoch() {
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

#[test]
fn links_count_by_their_text_and_by_the_file_behind_them() {
    let tree = Tree::new(&[("real", "1"), ("folder/x", "")]);
    let at = |p: &str| tree.dir.path().join("tree").join(p);
    symlink("real", at("to-file")).unwrap();
    symlink("folder", at("to-folder")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    let index = tree.index();
    let link = |target: &str, content: Option<&str>| {
        Some(EntryKind::Link {
            target: target.into(),
            content: content.map(|c| Digest::of(c.as_bytes())),
        })
    };
    assert_eq!(
        index.entry(&path("to-file")).unwrap(),
        link("real", Some("1"))
    );
    assert_eq!(
        index.entry(&path("to-folder")).unwrap(),
        link("folder", None)
    );
    assert_eq!(
        index.entry(&path("dangling")).unwrap(),
        link("nowhere", None)
    );
    assert_eq!(find(&index, &["to-folder/**", "to-folder/x"], &[]), [""; 0]);
    tree.write("real", "2");
    index.begin_epoch();
    assert_eq!(
        index.entry(&path("to-file")).unwrap(),
        link("real", Some("2"))
    );
}

#[test]
fn the_executable_bit_counts() {
    let tree = Tree::new(&[("a", "1")]);
    let index = tree.index();
    assert_eq!(index.entry(&path("a")).unwrap(), Some(file("1")));
    let at = index.root().absolute(&path("a"));
    fs::set_permissions(&at, fs::Permissions::from_mode(0o755)).unwrap();
    index.begin_epoch();
    let digest = Digest::of(b"1");
    let executable = true;
    let expected = Some(EntryKind::File { digest, executable });
    assert_eq!(index.entry(&path("a")).unwrap(), expected);
}

#[test]
fn a_saved_index_that_was_damaged_anywhere_is_empty_and_never_wrong() {
    let tree = Tree::new(&[("a", "one"), ("d/b", "two")]);
    let index = tree.index();
    find(&index, &["**"], &[]);
    index.save(&tree.saved()).unwrap();
    let whole = fs::read(tree.saved()).unwrap();
    assert!(
        Saved::read(&tree.saved())
            .folder(&RelPath::root())
            .is_some()
    );
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x41;
        fs::write(tree.saved(), &bytes).unwrap();
        assert!(
            Saved::read(&tree.saved())
                .folder(&RelPath::root())
                .is_none(),
            "byte {at}"
        );
        fs::write(tree.saved(), &whole[..at]).unwrap();
        assert!(
            Saved::read(&tree.saved())
                .folder(&RelPath::root())
                .is_none(),
            "cut at {at}"
        );
    }
}

#[test]
fn folders_that_a_run_did_not_ask_for_stay_remembered() {
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
fn what_was_remembered_before_the_system_was_started_is_not_trusted() {
    let tree = Tree::new(&[("a", "1")]);
    let index = tree.index();
    find(&index, &["**"], &[]);
    index.save(&tree.saved()).unwrap();
    let bytes = fs::read(tree.saved()).unwrap();
    let (magic, content) = bytes.split_first_chunk::<16>().unwrap();
    let mut content = content[4..].to_vec();
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

/// Looks at a tree until all of it is old enough for a change to show, and returns the looks.
fn looks(tree: &Tree, include: &[&str], literals: &[&str]) -> Vec<u8> {
    loop {
        let index = tree.index();
        find(&index, include, &[]);
        for literal in literals {
            index.entry(&path(literal)).unwrap();
        }
        let looks = index.looks(None).unwrap();
        // `None`: too many of them are young.
        let moved = observations::compare(&looks, index.root(), &AtomicBool::new(false));
        if moved.is_some_and(|moved| moved.is_empty()) {
            return looks;
        }
    }
}

fn moved(tree: &Tree, looks: &[u8]) -> Vec<Moved> {
    let moved = observations::compare(looks, tree.index().root(), &AtomicBool::new(false)).unwrap();
    moved.into_iter().map(|(_, moved)| moved).collect()
}

fn failed(tree: &Tree, looks: &[u8]) -> Vec<usize> {
    let moved = observations::compare(looks, tree.index().root(), &AtomicBool::new(false)).unwrap();
    moved.into_iter().map(|(number, _)| number).collect()
}

#[test]
fn looks_hold_until_something_that_was_looked_at_changes() {
    type Change = fn(&std::path::Path);
    let (file, listing) = (|p| Moved::File(path(p)), |p| Moved::Listing(path(p)));
    let changes: [(&str, Change, &[Moved]); 9] = [
        (
            "an edit",
            |at| fs::write(at.join("d/a"), "2").unwrap(),
            &[file("d/a")],
        ),
        (
            "a new file",
            |at| fs::write(at.join("d/new"), "").unwrap(),
            &[listing("d")],
        ),
        (
            "a removed file",
            |at| fs::remove_file(at.join("d/b")).unwrap(),
            &[listing("d"), file("d/b")],
        ),
        (
            "a mode",
            |at| {
                fs::set_permissions(at.join("d/a"), fs::Permissions::from_mode(0o755)).unwrap();
            },
            &[file("d/a")],
        ),
        (
            "what was not there",
            |at| fs::write(at.join("e/none"), "").unwrap(),
            &[file("e/none")],
        ),
        (
            "a folder that was not there",
            |at| fs::create_dir(at.join("f")).unwrap(),
            &[Moved::Anything(path("f"))],
        ),
        (
            "a folder that is a link now",
            |at| {
                fs::rename(at.join("d"), at.join("moved")).unwrap();
                symlink("moved", at.join("d")).unwrap();
            },
            &[Moved::Anything(path("d"))],
        ),
        (
            "what a link leads to",
            |at| fs::write(at.join("real"), "2").unwrap(),
            &[file("e/link")],
        ),
        (
            "what a link did not lead to",
            |at| fs::write(at.join("nowhere"), "2").unwrap(),
            &[file("e/dangling")],
        ),
    ];
    for (name, change, expected) in changes {
        let tree = Tree::new(&[("d/a", "1"), ("d/b", "1"), ("e/x", "1"), ("real", "1")]);
        let at = tree.dir.path().join("tree");
        symlink("../real", at.join("e/link")).unwrap();
        symlink("../nowhere", at.join("e/dangling")).unwrap();
        let literals = ["e/none", "f/g/h", "e/link", "e/dangling"];
        let looks = looks(&tree, &["d/**"], &literals);
        fs::write(at.join("e/unasked"), "").unwrap();
        assert_eq!(moved(&tree, &looks), [], "what nobody looked at");
        change(&at);
        assert_eq!(moved(&tree, &looks), expected, "{name}");
    }
}

#[test]
fn looks_of_what_is_young_or_was_seen_to_change_do_not_hold() {
    let tree = Tree::new(&[("d/a", "1"), ("d/b", "1")]);
    let index = tree.index();
    find(&index, &["d/*"], &[]);
    let young = index.looks(None).unwrap();
    let expected = ["d", "d/a", "d/b"].map(path);
    let expected = [
        Moved::Anything(expected[0].clone()),
        Moved::File(expected[1].clone()),
        Moved::File(expected[2].clone()),
    ];
    assert_eq!(moved(&tree, &young), expected);
    let before = looks(&tree, &["d/*"], &["d/c"]);
    let index = tree.index();
    find(&index, &["d/*"], &[]);
    index.entry(&path("d/c")).unwrap();
    // Another file for each, long before anybody looks at it again.
    for name in ["a", "c"] {
        tree.write(&format!("old-{name}"), "2");
    }
    looks(&tree, &["*"], &[]);
    for name in ["a", "c"] {
        let at = tree.dir.path().join("tree");
        fs::rename(at.join(format!("old-{name}")), at.join("d").join(name)).unwrap();
    }
    // Nor is it young: only that it was seen to change tells.
    looks(&tree, &["d/*"], &["d/c"]);
    index.begin_epoch();
    find(&index, &["d/*"], &[]);
    index.entry(&path("d/c")).unwrap();
    let seen = moved(&tree, &index.looks(None).unwrap());
    assert!(seen.contains(&Moved::Anything(path("d"))), "{seen:?}");
    assert!(seen.contains(&Moved::File(path("d/a"))), "{seen:?}");
    assert!(seen.contains(&Moved::File(path("d/c"))), "{seen:?}");
    for cut in 0..before.len() {
        let now =
            observations::compare(&before[..cut], tree.index().root(), &AtomicBool::new(false));
        assert!(now.is_none_or(|moved| !moved.is_empty()), "cut at {cut}");
    }
}

#[test]
fn a_look_that_is_shaken_is_one_at_the_same_kind_of_thing() {
    let tree = Tree::new(&[("d/a", "1")]);
    let stamp = |text| Stamp::at(tree.index().root(), text).unwrap().unwrap();
    for (question, stamp, expected) in [
        (Question::Stamp, stamp("d/a"), Question::RacyFile),
        (Question::Stamp, stamp("d"), Question::RacyFolder),
        (Question::Folder, Stamp::unknown(), Question::RacyFolder),
        (Question::NoFolder, Stamp::unknown(), Question::RacyFolder),
        (Question::RacyFolder, Stamp::unknown(), Question::RacyFolder),
        (Question::NoFile, Stamp::unknown(), Question::RacyFile),
        (Question::Behind, stamp("d/a"), Question::RacyFile),
        (
            Question::NothingBehind,
            Stamp::unknown(),
            Question::RacyFile,
        ),
        (Question::RacyFile, Stamp::unknown(), Question::RacyFile),
    ] {
        let made_racy = entry::made_racy(&entry::encode(question, stamp)).unwrap();
        let (racy, _, stamp) = entry::decode(&made_racy).unwrap();
        assert_eq!((racy, stamp), (expected, Stamp::unknown()), "{question:?}");
    }
}

#[test]
fn what_nobody_looked_at_is_no_look() {
    let tree = Tree::new(&[("d/a", "1")]);
    let index = tree.index();
    index.mark(&path("d/a"));
    assert_eq!(moved(&tree, &index.looks(None).unwrap()), []);
}

#[test]
fn a_young_file_that_became_a_folder_may_mean_anything() {
    let tree = Tree::new(&[("d/a", "1")]);
    let index = tree.index();
    find(&index, &["d/*"], &[]);
    let young = index.looks(None).unwrap();
    fs::remove_file(index.root().absolute(&path("d/a"))).unwrap();
    tree.write("d/a/b", "1");
    let seen = moved(&tree, &young);
    assert!(seen.contains(&Moved::Anything(path("d/a"))), "{seen:?}");
}

#[test]
fn a_look_through_an_old_link_at_a_young_file_does_not_hold() {
    let tree = Tree::new(&[("real", "1")]);
    let at = |text: &str| tree.dir.path().join("tree").join(text);
    symlink("real", at("link")).unwrap();
    looks(&tree, &["*"], &[]);
    loop {
        tree.write("real", "2");
        let index = tree.index();
        index.entry(&path("link")).unwrap();
        let looks = index.looks(None).unwrap();
        let young = Stamp::at(index.root(), "real").unwrap().unwrap();
        // If it took so long that the file is old, once more.
        if !young.is_settled(stamp::now()) {
            assert_eq!(moved(&tree, &looks), [Moved::File(path("link"))]);
            return;
        }
    }
}

#[test]
fn looks_are_carried_on_by_runs_that_look_at_little() {
    let tree = Tree::new(&[("d/a", "1"), ("e/b", "1"), ("f/c", "1")]);
    let first = looks(&tree, &["d/*", "e/*", "f/*"], &[]);
    tree.write("e/b", "22");
    let failed_then = failed(&tree, &first);
    assert_eq!(failed_then.len(), 1);
    let earlier = Some(Earlier {
        looks: &first,
        failed: &failed_then,
    });
    let second = loop {
        let index = tree.index();
        find(&index, &["e/*"], &[]);
        let looks = index.looks(earlier).unwrap();
        if moved(&tree, &looks).is_empty() {
            break looks;
        }
    };
    assert_eq!(second.len(), first.len(), "what is the same is there once");
    for (changed, text) in [("d/a", "2"), ("e/b", "3"), ("f/new", "")] {
        tree.write(changed, text);
        assert!(!moved(&tree, &second).is_empty(), "{changed}");
        fs::remove_file(tree.dir.path().join("tree").join(changed)).unwrap();
    }
    let (mut looks_then, mut sizes) = (second, Vec::new());
    for round in 0..5 {
        tree.write("d/a", &format!("{round}{round}"));
        let failed = failed(&tree, &looks_then);
        let index = tree.index();
        find(&index, &["d/*"], &[]);
        let looks = index.looks(Some(Earlier {
            looks: &looks_then,
            failed: &failed,
        }));
        looks_then = looks.unwrap();
        sizes.push(looks_then.len());
    }
    assert!(sizes.windows(2).all(|two| two[0] == two[1]), "{sizes:?}");
    // A file that changed between the first look of this run and the second counts as both.
    let tree = Tree::new(&[("d/a", "1")]);
    let first = looks(&tree, &["d/*"], &[]);
    tree.write("d/a", "22");
    let other = looks(&tree, &["d/*"], &[]);
    let index = tree.index();
    find(&index, &["d/*"], &[]);
    let both = index
        .looks(Some(Earlier {
            looks: &first,
            failed: &[],
        }))
        .unwrap();
    assert_eq!(moved(&tree, &other), []);
    assert!(moved(&tree, &both).contains(&Moved::File(path("d/a"))));
}

#[test]
fn what_moved_concerns_the_patterns_that_may_find_something_else() {
    let concerns = |moved: &Moved| {
        let patterns = ["d/f", "d/*.c", "d/**/*.c"];
        patterns.map(|pattern| moved.concerns(&Pattern::new(pattern).unwrap()))
    };
    for (moved, expected) in [
        (Moved::File(path("d/f")), [true, false, false]),
        (Moved::File(path("d/x.c")), [false, true, true]),
        (Moved::File(path("d/s/x.c")), [false, false, true]),
        (Moved::File(path("e/x.c")), [false; 3]),
        (Moved::Listing(RelPath::root()), [false; 3]),
        (Moved::Listing(path("d")), [false, true, true]),
        (Moved::Listing(path("d/s")), [false, false, true]),
        (Moved::Listing(path("e")), [false; 3]),
        (Moved::Anything(RelPath::root()), [true; 3]),
        (Moved::Anything(path("d")), [true; 3]),
        (Moved::Anything(path("d/f")), [true, false, true]),
        (Moved::Anything(path("d/x.c")), [false, true, true]),
        (Moved::Anything(path("e")), [false; 3]),
    ] {
        assert_eq!(concerns(&moved), expected, "{moved:?}");
    }
}

#[test]
fn a_path_that_is_written_out_is_found_as_a_pattern_would_find_it() {
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
fn looks_that_do_not_hold_are_told_apart_up_to_a_number() {
    let names: Vec<String> = (0..300).map(|n| format!("d/{n:03}")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "1")).collect();
    let tree = Tree::new(&files);
    let looks = looks(&tree, &["d/*"], &[]);
    let compare = || {
        let index = tree.index();
        let moved = observations::compare(&looks, index.root(), &AtomicBool::new(false))?;
        Some(moved.len())
    };
    for (changed, name) in names.iter().enumerate() {
        let is_of_interest = [0, 1, 255, 256, 257].contains(&changed);
        if is_of_interest {
            assert_eq!(compare(), (changed <= 256).then_some(changed));
        }
        tree.write(name, "22");
    }
    assert_eq!(compare(), None);
}

#[test]
fn each_pattern_is_told_how_much_it_found() {
    let tree = Tree::new(&[("a", "1"), ("b", "1")]);
    let index = tree.index();
    let patterns = ["*", "none*", "a", "none"].map(|text| Pattern::new(text).unwrap());
    for _ in ["read", "known"] {
        let selection = Selection {
            include: &patterns.iter().collect::<Vec<_>>(),
            except: &[],
            folders: false,
        };
        assert_eq!(index.find(selection).unwrap().matches, [2, 0, 1, 0]);
    }
}

#[test]
fn what_is_gone_when_it_is_to_be_read_is_nothing_and_is_remembered_as_that() {
    let tree = Tree::new(&[("d/a", "1")]);
    let looks = loop {
        let index = tree.index();
        find(&index, &["d/*"], &[]);
        assert_eq!(index.read(&path("d/gone")).unwrap(), None);
        assert_eq!(index.read(&path("d")).unwrap(), None);
        let looks = index.looks(None).unwrap();
        if moved(&tree, &looks).is_empty() {
            break looks;
        }
    };
    tree.write("d/gone", "2");
    assert!(moved(&tree, &looks).contains(&Moved::File(path("d/gone"))));
    let index = tree.index();
    assert!(index.read(&path("d/a/below")).unwrap().is_none());
    assert_eq!(
        index.read_all(&[path("d/a"), path("none")]).unwrap().len(),
        1
    );
}

#[test]
fn a_file_is_read_where_it_stands_and_nobody_waits_for_a_pipe() {
    let tree = Tree::new(&[("a", "1")]);
    let index = tree.index();
    symlink("a", index.root().absolute(&path("link"))).unwrap();
    let digest = |text, flags| hash::digest(index.root(), &path(text), flags);
    let nofollow = rustix::fs::OFlags::NOFOLLOW;
    assert_eq!(digest("a", nofollow).unwrap(), Digest::of(b"1"));
    assert!(digest("link", nofollow).is_err());
    let followed = digest("link", rustix::fs::OFlags::empty());
    assert_eq!(followed.unwrap(), Digest::of(b"1"));
    let pipe = index.root().absolute(&path("pipe"));
    let (kind, mode) = (rustix::fs::FileType::Fifo, 0o600.into());
    rustix::fs::mknodat(rustix::fs::CWD, pipe, kind, mode, 0).unwrap();
    assert_eq!(digest("pipe", nofollow).unwrap(), Digest::of(b""));
}

#[test]
fn a_folder_that_vanishes_before_it_is_listed_is_none_and_one_that_cannot_be_is_said() {
    let tree = Tree::new(&[("a", "1")]);
    let index = tree.index();
    let listed = |text| {
        let mut folder = folder::Folder::default();
        folder.exists = true;
        let listed = index.list(&mut folder, &path(text)).is_ok();
        (listed, folder.exists, folder.racy)
    };
    assert_eq!(listed("gone"), (true, false, true));
    assert_eq!(listed("a"), (false, true, false));
    fs::create_dir(index.root().absolute(&path("d"))).unwrap();
    symlink("d", index.root().absolute(&path("link"))).unwrap();
    assert_eq!(listed("link"), (false, true, false));
    let pipe = index.root().absolute(&path("pipe"));
    let (kind, mode) = (rustix::fs::FileType::Fifo, 0o600.into());
    rustix::fs::mknodat(rustix::fs::CWD, pipe, kind, mode, 0).unwrap();
    assert_eq!(listed("pipe"), (false, true, false), "nobody waits for it");
    assert_eq!(listed("d"), (true, true, false));
}

#[test]
fn a_folder_that_came_or_went_while_a_run_went_on_is_racy() {
    let tree = Tree::new(&[("d/a", "1"), ("e/a", "1")]);
    let at = |text: &str| tree.dir.path().join("tree").join(text);
    // All of it is old.
    looks(&tree, &["**"], &[]);
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
fn what_others_asked_before_an_epoch_began_is_no_answer_of_it() {
    let tree = Tree::new(&[("other", "1")]);
    let at = |text: &str| tree.dir.path().join("tree").join(text);
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

#[test]
fn what_did_not_change_is_not_read_again_and_not_kept_twice() {
    let tree = Tree::new(&[("d/a", "1"), ("e/b", "2"), ("real", "3")]);
    symlink("../real", tree.dir.path().join("tree/d/link")).unwrap();
    symlink("nowhere", tree.dir.path().join("tree/d/dangling")).unwrap();
    looks(&tree, &["**"], &[]);
    let index = tree.index();
    assert_eq!(find(&index, &["**"], &[]).len(), 5);
    assert!(index.owed.load(Ordering::Relaxed) >= 5 * COST);
    index.save(&tree.saved()).unwrap();
    assert_eq!(index.owed.load(Ordering::Relaxed), 0);
    let size = fs::metadata(tree.saved()).unwrap().len();
    let later = tree.index();
    assert!((2..=size).contains(&later.saved.size()));
    for _ in ["a run", "the next epoch"] {
        assert_eq!(find(&later, &["**"], &[]).len(), 5);
        assert_eq!(later.owed.load(Ordering::Relaxed), 0);
        later.begin_epoch();
    }
    // It is written if that is less than what would have to be read again.
    later.save(&tree.saved()).unwrap();
    fs::remove_file(tree.saved()).unwrap();
    later.save(&tree.saved()).unwrap();
    assert!(!tree.saved().exists(), "there was nothing to write");
    later.owe(0);
    assert!(COST > size, "else this shows nothing");
    later.save(&tree.saved()).unwrap();
    assert_eq!(fs::metadata(tree.saved()).unwrap().len(), size);
}

/// Returns earlier looks with what a run wants to be changed in them.
fn changed(earlier: Earlier<'_>, index: &FileIndex) -> Option<Vec<u8>> {
    let mut looks = earlier.looks.to_vec();
    for (at, bytes) in index.changes(earlier)? {
        looks[at..at + bytes.len()].copy_from_slice(&bytes);
    }
    Some(looks)
}

#[test]
fn looks_at_what_was_looked_at_before_are_changed_where_they_are() {
    let tree = Tree::new(&[("d/a", "1"), ("d/b", "1"), ("e/c", "1")]);
    let mut then = looks(&tree, &["d/*", "e/*"], &[]);
    for text in ["22", "333", "4444"] {
        tree.write("d/a", text);
        let failed = failed(&tree, &then);
        then = loop {
            let index = tree.index();
            find(&index, &["d/*"], &[]);
            let looks = &then;
            let earlier = Earlier {
                looks,
                failed: &failed,
            };
            let looks = changed(earlier, &index).expect("it is all there");
            if moved(&tree, &looks).is_empty() {
                break looks;
            }
        };
    }
    tree.write("d/b", "22");
    assert_eq!(moved(&tree, &then), [Moved::File(path("d/b"))]);
}

#[test]
fn looks_are_not_changed_where_they_are_if_that_would_leave_any_out() {
    let tree = Tree::new(&[("d/a", "1"), ("e/b", "1")]);
    let then = looks(&tree, &["d/*"], &[]);
    let wants_changes = |patterns: &[&str]| {
        let failed = failed(&tree, &then);
        let index = tree.index();
        find(&index, patterns, &[]);
        let earlier = Earlier {
            looks: &then,
            failed: &failed,
        };
        index.changes(earlier).is_some()
    };
    assert!(wants_changes(&["d/*"]));
    assert!(!wants_changes(&["d/*", "e/*"]), "a look at something new");
    tree.write("d/a", "22");
    assert!(wants_changes(&["d/*"]));
    assert!(!wants_changes(&[]), "nobody looked at what moved");
    assert!(!wants_changes(&["e/*"]));
    fs::remove_file(tree.dir.path().join("tree/d/a")).unwrap();
    assert!(!wants_changes(&["d/*"]), "a file is gone");
}

#[test]
fn what_changed_while_a_run_went_on_is_looked_at_again_by_the_next() {
    let tree = Tree::new(&[("d/a", "1"), ("out", "1")]);
    let then = looks(&tree, &["d/*", "out"], &[]);
    let index = tree.index();
    tree.write("out", "22");
    find(&index, &["d/*", "out"], &[]);
    let earlier = Earlier {
        looks: &then,
        failed: &[],
    };
    let now = changed(earlier, &index).expect("it is all there");
    assert_eq!(moved(&tree, &now), [Moved::File(path("out"))]);
    tree.write("out", "1");
    assert_eq!(moved(&tree, &now), [Moved::File(path("out"))]);
    // Once more, now that the look at it is known not to hold.
    let failed = failed(&tree, &now);
    let index = tree.index();
    find(&index, &["d/*", "out"], &[]);
    let looks = &now;
    let earlier = Earlier {
        looks,
        failed: &failed,
    };
    assert!(index.changes(earlier).is_some());
}

#[test]
fn what_was_not_there_and_came_is_not_forgotten_to_have_come() {
    let tree = Tree::new(&[("out", "1")]);
    let then = looks(&tree, &["out"], &[]);
    // Gone, looked for, made again: twice, so that the first time is still young.
    let mut now = then;
    for _ in 0..2 {
        fs::remove_file(tree.dir.path().join("tree/out")).unwrap();
        let failed = failed(&tree, &now);
        let index = tree.index();
        find(&index, &["out"], &[]);
        tree.write("out", "1");
        index.begin_epoch();
        find(&index, &["out"], &[]);
        let earlier = Earlier {
            looks: &now,
            failed: &failed,
        };
        now = changed(earlier, &index).unwrap_or_else(|| index.looks(Some(earlier)).unwrap());
    }
    assert!(!moved(&tree, &now).is_empty());
    fs::remove_file(tree.dir.path().join("tree/out")).unwrap();
    assert!(!moved(&tree, &now).is_empty(), "what is gone again is seen");
}
