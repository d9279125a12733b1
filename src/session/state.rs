//! Creates and locks the state folder, or replaces it where it is unusable.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::refusal::{is_private, refusal};
use super::run_lock::{NESTED, RunLock};
use super::{Error, Host};
use crate::digest::Digest;
use crate::event::Warning;
use crate::store::disk::TAG;
use crate::store::outputs;
use crate::workspace::{Layout, Workspace};

/// The state folder, ready for use.
pub(super) struct State {
    /// The folders that this run writes.
    pub(super) layout: Layout,
    /// The folders whose index and successes this run reads.
    pub(super) earlier: Layout,
    /// Warnings about the folders.
    pub(super) warnings: Vec<Warning>,
    /// Held until the end.
    _lock: Option<RunLock>,
    substitute: Substitute,
    /// Whether the project's state folder must not be touched.
    is_refused: bool,
}

/// A state folder that replaces the project's own.
enum Substitute {
    None,
    /// In the user's cache folder: the checkout is read-only.
    Lasting,
    /// Removed after this run.
    Temporary {
        _folder: tempfile::TempDir,
    },
}

impl State {
    /// Returns the state folder, which may not exist, for a command that changes nothing.
    pub(super) fn read_only(workspace: &Workspace) -> Self {
        Self {
            layout: workspace.layout.clone(),
            earlier: workspace.layout.clone(),
            warnings: Vec::new(),
            _lock: None,
            substitute: Substitute::None,
            is_refused: false,
        }
    }

    /// Creates the state folder and takes its lock, unless the caller holds it. Replaces a
    /// folder that is unusable.
    pub(super) fn lock(
        host: &Host<'_>,
        workspace: &Workspace,
        lock: Option<RunLock>,
    ) -> Result<Self, Error> {
        let layout = &workspace.layout;
        if let Some(refusal) = refusal(layout.state()) {
            let warning = refusal.warning(layout.state());
            let substitute = Self::substitute(host, workspace, warning)?;
            return Ok(Self {
                earlier: substitute.layout.clone(),
                is_refused: true,
                ..substitute
            });
        }
        let locked = match lock {
            Some(lock) => make_folders(layout)
                .and_then(|()| lock.record_holder(host))
                .map(|()| Some(lock)),
            None => take_lock(host, workspace.root.path(), layout),
        };
        let mut state = match locked {
            Ok(lock) => Self {
                _lock: lock,
                ..Self::read_only(workspace)
            },
            Err(error) if error.kind() == NESTED => return Err(Error::nested(host)),
            Err(error) => {
                let warning = unusable(layout.state(), &error);
                Self::substitute(host, workspace, warning)?
            }
        };
        if state._lock.is_none() {
            state.warnings.push(no_lock());
        }
        Ok(state)
    }

    /// Returns true if this run's state is removed after it.
    pub(super) fn is_temporary(&self) -> bool {
        matches!(self.substitute, Substitute::Temporary { .. })
    }

    /// Returns true if the project's state folder must not be touched.
    pub(super) fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Returns true if the state is not in the project.
    pub(super) fn is_elsewhere(&self) -> bool {
        !matches!(self.substitute, Substitute::None)
    }

    fn substitute(host: &Host<'_>, workspace: &Workspace, warning: Warning) -> Result<Self, Error> {
        let root = workspace.root.path();
        let is_writable = outputs::check_writable(root).is_ok();
        if !is_writable && let Some(state) = Self::in_cache(host, workspace)? {
            return Ok(state);
        }
        let cannot = |source| Error::Folder {
            folder: root.to_owned(),
            source,
        };
        // In the project if possible: outputs move through it, which must not copy them.
        let parent = if is_writable {
            root.to_owned()
        } else {
            host.user_dirs.runtime().map_err(cannot)?
        };
        let folder = tempfile::Builder::new()
            .prefix(".fbuild-")
            .tempdir_in(parent)
            .map_err(cannot)?;
        let layout = Layout::new(folder.path(), host.key());
        make_folders(&layout).map_err(cannot)?;
        Ok(Self {
            layout,
            warnings: vec![warning],
            _lock: RunLock::take_substitute(host, root).map_err(|_| Error::nested(host))?,
            substitute: Substitute::Temporary { _folder: folder },
            ..Self::read_only(workspace)
        })
    }

    /// Returns a state folder in the user's cache folder, if there is one.
    fn in_cache(host: &Host<'_>, workspace: &Workspace) -> Result<Option<Self>, Error> {
        let root = workspace.root.path();
        let name = Digest::of(root.as_os_str().as_encoded_bytes()).short();
        let Some(cache) = host.user_dirs.cache() else {
            return Ok(None);
        };
        let folder = cache.join("checkouts").join(name);
        let layout = Layout::new(&folder, host.key());
        let lock = match take_lock(host, root, &layout) {
            Ok(lock) => lock,
            Err(error) if error.kind() == NESTED => return Err(Error::nested(host)),
            Err(_) => return Ok(None),
        };
        // The checkout was writable when its own state was written, perhaps later.
        let is_newer = changed(&layout) > changed(&workspace.layout);
        let earlier = if is_newer { &layout } else { &workspace.layout };
        Ok(Some(Self {
            earlier: earlier.clone(),
            layout,
            _lock: lock,
            substitute: Substitute::Lasting,
            ..Self::read_only(workspace)
        }))
    }
}

fn unusable(state: &Path, cause: &io::Error) -> Warning {
    let state = state.display();
    Warning::new(
        "fbuild::store::off",
        format!(
            "the cache folder `{state}` cannot be used: {cause}; nothing is remembered of this run"
        ),
    )
}

fn no_lock() -> Warning {
    Warning::new(
        "fbuild::store::no_lock",
        "no file system here has locks; two runs at once in this folder can break each other's \
         outputs"
            .to_owned(),
    )
}

/// Returns the time at which a state was last written.
fn changed(layout: &Layout) -> Option<SystemTime> {
    layout.successes().path().metadata().ok()?.modified().ok()
}

/// Takes the lock if no other run holds it and the state folder is as a normal run leaves it,
/// so that another run would report and repair nothing.
pub(super) fn try_lock_idle(host: &Host<'_>, layout: &Layout) -> Option<RunLock> {
    if !is_private(layout.state()) {
        return None;
    }
    let lock = RunLock::try_take(host, layout.state().parent()?, &layout.lock())?;
    let stage = layout.state().join("stage");
    let needed = [layout.metadata(), layout.runs(), layout.temporary()];
    let is_folder = |folder: &PathBuf| folder.symlink_metadata().is_ok_and(|m| m.is_dir());
    let is_usable = |folder: &PathBuf| is_folder(folder) && outputs::check_writable(folder).is_ok();
    let is_idle =
        needed.iter().all(is_usable) && outputs::check_writable(&stage).is_ok() && is_empty(&stage);
    is_idle.then_some(lock)
}

/// Returns true if a folder has no entries or does not exist.
fn is_empty(folder: &Path) -> bool {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn make_folders(layout: &Layout) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    let needed = [layout.metadata(), layout.runs(), layout.temporary()];
    for folder in &needed {
        builder.create(folder)?;
    }
    let stage = layout.state().join("stage");
    for folder in needed.iter().chain([&stage]) {
        outputs::check_writable(folder)?;
    }
    for (name, text) in [("CACHEDIR.TAG", TAG), (".gitignore", "*\n")] {
        // Only a new file is written: an existing name may be a link to elsewhere.
        match File::create_new(layout.state().join(name)) {
            Ok(mut file) => file.write_all(text.as_bytes())?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Creates the state folder and takes the lock of the checkout in `root`, after another run.
fn take_lock(host: &Host<'_>, root: &Path, layout: &Layout) -> io::Result<Option<RunLock>> {
    RunLock::take(host, root, &layout.lock(), || make_folders(layout))
}
