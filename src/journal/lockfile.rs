//! Reads and writes `Buildfile.lock`, which is committed with generated files. One line for
//! each target with committed outputs names the inputs that they were made from, and them.
//!
//! ```text
//! # Written by `fbuild run`: commit it together with the outputs of these targets.
//! fbuild-lock 1
//! generate inputs=<hex> outputs=<hex>
//! ```
//!
//! Lines are sorted by the targets' names, so that changes of two branches rarely collide. A line
//! that cannot be read, such as a conflict marker, counts as missing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::checked_file;
use crate::digest::Digest;
use crate::path::{escape, unescape};

const COMMENT: &str =
    "# Written by `fbuild run`: commit it together with the outputs of these targets.\n";
/// The version of the format, and of the digests in it.
const FORMAT: &str = "fbuild-lock 1";
/// The longest file that is read, in bytes.
const MAX_SIZE: u64 = 16 << 20;

/// The committed outputs of one target, and the inputs that they were made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The hexadecimal digest of the inputs.
    pub inputs: String,
    /// The hexadecimal digest of the outputs.
    pub outputs: String,
}

/// The lines of a `Buildfile.lock`, by the targets' names.
#[derive(Debug)]
pub struct Lockfile {
    path: PathBuf,
    lines: BTreeMap<String, Line>,
    /// The text in the file; `None` if there is no such file.
    text: Option<String>,
}

impl Line {
    /// Creates a line from two digests.
    pub fn new(inputs: &Digest, outputs: &Digest) -> Self {
        Self {
            inputs: inputs.hex(),
            outputs: outputs.hex(),
        }
    }

    /// Decodes a line; `None` if it is damaged.
    fn decode(text: &str) -> Option<(String, Self)> {
        let (rest, outputs) = text.rsplit_once(" outputs=")?;
        let (name, inputs) = rest.rsplit_once(" inputs=")?;
        let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let line = Self {
            inputs: inputs.to_owned(),
            outputs: outputs.to_owned(),
        };
        let name = String::from_utf8(unescape(name)?).ok()?;
        (is_hex(inputs) && is_hex(outputs)).then_some((name, line))
    }
}

impl Lockfile {
    /// Reads the file at `path`. Without one there are no lines.
    pub fn read(path: PathBuf) -> Self {
        let text = read_text(&path).ok();
        let mut lines = BTreeMap::new();
        let body = text.as_deref().unwrap_or_default();
        let mut all = body.lines().filter(|line| !line.starts_with('#'));
        if all.next() == Some(FORMAT) {
            lines.extend(all.filter_map(Line::decode));
        }
        Self { path, lines, text }
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the line of a target.
    pub fn line(&self, target: &str) -> Option<&Line> {
        self.lines.get(target)
    }

    /// Sets the line of a target.
    pub fn set(&mut self, target: &str, line: Line) {
        self.lines.insert(target.to_owned(), line);
    }

    /// Drops the lines of other targets.
    pub fn retain(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.lines.retain(|target, _| is_kept(target));
    }

    /// Writes the file, atomically, if its text changed; returns true if it did.
    pub fn write(&mut self) -> io::Result<bool> {
        let text = self.encode();
        if self.text.as_deref() == Some(&text) || (self.text.is_none() && self.lines.is_empty()) {
            return Ok(false);
        }
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new()
            .prefix(".Buildfile.lock-")
            .permissions(std::fs::Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .map_err(checked_file::system_error)?;
        file.write_all(text.as_bytes())?;
        checked_file::replace(&self.path, file)?;
        self.text = Some(text);
        Ok(true)
    }

    fn encode(&self) -> String {
        let mut text = format!("{COMMENT}{FORMAT}\n");
        for (name, Line { inputs, outputs }) in &self.lines {
            let name = escape(name.as_bytes());
            // Writing into a string cannot fail.
            let _ = writeln!(text, "{name} inputs={inputs} outputs={outputs}");
        }
        text
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(MAX_SIZE).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        let digest = Digest::of(text.as_bytes());
        Line::new(&digest, &digest)
    }

    #[test]
    fn lockfile_reads_back_its_sorted_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("Buildfile.lock");
        let mut lockfile = Lockfile::read(path.clone());
        assert!(!lockfile.write().unwrap(), "nothing to write");
        for name in ["b", "a b inputs=x", "ä\n"] {
            lockfile.set(name, line(name));
        }
        assert!(lockfile.write().unwrap());
        assert!(!lockfile.write().unwrap(), "the same text");
        let again = Lockfile::read(path.clone());
        for name in ["b", "a b inputs=x", "ä\n"] {
            assert_eq!(again.line(name), Some(&line(name)), "{name}");
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.is_sorted());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o600, 0o600);
    }

    #[test]
    fn unreadable_line_counts_as_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("Buildfile.lock");
        let good = "a inputs=00 outputs=11\n";
        let read = |text: String| {
            std::fs::write(&path, text).unwrap();
            Lockfile::read(path.clone())
        };
        let conflict =
            format!("{COMMENT}{FORMAT}\n<<<<<<< HEAD\n{good}=======\nb inputs=zz outputs=11\n");
        let lockfile = read(conflict);
        assert!(lockfile.line("a").is_some());
        assert!(lockfile.line("b").is_none());
        assert!(read(format!("fbuild-lock 0\n{good}")).line("a").is_none());
    }
}
