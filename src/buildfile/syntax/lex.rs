//! Splits a text into the tokens of KDL, without recursion and in linear time. It knows
//! no structure.
//!
//! It is stricter than KDL in one point: a word that contains a slash (`internal/**`,
//! `https://x`) is a mistake, where KDL would start a comment at the slash.

/// The deepest nesting of block comments.
pub(super) const DEEPEST_COMMENT: usize = 64;

/// A token and its range in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// The kind of the token.
    pub(crate) kind: Kind,
    /// The offset of its first byte.
    pub(crate) start: usize,
    /// The offset after its last byte.
    pub(crate) end: usize,
}

/// The kind of a [`Token`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Blanks within a line.
    Space,
    /// One line break.
    Newline,
    /// `// …` up to the line break.
    LineComment,
    /// `/* … */`, nested ones included.
    BlockComment,
    /// `/-`
    SlashDash,
    /// A backslash outside a string; it joins lines.
    Backslash,
    /// `{`
    Open,
    /// `}`
    Close,
    /// `(`
    ParenOpen,
    /// `)`
    ParenClose,
    /// `=`
    Equals,
    /// `;`
    Semicolon,
    /// An identifier, a number, or a keyword such as `#true`.
    Word,
    /// `"…"` or `"""…"""`
    Quoted,
    /// `#"…"#` or `#"""…"""#`
    Raw,
    /// None of these.
    Bad(Problem),
}

/// The mistake in a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// A string without its closing quote; the token ends with the line.
    OpenString,
    /// A multi-line string without its closing quotes; the token ends with the text.
    OpenMultiline,
    /// A comment without its `*/`; the token ends with the text.
    OpenComment,
    /// Comments in comments, too deep; the token ends with the text.
    DeepComment,
    /// `"""` followed by something else on its line.
    MultilineStart,
    /// A backslash in a string, at this offset in the text, before a character that
    /// cannot be escaped.
    Escape(usize),
    /// A character that is allowed only in strings.
    Unquoted,
}

/// Splits a text into [`Token`]s.
#[derive(Clone)]
pub(crate) struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    /// Starts at the beginning of `text`.
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// Returns the kind and length of the next token.
    fn first(&self) -> Option<(Kind, usize)> {
        let rest = self.rest();
        let first = rest.chars().next()?;
        let newline = newline_len(rest);
        Some(match first {
            _ if newline > 0 => (Kind::Newline, newline),
            c if is_space(c) => (Kind::Space, prefix_len(rest, is_space)),
            '\u{FEFF}' if self.at == 0 => (Kind::Space, 3),
            '/' => self.slash(),
            '\\' => (Kind::Backslash, 1),
            '{' => (Kind::Open, 1),
            '}' => (Kind::Close, 1),
            '(' => (Kind::ParenOpen, 1),
            ')' => (Kind::ParenClose, 1),
            '=' => (Kind::Equals, 1),
            ';' => (Kind::Semicolon, 1),
            '"' => self.quoted(),
            '#' => self.hash(),
            _ => self.word(0),
        })
    }

    fn slash(&self) -> (Kind, usize) {
        let rest = self.rest();
        match rest.as_bytes().get(1) {
            Some(b'/') => (Kind::LineComment, line_len(rest)),
            Some(b'-') => (Kind::SlashDash, 2),
            Some(b'*') => block_comment(rest),
            _ => self.word(0),
        }
    }

    /// Scans a word whose first `len` bytes are known to belong to it.
    fn word(&self, len: usize) -> (Kind, usize) {
        let rest = self.rest();
        let end = len + prefix_len(&rest[len..], is_word);
        match rest[end..].chars().next() {
            Some('\\') if is_line_joined(&rest[end + 1..]) => (Kind::Word, end),
            Some('/' | '\\' | '[' | ']') => {
                let end = end + prefix_len(&rest[end..], |c| is_word(c) || "/\\[]=#".contains(c));
                (Kind::Bad(Problem::Unquoted), end)
            }
            _ => (Kind::Word, end),
        }
    }

    /// Scans a raw string or a keyword.
    fn hash(&self) -> (Kind, usize) {
        let rest = self.rest();
        let hashes = prefix_len(rest, |c| c == '#');
        if !rest[hashes..].starts_with('"') {
            return self.word(hashes);
        }
        let opened = &rest[hashes..];
        let is_multiline = opened.starts_with("\"\"\"") && newline_len(&opened[3..]) > 0;
        let quotes = if is_multiline { "\"\"\"" } else { "\"" };
        let close = &rest[..hashes];
        let mut at = hashes + quotes.len();
        while let Some(found) = rest[at..].find(|c| c == '"' || is_newline(c)) {
            at += found;
            let tail = &rest[at..];
            if let Some(after) = tail.strip_prefix(quotes)
                && after.starts_with(close)
            {
                return (Kind::Raw, at + quotes.len() + hashes);
            }
            if !is_multiline && !tail.starts_with('"') {
                return (Kind::Bad(Problem::OpenString), at);
            }
            at += tail.chars().next().map_or(1, char::len_utf8);
        }
        if is_multiline {
            (Kind::Bad(Problem::OpenMultiline), rest.len())
        } else {
            (Kind::Bad(Problem::OpenString), rest.len())
        }
    }

    fn quoted(&self) -> (Kind, usize) {
        let rest = self.rest();
        match rest.strip_prefix("\"\"\"") {
            Some(after) if newline_len(after) > 0 => self.string_body(3),
            Some(_) => (Kind::Bad(Problem::MultilineStart), line_len(rest)),
            None => self.string_body(1),
        }
    }

    /// Scans the rest of a string that opens with `quotes` quotes.
    fn string_body(&self, quotes: usize) -> (Kind, usize) {
        let rest = self.rest();
        let mut bad_escape = None;
        let mut at = quotes;
        while let Some(found) = rest[at..].find(|c| c == '"' || c == '\\' || is_newline(c)) {
            at += found;
            let tail = &rest[at..];
            if tail.starts_with(&"\"\"\""[..quotes]) {
                let escape = |at| Kind::Bad(Problem::Escape(self.at + at));
                return (bad_escape.map_or(Kind::Quoted, escape), at + quotes);
            }
            if tail.starts_with('\\') {
                let len = escape_len(tail);
                bad_escape = bad_escape.or((len == 0).then_some(at));
                at += len.max(1);
            } else if quotes == 1 {
                return (Kind::Bad(Problem::OpenString), at);
            } else {
                at += tail.chars().next().map_or(1, char::len_utf8);
            }
        }
        match quotes {
            1 => (Kind::Bad(Problem::OpenString), line_len(rest)),
            _ => (Kind::Bad(Problem::OpenMultiline), rest.len()),
        }
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let (kind, len) = self.first()?;
        let start = self.at;
        self.at += len;
        Some(Token {
            kind,
            start,
            end: self.at,
        })
    }
}

/// Scans the block comment at the start of `text`, with the comments inside it.
fn block_comment(text: &str) -> (Kind, usize) {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (2, 1);
    while let Some(found) = bytes[at..].iter().position(|b| matches!(b, b'*' | b'/')) {
        at += found;
        match &bytes[at..] {
            [b'*', b'/', ..] if depth == 1 => return (Kind::BlockComment, at + 2),
            [b'*', b'/', ..] => {
                depth -= 1;
                at += 2;
            }
            [b'/', b'*', ..] if depth == DEEPEST_COMMENT => {
                return (Kind::Bad(Problem::DeepComment), text.len());
            }
            [b'/', b'*', ..] => {
                depth += 1;
                at += 2;
            }
            _ => at += 1,
        }
    }
    (Kind::Bad(Problem::OpenComment), text.len())
}

/// Returns the length of the escape at the start of `text`, or 0 if it is not valid.
fn escape_len(text: &str) -> usize {
    match text[1..].chars().next() {
        Some('"' | '\\' | 'b' | 'f' | 'n' | 'r' | 't' | 's') => 2,
        Some(c) if is_space(c) || is_newline(c) => {
            1 + prefix_len(&text[1..], |c| is_space(c) || is_newline(c))
        }
        Some('u') => unicode_escape_len(&text[2..]).map_or(0, |len| len + 2),
        _ => 0,
    }
}

/// Returns the length of the `{…}` at the start of `text` if it names a character.
fn unicode_escape_len(text: &str) -> Option<usize> {
    let digits = text.strip_prefix('{')?;
    let is_digit = |b: &u8| b.is_ascii_hexdigit();
    let len = digits.bytes().take(6).take_while(is_digit).count();
    let code = u32::from_str_radix(&digits[..len], 16).ok()?;
    char::from_u32(code)?;
    digits[len..].starts_with('}').then_some(len + 2)
}

/// Returns true if the text after a backslash is the end of its line.
fn is_line_joined(after: &str) -> bool {
    let after = after.trim_start_matches(is_space);
    after.is_empty() || newline_len(after) > 0 || after.starts_with("//") || after.starts_with("/*")
}

/// Returns the length of the line break at the start of `text`, or 0.
fn newline_len(text: &str) -> usize {
    match text.chars().next() {
        Some('\r') if text[1..].starts_with('\n') => 2,
        Some(c) if is_newline(c) => c.len_utf8(),
        _ => 0,
    }
}

/// Returns the length of the first line of `text`, without its line break.
fn line_len(text: &str) -> usize {
    text.find(is_newline).unwrap_or(text.len())
}

fn prefix_len(text: &str, is_in: impl Fn(char) -> bool) -> usize {
    text.find(|c| !is_in(c)).unwrap_or(text.len())
}

/// Returns true if a character breaks lines.
pub(crate) fn is_newline(c: char) -> bool {
    matches!(
        c,
        '\n' | '\r' | '\u{85}' | '\u{B}' | '\u{C}' | '\u{2028}' | '\u{2029}'
    )
}

/// Returns true if KDL allows a character only as an escape.
pub(crate) fn is_forbidden(c: char) -> bool {
    match c {
        '\u{7F}' | '\u{200E}' | '\u{200F}' | '\u{FEFF}' => true,
        '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => true,
        c => c < ' ' && !is_newline(c) && c != '\t',
    }
}

/// Returns true if a character is a blank within a line.
pub(crate) fn is_space(c: char) -> bool {
    matches!(
        c,
        ' ' | '\t' | '\u{A0}' | '\u{1680}' | '\u{2000}'
            ..='\u{200A}' | '\u{202F}' | '\u{205F}' | '\u{3000}'
    )
}

/// Returns true if a character can be part of a word.
fn is_word(c: char) -> bool {
    !is_newline(c) && !is_space(c) && !"\\/(){};[]\"#=".contains(c)
}

/// Returns true if a word is one of KDL's keywords, such as `#true`.
pub(super) fn is_keyword(word: &str) -> bool {
    KEYWORDS.contains(&word)
}

/// KDL's keywords.
pub(super) const KEYWORDS: [&str; 6] = ["#true", "#false", "#null", "#inf", "#-inf", "#nan"];

/// Returns true if a word starts as a number does.
pub(crate) fn is_number_like(word: &str) -> bool {
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    let body = unsigned.strip_prefix('.').unwrap_or(unsigned);
    body.starts_with(|c: char| c.is_ascii_digit())
}

/// Returns true if a word that starts as a number does is a number.
pub(crate) fn is_number(word: &str) -> bool {
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    let radix = |prefix: &str, is_digit: fn(&u8) -> bool| {
        let lower = unsigned.get(..2).map(str::to_ascii_lowercase);
        (lower.as_deref() == Some(prefix)).then(|| is_digits(&unsigned[2..], is_digit))
    };
    radix("0x", u8::is_ascii_hexdigit)
        .or_else(|| radix("0o", |b| (b'0'..=b'7').contains(b)))
        .or_else(|| radix("0b", |b| matches!(b, b'0' | b'1')))
        .unwrap_or_else(|| is_decimal(unsigned))
}

fn is_decimal(unsigned: &str) -> bool {
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let exponent = exponent.map(|e| e.strip_prefix(['+', '-']).unwrap_or(e));
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    [Some(whole), fraction, exponent]
        .into_iter()
        .flatten()
        .all(|digits| is_digits(digits, u8::is_ascii_digit))
}

/// Returns true if `text` is digits, with underscores after the first.
fn is_digits(text: &str, is_digit: fn(&u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(is_digit) && bytes.iter().all(|b| *b == b'_' || is_digit(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(Kind, &str)]) {
        let tokens: Vec<_> = Lexer::new(text)
            .map(|t| (t.kind, &text[t.start..t.end]))
            .collect();
        assert_eq!(tokens, expected, "{text}");
    }

    #[test]
    fn tokens_cover_the_text() {
        check(
            "a b=1 { /- c; } // x\n",
            &[
                (Kind::Word, "a"),
                (Kind::Space, " "),
                (Kind::Word, "b"),
                (Kind::Equals, "="),
                (Kind::Word, "1"),
                (Kind::Space, " "),
                (Kind::Open, "{"),
                (Kind::Space, " "),
                (Kind::SlashDash, "/-"),
                (Kind::Space, " "),
                (Kind::Word, "c"),
                (Kind::Semicolon, ";"),
                (Kind::Space, " "),
                (Kind::Close, "}"),
                (Kind::Space, " "),
                (Kind::LineComment, "// x"),
                (Kind::Newline, "\n"),
            ],
        );
    }

    #[test]
    fn braces_in_strings_are_not_tokens() {
        for text in [
            r#""{""#,
            r#""\"{""#,
            "\"\"\"\n{\"{\n\"\"\"",
            "\"a \\\n  {\"",
        ] {
            check(text, &[(Kind::Quoted, text)]);
        }
        for text in ["#\"{\"#", "##\"\"#{\"##", "#\"\"\"\n{\"\n\"\"\"#"] {
            check(text, &[(Kind::Raw, text)]);
        }
    }

    #[test]
    fn braces_in_comments_are_not_tokens() {
        let comment = "/* { /* \" */ */";
        check(comment, &[(Kind::BlockComment, comment)]);
    }

    #[test]
    fn open_string_ends_with_its_line() {
        let bad = Kind::Bad;
        check(
            "\"a\nb",
            &[
                (bad(Problem::OpenString), "\"a"),
                (Kind::Newline, "\n"),
                (Kind::Word, "b"),
            ],
        );
        check("#\"a", &[(bad(Problem::OpenString), "#\"a")]);
    }

    #[test]
    fn open_string_or_comment_ends_with_the_text() {
        let bad = Kind::Bad;
        check("\"\"\"\na", &[(bad(Problem::OpenMultiline), "\"\"\"\na")]);
        check("\"\"\"a", &[(bad(Problem::MultilineStart), "\"\"\"a")]);
        check("/* a", &[(bad(Problem::OpenComment), "/* a")]);
        let deep = "/*".repeat(10_000);
        check(&deep, &[(bad(Problem::DeepComment), deep.as_str())]);
    }

    #[test]
    fn unquoted_path_is_one_bad_token() {
        for text in [
            "./cmd/x",
            "internal/**",
            "https://x.y/z?a=b",
            "/etc",
            "a[b]",
            "a\\b",
        ] {
            check(text, &[(Kind::Bad(Problem::Unquoted), text)]);
        }
        check(
            "a\\\nb",
            &[
                (Kind::Word, "a"),
                (Kind::Backslash, "\\"),
                (Kind::Newline, "\n"),
                (Kind::Word, "b"),
            ],
        );
    }

    #[test]
    fn bad_escape_is_reported_with_its_offset() {
        check(
            r#""\n\u{1F600}\s""#,
            &[(Kind::Quoted, r#""\n\u{1F600}\s""#)],
        );
        for (text, at) in [
            (r#""C:\work""#, 3),
            (r#""\u{}""#, 1),
            (r#""\u{d800}""#, 1),
            (r#""\u{1234567}""#, 1),
            (r#""\u12""#, 1),
        ] {
            check(text, &[(Kind::Bad(Problem::Escape(at)), text)]);
        }
    }

    #[test]
    fn numbers_differ_from_words_that_start_like_one() {
        for word in [
            "1", "-1", "+1_000", "0x1F", "0b1_0", "0o7", "1.5", "1e3", "1.5E-3",
        ] {
            assert!(is_number_like(word) && is_number(word), "{word}");
        }
        for word in [
            "10m", "1.", ".5", "1.2.3", "0x", "0xg", "1e", "0b2", "1__a", "-.5",
        ] {
            assert!(is_number_like(word) && !is_number(word), "{word}");
        }
        for word in ["a1", "-a", "-", "+", ".", "..", "-.a"] {
            assert!(!is_number_like(word), "{word}");
        }
    }
}
