//! What is remembered of one folder: its listing and its files. It makes no system calls.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Seen;
use crate::action::EntryKind;
use crate::digest::Digest;
use crate::stamp::{FileKind, Stamp};

/// One folder.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Folder {
    /// What the folder's own stamp was when it was listed; `None` when it never was, and
    /// `files` holds only those asked for by name.
    pub(super) listed: Option<Look>,
    /// The epoch in which the listing was last found to hold.
    #[serde(skip)]
    pub(super) checked: u64,
    /// Whether it was there, and no link, when last checked.
    #[serde(skip)]
    pub(super) exists: bool,
    /// Names that stood for neither a file nor a link when this run asked for them.
    #[serde(skip)]
    pub(super) absent: BTreeSet<Box<[u8]>>,
    /// Whether this run saw it, or what is in it, change.
    #[serde(skip)]
    pub(super) racy: bool,
    /// What is in it, sorted by name.
    files: Vec<File>,
    /// What was asked for by name and is not among `files` yet: putting each of ten thousand
    /// outputs into its place there would move all the others.
    #[serde(skip)]
    new: BTreeMap<Box<[u8]>, File>,
}

/// A stamp and when it was taken.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Look {
    pub(super) stamp: Stamp,
    pub(super) at: i64,
}

impl Look {
    /// Tells whether what was seen then still holds, given the stamp of now.
    pub(super) fn holds(&self, now: &Stamp) -> bool {
        self.stamp == *now && now.is_old_enough(self.at)
    }
}

/// Something in a folder.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct File {
    #[serde(with = "bytes")]
    pub(super) name: Box<[u8]>,
    pub(super) kind: FileKind,
    pub(super) known: Option<Known>,
    /// The epoch in which `known` was last found to hold; 0 if not in this run.
    #[serde(skip)]
    pub(super) checked: u64,
    /// Whether this run saw it change.
    #[serde(skip)]
    pub(super) racy: bool,
}

/// What a file held when it was looked at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) look: Look,
    pub(super) content: Content,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Content {
    File(Digest),
    Link(Box<Link>),
}

/// A link: its text, and what is behind it if that is a regular file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Link {
    pub(super) target: Vec<u8>,
    pub(super) behind: Option<(Look, Digest)>,
}

/// What the system said of a file, and of what is behind it if it is a link, when its
/// content was last found out. While two are equal, nobody wrote to the file in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(Option<(Stamp, Option<Stamp>)>);

impl Fingerprint {
    /// Tells whether a change made after `since` (nanoseconds since 1970) and taken back
    /// could leave the mark as it is: only where a file system counts whole seconds is that
    /// more than a thought.
    pub fn hides_changes(&self, since: i64) -> bool {
        let hides = |stamp: &Stamp| stamp.is_coarse() && !stamp.is_old_enough(since);
        match &self.0 {
            None => false,
            Some((stamp, behind)) => hides(stamp) || behind.as_ref().is_some_and(hides),
        }
    }
}

impl Known {
    fn mark(&self) -> (Stamp, Option<Stamp>) {
        let behind = match &self.content {
            Content::File(_) => None,
            Content::Link(link) => link.behind.map(|(look, _)| look.stamp),
        };
        (self.look.stamp, behind)
    }

    /// Returns it in the words of the rest of the program.
    pub(super) fn to_entry_kind(&self) -> EntryKind {
        match &self.content {
            Content::File(digest) => EntryKind::File {
                digest: *digest,
                executable: self.look.stamp.is_executable(),
            },
            Content::Link(link) => EntryKind::Link {
                target: link.target.clone(),
                content: link.behind.map(|(_, digest)| digest),
            },
        }
    }
}

impl Folder {
    /// Returns the mark of the file `name`.
    pub(super) fn mark(&self, name: &[u8]) -> Fingerprint {
        let known = self.find(name).and_then(|file| file.known.as_ref());
        Fingerprint(known.map(Known::mark))
    }

    /// Returns all that is in it, sorted by name.
    pub(super) fn files(&mut self) -> &[File] {
        if !self.new.is_empty() {
            self.files
                .extend(std::mem::take(&mut self.new).into_values());
            self.files.sort_by(|a, b| a.name.cmp(&b.name));
        }
        &self.files
    }

    /// Returns what is called `name`.
    pub(super) fn find(&self, name: &[u8]) -> Option<&File> {
        match self.place(name) {
            Ok(at) => self.files.get(at),
            Err(_) => self.new.get(name),
        }
    }

    /// Returns what is called `name`, added if it is new.
    pub(super) fn file(&mut self, name: &[u8], kind: FileKind) -> &mut File {
        match self.place(name) {
            Ok(at) => &mut self.files[at],
            Err(_) => {
                let new = self.new.entry(name.into());
                new.or_insert_with(|| File::new(name, kind))
            }
        }
    }

    fn place(&self, name: &[u8]) -> Result<usize, usize> {
        self.files.binary_search_by(|file| (*file.name).cmp(name))
    }

    /// Takes in a fresh listing, keeping what is known of files that are still there.
    /// `names` need not be sorted.
    pub(super) fn relist(&mut self, look: Look, mut names: Vec<(Box<[u8]>, FileKind)>) {
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        self.files();
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
        self.listed = Some(look);
    }

    pub(super) fn learn(&mut self, seen: &Seen, epoch: u64) {
        let known = Known {
            look: Look {
                stamp: seen.stamp,
                at: seen.looked_at,
            },
            content: Content::File(seen.digest),
        };
        self.know(seen.path.name(), known, epoch);
    }

    /// Takes in what a file or link held in `epoch`, unless something later is known.
    pub(super) fn know(&mut self, name: &[u8], known: Known, epoch: u64) {
        let was_absent = self.absent.contains(name);
        let kind = match known.content {
            Content::File(_) => FileKind::File,
            Content::Link(_) => FileKind::Link,
        };
        let file = self.file(name, kind);
        let is_other = |before: &Known| before.mark() != known.mark();
        file.racy |= was_absent;
        file.racy |= file.checked != 0 && file.known.as_ref().is_some_and(is_other);
        if file.checked > epoch {
            return;
        }
        file.kind = kind;
        file.checked = epoch;
        file.known = Some(known);
    }

    /// Notes that a name stands for neither a file nor a link.
    pub(super) fn miss(&mut self, name: &[u8]) {
        let file = match self.place(name) {
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
        // Writing plain data to memory cannot fail; an empty slab reads as unknown.
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
            known: None,
            checked: 0,
            racy: false,
        }
    }
}

/// Names as bytes rather than as a sequence of numbers.
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
    /// A time that a file system which counts whole seconds cannot tell.
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

    fn look(time: i64, at: i64) -> Look {
        let stamp = stamp(time);
        Look { stamp, at }
    }

    fn known(time: i64) -> Known {
        Known {
            look: look(time, time + SECOND),
            content: Content::File(Digest::of(b"text")),
        }
    }

    fn names(names: &[&str]) -> Vec<(Box<[u8]>, FileKind)> {
        let names = names.iter();
        names
            .map(|name| (name.as_bytes().into(), FileKind::File))
            .collect()
    }

    /// A folder with these files, of which this run looked at some.
    fn folder(files: &[&str], looked_at: &[&str]) -> Folder {
        let mut folder = Folder::default();
        folder.relist(look(FINE, FINE + SECOND), names(files));
        for name in looked_at {
            folder.know(name.as_bytes(), known(FINE), 1);
        }
        folder
    }

    fn is_racy(folder: &Folder, name: &str) -> bool {
        folder.find(name.as_bytes()).unwrap().racy
    }

    #[test]
    fn a_look_holds_while_the_stamp_is_the_same_and_was_old_enough() {
        assert!(look(FINE, FINE + SECOND).holds(&stamp(FINE)));
        assert!(!look(FINE, FINE).holds(&stamp(FINE)), "too young");
        assert!(!look(FINE, FINE + SECOND).holds(&stamp(FINE + 1)));
    }

    #[test]
    fn a_mark_hides_changes_only_while_a_coarse_clock_has_not_gone_on() {
        let hides = |stamps, since| Fingerprint(stamps).hides_changes(since);
        assert!(!hides(None, COARSE));
        assert!(hides(Some((stamp(COARSE), None)), COARSE));
        assert!(!hides(Some((stamp(COARSE), None)), COARSE + 3 * SECOND));
        assert!(!hides(Some((stamp(FINE), None)), FINE));
        let behind = Some(stamp(COARSE));
        assert!(hides(Some((stamp(FINE), behind)), COARSE));
        assert!(!hides(Some((stamp(FINE), behind)), COARSE + 3 * SECOND));
        assert!(!hides(Some((stamp(FINE), Some(stamp(FINE)))), FINE));
    }

    #[test]
    fn a_new_listing_keeps_what_is_known_and_says_if_what_was_looked_at_went() {
        let again = |looked_at: &[&str], left: &[&str]| {
            let mut folder = folder(&["a", "b", "c", "d"], looked_at);
            folder.relist(look(FINE, FINE + SECOND), names(left));
            let found: Vec<_> = folder.files().iter().map(|file| &*file.name).collect();
            let expected: Vec<_> = left.iter().map(|name| name.as_bytes()).collect();
            assert_eq!(found, expected);
            for name in looked_at.iter().filter(|name| left.contains(name)) {
                assert!(folder.find(name.as_bytes()).unwrap().known.is_some());
            }
            folder.racy
        };
        assert!(!again(&["b"], &["a", "b", "c", "d"]));
        assert!(!again(&["b"], &["b"]));
        assert!(!again(&[], &["b"]));
        for left in [&["a"][..], &["c"], &["a", "c", "d"], &[]] {
            assert!(again(&["b"], left), "{left:?}");
        }
        assert!(again(&["b", "d"], &["c"]), "one before and one after");
    }

    #[test]
    fn a_new_kind_is_another_file_and_shakes_the_folder_if_it_was_looked_at() {
        for (looked_at, expected) in [(&["a"][..], true), (&[], false)] {
            let mut folder = folder(&["a"], looked_at);
            folder.relist(look(FINE, FINE), vec![((*b"a").into(), FileKind::Folder)]);
            let file = folder.find(b"a").unwrap();
            assert!(file.known.is_none() && file.kind == FileKind::Folder);
            assert_eq!(folder.racy, expected);
            folder.relist(look(FINE, FINE), vec![((*b"a").into(), FileKind::Folder)]);
            assert_eq!(folder.racy, expected, "it stays so");
        }
    }

    #[test]
    fn a_file_is_shaky_once_a_run_saw_two_things_of_it() {
        let mut folder = folder(&["a", "b", "c"], &["a", "b"]);
        folder.know(b"a", known(FINE), 2);
        folder.know(b"b", known(FINE + 1), 2);
        folder.know(b"c", known(FINE), 2);
        assert_eq!(
            ["a", "b", "c"].map(|name| is_racy(&folder, name)),
            [false, true, false]
        );
        folder.know(b"b", known(FINE + 1), 3);
        assert!(is_racy(&folder, "b"), "it stays so");
        let slab = folder.encode();
        let mut later = Folder::decode(&slab).unwrap();
        later.know(b"a", known(FINE + 1), 1);
        assert!(!is_racy(&later, "a"), "between runs everything may change");
        assert!(Folder::decode(&slab[..slab.len() - 1]).is_none());
    }

    #[test]
    fn what_was_found_out_late_does_not_replace_what_was_looked_at_since() {
        let mut folder = folder(&["a"], &[]);
        folder.know(b"a", known(FINE + 1), 2);
        let now = folder.mark(b"a");
        folder.know(b"a", known(FINE), 1);
        assert_eq!(folder.mark(b"a"), now);
        assert!(is_racy(&folder, "a"));
        folder.know(b"a", known(FINE + 2), 2);
        assert_ne!(folder.mark(b"a"), now, "of two in one epoch the later");
    }

    #[test]
    fn a_file_that_was_not_there_for_a_while_is_racy() {
        let mut folder = folder(&["a", "b"], &["a"]);
        for name in ["a", "b", "c"] {
            folder.miss(name.as_bytes());
        }
        assert!(is_racy(&folder, "a") && !is_racy(&folder, "b"));
        folder.know(b"b", known(FINE), 1);
        folder.know(b"c", known(FINE), 1);
        assert!(is_racy(&folder, "b") && is_racy(&folder, "c"));
        folder.know(b"d", known(FINE), 1);
        folder.miss(b"d");
        assert!(is_racy(&folder, "d"), "one that was not listed");
    }
}
