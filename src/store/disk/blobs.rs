//! Blobs in and out: hashed while written, verified while read. It knows how a blob is
//! found to be bad, not what is done with bad ones.
//!
//! A blob that fits the buffer is read whole before anything is done with it, so that
//! most take one read and one write, and nothing unverified is ever handed out.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Cursor, Read, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::layout::{Layout, name, open_object};
use super::publish::{Existing, Published, Temp};
use super::{Inner, age, quarantine, touch};
use crate::digest::{BUFFER_SIZE, Digest, Hasher, Verified};
use crate::stamp::{FileKind, Stamp};
use crate::store::Error;

/// A blob used again after less than this (nanoseconds) keeps its time.
const FRESH: i64 = 10 * 60 * 1_000_000_000;
/// Up to this size (bytes) something of the wrong length is read to see what it is.
const WORTH_A_LOOK: u64 = 64 << 20;
/// From this size on (bytes) sharing the blocks of a file is worth trying.
const WORTH_CLONING: u64 = 1 << 20;

/// Opens a blob for reading, or finds that it is not there or not itself.
pub(super) fn read(inner: &Arc<Inner>, digest: Digest) -> Option<Box<dyn Read + Send>> {
    let file = inner.open_blob(digest)?;
    if digest.size() < BUFFER_SIZE as u64 {
        let mut bytes = Vec::new();
        return match inner.read_small(file, digest, &mut bytes) {
            true => Some(Box::new(Cursor::new(bytes))),
            false => None,
        };
    }
    Some(Box::new(Reader {
        verified: Verified::new(file, digest),
        digest,
        inner: inner.clone(),
    }))
}

/// Reads a blob that is too large to be verified beforehand.
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
    /// Tells whether a blob is there and has the right length.
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
                    self.refuse_size(digest, (file, stamp.size));
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

    /// A wrong length is the blob's fault only if its content is not what its name says;
    /// else somebody asks for a digest that no content has. What is too long to be looked
    /// through for that is put aside: it may be a hole without end.
    fn refuse_size(&self, digest: Digest, (mut file, size): (File, u64)) {
        let is_itself = size <= WORTH_A_LOOK
            && Digest::of_reader(&mut file, &mut Vec::new())
                .is_ok_and(|actual| actual.hash() == digest.hash());
        if !is_itself {
            self.refuse_blob(digest, &io::ErrorKind::InvalidData.into());
        }
    }

    /// Reads a blob into `bytes` and tells whether it is all right.
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

    /// Deals with a blob that could not be read or is not what its name says. What is
    /// wrong with this process (too many open files, no memory) is not the blob's fault.
    fn refuse_blob(&self, digest: Digest, error: &io::Error) {
        if !is_damage(error) {
            self.unreadable("blob", &digest, error);
            return;
        }
        let writable = self.writable();
        self.warnings.damage(|| {
            let id = digest.short();
            let aside = if writable.is_some() {
                "it was put aside, and "
            } else {
                ""
            };
            format!("the cached blob {id} is damaged; {aside}what needs it is made again")
        });
        if let Some(layout) = writable {
            quarantine::move_there(layout, &layout.artifacts, name(&digest).as_bytes());
        }
    }

    /// Writes a blob into an empty file; see [`crate::store::Store::copy`].
    pub(super) fn copy_blob(&self, digest: Digest, to: &mut File) -> Result<bool, Error> {
        let Some(mut from) = self.open_blob(digest) else {
            return Ok(false);
        };
        with_buffer(|buffer| {
            if digest.size() < BUFFER_SIZE as u64 {
                let mut bytes = std::mem::take(buffer);
                let is_right = self.read_small(from, digest, &mut bytes);
                let copied = match is_right {
                    true => to.write_all(&bytes).map_err(Error::Copy),
                    false => Ok(()),
                };
                *buffer = bytes;
                return copied.map(|()| is_right);
            }
            let copied = match try_clone(&from, to, digest.size()) {
                true => Digest::of_reader(to, buffer),
                false => copy_hashing(&mut from, to, buffer)?,
            };
            let checked = copied.and_then(|actual| match actual == digest {
                true => Ok(()),
                false => Err(io::ErrorKind::InvalidData.into()),
            });
            Ok(checked
                .inspect_err(|error| self.refuse_blob(digest, error))
                .is_ok())
        })
    }

    /// Takes in a blob; see [`crate::store::Store::write`].
    pub(super) fn write_blob(&self, bytes: &mut dyn Read) -> Result<Digest, Error> {
        with_buffer(|buffer| {
            buffer.resize(BUFFER_SIZE, 0);
            let filled = fill(bytes, buffer).map_err(Error::Input)?;
            let (digest, stored) = match filled < buffer.len() {
                true => self.write_small(&buffer[..filled]),
                false => self.write_large(buffer, bytes)?,
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

    /// Tells whether exactly these bytes are stored already; marks them as used if so and
    /// puts aside what is there instead if not.
    fn has_same(&self, layout: &Layout, digest: Digest, bytes: &[u8]) -> bool {
        let Ok(file) = open_object(&layout.artifacts, &name(&digest), OFlags::RDONLY) else {
            return false;
        };
        let is_same = is_same(&file, bytes);
        match is_same {
            true => self.keep_blob(&file),
            false => self.refuse_blob(digest, &io::ErrorKind::InvalidData.into()),
        }
        is_same
    }

    /// Counts a blob that was there already: a build may rely on it before whoever wrote
    /// it has made it durable, and a collection must see that it is in use.
    fn keep_blob(&self, file: &File) {
        self.written.fetch_add(1, Ordering::SeqCst);
        if Stamp::of(file).is_ok_and(|stamp| age(&stamp) > FRESH) {
            touch(file);
        }
    }

    /// Writes what is in `buffer` and all that follows. The bytes are read to their end
    /// and hashed even when they cannot be written: their digest is needed all the same.
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

    fn publish_blob(&self, layout: &Layout, temp: Temp<'_>, digest: Digest) -> io::Result<()> {
        let name = name(&digest);
        let publish = |temp| {
            self.publisher
                .publish(temp, &layout.artifacts, &name, Existing::Keep)
        };
        if let Published::Exists(temp) = publish(temp)? {
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
        let checked = actual.and_then(|actual| match actual == digest {
            true => Ok(()),
            false => Err(io::ErrorKind::InvalidData.into()),
        });
        checked
            .inspect_err(|error| self.refuse_blob(digest, error))
            .is_ok()
    }
}

/// Tells whether an error in reading an object is the object's own fault.
pub(super) fn is_damage(error: &io::Error) -> bool {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        None => true,
        Some(errno) => matches!(errno, Errno::IO | Errno::LOOP | Errno::ISDIR | Errno::NXIO),
    }
}

/// Copies all bytes, hashing them. The outer error is about `to`, the inner about `from`.
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

/// Makes `to` share the blocks of `from`, where the file system can and it is worth it.
fn try_clone(from: &File, to: &File, size: u64) -> bool {
    static IS_POSSIBLE: AtomicBool = AtomicBool::new(true);
    if size < WORTH_CLONING || !IS_POSSIBLE.load(Ordering::Relaxed) {
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

/// Tells whether `file` has exactly these bytes, fewer than a buffer.
fn is_same(file: &File, bytes: &[u8]) -> bool {
    let mut content = Vec::with_capacity(bytes.len() + 1);
    let read = file.take(bytes.len() as u64 + 1).read_to_end(&mut content);
    read.is_ok() && content == bytes
}

/// Reads until `buffer` is full or there is no more, and returns how much came.
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

/// Lends the thread's buffer. Whoever borrows it while it is lent gets a new one.
pub(super) fn with_buffer<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    thread_local! {
        static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    let mut buffer = BUFFER.take();
    let result = work(&mut buffer);
    BUFFER.set(buffer);
    result
}
