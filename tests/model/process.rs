//! Builds with the real program and real processes: `fbuild` runs `mix`, which keeps a journal
//! outside the tree.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use fbuild::event::Event;
use fbuild::workspace::FILE_NAME;

use crate::model::builder::{Builder, Harmed, Intrusion, Report, harm_disk};
use crate::model::comparison::is_valid;
use crate::model::expected::World;
use crate::model::inprocess::intrude;
use crate::model::step::{Harm, Preview};
use crate::support::user;

/// Runs the real program.
pub(crate) struct Process {
    folder: PathBuf,
    jobs: usize,
    /// True if foreign files go to the trash.
    replaces: bool,
    /// The folder of the commands' journal and sockets.
    control: tempfile::TempDir,
}

impl Process {
    /// Builds the project in `folder` with `jobs` parallel jobs.
    pub(crate) fn new(folder: &Path, jobs: usize) -> Self {
        Self {
            folder: folder.to_owned(),
            jobs,
            replaces: false,
            control: tempfile::tempdir().unwrap(),
        }
    }

    /// Moves foreign files to the trash, because the model does not tell them from outputs.
    pub(crate) fn replacing(self) -> Self {
        Self {
            replaces: true,
            ..self
        }
    }

    /// Returns the program with the environment of the model.
    #[expect(
        clippy::disallowed_methods,
        reason = "this plays the shell that starts fbuild"
    )]
    fn fbuild(&self, world: &World, arguments: &[&str]) -> Command {
        let mut fbuild = Command::new(env!("CARGO_BIN_EXE_fbuild"));
        fbuild.arg("-C").arg(&self.folder).args(arguments);
        fbuild
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("FBUILD_CACHE_KEY", user::SECRET)
            .envs(&world.env);
        fbuild.env("MIX_CONTROL", self.control.path());
        // The number of the planted mutant, if there is one: see `tests/mutants`.
        fbuild.envs(
            std::env::vars_os()
                .filter(|(name, _)| name.to_string_lossy().starts_with("FBUILD_MUTANT")),
        );
        fbuild
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        fbuild
    }

    fn finish(&self, output: Output) -> Report {
        let mut report = report(&output);
        let journal = self.control.path().join("journal");
        let text = fs::read_to_string(&journal).unwrap_or_default();
        report.executed = text.lines().map(str::to_owned).collect();
        let _ = fs::remove_file(journal);
        report
    }
}

/// Parses a report from the output of the program.
pub(crate) fn report(output: &Output) -> Report {
    let mut report = Report::default();
    for line in output.stdout.split(|byte| *byte == b'\n') {
        if let Ok(event) = serde_json::from_slice::<Event>(line) {
            report.on_event(&event.kind);
        }
    }
    report.exit = output.status.code().unwrap_or(-1);
    report.messages = String::from_utf8_lossy(&output.stderr).into_owned();
    report
}

impl Builder for Process {
    fn mix(&self) -> Option<&'static str> {
        mix().to_str()
    }

    fn check(&mut self) -> bool {
        is_valid(&fs::read_to_string(self.folder.join(FILE_NAME)).unwrap())
    }

    fn build(&mut self, world: &World, intrusion: Option<&Intrusion>) -> Report {
        let jobs = self.jobs.to_string();
        let mut arguments = vec!["run", "--keep-going", "--json", "-j", &jobs];
        arguments.extend(self.replaces.then_some("--replace"));
        arguments.extend(names(world));
        let mut fbuild = self.fbuild(world, &arguments);
        let Some(intrusion) = intrusion else {
            return self.finish(fbuild.output().unwrap());
        };
        let root = match &world.project.root {
            Some(below) => self.folder.join(below),
            None => self.folder.clone(),
        };
        let socket = self.control.path().join(&intrusion.target);
        let listener = UnixListener::bind(&socket).unwrap();
        let child = fbuild.spawn().unwrap();
        let intruded = std::thread::scope(|threads| {
            let watcher = threads.spawn(|| watch(&listener, &root, intrusion, &child));
            wait(&child);
            // Unblocks the watcher if no command connected.
            drop(UnixStream::connect(&socket));
            watcher.join().unwrap()
        });
        let _ = fs::remove_file(&socket);
        let mut report = self.finish(child.wait_with_output().unwrap());
        report.intruded = intruded;
        report
    }

    fn preview(&mut self, world: &World, preview: Preview) -> Report {
        let first = &world.project.targets[0].name;
        let mut arguments = match preview {
            Preview::DryRun => vec!["run", "--dry-run", "--json"],
            Preview::Status => vec!["status", "--json"],
            Preview::Explain => vec!["explain", first],
        };
        if preview != Preview::Explain {
            arguments.extend(names(world));
        }
        self.finish(self.fbuild(world, &arguments).output().unwrap())
    }

    fn harm(&mut self, how: Harm, pick: u64) -> Harmed {
        harm_disk(&self.folder.join(".build-cache"), how, pick)
    }

    fn keeps_store_in_state(&self) -> bool {
        true
    }
}

fn names(world: &World) -> impl Iterator<Item = &str> {
    world
        .project
        .targets
        .iter()
        .map(|target| target.name.as_str())
}

/// Waits until the program has ended, without reaping it.
fn wait(child: &Child) {
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while waitid(WaitId::Pid(pid), options).is_err() {}
}

/// Waits for the command and writes the files of the intrusion while it waits. Returns true if
/// the command came.
fn watch(listener: &UnixListener, root: &Path, intrusion: &Intrusion, child: &Child) -> bool {
    let (mut command, _) = listener.accept().unwrap();
    let mut ask = [0];
    if command.read(&mut ask).unwrap_or(0) == 0 {
        return false;
    }
    intrude(root, &intrusion.before);
    let _ = command.write_all(b"!");
    if command.read(&mut ask).unwrap_or(0) == 0 {
        return true;
    }
    intrude(root, &intrusion.after);
    if intrusion.stops {
        use rustix::process::{Pid, Signal, kill_process};
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        // The command waits for an answer until it is killed.
        let _ = command.read(&mut ask);
        return true;
    }
    let _ = command.write_all(b"!");
    true
}

/// Returns the path of `mix` (`examples/mix.rs`). Cargo builds it beside the tests; this builds
/// it if only some tests are run and it is missing or old.
pub(crate) fn mix() -> &'static PathBuf {
    static MIX: OnceLock<PathBuf> = OnceLock::new();
    MIX.get_or_init(|| example("mix"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "this plays the shell that starts cargo"
)]
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(2).unwrap();
    let example = target.join("examples").join(name);
    let age = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
    if age(&example) < age(&test) {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let profile = match target.file_name().unwrap().to_str().unwrap() {
            "debug" => "dev",
            other => other,
        };
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--example", name, "--profile", profile]);
        cargo.args(["--manifest-path", manifest]);
        assert!(cargo.status().unwrap().success(), "cannot build {name}");
    }
    assert!(example.exists(), "{} is missing", example.display());
    example
}
