//! A result on a server, as bytes: signed, bound to its key and to its scope. Decoding
//! gives a result or the reason why it is not believed; it does no I/O.
//!
//! ```text
//! magic "fbremote" 8 | format u32 | public key 32 | scope length u16 | scope
//! | key: hash 32, length u64 | payload length u64 | payload | signature 64 of all before
//! ```
//!
//! Numbers are little-endian; the payload is the [`ActionResult`] in postcard's encoding.

use super::backend::{MAX_RECORD, RecordName};
use super::trust::{PublicKey, Signer};
use super::wire;
use crate::action::{ActionKey, ActionResult};
use crate::digest::Digest;
use crate::store::check_entries;

const MAGIC: &[u8; 8] = b"fbremote";
/// The version of the encoding; it is part of every record's name as well.
const FORMAT: u32 = 1;

/// Why a record is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// It is cut off, too long or not a record.
    #[error("it is not a record of fbuild")]
    Form,
    /// It has a format that this program does not know.
    #[error("its format {0} is unknown")]
    Format(u32),
    /// Its signer is not among the trusted keys.
    #[error("its signer {0} is not trusted")]
    Signer(String),
    /// Its signature does not match.
    #[error("its signature does not match")]
    Signature,
    /// It was written for another scope.
    #[error("it belongs to the scope `{0}`")]
    Scope(String),
    /// It belongs to another key.
    #[error("it belongs to another target")]
    Key,
    /// Its entries cannot be those of a result.
    #[error("its entries are impossible: {0}")]
    Entries(String),
}

/// Returns the name of the record of `key` in `scope`. The scope is part of the name, so a
/// build cannot even ask for a record of a scope that it may not read.
pub(super) fn name(scope: &str, key: ActionKey) -> RecordName {
    let mut text = format!("fbuild-remote-record {FORMAT}\n{}\n", scope.len()).into_bytes();
    text.extend_from_slice(scope.as_bytes());
    text.extend_from_slice(key.0.hash());
    text.extend_from_slice(&key.0.size().to_le_bytes());
    let action = wire::action(text);
    RecordName {
        digest: Digest::of(&action),
        action,
    }
}

/// Returns a signed record.
pub(super) fn encode(
    scope: &str,
    key: ActionKey,
    result: &ActionResult,
    signer: &Signer,
) -> Option<Vec<u8>> {
    let payload = postcard::to_stdvec(result).ok()?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&signer.public().to_bytes());
    bytes.extend_from_slice(&u16::try_from(scope.len()).ok()?.to_le_bytes());
    bytes.extend_from_slice(scope.as_bytes());
    bytes.extend_from_slice(key.0.hash());
    bytes.extend_from_slice(&key.0.size().to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&payload);
    let signature = signer.sign(&bytes);
    bytes.extend_from_slice(&signature);
    (bytes.len() as u64 <= MAX_RECORD).then_some(bytes)
}

/// Reads the record of `key` in `scope`. The signature is checked before the payload is
/// decoded: bytes of strangers reach no decoder.
pub(super) fn decode(
    scope: &str,
    key: ActionKey,
    bytes: &[u8],
    trusted: &[PublicKey],
) -> Result<ActionResult, Refusal> {
    if bytes.len() as u64 > MAX_RECORD {
        return Err(Refusal::Form);
    }
    let (content, signature) = bytes.split_last_chunk::<64>().ok_or(Refusal::Form)?;
    let mut rest = content;
    if take::<8>(&mut rest)? != MAGIC {
        return Err(Refusal::Form);
    }
    let format = u32::from_le_bytes(*take(&mut rest)?);
    if format != FORMAT {
        return Err(Refusal::Format(format));
    }
    let signer = PublicKey::from_bytes(take(&mut rest)?).map_err(|_| Refusal::Signature)?;
    if !trusted.contains(&signer) {
        return Err(Refusal::Signer(signer.to_string()));
    }
    if !signer.verifies(content, signature) {
        return Err(Refusal::Signature);
    }
    let length = usize::from(u16::from_le_bytes(*take(&mut rest)?));
    let (named, tail) = rest.split_at_checked(length).ok_or(Refusal::Form)?;
    rest = tail;
    if named != scope.as_bytes() {
        return Err(Refusal::Scope(String::from_utf8_lossy(named).into_owned()));
    }
    let hash = *take::<32>(&mut rest)?;
    let named = Digest::from_parts(hash, u64::from_le_bytes(*take(&mut rest)?));
    if named != key.0 {
        return Err(Refusal::Key);
    }
    if u64::from_le_bytes(*take(&mut rest)?) != rest.len() as u64 {
        return Err(Refusal::Form);
    }
    let (result, rest) =
        postcard::take_from_bytes::<ActionResult>(rest).map_err(|_| Refusal::Form)?;
    if !rest.is_empty() {
        return Err(Refusal::Form);
    }
    check_entries(&result.outputs).map_err(|error| Refusal::Entries(error.to_string()))?;
    Ok(result)
}

fn take<'b, const N: usize>(rest: &mut &'b [u8]) -> Result<&'b [u8; N], Refusal> {
    let (head, tail) = rest.split_first_chunk().ok_or(Refusal::Form)?;
    *rest = tail;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ActionKey {
        ActionKey(Digest::of(b"manifest"))
    }

    fn result() -> ActionResult {
        ActionResult {
            outputs: Vec::new(),
            log: None,
            manifest: key().0,
            duration_ms: 5,
        }
    }

    fn signer() -> Signer {
        Signer::from_seed([1; 32])
    }

    fn record() -> Vec<u8> {
        encode("main", key(), &result(), &signer()).unwrap()
    }

    fn read(bytes: &[u8]) -> Result<ActionResult, Refusal> {
        decode("main", key(), bytes, &[signer().public()])
    }

    #[test]
    fn a_record_round_trips() {
        assert_eq!(read(&record()), Ok(result()));
    }

    #[test]
    fn every_truncation_and_flipped_bit_is_refused() {
        let record = record();
        for length in 0..record.len() {
            assert!(read(&record[..length]).is_err(), "length {length}");
        }
        for at in 0..record.len() * 8 {
            let mut record = record.clone();
            record[at / 8] ^= 1 << (at % 8);
            assert!(read(&record).is_err(), "bit {at}");
        }
    }

    #[test]
    fn a_record_of_an_unknown_signer_is_refused() {
        let other = Signer::from_seed([2; 32]);
        let record = encode("main", key(), &result(), &other).unwrap();
        assert_eq!(
            read(&record),
            Err(Refusal::Signer(other.public().to_string()))
        );
    }

    #[test]
    fn a_record_of_another_scope_is_refused() {
        let record = encode("pr-12", key(), &result(), &signer()).unwrap();
        assert_eq!(read(&record), Err(Refusal::Scope("pr-12".to_owned())));
    }

    #[test]
    fn a_record_of_another_key_is_refused() {
        let other = ActionKey(Digest::of(b"other"));
        let record = encode("main", other, &result(), &signer()).unwrap();
        assert_eq!(read(&record), Err(Refusal::Key));
    }

    #[test]
    fn names_depend_on_scope_and_key() {
        let other = ActionKey(Digest::of(b"other"));
        let names = [name("main", key()), name("main", other), name("pr", key())];
        assert!(names[0] != names[1] && names[0] != names[2] && names[1] != names[2]);
        assert_eq!(names[0].hex().len(), 64);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_refused(bytes: Vec<u8>) {
            proptest::prop_assert!(read(&bytes).is_err());
        }
    }
}
