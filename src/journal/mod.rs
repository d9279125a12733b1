//! Records of runs: the last success of each target, and the events of each run in which
//! something happened. If they are lost, the next run takes longer, and is still correct.

mod history;
mod lockfile;
mod metadata;
pub mod ownership;
mod runs;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::action::tools::ProbedTool;
use crate::action::{ActionKey, ActionResult};
use crate::checked_file::{self, Magic, StateFile};

pub use history::{LastRun, TestHistory, test_history};
pub use lockfile::{Line, Lockfile};
pub use metadata::write as write_metadata;
pub use runs::RunLog;

const MAGIC: &Magic = b"fbuild-state  4\n";

/// The last success of a target: its outputs are those of the result unless they were changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Success {
    /// The key.
    pub key: ActionKey,
    /// The result.
    pub result: ActionResult,
}

/// The most tools that are remembered: those of an earlier run are forgotten above it.
const MOST_TOOLS: usize = 256;

/// The last success of each target, and the versions of tools.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    successes: HashMap<String, Arc<Success>>,
    /// By the ids of their sites.
    tools: BTreeMap<String, ProbedTool>,
    /// The ids of the sites that this run uses.
    #[serde(skip)]
    used_tools: BTreeSet<String>,
    #[serde(skip)]
    changed: bool,
}

impl Memory {
    /// Reads the file that an earlier run saved; empty if it is missing or damaged.
    pub fn read(file: &StateFile) -> Self {
        let checked = checked_file::read(file, MAGIC);
        let memory = checked.and_then(|bytes| postcard::from_bytes(&bytes).ok());
        memory.unwrap_or_default()
    }

    /// Saves it to `file`, atomically, if it changed.
    pub fn save(&mut self, file: &StateFile) -> io::Result<()> {
        if !std::mem::take(&mut self.changed) {
            return Ok(());
        }
        self.limit_tools();
        let bytes = postcard::to_stdvec(self).map_err(io::Error::other)?;
        checked_file::write(file, MAGIC, &[&bytes])
    }

    /// Returns the last success of a target.
    pub fn success(&self, target: &str) -> Option<&Arc<Success>> {
        self.successes.get(target)
    }

    /// Records a success; returns true if it differs from the last one.
    pub fn succeed(&mut self, target: &str, success: &Arc<Success>) -> bool {
        let is_same = |last: &Arc<Success>| Arc::ptr_eq(last, success) || last == success;
        if self.successes.get(target).is_some_and(is_same) {
            return false;
        }
        self.successes.insert(target.to_owned(), success.clone());
        self.changed = true;
        true
    }

    /// Forgets the last success of a target, because its outputs changed.
    pub fn forget(&mut self, target: &str) {
        self.changed |= self.successes.remove(target).is_some();
    }

    /// Returns the last successes by target.
    pub fn successes(&self) -> impl Iterator<Item = (&str, &Success)> {
        let successes = self.successes.iter();
        successes.map(|(target, success)| (target.as_str(), &**success))
    }

    /// Returns the keys of all last successes: these results are in use.
    pub fn keys(&self) -> impl Iterator<Item = ActionKey> {
        self.successes.values().map(|success| success.key)
    }

    /// Returns the recorded version of the tool with a site's id.
    pub fn tool(&self, site: &str) -> Option<&ProbedTool> {
        self.tools.get(site)
    }

    /// Records the version of a tool.
    pub fn probed(&mut self, site: &str, probed: &ProbedTool) {
        self.used_tools.insert(site.to_owned());
        if self.tools.get(site) != Some(probed) {
            self.tools.insert(site.to_owned(), probed.clone());
            self.changed = true;
        }
    }

    /// Forgets tools that this run did not use if there are too many: a site is another one
    /// whenever a variable in it changes.
    fn limit_tools(&mut self) {
        if self.tools.len() > MOST_TOOLS {
            self.tools.retain(|site, _| self.used_tools.contains(site));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Digest, Key};

    fn success(text: &str) -> Arc<Success> {
        Arc::new(Success {
            key: ActionKey(Digest::of(text.as_bytes())),
            result: ActionResult {
                outputs: Vec::new(),
                log: None,
                manifest: Digest::of(text.as_bytes()),
                duration_ms: 5,
            },
        })
    }

    #[test]
    fn memory_is_saved_only_if_it_changed() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::new(dir.path().join("state"), Key::new([1; 32]));
        let mut memory = Memory::read(&file);
        memory.save(&file).unwrap();
        assert!(!file.path().exists());
        memory.succeed("manager", &success("a"));
        memory.save(&file).unwrap();
        let mut again = Memory::read(&file);
        assert_eq!(again.success("manager"), Some(&success("a")));
        std::fs::remove_file(file.path()).unwrap();
        again.succeed("manager", &success("a"));
        again.save(&file).unwrap();
        assert!(!file.path().exists());
        again.forget("manager");
        again.save(&file).unwrap();
        assert_eq!(Memory::read(&file).success("manager"), None);
    }
}
