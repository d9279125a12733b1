//! A folder as a shared cache: on a file server, or one that CI systems save and restore.
//! Files are compressed, and appear whole by a rename. Deleting any of them is harmless.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::backend::{Backend, Error, Kind, MAX_RECORD, RecordName};
use super::codec;
use crate::digest::Digest;

/// A folder that holds `v1/ac/<name>` and `v1/cas/<hash>`.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
}

impl Files {
    /// Returns the backend of a folder, which need not exist.
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.join("v1"),
        }
    }

    fn path(&self, kind: &str, name: &str) -> PathBuf {
        // Two digits keep folders small: file servers list them slowly.
        self.folder.join(kind).join(&name[..2]).join(name)
    }

    fn blob(&self, digest: Digest) -> PathBuf {
        self.path("cas", &digest.hex())
    }

    /// Opens a regular file; `None` if there is none.
    fn open(path: &Path) -> Result<Option<File>, Error> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(of_io(path, &error)),
        };
        let metadata = file.metadata().map_err(|e| of_io(path, &e))?;
        Ok(metadata.is_file().then_some(file))
    }

    fn write(path: &Path, bytes: &mut dyn Read) -> Result<(), Error> {
        let folder = path.parent().unwrap_or(path);
        fs::create_dir_all(folder).map_err(|e| of_io(folder, &e))?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|e| of_io(folder, &e))?;
        io::copy(bytes, &mut file).map_err(|e| of_io(path, &e))?;
        file.persist(path).map_err(|e| of_io(path, &e.error))?;
        Ok(())
    }
}

impl Backend for Files {
    fn record(&self, name: &RecordName) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path("ac", &name.hex());
        let Some(file) = Self::open(&path)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(MAX_RECORD + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| of_io(&path, &e))?;
        Ok(Some(bytes))
    }

    fn put_record(&self, name: &RecordName, record: &[u8], _: &[Digest]) -> Result<(), Error> {
        Self::write(&self.path("ac", &name.hex()), &mut &record[..])
    }

    fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, Error> {
        let is_missing = |digest: &&Digest| !self.blob(**digest).is_file();
        Ok(digests.iter().filter(is_missing).copied().collect())
    }

    fn fetch(&self, digest: Digest, to: &mut dyn Write) -> Result<bool, Error> {
        let Some(mut file) = Self::open(&self.blob(digest))? else {
            return Ok(false);
        };
        codec::decompress(digest, &mut file, to)?;
        Ok(true)
    }

    fn send(&self, digest: Digest, from: &mut (dyn Read + Send)) -> Result<(), Error> {
        let (mut file, _) = codec::compress(from).map_err(|e| Error::local(&e))?;
        Self::write(&self.blob(digest), &mut file)
    }

    fn probe(&self) -> Result<Vec<String>, Error> {
        let folder = self.folder.parent().unwrap_or(&self.folder);
        let metadata = fs::metadata(folder).map_err(|e| of_io(folder, &e))?;
        if !metadata.is_dir() {
            return Err(Error::new(
                Kind::Protocol,
                format!("`{}` is not a folder", folder.display()),
            ));
        }
        Ok(vec![format!("folder `{}`", folder.display())])
    }
}

fn of_io(path: &Path, error: &io::Error) -> Error {
    let kind = Error::of_io(error).kind;
    Error::new(kind, format!("`{}`: {error}", path.display()))
}
