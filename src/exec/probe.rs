//! Runs a probe: a short command whose output contains a tool's version. Has no parser for
//! versions; see `buildfile::version`.

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

/// The default time limit of a probe.
pub const PROBE_TIME: Duration = Duration::from_secs(10);
/// The number of bytes of its output that are kept.
pub const PROBE_LIMIT: usize = 64 << 10;

/// Runs `argv` and returns the first [`PROBE_LIMIT`] bytes of its output, both streams in
/// order.
///
/// Returns an error if the probe fails, exceeds `time` (usually [`PROBE_TIME`]) or is
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
        tracer: None,
    };
    let mut printed = Vec::new();
    let mut keep = |bytes: &[u8]| {
        // Reading goes on after the limit: a full pipe would block the probe.
        let room = PROBE_LIMIT - printed.len();
        printed.extend_from_slice(&bytes[..bytes.len().min(room)]);
    };
    let end = run(&command, &mut keep, cancel)?.end;
    let program = argv.first().map_or(String::new(), shown);
    match end {
        End::Exited(status) if status.success() => Ok(printed),
        End::Exited(status) => Err(Error::ProbeFailed {
            program,
            status,
            said: escape(printed.trim_ascii()).into_owned(),
        }),
        End::TimedOut => Err(Error::ProbeTimeout { program, time }),
        End::Cancelled => Err(Error::Stopped),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe_sh(script: &str) -> Result<Vec<u8>, String> {
        let argv = ["sh", "-c", script].map(OsString::from);
        let env = BTreeMap::new();
        let time = Duration::from_millis(300);
        probe(&argv, &env, Path::new("/"), time, &Cancel::new()).map_err(|error| error.to_string())
    }

    #[test]
    fn probe_keeps_both_streams_in_order() {
        let output = probe_sh("echo one; echo two >&2; echo three").unwrap();
        assert_eq!(output, b"one\ntwo\nthree\n");
    }

    #[test]
    fn probe_keeps_output_up_to_its_limit() {
        let output = probe_sh("head -c 100000 /dev/zero").unwrap();
        assert_eq!(output.len(), PROBE_LIMIT);
    }

    #[test]
    fn failing_probe_is_an_error() {
        let error = probe_sh("echo unknown option; exit 3").unwrap_err();
        assert_eq!(error, "`sh` failed (exit status: 3)");
    }

    #[test]
    fn hanging_probe_is_an_error() {
        let error = probe_sh("sleep 60").unwrap_err();
        assert_eq!(error, "`sh` did not end within 300ms");
    }
}
