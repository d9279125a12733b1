//! Mounts a small file system from an image file, for tests that need coarse timestamps or
//! little space. Needs permission to mount.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The number of inconsistent copies before giving up.
const MAX_INCONSISTENT: usize = 20;

/// A small ext4 file system, mounted until this is dropped.
pub(crate) struct Image {
    folder: tempfile::TempDir,
}

impl Image {
    /// Creates an image with these arguments of `mkfs.ext4`, or returns the reason that it
    /// cannot.
    pub(crate) fn new(arguments: &[&str]) -> Result<Self, String> {
        Self::mounted(arguments, "defaults")
    }

    /// Creates an image with these arguments of `mkfs.ext4`, mounted with these options.
    pub(crate) fn mounted(arguments: &[&str], options: &str) -> Result<Self, String> {
        let image = Self::empty();
        let file = image.file();
        std::fs::File::create(&file)
            .and_then(|file| file.set_len(64 << 20))
            .unwrap();
        let file = file.to_str().unwrap();
        run("mkfs.ext4", &[&["-q", "-F"], arguments, &[file]].concat())?;
        image.mount(options)?;
        Ok(image)
    }

    /// Returns the image as a power cut at this moment would leave it, and the number of
    /// discarded copies. A copy takes time, so it may contain the end of a change without its
    /// start. No disk does that, and ext4 detects it by its checksums.
    pub(crate) fn copy(&self) -> Result<(Self, usize), String> {
        for discarded in 0..MAX_INCONSISTENT {
            let copy = Self::empty();
            std::fs::copy(self.file(), copy.file()).unwrap();
            copy.mount("defaults")?;
            if is_whole(&copy.path()) {
                return Ok((copy, discarded));
            }
        }
        Err(format!(
            "{MAX_INCONSISTENT} copies, none of them consistent"
        ))
    }

    fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = Self { folder };
        std::fs::create_dir(image.path()).unwrap();
        image
    }

    fn mount(&self, options: &str) -> Result<(), String> {
        let (file, path) = (self.file(), self.path());
        let options = format!("loop,{options}");
        let places = [file.to_str().unwrap(), path.to_str().unwrap()];
        run("mount", &[&["-o", &options], &places[..]].concat())
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// Returns the mount point.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Ignore the error: the image was never mounted.
        let _ = run("umount", &["-l", self.path().to_str().unwrap()]);
    }
}

/// Returns true if reading every file reports no corruption.
fn is_whole(path: &Path) -> bool {
    let is_broken = |error: &std::io::Error| {
        [libc::EBADMSG, libc::EUCLEAN]
            .map(Some)
            .contains(&error.raw_os_error())
    };
    let readable = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => std::fs::read_dir(path).map(|entries| {
            entries.into_iter().all(|entry| match entry {
                Ok(entry) => is_whole(&entry.path()),
                Err(error) => !is_broken(&error),
            })
        }),
        Ok(found) if found.is_file() => std::fs::read(path).map(|_| true),
        Ok(_) => Ok(true),
        Err(error) => Err(error),
    };
    readable.unwrap_or_else(|error| !is_broken(&error))
}

/// Runs a program that needs privileges.
#[expect(
    clippy::disallowed_methods,
    reason = "a test helper, not part of fbuild"
)]
fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let known = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(Path::new);
    let found = known
        .into_iter()
        .map(|folder| folder.join(program))
        .find(|path| path.exists());
    let path = found.ok_or(format!("`{program}` does not exist"))?;
    let done = Command::new(path)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let done = done.map_err(|error| format!("`{program}`: {error}"))?;
    let message = String::from_utf8_lossy(&done.stderr);
    match done.status.success() {
        true => Ok(()),
        false => Err(format!(
            "`{program}`: {}",
            message.trim().replace('\n', "; ")
        )),
    }
}
