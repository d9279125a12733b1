//! A file system of one's own, in a file: what tests need that ask for another clock, or
//! for less room, than the machine has. It needs the right to mount.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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

    /// Returns what would be left of it if the power failed now.
    pub(crate) fn copy(&self) -> Result<Self, String> {
        let copy = Self::empty();
        std::fs::copy(self.file(), copy.file()).unwrap();
        copy.mount("defaults")?;
        Ok(copy)
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
