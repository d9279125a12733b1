//! The links to folders that a walk followed: which lead to a match, and where the walk was
//! already.

use std::collections::HashMap;

use super::folder::{Behind, Content};
use super::walk::Place;
use super::{Error, FileIndex, lock};
use crate::action::{Entry, EntryKind};
use crate::glob::{Pattern, Residue};
use crate::path::{MAX_PATH, RelPath};

/// The most folders that one pattern may reach through links.
const MOST_FOLDERS: usize = 100_000;

/// The number of a folder that was reached through a link.
pub(super) type Node = usize;

/// The links that the walk for one pattern followed.
///
/// A folder that can be reached by many paths is walked again only if other files in it may
/// match: if the pattern or an exception has another [`Residue`] there. Their number is finite,
/// so loops of links end.
pub(super) struct Links<'a> {
    pattern: &'a Pattern,
    except: &'a [&'a Pattern],
    nodes: HashMap<(RelPath, Vec<Residue>), Node>,
    /// For each node, whether something in the folder itself was found.
    found: Vec<bool>,
    /// Pairs of nodes: a folder, and a folder in it or behind a link in it.
    edges: Vec<(Node, Node)>,
    /// The links, and the nodes behind them.
    links: Vec<(RelPath, Node)>,
}

impl<'a> Links<'a> {
    pub(super) fn new(pattern: &'a Pattern, except: &'a [&'a Pattern]) -> Self {
        Self {
            pattern,
            except,
            nodes: HashMap::new(),
            found: Vec::new(),
            edges: Vec::new(),
            links: Vec::new(),
        }
    }

    /// Records that something in a folder was found.
    pub(super) fn found(&mut self, place: &Place) {
        if let Some(node) = place.node {
            self.found[node] = true;
        }
    }

    /// Returns a folder in `parent` if the walk has to enter it.
    pub(super) fn enter(&mut self, parent: &Place, child: Place) -> Result<Option<Place>, Error> {
        if parent.node.is_none() {
            return Ok(Some(child));
        }
        let (_, child) = self.visit(parent, child);
        self.check_number()?;
        Ok(child)
    }

    /// Returns the folder behind a link in `parent` if the walk has to enter it.
    pub(super) fn follow(
        &mut self,
        parent: &Place,
        link: &RelPath,
        behind: Place,
    ) -> Result<Option<Place>, Error> {
        let (node, place) = self.visit(parent, behind);
        self.links.push((link.clone(), node));
        self.check_number()?;
        Ok(place)
    }

    fn check_number(&self) -> Result<(), Error> {
        match self.links.last() {
            Some((link, _)) if self.nodes.len() > MOST_FOLDERS => {
                Err(Error::TooManyBehind { link: link.clone() })
            }
            _ => Ok(()),
        }
    }

    fn visit(&mut self, parent: &Place, mut child: Place) -> (Node, Option<Place>) {
        let residues = std::iter::once(&self.pattern).chain(self.except);
        let residues = residues.map(|pattern| pattern.residue(&child.path));
        let real = child.real.clone().unwrap_or_default();
        let next = self.nodes.len();
        let node = *self.nodes.entry((real, residues.collect())).or_insert(next);
        self.edges.extend(parent.node.map(|parent| (parent, node)));
        if node < next {
            return (node, None);
        }
        self.found.push(false);
        child.node = Some(node);
        // The system refuses longer paths, to the commands as well.
        let is_reachable = child.path.as_bytes().len() <= MAX_PATH;
        (node, is_reachable.then_some(child))
    }

    /// Returns the links that lead to anything that was found.
    pub(super) fn used(mut self) -> Vec<RelPath> {
        let mut before: HashMap<Node, Vec<Node>> = HashMap::new();
        for (from, to) in &self.edges {
            before.entry(*to).or_default().push(*from);
        }
        let found = self.found.iter().enumerate().filter(|(_, found)| **found);
        let mut pending: Vec<Node> = found.map(|(node, _)| node).collect();
        while let Some(node) = pending.pop() {
            for from in before.remove(&node).unwrap_or_default() {
                if !std::mem::replace(&mut self.found[from], true) {
                    pending.push(from);
                }
            }
        }
        let used = self.links.into_iter().filter(|(_, node)| self.found[*node]);
        used.map(|(link, _)| link).collect()
    }
}

impl FileIndex {
    /// Returns the links among `entries` that lead to files outside of the root.
    pub(super) fn links_out(&self, entries: &[Entry]) -> Vec<RelPath> {
        let is_link = |entry: &&Entry| {
            matches!(
                entry.kind,
                EntryKind::Link {
                    content: Some(_),
                    ..
                }
            )
        };
        let links = entries.iter().filter(is_link);
        let out = links.filter(|entry| self.leads_out(&entry.path));
        out.map(|entry| entry.path.clone()).collect()
    }

    fn leads_out(&self, link: &RelPath) -> bool {
        let folder = self.folder(&link.parent().unwrap_or_default());
        let folder = lock(&folder);
        let cached = folder
            .find(link.name())
            .and_then(|file| file.cached.as_ref());
        cached.is_some_and(|cached| match &cached.content {
            Content::Link(link) => matches!(
                link.behind,
                Behind::File {
                    is_outside: true,
                    ..
                }
            ),
            Content::File(_) => false,
        })
    }
}
