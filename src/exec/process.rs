//! Starts programs; no other file does. It neither supervises nor ends them.
//!
//! The standard library starts a program with `posix_spawn` unless an option needs a fork
//! (`pre_exec`, `uid`, `gid`). From a process of 1 GB a fork is 135 times slower, so this
//! file uses only options that `posix_spawn` supports.
//!
//! A program starts with no signal blocked and with SIGPIPE at its default (the standard
//! library resets it). Signals that fbuild handles are at their defaults; signals that
//! fbuild's parent had *ignored*, such as SIGHUP under `nohup`, stay ignored, as in a shell.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, PipeReader};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::Access;

use super::error::{Error, shown};
use super::signals::with_none_blocked;
use super::trace::{TRACE_ARGUMENT, Tracer};
use super::watchdog::Watchdog;
use super::{lookup, tree};
use crate::system::access;

/// The number of attempts to start a program that is open for writing. The pause between
/// them doubles each time, to a little over half a second in total.
const TRIES: u32 = 10;

/// A program to start, and the limits that it runs under.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// Its name and arguments.
    pub argv: &'a [OsString],
    /// Its whole environment, except the marker.
    pub env: &'a BTreeMap<OsString, OsString>,
    /// Its working directory, as an absolute path.
    pub dir: &'a Path,
    /// Its standard streams.
    pub streams: Streams,
    /// The time at which it is terminated.
    pub deadline: Option<Instant>,
    /// The time between TERM and KILL; usually [`GRACE`](super::GRACE).
    pub grace: Duration,
    /// The process that kills it if fbuild is killed.
    pub watchdog: Option<&'a Watchdog>,
    /// Records the files that it uses.
    pub tracer: Option<&'a Tracer>,
}

/// The standard streams of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// Its input is empty, and its output is captured: both streams through one pipe, so
    /// that their order is preserved.
    Captured,
    /// It inherits the streams of fbuild, usually the terminal.
    Terminal,
}

/// Starts `program` as the leader of a process group of its own.
pub(super) fn start(
    program: &Program<'_>,
    marker: &str,
) -> Result<(Child, Option<PipeReader>), Error> {
    let name = program.argv.first().map_or(OsStr::new(""), |name| name);
    let path = program.env.get(OsStr::new("PATH"));
    let file = lookup::find(name, path.map(|path| path.as_os_str()), program.dir)?;
    let mut command = match program.tracer {
        None => named(&file, name),
        Some(tracer) => {
            let mut command = command(tracer.program());
            command.arg(TRACE_ARGUMENT).arg(&file).arg(name);
            command
        }
    };
    command.args(program.argv.iter().skip(1));
    command.env_clear();
    command.envs(program.env);
    command.env(tree::MARKER, marker);
    command.current_dir(program.dir).process_group(0);
    let pipe = match program.streams {
        Streams::Captured => Some(capture(&mut command).map_err(Error::system("create a pipe"))?),
        Streams::Terminal => None,
    };
    if let Some(tracer) = program.tracer {
        let socket = connect(tracer, program.streams);
        command.stdin(socket.map_err(Error::system("connect a tracer"))?);
    }
    let child = spawn(&mut command).map_err(|source| start_error(program.dir, &file, source))?;
    Ok((child, pipe))
}

/// Starts a helper process of fbuild with these descriptors as its input and output, in
/// its own process group and with an empty environment.
pub(super) fn start_helper(
    file: &Path,
    args: &[&str],
    input: OwnedFd,
    output: OwnedFd,
) -> io::Result<Child> {
    let mut command = command(file);
    command.args(args).env_clear().current_dir("/");
    command.stdin(input).stdout(output).stderr(Stdio::null());
    spawn(command.process_group(0))
}

/// Sends the standard input of a command to its tracer, and returns that of the helper.
fn connect(tracer: &Tracer, streams: Streams) -> io::Result<OwnedFd> {
    match streams {
        Streams::Captured => tracer.connect(File::open("/dev/null")?.as_fd()),
        Streams::Terminal => tracer.connect(rustix::stdio::stdin()),
    }
}

/// Becomes a program, with the name that it sees as its own. Returns why that failed.
pub(super) fn become_program(
    file: &Path,
    name: &OsStr,
    args: impl Iterator<Item = OsString>,
) -> io::Error {
    let mut command = named(file, name);
    command.args(args);
    retried(|| Err::<(), _>(command.exec()))
        .err()
        .unwrap_or_else(|| io::ErrorKind::Other.into())
}

fn named(file: &Path, name: &OsStr) -> Command {
    let mut command = command(file);
    command.arg0(name);
    command
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that starts programs"
)]
fn command(file: &Path) -> Command {
    Command::new(file)
}

fn capture(command: &mut Command) -> io::Result<PipeReader> {
    let (reader, writer) = io::pipe()?;
    command.stdin(Stdio::null());
    command.stderr(writer.try_clone()?).stdout(writer);
    Ok(reader)
}

/// Starts a command, and tries again while its file is open for writing.
fn spawn(command: &mut Command) -> io::Result<Child> {
    retried(|| with_none_blocked(|| command.spawn()))
}

/// Tries again while a file is open for writing: a process that another thread is starting
/// may still have inherited the writer's descriptor.
fn retried<T>(mut start: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut pause = Duration::from_millis(1);
    for _ in 1..TRIES {
        match start() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(pause);
                pause *= 2;
            }
            other => return other,
        }
    }
    start()
}

/// Returns the error for a program that its helper could not execute.
pub(super) fn not_executed(program: &Program<'_>, source: io::Error) -> Error {
    let name = program.argv.first().map_or(OsStr::new(""), |name| name);
    start_error(program.dir, Path::new(name), source)
}

/// Returns the error for `file`, which exists and is executable, but did not start.
fn start_error(dir: &Path, file: &Path, source: io::Error) -> Error {
    // The system reports a missing working directory as if the program were missing.
    if let Err(source) = access::check(dir, Access::EXEC_OK) {
        let dir = shown(dir);
        return Error::Dir { dir, source };
    }
    let help = match source.raw_os_error() {
        Some(libc::ENOENT) => {
            Some("the interpreter that its first line or its header names is not installed")
        }
        Some(libc::ENOEXEC) => Some(
            "begin a script with a line such as `#!/bin/sh`; a program may be for another processor",
        ),
        Some(libc::E2BIG) => {
            Some("its arguments and environment are too long; pass names in a file")
        }
        Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE) => {
            Some("the system is short of processes, memory or descriptors; use fewer `--jobs`")
        }
        _ => None,
    };
    Error::Start {
        program: shown(file),
        source,
        help: help.map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_error_suggests_a_cure() {
        let help = |errno| {
            let source = io::Error::from_raw_os_error(errno);
            match start_error(Path::new("/"), Path::new("/bin/tool"), source) {
                Error::Start { help, .. } => help.unwrap_or_default(),
                other => panic!("{other}"),
            }
        };
        for errno in [libc::EAGAIN, libc::ENOMEM, libc::EMFILE, libc::ENFILE] {
            assert!(help(errno).contains("use fewer `--jobs`"), "{errno}");
        }
        assert!(help(libc::E2BIG).contains("pass names in a file"));
        assert_eq!(help(libc::EIO), "");
    }
}
