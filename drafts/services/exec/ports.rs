//! Reserves free ports for services, so that no two runs of a user choose the same one.

use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{Ipv4Addr, TcpListener};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::system::file_lock;
use crate::system::user_dirs::UserDirs;

/// The first port that is chosen. The system chooses the ports of outgoing connections above
/// the last one.
const FIRST: u16 = 20_000;
/// The number of ports to choose from.
const COUNT: u16 = 12_000;

/// A port that was free, and that no other run chooses until this is dropped.
#[derive(Debug)]
pub struct ReservedPort {
    number: u16,
    /// `None` where files have no locks.
    _lock: Option<File>,
}

impl ReservedPort {
    /// Returns a port without a reservation, for tests.
    pub(super) fn unlocked(number: u16) -> Self {
        Self {
            number,
            _lock: None,
        }
    }

    /// Returns its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// Reserves a port that is free on this machine.
pub(super) fn reserve(user_dirs: &UserDirs) -> io::Result<ReservedPort> {
    let folder = user_dirs.runtime()?.join("ports");
    std::fs::create_dir_all(&folder)?;
    let start = RandomState::new().hash_one(std::process::id());
    for step in 0..u64::from(COUNT) {
        let offset = (start.wrapping_add(step)) % u64::from(COUNT);
        let number = FIRST + u16::try_from(offset).unwrap_or(0);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join(number.to_string()))?;
        let lock = match file_lock::lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Some(file),
            Err(Errno::WOULDBLOCK) => continue,
            Err(error) if file_lock::is_unsupported(error) => None,
            Err(error) => return Err(error.into()),
        };
        // Another program may use it.
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).is_ok() {
            return Ok(ReservedPort {
                number,
                _lock: lock,
            });
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user_dirs(folder: &std::path::Path) -> UserDirs {
        UserDirs::new(|name| (name == "XDG_RUNTIME_DIR").then(|| folder.into()))
    }

    #[test]
    fn reserved_port_is_free_and_chosen_once() {
        let folder = tempfile::tempdir().unwrap();
        let dirs = user_dirs(folder.path());
        let ports: Vec<_> = (0..20).map(|_| reserve(&dirs).unwrap()).collect();
        let mut numbers: Vec<u16> = ports.iter().map(ReservedPort::number).collect();
        for number in &numbers {
            TcpListener::bind((Ipv4Addr::LOCALHOST, *number)).unwrap();
        }
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 20);
    }
}
