//! Masks secrets in a stream of bytes, even if one is split between two pieces.
//!
//! It masks a secret's value, each line of a value with several lines, and, for values long
//! enough to be unmistakable, their base64 (both alphabets, at any offset), hexadecimal and
//! percent-encoded forms. Values shorter than four bytes are not masked: masking `1` or
//! `dev` would make the output unreadable.

use std::borrow::Borrow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

/// The length of the shortest value that is masked.
const MIN_SECRET: usize = 4;
/// The length of the shortest value whose encoded forms are masked, and of the shortest
/// line of a value.
const MIN_ENCODED: usize = 8;
/// The replacement for a secret.
const MASK: &[u8] = b"***";

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Replaces secrets in a stream by `***`.
#[derive(Clone, Debug)]
pub struct Masker {
    /// All masked texts, the longest first.
    needles: Vec<Vec<u8>>,
    /// The first bytes of the needles.
    starts: [bool; 256],
    /// The end of the input so far, if a needle may begin there.
    held: Vec<u8>,
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
        needles.sort_unstable_by_key(|needle| std::cmp::Reverse(needle.len()));
        needles.dedup();
        let mut starts = [false; 256];
        for needle in &needles {
            starts[usize::from(needle[0])] = true;
        }
        Self {
            needles,
            starts,
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
        if !self.starts[usize::from(text[0])] {
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

fn write_nonempty(bytes: &[u8], output: &mut dyn FnMut(&[u8])) {
    if !bytes.is_empty() {
        output(bytes);
    }
}

/// Adds all forms of a secret.
fn add_forms(secret: &OsStr, needles: &mut Vec<Vec<u8>>) {
    let value = secret.as_bytes();
    let trimmed = value.trim_ascii_end();
    for form in [value, trimmed] {
        if form.len() >= MIN_SECRET {
            needles.push(form.to_vec());
        }
    }
    let lines = trimmed.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    needles.extend(lines.filter(|l| l.len() >= MIN_ENCODED).map(<[u8]>::to_vec));
    for form in [value, trimmed] {
        if form.len() >= MIN_ENCODED {
            for offset in 0..3 {
                needles.push(base64(form, offset, STANDARD));
                needles.push(base64(form, offset, URL_SAFE));
            }
            needles.push(hex(form, b"0123456789abcdef"));
            needles.push(hex(form, b"0123456789ABCDEF"));
            needles.push(percent(form));
        }
    }
}

/// Returns the base64 digits that depend on `value` alone, if it begins `offset` bytes after
/// a multiple of three in the encoded text.
fn base64(value: &[u8], offset: usize, alphabet: &[u8; 64]) -> Vec<u8> {
    let bit = |at: usize| value[at / 8 - offset] >> (7 - at % 8) & 1;
    let first = (offset * 8).div_ceil(6);
    let last = (offset + value.len()) * 8 / 6;
    let digit = |at: usize| (at * 6..at * 6 + 6).fold(0, |digit, at| digit << 1 | bit(at));
    let digits = (first..last).map(|at| alphabet[usize::from(digit(at))]);
    digits.collect()
}

fn hex(value: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    let pair = |byte: &u8| [byte >> 4, byte & 15].map(|digit| digits[usize::from(digit)]);
    value.iter().flat_map(pair).collect()
}

/// Percent-encodes a value (RFC 3986).
fn percent(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for byte in value {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(*byte);
        } else {
            out.push(b'%');
            out.extend(hex(&[*byte], b"0123456789ABCDEF"));
        }
    }
    out
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
