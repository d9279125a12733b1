//! Reads values as patterns, paths, durations, sizes, versions, flags. It does not know
//! the nodes that they belong to.

use std::time::Duration;

use super::scope::Scope;
use crate::buildfile::checks::spelling;
use crate::buildfile::codes;
use crate::buildfile::model::{Date, Requirement, Spanned, TraceMode};
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

/// Reads a mode of `trace`.
pub(crate) fn trace_mode(value: &Value, scope: &mut Scope<'_>) -> Option<TraceMode> {
    let mode = TraceMode::parse(value.text());
    if mode.is_none() {
        let message = format!("`{}` is not a mode of `trace`", shown(value.text()));
        let diagnostic = Diagnostic::error(codes::TRACE, message)
            .label(value.span, "not a mode")
            .help("write `off`, `warn` or `deny`");
        scope.sink.push(diagnostic);
    }
    mode
}

/// Reads a pattern that is relative to `base`.
pub(crate) fn pattern(
    value: &Value,
    base: &RelPath,
    scope: &mut Scope<'_>,
) -> Option<Spanned<Pattern>> {
    let text = scope.plain(value)?;
    let pattern = pattern_of(&text, value.span, base, scope)?;
    if let Some(warning) = spelling::pattern(&text, value.span) {
        scope.sink.push(warning);
    }
    Some(pattern)
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
                    "write `*` instead of some of them, or several patterns"
                }
                _ if text.contains('[') => {
                    "brackets are a class in patterns; write `\\[` and `\\]` in a raw string, #\"…\"#, for a name with brackets"
                }
                _ => "put a `\\` before a character to make it literal",
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
            "write it relative to the project's root; files outside it are not part of the build",
        ),
        path::Error::Parent => (
            format!("`{shown}` leaves the project's root, or could"),
            "write it without `..`; if it is outside the root, move the root up with `project NAME { root … }`",
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
    read.map_err(|error| scope.sink.push(bad_quantity(&error, &DURATION, value.span)))
        .ok()
}

/// Reads a date.
pub(crate) fn date(value: &Value, scope: &mut Scope<'_>) -> Option<Date> {
    let text = scope.plain(value)?;
    let date = quantity::date(&text);
    if date.is_none() {
        let message = format!("`{}` is not a day", shown(&text));
        let diagnostic = Diagnostic::error(codes::DATE, message)
            .label(value.span, "not a date")
            .help("write year, month and day, as in \"2026-12-31\"");
        scope.sink.push(diagnostic);
    }
    date
}

/// Reads a size.
pub(crate) fn size(value: &Value, scope: &mut Scope<'_>) -> Option<u64> {
    let text = scope.plain(value)?;
    let read = quantity::size(&text);
    read.map_err(|error| scope.sink.push(bad_quantity(&error, &SIZE, value.span)))
        .ok()
}

/// The words for a kind of quantity.
struct Quantity {
    code: &'static str,
    name: &'static str,
    help: &'static str,
}

const DURATION: Quantity = Quantity {
    code: codes::DURATION,
    name: "a duration",
    help: quantity::DURATION_HELP,
};
const SIZE: Quantity = Quantity {
    code: codes::SIZE,
    name: "a size",
    help: quantity::SIZE_HELP,
};

fn bad_quantity(error: &quantity::Error, expected: &Quantity, span: Span) -> Diagnostic {
    let name = expected.name;
    let message = format!("this is not {name}: {}", shown(&error.to_string()));
    Diagnostic::error(expected.code, message)
        .label(span, format!("not {name}"))
        .help(expected.help)
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
