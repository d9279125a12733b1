//! Recovers from a killed run: moves stashed entries back to their paths, if those are free.
//! Other entries of the stage are removed, and other files of pending batches stay in the
//! trash. The build then checks the outputs.

use rustix::fs::Dir;

use super::dirs::Folders;
use super::list::read_folder;
use super::moves::EntryAt;
use super::remove::remove_all;
use super::stage::path_of_stashed;
use super::stash::move_back;
use super::trash::Batch;
use super::unchanged::is_same;
use super::{Error, Stage};
use crate::path::RelPath;
use crate::stamp::FileKind;

/// The result of a recovery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The number of entries moved back to their paths.
    pub returned: usize,
    /// The files that stay in the trash because their paths are not free, sorted.
    pub trashed: Vec<RelPath>,
}

/// Empties the stage and ends the pending batches of the trash. The caller holds the lock of
/// the tree and has staged nothing. Files of the trash return only to paths for which
/// `is_output` is true, because the trash may come from another user.
pub fn recover(stage: &Stage, is_output: &dyn Fn(&RelPath) -> bool) -> Result<Recovered, Error> {
    let mut done = recover_trash(stage, is_output)?;
    done.returned += recover_stage(stage)?;
    Ok(done)
}

fn recover_trash(stage: &Stage, is_output: &dyn Fn(&RelPath) -> bool) -> Result<Recovered, Error> {
    let mut done = Recovered::default();
    for batch in stage.trash().pending()? {
        done.returned += return_batch(stage, &batch, is_output);
        done.trashed.extend(batch.close()?);
    }
    done.trashed.sort_unstable();
    Ok(done)
}

fn return_batch(stage: &Stage, batch: &Batch, is_output: &dyn Fn(&RelPath) -> bool) -> usize {
    let root = RelPath::root();
    let children = read_folder(&batch.folder, &root).unwrap_or_default();
    let mut recovery = Recovery {
        stash: Folders::new(&batch.folder),
        tree: Folders::new(stage.root()),
        pending: children
            .into_iter()
            .map(|child| (child.path.clone(), child.path))
            .collect(),
        is_output,
        keeps_files: true,
    };
    recovery.run()
}

fn recover_stage(stage: &Stage) -> Result<usize, Error> {
    let Some(folder) = stage.existing()? else {
        return Ok(0);
    };
    let mut pending = Vec::new();
    for entry in Dir::read_from(&folder).map_err(stage.error("list entries"))? {
        let entry = entry.map_err(stage.error("list entries"))?;
        let name = entry.file_name().to_bytes();
        if let Some(path) = path_of_stashed(name) {
            pending.push((RelPath::root().child(name), path));
        }
    }
    let mut recovery = Recovery {
        stash: Folders::new(&folder),
        tree: Folders::new(stage.root()),
        pending,
        is_output: &|_| true,
        keeps_files: false,
    };
    let count = recovery.run();
    remove_all(stage, &folder).map_err(stage.error("remove files"))?;
    Ok(count)
}

struct Recovery<'a> {
    stash: Folders<'a>,
    tree: Folders<'a>,
    /// Pairs of a path in the stash and one in the tree.
    pending: Vec<(RelPath, RelPath)>,
    is_output: &'a dyn Fn(&RelPath) -> bool,
    /// Whether each file returns only if it is an output, and equal files are removed from
    /// the stash; otherwise folders return as a whole.
    keeps_files: bool,
}

impl Recovery<'_> {
    /// Moves entries back. Errors are ignored: the next build makes owned outputs again, and
    /// other files stay in the trash.
    fn run(&mut self) -> usize {
        let mut count = 0;
        while let Some((old, path)) = self.pending.pop() {
            let parent = old.parent().unwrap_or_default();
            let Ok(Some(parent)) = self.stash.open(&parent) else {
                continue;
            };
            let from = EntryAt::new(&*parent, old.name());
            match (self.kind_at(&path), kind(from)) {
                (None, Some(FileKind::Folder)) if self.keeps_files && self.go_into(&old, &path) => {
                }
                (None, Some(_)) if (self.is_output)(&path) => {
                    self.stash.forget(&old);
                    count += usize::from(move_back(from, &mut self.tree, &path).is_ok());
                }
                (Some(FileKind::Folder), Some(FileKind::Folder)) => {
                    self.go_into(&old, &path);
                }
                (Some(_), Some(_)) if self.keeps_files => self.remove_equal(from, &path),
                _ => {}
            }
        }
        count
    }

    /// Adds the entries of a stashed folder; false if it has none.
    fn go_into(&mut self, old: &RelPath, path: &RelPath) -> bool {
        let Ok(Some(folder)) = self.stash.open(old) else {
            return false;
        };
        let children = read_folder(&folder, old).unwrap_or_default();
        let has_children = !children.is_empty();
        for child in children {
            let path = path.child(child.path.name());
            self.pending.push((child.path, path));
        }
        has_children
    }

    /// Removes a file from the stash if the one in the tree is equal.
    fn remove_equal(&mut self, old: EntryAt<'_>, path: &RelPath) {
        if let Ok(Some(parent)) = self.tree.open(&path.parent().unwrap_or_default())
            && is_same(old, EntryAt::new(&*parent, path.name())).unwrap_or(false)
        {
            let _ = old.remove_file();
        }
    }

    /// Returns the kind of an entry of the tree; one that cannot be read counts as a file.
    fn kind_at(&mut self, path: &RelPath) -> Option<FileKind> {
        match self.tree.open(&path.parent().unwrap_or_default()) {
            Ok(None) => None,
            Err(_) => Some(FileKind::File),
            Ok(Some(parent)) => kind(EntryAt::new(&*parent, path.name())),
        }
    }
}

fn kind(entry: EntryAt<'_>) -> Option<FileKind> {
    match entry.stamp() {
        Ok(stamp) => stamp.map(|stamp| stamp.kind()),
        Err(_) => Some(FileKind::File),
    }
}
