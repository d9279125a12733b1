//! A project in a temporary folder that is built without processes, and events as lines.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::action::{ActionKey, ActionResult};
use crate::digest::{Digest, Key};
use crate::event::{Event, EventKind, Outcome, Reason, Sink};
use crate::exec::{Fake, Script};
use crate::journal::ownership::{Checkout, IgnoreRules, Ledger};
use crate::store;
use crate::store::disk::Durability;
use crate::workspace::{self, FILE_NAME};

/// A project with everything that is left from one build to the next.
pub(super) struct Project {
    /// The state folder of the user.
    user: tempfile::TempDir,
    folder: TempDir,
    pub(super) store: store::Memory,
    memory: Memory,
}

/// A build with everything that tests vary.
pub(super) struct Build<'a> {
    /// The names to select; without any, all targets are built.
    pub(super) names: &'a [&'a str],
    pub(super) options: Options,
    /// Used instead of the project's store.
    pub(super) store: Option<&'a dyn Store>,
    pub(super) host_env: HostEnv,
    pub(super) cancel: Cancel,
    /// The event after which the run is cancelled.
    pub(super) cancel_at: &'a str,
}

impl Default for Build<'_> {
    fn default() -> Self {
        Self {
            names: &[],
            options: Options {
                jobs: 1,
                keep_going: false,
                stream: false,
                policy: Policy::default(),
            },
            store: None,
            host_env: HostEnv::new(),
            cancel: Cancel::new(),
            cancel_at: "",
        }
    }
}

impl Build<'_> {
    pub(super) fn keep_going() -> Self {
        let mut build = Self::default();
        build.options.keep_going = true;
        build
    }

    pub(super) fn jobs(jobs: usize) -> Self {
        let mut build = Self::default();
        build.options.jobs = jobs;
        build
    }

    pub(super) fn policy(policy: Policy) -> Self {
        let mut build = Self::default();
        build.options.policy = policy;
        build
    }
}

impl Project {
    /// Creates a project with this Buildfile and an input `src`.
    pub(super) fn new(buildfile: &str) -> Self {
        let project = Self {
            folder: tempfile::tempdir().unwrap(),
            user: tempfile::tempdir().unwrap(),
            store: store::Memory::new(),
            memory: Memory::default(),
        };
        project.write(FILE_NAME, buildfile);
        project.write("src", "text");
        fs::create_dir_all(project.path(".build-cache/metadata")).unwrap();
        project
    }

    /// Returns an executor for which every command succeeds and does nothing.
    pub(super) fn fake(&self) -> Fake {
        Fake::new(self.folder.path())
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    pub(super) fn remove(&self, path: &str) {
        fs::remove_file(self.path(path)).unwrap();
    }

    /// Returns commands that write `out/NAME` for each name.
    pub(super) fn commands(&self, names: &[&str]) -> Fake {
        let script = |name: &&str| Script::new().writes(&format!("out/{name}"), *name);
        names
            .iter()
            .fold(self.fake(), |fake, name| fake.on(name, script(name)))
    }

    /// Builds all targets; returns the events.
    pub(super) fn build(&mut self, fake: &Fake) -> Vec<String> {
        self.build_with(fake, Build::default())
    }

    pub(super) fn build_with(&mut self, fake: &Fake, build: Build<'_>) -> Vec<String> {
        let workspace = workspace::open(
            &self.path(FILE_NAME),
            Path::new(FILE_NAME),
            &Key::new([1; 32]),
        )
        .unwrap();
        assert_eq!(workspace.diagnostics, []);
        let names: Vec<String> = build.names.iter().map(ToString::to_string).collect();
        let graph = &workspace.graph;
        let wanted = if names.is_empty() {
            graph.ids().collect()
        } else {
            graph.closure(&graph.select(&names).unwrap())
        };
        let hidden = vec![workspace.root.relative(workspace.layout.state()).unwrap()];
        let index = FileIndex::open(
            workspace.root.clone(),
            &workspace.layout.index(),
            hidden.clone(),
        );
        let root = workspace.root.path();
        let checkout = Checkout::of(root, root).unwrap();
        let parts = Parts {
            ledger: &Ledger::new(self.user.path(), checkout, Durability::None),
            ignored: &IgnoreRules::new(&workspace.root),
            workspace: &workspace,
            layout: &workspace.layout,
            stage: &Stage::new(
                &workspace.root,
                workspace.layout.state(),
                &workspace.layout.trash(),
                hidden,
            ),
            index: &index,
            store: build.store.unwrap_or(&self.store),
            shared: None,
            executor: fake,
            host_env: &build.host_env,
            cancel: &build.cancel,
        };
        let request = Request {
            names: &names,
            wanted: &wanted,
            first: &[],
            options: build.options,
            arguments: None,
            snapshot: None,
            warnings: Vec::new(),
        };
        let mut lines = Lines {
            lines: Vec::new(),
            cancel: build.cancel.clone(),
            cancel_at: build.cancel_at,
        };
        let finished = run(&parts, request, &mut self.memory, &mut lines);
        assert!(finished.unsaved.is_none(), "{:?}", finished.unsaved);
        lines.lines
    }
}

/// Writes each event as a line.
struct Lines<'a> {
    lines: Vec<String>,
    cancel: Cancel,
    cancel_at: &'a str,
}

impl Sink for Lines<'_> {
    fn on_event(&mut self, event: &Event) {
        let line = match &event.kind {
            EventKind::TargetStarted {
                target,
                reason,
                attempt: 1,
                ..
            } => format!("start {target}: {reason}"),
            EventKind::TargetStarted {
                target, attempt, ..
            } => format!("start {target} again, attempt {attempt}"),
            EventKind::TargetOutput { target, text } => {
                format!("print {target}: {}", String::from_utf8_lossy(&text.0))
            }
            EventKind::TargetFinished {
                target,
                outcome,
                reason,
                ..
            } => finished(target, outcome, reason.as_ref()),
            EventKind::Warning(warning) => {
                let target = warning.target.as_deref().unwrap_or("run");
                format!("warn {target}: {}", warning.code)
            }
            EventKind::Finding(finding) => {
                format!("find {}: {}", finding.target, finding.diagnostic.message)
            }
            EventKind::RunStarted { .. } => return,
            EventKind::RunFinished(summary) if summary.interrupted => "interrupted".to_owned(),
            EventKind::RunFinished(_) => return,
        };
        if line == self.cancel_at {
            self.cancel.raise();
        }
        self.lines.push(line);
    }
}

fn finished(target: &str, outcome: &Outcome, reason: Option<&Reason>) -> String {
    let reason = reason
        .map(|reason| format!(": {reason}"))
        .unwrap_or_default();
    match outcome {
        Outcome::Built => format!("built {target}"),
        Outcome::UpToDate => format!("up to date {target}"),
        Outcome::Restored => format!("restored {target}{reason}"),
        Outcome::Fetched => format!("fetched {target}{reason}"),
        Outcome::WouldRun => format!("would run {target}{reason}"),
        Outcome::WouldRestore => format!("would restore {target}{reason}"),
        Outcome::Failed { failure } => format!("failed {target}: {}", failure.code),
        Outcome::Skipped { because } => format!("skipped {target}: because of {because}"),
        Outcome::Cancelled => format!("cancelled {target}"),
    }
}

/// A store that raises `cancel` whenever a result is looked up.
pub(super) struct CancelOnLookup<'a> {
    pub(super) store: &'a store::Memory,
    pub(super) cancel: &'a Cancel,
}

impl Store for CancelOnLookup<'_> {
    fn result(&self, key: ActionKey) -> Result<Option<ActionResult>, store::Error> {
        self.cancel.raise();
        self.store.result(key)
    }
    fn record(&self, batch: &[(ActionKey, ActionResult)]) -> Result<(), store::Error> {
        self.store.record(batch)
    }
    fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, store::Error> {
        self.store.missing(digests)
    }
    fn read(&self, digest: Digest) -> Result<Option<Box<dyn Read + Send>>, store::Error> {
        self.store.read(digest)
    }
    fn write(&self, bytes: &mut dyn Read) -> Result<Digest, store::Error> {
        self.store.write(bytes)
    }
}
