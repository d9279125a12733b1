//! Reads and writes small binary files with a magic and a CRC-32 of the content. A file that
//! is truncated or damaged reads as missing.
//!
//! A file is written under a temporary name and renamed, or patched in place if little
//! changes. It is never flushed, because its content can be computed again.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::ops::Deref;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use tempfile::NamedTempFile;

/// The first bytes of a file: its format and version.
pub type Magic = [u8; 16];

/// The offset of the checksum.
const CRC: usize = size_of::<Magic>();
const HEADER: usize = CRC + 4;

/// The content of a file whose checksum matched.
#[derive(Default)]
pub struct CheckedFile {
    bytes: Vec<u8>,
}

impl Deref for CheckedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(HEADER..).unwrap_or_default()
    }
}

/// Reads a file; `None` if it is missing, of another format or version, or damaged.
pub fn read(file: &Path, magic: &Magic) -> Option<CheckedFile> {
    let bytes = std::fs::read(file).ok()?;
    let checked = bytes.strip_prefix(magic)?;
    let (crc, content) = checked.split_first_chunk::<4>()?;
    let is_whole = crc32fast::hash(content) == u32::from_le_bytes(*crc);
    is_whole.then_some(CheckedFile { bytes })
}

/// Returns the checksum in a file without verifying it.
pub fn checksum(file: &Path) -> Option<u32> {
    let mut header = [0; HEADER];
    std::fs::File::open(file)
        .ok()?
        .read_exact(&mut header)
        .ok()?;
    header.last_chunk::<4>().map(|crc| u32::from_le_bytes(*crc))
}

/// Overwrites parts of the content, given by offset, in memory and in the file it was read
/// from. A file that is only partly patched counts as damaged.
pub fn patch(
    file: &Path,
    checked: &mut CheckedFile,
    changes: &[(usize, Vec<u8>)],
) -> io::Result<()> {
    let file = open_to_patch(file, checked)?;
    for (at, bytes) in changes {
        let range = HEADER + at..HEADER + at + bytes.len();
        let part = checked
            .bytes
            .get_mut(range)
            .ok_or(io::ErrorKind::InvalidInput)?;
        part.copy_from_slice(bytes);
        file.write_all_at(bytes, (HEADER + at) as u64)?;
    }
    let crc = crc32fast::hash(checked);
    file.write_all_at(&crc.to_le_bytes(), CRC as u64)
}

/// Opens a file for patching. Refuses a link and a file of another length than was read.
fn open_to_patch(file: &Path, checked: &CheckedFile) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(file, flags, Mode::empty())?);
    if file.metadata()?.len() != checked.bytes.len() as u64 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(file)
}

/// Writes the concatenated `parts` as a file, atomically.
pub fn write(file: &Path, magic: &Magic, parts: &[&[u8]]) -> io::Result<()> {
    write_and_rename(file, magic, parts).map_err(system_error)
}

/// Returns the error of the system without the random name of a temporary file, so that the
/// same error has the same text each time.
pub fn system_error(error: io::Error) -> io::Error {
    if error.raw_os_error().is_some() {
        return error;
    }
    // `tempfile` keeps the error code only in the text.
    let text = error.to_string();
    let number = text.split_once("(os error ");
    let number = number.and_then(|(_, rest)| rest.split_once(')')?.0.parse().ok());
    number.map_or(error, io::Error::from_raw_os_error)
}

fn write_and_rename(file: &Path, magic: &Magic, parts: &[&[u8]]) -> io::Result<()> {
    let mut crc = crc32fast::Hasher::new();
    for part in parts {
        crc.update(part);
    }
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut temporary = NamedTempFile::new_in(folder)?;
    let mut out = io::BufWriter::with_capacity(256 * 1024, &mut temporary);
    out.write_all(magic)?;
    out.write_all(&crc.finalize().to_le_bytes())?;
    for part in parts {
        out.write_all(part)?;
    }
    out.flush()?;
    drop(out);
    replace(file, temporary)
}

/// Replaces `file` by a new one, atomically.
///
/// It exchanges the two and deletes the old one if possible: ext4 flushes a file that is
/// renamed over another, which takes longer than all other steps.
pub fn replace(file: &Path, new: NamedTempFile) -> io::Result<()> {
    let is_file = file.symlink_metadata().is_ok_and(|old| old.is_file());
    if is_file
        && rustix::fs::renameat_with(CWD, new.path(), CWD, file, RenameFlags::EXCHANGE).is_ok()
    {
        return new.close();
    }
    new.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: &Magic = b"fbuild-test   1\n";

    #[test]
    fn write_error_has_no_temporary_name() {
        let missing = Path::new("/nowhere/file");
        let error = write(missing, MAGIC, &[]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(2), "{error}");
    }

    #[test]
    fn write_replaces_a_file_and_leaves_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        for content in ["one", "another", "a third"] {
            write(&file, MAGIC, &[content.as_bytes()]).unwrap();
            assert_eq!(&*read(&file, MAGIC).unwrap(), content.as_bytes());
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn write_does_not_replace_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        write(&folder, MAGIC, &[]).unwrap_err();
        assert!(folder.is_dir());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn patch_does_not_follow_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        write(&file, MAGIC, &[b"some content"]).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        patch(
            &link,
            &mut read(&file, MAGIC).unwrap(),
            &[(0, b"S".to_vec())],
        )
        .unwrap_err();
        assert_eq!(&*read(&file, MAGIC).unwrap(), b"some content");
    }

    #[test]
    fn patch_changes_content_and_checksum() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        write(&file, MAGIC, &[b"some content"]).unwrap();
        let changes = [(0, b"S".to_vec()), (5, b"CONT".to_vec())];
        let mut checked = read(&file, MAGIC).unwrap();
        patch(&file, &mut checked, &changes).unwrap();
        assert_eq!(&*checked, b"Some CONTent");
        assert_eq!(&*read(&file, MAGIC).unwrap(), b"Some CONTent");
    }

    #[test]
    fn patch_of_another_file_or_past_the_end_fails() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        write(&file, MAGIC, &[b"some content"]).unwrap();
        let mut checked = read(&file, MAGIC).unwrap();
        patch(&file, &mut checked, &[(11, b"ts".to_vec())]).unwrap_err();
        write(&file, MAGIC, &[b"another content"]).unwrap();
        patch(&file, &mut checked, &[(0, b"S".to_vec())]).unwrap_err();
        assert_eq!(&*read(&file, MAGIC).unwrap(), b"another content");
    }

    #[test]
    fn truncated_or_changed_file_reads_as_missing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        assert!(read(&file, MAGIC).is_none());
        write(&file, MAGIC, &[b"some ", b"content"]).unwrap();
        assert_eq!(&*read(&file, MAGIC).unwrap(), b"some content");
        let whole = std::fs::read(&file).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x41;
            std::fs::write(&file, &bytes).unwrap();
            assert!(read(&file, MAGIC).is_none(), "byte {at}");
            std::fs::write(&file, &whole[..at]).unwrap();
            assert!(read(&file, MAGIC).is_none(), "truncated at {at}");
        }
    }
}
