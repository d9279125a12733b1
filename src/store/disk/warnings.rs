//! Collects the warnings of a store and limits how often each occurs.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::event::Warning;

/// The number of damaged objects reported individually.
const NAMED: u64 = 20;

/// Pending warnings, and which were reported before.
#[derive(Debug, Default)]
pub(super) struct Warnings(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    pending: Vec<Warning>,
    reported: HashSet<&'static str>,
    damaged: u64,
}

impl Warnings {
    /// Warns about the store as a whole, once per code.
    pub(super) fn once(&self, code: &'static str, message: impl FnOnce() -> String) {
        let mut state = self.lock();
        if state.reported.insert(code) {
            let message = message();
            state.pending.push(Warning::new(code, message));
        }
    }

    /// Warns about a damaged object.
    pub(super) fn damage(&self, message: impl FnOnce() -> String) {
        let mut state = self.lock();
        state.damaged += 1;
        let message = match state.damaged {
            n if n <= NAMED => message(),
            n if n == NAMED + 1 => "further damaged objects in the cache are only counted".into(),
            _ => return,
        };
        let code = "fbuild::store::corrupt";
        state.pending.push(Warning::new(code, message));
    }

    pub(super) fn take(&self) -> Vec<Warning> {
        std::mem::take(&mut self.lock().pending)
    }

    pub(super) fn damaged(&self) -> u64 {
        self.lock().damaged
    }

    /// Ignores poisoning: only the message closures can panic, and before them only a
    /// counter or a set has changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_objects_after_the_twentieth_are_counted() {
        let warnings = Warnings::default();
        let mut messages = Vec::new();
        for number in 1..=25 {
            warnings.damage(|| number.to_string());
            messages.extend(warnings.take().into_iter().map(|w| w.message));
        }
        let mut expected: Vec<String> = (1..=20).map(|number| number.to_string()).collect();
        expected.push("further damaged objects in the cache are only counted".into());
        assert_eq!(messages, expected);
        assert_eq!(warnings.damaged(), 25);
    }

    #[test]
    fn store_warning_is_reported_once_per_code() {
        let warnings = Warnings::default();
        for code in ["a", "b", "a"] {
            warnings.once(code, || code.to_owned());
        }
        let reported: Vec<_> = warnings.take().into_iter().map(|w| w.code).collect();
        assert_eq!(reported, ["a", "b"]);
        assert_eq!((warnings.take(), warnings.damaged()), (Vec::new(), 0));
    }
}
