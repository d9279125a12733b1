//! A run that went well, remembered: under which conditions it was made and all that it
//! looked at. While neither changes, there is nothing to be done; where little changes, most
//! of what it found out still holds. It knows nothing of targets but how many there were.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::action::index::observations::{self, Earlier, Moved};
use crate::action::index::{FileIndex, boot_id, mtime_only};
use crate::checked_file::{self, CheckedFile, Magic};
use crate::digest::Digest;
use crate::glob::Pattern;
use crate::path::Root;
use crate::stamp::Stamp;

const MAGIC: &Magic = b"fbuild-still  2\n";
/// The program that runs, wherever it is.
const PROGRAM: &str = "/proc/self/exe";

/// From how many bytes of looks on another thread looks.
const MANY_LOOKS: usize = 64 * 1024;

/// What besides files decides what a run finds out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    /// The texts of the Buildfile, the first one first.
    pub texts: Vec<(PathBuf, Digest)>,
    /// The project's root as the Buildfile names it.
    pub root_as_named: PathBuf,
    /// The folder that this is, free of links: paths are below it.
    pub root: PathBuf,
    /// Where results live, if they live in a folder.
    pub store: Option<PathBuf>,
    /// What was asked for.
    pub names: Vec<String>,
    /// The variables in keys; unset ones are `None`.
    pub variables: Vec<(String, Option<Digest>)>,
    /// The secrets, and whether each is set: that is in keys, their values are nowhere.
    pub secrets: Vec<(String, bool)>,
    /// The tools in keys: name, program file, its stamp.
    pub tools: Vec<(String, PathBuf, Stamp)>,
}

/// A run that went well, and what of it still stands.
pub struct Standstill {
    head: Head,
    file: CheckedFile,
    /// Where in the file the looks begin.
    looks: usize,
    /// Which looks do not hold any more, by number.
    failed: Vec<usize>,
    /// What that means.
    moved: Vec<Moved>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    /// Which last successes the run left. As long as any other, so that the next run can
    /// note others in its place.
    successes: [u8; 32],
    /// Another version, or another program of the same, may find out something else.
    fbuild: String,
    program: Stamp,
    boot: String,
    conditions: Conditions,
    targets: usize,
    is_final: bool,
}

/// What is to be remembered of a run that went well.
pub struct Run<'a> {
    /// What it looked at.
    pub index: &'a FileIndex,
    /// What was known when it began, under the same conditions.
    pub earlier: Option<&'a mut Standstill>,
    /// How many targets it brought up to date.
    pub targets: usize,
    /// Whether they stay so if nothing changes.
    pub is_final: bool,
}

impl Standstill {
    /// Reads what [`keep`] wrote. `None` if there is nothing, or it is of another program,
    /// from before the last boot, or does not go with the last `successes`.
    pub fn read(file: &Path, successes: &Path) -> Option<Self> {
        let file = checked_file::read(file, MAGIC)?;
        let (head, rest) = postcard::take_from_bytes::<Head>(&file).ok()?;
        let is_ours = head.fbuild == env!("CARGO_PKG_VERSION")
            && Some(head.program) == Stamp::of_path(Path::new(PROGRAM))
            && head.boot == boot_id()
            && Some(head.successes) == identity(successes);
        is_ours.then_some(())?;
        Some(Self {
            looks: file.len() - rest.len(),
            head,
            file,
            failed: Vec::new(),
            moved: Vec::new(),
        })
    }

    /// Returns under which conditions the run was made.
    pub fn conditions(&self) -> &Conditions {
        &self.head.conditions
    }

    /// Finds out what still stands; `None` if `is_same` says that the conditions are
    /// others, or too much has moved. Both are found out at the same time if that is worth a
    /// thread.
    pub fn compare(
        mut self,
        root: &Root,
        is_same: impl FnOnce(&Conditions) -> bool,
    ) -> Option<Self> {
        let stop = AtomicBool::new(false);
        let looks = self.looks();
        if looks.len() < MANY_LOOKS {
            is_same(&self.head.conditions).then_some(())?;
            (self.failed, self.moved) = observations::compare(looks, root, &stop)?
                .into_iter()
                .unzip();
            return Some(self);
        }
        let moved = std::thread::scope(|threads| {
            let moved = threads.spawn(|| observations::compare(looks, root, &stop));
            let is_same = is_same(&self.head.conditions);
            if !is_same {
                stop.store(true, Ordering::Relaxed);
            }
            moved.join().ok().flatten().filter(|_| is_same)
        });
        (self.failed, self.moved) = moved?.into_iter().unzip();
        Some(self)
    }

    /// Returns how many targets are up to date, if nothing moved.
    pub fn up_to_date(&self) -> Option<usize> {
        let is_still = self.failed.is_empty() && self.head.is_final;
        is_still.then_some(self.head.targets)
    }

    /// Takes back what moved if that is only files which were touched and hold what they
    /// held; in `file`, too, so that they need not be read again.
    pub fn refresh_touched(&mut self, file: &Path, root: &Root) {
        if self.failed.is_empty() || !self.head.is_final {
            return;
        }
        let Some(renewed) = mtime_only::renewed(self.looks(), &self.failed, root) else {
            return;
        };
        if renewed.is_empty() || self.patch(file, None, renewed) {
            (self.failed, self.moved) = (Vec::new(), Vec::new());
        }
    }

    /// Changes the little that a run left in another way, where that is all; the head must
    /// be as long as it was.
    fn change(&mut self, file: &Path, head: &[u8], index: &FileIndex) -> bool {
        let changes = (head.len() == self.looks).then(|| index.changes(self.earlier()));
        changes
            .flatten()
            .is_some_and(|looks| self.patch(file, Some(head), looks))
    }

    /// Writes over the head and over looks, each at its place among them, here and in `file`.
    fn patch(&mut self, file: &Path, head: Option<&[u8]>, looks: Vec<(usize, Vec<u8>)>) -> bool {
        let head = head.map(|head| (0, head.to_vec()));
        let looks = looks
            .into_iter()
            .map(|(at, bytes)| (self.looks + at, bytes));
        let changes: Vec<(usize, Vec<u8>)> = head.into_iter().chain(looks).collect();
        checked_file::patch(file, &mut self.file, &changes).is_ok()
    }

    fn earlier(&self) -> Earlier<'_> {
        Earlier {
            looks: self.looks(),
            failed: &self.failed,
        }
    }

    /// Tells whether a walk for `pattern` may find something else than then.
    pub fn has_moved(&self, pattern: &Pattern) -> bool {
        self.moved.iter().any(|moved| moved.concerns(pattern))
    }

    fn looks(&self) -> &[u8] {
        self.file.get(self.looks..).unwrap_or_default()
    }
}

/// Keeps in `file` what a run looked at, to go with the last `successes` that it left.
pub fn keep(file: &Path, successes: &Path, run: Run<'_>, conditions: Conditions) -> io::Result<()> {
    let program = Stamp::of_path(Path::new(PROGRAM));
    let (Some(successes), Some(program)) = (identity(successes), program) else {
        return Ok(());
    };
    let head = Head {
        successes,
        fbuild: env!("CARGO_PKG_VERSION").to_owned(),
        program,
        boot: boot_id(),
        conditions,
        targets: run.targets,
        is_final: run.is_final,
    };
    let head = postcard::to_stdvec(&head).map_err(io::Error::other)?;
    let mut earlier = run.earlier;
    if let Some(earlier) = &mut earlier
        && earlier.change(file, &head, run.index)
    {
        return Ok(());
    }
    match run.index.looks(earlier.as_deref().map(Standstill::earlier)) {
        Some(looks) => checked_file::write(file, MAGIC, &[&head, &looks]),
        None => Ok(()),
    }
}

/// Returns what tells a checked file from those that were in its place before and will be
/// after. Its stamp alone would not if it is written again at once.
fn identity(file: &Path) -> Option<[u8; 32]> {
    let identity = (Stamp::of_path(file)?, checked_file::checksum(file)?);
    let bytes = postcard::to_stdvec(&identity).ok()?;
    Some(*Digest::of(&bytes).hash())
}
