//! Scales the suites, seeds them, and prints their results. `docs/reliability.md` has the
//! variables.

use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::support::rng::Rng;

/// The part of the contract's figures that a plain `cargo test` runs.
const BRIEF: f64 = 0.02;

/// A running suite. Only one runs at a time in this process, because a suite measures time and
/// uses all processors.
pub(crate) struct Suite {
    name: &'static str,
    started: Instant,
    /// The seed of all random choices.
    pub(crate) seed: u64,
    _turn: MutexGuard<'static, ()>,
}

impl Suite {
    /// Starts a suite after those that are running.
    pub(crate) fn begin(name: &'static str) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let seed = variable("FBUILD_SEED").and_then(|seed| seed.parse().ok());
        Self {
            name,
            started: Instant::now(),
            seed: seed.unwrap_or(now.as_secs()),
            _turn: turn,
        }
    }

    /// Reports a skipped part and the reason.
    pub(crate) fn skip(&self, what: &str, why: &str) {
        print(&format!("{}: skipped {what}: {why}", self.name));
    }

    /// Reports the results in one line.
    pub(crate) fn report(&self, figures: &str) {
        let (name, seed) = (self.name, self.seed);
        let took = self.started.elapsed().as_secs_f64();
        print(&format!("{name}: {figures}, seed {seed}, {took:.1} s"));
    }
}

/// Returns the scaled part of `full`, the contract's figure.
pub(crate) fn count(full: usize) -> usize {
    let factor = variable("FBUILD_SUITES").and_then(|factor| factor.parse().ok());
    let scaled = full as f64 * factor.unwrap_or(BRIEF);
    (scaled.ceil() as usize).max(1)
}

/// Runs `work` for `many` cases on all processors; returns the sum of the results.
pub(crate) fn on_all(seed: u64, work: fn(&mut Rng, usize) -> usize, many: usize) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let part = |number: usize| {
            let many = (many + number) / processors;
            let mut rng = Rng::new(seed.wrapping_add(number as u64));
            scope.spawn(move || work(&mut rng, many))
        };
        let parts: Vec<_> = (0..processors).map(part).collect();
        parts.into_iter().map(|part| part.join().unwrap()).sum()
    })
}

/// Prints a line past the test harness, which captures normal output.
pub(crate) fn print(line: &str) {
    // Ignore the error: stderr is gone.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

#[expect(clippy::disallowed_methods, reason = "a test has no other arguments")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
