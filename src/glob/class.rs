//! Reads the classes of a pattern (`[a-z]`, `[!é]`) as characters, and writes them for a
//! matcher of bytes. It does not know which byte stands for which character.

use std::str::Chars;

/// A byte that no path contains. A class starts with it, so that characters with a meaning
/// at the start of a class never come first.
const NEVER: char = '\u{7f}';

/// A class.
pub(super) struct Class {
    is_negated: bool,
    ranges: Vec<(char, char)>,
}

impl Class {
    /// Reads a class after its opening bracket; `None` if it has no end.
    pub(super) fn read(chars: &mut Chars<'_>) -> Option<Self> {
        let mut rest = chars.clone();
        let is_negated = matches!(rest.next(), Some('!' | '^'));
        if is_negated {
            *chars = rest;
        }
        let (mut ranges, mut is_range): (Vec<(char, char)>, _) = (Vec::new(), false);
        loop {
            match (chars.next()?, ranges.last_mut()) {
                (']', Some(_)) => break,
                ('-', Some(_)) if !is_range => is_range = true,
                (c, Some(last)) if is_range => (last.1, is_range) = (c, false),
                (c, _) => ranges.push((c, c)),
            }
        }
        if is_range {
            ranges.push(('-', '-'));
        }
        Some(Self { is_negated, ranges })
    }

    /// Returns true if it stands for the characters that it does not name.
    pub(super) fn is_negated(&self) -> bool {
        self.is_negated
    }

    /// Returns the ranges of characters that it names.
    pub(super) fn ranges(&self) -> &[(char, char)] {
        &self.ranges
    }

    /// Writes it with the bytes of its characters. It never matches the slash between names,
    /// even if it names it.
    pub(super) fn write(&self, has: impl Fn(u8) -> bool) -> String {
        let has = |byte: u8| match byte {
            b'/' => self.is_negated,
            byte => has(byte),
        };
        let mut text = String::from(if self.is_negated { "[!" } else { "[" });
        text.extend(has(b']').then_some(']'));
        text.push(NEVER);
        let is_plain = |byte: &u8| has(*byte) && !b"]!^-".contains(byte);
        text.extend((1..0x7f).filter(is_plain).map(char::from));
        text.extend(['!', '^', '-'].iter().filter(|c| has(**c as u8)));
        text.push(']');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a class and writes it with the bytes of its own characters.
    fn rewritten(text: &str) -> String {
        let mut chars = text.strip_prefix('[').unwrap().chars();
        let class = Class::read(&mut chars).unwrap();
        assert_eq!(chars.as_str(), "", "{text}");
        let is_in = |c: char| class.ranges().iter().any(|(a, b)| (*a..=*b).contains(&c));
        class.write(|byte| is_in(char::from(byte)))
    }

    #[test]
    fn class_is_written_with_the_same_meaning() {
        for (text, expected) in [
            ("[a]", "[\u{7f}a]"),
            ("[a-c]", "[\u{7f}abc]"),
            ("[!a-c]", "[!\u{7f}/abc]"),
            ("[^a]", "[!\u{7f}/a]"),
            ("[a^!]", "[\u{7f}a!^]"),
            ("[]a]", "[]\u{7f}a]"),
            ("[!]]", "[!]\u{7f}/]"),
            ("[-a]", "[\u{7f}a-]"),
            ("[a-]", "[\u{7f}a-]"),
            ("[---]", "[\u{7f}-]"),
            ("[+--]", "[\u{7f}+,-]"),
            ("[.-1]", "[\u{7f}.01]"),
            ("[\\]", "[\u{7f}\\]"),
            ("[/]", "[\u{7f}]"),
        ] {
            assert_eq!(rewritten(text), expected, "{text}");
        }
    }

    #[test]
    fn class_without_an_end_is_refused() {
        for text in ["", "a", "]", "!]", "^", "a-"] {
            assert!(Class::read(&mut text.chars()).is_none(), "{text}");
        }
    }
}
