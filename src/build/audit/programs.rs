//! Decides which executed programs a target must name as tools: those that its commands
//! execute themselves. A program that a declared tool executes belongs to that tool, and the
//! utilities of every system are not reported.

use std::collections::BTreeMap;
use std::path::Path;

use crate::buildfile::model::Target;
use crate::exec::Process;
use crate::path::{Root, escape};

/// Programs that every Linux system has in its base installation. Their versions rarely
/// decide a result.
const BASE: &[&str] = &[
    "[",
    "awk",
    "base64",
    "basename",
    "bash",
    "busybox",
    "bunzip2",
    "bzip2",
    "cat",
    "chgrp",
    "chmod",
    "chown",
    "cksum",
    "cmp",
    "comm",
    "cp",
    "csplit",
    "cut",
    "dash",
    "date",
    "dd",
    "df",
    "diff",
    "diff3",
    "dir",
    "dirname",
    "du",
    "echo",
    "egrep",
    "env",
    "expand",
    "expr",
    "factor",
    "false",
    "fgrep",
    "find",
    "flock",
    "fmt",
    "fold",
    "gawk",
    "getopt",
    "grep",
    "groups",
    "gunzip",
    "gzip",
    "head",
    "hostname",
    "iconv",
    "id",
    "install",
    "join",
    "kill",
    "link",
    "ln",
    "locale",
    "logger",
    "logname",
    "ls",
    "mawk",
    "md5sum",
    "mkdir",
    "mkfifo",
    "mknod",
    "mktemp",
    "more",
    "mv",
    "nice",
    "nl",
    "nohup",
    "nproc",
    "numfmt",
    "od",
    "paste",
    "pathchk",
    "pr",
    "printenv",
    "printf",
    "ps",
    "pwd",
    "readlink",
    "realpath",
    "rev",
    "rm",
    "rmdir",
    "sed",
    "seq",
    "setsid",
    "sh",
    "sha1sum",
    "sha224sum",
    "sha256sum",
    "sha384sum",
    "sha512sum",
    "shred",
    "shuf",
    "sleep",
    "sort",
    "split",
    "stat",
    "stdbuf",
    "stty",
    "sum",
    "sync",
    "tac",
    "tail",
    "tar",
    "tee",
    "test",
    "timeout",
    "touch",
    "tr",
    "true",
    "truncate",
    "tsort",
    "tty",
    "uname",
    "unexpand",
    "uniq",
    "unlink",
    "users",
    "uuidgen",
    "vdir",
    "wc",
    "which",
    "who",
    "whoami",
    "xargs",
    "yes",
    "zcat",
];

/// Returns the programs that a target must name and does not, by name.
pub(super) fn undeclared<'t>(
    processes: &'t [Process],
    target: &Target,
    root: &Root,
) -> BTreeMap<String, &'t Process> {
    let mut found = BTreeMap::new();
    // Callers come first, so the state of a caller is known.
    let mut is_covered: Vec<bool> = Vec::with_capacity(processes.len());
    for process in processes {
        let parent = process
            .parent
            .and_then(|parent| is_covered.get(parent as usize));
        let kind = if parent.copied().unwrap_or(false) {
            Kind::Covered
        } else {
            Kind::of(process, target, root)
        };
        if kind == Kind::Undeclared {
            found.entry(name(&process.file)).or_insert(process);
        }
        is_covered.push(matches!(kind, Kind::Covered | Kind::Undeclared));
    }
    found
}

/// The relation of a program to a target.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It is a declared tool, or one executes it.
    Covered,
    /// It is a utility, or a file of the project: the programs that it executes count.
    Transparent,
    /// It is neither.
    Undeclared,
}

impl Kind {
    fn of(process: &Process, target: &Target, root: &Root) -> Self {
        let names = [name(&process.file), name(&process.real)];
        let is_named = |tool: &str| names.iter().any(|name| name == tool);
        if target.tools.iter().any(|tool| is_named(&tool.value)) {
            Self::Covered
        } else if BASE.iter().any(|base| is_named(base)) || root.relative(&process.real).is_some() {
            Self::Transparent
        } else {
            Self::Undeclared
        }
    }
}

/// Returns the name of a program as the Buildfile would name it.
pub(super) fn name(file: &Path) -> String {
    let name = file.file_name().unwrap_or(file.as_os_str());
    escape(name.as_encoded_bytes()).into_owned()
}
