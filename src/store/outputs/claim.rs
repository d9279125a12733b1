//! Decides which entries in the place of outputs may be removed, which must be kept in the
//! trash, and which stop the target.

use std::fmt;

use super::dirs::Folders;
use super::list::{TreeEntry, Walk, list_one};
use super::moves::EntryAt;
use super::{Error, Stage, io as io_error, text};
use crate::action::OutputSpec;
use crate::buildfile::model::Output;
use crate::path::RelPath;
use crate::stamp::FileKind;

/// The number of foreign paths that a message lists.
const LISTED: usize = 5;

/// What may happen to an entry in the place of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// fbuild made it, or a store has the same content: it may be removed.
    Owned,
    /// It may be moved, but only to the trash.
    Precious,
    /// It must stay where it is.
    Foreign,
}

/// Decides the [`Claim`] of an entry in the place of an output.
pub trait Claims {
    /// Decides about a file, a link, a special file, or a folder that cannot be listed.
    fn claim(&self, spec: &OutputSpec, path: &RelPath, kind: FileKind) -> Claim;
}

/// Claims every entry as owned, for trees that have only outputs.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllOwned;

impl Claims for AllOwned {
    fn claim(&self, _: &OutputSpec, _: &RelPath, _: FileKind) -> Claim {
        Claim::Owned
    }
}

/// The foreign files in the place of one declared output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignFiles {
    /// The index of the output among those of the target.
    pub index: usize,
    /// The declared output.
    pub output: Output,
    /// The first few files, sorted.
    pub paths: Vec<RelPath>,
    /// The number of all files.
    pub count: usize,
}

impl ForeignFiles {
    pub(super) fn new(index: usize, spec: &OutputSpec, mut paths: Vec<RelPath>) -> Self {
        paths.sort_unstable();
        let count = paths.len();
        paths.truncate(LISTED);
        Self {
            index,
            output: spec.output.clone(),
            paths,
            count,
        }
    }

    /// Returns true if a folder is in the place of a declared file.
    pub fn is_folder_for_file(&self) -> bool {
        matches!(&self.output, Output::File(file) if self.paths.iter().any(|path| path != file))
    }
}

impl fmt::Display for ForeignFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let output = text(&self.output);
        match self.count {
            1 => write!(f, "`{output}` has a file that fbuild did not make: ")?,
            n => write!(f, "`{output}` has {n} files that fbuild did not make: ")?,
        }
        f.write_str(&list_paths(&self.paths, self.count))
    }
}

/// Returns a list of the first few of `count` paths, for messages.
pub fn list_paths(paths: &[RelPath], count: usize) -> String {
    let listed: Vec<String> = paths
        .iter()
        .take(LISTED)
        .map(|path| format!("`{path}`"))
        .collect();
    let rest = count - listed.len();
    let text = listed.join(", ");
    match rest {
        0 => text,
        n => format!("{text} and {n} more"),
    }
}

/// The entries of one output, grouped into units that are moved as a whole.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) owned: Vec<TreeEntry>,
    pub(super) precious: Vec<TreeEntry>,
    /// Folders that are empty once their units are moved, the innermost first.
    pub(super) emptied: Vec<RelPath>,
    pub(super) foreign: Vec<RelPath>,
    /// The number of owned files and links.
    pub(super) owned_files: usize,
}

/// A folder of the survey.
struct Node {
    path: RelPath,
    parent: Option<usize>,
    /// Which claims occur in it and below.
    has: Has,
    leaves: Vec<(TreeEntry, Claim)>,
}

#[derive(Clone, Copy, Default)]
struct Has {
    owned: bool,
    precious: bool,
    foreign: bool,
}

impl Has {
    fn add(&mut self, other: Self) {
        self.owned |= other.owned;
        self.precious |= other.precious;
        self.foreign |= other.foreign;
    }

    fn of(claim: Claim) -> Self {
        Self {
            owned: claim == Claim::Owned,
            precious: claim == Claim::Precious,
            foreign: claim == Claim::Foreign,
        }
    }
}

impl Survey {
    /// Surveys the current entries of an output.
    pub(super) fn of(
        stage: &Stage,
        folders: &mut Folders<'_>,
        spec: &OutputSpec,
        claims: &dyn Claims,
    ) -> Result<Self, Error> {
        let mut survey = Self::default();
        let tops = match &spec.output {
            Output::Glob(_) => list_one(stage, spec)?,
            Output::File(path) | Output::Folder(path) => {
                let entry = entry_at(folders, path)?;
                let is_folder = matches!(&entry, Some(e) if e.kind == FileKind::Folder);
                if is_folder && matches!(spec.output, Output::Folder(_)) {
                    movable(stage, spec, path)?
                } else {
                    entry.into_iter().collect()
                }
            }
        };
        if !tops.is_empty() {
            let mut walk = Walk::new(stage, spec);
            for top in tops {
                survey.add(&mut walk, top, claims)?;
            }
        }
        Ok(survey)
    }

    /// Adds an entry that no kept file is in, with all its content.
    fn add(
        &mut self,
        walk: &mut Walk<'_>,
        top: TreeEntry,
        claims: &dyn Claims,
    ) -> Result<(), Error> {
        if top.kind != FileKind::Folder {
            let claim = claims.claim(walk.spec(), &top.path, top.kind);
            self.owned_files += usize::from(claim == Claim::Owned);
            self.push(top, claim);
            return Ok(());
        }
        let mut nodes = vec![Node::new(top.path, None)];
        let mut next = 0;
        while next < nodes.len() {
            list_node(walk, &mut nodes, next, claims);
            next += 1;
        }
        // Children come after their parent, so from the end, each node is complete.
        for at in (1..nodes.len()).rev() {
            let has = nodes[at].has;
            if let Some(parent) = nodes[at].parent {
                nodes[parent].has.add(has);
            }
        }
        let leaves = nodes.iter().flat_map(|node| &node.leaves);
        self.owned_files += leaves.filter(|(_, claim)| *claim == Claim::Owned).count();
        self.group(nodes);
        Ok(())
    }

    fn push(&mut self, entry: TreeEntry, claim: Claim) {
        match claim {
            Claim::Owned => self.owned.push(entry),
            Claim::Precious => self.precious.push(entry),
            Claim::Foreign => self.foreign.push(entry.path),
        }
    }

    /// Adds the largest folders with one claim, and the other entries one by one.
    fn group(&mut self, nodes: Vec<Node>) {
        let mut is_whole = vec![false; nodes.len()];
        let mut emptied = Vec::new();
        for (at, node) in nodes.into_iter().enumerate() {
            // The parent was moved as a whole, and this folder with it.
            if node.parent.is_some_and(|parent| is_whole[parent]) {
                is_whole[at] = true;
                continue;
            }
            let claim = match node.has {
                Has {
                    precious: false,
                    foreign: false,
                    ..
                } => Some(Claim::Owned),
                Has {
                    owned: false,
                    foreign: false,
                    ..
                } => Some(Claim::Precious),
                _ => None,
            };
            if let Some(claim) = claim {
                is_whole[at] = true;
                let (path, kind) = (node.path, FileKind::Folder);
                self.push(TreeEntry { path, kind }, claim);
                continue;
            }
            for (leaf, claim) in node.leaves {
                self.push(leaf, claim);
            }
            emptied.push(node.path);
        }
        self.emptied.extend(emptied.into_iter().rev());
    }
}

impl Node {
    fn new(path: RelPath, parent: Option<usize>) -> Self {
        Self {
            path,
            parent,
            has: Has::default(),
            leaves: Vec::new(),
        }
    }
}

fn list_node(walk: &mut Walk<'_>, nodes: &mut Vec<Node>, at: usize, claims: &dyn Claims) {
    let path = nodes[at].path.clone();
    let Ok(children) = walk.children(&path) else {
        // Without a list of its entries, the folder itself is judged.
        let claim = claims.claim(walk.spec(), &path, FileKind::Folder);
        let kind = FileKind::Folder;
        nodes[at].has.add(Has::of(claim));
        if claim != Claim::Owned {
            nodes[at].leaves.push((TreeEntry { path, kind }, claim));
        }
        return;
    };
    for child in children {
        if child.kind == FileKind::Folder {
            nodes.push(Node::new(child.path, Some(at)));
        } else {
            let claim = claims.claim(walk.spec(), &child.path, child.kind);
            nodes[at].has.add(Has::of(claim));
            nodes[at].leaves.push((child, claim));
        }
    }
}

/// Returns the entry at a path, if it exists.
fn entry_at(folders: &mut Folders<'_>, path: &RelPath) -> Result<Option<TreeEntry>, Error> {
    let Some(parent) = folders.open(&path.parent().unwrap_or_default())? else {
        return Ok(None);
    };
    let stamp = EntryAt::new(&*parent, path.name()).stamp();
    let stamp = stamp.map_err(io_error("stat", path))?;
    Ok(stamp.map(|stamp| TreeEntry {
        path: path.clone(),
        kind: stamp.kind(),
    }))
}

/// Lists the entries of an owned folder that can be moved. Kept entries are omitted; of a
/// folder with kept entries, its other content is listed instead.
pub(super) fn movable(
    stage: &Stage,
    spec: &OutputSpec,
    folder: &RelPath,
) -> Result<Vec<TreeEntry>, Error> {
    let mut walk = Walk::new(stage, spec);
    let mut movable = Vec::new();
    let mut pending = vec![folder.clone()];
    while let Some(folder) = pending.pop() {
        for child in walk.children(&folder)? {
            if walk.is_kept(&child) {
                continue;
            }
            let may_keep = child.kind == FileKind::Folder && walk.may_keep_below(&child.path);
            if may_keep && walk.holds_kept(&child.path)? {
                pending.push(child.path);
            } else {
                movable.push(child);
            }
        }
    }
    Ok(movable)
}
