//! What is in the folders of a store, found by listing them. It opens no object and
//! removes none.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Dir, FileType, Mode, OFlags};

use super::layout::name;
use crate::digest::Digest;
use crate::stamp::{FileKind, Stamp};

/// Something in a folder of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// A file with the name of an object in the right place.
    Object(Object),
    /// Anything else, by its path below the folder, as bytes.
    Foreign(Vec<u8>),
}

/// A file with the name of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Object {
    /// The hash that the name says, and the length that the file has.
    pub(super) digest: Digest,
    /// When it was last changed or marked as used, in nanoseconds since 1970.
    pub(super) mtime: i64,
}

/// Visits everything in a folder of objects, in no order. What vanishes meanwhile is not met.
pub(super) fn walk(folder: &OwnedFd, visit: &mut dyn FnMut(Met)) -> io::Result<()> {
    each(folder, ".", &mut |entry_name, kind| {
        let is_shard = kind == FileType::Directory
            && entry_name.len() == 2
            && entry_name
                .iter()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match std::str::from_utf8(entry_name) {
            Ok(shard) if is_shard => walk_shard(folder, shard, visit),
            _ => {
                visit(Met::Foreign(entry_name.to_vec()));
                Ok(())
            }
        }
    })
}

fn walk_shard(folder: &OwnedFd, shard: &str, visit: &mut dyn FnMut(Met)) -> io::Result<()> {
    each(folder, shard, &mut |entry_name, _| {
        let path = [shard.as_bytes(), b"/", entry_name].concat();
        match look(folder, &path)? {
            Looked::Gone => {}
            Looked::Object(object) => visit(Met::Object(object)),
            Looked::Foreign => visit(Met::Foreign(path)),
        }
        Ok(())
    })
}

enum Looked {
    Object(Object),
    Foreign,
    Gone,
}

fn look(folder: &OwnedFd, path: &[u8]) -> io::Result<Looked> {
    let Ok(text) = std::str::from_utf8(path) else {
        return Ok(Looked::Foreign);
    };
    let Some(stamp) = Stamp::at(folder, text)? else {
        return Ok(Looked::Gone);
    };
    let digest = format!("{}/{}", &text[3..], stamp.size).parse::<Digest>();
    match digest {
        Ok(digest) if stamp.kind() == FileKind::File && name(&digest) == text => {
            let mtime = stamp.mtime;
            Ok(Looked::Object(Object { digest, mtime }))
        }
        _ => Ok(Looked::Foreign),
    }
}

/// Calls `visit` with the name and kind of everything in a folder.
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
