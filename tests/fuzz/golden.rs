//! Suite T16: keys and records do not change. `fixtures/golden` has the keys of 200 actions and
//! a store of this version; also, two different actions never have the same key, however their
//! facts are split. `FBUILD_GOLDEN=write` rewrites the fixtures, which is only allowed with a
//! new format version.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use fbuild::action::manifest::Manifest;
use fbuild::action::{
    Action, ActionKey, ActionResult, Entry, EntryKind, FileContent, OutputSpec, ResolvedCommand,
    ToolVersion,
};
use fbuild::buildfile::model::Output;
use fbuild::digest::Digest;
use fbuild::glob::Pattern;
use fbuild::path::RelPath;
use fbuild::stamp::FileMode;
use fbuild::store::Store as _;
use fbuild::store::disk::{Disk, Durability};
use serde::{Deserialize, Serialize};

use crate::support::rng::Rng;
use crate::support::scale::{Suite, count, variable};
use crate::support::user;

/// The number of recorded keys.
const VECTORS: usize = 200;

/// An action and its key on Linux on x86-64.
#[derive(Serialize, Deserialize)]
struct Vector {
    key: String,
    action: Facts,
}

/// Everything that decides a result, as text.
#[derive(Clone, Serialize, Deserialize)]
struct Facts {
    commands: Vec<Command>,
    dir: String,
    env: BTreeMap<String, Option<String>>,
    secrets: BTreeSet<String>,
    tools: BTreeMap<String, (String, String)>,
    inputs: BTreeMap<String, Content>,
    needs: BTreeMap<String, Content>,
    outputs: Vec<Declared>,
}

#[derive(Clone, Serialize, Deserialize)]
enum Command {
    Run(Vec<String>),
    Sh(String),
}

#[derive(Clone, Serialize, Deserialize)]
enum Content {
    /// A text and permission bits.
    File(String, u32),
    Link(String, Option<(String, u32)>),
    Folder,
}

#[derive(Clone, Serialize, Deserialize)]
struct Declared {
    kind: String,
    path: String,
    committed: bool,
    keep: Vec<String>,
}

/// Strings that resemble parts of a manifest, alone or joined.
const WORDS: &[&str] = &[
    "",
    "a",
    "b",
    "ab",
    "\t",
    "\n",
    "\\",
    "\\t",
    "=",
    "=a",
    "a\tb",
    "a\nb",
    "\\x09",
    "é",
    "e\u{301}",
    "run",
    "sh",
    "env",
    "file",
    "exec",
    "link",
    "committed",
    "keep",
    "input",
    "need",
    ".",
    "/",
    "-",
];
const PATHS: &[&str] = &[
    "a",
    "b",
    "ab",
    "a/b",
    "a b",
    "a\tb",
    "a\nb",
    "a\\b",
    "file",
    "committed",
    "keep",
    "é",
    "-a",
];
const PATTERNS: &[&str] = &[
    "a/*",
    "**/a",
    "a?",
    "*.c",
    "keep",
    "committed",
    "a",
    "a b",
    "{a,b}",
];

fn word(rng: &mut Rng) -> String {
    (0..=rng.below(2)).map(|_| *rng.pick(WORDS)).collect()
}

fn words(rng: &mut Rng, most: usize) -> Vec<String> {
    (0..rng.below(most + 1)).map(|_| word(rng)).collect()
}

fn path(rng: &mut Rng) -> String {
    (*rng.pick(PATHS)).to_owned()
}

fn content(rng: &mut Rng) -> Content {
    let bits = |rng: &mut Rng| *rng.pick(&[0o644, 0o755, 0o600, 0o444]);
    match rng.below(5) {
        0..=2 => Content::File(word(rng), bits(rng)),
        3 => {
            let behind = rng.percent(50).then(|| (word(rng), bits(rng)));
            Content::Link(format!("x{}", word(rng)), behind)
        }
        _ => Content::Folder,
    }
}

fn facts(rng: &mut Rng) -> Facts {
    let command = |rng: &mut Rng| match rng.percent(70) {
        true => Command::Run(words(rng, 3)),
        false => Command::Sh(word(rng)),
    };
    let declared = |rng: &mut Rng| {
        let kind = *rng.pick(&["file", "folder", "glob"]);
        Declared {
            kind: kind.to_owned(),
            path: match kind {
                "glob" => (*rng.pick(PATTERNS)).to_owned(),
                _ => path(rng),
            },
            committed: rng.percent(30),
            keep: (0..rng.below(3))
                .map(|_| (*rng.pick(PATTERNS)).to_owned())
                .collect(),
        }
    };
    let some = |rng: &mut Rng, most: usize| 0..rng.below(most + 1);
    Facts {
        commands: some(rng, 2).map(|_| command(rng)).collect(),
        dir: if rng.percent(70) {
            String::new()
        } else {
            path(rng)
        },
        env: some(rng, 2)
            .map(|_| (word(rng), rng.percent(80).then(|| word(rng))))
            .collect(),
        secrets: some(rng, 1).map(|_| word(rng)).collect(),
        tools: some(rng, 1)
            .map(|_| (word(rng), (format!("1.{}", rng.below(3)), word(rng))))
            .collect(),
        inputs: some(rng, 2).map(|_| (path(rng), content(rng))).collect(),
        needs: some(rng, 2).map(|_| (path(rng), content(rng))).collect(),
        outputs: some(rng, 2).map(|_| declared(rng)).collect(),
    }
}

fn rel(path: &str) -> RelPath {
    RelPath::new(path).unwrap()
}

fn entries(files: &BTreeMap<String, Content>) -> Vec<Entry> {
    let digest = |text: &String| Digest::of(text.as_bytes());
    let kind = |content: &Content| match content {
        Content::File(text, bits) => EntryKind::File {
            digest: digest(text),
            mode: FileMode::new(*bits),
        },
        Content::Link(target, behind) => EntryKind::Link {
            target: target.clone().into_bytes(),
            content: behind.as_ref().map(|(text, bits)| FileContent {
                digest: digest(text),
                mode: FileMode::new(*bits),
            }),
        },
        Content::Folder => EntryKind::Folder,
    };
    let entry = |(path, content): (&String, &Content)| Entry {
        path: rel(path),
        kind: kind(content),
    };
    files.iter().map(entry).collect()
}

impl Facts {
    fn action(&self) -> Action {
        let command = |command: &Command| match command {
            Command::Run(argv) => ResolvedCommand::Run(argv.iter().map(Into::into).collect()),
            Command::Sh(script) => ResolvedCommand::Sh(script.clone()),
        };
        let tool = |(name, (version, output)): (&String, &(String, String))| {
            let output = Digest::of(output.as_bytes());
            let version = version.clone();
            (name.clone(), ToolVersion { version, output })
        };
        let pattern = |text: &String| Pattern::new(text).unwrap();
        let spec = |declared: &Declared| OutputSpec {
            output: match declared.kind.as_str() {
                "file" => Output::File(rel(&declared.path)),
                "folder" => Output::Folder(rel(&declared.path)),
                _ => Output::Glob(pattern(&declared.path)),
            },
            committed: declared.committed,
            keep: declared.keep.iter().map(pattern).collect(),
        };
        let value = |(name, value): (&String, &Option<String>)| {
            (name.clone(), value.as_ref().map(Into::into))
        };
        let secret = |name: &String| (name.clone(), "hidden".into());
        Action {
            commands: self.commands.iter().map(command).collect(),
            dir: rel(&self.dir),
            env: self.env.iter().map(value).collect(),
            inherited: [("HOME".to_owned(), "/anywhere".into())].into(),
            secrets: self.secrets.iter().map(secret).collect(),
            tools: self.tools.iter().map(tool).collect(),
            inputs: entries(&self.inputs),
            needs: [("maker".to_owned(), entries(&self.needs))].into(),
            ran: BTreeMap::new(),
            outputs: self.outputs.iter().map(spec).collect(),
        }
    }

    /// Returns the key of the action on Linux on x86-64.
    fn key(&self) -> String {
        let manifest = Manifest::of(&self.action());
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        let here = format!("\nplatform\t{os}\t{arch}\n");
        let there = "\nplatform\tlinux\tx86_64\n";
        Digest::of(manifest.text().replacen(&here, there, 1).as_bytes()).hex()
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden")
}

fn is_writing() -> bool {
    variable("FBUILD_GOLDEN").as_deref() == Some("write")
}

#[test]
fn t16_keys_do_not_change() {
    let file = fixtures().join("keys.json");
    if is_writing() {
        let mut rng = Rng::new(16);
        let vectors = std::iter::repeat_with(|| facts(&mut rng)).take(VECTORS);
        let lines = vectors.map(|action| {
            let key = action.key();
            serde_json::to_string(&Vector { key, action }).unwrap()
        });
        let lines: Vec<String> = lines.collect();
        fs::create_dir_all(fixtures()).unwrap();
        fs::write(&file, format!("[\n{}\n]\n", lines.join(",\n"))).unwrap();
    }
    let vectors: Vec<Vector> = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(vectors.len(), VECTORS);
    for Vector { key, action } in vectors {
        let shown = serde_json::to_string(&action).unwrap();
        assert_eq!(action.key(), key, "the key of another version: {shown}");
    }
}

#[test]
fn t16_different_actions_have_different_keys() {
    let suite = Suite::begin("T16");
    let mut rng = Rng::new(suite.seed);
    let (mut keys, mut known) = (HashMap::new(), HashMap::new());
    let actions = count(1_000_000);
    for _ in 0..actions {
        let facts = facts(&mut rng);
        let key = *Manifest::of(&facts.action()).key().0.hash();
        let text = serde_json::to_vec(&facts).unwrap();
        let identity = *Digest::of(&text).hash();
        let shown = || String::from_utf8_lossy(&text);
        let before = *keys.entry(key).or_insert(identity);
        assert_eq!(before, identity, "it has the key of another: {}", shown());
        assert_eq!(
            *known.entry(identity).or_insert(key),
            key,
            "two keys: {}",
            shown()
        );
    }
    let distinct = keys.len();
    suite.report(&format!(
        "{actions} actions, {distinct} of them distinct, 0 keys shared, 0 actions with two keys"
    ));
}

/// Returns the result in the fixture's store, with its key and blobs.
fn stored() -> (ActionKey, ActionResult, Vec<&'static [u8]>) {
    let blobs: Vec<&[u8]> = vec![b"a file\n", b"#!/bin/sh\n", b"a log\n", b"a manifest\n"];
    let digest = |at: usize| Digest::of(blobs[at]);
    let file = |digest, mode| EntryKind::File { digest, mode };
    let link = EntryKind::Link {
        target: b"../elsewhere".to_vec(),
        content: None,
    };
    let outputs = [
        ("out", EntryKind::Folder),
        ("out/empty", EntryKind::Folder),
        ("out/file", file(digest(0), FileMode::PLAIN)),
        ("out/link", link),
        ("out/program", file(digest(1), FileMode::EXECUTABLE)),
    ];
    let entry = |(path, kind)| Entry {
        path: rel(path),
        kind,
    };
    let result = ActionResult {
        outputs: outputs.map(entry).into(),
        log: Some(digest(2)),
        manifest: digest(3),
        duration_ms: 1234,
    };
    (ActionKey(digest(3)), result, blobs)
}

#[test]
fn t16_recorded_store_is_still_read() {
    let (key, result, blobs) = stored();
    let folder = fixtures().join("store-3");
    if is_writing() {
        let disk = Disk::open(&folder, Durability::None, &user::key());
        for blob in &blobs {
            disk.write(&mut &**blob).unwrap();
        }
        disk.record(&[(key, result.clone())]).unwrap();
        let _ = fs::remove_file(folder.join(".gitignore"));
    }
    let (_copy, disk) = open_copy(&folder);
    assert_eq!(disk.result(key).unwrap(), Some(result));
    for blob in blobs {
        let mut bytes = Vec::new();
        let mut reader = disk.read(Digest::of(blob)).unwrap().unwrap();
        std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
        assert_eq!(bytes, blob);
    }
    assert_eq!(disk.verify(false).unwrap().damaged, []);
    assert_eq!(disk.take_warnings(), []);
}

#[test]
fn t16_unsealed_record_is_missing_and_kept() {
    let (key, ..) = stored();
    let (_copy, disk) = open_copy(&fixtures().join("store-1"));
    assert_eq!(disk.result(key).unwrap(), None);
    assert_eq!(disk.verify(false).unwrap().damaged, []);
    let warnings = disk.take_warnings();
    assert_eq!(warnings[0].code, "fbuild::store::format");
}

/// Opens a copy of a store, which is removed with the folder.
fn open_copy(folder: &Path) -> (tempfile::TempDir, Disk) {
    let copy = tempfile::tempdir().unwrap();
    let store = copy.path().join("store");
    copy_all(folder, &store);
    let disk = Disk::open(&store, Durability::None, &user::key());
    (copy, disk)
}

fn copy_all(from: &Path, to: &Path) {
    // Independent of the umask: fbuild does not trust a store that others may write to.
    fs::DirBuilder::new().mode(0o700).create(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_all(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}
