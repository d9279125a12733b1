//! Reading one Buildfile from the disk: bounded, checked for UTF-8, with an error that
//! says what to do. It does not look into the text.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::syntax::guard::MOST_BYTES;

/// Why a Buildfile could not be read at all.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// There is none.
    #[error("there is no Buildfile at `{}`", path.display())]
    #[diagnostic(
        code("fbuild::buildfile::file_missing"),
        help(
            "`fbuild init` writes a first one; `-f FILE` names another file, `-C DIR` another folder"
        )
    )]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It is a folder, or something else that is not a file.
    #[error("`{}` is {what}, not a file", path.display())]
    #[diagnostic(
        code("fbuild::buildfile::file_folder"),
        help("name the file, as in `-f path/to/Buildfile.kdl`")
    )]
    NotAFile {
        /// Its path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The system refuses to let it be read.
    #[error("cannot read `{}`: {}", path.display(), words(cause))]
    #[diagnostic(
        code("fbuild::buildfile::file_unreadable"),
        help("look at its permissions and its owner: `ls -l {}`", path.display())
    )]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// It is larger than any Buildfile.
    #[error("`{}` is too large to be a Buildfile: {size} bytes", path.display())]
    #[diagnostic(
        code("fbuild::buildfile::file_too_large"),
        help(
            "the most is {MOST_BYTES} bytes; split it with `include`, or look whether this is the file you meant"
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
        /// Its path.
        path: PathBuf,
        /// The line of the first byte that is wrong, from 1.
        line: usize,
        /// That byte, from 0.
        offset: usize,
    },
}

impl Error {
    /// Returns the same error about another spelling of the path.
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
    // Asked before opening: opening a pipe would wait for its other end.
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
    // It may have grown since.
    let limited = file.take(MOST_BYTES + 1).read_to_end(&mut bytes);
    let size = limited.map_err(failed)? as u64;
    match size > MOST_BYTES {
        true => Err(too_large(size)),
        false => Ok(bytes),
    }
}

fn check_kind(path: &Path, metadata: &std::fs::Metadata) -> Result<(), Error> {
    let what = match (metadata.is_file(), metadata.is_dir()) {
        (true, _) => return Ok(()),
        (_, true) => "a folder",
        _ => "a device or a pipe",
    };
    let path = path.to_owned();
    Err(Error::NotAFile { path, what })
}

fn unreadable(path: &Path, cause: io::Error) -> Error {
    let path = path.to_owned();
    match cause.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::Missing { path },
        _ => Error::Unreadable { path, cause },
    }
}

/// Returns what the system said, without its number.
fn words(error: &io::Error) -> String {
    let text = error.to_string().to_lowercase();
    let number = text.find(" (os error");
    number.map_or(text.clone(), |end| text[..end].to_owned())
}
