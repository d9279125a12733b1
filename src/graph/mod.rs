//! The graph of targets: names resolved, edges checked. It never changes once made, and
//! knows nothing of files, keys or execution.

use serde::{Deserialize, Serialize};

use crate::buildfile::model::{Group, Target};

/// A target of a [`Graph`]; ids are dense, from 0, in the order of the Buildfile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TargetId(pub u32);

impl TargetId {
    /// Returns it as an index into a slice with one place for each target.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Targets with their edges.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Graph {
    targets: Vec<Target>,
    groups: Vec<Group>,
    /// For each target, what it needs (groups resolved), each once, in the order written.
    needs: Vec<Vec<TargetId>>,
    /// For each target, what it only follows.
    after: Vec<Vec<TargetId>>,
}

impl Graph {
    /// Returns how many targets there are.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Tells whether there are no targets.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Returns all ids.
    pub fn ids(&self) -> impl Iterator<Item = TargetId> + use<> {
        (0..u32::try_from(self.targets.len()).unwrap_or(u32::MAX)).map(TargetId)
    }

    /// Returns what the Buildfile says of a target.
    pub fn target(&self, id: TargetId) -> &Target {
        &self.targets[id.index()]
    }

    /// Returns a target's name.
    pub fn name(&self, id: TargetId) -> &str {
        &self.target(id).name.value
    }

    /// Returns the targets whose outputs are inputs of this one.
    pub fn needs(&self, id: TargetId) -> &[TargetId] {
        &self.needs[id.index()]
    }

    /// Returns the targets that only run before this one.
    pub fn after(&self, id: TargetId) -> &[TargetId] {
        &self.after[id.index()]
    }

    /// Returns the groups, in the order written.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }
}
