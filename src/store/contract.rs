//! Checks what every store must do; the tests of each store call it.

use std::io::Read as _;
use std::os::fd::AsFd as _;

use super::Store;
use crate::action::{ActionKey, ActionResult, Entry, EntryKind};
use crate::digest::{BUFFER_SIZE, Digest};
use crate::path::RelPath;
use crate::stamp::FileMode;

/// Checks an empty, working store.
pub(super) fn holds(store: &dyn Store) {
    keeps_blobs(store);
    keeps_results(store);
    copies_blobs(store);
}

fn contents() -> Vec<Vec<u8>> {
    let sizes = [
        0,
        1,
        10_000,
        BUFFER_SIZE - 1,
        BUFFER_SIZE,
        BUFFER_SIZE + 1,
        3_000_000,
    ];
    let content = |size: usize| (0..size).map(|i| (i * i / 7 % 251) as u8).collect();
    sizes.into_iter().map(content).collect()
}

fn keeps_blobs(store: &dyn Store) {
    let unknown = Digest::of(b"never written");
    for content in contents() {
        let digest = Digest::of(&content);
        assert!(store.read(digest).unwrap().is_none());
        assert_eq!(
            store.missing(&[digest, unknown]).unwrap(),
            [digest, unknown]
        );
        for _ in 0..2 {
            assert_eq!(store.write(&mut &content[..]).unwrap(), digest);
            assert_eq!(store.missing(&[unknown, digest]).unwrap(), [unknown]);
            let mut bytes = Vec::new();
            let mut reader = store.read(digest).unwrap().unwrap();
            reader.read_to_end(&mut bytes).unwrap();
            assert!(bytes == content);
        }
        let other_size = Digest::from_parts(*digest.hash(), digest.size() + 1);
        let reader = store.read(other_size).unwrap();
        assert!(reader.is_none_or(|mut reader| reader.read_to_end(&mut Vec::new()).is_err()));
        assert_eq!(
            store.missing(&[digest]).unwrap(),
            [],
            "asking for another size does no harm"
        );
    }
}

fn keeps_results(store: &dyn Store) {
    let manifest = store.write(&mut &b"manifest"[..]).unwrap();
    let key = ActionKey(manifest);
    assert_eq!(store.result(key).unwrap(), None);
    let mut result = result(manifest);
    store.record(&[(key, result.clone())]).unwrap();
    assert_eq!(store.result(key).unwrap(), Some(result.clone()));
    result.duration_ms += 1;
    store.record(&[(key, result.clone())]).unwrap();
    assert_eq!(
        store.result(key).unwrap(),
        Some(result),
        "the last one counts"
    );
    assert_eq!(store.result(ActionKey(Digest::of(b"other"))).unwrap(), None);
}

fn copies_blobs(store: &dyn Store) {
    for content in contents() {
        let digest = store.write(&mut &content[..]).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        assert!(store.copy(digest, &mut file).unwrap());
        assert_eq!(
            rustix::fs::fstat(file.as_fd()).unwrap().st_size,
            content.len() as i64
        );
        std::io::Seek::rewind(&mut file).unwrap();
        assert_eq!(
            Digest::of_reader(&mut file, &mut Vec::new()).unwrap(),
            digest
        );
    }
    let mut file = tempfile::tempfile().unwrap();
    assert!(!store.copy(Digest::of(b"unknown"), &mut file).unwrap());
}

/// Returns a result with one entry of each kind.
pub(super) fn result(manifest: Digest) -> ActionResult {
    let path = |text: &str| RelPath::new(text).unwrap();
    let entry = |text: &str, kind| Entry {
        path: path(text),
        kind,
    };
    let file = |mode| EntryKind::File {
        digest: Digest::of(b"abc"),
        mode,
    };
    let link = EntryKind::Link {
        target: b"../\xff".to_vec(),
        content: None,
    };
    ActionResult {
        outputs: vec![
            entry("out", EntryKind::Folder),
            entry("out/a", file(FileMode::PLAIN)),
            entry("out/b\n", file(FileMode::EXECUTABLE)),
            entry("out/link", link),
        ],
        log: Some(Digest::of(b"log")),
        manifest,
        duration_ms: 1234,
    }
}
