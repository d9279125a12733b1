//! Raises the cancellation flag when a signal asks fbuild to end.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGXFSZ};
use signal_hook::iterator::{Handle, Signals};

use crate::cancel::Cancel;
use crate::exec;

/// Handles signals until it is dropped.
pub(super) struct Watch {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

/// Starts to handle signals. Each one raises `cancel` by one level; the second one kills.
/// Ctrl-Z also stops the commands.
pub(super) fn watch(cancel: &Cancel) -> io::Result<Watch> {
    // A write beyond the file size limit then returns an error instead of ending fbuild.
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    let mut watched = vec![SIGINT, SIGTERM, SIGQUIT];
    // Under `nohup`, SIGHUP is ignored, and the run must outlive the terminal.
    if !is_ignored(SIGHUP) {
        watched.push(SIGHUP);
    }
    if !is_ignored(SIGTSTP) {
        watched.push(SIGTSTP);
    }
    let mut signals = Signals::new(watched)?;
    let handle = signals.handle();
    let cancel = cancel.clone();
    let thread = std::thread::spawn(move || {
        for signal in signals.forever() {
            if signal == SIGTSTP {
                exec::suspend();
            } else {
                cancel.raise();
            }
        }
    });
    Ok(Watch {
        handle,
        thread: Some(thread),
    })
}

/// Returns true if the parent process had a signal ignored.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // Ignore the error: the thread cannot panic.
            let _ = thread.join();
        }
    }
}
