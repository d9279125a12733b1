//! Identifies content by its SHA-256 and its length, and authenticates it with secret keys. No
//! other module names a hash algorithm.
//!
//! The pair follows the `Digest` message of the Remote Execution API: with the length, a
//! reader can reject a wrong blob before hashing it.

mod key;

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

pub use key::{Key, OneTimeMac, random};

/// The number of bytes per read when a file is hashed.
pub const BUFFER_SIZE: usize = 256 * 1024;

/// The SHA-256 and the length in bytes of some content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    hash: [u8; 32],
    size: u64,
}

impl Digest {
    /// Returns the digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Returns the digest of everything that `reader` yields, reading through `buffer`.
    pub fn of_reader(reader: &mut dyn Read, buffer: &mut Vec<u8>) -> io::Result<Self> {
        buffer.resize(BUFFER_SIZE, 0);
        let mut hasher = Hasher::new();
        loop {
            match reader.read(buffer) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(n) => hasher.update(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Builds a digest from its parts.
    pub const fn from_parts(hash: [u8; 32], size: u64) -> Self {
        Self { hash, size }
    }

    /// Returns the 32 bytes of the hash.
    pub const fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// Returns the length of the content in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Returns the hash as 64 lower-case hexadecimal digits.
    pub fn hex(&self) -> String {
        hex(&self.hash)
    }

    /// Appends the written form to `text`: the same as `Display`, but faster.
    pub fn push_to(&self, text: &mut String) {
        push_hex(text, &self.hash);
        text.push('/');
        text.push_str(&self.size.to_string());
    }

    /// Returns the first 12 hexadecimal digits, for display.
    pub fn short(&self) -> String {
        hex(&self.hash[..6])
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    push_hex(&mut text, bytes);
    text
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
}

/// Computes the [`Digest`] of content that arrives in pieces.
#[derive(Clone, Default)]
pub struct Hasher {
    sha: Sha256,
    size: u64,
}

impl Hasher {
    /// Returns a hasher of empty content.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// Returns the digest of all pieces.
    pub fn finish(self) -> Digest {
        Digest {
            hash: self.sha.finalize().into(),
            size: self.size,
        }
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reader that verifies its content: it returns [`io::ErrorKind::InvalidData`] at the end
/// if the content does not match the expected digest.
pub struct Verified<R> {
    inner: R,
    expected: Digest,
    hasher: Option<Hasher>,
}

impl<R: Read> Verified<R> {
    /// Wraps `inner`, whose content must match `expected`.
    pub fn new(inner: R, expected: Digest) -> Self {
        Self {
            inner,
            expected,
            hasher: Some(Hasher::new()),
        }
    }

    fn check_end(&mut self) -> io::Result<()> {
        match self.hasher.take().map(Hasher::finish) {
            Some(actual) if actual != self.expected => Err(mismatch(self.expected)),
            _ => Ok(()),
        }
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        if n == 0 && !buffer.is_empty() {
            self.check_end()?;
        } else if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..n]);
            // Without this, an endless source would never be rejected.
            if hasher.size > self.expected.size {
                return Err(mismatch(self.expected));
            }
        }
        Ok(n)
    }
}

fn mismatch(expected: Digest) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("content does not match its digest {}", expected.short()),
    )
}

/// The written form: hash, slash, length (`9f86…0a08/4`), as in REAPI resource names.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.hex(), self.size)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({}/{})", self.short(), self.size)
    }
}

/// The error for a text that is not a digest.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a digest of the form `<64 hex digits>/<length>`")]
pub struct ParseError;

impl FromStr for Digest {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (hex, size) = text.split_once('/').ok_or(ParseError)?;
        let is_plain = |size: &str| size == "0" || !size.starts_with(['0', '+']);
        let size = Some(size).filter(|s| is_plain(s)).ok_or(ParseError)?;
        Ok(Self {
            hash: parse_hash(hex)?,
            size: size.parse().map_err(|_| ParseError)?,
        })
    }
}

fn parse_hash(hex: &str) -> Result<[u8; 32], ParseError> {
    let digits = hex.as_bytes();
    if digits.len() != 64 {
        return Err(ParseError);
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Ok(hash)
}

fn nibble(digit: u8) -> Result<u8, ParseError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(ParseError),
    }
}

/// Serializes to text in readable formats (JSON) and to bytes in binary ones (state, index).
impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            (&self.hash, self.size).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            let (hash, size) = Deserialize::deserialize(deserializer)?;
            Ok(Self { hash, size })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4's example for "abc".
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad/3";

    #[test]
    fn digest_matches_the_published_vector() {
        assert_eq!(Digest::of(b"abc").to_string(), ABC);
    }

    #[test]
    fn digest_survives_a_round_trip() {
        let digest = Digest::of(b"abc");
        assert_eq!(ABC.parse(), Ok(digest));
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        let bytes = postcard::to_stdvec(&digest).unwrap();
        assert_eq!(postcard::from_bytes::<Digest>(&bytes).unwrap(), digest);
    }

    #[test]
    fn parse_rejects_other_spellings() {
        for text in ["", "abc/3", &ABC.to_uppercase(), &ABC[1..], "/3"] {
            assert_eq!(text.parse::<Digest>(), Err(ParseError), "{text}");
        }
        for size in ["", "03", "+3", "-3", "3 ", "99999999999999999999"] {
            let text = format!("{}/{size}", &ABC[..64]);
            assert_eq!(text.parse::<Digest>(), Err(ParseError), "{text}");
        }
    }

    #[test]
    fn verified_reader_rejects_other_content() {
        let read = |content: &[u8]| {
            let mut out = Vec::new();
            Verified::new(content, Digest::of(b"abc")).read_to_end(&mut out)
        };
        assert_eq!(read(b"abc").unwrap(), 3);
        for content in [&b"abd"[..], b"ab", b"", b"abcd"] {
            let error = read(content).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }
}
