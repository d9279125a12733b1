//! Maps characters to bytes, for a matcher in which `?` and classes stand for one byte. It
//! matches nothing itself.
//!
//! Printable ASCII maps to itself. Other characters share a byte unless the pattern
//! distinguishes them: each character that it names, and each range of its classes, cut
//! where ranges overlap, has its own byte.

use super::Error;
use super::class::Class;

/// The byte of every other character that is not printable ASCII. The bytes of those that
/// the pattern distinguishes come before it, from 1 on.
const ANY_OTHER: u8 = 0x1f;
/// The most characters and ranges that a pattern can distinguish.
pub(super) const MOST: usize = ANY_OTHER as usize - 1;

/// The ranges of characters that a pattern distinguishes, each with its own byte: sorted,
/// without overlaps.
pub(super) struct Characters(Vec<(char, char)>);

/// A piece of a pattern.
enum Piece {
    /// A character, escaped or not.
    Plain {
        is_escaped: bool,
        c: char,
    },
    Class(Class),
}

impl Characters {
    /// Returns the characters of a valid pattern; `None` if it has neither `?` nor classes.
    pub(super) fn of(pattern: &str) -> Result<Option<Self>, Error> {
        let (mut named, mut counts) = (Vec::new(), false);
        for piece in pieces(pattern) {
            match piece {
                Piece::Plain { is_escaped, c } => {
                    counts |= c == '?' && !is_escaped;
                    named.push((c, c));
                }
                Piece::Class(class) => {
                    counts = true;
                    named.extend_from_slice(class.ranges());
                }
            }
        }
        if !counts {
            return Ok(None);
        }
        let told_apart = told_apart(&named);
        if told_apart.len() <= MOST {
            Ok(Some(Self(told_apart)))
        } else {
            Err(Error::TooManyCharacters)
        }
    }

    /// Returns the pattern with bytes for its characters.
    pub(super) fn pattern(&self, pattern: &str) -> String {
        let mut text = String::with_capacity(pattern.len());
        for piece in pieces(pattern) {
            match piece {
                Piece::Plain { is_escaped, c } => {
                    text.extend(is_escaped.then_some('\\'));
                    text.push(char::from(self.byte(c)));
                }
                Piece::Class(class) => text += &class.write(|byte| self.is_in(&class, byte)),
            }
        }
        text
    }

    /// Returns a path with bytes for its characters; `None` if all are printable ASCII.
    pub(super) fn path(&self, path: &[u8]) -> Option<Vec<u8>> {
        let is_plain = |byte: &u8| !is_special(char::from(*byte));
        if path.iter().all(is_plain) {
            return None;
        }
        let mut bytes = Vec::with_capacity(path.len());
        for chunk in path.utf8_chunks() {
            bytes.extend(chunk.valid().chars().map(|c| self.byte(c)));
            bytes.extend(chunk.invalid().iter().map(|_| ANY_OTHER));
        }
        Some(bytes)
    }

    fn byte(&self, c: char) -> u8 {
        match u8::try_from(c) {
            Ok(byte) if !is_special(c) => byte,
            _ => {
                let at = self.0.partition_point(|(_, last)| *last < c);
                let own = self.0.get(at).filter(|(first, _)| *first <= c);
                own.map_or(ANY_OTHER, |_| u8::try_from(at + 1).unwrap_or(ANY_OTHER))
            }
        }
    }

    /// Returns true if a class contains the characters of a byte.
    fn is_in(&self, class: &Class, byte: u8) -> bool {
        let c = match self.0.get(usize::from(byte).wrapping_sub(1)) {
            Some((first, _)) => *first,
            None if is_special(char::from(byte)) => return false,
            None => char::from(byte),
        };
        let mut ranges = class.ranges().iter();
        ranges.any(|(first, last)| (*first..=*last).contains(&c))
    }
}

/// Splits a pattern into its pieces.
fn pieces(pattern: &str) -> impl Iterator<Item = Piece> {
    let mut chars = pattern.chars();
    std::iter::from_fn(move || {
        let c = chars.next()?;
        if c == '[' {
            return Class::read(&mut chars).map(Piece::Class);
        }
        let escaped = (c == '\\').then(|| chars.next()).flatten();
        Some(Piece::Plain {
            is_escaped: escaped.is_some(),
            c: escaped.unwrap_or(c),
        })
    })
}

/// Returns the ranges of non-printable or non-ASCII characters, cut where ranges overlap.
fn told_apart(ranges: &[(char, char)]) -> Vec<(char, char)> {
    let ends = [('\0', '\u{1f}'), ('\u{7f}', char::MAX)];
    let special = ranges.iter().flat_map(|(first, last)| {
        let within = ends.map(|(least, most)| ((*first).max(least), (*last).min(most)));
        within.into_iter().filter(|(first, last)| first <= last)
    });
    let special: Vec<(char, char)> = special.collect();
    // The starts of ranges and the positions after their ends, as numbers, because no
    // character follows the last one.
    let cuts = special
        .iter()
        .flat_map(|(first, last)| [u32::from(*first), u32::from(*last) + 1]);
    let mut cuts: Vec<u32> = cuts.collect();
    cuts.sort_unstable();
    cuts.dedup();
    let pieces = cuts.windows(2).filter_map(|cut| {
        let first = first_from(cut[0])?;
        let last = (cut[0]..cut[1]).rev().find_map(char::from_u32)?;
        let is_named = special
            .iter()
            .any(|range| (range.0..=range.1).contains(&first));
        (first <= last && is_named).then_some((first, last))
    });
    pieces.collect()
}

/// Returns the first character from a number on; some numbers are not characters.
fn first_from(number: u32) -> Option<char> {
    (number..=u32::from(char::MAX)).find_map(char::from_u32)
}

fn is_special(c: char) -> bool {
    !c.is_ascii() || c.is_ascii_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pattern: &str) -> Characters {
        Characters::of(pattern).unwrap().unwrap()
    }

    #[test]
    fn distinguished_characters_have_their_own_bytes() {
        let characters = of("[éü]?é");
        assert_eq!(characters.pattern("[éü]?é"), "[\u{7f}\u{1}\u{2}]?\u{1}");
        assert_eq!(
            characters.path("üé😀a".as_bytes()).unwrap(),
            b"\x02\x01\x1fa"
        );
        assert_eq!(characters.path(b"\xff\xfea\x01").unwrap(), b"\x1f\x1fa\x1f");
        assert_eq!(characters.path(b"plain"), None);
        for plain in ["é*", "\\[é", "\\?", "{a,b}", "**"] {
            assert!(Characters::of(plain).unwrap().is_none(), "{plain}");
        }
    }

    #[test]
    fn ranges_are_cut_where_they_overlap() {
        let apart = |pattern: &str| of(pattern).0;
        assert_eq!(apart("[à-ü]"), [('à', 'ü')]);
        assert_eq!(apart("[à-ü]é"), [('à', 'è'), ('é', 'é'), ('ê', 'ü')]);
        assert_eq!(apart("[à-é][é-ü]"), [('à', 'è'), ('é', 'é'), ('ê', 'ü')]);
        assert_eq!(apart("[\t-ü]"), [('\t', '\u{1f}'), ('\u{7f}', 'ü')]);
        assert_eq!(apart("[é-\u{10ffff}]"), [('é', char::MAX)]);
        assert_eq!(
            apart("[\u{d7ff}\u{e000}]?"),
            [('\u{d7ff}', '\u{d7ff}'), ('\u{e000}', '\u{e000}')]
        );
        assert_eq!(apart("[a-z]?"), []);
        assert_eq!(of("[a-cà-ü]").pattern("[a-cà-ü]"), "[\u{7f}\u{1}abc]");
    }

    #[test]
    fn too_many_characters_are_refused() {
        let many = |count: u32| -> String {
            let all = (0..count).filter_map(|i| char::from_u32(0x4e00 + 2 * i));
            all.chain(['?']).collect()
        };
        let most = u32::try_from(MOST).unwrap();
        assert_eq!(of(&many(most)).0.len(), MOST);
        assert_eq!(
            Characters::of(&many(most + 1)).err(),
            Some(Error::TooManyCharacters)
        );
    }
}
