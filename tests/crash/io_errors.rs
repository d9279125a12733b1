//! T6: trouble with what fbuild keeps costs time, never a wrong byte and never the build.
//! Each call of the real program that opens or changes something there fails, once or from
//! then on, with each error that a system gives; each small file is cut at every length and
//! has every byte changed. Full and read-only file systems are in `file_systems.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use std::process::Output;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::crash::fixture::{Scene, Victim, check_outputs, victims, world};
use crate::model::builder::Report;
use crate::model::cached::Trust;
use crate::model::comparison::{Bench, Fault};
use crate::model::history::place;
use crate::model::inprocess::InProcess;
use crate::model::process::report;
use crate::support::rng::Rng;
use crate::support::scale::{Suite, count};
use crate::support::tracer::{self, Act, CAN_CHANGE, Calls, Errno};
use crate::support::tree;

const ERRORS: [(Errno, &str); 6] = [
    (libc::ENOSPC, "ENOSPC"),
    (libc::EIO, "EIO"),
    (libc::EROFS, "EROFS"),
    (libc::EDQUOT, "EDQUOT"),
    (libc::EMFILE, "EMFILE"),
    (libc::EACCES, "EACCES"),
];

/// Calls of which nothing need be said when they fail, and why. Nobody loses anything but time.
const MAY_BE_SILENT: &[(&str, &str)] = &[
    (
        "open something in artifacts",
        "what cannot be compared is written anew; what cannot be waited for by itself is waited for with all",
    ),
    (
        "open something in artifacts, which is not there",
        "there was nothing to be had",
    ),
    (
        "open something in actions, which is not there",
        "there was nothing to be had",
    ),
    ("sync artifacts", "one wait for all of the cache follows"),
    (
        "open actions",
        "what the cache holds is counted when a collection is due again",
    ),
    (
        "open something in actions",
        "what the cache holds is counted when a collection is due again",
    ),
    (
        "sync something in artifacts",
        "one wait for all of the cache follows",
    ),
    (
        "open artifacts",
        "one wait for all of the cache follows, or it is counted when a collection is due again",
    ),
    ("exchange graph", "the one is renamed over the other"),
    ("exchange index", "the one is renamed over the other"),
    ("exchange nodes", "the one is renamed over the other"),
    ("exchange snapshot", "the one is renamed over the other"),
    ("exchange state", "the one is renamed over the other"),
    (
        "exchange something in metadata",
        "the one is renamed over the other",
    ),
    ("open graph", "the Buildfile is read again"),
    (
        "open graph, which is not there",
        "there was nothing to be had",
    ),
    ("open nodes", "the Buildfile is read again"),
    (
        "open nodes, which is not there",
        "there was nothing to be had",
    ),
    ("open index", "files are read again"),
    (
        "open index, which is not there",
        "there was nothing to be had",
    ),
    ("open snapshot", "the run looks at everything itself"),
    (
        "open snapshot, which is not there",
        "there was nothing to be had",
    ),
    (
        "write snapshot",
        "what is not noted in place is written anew, and that is said if it cannot be",
    ),
    ("open state", "results come out of the cache"),
    (
        "open state, which is not there",
        "there was nothing to be had",
    ),
    ("open usage", "how large the cache is is counted again"),
    (
        "open usage, which is not there",
        "there was nothing to be had",
    ),
    ("make usage", "how large the cache is is counted again"),
    (
        "make usage, which is not there",
        "how large the cache is is counted again",
    ),
    ("write usage", "how large the cache is is counted again"),
    ("rename usage", "how large the cache is is counted again"),
    (
        "open runs",
        "too many logs of runs are there until the next run",
    ),
    ("make lock", "it is there and opened in another way"),
    (
        "lock lock",
        "the process ends and gives all locks up, or a collection is left to the next run",
    ),
];

#[test]
fn t6_whatever_call_fails_the_build_does_not() {
    let suite = Suite::begin("T6");
    if !CAN_CHANGE {
        suite.skip("failing calls", "not on this processor");
        return;
    }
    let mut victims = victims();
    victims.retain(|victim| victim.arguments[0] == "run");
    let counts: Vec<u64> = victims
        .iter()
        .map(|victim| {
            let scene = Scene::prepare(victim);
            let mut fbuild = scene.command(&scene.fresh());
            tracer::run(&mut fbuild, Calls::Kept, Act::Count)
                .unwrap()
                .calls
        })
        .collect();
    let points = points(&counts, suite.seed);
    let tally = fail_at(&victims, &points);
    let said: Vec<String> = tally
        .iter()
        .map(|(what, n)| format!("{n} {what}"))
        .collect();
    suite.say(&format!(
        "{} failures of {} calls in {} builds: {}; 0 builds failed, 0 wrong bytes",
        points.len(),
        counts.iter().sum::<u64>(),
        victims.len(),
        said.join(", "),
    ));
}

type Point = (usize, Act, &'static str);

/// Returns every call, with some error, and more at random up to the number that is asked
/// for; or a part of the calls if that number is small.
fn points(counts: &[u64], seed: u64) -> Vec<Point> {
    let mut rng = Rng::new(seed);
    let mut calls: Vec<(usize, u64)> = Vec::new();
    for (number, count) in counts.iter().enumerate() {
        calls.extend((1..=*count).map(|at| (number, at)));
    }
    let all = calls.len();
    let points = (0..count(1500)).map(|n| {
        let (number, at) = match n < all && count(1500) >= all {
            true => calls[n],
            false => *rng.pick(&calls),
        };
        let (errno, name) = *rng.pick(&ERRORS);
        let act = match rng.percent(50) {
            true => Act::Fail(at, errno),
            false => Act::FailFrom(at, errno),
        };
        (number, act, name)
    });
    points.collect()
}

/// Lets each call fail, on all processors, and counts what was said.
fn fail_at(victims: &[Victim], points: &[Point]) -> BTreeMap<&'static str, usize> {
    let (next, tally) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut scenes: BTreeMap<usize, Scene<'_>> = BTreeMap::new();
        while let Some((number, act, name)) = points.get(next.fetch_add(1, Ordering::SeqCst)) {
            let prepare = || Scene::prepare(&victims[*number]);
            let scene = scenes.entry(*number).or_insert_with(prepare);
            let done = scene.fail(*act);
            let what = || format!("{}, {act:?} ({name})", scene.victim.name);
            let kind = done.unwrap_or_else(|fault| panic!("{}: {fault}", what()));
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
    /// Runs the victim while something fails, and looks at what it makes.
    fn fail(&self, act: Act) -> Result<&'static str, Fault> {
        let work = self.fresh();
        let (events, talk) = (self.above.join("events"), self.above.join("talk"));
        let mut fbuild = self.command(&work);
        fbuild.stdout(File::create(&events).unwrap());
        fbuild.stderr(File::create(&talk).unwrap());
        let traced = tracer::run(&mut fbuild, Calls::Kept, act).unwrap();
        let report = report(&Output {
            status: traced.status,
            stdout: fs::read(events).unwrap(),
            stderr: fs::read(talk).unwrap(),
        });
        self.check_trouble(&work, &report)?;
        self.check(&work, Trust::Either)?;
        if traced.failed.is_empty() {
            return Ok("not reached");
        }
        if !report.warnings.is_empty() || !report.talk.is_empty() {
            return Ok("with a warning");
        }
        let may_be_silent = |call: &&String| MAY_BE_SILENT.iter().any(|(may, _)| may == call);
        match traced.failed.iter().find(|call| !may_be_silent(call)) {
            None => Ok("without consequence"),
            Some(call) => Err(format!("nothing was said of: {call}")),
        }
    }

    /// Checks that a run made what it should, and said what was wrong, each thing once.
    fn check_trouble(&self, work: &Path, report: &Report) -> Result<(), Fault> {
        let said = || format!("{report:?}");
        if report.exit != 0 {
            return Err(format!("the build failed: {}", said()));
        }
        check_outputs(work, &self.world.expect().tree).map_err(|fault| fault + &said())?;
        let mut warnings = report.warnings.clone();
        warnings.sort();
        warnings.dedup();
        let is_coded = |warning: &String| warning.starts_with("fbuild::");
        if warnings.len() < report.warnings.len() || !warnings.iter().all(is_coded) {
            return Err(format!("a warning without a code, or twice: {}", said()));
        }
        let talk: Vec<&str> = report.talk.lines().collect();
        let is_coded = |lines: &[&str]| match lines {
            [first, second] => {
                first.starts_with("warning: ") && second.starts_with("  code: fbuild::")
            }
            _ => false,
        };
        let are_coded = talk.chunks(2).all(is_coded);
        let said_once: BTreeSet<_> = talk.iter().step_by(2).collect();
        match are_coded && said_once.len() * 2 == talk.len() {
            true => Ok(()),
            false => Err(format!(
                "something was said without a code, or twice: {}",
                said()
            )),
        }
    }
}

/// What is damaged: a file below the state folder, and what must be gone for it to matter.
struct Small {
    path: String,
    without: &'static [&'static str],
}

#[test]
fn t6_whatever_byte_is_damaged_the_build_is_right() {
    let suite = Suite::begin("T6");
    let above = place();
    let work = above.join("work");
    let builder = InProcess::new(&work, 2, false);
    let mut bench = Bench::new(work.clone(), world(), Box::new(builder));
    bench.build().unwrap();
    bench.trust(Trust::Either);
    let state = work.join(".build-cache");
    let mut rng = Rng::new(suite.seed);
    let (mut done, mut files, mut executed) = (0, 0, 0);
    for small in small_files(&state) {
        let whole = fs::read(state.join(&small.path)).unwrap();
        files += 1;
        let every = (0..whole.len()).flat_map(|at| [(at, None), (at, Some(1 << rng.below(8)))]);
        let points: Vec<(usize, Option<u8>)> = every.collect();
        let most = count(points.len());
        for number in 0..most {
            let (at, flip) = points[number * points.len() / most];
            let mut bytes = whole.clone();
            match flip {
                None => bytes.truncate(at),
                Some(bits) => bytes[at] ^= bits,
            }
            for gone in small.without {
                tree::erase(&work.join(gone)).unwrap();
            }
            fs::write(state.join(&small.path), bytes).unwrap();
            let before = bench.executed;
            let built = bench.build();
            built.unwrap_or_else(|fault| panic!("{}, {at}, {flip:?}: {fault}", small.path));
            executed += bench.executed - before;
            done += 1;
        }
        fs::write(state.join(&small.path), whole).unwrap();
    }
    let _ = fs::remove_dir_all(above);
    suite.say(&format!(
        "{done} cuts and flips of bytes in {files} files: {executed} targets ran again, 0 wrong bytes"
    ));
}

/// Returns the small files below a state folder.
fn small_files(state: &Path) -> Vec<Small> {
    const OUTPUTS: &[&str] = &[".build-cache/state", "out", "gen", "lib"];
    let small = |path: &str, without| Small {
        path: path.to_owned(),
        without,
    };
    let mut files: Vec<Small> = ["index", "state", "graph", "usage", "version"]
        .map(|path| small(path, &[]))
        .into();
    for (folder, without) in [
        ("actions", OUTPUTS),
        ("artifacts", OUTPUTS),
        ("metadata", &[]),
    ] {
        let mut pending = vec![state.join(folder)];
        while let Some(folder) = pending.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => pending.push(path),
                    false => {
                        let below = path.strip_prefix(state).unwrap();
                        files.push(small(below.to_str().unwrap(), without));
                    }
                }
            }
        }
    }
    files.retain(|small| state.join(&small.path).exists());
    files
}
