//! Passes the terminal to an interactive command and takes it back. It starts and stops no
//! commands.
//!
//! A command has a process group of its own, and only the foreground group may use the
//! terminal. The command starts before its group can become the foreground group. If it
//! uses the terminal too early the system stops it, so it is continued afterwards.

use std::os::fd::BorrowedFd;

use rustix::process::{Pid, Signal};
use rustix::termios::{OptionalActions, Termios};

use super::signals::with_ttou_blocked;
use super::tree::suspend;

/// Makes a command the foreground process group, until dropped.
#[derive(Debug)]
pub(super) struct TerminalGuard {
    ours: Pid,
    theirs: Pid,
    modes: Option<Termios>,
}

impl TerminalGuard {
    /// Makes `theirs` the foreground group of the terminal. Returns `None` if fbuild has no
    /// terminal or is in the background.
    pub(super) fn new(theirs: Pid) -> Option<Self> {
        let ours = rustix::process::getpgrp();
        if !is_foreground(ours) {
            return None;
        }
        let modes = rustix::termios::tcgetattr(terminal()).ok();
        let guard = Self {
            ours,
            theirs,
            modes,
        };
        guard.hand_over();
        Some(guard)
    }

    /// Stops fbuild after the command was stopped with Ctrl-Z, and continues the command
    /// when the shell continues fbuild.
    pub(super) fn suspend(&self) {
        self.take_back();
        suspend();
        if is_foreground(self.ours) {
            self.hand_over();
        }
    }

    fn hand_over(&self) {
        set_foreground(self.theirs);
        // The system may have stopped it for using the terminal too early. An error means
        // that the group has ended.
        let _ = rustix::process::kill_process_group(self.theirs, Signal::CONT);
    }

    fn take_back(&self) {
        set_foreground(self.ours);
        if let Some(modes) = &self.modes {
            // A killed program may have left the terminal in raw mode or without echo.
            let _ = rustix::termios::tcsetattr(terminal(), OptionalActions::Drain, modes);
        }
    }
}

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        self.take_back();
    }
}

fn terminal() -> BorrowedFd<'static> {
    rustix::stdio::stdin()
}

fn is_foreground(group: Pid) -> bool {
    rustix::termios::tcgetpgrp(terminal()).is_ok_and(|foreground| foreground == group)
}

/// Makes `group` the foreground process group of the terminal.
fn set_foreground(group: Pid) {
    // A background group that does this gets SIGTTOU and stops, unless the signal is
    // blocked. Blocking it in this thread only keeps it out of commands started meanwhile.
    // An error means that the group or the terminal no longer exists.
    let _ = with_ttou_blocked(|| rustix::termios::tcsetpgrp(terminal(), group));
}
