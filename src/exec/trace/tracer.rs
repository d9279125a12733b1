//! The thread of fbuild that receives the system calls of one command.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use libc::c_int;
use rustix::event::{PollFd, PollFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::decode::{self, Operation, Place};
use super::helper::{self, Message};
use super::recording::{Recording, Use};
use super::system::{Listener, Notification};
use super::{Gap, Refusal, Uses, filter, resolve};

/// The tracer of one command.
#[derive(Debug)]
pub struct Tracer {
    /// The program that calls [`trace_main`](super::trace_main).
    program: PathBuf,
    /// The helper's end of the socket, until it is started.
    socket: Mutex<Option<OwnedFd>>,
    /// The end of this pipe ends the thread.
    stop: PipeWriter,
    /// The other end of the socket, for messages to the helper.
    ours: OwnedFd,
    thread: JoinHandle<Ended>,
}

/// The result of tracing a command.
#[derive(Debug)]
pub struct Ended {
    /// The accesses of this command and of earlier ones.
    pub recording: Recording,
    /// The reason that the command could not be traced; it was not executed then.
    pub refusal: Option<Refusal>,
    /// The error of executing the program.
    pub not_executed: Option<io::Error>,
}

impl Tracer {
    /// Starts the thread. `program` is fbuild, or another caller of
    /// [`trace_main`](super::trace_main).
    pub fn start(program: &Path, recording: Recording) -> io::Result<Self> {
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let (stopped, stop) = io::pipe()?;
        let socket = ours.try_clone()?;
        let thread = std::thread::Builder::new().name("trace".to_owned());
        let thread = thread.spawn(move || Receiver::new(socket, stopped, recording).run())?;
        Ok(Self {
            program: program.to_owned(),
            socket: Mutex::new(Some(theirs)),
            stop,
            ours,
            thread,
        })
    }

    /// Returns the program of the helper.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Sends the standard input of the command, and returns that of its helper.
    pub fn connect(&self, input: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        helper::send_descriptor(&self.ours, input)?;
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket
            .take()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Ends the thread. Call it when all processes of the command have ended: calls of a
    /// process that still runs fail from then on, and it does not hang.
    pub fn finish(self) -> Ended {
        drop(self.socket);
        drop(self.stop);
        let ended = self.thread.join();
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// The thread's side.
struct Receiver {
    socket: Option<OwnedFd>,
    stopped: PipeReader,
    listener: Option<Listener>,
    was_connected: bool,
    ended: Ended,
}

impl Receiver {
    fn new(socket: OwnedFd, stopped: PipeReader, recording: Recording) -> Self {
        Self {
            socket: Some(socket),
            stopped,
            listener: None,
            was_connected: false,
            ended: Ended {
                recording,
                refusal: None,
                not_executed: None,
            },
        }
    }

    /// Receives until all processes have ended, or until the other side stops it.
    fn run(mut self) -> Ended {
        while self.turn() {}
        if !self.was_connected {
            self.ended.refusal.get_or_insert(Refusal::Helper);
        }
        self.ended
    }

    /// Waits for the next event. Returns false at the end.
    fn turn(&mut self) -> bool {
        let listener = self
            .listener
            .as_ref()
            .map(|listener| listener.descriptor().as_fd());
        let socket = self.socket.as_ref().map(AsFd::as_fd);
        let present: Vec<BorrowedFd<'_>> = [Some(self.stopped.as_fd()), listener, socket]
            .into_iter()
            .flatten()
            .collect();
        let mut fds: Vec<PollFd<'_>> = present
            .iter()
            .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
            .collect();
        match rustix::event::poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return true,
            Err(_) => return false,
        }
        let mut events = fds.iter().map(PollFd::revents);
        let is_stopped = events.next().is_some_and(|events| !events.is_empty());
        let calls = listener
            .and_then(|_| events.next())
            .unwrap_or(PollFlags::empty());
        let messages = socket
            .and_then(|_| events.next())
            .unwrap_or(PollFlags::empty());
        if is_stopped {
            return false;
        }
        if calls.contains(PollFlags::IN) {
            return self.receive_call();
        }
        if !messages.is_empty() {
            self.receive_message();
            return true;
        }
        if !calls.is_empty() {
            // Every process with the filter has ended.
            self.listener = None;
        }
        true
    }

    fn receive_message(&mut self) {
        let Some(socket) = &self.socket else {
            return;
        };
        match helper::receive(socket) {
            Ok(Message::Descriptor(listener)) => {
                self.was_connected = true;
                self.listener = Some(Listener::new(listener));
            }
            Ok(Message::Refused(libc::EBUSY)) => self.ended.refusal = Some(Refusal::Nested),
            Ok(Message::Refused(error)) => self.ended.refusal = Some(Refusal::Filter(error)),
            Ok(Message::NotExecuted(error)) => {
                self.ended.not_executed = Some(io::Error::from_raw_os_error(error));
            }
            Ok(Message::End) | Err(_) => self.socket = None,
        }
    }

    /// Receives a call, records it and lets it continue. Returns false if the listener fails,
    /// which closes it: further calls of the command fail instead of hanging.
    fn receive_call(&mut self) -> bool {
        let Some(listener) = &self.listener else {
            return true;
        };
        match listener.receive() {
            Ok(Some(call)) => {
                record(listener, &call, &mut self.ended.recording);
                listener.let_continue(&call);
                true
            }
            Ok(None) => true,
            Err(_) => {
                self.ended.recording.add_gap(Gap::Unreadable);
                false
            }
        }
    }
}

/// Records a call.
fn record(listener: &Listener, call: &Notification, recording: &mut Recording) {
    if !filter::is_native(call.architecture, call.number) {
        recording.add_gap(Gap::ForeignCalls);
        return;
    }
    let operation = match decode::operation(call) {
        Ok(Some(operation)) => operation,
        Ok(None) => return,
        Err(error) => {
            // With a bad address, a path that is too long or without a thread, the call fails.
            let is_refused = error
                .raw_os_error()
                .is_some_and(|error| error == libc::EPERM);
            if is_refused {
                recording.add_gap(Gap::Unreadable);
            }
            return;
        }
    };
    let uses = uses_of(operation, call.thread);
    // Until here, the thread may have died and its number may belong to another one.
    if !listener.is_waiting(call) {
        return;
    }
    for Found {
        path,
        follows,
        uses,
        creates,
    } in uses
    {
        if uses.contains(Uses::EXECUTE) {
            execute(&path, follows, call.thread, recording);
        }
        recording.add(Use {
            path: &path,
            follows,
            uses,
            creates,
            thread: call.thread,
        });
    }
}

/// Notes the program that a process is about to run, if there is one.
fn execute(path: &[u8], follows: bool, thread: u32, recording: &mut Recording) {
    if let resolve::Resolved::Present { real, .. } = resolve::resolve(path, follows) {
        let file = resolve::without_dots(path).unwrap_or_else(|| real.clone());
        if !recording.processes.execute(thread, &file, &real) {
            recording.add_gap(Gap::TooLarge);
        }
    }
}

/// A path in a call, and its uses.
struct Found {
    path: Vec<u8>,
    follows: bool,
    uses: Uses,
    creates: bool,
}

fn uses_of(operation: Operation, thread: u32) -> Vec<Found> {
    let found = |place: Place, uses, creates| {
        resolve::absolute(thread, &place).map(|path| Found {
            path,
            follows: place.follows,
            uses,
            creates,
        })
    };
    let uses = match operation {
        Operation::Open(place, flags) => [found(place, opened(flags), is_created(flags)), None],
        Operation::List(descriptor) => {
            let folder = resolve::folder(thread, Some(descriptor));
            let listed = folder.map(|path| Found {
                path,
                follows: true,
                uses: Uses::LIST,
                creates: false,
            });
            [listed, None]
        }
        Operation::Execute(place) => [found(place, Uses::EXECUTE, false), None],
        Operation::Create(place) => [found(place, Uses::MODIFY, true), None],
        Operation::Write(place) | Operation::Delete(place) => {
            [found(place, Uses::MODIFY, false), None]
        }
        Operation::Move(from, to) => [
            found(from, Uses::MODIFY, false),
            found(to, Uses::MODIFY, true),
        ],
        Operation::Link(from, to) => [
            found(from, Uses::READ, false),
            found(to, Uses::MODIFY, true),
        ],
    };
    uses.into_iter().flatten().collect()
}

fn opened(flags: c_int) -> Uses {
    let written = Uses::MODIFY;
    match flags & libc::O_ACCMODE {
        libc::O_RDONLY if flags & (libc::O_CREAT | libc::O_TRUNC) == 0 => Uses::READ,
        libc::O_WRONLY => written,
        _ if flags & libc::O_TRUNC != 0 => written,
        _ => Uses::READ.with(written),
    }
}

fn is_created(flags: c_int) -> bool {
    flags & libc::O_CREAT != 0
}
