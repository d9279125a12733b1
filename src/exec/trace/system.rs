//! Wraps the system calls of a listener: installing a filter, receiving and answering its
//! notifications, and reading the memory of another process.

#![expect(unsafe_code, reason = "these system calls have no safe form")]

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use libc::{c_int, c_long, c_ulong, c_void, sock_filter};

/// Makes the kernel wake the other side on the same processor: the two take turns.
const SYNC_WAKE_UP: u64 = 1;
/// The words of a notification's buffer. The kernel's structure has ten, and may grow.
const WORDS: usize = 32;

/// A system call that waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notification {
    id: u64,
    /// The thread that makes the call.
    pub(super) thread: u32,
    /// The number of the call.
    pub(super) number: u32,
    /// The architecture of the number.
    pub(super) architecture: u32,
    /// The arguments.
    pub(super) arguments: [u64; 6],
}

/// The descriptor through which the kernel reports calls.
#[derive(Debug)]
pub(super) struct Listener(OwnedFd);

/// Installs a filter for this process and its descendants, and returns its listener.
///
/// Precondition: the thread has set `no_new_privs`.
pub(super) fn install(program: &[sock_filter]) -> io::Result<OwnedFd> {
    let mut instructions = program.to_vec();
    let filter = libc::sock_fprog {
        len: u16::try_from(instructions.len()).unwrap_or(u16::MAX),
        filter: instructions.as_mut_ptr(),
    };
    // The calls of a thread that gets a signal while it waits would be made twice.
    let killable = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let install = |flags: c_ulong| -> c_long {
        // SAFETY: `filter` points to `instructions`, and both live until the call returns.
        unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                &raw const filter,
            )
        }
    };
    let mut descriptor = install(listener | killable);
    if descriptor < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) {
        // Before Linux 5.19.
        descriptor = install(listener);
    }
    match c_int::try_from(descriptor) {
        // SAFETY: the call succeeded, and its result is a new descriptor that nothing else owns.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Listener {
    /// Takes a listener over.
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        let listener = Self(descriptor);
        // Ignore the error: before Linux 6.6, it is only slower.
        let _ = listener.control(
            libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS,
            SYNC_WAKE_UP as *mut c_void,
        );
        listener
    }

    /// Returns its descriptor, for `poll`.
    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.0
    }

    /// Receives the next call. `None` if its thread was killed meanwhile.
    ///
    /// Precondition: the descriptor is readable, or this blocks.
    pub(super) fn receive(&self) -> io::Result<Option<Notification>> {
        let mut words = [0_u64; WORDS];
        let result = self.control(
            libc::SECCOMP_IOCTL_NOTIF_RECV,
            words.as_mut_ptr().cast::<c_void>(),
        );
        match result {
            Ok(()) => {
                let [id, thread, call, _, rest @ ..] = words;
                let [a, b, c, d, e, f, ..] = rest;
                Ok(Some(Notification {
                    id,
                    thread: low(thread),
                    number: low(call),
                    architecture: high(call),
                    arguments: [a, b, c, d, e, f],
                }))
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT | libc::EINTR) => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Lets a call continue. Ignores that its thread was killed.
    pub(super) fn let_continue(&self, call: &Notification) {
        // `struct seccomp_notif_resp`: id, value, then error and flags in one word.
        let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
        let mut answer = [call.id, 0, word(0, flags)];
        let _ = self.control(
            libc::SECCOMP_IOCTL_NOTIF_SEND,
            answer.as_mut_ptr().cast::<c_void>(),
        );
    }

    /// Returns true if the thread still waits in this call: its number belongs to it.
    pub(super) fn is_waiting(&self, call: &Notification) -> bool {
        let mut id = call.id;
        let id = (&raw mut id).cast::<c_void>();
        self.control(libc::SECCOMP_IOCTL_NOTIF_ID_VALID, id).is_ok()
    }

    fn control(&self, request: libc::Ioctl, argument: *mut c_void) -> io::Result<()> {
        // SAFETY: each caller passes the argument that its request requires: a value, or a
        // pointer to a buffer of at least the size that the kernel reads or writes.
        match unsafe { libc::ioctl(self.0.as_raw_fd(), request, argument) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

/// Reads the memory of a thread at `address` into `buffer`, and returns the bytes read.
pub(super) fn read_memory(thread: u32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast::<c_void>(),
        iov_len: buffer.len(),
    };
    let remote = libc::iovec {
        iov_base: usize::try_from(address).unwrap_or(0) as *mut c_void,
        iov_len: buffer.len(),
    };
    let thread = c_int::try_from(thread).unwrap_or(0);
    // SAFETY: `local` describes `buffer`, which is borrowed for the call. The other address
    // belongs to another process; the kernel checks it.
    let read =
        unsafe { libc::process_vm_readv(thread, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// Returns the first field of two in a word.
fn low(word: u64) -> u32 {
    let [a, b, c, d, ..] = word.to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

/// Returns the second field of two in a word.
fn high(word: u64) -> u32 {
    let [.., a, b, c, d] = word.to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

/// Returns a word of two fields.
fn word(first: u32, second: u32) -> u64 {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&first.to_ne_bytes());
    bytes[4..].copy_from_slice(&second.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}
