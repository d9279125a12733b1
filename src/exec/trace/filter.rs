//! Builds the seccomp filter: it notifies fbuild of each call that names a file, and lets
//! every other call pass. `io_uring_setup` fails as on a kernel without it, since requests in
//! a ring are no system calls.

use libc::{c_long, sock_filter};

/// The calls that are notified.
const NOTIFIED: &[c_long] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_getdents64,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_truncate,
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    libc::SYS_renameat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_getdents,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
];

/// The architecture of the calls that [`NOTIFIED`] numbers (`AUDIT_ARCH_…`); `None` if
/// tracing does not support this processor.
const ARCHITECTURE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xC000_003E)
} else if cfg!(target_arch = "aarch64") {
    Some(0xC000_00B7)
} else if cfg!(target_arch = "riscv64") {
    Some(0xC000_00F3)
} else {
    None
};

/// The bit that marks the calls of the x32 variant of `x86_64`.
const X32: u32 = 0x4000_0000;

/// The offsets of the fields of `struct seccomp_data`.
const NUMBER_OFFSET: u32 = 0;
const ARCHITECTURE_OFFSET: u32 = 4;

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const JUMP_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const JUMP_AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// Returns the instructions of the filter; `None` if this processor is not supported.
pub(super) fn program() -> Option<Vec<sock_filter>> {
    let notify = return_value(libc::SECCOMP_RET_USER_NOTIF);
    let mut program = vec![
        instruction(LOAD, ARCHITECTURE_OFFSET),
        // A foreign call is notified, so that the trace shows that it is incomplete.
        jump(JUMP_EQUAL, ARCHITECTURE?, 1, 0),
        notify,
        instruction(LOAD, NUMBER_OFFSET),
        jump(JUMP_AT_LEAST, X32, 0, 1),
        notify,
    ];
    for number in NOTIFIED {
        program.push(jump(JUMP_EQUAL, number_of(*number), 0, 1));
        program.push(notify);
    }
    let refuse = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    program.push(jump(JUMP_EQUAL, number_of(libc::SYS_io_uring_setup), 0, 1));
    program.push(return_value(refuse));
    program.push(return_value(libc::SECCOMP_RET_ALLOW));
    Some(program)
}

/// Returns true if a notified call is one whose arguments [`decode`](super::decode) knows.
pub(super) fn is_native(architecture: u32, number: u32) -> bool {
    Some(architecture) == ARCHITECTURE && number < X32
}

fn number_of(call: c_long) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

fn return_value(value: u32) -> sock_filter {
    instruction(RETURN, value)
}

fn instruction(code: u32, operand: u32) -> sock_filter {
    jump(code, operand, 0, 0)
}

/// Returns an instruction that skips `if_true` or `if_false` instructions.
fn jump(code: u32, operand: u32, if_true: u8, if_false: u8) -> sock_filter {
    sock_filter {
        code: u16::try_from(code).unwrap_or(u16::MAX),
        jt: if_true,
        jf: if_false,
        k: operand,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the verdict of the filter on a call.
    fn verdict(architecture: u32, number: u32) -> u32 {
        let program = program().unwrap();
        let (mut at, mut loaded) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            let code = u32::from(code);
            let holds = match code {
                JUMP_EQUAL => loaded == k,
                JUMP_AT_LEAST => loaded >= k,
                RETURN => return k,
                _ => {
                    let fields = [(NUMBER_OFFSET, number), (ARCHITECTURE_OFFSET, architecture)];
                    loaded = fields.into_iter().find(|(at, _)| *at == k).unwrap().1;
                    false
                }
            };
            at += 1 + usize::from(if holds { jt } else { jf });
        }
    }

    fn native(call: c_long) -> u32 {
        verdict(ARCHITECTURE.unwrap(), number_of(call))
    }

    #[test]
    fn filter_notifies_calls_that_name_files() {
        for call in NOTIFIED {
            assert_eq!(native(*call), libc::SECCOMP_RET_USER_NOTIF, "{call}");
        }
    }

    #[test]
    fn filter_lets_other_calls_pass() {
        for call in [libc::SYS_read, libc::SYS_sendmsg, libc::SYS_clone3] {
            assert_eq!(native(call), libc::SECCOMP_RET_ALLOW, "{call}");
        }
    }

    #[test]
    fn filter_refuses_io_uring_as_an_old_kernel() {
        let refusal = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
        assert_eq!(native(libc::SYS_io_uring_setup), refusal);
    }

    #[test]
    fn filter_notifies_calls_of_another_architecture() {
        let notified = libc::SECCOMP_RET_USER_NOTIF;
        assert_eq!(verdict(0x4000_0003, 3), notified);
        assert_eq!(verdict(ARCHITECTURE.unwrap(), X32 | 1), notified);
        assert!(!is_native(0x4000_0003, 3));
    }
}
