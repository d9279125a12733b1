//! Computes the expected result of a build from the model alone: the tree afterwards, and for
//! each target its success and its fingerprint. Ignores earlier builds.

use std::collections::{BTreeMap, BTreeSet};

use fbuild::digest::Digest;

use crate::model::project::{Output, Project, Target, What};
use crate::support::fake_tool::{Kind, Outcome, View as _, Words, find, find_inputs};
use crate::support::glob;
use crate::support::tree::{Node, Tree, ancestors};

/// The input of a build.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    /// The Buildfile.
    pub(crate) project: Project,
    /// The tree below the root, with outputs.
    pub(crate) tree: Tree,
    /// The environment of fbuild.
    pub(crate) env: BTreeMap<String, String>,
}

/// The expected end of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It succeeds.
    Made {
        /// The digest of everything that decides the result.
        fingerprint: Digest,
        /// The expected outputs.
        outputs: Vec<(String, Node)>,
    },
    /// Its commands run and fail, or leave out an output. The tree stays.
    Fails,
    /// An input is missing, so its commands do not run.
    Refused,
    /// A file is in the place of an output's parent folder, so its commands do not run. Its
    /// other outputs are unspecified.
    Blocked,
    /// A target before it does not succeed.
    Skipped,
}

/// The expected result of a build.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    pub(crate) fates: BTreeMap<String, Fate>,
    /// The tree afterwards; only folders in owned folders count.
    pub(crate) tree: Tree,
}

impl World {
    /// Computes the expected result of a build of everything.
    pub(crate) fn expect(&self) -> Expected {
        let mut expected = Expected {
            fates: BTreeMap::new(),
            tree: self.tree.clone(),
        };
        for target in self.project.in_order() {
            let fate = self.fate(target, &expected);
            if let Fate::Made { outputs, .. } = &fate {
                clear(&mut expected.tree, target);
                for (path, node) in outputs {
                    if expected.tree.get(path) != Some(node) {
                        expected.tree.put(path, node.clone());
                    }
                }
            }
            expected.fates.insert(target.name.clone(), fate);
        }
        expected
    }

    fn fate(&self, target: &Target, so_far: &Expected) -> Fate {
        let is_made = |name: &String| matches!(so_far.fates.get(name), Some(Fate::Made { .. }));
        if !target.before().all(is_made) {
            return Fate::Skipped;
        }
        let values = target.values(&self.env);
        let words = self.words(target, &values);
        let words = Words::parse(words.iter().map(String::as_str)).unwrap();
        let tree = &so_far.tree;
        let nodes = target.inputs.iter().zip(&words.inputs);
        let is_empty = nodes.into_iter().any(|(node, patterns)| {
            let mut include = patterns.include.iter();
            !node.optional
                && include.any(|p| find_inputs(tree, p, &patterns.except).matches.is_empty())
        });
        if is_empty {
            return Fate::Refused;
        }
        if target.outputs.iter().any(|output| is_blocked(tree, output)) {
            return Fate::Blocked;
        }
        let (inputs, needs) = (words.read_inputs(tree), words.read_needs(tree));
        let env = |name: &str| values.get(name).cloned().flatten();
        let Outcome::Made(made) = words.mix(&env, &inputs, &needs) else {
            return Fate::Fails;
        };
        let Some(outputs) = complete(target, made) else {
            return Fate::Fails;
        };
        let needed = self.needed(target, so_far);
        let definition = (
            &words,
            &target.indoors,
            &target.shell,
            &target.outputs,
            &values,
        );
        let ran = self.ran(target, so_far);
        let facts = format!("{definition:?} {inputs:?} {needed:?} {ran:?}");
        Fate::Made {
            fingerprint: Digest::of(facts.as_bytes()),
            outputs,
        }
    }

    /// Returns the arguments of a command with the values of variables inserted.
    fn words(&self, target: &Target, values: &BTreeMap<&str, Option<String>>) -> Vec<String> {
        let expand = |mut word: String| {
            for (name, value) in values {
                let value = value.as_deref().unwrap_or_default();
                word = word.replace(&format!("{{env.{name}}}"), value);
            }
            word
        };
        self.project.words(target).into_iter().map(expand).collect()
    }

    /// Returns the outputs of the needed targets, by path.
    fn needed<'e>(&self, target: &Target, so_far: &'e Expected) -> BTreeMap<&'e str, &'e Node> {
        let mut needed = BTreeMap::new();
        for need in &target.needs {
            if let Some(Fate::Made { outputs, .. }) = so_far.fates.get(need) {
                needed.extend(outputs.iter().map(|(path, node)| (path.as_str(), node)));
            }
        }
        needed
    }

    /// Returns the fingerprints of needed targets without outputs, sorted.
    fn ran(&self, target: &Target, so_far: &Expected) -> BTreeSet<String> {
        let without_outputs = target.needs.iter().filter(|need| {
            let need = self.project.target(need);
            need.is_some_and(|need| need.outputs.is_empty())
        });
        let fates = without_outputs.filter_map(|need| so_far.fates.get(need));
        let fingerprints = fates.filter_map(|fate| match fate {
            Fate::Made { fingerprint, .. } => Some(fingerprint.hex()),
            _ => None,
        });
        fingerprints.collect()
    }
}

/// Adds the folders that fbuild creates before the command; `None` if a declared output is
/// missing.
fn complete(target: &Target, mut made: Vec<(String, Node)>) -> Option<Vec<(String, Node)>> {
    for output in &target.outputs {
        let is_it = |(path, _): &(String, Node)| match output.what {
            What::Glob => glob::matches(&output.path, path),
            _ => *path == output.path,
        };
        match output.what {
            _ if made.iter().any(is_it) => {}
            What::Folder => made.push((output.path.clone(), Node::Folder)),
            _ => return None,
        }
    }
    made.sort_unstable();
    Some(made)
}

fn is_blocked(tree: &Tree, output: &Output) -> bool {
    let is_open = |path: &str| matches!(tree.get(path), None | Some(Node::Folder));
    let folder = glob::folder(&output.path);
    let is_glob = output.what == What::Glob;
    !ancestors(&output.path)
        .take_while(|path| !path.contains('*'))
        .all(is_open)
        || is_glob && !is_open(&folder)
}

/// Removes the outputs of a target.
pub(crate) fn clear(tree: &mut Tree, target: &Target) {
    for output in &target.outputs {
        match output.what {
            What::Glob => {
                for path in find(tree, &output.path, &[]) {
                    tree.remove(&path);
                }
            }
            What::Folder if tree.get(&output.path) == Some(&Node::Folder) => empty(tree, output),
            _ => tree.remove(&output.path),
        }
    }
}

/// Empties an owned folder except for kept entries.
fn empty(tree: &mut Tree, output: &Output) {
    let is_kept = |path: &str| is_kept(output, path);
    let below = tree.below(&output.path).map(|(path, _)| path.to_owned());
    let below: Vec<String> = below.filter(|path| !is_kept(path)).collect();
    for path in below.iter().rev() {
        let is_empty = tree.below(path).next().is_none();
        if tree.kind(path) != Some(Kind::Folder) || is_empty {
            tree.remove(path);
        }
    }
}

/// Returns true if a folder is an output: in an owned folder, and not kept.
pub(crate) fn counts(project: &Project, folder: &str) -> bool {
    let inside = format!("{folder}/inside");
    let owns = |output: &Output| {
        let is_in = folder == output.path || folder.starts_with(&format!("{}/", output.path));
        output.what == What::Folder
            && is_in
            && !is_kept(output, folder)
            && !is_kept(output, &inside)
    };
    project
        .targets
        .iter()
        .flat_map(|target| &target.outputs)
        .any(owns)
}

/// Returns true if a path in an owned folder, or one of its parents, is kept.
fn is_kept(output: &Output, path: &str) -> bool {
    let keep: Vec<String> = output.kept().collect();
    let matches = |path: &str| keep.iter().any(|keep| glob::matches(keep, path));
    ancestors(path).any(matches) || matches(path)
}
