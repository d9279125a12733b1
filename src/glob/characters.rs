//! Paths and patterns with one byte for each character, for a matcher that counts in bytes:
//! `?` and a class stand for one character. It matches nothing itself.

/// The last byte that stands for a character which is not ASCII or a control character: all
/// those that a pattern does not have. The others come before it, from 1 on.
const ANY_OTHER: u8 = 0x1f;

/// The characters that a pattern names and that get a byte of their own.
pub(super) struct Characters(Vec<char>);

impl Characters {
    /// Returns the characters of a pattern, if it counts any; `None` also if they are too many.
    pub(super) fn of(pattern: &str) -> Option<Self> {
        let mut named: Vec<char> = pattern.chars().filter(|c| is_special(*c)).collect();
        named.sort_unstable();
        named.dedup();
        let counts = pattern.contains(['?', '[']);
        (counts && named.len() < usize::from(ANY_OTHER)).then_some(Self(named))
    }

    /// Returns the pattern in bytes of its own.
    pub(super) fn pattern(&self, pattern: &str) -> String {
        pattern.chars().map(|c| char::from(self.byte(c))).collect()
    }

    /// Returns a path in the same bytes; `None` if these are the bytes that it has.
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
        let own = |c| self.0.binary_search(&c).ok();
        match u8::try_from(c) {
            Ok(byte) if !is_special(c) => byte,
            _ => own(c).map_or(ANY_OTHER, |at| u8::try_from(at + 1).unwrap_or(ANY_OTHER)),
        }
    }
}

fn is_special(c: char) -> bool {
    !c.is_ascii() || c.is_ascii_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_character_is_one_byte_and_those_of_the_pattern_are_told_apart() {
        let characters = Characters::of("[éü]?").unwrap();
        assert_eq!(characters.pattern("[éü]?"), "[\u{1}\u{2}]?");
        assert_eq!(
            characters.path("üé😀a".as_bytes()).unwrap(),
            b"\x02\x01\x1fa"
        );
        assert_eq!(characters.path(b"\xff\xfea\x01").unwrap(), b"\x1f\x1fa\x1f");
        assert_eq!(characters.path(b"plain"), None);
        assert!(Characters::of("é*").is_none());
    }
}
