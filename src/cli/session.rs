//! An open workspace with everything that a build works with: what is remembered, where
//! results live, who runs commands. It is put together here and taken apart here.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use super::context::Context;
use super::failure::{Exit, Failure};
use super::ownership;
use super::run_lock::RunLock;
use super::state::State;
use crate::action::index::{FileIndex, Saved};
use crate::build::{self, Options, Parts, Request};
use crate::cancel::Cancel;
use crate::event::{Sink, Summary, Warning};
use crate::exec::Local;
use crate::graph::{Named, TargetId};
use crate::journal::Memory;
use crate::journal::ownership::{IgnoreRules, Ledger, Ownership};
use crate::path::RelPath;
use crate::snapshot::Snapshot;
use crate::store::disk::{Durability, Limits, WhenBusy, is_foreign};
use crate::store::outputs::{self, Stage};
use crate::store::shared::SharedCache;
use crate::store::{Disk, Off, Store};
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
    /// The snapshot of the last run, if it applies.
    pub(super) snapshot: Option<Snapshot>,
    /// The cache that machines share, if one is used.
    pub(super) shared: Option<Box<dyn SharedCache>>,
    stage: Stage,
    ledger: Ledger,
    ignored: IgnoreRules,
    executor: Local,
    access: Access,
    /// Whether results are looked up and kept.
    pub(super) is_cached: bool,
    /// Whether the cache may hold more than when the session began.
    has_stored: bool,
    /// The result of saving, if that was done during the build.
    saved: Option<Option<io::Error>>,
    /// Whether it was said that something cannot be kept.
    has_warned: bool,
    /// Keeps the lock, too.
    state: State,
}

impl<'c> Session<'c> {
    /// Opens the workspace that the context means.
    pub(super) fn open(context: &'c Context, access: Access) -> Result<Self, Failure> {
        Self::open_with(context, access, None)
    }

    /// The same, with the lock if it was taken before.
    pub(super) fn open_with(
        context: &'c Context,
        access: Access,
        lock: Option<RunLock>,
    ) -> Result<Self, Failure> {
        let (key, problem) = match access {
            Access::Write => context.key_to_write(),
            Access::Read => context.key(),
        };
        let (workspace, early) = std::thread::scope(|threads| {
            // While the lock is held, nobody changes what is remembered.
            let early = lock
                .as_ref()
                .and_then(|_| Remembered::layout_of_much(context));
            let early = early.map(|layout| threads.spawn(move || Remembered::read(&layout)));
            let workspace = context.workspace();
            (workspace, early.and_then(|early| early.join().ok()))
        });
        let workspace = workspace?;
        let mut state = match access {
            Access::Write => State::prepare(context, &workspace, lock)?,
            Access::Read => State::of(&workspace),
        };
        state.notices.extend(problem);
        let (layout, known) = (state.layout.clone(), &workspace.layout);
        let mut store = store_folder(&workspace);
        // A read-only checkout has a read-only store, unless the Buildfile names another.
        if state.is_elsewhere() && !state.is_temporary() && store == known.state() {
            store = layout.state().to_owned();
        }
        let is_named = store != known.state() && store != layout.state();
        let store = if is_named && is_foreign(&store) {
            state.notices.push(foreign(&store));
            None
        } else {
            Some(store)
        };
        let is_temporary = state.is_temporary();
        let is_usable = |store: &&PathBuf| match access {
            Access::Write => !is_temporary || store.is_dir(),
            // What only looks does not make a store either.
            Access::Read => store.join("version").exists(),
        };
        let root = workspace.root.clone();
        let trash = known.trash();
        let kept = [layout.state(), known.state(), &trash]
            .into_iter()
            .chain(store.as_deref());
        let hidden: Vec<RelPath> = kept.filter_map(|path| below(&workspace, path)).collect();
        let stage = Stage::new(&root, layout.state(), &trash, hidden.clone());
        if access == Access::Write {
            let recovered = outputs::recover(&stage, &|path| is_output(&workspace, path));
            let recovered = recovered.map_err(|error| Failure::of(Exit::World, &error))?;
            state.notices.extend(outputs::trashed(&recovered.trashed));
        }
        let executor = Local::new(
            root.clone(),
            layout.temporary(),
            context.user_dirs().clone(),
        );
        let Remembered { files, memory } =
            early.unwrap_or_else(|| Remembered::read(&state.earlier));
        let ledger = if access == Access::Write {
            let (ledger, warning) = ownership::open(context, &workspace, &layout, &memory);
            state.notices.extend(warning);
            ledger
        } else {
            Ledger::off()
        };
        Ok(Self {
            context,
            index: FileIndex::new(root, files, hidden),
            memory,
            disk: store.as_ref().filter(is_usable).map(|store| match access {
                Access::Write => Disk::open(store, Durability::Batched, key),
                Access::Read => Disk::open_to_look(store, key),
            }),
            snapshot: None,
            shared: None,
            cancel: Cancel::new(),
            executor: executor.with_watchdog(PathBuf::from("/proc/self/exe")),
            ignored: IgnoreRules::new(&workspace.root),
            ledger,
            stage,
            access,
            is_cached: true,
            has_stored: false,
            saved: None,
            has_warned: false,
            state,
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
            .map_err(|unknown| Failure::unknown_names(&unknown))
    }

    /// Returns the targets and groups that names are.
    pub(super) fn resolve(&self, names: &[String]) -> Result<Vec<Named>, Failure> {
        let graph = &self.workspace.graph;
        graph
            .resolve(names)
            .map_err(|unknown| Failure::unknown_names(&unknown))
    }

    /// Returns how much the Buildfile lets the cache hold.
    pub(super) fn limits(&self) -> Limits {
        let cache = &self.workspace.graph.buildfile().cache;
        Limits {
            max_size: cache.max_size,
            max_age: cache.max_age,
        }
    }

    /// Returns what there is to say about the folders, once.
    pub(super) fn take_notices(&mut self) -> Vec<Warning> {
        let mut notices = std::mem::take(&mut self.state.notices);
        notices.extend(
            self.disk
                .as_ref()
                .map(Disk::take_warnings)
                .unwrap_or_default(),
        );
        notices
    }

    /// Returns the folder in which results live, if it and the state are there to stay.
    pub(super) fn lasting_store(&self) -> Option<PathBuf> {
        let lasts = self.disk.is_some() && self.is_cached && !self.state.is_elsewhere();
        lasts.then(|| store_folder(&self.workspace))
    }

    /// Returns the folder through which outputs move.
    pub(super) fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Returns the knowledge about the files in the tree.
    pub(super) fn ownership(&self, replace: bool) -> Ownership<'_> {
        Ownership {
            ledger: &self.ledger,
            index: &self.index,
            store: self.store(),
            ignored: &self.ignored,
            replace,
        }
    }

    /// Records that paths no longer belong to fbuild.
    pub(super) fn release(&self, paths: Vec<RelPath>) {
        self.ledger.release(paths);
    }

    fn store(&self) -> &dyn Store {
        match &self.disk {
            Some(disk) if self.is_cached => disk,
            _ => &Off,
        }
    }

    /// Builds the wanted targets, for which the user typed `names`.
    pub(super) fn build(
        &mut self,
        names: &[String],
        wanted: &[TargetId],
        options: Options,
        sink: &mut dyn Sink,
    ) -> Summary {
        let mut snapshot = self.snapshot.take();
        let request = Request {
            names,
            wanted,
            options,
            snapshot: snapshot.as_ref(),
            warnings: self.take_notices(),
        };
        let finished = self.with_parts(|parts, memory| build::run(parts, request, memory, sink));
        self.snapshot = snapshot.take();
        self.saved = Some(finished.unsaved);
        self.has_stored |= finished.summary.built > 0 && self.is_cached;
        finished.summary
    }

    /// Lends out everything that a build works with.
    pub(super) fn with_parts<T>(&mut self, work: impl FnOnce(&Parts<'_>, &mut Memory) -> T) -> T {
        let store: &dyn Store = match &self.disk {
            Some(disk) if self.is_cached => disk,
            _ => &Off,
        };
        let parts = Parts {
            shared: self.shared.as_deref().filter(|_| self.is_cached),
            workspace: &self.workspace,
            layout: &self.layout,
            stage: &self.stage,
            index: &self.index,
            ledger: &self.ledger,
            ignored: &self.ignored,
            store,
            executor: &self.executor,
            host_env: self.context.host_env(),
            cancel: &self.cancel,
        };
        work(&parts, &mut self.memory)
    }

    /// Keeps what was found out for the next session, and ends this one.
    pub(super) fn close(mut self) {
        self.save();
        self.end();
    }

    /// Ends the session, whose findings were saved.
    pub(super) fn end(self) {
        if self.access == Access::Write {
            self.tidy_trash();
            self.keep_limits();
        }
        // The process ends: taking these apart would cost as much as putting them together.
        let Self {
            index,
            memory,
            workspace,
            ..
        } = self;
        std::mem::forget((index, memory, workspace));
    }

    /// Keeps what was found out for the next session.
    pub(super) fn save(&mut self) {
        if self.access == Access::Read {
            return;
        }
        let unsaved = match self.saved.take() {
            Some(unsaved) => unsaved,
            None => self.with_parts(|parts, memory| parts.save(memory).err()),
        };
        if let Some(error) = unsaved {
            self.cannot_keep(&error);
        }
    }

    /// Says that something of what was found out is lost for the next session: once, however
    /// much it is.
    pub(super) fn cannot_keep(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.has_warned, true) {
            let state = self.layout.state().display();
            self.context.warn(&Warning::new(
                "fbuild::journal::state",
                format!("cannot keep what was found out in `{state}`: {error}"),
            ));
        }
    }

    /// Deletes old files in the trash, and the folder if it is empty.
    fn tidy_trash(&self) {
        let trash = self.stage.trash();
        if let Err(error) = trash.delete_older(TRASH_AGE) {
            self.context.warn(&Warning::of(&error));
        }
        trash.tidy();
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
        if let Err(error) = disk.collect(&limits, &live, WhenBusy::Skip) {
            self.context.warn(&Warning::of(&error));
        }
    }
}

/// How long files stay in the trash, in milliseconds.
const TRASH_AGE: i64 = 14 * 24 * 3600 * 1000;

/// What earlier runs left.
struct Remembered {
    files: Saved,
    memory: Memory,
}

impl Remembered {
    /// From how many bytes on it is read while the Buildfile is.
    const MUCH: u64 = 1 << 20;

    fn read(layout: &Layout) -> Self {
        Self {
            files: Saved::read(&layout.index()),
            memory: Memory::read(&layout.successes()),
        }
    }

    /// Returns where it is, if it is worth another thread.
    fn layout_of_much(context: &Context) -> Option<Layout> {
        let layout = Layout::new(context.buildfile().ok()?.parent()?, context.key().0);
        let size = layout.index().path().metadata().ok()?.len();
        (size >= Self::MUCH).then_some(layout)
    }
}

fn foreign(folder: &Path) -> Warning {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let folder = folder.display();
    Warning::new(
        "fbuild::store::off",
        format!(
            "`{folder}` is to be the cache folder and holds other things, which are left alone; nothing is cached"
        ),
    )
}

/// Returns the folder that blobs and results are in.
pub(super) fn store_folder(workspace: &Workspace) -> PathBuf {
    let layout = &workspace.layout;
    let dir = workspace.graph.buildfile().cache.dir.as_ref();
    match (dir, layout.state().parent()) {
        (Some(dir), Some(folder)) => folder.join(&dir.value),
        _ => layout.state().to_owned(),
    }
}

/// Returns the path below the root of a folder that need not exist yet.
fn below(workspace: &Workspace, path: &Path) -> Option<RelPath> {
    if let Ok(path) = path.canonicalize() {
        return workspace.root.relative(&path);
    }
    let parent = workspace
        .root
        .relative(&path.parent()?.canonicalize().ok()?)?;
    Some(parent.child(path.file_name()?.as_encoded_bytes()))
}

/// Returns true if a target declares a path as an output.
fn is_output(workspace: &Workspace, path: &RelPath) -> bool {
    let graph = &workspace.graph;
    graph.ids().any(|id| {
        let outputs = graph.target(id).outputs.iter();
        outputs
            .flat_map(|outputs| &outputs.paths)
            .any(|output| output.value.covers(path))
    })
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
