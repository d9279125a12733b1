//! Replaces the text of a file of the person's: whole or not at all, with the permissions
//! that it has, where a link leads and not the link. It does not look at the text.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A new text for a file, beside it and not yet in its place.
pub(super) struct Rewrite {
    file: NamedTempFile,
    place: PathBuf,
}

impl Rewrite {
    /// Writes `text` beside the file at `path`.
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
        // After a power cut there is the old text or the new one, and never half of it.
        file.as_file().sync_all()?;
        Ok(Self { file, place })
    }

    /// Returns where the new text is for now.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Puts the new text in its place.
    pub(super) fn finish(self) -> io::Result<()> {
        self.file.persist(self.place)?;
        Ok(())
    }
}
