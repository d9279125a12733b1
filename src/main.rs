//! Runs the command line, or the watchdog.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    match arguments.nth(1) {
        Some(first) if first == fbuild::exec::WATCHDOG_ARGUMENT => {
            fbuild::exec::watchdog_main(arguments.next())
        }
        _ => fbuild::cli::run(std::env::args_os()),
    }
}
