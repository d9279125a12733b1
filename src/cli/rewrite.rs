//! Replaces the text of a user's file atomically. Keeps its permissions, and follows links.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A new text for a file, in a temporary file beside it.
pub(super) struct Rewrite {
    file: NamedTempFile,
    place: PathBuf,
}

impl Rewrite {
    /// Writes `text` into a temporary file beside `path`.
    pub(super) fn prepare(path: &Path, text: &str) -> io::Result<Self> {
        let place = path.canonicalize()?;
        let folder = place.parent().unwrap_or(Path::new("/"));
        let mut builder = tempfile::Builder::new();
        let mut file = builder
            .prefix(".Buildfile-")
            .suffix(".kdl")
            .tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        let permissions = place.metadata()?.permissions();
        file.as_file().set_permissions(permissions)?;
        // Without the sync, a power cut could leave an empty file in place of the old text.
        file.as_file().sync_all()?;
        Ok(Self { file, place })
    }

    /// Returns the path of the temporary file.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Replaces the file.
    pub(super) fn finish(self) -> io::Result<()> {
        self.file.persist(self.place)?;
        Ok(())
    }
}
