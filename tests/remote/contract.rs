//! Laws that hold on every server.

use fbuild::action::{ActionKey, ActionResult, Entry, EntryKind};
use fbuild::digest::Digest;
use fbuild::path::RelPath;
use fbuild::remote::backend::Timeouts;
use fbuild::remote::trust::Signer;
use fbuild::remote::{Auth, Config, Mode, Remote};
use fbuild::stamp::FileMode;
use fbuild::store::shared::{Deadline, Lookup, SharedCache as _};
use fbuild::store::{Memory, Store};

use crate::servers::{ALL, Server};

/// The settings of a member of a team: one key, one scope.
pub(crate) fn config(url: String, seed: u8, trusted: &[u8]) -> Config {
    Config {
        url,
        mode: Mode::ReadWrite,
        timeouts: Timeouts::default(),
        upload_max: 1 << 29,
        upload_jobs: 4,
        auth: Auth::None,
        signing_key: Some(Signer::from_seed([seed; 32]).secret_text()),
        trusted_keys: trusted
            .iter()
            .map(|seed| Signer::from_seed([*seed; 32]).public().to_string())
            .collect(),
        read_scopes: vec!["main".to_owned()],
        write_scope: "main".to_owned(),
    }
}

pub(crate) fn remote(server: &Server, seed: u8, trusted: &[u8]) -> Remote {
    Remote::new(&config(server.url(server.port()), seed, trusted)).unwrap()
}

/// Returns a store that holds a result with blobs of many sizes.
pub(crate) fn sample() -> (Memory, ActionKey, ActionResult) {
    let store = Memory::new();
    let mut outputs = Vec::new();
    for size in [0_usize, 1, 1000, 262_144, 262_145, 5_000_000] {
        let content: Vec<u8> = (0..size).map(|i| (i * i / 7 % 251) as u8).collect();
        let digest = store.write(&mut &content[..]).unwrap();
        let path = RelPath::new(format!("out/{size:08}")).unwrap();
        outputs.push(Entry {
            path,
            kind: EntryKind::File {
                digest,
                mode: if size == 1 {
                    FileMode::EXECUTABLE
                } else {
                    FileMode::PLAIN
                },
            },
        });
    }
    let manifest = store.write(&mut &b"manifest"[..]).unwrap();
    let log = store.write(&mut &b"log"[..]).unwrap();
    let result = ActionResult {
        outputs,
        log: Some(log),
        manifest,
        duration_ms: 7,
    };
    (store, ActionKey(manifest), result)
}

fn on_every_server(law: impl Fn(&Server)) {
    for kind in ALL {
        if let Some(server) = Server::start(kind) {
            law(&server);
        }
    }
}

#[test]
fn a_pushed_result_comes_back_with_all_its_blobs() {
    on_every_server(|server| {
        let (store, key, result) = sample();
        remote(server, 1, &[1])
            .push(key, &result, &store, &Deadline::default())
            .unwrap();
        let elsewhere = Memory::new();
        let found = remote(server, 2, &[1]).fetch(key, &elsewhere);
        let Lookup::Found(found) = found else {
            panic!("{found:?}")
        };
        assert_eq!(*found, result);
        assert_eq!(elsewhere.missing(&result.blobs()).unwrap(), []);
    });
}

#[test]
fn an_unknown_key_is_absent() {
    on_every_server(|server| {
        let key = ActionKey(Digest::of(b"unknown"));
        let found = remote(server, 1, &[1]).fetch(key, &Memory::new());
        assert!(matches!(found, Lookup::Absent(None)), "{found:?}");
    });
}

#[test]
fn a_result_of_an_untrusted_signer_is_absent() {
    on_every_server(|server| {
        let (store, key, result) = sample();
        remote(server, 2, &[2])
            .push(key, &result, &store, &Deadline::default())
            .unwrap();
        let found = remote(server, 1, &[1]).fetch(key, &Memory::new());
        let Lookup::Absent(Some(reason)) = found else {
            panic!("{found:?}")
        };
        assert!(reason.contains("not trusted"), "{reason}");
    });
}

#[test]
fn a_result_of_another_scope_is_absent() {
    on_every_server(|server| {
        let (store, key, result) = sample();
        let mut pull_request = config(server.url(server.port()), 1, &[1]);
        pull_request.write_scope = "pr-12".to_owned();
        Remote::new(&pull_request)
            .unwrap()
            .push(key, &result, &store, &Deadline::default())
            .unwrap();
        let found = remote(server, 1, &[1]).fetch(key, &Memory::new());
        assert!(matches!(found, Lookup::Absent(None)), "{found:?}");
    });
}

#[test]
fn evicted_result_is_absent_until_pushed_again() {
    on_every_server(|server| {
        let (store, key, result) = sample();
        remote(server, 1, &[1])
            .push(key, &result, &store, &Deadline::default())
            .unwrap();
        if !server.evict_blobs() {
            return;
        }
        let found = remote(server, 1, &[1]).fetch(key, &Memory::new());
        assert!(matches!(found, Lookup::Absent(_)), "{found:?}");
        remote(server, 1, &[1])
            .push(key, &result, &store, &Deadline::default())
            .unwrap();
        let found = remote(server, 1, &[1]).fetch(key, &Memory::new());
        assert!(matches!(found, Lookup::Found(_)), "{found:?}");
    });
}

#[test]
fn a_reader_cannot_push() {
    on_every_server(|server| {
        let (store, key, result) = sample();
        let mut reader = config(server.url(server.port()), 1, &[1]);
        reader.mode = Mode::Read;
        let reader = Remote::new(&reader).unwrap();
        assert!(
            reader
                .push(key, &result, &store, &Deadline::default())
                .is_err()
        );
        assert!(matches!(
            reader.fetch(key, &Memory::new()),
            Lookup::Absent(None)
        ));
    });
}
