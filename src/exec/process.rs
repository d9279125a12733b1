//! Starts programs: the only file that does. It neither watches them nor ends them.
//!
//! The standard library starts a program with `posix_spawn` as long as nothing is asked of
//! it that needs a fork (`pre_exec`, `uid`, `gid`); from a process of 1 GB a fork is 135
//! times dearer. So all of it is asked for in words that `posix_spawn` knows.
//!
//! A program begins with no signal blocked and, as the standard library sees to, SIGPIPE not
//! ignored. Signals that fbuild catches are back to default; those that whoever started
//! fbuild had *ignored*, such as SIGHUP under `nohup`, stay ignored, as with a shell.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, PipeReader};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Access, AtFlags, CWD};

use super::error::{Error, shown};
use super::signals::with_none_blocked;
use super::watchdog::Watchdog;
use super::{lookup, tree};

/// How often a program that is being written is tried again, each time after twice as long:
/// a little over half a second in all.
const TRIES: u32 = 10;

/// A program to be started, and the limits that it runs under.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// Its name and arguments.
    pub argv: &'a [OsString],
    /// Its whole environment, but for the marker.
    pub env: &'a BTreeMap<OsString, OsString>,
    /// Its working directory, absolute.
    pub dir: &'a Path,
    /// What it reads from and prints to.
    pub streams: Streams,
    /// When it is stopped.
    pub deadline: Option<Instant>,
    /// How long it has between being asked to end and being killed; mostly
    /// [`GRACE`](super::GRACE).
    pub grace: Duration,
    /// Who ends it when fbuild is killed.
    pub watchdog: Option<&'a Watchdog>,
}

/// What a program reads from and prints to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// It reads nothing, and what it prints is captured: both streams through one pipe, so
    /// that their order is kept.
    Captured,
    /// It has the terminal, or whatever fbuild has.
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
    let mut command = command(&file);
    command.arg0(name).args(program.argv.iter().skip(1));
    command.env_clear();
    command.envs(program.env);
    command.env(tree::MARKER, marker);
    command.current_dir(program.dir).process_group(0);
    let pipe = match program.streams {
        Streams::Captured => Some(capture(&mut command).map_err(Error::system("create a pipe"))?),
        Streams::Terminal => None,
    };
    let child = spawn(&mut command).map_err(|source| refused(program.dir, &file, source))?;
    Ok((child, pipe))
}

/// Starts a helper of fbuild's own with these two descriptors as its input and output, in
/// a process group of its own and with an empty environment.
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

/// Starts it, trying again while its file is open for writing: a file that was just written
/// may be held a moment longer by a process that another thread is starting.
fn spawn(command: &mut Command) -> io::Result<Child> {
    let mut pause = Duration::from_millis(1);
    for _ in 1..TRIES {
        match with_none_blocked(|| command.spawn()) {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(pause);
                pause *= 2;
            }
            other => return other,
        }
    }
    with_none_blocked(|| command.spawn())
}

/// Returns why the system would not start `file`, which is there and executable.
fn refused(dir: &Path, file: &Path, source: io::Error) -> Error {
    if let Err(source) = rustix::fs::accessat(CWD, dir, Access::EXEC_OK, AtFlags::EACCESS) {
        let (dir, source) = (shown(dir), source.into());
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
    fn what_a_person_can_do_about_a_refusal_is_said() {
        let help = |errno| {
            let source = io::Error::from_raw_os_error(errno);
            match refused(Path::new("/"), Path::new("/bin/tool"), source) {
                Error::Start { help, .. } => help.unwrap_or_default(),
                other => panic!("{other}"),
            }
        };
        for short in [libc::EAGAIN, libc::ENOMEM, libc::EMFILE, libc::ENFILE] {
            assert!(help(short).contains("use fewer `--jobs`"), "{short}");
        }
        assert!(help(libc::E2BIG).contains("pass names in a file"));
        assert_eq!(help(libc::EIO), "");
    }
}
