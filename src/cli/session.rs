//! An open workspace with everything that a build works with: what is remembered, where
//! results live, who runs commands. It is put together here and taken apart here.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::context::Context;
use super::failure::{Exit, Failure};
use crate::action::index::FileIndex;
use crate::build::{self, Audience, Options, Parts};
use crate::cancel::Cancel;
use crate::event::Summary;
use crate::exec::Local;
use crate::graph::{Named, TargetId};
use crate::journal::Memory;
use crate::path::RelPath;
use crate::source::Diagnostic;
use crate::store::disk::{Durability, Limits, Patience};
use crate::store::outputs::{self, Stage};
use crate::store::{self, Disk, Off, Store};
use crate::workspace::{Layout, Workspace};

/// Whether a session may change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// It holds the lock, and remembers what it finds out.
    Write,
    /// It only looks.
    Read,
}

/// An open workspace with everything that a build works with.
pub(super) struct Session<'c> {
    context: &'c Context,
    pub(super) workspace: Workspace,
    pub(super) layout: Layout,
    pub(super) index: FileIndex,
    pub(super) memory: Memory,
    pub(super) disk: Option<Disk>,
    pub(super) cancel: Cancel,
    stage: Stage,
    executor: Local,
    access: Access,
    /// Whether results are looked up and kept.
    pub(super) is_cached: bool,
    /// Whether the cache may hold more than when the session began.
    has_stored: bool,
    notices: Vec<store::Warning>,
    _lock: Option<File>,
    _makeshift: Option<tempfile::TempDir>,
}

impl<'c> Session<'c> {
    /// Opens the workspace that the context means.
    pub(super) fn open(context: &'c Context, access: Access) -> Result<Self, Failure> {
        let workspace = context.workspace()?;
        let state = match access {
            Access::Write => State::prepare(context, &workspace)?,
            Access::Read => State::of(&workspace),
        };
        let State {
            layout,
            lock,
            makeshift,
            notices,
        } = state;
        let store = store_folder(&workspace, &layout);
        let is_usable = match access {
            Access::Write => makeshift.is_none(),
            Access::Read => store.is_dir(),
        };
        let root = workspace.root.clone();
        let hidden = [layout.state(), &store].map(|path| below(&workspace, path));
        let hidden: Vec<RelPath> = hidden.into_iter().flatten().collect();
        let stage = Stage::new(&root, layout.state(), hidden.clone());
        if access == Access::Write {
            outputs::recover(&stage).map_err(|error| Failure::of(Exit::World, &error))?;
        }
        let executor = Local::new(root.clone(), layout.temporary());
        Ok(Self {
            context,
            index: FileIndex::open(root, &layout.index(), hidden),
            memory: Memory::read(&layout.successes()),
            disk: is_usable.then(|| Disk::open(&store, Durability::Batched)),
            cancel: Cancel::new(),
            executor: executor.with_keeper(PathBuf::from("/proc/self/exe")),
            stage,
            access,
            is_cached: true,
            has_stored: false,
            notices,
            _lock: lock,
            _makeshift: makeshift,
            workspace,
            layout,
        })
    }

    /// Returns the targets that names stand for, with everything they need; without names,
    /// the project's default.
    pub(super) fn select(&self, names: &[String]) -> Result<Vec<TargetId>, Failure> {
        let chosen = self.choose(names)?;
        Ok(self.workspace.graph.closure(&chosen))
    }

    /// Returns the targets that names stand for, and no others.
    pub(super) fn choose(&self, names: &[String]) -> Result<Vec<TargetId>, Failure> {
        let graph = &self.workspace.graph;
        graph
            .select(names)
            .map_err(|unknown| unknown_names(&unknown))
    }

    /// Returns the targets and groups that names are.
    pub(super) fn resolve(&self, names: &[String]) -> Result<Vec<Named>, Failure> {
        let graph = &self.workspace.graph;
        graph
            .resolve(names)
            .map_err(|unknown| unknown_names(&unknown))
    }

    /// Returns how much the Buildfile lets the cache hold.
    pub(super) fn limits(&self) -> Limits {
        let cache = &self.workspace.graph.buildfile().cache;
        Limits {
            max_size: cache.max_size,
            max_age: cache.max_age,
        }
    }

    /// Returns the folder through which outputs move.
    pub(super) fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Builds. `names` is what was asked for.
    pub(super) fn build(
        &mut self,
        (names, wanted): (&[String], &[TargetId]),
        options: Options,
        audience: &mut dyn Audience,
    ) -> Summary {
        let summary = self.with_parts(|parts, memory| {
            build::run(parts, (names, wanted), options, memory, audience)
        });
        self.has_stored |= summary.built > 0 && self.is_cached;
        summary
    }

    /// Lends out everything that a build works with.
    pub(super) fn with_parts<T>(&mut self, work: impl FnOnce(&Parts<'_>, &mut Memory) -> T) -> T {
        let store: &dyn Store = match &self.disk {
            Some(disk) if self.is_cached => disk,
            _ => &Off,
        };
        let early = Mutex::new(std::mem::take(&mut self.notices));
        let disk = self.disk.as_ref();
        let notices = || {
            let mut early = early.lock().unwrap_or_else(PoisonError::into_inner);
            let mut notices = std::mem::take(&mut *early);
            notices.extend(disk.map(Disk::take_warnings).unwrap_or_default());
            notices
        };
        let parts = Parts {
            graph: &self.workspace.graph,
            root: &self.workspace.root,
            layout: &self.layout,
            stage: &self.stage,
            index: &self.index,
            store,
            executor: &self.executor,
            surrounding: self.context.surrounding(),
            cancel: &self.cancel,
            notices: &notices,
        };
        work(&parts, &mut self.memory)
    }

    /// Keeps what was found out for the next session.
    pub(super) fn close(mut self) {
        if self.access == Access::Read {
            return;
        }
        let saved = [
            self.index.save(&self.layout.index()),
            self.memory.save(&self.layout.successes()),
            self.workspace.keep_compiled(&self.layout),
        ];
        for error in saved.into_iter().filter_map(Result::err) {
            let state = self.layout.state().display();
            self.context.complain(&format!(
                "warning: cannot keep what was found out in `{state}`: {error}\n"
            ));
        }
        self.keep_limits();
        // The process ends: taking these apart would cost as much as putting them together.
        let Self {
            index,
            memory,
            workspace,
            ..
        } = self;
        std::mem::forget((index, memory, workspace));
    }

    /// Drops from the cache what the Buildfile's limits do not allow, if that is due. It is
    /// not worth waiting for: the next run that stores something tries again.
    fn keep_limits(&self) {
        let limits = self.limits();
        let Some(disk) = self.disk.as_ref().filter(|_| self.has_stored) else {
            return;
        };
        if !disk.is_collection_due(&limits) {
            return;
        }
        let live: HashSet<_> = self.memory.keys().collect();
        if let Err(error) = disk.collect(&limits, &live, Patience::None) {
            let text = Failure::of(Exit::World, &error).text().unwrap_or_default();
            let text = text.replacen("error", "warning", 1);
            self.context.complain(&text);
        }
    }
}

/// Returns the folder that blobs and results are in.
pub(super) fn store_folder(workspace: &Workspace, layout: &Layout) -> PathBuf {
    let dir = workspace.graph.buildfile().cache.dir.as_ref();
    match (dir, layout.state().parent()) {
        (Some(dir), Some(folder)) => folder.join(&dir.value),
        _ => layout.state().to_owned(),
    }
}

fn below(workspace: &Workspace, path: &Path) -> Option<RelPath> {
    let path = path.canonicalize().ok()?;
    workspace.root.relative(&path)
}

fn unknown_names(unknown: &[Diagnostic]) -> Failure {
    let messages: Vec<&str> = unknown.iter().map(|d| d.message.as_str()).collect();
    let help = unknown.iter().find_map(|d| d.help.clone());
    let help = help.unwrap_or_else(|| "`fbuild list` shows all targets and groups".to_owned());
    Failure::usage_with_help(messages.join("\nerror: "), help)
}

/// The state folder, ready for use.
struct State {
    layout: Layout,
    lock: Option<File>,
    /// A folder used instead, for this run only.
    makeshift: Option<tempfile::TempDir>,
    notices: Vec<store::Warning>,
}

impl State {
    fn of(workspace: &Workspace) -> Self {
        Self {
            layout: workspace.layout.clone(),
            lock: None,
            makeshift: None,
            notices: Vec::new(),
        }
    }

    /// Makes the state folder and takes its lock. Where that cannot be done the run goes on
    /// with a folder that is thrown away afterwards.
    fn prepare(context: &Context, workspace: &Workspace) -> Result<Self, Failure> {
        let layout = workspace.layout.clone();
        match make_folders(&layout).and_then(|()| take_lock(context, &layout)) {
            Ok(lock) => Ok(Self {
                lock: Some(lock),
                ..Self::of(workspace)
            }),
            Err(error) => Self::makeshift(workspace, &error),
        }
    }

    fn makeshift(workspace: &Workspace, cause: &std::io::Error) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new()
            .prefix(".fbuild-")
            .tempdir_in(workspace.root.path());
        let folder = folder.map_err(|error| {
            Failure::world(
                &format!("cannot write to `{}`", workspace.root.path().display()),
                &error,
            )
        })?;
        let layout = Layout::new(folder.path());
        make_folders(&layout).map_err(|error| Failure::world("cannot make a folder", &error))?;
        let state = workspace.layout.state().display();
        let message = format!(
            "the cache folder `{state}` cannot be used: {cause}; nothing is remembered of this run"
        );
        Ok(Self {
            layout,
            lock: None,
            makeshift: Some(folder),
            notices: vec![store::Warning {
                code: "fbuild::store::off",
                message,
            }],
        })
    }
}

fn make_folders(layout: &Layout) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    for folder in [layout.metadata(), layout.runs(), layout.temporary()] {
        builder.create(folder)?;
    }
    let ignore = layout.state().join(".gitignore");
    match ignore.exists() {
        true => Ok(()),
        false => std::fs::write(ignore, "*\n"),
    }
}

/// Takes the lock of the checkout, waiting for another run if there is one, and saying for
/// which.
fn take_lock(context: &Context, layout: &Layout) -> std::io::Result<File> {
    let mut lock = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(layout.lock())?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            lock.read_to_string(&mut holder)?;
            let holder = crate::path::escape(holder.trim_end().as_bytes()).into_owned();
            context.complain(&format!(
                "waiting for another run in this folder: {holder}\n"
            ));
            lock.lock()?;
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    lock.set_len(0)?;
    lock.rewind()?;
    lock.write_all(context.holder().as_bytes())?;
    Ok(lock)
}

/// Returns the exit code of a build.
pub(super) fn ended(summary: &Summary) -> Result<(), Failure> {
    if summary.interrupted {
        Err(Failure::silent(Exit::Interrupted))
    } else if summary.failed > 0 {
        Err(Failure::silent(Exit::Target))
    } else {
        Ok(())
    }
}
