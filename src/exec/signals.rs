//! What is done with signals: which are blocked in a thread for as long as it does something,
//! and that dead children are not ignored. It sends none.

use std::mem::MaybeUninit;

/// Does `act` with no signal blocked: what a program that is started in it begins with.
/// (The standard library lets a program inherit what its parent's thread blocks.)
pub(super) fn with_none_blocked<T>(act: impl FnOnce() -> T) -> T {
    with_mask(libc::SIG_SETMASK, None, act)
}

/// Does `act` with TTOU blocked.
pub(super) fn with_ttou_blocked<T>(act: impl FnOnce() -> T) -> T {
    with_mask(libc::SIG_BLOCK, Some(libc::SIGTTOU), act)
}

/// Undoes what whoever started fbuild may have done: ignoring the death of children. The
/// system would forget how commands ended, and they would inherit it for their own.
pub(super) fn heed_children() {
    // SAFETY: it only chooses what happens on a signal, and no code of ours runs then. Nobody
    // else here asks to be told about children.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
}

fn with_mask<T>(how: libc::c_int, signal: Option<libc::c_int>, act: impl FnOnce() -> T) -> T {
    let (mut set, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: `sigemptyset` initialises `set` before it is used, and `before` is used only
    // if the call that writes it succeeded.
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

    /// Which signals are blocked in this thread, as bits.
    fn blocked() -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
        u64::from_str_radix(mask.unwrap().trim(), 16).unwrap()
    }

    #[test]
    fn what_is_blocked_is_blocked_only_as_long_as_it_should_be() {
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
