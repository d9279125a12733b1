//! One flag that says "stop", raised by a signal or a failed target and polled by
//! whoever runs commands. It does not know who raises it or what stopping means.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// A flag shared by everybody who can stop a run and everybody who must notice.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicU8>);

/// How urgently a run is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Nobody asked.
    None,
    /// Ask commands to end (TERM), then insist after a grace period.
    Stop,
    /// Kill at once: the person asked a second time.
    Kill,
}

impl Cancel {
    /// Returns a flag that nobody has raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the flag by one level; a second call asks for [`Urgency::Kill`].
    pub fn raise(&self) {
        let next = |level: u8| (level < 2).then_some(level + 1);
        // An error only says that the highest level was reached before.
        let _ = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
    }

    /// Returns how urgently to stop.
    pub fn urgency(&self) -> Urgency {
        match self.0.load(Ordering::SeqCst) {
            0 => Urgency::None,
            1 => Urgency::Stop,
            _ => Urgency::Kill,
        }
    }

    /// Tells whether anybody asked to stop.
    pub fn is_raised(&self) -> bool {
        self.urgency() != Urgency::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_raise_asks_to_kill_and_a_third_changes_nothing() {
        let cancel = Cancel::new();
        assert_eq!(cancel.urgency(), Urgency::None);
        let other = cancel.clone();
        other.raise();
        assert_eq!(cancel.urgency(), Urgency::Stop);
        cancel.raise();
        cancel.raise();
        assert_eq!(other.urgency(), Urgency::Kill);
    }
}
