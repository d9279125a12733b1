//! Lists the texts that reveal a secret.
//!
//! They are the secret's value and each line of a value with several lines, both also as they
//! appear inside JSON, shell words, HTML and URIs; and, for values long enough to be
//! unmistakable, their base64 (both alphabets, at any offset) and hexadecimal forms. Values
//! shorter than four bytes have none: masking `1` or `dev` would make the output unreadable.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

/// The length of the shortest value that is masked.
const MIN_SECRET: usize = 4;
/// The length of the shortest value whose encoded forms are masked, and of the shortest
/// line of a value.
const MIN_ENCODED: usize = 8;

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Adds all forms of a secret.
pub(super) fn add_forms(secret: &OsStr, needles: &mut Vec<Vec<u8>>) {
    let value = secret.as_bytes();
    let trimmed = value.trim_ascii_end();
    let lines = trimmed.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    for form in [value, trimmed] {
        if form.len() >= MIN_SECRET {
            needles.push(form.to_vec());
            add_escaped_forms(form, needles);
        }
    }
    for line in lines.filter(|line| line.len() >= MIN_ENCODED) {
        needles.push(line.to_vec());
        add_escaped_forms(line, needles);
    }
    for form in [value, trimmed] {
        if form.len() >= MIN_ENCODED {
            for offset in 0..3 {
                needles.push(base64(form, offset, STANDARD));
                needles.push(base64(form, offset, URL_SAFE));
            }
            needles.push(hex(form, LOWER_HEX));
            needles.push(hex(form, UPPER_HEX));
        }
    }
}

/// Adds the forms that a value has inside JSON, shell words, HTML and URIs. Each is a
/// convention of some widely used encoder.
fn add_escaped_forms(value: &[u8], needles: &mut Vec<Vec<u8>>) {
    let mut add = |escape: &dyn Fn(char) -> Option<String>| needles.push(escaped(value, escape));
    for json in &JSON {
        add(&|c| json.escape(c));
    }
    for special in SHELL {
        add(&|c| special.contains(c).then(|| format!("\\{c}")));
    }
    for quote in ["'\\''", "'\"'\"'"] {
        add(&|c| (c == '\'').then(|| quote.to_owned()));
    }
    for entities in HTML {
        add(&|c| {
            let (_, entity) = entities.iter().find(|(special, _)| *special == c)?;
            Some((*entity).to_owned())
        });
    }
    // JSON in a string of JSON.
    let json = escaped(value, &|c| JSON[0].escape(c));
    needles.push(escaped(&json, &|c| JSON[0].escape(c)));
    for unreserved in URI {
        for digits in [LOWER_HEX, UPPER_HEX] {
            let encoded = percent(value, unreserved, digits);
            needles.push(with_plus(&encoded));
            needles.push(encoded);
        }
    }
}

/// The conventions of a JSON encoder.
struct Json {
    /// The characters that it escapes although JSON does not require it.
    also: &'static str,
    /// Whether it escapes them with a backslash instead of a number.
    with_backslash: bool,
    only_ascii: bool,
}

const JSON: [Json; 4] = [
    // JavaScript, serde, jq.
    Json {
        also: "",
        with_backslash: false,
        only_ascii: false,
    },
    // Python.
    Json {
        also: "\u{7f}",
        with_backslash: false,
        only_ascii: true,
    },
    // Go.
    Json {
        also: "<>&\u{2028}\u{2029}",
        with_backslash: false,
        only_ascii: false,
    },
    // PHP.
    Json {
        also: "/",
        with_backslash: true,
        only_ascii: true,
    },
];

impl Json {
    fn escape(&self, c: char) -> Option<String> {
        Some(match c {
            '"' | '\\' => format!("\\{c}"),
            '\n' => "\\n".to_owned(),
            '\r' => "\\r".to_owned(),
            '\t' => "\\t".to_owned(),
            '\u{8}' => "\\b".to_owned(),
            '\u{c}' => "\\f".to_owned(),
            _ if self.also.contains(c) && self.with_backslash => format!("\\{c}"),
            _ if c < ' ' || self.also.contains(c) || self.only_ascii && !c.is_ascii() => {
                let mut units = [0; 2];
                let units = c.encode_utf16(&mut units).iter();
                units.map(|unit| format!("\\u{unit:04x}")).collect()
            }
            _ => return None,
        })
    }
}

/// The characters that are escaped with a backslash: in double quotes of scripts and of
/// interactive shells, and in plain words by bash and by languages' libraries.
const SHELL: [&str; 4] = [
    "$`\"\\",
    "$`\"\\!",
    " !\"$&'()*,;<>?[\\]^`{|}",
    " !\"#$%&'()*;<=>?[\\]^`{|}~",
];

/// The entities of HTML encoders: minimal, Go and Python's, and with names.
const HTML: [&[(char, &str)]; 4] = [
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;")],
    &[
        ('&', "&amp;"),
        ('<', "&lt;"),
        ('>', "&gt;"),
        ('"', "&#34;"),
        ('\'', "&#39;"),
    ],
    &[
        ('&', "&amp;"),
        ('<', "&lt;"),
        ('>', "&gt;"),
        ('"', "&quot;"),
        ('\'', "&#x27;"),
    ],
    &[
        ('&', "&amp;"),
        ('<', "&lt;"),
        ('>', "&gt;"),
        ('"', "&quot;"),
        ('\'', "&#39;"),
    ],
];

/// The characters besides letters and digits that URI encoders leave: RFC 3986, JavaScript's
/// `encodeURIComponent` and `encodeURI`, Python's `quote`, and forms.
const URI: [&[u8]; 5] = [
    b"-._~",
    b"-._~!'()*",
    b"-._~!'()*;,/?:@&=+$#",
    b"-._~/",
    b"-._*",
];

const LOWER_HEX: &[u8; 16] = b"0123456789abcdef";
const UPPER_HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Replaces the characters of a value for which `escape` returns a text.
fn escaped(value: &[u8], escape: &dyn Fn(char) -> Option<String>) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for chunk in value.utf8_chunks() {
        for c in chunk.valid().chars() {
            match escape(c) {
                Some(text) => out.extend_from_slice(text.as_bytes()),
                None => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        out.extend_from_slice(chunk.invalid());
    }
    out
}

/// Writes spaces as forms do.
fn with_plus(encoded: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(encoded);
    text.replace("%20", "+").into_bytes()
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

/// Percent-encodes a value, except letters, digits and `unreserved`.
fn percent(value: &[u8], unreserved: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for byte in value {
        if byte.is_ascii_alphanumeric() || unreserved.contains(byte) {
            out.push(*byte);
        } else {
            out.push(b'%');
            out.extend(hex(&[*byte], digits));
        }
    }
    out
}
