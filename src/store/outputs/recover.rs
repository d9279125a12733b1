//! What a killed run left in the stage: old outputs go back where nothing has taken their
//! place, the rest goes away. Whether the outputs are then right is for the build to see.

use std::os::fd::OwnedFd;

use rustix::fs::Dir;

use super::aside::move_back;
use super::at::{Folders, open_child};
use super::list::{Found, Kind, read_folder};
use super::remove::remove_all;
use super::stage::Place;
use super::{Error, Stage};
use crate::path::RelPath;

/// Clears the stage of what a killed run left there, and returns how many old outputs
/// were put back. To be called under the lock of the tree, before anything is staged.
pub fn recover(stage: &Stage) -> Result<usize, Error> {
    let Some(folder) = stage.existing()? else {
        return Ok(0);
    };
    let mut count = 0;
    let names = Dir::read_from(&folder).map_err(stage.error("look"))?;
    for entry in names {
        let entry = entry.map_err(stage.error("look"))?;
        let name = entry.file_name().to_bytes();
        if name.starts_with(b"old-") {
            let old = open_child(&folder, name).map_err(stage.error("look"))?;
            count += put_back(stage, &old);
        }
    }
    remove_all(stage, &folder).map_err(stage.error("remove files"))?;
    Ok(count)
}

/// Puts back what can be: an output that cannot be is made again by the next build.
fn put_back(stage: &Stage, old: &OwnedFd) -> usize {
    let mut mirror = Folders::new(old);
    let mut folders = Folders::new(stage.root());
    let mut count = 0;
    let mut pending = vec![RelPath::root()];
    while let Some(path) = pending.pop() {
        let Ok(Some(folder)) = mirror.open(&path) else {
            continue;
        };
        for child in read_folder(&folder, &path).unwrap_or_default() {
            match stands_there(&mut folders, &child.path) {
                Some(Kind::Folder) if child.kind == Kind::Folder => pending.push(child.path),
                Some(_) => {}
                None => {
                    mirror.forget(&child.path);
                    count += usize::from(put_one_back(&mut mirror, &mut folders, &child));
                }
            }
        }
    }
    count
}

fn put_one_back(mirror: &mut Folders<'_>, folders: &mut Folders<'_>, child: &Found) -> bool {
    move_back(mirror, folders, &child.path).is_ok()
}

/// Says what stands in the tree; what cannot be looked at counts as a file in the way.
fn stands_there(folders: &mut Folders<'_>, path: &RelPath) -> Option<Kind> {
    match folders.open(&path.parent().unwrap_or_default()) {
        Ok(None) => None,
        Err(_) => Some(Kind::File),
        Ok(Some(parent)) => match Place::new(&*parent, path.name()).stamp() {
            Ok(stamp) => stamp.map(|stamp| Kind::of(stamp.kind())),
            Err(_) => Some(Kind::File),
        },
    }
}
