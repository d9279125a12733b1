//! Finds the values of `for NAME files="…"`: the names that a pattern captures in the tree. A
//! compiled Buildfile depends on them, so they can be found again.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::glob::{self, Pattern};
use crate::path::{RelPath, StatePath};

/// The most values of one pattern.
pub(super) const MOST: usize = 100_000;
/// The most names in folders that are examined for one pattern.
const MOST_EXAMINED: usize = 1_000_000;

/// A pattern and the values that it had when the Buildfile was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// The folder that the pattern is relative to.
    folder: StatePath,
    /// The pattern, with the name in braces.
    pattern: String,
    name: String,
    /// The digest of its values.
    digest: Digest,
}

/// The reason why a pattern has no values.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It has not exactly one place for the value.
    #[error("the pattern needs `{{{name}}}` once")]
    Place {
        /// The name of the value.
        name: String,
    },
    /// A part cannot be used.
    #[error("`{part}` cannot be used here")]
    Part {
        /// The part between two slashes.
        part: String,
    },
    /// A part is not a pattern.
    #[error("`{part}` is not a pattern: {source}")]
    Pattern {
        /// The part between two slashes.
        part: String,
        /// The mistake in it.
        source: glob::Error,
    },
    /// A folder cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A name is not UTF-8.
    #[error("the name of `{}` is not UTF-8", path.display())]
    NotText {
        /// The file or folder.
        path: PathBuf,
    },
    /// There are too many values, or names among which they are searched.
    #[error("more than {MOST} files match, or more than {MOST_EXAMINED} are in these folders")]
    TooMany,
}

impl Listing {
    /// Finds the values of `pattern`, which is relative to `folder` and contains `{name}`;
    /// sorted, each once.
    pub(super) fn find(
        folder: &Path,
        pattern: &str,
        name: &str,
    ) -> Result<(Self, Vec<String>), Error> {
        let values = Query::new(pattern, name)?.find(folder)?;
        let listing = Self {
            folder: folder.into(),
            pattern: pattern.to_owned(),
            name: name.to_owned(),
            digest: digest(&values),
        };
        Ok((listing, values.into_iter().collect()))
    }

    /// Returns the listing as it is now; `None` if it has become a mistake.
    pub fn again(&self) -> Option<Self> {
        let found = Self::find(&self.folder, &self.pattern, &self.name);
        Some(found.ok()?.0)
    }

    /// Returns true if the values are still the same.
    pub fn is_current(&self) -> bool {
        self.again().as_ref() == Some(self)
    }
}

fn digest(values: &BTreeSet<String>) -> Digest {
    let mut text = String::new();
    for value in values {
        text.push_str(value);
        // No name has a slash.
        text.push('/');
    }
    Digest::of(text.as_bytes())
}

/// A pattern that is cut at its slashes.
struct Query<'p> {
    parts: Vec<Part<'p>>,
    /// True if it matches folders instead of files.
    is_of_folders: bool,
}

enum Part<'p> {
    /// A name.
    Literal(&'p str),
    /// A pattern for one name; whether it may start with a dot.
    Wild(Pattern, bool),
    /// The texts before and after the value.
    Capture(&'p str, &'p str),
}

/// A path that matches the first parts of a pattern, and the value captured so far.
struct Found {
    path: PathBuf,
    value: Option<String>,
}

impl<'p> Query<'p> {
    fn new(pattern: &'p str, name: &str) -> Result<Self, Error> {
        let place = format!("{{{name}}}");
        if pattern.matches(&place).count() != 1 {
            let name = name.to_owned();
            return Err(Error::Place { name });
        }
        let is_of_folders = pattern.ends_with('/');
        let texts = pattern.split('/').filter(|text| !matches!(*text, "" | "."));
        Ok(Self {
            parts: texts
                .map(|text| Part::new(text, &place))
                .collect::<Result<_, _>>()?,
            is_of_folders,
        })
    }

    fn find(&self, folder: &Path) -> Result<BTreeSet<String>, Error> {
        let mut examined = 0;
        let mut found = vec![Found {
            path: folder.to_owned(),
            value: None,
        }];
        for part in &self.parts {
            let mut next = Vec::new();
            for found in found {
                if let Part::Literal(name) = part {
                    let path = found.path.join(name);
                    next.push(Found { path, ..found });
                } else {
                    part.read(found, &mut next, &mut examined)?;
                }
            }
            found = next;
        }
        let is_right = |found: &Found| {
            let metadata = fs::metadata(&found.path).ok();
            metadata.is_some_and(|metadata| metadata.is_dir() == self.is_of_folders)
        };
        let values = found.into_iter().filter(is_right);
        let values: BTreeSet<String> = values.filter_map(|found| found.value).collect();
        if values.len() > MOST {
            return Err(Error::TooMany);
        }
        Ok(values)
    }
}

impl<'p> Part<'p> {
    fn new(text: &'p str, place: &str) -> Result<Self, Error> {
        let has_wildcards = |text: &str| text.contains(['*', '?', '[', ']', '{', '}', '\\']);
        let wrong = || Error::Part {
            part: text.to_owned(),
        };
        if let Some((before, after)) = text.split_once(place) {
            if has_wildcards(before) || has_wildcards(after) {
                return Err(wrong());
            }
            return Ok(Self::Capture(before, after));
        }
        if matches!(text, "**" | "..") {
            return Err(wrong());
        }
        if !has_wildcards(text) {
            return Ok(Self::Literal(text));
        }
        let pattern = Pattern::new(text).map_err(|source| Error::Pattern {
            part: text.to_owned(),
            source,
        })?;
        Ok(Self::Wild(pattern, text.starts_with('.')))
    }

    /// Adds the entries of a folder that match.
    fn read(&self, found: Found, next: &mut Vec<Found>, examined: &mut usize) -> Result<(), Error> {
        let unreadable = |source| Error::Unreadable {
            path: found.path.clone(),
            source,
        };
        let entries = match fs::read_dir(&found.path) {
            Ok(entries) => entries,
            Err(error) if is_absence(&error) => return Ok(()),
            Err(error) => return Err(unreadable(error)),
        };
        for entry in entries {
            let entry = entry.map_err(unreadable)?;
            *examined += 1;
            if *examined > MOST_EXAMINED {
                return Err(Error::TooMany);
            }
            if let Some(captured) = self.matches(&entry)? {
                next.push(Found {
                    path: entry.path(),
                    value: captured.or_else(|| found.value.clone()),
                });
            }
        }
        Ok(())
    }

    /// Returns whether an entry matches, and the value that is captured.
    #[expect(clippy::option_option, reason = "a match need not capture a value")]
    fn matches(&self, entry: &DirEntry) -> Result<Option<Option<String>>, Error> {
        let name = entry.file_name();
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        match self {
            Self::Literal(literal) => Ok((name == **literal).then_some(None)),
            Self::Wild(pattern, takes_hidden) => {
                let name = RelPath::new(name.as_encoded_bytes())
                    .ok()
                    .filter(|_| *takes_hidden || !is_hidden);
                Ok(name
                    .is_some_and(|name| pattern.matches(&name))
                    .then_some(None))
            }
            Self::Capture(before, after) => {
                let bytes = name.as_encoded_bytes();
                let inner = bytes.strip_prefix(before.as_bytes());
                let inner = inner.and_then(|inner| inner.strip_suffix(after.as_bytes()));
                let inner = inner.filter(|inner| !inner.is_empty());
                let Some(inner) = inner.filter(|_| !is_hidden || before.starts_with('.')) else {
                    return Ok(None);
                };
                let text = std::str::from_utf8(inner)
                    .map_err(|_| Error::NotText { path: entry.path() })?;
                Ok(Some(Some(text.to_owned())))
            }
        }
    }
}

/// Returns true if a folder does not exist, or is a file.
fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        folder
    }

    #[track_caller]
    fn check(pattern: &str, expected: &[&str]) {
        let tree = tree(&[
            "src/main.c",
            "src/util.c",
            "src/.hidden.c",
            "src/util.h",
            "src/folder.c/x",
            "apps/web/package.json",
            "apps/api/package.json",
            "apps/docs/readme",
            "libs/ui/package.json",
        ]);
        let (listing, values) = Listing::find(tree.path(), pattern, "x").unwrap();
        assert_eq!(values, expected, "{pattern}");
        assert!(listing.is_current());
    }

    #[test]
    fn pattern_captures_names_of_files() {
        check("src/{x}.c", &["main", "util"]);
        check("./src//{x}", &["main.c", "util.c", "util.h"]);
        check("src/.{x}.c", &["hidden"]);
        check("none/{x}.c", &[]);
        check("src/main.c/{x}", &[]);
    }

    #[test]
    fn pattern_captures_names_of_folders() {
        check("apps/{x}/package.json", &["api", "web"]);
        check("*/{x}/package.json", &["api", "ui", "web"]);
        check("apps/{x}/", &["api", "docs", "web"]);
        check("{x}/web/*.json", &["apps"]);
    }

    #[test]
    fn pattern_needs_one_plain_place() {
        let message = |pattern| {
            let found = Listing::find(Path::new("/"), pattern, "x");
            found.unwrap_err().to_string()
        };
        assert_eq!(message("src/*.c"), "the pattern needs `{x}` once");
        assert_eq!(message("{x}/{x}.c"), "the pattern needs `{x}` once");
        assert_eq!(message("**/{x}.c"), "`**` cannot be used here");
        assert_eq!(message("../{x}.c"), "`..` cannot be used here");
        assert_eq!(message("src/*{x}.c"), "`*{x}.c` cannot be used here");
    }

    #[test]
    fn new_file_changes_the_listing() {
        let tree = tree(&["src/main.c"]);
        let (listing, _) = Listing::find(tree.path(), "src/{x}.c", "x").unwrap();
        fs::write(tree.path().join("src/main.h"), "").unwrap();
        assert!(listing.is_current());
        fs::write(tree.path().join("src/util.c"), "").unwrap();
        assert!(!listing.is_current());
    }
}
