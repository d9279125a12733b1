//! Compiles the wildcards of a pattern. It does not know folders and tails.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::OnceLock;

use globset::{Glob, GlobBuilder, GlobMatcher};

use super::Error;
use super::characters::Characters;

/// A matcher that is compiled on first use: every start of the program reads many
/// patterns, and few of them are matched.
pub(super) struct Matcher {
    compiled: Compiled,
    /// Maps paths to bytes before they are matched, if the pattern counts characters.
    characters: Option<Characters>,
}

/// The `globset` matcher of a pattern, which counts bytes.
struct Compiled {
    glob: Glob,
    matcher: OnceLock<GlobMatcher>,
}

impl Matcher {
    /// Reads the part of a pattern from its first wildcard on.
    pub(super) fn new(text: &str) -> Result<Self, Error> {
        let compiled = Compiled::new(text)?;
        let characters = Characters::of(text)?;
        Ok(Self {
            compiled: match &characters {
                Some(characters) => Compiled::new(&characters.pattern(text))?,
                None => compiled,
            },
            characters,
        })
    }

    /// Returns true if it matches `path`.
    pub(super) fn is_match(&self, path: &Path) -> bool {
        let bytes = path.as_os_str().as_bytes();
        let turned = self.characters.as_ref();
        match turned.and_then(|characters| characters.path(bytes)) {
            Some(bytes) => self.compiled.is_match(Path::new(OsStr::from_bytes(&bytes))),
            None => self.compiled.is_match(path),
        }
    }
}

impl Compiled {
    fn new(text: &str) -> Result<Self, Error> {
        let glob = GlobBuilder::new(text)
            .literal_separator(true)
            .backslash_escape(true)
            .empty_alternates(true)
            .build();
        match glob {
            Ok(glob) => Ok(Self {
                glob,
                matcher: OnceLock::new(),
            }),
            Err(error) => Err(Error::Syntax(error.kind().to_string())),
        }
    }

    fn is_match(&self, path: &Path) -> bool {
        let matcher = self.matcher.get_or_init(|| self.glob.compile_matcher());
        matcher.is_match(path)
    }
}
