//! The helper process that becomes a traced program, and its messages to fbuild.
//!
//! Its standard input is a socket. It receives the program's own input through it, sends
//! the listener back, and reports the error if the program cannot be executed. The socket
//! closes when the program is executed.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;

use rustix::io::FdFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use super::{filter, system};
use crate::exec::process;

/// The hidden first argument that makes fbuild the helper. The program's file, its name and
/// its arguments follow.
pub const TRACE_ARGUMENT: &str = "__trace";

/// The exit code of a helper that could not execute the program.
const FAILED: u8 = 127;

/// A message over the socket.
#[derive(Debug)]
pub(super) enum Message {
    /// The program's standard input, to the helper; the listener, to fbuild.
    Descriptor(OwnedFd),
    /// The filter was refused with this error number.
    Refused(i32),
    /// The program could not be executed, with this error number.
    NotExecuted(i32),
    /// The other end is closed.
    End,
}

const DESCRIPTOR: u8 = b'd';
const REFUSED: u8 = b'r';
const NOT_EXECUTED: u8 = b'x';
/// The kind, and an error number.
const LENGTH: usize = 5;

/// Sends a descriptor over the socket.
pub(super) fn send_descriptor(socket: impl AsFd, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let descriptors = [descriptor];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    send(socket, DESCRIPTOR, 0, &mut control)
}

fn send_error(socket: impl AsFd, kind: u8, error: &io::Error) {
    let number = error.raw_os_error().unwrap_or(0);
    // Ignore the error: fbuild is gone, and nothing else receives it.
    let _ = send(socket, kind, number, &mut SendAncillaryBuffer::default());
}

fn send(
    socket: impl AsFd,
    kind: u8,
    number: i32,
    control: &mut SendAncillaryBuffer<'_, '_, '_>,
) -> io::Result<()> {
    let mut bytes = [kind; LENGTH];
    bytes[1..].copy_from_slice(&number.to_ne_bytes());
    rustix::net::sendmsg(
        socket,
        &[IoSlice::new(&bytes)],
        control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Receives a message from the socket.
pub(super) fn receive(socket: impl AsFd) -> io::Result<Message> {
    let mut bytes = [0; LENGTH];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(&socket, &mut buffers, &mut control, flags)
    })?;
    if received.bytes < LENGTH {
        return Ok(Message::End);
    }
    let number = i32::from_ne_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
    let descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    match (bytes[0], descriptors.last()) {
        (DESCRIPTOR, Some(descriptor)) => Ok(Message::Descriptor(descriptor)),
        (REFUSED, _) => Ok(Message::Refused(number)),
        (NOT_EXECUTED, _) => Ok(Message::NotExecuted(number)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Becomes a traced program. `main` calls it if the first argument is [`TRACE_ARGUMENT`],
/// with the rest of the arguments.
pub fn trace_main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments;
    let (Some(file), Some(name)) = (arguments.next(), arguments.next()) else {
        return ExitCode::from(2);
    };
    let Ok(socket) = take_socket() else {
        return ExitCode::from(FAILED);
    };
    if let Err(error) = prepare(&socket) {
        send_error(&socket, REFUSED, &error);
        return ExitCode::from(FAILED);
    }
    let error = process::become_program(&PathBuf::from(file), &name, arguments);
    send_error(&socket, NOT_EXECUTED, &error);
    ExitCode::from(FAILED)
}

/// Moves the socket to a descriptor that the program does not inherit.
fn take_socket() -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?)
}

/// Installs the program's standard input and the filter, and sends the listener.
fn prepare(socket: &OwnedFd) -> io::Result<()> {
    let Message::Descriptor(input) = receive(socket)? else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    rustix::stdio::dup2_stdin(&input)?;
    rustix::io::fcntl_setfd(rustix::stdio::stdin(), FdFlags::empty())?;
    let unsupported = || io::Error::from(io::ErrorKind::Unsupported);
    let program = filter::program().ok_or_else(unsupported)?;
    // Without it, only root may install a filter.
    rustix::thread::set_no_new_privs(true)?;
    let listener = system::install(&program)?;
    send_descriptor(socket, listener.as_fd())
}
