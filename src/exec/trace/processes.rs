//! Tracks which program each process runs, and which program executed that one.
//!
//! A process is known when it executes a program. One that was only forked runs the program
//! of its parent, which `/proc` names.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::Process;

/// The most programs in a trace, counted once for each caller.
const MOST_PROGRAMS: usize = 1 << 16;
/// The number of known processes from which dead ones are forgotten.
const MOST_KNOWN: usize = 1 << 14;
/// The most ancestors that are searched for one that is known.
const MOST_ANCESTORS: usize = 64;
/// The longest first line of a script that the kernel reads, in bytes.
const FIRST_LINE: usize = 256;

/// The programs that were executed, and the processes that run them.
#[derive(Debug, Default)]
pub(super) struct Processes {
    list: Vec<Process>,
    ids: HashMap<Process, u32>,
    /// The program of each known process and thread.
    known: HashMap<u32, u32>,
    /// The number of known processes at which to forget dead ones next.
    forget_at: usize,
}

impl Processes {
    /// Returns the executed programs.
    pub(super) fn into_list(self) -> Vec<Process> {
        self.list
    }

    /// Returns the program that a thread runs, if it is known.
    pub(super) fn of(&mut self, thread: u32) -> Option<u32> {
        let mut next = thread;
        for _ in 0..MOST_ANCESTORS {
            if let Some(program) = self.known.get(&next).copied() {
                self.learn(thread, program);
                return Some(program);
            }
            let status = Status::read(next)?;
            next = if status.process == next {
                status.parent
            } else {
                status.process
            };
        }
        None
    }

    /// Notes that a thread's process executes a file. Returns false if there are too many
    /// programs.
    pub(super) fn execute(&mut self, thread: u32, file: &[u8], real: &[u8]) -> bool {
        let process = Status::read(thread).map_or(thread, |status| status.process);
        let parent = self.of(process);
        let path = |bytes| PathBuf::from(OsStr::from_bytes(bytes));
        let (file, real) = (path(file), path(real));
        let interpreter = interpreter(&real);
        let Some(mut program) = self.intern(Process { file, real, parent }) else {
            return false;
        };
        if let Some(file) = interpreter {
            let real = file.canonicalize().unwrap_or_else(|_| file.clone());
            let parent = Some(program);
            program = match self.intern(Process { file, real, parent }) {
                Some(program) => program,
                None => return false,
            };
        }
        self.known.remove(&thread);
        self.learn(process, program);
        true
    }

    fn learn(&mut self, process: u32, program: u32) {
        if self.known.len() >= self.forget_at.max(MOST_KNOWN) {
            let is_alive = |process: &u32| Path::new(&format!("/proc/{process}")).exists();
            self.known.retain(|process, _| is_alive(process));
            self.forget_at = 2 * self.known.len();
        }
        self.known.insert(process, program);
    }

    fn intern(&mut self, process: Process) -> Option<u32> {
        if let Some(id) = self.ids.get(&process) {
            return Some(*id);
        }
        if self.list.len() >= MOST_PROGRAMS {
            return None;
        }
        let id = u32::try_from(self.list.len()).ok()?;
        self.list.push(process.clone());
        self.ids.insert(process, id);
        Some(id)
    }
}

/// The relatives of a thread.
struct Status {
    /// The process that it belongs to.
    process: u32,
    /// The parent of that process.
    parent: u32,
}

impl Status {
    fn read(thread: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line?.trim().parse().ok()
        };
        Some(Self {
            process: field("Tgid:")?,
            parent: field("PPid:").filter(|parent| *parent > 1)?,
        })
    }
}

/// Returns the interpreter that the first line of a script names.
fn interpreter(file: &Path) -> Option<PathBuf> {
    let mut line = Vec::with_capacity(FIRST_LINE);
    let file = File::open(file).ok()?;
    file.take(FIRST_LINE as u64).read_to_end(&mut line).ok()?;
    let line = line
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let path = line
        .trim_ascii_start()
        .split(u8::is_ascii_whitespace)
        .next()?;
    (!path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_line_names_the_interpreter() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("script");
        for (text, expected) in [
            ("#!/bin/sh\nexit", Some("/bin/sh")),
            ("#! /usr/bin/env node\n", Some("/usr/bin/env")),
            ("#!", None),
            ("\x7fELF", None),
        ] {
            fs::write(&file, text).unwrap();
            assert_eq!(interpreter(&file), expected.map(PathBuf::from), "{text:?}");
        }
    }

    #[test]
    fn forked_process_runs_the_program_of_its_parent() {
        let mut processes = Processes::default();
        let (own, parent) = (std::process::id(), std::os::unix::process::parent_id());
        processes.known.insert(parent, 7);
        assert_eq!(processes.of(own), Some(7));
    }

    #[test]
    fn dead_processes_are_forgotten() {
        let mut processes = Processes::default();
        // No process has such a number.
        for dead in 0..MOST_KNOWN {
            processes.learn(1 << 30 | u32::try_from(dead).unwrap(), 0);
        }
        processes.learn(std::process::id(), 1);
        assert_eq!(processes.known.len(), 1);
    }
}
