//! Suite T3: kills. The real program is killed before each call that changes a file, in the
//! middle of each write, and at random; the next run, without manual repair, must produce
//! correct outputs and find a sound store.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::crash::fixture::{Fixture, Victim, victims};
use crate::support::rng::Rng;
use crate::support::scale::{Suite, count};
use crate::support::tracer::{self, Act, CAN_CHANGE, Calls};

#[test]
fn t3_run_after_a_kill_is_correct() {
    let suite = Suite::begin("T3");
    let victims = victims();
    let counts: Vec<Counts> = victims
        .iter()
        .map(|victim| Fixture::prepare(victim).count())
        .collect();
    let points = points(&counts, suite.seed);
    let tally = kill_at(&victims, &points);
    let done: Vec<String> = tally
        .iter()
        .map(|(kind, n)| format!("{n} {kind}"))
        .collect();
    let changing: u64 = counts.iter().map(|counts| counts.changing).sum();
    suite.report(&format!(
        "{} points in {} kinds of runs with {changing} changing calls ({}): 0 wrong, 0 unsound",
        points.len(),
        victims.len(),
        done.join(", "),
    ));
}

/// The numbers of calls of a run.
struct Counts {
    changing: u64,
    writes: u64,
    all: u64,
}

type Point = (usize, Calls, Act);

/// Returns every changing call, every write, and random calls.
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

/// Removes points evenly until at most `most` are left.
fn sample(points: &mut Vec<Point>, most: usize) {
    if points.len() > most {
        let all = std::mem::take(points);
        let step = all.len() as f64 / most as f64;
        points.extend((0..most).map(|at| all[(at as f64 * step) as usize]));
    }
}

/// Kills the program at each point, on all processors, and counts the kinds.
fn kill_at(victims: &[Victim], points: &[Point]) -> BTreeMap<&'static str, usize> {
    let (next, tally) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut fixtures: BTreeMap<usize, Fixture<'_>> = BTreeMap::new();
        while let Some((number, calls, act)) = points.get(next.fetch_add(1, Ordering::SeqCst)) {
            let prepare = || Fixture::prepare(&victims[*number]);
            let fixture = fixtures.entry(*number).or_insert_with(prepare);
            let kind = fixture.kill(*calls, *act);
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

impl Fixture<'_> {
    /// Counts the calls of each kind.
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

    /// Runs the program on a new copy of the folder.
    fn run(&self, calls: Calls, act: Act) -> tracer::Traced {
        let mut fbuild = self.command(&self.fresh());
        tracer::run(&mut fbuild, calls, act).unwrap()
    }

    /// Kills the program and checks the next runs. Returns the kind of the kill.
    fn kill(&self, calls: Calls, act: Act) -> &'static str {
        let traced = self.run(calls, act);
        let checked = self.check(&self.work(), self.victim.leaves);
        let what = || format!("{}, {calls:?}, {act:?}", self.victim.name);
        checked.unwrap_or_else(|fault| panic!("{}: {fault}", what()));
        match (traced.acted, act) {
            (false, _) => "not reached",
            (_, Act::Tear(_)) => "torn writes",
            _ if calls == Calls::All => "random kills",
            _ => "kills before a change",
        }
    }
}
