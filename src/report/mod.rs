//! Prints the events of a run (live on a terminal, as plain lines, as JSON) and the graph.
//! Has no policy and does no input, not even from the environment.

pub mod fold;
pub mod graph;
pub mod json;
mod reason;
pub mod terminal;
pub mod test_table;
#[cfg(test)]
mod testing;
pub mod text;

use crate::source::Severity;

/// The looks of printed text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether colours are used.
    pub color: bool,
    /// Whether the reader is a terminal, which acts on escape sequences.
    pub terminal: bool,
    /// The width in columns.
    pub width: usize,
    /// How much is printed.
    pub verbosity: Verbosity,
}

/// How much is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Problems only.
    Quiet,
    /// Problems, and the targets that ran.
    #[default]
    Normal,
    /// Everything, including targets that did not run.
    Verbose,
}

impl Style {
    /// No colours, no terminal, 80 columns, the usual verbosity.
    pub const PLAIN: Self = Self {
        color: false,
        terminal: false,
        width: 80,
        verbosity: Verbosity::Normal,
    };

    /// Returns `text` in a colour if colours are on.
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

/// A colour or weight; the value is its number in the escape sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// For names.
    Bold = 1,
    /// For details.
    Dim = 2,
    /// For errors.
    Red = 31,
    /// For success.
    Green = 32,
    /// For warnings.
    Yellow = 33,
    /// For restored results.
    Cyan = 36,
}
