//! Reads values as patterns, paths, durations, sizes, versions, flags. It does not know
//! the nodes that they belong to.

use std::time::Duration;

use super::scope::Scope;
use crate::buildfile::codes;
use crate::buildfile::model::{Requirement, Spanned};
use crate::buildfile::quantity;
use crate::buildfile::sink::shown;
use crate::buildfile::syntax::node::{Data, Value};
use crate::buildfile::version;
use crate::glob::{self, Pattern};
use crate::path::{self, RelPath};
use crate::source::{Diagnostic, Span};

/// Returns a flag.
pub(crate) fn flag(value: &Value) -> Option<bool> {
    match value.data {
        Data::Flag(flag) => Some(flag),
        Data::Text(_) | Data::Count(_) => None,
    }
}

/// Returns a whole number.
pub(crate) fn count(value: &Value) -> Option<u32> {
    match value.data {
        Data::Count(count) => Some(count),
        Data::Text(_) | Data::Flag(_) => None,
    }
}

/// Reads a pattern that is relative to `base`.
pub(crate) fn pattern(
    value: &Value,
    base: &RelPath,
    scope: &mut Scope<'_>,
) -> Option<Spanned<Pattern>> {
    let text = scope.plain(value)?;
    pattern_of(&text, value.span, base, scope)
}

/// Reads a pattern whose variables are in place.
pub(super) fn pattern_of(
    text: &str,
    span: Span,
    base: &RelPath,
    scope: &mut Scope<'_>,
) -> Option<Spanned<Pattern>> {
    match Pattern::new(text) {
        Ok(pattern) => Some(Spanned::new(pattern.within(base), span)),
        Err(glob::Error::Path(error)) => {
            scope.sink.push(bad_path(text, error, span));
            None
        }
        Err(error) => {
            let message = format!("`{}` is not a pattern: {error}", shown(text));
            let diagnostic = Diagnostic::error(codes::PATTERN, message);
            let help = match error {
                glob::Error::StarsNotAlone => {
                    "write `**/` for any number of folders, and `*` within a name"
                }
                glob::Error::Empty => "name a file, or `**` for all",
                glob::Error::TooManyCharacters => {
                    "write `*` in the place of some of them, or several patterns"
                }
                _ => "put a `\\` before a character that is to stand for itself",
            };
            scope
                .sink
                .push(diagnostic.label(span, "cannot be matched").help(help));
            None
        }
    }
}

/// Makes the report of a text that is not a path below the root.
pub(crate) fn bad_path(text: &str, error: path::Error, span: Span) -> Diagnostic {
    let shown = shown(text);
    let (message, help) = match error {
        path::Error::Absolute => (
            format!("`{shown}` is an absolute path"),
            "write it relative to the project's root; what lies outside is no part of the build",
        ),
        path::Error::Parent => (
            format!("`{shown}` leaves the project's root, or could"),
            "write it without `..`; if it lies outside the root, move the root up with `project NAME { root … }`",
        ),
        error => (
            format!("`{shown}` is not a path: {error}"),
            "name a file or folder below the root",
        ),
    };
    Diagnostic::error(codes::PATH, message)
        .label(span, "not a path below the root")
        .help(help)
}

/// Reads a duration.
pub(crate) fn duration(value: &Value, scope: &mut Scope<'_>) -> Option<Duration> {
    let text = scope.plain(value)?;
    let read = quantity::duration(&text);
    quantity_or(
        read,
        (codes::DURATION, "a duration", quantity::DURATION_HELP),
        value.span,
        scope,
    )
}

/// Reads a size.
pub(crate) fn size(value: &Value, scope: &mut Scope<'_>) -> Option<u64> {
    let text = scope.plain(value)?;
    let read = quantity::size(&text);
    quantity_or(
        read,
        (codes::SIZE, "a size", quantity::SIZE_HELP),
        value.span,
        scope,
    )
}

fn quantity_or<T>(
    read: Result<T, quantity::Error>,
    (code, what, help): (&str, &str, &str),
    span: Span,
    scope: &mut Scope<'_>,
) -> Option<T> {
    match read {
        Ok(value) => Some(value),
        Err(error) => {
            let message = format!("this is not {what}: {}", shown(&error.to_string()));
            let diagnostic = Diagnostic::error(code, message);
            scope
                .sink
                .push(diagnostic.label(span, format!("not {what}")).help(help));
            None
        }
    }
}

/// Reads a version requirement.
pub(crate) fn requirement(value: &Value, scope: &mut Scope<'_>) -> Option<Spanned<Requirement>> {
    let text = scope.plain(value)?;
    match text.parse() {
        Ok(requirement) => Some(Spanned::new(requirement, value.span)),
        Err(version::Error { message, help }) => {
            let diagnostic = Diagnostic::error(codes::VERSION, shown(&message));
            let diagnostic = diagnostic.label(value.span, "not a version requirement");
            scope.sink.push(diagnostic.help(help));
            None
        }
    }
}
