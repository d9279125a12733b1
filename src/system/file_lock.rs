//! Locks files between processes: with `flock`, or with `fcntl` where that is missing.
//!
//! The system releases both kinds when the process ends. Lustre without `-o flock`, NFS
//! without a lock service and some sandboxes refuse one of them, or both.

use std::os::fd::AsFd;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// Applies an operation to the lock of a file. Returns `WOULDBLOCK` if another process holds
/// the lock, and an error for which [`is_unsupported`] is true if the file has no locks.
///
/// The file must be open for writing, except for a shared lock. A process must not open a
/// file twice to lock it: closing one descriptor may release the lock of the other.
pub fn lock(file: impl AsFd, operation: FlockOperation) -> Result<(), Errno> {
    match until_uninterrupted(|| rustix::fs::flock(&file, operation)) {
        Err(error) if is_unsupported(error) => lock_with_fcntl(file, operation),
        locked => locked,
    }
}

fn lock_with_fcntl(file: impl AsFd, operation: FlockOperation) -> Result<(), Errno> {
    match until_uninterrupted(|| rustix::fs::fcntl_lock(&file, operation)) {
        // Some systems answer this if another process holds the lock.
        Err(Errno::ACCESS) => Err(Errno::WOULDBLOCK),
        locked => locked,
    }
}

/// Returns true if an error means that the file has no locks at all.
pub fn is_unsupported(error: Errno) -> bool {
    matches!(
        error,
        Errno::NOSYS | Errno::NOLCK | Errno::OPNOTSUPP | Errno::INVAL | Errno::PERM
    )
}

fn until_uninterrupted(mut call: impl FnMut() -> Result<(), Errno>) -> Result<(), Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    const EXCLUSIVE: FlockOperation = FlockOperation::NonBlockingLockExclusive;

    #[test]
    fn second_exclusive_lock_would_block() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let other = file.reopen().unwrap();
        lock(file.as_file(), EXCLUSIVE).unwrap();
        assert_eq!(lock(&other, EXCLUSIVE), Err(Errno::WOULDBLOCK));
        lock(file.as_file(), FlockOperation::Unlock).unwrap();
        lock(&other, EXCLUSIVE).unwrap();
    }

    #[test]
    fn fcntl_lock_excludes_another_process() {
        let file = tempfile::NamedTempFile::new().unwrap();
        lock_with_fcntl(file.as_file(), EXCLUSIVE).unwrap();
        #[expect(clippy::disallowed_methods, reason = "this is a test")]
        let mut python = std::process::Command::new("python3");
        let script = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'w'), 6)";
        let mut lock_elsewhere = || python.args(["-c", script]).arg(file.path()).output();
        let output = lock_elsewhere().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("BlockingIOError"), "{error}");
        lock_with_fcntl(file.as_file(), FlockOperation::Unlock).unwrap();
        assert!(lock_elsewhere().unwrap().status.success());
    }

    #[test]
    fn missing_locks_differ_from_held_ones() {
        assert!(!is_unsupported(Errno::WOULDBLOCK));
        for error in [Errno::NOSYS, Errno::NOLCK, Errno::OPNOTSUPP] {
            assert!(is_unsupported(error));
        }
    }

    #[test]
    fn read_only_descriptor_takes_a_shared_lock() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let reader = File::open(file.path()).unwrap();
        lock_with_fcntl(&reader, FlockOperation::NonBlockingLockShared).unwrap();
    }
}
