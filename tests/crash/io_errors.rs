//! Suite T6: errors in fbuild's state cost time, never a wrong byte and never the build. Every
//! call of the real program that opens or changes a state file fails, once or from then on, with
//! each error of the system; every small file is cut at every length and has every byte changed.
//! `file_systems.rs` tests full and read-only file systems.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use std::process::Output;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::crash::fixture::{Fixture, Left, Victim, check_outputs, victims, world};
use crate::model::builder::Report;
use crate::model::comparison::{Comparison, Fault};
use crate::model::history::place;
use crate::model::inprocess::InProcess;
use crate::model::process::report;
use crate::model::store_model::Trust;
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

/// Calls whose failure needs no warning, with the reason. Only time is lost.
const MAY_BE_SILENT: &[(&str, &str)] = &[
    (
        "open an entry of artifacts",
        "a blob that cannot be compared is written again; one that cannot be synced is synced with all others",
    ),
    (
        "open an entry of artifacts, which is missing",
        "the file does not exist",
    ),
    (
        "open an entry of actions, which is missing",
        "the file does not exist",
    ),
    ("sync artifacts", "a sync of the whole store follows"),
    (
        "open actions",
        "the next collection counts the content of the store",
    ),
    (
        "open an entry of actions",
        "the next collection counts the content of the store",
    ),
    (
        "sync an entry of artifacts",
        "a sync of the whole store follows",
    ),
    (
        "open artifacts",
        "a sync of the whole store follows, or the next collection counts its content",
    ),
    ("exchange graph", "a rename replaces the exchange"),
    ("exchange index", "a rename replaces the exchange"),
    ("exchange nodes", "a rename replaces the exchange"),
    ("exchange snapshot", "a rename replaces the exchange"),
    ("exchange state", "a rename replaces the exchange"),
    (
        "exchange an entry of metadata",
        "a rename replaces the exchange",
    ),
    ("open graph", "the Buildfile is parsed again"),
    ("open graph, which is missing", "the file does not exist"),
    ("open nodes", "the Buildfile is parsed again"),
    ("open nodes, which is missing", "the file does not exist"),
    ("open index", "files are read again"),
    ("open index, which is missing", "the file does not exist"),
    ("open snapshot", "the run checks every file"),
    ("open snapshot, which is missing", "the file does not exist"),
    (
        "open version",
        "no snapshot is recorded or used; the store itself reports that it is off",
    ),
    (
        "write snapshot",
        "the snapshot is written as a new file; if that fails, there is a warning",
    ),
    ("open state", "results are restored from the store"),
    ("open state, which is missing", "the file does not exist"),
    ("open usage", "the size of the store is computed again"),
    ("open usage, which is missing", "the file does not exist"),
    ("make usage", "the size of the store is computed again"),
    (
        "make usage, which is missing",
        "the size of the store is computed again",
    ),
    ("write usage", "the size of the store is computed again"),
    ("rename usage", "the size of the store is computed again"),
    ("open runs", "the next run removes old logs"),
    ("make lock", "the lock exists and is opened read-only"),
    (
        "lock lock",
        "the end of the process releases the lock, or the next run collects",
    ),
];

#[test]
fn t6_failing_calls_never_fail_the_build() {
    let suite = Suite::begin("T6");
    if !CAN_CHANGE {
        suite.skip("failing calls", "not supported on this processor");
        return;
    }
    let mut victims = victims();
    victims.retain(|victim| victim.arguments[0] == "run");
    let counts: Vec<u64> = victims
        .iter()
        .map(|victim| {
            let fixture = Fixture::prepare(victim);
            let mut fbuild = fixture.command(&fixture.fresh());
            tracer::run(&mut fbuild, Calls::Kept, Act::Count)
                .unwrap()
                .calls
        })
        .collect();
    let points = points(&counts, suite.seed);
    let tally = fail_at(&victims, &points);
    let shown: Vec<String> = tally
        .iter()
        .map(|(what, n)| format!("{n} {what}"))
        .collect();
    suite.report(&format!(
        "{} failures of {} calls in {} builds: {}; 0 builds failed, 0 wrong bytes",
        points.len(),
        counts.iter().sum::<u64>(),
        victims.len(),
        shown.join(", "),
    ));
}

type Point = (usize, Act, &'static str);

/// Returns every call with an error, and random ones up to the requested number; or a sample if
/// that number is small.
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

/// Makes each call fail, on all processors, and counts the reactions.
fn fail_at(victims: &[Victim], points: &[Point]) -> BTreeMap<&'static str, usize> {
    let (next, tally) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut fixtures: BTreeMap<usize, Fixture<'_>> = BTreeMap::new();
        while let Some((number, act, name)) = points.get(next.fetch_add(1, Ordering::SeqCst)) {
            let prepare = || Fixture::prepare(&victims[*number]);
            let fixture = fixtures.entry(*number).or_insert_with(prepare);
            let done = fixture.fail(*act);
            let what = || format!("{}, {act:?} ({name})", fixture.victim.name);
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

impl Fixture<'_> {
    /// Runs the program while a call fails, and checks its outputs.
    fn fail(&self, act: Act) -> Result<&'static str, Fault> {
        let work = self.fresh();
        let (events, messages) = (self.above.join("events"), self.above.join("messages"));
        let mut fbuild = self.command(&work);
        fbuild.stdout(File::create(&events).unwrap());
        fbuild.stderr(File::create(&messages).unwrap());
        let traced = tracer::run(&mut fbuild, Calls::Kept, act).unwrap();
        let report = report(&Output {
            status: traced.status,
            stdout: fs::read(events).unwrap(),
            stderr: fs::read(messages).unwrap(),
        });
        self.check_trouble(&work, &report)?;
        let is_unrecorded = ["fbuild::journal::ownership", "nothing is remembered"];
        let mut printed = report.warnings.iter().chain([&report.messages]);
        let left = match printed.any(|text| is_unrecorded.iter().any(|part| text.contains(part))) {
            true => Left::Unrecorded,
            false => Left::Recorded,
        };
        self.check_after(&work, Trust::Either, left)?;
        if traced.failed.is_empty() {
            return Ok("not reached");
        }
        if !report.warnings.is_empty() || !report.messages.is_empty() {
            return Ok("with a warning");
        }
        let may_be_silent = |call: &&String| MAY_BE_SILENT.iter().any(|(may, _)| may == call);
        match traced.failed.iter().find(|call| !may_be_silent(call)) {
            None => Ok("without effect"),
            Some(call) => Err(format!("no warning for: {call}")),
        }
    }

    /// Checks that a run has correct outputs and printed each warning once.
    fn check_trouble(&self, work: &Path, report: &Report) -> Result<(), Fault> {
        let shown = || format!("{report:?}");
        if report.exit != 0 {
            return Err(format!("the build failed: {}", shown()));
        }
        check_outputs(work, &self.world.expect().tree).map_err(|fault| fault + &shown())?;
        let mut warnings = report.warnings.clone();
        warnings.sort();
        warnings.dedup();
        let is_coded = |warning: &String| warning.starts_with("fbuild::");
        if warnings.len() < report.warnings.len() || !warnings.iter().all(is_coded) {
            return Err(format!("a warning without a code, or twice: {}", shown()));
        }
        let messages: Vec<&str> = report.messages.lines().collect();
        let is_coded = |line: &&str| line.starts_with("warning[fbuild::");
        let are_coded = messages.iter().all(is_coded);
        let distinct: BTreeSet<_> = messages.iter().collect();
        match are_coded && distinct.len() == messages.len() {
            true => Ok(()),
            false => Err(format!(
                "a warning has no code, or was printed twice: {}",
                shown()
            )),
        }
    }
}

/// A file to damage, and the files that must be absent for it to be read.
struct Small {
    path: String,
    without: &'static [&'static str],
}

#[test]
fn t6_damaged_bytes_never_change_the_build() {
    let suite = Suite::begin("T6");
    let above = place();
    let work = above.join("work");
    let builder = InProcess::new(&work, 2, false);
    let mut comparison = Comparison::new(work.clone(), world(), Box::new(builder));
    comparison.build().unwrap();
    comparison.trust(Trust::Either);
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
            let before = comparison.executed;
            let built = comparison.build();
            built.unwrap_or_else(|fault| panic!("{}, {at}, {flip:?}: {fault}", small.path));
            executed += comparison.executed - before;
            done += 1;
        }
        fs::write(state.join(&small.path), whole).unwrap();
    }
    let _ = fs::remove_dir_all(above);
    suite.report(&format!(
        "{done} cuts and flips of bytes in {files} files: {executed} targets executed again, 0 wrong bytes"
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
