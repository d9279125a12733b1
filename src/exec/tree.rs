//! Which processes belong to which command, and how to end all of them. It starts none and
//! does not know what the commands are for.
//!
//! A command is a process group of its own, so that most of its descendants are reached
//! with one signal. Some leave the group (`setsid`, a daemon's double fork). Three things
//! find them again:
//!
//! - fbuild is a *sub-reaper*: a process whose parent died becomes fbuild's child, not
//!   init's. When the leader of a command is dead, each of its living descendants is
//!   therefore a child of fbuild or below one.
//! - every command has a *marker*, a variable of its own in the environment, which its
//!   descendants inherit and `/proc/PID/environ` shows. It tells whose such a child is.
//! - a child with neither marker nor group belongs to nobody in particular; it is ended
//!   when the last command that runs ends.
//!
//! In the ordinary case, nothing left, all this costs one read of a list in `/proc`.
//!
//! Which children a process has is a fact about the whole process, and so the list of
//! running commands is global, too.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};
use std::{hash, io};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use super::error::Error;
use super::procfs::{self, Variable};
use super::signals::heed_children;

/// The variable that marks the processes of a command: `RUN.NUMBER`.
pub const MARKER: &str = "FBUILD_ACTION";

/// How long a killed process may take to die before it counts as stuck.
pub(super) const STUCK: Duration = Duration::from_secs(10);

/// How often a process that is becoming another program is looked at again.
const SETTLE: u32 = 100;

/// A running command, or another child that must not be taken for an orphan.
struct Known {
    pid: Pid,
    /// The command's number; 0 for a helper.
    number: u64,
}

/// Children that are not orphans. Children are reaped, and listed, under this lock only.
static KNOWN: Mutex<Vec<Known>> = Mutex::new(Vec::new());
/// Shared while a child is started and not yet known, alone while unknown ones are judged.
static STARTING: RwLock<()> = RwLock::new(());
/// Whether a child that may be anybody's was left alone because others were running.
static LEFT_ALONE: AtomicBool = AtomicBool::new(false);
static NEXT: AtomicU64 = AtomicU64::new(1);

/// All processes of one command: a leader, and what descends from it.
///
/// Dropped before [`ProcessTree::end`], it kills all of them.
#[derive(Debug)]
pub(super) struct ProcessTree {
    leader: Child,
    pid: Pid,
    pidfd: OwnedFd,
    number: u64,
    /// Processes that may not be signalled: they run as somebody else.
    unkillable: Vec<Pid>,
    ended: bool,
}

/// A process that outlived the leader of its command.
#[derive(Debug)]
pub(super) struct Orphan {
    pid: Pid,
    pidfd: OwnedFd,
    /// It dies by itself, or was killed before.
    is_dying: bool,
}

/// Returns the name of this run, which begins every marker.
pub(super) fn run_id() -> &'static str {
    static RUN: OnceLock<String> = OnceLock::new();
    RUN.get_or_init(|| {
        use hash::{BuildHasher as _, RandomState};
        let random = RandomState::new().hash_one(std::process::id());
        format!("{random:016x}")
    })
}

/// Starts a child that is no command, such as a helper of fbuild's own.
pub(super) fn adopt(start: impl FnOnce() -> io::Result<Child>) -> io::Result<Child> {
    let _starting = STARTING.read().unwrap_or_else(PoisonError::into_inner);
    let child = start()?;
    let pid = pid_of(&child);
    known().push(Known { pid, number: 0 });
    Ok(child)
}

impl ProcessTree {
    /// Starts a command; `start` is given its marker.
    pub(super) fn spawn<T>(
        start: impl FnOnce(&str) -> Result<(Child, T), Error>,
    ) -> Result<(Self, T), Error> {
        become_subreaper();
        procfs::open_children().map_err(Error::system("list child processes"))?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let marker = format!("{}.{number}", run_id());
        let _starting = STARTING.read().unwrap_or_else(PoisonError::into_inner);
        let (mut leader, rest) = start(&marker)?;
        let pid = pid_of(&leader);
        let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(error) => {
                // It is not known to anybody yet; both can only fail if it is gone.
                let _ = rustix::process::kill_process_group(pid, Signal::KILL);
                let _ = leader.wait();
                return Err(Error::system("watch a process")(error));
            }
        };
        known().push(Known { pid, number });
        let tree = Self {
            leader,
            pid,
            pidfd,
            number,
            unkillable: Vec::new(),
            ended: false,
        };
        Ok((tree, rest))
    }

    /// Returns the process that the command began as; its number is the group's too.
    pub(super) fn leader(&self) -> Pid {
        self.pid
    }

    /// Sends `signal`, and CONT to wake the stopped, to the group and to every process that
    /// left it; each gets it once. Slow (it looks at every process there is).
    pub(super) fn signal(&self, signal: Signal) {
        // Failing means that nobody is left to signal.
        let _ = rustix::process::kill_process_group(self.pid, signal);
        let _ = rustix::process::kill_process_group(self.pid, Signal::CONT);
        // Without a list, whoever left the group is not asked but killed in the end.
        for pid in procfs::all().into_iter().flatten() {
            if self.owns(pid) && group(pid) != Some(self.pid) {
                // The process is looked at again when it is held, so that no other that
                // was given its number is hit.
                let held = rustix::process::pidfd_open(pid, PidfdFlags::empty());
                if let Ok(pidfd) = held
                    && self.owns(pid)
                {
                    let _ = rustix::process::pidfd_send_signal(&pidfd, signal);
                    let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::CONT);
                }
            }
        }
    }

    /// Kills the group at once. What left it is found when the leader is dead.
    pub(super) fn kill_group(&self) {
        // Once the leader is reaped, its number may be another's.
        if !self.ended {
            // Failing means that nobody is left to kill.
            let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
        }
    }

    /// Tells whether the leader is stopped, and by which signal.
    pub(super) fn stopped_by(&self) -> Option<i32> {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = rustix::process::waitid(WaitId::Pid(self.pid), options);
        status.ok().flatten()?.stopping_signal()
    }

    /// Returns the processes of this command that outlive its leader.
    ///
    /// Precondition: the leader is dead. Some may be missing while others live, as they are
    /// handed to fbuild only when their parents are dead; none is missing if none is returned.
    pub(super) fn orphans(&self) -> io::Result<Vec<Orphan>> {
        if adopted(&known())?.is_empty() {
            return Ok(Vec::new());
        }
        let _alone = STARTING.write().unwrap_or_else(PoisonError::into_inner);
        let known = known();
        let mut orphans = Vec::new();
        for pid in adopted(&known)? {
            if is_reaped(pid) || self.unkillable.contains(&pid) {
                continue;
            }
            // One that is dying may not have handed over its children yet; whose it is can
            // no longer be seen, and waiting for it harms nobody.
            let is_dying = procfs::is_dying(pid);
            if is_dying || self.leads_or_owns(pid, &known) {
                let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
                orphans.push(Orphan {
                    pid,
                    pidfd,
                    is_dying,
                });
            }
        }
        Ok(orphans)
    }

    /// Kills everything that outlives the leader, and waits for its death, until nothing is
    /// left. Returns how many processes that were; an error of kind `TimedOut` means that
    /// one does not die.
    ///
    /// Precondition: the leader is dead.
    pub(super) fn clear(&mut self, give_up: Instant) -> io::Result<usize> {
        let mut killed = 0;
        loop {
            let orphans = self.orphans()?;
            self.kill_group();
            if orphans.is_empty() {
                return Ok(killed);
            }
            for orphan in orphans.iter().filter(|orphan| !orphan.is_dying) {
                match rustix::process::pidfd_send_signal(&orphan.pidfd, Signal::KILL) {
                    Err(Errno::PERM) => self.unkillable.push(orphan.pid),
                    _ => killed += 1,
                }
            }
            let mut mortal = orphans.iter().filter(|s| !self.unkillable.contains(&s.pid));
            if !mortal.all(|orphan| is_dead_by(&orphan.pidfd, give_up)) {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// Reaps the leader. Returns how it ended, and how many more processes were killed: when
    /// the last command ends, those are found that might have been another's before.
    ///
    /// Precondition: the leader is dead and nothing that is known to be its own outlives it.
    pub(super) fn end(mut self) -> io::Result<(ExitStatus, usize)> {
        let status = self.reap()?;
        let is_last = || known().iter().all(|known| known.number == 0);
        let mut killed = 0;
        if LEFT_ALONE.load(Ordering::SeqCst) && is_last() {
            LEFT_ALONE.store(false, Ordering::SeqCst);
            killed = self.clear(Instant::now() + STUCK)?;
        }
        let status = status.ok_or_else(|| io::Error::from(Errno::CHILD))?;
        Ok((status, killed))
    }

    fn reap(&mut self) -> io::Result<Option<ExitStatus>> {
        let mut known = known();
        let status = self.leader.try_wait()?;
        known.retain(|known| known.pid != self.pid);
        self.ended = true;
        Ok(status)
    }

    fn owns(&self, pid: Pid) -> bool {
        number(pid) == Some(self.number)
    }

    fn leads_or_owns(&self, pid: Pid, known: &[Known]) -> bool {
        let is_running = |number| known.iter().any(|k| k.number == number);
        let group = group(pid);
        let leads = known.iter().find(|known| Some(known.pid) == group);
        let owner = leads.map(|leader| leader.number).or_else(|| number(pid));
        match owner {
            Some(number) if is_running(number) => number == self.number,
            // Nobody's, or of a command that has ended.
            _ => {
                let is_alone = known
                    .iter()
                    .all(|k| k.number == 0 || k.number == self.number);
                LEFT_ALONE.fetch_or(!is_alone, Ordering::SeqCst);
                is_alone
            }
        }
    }
}

impl AsFd for ProcessTree {
    /// Returns a descriptor that is readable when the leader is dead.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl AsFd for Orphan {
    /// Returns a descriptor that is readable when the process is dead.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for ProcessTree {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let give_up = Instant::now() + STUCK;
        self.kill_group();
        if is_dead_by(&self.pidfd, give_up) {
            // Nobody is left to tell if it fails.
            let _ = self.clear(give_up);
            // A leader that cannot be reaped stays a zombie until fbuild ends.
            let _ = self.reap();
        }
    }
}

fn known() -> MutexGuard<'static, Vec<Known>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn become_subreaper() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        heed_children();
        // Any process number means yes. Linux has had it since 3.4; without it, processes
        // that leave their group are not found.
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    });
}

/// Returns the children that are not known.
fn adopted(known: &[Known]) -> io::Result<Vec<Pid>> {
    let mut children = procfs::children()?;
    children.retain(|pid| known.iter().all(|known| known.pid != *pid));
    Ok(children)
}

fn is_reaped(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    !matches!(rustix::process::waitid(WaitId::Pid(pid), options), Ok(None))
}

fn group(pid: Pid) -> Option<Pid> {
    rustix::process::getpgid(Some(pid)).ok()
}

/// Returns the number in a process's marker, if it is of this run.
fn number(pid: Pid) -> Option<u64> {
    let marker = marker(pid)?;
    let number = marker.strip_prefix(run_id())?.strip_prefix('.')?;
    number.parse().ok()
}

/// Returns the marker of a process that lives, waiting a moment for one that is just
/// becoming another program.
pub(super) fn marker(pid: Pid) -> Option<String> {
    for _ in 0..SETTLE {
        match procfs::variable(pid, MARKER) {
            Variable::Set(marker) => return Some(marker),
            Variable::Unset | Variable::Dying => return None,
            Variable::Starting => std::thread::sleep(Duration::from_micros(200)),
        }
    }
    None
}

/// Waits for the death of a process, and tells whether it came in time.
pub(super) fn is_dead_by(pidfd: &OwnedFd, give_up: Instant) -> bool {
    loop {
        let left = give_up.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(0) => return false,
            Err(Errno::INTR) => {}
            _ => return true,
        }
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}
