//! What can be wrong with a token, in words. It finds no mistakes in how tokens stand
//! together; that is the guard's part.

use std::ops::Range;

use super::lex::{self, Kind, Problem, Token};
use crate::buildfile::codes;
use crate::buildfile::sink::shown;
use crate::source::{Diagnostic, FileId, Span, nearest};

/// The longest number, in characters; more than any property takes.
const LONGEST_NUMBER: usize = 30;

/// Something wrong in a text.
pub(super) struct Mistake {
    code: &'static str,
    message: String,
    place: Range<usize>,
    label: &'static str,
    help: String,
}

impl Mistake {
    /// Puts a mistake of syntax together.
    pub(crate) fn new(
        message: impl Into<String>,
        (start, end, label): (usize, usize, &'static str),
        help: impl Into<String>,
    ) -> Self {
        Self {
            code: codes::SYNTAX,
            message: message.into(),
            place: start..end,
            label,
            help: help.into(),
        }
    }

    /// Says that there is more of something than can be taken in.
    pub(super) fn too_much(message: String, token: Token, help: &str) -> Self {
        let end = token.end.min(token.start + 2);
        Self {
            code: codes::NESTING,
            ..Self::new(message, (token.start, end, "one too many"), help)
        }
    }

    /// Says that blocks or comments are nested too deep.
    pub(super) fn too_deep(what: &str, most: usize, token: Token) -> Self {
        let message = format!("{what} are nested more than {most} deep");
        let help = "a Buildfile needs three levels; look for a missing `}` or `*/` before this";
        Self::too_much(message, token, help)
    }

    /// Says that a token cannot stand where it does.
    pub(crate) fn unexpected(text: &str, token: Token, help: &str) -> Self {
        let message = format!("unexpected `{}`", shown(&text[token.start..token.end]));
        Self::new(message, (token.start, token.end, "not possible here"), help)
    }

    /// Returns it as a diagnostic about `file`.
    pub(crate) fn diagnostic(self, file: FileId) -> Diagnostic {
        let place = span(file, self.place.start, self.place.end);
        let diagnostic = Diagnostic::error(self.code, self.message);
        diagnostic.label(place, self.label).help(self.help)
    }
}

/// Returns the place between two offsets.
pub(crate) fn span(file: FileId, start: usize, end: usize) -> Span {
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Span {
        file,
        start: narrow(start),
        len: narrow(end.saturating_sub(start)),
    }
}

/// Returns why a token cannot be the name of a node, if it cannot.
pub(super) fn of_name(text: &str, token: Token) -> Option<Mistake> {
    let word = &text[token.start..token.end];
    match token.kind {
        Kind::Bad(problem) => Some(of_token(text, token, problem)),
        Kind::Word if lex::is_number_like(word) => Some(Mistake::new(
            format!("`{}` cannot be the name of a node", shown(word)),
            (token.start, token.end, "a number stands here"),
            "begin the line with a node's name, such as `target`",
        )),
        Kind::Word if is_keyword_like(word) => Some(bad_keyword(word, token)),
        _ => None,
    }
}

/// Returns why a token cannot be a value, if it cannot.
pub(super) fn of_value(text: &str, token: Token) -> Option<Mistake> {
    let word = &text[token.start..token.end];
    match token.kind {
        Kind::Bad(problem) => Some(of_token(text, token, problem)),
        Kind::Word if is_keyword_like(word) => {
            (!lex::is_keyword(word)).then(|| bad_keyword(word, token))
        }
        Kind::Word if lex::is_number_like(word) => bad_number(word, token),
        _ => None,
    }
}

/// Tells whether a problem takes the rest of the text with it.
pub(super) fn is_fatal(kind: Kind) -> bool {
    use Problem::{DeepComment, OpenComment, OpenMultiline};
    matches!(kind, Kind::Bad(DeepComment | OpenComment | OpenMultiline))
}

/// Tells whether a word is meant as a keyword, with or without its `#`.
fn is_keyword_like(word: &str) -> bool {
    word.starts_with('#') || matches!(word, "true" | "false" | "null" | "inf" | "-inf" | "nan")
}

fn bad_number(word: &str, token: Token) -> Option<Mistake> {
    let label = (token.start, token.end, "begins like a number");
    if word.len() > LONGEST_NUMBER {
        let help = "put it in quotes if it is text";
        return Some(Mistake::new("the number is too long", label, help));
    }
    let message = format!("`{word}` is neither a number nor a word");
    let help = format!("put it in quotes: \"{word}\"");
    (!lex::is_number(word)).then(|| Mistake::new(message, label, help))
}

fn bad_keyword(word: &str, token: Token) -> Mistake {
    let sharp = format!("#{}", word.trim_start_matches('#'));
    let help = match lex::KEYWORDS.iter().find(|k| **k == sharp) {
        Some(keyword) => format!("write `{keyword}`, or \"{word}\" if it is text"),
        None => match nearest(&sharp, lex::KEYWORDS) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("put it in quotes if it is text: \"{}\"", shown(word)),
        },
    };
    let label = (token.start, token.end, "not a keyword of KDL");
    Mistake::new(format!("`{}` is not a value", shown(word)), label, help)
}

fn of_token(text: &str, token: Token, problem: Problem) -> Mistake {
    let place = |len: usize, label| (token.start, (token.start + len).min(token.end), label);
    match problem {
        Problem::OpenString => Mistake::new(
            "the string is never closed",
            place(1, "it begins here, and its line ends without a `\"`"),
            "close it with `\"`; a text of several lines stands between `\"\"\"`, each on its own line",
        ),
        Problem::OpenMultiline => Mistake::new(
            "the string is never closed",
            place(3, "it begins here"),
            "close it with `\"\"\"` on a line of its own",
        ),
        Problem::OpenComment => Mistake::new(
            "the comment is never closed",
            place(2, "it begins here"),
            "close it with `*/`",
        ),
        Problem::DeepComment => Mistake::too_deep("comments", lex::DEEPEST_COMMENT, token),
        Problem::MultilineStart => Mistake::new(
            "a string of several lines begins on the line after `\"\"\"`",
            place(3, "nothing may follow on this line"),
            "start a new line after `\"\"\"`, or use single quotes and write each `\"` inside as `\\\"`",
        ),
        Problem::Escape(offset) => bad_escape(text, offset),
        Problem::Unquoted => unquoted(&text[token.start..token.end], token),
    }
}

fn bad_escape(text: &str, offset: usize) -> Mistake {
    let next = text[offset + 1..].chars().next();
    let end = offset + 1 + next.map_or(0, char::len_utf8);
    let message = match next {
        Some('u') => "`\\u` needs the number of a character, as in `\\u{1F600}`".to_owned(),
        _ => format!("`{}` means nothing in a string", shown(&text[offset..end])),
    };
    let help = "write `\\\\` for a `\\`, or use a raw string: #\"…\"#";
    Mistake::new(message, (offset, end, "this `\\` stands alone"), help)
}

fn unquoted(word: &str, token: Token) -> Mistake {
    let word = shown(word);
    let label = "has a character that only strings can hold";
    let message = format!("`{word}` must be quoted");
    let help = format!("write \"{word}\"");
    Mistake::new(message, (token.start, token.end, label), help)
}
