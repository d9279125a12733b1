//! Small binary files that are either whole or not there: a magic, a CRC-32 of the rest,
//! the rest. Written beside their place and renamed into it, never flushed: they hold
//! what can be found out again. It does not know what the rest means.

use crate::sabotage::{self, Bug};
use std::io::{self, Read as _, Write as _};
use std::ops::Deref;
use std::path::Path;

/// What a file begins with: its format and that format's version.
pub type Magic = [u8; 16];

const HEADER: usize = 16 + 4;

/// The checked content of a sealed file.
#[derive(Default)]
pub struct Sealed {
    bytes: Vec<u8>,
}

impl Deref for Sealed {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(HEADER..).unwrap_or_default()
    }
}

/// Reads a sealed file; `None` if it is missing, of another format or version, or damaged.
pub fn read(file: &Path, magic: &Magic) -> Option<Sealed> {
    let bytes = std::fs::read(file).ok()?;
    let checked = bytes.strip_prefix(magic)?;
    let (crc, content) = checked.split_first_chunk::<4>()?;
    let is_whole = crc32fast::hash(content) == u32::from_le_bytes(*crc);
    (is_whole || sabotage::is(Bug::SealsUnchecked)).then_some(Sealed { bytes })
}

/// Returns the checksum that a sealed file says it has. Nothing is checked.
pub fn checksum(file: &Path) -> Option<u32> {
    let mut header = [0; HEADER];
    std::fs::File::open(file)
        .ok()?
        .read_exact(&mut header)
        .ok()?;
    header.last_chunk::<4>().map(|crc| u32::from_le_bytes(*crc))
}

/// Writes `parts`, one after another, as a sealed file.
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
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    let mut out = io::BufWriter::with_capacity(256 * 1024, &mut temporary);
    out.write_all(magic)?;
    out.write_all(&crc.finalize().to_le_bytes())?;
    for part in parts {
        out.write_all(part)?;
    }
    out.flush()?;
    drop(out);
    temporary.persist(file)?;
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
