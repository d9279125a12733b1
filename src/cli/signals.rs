//! Turns the signals that ask a program to end into the wish to stop. It decides nothing.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::{Handle, Signals};

use crate::cancel::Cancel;

/// Watches for signals until it is dropped.
pub(super) struct Watch {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

/// Has every signal raise `cancel` by one level: the second one kills.
pub(super) fn watch(cancel: &Cancel) -> io::Result<Watch> {
    // A limit on the size of files is then an error of the write, not the end.
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    let mut watched = vec![SIGINT, SIGTERM, SIGQUIT];
    // Whoever starts a run with `nohup` wants it to outlive the terminal.
    if !is_ignored(SIGHUP) {
        watched.push(SIGHUP);
    }
    let mut signals = Signals::new(watched)?;
    let handle = signals.handle();
    let cancel = cancel.clone();
    let thread = std::thread::spawn(move || {
        for _ in signals.forever() {
            cancel.raise();
        }
    });
    Ok(Watch {
        handle,
        thread: Some(thread),
    })
}

/// Tells whether whoever started this process had it ignore a signal.
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
            // The thread does nothing that could fail.
            let _ = thread.join();
        }
    }
}
