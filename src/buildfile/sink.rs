//! Collects the diagnostics of a load, up to a limit, so that hostile text cannot fill the
//! memory.

use std::collections::HashSet;

use crate::source::{Diagnostic, Label, Severity, Span, nearest};

/// The most diagnostics of one load.
const MOST: usize = 1_000;
/// The most diagnostics with a suggestion.
const MOST_SUGGESTIONS: usize = 100;
/// The most names that are compared for a suggestion.
const MOST_NAMES: usize = 10_000;

/// Diagnostics in the order found.
#[derive(Debug, Default)]
pub(super) struct Sink {
    diagnostics: Vec<Diagnostic>,
    errors: usize,
    /// While a block is read again with other values: the values, as labels.
    context: Option<Vec<Label>>,
    /// The code and span of each diagnostic.
    seen: HashSet<(String, Option<Span>)>,
}

impl Sink {
    /// Adds a diagnostic, unless the limit is reached.
    pub(super) fn push(&mut self, mut diagnostic: Diagnostic) {
        self.errors += usize::from(diagnostic.severity == Severity::Error);
        if self.is_full() {
            return;
        }
        let place = diagnostic.labels.first().map(|label| label.span);
        let is_new = self.seen.insert((diagnostic.code.clone(), place));
        // A mistake in a block is one mistake, however many targets are made of it.
        if is_new || self.context.is_none() {
            diagnostic
                .labels
                .extend(self.context.iter().flatten().cloned());
            self.diagnostics.push(diagnostic);
        }
    }

    /// Adds labels to each diagnostic from now on, and returns those that were added before.
    /// With labels, even none, a mistake that was reported before is not reported again.
    pub(super) fn set_context(&mut self, context: Option<Vec<Label>>) -> Option<Vec<Label>> {
        std::mem::replace(&mut self.context, context)
    }

    /// Returns true if the limit is reached, so that there is no use in further checks.
    pub(super) fn is_full(&self) -> bool {
        self.diagnostics.len() >= MOST
    }

    /// Returns the name in `known` nearest to `name`; `None` if there are so many diagnostics
    /// that suggestions would take long.
    pub(super) fn nearest<'k>(
        &self,
        name: &str,
        known: impl Iterator<Item = &'k str>,
    ) -> Option<&'k str> {
        let is_worthwhile = self.diagnostics.len() < MOST_SUGGESTIONS;
        nearest(name, known.take(MOST_NAMES * usize::from(is_worthwhile)))
    }

    /// Returns the number of errors, including those over the limit.
    pub(super) fn errors(&self) -> usize {
        self.errors
    }

    /// Returns the diagnostics.
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

/// Returns names as a list of alternatives, such as "`a`, `b` or `c`".
pub(super) fn listed<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    match &names[..] {
        [all @ .., last] if !all.is_empty() => format!("{} or {last}", all.join(", ")),
        names => names.concat(),
    }
}
