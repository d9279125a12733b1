//! Builds in the test process: calls the library as the command line does, with `mix` as a
//! function and results in memory or in a folder. The tree is real.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fbuild::action::ResolvedCommand;
use fbuild::action::environment::HostEnv;
use fbuild::action::index::FileIndex;
use fbuild::build::{self, Options, Parts, Policy, Request};
use fbuild::cancel::Cancel;
use fbuild::digest::Digest;
use fbuild::event::{Event, Sink, Summary};
use fbuild::exec::{End, Error, Execution, Executor, Task};
use fbuild::journal;
use fbuild::journal::ownership;
use fbuild::path::RelPath;
use fbuild::snapshot::{self, CleanRun, Query, Snapshot};
use fbuild::store::disk::Durability;
use fbuild::store::outputs::{self, Stage};
use fbuild::store::{self, Store};
use fbuild::workspace::{self, FILE_NAME, Layout, Workspace};

use crate::model::builder::{Builder, Harmed, How, Intrusion, Report, damage, harm_disk};
use crate::model::expected::World;
use crate::model::project::Project;
use crate::model::step::{Harm, Preview};
use crate::support::fake_tool::{self, Outcome, Words};
use crate::support::tree::{self, Node};
use crate::support::user;

/// Runs builds in the test process.
pub(crate) struct InProcess {
    folder: PathBuf,
    jobs: usize,
    /// `None` if results are in the state folder.
    memory: Option<store::Memory>,
    /// The digests of all blobs written so far.
    stored: BTreeSet<Digest>,
    /// The number of builds so far.
    builds: usize,
}

/// After every n-th build, waits until the snapshot is reliable.
const SETTLED: usize = 16;
/// In every cycle, the first builds start from the last snapshot and the others from none: an
/// error in updating a snapshot may show only after several updates.
const CYCLE: usize = 16;
const TRUSTING: usize = 12;
/// The timeout of that wait. File systems with slow clocks would need longer.
const PATIENCE: Duration = Duration::from_millis(100);

impl InProcess {
    /// Builds the project in `folder` with `jobs` parallel jobs.
    pub(crate) fn new(folder: &Path, jobs: usize, in_memory: bool) -> Self {
        Self {
            folder: folder.to_owned(),
            jobs,
            memory: in_memory.then(store::Memory::new),
            stored: BTreeSet::new(),
            builds: 0,
        }
    }

    /// Builds, usually from the last snapshot. If the snapshot reports no change, a run without
    /// it must agree. The command line would not have made that run, so it does not update the
    /// snapshot.
    fn run_whole(&mut self, world: &World, intrusion: Option<&Intrusion>) -> Report {
        let snapshot = self.check_snapshot(world);
        let claimed = snapshot.as_ref().and_then(Snapshot::up_to_date);
        let is_trusted = claimed.is_none() && self.builds % CYCLE < TRUSTING;
        let start = Start {
            snapshot: snapshot.filter(|_| is_trusted),
            intrusion,
            keeps: claimed.is_none(),
        };
        let mut report = self.run(world, Policy::default(), start);
        let is_idle = |report: &Report| {
            let mut ends = report.ends.values();
            let has_run = !report.executed.is_empty() || !report.warnings.is_empty();
            !has_run && report.exit == 0 && ends.all(|end| end.how == How::UpToDate)
        };
        if claimed.is_some_and(|targets| targets != report.ends.len() || !is_idle(&report)) {
            // An exit code that no run has.
            report.exit = 99;
            report.messages += "the snapshot reported no change";
        }
        self.builds += 1;
        if self.builds.is_multiple_of(SETTLED) && is_idle(&report) {
            self.settle(world);
        }
        report
    }

    /// Builds until all files are old enough for the next change to show.
    fn settle(&mut self, world: &World) {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let snapshot = self.check_snapshot(world);
            if snapshot.as_ref().is_some_and(|s| s.up_to_date().is_some()) {
                return;
            }
            let start = Start {
                snapshot,
                keeps: true,
                ..Start::default()
            };
            self.run(world, Policy::default(), start);
        }
    }

    fn check_snapshot(&self, world: &World) -> Option<Snapshot> {
        snapshot::check(&Query {
            buildfile: &self.folder.join(FILE_NAME),
            layout: &Layout::new(&self.folder, &user::key()),
            names: &[],
            host_env: &host_env(world),
        })
    }

    fn run(&mut self, world: &World, policy: Policy, start: Start<'_>) -> Report {
        let workspace = open(&self.folder);
        if workspace.has_errors() {
            let messages = format!("{:?}", workspace.diagnostics);
            let exit = 2;
            return Report {
                exit,
                messages,
                ..Report::default()
            };
        }
        let mut session = Session::open(&workspace, policy.dry_run);
        let intrusion = start.intrusion;
        session.snapshot = start.snapshot.filter(|snapshot| snapshot.is_of(&workspace));
        let fake_tool = FakeTool {
            root: workspace.root.path().to_owned(),
            project: &world.project,
            executed: Mutex::default(),
            intrusion,
            intruded: Mutex::new(false),
        };
        let disk = session.disk(self.memory.is_none());
        let off = store::Off;
        let store: &dyn Store = match (&self.memory, &disk) {
            (Some(memory), _) => memory,
            (None, Some(disk)) => disk,
            (None, None) => &off,
        };
        let (summary, mut report) = session.build(world, (self.jobs, policy), (store, &fake_tool));
        report.warnings.extend(disk.iter().flat_map(|disk| {
            let warnings = disk.take_warnings().into_iter();
            warnings.map(|warning| format!("{}: {}", warning.code, warning.message))
        }));
        report.executed = fake_tool.executed.into_inner().unwrap();
        report.intruded = fake_tool.intruded.into_inner().unwrap();
        if !policy.dry_run {
            if summary.went_well() && start.keeps {
                session.record_snapshot(world, self.memory.is_none());
            }
            let made = session.memory_blobs();
            self.stored.extend(made);
        }
        report
    }
}

/// The initial state of a run.
#[derive(Default)]
struct Start<'i> {
    snapshot: Option<Snapshot>,
    intrusion: Option<&'i Intrusion>,
    /// Whether the run saves its snapshot.
    keeps: bool,
}

fn open(folder: &Path) -> Workspace {
    workspace::open(&folder.join(FILE_NAME), Path::new(FILE_NAME), &user::key()).unwrap()
}

impl Builder for InProcess {
    fn mix(&self) -> Option<&'static str> {
        None
    }

    fn check(&mut self) -> bool {
        let workspace = open(&self.folder);
        let is_right = !workspace.has_errors();
        if is_right {
            // A KDL parse would take longer than the rest of most builds.
            fs::create_dir_all(workspace.layout.state()).unwrap();
            workspace.keep_compiled(&workspace.layout).unwrap();
        }
        is_right
    }

    fn build(&mut self, world: &World, intrusion: Option<&Intrusion>) -> Report {
        self.run_whole(world, intrusion)
    }

    fn preview(&mut self, world: &World, _preview: Preview) -> Report {
        let policy = Policy {
            dry_run: true,
            ..Policy::default()
        };
        self.run(world, policy, Start::default())
    }

    fn harm(&mut self, how: Harm, pick: u64) -> Harmed {
        let Some(memory) = &self.memory else {
            return harm_disk(&self.folder.join(".build-cache"), how, pick);
        };
        if self.stored.is_empty() {
            return Harmed::Nothing;
        }
        let chosen = usize::try_from(pick % self.stored.len() as u64).unwrap();
        let digest = *self.stored.iter().nth(chosen).unwrap();
        match how {
            Harm::Remove => memory.forget(digest),
            how => {
                let mut bytes = format!("{digest}").into_bytes();
                damage(&mut bytes, how, pick);
                memory.damage(digest, &bytes);
            }
        }
        Harmed::Blob(digest.hex())
    }

    fn keeps_store_in_state(&self) -> bool {
        self.memory.is_none()
    }
}

/// The objects that the command line opens for each run.
struct Session<'w> {
    workspace: &'w Workspace,
    is_dry: bool,
    stage: Stage,
    index: FileIndex,
    memory: journal::Memory,
    snapshot: Option<Snapshot>,
}

impl<'w> Session<'w> {
    fn open(workspace: &'w Workspace, is_dry: bool) -> Self {
        let (layout, root) = (&workspace.layout, &workspace.root);
        if !is_dry {
            for folder in [layout.metadata(), layout.runs()] {
                fs::create_dir_all(folder).unwrap();
            }
        }
        let hidden = layout.state().canonicalize().ok();
        let hidden = hidden.and_then(|path| root.relative(&path));
        let hidden: Vec<RelPath> = hidden.into_iter().collect();
        let stage = Stage::new(root, layout.state(), &layout.trash(), hidden.clone());
        if !is_dry {
            outputs::recover(&stage, &|_| true).unwrap();
        }
        Self {
            index: FileIndex::open(root.clone(), &layout.index(), hidden),
            memory: journal::Memory::read(&layout.successes()),
            snapshot: None,
            is_dry,
            stage,
            workspace,
        }
    }

    /// Opens the store in the state folder.
    fn disk(&self, is_wanted: bool) -> Option<store::Disk> {
        let folder = self.workspace.layout.state();
        let is_there = !self.is_dry || folder.is_dir();
        (is_wanted && is_there).then(|| match self.is_dry {
            true => store::Disk::open_to_look(folder, &user::key()),
            false => store::Disk::open(folder, Durability::None, &user::key()),
        })
    }

    fn build(
        &mut self,
        world: &World,
        (jobs, policy): (usize, Policy),
        (store, executor): (&dyn Store, &FakeTool<'_>),
    ) -> (Summary, Report) {
        let graph = &self.workspace.graph;
        let wanted: Vec<_> = graph.ids().collect();
        let host_env = host_env(world);
        let cancel = Cancel::new();
        let root = self.workspace.root.path();
        let checkout = ownership::Checkout::of(root, root).unwrap();
        let ledger = ownership::Ledger::new(&root.with_file_name("user"), checkout);
        let parts = Parts {
            ledger: &ledger,
            ignored: &ownership::IgnoreRules::new(&self.workspace.root),
            workspace: self.workspace,
            layout: &self.workspace.layout,
            stage: &self.stage,
            index: &self.index,
            store,
            shared: None,
            executor,
            host_env: &host_env,
            cancel: &cancel,
        };
        let options = Options {
            jobs,
            keep_going: true,
            stream: false,
            policy,
        };
        let mut heard = Heard(Report::default());
        let request = Request {
            names: &[],
            wanted: &wanted,
            options,
            snapshot: self.snapshot.as_ref(),
            warnings: Vec::new(),
        };
        let finished = build::run(&parts, request, &mut self.memory, &mut heard);
        assert!(finished.unsaved.is_none(), "{:?}", finished.unsaved);
        let summary = finished.summary;
        let mut report = heard.0;
        report.exit = match (summary.interrupted, summary.failed) {
            (true, _) => 130,
            (_, 0) => 0,
            _ => 1,
        };
        (summary, report)
    }

    /// Saves the snapshot of the run.
    fn record_snapshot(&mut self, world: &World, has_folder: bool) {
        let state = self.workspace.layout.state();
        let wanted: Vec<_> = self.workspace.graph.ids().collect();
        let kept = snapshot::record(CleanRun {
            workspace: self.workspace,
            index: &self.index,
            memory: &self.memory,
            host_env: &host_env(world),
            store: has_folder.then(|| state.to_owned()),
            names: &[],
            wanted: &wanted,
            earlier: self.snapshot.as_mut(),
        });
        kept.unwrap();
    }

    /// Returns the blobs of all results in use.
    fn memory_blobs(&self) -> Vec<Digest> {
        let graph = &self.workspace.graph;
        let successes = graph
            .ids()
            .filter_map(|id| self.memory.success(graph.name(id)));
        successes
            .flat_map(|success| success.result.blobs())
            .collect()
    }
}

fn host_env(world: &World) -> HostEnv {
    let variables = world.env.iter();
    variables.map(|(n, v)| (n.into(), v.into())).collect()
}

struct Heard(Report);

impl Sink for Heard {
    fn on_event(&mut self, event: &Event) {
        self.0.on_event(&event.kind);
    }
}

/// Runs `mix` as a function.
struct FakeTool<'i> {
    root: PathBuf,
    project: &'i Project,
    executed: Mutex<Vec<String>>,
    intrusion: Option<&'i Intrusion>,
    intruded: Mutex<bool>,
}

impl FakeTool<'_> {
    /// Returns the arguments of a command as the program would get them. Values that the
    /// Buildfile inserts must arrive unchanged.
    fn words(&self, task: &Task<'_>) -> Vec<String> {
        let target = self.project.target(task.name).unwrap();
        let short = match &task.action.commands[..] {
            [ResolvedCommand::Run(argv)] => {
                let argv = argv[1..].iter();
                argv.map(|word| word.to_str().unwrap().to_owned()).collect()
            }
            [ResolvedCommand::Sh(script)] => {
                let script = script.trim_matches('\'');
                let words = script.split("' '").skip(1);
                words.map(str::to_owned).collect::<Vec<String>>()
            }
            commands => panic!("{commands:?}"),
        };
        let (digest, mut says) = short.split_first().unwrap();
        assert_eq!(
            *digest,
            self.project.short_words(target)[0],
            "an old command"
        );
        let mut words = self.project.words(target);
        for word in words.iter_mut().filter(|word| word.starts_with("say=")) {
            let (say, rest) = says.split_first().unwrap();
            (*word, says) = (say.clone(), rest);
        }
        words
    }

    fn mix(&self, task: &Task<'_>, cancel: &Cancel) -> Result<End, Box<dyn std::error::Error>> {
        let words = self.words(task);
        let words = Words::parse(words.iter().map(String::as_str))?;
        let intrusion = self
            .intrusion
            .filter(|intrusion| intrusion.target == task.name);
        let view = fake_tool::Disk(&self.root);
        if let Some(intrusion) = intrusion {
            *lock(&self.intruded) = true;
            intrude(&self.root, &intrusion.before);
        }
        let (inputs, needs) = (words.read_inputs(&view), words.read_needs(&view));
        if let Some(intrusion) = intrusion {
            intrude(&self.root, &intrusion.after);
        }
        let env = |name: &str| {
            let value = task.action.env.get(name).cloned().flatten();
            value.and_then(|value| value.into_string().ok())
        };
        let outcome = words.mix(&env, &inputs, &needs);
        let (Outcome::Made(made) | Outcome::Failed(made)) = &outcome;
        for (path, node) in made {
            match (node, self.root.join(path)) {
                (Node::Folder, path) => fs::create_dir_all(path)?,
                (node, path) => tree::write(&path, node)?,
            }
        }
        if intrusion.is_some_and(|intrusion| intrusion.stops) {
            cancel.raise();
            return Ok(End::Cancelled);
        }
        Ok(End::Exited(match outcome {
            Outcome::Made(_) => ExitStatus::default(),
            Outcome::Failed(_) => ExitStatus::from_raw(3 << 8),
        }))
    }
}

impl Executor for FakeTool<'_> {
    fn execute(
        &self,
        task: &Task<'_>,
        _output: &mut dyn FnMut(&[u8]),
        cancel: &Cancel,
    ) -> Result<Execution, Error> {
        lock(&self.executed).push(task.name.to_owned());
        let end = self
            .mix(task, cancel)
            .unwrap_or_else(|error| panic!("mix: {error}"));
        Ok(Execution {
            end,
            command: 0,
            duration: Duration::from_millis(1),
            left_behind: 0,
        })
    }
}

/// Writes files while a command runs.
pub(crate) fn intrude(root: &Path, written: &[(String, String)]) {
    for (path, text) in written {
        // Ignore the error: the folder may not exist.
        let _ = fs::write(root.join(path), text);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
