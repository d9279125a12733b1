//! A helper program for tests: it behaves as its arguments say, better or worse than a real
//! tool.
//!
//! ```text
//! fbt mix [-e NAME]… [-o OUT] IN…   OUT (or stdout) = SHA-256 over the words given, the
//!                                   variables NAME, and names and contents of the files IN
//! fbt exit CODE                     ends with that exit code
//! fbt kill SIGNAL                   ends itself with a signal, by number
//! fbt stop                          prints `ready` and stops itself (SIGSTOP)
//! fbt echo WORD…                    prints its words
//! fbt both N                        prints N lines, in turn to stdout and stderr
//! fbt binary                        prints all 256 bytes
//! fbt spam BYTES                    prints that much
//! fbt stdin                         prints how many bytes it could read
//! fbt fds                           prints the numbers of its open descriptors
//! fbt later MS WORD…                prints its words after a while
//! fbt sleep MS                      prints `ready` and sleeps
//! fbt wait                          prints `ready` and waits forever
//! fbt ignore-term                   the same, and prints `term` on TERM instead of ending
//! fbt on-term FILE                  the same; TERM makes it write a line to FILE, clean up
//!                                   for 50 ms and end
//! fbt write FILE                    prints `ready` and appends to FILE forever
//! fbt launch HOW… -- COMMAND…       starts another `fbt COMMAND…`, and ends when that is
//!                                   ready. HOW: `session` (setsid), `fork` (its parent is
//!                                   dead), `mute` (it does not hold the streams), `bare`
//!                                   (no environment), `stay` (prints `ready` and waits forever)
//! fbt fork-setsid | hold-pipe       launch session mute -- wait | launch -- wait
//! fbt write-after-exit FILE         launch session mute -- write FILE
//! fbt peak FILE PROGRAM ARG…        runs it, and writes to FILE the peak memory in KiB of it or
//!                                   of a program that it waited for
//! fbt refuse CALL=ERRNO,… PROGRAM ARG…
//!                                   runs it with a filter that refuses these system calls,
//!                                   in its children, too
//! fbt call NAME PATH…               makes one system call: `openat2`, `execveat`, `relative`
//!                                   (opens PATH relative to the folder of a descriptor) or
//!                                   `uring` (prints the error of `io_uring_setup`)
//! fbt drive [--terminal] ROOT -- ARGV… [++ ARGV…]…
//!                                   runs each ARGV as fbuild runs commands in ROOT, all at
//!                                   once, with a watchdog; INT and TERM cancel. Prints to
//!                                   stderr how they ended, and its own peak memory
//! ```
//!
//! Unused words are ignored: tests mark processes with them.

#![expect(
    clippy::disallowed_methods,
    reason = "a test program, not part of fbuild"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fbuild::action::{Action, ResolvedCommand};
use fbuild::cancel::Cancel;
use fbuild::digest::Digest;
use fbuild::exec::{
    End, Execution, Executor as _, Local, TRACE_ARGUMENT, Task, Tracing, WATCHDOG_ARGUMENT,
};
use fbuild::path::{RelPath, Root};
use fbuild::system::user_dirs::UserDirs;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// The prefix of a launched command: its launcher waits for a byte from the socket at its
/// standard input.
const LAUNCHED: &str = "@launched";
static IS_LAUNCHED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if words.first().is_some_and(|word| word == LAUNCHED) {
        words.remove(0);
        IS_LAUNCHED.store(true, Ordering::SeqCst);
    }
    if words.first().is_some_and(|word| word == WATCHDOG_ARGUMENT) {
        return fbuild::exec::watchdog_main(words.into_iter().nth(1));
    }
    if words.first().is_some_and(|word| word == TRACE_ARGUMENT) {
        return fbuild::exec::trace_main(words.into_iter().skip(1));
    }
    match act(&words) {
        Ok(code) => code,
        Err(error) => {
            eprint(&format!("fbt: {error}"));
            ExitCode::from(99)
        }
    }
}

fn act(words: &[OsString]) -> Result<ExitCode> {
    let (command, rest) = words.split_first().ok_or("no command")?;
    match command.to_str().ok_or("not a command")? {
        "mix" => mix(rest)?,
        "exit" => return Ok(ExitCode::from(number::<u8>(rest)?)),
        "kill" => signal_hook::low_level::raise(number(rest)?)?,
        "stop" => stop()?,
        "echo" => write_stdout(&[line(rest), b"\n".to_vec()].concat())?,
        "both" => both(number(rest)?)?,
        "binary" => write_stdout(&(0..=255).collect::<Vec<u8>>())?,
        "spam" => spam(number(rest)?)?,
        "stdin" => {
            write_stdout(format!("{}\n", io::stdin().read_to_end(&mut Vec::new())?).as_bytes())?
        }
        "fds" => write_stdout(descriptors()?.as_bytes())?,
        "later" => later(number(rest)?, &rest[1..])?,
        "sleep" => sleep(number(rest)?)?,
        "wait" => wait()?,
        "ignore-term" => ignore_term()?,
        "on-term" => on_term(Path::new(first(rest)?))?,
        "write" => write(Path::new(first(rest)?))?,
        "peak" => return peak(rest),
        "refuse" => return refuse(rest),
        "session" => {
            rustix::process::setsid()?;
            return act(rest);
        }
        "launch" => launch(rest)?,
        "fork-setsid" => launch(&shorthand(&["session", "mute", "--", "wait"], rest))?,
        "hold-pipe" => launch(&shorthand(&["--", "wait"], rest))?,
        "write-after-exit" => launch(&shorthand(&["session", "mute", "--", "write"], rest))?,
        "call" => call(rest)?,
        "drive" => return drive(rest),
        other => return Err(format!("no such command: {other}").into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn first(words: &[OsString]) -> Result<&OsString> {
    Ok(words.first().ok_or("a word is missing")?)
}

fn number<N: std::str::FromStr>(words: &[OsString]) -> Result<N> {
    let number = first(words)?.to_str().and_then(|word| word.parse().ok());
    Ok(number.ok_or("not a number")?)
}

fn line(words: &[OsString]) -> Vec<u8> {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    words.join(&b' ')
}

fn shorthand(words: &[&str], rest: &[OsString]) -> Vec<OsString> {
    words
        .iter()
        .map(OsString::from)
        .chain(rest.iter().cloned())
        .collect()
}

fn write_stdout(bytes: &[u8]) -> Result {
    let mut out = io::stdout();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

fn eprint(line: &str) {
    // Ignore the error: there is no other place to report it.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Reports to the launcher or the test that the command is set up.
fn ready() -> Result {
    if !IS_LAUNCHED.load(Ordering::SeqCst) {
        return write_stdout(b"ready\n");
    }
    rustix::io::write(rustix::stdio::stdin(), b"r")?;
    Ok(rustix::stdio::dup2_stdin(File::open("/dev/null")?)?)
}

fn mix(words: &[OsString]) -> Result {
    let (mut out, mut mixed, mut words) = (None, Vec::new(), words.iter());
    let mut add = |part: &[u8]| {
        mixed.extend_from_slice(&(part.len() as u64).to_le_bytes());
        mixed.extend_from_slice(part);
    };
    while let Some(word) = words.next() {
        add(word.as_bytes());
        match word.to_str() {
            Some("-o") => out = Some(PathBuf::from(words.next().ok_or("-o needs a file")?)),
            Some("-e") => {
                let name = words.next().ok_or("-e needs a name")?;
                add(&std::env::var_os(name).map_or(b"unset".to_vec(), OsString::into_vec));
            }
            _ => add(&fs::read(word)?),
        }
    }
    let digest = format!("{}\n", Digest::of(&mixed));
    match out {
        Some(out) => Ok(fs::write(out, digest)?),
        None => write_stdout(digest.as_bytes()),
    }
}

fn stop() -> Result {
    ready()?;
    Ok(signal_hook::low_level::raise(libc::SIGSTOP)?)
}

fn both(lines: usize) -> Result {
    for number in 0..lines {
        let line = format!("{number}\n");
        match number % 2 {
            0 => io::stdout().write_all(line.as_bytes())?,
            _ => io::stderr().write_all(line.as_bytes())?,
        }
    }
    Ok(())
}

fn spam(mut bytes: usize) -> Result {
    // With a large pipe the last part is written at once. Ignore the error: stdout may be a
    // file.
    let _ = rustix::pipe::fcntl_setpipe_size(rustix::stdio::stdout(), 1 << 20);
    let block = b"all work and no play makes a dull tool\n".repeat(1024);
    while bytes > 0 {
        let piece = &block[..block.len().min(bytes)];
        write_stdout(piece)?;
        bytes -= piece.len();
    }
    Ok(())
}

fn descriptors() -> Result<String> {
    let mut open = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        // Leave out the descriptor that reads this folder.
        let target = fs::read_link(Path::new("/proc/self/fd").join(&name));
        if target.is_ok_and(|to| !to.ends_with("fd")) {
            open.push(name.to_string_lossy().into_owned());
        }
    }
    open.sort_by_key(|number| number.parse::<u32>().ok());
    Ok(format!("{}\n", open.join(" ")))
}

/// Runs a program and writes its peak memory, which excludes this process, to a file.
fn peak(words: &[OsString]) -> Result<ExitCode> {
    let [file, program, arguments @ ..] = words else {
        return Err("no file or no program".into());
    };
    let child = Command::new(program).args(arguments).spawn()?;
    let pid = libc::pid_t::try_from(child.id())?;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    let mut status = 0;
    // SAFETY: both pointers are to local variables; all zeros are a valid `rusage`.
    let (ended, usage) = unsafe {
        let ended = libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr());
        (ended, usage.assume_init())
    };
    if ended != pid {
        return Err(io::Error::last_os_error().into());
    }
    fs::write(file, format!("{}\n", usage.ru_maxrss))?;
    if libc::WIFEXITED(status) {
        Ok(ExitCode::from(u8::try_from(libc::WEXITSTATUS(status))?))
    } else {
        Ok(ExitCode::from(98))
    }
}

/// Replaces this process by a program for which some system calls fail.
fn refuse(words: &[OsString]) -> Result<ExitCode> {
    let [refusals, program, arguments @ ..] = words else {
        return Err("no system calls or no program".into());
    };
    let refusals = refusals.to_str().ok_or("not a list of system calls")?;
    let mut filter = vec![instruction(
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        0,
        0,
    )];
    for refusal in refusals.split(',') {
        let (call, errno) = refusal.split_once('=').ok_or("no errno")?;
        let call = system_call(call).ok_or_else(|| format!("unknown system call {call}"))?;
        let errno = errno_of(errno).ok_or_else(|| format!("unknown errno {errno}"))?;
        let is_call = instruction(libc::BPF_JMP | libc::BPF_JEQ, u32::try_from(call)?, 1);
        let answer = libc::SECCOMP_RET_ERRNO | u32::try_from(errno)?;
        filter.extend([is_call, instruction(libc::BPF_RET, answer, 0)]);
    }
    filter.push(instruction(libc::BPF_RET, libc::SECCOMP_RET_ALLOW, 0));
    let filter = libc::sock_fprog {
        len: u16::try_from(filter.len())?,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: `filter` and the instructions that it points to live until the calls return.
    let installed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const filter,
            ) == 0
    };
    if !installed {
        return Err(io::Error::last_os_error().into());
    }
    Err(Command::new(program).args(arguments).exec().into())
}

fn call(words: &[OsString]) -> Result {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
    let path = |n: usize| words.get(n).map(Path::new).ok_or("a path is missing");
    match first(words)?.to_str() {
        Some("openat2") => {
            let flags = ResolveFlags::NO_MAGICLINKS;
            rustix::fs::openat2(CWD, path(1)?, OFlags::RDONLY, Mode::empty(), flags)?;
        }
        Some("relative") => {
            let folder = rustix::fs::open(path(1)?, OFlags::PATH, Mode::empty())?;
            rustix::fs::openat(folder, path(2)?, OFlags::RDONLY, Mode::empty())?;
        }
        Some("execveat") => {
            let file = std::ffi::CString::new(path(1)?.as_os_str().as_bytes())?;
            let arguments = [file.as_ptr(), std::ptr::null()];
            // SAFETY: `file` and `arguments` live until the call returns, and end with NULs.
            unsafe {
                libc::syscall(
                    libc::SYS_execveat,
                    libc::AT_FDCWD,
                    file.as_ptr(),
                    arguments.as_ptr(),
                    arguments[1..].as_ptr(),
                    0,
                );
            }
            return Err(io::Error::last_os_error().into());
        }
        Some("uring") => {
            let mut parameters = [0_u8; 120];
            // SAFETY: the kernel writes its answer into `parameters`, which is as large.
            let ring =
                unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
            let error = io::Error::last_os_error();
            let text = if ring < 0 {
                format!("{error}")
            } else {
                "a ring".to_owned()
            };
            write_stdout(text.as_bytes())?;
        }
        _ => return Err("no such call".into()),
    }
    Ok(())
}

/// Returns an instruction of a filter. `skip` is the number of instructions that a comparison
/// skips if it is false.
fn instruction(code: u32, value: u32, skip: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: skip,
        k: value,
    }
}

fn errno_of(name: &str) -> Option<i32> {
    let errnos = [
        ("EACCES", libc::EACCES),
        ("EINVAL", libc::EINVAL),
        ("ENOLCK", libc::ENOLCK),
        ("ENOSYS", libc::ENOSYS),
        ("EOPNOTSUPP", libc::EOPNOTSUPP),
        ("EPERM", libc::EPERM),
    ];
    errnos
        .iter()
        .find(|(n, _)| *n == name)
        .map(|(_, errno)| *errno)
}

/// Returns the number of a system call by its name.
fn system_call(name: &str) -> Option<libc::c_long> {
    macro_rules! numbers {
        ($($name:ident = $number:ident,)*) => {
            [$((stringify!($name), libc::$number)),*]
        };
    }
    let numbers = numbers! {
        chdir = SYS_chdir,
        clone3 = SYS_clone3,
        close = SYS_close,
        close_range = SYS_close_range,
        copy_file_range = SYS_copy_file_range,
        eventfd2 = SYS_eventfd2,
        faccessat = SYS_faccessat,
        faccessat2 = SYS_faccessat2,
        fadvise64 = SYS_fadvise64,
        fallocate = SYS_fallocate,
        fchmod = SYS_fchmod,
        fchmodat = SYS_fchmodat,
        fcntl = SYS_fcntl,
        fdatasync = SYS_fdatasync,
        flock = SYS_flock,
        fstat = SYS_fstat,
        fsync = SYS_fsync,
        ftruncate = SYS_ftruncate,
        getcwd = SYS_getcwd,
        getdents64 = SYS_getdents64,
        getrandom = SYS_getrandom,
        gettid = SYS_gettid,
        ioctl = SYS_ioctl,
        kill = SYS_kill,
        linkat = SYS_linkat,
        lseek = SYS_lseek,
        madvise = SYS_madvise,
        memfd_create = SYS_memfd_create,
        mkdirat = SYS_mkdirat,
        newfstatat = SYS_newfstatat,
        openat2 = SYS_openat2,
        pidfd_open = SYS_pidfd_open,
        pidfd_send_signal = SYS_pidfd_send_signal,
        pipe2 = SYS_pipe2,
        ppoll = SYS_ppoll,
        prctl = SYS_prctl,
        pread64 = SYS_pread64,
        prlimit64 = SYS_prlimit64,
        pwrite64 = SYS_pwrite64,
        readlinkat = SYS_readlinkat,
        recvfrom = SYS_recvfrom,
        renameat2 = SYS_renameat2,
        rt_sigaction = SYS_rt_sigaction,
        rt_sigprocmask = SYS_rt_sigprocmask,
        sched_getaffinity = SYS_sched_getaffinity,
        sched_yield = SYS_sched_yield,
        sendto = SYS_sendto,
        setpgid = SYS_setpgid,
        sigaltstack = SYS_sigaltstack,
        socketpair = SYS_socketpair,
        statfs = SYS_statfs,
        statx = SYS_statx,
        symlinkat = SYS_symlinkat,
        syncfs = SYS_syncfs,
        umask = SYS_umask,
        unlinkat = SYS_unlinkat,
        utimensat = SYS_utimensat,
        wait4 = SYS_wait4,
        waitid = SYS_waitid,
    };
    // Calls that newer architectures do not have.
    #[cfg(target_arch = "x86_64")]
    let old = numbers! {
        access = SYS_access,
        chmod = SYS_chmod,
        dup2 = SYS_dup2,
        link = SYS_link,
        mkdir = SYS_mkdir,
        open = SYS_open,
        poll = SYS_poll,
        readlink = SYS_readlink,
        rename = SYS_rename,
        rmdir = SYS_rmdir,
        symlink = SYS_symlink,
        unlink = SYS_unlink,
        vfork = SYS_vfork,
    };
    #[cfg(not(target_arch = "x86_64"))]
    let old: [(&str, libc::c_long); 0] = [];
    let mut all = numbers.iter().chain(&old);
    all.find(|(n, _)| *n == name).map(|(_, number)| *number)
}

fn later(millis: u64, words: &[OsString]) -> Result {
    if IS_LAUNCHED.load(Ordering::SeqCst) {
        ready()?;
    }
    std::thread::sleep(Duration::from_millis(millis));
    write_stdout(&[line(words), b"\n".to_vec()].concat())
}

fn sleep(millis: u64) -> Result {
    ready()?;
    std::thread::sleep(Duration::from_millis(millis));
    Ok(())
}

fn wait() -> Result {
    ready()?;
    loop {
        std::thread::park();
    }
}

fn ignore_term() -> Result {
    let mut signals = signal_hook::iterator::Signals::new([libc::SIGTERM])?;
    ready()?;
    for _ in signals.forever() {
        write_stdout(b"term\n")?;
    }
    Ok(())
}

/// Writes a line for each TERM, and exits 50 ms after the first.
fn on_term(file: &Path) -> Result {
    let mut file = OpenOptions::new().create(true).append(true).open(file)?;
    let mut signals = signal_hook::iterator::Signals::new([libc::SIGTERM])?;
    ready()?;
    for _ in signals.forever() {
        file.write_all(b"term\n")?;
        std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            std::process::exit(0);
        });
    }
    Ok(())
}

fn write(file: &Path) -> Result {
    let mut file = OpenOptions::new().create(true).append(true).open(file)?;
    file.write_all(b"begin\n")?;
    ready()?;
    loop {
        file.write_all(b"more\n")?;
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn launch(words: &[OsString]) -> Result {
    let end = words.iter().position(|word| word == "--");
    let (how, command) = words.split_at(end.ok_or("`--` is missing")?);
    let is = |wanted: &str| how.iter().any(|word| word == wanted);
    let mut child = Command::new(std::env::current_exe()?);
    if is("fork") {
        // A second launcher, which ends when its child is ready.
        let rest = how.iter().filter(|word| *word != "fork" && *word != "stay");
        child.arg("launch").args(rest).args(command);
        if !child.status()?.success() {
            return Err("the second launcher failed".into());
        }
    } else {
        let (mut ours, theirs) = UnixStream::pair()?;
        child.arg(LAUNCHED).args(is("session").then_some("session"));
        child
            .args(&command[1..])
            .stdin(std::os::fd::OwnedFd::from(theirs));
        if is("mute") {
            child.stdout(Stdio::null()).stderr(Stdio::null());
        }
        if is("bare") {
            child.env_clear();
        }
        child.spawn()?;
        drop(child);
        ours.read_exact(&mut [0])?;
    }
    if is("stay") { wait() } else { Ok(()) }
}

fn drive(words: &[OsString]) -> Result<ExitCode> {
    let end = words.iter().position(|word| word == "--");
    let (options, commands) = words.split_at(end.ok_or("`--` is missing")?);
    let root = Path::new(options.last().ok_or("the root is missing")?);
    let local = Local::new(Root::open(root)?, root.join("tmp"), UserDirs::default());
    let local = local.with_watchdog("/proc/self/exe".into());
    let is_interactive = options.iter().any(|word| word == "--terminal");
    let cancel = Cancel::new();
    let stop = cancel.clone();
    let mut signals = signal_hook::iterator::Signals::new([libc::SIGINT, libc::SIGTERM])?;
    std::thread::spawn(move || signals.forever().for_each(|_| stop.raise()));
    let results: Vec<String> = std::thread::scope(|scope| {
        let commands = commands[1..].split(|word| word == "++");
        let (local, cancel) = (&local, &cancel);
        let run = |argv| scope.spawn(move || execute(local, argv, is_interactive, cancel));
        let running: Vec<_> = commands.map(run).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, String>| thread.join();
        running.into_iter().flat_map(join).collect()
    });
    eprint(&results.join("; "));
    eprint(&peak_memory()?);
    Ok(ExitCode::SUCCESS)
}

/// Executes one command, and describes its end and the processes it left behind.
fn execute(local: &Local, argv: &[OsString], interactive: bool, cancel: &Cancel) -> String {
    let action = action(argv.to_vec());
    let task = Task {
        name: "driven",
        action: &action,
        timeout: None,
        interactive,
        tracing: Tracing::Off,
    };
    match local.execute(&task, &mut |bytes| drop(write_stdout(bytes)), cancel) {
        Ok(Execution {
            end, left_behind, ..
        }) => match end {
            End::Exited(status) => format!("{status}, left {left_behind}"),
            end => format!("{end:?}, left {left_behind}"),
        },
        Err(error) => error.to_string(),
    }
}

fn action(argv: Vec<OsString>) -> Action {
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        Some((name, value))
    });
    Action {
        commands: vec![ResolvedCommand::Run(argv)],
        dir: RelPath::root(),
        env: BTreeMap::new(),
        inherited: variables.collect(),
        secrets: BTreeMap::new(),
        tools: BTreeMap::new(),
        inputs: Vec::new(),
        needs: BTreeMap::new(),
        ran: BTreeMap::new(),
        outputs: Vec::new(),
    }
}

fn peak_memory() -> Result<String> {
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    Ok(peak.ok_or("no VmHWM")?.to_owned())
}
