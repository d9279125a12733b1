//! An open workspace with everything that a build works with: the state that earlier runs
//! left, the store, the executor. Every face of fbuild starts here.
//!
//! 1. [`Start::check`] takes the lock of an idle tree and checks the snapshot of the last
//!    run: if nothing changed, there is nothing more to do.
//! 2. [`Session::open`] reads the workspace, takes the lock, and opens index, memory and store.
//! 3. [`Session::build`] runs the build, keeps its log, saves what it learned, and records a
//!    snapshot if it was clean. It can be called again and again.
//! 4. [`Session::close`] saves what is not saved, and keeps the cache within its limits.
//!
//! It has no knowledge of arguments and terminals: the face provides a [`Host`].

mod error;
mod fanout;
mod ownership;
mod places;
mod refusal;
mod run_lock;
mod start;
mod state;
mod state_key;

use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::action::environment::HostEnv;
use crate::action::index::{FileIndex, Saved};
use crate::build::{self, Arguments, Explained, Finished, Options, Parts, Policy, Request};
use crate::cancel::Cancel;
use crate::digest::Key;
use crate::event::{Failure, Sink, Summary, Warning};
use crate::exec::{self, Watchdog};
use crate::exec::{Executor, Local};
use crate::graph::TargetId;
use crate::journal::ownership::{IgnoreRules, Ledger, Ownership};
use crate::journal::{Memory, RunLog, Success};
use crate::path::RelPath;
use crate::report::text::count;
use crate::snapshot::{self, CleanRun, Snapshot};
use crate::source::{Diagnostic, Severity};
use crate::stamp::FileId;
use crate::store::disk::{Durability, Limits, WhenBusy};
use crate::store::outputs::{self, Stage};
use crate::store::shared::SharedCache;
use crate::store::{Disk, Off, Store};
use crate::system::user_dirs::UserDirs;
use crate::workspace::{self, Layout, Workspace};

pub use error::Error;
use fanout::Fanout;
pub use places::store_folder;
use places::{below, choose_store, entry_below, is_output, is_usable};
pub use refusal::is_state_name;
use run_lock::RunLock;
use start::Mistakes;
pub use start::Start;
use state::State;
pub use state_key::StateKey;

/// The most commands at once if neither the user nor the Buildfile sets a number. More rarely
/// helps: the tools that are run use several processors themselves.
const MOST_JOBS: usize = 4;
/// The size from which the saved index is read while the Buildfile is, in bytes.
const LARGE_INDEX: u64 = 1 << 20;

/// How long files stay in the trash, in milliseconds.
const TRASH_AGE: i64 = 14 * 24 * 3600 * 1000;

/// The process that opens sessions.
pub struct Host<'a> {
    /// The Buildfile; an absolute path.
    pub buildfile: PathBuf,
    /// The path of the Buildfile in diagnostics.
    pub shown: PathBuf,
    /// The variables of the process.
    pub env: &'a HostEnv,
    /// The source of the key that authenticates the user's state.
    pub state_key: &'a StateKey,
    /// The user's folders outside of projects.
    pub user_dirs: &'a UserDirs,
    /// The name of the process in the messages of processes that wait for it.
    pub name: String,
    /// Receives problems and delays outside of runs.
    pub observer: &'a dyn Observer,
    /// The files that the process prints to, which are nobody's inputs.
    pub printed: Vec<FileId>,
    /// Runs commands; `None` for processes on this machine.
    pub executor: Option<&'a dyn Executor>,
    /// Keeps results; `None` for the folder that the Buildfile names.
    pub store: Option<&'a dyn Store>,
    /// How durable results in that folder are.
    pub durability: Durability,
}

/// Receives what a session reports outside of runs.
pub trait Observer {
    /// Receives the diagnostics of a Buildfile, if there are any.
    fn on_diagnostics(&self, workspace: &Workspace);
    /// Called when the session starts to wait for another process, which is named.
    fn on_wait(&self, holder: &str);
    /// Receives a problem that the session survives.
    fn on_warning(&self, warning: &Warning);
}

/// Whether a session may change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It holds the lock of the tree and saves what it learns.
    Write,
    /// It only reads; builds are dry runs.
    Read,
}

/// A build to make.
pub struct Order<'a> {
    /// The names that the user typed.
    pub names: &'a [String],
    /// The targets, with everything that they need.
    pub wanted: &'a [TargetId],
    /// Those of them that run before all others.
    pub first: &'a [TargetId],
    /// How to do it.
    pub options: Options,
    /// The arguments that the user gave to a target.
    pub arguments: Option<&'a Arguments>,
    /// Raised to stop the build.
    pub cancel: &'a Cancel,
    /// The cache that machines share, if one is used.
    pub shared: Option<&'a dyn SharedCache>,
}

/// An open workspace with everything that a build works with.
pub struct Session<'a> {
    host: &'a Host<'a>,
    /// The Buildfile, read and checked.
    pub workspace: Workspace,
    /// The content of files.
    pub index: FileIndex,
    /// The last success of each target, and the versions of tools.
    pub memory: Memory,
    /// The store in a folder, if it can be used.
    pub disk: Option<Disk>,
    /// The folder through which outputs move.
    pub stage: Stage,
    ledger: Ledger,
    ignored: IgnoreRules,
    executor: Local,
    access: Access,
    snapshot: Option<Snapshot>,
    /// Whether builds added results to the cache.
    has_stored: bool,
    /// Whether a build saved the index and the memory.
    is_saved: bool,
    /// Whether the observer knows that something cannot be saved.
    has_warned: bool,
    /// Holds the lock, too.
    state: State,
}

impl Host<'_> {
    /// Opens the workspace and passes its diagnostics on. Mistakes are an error.
    pub fn open_workspace(&self) -> Result<Workspace, Error> {
        let workspace = self.read_workspace()?;
        if !workspace.diagnostics.is_empty() {
            self.observer.on_diagnostics(&workspace);
        }
        if workspace.has_errors() {
            return Err(Error::Mistakes);
        }
        Ok(workspace)
    }

    /// Opens the workspace and reports nothing.
    pub fn read_workspace(&self) -> Result<Workspace, Error> {
        let workspace = workspace::open(&self.buildfile, &self.shown, self.key())?;
        Ok(workspace)
    }

    /// Opens the workspace. Mistakes are a warning: the rest of it counts.
    fn open_with_mistakes(&self) -> Result<Workspace, Error> {
        let workspace = self.read_workspace()?;
        let is_error = |d: &&Diagnostic| d.severity == Severity::Error;
        let errors = workspace.diagnostics.iter().filter(is_error).count();
        if errors > 0 {
            let (errors, shown) = (count(errors, "error"), self.shown.display());
            let message = format!("{errors} in `{shown}`; `fbuild check` shows them");
            let warning = Warning::new("fbuild::workspace::mistakes", message);
            self.observer.on_warning(&warning);
        }
        Ok(workspace)
    }

    /// Returns the key to read state with. If there is none, it is one that no state was
    /// written with.
    fn key(&self) -> &Key {
        self.state_key.find(|| self.project()).0
    }

    fn layout(&self) -> Layout {
        Layout::new(self.folder(), self.key())
    }

    /// Returns the folder of the Buildfile, without links.
    fn project(&self) -> PathBuf {
        let folder = self.folder();
        folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
    }

    fn folder(&self) -> &Path {
        self.buildfile.parent().unwrap_or(Path::new("/"))
    }
}

impl<'a> Session<'a> {
    /// Opens the workspace of a host, with what was checked before.
    pub fn open(host: &'a Host<'a>, access: Access, start: Start) -> Result<Self, Error> {
        let Start {
            lock,
            snapshot,
            mistakes,
        } = start;
        let (key, key_warning) = match access {
            Access::Write => host.state_key.find_or_create(|| host.project()),
            Access::Read => host.state_key.find(|| host.project()),
        };
        let (workspace, saved) = match mistakes {
            Mistakes::Refused => read(host, lock.as_ref())?,
            Mistakes::Tolerated => (host.open_with_mistakes()?, None),
        };
        let mut state = match access {
            Access::Write => State::lock(host, &workspace, lock)?,
            Access::Read => State::read_only(&workspace),
        };
        state.warnings.extend(key_warning);
        let store = choose_store(&workspace, &mut state);
        let trash = workspace.layout.trash();
        let kept = [state.layout.state(), &trash]
            .into_iter()
            .chain(store.as_deref());
        let hidden: Vec<RelPath> = kept
            .filter_map(|path| below(&workspace, path))
            .chain(entry_below(&workspace, workspace.layout.state()))
            .chain(entry_below(&workspace, &workspace.lockfile()))
            .collect();
        let root = workspace.root.clone();
        let stage = Stage::new(&root, state.layout.state(), &trash, hidden.clone());
        // Without all outputs, files of an interrupted run could not return to their places.
        if access == Access::Write && !workspace.has_errors() {
            let recovered = outputs::recover(&stage, &|path| is_output(&workspace, path))?;
            state.warnings.extend(outputs::trashed(&recovered.trashed));
        }
        let SavedState { files, memory } = saved
            .filter(|_| !state.is_refused())
            .unwrap_or_else(|| SavedState::read(&state.earlier));
        let index = FileIndex::new(root.clone(), files, hidden).without(host.printed.clone());
        let index = match access {
            Access::Write => index.with_clock_of(state.layout.state().to_owned()),
            Access::Read => index,
        };
        let ledger = match access {
            Access::Write => ownership::open(host, &workspace, &mut state, &memory),
            Access::Read => Ledger::off(),
        };
        let store = store.filter(|store| host.store.is_none() && is_usable(store, access, &state));
        let has_store = host.store.is_some() || store.is_some();
        let user_dirs = host.user_dirs.clone();
        let executor = Local::new(root, state.layout.temporary(), user_dirs);
        Ok(Self {
            host,
            index,
            memory,
            disk: store.map(|store| match access {
                Access::Write => Disk::open(&store, host.durability, key),
                Access::Read => Disk::open_to_look(&store, key),
            }),
            ignored: IgnoreRules::new(&workspace.root),
            ledger,
            stage,
            executor: executor
                .with_watchdog(Watchdog::this_program())
                .with_tracing(Watchdog::this_program()),
            access,
            // A lost or refused store has to be reported: then the run is a full one.
            snapshot: snapshot
                .filter(|_| has_store && !state.is_elsewhere())
                .filter(|snapshot| snapshot.is_of(&workspace)),
            has_stored: false,
            is_saved: false,
            has_warned: false,
            state,
            workspace,
        })
    }

    /// Returns the targets that names stand for, with everything they need; without names,
    /// those of the project's default.
    pub fn select(&self, names: &[String]) -> Result<Vec<TargetId>, Error> {
        let graph = &self.workspace.graph;
        let chosen = graph.select(names).map_err(Error::Names)?;
        Ok(graph.closure(&chosen))
    }

    /// Returns the arguments for the one target that names stand for; `None` if there are none.
    pub fn arguments(
        &self,
        names: &[String],
        values: &[OsString],
    ) -> Result<Option<Arguments>, Error> {
        if values.is_empty() {
            return Ok(None);
        }
        let taker = self.workspace.graph.select_one_with_args(names);
        Ok(Some(Arguments {
            target: taker.map_err(Error::Names)?,
            values: values.to_vec(),
        }))
    }

    /// Returns how many commands may run at once unless the user sets a number.
    pub fn jobs(&self) -> usize {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        let written = self.workspace.graph.buildfile().jobs;
        written.unwrap_or_else(|| processors().min(MOST_JOBS))
    }

    /// Returns the limits that the Buildfile sets for the cache.
    pub fn limits(&self) -> Limits {
        let cache = &self.workspace.graph.buildfile().cache;
        Limits {
            max_size: cache.max_size,
            max_age: cache.max_age,
        }
    }

    /// Returns the folders of this session; temporary ones if the usual ones are unusable.
    pub fn layout(&self) -> &Layout {
        &self.state.layout
    }

    /// Takes the warnings about state and store since the last call.
    pub fn take_warnings(&mut self) -> Vec<Warning> {
        let mut warnings = std::mem::take(&mut self.state.warnings);
        warnings.extend(self.disk.iter().flat_map(Disk::take_warnings));
        warnings
    }

    /// Returns the knowledge about the files in the tree.
    pub fn ownership(&self) -> Ownership<'_> {
        Ownership {
            ledger: &self.ledger,
            index: &self.index,
            store: choose(self.host, &self.disk),
            ignored: &self.ignored,
            replace: false,
        }
    }

    /// Returns the last success of a target.
    pub fn last(&self, id: TargetId) -> Option<&Success> {
        let name = self.workspace.graph.name(id);
        self.memory.success(name).map(|success| &**success)
    }

    /// Records that paths no longer belong to fbuild.
    pub fn release(&self, paths: Vec<RelPath>) {
        self.ledger.release(paths);
    }

    /// Builds, and passes the events on. Afterwards, everything that was learned is saved.
    pub fn build(&mut self, order: &Order<'_>, sink: &mut dyn Sink) -> Summary {
        let Order { names, wanted, .. } = *order;
        let policy = order.options.policy;
        let is_usual = Policy {
            replace: false,
            ..policy
        } == Policy::default();
        let is_complete = is_usual && order.arguments.is_none();
        let snapshot = self.snapshot.take();
        let mut snapshot = snapshot.filter(|s| is_complete && s.is_for(names));
        let mut warnings = self.take_warnings();
        if !policy.dry_run && !exec::finds_processes() {
            warnings.push(no_proc());
        }
        let request = Request {
            names,
            wanted,
            first: order.first,
            options: order.options,
            arguments: order.arguments,
            snapshot: snapshot.as_ref(),
            warnings,
        };
        let mut fanout = Fanout::new(sink);
        if !policy.dry_run && !policy.drift {
            fanout.log = Some(RunLog::new(&self.layout().runs()));
        }
        let (mut parts, memory) = self.parts(policy, order.cancel);
        parts.shared = order.shared;
        let mut finished = build::run(&parts, request, memory, &mut fanout);
        let log_error = fanout.log_error;
        self.is_saved = self.access == Access::Write;
        self.has_stored |= finished.summary.built > 0 && !policy.no_cache;
        self.warn_unsaved(finished.unsaved.take());
        if is_complete && finished.summary.went_well() {
            let recorded = self.record_snapshot(order, &finished, snapshot.as_mut());
            self.warn_unsaved(recorded.err());
        }
        self.warn_unsaved(log_error);
        finished.summary
    }

    /// Explains a target: what its result depends on, and what changed.
    pub fn explain(&mut self, id: TargetId) -> Result<Explained, Failure> {
        let cancel = Cancel::new();
        let (parts, memory) = self.parts(Policy::default(), &cancel);
        build::explain(&parts, id, memory)
    }

    /// Closes the session of a process that goes on.
    pub fn close(mut self) {
        self.finish();
    }

    /// Closes the session of a process that is about to exit. Frees no memory: that would take
    /// as long as reading it did.
    pub fn close_at_exit(mut self) {
        self.finish();
        let Self {
            index,
            memory,
            workspace,
            ..
        } = self;
        std::mem::forget((index, memory, workspace));
    }

    /// Saves what is not saved, and keeps the cache within its limits.
    fn finish(&mut self) {
        if self.access == Access::Read {
            return;
        }
        if !self.is_saved {
            let cancel = Cancel::new();
            let (parts, memory) = self.parts(Policy::default(), &cancel);
            let saved = parts.save(memory);
            self.warn_unsaved(saved.err());
        }
        if let Some(problem) = self.ledger.take_problem() {
            self.host.observer.on_warning(&ownership::warning(&problem));
        }
        self.tidy_trash();
        self.keep_limits();
    }

    /// Deletes old files in the trash, and the folder if it is empty.
    fn tidy_trash(&self) {
        let trash = self.stage.trash();
        if let Err(error) = trash.delete_older(TRASH_AGE) {
            self.host.observer.on_warning(&Warning::of(&error));
        }
        trash.tidy();
    }

    /// Returns everything that a build works with.
    fn parts<'s>(&'s mut self, policy: Policy, cancel: &'s Cancel) -> (Parts<'s>, &'s mut Memory) {
        let store = if policy.no_cache {
            &Off
        } else {
            choose(self.host, &self.disk)
        };
        let parts = Parts {
            workspace: &self.workspace,
            layout: &self.state.layout,
            stage: &self.stage,
            index: &self.index,
            ledger: &self.ledger,
            ignored: &self.ignored,
            store,
            executor: self.host.executor.unwrap_or(&self.executor),
            shared: None,
            host_env: self.host.env,
            cancel,
        };
        (parts, &mut self.memory)
    }

    /// Records the snapshot of a clean build. Without a lasting store there is none: the next
    /// run would have to report its loss.
    fn record_snapshot(
        &self,
        order: &Order<'_>,
        finished: &Finished,
        earlier: Option<&mut Snapshot>,
    ) -> io::Result<()> {
        let folder = store_folder(&self.workspace);
        let store = match (self.host.store, &self.disk) {
            (Some(_), _) => None,
            (None, Some(_)) if !self.state.is_elsewhere() => Some(folder),
            _ => return Ok(()),
        };
        snapshot::record(CleanRun {
            workspace: &self.workspace,
            index: &self.index,
            memory: &self.memory,
            host_env: self.host.env,
            store,
            earlier,
            names: order.names,
            wanted: order.wanted,
            built: &finished.built,
            count: finished.summary.targets,
        })
    }

    /// Reports that something is lost for the next session: once, however much it is.
    fn warn_unsaved(&mut self, error: Option<io::Error>) {
        let Some(error) = error else { return };
        if !std::mem::replace(&mut self.has_warned, true) {
            let state = self.layout().state().display();
            self.host.observer.on_warning(&Warning::new(
                "fbuild::journal::state",
                format!("cannot keep what was found out in `{state}`: {error}"),
            ));
        }
    }

    /// Removes from the cache what the Buildfile's limits do not allow, if that is due. Skips
    /// it while others use the cache: the next run that stores something tries again.
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
            self.host.observer.on_warning(&Warning::of(&error));
        }
    }
}

/// Returns the store that results are in.
fn choose<'s>(host: &Host<'s>, disk: &'s Option<Disk>) -> &'s dyn Store {
    match (host.store, disk) {
        (Some(store), _) => store,
        (None, Some(disk)) => disk,
        (None, None) => &Off,
    }
}

fn no_proc() -> Warning {
    let message = "`/proc` is not mounted: if fbuild is killed, a process that left the process group \
                   of its command is not found, and goes on";
    Warning::new("fbuild::exec::no_proc", message)
}

/// The index and the memory that earlier runs saved.
struct SavedState {
    files: Saved,
    memory: Memory,
}

impl SavedState {
    fn read(layout: &Layout) -> Self {
        Self {
            files: Saved::read(&layout.index()),
            memory: Memory::read(&layout.successes()),
        }
    }
}

/// Reads the workspace, and at the same time the saved state if that is large. Without the
/// lock, another run may still change the saved state.
fn read(host: &Host<'_>, lock: Option<&RunLock>) -> Result<(Workspace, Option<SavedState>), Error> {
    let layout = host.layout();
    let size = || {
        layout
            .index()
            .path()
            .metadata()
            .map_or(0, |index| index.len())
    };
    if lock.is_none() || size() < LARGE_INDEX {
        return Ok((host.open_workspace()?, None));
    }
    std::thread::scope(|threads| {
        let saved = threads.spawn(|| SavedState::read(&layout));
        let workspace = host.open_workspace()?;
        Ok((workspace, saved.join().ok()))
    })
}
