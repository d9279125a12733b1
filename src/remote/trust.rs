//! Signatures of shared results. A record is believed only if a trusted key signed it for
//! a scope that may be read, so neither the server nor another writer can forge one.
//!
//! Keys are Ed25519 (RFC 8032). A public key is written `ed25519:` and 64 hexadecimal
//! digits, a private key `ed25519-secret:` and the 64 digits of its seed.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

/// A key that signs records.
pub struct Signer {
    key: SigningKey,
}

/// A key whose records are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

const PUBLIC: &str = "ed25519:";
const SECRET: &str = "ed25519-secret:";

/// Text that is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The prefix is another one.
    #[error("a public key begins with `ed25519:`")]
    NotPublic,
    /// The prefix is another one.
    #[error("a private key begins with `ed25519-secret:`; `fbuild remote key` makes one")]
    NotSecret,
    /// The rest is not 64 hexadecimal digits.
    #[error("a key has 64 hexadecimal digits after its prefix")]
    Digits,
    /// The point is not on the curve.
    #[error("this is not a valid Ed25519 key")]
    Point,
}

impl Signer {
    /// Makes a signer from 32 random bytes.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self {
            key: SigningKey::from_bytes(&seed),
        }
    }

    /// Reads a private key.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let digits = text
            .trim()
            .strip_prefix(SECRET)
            .ok_or(KeyError::NotSecret)?;
        Ok(Self::from_seed(bytes_of(digits)?))
    }

    /// Returns the private key as text.
    pub fn secret_text(&self) -> String {
        format!("{SECRET}{}", hex(&self.key.to_bytes()))
    }

    /// Returns the public key.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.key.verifying_key())
    }

    /// Signs `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl PublicKey {
    /// Reads a public key.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let digits = text
            .trim()
            .strip_prefix(PUBLIC)
            .ok_or(KeyError::NotPublic)?;
        Self::from_bytes(&bytes_of(digits)?)
    }

    /// Reads the 32 bytes of a public key.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::Point)?;
        // Any message has a signature under such a key.
        if key.is_weak() {
            return Err(KeyError::Point);
        }
        Ok(Self(key))
    }

    /// Returns its 32 bytes.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Returns true if `signature` is of this key and of `message`.
    pub fn verifies(self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0
            .verify_strict(message, &Signature::from_bytes(signature))
            .is_ok()
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{PUBLIC}{}", hex(&self.to_bytes()))
    }
}

fn bytes_of(digits: &str) -> Result<[u8; 32], KeyError> {
    let digits = digits.as_bytes();
    if digits.len() != 64 {
        return Err(KeyError::Digits);
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        let text = std::str::from_utf8(pair).map_err(|_| KeyError::Digits)?;
        if !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(KeyError::Digits);
        }
        *byte = u8::from_str_radix(text, 16).map_err(|_| KeyError::Digits)?;
    }
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip_as_text() {
        let signer = Signer::from_seed([7; 32]);
        assert_eq!(
            PublicKey::parse(&signer.public().to_string()),
            Ok(signer.public())
        );
        let again = Signer::parse(&signer.secret_text()).unwrap();
        assert_eq!(again.public(), signer.public());
    }

    #[test]
    fn text_that_is_no_key_is_refused() {
        let secret = Signer::from_seed([7; 32]).secret_text();
        assert_eq!(PublicKey::parse(&secret), Err(KeyError::NotPublic));
        assert_eq!(PublicKey::parse("ed25519:12"), Err(KeyError::Digits));
        let signs = format!("ed25519:{}", "+1".repeat(32));
        assert_eq!(PublicKey::parse(&signs), Err(KeyError::Digits));
        assert_eq!(Signer::parse("ed25519:00").err(), Some(KeyError::NotSecret));
    }

    #[test]
    fn weak_keys_are_refused() {
        let zero = format!("ed25519:{}", "00".repeat(32));
        assert_eq!(PublicKey::parse(&zero), Err(KeyError::Point));
    }

    #[test]
    fn only_the_signed_message_verifies() {
        let (signer, other) = (Signer::from_seed([1; 32]), Signer::from_seed([2; 32]));
        let signature = signer.sign(b"message");
        assert!(signer.public().verifies(b"message", &signature));
        assert!(!signer.public().verifies(b"massage", &signature));
        assert!(!other.public().verifies(b"message", &signature));
    }
}
