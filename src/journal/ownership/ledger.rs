//! The records of what fbuild made in a checkout: a log in the user's state folder, so that
//! deleting the project's state folder does not turn outputs into foreign files.
//!
//! ```text
//! magic 16 | (length u32 | checksum 8 | record in postcard's encoding)…
//! ```
//!
//! Records are appended, one write each. Only the one that a run begins with is flushed: after
//! a power cut the log ends early, but still has it. What was written since then may be the work
//! of that run, until the target in whose place it is succeeds. A log in which most records are superseded is
//! rewritten when it is next opened.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::action::{Entry, EntryKind};
use crate::digest::Digest;
use crate::path::RelPath;
use crate::stamp::Stamp;
use crate::store::disk::Durability;

const MAGIC: &[u8; 16] = b"fbuild-ledger 1\n";
/// The length of a checksum: the first bytes of the SHA-256.
const CHECKSUM: usize = 8;
const HEADER: usize = 4 + CHECKSUM;
/// The maximum length of a log that is read, in bytes.
const MAX_LENGTH: u64 = 1 << 30;
/// The minimum length of a log that is rewritten, in bytes.
const MIN_REWRITTEN: usize = 64 << 10;
/// How long the records of a checkout that no longer exists are kept.
const EXPIRY: Duration = Duration::from_secs(30 * 24 * 3600);

/// The identity of a checkout: another path or another folder is another checkout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkout {
    // Not `PathBuf`, which is only encoded if it is UTF-8.
    folder: OsString,
    root: OsString,
    device: u64,
    inode: u64,
}

impl Checkout {
    /// Identifies the checkout with a Buildfile in `folder` and the root `root`, both without
    /// links.
    pub fn of(folder: &Path, root: &Path) -> io::Result<Self> {
        let metadata = root.metadata()?;
        Ok(Self {
            folder: folder.into(),
            root: root.into(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    /// Returns the name of the folder of its records.
    fn name(&self) -> String {
        let text = [
            self.folder.as_bytes(),
            self.root.as_bytes(),
            format!("{} {}", self.device, self.inode).as_bytes(),
        ]
        .join(&0);
        Digest::of(&text).hex()[..32].to_owned()
    }

    fn exists(&self) -> bool {
        Self::of(self.folder.as_ref(), self.root.as_ref()).is_ok_and(|now| now == *self)
    }
}

/// The reason why records cannot be kept in the user's state folder.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The folder is inside the checkout, and may have come with it.
    #[error("`{}` is inside the project", .0.display())]
    Inside(PathBuf),
    /// Another user owns the folder or can write to it.
    #[error("`{}` is not only yours", .0.display())]
    Shared(PathBuf),
    /// A system call failed.
    #[error("`{}`: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// A record of the log.
#[derive(Debug, Serialize, Deserialize)]
enum Record {
    /// The checkout; the first record.
    Checkout(Checkout),
    /// A run is about to change outputs, at this time of the file system's clock.
    Begun { at: i64 },
    /// The run that has begun last has left nothing half-made.
    Ended,
    /// A run that began at this time did not end, and these targets have succeeded since.
    Left { from: i64, settled: Vec<String> },
    /// A target has made these outputs, and no others.
    Made { target: String, outputs: Vec<Entry> },
    /// These paths no longer belong to fbuild.
    Released { paths: Vec<RelPath> },
    /// No path is an orphan under the Buildfile with this digest.
    Checked { texts: Digest },
}

/// The records of a checkout.
pub struct Ledger {
    /// `None` keeps no records.
    place: Option<Place>,
    state: OnceLock<Mutex<State>>,
}

/// The place of the records of a checkout.
struct Place {
    folder: PathBuf,
    checkout: Checkout,
    durability: Durability,
    /// True if the folders beside this one have the records of other checkouts.
    is_shared: bool,
}

impl Place {
    fn log(&self) -> PathBuf {
        self.folder.join("ledger")
    }

    fn is_flushed(&self) -> bool {
        self.durability == Durability::Batched
    }
}

#[derive(Default)]
struct State {
    made: HashMap<String, Vec<Entry>>,
    /// The beginning of the first run that did not end.
    left: Option<i64>,
    /// The targets that have succeeded since the last run that did not end.
    settled: HashSet<String>,
    /// The beginning of a run that has not ended.
    begun: Option<i64>,
    /// True if that is this run.
    has_begun: bool,
    /// True if this run leaves outputs half-made.
    is_unsettled: bool,
    /// True if the log exists and cannot be read.
    is_unreadable: bool,
    checked: Option<Digest>,
    /// Everything in `made` by path, once a path of another target was looked up.
    paths: Option<HashMap<RelPath, EntryKind>>,
    /// The length of the valid part of the log.
    length: usize,
    file: Option<File>,
    /// The first error of reading or writing.
    error: Option<Problem>,
    has_reported: bool,
}

impl Ledger {
    /// Returns the ledger of a checkout below the folder `user`. Reads nothing yet.
    pub fn new(user: &Path, checkout: Checkout, durability: Durability) -> Self {
        Self::at(Place {
            folder: user.join("checkouts").join(checkout.name()),
            checkout,
            durability,
            is_shared: true,
        })
    }

    /// Returns the ledger in the state folder of the checkout, which also moves with it.
    pub fn in_state(state: &Path, checkout: Checkout, durability: Durability) -> Self {
        Self::at(Place {
            folder: state.join("checkouts").join("this"),
            checkout,
            durability,
            is_shared: false,
        })
    }

    /// Returns a ledger that keeps no records.
    pub fn off() -> Self {
        Self {
            place: None,
            state: OnceLock::new(),
        }
    }

    fn at(place: Place) -> Self {
        Self {
            place: Some(place),
            state: OnceLock::new(),
        }
    }

    /// Checks that the folder `user` is only this user's, and not inside the checkout.
    pub fn check_folder(user: &Path, project: &Path) -> Result<PathBuf, Problem> {
        let error = |source| Problem::Io {
            path: user.to_owned(),
            source,
        };
        if let Err(cause) = user.symlink_metadata()
            && cause.kind() == io::ErrorKind::NotFound
        {
            let mut builder = DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(user);
            made.map_err(error)?;
        }
        let real = user.canonicalize().map_err(error)?;
        if real.starts_with(project) {
            return Err(Problem::Inside(user.to_owned()));
        }
        let metadata = real.metadata().map_err(error)?;
        let is_own = metadata.uid() == rustix::process::geteuid().as_raw();
        if !is_own || metadata.mode() & 0o022 != 0 || !metadata.is_dir() {
            return Err(Problem::Shared(user.to_owned()));
        }
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        rustix::fs::access(&real, access).map_err(|cause| error(cause.into()))?;
        Ok(real)
    }

    /// Returns true if there are no records of this checkout yet.
    pub fn is_new(&self) -> bool {
        let log = self.place.as_ref().map(Place::log);
        log.is_some_and(|log| log.symlink_metadata().is_err())
    }

    /// Returns what the last success of a target made at a path, or another target if that
    /// one did not.
    pub fn made(&self, target: &str, path: &RelPath) -> Option<EntryKind> {
        let mut state = self.state();
        let own = state.made.get(target).and_then(|made| find(made, path));
        own.cloned().or_else(|| state.paths().get(path).cloned())
    }

    /// Returns true if a run that did not end may have left an entry with this stamp in the place
    /// of a target's outputs, or if the records that would tell cannot be read.
    pub fn may_be_left(&self, target: &str, stamp: &Stamp) -> bool {
        let state = self.state();
        if state.is_unreadable {
            return true;
        }
        let earlier = state.begun.filter(|_| !state.has_begun);
        let was_left = state.left.is_some() && !state.settled.contains(target);
        let from = if was_left { state.left } else { earlier };
        from.is_some_and(|from| !stamp.is_old_enough(from))
    }

    /// Records, once, that this run is about to change outputs. `now` is a time of the file
    /// system's clock.
    pub fn begin(&self, now: i64) {
        if self.state().has_begun {
            return;
        }
        self.append(Record::Begun { at: now });
        self.state().has_begun = true;
    }

    /// Records that this run has ended, unless it leaves outputs half-made.
    pub fn end(&self) {
        let state = self.state.get().map(|_| self.state());
        if state.is_some_and(|state| state.has_begun && !state.is_unsettled) {
            self.append(Record::Ended);
        }
    }

    /// Notes that this run leaves outputs half-made.
    pub fn unsettle(&self) {
        self.state().is_unsettled = true;
    }

    /// Records that a target has made its outputs.
    pub fn succeed(&self, target: &str, outputs: &[Entry]) {
        if self.place.is_none() {
            return;
        }
        let files = outputs.iter().filter(|e| e.kind != EntryKind::Folder);
        let record = Record::Made {
            target: target.to_owned(),
            outputs: files.cloned().collect(),
        };
        self.append(record);
    }

    /// Records that paths no longer belong to fbuild.
    pub fn release(&self, paths: Vec<RelPath>) {
        if !paths.is_empty() {
            self.append(Record::Released { paths });
        }
    }

    /// Returns the recorded files that are not declared, unless there are none under the
    /// Buildfile with the digest `texts`.
    pub fn undeclared(&self, texts: Digest, is_declared: &dyn Fn(&RelPath) -> bool) -> Vec<Entry> {
        let state = self.state();
        if state.checked == Some(texts) {
            return Vec::new();
        }
        let entries = state.made.values().flatten();
        let mut undeclared: Vec<Entry> = entries
            .filter(|entry| !is_declared(&entry.path))
            .cloned()
            .collect();
        undeclared.sort_by(|a, b| a.path.cmp(&b.path));
        undeclared.dedup_by(|a, b| a.path == b.path);
        undeclared
    }

    /// Records that there are no undeclared files under the Buildfile with this digest.
    pub fn check(&self, texts: Digest) {
        if self.state().checked != Some(texts) && self.place.is_some() {
            self.append(Record::Checked { texts });
        }
    }

    /// Takes the first error of writing records, once.
    pub fn take_problem(&self) -> Option<String> {
        let mut state = self.state();
        if state.has_reported {
            return None;
        }
        let text = state.error.as_ref().map(ToString::to_string);
        state.has_reported = text.is_some();
        text
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.state.get_or_init(|| {
            let log = self.place.as_ref().map(Place::log);
            Mutex::new(log.map_or_else(State::default, State::open_log))
        });
        // Every change to the maps is one call, which a panic cannot interrupt.
        state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, record: Record) {
        let Some(place) = &self.place else { return };
        let mut state = self.state();
        let Ok(bytes) = frame(&record) else { return };
        if state.error.is_none() {
            let written = state.open(place).and_then(|()| state.write(&bytes));
            let is_first = matches!(record, Record::Begun { .. });
            let flushed = written.and_then(|()| match &state.file {
                Some(file) if place.is_flushed() && is_first => file.sync_data(),
                _ => Ok(()),
            });
            if let Err(source) = flushed {
                let path = place.folder.clone();
                state.error = Some(Problem::Io { path, source });
            }
        }
        state.apply(record);
    }
}

fn find<'e>(entries: &'e [Entry], path: &RelPath) -> Option<&'e EntryKind> {
    let at = entries
        .binary_search_by(|entry| entry.path.cmp(path))
        .ok()?;
    Some(&entries[at].kind)
}

/// Encodes a record with its length and checksum.
fn frame(record: &Record) -> io::Result<Vec<u8>> {
    let payload = postcard::to_stdvec(record).map_err(io::Error::other)?;
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&checksum(&payload));
    bytes.extend_from_slice(&payload);
    Ok(bytes)
}

fn checksum(payload: &[u8]) -> [u8; CHECKSUM] {
    let mut sum = [0; CHECKSUM];
    sum.copy_from_slice(&Digest::of(payload).hash()[..CHECKSUM]);
    sum
}

/// Splits the first record off a log; `None` if it is truncated or damaged.
fn unframe<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (sum, after) = after.split_first_chunk::<CHECKSUM>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let payload = after.get(..length)?;
    if checksum(payload) != *sum {
        return None;
    }
    *rest = &after[length..];
    Some(payload)
}

impl State {
    /// Reads a log, if there is one.
    fn open_log(path: PathBuf) -> Self {
        match Self::read(&path) {
            Ok(state) => state,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(source) => Self {
                is_unreadable: true,
                error: Some(Problem::Io { path, source }),
                ..Self::default()
            },
        }
    }

    /// Reads a log up to the first damaged record.
    fn read(file: &Path) -> io::Result<Self> {
        let bytes = read_log(file)?;
        let mut state = Self::default();
        let Some(mut rest) = bytes.strip_prefix(MAGIC) else {
            return Ok(state);
        };
        while let Some(payload) = unframe(&mut rest) {
            let Ok(record) = postcard::from_bytes(payload) else {
                break;
            };
            state.apply(record);
        }
        state.length = bytes.len() - rest.len();
        Ok(state)
    }

    /// Returns everything that was made, by path.
    fn paths(&mut self) -> &HashMap<RelPath, EntryKind> {
        self.paths.get_or_insert_with(|| {
            let entries = self.made.values().flatten().cloned();
            entries.map(|entry| (entry.path, entry.kind)).collect()
        })
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::Checkout(_) => {}
            Record::Begun { at } => {
                if let Some(from) = self.begun.replace(at) {
                    self.left = Some(self.left.map_or(from, |left| left.min(from)));
                    self.settled.clear();
                }
            }
            Record::Ended => self.begun = None,
            Record::Left { from, settled } => {
                self.left = Some(from);
                self.settled = settled.into_iter().collect();
            }
            Record::Made { target, outputs } => {
                if let Some(paths) = &mut self.paths {
                    let entries = outputs.iter().cloned();
                    paths.extend(entries.map(|entry| (entry.path, entry.kind)));
                }
                if self.left.is_some() {
                    self.settled.insert(target.clone());
                }
                self.made.insert(target, outputs);
            }
            Record::Released { mut paths } => {
                paths.sort_unstable();
                for made in self.made.values_mut() {
                    made.retain(|entry| paths.binary_search(&entry.path).is_err());
                }
                self.paths = None;
            }
            Record::Checked { texts } => self.checked = Some(texts),
        }
    }

    /// Opens the log for appending. Rewrites one that is damaged or mostly superseded.
    fn open(&mut self, place: &Place) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        let path = place.log();
        let on_disk = path.symlink_metadata().map(|metadata| metadata.len());
        let is_intact = on_disk.is_ok_and(|length| length == self.length as u64);
        if self.length == 0 {
            create_folder(place)?;
        }
        let live: usize = self.made.values().map(|made| 64 * (made.len() + 1)).sum();
        let is_large = self.length > MIN_REWRITTEN && self.length / 4 > live;
        if !is_intact || is_large {
            self.rewrite(place)?;
        }
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.file = Some(rustix::fs::open(&path, flags, Mode::empty())?.into());
        Ok(())
    }

    fn rewrite(&mut self, place: &Place) -> io::Result<()> {
        let mut temporary = tempfile::NamedTempFile::new_in(&place.folder)?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(frame(&Record::Checkout(place.checkout.clone()))?);
        for (target, outputs) in &self.made {
            let (target, outputs) = (target.clone(), outputs.clone());
            bytes.extend(frame(&Record::Made { target, outputs })?);
        }
        if let Some(from) = self.left {
            let settled = self.settled.iter().cloned().collect();
            bytes.extend(frame(&Record::Left { from, settled })?);
        }
        if let Some(at) = self.begun {
            bytes.extend(frame(&Record::Begun { at })?);
        }
        if let Some(texts) = self.checked {
            bytes.extend(frame(&Record::Checked { texts })?);
        }
        temporary.write_all(&bytes)?;
        if place.is_flushed() {
            temporary.as_file().sync_data()?;
        }
        temporary.persist(place.log())?;
        self.length = bytes.len();
        if place.is_flushed() {
            // Its name, and those of folders that may be new.
            for above in place.folder.ancestors().take(4) {
                File::open(above)?.sync_all()?;
            }
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        file.write_all(bytes)?;
        self.length += bytes.len();
        Ok(())
    }
}

fn read_log(file: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(file, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    let is_own = metadata.uid() == rustix::process::geteuid().as_raw();
    if !metadata.is_file() || !is_own || metadata.mode() & 0o022 != 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    file.take(MAX_LENGTH).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Creates the folder of a checkout, and removes those of checkouts that no longer exist.
fn create_folder(place: &Place) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(&place.folder)?;
    if let Some(checkouts) = place.folder.parent().filter(|_| place.is_shared) {
        remove_expired(checkouts);
    }
    Ok(())
}

/// Removes the records of checkouts that do not exist and were not used for long. Errors are
/// ignored: they then stay.
fn remove_expired(checkouts: &Path) {
    for entry in std::fs::read_dir(checkouts).into_iter().flatten().flatten() {
        let file = entry.path().join("ledger");
        let is_old = file
            .symlink_metadata()
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|used| {
                let age = SystemTime::now().duration_since(used);
                age.is_ok_and(|age| age > EXPIRY)
            });
        if is_old && checkout_of(&file).is_some_and(|checkout| !checkout.exists()) {
            let _ = std::fs::remove_file(&file);
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}

/// Returns the checkout in the first record of a log.
fn checkout_of(file: &Path) -> Option<Checkout> {
    let bytes = read_log(file).ok()?;
    let mut rest = bytes.strip_prefix(MAGIC)?;
    match postcard::from_bytes(unframe(&mut rest)?).ok()? {
        Record::Checkout(checkout) => Some(checkout),
        _ => None,
    }
}
