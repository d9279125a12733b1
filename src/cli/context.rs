//! Resolves the global options. This is the only file that reads the environment, the working
//! directory and the properties of the terminal.

use std::ffi::OsStr;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use super::args::{Global, When};
use super::failure::{Failure, Problem};
use super::state_key::StateKey;
use crate::action::environment::HostEnv;
use crate::digest::Key;
use crate::event::Warning;
use crate::report::{Style, Verbosity};
use crate::source::{RenderOptions, Severity, render_all};
use crate::system::user_dirs::UserDirs;
use crate::workspace::{self, Workspace};

/// The environment of one run of the program.
pub(super) struct Context {
    global: Global,
    host_env: HostEnv,
    folder: PathBuf,
    key: StateKey,
    user_dirs: UserDirs,
}

impl Context {
    /// Reads the environment and enters the folder of `-C`.
    pub(super) fn new(global: Global) -> Result<Self, Failure> {
        #[expect(clippy::disallowed_methods, reason = "this is where it is read")]
        let (host_env, here): (HostEnv, _) =
            (std::env::vars_os().collect(), std::env::current_dir());
        let key = StateKey::new(&host_env)?;
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
            key,
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

    /// Returns the user's folders outside of projects.
    pub(super) fn user_dirs(&self) -> &UserDirs {
        &self.user_dirs
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

    /// Returns the key of the user's state, to read state with. If there is no key, it is one
    /// that no state was written with.
    pub(super) fn key(&self) -> (&Key, Option<Warning>) {
        self.key.find(|| self.project())
    }

    /// Returns the folder of the user's state, which is outside of every project.
    pub(super) fn user_state(&self) -> Option<&Path> {
        self.key.folder()
    }

    /// Returns the key of the user's state, to write state with. With the warning, the key is
    /// lost at the end of this process.
    pub(super) fn key_to_write(&self) -> (&Key, Option<Warning>) {
        self.key.find_or_create(|| self.project())
    }

    /// Returns the folder of the Buildfile.
    fn project(&self) -> PathBuf {
        let buildfile = self.buildfile().unwrap_or_default();
        let folder = buildfile.parent().unwrap_or(&self.folder);
        folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
    }

    /// Opens the workspace, prints its diagnostics, and fails on errors.
    pub(super) fn workspace(&self) -> Result<Workspace, Failure> {
        let workspace = self.workspace_with_mistakes()?;
        if workspace.has_errors() {
            return Err(Failure::shown());
        }
        Ok(workspace)
    }

    /// Opens the workspace and prints its diagnostics.
    pub(super) fn workspace_with_mistakes(&self) -> Result<Workspace, Failure> {
        let path = self.buildfile()?;
        let workspace = workspace::open(&path, &self.shown(&path), self.key().0)?;
        let (diagnostics, sources) = (&workspace.diagnostics, &workspace.sources);
        if !diagnostics.is_empty() {
            self.eprint(&render_all(diagnostics, sources, self.render_options()));
            let is_error = |d: &&crate::source::Diagnostic| d.severity == Severity::Error;
            let errors = diagnostics.iter().filter(is_error).count();
            if errors > 0 {
                let errors = crate::report::text::count(errors, "error");
                self.eprint(&format!(
                    "{errors} in `{}`; nothing was run\n",
                    self.shown(&path).display()
                ));
            }
        }
        Ok(workspace)
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

    /// Describes this run for others that wait for the lock: the command and its process.
    pub(super) fn holder(&self) -> String {
        let arguments = std::env::args_os().skip(1);
        let command: Vec<String> = arguments
            .map(|argument| crate::path::escape(argument.as_encoded_bytes()).into_owned())
            .collect();
        format!(
            "`fbuild {}` (process {})",
            command.join(" "),
            std::process::id()
        )
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
