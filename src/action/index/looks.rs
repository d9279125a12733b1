//! All that runs looked at, flat: so that the next run can tell, without knowing what any
//! of it is for, what still stands as it stood. It reads no content.
//!
//! One entry is one question to the system and its answer. Where all answers are the same,
//! a run would find out the same again. Where some are not, [`Moved`] tells which patterns
//! may find something else.
//!
//! Format: the number of entries (u32), the entries ([`SIZE`] bytes each), the paths, each
//! ended by a NUL. Numbers are little endian.

use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::FileType;

use super::folder::{Content, File, Folder};
use super::{FileIndex, lock};
use crate::glob::Pattern;
use crate::path::{RelPath, Root};
use crate::stamp::Stamp;

/// The length of an entry.
const SIZE: usize = 48;
/// Where in an entry its path's place stands.
const PLACE: std::ops::Range<usize> = 4..8;
/// Where in an entry its inode stands.
const INODE: std::ops::Range<usize> = 32..40;
/// How many entries a thread takes at once.
const CHUNK: usize = 256;
/// The most threads that ask: the system itself has locks.
const MOST_THREADS: usize = 8;
/// How many changes are told apart. With more of them, to start anew is as quick.
const MOST_MOVED: usize = 256;

/// What is asked of a path, and what the answer was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
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
    ShakyFile = 6,
    /// None: the same of a folder.
    ShakyFolder = 7,
}

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
        let mut folders = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            folders.extend(shard.iter().map(|(path, f)| (path.clone(), f.clone())));
        }
        folders.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut looks = Looks::default();
        for (path, folder) in &folders {
            looks.folder(path, &mut lock(folder));
        }
        if let Some(earlier) = earlier {
            looks.take_over(earlier)?;
        }
        looks.finish()
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

/// Takes looks apart into entries and paths.
fn split(looks: &[u8]) -> Option<(&[[u8; SIZE]], &[u8])> {
    let (count, rest) = looks.split_first_chunk::<4>()?;
    let count = u32::from_le_bytes(*count) as usize;
    let (entries, paths) = rest.split_at_checked(count.checked_mul(SIZE)?)?;
    Some((entries.as_chunks::<SIZE>().0, paths))
}

/// Asks one question again, and returns what moved if the answer is another one; `None` if
/// the entry makes no sense or the system refuses.
fn holds(entry: &[u8; SIZE], paths: &[u8], root: &Root) -> Option<Option<Moved>> {
    let (question, place, stamp) = decode(entry)?;
    let path = CStr::from_bytes_until_nul(paths.get(place..)?).ok()?;
    let is_followed = matches!(question, Question::Behind | Question::NothingBehind);
    let now = match is_followed {
        true => Stamp::followed(root, path).ok().flatten(),
        false => Stamp::at(root, path).ok()?,
    };
    let kind = now.map(|now| now.kind());
    let is_folder = kind == Some(FileType::Directory);
    let is_entry = matches!(kind, Some(FileType::RegularFile | FileType::Symlink));
    let holds = match question {
        Question::Stamp | Question::Behind => now == Some(stamp),
        Question::Folder => is_folder,
        Question::NoFolder => !is_folder,
        Question::NoFile => !is_entry,
        Question::NothingBehind => kind != Some(FileType::RegularFile),
        Question::ShakyFile | Question::ShakyFolder => false,
    };
    if holds {
        return Some(None);
    }
    let path = RelPath::new(path.to_bytes()).ok()?;
    let was_folder = stamp.kind() == FileType::Directory;
    Some(Some(match question {
        Question::Behind | Question::NothingBehind => Moved::File(path),
        Question::Stamp if was_folder && is_folder => Moved::Listing(path),
        Question::Stamp if !was_folder && !is_folder => Moved::File(path),
        Question::NoFile => Moved::File(path),
        Question::ShakyFile if !is_folder => Moved::File(path),
        _ => Moved::Anything(path),
    }))
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
    fn folder(&mut self, path: &RelPath, folder: &mut Folder) {
        match (&folder.listed, folder.exists) {
            _ if folder.checked == 0 => {}
            _ if folder.shaky => self.push(Question::ShakyFolder, path, Stamp::unknown()),
            (Some(look), true) if look.stamp.is_settled(look.at) => {
                self.push(Question::Stamp, path, look.stamp);
            }
            (Some(_), true) => self.push(Question::ShakyFolder, path, Stamp::unknown()),
            (None, true) => self.push(Question::Folder, path, Stamp::unknown()),
            (_, false) => self.push(Question::NoFolder, path, Stamp::unknown()),
        }
        for name in &folder.absent {
            self.push(Question::NoFile, &path.child(name), Stamp::unknown());
        }
        for file in folder.files().iter().filter(|file| file.checked != 0) {
            self.file(&path.child(&file.name), file);
        }
    }

    fn file(&mut self, path: &RelPath, file: &File) {
        let known = file.known.as_ref().filter(|_| !file.shaky);
        let Some(known) = known.filter(|known| known.look.stamp.is_settled(known.look.at)) else {
            return self.push(Question::ShakyFile, path, Stamp::unknown());
        };
        self.push(Question::Stamp, path, known.look.stamp);
        let Content::Link(link) = &known.content else {
            return;
        };
        match link.behind {
            Some((look, _)) if look.stamp.is_settled(look.at) => {
                self.push(Question::Behind, path, look.stamp);
            }
            Some(_) => self.push(Question::ShakyFile, path, Stamp::unknown()),
            None => self.push(Question::NothingBehind, path, Stamp::unknown()),
        }
    }

    fn push(&mut self, question: Question, path: &RelPath, stamp: Stamp) {
        let entry = encode(question, stamp);
        self.push_entry(entry, path.as_path().as_os_str().as_encoded_bytes());
    }

    fn push_entry(&mut self, mut entry: [u8; SIZE], path: &[u8]) {
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
        let (mut seen, mut inodes) = (HashSet::new(), HashSet::new());
        for entry in fresh.entries.as_chunks::<SIZE>().0 {
            seen.insert((path_of(entry, &fresh.paths)?, without_place(entry)));
            inodes.insert(inode(entry));
        }
        self.paths.extend_from_slice(paths);
        self.entries.reserve(earlier.looks.len());
        let mut failed = earlier.failed.iter().peekable();
        // Where the paths are of looks that are replaced: the file must not grow for ever.
        let mut places = HashMap::new();
        for (number, entry) in entries.iter().enumerate() {
            let has_failed = failed.next_if(|failed| **failed == number).is_some();
            // Most are told from all fresh ones without a look at their paths.
            let is_replaced = has_failed
                || inodes.contains(&inode(entry))
                    && seen.contains(&(path_of(entry, paths)?, without_place(entry)));
            if is_replaced {
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
                    let mut entry = *entry;
                    entry[PLACE].copy_from_slice(place);
                    self.entries.extend_from_slice(&entry);
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

fn path_of<'p>(entry: &[u8; SIZE], paths: &'p [u8]) -> Option<&'p [u8]> {
    let (_, place, _) = decode(entry)?;
    let path = CStr::from_bytes_until_nul(paths.get(place..)?).ok()?;
    Some(path.to_bytes())
}

fn inode(entry: &[u8; SIZE]) -> &[u8] {
    &entry[INODE]
}

fn without_place(entry: &[u8; SIZE]) -> [u8; SIZE] {
    let mut entry = *entry;
    entry[PLACE].fill(0);
    entry
}

/// The mode needs only half of its bits: the question is in the others.
fn encode(question: Question, stamp: Stamp) -> [u8; SIZE] {
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

fn decode(entry: &[u8; SIZE]) -> Option<(Question, usize, Stamp)> {
    let word = |at: usize| entry.as_chunks::<8>().0[at];
    let [m0, m1, question, _, p0, p1, p2, p3] = word(0);
    let question = match question {
        0 => Question::Stamp,
        1 => Question::Folder,
        2 => Question::NoFolder,
        3 => Question::NoFile,
        4 => Question::Behind,
        5 => Question::NothingBehind,
        6 => Question::ShakyFile,
        7 => Question::ShakyFolder,
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
    let place = u32::from_le_bytes([p0, p1, p2, p3]) as usize;
    Some((question, place, stamp))
}
