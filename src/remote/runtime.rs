//! The threads that asynchronous clients run on.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// Starts a runtime of two threads: exchanges wait, they do not compute.
pub(super) fn start() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("remote")
        .enable_all()
        .build()
}
