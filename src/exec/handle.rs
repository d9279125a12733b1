//! Holds a process: signals it, and shows its death as a readable descriptor.
//!
//! A *pidfd* does both. Linux before 5.3 has none, and some sandboxes refuse it. Then a
//! thread waits for the process and closes a pipe when it is dead, and signals go to the
//! number. That number cannot be reused while the process is an unreaped child.

use std::io::{self, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

/// The interval of checks for the death of a process that is no child and has no pidfd.
const POLL: Duration = Duration::from_millis(10);

/// A process that was alive when the handle was opened.
#[derive(Debug)]
pub(super) struct Handle {
    pid: Pid,
    /// Becomes readable when the process is dead.
    death: OwnedFd,
    has_pidfd: bool,
}

impl Handle {
    /// Opens a handle of `pid`, which is an unreaped child or, with a pidfd, any process.
    pub(super) fn open(pid: Pid) -> io::Result<Self> {
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(death) => Ok(Self {
                pid,
                death,
                has_pidfd: true,
            }),
            Err(error) if is_unsupported(error) => Self::open_without_pidfd(pid),
            Err(error) => Err(error.into()),
        }
    }

    fn open_without_pidfd(pid: Pid) -> io::Result<Self> {
        rustix::process::test_kill_process(pid)?;
        let (death, writer) = io::pipe()?;
        std::thread::Builder::new().spawn(move || wait_for_death(pid, writer))?;
        Ok(Self {
            pid,
            death: death.into(),
            has_pidfd: false,
        })
    }

    /// Returns the number of the process.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal to the process.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), Errno> {
        if self.has_pidfd {
            match rustix::process::pidfd_send_signal(&self.death, signal) {
                Err(error) if is_unsupported(error) => {}
                sent => return sent,
            }
        }
        rustix::process::kill_process(self.pid, signal)
    }

    /// Waits until the process exits or until `give_up`. Returns true if it exited.
    pub(super) fn exits_before(&self, give_up: Instant) -> bool {
        loop {
            let left = give_up.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).ok();
            let mut fds = [PollFd::new(&self.death, PollFlags::IN)];
            match rustix::event::poll(&mut fds, timeout.as_ref()) {
                Ok(0) => return false,
                Ok(_) => return true,
                Err(Errno::INTR) => {}
                Err(_) => {
                    // The caller checks again, so this only must not spin.
                    std::thread::sleep(POLL);
                    return Instant::now() < give_up;
                }
            }
        }
    }
}

impl AsFd for Handle {
    /// Returns a descriptor that becomes readable when the process exits.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.death.as_fd()
    }
}

/// Returns true if a system call is missing or refused as a whole, not for this process.
fn is_unsupported(error: Errno) -> bool {
    matches!(
        error,
        Errno::NOSYS | Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP | Errno::ACCESS
    )
}

/// Blocks until a process is dead. `_writer` is dropped then, which ends its pipe.
fn wait_for_death(pid: Pid, _writer: PipeWriter) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    loop {
        match rustix::process::waitid(WaitId::Pid(pid), options) {
            Ok(Some(_)) => return,
            Ok(None) | Err(Errno::INTR) => {}
            // It is no child, or was reaped.
            Err(_) => break,
        }
    }
    while rustix::process::test_kill_process(pid) != Err(Errno::SRCH) {
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Stdio};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// Starts a process that ends at the end of its input.
    fn cat() -> Child {
        #[expect(clippy::disallowed_methods, reason = "this is a test")]
        let mut command = std::process::Command::new("/bin/cat");
        command.stdin(Stdio::piped()).spawn().unwrap()
    }

    fn handles(child: &Child) -> [Handle; 2] {
        let pid = Pid::from_child(child);
        [Handle::open(pid), Handle::open_without_pidfd(pid)].map(Result::unwrap)
    }

    #[test]
    fn living_process_does_not_exit() {
        let mut child = cat();
        for handle in handles(&child) {
            assert!(!handle.exits_before(Instant::now()), "{handle:?}");
        }
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn death_is_seen_before_the_process_is_reaped() {
        let mut child = cat();
        let handles = handles(&child);
        drop(child.stdin.take());
        for handle in handles {
            assert!(handle.exits_before(Instant::now() + LONG), "{handle:?}");
        }
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn signal_reaches_the_process() {
        for number in 0..2 {
            let mut child = cat();
            let [first, second] = handles(&child);
            let handle = if number == 0 { first } else { second };
            handle.signal(Signal::TERM).unwrap();
            assert!(handle.exits_before(Instant::now() + LONG), "{handle:?}");
            child.wait().unwrap();
        }
    }

    #[test]
    fn ended_process_has_no_handle() {
        let mut child = cat();
        let pid = Pid::from_child(&child);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(Handle::open(pid).is_err());
        assert!(Handle::open_without_pidfd(pid).is_err());
    }
}
