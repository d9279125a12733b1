//! Finds the files that version control tracks: by reading git's index, without running git.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::path::RelPath;

/// The maximum size of an index that is read, in bytes: millions of files.
const MAX_INDEX: u64 = 1 << 30;
/// The maximum length of a path in an index.
const MAX_PATH: u64 = 1 << 16;
/// The lengths of the hashes that git uses: SHA-1 and SHA-256.
const HASHES: [usize; 2] = [20, 32];

/// Returns true if git tracks `path`, or a file below it. An index that cannot be read counts
/// as one without entries.
pub fn is_tracked(path: &Path) -> bool {
    let Some((tree, git)) = path.parent().and_then(find_repository) else {
        return false;
    };
    let Ok(below) = path.strip_prefix(tree) else {
        return false;
    };
    let wanted = below.as_os_str().as_bytes();
    // The index does not name its hash: of the wrong length, entries are malformed.
    HASHES
        .into_iter()
        .any(|hash| has_entry(&git.join("index"), hash, wanted).unwrap_or(false))
}

/// Returns the files that git tracks below a root, sorted by bytes. An index that cannot be read
/// counts as one without entries.
pub fn tracked_files(root: &Path) -> Vec<RelPath> {
    let Some((tree, git)) = find_repository(root) else {
        return Vec::new();
    };
    let below = root.strip_prefix(tree).unwrap_or(Path::new(""));
    let below = below.as_os_str().as_bytes();
    let read = |hash| {
        let mut files = Vec::new();
        let visit = &mut |name: &[u8]| {
            files.extend(path_below(name, below));
            ControlFlow::Continue(())
        };
        visit_entries(&git.join("index"), hash, visit).map(|()| files)
    };
    let mut found = HASHES.into_iter().filter_map(|hash| read(hash).ok());
    found.next().unwrap_or_default()
}

/// Returns the part of a path below a folder, if it is there.
fn path_below(name: &[u8], folder: &[u8]) -> Option<RelPath> {
    let rest = name.strip_prefix(folder)?;
    let rest = if folder.is_empty() {
        rest
    } else {
        rest.strip_prefix(b"/")?
    };
    RelPath::new(rest).ok()
}

/// Returns the nearest work tree at or above `folder`, and its git folder.
fn find_repository(folder: &Path) -> Option<(&Path, PathBuf)> {
    folder.ancestors().find_map(|tree| {
        let git = tree.join(".git");
        let found = git.symlink_metadata().ok()?;
        if found.is_dir() {
            return Some((tree, git));
        }
        // In worktrees and submodules it is a file that names the folder.
        let text = read_start(&git).ok()?;
        let named = text.strip_prefix("gitdir:")?.trim();
        Some((tree, tree.join(named)))
    })
}

fn read_start(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(file)?.take(MAX_PATH).read_to_string(&mut text)?;
    Ok(text)
}

/// Opens a regular file without waiting for a pipe.
fn open(path: &Path) -> io::Result<File> {
    if !path.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    File::open(path)
}

/// Returns true if an index has an entry for `wanted` or for a path below it.
fn has_entry(index: &Path, hash: usize, wanted: &[u8]) -> io::Result<bool> {
    let mut is_found = false;
    let visit = &mut |name: &[u8]| match compare(name, wanted) {
        Ordering::Less => ControlFlow::Continue(()),
        Ordering::Equal => {
            is_found = true;
            ControlFlow::Break(())
        }
        // Entries are sorted.
        Ordering::Greater => ControlFlow::Break(()),
    };
    visit_entries(index, hash, visit)?;
    Ok(is_found)
}

/// Reads the paths of an index until `visit` breaks.
fn visit_entries(
    index: &Path,
    hash: usize,
    visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(64 << 10, open(index)?.take(MAX_INDEX));
    let mut header = [0; 12];
    reader.read_exact(&mut header)?;
    let [version, count] = [4, 8].map(|at| be_u32(&header[at..]));
    if !header.starts_with(b"DIRC") || !(2..=4).contains(&version) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut name = Vec::new();
    for _ in 0..count {
        read_entry(&mut reader, (version, hash), &mut name)?;
        if visit(&name).is_break() {
            break;
        }
    }
    Ok(())
}

/// Compares a path with `wanted`; equal if it is the same or below it.
fn compare(name: &[u8], wanted: &[u8]) -> Ordering {
    match name.strip_prefix(wanted) {
        Some([] | [b'/', ..]) => Ordering::Equal,
        // A slash sorts before most characters, but not before all.
        Some([next, ..]) => next.cmp(&b'/'),
        None => name.cmp(wanted),
    }
}

/// Reads an entry; `name` is that of the entry before, and then of this one.
fn read_entry(
    reader: &mut impl BufRead,
    (version, hash): (u32, usize),
    name: &mut Vec<u8>,
) -> io::Result<()> {
    const STAT: usize = 40;
    const EXTENDED: u16 = 0x4000;
    let mut fixed = [0; STAT + 32 + 2];
    let fixed = &mut fixed[..STAT + hash + 2];
    reader.read_exact(fixed)?;
    let flags = u16::from_be_bytes([fixed[STAT + hash], fixed[STAT + hash + 1]]);
    let mut length = fixed.len();
    if version >= 3 && flags & EXTENDED != 0 {
        reader.read_exact(&mut [0; 2])?;
        length += 2;
    }
    if version == 4 {
        let dropped = read_offset(reader)?;
        let kept = name.len().checked_sub(dropped);
        name.truncate(kept.ok_or(io::ErrorKind::InvalidData)?);
    } else {
        name.clear();
    }
    let read = reader.take(MAX_PATH).read_until(0, name)?;
    if name.pop() != Some(0) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if version < 4 {
        // Entries are padded to a multiple of eight bytes; one is read already.
        let padding = 7 - (length + read - 1) % 8;
        let mut zeros = [0; 7];
        reader.read_exact(&mut zeros[..padding])?;
        if zeros != [0; 7] {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(())
}

/// Reads a number in the encoding of git's pack files.
fn read_offset(reader: &mut impl Read) -> io::Result<usize> {
    let mut value = 0_usize;
    for _ in 0..4 {
        let mut byte = [0];
        reader.read_exact(&mut byte)?;
        value = (value << 7) | usize::from(byte[0] & 0x7f);
        if byte[0] & 0x80 == 0 {
            return Ok(value);
        }
        value += 1;
    }
    Err(io::ErrorKind::InvalidData.into())
}

fn be_u32(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .take(4)
        .fold(0, |n, b| (n << 8) | u32::from(*b))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Encodes an index with these paths, sorted.
    fn index(version: u32, hash: usize, paths: &[&str]) -> Vec<u8> {
        let mut bytes = b"DIRC".to_vec();
        bytes.extend(version.to_be_bytes());
        bytes.extend((paths.len() as u32).to_be_bytes());
        let mut last = "";
        for (number, path) in paths.iter().enumerate() {
            let start = bytes.len();
            bytes.extend(vec![0xab; 40 + hash]);
            let is_extended = version >= 3 && number % 2 == 1;
            let flags = (path.len() as u16) | if is_extended { 0x4000 } else { 0 };
            bytes.extend(flags.to_be_bytes());
            bytes.extend(vec![0; if is_extended { 2 } else { 0 }]);
            if version == 4 {
                let common = last.bytes().zip(path.bytes());
                let common = common.take_while(|(a, b)| a == b).count();
                let dropped = last.len() - common;
                if dropped >= 128 {
                    bytes.push(0x80 | ((dropped >> 7) - 1) as u8);
                }
                bytes.push((dropped & 0x7f) as u8);
                bytes.extend(path[common..].bytes());
                bytes.push(0);
            } else {
                bytes.extend(path.bytes());
                let length = bytes.len() - start;
                bytes.extend(vec![0; 8 - length % 8]);
            }
            last = path;
        }
        bytes.extend([7; 20]);
        bytes
    }

    fn repository(index: &[u8]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(".git")).unwrap();
        fs::create_dir_all(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join(".git/index"), index).unwrap();
        dir
    }

    #[test]
    fn tracked_folder_is_found_in_every_version() {
        let long = "a".repeat(300);
        for version in [2, 3, 4] {
            for hash in HASHES {
                let paths = [".a", ".build-cache-x", ".build-cache/graph", &long, "z"];
                let dir = repository(&index(version, hash, &paths));
                let case = format!("version {version}, hash {hash}");
                assert!(is_tracked(&dir.path().join(".build-cache")), "{case}");
                assert!(is_tracked(&dir.path().join("z")), "{case}");
                assert!(!is_tracked(&dir.path().join("zz")), "{case}");
                assert!(!is_tracked(&dir.path().join("sub/.build-cache")), "{case}");
                let paths = [".build-cache-x", ".build-cachf/graph", "sub/.build-cache"];
                let dir = repository(&index(version, hash, &paths));
                assert!(!is_tracked(&dir.path().join(".build-cache")), "{case}");
                assert!(is_tracked(&dir.path().join("sub/.build-cache")), "{case}");
            }
        }
    }

    #[test]
    fn tracked_files_below_a_root_are_listed() {
        for (version, hash) in [(2, 20), (3, 32), (4, 20)] {
            let dir = repository(&index(version, hash, &["a", "sub/b", "sub/c/d", "subway"]));
            let list = |folder: &Path| {
                let files = tracked_files(folder);
                files.iter().map(ToString::to_string).collect::<Vec<_>>()
            };
            let all = ["a", "sub/b", "sub/c/d", "subway"];
            assert_eq!(list(dir.path()), all);
            assert_eq!(list(&dir.path().join("sub")), ["b", "c/d"]);
        }
        assert_eq!(tracked_files(tempfile::tempdir().unwrap().path()), []);
    }

    #[test]
    fn worktree_index_is_found() {
        let main = repository(&index(2, 20, &[".build-cache/state"]));
        let tree = tempfile::tempdir().unwrap();
        let link = format!("gitdir: {}\n", main.path().join(".git").display());
        fs::write(tree.path().join(".git"), link).unwrap();
        assert!(is_tracked(&tree.path().join(".build-cache")));
    }

    #[test]
    fn malformed_index_has_no_entries() {
        let whole = index(4, 20, &[".build-cache/graph"]);
        for end in 0..whole.len() - 22 {
            let dir = repository(&whole[..end]);
            assert!(!is_tracked(&dir.path().join(".build-cache")), "{end}");
        }
        let mut huge = whole;
        huge[8..12].fill(0xff);
        let dir = repository(&huge);
        assert!(!is_tracked(&dir.path().join("nothing")));
    }

    #[test]
    fn folder_outside_a_repository_is_not_tracked() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_tracked(&dir.path().join(".build-cache")));
    }
}
