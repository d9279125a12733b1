//! Reads facts about processes from `/proc`. It signals no process; `tree` interprets the
//! facts.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::OnceLock;

use rustix::process::{Pid, WaitId, WaitIdOptions};

/// The kernel's list of this process's children. It stays open because it is read at the
/// end of every command, even if no descriptor is left.
static CHILDREN: OnceLock<File> = OnceLock::new();

/// The highest number of a process on any system.
const MAX_PID: i32 = 1 << 22;

/// Opens the list of children, once.
pub(super) fn open_children() -> io::Result<()> {
    if CHILDREN.get().is_some() {
        return Ok(());
    }
    let id = std::process::id();
    if let Some(list) = open_list(&format!("/proc/self/task/{id}/children"))? {
        // An error means that another thread opened it first.
        let _ = CHILDREN.set(list);
    }
    Ok(())
}

/// Opens the list at `path`. Returns `None` on a kernel without CONFIG_PROC_CHILDREN.
fn open_list(path: &str) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// Returns the children that this process adopted as a subreaper and those that its main
/// thread started, including zombies.
///
/// The kernel gives orphans to the main thread. The list is complete only while no child
/// is reaped: the caller must hold the lock under which children are reaped.
pub(super) fn children() -> io::Result<Vec<Pid>> {
    match CHILDREN.get() {
        Some(list) => Ok(numbers(&read(list)?)),
        None if !finds_processes() => Ok(children_among_numbers()),
        None => children_among_all(),
    }
}

/// Finds the children by trying every number that the system assigned since this process
/// began, for systems without `/proc`.
fn children_among_numbers() -> Vec<Pid> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    // Processes and threads share one sequence of numbers, and this thread is the newest.
    let newest = std::thread::scope(|threads| {
        let newest = threads.spawn(|| rustix::thread::gettid().as_raw_nonzero().get());
        newest.join().unwrap_or(MAX_PID)
    });
    let (until, from_start) = if newest > own {
        (newest, 0)
    } else {
        // The sequence began again.
        (MAX_PID, newest)
    };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let is_child = |pid: &Pid| rustix::process::waitid(WaitId::Pid(*pid), options).is_ok();
    let numbers = (own + 1..=until).chain(1..=from_start);
    numbers.filter_map(Pid::from_raw).filter(is_child).collect()
}

/// Finds the children by reading the parent of every process, for kernels without the list.
fn children_among_all() -> io::Result<Vec<Pid>> {
    let id = std::process::id();
    Ok(all()?.filter(|pid| parent(*pid) == Some(id)).collect())
}

/// Reads the list from its beginning, usually with one system call.
fn read(list: &File) -> io::Result<Vec<u8>> {
    let mut text = vec![0; 1 << 10];
    let mut length = 0;
    loop {
        // The kernel generates this file while it is read. A short read means its end.
        length += list.read_at(&mut text[length..], length as u64)?;
        if length < text.len() {
            text.truncate(length);
            return Ok(text);
        }
        text.resize(2 * length, 0);
    }
}

fn numbers(text: &[u8]) -> Vec<Pid> {
    text.split(|byte| *byte == b' ')
        .filter_map(|word| pid(std::str::from_utf8(word).ok()?))
        .collect()
}

/// Returns true if processes other than those that fbuild started can be found.
pub fn finds_processes() -> bool {
    fs::exists("/proc/self").unwrap_or(false)
}

/// Returns all processes of the system.
pub(super) fn all() -> io::Result<impl Iterator<Item = Pid>> {
    let entries = fs::read_dir("/proc")?.flatten();
    Ok(entries.filter_map(|entry| pid(entry.file_name().to_str()?)))
}

/// The value of a variable in another process's environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    /// The variable has this value.
    Set(String),
    /// The variable is not set, or the environment may not be read.
    Unset,
    /// The process is in `execve` and has no environment at the moment.
    Starting,
    /// The process is dead or exiting.
    Dying,
}

/// Reads a variable from the environment with which the program of `pid` was started.
pub(super) fn variable(pid: Pid, name: &str) -> Variable {
    let environ = match fs::read(format!("/proc/{}/environ", pid.as_raw_pid())) {
        Ok(environ) if !environ.is_empty() => environ,
        Ok(_) => return classify_empty(stat(pid)),
        Err(error) => return classify_unreadable(&error, stat(pid)),
    };
    environ
        .split(|byte| *byte == 0)
        .find_map(|variable| {
            let rest = variable.strip_prefix(name.as_bytes())?;
            rest.strip_prefix(b"=")
        })
        .map_or(Variable::Unset, |value| {
            Variable::Set(String::from_utf8_lossy(value).into_owned())
        })
}

/// Distinguishes a process of another user from a dead one: without memory, the system can
/// no longer check its owner, and answers EACCES, too.
fn classify_unreadable(error: &io::Error, stat: io::Result<Vec<String>>) -> Variable {
    let is_dead = match stat {
        Ok(fields) => has_flag(&fields, EXITING),
        Err(error) => is_gone(&error),
    };
    if is_gone(error) || is_dead {
        Variable::Dying
    } else {
        Variable::Unset
    }
}

/// Distinguishes a process without variables from one that is starting or dying, all of
/// which show an empty environment.
fn classify_empty(stat: io::Result<Vec<String>>) -> Variable {
    let fields = match stat {
        Ok(fields) => fields,
        Err(error) if is_gone(&error) => return Variable::Dying,
        Err(_) => return Variable::Unset,
    };
    // Field 51 is `env_end`, the address of the end of the environment.
    match fields.get(51 - FIRST_FIELD) {
        _ if has_flag(&fields, EXITING) => Variable::Dying,
        Some(end) if end == "0" && !has_flag(&fields, KERNEL_THREAD) => Variable::Starting,
        _ => Variable::Unset,
    }
}

/// The flag of a process that is exiting (PF_EXITING).
const EXITING: u64 = 0x4;
/// The flag of a kernel thread (PF_KTHREAD), which never has variables.
const KERNEL_THREAD: u64 = 0x20_0000;

/// Returns true if a process is dead or exiting.
pub(super) fn is_dying(pid: Pid) -> bool {
    match stat(pid) {
        Ok(fields) => has_flag(&fields, EXITING),
        // Without `/proc`, every process seems to be gone.
        Err(error) => is_gone(&error) && finds_processes(),
    }
}

/// Returns true if a file in `/proc` could not be read because its process has ended.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

fn has_flag(fields: &[String], flag: u64) -> bool {
    fields
        .get(9 - FIRST_FIELD)
        .and_then(|flags| flags.parse::<u64>().ok())
        .is_some_and(|flags| flags & flag != 0)
}

fn parent(pid: Pid) -> Option<u32> {
    stat(pid).ok()?.get(4 - FIRST_FIELD)?.parse().ok()
}

/// The number of the first field that [`stat`] returns, as in `proc_pid_stat(5)`.
const FIRST_FIELD: usize = 3;

/// Returns the fields of `/proc/PID/stat` after the process's name. The name is in
/// parentheses and may contain any character, parentheses included.
fn stat(pid: Pid) -> io::Result<Vec<String>> {
    let stat = fs::read(format!("/proc/{}/stat", pid.as_raw_pid()))?;
    let end = stat.iter().rposition(|byte| *byte == b')');
    let rest = String::from_utf8_lossy(&stat[end.map_or(0, |end| end + 1)..]);
    Ok(rest.split_ascii_whitespace().map(str::to_owned).collect())
}

fn pid(text: &str) -> Option<Pid> {
    Pid::from_raw(text.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn no_process_stays_in_execve() {
        let is_starting = |pid: &Pid| variable(*pid, "PATH") == Variable::Starting;
        let starting: Vec<Pid> = all().unwrap().filter(is_starting).collect();
        // On a busy machine a process may wait long for a processor.
        let limit = Instant::now() + Duration::from_secs(20);
        while starting.iter().any(is_starting) {
            assert!(Instant::now() < limit, "{starting:?} are still in execve");
            std::thread::yield_now();
        }
    }

    #[test]
    fn children_are_found_by_their_numbers() {
        #[expect(clippy::disallowed_methods, reason = "this is a test")]
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        let is_found = children_among_numbers().contains(&pid);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_found);
        assert!(!children_among_numbers().contains(&pid));
    }

    #[test]
    fn own_process_is_listed() {
        let me = rustix::process::getpid();
        assert!(all().unwrap().any(|pid| pid == me));
    }

    #[test]
    fn parent_is_read_from_stat() {
        let parent_pid = rustix::process::getppid().unwrap();
        let expected = u32::try_from(parent_pid.as_raw_pid()).ok();
        assert_eq!(parent(rustix::process::getpid()), expected);
    }

    #[test]
    fn variable_is_found_by_its_whole_name() {
        let me = rustix::process::getpid();
        assert!(matches!(variable(me, "PATH"), Variable::Set(_)));
        assert_eq!(variable(me, "PAT"), Variable::Unset);
    }

    #[test]
    fn empty_environment_is_classified_by_stat() {
        let classify = |flags: u64, end: &str| {
            let mut fields = vec!["1".to_owned(); 50];
            fields[9 - FIRST_FIELD] = flags.to_string();
            fields[51 - FIRST_FIELD] = end.to_owned();
            classify_empty(Ok(fields))
        };
        assert_eq!(classify(0, "140730000000000"), Variable::Unset);
        assert_eq!(classify(0, "0"), Variable::Starting);
        assert_eq!(classify(KERNEL_THREAD, "0"), Variable::Unset);
        assert_eq!(classify(EXITING, "0"), Variable::Dying);
        let me = rustix::process::getpid();
        assert_eq!(classify_empty(stat(me)), Variable::Unset);
    }

    #[test]
    fn empty_environment_without_stat_is_unset_or_dying() {
        assert_eq!(classify_empty(Ok(Vec::new())), Variable::Unset);
        let failed = |errno| classify_empty(Err(io::Error::from_raw_os_error(errno)));
        assert_eq!(failed(libc::ESRCH), Variable::Dying);
        assert_eq!(failed(libc::EACCES), Variable::Unset);
    }

    #[test]
    fn unreadable_environment_of_a_dead_process_is_dying() {
        let refused = io::Error::from_raw_os_error(libc::EACCES);
        let fields = |flags: u64| Ok(vec![flags.to_string(); 10]);
        assert_eq!(classify_unreadable(&refused, fields(0)), Variable::Unset);
        assert_eq!(
            classify_unreadable(&refused, fields(EXITING)),
            Variable::Dying
        );
        let gone = || io::Error::from_raw_os_error(libc::ESRCH);
        assert_eq!(classify_unreadable(&refused, Err(gone())), Variable::Dying);
        assert_eq!(classify_unreadable(&gone(), fields(0)), Variable::Dying);
    }

    #[test]
    fn list_of_any_length_is_read_whole() {
        let mut list = tempfile::tempfile().unwrap();
        let mut text = String::new();
        for number in 1..2000 {
            let expected: Vec<i32> = (1..number).collect();
            if [1, 2, 10, 1000, 1999].contains(&number) || (1020..=1030).contains(&text.len()) {
                let read = read(&list).unwrap();
                assert_eq!(String::from_utf8(read.clone()).unwrap(), text);
                let numbers: Vec<i32> = numbers(&read).iter().map(|p| p.as_raw_pid()).collect();
                assert_eq!(numbers, expected);
            }
            let word = format!("{number} ");
            io::Write::write_all(&mut list, word.as_bytes()).unwrap();
            text += &word;
        }
    }

    #[test]
    fn empty_dead_and_reaped_processes_are_distinguished() {
        #[expect(clippy::disallowed_methods, reason = "this is a test")]
        let mut command = std::process::Command::new("/bin/cat");
        command.env_clear().stdin(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let pid = Pid::from_child(&child);
        assert_eq!(parent(pid), Some(std::process::id()));
        let children = children_among_all().unwrap();
        assert!(children.contains(&pid));
        assert!(!children.contains(&rustix::process::getpid()));
        while variable(pid, "PATH") == Variable::Starting {
            std::thread::yield_now();
        }
        assert_eq!(variable(pid, "PATH"), Variable::Unset);
        assert!(!is_dying(pid));
        child.kill().unwrap();
        while !is_dying(pid) {
            std::thread::yield_now();
        }
        assert_eq!(variable(pid, "PATH"), Variable::Dying, "it is a zombie");
        child.wait().unwrap();
        assert!(is_dying(pid));
        assert_eq!(variable(pid, "PATH"), Variable::Dying);
    }

    #[test]
    fn missing_list_is_none_and_other_errors_are_kept() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        assert!(open_list(path).unwrap().is_some());
        assert!(open_list(&format!("{path}-none")).unwrap().is_none());
        assert!(open_list(&format!("{path}/below")).is_err());
    }

    #[test]
    fn only_missing_process_errors_count_as_gone() {
        for (errno, expected) in [
            (libc::ESRCH, true),
            (libc::ENOENT, true),
            (libc::EACCES, false),
            (libc::EMFILE, false),
        ] {
            assert_eq!(is_gone(&io::Error::from_raw_os_error(errno)), expected);
        }
    }
}
