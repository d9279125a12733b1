//! Asks a tool for its version: a short command whose output is all that matters. It does
//! not know what a version looks like.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use super::End;
use super::error::{Error, shown};
use super::process::{Program, Streams};
use super::run::{GRACE, run};
use crate::cancel::Cancel;
use crate::path::escape;

/// How long a probe may take.
pub const PROBE_TIME: Duration = Duration::from_secs(10);
/// How much of its output counts.
pub const PROBE_LIMIT: usize = 64 << 10;

/// Runs `argv` and returns the first [`PROBE_LIMIT`] bytes of what it prints, both streams
/// in order.
///
/// It is an error if it fails, does not end within `time` (mostly [`PROBE_TIME`]) or is
/// cancelled.
pub fn probe(
    argv: &[OsString],
    env: &BTreeMap<OsString, OsString>,
    dir: &Path,
    time: Duration,
    cancel: &Cancel,
) -> Result<Vec<u8>, Error> {
    let command = Program {
        argv,
        env,
        dir,
        streams: Streams::Captured,
        deadline: Some(Instant::now() + time),
        grace: GRACE,
        watchdog: None,
    };
    let mut said = Vec::new();
    let mut keep = |bytes: &[u8]| {
        let room = PROBE_LIMIT - said.len();
        said.extend_from_slice(&bytes[..bytes.len().min(room)]);
    };
    let end = run(&command, &mut keep, cancel)?.end;
    let program = argv.first().map_or(String::new(), shown);
    match end {
        End::Exited(status) if status.success() => Ok(said),
        End::Exited(status) => Err(Error::ProbeFailed {
            program,
            status,
            said: escape(said.trim_ascii()).into_owned(),
        }),
        End::TimedOut => Err(Error::ProbeTimeout { program, time }),
        End::Cancelled => Err(Error::Stopped),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(script: &str) -> Result<Vec<u8>, String> {
        let argv = ["sh", "-c", script].map(OsString::from);
        let env = BTreeMap::new();
        let time = Duration::from_millis(300);
        let said = probe(&argv, &env, Path::new("/"), time, &Cancel::new());
        said.map_err(|error| error.to_string())
    }

    #[test]
    fn both_streams_are_kept_in_order_up_to_a_limit() {
        let said = ask("echo one; echo two >&2; echo three").unwrap();
        assert_eq!(said, b"one\ntwo\nthree\n");
        let much = ask("head -c 100000 /dev/zero").unwrap();
        assert_eq!(much.len(), PROBE_LIMIT);
    }

    #[test]
    fn a_probe_that_fails_or_hangs_is_an_error() {
        let failed = ask("echo unknown option; exit 3").unwrap_err();
        assert_eq!(failed, "`sh` failed (exit status: 3)");
        assert_eq!(
            ask("sleep 60").unwrap_err(),
            "`sh` did not end within 300ms"
        );
    }
}
