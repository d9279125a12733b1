//! What a killed run left in the stage: old outputs go back where nothing has taken their
//! place, the rest goes away. Whether the outputs are then right is for the build to see.

use rustix::fs::Dir;

use super::at::Folders;
use super::list::read_folder;
use super::remove::remove_all;
use super::stage::{Place, place_of_old};
use super::stash::move_back;
use super::{Error, Stage};
use crate::path::RelPath;
use crate::stamp::FileKind;

/// Clears the stage of what a killed run left there, and returns how many old outputs
/// were put back. To be called under the lock of the tree, before anything is staged.
pub fn recover(stage: &Stage) -> Result<usize, Error> {
    let Some(folder) = stage.existing()? else {
        return Ok(0);
    };
    let mut old = Vec::new();
    for entry in Dir::read_from(&folder).map_err(stage.error("look"))? {
        let entry = entry.map_err(stage.error("look"))?;
        let name = entry.file_name().to_bytes();
        if let Some(place) = place_of_old(name) {
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
    /// Where things are in the stage, and where they belong.
    pending: Vec<(RelPath, RelPath)>,
}

impl Recovery<'_> {
    /// Puts back what can be: an output that cannot be is made again by the next build.
    fn run(&mut self) -> usize {
        let mut count = 0;
        while let Some((old, place)) = self.pending.pop() {
            let parent = old.parent().unwrap_or_default();
            let Ok(Some(parent)) = self.stage.open(&parent) else {
                continue;
            };
            let from = Place::new(&*parent, old.name());
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

    /// Says what stands in the tree; what cannot be looked at counts as a file in the way.
    fn kind_at(&mut self, path: &RelPath) -> Option<FileKind> {
        match self.tree.open(&path.parent().unwrap_or_default()) {
            Ok(None) => None,
            Err(_) => Some(FileKind::File),
            Ok(Some(parent)) => kind(Place::new(&*parent, path.name())),
        }
    }
}

fn kind(place: Place<'_>) -> Option<FileKind> {
    match place.stamp() {
        Ok(stamp) => stamp.map(|stamp| stamp.kind()),
        Err(_) => Some(FileKind::File),
    }
}
