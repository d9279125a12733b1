//! One command, from its start to the end of its last descendant: passes on what it
//! prints, stops it when its time is up or the run is, and leaves nothing behind. It does
//! not know what the command is for.
//!
//! The end of a command is the end of its *leader*, not the end of its output: a process in
//! the background may hold the pipe for hours. What outlives the leader is given a moment
//! to print its last lines, and is then killed before this returns, so that nobody writes
//! to an output while it is being captured.
//!
//! One call waits for everything at once (output, end, time, cancellation) in `poll`; it
//! belongs on a thread that may wait, never on a worker of the pool.

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
use super::tree::{Orphan, ProcessTree, STUCK};
use super::watchdog::Watchdog;
use crate::cancel::{Cancel, Urgency};

/// How long commands have between being asked to end (TERM) and being killed (KILL): nothing
/// is left two seconds after the wish to stop.
pub const GRACE: Duration = Duration::from_millis(1500);
/// How long processes that outlive their command have before they are killed.
const LINGER: Duration = Duration::from_millis(100);
/// How often it is looked whether a command is stopped, which nothing announces.
const LOOK: Duration = Duration::from_millis(500);
/// How often the flag is looked at if it has no bell.
const LOOK_FOR_CANCEL: Duration = Duration::from_millis(50);
const BUFFER: usize = 64 << 10;
const ENDING: &str = "end the processes of a command";

/// How a command ended, and how much of it had to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How its leader ended.
    pub end: End,
    /// How many of its processes outlived it and were killed.
    pub left_behind: usize,
}

/// Runs `program` to its end. `output` is given what it prints, on this thread.
///
/// Postcondition: none of its processes is left, except such as run as another user or as
/// could hide (no marker, a session of their own) while other commands were running; the
/// latter are ended with the last of these.
pub fn run(
    program: &Program<'_>,
    output: &mut dyn FnMut(&[u8]),
    cancel: &Cancel,
) -> Result<Ended, Error> {
    if cancel.is_raised() {
        let (end, left_behind) = (End::Cancelled, 0);
        return Ok(Ended { end, left_behind });
    }
    let kept = program.watchdog.and_then(Watchdog::expect);
    let (tree, pipe) = ProcessTree::spawn(|marker| process::start(program, marker))?;
    if let Some(kept) = &kept {
        kept.watch(tree.leader());
    }
    let mut life = Supervised::new(program, tree, pipe, cancel);
    life.until_exit(output)?;
    let left_behind = match life.until_alone(output)? {
        true => 0,
        false => life.clear()?,
    };
    life.drain(output)?;
    drop(kept);
    let mut ended = life.end()?;
    ended.left_behind += left_behind;
    Ok(ended)
}

struct Supervised<'a> {
    program: &'a Program<'a>,
    tree: ProcessTree,
    pipe: Option<PipeReader>,
    buffer: Vec<u8>,
    terminal: Option<TerminalGuard>,
    cancel: &'a Cancel,
    heard: Urgency,
    phase: Phase,
}

/// What is being done about a command.
#[derive(Clone, Copy)]
enum Phase {
    /// Nothing; it runs.
    Running,
    /// It was asked to end, and is killed at that time.
    Asked(End, Instant),
    /// It was killed, and counts as stuck at that time.
    Killed(End, Instant),
}

impl<'a> Supervised<'a> {
    fn new(
        program: &'a Program<'a>,
        tree: ProcessTree,
        pipe: Option<PipeReader>,
        cancel: &'a Cancel,
    ) -> Self {
        let terminal =
            (program.streams == Streams::Terminal).then(|| TerminalGuard::to(tree.leader()));
        Self {
            program,
            tree,
            buffer: vec![0; if pipe.is_some() { BUFFER } else { 0 }],
            pipe,
            terminal: terminal.flatten(),
            cancel,
            heard: Urgency::None,
            phase: Phase::Running,
        }
    }

    /// Waits for the end of the leader.
    fn until_exit(&mut self, output: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        loop {
            let look = Instant::now() + LOOK;
            let until = self.limit().map_or(look, |limit| limit.min(look));
            if self.wait(&[], until, output)? {
                return Ok(());
            }
            self.look_at_cancel();
            self.look_at_time()?;
            if Instant::now() >= look {
                self.look_at_stop()?;
            }
        }
    }

    /// Waits until nothing outlives the leader, and tells whether that came about before its
    /// time was up: a moment, or the rest of the grace period.
    fn until_alone(&mut self, output: &mut dyn FnMut(&[u8])) -> Result<bool, Error> {
        let limit = match self.phase {
            Phase::Running => Instant::now() + LINGER,
            Phase::Asked(_, limit) => limit,
            Phase::Killed(..) => return Ok(false),
        };
        loop {
            let orphans = self.tree.orphans().map_err(|error| self.left(error))?;
            if orphans.is_empty() {
                return Ok(true);
            }
            if matches!(self.phase, Phase::Killed(..)) || Instant::now() >= limit {
                return Ok(false);
            }
            self.wait(&orphans, limit, output)?;
            self.look_at_cancel();
        }
    }

    /// Kills what is left, and returns how much that was.
    fn clear(&mut self) -> Result<usize, Error> {
        let give_up = Instant::now() + STUCK;
        let cleared = self.tree.clear(give_up);
        cleared.map_err(|error| self.left(error))
    }

    /// Reads what is left in the pipe, to its end. If a process that could not be ended
    /// holds it, as much as was in it is all.
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

    fn end(self) -> Result<Ended, Error> {
        drop(self.terminal);
        let (status, left_behind) = self.tree.end().map_err(Error::system(ENDING))?;
        let end = match self.phase {
            Phase::Running => End::Exited(status),
            Phase::Asked(end, _) | Phase::Killed(end, _) => end,
        };
        Ok(Ended { end, left_behind })
    }

    /// Waits until somebody prints, one of `orphans` (or the leader, if there are none)
    /// dies, the flag is raised or the time has come; passes on what was printed. Tells
    /// whether somebody died.
    fn wait(
        &mut self,
        orphans: &[Orphan],
        until: Instant,
        output: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, Error> {
        let bell = self.cancel.bell(self.heard);
        let mut left = until.saturating_duration_since(Instant::now());
        if bell.is_none() && self.heard != Urgency::Kill {
            left = left.min(LOOK_FOR_CANCEL);
        }
        let mut on: Vec<BorrowedFd<'_>> = orphans.iter().map(|orphan| orphan.as_fd()).collect();
        if on.is_empty() {
            on.push(self.tree.as_fd());
        }
        let lives = on.len();
        on.extend(bell);
        on.extend(self.pipe.as_ref().map(|pipe| pipe.as_fd()));
        let ready = poll(&on, left)?;
        if self.pipe.is_some() && ready[on.len() - 1] {
            self.read(output)?;
        }
        Ok(ready[..lives].contains(&true))
    }

    fn read_if_ready(&mut self, output: &mut dyn FnMut(&[u8])) -> Result<usize, Error> {
        match &self.pipe {
            Some(pipe) if poll(&[pipe.as_fd()], Duration::ZERO)?[0] => self.read(output),
            _ => Ok(0),
        }
    }

    /// Reads once from the pipe, which is ready, and closes it at its end.
    fn read(&mut self, output: &mut dyn FnMut(&[u8])) -> Result<usize, Error> {
        let Some(pipe) = &mut self.pipe else {
            return Ok(0);
        };
        match read(pipe, &mut self.buffer).map_err(Error::system("read what a command prints"))? {
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

    /// Returns when something is to be done about the command.
    fn limit(&self) -> Option<Instant> {
        match self.phase {
            Phase::Running => self.program.deadline,
            Phase::Asked(_, limit) | Phase::Killed(_, limit) => Some(limit),
        }
    }

    fn look_at_cancel(&mut self) {
        self.heard = self.cancel.urgency();
        match (self.heard, self.phase) {
            (Urgency::Stop, Phase::Running) => self.ask(End::Cancelled),
            (Urgency::Kill, Phase::Running) => self.kill(End::Cancelled),
            (Urgency::Kill, Phase::Asked(end, _)) => self.kill(end),
            _ => {}
        }
    }

    fn look_at_time(&mut self) -> Result<(), Error> {
        if self.limit().is_none_or(|limit| Instant::now() < limit) {
            return Ok(());
        }
        match self.phase {
            Phase::Running => self.ask(End::TimedOut),
            Phase::Asked(end, _) => self.kill(end),
            Phase::Killed(..) => return Err(self.stuck()),
        }
        Ok(())
    }

    /// Looks whether the command is stopped. One that has the terminal was stopped by the
    /// person at it; one that has not, and wants to use it, would wait for ever.
    fn look_at_stop(&mut self) -> Result<(), Error> {
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

    fn ask(&mut self, end: End) {
        self.phase = Phase::Asked(end, Instant::now() + self.program.grace);
        self.tree.signal(Signal::TERM);
    }

    fn kill(&mut self, end: End) {
        self.phase = Phase::Killed(end, Instant::now() + STUCK);
        self.tree.kill_group();
    }

    /// Returns why processes may be left.
    fn left(&self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::TimedOut => self.stuck(),
            _ => Error::system(ENDING)(error),
        }
    }

    fn stuck(&self) -> Error {
        let program = self.name();
        Error::Stuck { program }
    }

    fn name(&self) -> String {
        self.program.argv.first().map_or(String::new(), shown)
    }
}

/// Reads once; `None` if a signal came first.
fn read(from: &mut impl io::Read, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match from.read(buffer) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        read => read.map(Some),
    }
}

/// Waits until a descriptor is readable or at its end, and tells which are.
fn poll(on: &[BorrowedFd<'_>], timeout: Duration) -> Result<Vec<bool>, Error> {
    let mut fds: Vec<PollFd<'_>> = on
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
    fn a_signal_while_output_is_read_is_neither_its_end_nor_an_error() {
        struct Refusing(io::ErrorKind);
        impl io::Read for Refusing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
        }
        let read = |mut from: &mut dyn io::Read| super::read(&mut from, &mut [0; 4]);
        assert_eq!(read(&mut &b"ab"[..]).unwrap(), Some(2));
        assert_eq!(read(&mut &b""[..]).unwrap(), Some(0));
        let interrupted = io::ErrorKind::Interrupted;
        assert_eq!(read(&mut Refusing(interrupted)).unwrap(), None);
        assert!(read(&mut Refusing(io::ErrorKind::Other)).is_err());
    }
}
