//! Runs an action's commands on this machine. [`Local`] sets up their environment and
//! private folders; `run` starts, supervises and ends the processes.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use super::mask::Masker;
use super::private::{PrivateDir, PrivateDirs};
use super::process::{Program, Streams};
use super::run::{Completion, GRACE, run};
use super::trace::{Recording, Tracer};
use super::tree::stopped_time;
use super::watchdog::Watchdog;
use super::{End, Error, Execution, Executor, Refusal, Task, Trace, Tracing, process, shell};
use crate::action::ResolvedCommand;
use crate::cancel::Cancel;
use crate::path::Root;
use crate::system::user_dirs::UserDirs;

/// Runs commands on this machine, below the workspace's root.
///
/// The environment of a command consists of its action's variables (inherited, declared,
/// secret; the later wins) and of these: `PWD`, its working directory; `FBUILD_TARGET`, the
/// target's name; [`MARKER`](super::MARKER), which identifies its processes; and, unless
/// the action sets it, `TMPDIR`, a private empty folder that is removed when the action
/// ends.
#[derive(Debug)]
pub struct Local {
    root: Root,
    private: PrivateDirs,
    watchdog: Option<Watchdog>,
    /// The program that traced commands are started through.
    helper: Option<PathBuf>,
}

impl Local {
    /// Returns an executor for commands below `root`, with private folders below `tmp`. The
    /// user's own folders have short links to these.
    pub fn new(root: Root, tmp: PathBuf, user_dirs: UserDirs) -> Self {
        Self {
            root,
            private: PrivateDirs::new(tmp, user_dirs),
            watchdog: None,
            helper: None,
        }
    }

    /// Starts traced commands through `program`. It must call
    /// [`trace_main`](super::trace_main) if its first argument is
    /// [`TRACE_ARGUMENT`](super::TRACE_ARGUMENT). Without one, no command can be traced.
    pub fn with_tracing(mut self, program: PathBuf) -> Self {
        self.helper = Some(program);
        self
    }

    /// Lets `program` kill the commands if fbuild is killed. It must call
    /// [`watchdog_main`](super::watchdog_main) if its first argument is
    /// [`WATCHDOG_ARGUMENT`](super::WATCHDOG_ARGUMENT). For fbuild, it is `/proc/self/exe`.
    pub fn with_watchdog(mut self, program: PathBuf) -> Self {
        self.watchdog = Some(Watchdog::new(program));
        self
    }

    /// Returns the error that prevented the watchdog from starting, once a command has run.
    pub fn watchdog_error(&self) -> Option<&io::Error> {
        self.watchdog.as_ref()?.error()
    }

    /// Writes a script that is too long for an argument to a file, in a private folder other
    /// than that of the commands. The file exists as long as the folder.
    fn write_script(
        &self,
        command: &ResolvedCommand,
    ) -> Result<Option<(PrivateDir<'_>, PathBuf)>, Error> {
        let Some(script) = shell::long_script(command) else {
            return Ok(None);
        };
        let write = || -> io::Result<_> {
            let folder = self.private.create()?;
            let file = folder.path().join("script");
            std::fs::write(&file, script.as_encoded_bytes())?;
            Ok((folder, file))
        };
        write().map(Some).map_err(Error::system("write a script"))
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
        let stopped_before = stopped_time();
        let private = self
            .private
            .create()
            .map_err(Error::system("create a folder for temporary files"))?;
        let dir = self.root.absolute(&task.action.dir);
        let env = environment(task, &dir, private.path());
        let streams = if task.interactive {
            Streams::Terminal
        } else {
            Streams::Captured
        };
        let mut masker = Masker::new(task.action.secrets.values());
        let mut execution = Execution {
            end: End::Exited(ExitStatus::default()),
            command: 0,
            duration: Duration::ZERO,
            left_behind: 0,
            trace: None,
        };
        let mut tracing = TaskTrace::new(task.tracing, &self.root);
        for (number, command) in task.action.commands.iter().enumerate() {
            let script = self.write_script(command)?;
            let argv = match &script {
                Some((_, file)) => shell::argv_of_file(file, command),
                None => shell::argv(command),
            };
            let program = Program {
                argv: &argv,
                env: &env,
                dir: &dir,
                streams,
                deadline: task
                    .timeout
                    .map(|time| started + time + (stopped_time() - stopped_before)),
                grace: GRACE,
                watchdog: self.watchdog(),
                tracer: None,
            };
            let completion = tracing.run(&program, self.helper.as_deref(), |program| {
                run(program, &mut |bytes| masker.push(bytes, output), cancel)
            });
            // Even after an error: the held bytes may be the last line of a failed command.
            masker.finish(output);
            if !execution.add(number, completion?) {
                break;
            }
        }
        execution.duration = started.elapsed();
        execution.trace = tracing.finish();
        Ok(execution)
    }
}

/// The trace of a task, while its commands run.
enum TaskTrace {
    Off,
    On {
        recording: Box<Recording>,
        is_required: bool,
    },
    Refused(Refusal),
}

impl TaskTrace {
    fn new(tracing: Tracing, root: &Root) -> Self {
        match tracing {
            Tracing::Off => Self::Off,
            Tracing::Preferred | Tracing::Required => Self::On {
                recording: Box::new(Recording::new(root.clone())),
                is_required: tracing == Tracing::Required,
            },
        }
    }

    /// Runs a command, traced if possible. `run` runs a program.
    fn run(
        &mut self,
        program: &Program<'_>,
        helper: Option<&Path>,
        mut run: impl FnMut(&Program<'_>) -> Result<Completion, Error>,
    ) -> Result<Completion, Error> {
        let (recording, is_required) = match std::mem::replace(self, Self::Off) {
            Self::On {
                recording,
                is_required,
            } => (recording, is_required),
            other => {
                *self = other;
                return run(program);
            }
        };
        let tracer = Tracer::start(helper.unwrap_or(Path::new("")), *recording)
            .map_err(Error::system("start a tracer"))?;
        let completion = run(&Program {
            tracer: Some(&tracer),
            ..*program
        });
        let ended = tracer.finish();
        match (completion, ended.refusal, ended.not_executed) {
            (Ok(completion), Some(refusal), _) if is_failed_exit(completion.end) => {
                if is_required {
                    return Err(Error::Trace { refusal });
                }
                *self = Self::Refused(refusal);
                run(program)
            }
            (Ok(_), None, Some(error)) => Err(process::not_executed(program, error)),
            (completion, ..) => {
                *self = Self::On {
                    recording: Box::new(ended.recording),
                    is_required,
                };
                completion
            }
        }
    }

    fn finish(self) -> Option<Result<Trace, Refusal>> {
        match self {
            Self::Off => None,
            Self::On { recording, .. } => Some(Ok(recording.into_trace())),
            Self::Refused(refusal) => Some(Err(refusal)),
        }
    }
}

/// Returns true if a command ended by itself, as the helper does after a refusal.
fn is_failed_exit(end: End) -> bool {
    matches!(end, End::Exited(status) if !status.success())
}

impl Execution {
    /// Adds the result of a command, and returns true if the next command may run.
    fn add(&mut self, command: usize, completion: Completion) -> bool {
        self.command = command;
        self.end = completion.end;
        self.left_behind += completion.left_behind;
        completion.end.is_success()
    }
}

/// Returns the whole environment of a task's commands, except the marker.
fn environment(task: &Task<'_>, dir: &Path, tmp: &Path) -> BTreeMap<OsString, OsString> {
    let mut env = BTreeMap::from([("TMPDIR".into(), tmp.into())]);
    for (name, value) in shell::variables(task.action) {
        match value {
            Some(value) => env.insert(name.into(), value.clone()),
            None => env.remove(OsStr::new(name)),
        };
    }
    // After the action's variables: these two always describe the running command.
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
            ran: BTreeMap::new(),
            outputs: Vec::new(),
        }
    }

    fn execute(action: &Action) -> (Execution, String) {
        execute_within(action, None)
    }

    /// Runs an action in a new root, and returns its result and its output.
    fn execute_within(action: &Action, timeout: Option<Duration>) -> (Execution, String) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        let local = Local::new(
            Root::open(dir.path()).unwrap(),
            dir.path().join("tmp"),
            UserDirs::default(),
        );
        let task = Task {
            name: "it",
            action,
            timeout,
            interactive: false,
            tracing: Tracing::Off,
        };
        let mut printed = Vec::new();
        let mut output = |bytes: &[u8]| printed.extend_from_slice(bytes);
        let execution = local.execute(&task, &mut output, &Cancel::new()).unwrap();
        drop(local);
        let left = std::fs::read_dir(dir.path().join("tmp")).unwrap();
        assert_eq!(left.count(), 0, "a private folder was left");
        let root = dir.path().canonicalize().unwrap();
        let printed = String::from_utf8(printed).unwrap();
        (execution, printed.replace(root.to_str().unwrap(), "ROOT"))
    }

    #[test]
    fn commands_run_until_the_first_failure() {
        let (execution, printed) = execute(&action(&["echo a", "false; echo b", "echo c"]));
        assert_eq!(printed, "a\n");
        assert_eq!(execution.command, 1);
        assert!(!execution.end.is_success());
    }

    #[test]
    fn command_within_its_timeout_is_not_stopped() {
        let action = action(&["sleep 0.05; echo done"]);
        let (execution, printed) = execute_within(&action, Some(Duration::from_secs(600)));
        assert!(execution.end.is_success(), "{:?}", execution.end);
        assert_eq!(printed, "done\n");
    }

    #[test]
    fn command_over_its_timeout_is_stopped() {
        let action = action(&["sleep 0.05; echo done"]);
        let (execution, _) = execute_within(&action, Some(Duration::ZERO));
        assert_eq!(execution.end, End::TimedOut);
    }

    #[test]
    fn commands_run_without_watchdog_and_it_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let local = Local::new(
            Root::open(dir.path()).unwrap(),
            dir.path().join("tmp"),
            UserDirs::default(),
        );
        assert!(local.watchdog_error().is_none(), "none was configured");
        let local = local.with_watchdog("/nonexistent/fbuild".into());
        assert!(local.watchdog_error().is_none(), "no command has run");
        let task = Task {
            name: "it",
            action: &action(&["true"]),
            timeout: None,
            interactive: false,
            tracing: Tracing::Off,
        };
        let execution = local.execute(&task, &mut |_| {}, &Cancel::new()).unwrap();
        assert!(execution.end.is_success());
        let error = local.watchdog_error().map(io::Error::kind);
        assert_eq!(error, Some(io::ErrorKind::NotFound));
    }

    #[test]
    fn command_sees_only_its_own_environment() {
        let mut action = action(&["env | sort | grep -v ^_="]);
        action.dir = RelPath::new("sub").unwrap();
        let inherited = [("HOME", "/h"), ("LANG", "C"), ("GONE", "x")];
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.into());
        action.inherited.extend(inherited.map(pair));
        action.env.insert("LANG".to_owned(), Some("C.UTF-8".into()));
        action.env.insert("GONE".to_owned(), None);
        action.secrets.insert("TOKEN".to_owned(), "hunter2".into());
        let (_, printed) = execute(&action);
        let lines: Vec<&str> = printed
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
    fn secret_printed_in_pieces_is_masked() {
        let mut action = action(&["printf hun; printf ter2; printf ' hun'"]);
        action.secrets.insert("TOKEN".to_owned(), "hunter2".into());
        assert_eq!(execute(&action).1, "*** hun");
    }

    #[test]
    fn private_folder_starts_empty_and_is_removed() {
        let script = "ls -A $TMPDIR; mkdir $TMPDIR/a; touch $TMPDIR/a/b; chmod 500 $TMPDIR/a";
        let again = "ls $TMPDIR; stat -c %a $TMPDIR";
        assert_eq!(execute(&action(&[script, again])).1, "a\n700\n");
    }
}
