//! Reports of test runners: reads JUnit XML, the lines of `go test -json` and TAP as a list of
//! cases, and writes the cases of several tests as one JUnit file. Has no knowledge of targets.

mod go;
mod junit;
mod tap;
mod write;

use std::fs::File;
use std::io::{self, Read as _};

use serde::{Deserialize, Serialize};

use crate::path::{RelPath, Root};

pub use write::{Suite, junit};

/// The largest part of a file that is read, in bytes.
const MOST_BYTES: u64 = 64 << 20;
/// The longest message of a case that is kept, in bytes.
const MOST_MESSAGE: usize = 4096;

/// A case of a test: the smallest part that a report has a result for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Case {
    /// The class, package or file that it is in; may be empty.
    pub suite: String,
    /// Its name.
    pub name: String,
    /// Its result.
    pub status: Status,
    /// The time it took; 0 if the report has none.
    pub duration_ms: u64,
    /// The reason for a failure or for skipping it.
    pub message: Option<String>,
}

/// The result of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It did not run.
    Skipped,
}

/// The number of cases with each result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that passed.
    pub passed: usize,
    /// Those that failed.
    pub failed: usize,
    /// Those that did not run.
    pub skipped: usize,
}

impl Counts {
    /// Counts cases.
    pub fn of(cases: &[Case]) -> Self {
        let count = |status| cases.iter().filter(|case| case.status == status).count();
        Self {
            passed: count(Status::Passed),
            failed: count(Status::Failed),
            skipped: count(Status::Skipped),
        }
    }

    /// Returns the number of cases.
    pub fn all(self) -> usize {
        self.passed + self.failed + self.skipped
    }

    /// Adds other counts.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// The error of reading a report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is in none of the formats.
    #[error("it is not JUnit XML, not made of lines of `go test -json`, and not TAP")]
    Unknown,
    /// It is XML with a mistake.
    #[error("it is not well-formed XML: {0}")]
    Xml(String),
    /// It is XML that is no report.
    #[error("its first element is `{0}`, not `testsuites` or `testsuite`")]
    NotJunit(String),
    /// It ends in the middle.
    #[error("it ends before it is complete")]
    Cut,
}

/// A report that cannot be read.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("cannot read the report `{path}`")]
#[diagnostic(
    code("fbuild::test::report"),
    help(
        "`report` takes JUnit XML, the lines of `go test -json`, or TAP; without it, the exit code alone decides"
    )
)]
pub struct UnreadableReport {
    path: RelPath,
    source: ReadError,
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Format(#[from] Error),
}

/// Reads the report in a file.
pub fn read_file(root: &Root, path: &RelPath) -> Result<Vec<Case>, UnreadableReport> {
    let read = || {
        let mut bytes = Vec::new();
        let file = File::open(root.absolute(path))?;
        file.take(MOST_BYTES).read_to_end(&mut bytes)?;
        Ok(read(&bytes)?)
    };
    read().map_err(|source| UnreadableReport {
        path: path.clone(),
        source,
    })
}

/// Reads a report. Its format follows from its first character.
pub fn read(bytes: &[u8]) -> Result<Vec<Case>, Error> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    match text.bytes().next() {
        Some(b'<') => junit::read(text),
        Some(b'{') => go::read(text),
        _ => tap::read(text),
    }
}

/// Cuts a message to the longest that is kept.
fn shortened(text: &str) -> String {
    let text = text.trim();
    if text.len() <= MOST_MESSAGE {
        return text.to_owned();
    }
    let mut end = MOST_MESSAGE;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// Reads seconds such as `1.234` or `1,234.5` as milliseconds; 0 if they are none.
fn milliseconds(seconds: &str) -> u64 {
    let seconds: f64 = seconds.replace(',', "").trim().parse().unwrap_or(0.0);
    std::time::Duration::try_from_secs_f64(seconds)
        .ok()
        .and_then(|time| u64::try_from(time.as_millis()).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_follows_from_the_first_character() {
        let names = |text: &str| {
            let cases = read(text.as_bytes())?;
            Ok(cases.into_iter().map(|case| case.name).collect::<Vec<_>>())
        };
        let one = |name: &str| Ok(vec![name.to_owned()]);
        assert_eq!(
            names("\u{feff}<testsuite><testcase name='a'/></testsuite>"),
            one("a")
        );
        assert_eq!(
            names("{\"Action\":\"pass\",\"Package\":\"p\",\"Test\":\"b\"}\n"),
            one("b")
        );
        assert_eq!(names("ok 1 - c\n1..1\n"), one("c"));
        assert_eq!(names("hello"), Err(Error::Unknown));
        assert_eq!(names(""), Err(Error::Unknown));
    }

    #[test]
    fn long_message_is_cut_between_characters() {
        let text = "ü".repeat(MOST_MESSAGE);
        let cut = shortened(&text);
        assert_eq!(cut.len(), MOST_MESSAGE + "…".len());
    }

    #[test]
    fn seconds_become_milliseconds() {
        assert_eq!(
            ["1.234", "1,234.5", "", "-1", "NaN", "1e400"].map(milliseconds),
            [1234, 1_234_500, 0, 0, 0, 0]
        );
    }
}
