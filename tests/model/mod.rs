//! T1 and T2: random histories of random projects, each build compared with what the model
//! says it must come to. T1 drives the library, with `mix` as a function; T2 runs the real
//! program with real processes.

pub(crate) mod builder;
pub(crate) mod cached;
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

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::model::history::{Done, History, Run};
use crate::support::rng::Rng;
use crate::support::scale::{Suite, count, say, variable};

/// How often a failing history is run to make it smaller.
const TRIES: usize = 400;

/// How many threads run histories on each processor: a build often waits for a thread of
/// its own.
const THREADS: usize = 2;

/// So many histories, of so many steps, and how.
#[derive(Clone, Copy)]
struct Plan {
    histories: usize,
    steps: usize,
    is_real: bool,
    /// How many histories a thread has begun at a time. While one waits for its turn, the
    /// files of another grow old enough to be trusted.
    together: usize,
}

#[test]
fn t1_incremental_builds_in_process_equal_clean_ones() {
    let plan = Plan {
        histories: count(10_000),
        steps: 30,
        is_real: false,
        together: 16,
    };
    run_all(&Suite::begin("T1"), plan);
}

#[test]
fn t2_incremental_builds_with_real_processes_equal_clean_ones() {
    let plan = Plan {
        histories: count(300),
        steps: 15,
        is_real: true,
        together: 3,
    };
    run_all(&Suite::begin("T2"), plan);
}

#[test]
fn histories_that_once_failed_do_not_fail_again() {
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
        say(&format!(
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
        doubted,
        ..
    } = done;
    // That costs a command, and is said; but nobody wrote to anything.
    assert_eq!(doubted, 0, "runs doubted what they made");
    suite.say(&format!(
        "{histories} histories × {steps} steps, 0 differences ({builds} states, {well} of them \
         whole, of {made} targets up to date and {failed} failing, {runs} runs, {executed} commands, {doubted} not stored for doubt)"
    ));
}

/// Runs histories until all are run or one failed.
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
        let step = match run.bench.builds() {
            0 => run.bench.build(),
            _ => run.step(),
        };
        if let Err(fault) = step {
            if !failed.swap(true, Ordering::SeqCst) {
                tell(*seed, run.history.clone(), &fault);
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

/// Makes a failing history smaller and prints it.
fn tell(seed: u64, history: History, fault: &str) {
    let whole = serde_json::to_string(&history).unwrap();
    say(&format!("seed {seed}: {fault}\n"));
    let (history, fault) = history.shrunk(TRIES);
    let file = std::env::temp_dir().join(format!("history-{seed}.json"));
    let shrunk = serde_json::to_string(&history).unwrap();
    std::fs::write(&file, whole).unwrap();
    say(&format!(
        "{fault}\n\n{}\n\nThe whole history is in {}. To keep the smaller one as a regression, \
         save this as tests/model/regressions/<what it shows>.json:\n\n{shrunk}\n",
        history.project.text(None),
        file.display(),
    ));
}
