//! Finds the paths in the arguments of a system call, and the operation on them.

use std::io;

use libc::{c_int, c_long};

use super::system::{self, Notification};

/// The longest path that the kernel accepts, with its NUL.
const LONGEST: usize = 4096;
/// The alignment at which a read of another process's memory may begin to fail.
const PAGE: u64 = 4096;

/// An operation on files.
#[derive(Debug)]
pub(super) enum Operation {
    /// Opens a file or a folder.
    Open(Place, c_int),
    /// Lists the folder that a descriptor stands for.
    List(c_int),
    /// Executes a file.
    Execute(Place),
    /// Creates a name, which must not exist.
    Create(Place),
    /// Changes a file.
    Write(Place),
    /// Removes a name.
    Delete(Place),
    /// Moves a file or a folder.
    Move(Place, Place),
    /// Creates another name of a file.
    Link(Place, Place),
}

/// A path as a call names it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The folder that a relative path begins at; `None` for the working directory.
    pub(super) folder: Option<c_int>,
    /// The path; empty for the folder itself.
    pub(super) path: Vec<u8>,
    /// True if a link at its end is followed.
    pub(super) follows: bool,
}

/// Returns the operation of a call; `None` if it uses no file.
pub(super) fn operation(call: &Notification) -> io::Result<Option<Operation>> {
    let [a, b, c, d, e, _] = call.arguments;
    let here = u64::from(libc::AT_FDCWD.cast_unsigned());
    let at = |folder, path, flags: c_int| place(call, folder, path, flags);
    let operation = match c_long::from(call.number) {
        libc::SYS_openat => return open(call, a, b, int(c)),
        libc::SYS_openat2 => {
            // The flags are the first field of `struct open_how`.
            let mut flags = [0; 8];
            system::read_memory(call.thread, c, &mut flags)?;
            return open(call, a, b, int(u64::from_ne_bytes(flags)));
        }
        libc::SYS_execve => Operation::Execute(at(here, a, 0)?),
        libc::SYS_execveat => Operation::Execute(at(a, b, int(e))?),
        libc::SYS_getdents64 => Operation::List(int(a)),
        libc::SYS_renameat2 => Operation::Move(entry(call, a, b)?, entry(call, c, d)?),
        libc::SYS_unlinkat => Operation::Delete(entry(call, a, b)?),
        libc::SYS_mkdirat | libc::SYS_mknodat => Operation::Create(entry(call, a, b)?),
        libc::SYS_symlinkat => Operation::Create(entry(call, b, c)?),
        libc::SYS_linkat => {
            let follows = int(e) & libc::AT_SYMLINK_FOLLOW != 0;
            let unfollowed = if follows {
                0
            } else {
                libc::AT_SYMLINK_NOFOLLOW
            };
            let flags = int(e) & libc::AT_EMPTY_PATH | unfollowed;
            Operation::Link(at(a, b, flags)?, entry(call, c, d)?)
        }
        libc::SYS_truncate => Operation::Write(at(here, a, 0)?),
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        libc::SYS_renameat => Operation::Move(entry(call, a, b)?, entry(call, c, d)?),
        _ => return legacy(call),
    };
    Ok(Some(operation))
}

/// Returns the operation of a call that only `x86_64` has.
#[cfg(target_arch = "x86_64")]
fn legacy(call: &Notification) -> io::Result<Option<Operation>> {
    let [a, b, ..] = call.arguments;
    let here = u64::from(libc::AT_FDCWD.cast_unsigned());
    let operation = match c_long::from(call.number) {
        libc::SYS_open => return open(call, here, a, int(b)),
        libc::SYS_creat => {
            return open(
                call,
                here,
                a,
                libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC,
            );
        }
        libc::SYS_getdents => Operation::List(int(a)),
        libc::SYS_rename => Operation::Move(entry(call, here, a)?, entry(call, here, b)?),
        libc::SYS_unlink | libc::SYS_rmdir => Operation::Delete(entry(call, here, a)?),
        libc::SYS_mkdir | libc::SYS_mknod => Operation::Create(entry(call, here, a)?),
        libc::SYS_symlink => Operation::Create(entry(call, here, b)?),
        libc::SYS_link => Operation::Link(entry(call, here, a)?, entry(call, here, b)?),
        _ => return Ok(None),
    };
    Ok(Some(operation))
}

#[cfg(not(target_arch = "x86_64"))]
fn legacy(_: &Notification) -> io::Result<Option<Operation>> {
    Ok(None)
}

/// Returns the operation of an open with these flags. `O_PATH` opens no content, and a file of
/// `O_TMPFILE` has no name.
fn open(
    call: &Notification,
    folder: u64,
    path: u64,
    flags: c_int,
) -> io::Result<Option<Operation>> {
    let is_nameless = flags & libc::O_TMPFILE == libc::O_TMPFILE;
    if flags & libc::O_PATH != 0 || is_nameless {
        return Ok(None);
    }
    let is_exclusive = flags & libc::O_CREAT != 0 && flags & libc::O_EXCL != 0;
    let unfollowed = if flags & libc::O_NOFOLLOW != 0 || is_exclusive {
        libc::AT_SYMLINK_NOFOLLOW
    } else {
        0
    };
    let place = place(call, folder, path, unfollowed)?;
    Ok(Some(Operation::Open(place, flags)))
}

/// Reads a path that names an entry of a folder: a link at its end is meant itself.
fn entry(call: &Notification, folder: u64, path: u64) -> io::Result<Place> {
    place(call, folder, path, libc::AT_SYMLINK_NOFOLLOW)
}

fn place(call: &Notification, folder: u64, path: u64, flags: c_int) -> io::Result<Place> {
    let folder = int(folder);
    let path = text(call.thread, path)?;
    if path.is_empty() && flags & libc::AT_EMPTY_PATH == 0 {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(Place {
        folder: Some(folder).filter(|folder| *folder != libc::AT_FDCWD),
        path,
        follows: flags & libc::AT_SYMLINK_NOFOLLOW == 0,
    })
}

/// Reads a text up to its NUL.
fn text(thread: u32, address: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut next = address;
    while text.len() < LONGEST {
        // The next page may not be readable, although the text ends in this one.
        let left = usize::try_from(PAGE - next % PAGE).unwrap_or(1);
        let mut piece = [0; 256];
        let length = left.min(piece.len());
        let read = system::read_memory(thread, next, &mut piece[..length])?;
        let read = &piece[..read];
        if let Some(end) = read.iter().position(|byte| *byte == 0) {
            text.extend_from_slice(&read[..end]);
            return Ok(text);
        }
        if read.is_empty() {
            break;
        }
        text.extend_from_slice(read);
        next += read.len() as u64;
    }
    Err(io::ErrorKind::InvalidFilename.into())
}

/// Returns an argument as the kernel reads a descriptor or flags: its lower half.
fn int(argument: u64) -> c_int {
    let [a, b, c, d, ..] = argument.to_le_bytes();
    c_int::from_le_bytes([a, b, c, d])
}
