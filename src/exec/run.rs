//! Supervises one command until its last descendant has ended: passes on its output,
//! terminates it after a timeout or a cancellation, and kills the processes that it leaves
//! behind.
//!
//! A command ends when its *leader* exits, not when its output ends: a background process
//! may keep the pipe open for hours. Processes that outlive the leader get a moment to print
//! their last lines and are then killed, before the outputs are captured.
//!
//! [`run`] waits in `poll` for output, exit, timeout and cancellation at once. Call it on a
//! thread that may block, never on a worker of the pool.

use std::io::{self, PipeReader};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::Signal;

use super::End;
use super::error::{Error, shown};
use super::process::{self, Program, Streams};
use super::terminal::TerminalGuard;
use super::tree::{KILL_TIMEOUT, Orphan, ProcessTree, stopped_time};
use super::watchdog::Watchdog;
use crate::cancel::{Cancel, Urgency};

/// The time between TERM and KILL: two seconds after a cancellation, no process is left.
pub const GRACE: Duration = Duration::from_millis(1500);
/// The time that processes have to end after their leader exited.
const LINGER: Duration = Duration::from_millis(100);
/// The interval of checks for a stopped leader, for which no descriptor becomes readable.
const STOP_POLL: Duration = Duration::from_millis(500);
/// The interval of checks for a cancellation if the flag has no descriptor.
const CANCEL_POLL: Duration = Duration::from_millis(50);
const BUFFER: usize = 64 << 10;
const ENDING: &str = "end the processes of a command";

/// The result of running one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// How its leader ended.
    pub end: End,
    /// The number of its processes that outlived it and were killed.
    pub left_behind: usize,
}

/// Runs `program` to its end. `output` receives its output, on this thread.
///
/// Postcondition: none of its processes is left. Exceptions are processes of another user,
/// and processes in a session of their own without the marker while other commands are
/// running; the latter are killed when the last of these commands ends.
pub fn run(
    program: &Program<'_>,
    output: &mut dyn FnMut(&[u8]),
    cancel: &Cancel,
) -> Result<Completion, Error> {
    if cancel.is_raised() {
        return Ok(Completion {
            end: End::Cancelled,
            left_behind: 0,
        });
    }
    // Before the start: the watchdog must never miss a running command.
    let registration = program.watchdog.and_then(Watchdog::register);
    let (tree, pipe) = ProcessTree::spawn(|marker| process::start(program, marker))?;
    if let Some(registration) = &registration {
        registration.set_group(tree.leader());
    }
    let mut command = Supervised::new(program, tree, pipe, cancel);
    command.wait_for_exit(output)?;
    let left_behind = if command.wait_for_orphans(output)? {
        0
    } else {
        command.kill_orphans()?
    };
    // After the orphans have ended: their last lines may still be in the pipe.
    command.drain(output)?;
    drop(registration);
    let mut completion = command.finish()?;
    completion.left_behind += left_behind;
    Ok(completion)
}

/// A running command with its processes, its pipe and its limits.
struct Supervised<'a> {
    program: &'a Program<'a>,
    tree: ProcessTree,
    pipe: Option<PipeReader>,
    buffer: Vec<u8>,
    terminal: Option<TerminalGuard>,
    cancel: &'a Cancel,
    /// The urgency that was acted upon.
    urgency: Urgency,
    phase: Phase,
    /// How long fbuild had been stopped when the command started.
    stopped_before: Duration,
}

/// The phase of a command's life.
#[derive(Clone, Copy)]
enum Phase {
    Running,
    /// TERM was sent; KILL follows at `kill_at`.
    Terminating {
        end: End,
        kill_at: Instant,
    },
    /// KILL was sent; a leader that is alive at `give_up_at` is an error.
    Killed {
        end: End,
        give_up_at: Instant,
    },
}

impl<'a> Supervised<'a> {
    fn new(
        program: &'a Program<'a>,
        tree: ProcessTree,
        pipe: Option<PipeReader>,
        cancel: &'a Cancel,
    ) -> Self {
        let terminal =
            (program.streams == Streams::Terminal).then(|| TerminalGuard::new(tree.leader()));
        Self {
            program,
            tree,
            buffer: vec![0; if pipe.is_some() { BUFFER } else { 0 }],
            pipe,
            terminal: terminal.flatten(),
            cancel,
            urgency: Urgency::None,
            phase: Phase::Running,
            stopped_before: stopped_time(),
        }
    }

    /// Waits until the leader exits.
    fn wait_for_exit(&mut self, output: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        loop {
            let next_poll = Instant::now() + STOP_POLL;
            let until = self.limit().map_or(next_poll, |limit| limit.min(next_poll));
            if self.wait(&[], until, output)? {
                return Ok(());
            }
            self.check_cancel();
            self.check_limit()?;
            if Instant::now() >= next_poll {
                self.check_stopped()?;
            }
        }
    }

    /// Waits until no process outlives the leader, for a moment or the rest of the grace
    /// period. Returns true if none is left.
    fn wait_for_orphans(&mut self, output: &mut dyn FnMut(&[u8])) -> Result<bool, Error> {
        let limit = match self.phase {
            Phase::Running => Instant::now() + LINGER,
            Phase::Terminating { kill_at, .. } => kill_at,
            Phase::Killed { .. } => return Ok(false),
        };
        loop {
            let orphans = self
                .tree
                .orphans()
                .map_err(|error| self.ending_error(error))?;
            if orphans.is_empty() {
                return Ok(true);
            }
            if matches!(self.phase, Phase::Killed { .. }) || Instant::now() >= limit {
                return Ok(false);
            }
            self.wait(&orphans, limit, output)?;
            self.check_cancel();
        }
    }

    /// Kills the remaining processes, and returns their number.
    fn kill_orphans(&mut self) -> Result<usize, Error> {
        let killed = self.tree.kill_orphans(Instant::now() + KILL_TIMEOUT);
        killed.map_err(|error| self.ending_error(error))
    }

    /// Reads the rest of the pipe. If a process that could not be killed keeps the pipe open,
    /// this stops after as many bytes as the pipe can hold.
    fn drain(&mut self, output: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        let Some(pipe) = &self.pipe else {
            return Ok(());
        };
        let size = rustix::pipe::fcntl_getpipe_size(pipe);
        let mut most = size.map_err(Error::system("measure a pipe"))?;
        while most > 0 {
            match self.read_if_ready(output)? {
                0 => break,
                read => most = most.saturating_sub(read),
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Completion, Error> {
        // Before the leader is reaped: until then its group exists.
        drop(self.terminal);
        let (status, left_behind) = self.tree.end().map_err(Error::system(ENDING))?;
        let end = match self.phase {
            Phase::Running => End::Exited(status),
            Phase::Terminating { end, .. } | Phase::Killed { end, .. } => end,
        };
        Ok(Completion { end, left_behind })
    }

    /// Waits until there is output, one of `orphans` dies (or the leader, if there are none),
    /// the flag is raised, or `until`. Passes on the output. Returns true if one died.
    fn wait(
        &mut self,
        orphans: &[Orphan],
        until: Instant,
        output: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, Error> {
        let notifier = self.cancel.notifier(self.urgency);
        let mut timeout = until.saturating_duration_since(Instant::now());
        if notifier.is_none() && self.urgency != Urgency::Kill {
            timeout = timeout.min(CANCEL_POLL);
        }
        let mut fds: Vec<BorrowedFd<'_>> = orphans.iter().map(|orphan| orphan.as_fd()).collect();
        if fds.is_empty() {
            fds.push(self.tree.as_fd());
        }
        let processes = fds.len();
        fds.extend(notifier);
        fds.extend(self.pipe.as_ref().map(|pipe| pipe.as_fd()));
        let ready = poll(&fds, timeout)?;
        if self.pipe.is_some() && ready[fds.len() - 1] {
            self.read(output)?;
        }
        Ok(ready[..processes].contains(&true))
    }

    fn read_if_ready(&mut self, output: &mut dyn FnMut(&[u8])) -> Result<usize, Error> {
        match &self.pipe {
            Some(pipe) if poll(&[pipe.as_fd()], Duration::ZERO)?[0] => self.read(output),
            _ => Ok(0),
        }
    }

    /// Reads once from the pipe, and closes it at its end.
    ///
    /// Precondition: the pipe is readable, or the read may block.
    fn read(&mut self, output: &mut dyn FnMut(&[u8])) -> Result<usize, Error> {
        let Some(pipe) = &mut self.pipe else {
            return Ok(0);
        };
        match read(pipe, &mut self.buffer).map_err(Error::system("read the output of a command"))? {
            None => Ok(0),
            Some(0) => {
                self.pipe = None;
                Ok(0)
            }
            Some(read) => {
                output(&self.buffer[..read]);
                Ok(read)
            }
        }
    }

    /// Returns the time at which the next phase begins.
    fn limit(&self) -> Option<Instant> {
        match self.phase {
            Phase::Running => {
                let stopped = stopped_time() - self.stopped_before;
                self.program.deadline.map(|deadline| deadline + stopped)
            }
            Phase::Terminating { kill_at, .. } => Some(kill_at),
            Phase::Killed { give_up_at, .. } => Some(give_up_at),
        }
    }

    fn check_cancel(&mut self) {
        self.urgency = self.cancel.urgency();
        match (self.urgency, self.phase) {
            (Urgency::Stop, Phase::Running) => self.terminate(End::Cancelled),
            (Urgency::Kill, Phase::Running) => self.kill(End::Cancelled),
            (Urgency::Kill, Phase::Terminating { end, .. }) => self.kill(end),
            _ => {}
        }
    }

    fn check_limit(&mut self) -> Result<(), Error> {
        if self.limit().is_none_or(|limit| Instant::now() < limit) {
            return Ok(());
        }
        match self.phase {
            Phase::Running => self.terminate(End::TimedOut),
            Phase::Terminating { end, .. } => self.kill(end),
            Phase::Killed { .. } => return Err(self.stuck()),
        }
        Ok(())
    }

    /// Checks whether the leader is stopped. With the terminal, the user pressed Ctrl-Z.
    /// Without it, a command that tries to use the terminal would stay stopped forever.
    fn check_stopped(&mut self) -> Result<(), Error> {
        let Some(signal) = self.tree.stopped_by() else {
            return Ok(());
        };
        match &mut self.terminal {
            Some(terminal) => terminal.suspend(),
            None if matches!(signal, libc::SIGTTIN | libc::SIGTTOU) => {
                let program = self.name();
                return Err(Error::WantsTerminal { program });
            }
            None => {}
        }
        Ok(())
    }

    fn terminate(&mut self, end: End) {
        let kill_at = Instant::now() + self.program.grace;
        self.phase = Phase::Terminating { end, kill_at };
        self.tree.signal(Signal::TERM);
    }

    fn kill(&mut self, end: End) {
        let give_up_at = Instant::now() + KILL_TIMEOUT;
        self.phase = Phase::Killed { end, give_up_at };
        self.tree.kill_group();
    }

    /// Converts an error of ending the processes.
    fn ending_error(&self, error: io::Error) -> Error {
        if error.kind() == io::ErrorKind::TimedOut {
            self.stuck()
        } else {
            Error::system(ENDING)(error)
        }
    }

    fn stuck(&self) -> Error {
        Error::Stuck {
            program: self.name(),
        }
    }

    fn name(&self) -> String {
        self.program.argv.first().map_or(String::new(), shown)
    }
}

/// Reads once. Returns `None` if a signal interrupted the call.
fn read(from: &mut impl io::Read, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match from.read(buffer) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        read => read.map(Some),
    }
}

/// Waits until a descriptor is readable or at its end. Returns, for each, whether it is.
fn poll(fds: &[BorrowedFd<'_>], timeout: Duration) -> Result<Vec<bool>, Error> {
    let mut fds: Vec<PollFd<'_>> = fds
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    let timeout = Timespec::try_from(timeout).ok();
    match rustix::event::poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(Error::system("wait for a process")(error)),
    }
    Ok(fds.iter().map(|fd| !fd.revents().is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupted_read_is_neither_end_nor_error() {
        struct FailingReader(io::ErrorKind);
        impl io::Read for FailingReader {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
        }
        let read = |mut from: &mut dyn io::Read| super::read(&mut from, &mut [0; 4]);
        assert_eq!(read(&mut &b"ab"[..]).unwrap(), Some(2));
        assert_eq!(read(&mut &b""[..]).unwrap(), Some(0));
        let interrupted = io::ErrorKind::Interrupted;
        assert_eq!(read(&mut FailingReader(interrupted)).unwrap(), None);
        assert!(read(&mut FailingReader(io::ErrorKind::Other)).is_err());
    }
}
