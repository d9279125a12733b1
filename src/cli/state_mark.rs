//! Tells a state folder of fbuild from a folder of the user, in which fbuild must neither
//! write nor delete.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use super::context::Context;
use super::failure::Failure;
use crate::store::disk;

/// The file that marks a state folder, which backup programs also look for.
const MARK: &str = "CACHEDIR.TAG";
/// The names in a state folder besides those of a store.
const NAMES: [&str; 11] = [
    "run.lock",
    "index",
    "state",
    "snapshot",
    "graph",
    "nodes",
    "metadata",
    "runs",
    "stage",
    "tmp",
    "checkouts",
];

/// Refuses a state folder that is a link, or has content and is not marked as fbuild's.
pub(super) fn check(context: &Context, state: &Path) -> Result<(), Failure> {
    let Ok(metadata) = state.symlink_metadata() else {
        return Ok(());
    };
    let shown = context.shown(state).display().to_string();
    if metadata.is_symlink() {
        return Err(Failure::in_the_way(format!(
            "`{shown}` is a symbolic link, and fbuild would delete files behind it"
        ))
        .with_help(
            "remove the link; `cache dir=\"…\"` in the Buildfile puts results into another folder",
        ));
    }
    if !metadata.is_dir() || has_mark(state) {
        return Ok(());
    }
    let entries = std::fs::read_dir(state).into_iter().flatten().flatten();
    let foreign = entries
        .map(|entry| entry.file_name())
        .find(|name| !is_own(name));
    let Some(name) = foreign else { return Ok(()) };
    let name = name.display();
    Err(Failure::in_the_way(format!(
        "`{shown}` is not a folder of fbuild: it has `{name}`, which fbuild did not make"
    ))
    .with_help(format!("move `{shown}` elsewhere; fbuild makes its own")))
}

/// Returns true if fbuild makes an entry of this name in a state folder.
pub(super) fn is_own(name: &OsStr) -> bool {
    NAMES.iter().any(|own| name == *own)
        || disk::is_own_name(name)
        // A file that a killed run has left before its rename.
        || name.as_encoded_bytes().starts_with(b".tmp")
}

/// Marks a state folder.
pub(super) fn write(state: &Path) -> io::Result<()> {
    match File::create_new(state.join(MARK)) {
        Ok(mut file) => file.write_all(disk::TAG.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn has_mark(state: &Path) -> bool {
    let mark = state.join(MARK);
    let is_small = mark
        .symlink_metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.len() < 1024);
    is_small && std::fs::read(mark).is_ok_and(|text| text == disk::TAG.as_bytes())
}
