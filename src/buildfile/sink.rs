//! Where diagnostics gather while a Buildfile is read: all of them up to a bound, so
//! that hostile text cannot fill the memory with complaints.

use crate::source::{Diagnostic, Severity, nearest};

/// The most diagnostics kept of one load.
const MOST: usize = 1_000;
/// How many diagnostics say what was perhaps meant.
const MOST_SUGGESTIONS: usize = 100;
/// How many names are looked at for what was perhaps meant.
const MOST_NAMES: usize = 10_000;

/// Diagnostics in the order they were found.
#[derive(Debug, Default)]
pub(super) struct Sink {
    diagnostics: Vec<Diagnostic>,
    errors: usize,
}

impl Sink {
    /// Takes in a diagnostic, unless there are too many already.
    pub(super) fn push(&mut self, diagnostic: Diagnostic) {
        self.errors += usize::from(diagnostic.severity == Severity::Error);
        if !self.is_full() {
            self.diagnostics.push(diagnostic);
        }
    }

    /// Tells whether there are so many that looking further is of no use.
    pub(super) fn is_full(&self) -> bool {
        self.diagnostics.len() >= MOST
    }

    /// Returns the name in `known` nearest to `name`; none when there are so many
    /// diagnostics or names already that looking would take long.
    pub(super) fn nearest<'k>(
        &self,
        name: &str,
        known: impl Iterator<Item = &'k str>,
    ) -> Option<&'k str> {
        let is_worthwhile = self.diagnostics.len() < MOST_SUGGESTIONS;
        nearest(name, known.take(MOST_NAMES * usize::from(is_worthwhile)))
    }

    /// Returns how many errors there were.
    pub(super) fn errors(&self) -> usize {
        self.errors
    }

    /// Returns everything taken in.
    pub(super) fn into_diagnostics(self) -> Vec<Diagnostic> {
        self.diagnostics
    }
}

/// Returns a piece of the source for a message: short, and harmless on a terminal.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", crate::path::escape(&text.as_bytes()[..end])),
        None if text.contains(char::is_control) => crate::path::escape(text.as_bytes()).into(),
        None => text.to_owned(),
    }
}

/// Returns names as people list alternatives.
pub(super) fn listed<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    match &names[..] {
        [all @ .., last] if !all.is_empty() => format!("{} or {last}", all.join(", ")),
        names => names.concat(),
    }
}
