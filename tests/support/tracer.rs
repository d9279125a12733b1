//! Traces a program's system calls: counts those that change files, kills the program before the
//! n-th, tears the n-th write, makes calls fail, or passes all of them to a watcher. Only the
//! threads of the program are affected, not its child processes.
//!
//! `strace` can do most of this, but counts the calls of each thread separately, so most points
//! of a threaded program cannot be addressed.

#![expect(unsafe_code, reason = "ptrace has no safe form")]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus};

use libc::{c_int, pid_t};

use crate::support::calls::{in_words, is_change, is_open, is_write, named_paths, open_path};

/// The interference with a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// None; its calls are counted.
    Count,
    /// Kills the program before this call, counted from 1.
    Kill(u64),
    /// Executes half of this write, then kills the program.
    Tear(u64),
    /// Makes this call fail.
    Fail(u64, Errno),
    /// Makes this call and all that follow fail.
    FailFrom(u64, Errno),
}

/// An error number.
pub(crate) type Errno = i32;

/// The calls that are counted and can be acted upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    /// All calls.
    All,
    /// Calls that change files.
    Changing,
    /// Calls that write to files.
    Writes,
    /// Calls that change or open fbuild's state, except for the stage, the private folders of
    /// commands and the run lock, without which no build is possible, and except for their
    /// replacements in temporary folders.
    Kept,
}

/// The result of tracing a program.
#[derive(Clone, Debug)]
pub(crate) struct Traced {
    pub(crate) status: ExitStatus,
    /// The number of counted calls.
    pub(crate) calls: u64,
    /// Whether the action was carried out.
    pub(crate) acted: bool,
    /// Descriptions of the calls that were made to fail.
    pub(crate) failed: Vec<String>,
}

/// Whether this platform can change calls, not only count them and kill.
pub(crate) const CAN_CHANGE: bool = cfg!(target_arch = "x86_64");

/// Receives every call of a program and of all its child processes.
pub(crate) trait Watch {
    /// Called before a thread makes a call.
    fn enter(&mut self, thread: pid_t, call: &Info);
    /// Called after a call of a thread.
    fn leave(&mut self, thread: pid_t, result: i64);
}

/// Runs a program to its end under an action.
pub(crate) fn run(command: &mut Command, calls: Calls, act: Act) -> io::Result<Traced> {
    let main = start(command, libc::PTRACE_O_TRACECLONE)?;
    let mut tracer = Tracer {
        main,
        calls,
        act,
        count: 0,
        acted: false,
        failed: Vec::new(),
        watch: None,
        threads: HashMap::from([(main, State::Outside)]),
    };
    let status = tracer.follow()?;
    Ok(Traced {
        status,
        calls: tracer.count,
        acted: tracer.acted,
        failed: tracer.failed,
    })
}

/// Runs a program and all its child processes to their ends.
pub(crate) fn watch(command: &mut Command, watch: &mut dyn Watch) -> io::Result<ExitStatus> {
    let forks = libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_TRACEVFORK | libc::PTRACE_O_TRACEEXEC;
    let main = start(command, libc::PTRACE_O_TRACECLONE | forks)?;
    let mut tracer = Tracer {
        main,
        calls: Calls::All,
        act: Act::Count,
        count: 0,
        acted: false,
        failed: Vec::new(),
        watch: Some(watch),
        threads: HashMap::from([(main, State::Outside)]),
    };
    let status = tracer.follow()?;
    while !tracer.threads.is_empty() && tracer.follow().is_ok() {}
    Ok(status)
}

/// Starts a program and stops it before its first call.
fn start(command: &mut Command, options: c_int) -> io::Result<pid_t> {
    // SAFETY: between fork and exec, only a system call is made.
    unsafe {
        command.pre_exec(|| ptrace(libc::PTRACE_TRACEME, 0, 0, 0).map(drop));
    }
    let child = command.spawn()?;
    let main = pid_t::try_from(child.id()).map_err(io::Error::other)?;
    wait(main)?;
    let options = libc::PTRACE_O_TRACESYSGOOD | EXITKILL | options;
    ptrace(libc::PTRACE_SETOPTIONS, main, 0, i64::from(options))?;
    go_on(main, 0);
    Ok(main)
}

const EXITKILL: c_int = 0x0010_0000;
const GET_SYSCALL_INFO: libc::c_uint = 0x420e;
const WALL: c_int = 0x4000_0000;
const WNOTHREAD: c_int = 0x2000_0000;

struct Tracer<'w> {
    main: pid_t,
    calls: Calls,
    act: Act,
    count: u64,
    acted: bool,
    failed: Vec<String>,
    watch: Option<&'w mut dyn Watch>,
    threads: HashMap<pid_t, State>,
}

/// The state of a thread.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Outside,
    /// In an unmodified call.
    Inside,
    /// In a call that is made to fail.
    Failing(Errno),
    /// In a write that is shortened.
    Torn,
}

/// A system call at its entry or exit.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Info {
    op: u8,
    pad: [u8; 3],
    arch: u32,
    instruction: u64,
    stack: u64,
    /// The number of the call; at its exit, the result.
    pub(crate) number: u64,
    pub(crate) arguments: [u64; 6],
    more: [u64; 4],
}

impl Tracer<'_> {
    /// Follows all threads until the program has ended.
    fn follow(&mut self) -> io::Result<ExitStatus> {
        loop {
            let (thread, status) = match wait(-1) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
                self.threads.remove(&thread);
                if thread == self.main {
                    return Ok(ExitStatus::from_raw(status));
                }
                continue;
            }
            let signal = libc::WSTOPSIG(status);
            if signal == libc::SIGTRAP | 0x80 {
                self.at_call(thread);
                go_on(thread, 0);
                continue;
            }
            let is_new = !self.threads.contains_key(&thread);
            self.threads.entry(thread).or_insert(State::Outside);
            let is_ours = status >> 16 != 0 || signal == libc::SIGTRAP;
            let is_start = is_new && signal == libc::SIGSTOP;
            go_on(thread, if is_ours || is_start { 0 } else { signal });
        }
    }

    /// Handles a thread that enters or leaves a call.
    fn at_call(&mut self, thread: pid_t) {
        if let Some(watch) = &mut self.watch {
            match info(thread) {
                Some(info) if info.op == ENTRY => watch.enter(thread, &info),
                Some(info) if info.op == EXIT => watch.leave(thread, info.number as i64),
                _ => {}
            }
            return;
        }
        let state = self.threads.get(&thread).copied().unwrap_or(State::Outside);
        let next = match state {
            State::Outside => self.enter(thread),
            State::Inside => State::Outside,
            State::Failing(errno) => {
                change(thread, |registers| {
                    registers.rax = (-i64::from(errno)) as u64
                });
                State::Outside
            }
            State::Torn => {
                self.kill();
                State::Outside
            }
        };
        self.threads.insert(thread, next);
    }

    fn enter(&mut self, thread: pid_t) -> State {
        let Some(info) = info(thread).filter(|info| info.op == ENTRY) else {
            return State::Inside;
        };
        if !self.is_counted(thread, &info) {
            return State::Inside;
        }
        self.count += 1;
        let fail = |errno| {
            change(thread, |registers| registers.orig_rax = u64::MAX);
            State::Failing(errno)
        };
        let next = match self.act {
            Act::Kill(at) if at == self.count => {
                self.kill();
                State::Inside
            }
            Act::Tear(at) if at == self.count => {
                change(thread, |registers| registers.rdx /= 2);
                State::Torn
            }
            Act::Fail(at, errno) if at == self.count => fail(errno),
            Act::FailFrom(at, errno) if at <= self.count => fail(errno),
            _ => State::Inside,
        };
        self.acted |= next != State::Inside;
        if matches!(next, State::Failing(_)) {
            self.failed.push(in_words(thread, &info));
        }
        next
    }

    fn kill(&mut self) {
        self.acted = true;
        // SAFETY: the call takes no pointers.
        unsafe { libc::kill(self.main, libc::SIGKILL) };
    }

    fn is_counted(&self, thread: pid_t, info: &Info) -> bool {
        match self.calls {
            Calls::All => true,
            Calls::Changing if is_write(info) => is_to_a_file(thread, info),
            Calls::Changing => is_change(info),
            Calls::Writes => is_write(info) && is_to_a_file(thread, info),
            Calls::Kept => (is_change(info) || is_open(info)) && is_to_what_is_kept(thread, info),
        }
    }
}

/// Returns true if a write goes to a file: not to a pipe, a socket or a terminal.
fn is_to_a_file(thread: pid_t, info: &Info) -> bool {
    let path = open_path(thread, info.arguments[0]).unwrap_or_default();
    path.is_absolute() && !path.starts_with("/dev") || path.starts_with("/dev/shm")
}

fn is_to_what_is_kept(thread: pid_t, info: &Info) -> bool {
    let of_call = match named_paths(thread, info) {
        [None, None] => [open_path(thread, info.arguments[0]), None],
        paths => paths,
    };
    of_call.into_iter().flatten().any(|path| {
        let is_temporary = |part: &OsStr| part.as_bytes().starts_with(b".fbuild-");
        if path.iter().any(is_temporary) {
            return false;
        }
        let mut parts = path.iter().skip_while(|part| *part != ".build-cache");
        let first = parts.nth(1);
        first.is_some_and(|first| {
            !["stage", "tmp", "run.lock"]
                .iter()
                .any(|name| first == *name)
        })
    })
}

const ENTRY: u8 = 1;
const EXIT: u8 = 2;

fn info(thread: pid_t) -> Option<Info> {
    let mut info = MaybeUninit::<Info>::zeroed();
    let size = size_of::<Info>() as i64;
    ptrace(GET_SYSCALL_INFO, thread, size, info.as_mut_ptr() as i64).ok()?;
    // SAFETY: all zeroes is a valid value, and the system wrote over some of it.
    Some(unsafe { info.assume_init() })
}

#[cfg(target_arch = "x86_64")]
fn change(thread: pid_t, how: impl FnOnce(&mut libc::user_regs_struct)) {
    let mut registers = MaybeUninit::<libc::user_regs_struct>::zeroed();
    // A thread that was killed has no registers.
    if ptrace(
        libc::PTRACE_GETREGS,
        thread,
        0,
        registers.as_mut_ptr() as i64,
    )
    .is_ok()
    {
        // SAFETY: the system wrote all of it.
        let mut registers = unsafe { registers.assume_init() };
        how(&mut registers);
        let _ = ptrace(
            libc::PTRACE_SETREGS,
            thread,
            0,
            (&raw const registers) as i64,
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn change(_: pid_t, _: impl FnOnce(&mut Registers)) {
    unreachable!("CAN_CHANGE is false");
}

/// The registers that are changed, on other platforms.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Default)]
struct Registers {
    rax: u64,
    rdx: u64,
    orig_rax: u64,
}

/// Resumes a thread until its next call, with a signal. Ignores a dead thread.
fn go_on(thread: pid_t, signal: c_int) {
    let _ = ptrace(libc::PTRACE_SYSCALL, thread, 0, i64::from(signal));
}

fn ptrace(request: libc::c_uint, thread: pid_t, address: i64, data: i64) -> io::Result<i64> {
    // SAFETY: the pointers given are to values that are large enough and alive.
    let result = unsafe { libc::ptrace(request, thread, address, data) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

/// Waits for a child of this thread, or for a thread of one.
fn wait(thread: pid_t) -> io::Result<(pid_t, c_int)> {
    let mut status = 0;
    // SAFETY: `status` is alive.
    let found = unsafe { libc::waitpid(thread, &raw mut status, WALL | WNOTHREAD) };
    match found {
        -1 => Err(io::Error::last_os_error()),
        found => Ok((found, status)),
    }
}
