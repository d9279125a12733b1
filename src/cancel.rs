//! One flag that says "stop", raised by a signal or a failed target and noticed by
//! whoever runs commands. It does not know who raises it or what stopping means.
//!
//! Who waits in `poll` waits for the flag too: [`Cancel::bell`] is a descriptor that
//! becomes readable, and stays so, when the flag is raised.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::event::EventfdFlags;

/// A flag shared by everybody who can stop a run and everybody who must notice.
#[derive(Clone, Debug)]
pub struct Cancel(Arc<Flag>);

#[derive(Debug)]
struct Flag {
    level: AtomicU8,
    /// One bell for each level above none; absent when the system had no descriptor left.
    bells: [Option<OwnedFd>; 2],
}

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
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let bell = || rustix::event::eventfd(0, flags).ok();
        Self(Arc::new(Flag {
            level: AtomicU8::new(0),
            bells: [bell(), bell()],
        }))
    }

    /// Raises the flag by one level; a second call asks for [`Urgency::Kill`].
    pub fn raise(&self) {
        let next = |level: u8| (level < 2).then_some(level + 1);
        let raised = self
            .0
            .level
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
        // An error only says that the highest level was reached before.
        if let Ok(before) = raised
            && let Some(bell) = &self.0.bells[usize::from(before)]
        {
            // It can only fail when the bell rings already.
            let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
        }
    }

    /// Returns how urgently to stop.
    pub fn urgency(&self) -> Urgency {
        match self.0.level.load(Ordering::SeqCst) {
            0 => Urgency::None,
            1 => Urgency::Stop,
            _ => Urgency::Kill,
        }
    }

    /// Tells whether anybody asked to stop.
    pub fn is_raised(&self) -> bool {
        self.urgency() != Urgency::None
    }

    /// Returns a descriptor that is readable once the flag is above `heard`. Nobody may
    /// read from it. `None` when nothing is above, or when the system had no descriptor
    /// to give: who waits must then look at [`Cancel::urgency`] now and then.
    pub fn bell(&self, heard: Urgency) -> Option<BorrowedFd<'_>> {
        let bell = self.0.bells.get(heard as usize)?;
        bell.as_ref().map(|bell| bell.as_fd())
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

    fn rings(cancel: &Cancel, heard: Urgency) -> bool {
        let bell = cancel.bell(heard).unwrap();
        let now = Timespec::default();
        let mut fds = [PollFd::from_borrowed_fd(bell, PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&now)).unwrap() == 1
    }

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

    #[test]
    fn each_level_rings_its_own_bell_and_keeps_ringing() {
        let cancel = Cancel::new();
        assert!(!rings(&cancel, Urgency::None));
        cancel.raise();
        assert!(rings(&cancel, Urgency::None) && rings(&cancel, Urgency::None));
        assert!(!rings(&cancel, Urgency::Stop));
        cancel.raise();
        assert!(rings(&cancel, Urgency::Stop));
        assert!(cancel.bell(Urgency::Kill).is_none());
    }
}
