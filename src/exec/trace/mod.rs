//! Records the files that a command and its descendants use: a *trace*.
//!
//! Linux lets a process ask another one before each system call of a chosen kind (seccomp
//! user notification). fbuild starts a traced command through itself, `fbuild __trace`
//! ([`trace_main`]): the helper installs the filter, sends the kernel's *listener* to
//! fbuild over a socket, and becomes the program. A thread of fbuild then receives each
//! call of the command and its descendants, records its paths, and lets the call continue.
//! It needs no privilege, sees programs that are linked statically, and costs a few
//! microseconds for each call.
//!
//! The trace holds opened, listed, executed, created, changed and deleted paths below the
//! root, and opened paths that did not exist. It does not hold paths that were only examined
//! (`stat`, `access`, `readlink`), changes of modes and times, nor the use of descriptors
//! that were opened before.
//!
//! It observes and never refuses: a thread that changes a path in memory while the call is
//! being recorded can hide an access.
//!
//! | file | contents |
//! |---|---|
//! | `filter` | the filter: which calls are notified |
//! | `system` | the system calls for it that have no safe form |
//! | `helper` | the helper process, and its messages to fbuild |
//! | `tracer` | the thread that receives calls |
//! | `decode` | the paths in a call |
//! | `resolve` | a path as the kernel resolves it |
//! | `recording`, `processes` | the set of accesses, and the processes that made them |

mod decode;
mod filter;
mod helper;
mod processes;
mod recording;
mod resolve;
mod system;
mod tracer;

use std::io;
use std::path::PathBuf;

use crate::path::RelPath;

pub use helper::{TRACE_ARGUMENT, trace_main};
pub use recording::Recording;
pub use tracer::{Ended, Tracer};

/// The paths that the commands of a task used.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The used paths below the root, sorted, each once.
    pub accesses: Vec<Access>,
    /// The executed programs with their callers; a caller is before the programs that it
    /// executed.
    pub processes: Vec<Process>,
    /// The reasons that the trace is incomplete.
    pub gaps: Vec<Gap>,
}

/// The use of a path below the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The path as the command named it, `.` and `..` resolved.
    pub path: RelPath,
    /// The path behind the links in `path`, if there are any and it is below the root.
    pub real: Option<RelPath>,
    /// The uses of it.
    pub uses: Uses,
    /// The difference that the commands made to it.
    pub change: Change,
    /// The first process that used it, as an index of [`Trace::processes`].
    pub process: Option<u32>,
}

/// A set of uses of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uses(u8);

impl Uses {
    /// A file was opened for reading.
    pub const READ: Self = Self(1);
    /// The entries of a folder were listed.
    pub const LIST: Self = Self(2);
    /// A file was executed.
    pub const EXECUTE: Self = Self(4);
    /// It did not exist when it was opened.
    pub const ABSENT: Self = Self(8);
    /// It was created, opened for writing, replaced or deleted.
    pub const MODIFY: Self = Self(16);

    /// Returns true if it includes all of `other`.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the union of two sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns true if it includes any of `other`.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// The difference between a path before and after all commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is as it was, or was not modified.
    None,
    /// It did not exist before, and does now.
    Created,
    /// It existed before, and was written since.
    Written,
    /// It existed before, and does not now.
    Deleted,
    /// It was created and deleted again.
    Temporary,
}

/// An executed program.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// Its file as it was named, absolute.
    pub file: PathBuf,
    /// Its file without links.
    pub real: PathBuf,
    /// The program that executed it, as an index of [`Trace::processes`]; `None` for a
    /// command of the target.
    pub parent: Option<u32>,
}

/// A reason that a trace is incomplete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gap {
    /// It would need too much memory.
    TooLarge,
    /// The arguments of a call could not be read.
    Unreadable,
    /// A program made calls of another processor architecture, such as 32-bit ones.
    ForeignCalls,
}

/// The reason that a command could not be traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The helper could not be started or did not answer.
    Helper,
    /// A process can have only one listener: a program that traces this one has it.
    Nested,
    /// The kernel, or the sandbox that fbuild runs in, refuses the filter.
    Filter(
        /// The number of its error.
        i32,
    ),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Helper => f.write_str("the tracing helper did not start"),
            Self::Nested => f.write_str("another program already traces this one"),
            Self::Filter(error) => {
                let error = io::Error::from_raw_os_error(*error);
                write!(f, "the system refuses to report system calls: {error}")
            }
        }
    }
}
