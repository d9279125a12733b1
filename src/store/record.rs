//! A result as bytes, and back. Whatever the bytes are, decoding them gives a result or
//! a [`Refusal`]; it touches no file and knows no folder.
//!
//! ```text
//! magic 8 | format u32 | key: hash 32, length u64 | payload length u64 | payload | SHA-256 of all before
//! ```
//!
//! Numbers are little-endian; the payload is the [`ActionResult`] in postcard's encoding.
//! A change of the form is a new [`FORMAT`], never a reinterpretation. Every format begins
//! with magic and format and ends with the checksum, so that a reader can tell a record of
//! another version, which is a miss, from a damaged one.

use std::collections::HashSet;

use crate::action::{ActionKey, ActionResult, Entry, EntryKind};
use crate::digest::Digest;
use crate::path::{MAX_PATH, RelPath};

/// The version of the encoding.
pub(super) const FORMAT: u32 = 1;
/// No record is longer: room for a result of about half a million files.
pub(super) const MAX_RECORD: u64 = 64 << 20;
/// No result has more entries.
const MAX_ENTRIES: usize = 1_000_000;
/// No file, and no result as a whole, is larger: 16 TiB.
const MAX_SIZE: u64 = 1 << 44;

const MAGIC: &[u8; 8] = b"fbresult";
const HEADER: usize = 8 + 4 + 32 + 8 + 8;

/// Why bytes are not a record, or entries not those of a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It ends too early, or goes on too long.
    #[error("it is cut off or too long")]
    Length,
    /// It does not begin like a record.
    #[error("it is not a record")]
    Magic,
    /// It has a format that this program does not know.
    #[error("its format {0} is unknown")]
    Format(u32),
    /// It stands under another key than its own.
    #[error("it belongs to another key")]
    Key,
    /// Its bytes are not those that were written.
    #[error("its checksum does not match")]
    Checksum,
    /// Its payload cannot be read.
    #[error("its content cannot be read")]
    Payload,
    /// It has more entries, or larger files, than any result has.
    #[error("it is larger than any result")]
    TooLarge,
    /// Its entries are not sorted, or a path is there twice.
    #[error("`{0}` is out of order or there twice")]
    Order(RelPath),
    /// An entry lies below something that is not a folder, or is the root.
    #[error("`{0}` cannot be an output")]
    Place(RelPath),
    /// A link points to nothing that a link can point to.
    #[error("the link `{0}` has an impossible target")]
    Link(RelPath),
}

/// Returns `result` as the bytes of a record under `key`.
pub(super) fn encode(key: ActionKey, result: &ActionResult) -> Result<Vec<u8>, Refusal> {
    check_entries(&result.outputs)?;
    let payload = postcard::to_stdvec(result).map_err(|_| Refusal::Payload)?;
    let mut bytes = Vec::with_capacity(HEADER + payload.len() + 32);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(key.0.hash());
    bytes.extend_from_slice(&key.0.size().to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&payload);
    let checksum = Digest::of(&bytes);
    bytes.extend_from_slice(checksum.hash());
    match bytes.len() as u64 <= MAX_RECORD {
        true => Ok(bytes),
        false => Err(Refusal::TooLarge),
    }
}

/// Reads the record that stands under `key`.
pub(super) fn decode(key: ActionKey, bytes: &[u8]) -> Result<ActionResult, Refusal> {
    let (named, result) = decode_any(bytes)?;
    match named == key {
        true => Ok(result),
        false => Err(Refusal::Key),
    }
}

/// Reads a record and the key that it names.
pub(super) fn decode_any(bytes: &[u8]) -> Result<(ActionKey, ActionResult), Refusal> {
    if bytes.len() as u64 > MAX_RECORD {
        return Err(Refusal::Length);
    }
    let (content, checksum) = bytes.split_last_chunk().ok_or(Refusal::Length)?;
    let mut rest = content;
    if take::<8>(&mut rest)? != MAGIC {
        return Err(Refusal::Magic);
    }
    if Digest::of(content).hash() != checksum {
        return Err(Refusal::Checksum);
    }
    let format = u32::from_le_bytes(*take(&mut rest)?);
    if format != FORMAT {
        return Err(Refusal::Format(format));
    }
    let hash = *take::<32>(&mut rest)?;
    let key = ActionKey(Digest::from_parts(hash, take_u64(&mut rest)?));
    if take_u64(&mut rest)? != rest.len() as u64 {
        return Err(Refusal::Length);
    }
    Ok((key, decode_payload(rest)?))
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
/// file or a link, sizes within reason. That they were declared is another question.
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
            match is_sound && content.is_none() {
                true => Ok(()),
                false => Err(Refusal::Link(entry.path.clone())),
            }
        }
        EntryKind::File { .. } | EntryKind::Folder => Ok(()),
    }
}

/// Refuses what lies below a file or a link. Sorted paths do not always have a path's
/// own content right behind it (`a`, `a-b`, `a/c`), so the leaves are looked up.
fn check_nesting(entries: &[Entry]) -> Result<(), Refusal> {
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

/// Makes a record one of another format.
#[cfg(test)]
pub(super) fn set_format(record: &mut [u8], format: u32) {
    record[8..12].copy_from_slice(&format.to_le_bytes());
    sign(record);
}

/// Makes the checksum of a record right.
#[cfg(test)]
fn sign(record: &mut [u8]) {
    let end = record.len() - 32;
    let checksum = Digest::of(&record[..end]);
    record[end..].copy_from_slice(checksum.hash());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract;

    /// A record of format 1 as it must stay readable.
    const GOLDEN: &str = include_str!("record_format_1.hex");

    fn key() -> ActionKey {
        ActionKey(Digest::of(b"manifest"))
    }

    fn sample() -> ActionResult {
        contract::result(key().0)
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Encodes entries without asking whether they are sound.
    fn forge(outputs: Vec<Entry>) -> Vec<u8> {
        let result = ActionResult {
            outputs,
            ..sample()
        };
        let honest = encode(key(), &sample()).unwrap();
        let payload = postcard::to_stdvec(&result).unwrap();
        let mut bytes = honest[..HEADER - 8].to_vec();
        bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&payload);
        bytes.extend_from_slice(Digest::of(&bytes).hash());
        bytes
    }

    fn file(path: &str) -> Entry {
        let digest = Digest::of(b"x");
        let kind = EntryKind::File {
            digest,
            executable: false,
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
    fn format_1_stays_as_it_is() {
        let golden: String = GOLDEN.split_whitespace().collect();
        assert_eq!(hex(&encode(key(), &sample()).unwrap()), golden);
    }

    #[test]
    fn a_record_is_only_read_under_its_own_key() {
        let bytes = encode(key(), &sample()).unwrap();
        assert_eq!(decode(key(), &bytes), Ok(sample()));
        let other = ActionKey(Digest::of(b"other"));
        assert_eq!(decode(other, &bytes), Err(Refusal::Key));
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_a_miss() {
        let bytes = encode(key(), &sample()).unwrap();
        for length in 0..bytes.len() {
            assert!(decode(key(), &bytes[..length]).is_err(), "length {length}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                assert!(decode(key(), &bytes).is_err(), "byte {at}, bit {bit}");
            }
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(decode(key(), &longer).is_err());
    }

    #[test]
    fn a_later_format_is_said_to_be_one() {
        let mut bytes = encode(key(), &sample()).unwrap();
        set_format(&mut bytes, 2);
        assert_eq!(decode(key(), &bytes), Err(Refusal::Format(2)));
    }

    #[test]
    fn paths_that_leave_the_root_or_have_two_spellings_are_refused() {
        let honest = forge(vec![file("aaaa")]);
        assert!(decode(key(), &honest).is_ok());
        for path in [
            "/etc", "..//", "a/..", "a//b", "./aa", "aa/.", "aaa/", "a\0bc",
        ] {
            let payload = &honest[HEADER..honest.len() - 32];
            let at = payload.windows(4).position(|w| w == b"aaaa").unwrap() + HEADER;
            let mut bytes = honest.clone();
            bytes[at..at + 4].copy_from_slice(path.as_bytes());
            sign(&mut bytes);
            assert_eq!(decode(key(), &bytes), Err(Refusal::Payload), "{path:?}");
        }
    }

    #[test]
    fn entries_that_no_result_has_are_refused() {
        let huge = |path: &str| {
            let digest = Digest::from_parts([0; 32], MAX_SIZE);
            let kind = EntryKind::File {
                digest,
                executable: false,
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
            assert!(decode(key(), &forge(entries)).is_err());
        }
    }

    #[test]
    fn what_is_as_large_as_can_be_is_a_result_and_what_is_larger_is_not() {
        let entry = |path: String, kind| {
            let path = RelPath::new(&path).unwrap();
            Entry { path, kind }
        };
        let folders = (0..MAX_ENTRIES + 2).map(|n| entry(format!("{n:07}"), EntryKind::Folder));
        let folders: Vec<Entry> = folders.collect();
        assert_eq!(check_entries(&folders[..MAX_ENTRIES]), Ok(()));
        for more in [1, 2] {
            let refused = check_entries(&folders[..MAX_ENTRIES + more]);
            assert_eq!(refused, Err(Refusal::TooLarge));
        }
        let file = |path: &str, size| {
            let digest = Digest::from_parts([0; 32], size);
            let executable = false;
            entry(path.into(), EntryKind::File { digest, executable })
        };
        let files = |size| check_entries(&[file("a", MAX_SIZE - 1), file("b", size)]);
        assert_eq!(files(1), Ok(()));
        assert_eq!(files(2), Err(Refusal::TooLarge));
        let limit = usize::try_from(MAX_RECORD).unwrap();
        let zeros = vec![0; limit + 2];
        let refused = |length: usize| decode_any(&zeros[..length]).unwrap_err();
        assert_eq!(refused(limit), Refusal::Magic);
        assert_eq!(refused(limit + 1), Refusal::Length);
        assert_eq!(refused(limit + 2), Refusal::Length);
    }

    #[test]
    fn a_payload_that_claims_more_than_it_has_costs_nothing() {
        let mut bytes = forge(Vec::new());
        let end = bytes.len() - 32;
        // The number of entries, as postcard writes it: all of 64 bits.
        bytes.splice(HEADER..HEADER + 1, [0xff; 9].into_iter().chain([1]));
        let length = (end + 9 - HEADER) as u64;
        bytes[HEADER - 8..HEADER].copy_from_slice(&length.to_le_bytes());
        sign(&mut bytes);
        assert_eq!(decode(key(), &bytes), Err(Refusal::Payload));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_record_or_a_refusal(bytes: Vec<u8>) {
            let _ = decode_any(&bytes);
            let _ = decode_payload(&bytes);
        }
    }
}
