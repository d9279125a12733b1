//! Records the file operations of a program and its child processes below a folder: every change
//! with the resulting bytes, and every sync. `lossy_disk.rs` decides which of them a power cut
//! loses.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use libc::{c_long, pid_t};

use crate::support::calls::{is_exchange, magic, named_paths};
use crate::support::tracer::{self, Info, Watch};

/// An inode number.
pub(crate) type Inode = u64;

/// A change or a sync. Paths are relative to the folder.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// Sets the content of a file.
    Content { file: Inode, bytes: Vec<u8> },
    /// Sets the mode of a file.
    Mode { file: Inode, mode: u32 },
    /// Gives a name to a new or existing node.
    Name {
        path: PathBuf,
        node: Inode,
        kind: Kind,
    },
    /// Removes a name.
    Unname { path: PathBuf },
    /// Renames a node.
    Rename { from: PathBuf, to: PathBuf },
    /// Exchanges two names.
    Exchange { one: PathBuf, other: PathBuf },
    /// Makes every op before number `begun` durable.
    Sync { what: Synced, begun: usize },
}

/// A node with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Link(PathBuf),
}

/// The target of a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Synced {
    All,
    /// The content of a file, or the names of a folder.
    One(Inode),
}

/// Runs a program and returns its operations below `root`.
pub(crate) fn record(command: &mut Command, root: &Path) -> (ExitStatus, Vec<Op>) {
    let mut recorder = Recorder {
        root: root.to_owned(),
        ops: Vec::new(),
        pending: HashMap::new(),
    };
    let status = tracer::watch(command, &mut recorder).unwrap();
    (status, recorder.ops)
}

struct Recorder {
    root: PathBuf,
    ops: Vec<Op>,
    /// The current call of each thread.
    pending: HashMap<pid_t, Call>,
}

/// A call in progress.
struct Call {
    number: c_long,
    arguments: [u64; 6],
    /// The paths that it names, if they are below the root.
    paths: [Option<PathBuf>; 2],
    /// Whether the first path existed.
    existed: bool,
    /// The number of ops when it started.
    begun: usize,
}

impl Watch for Recorder {
    fn enter(&mut self, thread: pid_t, call: &Info) {
        let number = call.number as c_long;
        let paths = self.paths(thread, call);
        let first = paths[0].as_ref();
        let existed = first.is_some_and(|path| self.root.join(path).symlink_metadata().is_ok());
        let call = Call {
            number,
            arguments: call.arguments,
            paths,
            existed,
            begun: self.ops.len(),
        };
        self.pending.insert(thread, call);
    }

    fn leave(&mut self, thread: pid_t, result: i64) {
        if let Some(call) = self.pending.remove(&thread)
            && result >= 0
        {
            self.done(thread, call, result);
        }
    }
}

impl Recorder {
    /// Returns the paths that a call names, if they are below the root.
    fn paths(&self, thread: pid_t, call: &Info) -> [Option<PathBuf>; 2] {
        named_paths(thread, call).map(|path| {
            let path = path?;
            path.strip_prefix(&self.root).ok().map(Path::to_owned)
        })
    }

    /// Records the effect of a call.
    fn done(&mut self, thread: pid_t, call: Call, result: i64) {
        let [first, second] = call.paths;
        let fd = call.arguments[0];
        match call.number {
            libc::SYS_openat | libc::SYS_openat2 => {
                self.opened(thread, result as u64, first, call.existed);
            }
            libc::SYS_write
            | libc::SYS_pwrite64
            | libc::SYS_writev
            | libc::SYS_pwritev
            | libc::SYS_ftruncate
            | libc::SYS_fallocate
            | libc::SYS_ioctl => self.content(thread, fd),
            libc::SYS_sendfile => self.content(thread, fd),
            libc::SYS_copy_file_range => self.content(thread, call.arguments[2]),
            libc::SYS_fchmod => self.mode(thread, fd),
            libc::SYS_fchmodat => self.mode_at(first),
            libc::SYS_mkdirat | libc::SYS_symlinkat => self.name(first),
            libc::SYS_linkat => self.name(second),
            libc::SYS_unlinkat => self.unname(first),
            libc::SYS_renameat2 if is_exchange(&call.arguments) => {
                self.exchange(first, second);
            }
            libc::SYS_renameat | libc::SYS_renameat2 => self.rename(first, second),
            libc::SYS_syncfs | libc::SYS_sync => self.sync(Synced::All, call.begun),
            libc::SYS_fsync | libc::SYS_fdatasync => {
                if let Some(file) = self.inode(thread, fd) {
                    self.sync(Synced::One(file), call.begun);
                }
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_open | libc::SYS_creat => {
                self.opened(thread, result as u64, first, call.existed);
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_mkdir | libc::SYS_symlink => self.name(first),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_link => self.name(second),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_unlink | libc::SYS_rmdir => self.unname(first),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_rename => self.rename(first, second),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_chmod => self.mode_at(first),
            _ => {}
        }
    }

    /// Records an opened file if it is new or was truncated.
    fn opened(&mut self, thread: pid_t, fd: u64, path: Option<PathBuf>, existed: bool) {
        let Some(file) = self.inode(thread, fd) else {
            return;
        };
        let place = magic(thread, fd);
        let metadata = fs::metadata(&place).unwrap();
        if !metadata.is_file() {
            return;
        }
        let is_unnamed = metadata.nlink() == 0;
        if !existed || is_unnamed {
            let mode = metadata.mode();
            self.ops.push(Op::Mode { file, mode });
        }
        if !existed && !is_unnamed {
            self.name(path);
        }
        if metadata.size() == 0 {
            let bytes = Vec::new();
            self.ops.push(Op::Content { file, bytes });
        }
    }

    fn content(&mut self, thread: pid_t, fd: u64) {
        let place = magic(thread, fd);
        let is_file = fs::metadata(&place).is_ok_and(|metadata| metadata.is_file());
        if is_file && let Some(file) = self.inode(thread, fd) {
            let bytes = fs::read(place).unwrap();
            self.ops.push(Op::Content { file, bytes });
        }
    }

    fn mode(&mut self, thread: pid_t, fd: u64) {
        if let Some(file) = self.inode(thread, fd) {
            let mode = fs::metadata(magic(thread, fd)).unwrap().mode();
            self.ops.push(Op::Mode { file, mode });
        }
    }

    fn mode_at(&mut self, path: Option<PathBuf>) {
        let metadata = path.and_then(|path| fs::metadata(self.root.join(path)).ok());
        if let Some(metadata) = metadata {
            let (file, mode) = (metadata.ino(), metadata.mode());
            self.ops.push(Op::Mode { file, mode });
        }
    }

    fn name(&mut self, path: Option<PathBuf>) {
        let Some(path) = path else { return };
        let place = self.root.join(&path);
        // Another thread may have removed it.
        let Ok(metadata) = place.symlink_metadata() else {
            return;
        };
        let kind = match metadata.file_type() {
            kind if kind.is_dir() => Kind::Folder,
            kind if kind.is_symlink() => Kind::Link(fs::read_link(place).unwrap()),
            _ => Kind::File,
        };
        let node = metadata.ino();
        self.ops.push(Op::Name { path, node, kind });
    }

    fn unname(&mut self, path: Option<PathBuf>) {
        self.ops.extend(path.map(|path| Op::Unname { path }));
    }

    fn rename(&mut self, from: Option<PathBuf>, to: Option<PathBuf>) {
        match (from, to) {
            (Some(from), Some(to)) => self.ops.push(Op::Rename { from, to }),
            (Some(from), None) => self.unname(Some(from)),
            (None, to) => self.name(to),
        }
    }

    fn exchange(&mut self, one: Option<PathBuf>, other: Option<PathBuf>) {
        match (one, other) {
            (Some(one), Some(other)) => self.ops.push(Op::Exchange { one, other }),
            (one, other) => self.name(one.or(other)),
        }
    }

    fn sync(&mut self, what: Synced, begun: usize) {
        self.ops.push(Op::Sync { what, begun });
    }

    /// Returns the inode of an open file below the root.
    fn inode(&self, thread: pid_t, fd: u64) -> Option<Inode> {
        let place = magic(thread, fd);
        let path = fs::read_link(&place).ok()?;
        path.starts_with(&self.root).then_some(())?;
        Some(fs::metadata(place).ok()?.ino())
    }
}
