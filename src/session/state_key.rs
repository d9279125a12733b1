//! Finds the key of the user's state: from a shared secret, else from the user's own folder.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::Error;
use crate::action::environment::HostEnv;
use crate::digest::Key;
use crate::event::Warning;
use crate::user_key;

/// The variable with a secret that users or machines share who share a cache.
pub(super) const SECRET: &str = "FBUILD_CACHE_KEY";

/// The code of the warning about a missing key.
pub(super) const WARNING: &str = "fbuild::store::key";

/// The key of all state that this user reads and writes.
pub struct StateKey {
    /// The folder of the key file; `None` without a home folder.
    folder: Option<PathBuf>,
    lasting: OnceLock<Key>,
    /// Replaces a key that is missing or unusable: nothing was written with it yet.
    temporary: OnceLock<Key>,
}

impl StateKey {
    /// Chooses the source of the key.
    pub fn new(host_env: &HostEnv) -> Result<Self, Error> {
        let set = |name: &str| host_env.get(OsStr::new(name)).filter(|v| !v.is_empty());
        let absolute = |name: &str| set(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let state = absolute("XDG_STATE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
        let lasting = OnceLock::new();
        if let Some(secret) = set(SECRET) {
            let key = user_key::from_secret(secret).ok_or(Error::Secret)?;
            lasting.get_or_init(|| key);
        }
        Ok(Self {
            folder: state.map(|state| state.join("fbuild")),
            lasting,
            temporary: OnceLock::new(),
        })
    }

    /// Returns true if the user has a folder for state.
    pub(super) fn has_folder(&self) -> bool {
        self.folder.is_some()
    }

    /// Returns the key, for commands that change nothing.
    pub(super) fn find(&self, project: impl Fn() -> PathBuf) -> (&Key, Option<Warning>) {
        self.get(project, user_key::read)
    }

    /// Returns the key, creating it if necessary.
    pub(super) fn find_or_create(&self, project: impl Fn() -> PathBuf) -> (&Key, Option<Warning>) {
        self.get(project, |folder| user_key::read_or_create(folder).map(Some))
    }

    fn get(
        &self,
        project: impl Fn() -> PathBuf,
        read: impl Fn(&Path) -> Result<Option<Key>, user_key::Error>,
    ) -> (&Key, Option<Warning>) {
        if let Some(key) = self.lasting.get() {
            return (key, None);
        }
        let problem = match self.folder_outside(&project()).map(|folder| read(&folder)) {
            Ok(Ok(Some(key))) => return (self.lasting.get_or_init(|| key), None),
            Ok(Ok(None)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(problem) => Some(problem),
        };
        let key = self.temporary.get_or_init(user_key::temporary);
        (key, problem.map(|problem| unusable(&problem)))
    }

    /// Returns the folder of the user's state, if it cannot have come with the project.
    pub(super) fn folder_outside(&self, project: &Path) -> Result<PathBuf, String> {
        let Some(folder) = &self.folder else {
            return Err("neither `XDG_STATE_HOME` nor `HOME` is an absolute path".to_owned());
        };
        let existing = folder.ancestors().find_map(|f| f.canonicalize().ok());
        if existing.is_some_and(|existing| existing.starts_with(project)) {
            return Err(format!("`{}` is inside the project", folder.display()));
        }
        Ok(folder.clone())
    }
}

fn unusable(problem: &str) -> Warning {
    Warning::new(
        WARNING,
        format!(
            "there is no key for the cache: {problem}; later runs cannot use the results of this \
             one unless `{SECRET}` is set"
        ),
    )
}
