//! The cache of one folder: its listing and its files. It makes no system calls.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::HashedFile;
use crate::action::{EntryKind, FileContent};
use crate::digest::Digest;
use crate::path::RelPath;
use crate::stamp::{FileId, FileKind, Stamp};

/// The cached state of one folder.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Folder {
    /// The folder's own stamp when it was listed; `None` if it never was, and `files` holds
    /// only those that were looked up by name.
    pub(super) listed: Option<TimedStamp>,
    /// The epoch in which the listing was last confirmed.
    #[serde(skip)]
    pub(super) checked: u64,
    /// Whether it existed, and was no link, when last checked.
    #[serde(skip)]
    pub(super) exists: bool,
    /// Whether it was a link when last checked.
    #[serde(skip)]
    pub(super) is_link: bool,
    /// Names that this run looked up and that were neither files nor links.
    #[serde(skip)]
    pub(super) absent: BTreeSet<Box<[u8]>>,
    /// Whether its listing changed during this run.
    #[serde(skip)]
    pub(super) racy: bool,
    /// Its entries, sorted by name.
    files: Vec<File>,
    /// Files that were looked up by name and are not in `files` yet: to insert each of ten
    /// thousand outputs there would move all the others every time.
    #[serde(skip)]
    new: BTreeMap<Box<[u8]>, File>,
}

/// A stamp, and when it was taken (nanoseconds since 1970).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TimedStamp {
    pub(super) stamp: Stamp,
    pub(super) at: i64,
}

impl TimedStamp {
    /// Returns true if what was read after this stamp was taken is still valid, given the
    /// stamp of now.
    pub(super) fn is_valid(&self, now: &Stamp) -> bool {
        self.stamp == *now && now.is_old_enough(self.at)
    }

    /// Returns true if any later change shows in the stamp.
    pub(super) fn is_reliable(&self) -> bool {
        self.stamp.is_old_enough(self.at)
    }
}

/// An entry of a folder.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct File {
    #[serde(with = "bytes")]
    pub(super) name: Box<[u8]>,
    pub(super) kind: FileKind,
    pub(super) cached: Option<CachedContent>,
    /// The epoch in which `cached` was last confirmed; 0 if not in this run.
    #[serde(skip)]
    pub(super) checked: u64,
    /// Whether it changed during this run.
    #[serde(skip)]
    pub(super) racy: bool,
}

/// The content of a file or link when it was last read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CachedContent {
    pub(super) own: TimedStamp,
    pub(super) content: Content,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Content {
    File(Digest),
    Link(Box<Link>),
}

/// A link: its text, and the entry that it leads to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Link {
    pub(super) target: Vec<u8>,
    pub(super) behind: Behind,
}

/// The entry that a link leads to, all links on the way followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Behind {
    File {
        stamp: TimedStamp,
        digest: Digest,
        /// Whether it is outside of the root.
        is_outside: bool,
    },
    /// A folder, and its path below the root without links; `None` if it is outside.
    Folder { id: FileId, path: Option<RelPath> },
    /// Neither a file nor a folder: it dangles, or is one of a loop of links.
    Nothing,
}

/// The stamps of a file, and of the file behind it if it is a link, when its content was last
/// read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(Option<(Stamp, Option<Stamp>)>);

impl Fingerprint {
    /// Returns true if nothing wrote to the file between this fingerprint and a later one. A
    /// new `ctime` alone is no write: it also changes when the file gets another hard link.
    pub fn is_unwritten(&self, later: &Self) -> bool {
        let without_ctime = |stamp: Stamp| Stamp { ctime: 0, ..stamp };
        let parts = |fingerprint: &Self| {
            let (own, behind) = fingerprint.0?;
            Some((without_ctime(own), behind.map(without_ctime)))
        };
        parts(self) == parts(later)
    }

    /// Returns true if a change after `since` (nanoseconds since 1970) that was undone could
    /// leave the fingerprint as it is. That needs a file system that stores whole seconds: on
    /// others a write within one tick of the clock is too unlikely.
    pub fn hides_changes(&self, since: i64) -> bool {
        let hides = |stamp: &Stamp| stamp.is_coarse() && !stamp.is_old_enough(since);
        match &self.0 {
            None => false,
            Some((stamp, behind)) => hides(stamp) || behind.as_ref().is_some_and(hides),
        }
    }
}

impl Behind {
    fn file(&self) -> Option<(Stamp, Digest)> {
        match self {
            Self::File { stamp, digest, .. } => Some((stamp.stamp, *digest)),
            Self::Folder { .. } | Self::Nothing => None,
        }
    }
}

impl CachedContent {
    fn stamps(&self) -> (Stamp, Option<Stamp>) {
        let behind = match &self.content {
            Content::File(_) => None,
            Content::Link(link) => link.behind.file().map(|(stamp, _)| stamp),
        };
        (self.own.stamp, behind)
    }

    /// Returns it as part of an action.
    pub(super) fn to_entry_kind(&self) -> EntryKind {
        match &self.content {
            Content::File(digest) => EntryKind::File {
                digest: *digest,
                mode: self.own.stamp.file_mode(),
            },
            Content::Link(link) => EntryKind::Link {
                target: link.target.clone(),
                content: link.behind.file().map(|(stamp, digest)| FileContent {
                    digest,
                    mode: stamp.file_mode(),
                }),
            },
        }
    }
}

impl Folder {
    /// Returns the fingerprint of the file `name`.
    pub(super) fn fingerprint(&self, name: &[u8]) -> Fingerprint {
        let cached = self.find(name).and_then(|file| file.cached.as_ref());
        Fingerprint(cached.map(CachedContent::stamps))
    }

    /// Returns all its entries, sorted by name.
    pub(super) fn files(&mut self) -> &[File] {
        if !self.new.is_empty() {
            self.files
                .extend(std::mem::take(&mut self.new).into_values());
            self.files.sort_by(|a, b| a.name.cmp(&b.name));
        }
        &self.files
    }

    /// Returns the entry `name`.
    pub(super) fn find(&self, name: &[u8]) -> Option<&File> {
        match self.position(name) {
            Ok(at) => self.files.get(at),
            Err(_) => self.new.get(name),
        }
    }

    /// Returns the entry `name`, added if it is new.
    pub(super) fn file(&mut self, name: &[u8], kind: FileKind) -> &mut File {
        match self.position(name) {
            Ok(at) => &mut self.files[at],
            Err(_) => {
                let new = self.new.entry(name.into());
                new.or_insert_with(|| File::new(name, kind))
            }
        }
    }

    fn position(&self, name: &[u8]) -> Result<usize, usize> {
        self.files.binary_search_by(|file| (*file.name).cmp(name))
    }

    /// Replaces the listing, and keeps the cached content of entries that still exist.
    /// `names` need not be sorted.
    pub(super) fn relist(&mut self, stamp: TimedStamp, mut names: Vec<(Box<[u8]>, FileKind)>) {
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        self.files();
        // An entry that this run has examined and that is gone or another now.
        let mut racy = false;
        let mut old = std::mem::take(&mut self.files).into_iter().peekable();
        self.files = names
            .into_iter()
            .map(|(name, kind)| {
                while let Some(gone) = old.next_if(|file| file.name < name) {
                    racy |= gone.checked != 0;
                }
                match old.next_if(|file| file.name == name) {
                    Some(file) if file.kind == kind => file,
                    other => {
                        racy |= other.is_some_and(|other| other.checked != 0);
                        File::new(&name, kind)
                    }
                }
            })
            .collect();
        self.racy |= racy | old.any(|gone| gone.checked != 0);
        self.listed = Some(stamp);
    }

    /// Caches a file that was hashed elsewhere, in `epoch`.
    pub(super) fn insert(&mut self, hashed: &HashedFile, epoch: u64) {
        let own = TimedStamp {
            stamp: hashed.stamp,
            at: hashed.read_at,
        };
        let content = Content::File(hashed.digest);
        self.set_content(hashed.path.name(), CachedContent { own, content }, epoch);
    }

    /// Caches the content of a file or link, read in `epoch`, unless a later one is cached.
    pub(super) fn set_content(&mut self, name: &[u8], cached: CachedContent, epoch: u64) {
        let was_absent = self.absent.contains(name);
        let kind = match cached.content {
            Content::File(_) => FileKind::File,
            Content::Link(_) => FileKind::Link,
        };
        let file = self.file(name, kind);
        let before = file.cached.as_ref().filter(|_| file.checked != 0);
        let has_changed = before.is_some_and(|before| before.stamps() != cached.stamps());
        file.racy |= was_absent || has_changed;
        if file.checked > epoch {
            return;
        }
        file.kind = kind;
        file.checked = epoch;
        file.cached = Some(cached);
    }

    /// Records that `name` is neither a file nor a link.
    pub(super) fn set_absent(&mut self, name: &[u8]) {
        let file = match self.position(name) {
            Ok(at) => self.files.get_mut(at),
            Err(_) => self.new.get_mut(name),
        };
        if let Some(file) = file {
            file.racy |= file.checked != 0;
        }
        self.absent.insert(name.into());
    }

    pub(super) fn encode(&mut self) -> Vec<u8> {
        self.files();
        // Writing plain data to memory cannot fail; an empty slab is decoded as `None`.
        postcard::to_stdvec(self).unwrap_or_default()
    }

    pub(super) fn decode(slab: &[u8]) -> Option<Self> {
        postcard::from_bytes(slab).ok()
    }
}

impl File {
    fn new(name: &[u8], kind: FileKind) -> Self {
        Self {
            name: name.into(),
            kind,
            cached: None,
            checked: 0,
            racy: false,
        }
    }
}

/// Serializes names as bytes rather than as a sequence of numbers.
mod bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::borrowed_box, reason = "the signature that serde asks for")]
    pub(super) fn serialize<S: Serializer>(bytes: &Box<[u8]>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Box<[u8]>, D::Error> {
        Ok(<&[u8]>::deserialize(from)?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    /// A time that no file system with whole seconds stores.
    const FINE: i64 = 5 * SECOND + 1;
    const COARSE: i64 = 5 * SECOND;

    fn stamp(time: i64) -> Stamp {
        Stamp {
            mode: 0o100_644,
            size: 1,
            mtime: time,
            ctime: time,
            inode: 1,
            device: 1,
        }
    }

    fn timed(time: i64, at: i64) -> TimedStamp {
        let stamp = stamp(time);
        TimedStamp { stamp, at }
    }

    fn cached(time: i64) -> CachedContent {
        CachedContent {
            own: timed(time, time + SECOND),
            content: Content::File(Digest::of(b"text")),
        }
    }

    fn names(names: &[&str]) -> Vec<(Box<[u8]>, FileKind)> {
        let names = names.iter();
        names
            .map(|name| (name.as_bytes().into(), FileKind::File))
            .collect()
    }

    /// Returns a folder with these files, some of which this run examined.
    fn folder(files: &[&str], examined: &[&str]) -> Folder {
        let mut folder = Folder::default();
        folder.relist(timed(FINE, FINE + SECOND), names(files));
        for name in examined {
            folder.set_content(name.as_bytes(), cached(FINE), 1);
        }
        folder
    }

    fn is_racy(folder: &Folder, name: &str) -> bool {
        folder.find(name.as_bytes()).unwrap().racy
    }

    #[test]
    fn stamp_is_valid_if_equal_and_old_enough() {
        assert!(timed(FINE, FINE + SECOND).is_valid(&stamp(FINE)));
        assert!(!timed(FINE, FINE).is_valid(&stamp(FINE)), "too young");
        assert!(!timed(FINE, FINE + SECOND).is_valid(&stamp(FINE + 1)));
    }

    #[test]
    fn coarse_fingerprint_hides_changes_for_a_while() {
        let hides = |stamps, since| Fingerprint(stamps).hides_changes(since);
        assert!(!hides(None, COARSE));
        assert!(hides(Some((stamp(COARSE), None)), COARSE));
        assert!(!hides(Some((stamp(COARSE), None)), COARSE + 3 * SECOND));
        assert!(!hides(Some((stamp(FINE), None)), FINE));
    }

    #[test]
    fn fingerprint_ignores_new_hard_links() {
        let before = Fingerprint(Some((stamp(FINE), None)));
        let later = |stamp| Fingerprint(Some((stamp, None)));
        let ctime = FINE + 1;
        assert!(before.is_unwritten(&later(Stamp {
            ctime,
            ..stamp(FINE)
        })));
        let (mtime, size, inode) = (FINE + 1, 2, 2);
        assert!(!before.is_unwritten(&later(Stamp {
            mtime,
            ..stamp(FINE)
        })));
        assert!(!before.is_unwritten(&later(Stamp {
            size,
            ..stamp(FINE)
        })));
        assert!(!before.is_unwritten(&later(Stamp {
            inode,
            ..stamp(FINE)
        })));
        assert!(!before.is_unwritten(&Fingerprint(None)));
    }

    #[test]
    fn fingerprint_includes_the_file_behind_a_link() {
        let hides = |stamps, since| Fingerprint(stamps).hides_changes(since);
        let behind = Some(stamp(COARSE));
        assert!(hides(Some((stamp(FINE), behind)), COARSE));
        assert!(!hides(Some((stamp(FINE), behind)), COARSE + 3 * SECOND));
        assert!(!hides(Some((stamp(FINE), Some(stamp(FINE)))), FINE));
    }

    /// Lists a folder of four files again, and returns it.
    fn relisted(examined: &[&str], left: &[&str]) -> Folder {
        let mut folder = folder(&["a", "b", "c", "d"], examined);
        folder.relist(timed(FINE, FINE + SECOND), names(left));
        folder
    }

    #[test]
    fn relist_keeps_content_of_files_that_remain() {
        for left in [&["a", "b", "c", "d"][..], &["b"], &["b", "d"], &["c"]] {
            let mut folder = relisted(&["b", "d"], left);
            let found: Vec<_> = folder.files().iter().map(|file| &*file.name).collect();
            let expected: Vec<_> = left.iter().map(|name| name.as_bytes()).collect();
            assert_eq!(found, expected);
            for name in ["b", "d"].iter().filter(|name| left.contains(name)) {
                assert!(folder.find(name.as_bytes()).unwrap().cached.is_some());
            }
        }
    }

    #[test]
    fn relist_is_racy_if_an_examined_file_is_gone() {
        let is_racy = |examined: &[&str], left: &[&str]| relisted(examined, left).racy;
        assert!(!is_racy(&["b"], &["a", "b", "c", "d"]));
        assert!(!is_racy(&["b"], &["b"]));
        assert!(!is_racy(&[], &["b"]));
        for left in [&["a"][..], &["c"], &["a", "c", "d"], &[]] {
            assert!(is_racy(&["b"], left), "{left:?}");
        }
        assert!(is_racy(&["b", "d"], &["c"]), "one before and one after");
    }

    #[test]
    fn relist_is_racy_if_an_examined_file_changes_kind() {
        for (examined, expected) in [(&["a"][..], true), (&[], false)] {
            let mut folder = folder(&["a"], examined);
            folder.relist(timed(FINE, FINE), vec![((*b"a").into(), FileKind::Folder)]);
            let file = folder.find(b"a").unwrap();
            assert!(file.cached.is_none() && file.kind == FileKind::Folder);
            assert_eq!(folder.racy, expected);
            folder.relist(timed(FINE, FINE), vec![((*b"a").into(), FileKind::Folder)]);
            assert_eq!(folder.racy, expected, "it stays so");
        }
    }

    #[test]
    fn file_is_racy_once_a_run_read_two_versions() {
        let mut folder = folder(&["a", "b", "c"], &["a", "b"]);
        folder.set_content(b"a", cached(FINE), 2);
        folder.set_content(b"b", cached(FINE + 1), 2);
        folder.set_content(b"c", cached(FINE), 2);
        let racy = ["a", "b", "c"].map(|name| is_racy(&folder, name));
        assert_eq!(racy, [false, true, false]);
        folder.set_content(b"b", cached(FINE + 1), 3);
        assert!(is_racy(&folder, "b"), "it stays so");
    }

    #[test]
    fn saved_file_may_change_between_runs() {
        let mut folder = folder(&["a"], &["a"]);
        let slab = folder.encode();
        let mut later = Folder::decode(&slab).unwrap();
        later.set_content(b"a", cached(FINE + 1), 1);
        assert!(!is_racy(&later, "a"));
        assert!(Folder::decode(&slab[..slab.len() - 1]).is_none());
    }

    #[test]
    fn late_content_does_not_replace_a_newer_one() {
        let mut folder = folder(&["a"], &[]);
        folder.set_content(b"a", cached(FINE + 1), 2);
        let now = folder.fingerprint(b"a");
        folder.set_content(b"a", cached(FINE), 1);
        assert_eq!(folder.fingerprint(b"a"), now);
        assert!(is_racy(&folder, "a"));
        folder.set_content(b"a", cached(FINE + 2), 2);
        assert_ne!(
            folder.fingerprint(b"a"),
            now,
            "of two in one epoch the later"
        );
    }

    #[test]
    fn file_that_was_absent_for_a_while_is_racy() {
        let mut folder = folder(&["a", "b"], &["a"]);
        for name in ["a", "b", "c"] {
            folder.set_absent(name.as_bytes());
        }
        assert!(is_racy(&folder, "a") && !is_racy(&folder, "b"));
        folder.set_content(b"b", cached(FINE), 1);
        folder.set_content(b"c", cached(FINE), 1);
        assert!(is_racy(&folder, "b") && is_racy(&folder, "c"));
        folder.set_content(b"d", cached(FINE), 1);
        folder.set_absent(b"d");
        assert!(is_racy(&folder, "d"), "one that was not listed");
    }
}
