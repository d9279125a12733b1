//! Words the mistakes in a token and in its place. It finds no mistakes of structure.

use std::ops::Range;

use super::lex::{self, Kind, Problem, Token};
use crate::buildfile::codes;
use crate::buildfile::sink::shown;
use crate::source::{Diagnostic, FileId, Span, nearest};

/// The most characters of a number; no value needs more.
const LONGEST_NUMBER: usize = 30;

/// A range of the text and the words under it.
pub(super) struct Mark {
    range: Range<usize>,
    label: &'static str,
}

impl Mark {
    /// Marks a range.
    pub(super) fn new(range: Range<usize>, label: &'static str) -> Self {
        Self { range, label }
    }

    /// Marks a token.
    pub(super) fn token(token: Token, label: &'static str) -> Self {
        Self::new(token.start..token.end, label)
    }
}

/// A mistake in the text.
pub(super) struct Mistake {
    code: &'static str,
    message: String,
    mark: Mark,
    help: String,
}

impl Mistake {
    /// Makes a mistake of syntax.
    pub(crate) fn new(message: impl Into<String>, mark: Mark, help: impl Into<String>) -> Self {
        Self {
            code: codes::SYNTAX,
            message: message.into(),
            mark,
            help: help.into(),
        }
    }

    /// Makes the mistake of exceeding a limit.
    pub(super) fn too_much(message: String, token: Token, help: &str) -> Self {
        let end = token.end.min(token.start + 2);
        Self {
            code: codes::NESTING,
            ..Self::new(message, Mark::new(token.start..end, "one too many"), help)
        }
    }

    /// Makes the mistake of nesting blocks or comments too deeply.
    pub(super) fn too_deep(what: &str, most: usize, token: Token) -> Self {
        let message = format!("{what} are nested more than {most} deep");
        let help = "a Buildfile needs three levels; look for a missing `}` or `*/` before this";
        Self::too_much(message, token, help)
    }

    /// Makes the mistake of a token that cannot be in its place.
    pub(crate) fn unexpected(text: &str, token: Token, help: &str) -> Self {
        let message = format!("unexpected `{}`", shown(&text[token.start..token.end]));
        Self::new(message, Mark::token(token, "not possible here"), help)
    }

    /// Turns it into a diagnostic about `file`.
    pub(crate) fn diagnostic(self, file: FileId) -> Diagnostic {
        let Mark { range, label } = self.mark;
        Diagnostic::error(self.code, self.message)
            .label(span(file, range.start, range.end), label)
            .help(self.help)
    }
}

/// Returns the span between two offsets.
pub(crate) fn span(file: FileId, start: usize, end: usize) -> Span {
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Span {
        file,
        start: narrow(start),
        len: narrow(end.saturating_sub(start)),
    }
}

/// Returns the mistake in a token that should be the name of a node, if any.
pub(super) fn of_name(text: &str, token: Token) -> Option<Mistake> {
    let word = &text[token.start..token.end];
    match token.kind {
        Kind::Bad(problem) => Some(of_token(text, token, problem)),
        Kind::Word if lex::is_number_like(word) => Some(Mistake::new(
            format!("`{}` cannot be the name of a node", shown(word)),
            Mark::token(token, "this is a number"),
            "start the line with a node's name, such as `target`",
        )),
        Kind::Word if is_keyword_like(word) => Some(bad_keyword(word, token)),
        _ => None,
    }
}

/// Returns the mistake in a token that should be a value, if any.
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

/// Returns true if the rest of the text is meaningless after a mistake of this kind.
pub(super) fn is_fatal(kind: Kind) -> bool {
    use Problem::{DeepComment, OpenComment, OpenMultiline};
    matches!(kind, Kind::Bad(DeepComment | OpenComment | OpenMultiline))
}

/// Returns true if a word is meant as a keyword, with or without its `#`.
fn is_keyword_like(word: &str) -> bool {
    word.starts_with('#') || matches!(word, "true" | "false" | "null" | "inf" | "-inf" | "nan")
}

fn bad_number(word: &str, token: Token) -> Option<Mistake> {
    let mark = Mark::token(token, "starts like a number");
    if word.len() > LONGEST_NUMBER {
        let help = "put it in quotes if it is text";
        return Some(Mistake::new("the number is too long", mark, help));
    }
    let message = format!("`{word}` is neither a number nor a word");
    let help = format!("put it in quotes: \"{word}\"");
    (!lex::is_number(word)).then(|| Mistake::new(message, mark, help))
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
    let mark = Mark::token(token, "not a keyword of KDL");
    Mistake::new(format!("`{}` is not a value", shown(word)), mark, help)
}

fn of_token(text: &str, token: Token, problem: Problem) -> Mistake {
    let first = |len: usize, label| {
        let end = (token.start + len).min(token.end);
        Mark::new(token.start..end, label)
    };
    match problem {
        Problem::OpenString => Mistake::new(
            "the string is never closed",
            first(1, "it starts here, and its line ends without a `\"`"),
            "close it with `\"`; a text of several lines is written between `\"\"\"`, each on its own line",
        ),
        Problem::OpenMultiline => Mistake::new(
            "the string is never closed",
            first(3, "it starts here"),
            "close it with `\"\"\"` on a line of its own",
        ),
        Problem::OpenComment => Mistake::new(
            "the comment is never closed",
            first(2, "it starts here"),
            "close it with `*/`",
        ),
        Problem::DeepComment => Mistake::too_deep("comments", lex::DEEPEST_COMMENT, token),
        Problem::MultilineStart => Mistake::new(
            "a string of several lines starts on the line after `\"\"\"`",
            first(3, "nothing may follow on this line"),
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
        _ => format!("`{}` is not an escape", shown(&text[offset..end])),
    };
    let help = "write `\\\\` for a `\\`, or use a raw string: #\"…\"#";
    Mistake::new(
        message,
        Mark::new(offset..end, "no escape starts like this"),
        help,
    )
}

fn unquoted(word: &str, token: Token) -> Mistake {
    let word = shown(word);
    let mark = Mark::token(token, "has a character that is allowed only in quotes");
    let message = format!("`{word}` must be quoted");
    Mistake::new(message, mark, format!("write \"{word}\""))
}
