//! The lock that builds share and a collection has for itself. The system keeps it, so
//! that a killed process leaves none behind.

use std::os::fd::OwnedFd;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::layout::Layout;
use super::{Disk, io_error};
use crate::store::Error;

/// What to do while builds use the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Let it be: for collections that nobody asked for. These make a tenth more room than
    /// they must, so that the next build need not collect again.
    None,
    /// Wait until they have ended.
    Wait,
}

impl Disk {
    /// Takes the lock for this store alone, until the guard is dropped.
    pub(super) fn exclusive(
        &self,
        patience: Patience,
    ) -> Result<Option<(&Layout, Exclusive<'_>)>, Error> {
        let Some((layout, lock)) = self
            .0
            .writable()
            .and_then(|layout| Some((layout, layout.lock.as_ref()?)))
        else {
            return Ok(None);
        };
        let operation = match patience {
            Patience::None => FlockOperation::NonBlockingLockExclusive,
            Patience::Wait => FlockOperation::LockExclusive,
        };
        let guard = Exclusive(lock);
        loop {
            match rustix::fs::flock(lock, operation) {
                Ok(()) => return Ok(Some((layout, guard))),
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(io_error("lock", &layout.path)(error)),
            }
        }
    }
}

/// The lock, held alone. A try that failed may have given up the share, so that is taken
/// again in any case.
pub(super) struct Exclusive<'a>(&'a OwnedFd);

impl Drop for Exclusive<'_> {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(self.0, FlockOperation::LockShared);
    }
}
