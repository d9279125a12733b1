//! A file system of one's own, in a file: what tests need that ask for another clock, or
//! for less room, than the machine has. It needs the right to mount.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How many copies are thrown away before giving up.
const MOST_SMEARED: usize = 20;

/// A small ext4 file system, mounted until this is dropped.
pub(crate) struct Image {
    folder: tempfile::TempDir,
}

impl Image {
    /// Makes one with these arguments of `mkfs.ext4`, or says why that cannot be done.
    pub(crate) fn new(arguments: &[&str]) -> Result<Self, String> {
        Self::mounted(arguments, "defaults")
    }

    /// Makes one with these arguments of `mkfs.ext4`, mounted with these options.
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

    /// Returns what would be left of it if the power failed now, and how many copies were
    /// thrown away for it: copying takes its time, so that one may have the end of something
    /// without its beginning, which no disk has, and which ext4 knows by its checksums.
    pub(crate) fn copy(&self) -> Result<(Self, usize), String> {
        for smeared in 0..MOST_SMEARED {
            let copy = Self::empty();
            std::fs::copy(self.file(), copy.file()).unwrap();
            copy.mount("defaults")?;
            if is_whole(&copy.path()) {
                return Ok((copy, smeared));
            }
        }
        Err(format!("{MOST_SMEARED} copies, none of one moment"))
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

    /// Returns the folder in which it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Where it was never mounted there is nothing to take away.
        let _ = run("umount", &["-l", self.path().to_str().unwrap()]);
    }
}

/// Tells whether the file system finds no fault with itself.
fn is_whole(path: &Path) -> bool {
    let is_broken = |error: &std::io::Error| {
        [libc::EBADMSG, libc::EUCLEAN]
            .map(Some)
            .contains(&error.raw_os_error())
    };
    let looked = match path.symlink_metadata() {
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
    looked.unwrap_or_else(|error| !is_broken(&error))
}

/// Runs a program that needs rights.
#[expect(clippy::disallowed_methods, reason = "this is no part of fbuild")]
fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let known = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(Path::new);
    let found = known
        .into_iter()
        .map(|folder| folder.join(program))
        .find(|path| path.exists());
    let path = found.ok_or(format!("there is no `{program}`"))?;
    let done = Command::new(path)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let done = done.map_err(|error| format!("`{program}`: {error}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    match done.status.success() {
        true => Ok(()),
        false => Err(format!("`{program}`: {}", said.trim().replace('\n', "; "))),
    }
}
