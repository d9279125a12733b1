//! The laws of observations, on real folders.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::atomic::AtomicBool;

use super::compare::Failed;
use super::list::List;
use super::merge::{edits, merge};
use super::*;
use crate::action::index::testing::{Tree, examine_when_old, find, path};
use crate::stamp::{self, Stamp};

fn builder(index: &FileIndex) -> Builder {
    let mut builder = Builder::default();
    index.observe(|path, expected| builder.push(path, &expected));
    builder
}

fn recorded(index: &FileIndex) -> Vec<u8> {
    builder(index).finish().unwrap()
}

fn recorded_when_old(tree: &Tree, include: &[&str], literals: &[&str]) -> Vec<u8> {
    recorded(&examine_when_old(tree, include, literals))
}

fn compared(tree: &Tree, list: &[u8]) -> Option<Vec<Failed>> {
    compare::compare(List::new(list)?, &tree.root(), &AtomicBool::new(false))
}

fn changes(tree: &Tree, list: &[u8]) -> Vec<Change> {
    let failed = compared(tree, list).unwrap().into_iter();
    failed.map(|(_, change)| change).collect()
}

fn failed(tree: &Tree, list: &[u8]) -> Vec<usize> {
    let failed = compared(tree, list).unwrap().into_iter();
    failed.map(|(number, _)| number).collect()
}

fn earlier<'a>(list: &'a [u8], failed: &'a [usize]) -> Earlier<'a> {
    let list = List::new(list).unwrap();
    Earlier { list, failed }
}

/// Returns an earlier list with the edits of a run.
fn edited(list: &[u8], failed: &[usize], index: &FileIndex) -> Option<Vec<u8>> {
    let mut edited = list.to_vec();
    for (at, bytes) in edits(&builder(index), earlier(list, failed))? {
        edited[at..at + bytes.len()].copy_from_slice(&bytes);
    }
    Some(edited)
}

/// Returns the merged list of an earlier one and a run.
fn merged(list: &[u8], failed: &[usize], index: &FileIndex) -> Vec<u8> {
    merge(&builder(index), earlier(list, failed)).unwrap()
}

fn file(text: &str) -> Change {
    Change::File(path(text))
}

#[test]
fn observations_hold_until_an_observed_path_changes() {
    type Edit = fn(&Tree);
    let listing = |text| Change::Listing(path(text));
    let anything = |text| Change::Anything(path(text));
    let cases: [(&str, Edit, &[Change]); 9] = [
        ("an edit", |t| t.write("d/a", "2"), &[file("d/a")]),
        ("a new file", |t| t.write("d/new", ""), &[listing("d")]),
        (
            "a removed file",
            |t| fs::remove_file(t.at("d/b")).unwrap(),
            &[listing("d"), file("d/b")],
        ),
        (
            "a mode",
            |t| fs::set_permissions(t.at("d/a"), fs::Permissions::from_mode(0o755)).unwrap(),
            &[file("d/a")],
        ),
        (
            "a file that was absent",
            |t| t.write("e/none", ""),
            &[file("e/none")],
        ),
        (
            "a folder that was absent",
            |t| fs::create_dir(t.at("f")).unwrap(),
            &[anything("f")],
        ),
        (
            "a folder replaced by a link",
            |t| {
                fs::rename(t.at("d"), t.at("moved")).unwrap();
                symlink("moved", t.at("d")).unwrap();
            },
            &[anything("d")],
        ),
        (
            "the file behind a link",
            |t| t.write("real", "2"),
            &[file("e/link")],
        ),
        (
            "a file behind a dangling link",
            |t| t.write("nowhere", "2"),
            &[file("e/dangling")],
        ),
    ];
    for (name, edit, expected) in cases {
        let tree = Tree::new(&[("d/a", "1"), ("d/b", "1"), ("e/x", "1"), ("real", "1")]);
        symlink("../real", tree.at("e/link")).unwrap();
        symlink("../nowhere", tree.at("e/dangling")).unwrap();
        let literals = ["e/none", "f/g/h", "e/link", "e/dangling"];
        let list = recorded_when_old(&tree, &["d/**"], &literals);
        tree.write("e/not-examined", "");
        assert_eq!(changes(&tree, &list), [], "before {name}");
        edit(&tree);
        assert_eq!(changes(&tree, &list), expected, "{name}");
    }
}

#[test]
fn young_observations_fail() {
    let tree = Tree::new(&[("d/a", "1"), ("d/b", "1")]);
    let index = tree.index();
    find(&index, &["d/*"], &[]);
    let expected = [Change::Anything(path("d")), file("d/a"), file("d/b")];
    assert_eq!(changes(&tree, &recorded(&index)), expected);
}

#[test]
fn changes_during_a_run_fail_however_old() {
    let tree = Tree::new(&[("d/a", "1"), ("d/b", "1")]);
    let index = tree.index();
    find(&index, &["d/*"], &[]);
    index.entry(&path("d/c")).unwrap();
    // Other files for two names, each old when it gets the name.
    tree.write("old-a", "2");
    tree.write("old-c", "2");
    examine_when_old(&tree, &["*"], &[]);
    fs::rename(tree.at("old-a"), tree.at("d/a")).unwrap();
    fs::rename(tree.at("old-c"), tree.at("d/c")).unwrap();
    examine_when_old(&tree, &["d/*"], &["d/c"]);
    index.begin_epoch();
    find(&index, &["d/*"], &[]);
    index.entry(&path("d/c")).unwrap();
    let seen = changes(&tree, &recorded(&index));
    for expected in [Change::Anything(path("d")), file("d/a"), file("d/c")] {
        assert!(seen.contains(&expected), "{expected:?} is not in {seen:?}");
    }
}

#[test]
fn truncated_list_is_refused_or_fails() {
    let tree = Tree::new(&[("d/a", "1"), ("d/b", "1")]);
    let list = recorded_when_old(&tree, &["d/*"], &["d/c"]);
    for cut in 0..list.len() {
        let failed = compared(&tree, &list[..cut]);
        assert!(
            failed.is_none_or(|failed| !failed.is_empty()),
            "cut at {cut}"
        );
    }
}

#[test]
fn young_file_replaced_by_a_folder_may_be_anything() {
    let tree = Tree::new(&[("d/a", "1")]);
    let index = tree.index();
    find(&index, &["d/*"], &[]);
    let young = recorded(&index);
    fs::remove_file(tree.at("d/a")).unwrap();
    tree.write("d/a/b", "1");
    let seen = changes(&tree, &young);
    assert!(seen.contains(&Change::Anything(path("d/a"))), "{seen:?}");
}

#[test]
fn young_file_behind_an_old_link_fails() {
    let tree = Tree::new(&[("real", "1")]);
    symlink("real", tree.at("link")).unwrap();
    examine_when_old(&tree, &["*"], &[]);
    loop {
        tree.write("real", "2");
        let index = tree.index();
        index.entry(&path("link")).unwrap();
        let list = recorded(&index);
        let young = Stamp::at(index.root(), "real").unwrap().unwrap();
        // On a slow machine the file may be old by now: try again.
        if !young.is_old_enough(stamp::now()) {
            assert_eq!(changes(&tree, &list), [file("link")]);
            return;
        }
    }
}

#[test]
fn changes_are_told_apart_up_to_a_bound() {
    let names: Vec<String> = (0..300).map(|n| format!("d/{n:03}")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "1")).collect();
    let tree = Tree::new(&files);
    let list = recorded_when_old(&tree, &["d/*"], &[]);
    let compare = || Some(compared(&tree, &list)?.len());
    for (changed, name) in names.iter().enumerate() {
        if [0, 1, 255, 256, 257].contains(&changed) {
            assert_eq!(compare(), (changed <= 256).then_some(changed));
        }
        tree.write(name, "22");
    }
    assert_eq!(compare(), None);
}

/// A tree with three folders, its list, and the list after `e/b` was edited and only `e/*`
/// examined again.
fn merged_after_edit() -> (Tree, Vec<u8>, Vec<u8>) {
    let tree = Tree::new(&[("d/a", "1"), ("e/b", "1"), ("f/c", "1")]);
    let first = recorded_when_old(&tree, &["d/*", "e/*", "f/*"], &[]);
    tree.write("e/b", "22");
    let failed = failed(&tree, &first);
    assert_eq!(failed.len(), 1);
    let second = loop {
        let index = tree.index();
        find(&index, &["e/*"], &[]);
        let list = merged(&first, &failed, &index);
        if changes(&tree, &list).is_empty() {
            break list;
        }
    };
    (tree, first, second)
}

#[test]
fn merge_keeps_observations_that_were_not_repeated() {
    let (tree, _, second) = merged_after_edit();
    for (changed, text) in [("d/a", "2"), ("e/b", "3"), ("f/new", "")] {
        tree.write(changed, text);
        assert!(!changes(&tree, &second).is_empty(), "{changed}");
        fs::remove_file(tree.at(changed)).unwrap();
    }
}

#[test]
fn merge_stores_each_observation_once() {
    let (_tree, first, second) = merged_after_edit();
    assert_eq!(second.len(), first.len());
}

#[test]
fn merged_list_does_not_grow_with_each_run() {
    let (tree, _, mut list) = merged_after_edit();
    let mut sizes = Vec::new();
    for round in 0..5 {
        tree.write("d/a", &format!("{round}{round}"));
        let failed = failed(&tree, &list);
        let index = tree.index();
        find(&index, &["d/*"], &[]);
        list = merged(&list, &failed, &index);
        sizes.push(list.len());
    }
    assert!(sizes.windows(2).all(|two| two[0] == two[1]), "{sizes:?}");
}

#[test]
fn merge_keeps_both_of_two_different_observations() {
    let tree = Tree::new(&[("d/a", "1")]);
    let first = recorded_when_old(&tree, &["d/*"], &[]);
    tree.write("d/a", "22");
    let second = examine_when_old(&tree, &["d/*"], &[]);
    assert_eq!(changes(&tree, &recorded(&second)), []);
    let both = merged(&first, &[], &second);
    assert!(changes(&tree, &both).contains(&file("d/a")));
}

#[test]
fn edits_replace_observations_in_place() {
    let tree = Tree::new(&[("d/a", "1"), ("d/b", "1"), ("e/c", "1")]);
    let mut list = recorded_when_old(&tree, &["d/*", "e/*"], &[]);
    for text in ["22", "333", "4444"] {
        tree.write("d/a", text);
        let failed = failed(&tree, &list);
        list = loop {
            let index = tree.index();
            find(&index, &["d/*"], &[]);
            let list = edited(&list, &failed, &index).expect("all paths are in the list");
            if changes(&tree, &list).is_empty() {
                break list;
            }
        };
    }
    tree.write("d/b", "22");
    assert_eq!(changes(&tree, &list), [file("d/b")]);
}

#[test]
fn edits_are_refused_if_they_would_lose_any() {
    let tree = Tree::new(&[("d/a", "1"), ("e/b", "1")]);
    let list = recorded_when_old(&tree, &["d/*"], &[]);
    let is_editable = |patterns: &[&str]| {
        let failed = failed(&tree, &list);
        let index = tree.index();
        find(&index, patterns, &[]);
        edited(&list, &failed, &index).is_some()
    };
    assert!(is_editable(&["d/*"]));
    assert!(!is_editable(&["d/*", "e/*"]), "a new path");
    tree.write("d/a", "22");
    assert!(is_editable(&["d/*"]));
    assert!(!is_editable(&[]), "a failed path that was not examined");
    assert!(!is_editable(&["e/*"]));
    fs::remove_file(tree.at("d/a")).unwrap();
    assert!(!is_editable(&["d/*"]), "a removed file");
}

#[test]
fn edit_of_a_path_that_changed_during_the_run_fails() {
    let tree = Tree::new(&[("d/a", "1"), ("out", "1")]);
    let list = recorded_when_old(&tree, &["d/*", "out"], &[]);
    let index = tree.index();
    tree.write("out", "22");
    find(&index, &["d/*", "out"], &[]);
    let list = edited(&list, &[], &index).expect("all paths are in the list");
    assert_eq!(changes(&tree, &list), [file("out")]);
    tree.write("out", "1");
    assert_eq!(changes(&tree, &list), [file("out")]);
    // The next run, which begins with an observation that failed, can edit it again.
    let failed = failed(&tree, &list);
    let index = tree.index();
    find(&index, &["d/*", "out"], &[]);
    assert!(edited(&list, &failed, &index).is_some());
}

#[test]
fn path_that_was_absent_for_a_while_fails() {
    let tree = Tree::new(&[("out", "1")]);
    let mut list = recorded_when_old(&tree, &["out"], &[]);
    // Removed, examined, made again: twice, because the first time it is still young.
    for _ in 0..2 {
        fs::remove_file(tree.at("out")).unwrap();
        let failed = failed(&tree, &list);
        let index = tree.index();
        find(&index, &["out"], &[]);
        tree.write("out", "1");
        index.begin_epoch();
        find(&index, &["out"], &[]);
        let edited = edited(&list, &failed, &index);
        list = edited.unwrap_or_else(|| merged(&list, &failed, &index));
    }
    assert!(!changes(&tree, &list).is_empty());
    fs::remove_file(tree.at("out")).unwrap();
    assert!(!changes(&tree, &list).is_empty(), "removed again");
}

#[test]
fn path_made_after_it_was_absent_is_racy() {
    let tree = Tree::new(&[("d/a", "1")]);
    let index = tree.index();
    index.entry(&path("d/new")).unwrap();
    tree.write("d/new", "1");
    let list = recorded(&index);
    fs::remove_file(tree.at("d/new")).unwrap();
    assert!(changes(&tree, &list).contains(&file("d/new")));
}
