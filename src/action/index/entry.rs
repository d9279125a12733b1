//! One look as bytes: a question to the system and its answer. It asks nothing.
//!
//! Format of looks: the number of entries (u32), the entries ([`SIZE`] bytes each), the
//! paths, each ended by a NUL. Numbers are little endian.

use std::ffi::CStr;

use crate::digest::Digest;
use crate::stamp::{FileKind, Stamp};

/// The length of an entry.
pub(super) const SIZE: usize = 80;
/// Where in an entry its path's place stands.
pub(super) const PLACE: std::ops::Range<usize> = 4..8;
/// Where in an entry its inode stands.
pub(super) const INODE: std::ops::Range<usize> = 32..40;
/// Where in an entry the digest stands of what a file held; zeros if it is of something else.
pub(super) const DIGEST: std::ops::Range<usize> = 48..80;

/// One look: the question, where its path stands among the paths, the answer.
pub(super) type Entry = [u8; SIZE];

/// What is asked of a path, and what the answer was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Its own stamp is the one that goes with the entry.
    Stamp = 0,
    /// It is a folder.
    Folder = 1,
    /// It is no folder, or nothing.
    NoFolder = 2,
    /// It is neither a file nor a link.
    NoFile = 3,
    /// What it leads to has the stamp that goes with the entry.
    Behind = 4,
    /// It leads to no regular file.
    NothingBehind = 5,
    /// None: a change of this file might not show, or was seen while the run went on.
    RacyFile = 6,
    /// None: the same of a folder.
    RacyFolder = 7,
}

/// Takes looks apart into entries and paths.
pub(super) fn split(looks: &[u8]) -> Option<(&[Entry], &[u8])> {
    let (count, rest) = looks.split_first_chunk::<4>()?;
    let count = u32::from_le_bytes(*count) as usize;
    let (entries, paths) = rest.split_at_checked(count.checked_mul(SIZE)?)?;
    Some((entries.as_chunks::<SIZE>().0, paths))
}

/// Returns where among looks the entry of that number stands.
pub(super) fn place_of(number: usize) -> usize {
    size_of::<u32>() + number * SIZE
}

/// Returns where among the paths that of a look begins.
fn place(entry: &Entry) -> usize {
    let mut place = [0; PLACE.end - PLACE.start];
    place.copy_from_slice(&entry[PLACE]);
    u32::from_le_bytes(place) as usize
}

pub(super) fn path_of<'p>(entry: &Entry, paths: &'p [u8]) -> Option<&'p [u8]> {
    let path = CStr::from_bytes_until_nul(paths.get(place(entry)..)?).ok()?;
    Some(path.to_bytes())
}

/// Tells whether a look was at `path`.
pub(super) fn is_at(entry: &Entry, paths: &[u8], path: &[u8]) -> bool {
    let rest = paths.get(place(entry)..);
    let rest = rest.and_then(|rest| rest.strip_prefix(path));
    rest.is_some_and(|rest| rest.first() == Some(&0))
}

pub(super) fn inode(entry: &Entry) -> &[u8] {
    &entry[INODE]
}

pub(super) fn without_place(entry: &Entry) -> Entry {
    let mut entry = *entry;
    entry[PLACE].fill(0);
    entry
}

/// Returns a look at the same kind of thing that never holds.
pub(super) fn made_racy(entry: &Entry) -> Option<Entry> {
    let (question, _, stamp) = decode(entry)?;
    let racy = match question {
        Question::Stamp if stamp.kind() == FileKind::Folder => Question::RacyFolder,
        Question::Folder | Question::NoFolder | Question::RacyFolder => Question::RacyFolder,
        _ => Question::RacyFile,
    };
    Some(encode(racy, Stamp::unknown()))
}

/// Returns the same look with another place of its path.
pub(super) fn with_place(mut entry: Entry, place: &[u8]) -> Entry {
    entry[PLACE].copy_from_slice(place);
    entry
}

/// Tells whether a look was at a file with this content.
pub(super) fn is_of(entry: &Entry, content: &Digest) -> bool {
    entry[DIGEST] == *content.hash()
}

/// Returns the same look with what the file held.
pub(super) fn with_digest(mut entry: Entry, content: &Digest) -> Entry {
    entry[DIGEST].copy_from_slice(content.hash());
    entry
}

/// The mode needs only half of its bits: the question is in the others.
pub(super) fn encode(question: Question, stamp: Stamp) -> Entry {
    let words = [
        u64::from(stamp.mode & 0xffff) | (question as u64) << 16,
        stamp.size,
        stamp.mtime.cast_unsigned(),
        stamp.ctime.cast_unsigned(),
        stamp.inode,
        stamp.device,
    ];
    let mut entry = [0; SIZE];
    for (to, word) in entry.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *to = word.to_le_bytes();
    }
    entry
}

pub(super) fn decode(entry: &Entry) -> Option<(Question, usize, Stamp)> {
    let word = |at: usize| entry.as_chunks::<8>().0[at];
    let [m0, m1, question, ..] = word(0);
    let question = match question {
        0 => Question::Stamp,
        1 => Question::Folder,
        2 => Question::NoFolder,
        3 => Question::NoFile,
        4 => Question::Behind,
        5 => Question::NothingBehind,
        6 => Question::RacyFile,
        7 => Question::RacyFolder,
        _ => return None,
    };
    let stamp = Stamp {
        mode: u32::from(u16::from_le_bytes([m0, m1])),
        size: u64::from_le_bytes(word(1)),
        mtime: i64::from_le_bytes(word(2)),
        ctime: i64::from_le_bytes(word(3)),
        inode: u64::from_le_bytes(word(4)),
        device: u64::from_le_bytes(word(5)),
    };
    Some((question, place(entry), stamp))
}
