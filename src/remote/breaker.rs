//! A circuit breaker: after three failures in a row the server is left alone for 30 s,
//! then one request may probe it. It counts failures and knows no protocol.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::backend::{Error, Kind};

/// How many failures in a row open the breaker.
const FAILURES: u32 = 3;
/// How long an open breaker lets nothing through.
const COOL_DOWN: Duration = Duration::from_secs(30);

/// Decides whether a request may be sent.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// When it opened, and why; `None` while it is closed.
    opened: Option<(Instant, Error)>,
    /// Whether a probe is under way.
    probing: bool,
    /// Whether it stays open: the server refuses these credentials.
    is_final: bool,
}

impl Breaker {
    /// Returns whether a request may be sent at `now`. After the cool-down one request may,
    /// until its outcome is reported.
    pub(super) fn allows(&self, now: Instant) -> bool {
        let mut state = self.lock();
        let Some((opened, _)) = &state.opened else {
            return true;
        };
        let is_over = now.saturating_duration_since(*opened) >= COOL_DOWN;
        if state.is_final || state.probing || !is_over {
            return false;
        }
        state.probing = true;
        true
    }

    /// Notes that the server answered.
    pub(super) fn succeeded(&self) {
        let mut state = self.lock();
        if !state.is_final {
            *state = State::default();
        }
    }

    /// Notes that a request failed. Returns true if this opened the breaker.
    pub(super) fn failed(&self, error: &Error, now: Instant) -> bool {
        // A full local disk says nothing about the server.
        if error.kind == Kind::Local {
            return false;
        }
        let mut state = self.lock();
        state.failures += 1;
        state.probing = false;
        state.is_final |= error.kind == Kind::Denied;
        if state.failures < FAILURES && !state.is_final {
            return false;
        }
        let was_closed = state.opened.is_none();
        state.opened = Some((now, error.clone()));
        was_closed
    }

    /// Returns why no requests are sent; `None` while they are.
    pub(super) fn reason(&self) -> Option<Error> {
        self.lock().opened.as_ref().map(|(_, error)| error.clone())
    }

    /// Each change is a few assignments, so a panic elsewhere left the state whole.
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: Kind) -> Error {
        Error::new(kind, "x")
    }

    #[test]
    fn three_failures_in_a_row_open_it() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for expected in [false, false, true, false] {
            assert_eq!(breaker.failed(&error(Kind::Timeout), now), expected);
        }
        assert!(!breaker.allows(now));
    }

    #[test]
    fn an_answer_between_failures_keeps_it_closed() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..5 {
            breaker.failed(&error(Kind::Timeout), now);
            breaker.failed(&error(Kind::Timeout), now);
            breaker.succeeded();
        }
        assert!(breaker.allows(now));
    }

    #[test]
    fn one_probe_passes_after_the_cool_down() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..3 {
            breaker.failed(&error(Kind::Unavailable), now);
        }
        let later = now + COOL_DOWN;
        assert!(!breaker.allows(later - Duration::from_millis(1)));
        assert!(breaker.allows(later));
        assert!(!breaker.allows(later), "the probe has not ended");
        breaker.succeeded();
        assert!(breaker.allows(later));
    }

    #[test]
    fn a_failed_probe_starts_another_cool_down() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..3 {
            breaker.failed(&error(Kind::Unavailable), now);
        }
        let later = now + COOL_DOWN;
        assert!(breaker.allows(later));
        breaker.failed(&error(Kind::Unavailable), later);
        assert!(!breaker.allows(later + COOL_DOWN - Duration::from_millis(1)));
        assert!(breaker.allows(later + COOL_DOWN));
    }

    #[test]
    fn refused_credentials_open_it_for_good() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        assert!(breaker.failed(&error(Kind::Denied), now));
        breaker.succeeded();
        assert!(!breaker.allows(now + 10 * COOL_DOWN));
    }

    #[test]
    fn a_local_failure_does_not_count() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..9 {
            breaker.failed(&error(Kind::Local), now);
        }
        assert!(breaker.allows(now));
    }
}
