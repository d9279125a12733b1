//! Source texts and diagnostics about them: spans, labels, suggestions. It does not know
//! the meaning of the texts, nor where diagnostics are shown.

mod excerpt;
#[cfg(test)]
pub(crate) mod golden;
mod render;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The id of a file in [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileId(pub u32);

/// A range of bytes in a source text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// The offset of the first byte.
    pub start: u32,
    /// The number of bytes.
    pub len: u32,
}

/// The source texts of a workspace, in the order they were read.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<SourceFile>,
}

/// One source text.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Its path in messages.
    pub path: PathBuf,
    /// Its text.
    pub text: Arc<str>,
}

impl Sources {
    /// Adds a text and returns its id.
    pub fn add(&mut self, path: impl Into<PathBuf>, text: impl Into<Arc<str>>) -> FileId {
        self.files.push(SourceFile {
            path: path.into(),
            text: text.into(),
        });
        FileId(u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX))
    }

    /// Returns the file with this id.
    pub fn get(&self, id: FileId) -> Option<&SourceFile> {
        self.files.get(id.0 as usize)
    }

    /// Returns all files in the order they were added.
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// Returns the file, line and column of a span's start; both count from 1, the column in characters.
    pub fn position(&self, span: Span) -> Option<(&Path, usize, usize)> {
        let file = self.get(span.file)?;
        let before = file.text.get(..span.start as usize)?;
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Some((&file.path, line, column))
    }
}

/// The severity of a [`Diagnostic`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing can be built.
    Error,
    /// Likely a mistake.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// A message about the sources, with labelled spans and help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// A stable code such as `fbuild::graph::cycle`, explained in `docs/errors.md`.
    pub code: String,
    /// How bad it is.
    pub severity: Severity,
    /// The message: lower case, no period, names in backticks.
    pub message: String,
    /// The labelled spans; the first is the main one.
    pub labels: Vec<Label>,
    /// The next thing to do or type.
    pub help: Option<String>,
}

/// A span with words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// The words under it.
    pub text: String,
}

impl Diagnostic {
    /// Starts an error.
    pub fn error(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            severity: Severity::Error,
            message: message.into(),
            labels: Vec::new(),
            help: None,
        }
    }

    /// Starts a warning.
    pub fn warning(code: &str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(code, message)
        }
    }

    /// Adds a labelled span.
    #[must_use]
    pub fn label(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label {
            span,
            text: text.into(),
        });
        self
    }

    /// Sets the help.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Suggests the name in `known` that is close enough to `name`, if any.
    #[must_use]
    pub fn did_you_mean<'a>(self, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(name, known) {
            Some(near) => self.help(format!("did you mean `{near}`?")),
            None => self,
        }
    }
}

/// Returns the name in `known` nearest to `name`, if it is near enough to be a typo: at
/// most one edit in three characters (Damerau-Levenshtein). Names of more than 200 bytes
/// are near none.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (name.chars().count() / 3).max(1);
    let is_comparable = |other: &&str| {
        name.len().max(other.len()) <= 200 && name.len().abs_diff(other.len()) <= 4 * most
    };
    known
        .into_iter()
        .filter(is_comparable)
        .map(|other| (strsim::damerau_levenshtein(name, other), other))
        .filter(|(distance, other)| *distance <= most && *other != name)
        .min()
        .map(|(_, other)| other)
}

pub use render::{RenderOptions, render, render_all};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_typos_only() {
        let known = ["manager", "worker", "webapp-static"];
        assert_eq!(nearest("manger", known), Some("manager"));
        assert_eq!(nearest("wroker", known), Some("worker"));
        assert_eq!(nearest("zip", known), None);
    }

    #[test]
    fn positions_count_from_one() {
        let mut sources = Sources::default();
        let file = sources.add("Buildfile.kdl", "a\néb c\n");
        let span = |start| Span {
            file,
            start,
            len: 1,
        };
        let at = |start| sources.position(span(start)).map(|(_, l, c)| (l, c));
        assert_eq!(at(0), Some((1, 1)));
        assert_eq!(at(5), Some((2, 3)));
        assert_eq!(at(99), None);
    }
}
