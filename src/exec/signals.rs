//! Changes the signal mask of a thread for the duration of a call, and resets SIGCHLD. It
//! sends no signals.

use std::mem::MaybeUninit;

/// Calls `act` with no signal blocked. A program started in `act` inherits this mask from
/// the thread.
pub(super) fn with_none_blocked<T>(act: impl FnOnce() -> T) -> T {
    with_mask(libc::SIG_SETMASK, None, act)
}

/// Calls `act` with SIGTTOU blocked.
pub(super) fn with_ttou_blocked<T>(act: impl FnOnce() -> T) -> T {
    with_mask(libc::SIG_BLOCK, Some(libc::SIGTTOU), act)
}

/// Sets SIGCHLD to its default. If the parent process had it ignored, the system would
/// discard the exit statuses of commands, and commands would inherit that.
pub(super) fn reset_sigchld() {
    // SAFETY: SIG_DFL runs no code of ours, and nothing else in fbuild handles SIGCHLD.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
}

/// Stops this process as SIGTSTP does by default, until it is continued. In an orphaned
/// process group, with no shell to continue it, the system ignores this.
pub(super) fn stop_this_process() {
    let mut before = MaybeUninit::uninit();
    // SAFETY: an all-zero `sigaction` is valid, and means the default action. `before` is used
    // only if the first call succeeded and wrote it.
    unsafe {
        let default: libc::sigaction = MaybeUninit::zeroed().assume_init();
        if libc::sigaction(libc::SIGTSTP, &raw const default, before.as_mut_ptr()) == 0 {
            libc::raise(libc::SIGTSTP);
            libc::sigaction(libc::SIGTSTP, before.as_ptr(), std::ptr::null_mut());
        }
    }
}

fn with_mask<T>(how: libc::c_int, signal: Option<libc::c_int>, act: impl FnOnce() -> T) -> T {
    let (mut set, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: `sigemptyset` initialises `set` before its use, and `before` is used only if
    // `pthread_sigmask` succeeded and wrote it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        if let Some(signal) = signal {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        let changed = libc::pthread_sigmask(how, set.as_ptr(), before.as_mut_ptr()) == 0;
        let result = act();
        if changed {
            libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut());
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the signal mask of this thread.
    fn blocked() -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
        u64::from_str_radix(mask.unwrap().trim(), 16).unwrap()
    }

    #[test]
    fn signal_mask_changes_only_during_the_call() {
        let before = blocked();
        let ttou = before | 1 << (libc::SIGTTOU - 1);
        with_ttou_blocked(|| {
            assert_eq!(blocked(), ttou);
            assert_eq!(with_none_blocked(blocked), 0);
            assert_eq!(blocked(), ttou);
        });
        assert_eq!(blocked(), before);
    }
}
