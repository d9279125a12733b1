//! Runs the command line, the watchdog, or the helper of traced commands.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    match arguments.nth(1) {
        Some(first) if first == fbuild::exec::WATCHDOG_ARGUMENT => {
            fbuild::exec::watchdog_main(arguments.next())
        }
        Some(first) if first == fbuild::exec::TRACE_ARGUMENT => fbuild::exec::trace_main(arguments),
        _ => fbuild::cli::run(std::env::args_os()),
    }
}
