//! A fake executor for tests. [`Fake`] writes the files and prints the lines that a test
//! scripted, and records the requests. It starts no process.
//!
//! ```
//! use fbuild::exec::{Fake, Gate, Script};
//!
//! let gate = Gate::new();
//! let fake = Fake::new("/tmp/project")
//!     .on("generate", Script::new().writes("api.go", "package api").prints("done\n"))
//!     .on("test", Script::new().fails(2)) // the first time
//!     .on("test", Script::new()) // the second time, and all later ones
//!     .on("server", Script::new().waits_for(&gate));
//! assert!(fake.requests().is_empty());
//! # gate.open();
//! ```

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use super::{End, Error, Execution, Executor, Task};
use crate::action::ResolvedCommand;
use crate::cancel::{Cancel, Urgency};

/// Plays a script for each target. A target without a script succeeds and does nothing.
#[derive(Debug)]
pub struct Fake {
    root: PathBuf,
    scripts: HashMap<String, Vec<Script>>,
    requests: Mutex<Vec<Request>>,
}

/// A task that [`Fake`] was asked to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The target's name.
    pub name: String,
    /// Its commands.
    pub commands: Vec<ResolvedCommand>,
}

/// The scripted behaviour of a target.
#[derive(Clone, Debug)]
pub struct Script {
    gate: Option<Gate>,
    files: Vec<(String, Vec<u8>)>,
    callback: Option<Callback>,
    output: Vec<u8>,
    end: End,
}

/// A function that is called with the root while a target "runs".
#[derive(Clone)]
struct Callback(Arc<CallbackFn>);

type CallbackFn = dyn Fn(&Path) -> io::Result<()> + Send + Sync;

/// Blocks a fake command until a test opens it. The test can wait for the command, too.
#[derive(Clone, Debug)]
pub struct Gate {
    reached: Cancel,
    open: Cancel,
}

impl Fake {
    /// Returns a fake that writes files below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            scripts: HashMap::new(),
            requests: Mutex::new(Vec::new()),
        }
    }

    /// Adds a script for `target`. The first call sets the first run, the second call the
    /// second run; the last script is repeated.
    pub fn on(mut self, target: &str, script: Script) -> Self {
        self.scripts
            .entry(target.to_owned())
            .or_default()
            .push(script);
        self
    }

    /// Returns all requests, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.lock().clone()
    }

    /// Returns the target names of all requests, and forgets the requests.
    pub fn take_names(&self) -> Vec<String> {
        self.lock().drain(..).map(|request| request.name).collect()
    }

    /// Records a request, and returns the script for it.
    fn next(&self, task: &Task<'_>) -> Script {
        let mut requests = self.lock();
        let earlier = requests.iter().filter(|r| r.name == task.name).count();
        requests.push(Request {
            name: task.name.to_owned(),
            commands: task.action.commands.clone(),
        });
        let scripts = self.scripts.get(task.name).map_or(&[][..], Vec::as_slice);
        let script = scripts.get(earlier).or(scripts.last());
        script.cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Executor for Fake {
    fn execute(
        &self,
        task: &Task<'_>,
        output: &mut dyn FnMut(&[u8]),
        cancel: &Cancel,
    ) -> Result<Execution, Error> {
        let script = self.next(task);
        let is_open = script.gate.as_ref().is_none_or(|gate| gate.pass(cancel));
        let end = if is_open && !cancel.is_raised() {
            script.play(&self.root, output)?
        } else {
            End::Cancelled
        };
        Ok(Execution {
            end,
            command: task.action.commands.len().saturating_sub(1),
            duration: Duration::from_millis(1),
            left_behind: 0,
            trace: None,
        })
    }
}

impl Script {
    /// Returns a script that does nothing and succeeds.
    pub fn new() -> Self {
        Self {
            gate: None,
            files: Vec::new(),
            callback: None,
            output: Vec::new(),
            end: End::Exited(ExitStatus::default()),
        }
    }

    /// Waits for `gate` first. If the run is cancelled meanwhile, ends as cancelled.
    pub fn waits_for(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// Writes a file, and creates its folders.
    pub fn writes(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((path.to_owned(), content.into()));
        self
    }

    /// Calls `callback` with the root after the files are written.
    pub fn calls(
        mut self,
        callback: impl Fn(&Path) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.callback = Some(Callback(Arc::new(callback)));
        self
    }

    /// Prints `output`.
    pub fn prints(mut self, output: impl Into<Vec<u8>>) -> Self {
        self.output = output.into();
        self
    }

    /// Ends with an exit code.
    pub fn fails(self, code: u8) -> Self {
        self.ends(End::Exited(ExitStatus::from_raw(i32::from(code) << 8)))
    }

    /// Ends with `end`.
    pub fn ends(mut self, end: End) -> Self {
        self.end = end;
        self
    }

    fn play(&self, root: &Path, output: &mut dyn FnMut(&[u8])) -> Result<End, Error> {
        for (path, content) in &self.files {
            write(&root.join(path), content).map_err(Error::system("write a fake output"))?;
        }
        if let Some(Callback(callback)) = &self.callback {
            callback(root).map_err(Error::system("call a fake command's function"))?;
        }
        if !self.output.is_empty() {
            output(&self.output);
        }
        Ok(self.end)
    }
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callback")
    }
}

fn write(file: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(file, content)
}

impl Gate {
    /// Returns a closed gate.
    pub fn new() -> Self {
        Self {
            reached: Cancel::new(),
            open: Cancel::new(),
        }
    }

    /// Opens the gate for all commands, now and later.
    pub fn open(&self) {
        self.open.raise();
    }

    /// Waits until a command reaches the gate, for at most a minute. Returns true if one did.
    pub fn wait_until_reached(&self) -> bool {
        wait(&[&self.reached], Some(Duration::from_secs(60)));
        self.reached.is_raised()
    }

    /// Waits until the gate is open or `cancel` is raised. Returns true if it is open.
    fn pass(&self, cancel: &Cancel) -> bool {
        self.reached.raise();
        wait(&[&self.open, cancel], None);
        self.open.is_raised()
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// Waits until one of these flags is raised. A flag without a descriptor is ignored.
fn wait(flags: &[&Cancel], limit: Option<Duration>) {
    let mut fds: Vec<PollFd<'_>> = flags
        .iter()
        .filter_map(|flag| flag.notifier(Urgency::None))
        .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
        .collect();
    let limit = limit.and_then(|limit| limit.try_into().ok());
    while rustix::event::poll(&mut fds, limit.as_ref()) == Err(rustix::io::Errno::INTR) {}
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::action::Action;
    use crate::path::RelPath;

    fn run(fake: &Fake, name: &str, cancel: &Cancel) -> (End, String) {
        let action = Action {
            commands: vec![ResolvedCommand::Sh(format!("make {name}"))],
            dir: RelPath::root(),
            env: BTreeMap::new(),
            inherited: BTreeMap::new(),
            secrets: BTreeMap::new(),
            tools: BTreeMap::new(),
            inputs: Vec::new(),
            needs: BTreeMap::new(),
            ran: BTreeMap::new(),
            outputs: Vec::new(),
        };
        let task = Task {
            name,
            action: &action,
            timeout: None,
            interactive: false,
            tracing: crate::exec::Tracing::Off,
        };
        let mut printed = String::new();
        let mut output = |bytes: &[u8]| printed.push_str(&String::from_utf8_lossy(bytes));
        let end = fake.execute(&task, &mut output, cancel).unwrap().end;
        (end, printed)
    }

    #[test]
    fn scripts_play_in_order_and_the_last_repeats() {
        let dir = tempfile::tempdir().unwrap();
        let fake = Fake::new(dir.path())
            .on("a", Script::new().fails(2).prints("no\n"))
            .on("a", Script::new().writes("out/a", "bytes"));
        let cancel = Cancel::new();
        let (end, printed) = run(&fake, "a", &cancel);
        assert!(!end.is_success());
        assert_eq!(printed, "no\n");
        for _ in 0..2 {
            assert!(run(&fake, "a", &cancel).0.is_success());
        }
        assert_eq!(std::fs::read(dir.path().join("out/a")).unwrap(), b"bytes");
    }

    #[test]
    fn requests_are_recorded() {
        let (fake, cancel) = (Fake::new("/nowhere"), Cancel::new());
        assert!(run(&fake, "unknown", &cancel).0.is_success());
        let commands = vec![ResolvedCommand::Sh("make unknown".to_owned())];
        assert_eq!(fake.requests()[0].commands, commands);
        assert_eq!(fake.take_names(), ["unknown"]);
        assert!(fake.requests().is_empty());
    }

    #[test]
    fn gate_blocks_a_command_until_it_opens() {
        let (gate, cancel) = (Gate::new(), Cancel::new());
        let fake = Fake::new("/nowhere").on("a", Script::new().waits_for(&gate));
        let end = std::thread::scope(|scope| {
            let running = scope.spawn(|| run(&fake, "a", &cancel).0);
            assert!(gate.wait_until_reached());
            assert!(!running.is_finished());
            gate.open();
            running.join().unwrap()
        });
        assert!(end.is_success());
    }

    #[test]
    fn cancel_ends_a_command_at_its_gate() {
        let (gate, cancel) = (Gate::new(), Cancel::new());
        let fake = Fake::new("/nowhere").on("a", Script::new().waits_for(&gate));
        cancel.raise();
        assert_eq!(run(&fake, "a", &cancel).0, End::Cancelled);
    }
}
