//! Wraps system calls that some kernels, sandboxes and file systems refuse, with the next best
//! way in such a case.

pub mod access;
pub mod file_lock;
pub mod user_dirs;
