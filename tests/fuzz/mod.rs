//! Suite T12: random Buildfiles, patterns, records and state files. No panic, no unbounded time
//! or memory, no wrong answer.

mod golden;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use fbuild::action::index::{FileIndex, Scope, Selection};
use fbuild::action::{ActionKey, ActionResult, Entry, EntryKind};
use fbuild::buildfile;
use fbuild::checked_file::{self, StateFile};
use fbuild::digest::Digest;
use fbuild::glob::Pattern;
use fbuild::graph::Graph;
use fbuild::journal::{Memory, Success};
use fbuild::path::{RelPath, Root};
use fbuild::stamp::FileMode;
use fbuild::store::Store as _;
use fbuild::store::disk::{Disk, Durability};

use crate::model::history::place;
use crate::support::rng::Rng;
use crate::support::scale::{Suite, count, on_all};
use crate::support::user;

/// The maximum time per KiB in an unoptimized build, and the minimum for any input, because
/// machines stall.
const A_KIB: Duration = Duration::from_millis(50);
const ANY: Duration = Duration::from_secs(2);
/// The maximum growth of memory by one input, in KiB.
const MOST_MEMORY: u64 = 256 << 10;

const GOOD: &str = include_str!("../../fixtures/buildfile/everything/Buildfile.kdl");
/// Pieces of Buildfiles, valid and invalid.
const PIECES: &[&str] = &[
    "target",
    "group",
    "template",
    "from=",
    "needs ",
    "inputs ",
    "outputs ",
    "run ",
    "sh ",
    "env ",
    "{",
    "}",
    "{v}",
    "{{",
    "}}",
    "{env.",
    "\"",
    "\"\"\"",
    "#\"",
    "\"#",
    "/-",
    "/*",
    "*/",
    "//",
    "\\",
    "\n",
    "\r\n",
    ";",
    "=",
    "(",
    ")",
    "#true",
    "#null",
    "-1",
    "1e999",
    "99999999999999999999",
    "**",
    "*",
    "[",
    "]",
    "..",
    "/",
    "\u{202e}",
    "\u{feff}",
    "\0",
    "é",
    "😀",
    " ",
    "\t",
    "include ",
];

/// Changes a text in a few places.
fn changed(rng: &mut Rng, text: &str) -> String {
    let mut text: Vec<char> = text.chars().collect();
    for _ in 0..=rng.below(6) {
        let at = rng.below(text.len() + 1);
        let end = (at + rng.below(30)).min(text.len());
        let piece: Vec<char> = match rng.below(3) {
            0 => Vec::new(),
            1 => rng.pick(PIECES).repeat(rng.below(4)).chars().collect(),
            _ => {
                let from = rng.below(text.len() + 1);
                let to = (from + rng.below(80)).min(text.len());
                text[from..to].to_vec()
            }
        };
        text.splice(at..end, piece);
    }
    text.into_iter().collect()
}

/// Changes bytes in a few places.
fn changed_bytes(rng: &mut Rng, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len() + 1);
        match rng.below(5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, *rng.pick(&[0, 1, 0x7f, 0x80, 0xff])),
            2 => {
                let end = (at + rng.below(9)).min(bytes.len());
                bytes.splice(at..end, [0xff; 9]);
            }
            _ if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
            _ => {}
        }
    }
    bytes
}

/// Runs some work within limits of time and memory.
fn timed<T>(length: usize, shown: impl Fn() -> String, work: impl FnOnce() -> T) -> T {
    // For a short pattern, measuring memory would take longer than matching.
    let before = (length > 64).then(memory);
    let started = Instant::now();
    let done = work();
    let most = ANY.max(A_KIB * u32::try_from(length / 1024 + 1).unwrap());
    let took = started.elapsed();
    assert!(took <= most, "{took:?} for {length} bytes: {}", shown());
    let more = before.map_or(0, |before| memory().saturating_sub(before));
    assert!(
        more <= MOST_MEMORY,
        "{more} KiB for {length} bytes: {}",
        shown()
    );
    done
}

fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn t12_random_inputs_get_an_answer() {
    let suite = Suite::begin("T12");
    let before = memory();
    let texts = on_all(suite.seed, buildfiles, count(50_000));
    let patterns = on_all(suite.seed, patterns, count(1_000_000));
    let records = on_all(suite.seed, records, count(50_000));
    let states = on_all(suite.seed, state_files, count(50_000));
    let more = memory().saturating_sub(before);
    suite.report(&format!(
        "{texts} Buildfiles, {patterns} pairs of pattern and path, {records} records, {states} \
         state files: 0 panics, 0 wrong, 0 timeouts, {} MiB more memory",
        more >> 10
    ));
}

fn buildfiles(rng: &mut Rng, texts: usize) -> usize {
    for _ in 0..texts {
        let text = changed(rng, GOOD);
        timed(
            text.len(),
            || text.clone(),
            || {
                let loaded = buildfile::load_text(&text, Path::new("Buildfile.kdl"));
                Graph::new(loaded.buildfile);
            },
        );
    }
    texts
}

/// Compares fbuild's patterns with the simple matcher.
fn patterns(rng: &mut Rng, pairs: usize) -> usize {
    let parts = [
        "*",
        "?",
        "**",
        "a",
        "b",
        "a*",
        "*b",
        "a?b",
        "*.c",
        ".a",
        "\\*",
        "a*b*c",
        "?*",
        "é",
        "[a-c]",
        "[!a]*",
        "[à-ü]",
        "a[!à-é]",
        "[A-ü]*[é-ü]",
        "[]*-]",
        "[^-]?",
        "[+-:]b",
    ];
    let names = [
        "a", "b", "ab", "aab", "axb", "x.c", ".c", ".a", "*", "abc", "aXbXc", "é", "aé", "ü", "aç",
        "中é", "]", "-", "-a", "5b",
    ];
    let join = |rng: &mut Rng, words: &[&str]| -> String {
        let count = 1 + rng.below(5);
        let parts: Vec<&str> = (0..count).map(|_| *rng.pick(words)).collect();
        parts.join("/")
    };
    for _ in 0..pairs / 10 {
        let mut text = join(rng, &parts);
        if rng.percent(20) {
            text.push('/');
        }
        let Ok(pattern) = Pattern::new(&text) else {
            continue;
        };
        for _ in 0..10 {
            let path = join(rng, &names);
            let rel = RelPath::new(&path).unwrap();
            let real = timed(text.len(), || text.clone(), || pattern.matches(&rel));
            assert_eq!(
                real,
                crate::support::glob::matches(&text, &path),
                "`{text}` and `{path}`"
            );
        }
    }
    pairs
}

fn result() -> ActionResult {
    let entry = |path: &str, kind| Entry {
        path: RelPath::new(path).unwrap(),
        kind,
    };
    let digest = Digest::of(b"content");
    let file = EntryKind::File {
        digest,
        mode: FileMode::EXECUTABLE,
    };
    let link = EntryKind::Link {
        target: b"file".to_vec(),
        content: None,
    };
    ActionResult {
        outputs: vec![
            entry("out", EntryKind::Folder),
            entry("out/file", file),
            entry("out/link", link),
        ],
        log: Some(digest),
        manifest: digest,
        duration_ms: 300,
    }
}

/// Changes records: a record that differs from the written one is refused.
fn records(rng: &mut Rng, records: usize) -> usize {
    let folder = place();
    let disk = Disk::open(&folder.join("store"), Durability::None, &user::key());
    let (key, result) = (ActionKey(Digest::of(b"key")), result());
    disk.record(&[(key, result.clone())]).unwrap();
    let hex = key.0.hex();
    let file = folder.join("store/actions").join(&hex[..2]).join(&hex);
    let whole = fs::read(&file).unwrap();
    for _ in 0..records {
        let bytes = changed_bytes(rng, &whole);
        fs::write(&file, &bytes).unwrap();
        let shown = || format!("{bytes:02x?}");
        let read = timed(bytes.len(), shown, || disk.result(key).unwrap());
        match bytes == whole {
            true => assert_eq!(read.as_ref(), Some(&result)),
            false => assert_eq!(read, None, "{}", shown()),
        }
    }
    let _ = fs::remove_dir_all(folder);
    records
}

/// Reads state files with invalid content and a correct checksum. Only fbuild writes them, but a
/// damaged one must not crash it.
fn state_files(rng: &mut Rng, files: usize) -> usize {
    let folder = place();
    let [state, index] = ["state", "index"].map(|n| StateFile::new(folder.join(n), user::key()));
    let tree = folder.join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), "content").unwrap();
    let root = Root::open(&tree).unwrap();
    let mut memory = Memory::default();
    let success = Success {
        key: ActionKey(Digest::of(b"key")),
        result: result(),
    };
    memory.succeed("target", &success.into());
    memory.save(&state).unwrap();
    let everything = Pattern::new("**").unwrap();
    let read = |index: &FileIndex| {
        let selection = Selection {
            include: &[&everything],
            except: &[],
            scope: Scope::OwnedFolder,
        };
        index.find(selection).map(|found| found.entries.len())
    };
    let fresh = FileIndex::open(root.clone(), &index, Vec::new());
    assert_eq!(read(&fresh).unwrap(), 1);
    fresh.save(&index).unwrap();
    for file in [&state, &index] {
        let whole = fs::read(file.path()).unwrap();
        let magic = whole.first_chunk().unwrap();
        let content = checked_file::read(file, magic).unwrap();
        for _ in 0..files / 2 {
            let bytes = changed_bytes(rng, &content);
            checked_file::write(file, magic, &[&bytes]).unwrap();
            timed(
                bytes.len(),
                || format!("{bytes:02x?}"),
                || match file == &state {
                    true => drop(Memory::read(file).keys().count()),
                    // The content may be wrong, but reading it must not fail.
                    false => drop(read(&FileIndex::open(root.clone(), file, Vec::new()))),
                },
            );
        }
    }
    let _ = fs::remove_dir_all(folder);
    files
}
