//! Reads and writes `Buildfile.lock`, which is committed with generated files. One line for
//! each target with committed outputs names the inputs that they were made from, and them.
//!
//! ```text
//! # Written by `fbuild run`: commit it together with the outputs of these targets.
//! fbuild-lock 1
//! generate inputs=<hex> outputs=<hex> folders=<hex>
//! ```
//!
//! `folders` describes empty folders among the outputs, and is missing if there are none.
//! Lines are sorted by the targets' names, so that changes of two branches rarely collide. A line
//! that cannot be read, such as a conflict marker, counts as missing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

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
    /// The hexadecimal digest of the files and links among the outputs.
    pub outputs: String,
    /// The hexadecimal digest of their empty folders, which version control does not keep.
    pub folders: Option<String>,
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
    /// Creates a line from digests.
    pub fn new(inputs: &Digest, outputs: &Digest, folders: Option<&Digest>) -> Self {
        Self {
            inputs: inputs.hex(),
            outputs: outputs.hex(),
            folders: folders.map(Digest::hex),
        }
    }

    /// Decodes a line; `None` if it is damaged.
    fn decode(text: &str) -> Option<(String, Self)> {
        let (rest, outputs) = text.rsplit_once(" outputs=")?;
        let (name, inputs) = rest.rsplit_once(" inputs=")?;
        let (outputs, folders) = match outputs.split_once(" folders=") {
            Some((outputs, folders)) => (outputs, Some(folders)),
            None => (outputs, None),
        };
        let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let line = Self {
            inputs: inputs.to_owned(),
            outputs: outputs.to_owned(),
            folders: folders.map(str::to_owned),
        };
        let name = String::from_utf8(unescape(name)?).ok()?;
        let mut digests = [inputs, outputs].into_iter().chain(folders);
        digests.all(is_hex).then_some((name, line))
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

    /// Writes the file, atomically, if its text changed; returns true if it did. The new text
    /// is first in the folder `temporary`, where a killed run leaves nothing in the user's way.
    pub fn write(&mut self, temporary: &Path) -> io::Result<bool> {
        let text = self.encode();
        if self.text.as_deref() == Some(&text) || (self.text.is_none() && self.lines.is_empty()) {
            return Ok(false);
        }
        let beside = self.path.with_extension("lock.new");
        let from = temporary.join("Buildfile.lock");
        // The state folder may be on another file system, or missing.
        if self.replace(&from, &text).is_err() {
            self.replace(&beside, &text)?;
        }
        self.text = Some(text);
        Ok(true)
    }

    fn replace(&self, from: &Path, text: &str) -> io::Result<()> {
        let written = write_new(from, text).and_then(|()| std::fs::rename(from, &self.path));
        if written.is_err() {
            // Ignore the error: the first one is reported.
            let _ = std::fs::remove_file(from);
        }
        written
    }

    fn encode(&self) -> String {
        let mut text = format!("{COMMENT}{FORMAT}\n");
        for (name, line) in &self.lines {
            let name = escape(name.as_bytes());
            let Line {
                inputs, outputs, ..
            } = line;
            let folders = line.folders.iter();
            let folders: String = folders.flat_map(|hex| [" folders=", hex]).collect();
            // Writing into a string cannot fail.
            let _ = writeln!(text, "{name} inputs={inputs} outputs={outputs}{folders}");
        }
        text
    }
}

/// Writes a new file, in the place of one that a killed run has left.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::create_new(path)?.write_all(text.as_bytes())
}

fn read_text(path: &Path) -> io::Result<String> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut text = String::new();
    let file = File::open(path)?;
    file.take(MAX_SIZE).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn line(text: &str) -> Line {
        let digest = Digest::of(text.as_bytes());
        Line::new(&digest, &digest, (text == "b").then_some(&digest))
    }

    #[test]
    fn lockfile_reads_back_its_sorted_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("project.lock");
        let mut lockfile = Lockfile::read(path.clone());
        assert!(!lockfile.write(dir.path()).unwrap(), "nothing to write");
        for name in ["b", "a b inputs=x", "ä\n"] {
            lockfile.set(name, line(name));
        }
        assert!(lockfile.write(dir.path()).unwrap());
        assert!(!lockfile.write(dir.path()).unwrap(), "the same text");
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
    fn lockfile_is_written_without_temporary_folder() {
        let dir = tempfile::tempdir().unwrap();
        let mut lockfile = Lockfile::read(dir.path().join("Buildfile.lock"));
        lockfile.set("a", line("a"));
        assert!(lockfile.write(Path::new("/nonexistent")).unwrap());
        let names = std::fs::read_dir(dir.path()).unwrap().flatten();
        let names: Vec<_> = names.map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["Buildfile.lock"]);
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
