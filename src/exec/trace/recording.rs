//! Collects the accesses of a task's commands into a set of bounded size.

use std::collections::{BTreeSet, HashMap, HashSet};

use rustix::fs::FileType;

use super::processes::Processes;
use super::resolve::{self, ChangeTime, Resolved};
use super::{Access, Change, Gap, Trace, Uses};
use crate::path::{RelPath, Root};

/// The most bytes of paths in a trace.
const MOST_BYTES: usize = 24 << 20;
/// The memory that a path needs beside its bytes, roughly.
const OVERHEAD: usize = 100;
/// The most paths outside the root that are remembered, so as to resolve them once.
const MOST_OUTSIDE: usize = 1 << 16;
/// The folders of the kernel, which hold no files of a build.
const KERNEL: &[&[u8]] = &[b"/proc/", b"/sys/", b"/dev/"];

/// The accesses recorded so far.
#[derive(Debug)]
pub struct Recording {
    root: Root,
    entries: HashMap<RelPath, Entry>,
    bytes: usize,
    /// Paths that are outside the root, links resolved.
    outside: HashSet<Vec<u8>>,
    pub(super) processes: Processes,
    gaps: BTreeSet<Gap>,
}

#[derive(Debug, Default)]
struct Entry {
    real: Option<RelPath>,
    uses: Uses,
    process: Option<u32>,
    /// Its state when it was first modified.
    before: Option<Before>,
}

/// The state of a path before it was modified.
#[derive(Clone, Copy, Debug)]
enum Before {
    Absent,
    Present(ChangeTime),
}

/// An access to record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use<'a> {
    /// The absolute path, with dots and links.
    pub(super) path: &'a [u8],
    /// True if a link at its end is followed.
    pub(super) follows: bool,
    /// The uses of it.
    pub(super) uses: Uses,
    /// True if it is created where it does not exist.
    pub(super) creates: bool,
    /// The thread that does it.
    pub(super) thread: u32,
}

impl Recording {
    /// Returns an empty recording of accesses below `root`.
    pub fn new(root: Root) -> Self {
        Self {
            root,
            entries: HashMap::new(),
            bytes: 0,
            outside: HashSet::new(),
            processes: Processes::default(),
            gaps: BTreeSet::new(),
        }
    }

    /// Notes that the recording is incomplete.
    pub(super) fn add_gap(&mut self, gap: Gap) {
        self.gaps.insert(gap);
    }

    /// Records an access that is about to happen.
    pub(super) fn add(&mut self, access: Use<'_>) {
        let plain = resolve::without_dots(access.path);
        let named = plain.as_deref().and_then(|path| self.below_root(path));
        if plain
            .as_deref()
            .is_some_and(|path| self.is_settled(path, named.as_ref(), access.uses))
        {
            return;
        }
        match resolve::resolve(access.path, access.follows) {
            Resolved::Present {
                real,
                kind,
                changed,
            } => {
                let real = self.below_root(&real);
                match (named, real) {
                    (Some(named), real) => {
                        let real = real.filter(|real| *real != named);
                        self.add_present(named, real, kind, changed, access);
                    }
                    (None, Some(real)) => self.add_present(real, None, kind, changed, access),
                    (None, None) => self.add_outside(plain),
                }
            }
            Resolved::Absent(real) => match named.or_else(|| self.below_root(&real)) {
                Some(path) => self.add_absent(path, access),
                None => self.add_outside(plain),
            },
            Resolved::Unknown => {}
        }
    }

    /// Returns true if an access adds nothing to the recording.
    fn is_settled(&self, path: &[u8], named: Option<&RelPath>, uses: Uses) -> bool {
        if KERNEL.iter().any(|folder| path.starts_with(folder)) {
            return true;
        }
        match named {
            Some(named) => {
                let entry = self.entries.get(named);
                entry.is_some_and(|entry| entry.uses.contains(uses))
            }
            None => self.outside.contains(path),
        }
    }

    fn add_present(
        &mut self,
        path: RelPath,
        real: Option<RelPath>,
        kind: FileType,
        changed: ChangeTime,
        access: Use<'_>,
    ) {
        // A folder is opened to be listed, or for calls relative to it.
        if kind == FileType::Directory && access.uses == Uses::READ {
            return;
        }
        if let Some(entry) = self.entry(path, access.thread) {
            entry.uses = entry.uses.with(access.uses);
            entry.real = entry.real.take().or(real);
            if access.uses.contains(Uses::MODIFY) {
                entry.before.get_or_insert(Before::Present(changed));
            }
        }
    }

    fn add_absent(&mut self, path: RelPath, access: Use<'_>) {
        let (uses, before) = if access.creates {
            (Uses::MODIFY, Some(Before::Absent))
        } else if access.uses.intersects(Uses::READ) {
            (Uses::ABSENT, None)
        } else {
            return;
        };
        if let Some(entry) = self.entry(path, access.thread) {
            entry.uses = entry.uses.with(uses);
            entry.before = entry.before.or(before);
        }
    }

    fn add_outside(&mut self, path: Option<Vec<u8>>) {
        if self.outside.len() >= MOST_OUTSIDE {
            self.outside.clear();
        }
        self.outside.extend(path);
    }

    /// Returns the entry of a path; `None` if there is no room for it.
    fn entry(&mut self, path: RelPath, thread: u32) -> Option<&mut Entry> {
        if !self.entries.contains_key(&path) {
            self.bytes += path.as_bytes().len() + OVERHEAD;
            if self.bytes > MOST_BYTES {
                self.gaps.insert(Gap::TooLarge);
                return None;
            }
            let process = self.processes.of(thread);
            let entry = Entry {
                process,
                ..Entry::default()
            };
            self.entries.insert(path.clone(), entry);
        }
        self.entries.get_mut(&path)
    }

    fn below_root(&self, path: &[u8]) -> Option<RelPath> {
        use std::os::unix::ffi::OsStrExt as _;
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(path));
        self.root.relative(path)
    }

    /// Compares the modified paths with the tree, and returns the whole trace.
    pub fn into_trace(self) -> Trace {
        let root = self.root;
        let accesses = self.entries.into_iter().map(|(path, entry)| Access {
            change: entry.before.map_or(Change::None, |before| {
                let now = resolve::change_time(&root.absolute(&path));
                change(before, now)
            }),
            path,
            real: entry.real,
            uses: entry.uses,
            process: entry.process,
        });
        let mut accesses: Vec<Access> = accesses.collect();
        accesses.sort_by(|a, b| a.path.cmp(&b.path));
        Trace {
            accesses,
            processes: self.processes.into_list(),
            gaps: self.gaps.into_iter().collect(),
        }
    }
}

fn change(before: Before, now: Option<ChangeTime>) -> Change {
    match (before, now) {
        (Before::Absent, Some(_)) => Change::Created,
        (Before::Absent, None) => Change::Temporary,
        (Before::Present(_), None) => Change::Deleted,
        (Before::Present(before), Some(now)) if before == now => Change::None,
        (Before::Present(_), Some(_)) => Change::Written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording() -> (tempfile::TempDir, Recording) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        (dir, Recording::new(root))
    }

    fn read(path: &[u8]) -> Use<'_> {
        Use {
            path,
            follows: true,
            uses: Uses::READ,
            creates: false,
            thread: 0,
        }
    }

    #[test]
    fn recording_keeps_a_bounded_number_of_paths() {
        let (_dir, mut recording) = recording();
        recording.bytes = MOST_BYTES - OVERHEAD - 6;
        for name in ["first", "second", "third"] {
            let path = recording.root.path().join(name);
            recording.add(read(path.as_os_str().as_encoded_bytes()));
        }
        let trace = recording.into_trace();
        assert_eq!(trace.accesses.len(), 1);
        assert_eq!(trace.gaps, [Gap::TooLarge]);
    }

    #[test]
    fn files_of_the_kernel_are_not_recorded() {
        let (_dir, mut recording) = recording();
        // Here this is the working directory of the recorder, not that of the command.
        recording.add(read(b"/proc/self/cwd/Cargo.toml"));
        assert!(recording.entries.is_empty() && recording.outside.is_empty());
    }
}
