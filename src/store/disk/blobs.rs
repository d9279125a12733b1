//! Writes, reads and copies blobs: hashed while written, verified while read.
//!
//! A blob that fits the buffer is read completely before it is used, so that most need one
//! read and one write, and no unverified byte is returned.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Cursor, Read, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::layout::{Layout, name, open_object};
use super::publish::{IfExists, IncomingFile, PublishOutcome};
use super::{Inner, age, quarantine, touch};
use crate::digest::{BUFFER_SIZE, Digest, Hasher, Verified};
use crate::stamp::{FileKind, Stamp};
use crate::store::Error;

/// The minimum time between two updates of a blob's time of use, in nanoseconds.
const FRESH: i64 = 10 * 60 * 1_000_000_000;
/// The maximum size of a file of the wrong length that is hashed, in bytes.
const MAX_REHASHED: u64 = 64 << 20;
/// The minimum size of a blob that is cloned, in bytes.
const MIN_CLONED: u64 = 1 << 20;

/// Opens a blob for reading; `None` if it is missing or damaged.
pub(super) fn read(inner: &Arc<Inner>, digest: Digest) -> Option<Box<dyn Read + Send>> {
    let file = inner.open_blob(digest)?;
    if digest.size() < BUFFER_SIZE as u64 {
        let mut bytes = Vec::new();
        if !inner.read_small(file, digest, &mut bytes) {
            return None;
        }
        return Some(Box::new(Cursor::new(bytes)));
    }
    Some(Box::new(Reader {
        verified: Verified::new(file, digest),
        digest,
        inner: inner.clone(),
    }))
}

/// Reads a blob that is too large to verify in advance.
struct Reader {
    verified: Verified<File>,
    digest: Digest,
    inner: Arc<Inner>,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.verified.read(buffer).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.inner.refuse_blob(self.digest, error);
            }
        })
    }
}

impl Inner {
    /// Returns true if a blob exists and has the right length.
    pub(super) fn has_blob(&self, digest: Digest) -> bool {
        let Some(layout) = &self.layout else {
            return false;
        };
        match Stamp::at(&layout.artifacts, name(&digest)) {
            Ok(Some(stamp)) => stamp.kind() == FileKind::File && stamp.size == digest.size(),
            _ => false,
        }
    }

    fn open_blob(&self, digest: Digest) -> Option<File> {
        let layout = self.layout.as_ref()?;
        let opened = open_object(&layout.artifacts, &name(&digest), OFlags::RDONLY);
        match opened.and_then(|file| Ok((Stamp::of(&file)?, file))) {
            Ok((stamp, file)) => {
                let is_right = stamp.kind() == FileKind::File && stamp.size == digest.size();
                if !is_right {
                    self.refuse_size(digest, file, stamp.size);
                    return None;
                }
                Some(file)
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    self.refuse_blob(digest, &error);
                }
                None
            }
        }
    }

    /// Refuses a blob of the wrong length, unless its content matches its name: then the
    /// caller asked for a digest that no content has.
    fn refuse_size(&self, digest: Digest, mut file: File, size: u64) {
        // The file may be sparse and huge.
        let is_intact = size <= MAX_REHASHED
            && Digest::of_reader(&mut file, &mut Vec::new())
                .is_ok_and(|actual| actual.hash() == digest.hash());
        if !is_intact {
            self.refuse_blob(digest, &io::ErrorKind::InvalidData.into());
        }
    }

    /// Reads a blob into `bytes`; false if it is damaged.
    fn read_small(&self, mut file: File, digest: Digest, bytes: &mut Vec<u8>) -> bool {
        let Ok(size) = usize::try_from(digest.size()) else {
            return false;
        };
        bytes.resize(size, 0);
        let verified = file
            .read_exact(bytes)
            .and_then(|()| match Digest::of(bytes) {
                actual if actual == digest => Ok(()),
                _ => Err(io::ErrorKind::InvalidData.into()),
            });
        verified
            .inspect_err(|error| self.refuse_blob(digest, error))
            .is_ok()
    }

    /// Moves a damaged blob to the quarantine. If the process caused the error (too many
    /// open files, no memory), only warns.
    fn refuse_blob(&self, digest: Digest, error: &io::Error) {
        if !is_damage(error) {
            self.unreadable("blob", &digest, error);
            return;
        }
        let writable = self.writable();
        self.warnings.damage(|| {
            let id = digest.short();
            let quarantined = if writable.is_some() {
                "it was moved to the quarantine, and "
            } else {
                ""
            };
            format!("the cached blob {id} is damaged; {quarantined}results with it are made again")
        });
        if let Some(layout) = writable {
            quarantine::move_there(layout, &layout.artifacts, name(&digest).as_bytes());
        }
    }

    /// Copies a blob into an empty file; see [`crate::store::Store::copy`].
    pub(super) fn copy_blob(&self, digest: Digest, to: &mut File) -> Result<bool, Error> {
        let Some(mut from) = self.open_blob(digest) else {
            return Ok(false);
        };
        with_buffer(|buffer| {
            if digest.size() < BUFFER_SIZE as u64 {
                let mut bytes = std::mem::take(buffer);
                let is_right = self.read_small(from, digest, &mut bytes);
                let copied = if is_right {
                    to.write_all(&bytes).map_err(Error::Copy)
                } else {
                    Ok(())
                };
                *buffer = bytes;
                return copied.map(|()| is_right);
            }
            let copied = if try_clone(&from, to, digest.size()) {
                Digest::of_reader(to, buffer)
            } else {
                copy_hashing(&mut from, to, buffer)?
            };
            let checked = copied.and_then(|actual| {
                if actual == digest {
                    Ok(())
                } else {
                    Err(io::ErrorKind::InvalidData.into())
                }
            });
            Ok(checked
                .inspect_err(|error| self.refuse_blob(digest, error))
                .is_ok())
        })
    }

    /// Stores a blob; see [`crate::store::Store::write`].
    pub(super) fn write_blob(&self, bytes: &mut dyn Read) -> Result<Digest, Error> {
        with_buffer(|buffer| {
            buffer.resize(BUFFER_SIZE, 0);
            let filled = fill(bytes, buffer).map_err(Error::Input)?;
            let (digest, stored) = if filled < buffer.len() {
                self.write_small(&buffer[..filled])
            } else {
                self.write_large(buffer, bytes)?
            };
            stored.map_err(|source| {
                if self.writable().is_some() {
                    self.cannot_write(&source);
                }
                Error::NotStored { digest, source }
            })?;
            Ok(digest)
        })
    }

    fn write_small(&self, bytes: &[u8]) -> (Digest, io::Result<()>) {
        let digest = Digest::of(bytes);
        let store = || {
            let layout = self.writable().ok_or(io::ErrorKind::ReadOnlyFilesystem)?;
            if self.has_same(layout, digest, bytes) {
                return Ok(());
            }
            let mut temp = self.publisher.create(layout)?;
            temp.write_all(bytes)?;
            self.publish_blob(layout, temp, digest)
        };
        (digest, store())
    }

    /// Returns true if these bytes are stored already, and marks them as used. A blob with
    /// other content goes to the quarantine.
    fn has_same(&self, layout: &Layout, digest: Digest, bytes: &[u8]) -> bool {
        let Ok(file) = open_object(&layout.artifacts, &name(&digest), OFlags::RDONLY) else {
            return false;
        };
        let is_same = is_same(&file, bytes);
        if is_same {
            self.keep_blob(&file);
        } else {
            self.refuse_blob(digest, &io::ErrorKind::InvalidData.into());
        }
        is_same
    }

    /// Counts an existing blob as written and marks it as used.
    ///
    /// Another process may have written it and not flushed it yet, so this build flushes it
    /// too.
    fn keep_blob(&self, file: &File) {
        self.written.fetch_add(1, Ordering::SeqCst);
        if Stamp::of(file).is_ok_and(|stamp| age(&stamp) > FRESH) {
            touch(file);
        }
    }

    /// Stores the bytes in `buffer` and all that follow. If they cannot be written, they
    /// are still read to their end, because the caller needs their digest.
    fn write_large(
        &self,
        buffer: &mut [u8],
        bytes: &mut dyn Read,
    ) -> Result<(Digest, io::Result<()>), Error> {
        let mut temp = self
            .writable()
            .ok_or_else(|| io::ErrorKind::ReadOnlyFilesystem.into())
            .and_then(|layout| Ok((layout, self.publisher.create(layout)?)));
        let mut hasher = Hasher::new();
        let mut filled = buffer.len();
        while filled > 0 {
            hasher.update(&buffer[..filled]);
            temp = temp.and_then(|(layout, mut temp)| {
                temp.write_all(&buffer[..filled])?;
                Ok((layout, temp))
            });
            filled = fill(bytes, buffer).map_err(Error::Input)?;
        }
        let digest = hasher.finish();
        let stored = temp.and_then(|(layout, temp)| self.publish_blob(layout, temp, digest));
        Ok((digest, stored))
    }

    fn publish_blob(
        &self,
        layout: &Layout,
        temp: IncomingFile<'_>,
        digest: Digest,
    ) -> io::Result<()> {
        let name = name(&digest);
        let publish = |temp| {
            self.publisher
                .publish(temp, &layout.artifacts, &name, IfExists::Keep)
        };
        if let PublishOutcome::Exists(temp) = publish(temp)? {
            match self.open_blob(digest) {
                Some(file) if self.is_blob(&file, digest) => {
                    self.keep_blob(&file);
                    return Ok(());
                }
                _ => drop(publish(temp)?),
            }
        }
        self.written.fetch_add(1, Ordering::SeqCst);
        self.added.fetch_add(digest.size(), Ordering::Relaxed);
        Ok(())
    }

    /// Verifies an existing blob.
    fn is_blob(&self, mut file: &File, digest: Digest) -> bool {
        let actual = Digest::of_reader(&mut file, &mut Vec::new());
        let checked = actual.and_then(|actual| {
            if actual == digest {
                Ok(())
            } else {
                Err(io::ErrorKind::InvalidData.into())
            }
        });
        checked
            .inspect_err(|error| self.refuse_blob(digest, error))
            .is_ok()
    }
}

/// Returns true if the object, and not the process, causes an error in reading it.
pub(super) fn is_damage(error: &io::Error) -> bool {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        None => true,
        Some(errno) => matches!(errno, Errno::IO | Errno::LOOP | Errno::ISDIR | Errno::NXIO),
    }
}

/// Copies and hashes all bytes. The outer error is about `to`, the inner about `from`.
fn copy_hashing(
    from: &mut File,
    to: &mut File,
    buffer: &mut Vec<u8>,
) -> Result<io::Result<Digest>, Error> {
    buffer.resize(BUFFER_SIZE, 0);
    let mut hasher = Hasher::new();
    loop {
        match fill(from, buffer) {
            Ok(0) => return Ok(Ok(hasher.finish())),
            Ok(filled) => {
                hasher.update(&buffer[..filled]);
                to.write_all(&buffer[..filled]).map_err(Error::Copy)?;
            }
            Err(error) => return Ok(Err(error)),
        }
    }
}

/// Clones the blocks of `from` to `to` if the file system supports it and the size is worth it.
fn try_clone(from: &File, to: &File, size: u64) -> bool {
    static IS_POSSIBLE: AtomicBool = AtomicBool::new(true);
    if size < MIN_CLONED || !IS_POSSIBLE.load(Ordering::Relaxed) {
        return false;
    }
    let cloned = rustix::fs::ioctl_ficlone(to, from);
    if matches!(
        cloned,
        Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL | Errno::XDEV)
    ) {
        IS_POSSIBLE.store(false, Ordering::Relaxed);
    }
    cloned.is_ok()
}

/// Returns true if the content of `file` is `bytes`, which are fewer than a buffer.
fn is_same(file: &File, bytes: &[u8]) -> bool {
    let mut content = Vec::with_capacity(bytes.len() + 1);
    let read = file.take(bytes.len() as u64 + 1).read_to_end(&mut content);
    read.is_ok() && content == bytes
}

/// Reads until `buffer` is full or the input ends; returns the number of bytes.
fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Lends the thread's buffer; a nested call gets a new one.
pub(super) fn with_buffer<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    thread_local! {
        static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    let mut buffer = BUFFER.take();
    let result = work(&mut buffer);
    BUFFER.set(buffer);
    result
}
