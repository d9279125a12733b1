//! One observation as bytes of a fixed length, so that a single one can be replaced in the file.

use std::ops::Range;

use crate::action::index::observations::Expectation;
use crate::digest::Digest;
use crate::stamp::{FileKind, Stamp};

/// The length of an entry.
pub(super) const SIZE: usize = 80;
/// The offset of the kind of expectation.
const CODE: usize = 2;
/// The offset of the entry's path among the paths.
const PATH: Range<usize> = 4..8;
/// The hash of a file's content; zeros for everything else.
const HASH: Range<usize> = 48..80;

/// An encoded observation: the expectation, and where its path is.
///
/// Numbers are little endian: mode (u16), kind of expectation (u8), zero (u8), offset of the
/// path (u32), size, mtime, ctime, inode, device (u64 each), hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub(super) struct Entry(pub(super) [u8; SIZE]);

/// The number of each kind of expectation in an entry.
mod code {
    pub(super) const STAMP: u8 = 0;
    pub(super) const FOLDER: u8 = 1;
    pub(super) const NO_FOLDER: u8 = 2;
    pub(super) const NO_FILE: u8 = 3;
    pub(super) const LINK_TO_FILE: u8 = 4;
    pub(super) const LINK_TO_FOLDER: u8 = 5;
    pub(super) const FOLDER_BEHIND: u8 = 6;
    pub(super) const LINK_TO_NOTHING: u8 = 7;
    pub(super) const RACY_FILE: u8 = 8;
    pub(super) const RACY_FOLDER: u8 = 9;
}

impl Entry {
    /// Encodes an expectation; the path's offset is zero.
    pub(super) fn new(expected: &Expectation) -> Self {
        let (code, stamp) = match expected {
            Expectation::File(stamp, _)
            | Expectation::Link(stamp)
            | Expectation::Listing(stamp) => (code::STAMP, *stamp),
            Expectation::Folder => (code::FOLDER, Stamp::unknown()),
            Expectation::NoFolder => (code::NO_FOLDER, Stamp::unknown()),
            Expectation::NoFile => (code::NO_FILE, Stamp::unknown()),
            Expectation::LinkToFile(stamp) => (code::LINK_TO_FILE, *stamp),
            Expectation::LinkToFolder(id) => (code::LINK_TO_FOLDER, Stamp::unknown().with_id(*id)),
            Expectation::FolderBehind(id) => (code::FOLDER_BEHIND, Stamp::unknown().with_id(*id)),
            Expectation::LinkToNothing => (code::LINK_TO_NOTHING, Stamp::unknown()),
            Expectation::RacyFile => (code::RACY_FILE, Stamp::unknown()),
            Expectation::RacyFolder => (code::RACY_FOLDER, Stamp::unknown()),
        };
        let mut entry = [0; SIZE];
        entry[..HASH.start].copy_from_slice(&encode(code, &stamp));
        if let Expectation::File(_, digest) = expected {
            entry[HASH].copy_from_slice(digest.hash());
        }
        Self(entry)
    }

    /// Decodes the expectation; `None` if the bytes are not of this format.
    pub(super) fn expectation(&self) -> Option<Expectation> {
        let [m0, m1, code, ..] = self.word(0);
        let stamp = Stamp {
            mode: u32::from(u16::from_le_bytes([m0, m1])),
            size: u64::from_le_bytes(self.word(1)),
            mtime: i64::from_le_bytes(self.word(2)),
            ctime: i64::from_le_bytes(self.word(3)),
            inode: u64::from_le_bytes(self.word(4)),
            device: u64::from_le_bytes(self.word(5)),
        };
        Some(match (code, stamp.kind()) {
            (code::STAMP, FileKind::File) => Expectation::File(stamp, self.digest(stamp.size)),
            (code::STAMP, FileKind::Link) => Expectation::Link(stamp),
            (code::STAMP, FileKind::Folder) => Expectation::Listing(stamp),
            (code::FOLDER, _) => Expectation::Folder,
            (code::NO_FOLDER, _) => Expectation::NoFolder,
            (code::NO_FILE, _) => Expectation::NoFile,
            (code::LINK_TO_FILE, _) => Expectation::LinkToFile(stamp),
            (code::LINK_TO_FOLDER, _) => Expectation::LinkToFolder(stamp.id()),
            (code::FOLDER_BEHIND, _) => Expectation::FolderBehind(stamp.id()),
            (code::LINK_TO_NOTHING, _) => Expectation::LinkToNothing,
            (code::RACY_FILE, _) => Expectation::RacyFile,
            (code::RACY_FOLDER, _) => Expectation::RacyFolder,
            _ => return None,
        })
    }

    /// Returns true if links are followed to the file or folder that it is about.
    pub(super) fn follows_links(&self) -> bool {
        let code = self.0[CODE];
        matches!(
            code,
            code::LINK_TO_FILE | code::LINK_TO_FOLDER | code::LINK_TO_NOTHING
        )
    }

    /// Returns true if it is the stamp `now` of a file, a link or a folder.
    pub(super) fn is_stamp(&self, now: &Stamp) -> bool {
        let now = encode(code::STAMP, now);
        self.0[..PATH.start] == now[..PATH.start] && self.0[PATH.end..HASH.start] == now[PATH.end..]
    }

    fn digest(&self, size: u64) -> Digest {
        let mut hash = [0; HASH.end - HASH.start];
        hash.copy_from_slice(&self.0[HASH]);
        Digest::from_parts(hash, size)
    }

    /// Returns the offset of the path.
    pub(super) fn path_offset(&self) -> usize {
        let mut offset = [0; PATH.end - PATH.start];
        offset.copy_from_slice(&self.0[PATH]);
        u32::from_le_bytes(offset) as usize
    }

    /// Returns the same entry with the path at another offset.
    #[must_use]
    pub(super) fn with_path_at(mut self, offset: u32) -> Self {
        self.0[PATH].copy_from_slice(&offset.to_le_bytes());
        self
    }

    /// Returns the same entry with the path of `other`.
    #[must_use]
    pub(super) fn with_path_of(mut self, other: &Self) -> Self {
        self.0[PATH].copy_from_slice(&other.0[PATH]);
        self
    }

    /// Returns the inode.
    pub(super) fn inode(&self) -> u64 {
        u64::from_le_bytes(self.word(4))
    }

    fn word(&self, at: usize) -> [u8; 8] {
        self.0.as_chunks::<8>().0[at]
    }
}

/// Encodes a stamp; the path's offset is zero.
fn encode(code: u8, stamp: &Stamp) -> [u8; HASH.start] {
    let words = [
        // A mode has 16 bits: the code goes into the next ones.
        u64::from(stamp.mode & 0xffff) | u64::from(code) << 16,
        stamp.size,
        stamp.mtime.cast_unsigned(),
        stamp.ctime.cast_unsigned(),
        stamp.inode,
        stamp.device,
    ];
    let mut bytes = [0; HASH.start];
    for (to, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *to = word.to_le_bytes();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(mode: u32) -> Stamp {
        Stamp {
            mode,
            size: 4,
            mtime: -5,
            ctime: 6,
            inode: u64::MAX,
            device: 7,
        }
    }

    #[test]
    fn entry_decodes_to_what_was_encoded() {
        let (file, link, folder) = (stamp(0o100_755), stamp(0o120_777), stamp(0o40_700));
        for expected in [
            Expectation::File(file, Digest::of(b"text")),
            Expectation::Link(link),
            Expectation::Listing(folder),
            Expectation::Folder,
            Expectation::NoFolder,
            Expectation::NoFile,
            Expectation::LinkToFile(file),
            Expectation::LinkToFolder(folder.id()),
            Expectation::FolderBehind(folder.id()),
            Expectation::LinkToNothing,
            Expectation::RacyFile,
            Expectation::RacyFolder,
        ] {
            let entry = Entry::new(&expected).with_path_at(7);
            assert_eq!(entry.expectation(), Some(expected));
            assert_eq!(entry.path_offset(), 7);
            let is_followed = matches!(
                expected,
                Expectation::LinkToFile(_)
                    | Expectation::LinkToFolder(_)
                    | Expectation::LinkToNothing
            );
            assert_eq!(entry.follows_links(), is_followed);
        }
    }

    #[test]
    fn entry_is_the_stamp_that_was_encoded() {
        let file = stamp(0o100_755);
        let entry = Entry::new(&Expectation::File(file, Digest::of(b"text"))).with_path_at(7);
        assert!(entry.is_stamp(&file));
        for other in [
            Stamp {
                mode: 0o100_644,
                ..file
            },
            Stamp { size: 5, ..file },
            Stamp { mtime: 0, ..file },
            Stamp { ctime: 7, ..file },
            Stamp { inode: 1, ..file },
            Stamp { device: 8, ..file },
        ] {
            assert!(!entry.is_stamp(&other));
        }
        let link = Entry::new(&Expectation::LinkToFile(file));
        assert!(!link.is_stamp(&file));
    }

    #[test]
    fn entry_of_unknown_kind_is_refused() {
        let mut entry = Entry::new(&Expectation::Folder);
        entry.0[CODE] = 200;
        assert_eq!(entry.expectation(), None);
    }
}
