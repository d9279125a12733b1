//! Collects garbage: drops the least recently used results until the store is within its
//! limits.
//!
//! Records go first, then the blobs that no record needs: a process killed in between
//! leaves blobs without a record, which the next collection finds. A blob that never had a
//! record may belong to a result that a build is about to record, so young ones stay, even
//! though the lock should exclude builds.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, OFlags};

use super::layout::{Layout, name, open_object};
use super::lock::WhenBusy;
use super::walk::{self, Object, StoreEntry, walk};
use super::{Disk, Usage, io_error, read_record, touch, usage};
use crate::action::ActionKey;
use crate::digest::Digest;
use crate::stamp::{self, Stamp};
use crate::store::{Error, Refusal, record};

const SECOND: i64 = 1_000_000_000;
/// The minimum age of a dropped blob that never had a record, in nanoseconds.
const YOUNG: i64 = 3600 * SECOND;
/// The maximum age of objects in the quarantine, in nanoseconds.
const QUARANTINE: i64 = 7 * 24 * 3600 * SECOND;
/// The maximum age of the last count, in nanoseconds.
const RECOUNT: i64 = 24 * 3600 * SECOND;

/// The limits of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The maximum size in bytes.
    pub max_size: Option<u64>,
    /// The maximum time since the last use of a result, with a precision of a day.
    pub max_age: Option<Duration>,
}

/// The result of a collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CollectionSummary {
    /// The size of the removed objects.
    pub removed: Usage,
    /// The size of the remaining objects.
    pub left: Usage,
}

impl Disk {
    /// Returns true if a collection is due: the estimated size exceeds the limit, or the
    /// last count is a day old. It does not list the store.
    pub fn is_collection_due(&self, limits: &Limits) -> bool {
        let Some(layout) = self.0.writable() else {
            return false;
        };
        usage::estimate(layout).is_none_or(|estimate| {
            let is_over = limits.max_size.is_some_and(|max| estimate.bytes > max);
            let age = stamp::now().saturating_sub(estimate.counted_at);
            is_over || !(0..RECOUNT).contains(&age)
        })
    }

    /// Removes results beyond the limits, the least recently used first, and unneeded blobs.
    /// Results in `live` go last. `None` if others use the store, or it is not writable.
    ///
    /// No other call on this store may run at the same time: they share the lock.
    pub fn collect(
        &self,
        limits: &Limits,
        live: &HashSet<ActionKey>,
        when_busy: WhenBusy,
    ) -> Result<Option<CollectionSummary>, Error> {
        let Some((layout, _lock)) = self.exclusive(when_busy)? else {
            return Ok(None);
        };
        let io = |error: io::Error| io_error("clean up", &layout.path)(error);
        let mut collection = Collection::find(layout, live).map_err(io)?;
        collection.drop_old(limits);
        collection.drop_unneeded();
        if let Some(max) = limits.max_size {
            let goal = match when_busy {
                WhenBusy::Skip if collection.left.bytes > max => max - max / 10,
                _ => max,
            };
            collection.drop_least_used(goal);
        }
        remove_leftovers(layout, collection.now).map_err(io)?;
        usage::set(layout, collection.left.bytes);
        let (removed, left) = (collection.removed, collection.left);
        Ok(Some(CollectionSummary { removed, left }))
    }

    /// Returns true if others use the store, so that a collection has to wait.
    pub fn is_used_by_others(&self) -> bool {
        self.0
            .writable()
            .is_some_and(|layout| layout.lock.is_some())
            && matches!(self.exclusive(WhenBusy::Skip), Ok(None))
    }

    /// Removes all results and blobs, waiting until no build uses the store. `None` if it is
    /// not writable.
    pub fn clear(&self) -> Result<Option<CollectionSummary>, Error> {
        let Some((layout, _lock)) = self.exclusive(WhenBusy::Wait)? else {
            return Ok(None);
        };
        let io = |error: io::Error| io_error("clean up", &layout.path)(error);
        let mut collection = Collection::find(layout, &HashSet::new()).map_err(io)?;
        collection.drop_all();
        for folder in ["quarantine", "incoming"] {
            remove_files(layout, folder, i64::MAX).map_err(io)?;
        }
        usage::set(layout, collection.left.bytes);
        let (removed, left) = (collection.removed, collection.left);
        Ok(Some(CollectionSummary { removed, left }))
    }
}

/// A record and the blobs it needs.
struct Record {
    object: Object,
    blobs: Vec<Digest>,
    is_live: bool,
}

/// A blob and the number of records that need it.
struct Blob {
    object: Object,
    needed_by: usize,
    was_needed: bool,
}

struct Collection<'a> {
    layout: &'a Layout,
    now: i64,
    records: Vec<Record>,
    blobs: HashMap<[u8; 32], Blob>,
    /// Whether there are records of unknown formats, whose blobs are not known.
    has_unknown: bool,
    removed: Usage,
    left: Usage,
}

impl<'a> Collection<'a> {
    /// Lists the store. Drops records that are damaged or need a missing blob, because they
    /// can never be a hit.
    fn find(layout: &'a Layout, live: &HashSet<ActionKey>) -> io::Result<Self> {
        let live: HashSet<[u8; 32]> = live.iter().map(|key| *key.0.hash()).collect();
        let mut collection = Self {
            layout,
            now: stamp::now(),
            records: Vec::new(),
            blobs: HashMap::new(),
            has_unknown: false,
            removed: Usage::default(),
            left: Usage::default(),
        };
        walk(&layout.artifacts, &mut |met| {
            if let StoreEntry::Object(object) = met {
                collection.add_blob(object);
            }
        })?;
        let mut objects = Vec::new();
        walk(&layout.actions, &mut |met| {
            if let StoreEntry::Object(object) = met {
                objects.push(object);
            }
        })?;
        for object in objects {
            collection.add_record(object, live.contains(object.digest.hash()));
        }
        Ok(collection)
    }

    fn add_blob(&mut self, mut object: Object) {
        self.clamp(&self.layout.artifacts, &mut object);
        self.left.blobs += 1;
        self.left.bytes += object.digest.size();
        let blob = Blob {
            object,
            needed_by: 0,
            was_needed: false,
        };
        self.blobs.insert(*object.digest.hash(), blob);
    }

    fn add_record(&mut self, mut object: Object, is_live: bool) {
        self.clamp(&self.layout.actions, &mut object);
        self.left.results += 1;
        self.left.bytes += object.digest.size();
        let mut record = Record {
            object,
            blobs: Vec::new(),
            is_live,
        };
        match needs(self.layout, object) {
            Ok(blobs) => record.blobs = blobs,
            Err(Refusal::Format(_)) => self.has_unknown = true,
            Err(_) => return self.remove_record(&record),
        }
        if record.blobs.iter().any(|blob| !self.has(blob)) {
            return self.remove_record(&record);
        }
        for digest in &record.blobs {
            if let Some(blob) = self.blobs.get_mut(digest.hash()) {
                blob.needed_by += 1;
                blob.was_needed = true;
            }
        }
        self.records.push(record);
    }

    /// Sets a time in the future to now: otherwise the object would stay young forever.
    fn clamp(&self, folder: &OwnedFd, object: &mut Object) {
        if object.mtime > self.now.saturating_add(YOUNG) {
            object.mtime = self.now;
            if let Ok(file) = open_object(folder, &name(&object.digest), OFlags::RDONLY) {
                touch(&file);
            }
        }
    }

    fn has(&self, digest: &Digest) -> bool {
        let blob = self.blobs.get(digest.hash());
        blob.is_some_and(|blob| blob.object.digest == *digest)
    }

    /// Drops the records whose last use is too long ago.
    fn drop_old(&mut self, limits: &Limits) {
        let Some(max_age) = limits.max_age else {
            return;
        };
        let max_age = i64::try_from(max_age.as_nanos()).unwrap_or(i64::MAX);
        let now = self.now;
        let is_old = |record: &mut Record| {
            !record.is_live && now.saturating_sub(record.object.mtime) > max_age
        };
        let old: Vec<Record> = self.records.extract_if(.., is_old).collect();
        for record in old {
            self.drop_record(&record);
        }
    }

    /// Drops the blobs that no record needs, except young ones that a build may need.
    fn drop_unneeded(&mut self) {
        if self.has_unknown {
            return;
        }
        let now = self.now;
        let is_unneeded = |blob: &Blob| {
            let is_young = now.saturating_sub(blob.object.mtime) < YOUNG;
            blob.needed_by == 0 && (blob.was_needed || !is_young)
        };
        let blobs = self.blobs.values();
        let unneeded: Vec<Object> = blobs.filter(|b| is_unneeded(b)).map(|b| b.object).collect();
        for object in unneeded {
            self.remove_blob(object);
        }
    }

    /// Drops the least recently used records until at most `goal` bytes are left.
    fn drop_least_used(&mut self, goal: u64) {
        let rank = |record: &Record| (!record.is_live, Reverse(record.object.mtime));
        self.records.sort_by_key(rank);
        while self.left.bytes > goal
            && let Some(record) = self.records.pop()
        {
            self.drop_record(&record);
            self.drop_blobs_of(&record);
        }
    }

    fn drop_all(&mut self) {
        for record in std::mem::take(&mut self.records) {
            self.drop_record(&record);
        }
        let blobs: Vec<Object> = self.blobs.values().map(|blob| blob.object).collect();
        for object in blobs {
            self.remove_blob(object);
        }
    }

    fn drop_record(&mut self, record: &Record) {
        self.remove_record(record);
        for digest in &record.blobs {
            if let Some(blob) = self.blobs.get_mut(digest.hash()) {
                blob.needed_by -= 1;
            }
        }
    }

    fn drop_blobs_of(&mut self, record: &Record) {
        for digest in &record.blobs {
            if let Some(blob) = self.blobs.get(digest.hash())
                && blob.needed_by == 0
            {
                self.remove_blob(blob.object);
            }
        }
    }

    fn remove_record(&mut self, record: &Record) {
        let digest = record.object.digest;
        if remove(&self.layout.actions, digest) {
            self.left.results -= 1;
            self.left.bytes -= digest.size();
            self.removed.results += 1;
            self.removed.bytes += digest.size();
        }
    }

    fn remove_blob(&mut self, object: Object) {
        let digest = object.digest;
        self.blobs.remove(digest.hash());
        if remove(&self.layout.artifacts, digest) {
            self.left.blobs -= 1;
            self.left.bytes -= digest.size();
            self.removed.blobs += 1;
            self.removed.bytes += digest.size();
        }
    }
}

/// Returns the blobs that a record needs.
fn needs(layout: &Layout, object: Object) -> Result<Vec<Digest>, Refusal> {
    let (bytes, _) = read_record(layout, &name(&object.digest)).map_err(|_| Refusal::Payload)?;
    let (key, result) = record::decode_any(&bytes)?;
    if key.0.hash() != object.digest.hash() {
        return Err(Refusal::Key);
    }
    Ok(result.blobs())
}

fn remove(folder: &OwnedFd, digest: Digest) -> bool {
    rustix::fs::unlinkat(folder, name(&digest), AtFlags::empty()).is_ok()
}

/// Removes files of killed processes and old objects in the quarantine.
fn remove_leftovers(layout: &Layout, now: i64) -> io::Result<()> {
    remove_files(layout, "incoming", now - YOUNG)?;
    remove_files(layout, "quarantine", now - QUARANTINE)
}

/// Removes the files that were moved to a folder before a point in time.
fn remove_files(layout: &Layout, folder: &str, before: i64) -> io::Result<()> {
    let listed = walk::each(&layout.dir, folder, &mut |entry_name, kind| {
        let path = [folder.as_bytes(), b"/", entry_name].concat();
        let path = OsStr::from_bytes(&path);
        let is_old = Stamp::at(&layout.dir, path)?.is_some_and(|stamp| stamp.ctime < before);
        if is_old && kind != FileType::Directory {
            let _ = rustix::fs::unlinkat(&layout.dir, path, AtFlags::empty());
        }
        Ok(())
    });
    match listed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::Path;
    use std::time::SystemTime;

    use super::super::tests::Sample;
    use super::*;
    use crate::action::{ActionResult, Entry, EntryKind};
    use crate::path::RelPath;
    use crate::stamp::FileMode;
    use crate::store::Store as _;

    const HOUR: Duration = Duration::from_secs(3600);

    fn unlimited() -> Limits {
        Limits::default()
    }

    fn at_most(max: u64) -> Limits {
        Limits {
            max_size: Some(max),
            max_age: None,
        }
    }

    fn not_older(max: Duration) -> Limits {
        Limits {
            max_size: None,
            max_age: Some(max),
        }
    }

    /// Records a result with one output of `size` bytes, last used `age` ago.
    fn record(sample: &Sample, name: &str, size: usize, age: Duration) -> ActionKey {
        let manifest = sample.write(name.as_bytes());
        let digest = sample.write(&[&vec![b'.'; size - name.len()], name.as_bytes()].concat());
        let kind = EntryKind::File {
            digest,
            mode: FileMode::PLAIN,
        };
        let path = RelPath::new("out").unwrap();
        let result = ActionResult {
            outputs: vec![Entry { path, kind }],
            log: Some(sample.write(b"the same log for all")),
            manifest,
            duration_ms: 1,
        };
        let key = ActionKey(manifest);
        sample.store.record(&[(key, result.clone())]).unwrap();
        set_age(&sample.path("actions").join(layout_name(key)), age);
        for blob in result.blobs() {
            set_age(&sample.artifact(blob), age);
        }
        key
    }

    fn layout_name(key: ActionKey) -> String {
        name(&key.0)
    }

    fn set_age(path: &Path, age: Duration) {
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }

    fn collect(sample: &Sample, limits: Limits, live: &[ActionKey]) -> CollectionSummary {
        let live = live.iter().copied().collect();
        let collected = sample.store.collect(&limits, &live, WhenBusy::Wait);
        let collected = collected.unwrap().unwrap();
        assert_eq!(sample.store.usage().unwrap(), collected.left);
        assert_eq!(sample.store.verify(false).unwrap().damaged, []);
        collected
    }

    fn has(sample: &Sample, key: ActionKey) -> bool {
        let Some(result) = sample.store.result(key).unwrap() else {
            return false;
        };
        assert_eq!(sample.store.missing(&result.blobs()).unwrap(), []);
        true
    }

    #[test]
    fn collection_without_limits_drops_old_unneeded_blobs() {
        let sample = Sample::new();
        let key = record(&sample, "old", 100, HOUR * 10_000);
        let young = sample.write(b"a build may record this");
        let old = sample.write(b"no build will");
        set_age(&sample.artifact(old), HOUR * 2);
        let collected = collect(&sample, unlimited(), &[]);
        assert_eq!((collected.removed.results, collected.removed.blobs), (0, 1));
        assert!(has(&sample, key));
        assert_eq!(sample.store.missing(&[young, old]).unwrap(), [old]);
    }

    #[test]
    fn results_over_max_age_go_unless_live() {
        let sample = Sample::new();
        let old = record(&sample, "old", 100, HOUR * 50);
        let live = record(&sample, "live", 100, HOUR * 50);
        let new = record(&sample, "new", 100, HOUR * 40);
        let collected = collect(&sample, not_older(HOUR * 48), &[live]);
        assert_eq!((collected.removed.results, collected.removed.blobs), (1, 2));
        assert_eq!(
            [old, live, new].map(|key| has(&sample, key)),
            [false, true, true]
        );
    }

    #[test]
    fn use_renews_a_result() {
        let sample = Sample::new();
        let key = record(&sample, "old", 100, HOUR * 50);
        assert!(has(&sample, key));
        collect(&sample, not_older(HOUR), &[]);
        assert!(has(&sample, key));
    }

    #[test]
    fn least_recently_used_results_go_first_live_last() {
        let sample = Sample::new();
        let keys = [(4, "d"), (1, "a"), (3, "c"), (2, "b"), (9, "live")]
            .map(|(hours, name)| record(&sample, name, 10_000, HOUR * hours));
        let [d, a, c, b, live] = keys;
        let expect = |max: u64, left: &[ActionKey]| {
            let collected = collect(&sample, at_most(max), &[live]);
            assert!(collected.left.bytes <= max);
            for key in keys {
                assert_eq!(has(&sample, key), left.contains(&key));
            }
        };
        expect(60_000, &[a, b, c, d, live]);
        expect(45_000, &[a, b, c, live]);
        expect(25_000, &[a, live]);
        expect(15_000, &[live]);
        expect(1, &[]);
        assert_eq!(sample.store.usage().unwrap(), Usage::default());
    }

    #[test]
    fn automatic_collection_frees_a_tenth_more() {
        let sample = Sample::new();
        for (hours, name) in [(1, "a"), (2, "b"), (3, "c"), (4, "d")] {
            record(&sample, name, 10_000, HOUR * hours);
        }
        let max = sample.store.usage().unwrap().bytes - 1;
        let live = HashSet::new();
        let collected = sample.store.collect(&at_most(max), &live, WhenBusy::Skip);
        let left = collected.unwrap().unwrap().left;
        assert_eq!(left.results, 3);
        let again = sample.store.collect(&at_most(max), &live, WhenBusy::Skip);
        assert_eq!(again.unwrap().unwrap().removed, Usage::default());
    }

    #[test]
    fn requested_collection_stops_at_the_limit() {
        let sample = Sample::new();
        for hours in 1..=12 {
            record(&sample, &format!("{hours:02}"), 10_000, HOUR * hours);
        }
        let collect_to = |less: u64, when_busy| {
            let (max, live) = (sample.store.usage().unwrap().bytes - less, HashSet::new());
            let collected = sample.store.collect(&at_most(max), &live, when_busy);
            let collected = collected.unwrap().unwrap();
            (collected.removed.results, collected.left.results)
        };
        assert_eq!(collect_to(0, WhenBusy::Skip), (0, 12));
        assert_eq!(collect_to(0, WhenBusy::Wait), (0, 12));
        assert_eq!(collect_to(1, WhenBusy::Wait), (1, 11));
        // A tenth less than eleven results are nine.
        assert_eq!(collect_to(1, WhenBusy::Skip), (2, 9));
    }

    #[test]
    fn blobs_of_dropped_results_are_removed_and_counted() {
        let sample = Sample::new();
        let old = record(&sample, "old", 100, HOUR * 50);
        let new = record(&sample, "new", 100, HOUR);
        let before = sample.store.usage().unwrap();
        let collected = collect(&sample, not_older(HOUR * 2), &[]);
        let (removed, left) = (collected.removed, collected.left);
        // Its manifest and its output; the log is needed by the other.
        assert_eq!((removed.results, removed.blobs), (1, 2));
        assert_eq!((left.results, left.blobs), (1, 3));
        assert_eq!(removed.bytes + left.bytes, before.bytes);
        assert_eq!([old, new].map(|key| has(&sample, key)), [false, true]);
        let all = sample.store.clear().unwrap().unwrap();
        assert_eq!((all.removed, all.left), (left, Usage::default()));
    }

    #[test]
    fn time_in_the_near_future_is_not_corrected() {
        let sample = Sample::new();
        let blob = sample.artifact(sample.write(b"unneeded"));
        let soon = SystemTime::now() + HOUR / 2;
        let file = File::options().write(true).open(&blob).unwrap();
        file.set_modified(soon).unwrap();
        collect(&sample, unlimited(), &[]);
        assert_eq!(fs::metadata(&blob).unwrap().modified().unwrap(), soon);
    }

    #[test]
    fn record_under_another_key_is_dropped() {
        let sample = Sample::new();
        let one = record(&sample, "one", 100, HOUR);
        let other = record(&sample, "other", 100, HOUR);
        let place = |key| sample.path("actions").join(layout_name(key));
        fs::copy(place(one), place(other)).unwrap();
        let collected = collect(&sample, unlimited(), &[]);
        assert_eq!(collected.removed.results, 1);
        assert_eq!([one, other].map(|key| has(&sample, key)), [true, false]);
    }

    #[test]
    fn blob_of_another_result_stays() {
        let sample = Sample::new();
        let old = record(&sample, "old", 100, HOUR * 50);
        let new = record(&sample, "new", 100, HOUR);
        collect(&sample, not_older(HOUR * 2), &[]);
        assert_eq!([old, new].map(|key| has(&sample, key)), [false, true]);
    }

    #[test]
    fn time_in_the_far_future_becomes_now() {
        let sample = Sample::new();
        let key = record(&sample, "future", 100, Duration::ZERO);
        let record = sample.path("actions").join(layout_name(key));
        let blob = sample.artifact(sample.write(b"unneeded"));
        let future = SystemTime::now() + HOUR * 10_000;
        for path in [&record, &blob] {
            let file = File::options().write(true).open(path).unwrap();
            file.set_modified(future).unwrap();
        }
        collect(&sample, not_older(HOUR), &[]);
        for path in [&record, &blob] {
            assert!(fs::metadata(path).unwrap().modified().unwrap() < future - HOUR);
        }
        assert!(has(&sample, key));
    }

    #[test]
    fn damaged_and_incomplete_records_are_dropped() {
        let sample = Sample::new();
        let damaged = record(&sample, "damaged", 100, HOUR * 5);
        let incomplete = record(&sample, "incomplete", 100, HOUR * 5);
        let good = record(&sample, "good", 100, HOUR * 5);
        fs::write(sample.path("actions").join(layout_name(damaged)), "x").unwrap();
        fs::remove_file(sample.artifact(incomplete.0)).unwrap();
        let collected = collect(&sample, unlimited(), &[]);
        assert_eq!((collected.left.results, collected.left.blobs), (1, 3));
        assert!(has(&sample, good));
    }

    #[test]
    fn blobs_stay_if_a_record_has_an_unknown_format() {
        let sample = Sample::new();
        let key = record(&sample, "new format", 100, HOUR * 5);
        let place = sample.path("actions").join(layout_name(key));
        let mut bytes = fs::read(&place).unwrap();
        record::set_format(&mut bytes, 99);
        fs::write(&place, &bytes).unwrap();
        let collected = collect(&sample, unlimited(), &[]);
        assert_eq!(collected.removed, Usage::default());
        assert_eq!(fs::read(&place).unwrap(), bytes);
    }

    #[test]
    fn collection_skips_or_waits_while_a_build_runs() {
        let sample = Sample::new();
        let other = sample.reopen();
        record(&sample, "result", 100, HOUR * 5);
        let live = HashSet::new();
        let tried = sample.store.collect(&at_most(1), &live, WhenBusy::Skip);
        assert_eq!(tried.unwrap(), None);
        assert!(sample.store.is_used_by_others());
        std::thread::scope(|scope| {
            let store = &sample.store;
            let waiting = scope.spawn(move || store.collect(&at_most(1), &live, WhenBusy::Wait));
            drop(other);
            let collected = waiting.join().unwrap().unwrap().unwrap();
            assert_eq!(collected.left, Usage::default());
        });
        assert!(!sample.store.is_used_by_others());
        // The collection has returned to the shared lock.
        let other = sample.reopen();
        let tried = other.collect(&at_most(1), &HashSet::new(), WhenBusy::Skip);
        assert_eq!(tried.unwrap(), None);
    }

    #[test]
    fn collection_is_due_over_the_limit_or_after_a_day() {
        let sample = Sample::new();
        let is_due = |max: u64| sample.store.is_collection_due(&at_most(max));
        assert!(is_due(u64::MAX), "not counted yet");
        collect(&sample, unlimited(), &[]);
        assert!(!is_due(1));
        record(&sample, "result", 10_000, Duration::ZERO);
        assert!(is_due(10_000));
        let exact = sample.store.usage().unwrap().bytes;
        assert!(!is_due(exact) && is_due(exact - 1));
        let hour = 3600 * SECOND;
        for (line, expected) in [
            (format!("{exact} {}\n", stamp::now()), false),
            (format!("{exact} {}", stamp::now()), true),
            (format!("{exact} {}\n", stamp::now() - 23 * hour), false),
            (format!("{exact} {}\n", stamp::now() - 25 * hour), true),
            (format!("{exact} {}\n", stamp::now() + hour), true),
            ("nonsense\n".to_owned(), true),
        ] {
            fs::write(sample.path("usage"), line).unwrap();
            assert_eq!(is_due(exact), expected);
        }
    }

    #[test]
    fn old_files_of_killed_processes_are_removed() {
        let sample = Sample::new();
        fs::write(sample.path("incoming/new"), "half a blob").unwrap();
        fs::write(sample.path("quarantine/new"), "damaged").unwrap();
        collect(&sample, unlimited(), &[]);
        assert!(sample.path("incoming/new").exists() && sample.path("quarantine/new").exists());
        let layout = sample.store.0.layout.as_ref().unwrap();
        // A ctime cannot be set, so pass another time for now.
        fs::create_dir(sample.path("incoming/folder")).unwrap();
        let (minute, day) = (60 * SECOND, 24 * 3600 * SECOND);
        for (age, expected) in [
            (50 * minute, (true, true)),
            (70 * minute, (false, true)),
            (6 * day, (false, true)),
            (8 * day, (false, false)),
        ] {
            remove_leftovers(layout, stamp::now() + age).unwrap();
            let there = ["incoming/new", "quarantine/new"].map(|path| sample.path(path).exists());
            assert_eq!((there[0], there[1]), expected);
        }
        assert!(sample.path("incoming/folder").exists());
        fs::remove_dir_all(sample.path("incoming")).unwrap();
        assert!(remove_files(layout, "incoming", 0).is_ok());
        fs::write(sample.path("incoming"), "").unwrap();
        assert!(remove_files(layout, "incoming", 0).is_err());
    }

    #[test]
    fn cleared_store_is_empty_and_works() {
        let sample = Sample::new();
        record(&sample, "result", 100, Duration::ZERO);
        fs::write(sample.path("quarantine/x"), "damaged").unwrap();
        let collected = sample.store.clear().unwrap().unwrap();
        assert_eq!((collected.removed.results, collected.removed.blobs), (1, 3));
        assert_eq!(sample.store.usage().unwrap(), Usage::default());
        assert!(!sample.path("quarantine/x").exists());
        let key = record(&sample, "result", 100, Duration::ZERO);
        assert!(has(&sample, key));
    }
}
