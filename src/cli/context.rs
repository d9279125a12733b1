//! Resolves the global options. This is the only file that reads the environment, the working
//! directory and the properties of the terminal.

use std::ffi::OsStr;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use super::args::{Global, When};
use super::failure::{Failure, Problem};
use crate::action::environment::HostEnv;
use crate::event::Warning;
use crate::path::escape;
use crate::report::text::count;
use crate::report::{Style, Verbosity};
use crate::session::{Host, Observer, StateKey};
use crate::source::{Diagnostic, RenderOptions, Severity, render_all};
use crate::stamp::{FileId, FileKind, Stamp};
use crate::store::disk::Durability;
use crate::system::user_dirs::UserDirs;
use crate::workspace::{self, Workspace};

/// The environment of one run of the program.
pub(super) struct Context {
    global: Global,
    host_env: HostEnv,
    folder: PathBuf,
    state_key: StateKey,
    user_dirs: UserDirs,
}

impl Context {
    /// Reads the environment and enters the folder of `-C`.
    pub(super) fn new(global: Global) -> Result<Self, Failure> {
        #[expect(clippy::disallowed_methods, reason = "this is where it is read")]
        let (host_env, here): (HostEnv, _) =
            (std::env::vars_os().collect(), std::env::current_dir());
        let state_key = StateKey::new(&host_env)?;
        let here =
            here.map_err(|error| Failure::world("cannot read the working directory", &error))?;
        let folder = match &global.directory {
            Some(directory) => here.join(directory),
            None => here,
        };
        let variable = |name: &str| host_env.get(OsStr::new(name)).cloned();
        Ok(Self {
            folder: enter(&folder)?,
            user_dirs: UserDirs::new(variable),
            global,
            host_env,
            state_key,
        })
    }

    /// Returns the environment variables.
    pub(super) fn host_env(&self) -> &HostEnv {
        &self.host_env
    }

    /// Returns the value of a variable that is set, not empty and UTF-8.
    #[cfg(feature = "remote")]
    pub(super) fn value(&self, name: &str) -> Option<String> {
        let value = self.host_env.get(OsStr::new(name))?.to_str()?;
        (!value.is_empty()).then(|| value.to_owned())
    }

    /// Returns the folder to work in.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the path of the Buildfile: that of `-f`, or the nearest one.
    pub(super) fn buildfile(&self) -> Result<PathBuf, Failure> {
        match self.named_buildfile() {
            Some(file) => Ok(file),
            None => Ok(workspace::find(&self.folder)?),
        }
    }

    /// Returns the path of the Buildfile that `-f` names.
    pub(super) fn named_buildfile(&self) -> Option<PathBuf> {
        let file = self.global.file.as_ref();
        file.map(|file| self.folder.join(file))
    }

    /// Returns this process as sessions see it.
    pub(super) fn host(&self) -> Result<Host<'_>, Failure> {
        let buildfile = self.buildfile()?;
        Ok(Host {
            shown: self.shown(&buildfile),
            buildfile,
            env: &self.host_env,
            state_key: &self.state_key,
            user_dirs: &self.user_dirs,
            name: holder(),
            observer: self,
            printed: printed_files(),
            executor: None,
            store: None,
            durability: Durability::Batched,
        })
    }

    /// Returns a path relative to the folder if it is below it.
    pub(super) fn shown(&self, path: &Path) -> PathBuf {
        let below = path.strip_prefix(&self.folder);
        below.map_or_else(|_| path.to_owned(), Path::to_owned)
    }

    /// Prints text to standard error.
    pub(super) fn eprint(&self, text: &str) {
        eprint(text);
    }

    /// Prints a warning to standard error.
    pub(super) fn warn(&self, warning: &Warning) {
        self.eprint(&Problem::from(warning).text(self.err_style(Verbosity::Normal)));
    }

    /// Prints a result to standard output. A closed pipe is not an error.
    pub(super) fn print(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Failure::world("cannot write to standard output", &error))
            }
            _ => Ok(()),
        }
    }

    /// Prints a result as JSON.
    pub(super) fn print_json<T: serde::Serialize>(&self, value: &T) -> Result<(), Failure> {
        let mut json = serde_json::to_vec_pretty(value)
            .map_err(|error| Failure::world("cannot write JSON", &error.into()))?;
        json.push(b'\n');
        self.print(&json)
    }

    /// Returns the style of standard output.
    pub(super) fn out_style(&self, verbosity: Verbosity) -> Style {
        self.style(std::io::stdout().is_terminal(), verbosity)
    }

    /// Returns the style of standard error.
    pub(super) fn err_style(&self, verbosity: Verbosity) -> Style {
        self.style(std::io::stderr().is_terminal(), verbosity)
    }

    fn style(&self, terminal: bool, verbosity: Verbosity) -> Style {
        let size = crate::report::terminal::size_of(std::io::stderr());
        Style {
            color: match self.global.color {
                When::Always => true,
                When::Never => false,
                When::Auto => terminal && !self.is_set("NO_COLOR") && !self.is_dumb(),
            },
            terminal,
            width: size.map_or(80, |size| size.columns),
            verbosity,
        }
    }

    /// Returns the style of diagnostics.
    pub(super) fn render_options(&self) -> RenderOptions {
        let style = self.err_style(Verbosity::Normal);
        RenderOptions {
            color: style.color,
            width: style.width,
        }
    }

    /// Returns true if standard output is a terminal that can redraw lines.
    pub(super) fn is_live(&self) -> bool {
        std::io::stdout().is_terminal() && !self.is_dumb() && !self.is_set("CI")
    }

    fn is_dumb(&self) -> bool {
        self.host_env
            .get(OsStr::new("TERM"))
            .is_some_and(|term| term == "dumb")
    }

    fn is_set(&self, name: &str) -> bool {
        self.host_env
            .get(OsStr::new(name))
            .is_some_and(|value| !value.is_empty())
    }
}

impl Observer for Context {
    fn on_diagnostics(&self, workspace: &Workspace) {
        let (diagnostics, sources) = (&workspace.diagnostics, &workspace.sources);
        self.eprint(&render_all(diagnostics, sources, self.render_options()));
        let is_error = |d: &&Diagnostic| d.severity == Severity::Error;
        let errors = diagnostics.iter().filter(is_error).count();
        if errors > 0 {
            let shown = sources.files().first().map(|file| file.path.display());
            let shown = shown.map_or_else(String::new, |path| format!(" in `{path}`"));
            self.eprint(&format!(
                "{}{shown}; nothing was run\n",
                count(errors, "error")
            ));
        }
    }

    fn on_wait(&self, holder: &str) {
        self.eprint(&format!(
            "waiting for another run in this folder: {holder}\n"
        ));
    }

    fn on_warning(&self, warning: &Warning) {
        self.warn(warning);
    }
}

/// Returns the name of this process for another run that waits for it: its command line and
/// its number.
fn holder() -> String {
    let arguments = std::env::args_os().skip(1);
    let command: Vec<String> = arguments
        .map(|argument| escape(argument.as_encoded_bytes()).into_owned())
        .collect();
    let process = std::process::id();
    format!("`fbuild {}` (process {process})", command.join(" "))
}

/// Prints text to standard error.
pub(super) fn eprint(text: &str) {
    // Ignore the error: stderr is gone, and with it the place to report to.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Resolves the links in the path of a folder.
fn enter(folder: &Path) -> Result<PathBuf, Failure> {
    let refused = |why: &dyn std::fmt::Display| {
        Failure::usage(format!("cannot enter `{}`: {why}", folder.display()))
    };
    let path = folder.canonicalize().map_err(|error| refused(&error))?;
    if path.is_dir() {
        Ok(path)
    } else {
        Err(refused(&"it is not a folder"))
    }
}

/// Returns the files that standard output and standard error are redirected to.
fn printed_files() -> Vec<FileId> {
    let stamps = [Stamp::of(std::io::stdout()), Stamp::of(std::io::stderr())];
    let files = stamps.into_iter().flatten();
    let files = files.filter(|stamp| stamp.kind() == FileKind::File);
    files.map(|stamp| stamp.id()).collect()
}
