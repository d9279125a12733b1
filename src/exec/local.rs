//! [`Local`] runs an action's commands on this machine, below the workspace's root. It does
//! not know how processes are started, watched and ended (`run` does).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use super::mask::Masker;
use super::private::PrivateDirs;
use super::process::{Program, Streams};
use super::run::{Ended, GRACE, run};
use super::watchdog::Watchdog;
use super::{End, Error, Execution, Executor, Task, shell};
use crate::cancel::Cancel;
use crate::path::Root;

/// Runs commands here.
///
/// A command sees the variables that its action says (inherited ones, then declared ones,
/// then secrets, the later winning), and these: `PWD`, its working directory;
/// `FBUILD_TARGET`, the target's name; [`MARKER`](super::MARKER), which marks its
/// processes; and, unless the action sets it, `TMPDIR`, an empty folder of its own that is
/// removed when the action ends.
#[derive(Debug)]
pub struct Local {
    root: Root,
    private: PrivateDirs,
    watchdog: Option<Watchdog>,
}

impl Local {
    /// Prepares to run commands below `root`, with their private folders below `tmp`.
    pub fn new(root: Root, tmp: PathBuf) -> Self {
        Self {
            root,
            private: PrivateDirs::new(tmp),
            watchdog: None,
        }
    }

    /// Has `program` end the commands if fbuild is killed; it must call
    /// [`watchdog_main`](super::watchdog_main) when given
    /// [`WATCHDOG_ARGUMENT`](super::WATCHDOG_ARGUMENT). For fbuild, it is `/proc/self/exe`.
    pub fn with_watchdog(mut self, program: PathBuf) -> Self {
        self.watchdog = Some(Watchdog::new(program));
        self
    }

    /// Returns why nobody would end the commands if fbuild were killed, although somebody
    /// should; known once a command has run.
    pub fn trouble(&self) -> Option<&io::Error> {
        self.watchdog.as_ref()?.trouble()
    }

    fn watchdog(&self) -> Option<&Watchdog> {
        self.watchdog.as_ref()
    }
}

impl Executor for Local {
    fn get_ready(&self) {
        self.watchdog().map(Watchdog::start);
    }

    fn execute(
        &self,
        task: &Task<'_>,
        output: &mut dyn FnMut(&[u8]),
        cancel: &Cancel,
    ) -> Result<Execution, Error> {
        let started = Instant::now();
        let private = self.private.create();
        let private = private.map_err(Error::system("create a folder for temporary files"))?;
        let dir = self.root.absolute(&task.action.dir);
        let env = environment(task, &dir, private.path());
        let mut masker = Masker::new(task.action.secrets.values());
        let mut execution = Execution {
            end: End::Exited(ExitStatus::default()),
            command: 0,
            duration: Duration::ZERO,
            left_behind: 0,
        };
        for (number, command) in task.action.commands.iter().enumerate() {
            let program = Program {
                argv: &shell::argv(command),
                env: &env,
                dir: &dir,
                streams: streams(task),
                deadline: task.timeout.map(|time| started + time),
                grace: GRACE,
                watchdog: self.watchdog(),
            };
            let ended = run(&program, &mut |bytes| masker.push(bytes, output), cancel);
            masker.finish(output);
            if !execution.add(number, ended?) {
                break;
            }
        }
        execution.duration = started.elapsed();
        Ok(execution)
    }
}

impl Execution {
    /// Adds how a command ended, and tells whether the next may run.
    fn add(&mut self, command: usize, ended: Ended) -> bool {
        self.command = command;
        self.end = ended.end;
        self.left_behind += ended.left_behind;
        ended.end.is_success()
    }
}

fn streams(task: &Task<'_>) -> Streams {
    match task.interactive {
        true => Streams::Terminal,
        false => Streams::Captured,
    }
}

/// Returns the whole environment of a task's commands, but for the marker.
fn environment(task: &Task<'_>, dir: &Path, tmp: &Path) -> BTreeMap<OsString, OsString> {
    let mut env = BTreeMap::from([("TMPDIR".into(), tmp.into())]);
    for (name, value) in shell::variables(task.action) {
        match value {
            Some(value) => env.insert(name.into(), value.clone()),
            None => env.remove(OsStr::new(name)),
        };
    }
    env.insert("PWD".into(), dir.into());
    env.insert("FBUILD_TARGET".into(), task.name.into());
    env
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{Action, ResolvedCommand};
    use crate::path::RelPath;

    fn action(commands: &[&str]) -> Action {
        let path = ("PATH".to_owned(), "/usr/bin:/bin".into());
        Action {
            commands: commands
                .iter()
                .map(|c| ResolvedCommand::Sh((*c).to_owned()))
                .collect(),
            dir: RelPath::root(),
            env: BTreeMap::new(),
            inherited: BTreeMap::from([path]),
            secrets: BTreeMap::new(),
            tools: BTreeMap::new(),
            inputs: Vec::new(),
            needs: BTreeMap::new(),
            outputs: Vec::new(),
        }
    }

    /// Runs it in a root of its own, and returns how it ended and what it printed.
    fn execute(action: &Action) -> (Execution, String) {
        execute_within(action, None)
    }

    fn execute_within(action: &Action, timeout: Option<Duration>) -> (Execution, String) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        let local = Local::new(Root::open(dir.path()).unwrap(), dir.path().join("tmp"));
        let task = Task {
            name: "it",
            action,
            timeout,
            interactive: false,
        };
        let mut said = Vec::new();
        let mut output = |bytes: &[u8]| said.extend_from_slice(bytes);
        let execution = local.execute(&task, &mut output, &Cancel::new()).unwrap();
        drop(local);
        let left = std::fs::read_dir(dir.path().join("tmp")).unwrap();
        assert_eq!(left.count(), 0, "a private folder was left");
        let here = dir.path().canonicalize().unwrap();
        let said = String::from_utf8(said).unwrap();
        (execution, said.replace(here.to_str().unwrap(), "ROOT"))
    }

    #[test]
    fn commands_run_in_order_until_the_first_that_fails() {
        let (execution, said) = execute(&action(&["echo a", "false; echo b", "echo c"]));
        assert_eq!(said, "a\n");
        assert_eq!(execution.command, 1);
        assert!(!execution.end.is_success());
    }

    #[test]
    fn a_command_that_ends_in_time_is_not_stopped_and_one_that_does_not_is() {
        let action = action(&["sleep 0.05; echo done"]);
        let within = |time| execute_within(&action, Some(time));
        let (execution, said) = within(Duration::from_secs(600));
        assert!(execution.end.is_success(), "{:?}", execution.end);
        assert_eq!(said, "done\n");
        let (execution, _) = within(Duration::ZERO);
        assert_eq!(execution.end, End::TimedOut);
    }

    #[test]
    fn it_is_said_when_nobody_would_end_the_commands_and_they_run() {
        let dir = tempfile::tempdir().unwrap();
        let local = Local::new(Root::open(dir.path()).unwrap(), dir.path().join("tmp"));
        assert!(local.trouble().is_none(), "nobody should");
        let local = local.with_watchdog("/nonexistent/fbuild".into());
        assert!(local.trouble().is_none(), "nobody was asked");
        let task = Task {
            name: "it",
            action: &action(&["true"]),
            timeout: None,
            interactive: false,
        };
        let execution = local.execute(&task, &mut |_| {}, &Cancel::new()).unwrap();
        assert!(execution.end.is_success());
        let trouble = local.trouble().map(io::Error::kind);
        assert_eq!(trouble, Some(io::ErrorKind::NotFound));
    }

    #[test]
    fn a_command_sees_its_environment_and_no_other() {
        let mut action = action(&["env | sort | grep -v ^_="]);
        action.dir = RelPath::new("sub").unwrap();
        let inherited = [("HOME", "/h"), ("LANG", "C"), ("GONE", "x")];
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.into());
        action.inherited.extend(inherited.map(pair));
        action.env.insert("LANG".to_owned(), Some("C.UTF-8".into()));
        action.env.insert("GONE".to_owned(), None);
        action.secrets.insert("TOKEN".to_owned(), "hunter2".into());
        let (_, said) = execute(&action);
        let lines: Vec<&str> = said
            .lines()
            .map(|l| l.split("/run-").next().unwrap())
            .collect();
        let (marker, rest) = lines.split_first().unwrap();
        assert!(marker.starts_with("FBUILD_ACTION="));
        let expected = [
            "FBUILD_TARGET=it",
            "HOME=/h",
            "LANG=C.UTF-8",
            "PATH=/usr/bin:/bin",
            "PWD=ROOT/sub",
            "TMPDIR=ROOT/tmp",
            "TOKEN=***",
        ];
        assert_eq!(rest, expected);
    }

    #[test]
    fn a_secret_is_masked_although_it_is_printed_in_pieces() {
        let mut action = action(&["printf hun; printf ter2; printf ' hun'"]);
        action.secrets.insert("TOKEN".to_owned(), "hunter2".into());
        assert_eq!(execute(&action).1, "*** hun");
    }

    #[test]
    fn the_private_folder_is_empty_and_does_not_outlive_the_action() {
        let script = "ls -A $TMPDIR; mkdir $TMPDIR/a; touch $TMPDIR/a/b; chmod 500 $TMPDIR/a";
        let again = "ls $TMPDIR; stat -c %a $TMPDIR";
        assert_eq!(execute(&action(&[script, again])).1, "a\n700\n");
    }
}
