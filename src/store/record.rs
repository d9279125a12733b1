//! Encodes results as records and decodes them. Any bytes decode to a result or to a
//! [`Refusal`]. It has no I/O.
//!
//! ```text
//! magic 8 | format u32 | key: hash 32, length u64 | payload length u64 | payload | seal 32 |
//! SHA-256 of all before
//! ```
//!
//! The seal is the authentication code of everything before it, under the key of the user who
//! recorded the result: the checksum shows damage, the seal origin.
//!
//! Numbers are little-endian; the payload is the [`ActionResult`] in postcard's encoding.
//! A change of the encoding is a new [`FORMAT`], never a reinterpretation. Every format
//! begins with magic and format and ends with the checksum, so that a reader can tell a
//! record of another version, which is a miss, from a damaged one.

use std::collections::HashSet;

use crate::action::{ActionKey, ActionResult, Entry, EntryKind};
use crate::digest::{Digest, Key};
use crate::path::{MAX_PATH, RelPath};

/// The version of the encoding.
pub(super) const FORMAT: u32 = 3;
/// The maximum length of a record: a result of about half a million files.
pub(super) const MAX_RECORD: u64 = 64 << 20;
/// The maximum number of entries of a result.
const MAX_ENTRIES: usize = 1_000_000;
/// The maximum size of a file, and of a result: 16 TiB.
const MAX_SIZE: u64 = 1 << 44;

const MAGIC: &[u8; 8] = b"fbresult";
const HEADER: usize = 8 + 4 + 32 + 8 + 8;
/// The length of the seal, and of the checksum.
const CODE: usize = 32;

/// The reason why bytes are not a record, or entries not those of a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The length is wrong.
    #[error("it is truncated or too long")]
    Length,
    /// The magic is missing.
    #[error("it is not a record")]
    Magic,
    /// The format is one that this program does not support.
    #[error("its format {0} is unknown")]
    Format(u32),
    /// The key in the record is not the key it is stored under.
    #[error("it belongs to another key")]
    Key,
    /// The checksum does not match.
    #[error("its checksum does not match")]
    Checksum,
    /// The seal does not match: another user or machine recorded the result.
    #[error("this user did not record it")]
    Origin,
    /// The payload cannot be decoded.
    #[error("its content cannot be decoded")]
    Payload,
    /// The entries exceed [`MAX_ENTRIES`] or [`MAX_SIZE`].
    #[error("it is larger than a result can be")]
    TooLarge,
    /// The entries are not sorted, or a path occurs twice.
    #[error("`{0}` is out of order or occurs twice")]
    Order(RelPath),
    /// An entry is below an entry that is not a folder, or is the root.
    #[error("`{0}` cannot be an output")]
    Place(RelPath),
    /// A link has a target that no link can have.
    #[error("the link `{0}` has an invalid target")]
    Link(RelPath),
}

/// Encodes `result` as a record under `key`, sealed with the key of the user.
pub(super) fn encode(
    key: ActionKey,
    result: &ActionResult,
    user: &Key,
) -> Result<Vec<u8>, Refusal> {
    check_entries(&result.outputs)?;
    let payload = postcard::to_stdvec(result).map_err(|_| Refusal::Payload)?;
    let mut bytes = Vec::with_capacity(HEADER + payload.len() + 2 * CODE);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(key.0.hash());
    bytes.extend_from_slice(&key.0.size().to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&payload);
    let seal = user.mac(&[&bytes]);
    bytes.extend_from_slice(&seal);
    let checksum = Digest::of(&bytes);
    bytes.extend_from_slice(checksum.hash());
    if bytes.len() as u64 > MAX_RECORD {
        return Err(Refusal::TooLarge);
    }
    Ok(bytes)
}

/// Decodes the record that is stored under `key`, if the owner of `user` sealed it.
pub(super) fn decode(key: ActionKey, bytes: &[u8], user: &Key) -> Result<ActionResult, Refusal> {
    let record = Record::parse(bytes)?;
    if record.key != key {
        return Err(Refusal::Key);
    }
    // Before the payload is decoded: it may be hostile.
    if user.mac(&[record.sealed]) != *record.seal {
        return Err(Refusal::Origin);
    }
    decode_payload(record.payload)
}

/// Decodes a record and the key in it, no matter who sealed it.
pub(super) fn decode_any(bytes: &[u8]) -> Result<(ActionKey, ActionResult), Refusal> {
    let record = Record::parse(bytes)?;
    Ok((record.key, decode_payload(record.payload)?))
}

/// The parts of an undamaged record of this format.
struct Record<'b> {
    key: ActionKey,
    payload: &'b [u8],
    /// Everything before the seal.
    sealed: &'b [u8],
    seal: &'b [u8; CODE],
}

impl<'b> Record<'b> {
    fn parse(bytes: &'b [u8]) -> Result<Self, Refusal> {
        if bytes.len() as u64 > MAX_RECORD {
            return Err(Refusal::Length);
        }
        let (content, checksum) = bytes.split_last_chunk().ok_or(Refusal::Length)?;
        let mut start = content;
        if take::<8>(&mut start)? != MAGIC {
            return Err(Refusal::Magic);
        }
        if Digest::of(content).hash() != checksum {
            return Err(Refusal::Checksum);
        }
        let format = u32::from_le_bytes(*take(&mut start)?);
        if format != FORMAT {
            return Err(Refusal::Format(format));
        }
        let (sealed, seal) = content.split_last_chunk().ok_or(Refusal::Length)?;
        let mut rest = sealed.get(8 + 4..).ok_or(Refusal::Length)?;
        let hash = *take::<32>(&mut rest)?;
        let key = ActionKey(Digest::from_parts(hash, take_u64(&mut rest)?));
        if take_u64(&mut rest)? != rest.len() as u64 {
            return Err(Refusal::Length);
        }
        Ok(Self {
            key,
            payload: rest,
            sealed,
            seal,
        })
    }
}

fn decode_payload(payload: &[u8]) -> Result<ActionResult, Refusal> {
    let (result, rest) =
        postcard::take_from_bytes::<ActionResult>(payload).map_err(|_| Refusal::Payload)?;
    if !rest.is_empty() {
        return Err(Refusal::Payload);
    }
    check_entries(&result.outputs)?;
    Ok(result)
}

fn take<'b, const N: usize>(rest: &mut &'b [u8]) -> Result<&'b [u8; N], Refusal> {
    let (head, tail) = rest.split_first_chunk().ok_or(Refusal::Length)?;
    *rest = tail;
    Ok(head)
}

fn take_u64(rest: &mut &[u8]) -> Result<u64, Refusal> {
    take(rest).map(|bytes| u64::from_le_bytes(*bytes))
}

/// Checks that entries can be those of a result: sorted, each path once, nothing below a
/// file or a link, sizes within the limits. It does not check that they are declared.
pub fn check_entries(entries: &[Entry]) -> Result<(), Refusal> {
    if entries.len() > MAX_ENTRIES {
        return Err(Refusal::TooLarge);
    }
    if let Some(pair) = entries.windows(2).find(|pair| pair[0].path >= pair[1].path) {
        return Err(Refusal::Order(pair[1].path.clone()));
    }
    let mut total = 0_u64;
    for entry in entries {
        if let EntryKind::File { digest, .. } = &entry.kind {
            total = total.saturating_add(digest.size());
        }
        check_entry(entry)?;
    }
    if total > MAX_SIZE {
        return Err(Refusal::TooLarge);
    }
    check_nesting(entries)
}

fn check_entry(entry: &Entry) -> Result<(), Refusal> {
    if entry.path.is_root() && entry.kind != EntryKind::Folder {
        return Err(Refusal::Place(entry.path.clone()));
    }
    match &entry.kind {
        EntryKind::Link { target, content } => {
            let is_sound = !target.is_empty() && target.len() <= MAX_PATH && !target.contains(&0);
            if !is_sound || content.is_some() {
                return Err(Refusal::Link(entry.path.clone()));
            }
            Ok(())
        }
        EntryKind::File { .. } | EntryKind::Folder => Ok(()),
    }
}

/// Refuses entries below a file or a link.
fn check_nesting(entries: &[Entry]) -> Result<(), Refusal> {
    // Comparing neighbours is not enough: in sorted order, `a-b` is between `a` and `a/c`.
    if entries.len() < 2 {
        return Ok(());
    }
    let is_leaf = |entry: &&Entry| entry.kind != EntryKind::Folder;
    let leaves: HashSet<&[u8]> = entries
        .iter()
        .filter(is_leaf)
        .map(|entry| entry.path.as_bytes())
        .collect();
    let is_below_leaf = |entry: &&Entry| {
        let path = entry.path.as_bytes();
        let mut slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        slashes.any(|(at, _)| leaves.contains(&path[..at]))
    };
    match entries.iter().find(is_below_leaf) {
        Some(entry) => Err(Refusal::Place(entry.path.clone())),
        None => Ok(()),
    }
}

/// Changes the format of a record.
#[cfg(test)]
pub(super) fn set_format(record: &mut [u8], format: u32) {
    record[8..12].copy_from_slice(&format.to_le_bytes());
    sign(record);
}

/// Corrects the checksum of a record.
#[cfg(test)]
fn sign(record: &mut [u8]) {
    let end = record.len() - CODE;
    let checksum = Digest::of(&record[..end]);
    record[end..].copy_from_slice(checksum.hash());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::FileMode;
    use crate::store::contract;

    /// A record of format 3, which must stay readable.
    const GOLDEN: &str = include_str!("record_format_3.hex");
    /// A record of format 2.
    const UNSEALED: &str = include_str!("record_format_2.hex");
    const USER: Key = Key::new([9; 32]);

    fn key() -> ActionKey {
        ActionKey(Digest::of(b"manifest"))
    }

    fn sample() -> ActionResult {
        contract::result(key().0)
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn unhex(text: &str) -> Vec<u8> {
        let digits: String = text.split_whitespace().collect();
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        (0..digits.len()).step_by(2).map(byte).collect()
    }

    /// Corrects the seal and the checksum of a record.
    fn seal(record: &mut [u8]) {
        let end = record.len() - 2 * CODE;
        let seal = USER.mac(&[&record[..end]]);
        record[end..end + CODE].copy_from_slice(&seal);
        sign(record);
    }

    /// Encodes entries without checking them.
    fn forge(outputs: Vec<Entry>) -> Vec<u8> {
        let result = ActionResult {
            outputs,
            ..sample()
        };
        let honest = encode(key(), &sample(), &USER).unwrap();
        let payload = postcard::to_stdvec(&result).unwrap();
        let mut bytes = honest[..HEADER - 8].to_vec();
        bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&payload);
        bytes.extend_from_slice(&[0; 2 * CODE]);
        seal(&mut bytes);
        bytes
    }

    fn file(path: &str) -> Entry {
        let digest = Digest::of(b"x");
        let kind = EntryKind::File {
            digest,
            mode: FileMode::PLAIN,
        };
        let path = RelPath::new(path).unwrap();
        Entry { path, kind }
    }

    fn link(target: &[u8]) -> Entry {
        let kind = EntryKind::Link {
            target: target.to_vec(),
            content: None,
        };
        Entry { kind, ..file("l") }
    }

    #[test]
    fn format_3_does_not_change() {
        let golden: String = GOLDEN.split_whitespace().collect();
        assert_eq!(hex(&encode(key(), &sample(), &USER).unwrap()), golden);
    }

    #[test]
    fn format_2_is_refused_as_another_format() {
        let refused = decode(key(), &unhex(UNSEALED), &USER);
        assert_eq!(refused, Err(Refusal::Format(2)));
    }

    #[test]
    fn record_of_another_user_is_refused() {
        let bytes = encode(key(), &sample(), &Key::new([8; 32])).unwrap();
        assert_eq!(decode(key(), &bytes, &USER), Err(Refusal::Origin));
        assert_eq!(decode_any(&bytes), Ok((key(), sample())));
    }

    #[test]
    fn payload_of_another_user_is_not_decoded() {
        let mut bytes = encode(key(), &sample(), &USER).unwrap();
        bytes[HEADER] ^= 1;
        let end = bytes.len() - CODE;
        let checksum = Digest::of(&bytes[..end]);
        bytes[end..].copy_from_slice(checksum.hash());
        assert_eq!(decode(key(), &bytes, &USER), Err(Refusal::Origin));
    }

    #[test]
    fn record_decodes_only_under_its_own_key() {
        let bytes = encode(key(), &sample(), &USER).unwrap();
        assert_eq!(decode(key(), &bytes, &USER), Ok(sample()));
        let other = ActionKey(Digest::of(b"other"));
        assert_eq!(decode(other, &bytes, &USER), Err(Refusal::Key));
    }

    #[test]
    fn record_of_another_length_is_refused() {
        let bytes = encode(key(), &sample(), &USER).unwrap();
        for length in 0..bytes.len() {
            assert!(
                decode(key(), &bytes[..length], &USER).is_err(),
                "length {length}"
            );
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(decode(key(), &longer, &USER).is_err());
    }

    #[test]
    fn record_with_any_bit_flipped_is_refused() {
        let bytes = encode(key(), &sample(), &USER).unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                assert!(
                    decode(key(), &bytes, &USER).is_err(),
                    "byte {at}, bit {bit}"
                );
            }
        }
    }

    #[test]
    fn later_format_is_refused_as_such() {
        let mut bytes = encode(key(), &sample(), &USER).unwrap();
        set_format(&mut bytes, 4);
        assert_eq!(decode(key(), &bytes, &USER), Err(Refusal::Format(4)));
    }

    #[test]
    fn record_with_unnormalised_path_is_refused() {
        let honest = forge(vec![file("aaaa")]);
        assert!(decode(key(), &honest, &USER).is_ok());
        for path in [
            "/etc", "..//", "a/..", "a//b", "./aa", "aa/.", "aaa/", "a\0bc",
        ] {
            let payload = &honest[HEADER..honest.len() - 2 * CODE];
            let at = payload.windows(4).position(|w| w == b"aaaa").unwrap() + HEADER;
            let mut bytes = honest.clone();
            bytes[at..at + 4].copy_from_slice(path.as_bytes());
            seal(&mut bytes);
            assert_eq!(
                decode(key(), &bytes, &USER),
                Err(Refusal::Payload),
                "{path:?}"
            );
        }
    }

    #[test]
    fn invalid_entries_are_refused() {
        let huge = |path: &str| {
            let digest = Digest::from_parts([0; 32], MAX_SIZE);
            let kind = EntryKind::File {
                digest,
                mode: FileMode::PLAIN,
            };
            Entry { kind, ..file(path) }
        };
        let hostile = [
            vec![file("b"), file("a")],
            vec![file("a"), file("a")],
            vec![file("a"), file("a/b")],
            vec![file("a"), file("a-b"), file("a/b/c")],
            vec![link(b"x"), file("l/x")],
            vec![file("")],
            vec![link(b"")],
            vec![link(b"a\0b")],
            vec![link(&[b'a'; MAX_PATH + 1])],
            vec![huge("a"), file("b")],
            vec![huge("a"), huge("b")],
        ];
        for entries in hostile {
            assert!(check_entries(&entries).is_err(), "{entries:?}");
            assert!(decode(key(), &forge(entries), &USER).is_err());
        }
    }

    fn entry(path: &str, kind: EntryKind) -> Entry {
        let path = RelPath::new(path).unwrap();
        Entry { path, kind }
    }

    #[test]
    fn entries_above_the_maximum_number_are_refused() {
        let folders: Vec<Entry> = (0..MAX_ENTRIES + 2)
            .map(|n| entry(&format!("{n:07}"), EntryKind::Folder))
            .collect();
        assert_eq!(check_entries(&folders[..MAX_ENTRIES]), Ok(()));
        for more in [1, 2] {
            let refused = check_entries(&folders[..MAX_ENTRIES + more]);
            assert_eq!(refused, Err(Refusal::TooLarge));
        }
    }

    #[test]
    fn files_above_the_maximum_size_are_refused() {
        let file = |path: &str, size| {
            let digest = Digest::from_parts([0; 32], size);
            let mode = FileMode::PLAIN;
            entry(path, EntryKind::File { digest, mode })
        };
        let files = |size| check_entries(&[file("a", MAX_SIZE - 1), file("b", size)]);
        assert_eq!(files(1), Ok(()));
        assert_eq!(files(2), Err(Refusal::TooLarge));
    }

    #[test]
    fn record_above_the_maximum_length_is_refused() {
        let limit = usize::try_from(MAX_RECORD).unwrap();
        let zeros = vec![0; limit + 2];
        let refused = |length: usize| decode_any(&zeros[..length]).unwrap_err();
        assert_eq!(refused(limit), Refusal::Magic);
        assert_eq!(refused(limit + 1), Refusal::Length);
        assert_eq!(refused(limit + 2), Refusal::Length);
    }

    #[test]
    fn payload_with_huge_claimed_length_is_refused() {
        let mut bytes = forge(Vec::new());
        let end = bytes.len() - 2 * CODE;
        // The number of entries, as postcard writes it: all of 64 bits.
        bytes.splice(HEADER..HEADER + 1, [0xff; 9].into_iter().chain([1]));
        let length = (end + 9 - HEADER) as u64;
        bytes[HEADER - 8..HEADER].copy_from_slice(&length.to_le_bytes());
        seal(&mut bytes);
        assert_eq!(decode(key(), &bytes, &USER), Err(Refusal::Payload));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes: Vec<u8>) {
            let _ = decode_any(&bytes);
            let _ = decode_payload(&bytes);
        }
    }
}
