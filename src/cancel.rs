//! A cancellation flag, raised by a signal or a failed target, and checked by the code that
//! runs commands.
//!
//! Callers that wait in `poll` can include the flag: [`Cancel::notifier`] is a descriptor
//! that becomes readable, and stays readable, when the flag is raised.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::event::EventfdFlags;

/// A flag shared between the code that can cancel a run and the code that must stop.
#[derive(Clone, Debug)]
pub struct Cancel(Arc<Flag>);

#[derive(Debug)]
struct Flag {
    level: AtomicU8,
    /// One descriptor for each level above none. `None` if the system had none left.
    notifiers: [Option<OwnedFd>; 2],
}

/// The urgency of a cancellation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// The run goes on.
    None,
    /// Send TERM to commands, and KILL after a grace period.
    Stop,
    /// Send KILL at once: the flag was raised a second time.
    Kill,
}

impl Cancel {
    /// Returns a flag that is not raised.
    pub fn new() -> Self {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let notifier = || rustix::event::eventfd(0, flags).ok();
        Self(Arc::new(Flag {
            level: AtomicU8::new(0),
            notifiers: [notifier(), notifier()],
        }))
    }

    /// Raises the flag by one level. The second call requests [`Urgency::Kill`].
    pub fn raise(&self) {
        let next = |level: u8| (level < 2).then_some(level + 1);
        let raised = self
            .0
            .level
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
        // An error means that the flag was at the highest level already.
        if let Ok(before) = raised
            && let Some(notifier) = &self.0.notifiers[usize::from(before)]
        {
            // Ignore the error: the write fails only if the descriptor is readable already.
            let _ = rustix::io::write(notifier, &1u64.to_ne_bytes());
        }
    }

    /// Returns the current level.
    pub fn urgency(&self) -> Urgency {
        match self.0.level.load(Ordering::SeqCst) {
            0 => Urgency::None,
            1 => Urgency::Stop,
            _ => Urgency::Kill,
        }
    }

    /// Returns true if the run is cancelled.
    pub fn is_raised(&self) -> bool {
        self.urgency() != Urgency::None
    }

    /// Returns a descriptor that is readable while the flag is above `level`. Callers must
    /// not read from it. Returns `None` for the highest level, and if the system had no
    /// descriptor left: callers must then poll [`Cancel::urgency`].
    pub fn notifier(&self, level: Urgency) -> Option<BorrowedFd<'_>> {
        let notifier = self.0.notifiers.get(level as usize)?;
        notifier.as_ref().map(|fd| fd.as_fd())
    }
}

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec};

    use super::*;

    fn is_readable(cancel: &Cancel, level: Urgency) -> bool {
        let notifier = cancel.notifier(level).unwrap();
        let now = Timespec::default();
        let mut fds = [PollFd::from_borrowed_fd(notifier, PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&now)).unwrap() == 1
    }

    #[test]
    fn second_raise_requests_kill() {
        let cancel = Cancel::new();
        assert_eq!(cancel.urgency(), Urgency::None);
        let other = cancel.clone();
        other.raise();
        assert_eq!(cancel.urgency(), Urgency::Stop);
        cancel.raise();
        cancel.raise();
        assert_eq!(other.urgency(), Urgency::Kill);
    }

    #[test]
    fn each_level_has_its_own_notifier() {
        let cancel = Cancel::new();
        assert!(!is_readable(&cancel, Urgency::None));
        cancel.raise();
        assert!(is_readable(&cancel, Urgency::None));
        assert!(!is_readable(&cancel, Urgency::Stop));
        cancel.raise();
        assert!(is_readable(&cancel, Urgency::Stop));
        assert!(cancel.notifier(Urgency::Kill).is_none());
    }

    #[test]
    fn notifier_stays_readable() {
        let cancel = Cancel::new();
        cancel.raise();
        for _ in 0..2 {
            assert!(is_readable(&cancel, Urgency::None));
        }
    }
}
