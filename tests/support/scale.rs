//! How much the suites do, from which seed, and how they say what they did. See
//! `docs/reliability.md` for the variables.

use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::support::rng::Rng;

/// What a plain `cargo test` does of what the contract asks for.
const BRIEF: f64 = 0.02;

/// A suite at work: alone on the machine, as far as this program goes, because it counts
/// time and uses all processors itself.
pub(crate) struct Suite {
    name: &'static str,
    started: Instant,
    /// The seed of everything random in it.
    pub(crate) seed: u64,
    _turn: MutexGuard<'static, ()>,
}

impl Suite {
    /// Begins a suite when its turn comes.
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

    /// Says what was not done, and why.
    pub(crate) fn skip(&self, what: &str, why: &str) {
        say(&format!("{}: skipped {what}: {why}", self.name));
    }

    /// Says what was done, in one line.
    pub(crate) fn say(&self, figures: &str) {
        let (name, seed) = (self.name, self.seed);
        let took = self.started.elapsed().as_secs_f64();
        say(&format!("{name}: {figures}, seed {seed}, {took:.1} s"));
    }
}

/// Returns how many of `full`, the number that the contract asks for, are to be done.
pub(crate) fn count(full: usize) -> usize {
    let factor = variable("FBUILD_SUITES").and_then(|factor| factor.parse().ok());
    let scaled = full as f64 * factor.unwrap_or(BRIEF);
    (scaled.ceil() as usize).max(1)
}

/// Does so many of something, on all processors; returns how many.
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

/// Writes a line past the test harness, which would keep it to itself.
pub(crate) fn say(line: &str) {
    // Nobody is left to be told when this fails.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

#[expect(
    clippy::disallowed_methods,
    reason = "no part of fbuild; a test has no other arguments"
)]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
