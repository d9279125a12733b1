//! Small binary files that are either whole or not there: a magic, a CRC-32 of the rest,
//! the rest. Written beside their place and then put there (or, where a little changes,
//! changed where they are), never flushed: they hold what can be found out again. It does
//! not know what the rest means.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::ops::Deref;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use tempfile::NamedTempFile;

/// What a file begins with: its format and that format's version.
pub type Magic = [u8; 16];

/// Where the checksum stands.
const CRC: usize = size_of::<Magic>();
const HEADER: usize = CRC + 4;

/// The checked content of a checked file.
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

/// Reads a checked file; `None` if it is missing, of another format or version, or damaged.
pub fn read(file: &Path, magic: &Magic) -> Option<CheckedFile> {
    let bytes = std::fs::read(file).ok()?;
    let checked = bytes.strip_prefix(magic)?;
    let (crc, content) = checked.split_first_chunk::<4>()?;
    let is_whole = crc32fast::hash(content) == u32::from_le_bytes(*crc);
    is_whole.then_some(CheckedFile { bytes })
}

/// Returns the checksum that a checked file says it has. Nothing is checked.
pub fn checksum(file: &Path) -> Option<u32> {
    let mut header = [0; HEADER];
    std::fs::File::open(file)
        .ok()?
        .read_exact(&mut header)
        .ok()?;
    header.last_chunk::<4>().map(|crc| u32::from_le_bytes(*crc))
}

/// Writes each of `changes` over what stands at its place in the content, here and in the
/// file, which is the one that was read. One that is left half done counts as damaged.
pub fn patch(
    file: &Path,
    checked: &mut CheckedFile,
    changes: &[(usize, Vec<u8>)],
) -> io::Result<()> {
    let file = open_to_patch(file, checked)?;
    for (at, bytes) in changes {
        let range = HEADER + at..HEADER + at + bytes.len();
        let place = checked
            .bytes
            .get_mut(range)
            .ok_or(io::ErrorKind::InvalidInput)?;
        place.copy_from_slice(bytes);
        file.write_all_at(bytes, (HEADER + at) as u64)?;
    }
    let crc = crc32fast::hash(checked);
    file.write_all_at(&crc.to_le_bytes(), CRC as u64)
}

/// Opens a file to change what is in it: never through a link, nor another than was read.
fn open_to_patch(file: &Path, checked: &CheckedFile) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(file, flags, Mode::empty())?);
    match file.metadata()?.len() == checked.bytes.len() as u64 {
        true => Ok(file),
        false => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Writes `parts`, one after another, as a checked file.
pub fn write(file: &Path, magic: &Magic, parts: &[&[u8]]) -> io::Result<()> {
    write_aside(file, magic, parts).map_err(said_by_system)
}

/// Returns what the system said, without the random name of a temporary file, which tells
/// nobody anything and makes the same trouble look different each time.
pub fn said_by_system(error: io::Error) -> io::Error {
    if error.raw_os_error().is_some() {
        return error;
    }
    // What it said is kept as text only.
    let text = error.to_string();
    let number = text.split_once("(os error ");
    let number = number.and_then(|(_, rest)| rest.split_once(')')?.0.parse().ok());
    number.map_or(error, io::Error::from_raw_os_error)
}

fn write_aside(file: &Path, magic: &Magic, parts: &[&[u8]]) -> io::Result<()> {
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
    put(temporary, file)
}

/// Puts a new file where another may be, at once. The two change places where that can be
/// done, and the old one is deleted: ext4 would write out at once a file that is renamed over
/// another, which takes longer than all the rest.
pub fn put(new: NamedTempFile, place: &Path) -> io::Result<()> {
    let is_file = place.symlink_metadata().is_ok_and(|old| old.is_file());
    if is_file
        && rustix::fs::renameat_with(CWD, new.path(), CWD, place, RenameFlags::EXCHANGE).is_ok()
    {
        return new.close();
    }
    new.persist(place)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: &Magic = b"fbuild-test   1\n";

    #[test]
    fn the_same_trouble_is_said_in_the_same_words_each_time() {
        let missing = Path::new("/nowhere/file");
        let error = write(missing, MAGIC, &[]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(2), "{error}");
    }

    #[test]
    fn a_file_takes_the_place_of_another_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        for content in ["one", "another", "a third"] {
            write(&file, MAGIC, &[content.as_bytes()]).unwrap();
            assert_eq!(&*read(&file, MAGIC).unwrap(), content.as_bytes());
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        }
        let folder = dir.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        write(&folder, MAGIC, &[]).unwrap_err();
        assert!(folder.is_dir());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_change_is_there_and_the_file_is_whole_and_a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        write(&file, MAGIC, &[b"some content"]).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        let changes = [(0, b"S".to_vec()), (5, b"CONT".to_vec())];
        patch(&link, &mut read(&file, MAGIC).unwrap(), &changes).unwrap_err();
        assert_eq!(&*read(&file, MAGIC).unwrap(), b"some content");
        let mut checked = read(&file, MAGIC).unwrap();
        patch(&file, &mut checked, &changes).unwrap();
        assert_eq!(&*checked, b"Some CONTent");
        assert_eq!(&*read(&file, MAGIC).unwrap(), b"Some CONTent");
    }

    #[test]
    fn a_change_of_another_file_or_beyond_the_end_is_refused() {
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
    fn a_file_cut_or_changed_anywhere_is_not_there() {
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
            assert!(read(&file, MAGIC).is_none(), "cut at {at}");
        }
    }
}
