//! Suite T4: power cuts. The file operations of the real program are recorded and replayed on a
//! disk that loses unsynced data (`lossy_disk.rs`). On the remains, the store returns correct
//! bytes or none, keeps the recorded results and repairs itself, and the next run produces
//! correct outputs.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use fbuild::action::{ActionKey, ActionResult};
use fbuild::digest::Digest;
use fbuild::journal::Memory;
use fbuild::store::Store as _;
use fbuild::store::disk::{Disk, Durability};
use fbuild::workspace::Layout;

use crate::crash::fixture::{Fixture, Victim, victims};
use crate::crash::lossy_disk::{Cut, Left, Lossy, put};
use crate::crash::recorder::record;
use crate::model::comparison::Fault;
use crate::model::history::place;
use crate::model::store_model::Trust;
use crate::support::rng::Rng;
use crate::support::scale::{Suite, count};
use crate::support::user;

const STATE: &str = ".build-cache";

/// The unsynced bytes during half of the runs. With so many, blobs are synced one by one,
/// otherwise all at once.
const WAITING: usize = 64 << 20;

/// One power cut in this many repairs and refills the store.
const HEALINGS: usize = 8;
/// One power cut in this many runs a whole build.
const BUILDS: usize = 250;
/// One power cut in this many interrupts that build by another.
const SECONDS: usize = 2500;

#[test]
fn t4_power_cut_leaves_results_right_or_missing() {
    let suite = Suite::begin("T4");
    let victims = victims();
    let calm = victims.iter().map(|victim| Trace::record(victim, 0));
    let busy = victims.iter().map(|victim| Trace::record(victim, WAITING));
    let traces: Vec<Trace<'_>> = calm.chain(busy).collect();
    let ops: usize = traces.iter().map(|trace| trace.lossy.len()).sum();
    let waits: usize = traces.iter().map(|trace| trace.lossy.waits()).sum();
    let cuts = count(50_000);
    let seen = cut_often(&traces, cuts, suite.seed);
    let careless = without_waits(&traces, count(2000).max(2000), suite.seed);
    assert!(
        careless.incomplete > 0,
        "a disk that ignores waits causes no failure: this suite detects nothing"
    );
    suite.report(&format!(
        "{cuts} power cuts in {} runs with {ops} changes and {waits} waits, {} builds on the \
         remains, {} of them cut off again: {} results kept, {} lost, 0 bad blobs accepted, \
         0 results without their blobs; on a disk that ignores waits, {} of {} results were bad",
        traces.len(),
        seen.builds,
        seen.seconds,
        seen.hits,
        seen.misses,
        careless.incomplete,
        careless.hits,
    ));
}

/// The findings on disks after power cuts.
#[derive(Debug, Default)]
struct Seen {
    /// Results that are present and correct.
    hits: usize,
    misses: usize,
    /// Results that are present without some of their blobs: useless hits.
    incomplete: usize,
    builds: usize,
    seconds: usize,
    /// A warning of the store about something other than damaged objects.
    warning: Option<String>,
}

impl Seen {
    /// Checks that the store works and every present result is complete.
    fn check(&self, is_ordered: bool) -> Result<(), Fault> {
        match &self.warning {
            Some(warning) => Err(warning.clone()),
            None if is_ordered && self.incomplete > 0 => {
                Err(format!("{} results lack blobs", self.incomplete))
            }
            None => Ok(()),
        }
    }

    fn add(&mut self, other: Self) {
        self.hits += other.hits;
        self.misses += other.misses;
        self.incomplete += other.incomplete;
        self.builds += other.builds;
        self.seconds += other.seconds;
    }
}

/// A recorded run and its results.
struct Trace<'v> {
    fixture: Fixture<'v>,
    lossy: Lossy,
    truth: Truth,
    /// Held while the folder is used in which the victim ran: only there its state is valid.
    turn: Mutex<()>,
}

/// Every result and every blob that ever existed.
#[derive(Default)]
struct Truth {
    results: BTreeMap<String, (ActionKey, ActionResult)>,
    blobs: BTreeMap<String, (Digest, Vec<u8>)>,
}

impl<'v> Trace<'v> {
    fn record(victim: &'v Victim, waiting: usize) -> Self {
        let fixture = Fixture::prepare(victim);
        let work = fixture.fresh();
        let mut truth = Truth::default();
        truth.learn(&work);
        let (mut lossy, mut writer) = Lossy::new(&work);
        fs::write(fixture.above.join("waiting"), vec![b'x'; waiting]).unwrap();
        let (status, ops) = record(&mut fixture.command(&work), &work);
        assert!(status.success(), "{}: {status}", victim.name);
        writer.write(&mut lossy, &ops);
        truth.learn(&work);
        Self {
            fixture,
            lossy,
            truth,
            turn: Mutex::new(()),
        }
    }

    /// Puts a tree where the victim ran. The folder is the caller's until the guard is dropped.
    fn put(&self, left: &Left) -> (PathBuf, MutexGuard<'_, ()>) {
        let turn = self.turn.lock().unwrap();
        let work = folder(&self.fixture.above, "work", left, Path::new(""));
        (work, turn)
    }

    /// Returns true if every present result must have its blobs: not if the run removes blobs or
    /// finds damaged ones.
    fn is_ordered(&self) -> bool {
        self.fixture.victim.leaves != Trust::Either
    }
}

impl Truth {
    /// Adds the intact results and blobs of a folder's store.
    fn learn(&mut self, work: &Path) {
        let state = work.join(STATE);
        if !state.join("version").exists() {
            return;
        }
        let store = Disk::open(&state, Durability::Batched, &user::key());
        for key in Memory::read(&Layout::new(work, &user::key()).successes()).keys() {
            let Some(result) = store.result(key).unwrap() else {
                continue;
            };
            for digest in result.blobs() {
                let bytes = read(&store, digest);
                let blob = bytes.map(|bytes| (digest.hex(), (digest, bytes)));
                self.blobs.extend(blob);
            }
            self.results.insert(key.0.hex(), (key, result));
        }
    }
}

/// Returns an intact blob, or `None`.
fn read(store: &Disk, digest: Digest) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut blob = store.read(digest).unwrap()?;
    blob.read_to_end(&mut bytes).is_ok().then_some(bytes)
}

/// Cuts the power at random points, on all processors.
fn cut_often(traces: &[Trace<'_>], cuts: usize, seed: u64) -> Seen {
    let (next, total) = (AtomicUsize::new(0), Mutex::new(Seen::default()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let above = place();
        let mut seen = Seen::default();
        loop {
            let number = next.fetch_add(1, Ordering::SeqCst);
            if number >= cuts {
                break;
            }
            let mut rng = Rng::new(seed.wrapping_add(number as u64));
            let trace = rng.pick(traces);
            let at = rng.below(trace.lossy.len() + 1);
            let cut = Cut {
                at,
                ignores_waits: false,
            };
            let done = examine(trace, cut, number, &mut rng, &above);
            let what = || {
                format!(
                    "{}, seed {seed}, {number}, {cut:?}",
                    trace.fixture.victim.name
                )
            };
            seen.add(done.unwrap_or_else(|fault| panic!("{}: {fault}", what())));
        }
        remove(&above);
        total.lock().unwrap().add(seen);
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    total.into_inner().unwrap()
}

/// Cuts the power once and examines the disk.
fn examine(
    trace: &Trace<'_>,
    cut: Cut,
    number: usize,
    rng: &mut Rng,
    above: &Path,
) -> Result<Seen, Fault> {
    let left = trace.lossy.cut(cut, rng);
    let mut seen = check_store(trace, number, &left, above)?;
    seen.check(trace.is_ordered())?;
    if number.is_multiple_of(BUILDS) {
        let (work, _turn) = trace.put(&left);
        trace.fixture.check(&work, Trust::Either)?;
        seen.builds += 1;
    }
    if number % SECONDS == 1 {
        seen.add(cut_again(trace, &left, rng, above)?);
    }
    Ok(seen)
}

/// Checks a store after a power cut: it returns correct content and accepts the missing content.
fn check_store(trace: &Trace<'_>, number: usize, left: &Left, above: &Path) -> Result<Seen, Fault> {
    let state = folder(above, "store", left, Path::new(STATE));
    let store = Disk::open(&state, Durability::None, &user::key());
    let mut seen = Seen::default();
    for (key, result) in trace.truth.results.values() {
        let Some(found) = store.result(*key).unwrap() else {
            seen.misses += 1;
            continue;
        };
        // Durations differ between runs.
        let duration_ms = result.duration_ms;
        let found = ActionResult {
            duration_ms,
            ..found
        };
        if found != *result {
            return Err(format!("a result is wrong: {found:?}, not {result:?}"));
        }
        seen.hits += 1;
        seen.incomplete += usize::from(!is_complete(trace, &store, result)?);
    }
    if number.is_multiple_of(HEALINGS) {
        check_healing(&trace.truth, &store)?;
    }
    let warnings = store.take_warnings().into_iter();
    let mut trouble = warnings.filter(|warning| warning.code != "fbuild::store::corrupt");
    seen.warning = trouble.next().map(|warning| warning.message);
    Ok(seen)
}

/// Returns true if a result has all its blobs. Every present blob must be correct.
fn is_complete(trace: &Trace<'_>, store: &Disk, result: &ActionResult) -> Result<bool, Fault> {
    let mut is_complete = true;
    for digest in result.blobs() {
        let expected = trace.truth.blobs.get(&digest.hex());
        match (read(store, digest), expected) {
            (None, _) => is_complete = false,
            (Some(bytes), Some((_, expected))) if bytes == *expected => {}
            (Some(_), _) => return Err(format!("the blob {} is wrong", digest.hex())),
        }
    }
    Ok(is_complete)
}

/// Checks that a repaired store is sound and accepts the missing content.
fn check_healing(truth: &Truth, store: &Disk) -> Result<(), Fault> {
    store.verify(true).unwrap();
    for (_, bytes) in truth.blobs.values() {
        store.write(&mut bytes.as_slice()).unwrap();
    }
    let is_known = |digest: &Digest| truth.blobs.contains_key(&digest.hex());
    let is_whole = |(_, result): &&(ActionKey, ActionResult)| result.blobs().iter().all(is_known);
    let whole: Vec<_> = truth.results.values().filter(is_whole).cloned().collect();
    store.record(&whole).unwrap();
    let damaged = store.verify(false).unwrap().damaged;
    if !damaged.is_empty() {
        return Err(format!("it does not heal: {damaged:?}"));
    }
    match whole
        .iter()
        .find(|(key, _)| store.result(*key).unwrap().is_none())
    {
        Some((key, _)) => Err(format!("the result {} is not taken", key.0.hex())),
        None => Ok(()),
    }
}

/// Repeats the run on the remains and cuts the power again.
fn cut_again(trace: &Trace<'_>, left: &Left, rng: &mut Rng, above: &Path) -> Result<Seen, Fault> {
    let (work, _turn) = trace.put(left);
    let (mut lossy, mut writer) = Lossy::new(&work);
    let (_, ops) = record(&mut trace.fixture.command(&work), &work);
    writer.write(&mut lossy, &ops);
    let mut seen = Seen::default();
    for number in 0..20 {
        let at = rng.below(lossy.len() + 1);
        let cut = Cut {
            at,
            ignores_waits: false,
        };
        let left = lossy.cut(cut, rng);
        let second = check_store(trace, number, &left, above)?;
        // Damage of the first power cut may be quarantined now.
        second.check(false)?;
        seen.add(second);
        seen.seconds += 1;
        if number == 0 {
            let work = folder(&trace.fixture.above, "work", &left, Path::new(""));
            trace.fixture.check(&work, Trust::Either)?;
            seen.builds += 1;
        }
    }
    Ok(seen)
}

/// Counts the failures on a disk that ignores syncs, as a check of this suite.
fn without_waits(traces: &[Trace<'_>], cuts: usize, seed: u64) -> Seen {
    let (above, mut seen) = (place(), Seen::default());
    let mut rng = Rng::new(seed);
    let traces: Vec<_> = traces.iter().filter(|trace| trace.is_ordered()).collect();
    let mut done = 0;
    while done < cuts || (seen.incomplete == 0 && done < 50 * cuts) {
        done += 1;
        let trace = *rng.pick(&traces);
        let at = rng.below(trace.lossy.len() + 1);
        let cut = Cut {
            at,
            ignores_waits: true,
        };
        let left = trace.lossy.cut(cut, &mut rng);
        seen.add(check_store(trace, 1, &left, &above).unwrap());
    }
    remove(&above);
    seen
}

fn folder(above: &Path, name: &str, left: &Left, part: &Path) -> PathBuf {
    let folder = above.join(name);
    remove(&folder);
    put(left, part, &folder).unwrap();
    folder
}

fn remove(folder: &Path) {
    // Ignore the error: the folder is temporary.
    let _ = fs::remove_dir_all(folder);
}
