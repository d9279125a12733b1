//! Defines [`Root`], the folder of a workspace, and [`RelPath`], a path below it that cannot
//! leave it. No other file joins the two.
//!
//! Paths are bytes: a name need not be UTF-8, and may contain spaces, quotes and newlines.
//! [`escape`] is the only conversion to text.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest path, in bytes, that the system accepts (Linux `PATH_MAX` without its NUL).
pub const MAX_PATH: usize = 4095;
/// The longest name of one file, in bytes (Linux `NAME_MAX`).
pub const MAX_NAME: usize = 255;

/// A normalised path below a [`Root`]: components joined by `/`, none of them empty, `.` or
/// `..`. The empty path is the root itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RelPath(Box<[u8]>);

/// Any path, in a state file: serde's own form of a path refuses names that are not UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "OsString", into = "OsString")]
pub struct StatePath(PathBuf);

impl<P: Into<PathBuf>> From<P> for StatePath {
    fn from(path: P) -> Self {
        Self(path.into())
    }
}

impl From<StatePath> for OsString {
    fn from(path: StatePath) -> Self {
        path.0.into_os_string()
    }
}

impl Deref for StatePath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

/// The error for a text that is not a path below the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It begins with `/`.
    #[error("the path is absolute")]
    Absolute,
    /// It has a `..` component.
    #[error("the path has a `..` component")]
    Parent,
    /// It has a NUL byte.
    #[error("the path has a NUL byte")]
    Nul,
    /// It is longer than [`MAX_PATH`].
    #[error("the path is longer than {MAX_PATH} bytes")]
    TooLong,
    /// A component is longer than [`MAX_NAME`].
    #[error("a name in the path is longer than {MAX_NAME} bytes")]
    NameTooLong,
}

impl RelPath {
    /// Returns the root itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// Parses a path. Removes repeated slashes, `.` components and a trailing slash.
    pub fn new(text: impl AsRef<[u8]>) -> Result<Self, Error> {
        let text = text.as_ref();
        check(text)?;
        let is_kept = |part: &&[u8]| !part.is_empty() && *part != b".";
        if text.split(|b| *b == b'/').all(|part| is_kept(&part)) {
            return Ok(Self(text.into()));
        }
        let parts: Vec<&[u8]> = text.split(|b| *b == b'/').filter(is_kept).collect();
        Ok(Self(parts.join(&b'/').into()))
    }

    /// Returns this path with `name`, one component, added.
    pub fn child(&self, name: &[u8]) -> Self {
        debug_assert!(!name.is_empty() && !name.contains(&b'/'));
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        if !self.is_root() {
            bytes.extend_from_slice(&self.0);
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        Self(bytes.into())
    }

    /// Returns this path with all of `below` added.
    pub fn join(&self, below: &Self) -> Self {
        match (self.is_root(), below.is_root()) {
            (true, _) => below.clone(),
            (_, true) => self.clone(),
            _ => Self([&*self.0, &*below.0].join(&b'/').into()),
        }
    }

    /// Returns the folder that contains it, or `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        Some(Self(self.0[..end].into()))
    }

    /// Returns the last component, empty for the root.
    pub fn name(&self) -> &[u8] {
        let start = self.0.iter().rposition(|b| *b == b'/').map_or(0, |i| i + 1);
        &self.0[start..]
    }

    /// Returns the components, first to last.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|part| !part.is_empty())
    }

    /// Returns true if it is `folder` or is below it.
    pub fn is_within(&self, folder: &Self) -> bool {
        folder.is_root()
            || self.0.starts_with(&folder.0)
                && matches!(self.0.get(folder.0.len()), None | Some(b'/'))
    }

    /// Returns the part of the path below `folder`, if it is within it.
    pub fn below(&self, folder: &Self) -> Option<Self> {
        if !self.is_within(folder) {
            return None;
        }
        let skip = match folder.0.len() {
            0 => 0,
            n => (n + 1).min(self.0.len()),
        };
        Some(Self(self.0[skip..].into()))
    }

    /// Returns true if it is the root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the bytes of the path, without a leading or trailing slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the path for system calls relative to the root: `.` for the root itself.
    pub fn as_path(&self) -> &Path {
        if self.is_root() {
            Path::new(".")
        } else {
            Path::new(OsStr::from_bytes(&self.0))
        }
    }
}

fn check(text: &[u8]) -> Result<(), Error> {
    if text.contains(&0) {
        return Err(Error::Nul);
    }
    if text.starts_with(b"/") {
        return Err(Error::Absolute);
    }
    if text.len() > MAX_PATH {
        return Err(Error::TooLong);
    }
    for part in text.split(|b| *b == b'/') {
        if part == b".." {
            return Err(Error::Parent);
        }
        if part.len() > MAX_NAME {
            return Err(Error::NameTooLong);
        }
    }
    Ok(())
}

/// Formats the path with [`escape`]; the root is `.`.
impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            f.write_str(".")
        } else {
            f.write_str(&escape(&self.0))
        }
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

/// Converts `bytes` to text. UTF-8 stays as it is, except that a backslash is doubled;
/// control characters, bidirectional marks and bytes that are not UTF-8 become `\xNN` for
/// each byte.
pub fn escape(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.contains(is_escaped)
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_escaped(&mut out, c);
        }
        push_hex(&mut out, chunk.invalid());
    }
    Cow::Owned(out)
}

/// Returns true if a character is dangerous or ambiguous on a terminal or in a line of text.
pub fn is_escaped(c: char) -> bool {
    let is_bidi =
        matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    c == '\\' || c.is_control() || is_bidi
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '\\' => out.push_str("\\\\"),
        c if is_escaped(c) => push_hex(out, c.encode_utf8(&mut [0; 4]).as_bytes()),
        c => out.push(c),
    }
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        out.push_str(&format!("\\x{byte:02x}"));
    }
}

/// Reverses [`escape`]. Returns `None` if `text` is not in that form.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = match (byte, after) {
            (b'\\', [b'\\', after @ ..]) => {
                out.push(b'\\');
                after
            }
            (b'\\', [b'x', digits @ ..]) => {
                let pair = std::str::from_utf8(digits.get(..2)?).ok()?;
                out.push(u8::from_str_radix(pair, 16).ok()?);
                &digits[2..]
            }
            (b'\\', _) => return None,
            _ => {
                out.push(*byte);
                after
            }
        };
    }
    Some(out)
}

/// Serializes to escaped text in readable formats and to plain bytes in binary ones.
impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&escape(&self.0))
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            unescape(&text).ok_or_else(|| serde::de::Error::custom("not an escaped path"))?
        } else {
            <&[u8]>::deserialize(deserializer)?.to_vec()
        };
        let path = Self::new(&bytes).map_err(serde::de::Error::custom)?;
        if *path.0 == *bytes {
            Ok(path)
        } else {
            Err(serde::de::Error::custom("not a normalised path"))
        }
    }
}

/// The folder of a workspace, opened once; system calls are relative to it.
#[derive(Clone, Debug)]
pub struct Root {
    path: Arc<Path>,
    folder: Arc<File>,
}

impl Root {
    /// Opens the folder at `path` as a root. Its path becomes absolute, with links resolved.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let folder = File::open(&path)?;
        if !folder.metadata()?.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        Ok(Self {
            path: path.into(),
            folder: Arc::new(folder),
        })
    }

    /// Returns its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the absolute path of `below`, for programs that need one.
    pub fn absolute(&self, below: &RelPath) -> PathBuf {
        if below.is_root() {
            // Joining the empty path would add a slash.
            self.path.to_path_buf()
        } else {
            self.path.join(OsStr::from_bytes(below.as_bytes()))
        }
    }

    /// Returns the part of an absolute `path` below this root, if it is below it.
    pub fn relative(&self, path: &Path) -> Option<RelPath> {
        let below = path.strip_prefix(&self.path).ok()?;
        RelPath::new(below.as_os_str().as_bytes()).ok()
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).unwrap()
    }

    #[test]
    fn new_normalises_paths() {
        assert_eq!(path("./a//b/./c/").as_bytes(), b"a/b/c");
        assert!(path(".").is_root());
    }

    #[test]
    fn new_rejects_paths_that_leave_the_root() {
        assert_eq!(RelPath::new("/etc"), Err(Error::Absolute));
        assert_eq!(RelPath::new("a/../b"), Err(Error::Parent));
    }

    #[test]
    fn new_rejects_paths_the_system_cannot_open() {
        assert_eq!(RelPath::new("a\0b"), Err(Error::Nul));
        assert_eq!(RelPath::new("a/".repeat(3000)), Err(Error::TooLong));
        assert_eq!(RelPath::new("a".repeat(256)), Err(Error::NameTooLong));
    }

    #[test]
    fn containment_is_by_component() {
        assert!(path("web/static/a").is_within(&path("web/static")));
        assert!(!path("web/static2").is_within(&path("web/static")));
        assert!(path("web").is_within(&RelPath::root()));
    }

    #[test]
    fn below_removes_whole_components() {
        assert_eq!(path("a/b/c").below(&path("a")), Some(path("b/c")));
        assert_eq!(path("a").below(&path("a")), Some(RelPath::root()));
    }

    #[test]
    fn parent_and_name_split_at_the_last_slash() {
        assert_eq!(path("a/b").parent(), Some(path("a")));
        assert_eq!(path("a").parent(), Some(RelPath::root()));
        assert_eq!(path("a/b").name(), b"b");
    }

    #[test]
    fn dangerous_characters_are_escaped() {
        let odd = RelPath::new(b"a\n\x1b[31m\xff\\\xe2\x80\xae").unwrap();
        assert_eq!(odd.to_string(), r"a\x0a\x1b[31m\xff\\\xe2\x80\xae");
    }

    proptest! {
        #[test]
        fn every_path_survives_text_and_binary(bytes in proptest::collection::vec(1u8.., 1..40)) {
            let Ok(path) = RelPath::new(&bytes) else { return Ok(()) };
            let json = serde_json::to_string(&path).unwrap();
            prop_assert_eq!(&serde_json::from_str::<RelPath>(&json).unwrap(), &path);
            let binary = postcard::to_stdvec(&path).unwrap();
            prop_assert_eq!(&postcard::from_bytes::<RelPath>(&binary).unwrap(), &path);
        }
    }
}
