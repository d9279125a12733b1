//! Reads and creates the key that binds state to its user: 32 random bytes in a file outside
//! of every project. State that was not written with it counts as missing.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::digest::{Key, random};

/// The length of a key in bytes.
const LENGTH: usize = 32;
/// The minimum length of a shared secret in bytes: 16 random hexadecimal digits are too few.
const MIN_SECRET: usize = 20;

/// An error of the key file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file or its folder does not belong to this user.
    #[error("`{}` belongs to another user", .0.display())]
    Owner(PathBuf),
    /// Other users can read the file, or write to its folder.
    #[error("`{}` is accessible to other users", .0.display())]
    Mode(PathBuf),
    /// The file is not a key.
    #[error("`{}` is not a key", .0.display())]
    Content(PathBuf),
    /// A system call failed.
    #[error("`{}`: {cause}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        cause: io::Error,
    },
}

/// Derives a key from a secret that several users or machines share; `None` if it is short
/// enough to be guessed.
pub fn from_secret(secret: &OsStr) -> Option<Key> {
    let secret = secret.as_bytes();
    let key = Key::new([0; LENGTH]).derive(&[b"fbuild shared secret 1", secret]);
    (secret.len() >= MIN_SECRET).then_some(key)
}

/// Creates a key for this process only.
pub fn temporary() -> Key {
    // Without random bytes the key must still differ from those of other processes.
    let bytes = random().unwrap_or_else(|_| {
        let seed = std::hash::RandomState::new();
        let seed = std::hash::BuildHasher::hash_one(&seed, std::process::id());
        let key = Key::new([0; LENGTH]);
        key.mac(&[b"fbuild temporary key", &seed.to_le_bytes()])
    });
    Key::new(bytes)
}

/// Reads the key in `folder`; `None` if there is none.
pub fn read(folder: &Path) -> Result<Option<Key>, Error> {
    let path = folder.join("key");
    let file = match open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(io_error(&path))?,
    };
    // Whoever can write to the folder can replace the key.
    check(folder, &stat(folder)?, 0o022)?;
    let metadata = file.metadata().map_err(io_error(&path))?;
    if !metadata.is_file() {
        return Err(Error::Content(path));
    }
    check(&path, &metadata, 0o077)?;
    let mut bytes = Vec::with_capacity(LENGTH + 1);
    let read = file.take(LENGTH as u64 + 1).read_to_end(&mut bytes);
    read.map_err(io_error(&path))?;
    match bytes.try_into() {
        Ok(bytes) => Ok(Some(Key::new(bytes))),
        // A power cut can leave an empty file.
        Err(bytes) if bytes.is_empty() => Ok(None),
        Err(_) => Err(Error::Content(path)),
    }
}

/// Reads the key in `folder`, or creates it.
pub fn read_or_create(folder: &Path) -> Result<Key, Error> {
    if let Some(key) = read(folder)? {
        return Ok(key);
    }
    create(folder).map_err(io_error(folder))?;
    // Another process may have been first.
    read(folder)?.ok_or_else(|| Error::Content(folder.join("key")))
}

fn create(folder: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let place = folder.join("key");
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(&random::<LENGTH>()?)?;
    temporary.as_file().sync_all()?;
    let is_empty = |found: std::fs::Metadata| found.is_file() && found.len() == 0;
    if std::fs::symlink_metadata(&place).is_ok_and(is_empty) {
        temporary.persist(&place)?;
        return Ok(());
    }
    match temporary.persist_noclobber(&place) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
        _ => Ok(()),
    }
}

/// Opens a file without following a link or waiting for a pipe.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

fn stat(path: &Path) -> Result<std::fs::Metadata, Error> {
    std::fs::metadata(path).map_err(io_error(path))
}

/// Makes an [`Error::Io`].
fn io_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |cause| Error::Io {
        path: path.to_owned(),
        cause,
    }
}

/// Checks the owner of a file, and that other users lack the permissions in `mask`.
fn check(path: &Path, metadata: &std::fs::Metadata, mask: u32) -> Result<(), Error> {
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(Error::Owner(path.to_owned()));
    }
    if metadata.mode() & mask != 0 {
        return Err(Error::Mode(path.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn folder(&self) -> PathBuf {
            self.0.path().join("a/fbuild")
        }

        fn key(&self) -> PathBuf {
            self.folder().join("key")
        }
    }

    #[test]
    fn key_is_created_once_and_private() {
        let place = Place::new();
        assert!(read(&place.folder()).unwrap().is_none());
        let key = read_or_create(&place.folder()).unwrap();
        assert_eq!(read_or_create(&place.folder()).unwrap(), key);
        assert_eq!(read(&place.folder()).unwrap(), Some(key.clone()));
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(place.folder()), mode(place.key())), (0o700, 0o600));
        assert_eq!(fs::read_dir(place.folder()).unwrap().count(), 1);
        assert_ne!(read_or_create(&Place::new().folder()).unwrap(), key);
    }

    #[test]
    fn simultaneous_creations_agree() {
        let place = Place::new();
        let folder = place.folder();
        let keys = std::thread::scope(|scope| {
            let threads = [(); 8].map(|()| scope.spawn(|| read_or_create(&folder).unwrap()));
            threads.map(|thread| thread.join().unwrap())
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
    }

    #[test]
    fn empty_key_after_power_cut_is_replaced() {
        let place = Place::new();
        fs::create_dir_all(place.folder()).unwrap();
        fs::write(place.key(), "").unwrap();
        fs::set_permissions(place.key(), fs::Permissions::from_mode(0o600)).unwrap();
        let key = read_or_create(&place.folder()).unwrap();
        assert_eq!(read(&place.folder()).unwrap(), Some(key));
    }

    #[test]
    fn accessible_key_is_refused() {
        let place = Place::new();
        read_or_create(&place.folder()).unwrap();
        let set = |path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        for mode in [0o640, 0o604, 0o620] {
            set(place.key(), mode);
            assert!(matches!(read(&place.folder()), Err(Error::Mode(_))));
        }
        set(place.key(), 0o600);
        for mode in [0o770, 0o702] {
            set(place.folder(), mode);
            assert!(matches!(
                read_or_create(&place.folder()),
                Err(Error::Mode(_))
            ));
        }
        set(place.folder(), 0o755);
        read(&place.folder()).unwrap().unwrap();
    }

    #[test]
    fn key_that_is_no_private_file_is_refused() {
        let place = Place::new();
        read_or_create(&place.folder()).unwrap();
        let other = place.folder().join("other");
        fs::rename(place.key(), &other).unwrap();
        symlink(&other, place.key()).unwrap();
        read_or_create(&place.folder()).unwrap_err();
        fs::remove_file(place.key()).unwrap();
        let mode = Mode::RUSR | Mode::WUSR;
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, place.key(), kind, mode, 0).unwrap();
        read_or_create(&place.folder()).unwrap_err();
        fs::remove_file(place.key()).unwrap();
        fs::create_dir(place.key()).unwrap();
        read_or_create(&place.folder()).unwrap_err();
        fs::remove_dir(place.key()).unwrap();
        for content in [&[1; 31][..], &[1; 33]] {
            fs::write(place.key(), content).unwrap();
            let private = fs::Permissions::from_mode(0o600);
            fs::set_permissions(place.key(), private).unwrap();
            let refused = read_or_create(&place.folder());
            assert!(matches!(refused, Err(Error::Content(_))));
        }
    }

    #[test]
    fn short_secret_is_refused() {
        assert_eq!(from_secret(OsStr::new("too short to be one")), None);
        let secret = |text: &str| from_secret(OsStr::new(text)).unwrap();
        let one = secret("a secret of twenty bytes or more");
        assert_eq!(one, secret("a secret of twenty bytes or more"));
        assert_ne!(one, secret("a secret of twenty bytes or less"));
    }

    #[test]
    fn temporary_keys_differ() {
        assert_ne!(temporary(), temporary());
    }
}
