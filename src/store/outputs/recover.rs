//! Recovers from a killed run: moves stashed outputs back to their paths, if those are free,
//! and removes all other files in the stage. The build then checks the outputs.

use rustix::fs::Dir;

use super::dirs::Folders;
use super::list::read_folder;
use super::remove::remove_all;
use super::stage::{EntryAt, path_of_stashed};
use super::stash::move_back;
use super::{Error, Stage};
use crate::path::RelPath;
use crate::stamp::FileKind;

/// Empties the stage and returns the number of outputs moved back. The caller holds the
/// lock of the tree and has staged nothing.
pub fn recover(stage: &Stage) -> Result<usize, Error> {
    let Some(folder) = stage.existing()? else {
        return Ok(0);
    };
    let mut old = Vec::new();
    for entry in Dir::read_from(&folder).map_err(stage.error("list entries"))? {
        let entry = entry.map_err(stage.error("list entries"))?;
        let name = entry.file_name().to_bytes();
        if let Some(place) = path_of_stashed(name) {
            old.push((RelPath::root().child(name), place));
        }
    }
    let mut recovery = Recovery {
        stage: Folders::new(&folder),
        tree: Folders::new(stage.root()),
        pending: old,
    };
    let count = recovery.run();
    remove_all(stage, &folder).map_err(stage.error("remove files"))?;
    Ok(count)
}

struct Recovery<'a> {
    stage: Folders<'a>,
    tree: Folders<'a>,
    /// Pairs of a path in the stage and one in the tree.
    pending: Vec<(RelPath, RelPath)>,
}

impl Recovery<'_> {
    /// Moves outputs back. Errors are ignored: the next build makes those outputs again.
    fn run(&mut self) -> usize {
        let mut count = 0;
        while let Some((old, place)) = self.pending.pop() {
            let parent = old.parent().unwrap_or_default();
            let Ok(Some(parent)) = self.stage.open(&parent) else {
                continue;
            };
            let from = EntryAt::new(&*parent, old.name());
            match (self.kind_at(&place), kind(from)) {
                (None, Some(_)) => {
                    self.stage.forget(&old);
                    count += usize::from(move_back(from, &mut self.tree, &place).is_ok());
                }
                (Some(FileKind::Folder), Some(FileKind::Folder)) => self.go_into(&old, &place),
                _ => {}
            }
        }
        count
    }

    fn go_into(&mut self, old: &RelPath, place: &RelPath) {
        let Ok(Some(folder)) = self.stage.open(old) else {
            return;
        };
        for child in read_folder(&folder, old).unwrap_or_default() {
            let place = place.child(child.path.name());
            self.pending.push((child.path, place));
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

fn kind(place: EntryAt<'_>) -> Option<FileKind> {
    match place.stamp() {
        Ok(stamp) => stamp.map(|stamp| stamp.kind()),
        Err(_) => Some(FileKind::File),
    }
}
