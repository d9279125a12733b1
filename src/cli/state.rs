//! The state folder: made, locked, or replaced for one run by one that is thrown away. It
//! does not know what is kept in it.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::context::Context;
use super::failure::Failure;
use crate::event::Warning;
use crate::store::outputs;
use crate::workspace::{Layout, Workspace};

/// The state folder, ready for use.
pub(super) struct State {
    pub(super) layout: Layout,
    /// What there is to say about it.
    pub(super) notices: Vec<Warning>,
    /// Held until the end.
    _lock: Option<File>,
    /// A folder used instead, for this run only.
    makeshift: Option<tempfile::TempDir>,
}

impl State {
    /// Returns the state folder, whether it is there or not, for those who only look.
    pub(super) fn of(workspace: &Workspace) -> Self {
        Self {
            layout: workspace.layout.clone(),
            notices: Vec::new(),
            _lock: None,
            makeshift: None,
        }
    }

    /// Makes the state folder and takes its lock, unless it was taken before. Where that
    /// cannot be done the run goes on with a folder that is thrown away afterwards.
    pub(super) fn prepare(
        context: &Context,
        workspace: &Workspace,
        lock: Option<File>,
    ) -> Result<Self, Failure> {
        let lock = match lock {
            Some(mut lock) => make_folders(&workspace.layout)
                .and_then(|()| say_who(context, &mut lock))
                .map(|()| lock),
            None => take_lock(context, &workspace.layout),
        };
        match lock {
            Ok(lock) => Ok(Self {
                _lock: Some(lock),
                ..Self::of(workspace)
            }),
            Err(error) => Self::instead(context, workspace, &error),
        }
    }

    /// Tells whether another folder is used instead, for this run only.
    pub(super) fn is_temporary(&self) -> bool {
        self.makeshift.is_some()
    }

    fn instead(
        context: &Context,
        workspace: &Workspace,
        cause: &io::Error,
    ) -> Result<Self, Failure> {
        let root = workspace.root.path();
        let cannot =
            |error| Failure::world(&format!("cannot write to `{}`", root.display()), &error);
        let folder = tempfile::Builder::new()
            .prefix(".fbuild-")
            .tempdir_in(root)
            .map_err(cannot)?;
        let layout = Layout::new(folder.path(), context.key().0);
        make_folders(&layout).map_err(cannot)?;
        let state = workspace.layout.state().display();
        let message = format!(
            "the cache folder `{state}` cannot be used: {cause}; nothing is remembered of this run"
        );
        Ok(Self {
            layout,
            notices: vec![Warning::new("fbuild::store::off", message)],
            _lock: None,
            makeshift: Some(folder),
        })
    }
}

/// Takes the lock if nobody has it, and the state folder is as a run leaves it that goes
/// well: another run would have nothing to say of it and nothing to put in order. Who has it
/// is written down only by [`State::prepare`]: mostly it is let go before anybody can read it.
pub(super) fn try_lock_idle(layout: &Layout) -> Option<File> {
    let is_file = |path: PathBuf| path.symlink_metadata().is_ok_and(|m| m.is_file());
    is_file(layout.lock()).then_some(())?;
    let lock = outputs::open_own(&layout.lock()).ok()?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
        Err(_) => return None,
    }
    let stage = layout.state().join("stage");
    let needed = [layout.metadata(), layout.runs(), layout.temporary()];
    let is_folder = |folder: &PathBuf| folder.symlink_metadata().is_ok_and(|m| m.is_dir());
    let is_usable = |folder: &PathBuf| is_folder(folder) && outputs::check_writable(folder).is_ok();
    let is_at_rest = is_there(&lock, layout)
        && needed.iter().all(is_usable)
        && outputs::check_writable(&stage).is_ok()
        && is_empty(&stage);
    is_at_rest.then_some(lock)
}

/// Tells whether nothing is in a folder; what is not there holds nothing.
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
    let ignore = layout.state().join(".gitignore");
    // Only a file that is new is written to: what is there may be a link to somewhere else.
    match File::create_new(ignore) {
        Ok(mut ignore) => ignore.write_all(b"*\n"),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes the state folder and takes the lock of the checkout, waiting for another run if
/// there is one, and saying for which.
fn take_lock(context: &Context, layout: &Layout) -> io::Result<File> {
    loop {
        make_folders(layout)?;
        let mut lock = outputs::open_own(&layout.lock())?;
        wait_for(context, &mut lock)?;
        if !is_there(&lock, layout) {
            // Whoever held it has removed the folder with everything in it.
            continue;
        }
        say_who(context, &mut lock)?;
        return Ok(lock);
    }
}

/// Writes into a lock who holds it.
fn say_who(context: &Context, lock: &mut File) -> io::Result<()> {
    let holder = context.holder();
    lock.rewind()?;
    lock.write_all(holder.as_bytes())?;
    // Mostly it is as long as the last one; to shorten a file takes longer than to look.
    match lock.metadata()?.len() == holder.len() as u64 {
        true => Ok(()),
        false => lock.set_len(holder.len() as u64),
    }
}

fn wait_for(context: &Context, lock: &mut File) -> io::Result<()> {
    match lock.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            lock.read_to_string(&mut holder)?;
            let holder = match holder.trim_end() {
                "" => "it has only begun".to_owned(),
                holder => crate::path::escape(holder.as_bytes()).into_owned(),
            };
            context.eprint(&format!(
                "waiting for another run in this folder: {holder}\n"
            ));
            lock.lock()
        }
        // A file system without locks keeps nobody from building.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Tells whether an open lock is the one that others would find, and no link led to it.
fn is_there(lock: &File, layout: &Layout) -> bool {
    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    let there = std::fs::symlink_metadata(layout.lock()).map(identity);
    matches!((lock.metadata().map(identity), there), (Ok(ours), Ok(there)) if ours == there)
}
