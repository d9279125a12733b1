//! [`Fake`] pretends to run commands, for tests of what drives an [`Executor`]: it writes
//! the files and prints the lines that a test says, and remembers what it was asked. It
//! starts no process.
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
//! assert!(fake.asked().is_empty());
//! # gate.open();
//! ```

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use super::{End, Error, Execution, Executor, Task};
use crate::action::ResolvedCommand;
use crate::cancel::{Cancel, Urgency};

/// Pretends to run commands. What it was not told about succeeds and does nothing.
#[derive(Debug)]
pub struct Fake {
    root: PathBuf,
    scripts: HashMap<String, Vec<Script>>,
    asked: Mutex<Vec<Asked>>,
}

/// What [`Fake`] was asked to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The target's name.
    pub name: String,
    /// Its commands.
    pub commands: Vec<ResolvedCommand>,
}

/// What [`Fake`] does for a target.
#[derive(Clone, Debug)]
pub struct Script {
    gate: Option<Gate>,
    files: Vec<(String, Vec<u8>)>,
    deed: Option<Deed>,
    output: Vec<u8>,
    end: End,
}

/// Something to be done while a target "runs", given the root.
#[derive(Clone)]
struct Deed(Arc<Act>);

type Act = dyn Fn(&Path) -> io::Result<()> + Send + Sync;

/// Holds a fake command until a test opens it; both sides can wait for the other.
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
            asked: Mutex::new(Vec::new()),
        }
    }

    /// Says what happens when `target` runs. Said again for the same target, it is for the
    /// next time; the last is for all later times.
    pub fn on(mut self, target: &str, script: Script) -> Self {
        self.scripts
            .entry(target.to_owned())
            .or_default()
            .push(script);
        self
    }

    /// Returns what it was asked to run, in order of asking.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns the names of the targets that it was asked to run, and forgets them.
    pub fn take_names(&self) -> Vec<String> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.drain(..).map(|asked| asked.name).collect()
    }

    /// Notes a task, and returns what is to be done for it.
    fn next(&self, task: &Task<'_>) -> Script {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let before = asked.iter().filter(|asked| asked.name == task.name).count();
        asked.push(Asked {
            name: task.name.to_owned(),
            commands: task.action.commands.clone(),
        });
        let scripts = self.scripts.get(task.name).map_or(&[][..], Vec::as_slice);
        let script = scripts.get(before).or(scripts.last());
        script.cloned().unwrap_or_default()
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
        let is_through = script.gate.as_ref().is_none_or(|gate| gate.pass(cancel));
        let end = match is_through && !cancel.is_raised() {
            true => script.play(&self.root, output)?,
            false => End::Cancelled,
        };
        Ok(Execution {
            end,
            command: task.action.commands.len().saturating_sub(1),
            duration: Duration::from_millis(1),
            left_behind: 0,
        })
    }
}

impl Script {
    /// Returns a script that does nothing and succeeds.
    pub fn new() -> Self {
        Self {
            gate: None,
            files: Vec::new(),
            deed: None,
            output: Vec::new(),
            end: End::Exited(ExitStatus::default()),
        }
    }

    /// Waits until `gate` is opened, before anything else; ends as cancelled if the run is.
    pub fn waits_for(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// Writes a file, and the folders that it lies in.
    pub fn writes(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((path.to_owned(), content.into()));
        self
    }

    /// Does something else, given the root; after the files are written.
    pub fn does(mut self, deed: impl Fn(&Path) -> io::Result<()> + Send + Sync + 'static) -> Self {
        self.deed = Some(Deed(Arc::new(deed)));
        self
    }

    /// Prints something.
    pub fn prints(mut self, output: impl Into<Vec<u8>>) -> Self {
        self.output = output.into();
        self
    }

    /// Ends with an exit code.
    pub fn fails(self, code: u8) -> Self {
        self.ends(End::Exited(ExitStatus::from_raw(i32::from(code) << 8)))
    }

    /// Ends in this way.
    pub fn ends(mut self, end: End) -> Self {
        self.end = end;
        self
    }

    fn play(&self, root: &Path, output: &mut dyn FnMut(&[u8])) -> Result<End, Error> {
        for (path, content) in &self.files {
            write(&root.join(path), content).map_err(Error::system("write a fake output"))?;
        }
        if let Some(Deed(deed)) = &self.deed {
            deed(root).map_err(Error::system("do what a fake command does"))?;
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

impl fmt::Debug for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deed")
    }
}

fn write(file: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(file, content)
}

impl Gate {
    /// Returns a gate that is shut.
    pub fn new() -> Self {
        Self {
            reached: Cancel::new(),
            open: Cancel::new(),
        }
    }

    /// Lets everybody through, now and later.
    pub fn open(&self) {
        self.open.raise();
    }

    /// Waits until somebody stands at the gate; for a minute at most, and tells whether
    /// anybody came.
    pub fn wait_until_reached(&self) -> bool {
        wait(&[&self.reached], Some(Duration::from_secs(60)));
        self.reached.is_raised()
    }

    /// Waits until the gate is open or `cancel` is raised, and tells whether it is open.
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

/// Waits until one of these flags is raised. One without a bell is not waited for.
fn wait(flags: &[&Cancel], limit: Option<Duration>) {
    let bells = flags.iter().filter_map(|flag| flag.bell(Urgency::None));
    let bell = |bell| PollFd::from_borrowed_fd(bell, PollFlags::IN);
    let mut fds: Vec<PollFd<'_>> = bells.map(bell).collect();
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
            outputs: Vec::new(),
        };
        let task = Task {
            name,
            action: &action,
            timeout: None,
            interactive: false,
        };
        let mut said = String::new();
        let mut output = |bytes: &[u8]| said.push_str(&String::from_utf8_lossy(bytes));
        let end = fake.execute(&task, &mut output, cancel).unwrap().end;
        (end, said)
    }

    #[test]
    fn scripts_follow_each_other_and_the_last_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let fake = Fake::new(dir.path())
            .on("a", Script::new().fails(2).prints("no\n"))
            .on("a", Script::new().writes("out/a", "bytes"));
        let cancel = Cancel::new();
        let (end, said) = run(&fake, "a", &cancel);
        assert!(!end.is_success());
        assert_eq!(said, "no\n");
        for _ in 0..2 {
            assert!(run(&fake, "a", &cancel).0.is_success());
        }
        assert_eq!(std::fs::read(dir.path().join("out/a")).unwrap(), b"bytes");
        assert!(run(&fake, "unknown", &cancel).0.is_success());
        let commands = vec![ResolvedCommand::Sh("make unknown".to_owned())];
        assert_eq!(fake.asked()[3].commands, commands);
        assert_eq!(fake.take_names(), ["a", "a", "a", "unknown"]);
    }

    #[test]
    fn a_gate_holds_a_command_until_it_is_opened_or_the_run_is_stopped() {
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
        cancel.raise();
        assert_eq!(run(&fake, "a", &cancel).0, End::Cancelled);
    }
}
