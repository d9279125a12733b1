//! Builds in the test process: calls the library as the command line does, with `mix` as a
//! function and results in memory or in a folder. The tree is real.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use fbuild::action::ResolvedCommand;
use fbuild::action::environment::HostEnv;
use fbuild::build::{Options, Policy};
use fbuild::cancel::Cancel;
use fbuild::digest::Digest;
use fbuild::event::{Event, Sink, Warning};
use fbuild::exec::{End, Error, Execution, Executor, Task};
use fbuild::graph::TargetId;
use fbuild::session::{self, Access, Host, Observer, Order, Session, Start, StateKey};
use fbuild::snapshot::Probing;
use fbuild::store::disk::Durability;
use fbuild::store::{self, Store};
use fbuild::system::user_dirs::UserDirs;
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
    key: StateKey,
    user_dirs: UserDirs,
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
            key: user::state_key(),
            user_dirs: UserDirs::new(|_| None),
        }
    }

    /// Builds, usually from the last snapshot. If the snapshot reports no change, a run without
    /// it must agree. The command line would not have made that run, so its snapshot is
    /// discarded.
    fn run_whole(&mut self, world: &World, intrusion: Option<&Intrusion>) -> Report {
        let claimed = self.up_to_date(world);
        let from_snapshot = claimed.is_none() && self.builds % CYCLE < TRUSTING;
        let file = Layout::new(&self.folder, &user::key()).snapshot();
        let snapshot = claimed.map(|_| fs::read(file.path()).unwrap());
        let run = Run {
            intrusion,
            from_snapshot,
            ..Run::default()
        };
        let mut report = self.run(world, &run);
        if let Some(snapshot) = snapshot {
            fs::write(file.path(), snapshot).unwrap();
        }
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
        while Instant::now() < until && self.up_to_date(world).is_none() {
            let run = Run {
                from_snapshot: true,
                ..Run::default()
            };
            self.run(world, &run);
        }
    }

    /// Returns the number of targets if the snapshot reports that nothing changed.
    fn up_to_date(&self, world: &World) -> Option<usize> {
        let (env, console) = (host_env(world), Console::default());
        start(&self.host(&env, &console)).up_to_date()
    }

    fn host<'a>(&'a self, env: &'a HostEnv, console: &'a Console) -> Host<'a> {
        Host {
            buildfile: self.folder.join(FILE_NAME),
            shown: PathBuf::from(FILE_NAME),
            env,
            state_key: &self.key,
            user_dirs: &self.user_dirs,
            name: "a test".to_owned(),
            observer: console,
            printed: Vec::new(),
            executor: None,
            store: self.memory.as_ref().map(|memory| memory as &dyn Store),
            durability: Durability::None,
        }
    }

    fn run(&mut self, world: &World, run: &Run<'_>) -> Report {
        let (env, console) = (host_env(world), Console::default());
        let fake_tool = FakeTool {
            root: OnceLock::new(),
            project: &world.project,
            executed: Mutex::default(),
            intrusion: run.intrusion,
            intruded: Mutex::new(false),
        };
        let host = Host {
            executor: Some(&fake_tool),
            ..self.host(&env, &console)
        };
        let checked = if run.from_snapshot {
            start(&host)
        } else {
            Start::default()
        };
        let access = if run.policy.dry_run {
            Access::Read
        } else {
            Access::Write
        };
        let mut session = match Session::open(&host, access, checked) {
            Ok(session) => session,
            Err(session::Error::Mistakes) => {
                return Report {
                    exit: 2,
                    messages: console.take(),
                    ..Report::default()
                };
            }
            Err(error) => panic!("{error:?}"),
        };
        let root = session.workspace.root.path().to_owned();
        fake_tool.root.set(root).unwrap();
        let graph = &session.workspace.graph;
        let wanted: Vec<TargetId> = graph.ids().collect();
        let names: Vec<String> = wanted.iter().map(|id| graph.name(*id).to_owned()).collect();
        let order = Order {
            names: &names,
            wanted: &wanted,
            first: &[],
            options: Options {
                jobs: self.jobs,
                keep_going: true,
                stream: false,
                // The model knows no foreign files: all that is in the way goes to the trash.
                policy: Policy {
                    replace: true,
                    ..run.policy
                },
            },
            cancel: &Cancel::new(),
            shared: None,
            arguments: None,
        };
        let mut events = Events(Report::default());
        let summary = session.build(&order, &mut events);
        let blobs = blobs(&session);
        session.close();
        let mut report = events.0;
        report.exit = match (summary.interrupted, summary.failed) {
            (true, _) => 130,
            (_, 0) => 0,
            _ => 1,
        };
        report.messages = console.take();
        report.executed = fake_tool.executed.into_inner().unwrap();
        report.intruded = fake_tool.intruded.into_inner().unwrap();
        if access == Access::Write {
            self.stored.extend(blobs);
        }
        report
    }
}

/// A run of the project.
#[derive(Default)]
struct Run<'i> {
    policy: Policy,
    intrusion: Option<&'i Intrusion>,
    /// Whether it starts from the last snapshot.
    from_snapshot: bool,
}

/// Collects what a session reports outside of runs.
#[derive(Default)]
struct Console(Mutex<String>);

impl Console {
    fn take(&self) -> String {
        std::mem::take(&mut *lock(&self.0))
    }
}

impl Observer for Console {
    fn on_diagnostics(&self, workspace: &Workspace) {
        *lock(&self.0) += &format!("{:?}", workspace.diagnostics);
    }

    fn on_wait(&self, holder: &str) {
        panic!("{holder} holds the lock");
    }

    fn on_warning(&self, warning: &Warning) {
        *lock(&self.0) += &format!("{warning:?}");
    }
}

/// Returns the blobs of all results in use.
fn blobs(session: &Session<'_>) -> Vec<Digest> {
    let graph = &session.workspace.graph;
    let successes = graph
        .ids()
        .filter_map(|id| session.memory.success(graph.name(id)));
    successes
        .flat_map(|success| success.result.blobs())
        .collect()
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
        let run = Run {
            policy,
            ..Run::default()
        };
        self.run(world, &run)
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

/// Checks the snapshot as `fbuild run` does first.
fn start(host: &Host<'_>) -> Start {
    let probing = Probing {
        begin: &|| {},
        cancel: &Cancel::new(),
    };
    Start::check(host, &[], probing)
}

fn host_env(world: &World) -> HostEnv {
    let variables = world.env.iter();
    variables.map(|(n, v)| (n.into(), v.into())).collect()
}

struct Events(Report);

impl Sink for Events {
    fn on_event(&mut self, event: &Event) {
        self.0.on_event(&event.kind);
    }
}

/// Runs `mix` as a function.
struct FakeTool<'i> {
    /// The root of the project, once it is known.
    root: OnceLock<PathBuf>,
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
        let root = self.root.get().ok_or("no root")?;
        let words = self.words(task);
        let words = Words::parse(words.iter().map(String::as_str))?;
        let intrusion = self
            .intrusion
            .filter(|intrusion| intrusion.target == task.name);
        let view = fake_tool::Disk(root);
        if let Some(intrusion) = intrusion {
            *lock(&self.intruded) = true;
            intrude(root, &intrusion.before);
        }
        let (inputs, needs) = (words.read_inputs(&view), words.read_needs(&view));
        if let Some(intrusion) = intrusion {
            intrude(root, &intrusion.after);
        }
        let env = |name: &str| {
            let value = task.action.env.get(name).cloned().flatten();
            value.and_then(|value| value.into_string().ok())
        };
        let outcome = words.mix(&env, &inputs, &needs);
        let (Outcome::Made(made) | Outcome::Failed(made)) = &outcome;
        for (path, node) in made {
            match (node, root.join(path)) {
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
            trace: None,
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
