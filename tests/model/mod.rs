//! Suites T1 and T2: run random histories of random projects and compare each build with the
//! expected result of the model. T1 calls the library, with `mix` as a function; T2 runs the
//! real program with real processes.

pub(crate) mod builder;
pub(crate) mod comparison;
mod concurrent;
pub(crate) mod expected;
mod generate;
pub(crate) mod history;
mod huge;
pub(crate) mod inprocess;
pub(crate) mod process;
pub(crate) mod project;
mod repeat;
mod stamps;
pub(crate) mod step;
pub(crate) mod store_model;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::model::history::{Done, History, Run};
use crate::support::rng::Rng;
use crate::support::scale::{Suite, count, print, variable};

/// The number of runs for minimizing a failing history.
const TRIES: usize = 400;

/// Threads per processor: a build often waits for its own thread.
const THREADS: usize = 2;

/// The number, length and kind of the histories.
#[derive(Clone, Copy)]
struct Plan {
    histories: usize,
    steps: usize,
    is_real: bool,
    /// The number of histories that a thread interleaves. Meanwhile the files of each grow old
    /// enough for reliable timestamps.
    together: usize,
}

#[test]
fn t1_in_process_builds_equal_clean_builds() {
    let plan = Plan {
        histories: count(10_000),
        steps: 30,
        is_real: false,
        together: 16,
    };
    run_all(&Suite::begin("T1"), plan);
}

#[test]
fn t2_real_builds_equal_clean_builds() {
    let plan = Plan {
        histories: count(300),
        steps: 15,
        is_real: true,
        together: 3,
    };
    run_all(&Suite::begin("T2"), plan);
}

#[test]
fn known_histories_pass() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/model/regressions");
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    names.sort();
    for path in names
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
    {
        let text = std::fs::read_to_string(path).unwrap();
        let history: History = serde_json::from_str(&text).unwrap();
        if let Err(fault) = history.run() {
            panic!("{}: {fault}", path.display());
        }
    }
    if let Some(path) = variable("FBUILD_HISTORY") {
        let text = std::fs::read_to_string(path).unwrap();
        let history: History = serde_json::from_str(&text).unwrap();
        let (history, fault) = history.shrunk(TRIES);
        print(&format!(
            "{}\n{fault}",
            serde_json::to_string(&history).unwrap()
        ));
    }
}

fn run_all(suite: &Suite, plan: Plan) {
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let total = Mutex::new(Done::default());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..processors * THREADS {
            scope.spawn(|| work(suite.seed, plan, (&next, &failed), &total));
        }
    });
    let Plan {
        histories, steps, ..
    } = plan;
    let done = total.into_inner().unwrap();
    assert!(
        !failed.into_inner(),
        "a history failed; it is printed above"
    );
    let Done {
        builds,
        runs,
        executed,
        fates: [made, failed],
        well,
        spurious_warnings,
        ..
    } = done;
    // A spurious warning is visible and repeats a command, although no file was written.
    assert_eq!(
        spurious_warnings, 0,
        "runs did not store results although no input changed"
    );
    suite.report(&format!(
        "{histories} histories × {steps} steps, {runs} runs, {executed} commands, {builds} builds \
         compared ({well} without a failure, {made} targets succeeded, {failed} failed): \
         0 differences, {spurious_warnings} spurious warnings"
    ));
}

/// Runs histories until all are done or one failed.
fn work(seed: u64, plan: Plan, (next, failed): (&AtomicU64, &AtomicBool), total: &Mutex<Done>) {
    let mut rng = Rng::new(seed ^ next.load(Ordering::SeqCst));
    let mut live: Vec<(u64, Run)> = Vec::new();
    loop {
        while live.len() < plan.together {
            let number = next.fetch_add(1, Ordering::SeqCst);
            if number >= plan.histories as u64 {
                break;
            }
            let seed = seed.wrapping_add(number);
            live.push((seed, Run::begin(seed, plan.is_real)));
        }
        if live.is_empty() || failed.load(Ordering::SeqCst) {
            return;
        }
        let at = rng.below(live.len());
        let (seed, run) = &mut live[at];
        let step = match run.comparison.builds() {
            0 => run.comparison.build(),
            _ => run.step(),
        };
        if let Err(fault) = step {
            if !failed.swap(true, Ordering::SeqCst) {
                print_failure(*seed, run.history.clone(), &fault);
            }
            return;
        }
        if run.history.steps.len() >= plan.steps {
            let done = run.done();
            total.lock().unwrap().add(done);
            live.swap_remove(at);
        }
    }
}

/// Minimizes a failing history and prints it.
fn print_failure(seed: u64, history: History, fault: &str) {
    let whole = serde_json::to_string(&history).unwrap();
    print(&format!("seed {seed}: {fault}\n"));
    let (history, fault) = history.shrunk(TRIES);
    let file = std::env::temp_dir().join(format!("history-{seed}.json"));
    let shrunk = serde_json::to_string(&history).unwrap();
    std::fs::write(&file, whole).unwrap();
    print(&format!(
        "{fault}\n\n{}\n\nThe whole history is in {}. To keep the smaller one as a regression, \
         save this as tests/model/regressions/<name>.json:\n\n{shrunk}\n",
        history.project.text(None),
        file.display(),
    ));
}
