//! Reads one Buildfile from the disk: checks its kind, size and encoding. It does not
//! interpret the text.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::syntax::guard::MOST_BYTES;

/// The error of reading a Buildfile.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The file does not exist.
    #[error("there is no Buildfile at `{}`", path.display())]
    #[diagnostic(
        code("fbuild::buildfile::file_missing"),
        help(
            "`fbuild init` writes a first one; `-f FILE` names another file, `-C DIR` another folder"
        )
    )]
    Missing {
        /// The path that does not exist.
        path: PathBuf,
    },
    /// The path is a folder, a device or a pipe.
    #[error("`{}` is {what}, not a file", path.display())]
    #[diagnostic(
        code("fbuild::buildfile::file_folder"),
        help("name the file, as in `-f path/to/Buildfile.kdl`")
    )]
    NotAFile {
        /// Its path.
        path: PathBuf,
        /// The kind of file.
        what: &'static str,
    },
    /// The system refuses to open or read it.
    #[error("cannot read `{}`: {}", path.display(), words(cause))]
    #[diagnostic(
        code("fbuild::buildfile::file_unreadable"),
        help("check its permissions and its owner: `ls -l {}`", path.display())
    )]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// The error of the system.
        cause: io::Error,
    },
    /// It is larger than [`MOST_BYTES`].
    #[error("`{}` is too large to be a Buildfile: {size} bytes", path.display())]
    #[diagnostic(
        code("fbuild::buildfile::file_too_large"),
        help(
            "the most is {MOST_BYTES} bytes; split it with `include`, or check that this is the right file"
        )
    )]
    TooLarge {
        /// Its path.
        path: PathBuf,
        /// Its length in bytes.
        size: u64,
    },
    /// It is not UTF-8.
    #[error("`{}` is not UTF-8 text: line {line}, byte {offset}", path.display())]
    #[diagnostic(
        code("fbuild::buildfile::file_encoding"),
        help(
            "save it as UTF-8 in your editor; `file` guesses what it is, `iconv -t UTF-8` converts it"
        )
    )]
    Encoding {
        /// The line of the first wrong byte, from 1.
        path: PathBuf,
        /// The line of the first byte that is wrong, from 1.
        line: usize,
        /// The offset of that byte, from 0.
        offset: usize,
    },
}

impl Error {
    /// Returns the same error with another spelling of the path.
    pub(super) fn at(mut self, other: &Path) -> Self {
        match &mut self {
            Self::Missing { path }
            | Self::NotAFile { path, .. }
            | Self::Unreadable { path, .. }
            | Self::TooLarge { path, .. }
            | Self::Encoding { path, .. } => other.clone_into(path),
        }
        self
    }
}

/// Reads the Buildfile at `path`.
pub(super) fn read(path: &Path) -> Result<String, Error> {
    let bytes = read_bytes(path)?;
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..offset];
        Error::Encoding {
            path: path.to_owned(),
            line: before.iter().filter(|b| **b == b'\n').count() + 1,
            offset,
        }
    })
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |cause| unreadable(path, cause);
    // Checked before opening: to open a pipe waits for its other end.
    let metadata = path.metadata().map_err(failed)?;
    check_kind(path, &metadata)?;
    let too_large = |size| Error::TooLarge {
        path: path.to_owned(),
        size,
    };
    if metadata.len() > MOST_BYTES {
        return Err(too_large(metadata.len()));
    }
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    // The file may have grown since.
    let limited = file.take(MOST_BYTES + 1).read_to_end(&mut bytes);
    let size = limited.map_err(failed)? as u64;
    if size > MOST_BYTES {
        Err(too_large(size))
    } else {
        Ok(bytes)
    }
}

fn check_kind(path: &Path, metadata: &std::fs::Metadata) -> Result<(), Error> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(Error::NotAFile {
        path: path.to_owned(),
        what: if metadata.is_dir() {
            "a folder"
        } else {
            "a device or a pipe"
        },
    })
}

fn unreadable(path: &Path, cause: io::Error) -> Error {
    let path = path.to_owned();
    match cause.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::Missing { path },
        _ => Error::Unreadable { path, cause },
    }
}

/// Returns the system's message without its number.
fn words(error: &io::Error) -> String {
    let text = error.to_string().to_lowercase();
    let number = text.find(" (os error");
    number.map_or(text.clone(), |end| text[..end].to_owned())
}
