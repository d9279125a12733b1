//! T4: the power fails, and nothing wrong comes of it. What the real program does to its
//! files is recorded, and played to a disk that loses whatever nobody waited for
//! (`lossy.rs`); on what is left, the store gives the right bytes or none, keeps the results
//! that were recorded, heals, and the next run makes everything right.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use fbuild::action::{ActionKey, ActionResult};
use fbuild::digest::Digest;
use fbuild::journal::Memory;
use fbuild::store::Store as _;
use fbuild::store::disk::{Disk, Durability};

use crate::crash::fixture::{Scene, Victim, victims};
use crate::crash::lossy_disk::{Cut, Left, Lossy, put};
use crate::crash::recorder::record;
use crate::model::cached::Trust;
use crate::model::comparison::Fault;
use crate::model::history::place;
use crate::support::rng::Rng;
use crate::support::scale::{Suite, count};

const STATE: &str = ".build-cache";

/// So many bytes wait to be written while half of the victims run: blobs are then waited for
/// one by one, else with all that waits.
const WAITING: usize = 64 << 20;

/// After one power cut in this many, the store is repaired and filled again.
const HEALINGS: usize = 8;
/// One power cut in this many is looked at by a whole build.
const BUILDS: usize = 250;
/// And one in this many is followed by another while that build runs.
const SECONDS: usize = 2500;

#[test]
fn t4_after_a_power_cut_results_are_right_or_missing() {
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
        "a disk that does not wait does no harm: this test sees nothing"
    );
    suite.say(&format!(
        "{cuts} power cuts in {} runs with {ops} changes and {waits} waits: {} results kept, {} \
         lost, {} builds, {} cut off again; 0 bad blobs accepted, 0 results without their \
         blobs (without waits: {} of {})",
        traces.len(),
        seen.hits,
        seen.misses,
        seen.builds,
        seen.seconds,
        careless.incomplete,
        careless.hits,
    ));
}

/// What was seen on disks after power cuts.
#[derive(Debug, Default)]
struct Seen {
    /// Results that were there, and right.
    hits: usize,
    misses: usize,
    /// Results that were there, but not all of their blobs: a hit that comes to nothing.
    incomplete: usize,
    builds: usize,
    seconds: usize,
    /// What the store warned of, but for damaged objects.
    warning: Option<String>,
}

impl Seen {
    /// Checks that the store works, and has all of the results that it has.
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

/// What a victim did, and what came of it.
struct Trace<'v> {
    scene: Scene<'v>,
    lossy: Lossy,
    truth: Truth,
}

/// Every result that there was, and every blob.
#[derive(Default)]
struct Truth {
    results: BTreeMap<String, (ActionKey, ActionResult)>,
    blobs: BTreeMap<String, (Digest, Vec<u8>)>,
}

impl<'v> Trace<'v> {
    fn record(victim: &'v Victim, waiting: usize) -> Self {
        let scene = Scene::prepare(victim);
        let work = scene.fresh();
        let mut truth = Truth::default();
        truth.learn(&work);
        let (mut lossy, mut writer) = Lossy::new(&work);
        fs::write(scene.above.join("waiting"), vec![b'x'; waiting]).unwrap();
        let (status, ops) = record(&mut scene.command(&work), &work);
        assert!(status.success(), "{}: {status}", victim.name);
        writer.write(&mut lossy, &ops);
        truth.learn(&work);
        Self {
            scene,
            lossy,
            truth,
        }
    }

    /// Tells whether every result that is there must be there with its blobs: not if the
    /// victim takes blobs away, or finds damaged ones.
    fn is_ordered(&self) -> bool {
        self.scene.victim.leaves != Trust::Either
    }
}

impl Truth {
    /// Takes in what the store of a folder has that is sound.
    fn learn(&mut self, work: &Path) {
        let state = work.join(STATE);
        if !state.join("version").exists() {
            return;
        }
        let store = Disk::open(&state, Durability::Batched);
        for key in Memory::read(&state.join("state")).keys() {
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

/// Returns a blob if it is there, whole.
fn read(store: &Disk, digest: Digest) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut blob = store.read(digest).unwrap()?;
    blob.read_to_end(&mut bytes).is_ok().then_some(bytes)
}

/// Cuts the power at random places, on all processors.
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
            let done = look(trace, cut, number, &mut rng, &above);
            let what = || {
                format!(
                    "{}, seed {seed}, {number}, {cut:?}",
                    trace.scene.victim.name
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

/// Cuts the power once and looks at what is left.
fn look(
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
        let work = folder(above, "work", &left, Path::new(""));
        trace.scene.check(&work, Trust::Either)?;
        seen.builds += 1;
    }
    if number % SECONDS == 1 {
        seen.add(cut_again(trace, &left, rng, above)?);
    }
    Ok(seen)
}

/// Checks a store after a power cut: what it gives is right, and what it lacks it takes.
fn check_store(trace: &Trace<'_>, number: usize, left: &Left, above: &Path) -> Result<Seen, Fault> {
    let state = folder(above, "store", left, Path::new(STATE));
    let store = Disk::open(&state, Durability::None);
    let mut seen = Seen::default();
    for (key, result) in trace.truth.results.values() {
        let Some(found) = store.result(*key).unwrap() else {
            seen.misses += 1;
            continue;
        };
        // What took how long differs from run to run.
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

/// Tells whether a result has all its blobs; each one that it has must be right.
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

/// Checks that a store is sound once it was repaired, and takes what it lacks.
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

/// Runs the victim anew on what is left, and cuts the power during that, too.
fn cut_again(trace: &Trace<'_>, left: &Left, rng: &mut Rng, above: &Path) -> Result<Seen, Fault> {
    let work = folder(above, "again", left, Path::new(""));
    let (mut lossy, mut writer) = Lossy::new(&work);
    let (_, ops) = record(&mut trace.scene.command(&work), &work);
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
        // What the first power cut left may be damaged, and is put aside now.
        second.check(false)?;
        seen.add(second);
        seen.seconds += 1;
        if number == 0 {
            let work = folder(above, "work", &left, Path::new(""));
            trace.scene.check(&work, Trust::Either)?;
            seen.builds += 1;
        }
    }
    Ok(seen)
}

/// Cuts the power of a disk that does not wait, where that must do harm: counts it.
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
    // It is in a place for temporary files.
    let _ = fs::remove_dir_all(folder);
}
