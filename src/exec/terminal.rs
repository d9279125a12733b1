//! Lends the terminal to a command and takes it back. It starts and stops no commands.
//!
//! A command has a process group of its own, and only one group may use the terminal. The
//! command is started before its group can be made that one; if it asks for the terminal in
//! between it is stopped, which is why it is woken once it has it.

use std::os::fd::BorrowedFd;

use rustix::process::{Pid, Signal};
use rustix::termios::{OptionalActions, Termios};

use super::signals::with_ttou_blocked;

/// The terminal, while a command has it.
#[derive(Debug)]
pub(super) struct TerminalGuard {
    ours: Pid,
    theirs: Pid,
    modes: Option<Termios>,
}

impl TerminalGuard {
    /// Hands the terminal to the process group `theirs`. `None` when fbuild itself has none,
    /// or is in the background.
    pub(super) fn to(theirs: Pid) -> Option<Self> {
        let ours = rustix::process::getpgrp();
        if !has_terminal(ours) {
            return None;
        }
        let modes = rustix::termios::tcgetattr(terminal()).ok();
        let lent = Self {
            ours,
            theirs,
            modes,
        };
        lent.hand_over();
        Some(lent)
    }

    /// Stops fbuild as the command was stopped (with control-Z), and lets both go on when
    /// the shell lets fbuild go on.
    pub(super) fn suspend(&self) {
        self.take_back();
        // Without a shell to wake it (an orphaned group) nothing happens here.
        let _ = signal_hook::low_level::raise(libc::SIGTSTP);
        if has_terminal(self.ours) {
            self.hand_over();
        }
    }

    fn hand_over(&self) {
        give(self.theirs);
        // It may have been stopped for asking too early; failing means that it is gone.
        let _ = rustix::process::kill_process_group(self.theirs, Signal::CONT);
    }

    fn take_back(&self) {
        give(self.ours);
        if let Some(modes) = &self.modes {
            // A program that was killed may have left the terminal without echo.
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

fn has_terminal(group: Pid) -> bool {
    rustix::termios::tcgetpgrp(terminal()).is_ok_and(|foreground| foreground == group)
}

/// Makes `group` the one that may use the terminal.
fn give(group: Pid) {
    // A background group that does this is stopped with TTOU unless that is blocked: in
    // this thread only, so that no command started meanwhile inherits anything.
    // Failing means that the group is gone, or the terminal is.
    let _ = with_ttou_blocked(|| rustix::termios::tcsetpgrp(terminal(), group));
}
