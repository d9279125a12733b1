//! What a run examined, as typed observations: each is a path and what must still be true
//! of it for the next run to find the same. `snapshot` stores them and compares them with
//! the disk.

use std::collections::HashSet;

use super::folder::{Behind, Content, File, Folder};
use super::{FileIndex, lock};
use crate::digest::Digest;
use crate::path::{RelPath, Root};
use crate::stamp::{FileId, FileKind, Stamp};

/// What must still be true of a path for a run to find the same there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Expectation {
    /// A regular file with this stamp and this content.
    File(Stamp, Digest),
    /// A link with this stamp.
    Link(Stamp),
    /// A folder with this stamp, whose entries were listed.
    Listing(Stamp),
    /// A folder, whose entries were not listed.
    Folder,
    /// Not a folder.
    NoFolder,
    /// Neither a file nor a link.
    NoFile,
    /// A link to a regular file with this stamp.
    LinkToFile(Stamp),
    /// A link to this folder.
    LinkToFolder(FileId),
    /// This folder, to which a link leads.
    FolderBehind(FileId),
    /// A link to neither a file nor a folder.
    LinkToNothing,
    /// Never met: the file changed so late that a further change might not show in its stamp.
    RacyFile,
    /// Never met: the same of a folder.
    RacyFolder,
}

impl Expectation {
    /// Returns true if a path with the stamp `now` (`None`: nothing is there) meets it.
    pub fn is_met_by(&self, now: Option<Stamp>) -> bool {
        let kind = now.map(|now| now.kind());
        match self {
            Self::File(stamp, _)
            | Self::Link(stamp)
            | Self::Listing(stamp)
            | Self::LinkToFile(stamp) => now == Some(*stamp),
            Self::Folder => kind == Some(FileKind::Folder),
            Self::NoFolder => kind != Some(FileKind::Folder),
            Self::NoFile => !matches!(kind, Some(FileKind::File | FileKind::Link)),
            Self::LinkToFolder(id) | Self::FolderBehind(id) => {
                kind == Some(FileKind::Folder) && now.map(|now| now.id()) == Some(*id)
            }
            Self::LinkToNothing => !matches!(kind, Some(FileKind::File | FileKind::Folder)),
            Self::RacyFile | Self::RacyFolder => false,
        }
    }

    /// Returns the expectation of the same kind of path that is never met.
    #[must_use]
    pub fn racy(&self) -> Self {
        match self {
            Self::Listing(_)
            | Self::Folder
            | Self::FolderBehind(_)
            | Self::NoFolder
            | Self::RacyFolder => Self::RacyFolder,
            Self::File(..)
            | Self::Link(_)
            | Self::NoFile
            | Self::LinkToFile(_)
            | Self::LinkToFolder(_)
            | Self::LinkToNothing
            | Self::RacyFile => Self::RacyFile,
        }
    }
}

impl FileIndex {
    /// Calls `each` with everything that this run examined, sorted by folder. A path may
    /// have several observations: a link has one of itself and one of the file behind it.
    pub fn observe(&self, mut each: impl FnMut(&RelPath, Expectation)) {
        let mut folders = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            folders.extend(shard.iter().map(|(path, f)| (path.clone(), f.clone())));
        }
        folders.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        // Many links may lead to one folder.
        let mut behind = HashSet::new();
        for (path, folder) in &folders {
            lock(folder).observe(path, &self.root, &mut |path, expected| {
                let is_folder_behind = matches!(expected, Expectation::FolderBehind(_));
                if !is_folder_behind || behind.insert((path.clone(), expected)) {
                    each(path, expected);
                }
            });
        }
    }
}

impl Folder {
    fn observe(
        &mut self,
        path: &RelPath,
        root: &Root,
        each: &mut impl FnMut(&RelPath, Expectation),
    ) {
        if self.checked != 0 {
            each(path, self.expectation(path, root));
        }
        for name in &self.absent {
            let path = path.child(name);
            let expected = unless_made_since(Expectation::NoFile, &path, root);
            each(&path, expected);
        }
        for file in self.files().iter().filter(|file| file.checked != 0) {
            file.observe(&path.child(&file.name), each);
        }
    }

    fn expectation(&self, path: &RelPath, root: &Root) -> Expectation {
        match &self.listed {
            _ if self.racy => Expectation::RacyFolder,
            _ if !self.exists => unless_made_since(Expectation::NoFolder, path, root),
            None => Expectation::Folder,
            Some(listed) if listed.is_reliable() => Expectation::Listing(listed.stamp),
            Some(_) => Expectation::RacyFolder,
        }
    }
}

impl File {
    fn observe(&self, path: &RelPath, each: &mut impl FnMut(&RelPath, Expectation)) {
        let cached = self.cached.as_ref().filter(|_| !self.racy);
        let Some(cached) = cached.filter(|cached| cached.own.is_reliable()) else {
            return each(path, Expectation::RacyFile);
        };
        let link = match &cached.content {
            Content::File(digest) => {
                return each(path, Expectation::File(cached.own.stamp, *digest));
            }
            Content::Link(link) => link,
        };
        each(path, Expectation::Link(cached.own.stamp));
        match &link.behind {
            Behind::File { stamp, .. } if stamp.is_reliable() => {
                each(path, Expectation::LinkToFile(stamp.stamp));
            }
            Behind::File { .. } => each(path, Expectation::RacyFile),
            Behind::Folder { id, path: real } => {
                each(path, Expectation::LinkToFolder(*id));
                if let Some(real) = real {
                    each(real, Expectation::FolderBehind(*id));
                }
            }
            Behind::Nothing => each(path, Expectation::LinkToNothing),
        }
    }
}

/// Returns `absent` if it is still met. A path that appeared since it was examined may be
/// gone again when the next run examines it, as if it had never been made.
fn unless_made_since(absent: Expectation, path: &RelPath, root: &Root) -> Expectation {
    let now = Stamp::at(root, path.as_path());
    if now.is_ok_and(|now| absent.is_met_by(now)) {
        absent
    } else {
        absent.racy()
    }
}
