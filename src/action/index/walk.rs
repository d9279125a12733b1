//! Finds files by patterns, in one walk over each folder that a pattern can reach.
//!
//! The walk of [`Scope::Inputs`] follows links to folders. Each folder has two paths then: the
//! one by which the walk reached it, which patterns see, and the *real* one, without links, by
//! which its files are returned and cached. So each file is returned once. The links on the
//! way are returned with the files: together they decide what commands find.

use std::collections::BTreeMap;

use super::folder::Behind;
use super::links::{Links, Node};
use super::lookup::{Lookup, Resolution};
use super::{Error, FileIndex, lock};
use crate::action::{Entry, EntryKind};
use crate::glob::Pattern;
use crate::path::RelPath;
use crate::stamp::FileKind;
use crate::workspace::Layout;

/// The folder of git's own files, or the file that says where it is.
const GIT: &[u8] = b".git";

/// Selects all files that `include` matches and `except` does not.
#[derive(Clone, Copy, Debug)]
pub struct Selection<'a> {
    /// The patterns to find.
    pub include: &'a [&'a Pattern],
    /// The patterns to leave out.
    pub except: &'a [&'a Pattern],
    /// The purpose.
    pub scope: Scope,
}

/// The purpose of a selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// To find the paths that commands may read: files, links, the entries behind them, empty folders.
    Inputs,
    /// To find outputs by patterns: files and links, which are not followed.
    OutputFiles,
    /// To find everything in an owned folder: folders, too.
    OwnedFolder,
}

/// The files of a [`Selection`].
#[derive(Debug, Default)]
pub struct Matches {
    /// The files, sorted by path, each once.
    pub entries: Vec<Entry>,
    /// For each included pattern, how many files it matched.
    pub counts: Vec<usize>,
    /// The links that lead out of the root.
    pub outside: Vec<RelPath>,
    /// The files that an included pattern, given by its index, reaches through a link.
    pub behind: Vec<(usize, RelPath)>,
}

impl FileIndex {
    /// Finds the files of a selection, with their content.
    pub fn find(&self, selection: Selection<'_>) -> Result<Matches, Error> {
        let mut walk = Walk {
            index: self,
            selection,
            entries: Vec::new(),
            unread: Vec::new(),
            others: BTreeMap::new(),
            outside: Vec::new(),
            covered: Vec::new(),
            behind: Vec::new(),
        };
        let mut counts = Vec::with_capacity(selection.include.len());
        let mut behind = Vec::new();
        for (number, pattern) in selection.include.iter().enumerate() {
            let before = walk.len();
            walk.pattern(pattern)?;
            counts.push(walk.len() - before);
            behind.extend(walk.behind.drain(..).map(|path| (number, path)));
        }
        let unread = std::mem::take(&mut walk.unread);
        walk.entries.extend(self.read_all(&unread)?);
        walk.entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let covered = std::mem::take(&mut walk.covered).into_iter();
        let used = covered.filter(|(_, folder)| walk.has_found_in(folder));
        let used = used.map(|(link, _)| link).collect();
        walk.push_links(used)?;
        let mut entries = walk.entries;
        if !walk.others.is_empty() {
            let others = walk.others.into_iter();
            entries.extend(others.map(|(path, kind)| Entry { path, kind }));
            entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        }
        entries.dedup_by(|a, b| a.path == b.path);
        let mut outside = walk.outside;
        outside.extend(self.links_out(&entries));
        outside.sort_unstable();
        outside.dedup();
        Ok(Matches {
            entries,
            counts,
            outside,
            behind,
        })
    }

    /// Returns the paths of all entries of a folder, whatever they are; none if there is no
    /// such folder.
    pub fn children(&self, path: &RelPath) -> Result<Vec<RelPath>, Error> {
        if !self.is_folder(path)? {
            return Ok(Vec::new());
        }
        let folder = self.folder(path);
        let mut folder = lock(&folder);
        self.list(&mut folder, path)?;
        let files = folder.files().iter();
        Ok(files.map(|file| path.child(&file.name)).collect())
    }
}

/// A folder of a walk.
pub(super) struct Place {
    /// The path by which the walk reached it.
    pub(super) path: RelPath,
    /// The path without links, if that is another one.
    pub(super) real: Option<RelPath>,
    /// The node of a folder that was reached through a link.
    pub(super) node: Option<Node>,
}

impl Place {
    fn real(&self) -> &RelPath {
        self.real.as_ref().unwrap_or(&self.path)
    }

    fn child(&self, name: &[u8]) -> Self {
        Self {
            path: self.path.child(name),
            real: self.real.as_ref().map(|real| real.child(name)),
            node: None,
        }
    }
}

/// A walk in progress.
struct Walk<'a> {
    index: &'a FileIndex,
    selection: Selection<'a>,
    entries: Vec<Entry>,
    unread: Vec<RelPath>,
    /// Entries that no pattern needs to match: links on the way, and empty folders.
    others: BTreeMap<RelPath, EntryKind>,
    outside: Vec<RelPath>,
    /// Links, each with the folder that it leads to, of which the pattern finds all files
    /// anyway.
    covered: Vec<(RelPath, RelPath)>,
    /// The files that the current pattern has found through links.
    behind: Vec<RelPath>,
}

impl<'a> Walk<'a> {
    /// Returns the number of matches so far.
    fn len(&self) -> usize {
        self.entries.len() + self.unread.len()
    }

    fn pattern(&mut self, pattern: &'a Pattern) -> Result<(), Error> {
        if let Some(path) = pattern.as_literal() {
            return self.literal(path);
        }
        let base = pattern.folder();
        if self.is_hidden(base, base) {
            return Ok(());
        }
        let Some((base, links)) = self.base(base)? else {
            return Ok(());
        };
        let mut links_below = Links::new(pattern, self.selection.except);
        let mut pending = vec![base];
        let before = self.len();
        while let Some(place) = pending.pop() {
            if self.enters(&place, pattern) && self.index.is_folder(place.real())? {
                self.folder(pattern, &place, &mut pending, &mut links_below)?;
            }
        }
        if self.len() > before {
            self.push_links(links)?;
        }
        let used = links_below.used();
        self.push_links(used)
    }

    /// Returns the folder in which a pattern begins, and the links on the way to it; `None`
    /// if there is no such folder.
    fn base(&mut self, path: &RelPath) -> Result<Option<(Place, Vec<RelPath>)>, Error> {
        let mut base = Place {
            path: path.clone(),
            real: None,
            node: None,
        };
        if self.selection.scope != Scope::Inputs || self.index.is_folder(path)? {
            return Ok(Some((base, Vec::new())));
        }
        Ok(match self.index.resolve(path)? {
            Resolution::Folder { path, links } => {
                base.real = Some(path);
                Some((base, links))
            }
            Resolution::Outside(link) => {
                self.outside.push(link);
                None
            }
            Resolution::Missing => None,
        })
    }

    fn literal(&mut self, path: &RelPath) -> Result<(), Error> {
        let Some(parent) = path.parent() else {
            return Ok(());
        };
        if self.is_hidden(path, path) {
            return Ok(());
        }
        let Some((parent, links)) = self.base(&parent)? else {
            return Ok(());
        };
        let place = parent.child(path.name());
        let real = place.real();
        if self.is_hidden(real, path) || self.is_left_out(&place) {
            return Ok(());
        }
        match self.index.lookup(real)? {
            Some(lookup) => {
                self.push_at(&place, lookup);
                self.push_links(links)?;
            }
            None if self.selects_folders() && self.index.is_folder(path)? => {
                self.push(path.clone(), Lookup::Cached(EntryKind::Folder));
            }
            None => {}
        }
        Ok(())
    }

    /// Adds the matches in one folder, and the folders in it to `pending`.
    fn folder(
        &mut self,
        pattern: &'a Pattern,
        place: &Place,
        pending: &mut Vec<Place>,
        links: &mut Links<'a>,
    ) -> Result<(), Error> {
        let is_inputs = self.selection.scope == Scope::Inputs;
        let folder = self.index.folder(place.real());
        let mut folder = lock(&folder);
        self.index.list(&mut folder, place.real())?;
        let all = pattern.covers_folder(&place.path);
        let mut to_follow = Vec::new();
        for at in 0..folder.files().len() {
            let file = &folder.files()[at];
            if is_inputs && is_special_name(&file.name) {
                continue;
            }
            let (child, kind) = (place.child(&file.name), file.kind);
            let matches = (all || pattern.matches(&child.path)) && !self.is_left_out(&child);
            match kind {
                FileKind::Special => {}
                FileKind::Folder => {
                    if matches && self.selects_folders() && self.enters(&child, pattern) {
                        self.push(child.path.clone(), Lookup::Cached(EntryKind::Folder));
                    }
                    if pattern.reaches_into(&child.path) {
                        pending.extend(links.enter(place, child)?);
                    }
                }
                FileKind::File | FileKind::Link => {
                    if matches
                        && !self.index.hidden.contains(child.real())
                        && let Some(lookup) = self.index.lookup_in(&mut folder, child.real())?
                    {
                        self.push_at(&child, lookup);
                        links.found(place);
                    }
                    if kind == FileKind::Link && is_inputs && pattern.reaches_into(&child.path) {
                        to_follow.push(child);
                    }
                }
            }
        }
        if is_inputs && all && folder.files().is_empty() && self.counts_if_empty(place) {
            self.others.insert(place.real().clone(), EntryKind::Folder);
            links.found(place);
        }
        // Links are read when the folder is not locked any more.
        drop(folder);
        for link in to_follow {
            self.follow(pattern, place, &link, pending, links)?;
        }
        Ok(())
    }

    /// Adds the folder behind a link to `pending`, unless an exception matches the link or the
    /// walk was there already.
    fn follow(
        &mut self,
        pattern: &'a Pattern,
        place: &Place,
        link: &Place,
        pending: &mut Vec<Place>,
        links: &mut Links<'a>,
    ) -> Result<(), Error> {
        if self.is_left_out(link) || !self.enters(link, pattern) {
            return Ok(());
        }
        let to = match self.index.behind(link.real())? {
            Some(Behind::Folder { path: Some(to), .. }) => to,
            Some(Behind::Folder { path: None, .. }) => {
                self.outside.push(link.real().clone());
                return Ok(());
            }
            _ => return Ok(()),
        };
        let behind = Place {
            path: link.path.clone(),
            real: Some(to),
            node: None,
        };
        if !self.enters(&behind, pattern) {
            return Ok(());
        }
        if pattern.covers_folder(behind.real()) {
            // The walk finds all of it by its real path, too.
            let real = behind.real().clone();
            self.covered.push((link.real().clone(), real));
        } else {
            pending.extend(links.follow(place, link.real(), behind)?);
        }
        Ok(())
    }

    fn push_at(&mut self, place: &Place, lookup: Lookup) {
        if let Some(real) = &place.real {
            self.behind.push(real.clone());
        }
        self.push(place.real().clone(), lookup);
    }

    fn push(&mut self, path: RelPath, lookup: Lookup) {
        match lookup {
            Lookup::Cached(kind) => self.entries.push(Entry { path, kind }),
            Lookup::Unread => self.unread.push(path),
        }
    }

    /// Returns true if something in a folder was found; the entries must be sorted.
    fn has_found_in(&self, folder: &RelPath) -> bool {
        // The first path below the folder, if any, is the first after its path and a slash.
        let first = [folder.as_bytes(), b"/"].concat();
        let first = if folder.is_root() { &[][..] } else { &first };
        let after = self.entries.partition_point(|e| e.path.as_bytes() < first);
        let found = self.entries.get(after).map(|entry| &entry.path);
        let mut others = self.others.range(folder.clone()..).map(|(path, _)| path);
        let other = others.find(|path| path.as_bytes() >= first);
        [found, other]
            .into_iter()
            .flatten()
            .any(|path| path.is_within(folder))
    }

    fn push_links(&mut self, links: Vec<RelPath>) -> Result<(), Error> {
        for link in links {
            if let Some(kind) = self.index.entry(&link)? {
                self.others.insert(link, kind);
            }
        }
        Ok(())
    }

    fn selects_folders(&self) -> bool {
        self.selection.scope == Scope::OwnedFolder
    }

    fn is_excepted(&self, path: &RelPath) -> bool {
        self.selection.except.iter().any(|e| e.matches(path))
    }

    fn is_left_out(&self, place: &Place) -> bool {
        self.is_excepted(&place.path) || place.real.as_ref().is_some_and(|p| self.is_excepted(p))
    }

    /// Returns true if the selection can match anything in a folder. If folders are selected,
    /// a folder that is left out is left out with everything in it.
    fn enters(&self, place: &Place, pattern: &Pattern) -> bool {
        let folders = self.selects_folders();
        let is_open = |folder: &RelPath| {
            let mut except = self.selection.except.iter();
            !self.is_hidden(folder, pattern.folder())
                && !except.any(|e| e.covers_folder(folder) || folders && e.matches(folder))
        };
        is_open(&place.path) && place.real.as_ref().is_none_or(is_open)
    }

    /// Returns true unless something that is left out may appear in an empty folder, such as
    /// the target's own outputs: the folder must not count only as long as it does not.
    fn counts_if_empty(&self, place: &Place) -> bool {
        let may_match = |except: &&&Pattern| {
            let is_near = |folder: &RelPath| {
                except.folder().is_within(folder)
                    || folder.is_within(except.folder()) && except.reaches_into(folder)
            };
            is_near(&place.path) || place.real.as_ref().is_some_and(is_near)
        };
        !self
            .selection
            .except
            .iter()
            .any(|except| may_match(&except))
    }

    /// Returns true if a path is never part of a selection: it belongs to fbuild, or to git
    /// unless the pattern `named` that much of the path.
    fn is_hidden(&self, path: &RelPath, named: &RelPath) -> bool {
        let is_git = |path: &RelPath| path.components().any(|name| name == GIT);
        let unnamed = path.below(named);
        let mut hidden = self.index.hidden.iter();
        if self.selection.scope != Scope::Inputs {
            return is_git(path) || hidden.any(|hidden| path.is_within(hidden));
        }
        path.components().any(Layout::is_own)
            || is_git(unnamed.as_ref().unwrap_or(path))
            || hidden.any(|hidden| path.is_within(hidden))
    }
}

/// Returns true for names that no wildcard matches.
fn is_special_name(name: &[u8]) -> bool {
    name == GIT || Layout::is_own(name)
}
