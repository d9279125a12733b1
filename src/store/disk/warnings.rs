//! What a store has to say and nobody asked for yet. It decides how often, not to whom.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::event::Warning;

/// So many damaged objects are named one by one; the rest are counted.
const NAMED: u64 = 20;

/// Warnings that wait to be taken, and what was said before.
#[derive(Debug, Default)]
pub(super) struct Warnings(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Warning>,
    said: HashSet<&'static str>,
    damaged: u64,
}

impl Warnings {
    /// Warns about the store as a whole, once for each code.
    pub(super) fn once(&self, code: &'static str, message: impl FnOnce() -> String) {
        let mut state = self.lock();
        if state.said.insert(code) {
            let message = message();
            state.waiting.push(Warning::new(code, message));
        }
    }

    /// Warns about one damaged object.
    pub(super) fn damage(&self, message: impl FnOnce() -> String) {
        let mut state = self.lock();
        state.damaged += 1;
        let message = match state.damaged {
            n if n <= NAMED => message(),
            n if n == NAMED + 1 => "further damaged objects in the cache are only counted".into(),
            _ => return,
        };
        let code = "fbuild::store::corrupt";
        state.waiting.push(Warning::new(code, message));
    }

    pub(super) fn take(&self) -> Vec<Warning> {
        std::mem::take(&mut self.lock().waiting)
    }

    pub(super) fn damaged(&self) -> u64 {
        self.lock().damaged
    }

    /// No code that can panic runs under this lock but the making of a message, before
    /// which nothing but a counter or a set was changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_damaged_objects_are_named_and_the_rest_only_counted() {
        let warnings = Warnings::default();
        let mut said = Vec::new();
        for number in 1..=25 {
            warnings.damage(|| number.to_string());
            said.extend(warnings.take().into_iter().map(|w| w.message));
        }
        let mut expected: Vec<String> = (1..=20).map(|number| number.to_string()).collect();
        expected.push("further damaged objects in the cache are only counted".into());
        assert_eq!(said, expected);
        assert_eq!(warnings.damaged(), 25);
    }

    #[test]
    fn trouble_with_the_store_is_said_once_for_each_code() {
        let warnings = Warnings::default();
        for code in ["a", "b", "a"] {
            warnings.once(code, || code.to_owned());
        }
        let said: Vec<_> = warnings.take().into_iter().map(|w| w.code).collect();
        assert_eq!(said, ["a", "b"]);
        assert_eq!((warnings.take(), warnings.damaged()), (Vec::new(), 0));
    }
}
