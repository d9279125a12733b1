//! Ends the commands when fbuild itself is killed and cannot. It does not know what they
//! are, only their process groups and the marker of the run.
//!
//! The watchdog is a second, tiny process: fbuild started anew with [`WATCHDOG_ARGUMENT`], before
//! the first command of a run. Its input is a pipe that fbuild
//! holds and never writes to: at its end, fbuild is gone, in whatever way. Its output is a
//! table in memory (a `memfd`), into which fbuild notes the group of each running command;
//! so noting costs one small write and wakes nobody. That a command is about to start is
//! noted, too: at no time is there one that the watchdog cannot find. It then kills these
//! groups, and every process with the run's marker, until none is left.
//!
//! What it cannot find: a process that left its group *and* has no marker. Programs that
//! use this library without calling [`watchdog_main`], such as its tests, have no watchdog.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeWriter, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::tree::{self, STUCK};
use super::{process, procfs};

/// The hidden first argument with which fbuild is a watchdog; the run's name follows.
pub const WATCHDOG_ARGUMENT: &str = "__watchdog";

/// What stands in the table for the group of a command that is about to start.
const STARTING: i32 = -1;
/// How long a command may take to start, once fbuild is gone.
const START: Duration = Duration::from_secs(1);
/// How often it is looked for one that starts.
const LOOK: Duration = Duration::from_millis(10);
/// The size of a group's number in the table.
const SLOT: usize = size_of::<i32>();

/// Has the commands of a run ended when fbuild is killed.
#[derive(Debug)]
pub struct Watchdog {
    program: PathBuf,
    started: OnceLock<io::Result<Started>>,
}

#[derive(Debug)]
pub(super) struct Started {
    /// Whose closing is the signal.
    _alive: PipeWriter,
    /// Never waited for: it outlives fbuild.
    _child: Child,
    table: OwnedFd,
    /// Which slots of the table are taken.
    slots: Mutex<Vec<bool>>,
}

/// A command that the watchdog ends, until this is dropped.
#[derive(Debug)]
pub(super) struct Registration<'a> {
    watchdog: &'a Started,
    slot: usize,
}

impl Watchdog {
    /// Returns a watchdog that is not started yet. `program` is fbuild (`/proc/self/exe` is
    /// it even when its file was replaced) or another that calls [`watchdog_main`].
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            started: OnceLock::new(),
        }
    }

    /// Returns why there is no watchdog although there should be.
    pub fn trouble(&self) -> Option<&io::Error> {
        self.started.get()?.as_ref().err()
    }

    /// Starts it, unless it was started.
    pub(super) fn start(&self) -> Option<&Started> {
        let start = || Started::start(&self.program);
        self.started.get_or_init(start).as_ref().ok()
    }

    /// Notes that a command is about to start. `None` when there is no watchdog: the command
    /// runs without.
    pub(super) fn expect(&self) -> Option<Registration<'_>> {
        let watchdog = self.start()?;
        let slot = watchdog.take();
        watchdog.note(slot, STARTING);
        Some(Registration { watchdog, slot })
    }
}

impl Started {
    fn start(program: &Path) -> io::Result<Self> {
        let (reader, alive) = io::pipe()?;
        let table = rustix::fs::memfd_create("fbuild-groups", MemfdFlags::CLOEXEC)?;
        let theirs = table.try_clone()?;
        let args = [WATCHDOG_ARGUMENT, tree::run_id()];
        let child = tree::adopt(|| process::start_helper(program, &args, reader.into(), theirs))?;
        Ok(Self {
            _alive: alive,
            _child: child,
            table,
            slots: Mutex::new(Vec::new()),
        })
    }

    fn take(&self) -> usize {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.iter().position(|taken| !taken);
        let slot = slot.unwrap_or_else(|| {
            slots.push(false);
            slots.len() - 1
        });
        slots[slot] = true;
        slot
    }

    fn note(&self, slot: usize, group: i32) {
        // Failing (out of memory) only means that the watchdog will not find this group.
        let at = (slot * SLOT) as u64;
        let _ = rustix::io::pwrite(&self.table, &group.to_ne_bytes(), at);
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // An empty table says that all commands have ended; failing costs the watchdog a look
        // at every process.
        let _ = rustix::fs::ftruncate(&self.table, 0);
    }
}

impl Registration<'_> {
    /// Notes the command, now that it runs.
    pub(super) fn watch(&self, leader: Pid) {
        self.watchdog.note(self.slot, leader.as_raw_pid());
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.watchdog.note(self.slot, 0);
        let slots = self.watchdog.slots.lock();
        slots.unwrap_or_else(PoisonError::into_inner)[self.slot] = false;
    }
}

/// Is the watchdog: called by `main` when the first argument is [`WATCHDOG_ARGUMENT`], with the
/// second, the run's name.
pub fn watchdog_main(run: Option<OsString>) -> ExitCode {
    let Some(run) = run.and_then(|run| run.into_string().ok()) else {
        return ExitCode::from(2);
    };
    outlive_signals();
    wait_for_end(&mut io::stdin());
    let table = read_table();
    for group in groups(&table) {
        // Failing means that nobody is left in it.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
    if !table.is_empty() {
        // One that was about to start may become a process, and show its marker, only now.
        let patience = match slots(&table).any(|slot| slot == STARTING) {
            true => START,
            false => Duration::ZERO,
        };
        kill_marked(&format!("{run}."), Instant::now() + patience);
    }
    ExitCode::SUCCESS
}

/// Whoever stops fbuild politely may signal the watchdog as well; it has to stay.
fn outlive_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        // Failing leaves the default, which is to end: a risk, no fault.
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

/// Returns the table of groups; empty when fbuild ended as it should, or when this was
/// started by hand and its output is no table.
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

/// Returns the groups in a table. To signal group 1 would mean: everybody.
fn groups(table: &[u8]) -> impl Iterator<Item = Pid> {
    let groups = slots(table).filter(|slot| *slot > 1);
    groups.filter_map(Pid::from_raw)
}

fn slots(table: &[u8]) -> impl Iterator<Item = i32> {
    let slots = table.chunks_exact(SLOT);
    let slots = slots.filter_map(|slot| slot.try_into().ok());
    slots.map(i32::from_ne_bytes)
}

/// Kills every process whose marker begins with `run`, until none is found twice in a row,
/// and for so long at least.
fn kill_marked(run: &str, at_least: Instant) {
    let give_up = at_least + STUCK;
    let mut nobody = 0;
    while nobody < 2 && Instant::now() < give_up || Instant::now() < at_least {
        let all = procfs::all().into_iter().flatten();
        let killed = all.filter(|pid| kill_if_marked(*pid, run, give_up));
        nobody = if killed.count() == 0 { nobody + 1 } else { 0 };
        if Instant::now() < at_least {
            std::thread::sleep(LOOK);
        }
    }
}

fn kill_if_marked(pid: Pid, run: &str, give_up: Instant) -> bool {
    let is_marked = || tree::marker(pid).is_some_and(|marker| marker.starts_with(run));
    if !is_marked() {
        return false;
    }
    // Looked at again when held, so that no other that was given its number is hit.
    let held = rustix::process::pidfd_open(pid, PidfdFlags::empty());
    held.is_ok_and(|pidfd| {
        is_marked()
            && rustix::process::pidfd_send_signal(&pidfd, Signal::KILL).is_ok()
            && tree::is_dead_by(&pidfd, give_up)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(program: &str) -> Started {
        Started::start(Path::new(program)).unwrap()
    }

    /// The groups that the table of a watchdog says.
    fn noted(watchdog: &Started) -> Vec<i32> {
        let mut table = Vec::new();
        let mut file = File::from(watchdog.table.try_clone().unwrap());
        io::Seek::rewind(&mut file).unwrap();
        file.read_to_end(&mut table).unwrap();
        groups(&table).map(Pid::as_raw_pid).collect()
    }

    #[test]
    fn each_command_has_a_slot_of_its_own_until_it_ends() {
        let watchdog = started("/bin/true");
        assert_eq!(
            [watchdog.take(), watchdog.take(), watchdog.take()],
            [0, 1, 2]
        );
        for (slot, group) in [(0, 10), (1, 20), (2, 30)] {
            watchdog.note(slot, group);
        }
        assert_eq!(noted(&watchdog), [10, 20, 30]);
        drop(Registration {
            watchdog: &watchdog,
            slot: 1,
        });
        assert_eq!(noted(&watchdog), [10, 30]);
        assert_eq!([watchdog.take(), watchdog.take()], [1, 3]);
        watchdog.note(3, 40);
        assert_eq!(noted(&watchdog), [10, 30, 40]);
    }

    #[test]
    fn the_end_is_waited_for_through_signals_and_bytes_and_an_error_is_the_end() {
        /// What comes next; nothing may be asked for after the end.
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
    fn a_run_that_ends_leaves_an_empty_table() {
        let watchdog = started("/bin/true");
        watchdog.note(watchdog.take(), 10);
        let table = watchdog.table.try_clone().unwrap();
        drop(watchdog);
        assert_eq!(File::from(table).metadata().unwrap().len(), 0);
    }

    #[test]
    fn half_a_slot_everybody_group_zero_and_what_only_starts_are_no_group() {
        let numbers = [5, 1, 0, STARTING].map(i32::to_ne_bytes);
        let table = [numbers.as_flattened(), &[1, 2, 3]].concat();
        assert_eq!(slots(&table).min(), Some(STARTING), "it is no group's");
        let groups: Vec<i32> = groups(&table).map(Pid::as_raw_pid).collect();
        assert_eq!(groups, [5]);
    }

    #[test]
    fn a_keeper_that_cannot_be_started_is_said_and_watches_nothing() {
        let watchdog = Watchdog::new("/nonexistent/fbuild".into());
        assert!(watchdog.trouble().is_none(), "nobody has asked for it");
        assert!(watchdog.expect().is_none());
        let error = watchdog.trouble().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let watchdog = Watchdog::new("/bin/true".into());
        assert!(watchdog.expect().is_some());
        assert!(watchdog.trouble().is_none());
    }
}
