//! Stores outputs after the command that made them. It reads each file once and changes
//! nothing in the tree.

use std::fs::File;
use std::io::Read as _;
use std::rc::Rc;

use rustix::fs::{Mode, OFlags};

use super::dirs::{Folders, os};
use super::list::{self, TreeEntry};
use super::{Error, Stage, io, text};
use crate::action::{Entry, EntryKind, OutputSpec};
use crate::buildfile::model::Output;
use crate::digest::Digest;
use crate::path::RelPath;
use crate::stamp::{self, FileKind, Stamp};
use crate::store::{self, Store};

/// The outputs of a command.
#[derive(Clone, Debug)]
pub struct CapturedOutputs {
    /// The entries of the result.
    pub entries: Vec<Entry>,
    /// The stamp of each file, the same before and after reading.
    pub stamps: Vec<(RelPath, Stamp, Digest)>,
    /// The time before the first file was read, in nanoseconds since 1970.
    pub looked_at: i64,
    /// Whether the store kept every blob. If not, the entries are valid, but no result with
    /// them may be recorded.
    pub is_stored: bool,
    /// A `.git` folder in an owned folder that no `keep` covers. It is not in the result.
    pub git: Option<RelPath>,
}

/// Stores the current declared outputs and returns their entries. A missing output is an
/// error, and so is a file that changes while it is read.
pub fn capture(
    stage: &Stage,
    specs: &[OutputSpec],
    store: &dyn Store,
) -> Result<CapturedOutputs, Error> {
    let (mut found, mut git) = (Vec::new(), None);
    for spec in specs {
        let (some, some_git) = list::list_with_git(stage, spec)?;
        check_made(spec, &some)?;
        found.extend(some);
        git = git.or(some_git);
    }
    found.sort_unstable();
    found.dedup();
    let mut capture = Capture {
        store,
        folders: Folders::new(stage.root()),
        captured: CapturedOutputs {
            entries: Vec::with_capacity(found.len()),
            stamps: Vec::with_capacity(found.len()),
            looked_at: stamp::now(),
            is_stored: true,
            git,
        },
    };
    for found in found {
        let kind = capture.entry_kind(&found)?;
        let path = found.path;
        capture.captured.entries.push(Entry { path, kind });
    }
    Ok(capture.captured)
}

/// Checks that a declared output exists and has the declared kind.
fn check_made(spec: &OutputSpec, found: &[TreeEntry]) -> Result<(), Error> {
    let missing = || {
        let output = text(&spec.output);
        Err(Error::Missing { output })
    };
    let kind = |found: &TreeEntry, declared| {
        Err(Error::Kind {
            path: found.path.clone(),
            found: found.kind,
            declared,
        })
    };
    match (&spec.output, found.first()) {
        (_, None) => missing(),
        (Output::File(_), Some(first)) if first.kind == FileKind::Folder => kind(first, "a file"),
        (Output::Folder(_), Some(first)) if first.kind != FileKind::Folder => {
            kind(first, "a folder")
        }
        _ => Ok(()),
    }
}

struct Capture<'a> {
    store: &'a dyn Store,
    folders: Folders<'a>,
    captured: CapturedOutputs,
}

impl Capture<'_> {
    fn entry_kind(&mut self, found: &TreeEntry) -> Result<EntryKind, Error> {
        match found.kind {
            FileKind::Folder => Ok(EntryKind::Folder),
            FileKind::Link => self.link(&found.path),
            FileKind::File => self.file(&found.path),
            FileKind::Special => Err(Error::Special {
                path: found.path.clone(),
                found: found.kind,
            }),
        }
    }

    fn parent(&mut self, path: &RelPath) -> Result<Rc<std::os::fd::OwnedFd>, Error> {
        let parent = path.parent().unwrap_or_default();
        let folder = self.folders.open(&parent)?;
        folder.ok_or_else(|| Error::Changed { path: path.clone() })
    }

    fn link(&mut self, path: &RelPath) -> Result<EntryKind, Error> {
        let parent = self.parent(path)?;
        let target = rustix::fs::readlinkat(&*parent, os(path.name()), Vec::new());
        Ok(EntryKind::Link {
            target: target.map_err(io("read", path))?.into_bytes(),
            content: None,
        })
    }

    fn file(&mut self, path: &RelPath) -> Result<EntryKind, Error> {
        let parent = self.parent(path)?;
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&*parent, os(path.name()), flags, Mode::empty());
        let file = File::from(file.map_err(io("read", path))?);
        let before = Stamp::of(&file).map_err(io("stat", path))?;
        check_file(path, &before)?;
        let digest = self.store_file(path, (&file).take(before.size))?;
        let after = Stamp::of(&file).map_err(io("stat", path))?;
        if before != after || digest.size() != before.size {
            return Err(Error::Changed { path: path.clone() });
        }
        self.captured.stamps.push((path.clone(), after, digest));
        Ok(EntryKind::File {
            digest,
            mode: before.file_mode(),
        })
    }

    fn store_file(
        &mut self,
        path: &RelPath,
        mut bytes: std::io::Take<&File>,
    ) -> Result<Digest, Error> {
        match self.store.write(&mut bytes) {
            Ok(digest) => Ok(digest),
            Err(store::Error::NotStored { digest, .. }) => {
                self.captured.is_stored = false;
                Ok(digest)
            }
            Err(store::Error::Input(source)) => Err(io("read", path)(source)),
            Err(error) => Err(error.into()),
        }
    }
}

fn check_file(path: &RelPath, stamp: &Stamp) -> Result<(), Error> {
    if stamp.kind() != FileKind::File {
        return Err(Error::Changed { path: path.clone() });
    }
    if stamp.mode & 0o6000 != 0 {
        return Err(Error::SetUid { path: path.clone() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::sync::Mutex;

    use super::*;
    use crate::path::Root;
    use crate::store::Memory;
    use crate::store::spy::SpyStore;

    /// Returns how many descriptors of a file are open, and how many without `O_CLOEXEC`.
    fn count_open(file: &Path) -> (usize, usize) {
        let (mut opened, mut inherited) = (0, 0);
        for entry in fs::read_dir("/proc/self/fd").unwrap().flatten() {
            if fs::read_link(entry.path()).is_ok_and(|to| to == file) {
                let info = Path::new("/proc/self/fdinfo").join(entry.file_name());
                let info = fs::read_to_string(info).unwrap();
                let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
                let flags = u32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
                opened += 1;
                inherited += usize::from(flags & OFlags::CLOEXEC.bits() == 0);
            }
        }
        (opened, inherited)
    }

    #[test]
    fn output_replaced_by_link_or_pipe_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::write(dir.join("file"), "content").unwrap();
        symlink("file", dir.join("link")).unwrap();
        let (kind, mode) = (rustix::fs::FileType::Fifo, 0o600.into());
        rustix::fs::mknodat(rustix::fs::CWD, dir.join("pipe"), kind, mode, 0).unwrap();
        let root = Root::open(&dir).unwrap();
        let (file, seen) = (dir.join("file"), Mutex::new(Vec::new()));
        let inspect = || seen.lock().unwrap().push(count_open(&file));
        let memory = Memory::new();
        let store = SpyStore::new(&memory).after_write(&inspect);
        let mut capture = Capture {
            store: &store,
            folders: Folders::new(&root),
            captured: CapturedOutputs {
                entries: Vec::new(),
                stamps: Vec::new(),
                looked_at: 0,
                is_stored: true,
                git: None,
            },
        };
        let mut is_taken = |name| capture.file(&RelPath::new(name).unwrap()).is_ok();
        let names = ["file", "link", "pipe", "gone"];
        assert_eq!(names.map(&mut is_taken), [true, false, false, false]);
        assert_eq!(seen.into_inner().unwrap(), [(1, 0)]);
    }
}
