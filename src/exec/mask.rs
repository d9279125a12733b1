//! Hides secrets in a stream of bytes, however it is cut into pieces. It knows what the
//! secrets are, not where they come from or where the bytes go.
//!
//! What is hidden is a secret's value; each line of a value of several lines; and, for
//! values long enough that nothing else looks like them, its base64 (both alphabets, at
//! any offset in what was encoded), hexadecimal and percent-encoded forms. Values shorter
//! than four bytes are not hidden: `1` or `dev` would be all over the output.

use std::borrow::Borrow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

/// The shortest value that is hidden.
const MIN_SECRET: usize = 4;
/// The shortest value whose encoded forms are hidden, and the shortest line of a value.
const MIN_ENCODED: usize = 8;
/// What stands for a secret.
const MASK: &[u8] = b"***";

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Replaces secrets in a stream by `***`.
#[derive(Clone, Debug)]
pub struct Masker {
    /// What is hidden, the longest first.
    needles: Vec<Vec<u8>>,
    /// The bytes that one of them begins with.
    starts: [bool; 256],
    /// What may be the beginning of one, and waits for more.
    held: Vec<u8>,
}

/// What stands at a place in the text.
enum Found {
    Nothing,
    /// A secret of this length.
    Secret(usize),
    /// What may become one with more text.
    Perhaps,
}

impl Masker {
    /// Returns a masker for these values.
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

    /// Passes the next `bytes` on to `output`, but for what may be the beginning of a
    /// secret at their end, which waits for more.
    pub fn push(&mut self, bytes: &[u8], output: &mut dyn FnMut(&[u8])) {
        if self.needles.is_empty() {
            return output(bytes);
        }
        let mut text = std::mem::take(&mut self.held);
        text.extend_from_slice(bytes);
        let done = self.pass_on(&text, true, output);
        text.drain(..done);
        self.held = text;
    }

    /// Passes on what was waiting: the stream is at its end.
    pub fn finish(&mut self, output: &mut dyn FnMut(&[u8])) {
        let text = std::mem::take(&mut self.held);
        self.pass_on(&text, false, output);
    }

    /// Returns a whole text with its secrets hidden.
    pub fn mask(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        self.pass_on(text, false, &mut |bytes| out.extend_from_slice(bytes));
        out
    }

    /// Passes on `text`, as far as it is certain if `more` may follow, and returns how far
    /// that is.
    fn pass_on(&self, text: &[u8], more: bool, output: &mut dyn FnMut(&[u8])) -> usize {
        let (mut plain, mut at) = (0, 0);
        while at < text.len() {
            match self.look(&text[at..], more) {
                Found::Perhaps => break,
                Found::Nothing => at += 1,
                Found::Secret(length) => {
                    pass(&text[plain..at], output);
                    output(MASK);
                    at += length;
                    plain = at;
                }
            }
        }
        pass(&text[plain..at], output);
        at
    }

    /// Looks what `text` begins with. The longest secret wins, even one that is not all
    /// there yet if `more` may follow.
    fn look(&self, text: &[u8], more: bool) -> Found {
        if !self.starts[usize::from(text[0])] {
            return Found::Nothing;
        }
        for needle in &self.needles {
            if text.starts_with(needle) {
                return Found::Secret(needle.len());
            }
            if more && needle.starts_with(text) {
                return Found::Perhaps;
            }
        }
        Found::Nothing
    }
}

fn pass(bytes: &[u8], output: &mut dyn FnMut(&[u8])) {
    if !bytes.is_empty() {
        output(bytes);
    }
}

/// Adds everything that a secret may look like.
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

/// Returns those digits of a base64 text that `value` alone decides, when it stands
/// `offset` bytes after a multiple of three in what is encoded.
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

/// Returns it as in an address (RFC 3986).
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

    /// Feeds `text` in pieces of `size` bytes.
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
    fn a_secret_is_hidden_however_the_stream_is_cut() {
        let text = "a hunter2 hunterhunter2 hunt";
        for size in 1..text.len() {
            assert_eq!(streamed(&["hunter2"], text, size), "a *** hunter*** hunt");
        }
    }

    #[test]
    fn the_longest_secret_wins_and_a_shorter_one_is_found_when_it_does_not_come() {
        let secrets = ["pass", "password"];
        for size in 1..12 {
            assert_eq!(
                streamed(&secrets, "password passwor pass", size),
                "*** ***wor ***"
            );
        }
    }

    #[test]
    fn encoded_forms_are_hidden() {
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
    fn lines_of_a_secret_are_hidden_and_short_values_are_not() {
        let secrets = ["first line\nsecond line\nend\n", "dev"];
        let text = "second line, first line, end, dev";
        assert_eq!(masked(&secrets, text), "***, ***, end, dev");
    }

    #[test]
    fn without_secrets_pieces_pass_as_they_are() {
        let mut pieces = Vec::new();
        let mut masker = masker(&[]);
        masker.push(b"\0\xff", &mut |bytes| pieces.push(bytes.to_vec()));
        assert_eq!(pieces, [b"\0\xff"]);
    }
}
