//! Takes the lock that builds share and a collection holds exclusively. A killed
//! process leaves no lock behind.

use std::os::fd::OwnedFd;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::layout::Layout;
use super::{Disk, io_error};
use crate::store::Error;
use crate::system::file_lock;

/// The behaviour of a collection while builds use the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenBusy {
    /// Skip it: for automatic collections. They free a tenth more than necessary, so that
    /// the next build need not collect again.
    Skip,
    /// Wait until they end.
    Wait,
}

impl Disk {
    /// Takes the lock exclusively, until the guard is dropped.
    pub(super) fn exclusive(
        &self,
        when_busy: WhenBusy,
    ) -> Result<Option<(&Layout, Exclusive<'_>)>, Error> {
        let Some((layout, lock)) = self
            .0
            .writable()
            .and_then(|layout| Some((layout, layout.lock.as_ref()?)))
        else {
            return Ok(None);
        };
        let operation = match when_busy {
            WhenBusy::Skip => FlockOperation::NonBlockingLockExclusive,
            WhenBusy::Wait => FlockOperation::LockExclusive,
        };
        let guard = Exclusive(lock);
        match file_lock::lock(lock, operation) {
            Ok(()) => Ok(Some((layout, guard))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(io_error("lock", &layout.path)(error)),
        }
    }
}

/// The exclusive lock. Dropping it takes the shared lock again, also after a failed try,
/// which may have given it up.
pub(super) struct Exclusive<'a>(&'a OwnedFd);

impl Drop for Exclusive<'_> {
    fn drop(&mut self) {
        let _ = file_lock::lock(self.0, FlockOperation::LockShared);
    }
}
