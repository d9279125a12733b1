//! Tests a store in a folder whose files or folders were changed from outside.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use super::*;
use crate::digest::{BUFFER_SIZE, Key};
use crate::store::contract;
use crate::store::tmpfile::LinkMethod;

pub(super) struct Sample {
    folder: tempfile::TempDir,
    pub(super) store: Disk,
}

impl Sample {
    pub(super) fn new() -> Self {
        Self::with(Durability::Batched)
    }

    pub(super) fn with(durability: Durability) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Disk::open(&folder.path().join("cache"), durability, &Key::new([7; 32]));
        assert_eq!(store.take_warnings(), []);
        Self { folder, store }
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join("cache").join(below)
    }

    pub(super) fn reopen(&self) -> Disk {
        Disk::open(&self.path(""), Durability::Batched, &Key::new([7; 32]))
    }

    pub(super) fn artifact(&self, digest: Digest) -> PathBuf {
        self.path("artifacts").join(layout::name(&digest))
    }

    pub(super) fn write(&self, content: &[u8]) -> Digest {
        self.store.write(&mut &content[..]).unwrap()
    }

    /// Returns the content of a blob; `None` if it is missing or damaged.
    pub(super) fn read(&self, digest: Digest) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut reader = self.store.read(digest).unwrap()?;
        reader.read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    pub(super) fn record(&self, name: &[u8]) -> (ActionKey, ActionResult) {
        let key = ActionKey(self.write(name));
        let result = contract::result(key.0);
        self.store.record(&[(key, result.clone())]).unwrap();
        (key, result)
    }

    pub(super) fn quarantined(&self) -> usize {
        fs::read_dir(self.path("quarantine")).unwrap().count()
    }
}

fn codes(store: &Disk) -> Vec<String> {
    store.take_warnings().into_iter().map(|w| w.code).collect()
}

fn make_pipe(place: &PathBuf) {
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, place, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

fn mode(path: PathBuf) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn disk_satisfies_the_contract_with_any_link_method() {
    for way in [LinkMethod::Descriptor, LinkMethod::Proc, LinkMethod::None] {
        let sample = Sample::new();
        sample.store.0.publisher.tmpfile.fall_back(way);
        contract::holds(&sample.store);
        assert_eq!(sample.store.take_warnings(), []);
        assert_eq!(fs::read_dir(sample.path("incoming")).unwrap().count(), 0);
    }
}

#[test]
fn disk_satisfies_the_contract_without_durability() {
    let folder = tempfile::tempdir().unwrap();
    contract::holds(&Disk::open(
        folder.path(),
        Durability::None,
        &Key::new([7; 32]),
    ));
}

#[test]
fn store_is_private() {
    let sample = Sample::new();
    let (key, _) = sample.record(b"manifest");
    assert_eq!(mode(sample.path("")), 0o700);
    assert_eq!(mode(sample.path("artifacts")), 0o700);
    assert_eq!(mode(sample.artifact(key.0)), 0o600);
    assert_eq!(mode(sample.path("lock")), 0o600);
}

#[test]
fn store_is_excluded_from_backups_and_git() {
    let sample = Sample::new();
    assert!(
        fs::read_to_string(sample.path("CACHEDIR.TAG"))
            .unwrap()
            .starts_with("Signature: ")
    );
    assert_eq!(
        fs::read_to_string(sample.path(".gitignore")).unwrap(),
        "*\n"
    );
}

#[test]
fn reopened_store_has_results_and_blobs() {
    let sample = Sample::new();
    let (key, result) = sample.record(b"manifest");
    let store = sample.reopen();
    assert_eq!(store.result(key).unwrap(), Some(result));
    assert_eq!(store.missing(&[key.0]).unwrap(), []);
}

#[test]
fn damaged_blob_is_quarantined_and_can_be_rewritten() {
    for size in [100, BUFFER_SIZE * 3] {
        let content = vec![7; size];
        let mut flipped = content.clone();
        flipped[size / 2] ^= 1;
        for bytes in [
            &flipped[..],
            &content[1..],
            &[&content[..], b"x"].concat(),
            b"",
        ] {
            let sample = Sample::new();
            let digest = sample.write(&content);
            fs::write(sample.artifact(digest), bytes).unwrap();
            assert_eq!(sample.read(digest), None);
            assert_eq!(codes(&sample.store), ["fbuild::store::corrupt"]);
            assert_eq!((sample.quarantined(), sample.store.damaged()), (1, 1));
            assert_eq!(sample.store.missing(&[digest]).unwrap(), [digest]);
            sample.write(&content);
            assert_eq!(sample.read(digest), Some(content.clone()));
        }
    }
}

#[test]
fn copy_of_a_damaged_blob_fails() {
    for size in [100, BUFFER_SIZE * 3] {
        let sample = Sample::new();
        let digest = sample.write(&vec![7; size]);
        fs::write(sample.artifact(digest), vec![8; size]).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        assert!(!sample.store.copy(digest, &mut file).unwrap());
        assert_eq!(codes(&sample.store), ["fbuild::store::corrupt"]);
        assert_eq!(sample.quarantined(), 1);
    }
}

#[test]
fn write_replaces_a_damaged_blob() {
    for (size, damaged) in [(100, 100), (100, 101), (BUFFER_SIZE * 3, BUFFER_SIZE * 3)] {
        for way in [LinkMethod::Descriptor, LinkMethod::None] {
            let sample = Sample::new();
            sample.store.0.publisher.tmpfile.fall_back(way);
            let content = vec![7; size];
            let digest = sample.write(&content);
            let mut other = vec![7; damaged];
            other[damaged - 1] = 8;
            fs::write(sample.artifact(digest), other).unwrap();
            sample.write(&content);
            assert_eq!(sample.read(digest), Some(content));
            assert_eq!(codes(&sample.store), ["fbuild::store::corrupt"]);
        }
    }
}

#[test]
fn link_folder_or_pipe_is_not_read_as_a_blob() {
    let content = b"content".to_vec();
    let sample = Sample::new();
    let digest = sample.write(&content);
    let place = sample.artifact(digest);
    let secret = sample.folder.path().join("secret");
    fs::write(&secret, &content).unwrap();
    let intruders: [&dyn Fn(&PathBuf); 3] = [
        &|place| symlink(&secret, place).unwrap(),
        &|place| fs::create_dir(place).unwrap(),
        &make_pipe,
    ];
    for intrude in intruders {
        fs::remove_file(&place).unwrap();
        intrude(&place);
        assert_eq!(sample.read(digest), None);
        assert_eq!(sample.write(&content), digest);
        assert_eq!(sample.read(digest).as_ref(), Some(&content));
    }
    assert_eq!(fs::read(&secret).unwrap(), content);
}

#[test]
fn damaged_record_is_a_miss_and_quarantined() {
    let sample = Sample::new();
    let (key, result) = sample.record(b"manifest");
    let place = sample.path("actions").join(layout::name(&key.0));
    let bytes = fs::read(&place).unwrap();
    for bad in [&bytes[..bytes.len() - 1], b"", b"nonsense"] {
        fs::write(&place, bad).unwrap();
        assert_eq!(sample.store.result(key).unwrap(), None);
        assert_eq!(codes(&sample.store), ["fbuild::store::corrupt"]);
        assert!(!place.exists());
        sample.store.record(&[(key, result.clone())]).unwrap();
        assert_eq!(sample.store.result(key).unwrap().as_ref(), Some(&result));
    }
}

#[test]
fn link_or_folder_is_not_read_as_a_record() {
    let sample = Sample::new();
    let (key, result) = sample.record(b"manifest");
    let place = sample.path("actions").join(layout::name(&key.0));
    let intruders: [&dyn Fn(); 2] = [&|| symlink("/etc/passwd", &place).unwrap(), &|| {
        fs::create_dir(&place).unwrap()
    }];
    for intrude in intruders {
        fs::remove_file(&place).unwrap();
        intrude();
        assert_eq!(sample.store.result(key).unwrap(), None);
        assert_eq!(codes(&sample.store), ["fbuild::store::corrupt"]);
        sample.store.record(&[(key, result.clone())]).unwrap();
        assert_eq!(sample.store.result(key).unwrap().as_ref(), Some(&result));
    }
}

#[test]
fn record_of_a_later_format_is_a_miss_and_stays() {
    let sample = Sample::new();
    let (key, _) = sample.record(b"manifest");
    let place = sample.path("actions").join(layout::name(&key.0));
    let mut bytes = fs::read(&place).unwrap();
    record::set_format(&mut bytes, 9);
    fs::write(&place, &bytes).unwrap();
    assert_eq!(sample.store.result(key).unwrap(), None);
    assert_eq!(codes(&sample.store), ["fbuild::store::format"]);
    assert_eq!(fs::read(&place).unwrap(), bytes);
}

#[test]
fn record_swapped_for_another_is_a_miss() {
    let sample = Sample::new();
    let (one, _) = sample.record(b"one");
    let (two, _) = sample.record(b"two");
    let place = |key: ActionKey| sample.path("actions").join(layout::name(&key.0));
    fs::copy(place(one), place(two)).unwrap();
    assert_eq!(sample.store.result(two).unwrap(), None);
    assert!(sample.store.result(one).unwrap().is_some());
}

#[test]
fn quarantine_and_warnings_are_bounded() {
    let sample = Sample::new();
    for number in 0..50_u32 {
        let digest = sample.write(&number.to_le_bytes());
        fs::write(sample.artifact(digest), "bad").unwrap();
        assert_eq!(sample.read(digest), None);
    }
    assert_eq!(sample.quarantined(), 32);
    assert_eq!(sample.store.damaged(), 50);
    assert_eq!(codes(&sample.store).len(), 21, "the rest are counted");
}

#[test]
fn untrusted_folder_keeps_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("cache");
    let is_off = |expected: &str| {
        let store = Disk::open(&dir, Durability::Batched, &Key::new([7; 32]));
        let warnings = store.take_warnings();
        assert_eq!(warnings.len(), 1);
        assert_eq!(warnings[0].code, "fbuild::store::off");
        assert!(
            warnings[0].message.contains(expected),
            "{}",
            warnings[0].message
        );
        let digest = Digest::of(b"abc");
        let refused = store.write(&mut &b"abc"[..]).unwrap_err();
        assert!(matches!(refused, Error::NotStored { digest: d, .. } if d == digest));
        let key = ActionKey(digest);
        store.record(&[(key, contract::result(digest))]).unwrap();
        assert_eq!(store.result(key).unwrap(), None);
        assert_eq!(store.missing(&[digest]).unwrap(), [digest]);
        assert!(store.read(digest).unwrap().is_none());
        assert_eq!(store.take_warnings(), [], "reported once");
    };
    fs::write(&dir, "a file").unwrap();
    is_off("is not a folder");
    fs::remove_file(&dir).unwrap();
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o775)).unwrap();
    is_off("can be written by other users");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(dir.join("version"), "fbuild store 2\n").unwrap();
    is_off("another version");
    fs::remove_file(dir.join("version")).unwrap();
    symlink("/", dir.join("artifacts")).unwrap();
    is_off("cannot be opened");
    fs::remove_file(dir.join("artifacts")).unwrap();
    fs::write(dir.join("artifacts"), "a file").unwrap();
    is_off("cannot be opened");
    fs::remove_file(dir.join("artifacts")).unwrap();
    fs::remove_file(dir.join("version")).unwrap();
    symlink("nowhere", dir.join("version")).unwrap();
    is_off("cannot be opened");
    assert!(dir.join("version").is_symlink(), "it was not replaced");
    fs::remove_file(dir.join("version")).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&dir, Some(1234), None).unwrap();
        is_off("belongs to another user");
    } else {
        println!("skipped: another user's folder (needs root)");
    }
}

#[test]
fn incomplete_store_is_completed() {
    let sample = Sample::new();
    fs::write(sample.path("version"), "").unwrap();
    for name in ["incoming", "quarantine", "actions", "artifacts"] {
        fs::remove_dir_all(sample.path(name)).unwrap();
    }
    let store = sample.reopen();
    contract::holds(&store);
    assert_eq!(store.take_warnings(), []);
}

#[test]
fn removed_subfolders_are_created_again() {
    let sample = Sample::new();
    sample.record(b"manifest");
    fs::remove_dir_all(sample.path("incoming")).unwrap();
    for number in 0..300_u32 {
        sample.write(&number.to_le_bytes());
    }
    assert_eq!(sample.store.take_warnings(), []);
}

#[test]
fn write_to_a_removed_store_is_not_stored() {
    let sample = Sample::new();
    fs::remove_dir_all(sample.path("")).unwrap();
    let error = sample.store.write(&mut &b"late"[..]).unwrap_err();
    assert!(matches!(error, Error::NotStored { .. }));
    assert_eq!(codes(&sample.store), ["fbuild::store::write"]);
}

#[test]
fn large_content_is_hashed_even_if_not_stored() {
    let sample = Sample::new();
    fs::remove_dir_all(sample.path("")).unwrap();
    let content = vec![5; BUFFER_SIZE * 4 + 5];
    match sample.store.write(&mut &content[..]) {
        Err(Error::NotStored { digest, .. }) => assert_eq!(digest, Digest::of(&content)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn unreadable_input_is_reported_as_such() {
    struct Broken(usize);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = self.0.min(buffer.len());
            self.0 -= n;
            match n {
                0 => Err(io::Error::other("broken")),
                n => Ok(n),
            }
        }
    }
    let sample = Sample::new();
    for size in [0, 10, BUFFER_SIZE, BUFFER_SIZE * 2] {
        let error = sample.store.write(&mut Broken(size)).unwrap_err();
        assert!(matches!(error, Error::Input(_)), "{size}");
    }
}

#[test]
fn concurrent_writers_of_one_blob_succeed() {
    for way in [LinkMethod::Descriptor, LinkMethod::None] {
        let sample = Sample::new();
        sample.store.0.publisher.tmpfile.fall_back(way);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    // Each thread opens the store, as another process would.
                    let store = sample.reopen();
                    store.0.publisher.tmpfile.fall_back(way);
                    for number in 0..50_usize {
                        let content = vec![number as u8; number * 20_000];
                        let digest = store.write(&mut &content[..]).unwrap();
                        let mut file = tempfile::tempfile().unwrap();
                        assert!(store.copy(digest, &mut file).unwrap());
                    }
                    assert_eq!(store.take_warnings(), []);
                });
            }
        });
        assert_eq!(fs::read_dir(sample.path("incoming")).unwrap().count(), 0);
    }
}

#[test]
fn batch_is_flushed_once_and_only_if_needed() {
    let sample = Sample::new();
    let (key, result) = sample.record(b"manifest");
    let counters = |store: &Disk| {
        let load = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        (load(&store.0.written), load(&store.0.durable))
    };
    assert_eq!(counters(&sample.store), (1, 1));
    sample.store.record(&[(key, result)]).unwrap();
    assert_eq!(counters(&sample.store), (1, 1));
    sample.write(b"manifest");
    assert_eq!(
        counters(&sample.store),
        (2, 1),
        "an existing blob may not be durable yet"
    );
}

#[test]
fn unreadable_record_is_reported_once_and_stays() {
    let sample = Sample::new();
    let (key, _) = sample.record(b"one");
    let (other, _) = sample.record(b"another");
    for key in [key, other] {
        let shard = sample.path("actions").join(&layout::name(&key.0)[..2]);
        fs::remove_dir_all(&shard).unwrap();
        fs::write(&shard, "a file where a folder was").unwrap();
        assert_eq!(sample.store.result(key).unwrap(), None);
    }
    assert_eq!(codes(&sample.store), ["fbuild::store::read"]);
    assert_eq!(sample.quarantined(), 0);
}

#[test]
fn record_over_the_maximum_length_is_not_read() {
    let sample = Sample::new();
    let layout = sample.store.0.layout.as_ref().unwrap();
    let file = File::create(sample.path("actions/long")).unwrap();
    let limit = record::MAX_RECORD;
    for (size, expected) in [
        (limit, Ok(limit as usize)),
        (limit + 1, Err(io::ErrorKind::InvalidData)),
        (limit + 2, Err(io::ErrorKind::InvalidData)),
    ] {
        file.set_len(size).unwrap();
        let read = read_record(layout, "long");
        let read = read.map(|(bytes, _)| bytes.len());
        assert_eq!(read.map_err(|error| error.kind()), expected);
    }
}

/// Returns one byte per call, and fails with `EINTR` before each.
struct FlakyReader<'a> {
    bytes: &'a [u8],
    is_interrupted: bool,
}

impl Read for FlakyReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.is_interrupted = !self.is_interrupted;
        if self.is_interrupted {
            Err(io::ErrorKind::Interrupted.into())
        } else {
            self.bytes.read(&mut buffer[..1])
        }
    }
}

#[test]
fn write_retries_after_a_signal() {
    let sample = Sample::new();
    for size in [10, BUFFER_SIZE + 10] {
        let content = vec![b'x'; size];
        let mut flaky = FlakyReader {
            bytes: &content,
            is_interrupted: false,
        };
        let digest = sample.store.write(&mut flaky).unwrap();
        assert_eq!(digest, Digest::of(&content));
        assert_eq!(sample.read(digest).unwrap(), content);
    }
}

/// Sets a file's mtime to some seconds ago; returns true if `work` does not change it.
fn stays_old(path: &PathBuf, seconds: u64, work: impl FnOnce()) -> bool {
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(then).unwrap();
    work();
    fs::metadata(path).unwrap().modified().unwrap() == then
}

#[test]
fn use_renews_an_old_record() {
    let sample = Sample::new();
    let (key, _) = sample.record(b"one");
    let record = sample.path("actions").join(layout::name(&key.0));
    let hour = 3600;
    let use_it = || assert!(sample.store.result(key).unwrap().is_some());
    assert!(stays_old(&record, 23 * hour, use_it));
    assert!(!stays_old(&record, 25 * hour, use_it));
}

#[test]
fn write_renews_an_old_blob() {
    let sample = Sample::new();
    for content in [vec![b's'; 10], vec![b'l'; BUFFER_SIZE + 10]] {
        let blob = sample.artifact(sample.write(&content));
        let write = || _ = sample.write(&content);
        assert!(stays_old(&blob, 9 * 60, write));
        assert!(!stays_old(&blob, 11 * 60, write));
    }
}

#[test]
fn intact_blob_stays_if_asked_for_with_another_size() {
    let sample = Sample::new();
    let digest = sample.write(b"content");
    let asked = Digest::from_parts(*digest.hash(), digest.size() + 1);
    assert_eq!(sample.read(asked), None);
    let missing = sample.store.missing(&[asked, digest]);
    assert_eq!(missing.unwrap(), [asked]);
    assert_eq!((codes(&sample.store).len(), sample.quarantined()), (0, 0));
    assert_eq!(sample.read(digest).unwrap(), b"content");
}

#[test]
fn errors_of_the_process_are_not_damage() {
    for (errno, expected) in [
        (Errno::IO, true),
        (Errno::LOOP, true),
        (Errno::ISDIR, true),
        (Errno::NXIO, true),
        (Errno::MFILE, false),
        (Errno::NOMEM, false),
        (Errno::ACCESS, false),
    ] {
        assert_eq!(blobs::is_damage(&errno.into()), expected, "{errno}");
    }
    assert!(blobs::is_damage(&io::ErrorKind::UnexpectedEof.into()));
}

#[test]
fn only_real_folders_are_listed() {
    let sample = Sample::new();
    fs::create_dir(sample.path("real")).unwrap();
    symlink("real", sample.path("link")).unwrap();
    let layout = sample.store.0.layout.as_ref().unwrap();
    make_pipe(&sample.path("pipe"));
    let listed = |name| walk::each(&layout.dir, name, &mut |_, _| Ok(())).is_ok();
    assert!(listed("real") && !listed("link") && !listed("lock") && !listed("pipe"));
}

#[test]
fn store_with_a_linked_folder_is_not_sound() {
    let sample = Sample::new();
    make_pipe(&sample.path("pipe"));
    assert!(!Disk::is_sound(&sample.path("pipe")));
    assert!(Disk::is_sound(&sample.path("")));
    for folder in ["artifacts", "actions"] {
        fs::rename(sample.path(folder), sample.path("moved")).unwrap();
        symlink("moved", sample.path(folder)).unwrap();
        assert!(!Disk::is_sound(&sample.path("")), "{folder} is a link");
        fs::remove_file(sample.path(folder)).unwrap();
        fs::rename(sample.path("moved"), sample.path(folder)).unwrap();
    }
}

#[test]
fn lock_that_is_a_link_is_not_followed() {
    let sample = Sample::new();
    fs::rename(sample.path("lock"), sample.path("real")).unwrap();
    symlink("real", sample.path("lock")).unwrap();
    let store = sample.reopen();
    assert_eq!(codes(&store), ["fbuild::store::read_only"]);
    assert!(store.write(&mut &b"content"[..]).is_err());
}

#[test]
fn pipe_as_quarantine_does_not_block() {
    let sample = Sample::new();
    let digest = sample.write(b"content");
    fs::write(sample.artifact(digest), "damaged").unwrap();
    fs::remove_dir(sample.path("quarantine")).unwrap();
    make_pipe(&sample.path("quarantine"));
    assert_eq!(sample.read(digest), None);
    assert!(!sample.artifact(digest).exists());
}

#[test]
fn walk_reports_foreign_entries() {
    let sample = Sample::new();
    let digest = sample.write(b"content");
    fs::write(sample.path("artifacts/ab"), "no folder").unwrap();
    for folder in ["abc", "xy"] {
        fs::create_dir(sample.path("artifacts").join(folder)).unwrap();
        fs::write(sample.path("artifacts").join(folder).join("inner"), "").unwrap();
    }
    let layout = sample.store.0.layout.as_ref().unwrap();
    let (mut objects, mut foreign) = (Vec::new(), Vec::new());
    let walked = walk::walk(&layout.artifacts, &mut |met| match met {
        walk::StoreEntry::Object(object) => objects.push(object.digest),
        walk::StoreEntry::Foreign(path) => foreign.push(String::from_utf8(path).unwrap()),
    });
    walked.unwrap();
    foreign.sort();
    assert_eq!(objects, [digest]);
    assert_eq!(foreign, ["ab", "abc", "xy"]);
}

#[test]
fn folder_with_other_content_is_foreign() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let is_foreign = || layout::is_foreign(at);
    assert!(!is_foreign() && !layout::is_foreign(&at.join("gone")));
    fs::write(at.join("lock"), "").unwrap();
    assert!(!is_foreign(), "an incomplete store");
    fs::write(at.join("notes"), "").unwrap();
    assert!(is_foreign());
    for (version, expected) in [("1.0", true), ("", false), ("fbuild store 9\n", false)] {
        fs::write(at.join("version"), version).unwrap();
        assert_eq!(is_foreign(), expected, "{version}");
    }
}
