//! What `/proc` says about processes. It judges none of them and signals none.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::OnceLock;

use rustix::process::Pid;

/// The list of this process's children, held open: it is asked for at the end of every
/// command, and must not be out of reach when descriptors have run out.
static CHILDREN: OnceLock<File> = OnceLock::new();

/// Opens the list of children, once.
pub(super) fn open_children() -> io::Result<()> {
    if CHILDREN.get().is_some() {
        return Ok(());
    }
    let id = std::process::id();
    if let Some(list) = open_list(&format!("/proc/self/task/{id}/children"))? {
        // Another thread may have been faster.
        let _ = CHILDREN.set(list);
    }
    Ok(())
}

/// `None` where there is no such list: a kernel without CONFIG_PROC_CHILDREN.
fn open_list(path: &str) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// Returns the children that this process has adopted as a sub-reaper, and those that its
/// main thread started; dead ones that nobody reaped included.
///
/// Orphans are handed to the main thread. The list is only complete while nobody reaps:
/// the caller holds the lock under which that is done.
pub(super) fn children() -> io::Result<Vec<Pid>> {
    match CHILDREN.get() {
        Some(list) => Ok(numbers(&read(list)?)),
        None => children_among_all(),
    }
}

/// Finds the children where there is no list of them.
fn children_among_all() -> io::Result<Vec<Pid>> {
    let id = std::process::id();
    let all = all()?;
    Ok(all.filter(|pid| parent(*pid) == Some(id)).collect())
}

/// Reads the list from its beginning, in one go if it is short, which it mostly is.
fn read(list: &File) -> io::Result<Vec<u8>> {
    let mut text = vec![0; 1 << 10];
    let mut length = 0;
    loop {
        // This file is made as it is read; when it gives less than it could, it is at its
        // end.
        length += list.read_at(&mut text[length..], length as u64)?;
        if length < text.len() {
            text.truncate(length);
            return Ok(text);
        }
        text.resize(2 * length, 0);
    }
}

fn numbers(text: &[u8]) -> Vec<Pid> {
    let words = text.split(|byte| *byte == b' ');
    words
        .filter_map(|word| pid(std::str::from_utf8(word).ok()?))
        .collect()
}

/// Returns every process there is.
pub(super) fn all() -> io::Result<impl Iterator<Item = Pid>> {
    let entries = fs::read_dir("/proc")?.flatten();
    Ok(entries.filter_map(|entry| pid(entry.file_name().to_str()?)))
}

/// What the environment of a process says about a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    /// It has this value.
    Set(String),
    /// There is none, or the process is not ours to look at.
    Unset,
    /// The process is becoming another program, and has no environment at the moment.
    Starting,
    /// The process is dead or about to be.
    Dying,
}

/// Returns a variable in the environment with which the program of `pid` was started.
pub(super) fn variable(pid: Pid, name: &str) -> Variable {
    let environ = match fs::read(format!("/proc/{}/environ", pid.as_raw_pid())) {
        Ok(environ) if !environ.is_empty() => environ,
        Err(error) if !is_gone(&error) => return Variable::Unset,
        _ => return why_empty(stat(pid)),
    };
    let mut variables = environ.split(|byte| *byte == 0);
    let value = variables.find_map(|variable| {
        let rest = variable.strip_prefix(name.as_bytes())?;
        rest.strip_prefix(b"=")
    });
    value.map_or(Variable::Unset, |value| {
        Variable::Set(String::from_utf8_lossy(value).into_owned())
    })
}

/// Tells a process without variables from one that has, for the moment, no memory to keep
/// them in, by what the system says of it.
fn why_empty(stat: io::Result<Vec<String>>) -> Variable {
    let fields = match stat {
        Ok(fields) => fields,
        Err(error) if is_gone(&error) => return Variable::Dying,
        Err(_) => return Variable::Unset,
    };
    match fields.get(51 - FIRST_FIELD) {
        _ if has_flag(&fields, EXITING) => Variable::Dying,
        Some(end) if end == "0" && !has_flag(&fields, KERNEL_THREAD) => Variable::Starting,
        _ => Variable::Unset,
    }
}

/// The flag of a process that has begun to exit (PF_EXITING).
const EXITING: u64 = 0x4;
/// The flag of a part of the kernel (PF_KTHREAD), which never has variables.
const KERNEL_THREAD: u64 = 0x20_0000;

/// Tells whether a process is dead or about to be.
pub(super) fn is_dying(pid: Pid) -> bool {
    match stat(pid) {
        Ok(fields) => has_flag(&fields, EXITING),
        Err(error) => is_gone(&error),
    }
}

/// Tells whether a file in `/proc` could not be read because its process is gone.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

fn has_flag(fields: &[String], flag: u64) -> bool {
    let flags = fields.get(9 - FIRST_FIELD);
    let flags = flags.and_then(|flags| flags.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & flag != 0)
}

fn parent(pid: Pid) -> Option<u32> {
    stat(pid).ok()?.get(4 - FIRST_FIELD)?.parse().ok()
}

/// The number of the first field that [`stat`] returns, as `proc_pid_stat(5)` counts.
const FIRST_FIELD: usize = 3;

/// Returns the fields of `/proc/PID/stat` that follow the process's name, which stands in
/// brackets and may hold anything.
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
    fn nothing_is_starting_for_long() {
        let is_starting = |pid: &Pid| variable(*pid, "PATH") == Variable::Starting;
        let starting: Vec<Pid> = all().unwrap().filter(is_starting).collect();
        // Others may have to wait long for a processor.
        let limit = Instant::now() + Duration::from_secs(20);
        while starting.iter().any(is_starting) {
            assert!(Instant::now() < limit, "{starting:?} never become anything");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_process_is_found_with_its_parent_and_its_environment() {
        let me = rustix::process::getpid();
        assert!(all().unwrap().any(|pid| pid == me));
        let above = rustix::process::getppid().unwrap();
        assert_eq!(parent(me), u32::try_from(above.as_raw_pid()).ok());
        assert!(matches!(variable(me, "PATH"), Variable::Set(_)));
        assert_eq!(variable(me, "PAT"), Variable::Unset);
        assert_eq!(why_empty(stat(me)), Variable::Unset);
    }

    #[test]
    fn why_a_process_shows_no_variables_is_told_by_what_the_system_says_of_it() {
        let said = |flags: u64, end: &str| {
            let mut fields = vec!["1".to_owned(); 50];
            fields[9 - FIRST_FIELD] = flags.to_string();
            fields[51 - FIRST_FIELD] = end.to_owned();
            why_empty(Ok(fields))
        };
        assert_eq!(said(0, "140730000000000"), Variable::Unset);
        assert_eq!(said(0, "0"), Variable::Starting);
        assert_eq!(said(KERNEL_THREAD, "0"), Variable::Unset);
        assert_eq!(said(EXITING, "0"), Variable::Dying);
        assert_eq!(why_empty(Ok(Vec::new())), Variable::Unset);
        let refused = |errno| why_empty(Err(io::Error::from_raw_os_error(errno)));
        assert_eq!(refused(libc::ESRCH), Variable::Dying);
        assert_eq!(refused(libc::EACCES), Variable::Unset);
    }

    #[test]
    fn a_list_of_any_length_is_read_whole_and_its_numbers_are_processes() {
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
    fn a_process_without_variables_is_told_from_one_that_is_dead_and_one_that_is_gone() {
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
        assert_eq!(variable(pid, "PATH"), Variable::Dying, "nobody reaped it");
        child.wait().unwrap();
        assert!(is_dying(pid));
        assert_eq!(variable(pid, "PATH"), Variable::Dying);
    }

    #[test]
    fn a_list_that_is_not_there_is_none_and_one_that_cannot_be_opened_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        assert!(open_list(path).unwrap().is_some());
        assert!(open_list(&format!("{path}-none")).unwrap().is_none());
        assert!(open_list(&format!("{path}/below")).is_err());
    }

    #[test]
    fn only_a_process_that_is_gone_counts_as_gone() {
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
