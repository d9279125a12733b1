//! Runs fbuild in a project of its own and compares its exact output and effects. The
//! environment is closed, and values that vary between runs (durations, paths, process numbers)
//! are replaced by words in brackets. With `FBUILD_TEST_KEEP` set, the folders are kept and
//! their paths are printed.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use fbuild::digest::Key;
use fbuild::user_key;

use super::redact::redact;

/// The path of the program.
pub(crate) const FBUILD: &str = env!("CARGO_BIN_EXE_fbuild");
/// The end of `PATH`, after a project's own tools.
pub(crate) const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
/// A user and group without files.
const NOBODY: u32 = 65534;

/// A project in a folder of its own.
pub(crate) struct Project {
    dir: Option<tempfile::TempDir>,
    /// The folder of the Buildfile.
    pub(crate) root: PathBuf,
}

impl Project {
    /// Creates a project with this Buildfile.
    pub(crate) fn new(buildfile: &str) -> Self {
        Self::empty().file("Buildfile.kdl", &unindent(buildfile))
    }

    /// Creates a project without a Buildfile.
    pub(crate) fn empty() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// Creates an empty project on a file system where syncs cost nothing, if there is one.
    pub(crate) fn in_memory() -> Self {
        match Path::new("/dev/shm") {
            memory if memory.is_dir() => Self::below(memory),
            _ => Self::empty(),
        }
    }

    fn below(folder: &Path) -> Self {
        let mut dir = tempfile::Builder::new();
        let dir = dir.prefix("cli-").tempdir_in(folder).unwrap();
        let root = dir.path().canonicalize().unwrap().join("tree");
        fs::create_dir(&root).unwrap();
        let is_kept = std::env::var_os("FBUILD_TEST_KEEP").is_some();
        let dir = match is_kept {
            true => {
                print_line(&format!("kept: {}", dir.keep().display()));
                None
            }
            false => Some(dir),
        };
        Self { dir, root }
    }

    /// Adds a file and its parent folders.
    pub(crate) fn file(self, path: &str, text: &str) -> Self {
        self.write(path, text);
        self
    }

    /// Adds a script at the front of `PATH`.
    pub(crate) fn tool(self, name: &str, script: &str) -> Self {
        let path = format!("../bin/{name}");
        self.write(&path, format!("#!/bin/sh\n{}", unindent(script)));
        fs::set_permissions(self.path(&path), fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// Replaces the Buildfile.
    pub(crate) fn buildfile(&self, text: &str) {
        self.write("Buildfile.kdl", unindent(text));
    }

    /// Returns the folder that contains the project's folder.
    pub(crate) fn base(&self) -> &Path {
        self.root.parent().unwrap()
    }

    /// Returns the key of the user who runs fbuild here.
    pub(crate) fn key(&self) -> Key {
        let folder = self.base().join("user/fbuild");
        user_key::read(&folder).unwrap().unwrap()
    }

    /// Returns a path below the project's folder.
    pub(crate) fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.root.join(below)
    }

    /// Writes a file and its parent folders.
    pub(crate) fn write(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Runs git in the project; false if it fails or is missing.
    pub(crate) fn git(&self, words: &str) -> bool {
        let mut git = Command::new("git");
        git.current_dir(&self.root).env_clear().env("PATH", PATH);
        git.args(["-c", "safe.directory=*"]).args(words.split(' '));
        let status = git.stdout(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    /// Returns the text of a file.
    #[track_caller]
    pub(crate) fn read(&self, path: impl AsRef<Path>) -> String {
        let path = self.path(path);
        let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        String::from_utf8(bytes).unwrap()
    }

    /// Returns true if a path exists; a dangling link counts.
    pub(crate) fn has(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// Returns the kind, inode and times of a file: equal values mean that nothing wrote to it.
    #[track_caller]
    pub(crate) fn stamp(&self, path: impl AsRef<Path>) -> (u64, i64, i64, u32) {
        let metadata = self.path(path).symlink_metadata().unwrap();
        (
            metadata.ino(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.mode(),
        )
    }

    /// Returns every path below a folder with its kind, mode, content and mtime.
    pub(crate) fn snapshot(&self, folder: impl AsRef<Path>) -> Vec<String> {
        let (mut found, mut folders) = (Vec::new(), vec![self.path(folder)]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                let metadata = path.symlink_metadata().unwrap();
                let content = match (metadata.is_dir(), metadata.is_symlink()) {
                    (true, _) => {
                        folders.push(path.clone());
                        String::new()
                    }
                    (_, true) => format!("{:?}", fs::read_link(&path).unwrap()),
                    _ => format!("{:?}", fs::read(&path).map(|bytes| bytes.len()).ok()),
                };
                found.push(format!(
                    "{} {:o} {}.{} {content}",
                    path.display(),
                    metadata.mode(),
                    metadata.mtime(),
                    metadata.mtime_nsec()
                ));
            }
        }
        found.sort();
        found
    }

    /// Returns the names of the files below a folder.
    pub(crate) fn names(&self, folder: impl AsRef<Path>) -> Vec<String> {
        let folder = self.path(folder);
        let (mut found, mut folders) = (Vec::new(), vec![folder.clone()]);
        while let Some(at) = folders.pop() {
            for entry in fs::read_dir(&at).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(&folder).unwrap();
                let is_folder = path.symlink_metadata().unwrap().is_dir();
                let slash = if is_folder { "/" } else { "" };
                found.push(format!("{}{slash}", name.display()));
                if is_folder {
                    folders.push(path);
                }
            }
        }
        found.sort();
        found
    }

    /// Returns fbuild with these words as arguments.
    pub(crate) fn fbuild(&self, words: &str) -> Run<'_> {
        self.fbuild_args(words.split_whitespace())
    }

    /// Returns fbuild with these arguments.
    pub(crate) fn fbuild_args<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Run<'_> {
        Run {
            project: self,
            args: args
                .into_iter()
                .map(|arg| arg.as_ref().to_owned())
                .collect(),
            folder: self.root.clone(),
            env: Vec::new(),
            wrapper: Vec::new(),
        }
    }

    /// Runs fbuild with these words as arguments.
    #[track_caller]
    pub(crate) fn run(&self, words: &str) -> FinishedRun {
        self.fbuild(words).end()
    }

    /// Creates a named pipe in the project, by which a command and a test synchronize.
    pub(crate) fn pipe(&self, name: &str) -> Pipe {
        let path = self.path(name);
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
        Pipe(path)
    }

    /// Opens all permissions, so that another user can build here.
    pub(crate) fn hand_over(&self) {
        let base = self.base();
        fs::set_permissions(base, fs::Permissions::from_mode(0o755)).unwrap();
        for path in [base.to_owned()].into_iter().chain(everything(base)) {
            std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        // A folder must be writable to be emptied.
        if self.dir.is_some() {
            for path in everything(&self.root) {
                let is_folder = path.symlink_metadata().is_ok_and(|m| m.is_dir());
                if is_folder {
                    let _ = fs::set_permissions(&path, fs::Permissions::from_mode(0o755));
                }
            }
        }
    }
}

/// Returns all paths below a folder, parents first.
fn everything(folder: &Path) -> Vec<PathBuf> {
    let (mut all, mut next) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = next.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                next.push(entry.path());
            }
            all.push(entry.path());
        }
    }
    all
}

/// Removes the common indentation and the leading line break.
pub(crate) fn unindent(text: &str) -> String {
    let text = text.strip_prefix('\n').unwrap_or(text);
    let blank = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let lines = || text.lines().filter(|line| !line.trim().is_empty());
    let least = lines().map(blank).min().unwrap_or(0);
    let lines = text.split('\n').map(|line| line.get(least..).unwrap_or(""));
    let text: Vec<&str> = lines.collect();
    text.join("\n")
}

/// A named pipe: opening one end waits for the other.
pub(crate) struct Pipe(PathBuf);

impl Pipe {
    /// Waits for a line and returns it.
    pub(crate) fn wait(&self) -> String {
        let mut line = String::new();
        let file = fs::File::open(&self.0).unwrap();
        BufReader::new(file).read_line(&mut line).unwrap();
        line
    }

    /// Waits for a reader and writes a line.
    pub(crate) fn go(&self) {
        let mut file = fs::File::options().write(true).open(&self.0).unwrap();
        file.write_all(b"go\n").unwrap();
    }
}

/// A run of fbuild before its start.
pub(crate) struct Run<'p> {
    project: &'p Project,
    args: Vec<OsString>,
    folder: PathBuf,
    env: Vec<(OsString, OsString)>,
    wrapper: Vec<OsString>,
}

impl<'p> Run<'p> {
    /// Starts the run in a folder of the project.
    pub(crate) fn from(mut self, folder: &str) -> Self {
        self.folder = self.project.path(folder);
        self
    }

    /// Sets a variable of the parent environment.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Starts the run through another program.
    pub(crate) fn under<S: AsRef<OsStr>>(mut self, wrapper: impl IntoIterator<Item = S>) -> Self {
        let words = wrapper.into_iter().map(|word| word.as_ref().to_owned());
        self.wrapper.extend(words);
        self
    }

    /// Runs fbuild as an unprivileged user, so that permissions apply even if this is root.
    pub(crate) fn unprivileged(self) -> Self {
        match is_root() {
            true => {
                let id = NOBODY.to_string();
                self.under(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"])
            }
            false => self,
        }
    }

    /// Returns a path of the program that the user of the run can reach.
    fn program(&self) -> PathBuf {
        let is_open = |folder: &Path| folder.metadata().is_ok_and(|m| m.mode() & 0o001 != 0);
        if self.wrapper.is_empty() || Path::new(FBUILD).ancestors().all(is_open) {
            return FBUILD.into();
        }
        let copy = self.project.base().join("fbuild");
        fs::copy(FBUILD, &copy).unwrap();
        copy
    }

    /// Returns the complete command.
    pub(crate) fn command(&self) -> Command {
        let words = self.wrapper.iter().map(OsString::as_os_str);
        let program = self.program();
        let mut words = words.chain([program.as_os_str()]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).args(&self.args);
        command.current_dir(&self.folder).env_clear();
        let mut path = self.project.base().join("bin").into_os_string();
        path.push(format!(":{PATH}"));
        command
            .env("PATH", path)
            .env("HOME", "/nonexistent")
            .env("XDG_STATE_HOME", self.project.base().join("user"))
            .env("LANG", "C.UTF-8");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        // The number of the planted mutant, if there is one: see `tests/mutants`.
        command.envs(
            std::env::vars_os()
                .filter(|(name, _)| name.to_string_lossy().starts_with("FBUILD_MUTANT")),
        );
        command.stdin(Stdio::null());
        command
    }

    /// Runs fbuild to its end.
    #[track_caller]
    pub(crate) fn end(self) -> FinishedRun {
        let output = self.command().output().unwrap();
        FinishedRun::new(output, &self.project.root)
    }

    /// Starts fbuild.
    pub(crate) fn start(self) -> Running<'p> {
        let mut command = self.command();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running {
            project: self.project,
            child: command.spawn().unwrap(),
        }
    }
}

/// A running fbuild.
pub(crate) struct Running<'p> {
    project: &'p Project,
    pub(crate) child: Child,
}

impl Running<'_> {
    /// Waits for this text on stderr and returns the text so far.
    #[track_caller]
    pub(crate) fn says(&mut self, text: &str) -> String {
        let mut printed = Vec::new();
        let stderr = self.child.stderr.as_mut().unwrap();
        while !String::from_utf8_lossy(&printed).contains(text) {
            let mut piece = [0; 4096];
            let n = std::io::Read::read(stderr, &mut piece).unwrap();
            assert!(
                n > 0,
                "it ended without saying {text:?}: {}",
                String::from_utf8_lossy(&printed)
            );
            printed.extend_from_slice(&piece[..n]);
        }
        redact(&String::from_utf8(printed).unwrap(), &self.project.root)
    }

    /// Reads stdout to its end. Returns its length and the memory in use shortly before its end.
    pub(crate) fn drain(mut self) -> (usize, u64) {
        let mut stdout = self.child.stdout.take().unwrap();
        let status = format!("/proc/{}/status", self.child.id());
        let peak = || {
            let status = fs::read_to_string(&status).ok()?;
            let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        let (mut printed, mut kilobytes, mut piece) = (0, 0, vec![0; 1 << 20]);
        loop {
            let n = std::io::Read::read(&mut stdout, &mut piece).unwrap();
            kilobytes = peak().unwrap_or(0).max(kilobytes);
            printed += n;
            if n == 0 {
                break;
            }
        }
        assert!(self.child.wait().unwrap().success());
        (printed, kilobytes << 10)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn end(self) -> FinishedRun {
        FinishedRun::new(self.child.wait_with_output().unwrap(), &self.project.root)
    }
}

/// The result of a run.
#[derive(Debug)]
pub(crate) struct FinishedRun {
    /// The exit code, or the signal as a negative number.
    code: i32,
    /// Its stdout, redacted.
    pub(crate) stdout: String,
    /// Its stderr, redacted.
    pub(crate) stderr: String,
    /// Its stdout, byte by byte.
    pub(crate) bytes: Vec<u8>,
}

impl FinishedRun {
    #[track_caller]
    fn new(output: Output, root: &Path) -> Self {
        let redacted = |bytes: &[u8]| redact(&String::from_utf8_lossy(bytes), root);
        let signal = output.status.signal().map(|signal| -signal);
        let stderr = redacted(&output.stderr);
        assert!(!stderr.contains("panicked"), "it panicked:\n{stderr}");
        Self {
            code: output.status.code().or(signal).unwrap(),
            stdout: redacted(&output.stdout),
            stderr,
            bytes: output.stdout,
        }
    }

    /// Asserts success with this stdout and an empty stderr.
    #[track_caller]
    pub(crate) fn ok(self, stdout: &str) -> Self {
        self.ended(0, stdout, "")
    }

    /// Asserts an exit code, stdout and stderr.
    #[track_caller]
    pub(crate) fn ended(self, code: i32, stdout: &str, stderr: &str) -> Self {
        let shown = |code, out: &str, err: &str| {
            format!("exit code {code}\n-- stdout --\n{out}-- stderr --\n{err}")
        };
        let wanted = shown(code, &unindent(stdout), &unindent(stderr));
        let got = shown(self.code, &self.stdout, &self.stderr);
        assert!(got == wanted, "{}", difference(&wanted, &got));
        self
    }

    /// Asserts an exit code only.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        self
    }
}

/// Returns two texts with the lines that differ.
fn difference(wanted: &str, got: &str) -> String {
    let mut text = format!("it was different.\n== wanted ==\n{wanted}\n== got ==\n{got}\n");
    let mut pairs = wanted.lines().zip(got.lines());
    if let Some((wanted, got)) = pairs.find(|(wanted, got)| wanted != got) {
        text += &format!("== first difference ==\n- {wanted:?}\n+ {got:?}\n");
    }
    text
}

/// Returns true if this is root, for which permissions do not apply.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Prints that a test is skipped, and why.
pub(crate) fn skip(why: &str) {
    print_line(&format!("skipped: {why}"));
}

/// Prints a line even if the test passes.
fn print_line(text: &str) {
    // The test harness hides `println` of passing tests.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Polls until `holds` returns true.
#[track_caller]
pub(crate) fn eventually(law: &str, mut holds: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < limit, "never came true: {law}");
        std::thread::yield_now();
    }
}
