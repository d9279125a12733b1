//! Classifies system calls: which of them change files, and which paths they use.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Component, PathBuf};

use libc::{c_int, c_long, pid_t};

use crate::support::tracer::Info;

/// Returns true if a call writes to an open file.
pub(crate) fn is_write(info: &Info) -> bool {
    let writes = [libc::SYS_write, libc::SYS_pwrite64];
    writes.contains(&(info.number as c_long))
}

/// Returns true if a call opens a file.
pub(crate) fn is_open(info: &Info) -> bool {
    let opens = [libc::SYS_openat, libc::SYS_openat2];
    opens.contains(&(info.number as c_long))
}

/// Returns true if a call changes a file or a folder, or flushes it to the disk.
pub(crate) fn is_change(info: &Info) -> bool {
    const CHANGES: [c_long; 21] = [
        libc::SYS_write,
        libc::SYS_pwrite64,
        libc::SYS_writev,
        libc::SYS_pwritev,
        libc::SYS_copy_file_range,
        libc::SYS_renameat,
        libc::SYS_renameat2,
        libc::SYS_linkat,
        libc::SYS_unlinkat,
        libc::SYS_mkdirat,
        libc::SYS_symlinkat,
        libc::SYS_fsync,
        libc::SYS_fdatasync,
        libc::SYS_syncfs,
        libc::SYS_ftruncate,
        libc::SYS_fallocate,
        libc::SYS_fchmod,
        libc::SYS_fchmodat,
        libc::SYS_utimensat,
        libc::SYS_flock,
        libc::SYS_sendfile,
    ];
    #[cfg(target_arch = "x86_64")]
    const OLD: [c_long; 7] = [
        libc::SYS_rename,
        libc::SYS_link,
        libc::SYS_unlink,
        libc::SYS_rmdir,
        libc::SYS_mkdir,
        libc::SYS_symlink,
        libc::SYS_chmod,
    ];
    #[cfg(not(target_arch = "x86_64"))]
    const OLD: [c_long; 0] = [];
    let call = info.number as c_long;
    let making =
        (libc::O_CREAT | libc::O_TRUNC) as u64 | (libc::O_TMPFILE & !libc::O_DIRECTORY) as u64;
    let makes = call == libc::SYS_openat && info.arguments[2] & making != 0;
    makes || CHANGES.contains(&call) || OLD.contains(&call)
}

/// Describes a call: its verb, the part of the state folder, and whether that path exists.
pub(crate) fn in_words(thread: pid_t, info: &Info) -> String {
    let call = info.number as c_long;
    let flags = info.arguments[2];
    let making = (libc::O_CREAT | (libc::O_TMPFILE & !libc::O_DIRECTORY)) as u64;
    let verb = match call {
        libc::SYS_openat if flags & making != 0 => "make",
        libc::SYS_openat | libc::SYS_openat2 => "open",
        libc::SYS_write | libc::SYS_pwrite64 | libc::SYS_writev | libc::SYS_pwritev => "write",
        libc::SYS_renameat2 if is_exchange(&info.arguments) => "exchange",
        libc::SYS_renameat | libc::SYS_renameat2 => "rename",
        libc::SYS_linkat => "link",
        libc::SYS_unlinkat => "remove",
        libc::SYS_mkdirat => "make folder",
        libc::SYS_fsync | libc::SYS_fdatasync | libc::SYS_syncfs => "sync",
        libc::SYS_ftruncate | libc::SYS_fallocate => "size",
        libc::SYS_fchmod | libc::SYS_fchmodat => "mode",
        libc::SYS_utimensat => "time",
        libc::SYS_flock => "lock",
        libc::SYS_copy_file_range | libc::SYS_sendfile => "copy",
        _ => old_verb(call),
    };
    let path = match named_paths(thread, info) {
        [None, None] => open_path(thread, info.arguments[0]),
        [from, to] => to.or(from),
    };
    let path = path.unwrap_or_default();
    let exists = path.symlink_metadata().is_ok();
    let below = path
        .iter()
        .skip_while(|part| *part != ".build-cache")
        .skip(1);
    let below: Vec<_> = below.map(|part| part.to_string_lossy()).collect();
    let place = match below.as_slice() {
        [] => "the state folder".to_owned(),
        [first] => first.to_string(),
        [first, ..] => format!("an entry of {first}"),
    };
    format!(
        "{verb} {place}{}",
        if exists { "" } else { ", which is missing" }
    )
}

/// Returns true if a `renameat2` exchanges two names.
pub(crate) fn is_exchange(arguments: &[u64; 6]) -> bool {
    arguments[4] & u64::from(libc::RENAME_EXCHANGE) != 0
}

#[cfg(target_arch = "x86_64")]
fn old_verb(call: c_long) -> &'static str {
    match call {
        libc::SYS_open | libc::SYS_creat => "open",
        libc::SYS_rename => "rename",
        libc::SYS_link => "link",
        libc::SYS_unlink | libc::SYS_rmdir => "remove",
        libc::SYS_mkdir => "make folder",
        libc::SYS_chmod => "mode",
        _ => "do something to",
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn old_verb(_: c_long) -> &'static str {
    "do something to"
}

/// Returns the full paths that a call names.
pub(crate) fn named_paths(thread: pid_t, call: &Info) -> [Option<PathBuf>; 2] {
    let at = |folder: u64, path: u64| named(thread, folder, path);
    let a = &call.arguments;
    let here = libc::AT_FDCWD as u64;
    match call.number as c_long {
        libc::SYS_openat | libc::SYS_openat2 => [at(a[0], a[1]), None],
        libc::SYS_mkdirat | libc::SYS_unlinkat | libc::SYS_fchmodat => [at(a[0], a[1]), None],
        libc::SYS_symlinkat => [at(a[1], a[2]), None],
        libc::SYS_renameat | libc::SYS_renameat2 | libc::SYS_linkat => {
            [at(a[0], a[1]), at(a[2], a[3])]
        }
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open
        | libc::SYS_creat
        | libc::SYS_mkdir
        | libc::SYS_rmdir
        | libc::SYS_unlink
        | libc::SYS_chmod => [at(here, a[0]), None],
        #[cfg(target_arch = "x86_64")]
        libc::SYS_symlink => [at(here, a[1]), None],
        #[cfg(target_arch = "x86_64")]
        libc::SYS_rename | libc::SYS_link => [at(here, a[0]), at(here, a[1])],
        _ => [None, None],
    }
}

/// Returns the path of an open file of a thread.
pub(crate) fn open_path(thread: pid_t, fd: u64) -> Option<PathBuf> {
    fs::read_link(magic(thread, fd)).ok()
}

/// Returns the `/proc` link of an open file of a thread.
pub(crate) fn magic(thread: pid_t, fd: u64) -> PathBuf {
    PathBuf::from(format!("/proc/{thread}/fd/{}", fd as c_int))
}

/// Returns the full path for a folder descriptor and a path in a thread's memory.
fn named(thread: pid_t, folder: u64, path: u64) -> Option<PathBuf> {
    let path = text(thread, path)?;
    let folder = match folder as c_int {
        libc::AT_FDCWD => fs::read_link(format!("/proc/{thread}/cwd")).ok()?,
        _ => open_path(thread, folder).unwrap_or_default(),
    };
    let mut whole = PathBuf::new();
    for part in folder.join(path).components() {
        match part {
            Component::ParentDir => drop(whole.pop()),
            Component::CurDir => {}
            part => whole.push(part),
        }
    }
    Some(whole)
}

/// Reads a string from the memory of a thread.
fn text(thread: pid_t, at: u64) -> Option<PathBuf> {
    let memory = File::open(format!("/proc/{thread}/mem")).ok()?;
    let mut bytes = Vec::new();
    let mut piece = [0; 256];
    // Each read ends at a page boundary, because the next page may not be mapped.
    while !bytes.contains(&0) && bytes.len() < 4096 {
        let from = at + bytes.len() as u64;
        let most = 256 - (from % 256) as usize;
        let n = memory.read_at(&mut piece[..most], from).ok()?;
        bytes.extend_from_slice(&piece[..n]);
    }
    bytes.truncate(bytes.iter().position(|byte| *byte == 0)?);
    Some(OsString::from_vec(bytes).into())
}
