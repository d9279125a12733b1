//! Reads and writes small binary files that only the owner of a key can have written. A file
//! that is truncated, damaged or from elsewhere reads as missing.
//!
//! ```text
//! magic 16 | nonce 16 | content length u64 | proof 16 | code 16 | content
//! ```
//!
//! The proof authenticates the header, so that the content of a foreign file, however long, is
//! never read. The code authenticates the content. Both depend on the key and the nonce, and a
//! nonce is used once.
//!
//! A file is written under a temporary name and renamed, or patched in place if little
//! changes. It is never flushed, because its content can be computed again.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::ops::Deref;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use tempfile::NamedTempFile;

use crate::digest::{Key, OneTimeMac, random};

/// The first bytes of a file: its format and version.
pub type Magic = [u8; 16];

/// A random number that identifies one content of a file.
pub type Nonce = [u8; 16];

const LENGTH: usize = size_of::<Magic>() + size_of::<Nonce>();
const PROOF: usize = LENGTH + size_of::<u64>();
const CODE: usize = PROOF + 16;
const HEADER: usize = CODE + 16;

/// The place of a file and the key that authenticates it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateFile {
    path: PathBuf,
    key: Key,
}

impl StateFile {
    /// Names a file. Files in different roles need different keys or magics.
    pub const fn new(path: PathBuf, key: Key) -> Self {
        Self { path, key }
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the header of a content.
    fn header(&self, magic: &Magic, parts: &[&[u8]]) -> io::Result<Header> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let mut header = [0; HEADER];
        header[..size_of::<Magic>()].copy_from_slice(magic);
        header[size_of::<Magic>()..LENGTH].copy_from_slice(&random::<16>()?);
        header[LENGTH..PROOF].copy_from_slice(&(length as u64).to_le_bytes());
        let proof = self.proof(&header);
        header[PROOF..CODE].copy_from_slice(&proof);
        let mut code = self.code(&header);
        for part in parts {
            code.update(part);
        }
        header[CODE..].copy_from_slice(&code.finish());
        Ok(header)
    }

    /// Returns the authentication code of everything before the proof.
    fn proof(&self, header: &Header) -> [u8; 16] {
        let code = self.key.mac(&[b"header", &header[..PROOF]]);
        let mut proof = [0; 16];
        proof.copy_from_slice(&code[..16]);
        proof
    }

    /// Starts the authentication code of the content.
    fn code(&self, header: &Header) -> OneTimeMac {
        OneTimeMac::new(self.key.derive(&[b"content", &header[..PROOF]]))
    }
}

type Header = [u8; HEADER];

/// The content of a file that was authenticated.
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

/// Reads a file; `None` if it is missing, of another format or version, damaged, or was not
/// written with the key.
pub fn read(file: &StateFile, magic: &Magic) -> Option<CheckedFile> {
    let opened = open(&file.path)?;
    let size = usize::try_from(opened.metadata().ok()?.len()).ok()?;
    let header = read_header(&opened)?;
    let is_ours = header.starts_with(magic)
        && header[LENGTH..PROOF] == (size.checked_sub(HEADER)? as u64).to_le_bytes()
        && header[PROOF..CODE] == file.proof(&header);
    if !is_ours {
        return None;
    }
    let mut bytes = Vec::with_capacity(size);
    bytes.extend_from_slice(&header);
    // One byte more than expected reveals a file that is growing.
    let mut rest = opened.take((size - HEADER) as u64 + 1);
    rest.read_to_end(&mut bytes).ok()?;
    let mut code = file.code(&header);
    code.update(&bytes[HEADER..]);
    let is_whole = bytes.len() == size && code.finish() == header[CODE..];
    is_whole.then_some(CheckedFile { bytes })
}

/// Returns the nonce of a file without verifying anything else.
pub fn nonce(file: &StateFile) -> Option<Nonce> {
    let header = read_header(&open(&file.path)?)?;
    header[size_of::<Magic>()..LENGTH].try_into().ok()
}

fn read_header(mut file: &File) -> Option<Header> {
    let mut header = [0; HEADER];
    file.read_exact(&mut header).ok()?;
    Some(header)
}

/// Opens a regular file that belongs to this user and that no other user can write to. Does
/// not follow a link or wait for a pipe.
pub fn open(path: &Path) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    let found = file.metadata().ok()?;
    (found.is_file() && is_mine(&found) && !is_shared(&found)).then_some(file)
}

/// Returns true if a file belongs to this user.
pub fn is_mine(found: &Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw()
}

/// Returns true if other users can write to a file.
pub fn is_shared(found: &Metadata) -> bool {
    found.mode() & 0o022 != 0
}

/// Overwrites parts of the content, given by offset, in memory and in the file it was read
/// from. A file that is only partly patched counts as damaged.
pub fn patch(
    file: &StateFile,
    checked: &mut CheckedFile,
    changes: &[(usize, Vec<u8>)],
) -> io::Result<()> {
    let opened = open_to_patch(&file.path, checked)?;
    for (at, bytes) in changes {
        let range = HEADER + at..HEADER + at + bytes.len();
        let part = checked
            .bytes
            .get_mut(range)
            .ok_or(io::ErrorKind::InvalidInput)?;
        part.copy_from_slice(bytes);
        opened.write_all_at(bytes, (HEADER + at) as u64)?;
    }
    let (old, content) = checked
        .bytes
        .split_first_chunk_mut::<HEADER>()
        .ok_or(io::ErrorKind::InvalidInput)?;
    let mut magic = Magic::default();
    magic.copy_from_slice(&old[..size_of::<Magic>()]);
    *old = file.header(&magic, &[content])?;
    opened.write_all_at(&*old, 0)
}

/// Opens a file for patching. Refuses a link and a file of another length than was read.
fn open_to_patch(file: &Path, checked: &CheckedFile) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(file, flags, Mode::empty())?);
    let found = file.metadata()?;
    if !found.is_file() || found.len() != checked.bytes.len() as u64 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(file)
}

/// Writes the concatenated `parts` as a file, atomically.
pub fn write(file: &StateFile, magic: &Magic, parts: &[&[u8]]) -> io::Result<()> {
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

fn write_and_rename(file: &StateFile, magic: &Magic, parts: &[&[u8]]) -> io::Result<()> {
    let header = file.header(magic, parts)?;
    let folder = file.path.parent().unwrap_or(Path::new("."));
    let mut temporary = NamedTempFile::new_in(folder)?;
    let mut out = io::BufWriter::with_capacity(256 * 1024, &mut temporary);
    out.write_all(&header)?;
    for part in parts {
        out.write_all(part)?;
    }
    out.flush()?;
    drop(out);
    replace(&file.path, temporary)
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
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    const MAGIC: &Magic = b"fbuild-test   1\n";

    /// A folder with a state file named `file`.
    struct Place {
        dir: tempfile::TempDir,
        file: StateFile,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let file = StateFile::new(dir.path().join("file"), Key::new([5; 32]));
            Self { dir, file }
        }

        fn sibling(&self, name: &str) -> StateFile {
            StateFile::new(self.dir.path().join(name), self.file.key.clone())
        }

        fn write(&self, content: &[u8]) {
            write(&self.file, MAGIC, &[content]).unwrap();
        }

        fn content(&self) -> Option<Vec<u8>> {
            read(&self.file, MAGIC).map(|checked| checked.to_vec())
        }

        fn count(&self) -> usize {
            fs::read_dir(self.dir.path()).unwrap().count()
        }
    }

    #[test]
    fn write_error_has_no_temporary_name() {
        let missing = StateFile::new("/nowhere/file".into(), Key::new([5; 32]));
        let error = write(&missing, MAGIC, &[]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(2), "{error}");
    }

    #[test]
    fn write_replaces_a_file_and_leaves_no_other() {
        let place = Place::new();
        for content in ["one", "another", "a third"] {
            place.write(content.as_bytes());
            assert_eq!(place.content().unwrap(), content.as_bytes());
            assert_eq!(place.count(), 1);
        }
    }

    #[test]
    fn write_does_not_replace_a_folder() {
        let place = Place::new();
        fs::create_dir(place.file.path()).unwrap();
        write(&place.file, MAGIC, &[]).unwrap_err();
        assert!(place.file.path().is_dir());
        assert_eq!(place.count(), 1);
    }

    #[test]
    fn patch_does_not_follow_a_link() {
        let place = Place::new();
        place.write(b"some content");
        symlink("file", place.sibling("link").path()).unwrap();
        let mut checked = read(&place.file, MAGIC).unwrap();
        let changes = [(0, b"S".to_vec())];
        patch(&place.sibling("link"), &mut checked, &changes).unwrap_err();
        assert_eq!(place.content().unwrap(), b"some content");
    }

    #[test]
    fn patch_changes_content_and_nonce() {
        let place = Place::new();
        place.write(b"some content");
        let before = nonce(&place.file).unwrap();
        let changes = [(0, b"S".to_vec()), (5, b"CONT".to_vec())];
        let mut checked = read(&place.file, MAGIC).unwrap();
        patch(&place.file, &mut checked, &changes).unwrap();
        assert_eq!(&*checked, b"Some CONTent");
        assert_eq!(place.content().unwrap(), b"Some CONTent");
        assert_ne!(nonce(&place.file).unwrap(), before);
        // The header in memory is current, too.
        patch(&place.file, &mut checked, &[(0, b"s".to_vec())]).unwrap();
        assert_eq!(place.content().unwrap(), b"some CONTent");
    }

    #[test]
    fn patch_of_another_file_or_past_the_end_fails() {
        let place = Place::new();
        place.write(b"some content");
        let mut checked = read(&place.file, MAGIC).unwrap();
        patch(&place.file, &mut checked, &[(11, b"ts".to_vec())]).unwrap_err();
        place.write(b"another content");
        patch(&place.file, &mut checked, &[(0, b"S".to_vec())]).unwrap_err();
        assert_eq!(place.content().unwrap(), b"another content");
    }

    #[test]
    fn truncated_or_changed_file_reads_as_missing() {
        let place = Place::new();
        assert!(place.content().is_none());
        write(&place.file, MAGIC, &[b"some ", b"content"]).unwrap();
        assert_eq!(place.content().unwrap(), b"some content");
        let whole = fs::read(place.file.path()).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x41;
            fs::write(place.file.path(), &bytes).unwrap();
            assert!(place.content().is_none(), "byte {at}");
            fs::write(place.file.path(), &whole[..at]).unwrap();
            assert!(place.content().is_none(), "truncated at {at}");
        }
        fs::write(place.file.path(), [&whole[..], b"x"].concat()).unwrap();
        assert!(place.content().is_none());
    }

    #[test]
    fn file_of_another_key_or_magic_reads_as_missing() {
        let place = Place::new();
        place.write(b"content");
        let other = StateFile::new(place.file.path.clone(), Key::new([6; 32]));
        assert!(read(&other, MAGIC).is_none());
        assert!(read(&place.file, b"fbuild-other  1\n").is_none());
        assert!(place.content().is_some());
    }

    #[test]
    fn equal_contents_have_different_headers() {
        let place = Place::new();
        place.write(b"content");
        let first = fs::read(place.file.path()).unwrap();
        place.write(b"content");
        let second = fs::read(place.file.path()).unwrap();
        assert_ne!(first[..HEADER], second[..HEADER]);
        // The content of one does not go with the header of the other.
        let mut mixed = second;
        mixed[CODE..].copy_from_slice(&first[CODE..]);
        fs::write(place.file.path(), mixed).unwrap();
        assert!(place.content().is_none());
    }

    #[test]
    fn file_that_others_can_write_to_reads_as_missing() {
        let place = Place::new();
        place.write(b"content");
        for (mode, is_read) in [(0o644, true), (0o620, false), (0o602, false), (0o400, true)] {
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(place.file.path(), mode).unwrap();
            assert_eq!(place.content().is_some(), is_read);
            assert_eq!(nonce(&place.file).is_some(), is_read);
        }
    }

    #[test]
    fn link_pipe_and_device_read_as_missing() {
        let place = Place::new();
        place.write(b"content");
        let target = place.dir.path().join("target");
        fs::rename(place.file.path(), &target).unwrap();
        for target in [target.as_path(), Path::new("/dev/zero")] {
            symlink(target, place.file.path()).unwrap();
            assert!(place.content().is_none() && nonce(&place.file).is_none());
            fs::remove_file(place.file.path()).unwrap();
        }
        let (kind, mode) = (rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR);
        rustix::fs::mknodat(CWD, place.file.path(), kind, mode, 0).unwrap();
        assert!(place.content().is_none() && nonce(&place.file).is_none());
        assert!(
            read(
                &StateFile::new("/dev/zero".into(), Key::new([5; 32])),
                MAGIC
            )
            .is_none()
        );
    }

    #[test]
    fn huge_foreign_file_is_not_read() {
        let place = Place::new();
        place.write(b"content");
        let file = File::options().write(true).open(place.file.path()).unwrap();
        // A hole that would not fit into memory.
        file.set_len(1 << 43).unwrap();
        assert!(place.content().is_none());
    }
}
