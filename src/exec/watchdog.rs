//! Kills the commands if fbuild itself is killed.
//!
//! The watchdog is a second, small process: fbuild starts itself with [`WATCHDOG_ARGUMENT`]
//! before the first command of a run. Its standard input is a pipe that fbuild keeps open
//! and never writes to; the end of the pipe means that fbuild has ended, for whatever
//! reason. Its standard output is a table in memory (a `memfd`), in which fbuild registers
//! the process group of each running command: this costs one small write and wakes no
//! process. A command is registered before it starts, so there is no moment at which the
//! watchdog could miss it. When fbuild has ended, the watchdog kills these groups, and every
//! process with the run's marker, until none is left.
//!
//! It cannot find a process that left its group *and* has no marker. Programs that use this
//! library without calling [`watchdog_main`], such as its tests, have no watchdog.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, PipeWriter, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use rustix::process::{Pid, Signal};

use super::handle::Handle;
use super::tree::{self, KILL_TIMEOUT};
use super::{process, procfs};

/// The hidden first argument that makes fbuild a watchdog; the run's name follows.
pub const WATCHDOG_ARGUMENT: &str = "__watchdog";

/// The table entry of a command that is about to start.
const STARTING: i32 = -1;
/// The time that such a command may take to start after fbuild has ended.
const START_TIMEOUT: Duration = Duration::from_secs(1);
/// The interval of searches for such a command.
const POLL: Duration = Duration::from_millis(10);
/// The size of a table entry.
const SLOT: usize = size_of::<i32>();

/// Kills the commands of a run if fbuild is killed.
#[derive(Debug)]
pub struct Watchdog {
    program: PathBuf,
    started: OnceLock<io::Result<Started>>,
}

#[derive(Debug)]
pub(super) struct Started {
    /// The pipe whose end tells the watchdog that fbuild has ended.
    _alive: PipeWriter,
    /// Never reaped: it outlives fbuild.
    _child: Child,
    table: OwnedFd,
    /// For each slot of the table, whether it is in use.
    slots: Mutex<Vec<bool>>,
}

/// A command in the watchdog's table, until this is dropped.
#[derive(Debug)]
pub(super) struct Registration<'a> {
    watchdog: &'a Started,
    slot: usize,
}

impl Watchdog {
    /// Returns a watchdog that is not started yet. `program` is fbuild (`/proc/self/exe`,
    /// which stays valid when its file is replaced) or another caller of [`watchdog_main`].
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            started: OnceLock::new(),
        }
    }

    /// Returns the program that this process is, for [`Watchdog::new`].
    pub fn this_program() -> PathBuf {
        let link = Path::new("/proc/self/exe");
        if link.exists() {
            return link.to_owned();
        }
        // Without /proc: the path that the shell found. Another file may replace it.
        let file = OsStr::from_bytes(rustix::param::linux_execfn().to_bytes());
        std::path::absolute(file).unwrap_or_else(|_| file.into())
    }

    /// Returns the error that prevented the watchdog from starting.
    pub fn error(&self) -> Option<&io::Error> {
        self.started.get()?.as_ref().err()
    }

    /// Starts the watchdog, unless it is running.
    pub(super) fn start(&self) -> Option<&Started> {
        self.started
            .get_or_init(|| Started::start(&self.program))
            .as_ref()
            .ok()
    }

    /// Registers a command that is about to start. Returns `None` if there is no watchdog; the
    /// command then runs without.
    pub(super) fn register(&self) -> Option<Registration<'_>> {
        let watchdog = self.start()?;
        let slot = watchdog.allocate();
        watchdog.write(slot, STARTING);
        Some(Registration { watchdog, slot })
    }
}

impl Started {
    fn start(program: &Path) -> io::Result<Self> {
        let (reader, alive) = io::pipe()?;
        let table = rustix::fs::memfd_create("fbuild-groups", MemfdFlags::CLOEXEC)?;
        let output = table.try_clone()?;
        let args = [WATCHDOG_ARGUMENT, tree::run_id()];
        let child =
            tree::spawn_helper(|| process::start_helper(program, &args, reader.into(), output))?;
        Ok(Self {
            _alive: alive,
            _child: child,
            table,
            slots: Mutex::new(Vec::new()),
        })
    }

    fn allocate(&self) -> usize {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let free = slots.iter().position(|in_use| !in_use);
        let slot = free.unwrap_or_else(|| {
            slots.push(false);
            slots.len() - 1
        });
        slots[slot] = true;
        slot
    }

    fn write(&self, slot: usize, group: i32) {
        let offset = (slot * SLOT) as u64;
        // Ignore the error (out of memory): the watchdog finds the processes by their marker.
        let _ = rustix::io::pwrite(&self.table, &group.to_ne_bytes(), offset);
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // An empty table means that all commands have ended. If this fails, the watchdog
        // searches all processes in vain.
        let _ = rustix::fs::ftruncate(&self.table, 0);
    }
}

impl Registration<'_> {
    /// Stores the process group of the command, once it has started.
    pub(super) fn set_group(&self, leader: Pid) {
        self.watchdog.write(self.slot, leader.as_raw_pid());
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.watchdog.write(self.slot, 0);
        let slots = self.watchdog.slots.lock();
        slots.unwrap_or_else(PoisonError::into_inner)[self.slot] = false;
    }
}

/// Runs the watchdog. `main` calls it if the first argument is [`WATCHDOG_ARGUMENT`], with the
/// second argument, the run's name.
pub fn watchdog_main(run: Option<OsString>) -> ExitCode {
    let Some(run) = run.and_then(|run| run.into_string().ok()) else {
        return ExitCode::from(2);
    };
    ignore_signals();
    wait_for_end(&mut io::stdin());
    let table = read_table();
    for group in groups(&table) {
        // An error means that the group has no process left.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
    if !table.is_empty() {
        // A command that was about to start may show its marker only after a while.
        let is_starting = slots(&table).any(|slot| slot == STARTING);
        let at_least = if is_starting {
            START_TIMEOUT
        } else {
            Duration::ZERO
        };
        kill_marked(&format!("{run}."), Instant::now() + at_least);
    }
    ExitCode::SUCCESS
}

/// Ignores the signals that end fbuild: they may be sent to the watchdog, too.
fn ignore_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        // Ignore the error: the signal keeps its default, and the watchdog may end early.
        let _ = signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)));
    }
}

fn wait_for_end(input: &mut impl io::Read) {
    let mut byte = [0; 1];
    loop {
        match input.read(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

/// Reads the table of groups. It is empty if fbuild ended normally, or if standard output is
/// not a table.
fn read_table() -> Vec<u8> {
    let mut table = Vec::new();
    let output = rustix::stdio::stdout().try_clone_to_owned();
    let read = output.and_then(|fd| {
        let mut file = File::from(fd);
        io::Seek::rewind(&mut file)?;
        file.read_to_end(&mut table)
    });
    match read {
        Ok(_) => table,
        Err(_) => Vec::new(),
    }
}

/// Returns the groups in a table. Signalling group 1 would reach every process.
fn groups(table: &[u8]) -> impl Iterator<Item = Pid> {
    slots(table)
        .filter(|slot| *slot > 1)
        .filter_map(Pid::from_raw)
}

fn slots(table: &[u8]) -> impl Iterator<Item = i32> {
    table
        .chunks_exact(SLOT)
        .filter_map(|slot| slot.try_into().ok())
        .map(i32::from_ne_bytes)
}

/// Kills every process whose marker begins with `run`, until two searches in a row find none,
/// but at least until `at_least`.
fn kill_marked(run: &str, at_least: Instant) {
    let give_up = at_least + KILL_TIMEOUT;
    let mut empty = 0;
    while empty < 2 && Instant::now() < give_up || Instant::now() < at_least {
        let all = procfs::all().into_iter().flatten();
        let killed = all.filter(|pid| kill_if_marked(*pid, run, give_up)).count();
        empty = if killed == 0 { empty + 1 } else { 0 };
        if Instant::now() < at_least {
            std::thread::sleep(POLL);
        }
    }
}

fn kill_if_marked(pid: Pid, run: &str, give_up: Instant) -> bool {
    let is_marked = || tree::marker(pid).is_some_and(|marker| marker.starts_with(run));
    if !is_marked() {
        return false;
    }
    // Check again with the handle open: the pid may have been reused meanwhile.
    Handle::open(pid).is_ok_and(|process| {
        is_marked() && process.signal(Signal::KILL).is_ok() && process.exits_before(give_up)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(program: &str) -> Started {
        Started::start(Path::new(program)).unwrap()
    }

    /// Returns the groups in a watchdog's table.
    fn registered(watchdog: &Started) -> Vec<i32> {
        let mut table = Vec::new();
        let mut file = File::from(watchdog.table.try_clone().unwrap());
        io::Seek::rewind(&mut file).unwrap();
        file.read_to_end(&mut table).unwrap();
        groups(&table).map(Pid::as_raw_pid).collect()
    }

    #[test]
    fn each_command_has_its_own_slot_until_it_ends() {
        let watchdog = started("/bin/true");
        for (slot, group) in [(0, 10), (1, 20), (2, 30)] {
            assert_eq!(watchdog.allocate(), slot);
            watchdog.write(slot, group);
        }
        assert_eq!(registered(&watchdog), [10, 20, 30]);
        drop(Registration {
            watchdog: &watchdog,
            slot: 1,
        });
        assert_eq!(registered(&watchdog), [10, 30]);
        assert_eq!([watchdog.allocate(), watchdog.allocate()], [1, 3]);
        watchdog.write(3, 40);
        assert_eq!(registered(&watchdog), [10, 30, 40]);
    }

    #[test]
    fn only_end_of_file_or_error_ends_the_wait() {
        /// The results of the next reads, the last first.
        struct Input(Vec<io::Result<usize>>);
        impl io::Read for Input {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                self.0.pop().unwrap()
            }
        }
        let interrupted = || Err(io::ErrorKind::Interrupted.into());
        for end in [Ok(0), Err(io::ErrorKind::Other.into())] {
            let mut input = Input(vec![end, Ok(1), interrupted(), Ok(1), interrupted()]);
            wait_for_end(&mut input);
            assert!(input.0.is_empty());
        }
    }

    #[test]
    fn normal_end_leaves_an_empty_table() {
        let watchdog = started("/bin/true");
        watchdog.write(watchdog.allocate(), 10);
        let table = watchdog.table.try_clone().unwrap();
        drop(watchdog);
        assert_eq!(File::from(table).metadata().unwrap().len(), 0);
    }

    #[test]
    fn only_entries_above_one_are_groups() {
        let numbers = [5, 1, 0, STARTING].map(i32::to_ne_bytes);
        let table = [numbers.as_flattened(), &[1, 2, 3]].concat();
        assert_eq!(slots(&table).min(), Some(STARTING));
        let groups: Vec<i32> = groups(&table).map(Pid::as_raw_pid).collect();
        assert_eq!(groups, [5]);
    }

    #[test]
    fn failed_start_is_reported() {
        let watchdog = Watchdog::new("/nonexistent/fbuild".into());
        assert!(watchdog.error().is_none(), "it was not started yet");
        assert!(watchdog.register().is_none());
        let error = watchdog.error().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn successful_start_has_no_error() {
        let watchdog = Watchdog::new("/bin/true".into());
        assert!(watchdog.register().is_some());
        assert!(watchdog.error().is_none());
    }
}
