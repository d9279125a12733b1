//! Secret keys, and the codes that prove that content was written by their owner.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};

use polyval::Polyval;
use polyval::universal_hash::UniversalHash as _;
use sha2::{Digest as _, Sha256};

/// The block size of SHA-256, by which HMAC is defined.
const HMAC_BLOCK: usize = 64;
/// The block size of POLYVAL.
const BLOCK: usize = 16;

/// A secret key.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Key {
    /// Creates a key from secret bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Derives a key for one purpose: without this key, neither can be computed from the other.
    #[must_use]
    pub fn derive(&self, purpose: &[&[u8]]) -> Self {
        Self(self.mac(purpose))
    }

    /// Returns the HMAC-SHA-256 of `parts`. Each part is hashed with its length, so that a
    /// byte cannot move from one part to the next.
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut inner = self.padded(0x36);
        for part in parts {
            inner.update((part.len() as u64).to_le_bytes());
            inner.update(part);
        }
        self.outer(inner)
    }

    fn outer(&self, inner: Sha256) -> [u8; 32] {
        let mut outer = self.padded(0x5c);
        outer.update(inner.finalize());
        outer.finalize().into()
    }

    fn padded(&self, pad: u8) -> Sha256 {
        let mut block = [pad; HMAC_BLOCK];
        for (byte, key) in block.iter_mut().zip(self.0) {
            *byte ^= key;
        }
        Sha256::new_with_prefix(block)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Computes the authentication code of one content under a key that is used only once: the
/// POLYVAL of the content, hidden by the second half of the key, as in AES-GCM-SIV. A second
/// content under the same key would reveal the key.
pub struct OneTimeMac {
    hash: Polyval,
    pad: [u8; BLOCK],
    /// The beginning of the next block.
    partial: Vec<u8>,
    length: u64,
}

impl OneTimeMac {
    /// Starts a code under a key that was derived from a fresh nonce.
    pub fn new(key: Key) -> Self {
        let (mut hash_key, mut pad) = ([0; BLOCK], [0; BLOCK]);
        hash_key.copy_from_slice(&key.0[..BLOCK]);
        pad.copy_from_slice(&key.0[BLOCK..]);
        Self {
            hash: Polyval::new(&hash_key.into()),
            pad,
            partial: Vec::with_capacity(BLOCK),
            length: 0,
        }
    }

    /// Adds the next bytes of the content.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len() as u64;
        if !self.partial.is_empty() {
            let missing = (BLOCK - self.partial.len()).min(bytes.len());
            self.partial.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            if self.partial.len() == BLOCK {
                self.hash.update_padded(&self.partial);
                self.partial.clear();
            }
        }
        let (blocks, rest) = bytes.split_at(bytes.len() / BLOCK * BLOCK);
        self.hash.update_padded(blocks);
        self.partial.extend_from_slice(rest);
    }

    /// Returns the code.
    pub fn finish(mut self) -> [u8; BLOCK] {
        self.hash.update_padded(&self.partial);
        self.hash
            .update_padded(&u128::from(self.length).to_le_bytes());
        let mut code: [u8; BLOCK] = self.hash.finalize().into();
        for (byte, pad) in code.iter_mut().zip(self.pad) {
            *byte ^= pad;
        }
        code
    }
}

/// Returns random bytes of the system.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let flags = rustix::rand::GetRandomFlags::empty();
    // Requests of up to 256 bytes are answered in full.
    if rustix::rand::getrandom(&mut bytes, flags) != Ok(N) {
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn hmac_matches_published_vector() {
        // RFC 4231, test case 1: a key of 20 bytes is padded with zeros.
        let mut bytes = [0; 32];
        bytes[..20].fill(0x0b);
        let key = Key::new(bytes);
        let mut inner = key.padded(0x36);
        inner.update(b"Hi There");
        assert_eq!(
            hex(&key.outer(inner)),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
    }

    #[test]
    fn mac_keeps_parts_apart() {
        let key = Key::new([1; 32]);
        assert_ne!(key.mac(&[b"ab", b"c"]), key.mac(&[b"a", b"bc"]));
        assert_ne!(key.mac(&[b"ab"]), key.mac(&[b"ab", b""]));
        assert_ne!(key.mac(&[b"ab"]), Key::new([2; 32]).mac(&[b"ab"]));
    }

    fn code(pieces: &[&[u8]]) -> [u8; BLOCK] {
        let mut mac = OneTimeMac::new(Key::new([3; 32]));
        for piece in pieces {
            mac.update(piece);
        }
        mac.finish()
    }

    #[test]
    fn one_time_mac_is_independent_of_pieces() {
        let bytes: Vec<u8> = (0..100).collect();
        let whole = code(&[&bytes]);
        for at in 0..bytes.len() {
            let (head, tail) = bytes.split_at(at);
            assert_eq!(code(&[head, tail]), whole, "split at {at}");
        }
        let singles: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(code(&singles), whole);
    }

    #[test]
    fn one_time_mac_depends_on_every_byte() {
        let bytes = [7; 40];
        let whole = code(&[&bytes]);
        for at in 0..bytes.len() {
            let mut other = bytes;
            other[at] ^= 1;
            assert_ne!(code(&[&other]), whole, "byte {at}");
            assert_ne!(code(&[&bytes[..at]]), whole, "cut at {at}");
        }
        // Padding with zeros is another content.
        assert_ne!(code(&[&[0; 3]]), code(&[&[0; 4]]));
    }

    #[test]
    fn debug_form_hides_key() {
        assert_eq!(format!("{:?}", Key::new([65; 32])), "Key(…)");
    }
}
