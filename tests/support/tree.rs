//! A tree of files as plain data and on the disk. The model compares it with the project's
//! folder; it has no knowledge of targets.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A node of a tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Node {
    /// A regular file.
    File {
        /// Its content.
        text: String,
        /// Whether its owner may execute it.
        exec: bool,
    },
    /// A symbolic link with this target.
    Link(String),
    /// A folder.
    Folder,
}

/// All nodes below a root, by path. Contains every parent folder of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<String, Node>);

/// Entries that are never part of a project.
const HIDDEN: [&str; 4] = [".build-cache", ".build-trash", ".git", "Buildfile.lock"];

impl Node {
    /// Returns a plain file.
    pub(crate) fn file(text: impl Into<String>) -> Self {
        let (text, exec) = (text.into(), false);
        Self::File { text, exec }
    }
}

impl Tree {
    /// Reads the tree below `root` from the disk, without the entries of fbuild and Git.
    pub(crate) fn read(root: &Path) -> Self {
        let mut tree = Self::default();
        let mut pending = vec![String::new()];
        while let Some(folder) = pending.pop() {
            let Ok(entries) = fs::read_dir(root.join(&folder)) else {
                continue;
            };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let name = String::from_utf8_lossy(name.as_bytes());
                if HIDDEN.contains(&&*name) {
                    continue;
                }
                let path = child(&folder, &name);
                let Some(node) = read_node(&root.join(&path)) else {
                    continue;
                };
                if node == Node::Folder {
                    pending.push(path.clone());
                }
                tree.0.insert(path, node);
            }
        }
        tree
    }

    /// Returns the node at a path; the root is a folder.
    pub(crate) fn get(&self, path: &str) -> Option<&Node> {
        match path {
            "" => Some(&Node::Folder),
            path => self.0.get(path),
        }
    }

    /// Returns all nodes, sorted by path.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Returns all nodes below a folder, sorted by path.
    pub(crate) fn below(&self, folder: &str) -> impl Iterator<Item = (&str, &Node)> {
        let prefix = match folder {
            "" => String::new(),
            folder => format!("{folder}/"),
        };
        let start = prefix.clone();
        let inside = self.0.range(start..);
        inside
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .map(|(path, node)| (path.as_str(), node))
    }

    /// Returns true if a node can be put at a path: every existing parent is a folder.
    pub(crate) fn has_room(&self, path: &str) -> bool {
        ancestors(path).all(|above| matches!(self.get(above), None | Some(Node::Folder)))
    }

    /// Puts a node at a path, creates its parents, and replaces everything that was there.
    pub(crate) fn put(&mut self, path: &str, node: Node) {
        self.remove(path);
        for above in ancestors(path) {
            self.0.insert(above.to_owned(), Node::Folder);
        }
        self.0.insert(path.to_owned(), node);
    }

    /// Removes the node at a path and everything below it.
    pub(crate) fn remove(&mut self, path: &str) {
        let inside: Vec<String> = self.below(path).map(|(path, _)| path.to_owned()).collect();
        for path in inside {
            self.0.remove(&path);
        }
        self.0.remove(path);
    }

    /// Returns the content of the regular file that a path leads to, links followed.
    pub(crate) fn content(&self, path: &str) -> Option<&str> {
        match self.get(&self.real(path)?)? {
            Node::File { text, .. } => Some(text),
            Node::Link(_) | Node::Folder => None,
        }
    }

    /// Returns the path without links of the file or folder that a path leads to.
    pub(crate) fn real(&self, path: &str) -> Option<String> {
        let mut pending: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
        let (mut at, mut hops) = (String::new(), 0);
        while let Some(part) = pending.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." if at.is_empty() => return None,
                ".." => at = parent(&at).unwrap_or_default().to_owned(),
                part => at = child(&at, part),
            }
            match self.get(&at)? {
                Node::Folder => {}
                Node::File { .. } if pending.is_empty() => {}
                Node::File { .. } => return None,
                Node::Link(target) => {
                    hops += 1;
                    if hops > 30 || target.starts_with('/') {
                        return None;
                    }
                    at = parent(&at).unwrap_or_default().to_owned();
                    pending.extend(target.rsplit('/').map(str::to_owned));
                }
            }
        }
        Some(at)
    }
}

/// Returns the parents of a path, outermost first, without the root.
pub(crate) fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

/// Returns the folder that contains a path.
pub(crate) fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(parent, _)| parent)
}

/// Returns the path of a name in a folder.
pub(crate) fn child(folder: &str, name: &str) -> String {
    match folder {
        "" => name.to_owned(),
        folder => format!("{folder}/{name}"),
    }
}

/// Reads the node at a path on the disk; `None` if there is none, or none of these kinds.
fn read_node(path: &Path) -> Option<Node> {
    let metadata = path.symlink_metadata().ok()?;
    if metadata.is_dir() {
        return Some(Node::Folder);
    }
    if metadata.is_symlink() {
        let target = fs::read_link(path).ok()?;
        return Some(Node::Link(target.to_string_lossy().into_owned()));
    }
    let text = fs::read(path).ok()?;
    Some(Node::File {
        text: String::from_utf8_lossy(&text).into_owned(),
        exec: metadata.permissions().mode() & 0o100 != 0,
    })
}

/// Writes a node to the disk in place of everything at its path. A file that replaces a file
/// keeps the inode.
pub(crate) fn write(path: &Path, node: &Node) -> io::Result<()> {
    let there = path.symlink_metadata().ok();
    let is_file = |metadata: &fs::Metadata| metadata.is_file();
    let stays = matches!(node, Node::File { .. }) && there.as_ref().is_some_and(is_file);
    if there.is_some() && !stays {
        erase(path)?;
    }
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    match node {
        Node::Folder => fs::create_dir(path),
        Node::Link(target) => symlink(target, path),
        Node::File { text, exec } => {
            if stays {
                fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
            }
            fs::write(path, text)?;
            let mode = if *exec { 0o755 } else { 0o644 };
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        }
    }
}

/// Removes everything at a path and below it from the disk.
pub(crate) fn erase(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_follows_links_within_the_tree() {
        let mut tree = Tree::default();
        tree.put("a/b/file", Node::file("x"));
        tree.put("a/c", Node::Link("b".into()));
        tree.put("a/d", Node::Link("../a/c/file".into()));
        tree.put("a/e", Node::Link("e".into()));
        tree.put("a/f", Node::Link("../../file".into()));
        assert_eq!(tree.content("a/d"), Some("x"));
        assert_eq!(tree.content("a/c"), None);
        assert_eq!((tree.content("a/e"), tree.content("a/f")), (None, None));
    }
}
