//! Tracks which processes belong to which command, and ends all of them.
//!
//! Each command has a process group of its own, so one signal reaches most of its
//! descendants. Some leave the group (`setsid`, a daemon's double fork). Three mechanisms
//! find these *orphans*:
//!
//! - fbuild is a *subreaper*: a process whose parent died becomes a child of fbuild instead
//!   of init. When the leader of a command is dead, each of its living descendants is
//!   therefore a child of fbuild, or a descendant of one.
//! - Each command has a *marker*, a variable in its environment. Descendants inherit it, and
//!   `/proc/PID/environ` shows it. It identifies the command that an orphan belongs to.
//! - An orphan without marker and outside all groups is killed when the last running command
//!   ends.
//!
//! If a command leaves no process, as usual, all this costs one read of a list in `/proc`.
//!
//! The children of a process are global to the process, and so is the table of running
//! commands.

use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};
use std::{hash, io};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions};

use super::error::Error;
use super::handle::Handle;
use super::procfs::{self, Variable};
use super::signals::{reset_sigchld, stop_this_process};

/// The variable that marks the processes of a command: `RUN.NUMBER`.
pub const MARKER: &str = "FBUILD_ACTION";

/// The time that a killed process may take to die before it counts as stuck.
pub(super) const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// The number of attempts to read the environment of a process that is in `execve`.
const EXEC_RETRIES: u32 = 100;

/// A child that fbuild started: the leader of a command, or a helper.
struct Registered {
    pid: Pid,
    /// The command's number; 0 for a helper.
    number: u64,
}

/// The children that are not orphans. Children are reaped and listed only under this lock.
static REGISTERED: Mutex<Vec<Registered>> = Mutex::new(Vec::new());
/// Held shared between the start of a child and its registration, and exclusively while
/// unregistered children are classified.
static STARTING: RwLock<()> = RwLock::new(());
/// Whether an orphan of unknown origin was spared because other commands were running.
static SPARED_ORPHAN: AtomicBool = AtomicBool::new(false);
static NEXT: AtomicU64 = AtomicU64::new(1);

/// All processes of one command: the leader and its descendants.
///
/// Dropping it before [`ProcessTree::end`] kills all of them.
#[derive(Debug)]
pub(super) struct ProcessTree {
    leader: Child,
    pid: Pid,
    handle: Handle,
    number: u64,
    /// Processes of other users, which fbuild may not signal.
    unkillable: Vec<Pid>,
    ended: bool,
}

/// A process that outlived the leader of its command.
#[derive(Debug)]
pub(super) struct Orphan {
    handle: Handle,
    is_dying: bool,
}

/// Returns the random name of this run, the first part of every marker.
pub fn run_id() -> &'static str {
    static RUN: OnceLock<String> = OnceLock::new();
    RUN.get_or_init(|| {
        use hash::{BuildHasher as _, RandomState};
        let random = RandomState::new().hash_one(std::process::id());
        format!("{random:016x}")
    })
}

/// How long this process was stopped, in milliseconds.
static STOPPED_MS: AtomicU64 = AtomicU64::new(0);

/// Stops all commands and this process, as Ctrl-Z does. When the shell continues this
/// process, the commands continue.
pub fn suspend() {
    // No command starts and none is reaped meanwhile: each group is that of a command.
    let _starting = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    let registered = registered();
    let signal_commands = |signal| {
        for command in registered.iter().filter(|child| child.number != 0) {
            // An error means that the group has no process left.
            let _ = rustix::process::kill_process_group(command.pid, signal);
        }
    };
    // Not STOP: a command may have to stop processes in other groups, as this function does.
    signal_commands(Signal::TSTP);
    let began = Instant::now();
    stop_this_process();
    let stopped = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    STOPPED_MS.fetch_add(stopped, Ordering::Relaxed);
    signal_commands(Signal::CONT);
}

/// Returns how long this process was stopped by [`suspend`]. Time limits do not include it.
pub(super) fn stopped_time() -> Duration {
    Duration::from_millis(STOPPED_MS.load(Ordering::Relaxed))
}

/// Starts a helper process and registers it, so that it is not taken for an orphan.
pub(super) fn spawn_helper(start: impl FnOnce() -> io::Result<Child>) -> io::Result<Child> {
    let _starting = STARTING.read().unwrap_or_else(PoisonError::into_inner);
    let child = start()?;
    let pid = pid_of(&child);
    registered().push(Registered { pid, number: 0 });
    Ok(child)
}

impl ProcessTree {
    /// Starts a command. `start` receives its marker.
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
        let handle = match Handle::open(pid) {
            Ok(handle) => handle,
            Err(error) => {
                // It is not registered yet, so no other code ends it. Both calls fail only
                // if it has ended.
                let _ = rustix::process::kill_process_group(pid, Signal::KILL);
                let _ = leader.wait();
                return Err(Error::system("watch a process")(error));
            }
        };
        registered().push(Registered { pid, number });
        let tree = Self {
            leader,
            pid,
            handle,
            number,
            unkillable: Vec::new(),
            ended: false,
        };
        Ok((tree, rest))
    }

    /// Returns the leader's pid, which is also the id of its process group.
    pub(super) fn leader(&self) -> Pid {
        self.pid
    }

    /// Sends `signal`, then CONT for stopped processes, to the group and once to each process
    /// that left it. Slow: it examines every process of the system.
    pub(super) fn signal(&self, signal: Signal) {
        // An error means that the group has no process left.
        let _ = rustix::process::kill_process_group(self.pid, signal);
        let _ = rustix::process::kill_process_group(self.pid, Signal::CONT);
        // Without a list of processes, those that left the group are killed later instead.
        for pid in procfs::all().into_iter().flatten() {
            if self.owns(pid) && group(pid) != Some(self.pid) {
                // Check again with the handle open: the pid may have been reused meanwhile.
                if let Ok(process) = Handle::open(pid)
                    && self.owns(pid)
                {
                    // An error means that it has ended, or belongs to another user.
                    let _ = process.signal(signal);
                    let _ = process.signal(Signal::CONT);
                }
            }
        }
    }

    /// Kills the process group. Processes outside it are found when the leader is dead.
    pub(super) fn kill_group(&self) {
        // After the leader is reaped, the system may reuse its number.
        if !self.ended {
            // An error means that the group has no process left.
            let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
        }
    }

    /// Returns the signal that stopped the leader, if it is stopped.
    pub(super) fn stopped_by(&self) -> Option<i32> {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = rustix::process::waitid(WaitId::Pid(self.pid), options);
        status.ok().flatten()?.stopping_signal()
    }

    /// Returns the processes of this command that outlive its leader.
    ///
    /// The result may be incomplete, because the kernel makes a process fbuild's child only
    /// when its parent has died. An empty result is always complete.
    ///
    /// Precondition: the leader is dead.
    pub(super) fn orphans(&self) -> io::Result<Vec<Orphan>> {
        // The usual case, without the exclusive lock.
        if unregistered(&registered())?.is_empty() {
            return Ok(Vec::new());
        }
        let _exclusive = STARTING.write().unwrap_or_else(PoisonError::into_inner);
        let registered = registered();
        let mut orphans = Vec::new();
        for pid in unregistered(&registered)? {
            if is_reaped(pid) || self.unkillable.contains(&pid) {
                continue;
            }
            // The environment of a dying process can no longer be read, and its children may
            // not be fbuild's yet. Waiting for a process of another command is harmless.
            let is_dying = procfs::is_dying(pid);
            if is_dying || self.owns_orphan(pid, &registered) {
                let handle = Handle::open(pid)?;
                orphans.push(Orphan { handle, is_dying });
            }
        }
        Ok(orphans)
    }

    /// Kills all processes that outlive the leader, waits for their death, and returns their
    /// number. An error of kind `TimedOut` means that one does not die.
    ///
    /// Precondition: the leader is dead.
    pub(super) fn kill_orphans(&mut self, give_up: Instant) -> io::Result<usize> {
        let mut killed = 0;
        // The death of one process may reveal its children as orphans.
        loop {
            let orphans = self.orphans()?;
            self.kill_group();
            if orphans.is_empty() {
                return Ok(killed);
            }
            for orphan in orphans.iter().filter(|orphan| !orphan.is_dying) {
                match orphan.handle.signal(Signal::KILL) {
                    Err(Errno::PERM) => self.unkillable.push(orphan.handle.pid()),
                    _ => killed += 1,
                }
            }
            for orphan in orphans {
                let is_killed = !self.unkillable.contains(&orphan.handle.pid());
                if is_killed && !orphan.handle.exits_before(give_up) {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
        }
    }

    /// Reaps the leader. Returns its exit status and the number of processes that were killed:
    /// if this is the last running command, these are the orphans of unknown origin.
    ///
    /// Precondition: the leader is dead, and `orphans` returns none.
    pub(super) fn end(mut self) -> io::Result<(ExitStatus, usize)> {
        let status = self.reap()?;
        let is_last = || registered().iter().all(|child| child.number == 0);
        let mut killed = 0;
        if SPARED_ORPHAN.load(Ordering::SeqCst) && is_last() {
            SPARED_ORPHAN.store(false, Ordering::SeqCst);
            killed = self.kill_orphans(Instant::now() + KILL_TIMEOUT)?;
        }
        let status = status.ok_or_else(|| io::Error::from(Errno::CHILD))?;
        Ok((status, killed))
    }

    fn reap(&mut self) -> io::Result<Option<ExitStatus>> {
        let mut registered = registered();
        let status = self.leader.try_wait()?;
        registered.retain(|child| child.pid != self.pid);
        self.ended = true;
        Ok(status)
    }

    fn owns(&self, pid: Pid) -> bool {
        number(pid) == Some(self.number)
    }

    /// Returns true if an orphan belongs to this command, or to none while this is the only
    /// command.
    fn owns_orphan(&self, pid: Pid, registered: &[Registered]) -> bool {
        let is_running = |number| registered.iter().any(|child| child.number == number);
        let group = group(pid);
        let leader = registered.iter().find(|child| Some(child.pid) == group);
        let owner = leader.map(|leader| leader.number).or_else(|| number(pid));
        match owner {
            Some(number) if is_running(number) => number == self.number,
            // Of unknown origin, or of a command that has ended.
            _ => {
                let is_alone = registered
                    .iter()
                    .all(|child| child.number == 0 || child.number == self.number);
                SPARED_ORPHAN.fetch_or(!is_alone, Ordering::SeqCst);
                is_alone
            }
        }
    }
}

impl AsFd for ProcessTree {
    /// Returns a descriptor that becomes readable when the leader exits.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl AsFd for Orphan {
    /// Returns a descriptor that becomes readable when the process exits.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl Drop for ProcessTree {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let give_up = Instant::now() + KILL_TIMEOUT;
        self.kill_group();
        if self.handle.exits_before(give_up) {
            // Ignore the error: the caller is already returning another one.
            let _ = self.kill_orphans(give_up);
            // Ignore the error: an unreaped leader stays a zombie until fbuild exits.
            let _ = self.reap();
        }
    }
}

fn registered() -> MutexGuard<'static, Vec<Registered>> {
    REGISTERED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn become_subreaper() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        reset_sigchld();
        // Any pid turns it on. Without it (before Linux 3.4), orphans outside their group are
        // not found.
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    });
}

/// Returns the children that fbuild did not start.
fn unregistered(registered: &[Registered]) -> io::Result<Vec<Pid>> {
    let mut children = procfs::children()?;
    children.retain(|pid| registered.iter().all(|child| child.pid != *pid));
    Ok(children)
}

/// Reaps a child if it is a zombie, and returns true if it no longer exists.
fn is_reaped(pid: Pid) -> bool {
    !matches!(
        rustix::process::waitpid(Some(pid), WaitOptions::NOHANG),
        Ok(None)
    )
}

fn group(pid: Pid) -> Option<Pid> {
    rustix::process::getpgid(Some(pid)).ok()
}

/// Returns the command number in a process's marker, if the marker is of this run.
fn number(pid: Pid) -> Option<u64> {
    let marker = marker(pid)?;
    let number = marker.strip_prefix(run_id())?.strip_prefix('.')?;
    number.parse().ok()
}

/// Returns the marker of a living process. Waits briefly if the process is in `execve`.
pub(super) fn marker(pid: Pid) -> Option<String> {
    for _ in 0..EXEC_RETRIES {
        match procfs::variable(pid, MARKER) {
            Variable::Set(marker) => return Some(marker),
            Variable::Unset | Variable::Dying => return None,
            Variable::Starting => std::thread::sleep(Duration::from_micros(200)),
        }
    }
    None
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}
