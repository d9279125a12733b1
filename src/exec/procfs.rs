//! What `/proc` says about processes. It judges none of them and signals none.

use std::fs::{self, File};
use std::io::{self, Read as _};

use rustix::process::Pid;

/// Returns the children that this process has adopted as a sub-reaper, and those that its
/// main thread started; dead ones that nobody reaped included.
///
/// Orphans are handed to the main thread. The list is only complete while nobody reaps:
/// the caller holds the lock under which that is done.
pub(super) fn children() -> Vec<Pid> {
    let id = std::process::id();
    match read(&format!("/proc/self/task/{id}/children")) {
        Ok(text) => text.split_ascii_whitespace().filter_map(pid).collect(),
        // A kernel without CONFIG_PROC_CHILDREN.
        Err(_) => all().filter(|pid| parent(*pid) == Some(id)).collect(),
    }
}

/// Reads a small file with as few system calls as possible: it is mostly empty.
fn read(path: &str) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut start = [0; 512];
    let length = file.read(&mut start)?;
    let mut bytes = start[..length].to_vec();
    if length > 0 {
        file.read_to_end(&mut bytes)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns every process there is.
pub(super) fn all() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| pid(entry.file_name().to_str()?))
}

/// Returns the value of a variable in the environment with which `pid` was started; `None`
/// also when the process is dead or not ours to look at.
pub(super) fn variable(pid: Pid, name: &str) -> Option<String> {
    let environ = fs::read(format!("/proc/{}/environ", pid.as_raw_pid())).ok()?;
    let mut variables = environ.split(|byte| *byte == 0);
    let value = variables.find_map(|variable| {
        let rest = variable.strip_prefix(name.as_bytes())?;
        rest.strip_prefix(b"=")
    })?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// Returns the parent of a process: the second field after its name, which stands in
/// brackets and may hold anything.
fn parent(pid: Pid) -> Option<u32> {
    let stat = fs::read(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[end + 1..]).ok()?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn pid(text: &str) -> Option<Pid> {
    Pid::from_raw(text.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_with_its_parent_and_its_environment() {
        let me = rustix::process::getpid();
        assert!(all().any(|pid| pid == me));
        let above = rustix::process::getppid().unwrap();
        assert_eq!(parent(me), u32::try_from(above.as_raw_pid()).ok());
        assert!(variable(me, "PATH").is_some());
        assert_eq!(variable(me, "PAT"), None);
    }
}
