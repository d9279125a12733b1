//! Steps between builds, as data that can be printed, parsed and removed: edits of files, the
//! Buildfile and the state folder. A step that does not apply has no effect.

use serde::{Deserialize, Serialize};

use crate::model::expected::World;
use crate::model::project::{Inputs, Output, Project, Target, Value};
use crate::support::tree::Node;

/// A step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// A file is written.
    Write {
        path: String,
        text: String,
        how: How,
    },
    /// A node is put in place of everything at its path.
    Put {
        path: String,
        node: Node,
    },
    /// A file gets the current time.
    Touch {
        path: String,
    },
    Chmod {
        path: String,
        exec: bool,
    },
    /// Everything at a path is removed.
    Remove {
        path: String,
    },
    Rename {
        from: String,
        to: String,
    },
    /// A variable is set or unset.
    Env {
        name: String,
        value: Option<String>,
    },
    /// The Buildfile is edited.
    Edit(Edit),
    /// The sources and the Buildfile of an earlier build are restored, with their times.
    Branch {
        build: usize,
    },
    /// Some of fbuild's state is removed.
    Forget(Forgotten),
    /// An object in the store is damaged.
    Harm {
        how: Harm,
        pick: u64,
    },
    /// A preview of the next run.
    Preview(Preview),
    /// A target is built, and files are written before and after it reads them.
    Disturb {
        target: String,
        salt: String,
        before: Vec<Written>,
        after: Vec<Written>,
    },
    /// The run is stopped while a target is built.
    Stop {
        target: String,
        salt: String,
    },
    /// A build without an idle run after it, so that the next step follows this build's
    /// snapshot.
    Once,
}

/// A path and the text written to it.
pub(crate) type Written = (String, String);

/// The way in which a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum How {
    InPlace,
    /// To a temporary file that is renamed.
    Renamed,
    /// In place, with the old mtime restored.
    SameTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Forgotten {
    All,
    Index,
    State,
    Graph,
    Metadata,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Harm {
    Remove,
    Flip,
    Cut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Preview {
    DryRun,
    Status,
    Explain,
}

/// An edit of the Buildfile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Edit {
    Salt {
        target: String,
        salt: String,
    },
    Env {
        target: String,
        env: Vec<(String, Value)>,
    },
    Inputs {
        target: String,
        inputs: Vec<Inputs>,
    },
    Outputs {
        target: String,
        outputs: Vec<Output>,
    },
    Needs {
        target: String,
        needs: Vec<String>,
    },
    Toggle {
        target: String,
        what: Toggle,
    },
    Add(Target),
    Drop {
        target: String,
    },
    /// The first n targets move to the end.
    Reorder {
        by: usize,
    },
    Comment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Toggle {
    Coarse,
    Shell,
    Indoors,
    Uncached,
    Committed,
}

impl Edit {
    /// Returns the edited project; `None` if the edit does not apply.
    pub(crate) fn apply(&self, project: &Project) -> Option<Project> {
        let mut project = project.clone();
        if let Some(name) = self.target() {
            let target = project
                .targets
                .iter_mut()
                .find(|target| target.name == name)?;
            self.apply_to(target);
        }
        match self {
            Self::Add(target) if project.target(&target.name).is_some() => return None,
            Self::Add(target) => project.targets.push(target.clone()),
            Self::Drop { target } => project.targets.retain(|t| t.name != *target),
            Self::Reorder { by } => {
                let by = by % project.targets.len();
                project.targets.rotate_left(by);
            }
            Self::Comment => project.comment += 1,
            _ => {}
        }
        let names: Vec<String> = project.targets.iter().map(|t| t.name.clone()).collect();
        for target in &mut project.targets {
            target.needs.retain(|name| names.contains(name));
            target.after.retain(|name| names.contains(name));
        }
        project.drop_unordered_reads();
        Some(project).filter(|project| !project.targets.is_empty())
    }

    fn target(&self) -> Option<&str> {
        match self {
            Self::Salt { target, .. }
            | Self::Env { target, .. }
            | Self::Inputs { target, .. }
            | Self::Outputs { target, .. }
            | Self::Needs { target, .. }
            | Self::Toggle { target, .. } => Some(target),
            _ => None,
        }
    }

    fn apply_to(&self, target: &mut Target) {
        match self {
            Self::Salt { salt, .. } => target.salt.clone_from(salt),
            Self::Env { env, .. } => target.env.clone_from(env),
            Self::Inputs { inputs, .. } => target.inputs.clone_from(inputs),
            Self::Outputs { outputs, .. } => target.outputs.clone_from(outputs),
            Self::Needs { needs, .. } => target.needs.clone_from(needs),
            Self::Toggle { what, .. } => match what {
                Toggle::Coarse => target.coarse ^= true,
                Toggle::Shell => target.shell ^= true,
                Toggle::Indoors => target.indoors ^= true,
                Toggle::Uncached => target.uncached ^= true,
                Toggle::Committed => {
                    for output in &mut target.outputs {
                        output.committed ^= true;
                    }
                }
            },
            _ => {}
        }
    }
}

impl World {
    /// Applies a step to the model, without the parts that need a comparison. Returns false if
    /// the step does not apply.
    pub(crate) fn apply(&mut self, step: &Step) -> bool {
        match step {
            Step::Write { path, text, .. } => self.write(path, text),
            Step::Put { path, node } => {
                let has_room = self.tree.has_room(path);
                if has_room {
                    self.tree.put(path, node.clone());
                }
                has_room
            }
            Step::Touch { path } => matches!(self.tree.get(path), Some(Node::File { .. })),
            Step::Chmod { path, exec } => {
                let Some(Node::File { text, .. }) = self.tree.get(path) else {
                    return false;
                };
                let (text, exec) = (text.clone(), *exec);
                self.tree.put(path, Node::File { text, exec });
                true
            }
            Step::Remove { path } => {
                let is_there = self.tree.get(path).is_some();
                self.tree.remove(path);
                is_there
            }
            Step::Rename { from, to } => self.rename(from, to),
            Step::Env { name, value } => {
                match value {
                    Some(value) => self.env.insert(name.clone(), value.clone()),
                    None => self.env.remove(name),
                };
                true
            }
            _ => true,
        }
    }

    /// Writes to a file, which keeps its executable bit. Ignores links.
    pub(crate) fn write(&mut self, path: &str, text: &str) -> bool {
        let exec = match self.tree.get(path) {
            None => false,
            Some(Node::File { exec, .. }) => *exec,
            Some(_) => return false,
        };
        let has_room = self.tree.has_room(path);
        if has_room {
            let text = text.to_owned();
            self.tree.put(path, Node::File { text, exec });
        }
        has_room
    }

    fn rename(&mut self, from: &str, to: &str) -> bool {
        let is_free = self.tree.get(to).is_none() && self.tree.has_room(to);
        match self.tree.get(from).cloned() {
            Some(node @ (Node::File { .. } | Node::Link(_))) if is_free => {
                self.tree.remove(from);
                self.tree.put(to, node);
                true
            }
            _ => false,
        }
    }
}
