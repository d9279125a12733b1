//! A proxy on loopback that plays a fault between a client and a server.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A fault that a proxy plays.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Passes everything on.
    None,
    /// Accepts connections and never answers.
    Silent,
    /// Closes each connection at once.
    Closed,
    /// Passes on this many bytes of answers and then closes the connection.
    CutAfter(u64),
    /// Flips a bit of the answer's byte at this place, counted from the last one of a read.
    Corrupt,
    /// Answers every request with these bytes.
    Answer(Vec<u8>),
    /// Passes on one byte of answers in each interval.
    Trickle(Duration),
}

/// A running proxy; it ends when this is dropped.
pub(crate) struct Proxy {
    port: u16,
    is_over: Arc<AtomicBool>,
    connections: Arc<AtomicU64>,
}

impl Proxy {
    /// Starts a proxy in front of the server at `server`.
    pub(crate) fn start(server: u16, fault: Fault) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (is_over, connections) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (over, count) = (is_over.clone(), connections.clone());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let (fault, over) = (fault.clone(), over.clone());
                std::thread::spawn(move || {
                    client.map(|client| play(client, server, &fault, &over))
                });
            }
        });
        Self {
            port,
            is_over,
            connections,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns how many connections were made.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn play(mut client: TcpStream, server: u16, fault: &Fault, is_over: &AtomicBool) {
    match fault {
        Fault::Closed => return,
        Fault::Silent => {
            let mut buffer = [0; 4096];
            while !is_over.load(Ordering::SeqCst) && client.read(&mut buffer).is_ok_and(|n| n > 0) {
            }
            return;
        }
        Fault::Answer(answer) => {
            let mut buffer = [0; 4096];
            let _ = client.read(&mut buffer);
            let _ = client.write_all(answer);
            let _ = client.shutdown(Shutdown::Write);
            while client.read(&mut buffer).is_ok_and(|n| n > 0) {}
            return;
        }
        _ => {}
    }
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server));
    let Ok(server) = TcpStream::connect(address) else {
        return;
    };
    let (Ok(from_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    std::thread::spawn(move || copy(from_client, to_server));
    answers(server, client, fault);
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

fn answers(mut from: TcpStream, mut to: TcpStream, fault: &Fault) {
    let mut buffer = [0; 16384];
    let mut left = if let Fault::CutAfter(bytes) = fault {
        *bytes
    } else {
        u64::MAX
    };
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let length = length.min(usize::try_from(left).unwrap_or(usize::MAX));
        let bytes = &mut buffer[..length];
        if matches!(fault, Fault::Corrupt) {
            bytes[length - 1] ^= 1;
        }
        let sent = if let Fault::Trickle(interval) = fault {
            bytes.chunks(1).all(|byte| {
                std::thread::sleep(*interval);
                to.write_all(byte).is_ok()
            })
        } else {
            to.write_all(bytes).is_ok()
        };
        left -= length as u64;
        if !sent || left == 0 {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
