//! Shows the events of a run: on a terminal, as plain lines, as JSON; and shows the graph.
//! It decides nothing and reads nothing but what it is given, not even the environment.

pub mod graph;
pub mod json;
mod reason;
pub mod terminal;
#[cfg(test)]
mod testing;
pub mod text;

use crate::source::Severity;

/// How things are to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether colours are used.
    pub color: bool,
    /// Whether a terminal reads it, on which escape sequences act.
    pub terminal: bool,
    /// How many columns there are.
    pub width: usize,
    /// How much is said.
    pub verbosity: Verbosity,
}

/// How much is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Only what went wrong.
    Quiet,
    /// What was done.
    #[default]
    Normal,
    /// What was not to be done as well.
    Verbose,
}

impl Style {
    /// No colours, no terminal, 80 columns, as much as usual.
    pub const PLAIN: Self = Self {
        color: false,
        terminal: false,
        width: 80,
        verbosity: Verbosity::Normal,
    };

    /// Returns `text` in a colour, if colours are used.
    pub fn paint(self, color: Color, text: &str) -> String {
        if self.color && !text.is_empty() {
            format!("\x1b[{}m{text}\x1b[0m", color as u8)
        } else {
            text.to_owned()
        }
    }
}

/// Returns the first words of a problem's line: its severity and, in brackets, its code.
pub fn problem_head(severity: Severity, code: &str, style: Style) -> String {
    let color = match severity {
        Severity::Error => Color::Red,
        Severity::Warning => Color::Yellow,
    };
    let head = if code.is_empty() {
        severity.to_string()
    } else {
        format!("{severity}[{}]", text::harmless(code))
    };
    style.paint(color, &head)
}

/// A colour, or a weight, by its number in the escape sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// What matters most.
    Bold = 1,
    /// What matters least.
    Dim = 2,
    /// What went wrong.
    Red = 31,
    /// What went well.
    Green = 32,
    /// What may be wrong.
    Yellow = 33,
    /// What came out of the cache.
    Cyan = 36,
}
