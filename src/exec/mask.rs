//! Masks secrets in a stream of bytes, even if one is split between two pieces.
//!
//! `secret_forms` lists the texts that it masks.

use std::borrow::Borrow;
use std::ffi::OsString;

use super::secret_forms::add_forms;

/// The replacement for a secret.
const MASK: &[u8] = b"***";

/// Replaces secrets in a stream by `***`.
#[derive(Clone, Debug)]
pub struct Masker {
    /// All masked texts, the longest first.
    needles: Vec<Vec<u8>>,
    starts: Starts,
    /// The end of the input so far, if a needle may begin there.
    held: Vec<u8>,
}

/// The first two bytes of each needle. Few positions of a text pass this test, so that its
/// cost hardly grows with the number of needles.
#[derive(Clone, Debug)]
struct Starts {
    first: [bool; 256],
    /// One bit for each pair of bytes.
    pairs: Box<[u64]>,
}

/// The result of matching the needles against a position in the text.
enum Match {
    None,
    /// A needle of this length.
    Needle(usize),
    /// The beginning of a needle, at the end of the text.
    Partial,
}

/// Whether more text may follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tail {
    Open,
    Closed,
}

impl Masker {
    /// Returns a masker for these secrets.
    pub fn new<S: Borrow<OsString>>(secrets: impl IntoIterator<Item = S>) -> Self {
        let mut needles = Vec::new();
        for secret in secrets {
            add_forms(secret.borrow(), &mut needles);
        }
        needles.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        needles.dedup();
        Self {
            starts: Starts::new(&needles),
            needles,
            held: Vec::new(),
        }
    }

    /// Passes `bytes` on to `output`, masked. Holds back a possible beginning of a secret at
    /// their end until the next call.
    pub fn push(&mut self, bytes: &[u8], output: &mut dyn FnMut(&[u8])) {
        if self.needles.is_empty() {
            return output(bytes);
        }
        let mut text = std::mem::take(&mut self.held);
        text.extend_from_slice(bytes);
        let done = self.write_masked(&text, Tail::Open, output);
        text.drain(..done);
        self.held = text;
    }

    /// Passes on the held bytes at the end of the stream.
    pub fn finish(&mut self, output: &mut dyn FnMut(&[u8])) {
        let text = std::mem::take(&mut self.held);
        self.write_masked(&text, Tail::Closed, output);
    }

    /// Returns a whole text with its secrets masked.
    pub fn mask(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        self.write_masked(text, Tail::Closed, &mut |bytes| {
            out.extend_from_slice(bytes)
        });
        out
    }

    /// Passes on `text`, masked, up to a possible beginning of a secret at an open end.
    /// Returns the number of bytes passed on.
    fn write_masked(&self, text: &[u8], tail: Tail, output: &mut dyn FnMut(&[u8])) -> usize {
        let (mut plain, mut at) = (0, 0);
        while at < text.len() {
            match self.find_at(&text[at..], tail) {
                Match::Partial => break,
                Match::None => at += 1,
                Match::Needle(length) => {
                    write_nonempty(&text[plain..at], output);
                    output(MASK);
                    at += length;
                    plain = at;
                }
            }
        }
        write_nonempty(&text[plain..at], output);
        at
    }

    /// Matches the needles against the beginning of `text`. The longest wins, even if it is
    /// incomplete at an open end.
    fn find_at(&self, text: &[u8], tail: Tail) -> Match {
        if !self.starts.may_match(text) {
            return Match::None;
        }
        for needle in &self.needles {
            if text.starts_with(needle) {
                return Match::Needle(needle.len());
            }
            if tail == Tail::Open && needle.starts_with(text) {
                return Match::Partial;
            }
        }
        Match::None
    }
}

impl Starts {
    fn new(needles: &[Vec<u8>]) -> Self {
        let mut starts = Self {
            first: [false; 256],
            pairs: vec![0; 1 << 10].into(),
        };
        for needle in needles {
            if let [first, second, ..] = needle[..] {
                starts.first[usize::from(first)] = true;
                let (word, bit) = Self::place(first, second);
                starts.pairs[word] |= bit;
            }
        }
        starts
    }

    /// Returns false if no needle begins at the beginning of `text`.
    fn may_match(&self, text: &[u8]) -> bool {
        match *text {
            [first, second, ..] => {
                let (word, bit) = Self::place(first, second);
                self.pairs[word] & bit != 0
            }
            [first] => self.first[usize::from(first)],
            [] => false,
        }
    }

    fn place(first: u8, second: u8) -> (usize, u64) {
        let word = usize::from(first) << 2 | usize::from(second >> 6);
        (word, 1 << (second & 63))
    }
}

fn write_nonempty(bytes: &[u8], output: &mut dyn FnMut(&[u8])) {
    if !bytes.is_empty() {
        output(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masker(secrets: &[&str]) -> Masker {
        Masker::new(secrets.iter().map(OsString::from))
    }

    fn masked(secrets: &[&str], text: &str) -> String {
        String::from_utf8(masker(secrets).mask(text.as_bytes())).unwrap()
    }

    /// Masks `text` in pieces of `size` bytes.
    fn streamed(secrets: &[&str], text: &str, size: usize) -> String {
        let (mut masker, mut out) = (masker(secrets), Vec::new());
        let mut output = |bytes: &[u8]| out.extend_from_slice(bytes);
        for piece in text.as_bytes().chunks(size) {
            masker.push(piece, &mut output);
        }
        masker.finish(&mut output);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn secret_split_between_pieces_is_masked() {
        let text = "a hunter2 hunterhunter2 hunt";
        for size in 1..text.len() {
            assert_eq!(streamed(&["hunter2"], text, size), "a *** hunter*** hunt");
        }
    }

    #[test]
    fn longest_matching_secret_is_masked() {
        let secrets = ["pass", "password"];
        for size in 1..12 {
            assert_eq!(
                streamed(&secrets, "password passwor pass", size),
                "*** ***wor ***"
            );
        }
    }

    #[test]
    fn encoded_forms_are_masked() {
        let secret = "s3cr&t/v+lue?";
        let forms = [
            "czNjciZ0L3YrbHVlPw==", // alone
            "eHMzY3ImdC92K2x1ZT8=", // after `x`
            "eHhzM2NyJnQvditsdWU/", // after `xx`
            "eHhzM2NyJnQvditsdWU_", // the same, URL-safe
            "7333637226742f762b6c75653f",
            "7333637226742F762B6C75653F",
            "s3cr%26t%2Fv%2Blue%3F",
        ];
        for form in forms {
            let shown = masked(&[secret], form);
            assert!(
                shown.contains("***") && shown.len() <= 8,
                "{form} became {shown}"
            );
        }
    }

    #[test]
    fn secret_is_masked_inside_json() {
        let secret = "s3cr\"t\\/<a>&\tü😀";
        let forms = [
            "s3cr\\\"t\\\\/<a>&\\tü😀",                     // JavaScript, jq
            "s3cr\\\"t\\\\/<a>&\\t\\u00fc\\ud83d\\ude00",   // Python
            "s3cr\\\"t\\\\/\\u003ca\\u003e\\u0026\\tü😀",   // Go
            "s3cr\\\"t\\\\\\/<a>&\\t\\u00fc\\ud83d\\ude00", // PHP
            "s3cr\\\\\\\"t\\\\\\\\/<a>&\\\\tü😀",           // twice
        ];
        for form in forms {
            assert_eq!(masked(&[secret], form), "***", "{form}");
        }
    }

    #[test]
    fn secret_is_masked_inside_shell_words() {
        let secret = "pa$$'w \"o`rd\\";
        let forms = [
            r#"pa$$'\''w "o`rd\"#,
            r#"pa$$'"'"'w "o`rd\"#,
            r#"pa\$\$'w \"o\`rd\\"#,
            r#"pa\$\$\'w\ \"o\`rd\\"#,
        ];
        for form in forms {
            assert_eq!(masked(&[secret], form), "***", "{form}");
        }
    }

    #[test]
    fn secret_is_masked_inside_html() {
        let secret = "<a href='x'>\"&\"</a>";
        let forms = [
            "&lt;a href='x'&gt;\"&amp;\"&lt;/a&gt;",
            "&lt;a href=&#39;x&#39;&gt;&#34;&amp;&#34;&lt;/a&gt;",
            "&lt;a href=&#x27;x&#x27;&gt;&quot;&amp;&quot;&lt;/a&gt;",
            "&lt;a href=&#39;x&#39;&gt;&quot;&amp;&quot;&lt;/a&gt;",
        ];
        for form in forms {
            assert_eq!(masked(&[secret], form), "***", "{form}");
        }
    }

    #[test]
    fn secret_is_masked_inside_uris() {
        let secret = "k=/y +~(ü)*";
        let forms = [
            "k%3D%2Fy%20%2B~%28%C3%BC%29%2A",
            "k%3d%2fy%20%2b~%28%c3%bc%29%2a",
            "k%3D%2Fy%20%2B~(%C3%BC)*",
            "k=/y%20+~(%C3%BC)*",
            "k%3D/y%20%2B~%28%C3%BC%29%2A",
            "k%3D%2Fy+%2B%7E%28%C3%BC%29*",
        ];
        for form in forms {
            assert_eq!(masked(&[secret], form), "***", "{form}");
        }
    }

    #[test]
    fn long_lines_of_a_secret_are_masked() {
        let secrets = ["first line\nsecond line\nend\n"];
        let text = "second line, first line, end";
        assert_eq!(masked(&secrets, text), "***, ***, end");
    }

    #[test]
    fn short_secret_is_not_masked() {
        assert_eq!(masked(&["dev"], "dev"), "dev");
    }

    #[test]
    fn without_secrets_pieces_are_unchanged() {
        let mut pieces = Vec::new();
        let mut masker = masker(&[]);
        masker.push(b"\0\xff", &mut |bytes| pieces.push(bytes.to_vec()));
        assert_eq!(pieces, [b"\0\xff"]);
    }
}
