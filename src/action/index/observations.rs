//! All that runs looked at, flat: so that the next run can tell, without knowing what any
//! of it is for, what still stands as it stood. It reads no content.
//!
//! One entry is one question to the system and its answer. Where all answers are the same,
//! a run would find out the same again. Where some are not, [`Moved`] tells which patterns
//! may find something else.

use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::entry::{
    self, Entry, PLACE, Question, SIZE, encode, inode, is_at, made_racy, path_of, place_of, split,
    with_digest, with_place, without_place,
};
use super::folder::{Content, File, Folder};
use super::{FileIndex, lock};
use crate::digest::Digest;
use crate::glob::Pattern;
use crate::path::{RelPath, Root};
use crate::stamp::{FileKind, Stamp};

/// How many entries a thread takes at once.
const CHUNK: usize = 256;
/// The most threads that ask: the system itself has locks.
const MOST_THREADS: usize = 8;
/// How many changes are told apart. With more of them, to start anew is as quick.
const MOST_MOVED: usize = 256;

/// Something that is not, or may not be, as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    /// A file or link came, went or changed; no folder has to do with it.
    File(RelPath),
    /// Something came into a folder or left it.
    Listing(RelPath),
    /// A folder came or went, or nobody knows.
    Anything(RelPath),
}

impl Moved {
    /// Tells whether a walk for `pattern` may find something else because of it.
    pub fn concerns(&self, pattern: &Pattern) -> bool {
        let base = pattern.folder();
        let is_entered = |path: &RelPath| path.is_within(base) && pattern.reaches_into(path);
        match self {
            Self::File(path) => pattern.matches(path),
            Self::Listing(path) => pattern.as_literal().is_none() && is_entered(path),
            Self::Anything(path) => {
                pattern.matches(path) || base.is_within(path) || is_entered(path)
            }
        }
    }
}

/// Looks of an earlier run, and which of them (by number, sorted) do not hold any more.
#[derive(Clone, Copy, Debug)]
pub struct Earlier<'a> {
    /// The looks.
    pub looks: &'a [u8],
    /// Those that do not hold.
    pub failed: &'a [usize],
}

impl FileIndex {
    /// Returns all that this run looked at, with those of `earlier` looks that it found to
    /// hold; `None` if that is too much for the format.
    pub fn looks(&self, earlier: Option<Earlier<'_>>) -> Option<Vec<u8>> {
        let mut looks = self.fresh();
        if let Some(earlier) = earlier {
            looks.take_over(earlier)?;
        }
        looks.finish()
    }

    /// Returns what is to be written where among `earlier` looks so that they are what
    /// [`FileIndex::looks`] would return, but for their order; `None` unless this run looked
    /// only at what was looked at before, at each path once, and all that had moved is among
    /// it. What is not as it was at the earlier look, which held, changed while the run went on.
    pub fn changes(&self, earlier: Earlier<'_>) -> Option<Vec<(usize, Vec<u8>)>> {
        let (entries, paths) = split(earlier.looks)?;
        let mut moved = HashMap::new();
        for number in earlier.failed {
            let before = moved.insert(path_of(entries.get(*number)?, paths)?, *number);
            before.is_none().then_some(())?;
        }
        let looks = self.fresh();
        let (mut changes, mut others) = (Vec::new(), Known::default());
        let mut looked_at = HashSet::new();
        for entry in looks.entries.as_chunks::<SIZE>().0 {
            let path = path_of(entry, &looks.paths)?;
            // Two answers for one path, one of which may not hold, need two places.
            let is_first = looked_at.insert(path);
            is_first.then_some(())?;
            match moved.remove(path) {
                Some(number) => {
                    let entry = with_place(*entry, &entries[number][PLACE]);
                    changes.push((place_of(number), entry.to_vec()));
                }
                None => others.add(entry, path),
            }
        }
        moved.is_empty().then_some(())?;
        others.remove_all(entries, paths)?;
        for (path, entry) in others.looks {
            let number = only_at(path, entries, paths)?;
            let entry = with_place(made_racy(&entry)?, &entries[number][PLACE]);
            changes.push((place_of(number), entry.to_vec()));
        }
        Some(changes)
    }

    /// Returns all that this run looked at itself.
    fn fresh(&self) -> Looks {
        let mut folders = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            folders.extend(shard.iter().map(|(path, f)| (path.clone(), f.clone())));
        }
        folders.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut looks = Looks::default();
        for (path, folder) in &folders {
            looks.folder(path, &mut lock(folder), &self.root);
        }
        looks
    }
}

/// Finds out which looks do not hold any more, by their numbers, and what moved; `None` if
/// that is too much or `stop` was raised. It asks the system on all processors.
pub fn compare(looks: &[u8], root: &Root, stop: &AtomicBool) -> Option<Vec<(usize, Moved)>> {
    let (entries, paths) = split(looks)?;
    let (next, moved) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let start = next.fetch_add(CHUNK, Ordering::Relaxed);
            let Some(some) = entries.get(start..) else {
                return;
            };
            let some = some[..some.len().min(CHUNK)].iter();
            for (at, entry) in some.enumerate() {
                let Some(held) = holds(entry, paths, root) else {
                    return stop.store(true, Ordering::Relaxed);
                };
                if let Some(other) = held {
                    let mut moved = moved.lock().unwrap_or_else(PoisonError::into_inner);
                    moved.push((start + at, other));
                    if moved.len() > MOST_MOVED {
                        return stop.store(true, Ordering::Relaxed);
                    }
                }
            }
        }
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = entries.len().div_ceil(CHUNK);
    let threads = threads.min(processors).min(MOST_THREADS);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    let mut moved = moved.into_inner().unwrap_or_else(PoisonError::into_inner);
    moved.sort_unstable_by_key(|(number, _)| *number);
    (!stop.load(Ordering::Relaxed)).then_some(moved)
}

/// Asks one question again, and returns what moved if the answer is another one; `None` if
/// the entry makes no sense or the system refuses.
fn holds(entry: &Entry, paths: &[u8], root: &Root) -> Option<Option<Moved>> {
    let (question, place, stamp) = entry::decode(entry)?;
    let path = CStr::from_bytes_until_nul(paths.get(place..)?).ok()?;
    let is_followed = matches!(question, Question::Behind | Question::NothingBehind);
    let now = match is_followed {
        true => Stamp::followed(root, path).ok().flatten(),
        false => Stamp::at(root, path).ok()?,
    };
    if is_same(question, &stamp, now) {
        return Some(None);
    }
    let path = RelPath::new(path.to_bytes()).ok()?;
    let is_folder = now.is_some_and(|now| now.kind() == FileKind::Folder);
    let was_folder = stamp.kind() == FileKind::Folder;
    Some(Some(match question {
        Question::Behind | Question::NothingBehind => Moved::File(path),
        Question::Stamp if was_folder && is_folder => Moved::Listing(path),
        Question::Stamp if !was_folder && !is_folder => Moved::File(path),
        Question::NoFile => Moved::File(path),
        Question::RacyFile if !is_folder => Moved::File(path),
        _ => Moved::Anything(path),
    }))
}

/// Tells whether a question to which the answer was `then` has the same answer now.
fn is_same(question: Question, then: &Stamp, now: Option<Stamp>) -> bool {
    let kind = now.map(|now| now.kind());
    match question {
        Question::Stamp | Question::Behind => now == Some(*then),
        Question::Folder => kind == Some(FileKind::Folder),
        Question::NoFolder => kind != Some(FileKind::Folder),
        Question::NoFile => !matches!(kind, Some(FileKind::File | FileKind::Link)),
        Question::NothingBehind => kind != Some(FileKind::File),
        Question::RacyFile | Question::RacyFolder => false,
    }
}

/// Entries in the making.
#[derive(Default)]
struct Looks {
    count: u32,
    entries: Vec<u8>,
    paths: Vec<u8>,
}

impl Looks {
    /// Adds a folder and what was looked at in it.
    fn folder(&mut self, path: &RelPath, folder: &mut Folder, root: &Root) {
        match (&folder.listed, folder.exists) {
            _ if folder.checked == 0 => {}
            _ if folder.racy => self.push(Question::RacyFolder, path, Stamp::unknown()),
            (Some(look), true) if look.stamp.is_settled(look.at) => {
                self.push(Question::Stamp, path, look.stamp);
            }
            (Some(_), true) => self.push(Question::RacyFolder, path, Stamp::unknown()),
            (None, true) => self.push(Question::Folder, path, Stamp::unknown()),
            (_, false) => self.missing(Question::NoFolder, path, root),
        }
        for name in &folder.absent {
            self.missing(Question::NoFile, &path.child(name), root);
        }
        for file in folder.files().iter().filter(|file| file.checked != 0) {
            self.file(&path.child(&file.name), file);
        }
    }

    /// Adds that something was not there, if it still is not: what was made since may be gone
    /// again when the next run asks, as if nobody had made it.
    fn missing(&mut self, question: Question, path: &RelPath, root: &Root) {
        let unknown = Stamp::unknown();
        let now = Stamp::at(root, path.as_path());
        let is_still = now.is_ok_and(|now| is_same(question, &unknown, now));
        let question = match question {
            _ if is_still => question,
            Question::NoFolder => Question::RacyFolder,
            _ => Question::RacyFile,
        };
        self.push(question, path, unknown);
    }

    fn file(&mut self, path: &RelPath, file: &File) {
        let known = file.known.as_ref().filter(|_| !file.racy);
        let Some(known) = known.filter(|known| known.look.stamp.is_settled(known.look.at)) else {
            return self.push(Question::RacyFile, path, Stamp::unknown());
        };
        let link = match &known.content {
            Content::File(digest) => return self.push_file(path, known.look.stamp, digest),
            Content::Link(link) => link,
        };
        self.push(Question::Stamp, path, known.look.stamp);
        match link.behind {
            Some((look, _)) if look.stamp.is_settled(look.at) => {
                self.push(Question::Behind, path, look.stamp);
            }
            Some(_) => self.push(Question::RacyFile, path, Stamp::unknown()),
            None => self.push(Question::NothingBehind, path, Stamp::unknown()),
        }
    }

    fn push(&mut self, question: Question, path: &RelPath, stamp: Stamp) {
        self.push_entry(encode(question, stamp), bytes(path));
    }

    fn push_file(&mut self, path: &RelPath, stamp: Stamp, digest: &Digest) {
        let entry = with_digest(encode(Question::Stamp, stamp), digest);
        self.push_entry(entry, bytes(path));
    }

    fn push_entry(&mut self, mut entry: Entry, path: &[u8]) {
        // Too many paths for the format: `finish` notices.
        let place = u32::try_from(self.paths.len()).unwrap_or(u32::MAX);
        entry[PLACE].copy_from_slice(&place.to_le_bytes());
        self.paths.extend_from_slice(path);
        self.paths.push(0);
        self.entries.extend_from_slice(&entry);
        self.count += 1;
    }

    /// Adds the earlier looks that hold. One of a path that this run looked at, too, is left
    /// out only if it is the same: if it is not, both count, and one will not hold.
    fn take_over(&mut self, earlier: Earlier<'_>) -> Option<()> {
        let (entries, paths) = split(earlier.looks)?;
        let fresh = std::mem::take(self);
        let mut seen = Known::default();
        for entry in fresh.entries.as_chunks::<SIZE>().0 {
            seen.add(entry, path_of(entry, &fresh.paths)?);
        }
        self.paths.extend_from_slice(paths);
        self.entries.reserve(earlier.looks.len());
        let mut failed = earlier.failed.iter().peekable();
        // Where the paths are of looks that are replaced: the file must not grow for ever.
        let mut places = HashMap::new();
        for (number, entry) in entries.iter().enumerate() {
            let has_failed = failed.next_if(|failed| **failed == number).is_some();
            if has_failed || seen.has(entry, paths)? {
                places.insert(path_of(entry, paths)?, &entry[PLACE]);
            } else {
                self.entries.extend_from_slice(entry);
                self.count += 1;
            }
        }
        for entry in fresh.entries.as_chunks::<SIZE>().0 {
            let path = path_of(entry, &fresh.paths)?;
            match places.get(path) {
                Some(place) => {
                    self.entries.extend_from_slice(&with_place(*entry, place));
                    self.count += 1;
                }
                None => self.push_entry(*entry, path),
            }
        }
        Some(())
    }

    fn finish(self) -> Option<Vec<u8>> {
        u32::try_from(self.paths.len()).ok()?;
        Some([&self.count.to_le_bytes()[..], &self.entries, &self.paths].concat())
    }
}

/// Looks, to tell whether others are among them.
#[derive(Default)]
struct Known<'l> {
    looks: HashSet<(&'l [u8], Entry)>,
    /// Their inodes: most others are told from all of them without a look at their paths.
    inodes: HashSet<&'l [u8]>,
}

impl<'l> Known<'l> {
    fn add(&mut self, entry: &'l Entry, path: &'l [u8]) {
        self.looks.insert((path, without_place(entry)));
        self.inodes.insert(inode(entry));
    }

    fn has(&self, entry: &Entry, paths: &[u8]) -> Option<bool> {
        Some(
            self.inodes.contains(inode(entry))
                && self
                    .looks
                    .contains(&(path_of(entry, paths)?, without_place(entry))),
        )
    }

    /// Takes out those that are among `entries`.
    fn remove_all(&mut self, entries: &[Entry], paths: &'l [u8]) -> Option<()> {
        for entry in entries {
            if self.has(entry, paths)? {
                let look = (path_of(entry, paths)?, without_place(entry));
                self.looks.remove(&look);
            }
        }
        Some(())
    }
}

/// Returns the number of the only look at a path.
fn only_at(path: &[u8], entries: &[Entry], paths: &[u8]) -> Option<usize> {
    let mut looks = entries.iter().enumerate();
    let mut next = || looks.find(|(_, entry)| is_at(entry, paths, path));
    let (number, _) = next()?;
    next().is_none().then_some(number)
}

fn bytes(path: &RelPath) -> &[u8] {
    path.as_path().as_os_str().as_encoded_bytes()
}
