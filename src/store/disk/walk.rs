//! Lists the folders of a store. It opens no object.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Dir, FileType, Mode, OFlags};

use super::layout::name;
use crate::digest::Digest;
use crate::stamp::{FileKind, Stamp};

/// An entry of a folder of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StoreEntry {
    /// A file with the name and place of an object.
    Object(Object),
    /// The path of anything else, below the folder.
    Foreign(Vec<u8>),
}

/// A file with the name of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Object {
    /// The hash in the name and the length of the file.
    pub(super) digest: Digest,
    /// The time of the last use, in nanoseconds since 1970.
    pub(super) mtime: i64,
}

/// Visits every entry of a folder of objects, unordered. Entries that disappear meanwhile
/// are skipped.
pub(super) fn walk(folder: &OwnedFd, visit: &mut dyn FnMut(StoreEntry)) -> io::Result<()> {
    each(folder, ".", &mut |entry_name, kind| {
        let is_shard = kind == FileType::Directory
            && entry_name.len() == 2
            && entry_name
                .iter()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match std::str::from_utf8(entry_name) {
            Ok(shard) if is_shard => walk_shard(folder, shard, visit),
            _ => {
                visit(StoreEntry::Foreign(entry_name.to_vec()));
                Ok(())
            }
        }
    })
}

fn walk_shard(folder: &OwnedFd, shard: &str, visit: &mut dyn FnMut(StoreEntry)) -> io::Result<()> {
    each(folder, shard, &mut |entry_name, _| {
        let path = [shard.as_bytes(), b"/", entry_name].concat();
        match look(folder, &path)? {
            Lookup::Gone => {}
            Lookup::Object(object) => visit(StoreEntry::Object(object)),
            Lookup::Foreign => visit(StoreEntry::Foreign(path)),
        }
        Ok(())
    })
}

enum Lookup {
    Object(Object),
    Foreign,
    Gone,
}

fn look(folder: &OwnedFd, path: &[u8]) -> io::Result<Lookup> {
    let Ok(text) = std::str::from_utf8(path) else {
        return Ok(Lookup::Foreign);
    };
    let Some(stamp) = Stamp::at(folder, text)? else {
        return Ok(Lookup::Gone);
    };
    let digest = format!("{}/{}", &text[3..], stamp.size).parse::<Digest>();
    match digest {
        Ok(digest) if stamp.kind() == FileKind::File && name(&digest) == text => {
            let mtime = stamp.mtime;
            Ok(Lookup::Object(Object { digest, mtime }))
        }
        _ => Ok(Lookup::Foreign),
    }
}

/// Calls `visit` with the name and kind of every entry of a folder.
pub(super) fn each(
    at: &OwnedFd,
    folder: &str,
    visit: &mut dyn FnMut(&[u8], FileType) -> io::Result<()>,
) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(at, folder, flags, Mode::empty())?;
    for entry in Dir::new(folder)? {
        let entry = entry?;
        let entry_name: &CStr = entry.file_name();
        let bytes = entry_name.to_bytes();
        if !matches!(bytes, b"." | b"..") {
            visit(bytes, entry.file_type())?;
        }
    }
    Ok(())
}
