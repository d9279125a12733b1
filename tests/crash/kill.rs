//! T3: killed anywhere, and never wrong. The real program is killed before each call that
//! changes a file, in the middle of each write, and at random; the next run, with nothing
//! repaired by hand, must make everything what it should be, and find the cache sound.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::crash::fixture::{Scene, Victim, victims};
use crate::support::rng::Rng;
use crate::support::scale::{Suite, count};
use crate::support::tracer::{self, Act, CAN_CHANGE, Calls};

#[test]
fn t3_killed_anywhere_the_next_run_is_right() {
    let suite = Suite::begin("T3");
    let victims = victims();
    let counts: Vec<Counts> = victims
        .iter()
        .map(|victim| Scene::prepare(victim).count())
        .collect();
    let points = points(&counts, suite.seed);
    let tally = kill_at(&victims, &points);
    let done: Vec<String> = tally
        .iter()
        .map(|(kind, n)| format!("{n} {kind}"))
        .collect();
    let changing: u64 = counts.iter().map(|counts| counts.changing).sum();
    suite.say(&format!(
        "{} points in {} victims with {changing} changing calls: {}; 0 wrong, 0 unsound",
        points.len(),
        victims.len(),
        done.join(", "),
    ));
}

/// How many calls a victim makes.
struct Counts {
    changing: u64,
    writes: u64,
    all: u64,
}

type Point = (usize, Calls, Act);

/// Returns every call that changes a file, every write, and places at random.
fn points(counts: &[Counts], seed: u64) -> Vec<Point> {
    let mut points = Vec::new();
    for (number, counts) in counts.iter().enumerate() {
        let kill = |at| (number, Calls::Changing, Act::Kill(at));
        points.extend((1..=counts.changing).map(kill));
        let tear = |at| (number, Calls::Writes, Act::Tear(at));
        points.extend((1..=counts.writes).filter(|_| CAN_CHANGE).map(tear));
    }
    let most = count(points.len());
    sample(&mut points, most);
    let mut rng = Rng::new(seed);
    points.extend((0..count(1000)).map(|_| {
        let number = rng.below(counts.len());
        let all = usize::try_from(counts[number].all).unwrap();
        let anywhere = Act::Kill(1 + rng.below(all) as u64);
        (number, Calls::All, anywhere)
    }));
    points
}

/// Leaves out points evenly until there are no more than this.
fn sample(points: &mut Vec<Point>, most: usize) {
    if points.len() > most {
        let all = std::mem::take(points);
        let step = all.len() as f64 / most as f64;
        points.extend((0..most).map(|at| all[(at as f64 * step) as usize]));
    }
}

/// Kills at each point, on all processors, and counts what was done.
fn kill_at(victims: &[Victim], points: &[Point]) -> BTreeMap<&'static str, usize> {
    let (next, tally) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut scenes: BTreeMap<usize, Scene<'_>> = BTreeMap::new();
        while let Some((number, calls, act)) = points.get(next.fetch_add(1, Ordering::SeqCst)) {
            let prepare = || Scene::prepare(&victims[*number]);
            let scene = scenes.entry(*number).or_insert_with(prepare);
            let kind = scene.kill(*calls, *act);
            *tally.lock().unwrap().entry(kind).or_insert(0) += 1;
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    tally.into_inner().unwrap()
}

impl Scene<'_> {
    /// Returns how many calls of each kind there are.
    fn count(&self) -> Counts {
        let count = |calls| {
            let traced = self.run(calls, Act::Count);
            assert!(traced.status.success(), "{} fails", self.victim.name);
            traced.calls
        };
        Counts {
            changing: count(Calls::Changing),
            writes: count(Calls::Writes),
            all: count(Calls::All),
        }
    }

    /// Runs the victim on a fresh copy of the folder.
    fn run(&self, calls: Calls, act: Act) -> tracer::Traced {
        let mut fbuild = self.command(&self.fresh());
        tracer::run(&mut fbuild, calls, act).unwrap()
    }

    /// Kills the victim and looks at what the next runs make of it. Returns what was done.
    fn kill(&self, calls: Calls, act: Act) -> &'static str {
        let traced = self.run(calls, act);
        let checked = self.check(&self.work(), self.victim.leaves);
        let what = || format!("{}, {calls:?}, {act:?}", self.victim.name);
        checked.unwrap_or_else(|fault| panic!("{}: {fault}", what()));
        match (traced.acted, act) {
            (false, _) => "not reached",
            (_, Act::Tear(_)) => "writes torn",
            _ if calls == Calls::All => "kills at random",
            _ => "kills before a change",
        }
    }
}
