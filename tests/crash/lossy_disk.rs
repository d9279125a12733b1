//! Simulates a disk that loses unsynced data at a power cut: any part of a file's content, any
//! set of names. Only synced changes are there, and the others in no particular order. No
//! program may rely on more.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::crash::recorder::{Inode, Kind, Op, Synced};
use crate::support::rng::Rng;

/// All changes below a folder, and when each became durable.
pub(crate) struct Lossy {
    nodes: Vec<Node>,
    /// The initial names.
    first: Names,
    /// Each change of names, with its op.
    moves: Vec<Move>,
    /// Each sync: its target, the number of ops when it started, and its op.
    waits: Vec<Wait>,
    length: usize,
}

/// An index of a node; 0 is the folder itself.
type Id = usize;

/// A folder and a name in it; `None` if the folder is unknown.
type Place = Option<(Id, PathBuf)>;

/// The nodes by folder and name.
type Names = BTreeMap<(Id, PathBuf), Id>;

struct Node {
    kind: Kind,
    /// Each content of the file, with its op.
    contents: Vec<(usize, Vec<u8>)>,
    modes: Vec<(usize, u32)>,
}

struct Move {
    at: usize,
    /// The new node of each name.
    changes: Vec<(Id, PathBuf, Option<Id>)>,
}

struct Wait {
    what: Option<Id>,
    begun: usize,
    at: usize,
}

/// The content of the disk after a power cut, by path.
pub(crate) type Left = BTreeMap<PathBuf, Remains>;

/// The remains of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Remains {
    File(Vec<u8>, u32),
    Folder,
    Link(PathBuf),
}

/// A power cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// The number of ops before it.
    pub(crate) at: usize,
    /// Whether the disk ignores syncs.
    pub(crate) ignores_waits: bool,
}

impl Lossy {
    /// Adds the content of a folder as durable.
    pub(crate) fn new(root: &Path) -> (Self, Writer) {
        let mut lossy = Self {
            nodes: vec![Node::new(Kind::Folder)],
            first: Names::new(),
            moves: Vec::new(),
            waits: Vec::new(),
            length: 0,
        };
        let mut writer = Writer::default();
        let mut pending = vec![(0, root.to_owned())];
        while let Some((folder, path)) = pending.pop() {
            writer.ids.insert(path.metadata().unwrap().ino(), folder);
            for entry in fs::read_dir(path).unwrap() {
                let path = entry.unwrap().path();
                let (node, inode) = Node::read(&path);
                let is_folder = node.kind == Kind::Folder;
                // A file may have several names.
                let id = *writer.ids.entry(inode).or_insert(lossy.nodes.len());
                if id == lossy.nodes.len() {
                    lossy.nodes.push(node);
                }
                let name = path.file_name().unwrap().into();
                lossy.first.insert((folder, name), id);
                if is_folder {
                    pending.push((id, path));
                }
            }
        }
        writer.names = lossy.first.clone();
        (lossy, writer)
    }

    /// Returns the number of ops.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Returns the number of syncs.
    pub(crate) fn waits(&self) -> usize {
        self.waits.len()
    }

    /// Cuts the power and returns the content of the disk.
    pub(crate) fn cut(&self, cut: Cut, rng: &mut Rng) -> Left {
        let names = self.names(cut, rng);
        let mut children: HashMap<Id, Vec<(&Path, Id)>> = HashMap::new();
        for ((folder, name), id) in &names {
            children.entry(*folder).or_default().push((name, *id));
        }
        let care = *rng.pick(&[0, 30, 60, 90, 100]);
        let mut contents = HashMap::new();
        let mut left = Left::new();
        let mut pending = vec![(0, PathBuf::new())];
        while let Some((folder, path)) = pending.pop() {
            for (name, id) in children.get(&folder).into_iter().flatten() {
                let path = path.join(name);
                let node = &self.nodes[*id];
                let remains = match &node.kind {
                    Kind::Folder => {
                        pending.push((*id, path.clone()));
                        Remains::Folder
                    }
                    Kind::Link(to) => Remains::Link(to.clone()),
                    Kind::File => contents
                        .entry(*id)
                        .or_insert_with(|| self.file(*id, cut, care, rng))
                        .clone(),
                };
                left.insert(path, remains);
            }
        }
        left
    }

    /// Returns the names after the cut: the durable ones, and some of the others.
    fn names(&self, cut: Cut, rng: &mut Rng) -> Names {
        let mut names = self.first.clone();
        let keep = *rng.pick(&[0, 10, 50, 90, 100]);
        for change in self.moves.iter().filter(|change| change.at < cut.at) {
            let is_whole = self.is_durable(change, cut) || rng.percent(keep);
            // A renamed file has its old or its new name, or both, or neither.
            let is_torn = change.changes.len() == 2 && self.is_of_file(change) && rng.percent(10);
            for (folder, name, id) in &change.changes {
                let is_kept = match is_torn && !self.is_durable(change, cut) {
                    true => rng.percent(50),
                    false => is_whole,
                };
                if !is_kept {
                    continue;
                }
                let place = (*folder, name.clone());
                match id {
                    Some(id) => drop(names.insert(place, *id)),
                    None => drop(names.remove(&place)),
                }
            }
        }
        names
    }

    fn is_of_file(&self, change: &Move) -> bool {
        let mut ids = change.changes.iter().filter_map(|(_, _, id)| *id);
        ids.all(|id| self.nodes[id].kind != Kind::Folder)
    }

    fn is_durable(&self, change: &Move, cut: Cut) -> bool {
        let mut folders = change.changes.iter().map(|(folder, ..)| *folder);
        folders.all(|folder| self.was_waited_for(change.at, folder, cut))
    }

    fn was_waited_for(&self, at: usize, id: Id, cut: Cut) -> bool {
        let covers = |wait: &Wait| wait.what.is_none_or(|what| what == id);
        let mut waits = self.waits.iter().filter(|wait| wait.at < cut.at);
        !cut.ignores_waits && waits.any(|wait| covers(wait) && at < wait.begun)
    }

    /// Returns the remains of a file: its last content in `care` percent of the cases.
    fn file(&self, id: Id, cut: Cut, care: usize, rng: &mut Rng) -> Remains {
        let node = &self.nodes[id];
        let before = |at: usize| at < cut.at || at == START;
        let is_durable = |at: usize| at == START || self.was_waited_for(at, id, cut);
        let contents: Vec<_> = node.contents.iter().filter(|(at, _)| before(*at)).collect();
        let durable = contents.iter().rposition(|(at, _)| is_durable(*at));
        let modes: Vec<_> = node.modes.iter().filter(|(at, _)| before(*at)).collect();
        let durable_mode = modes.iter().rposition(|(at, _)| is_durable(*at));
        let last = contents.len().saturating_sub(1);
        let content = match contents.get(last) {
            None => Vec::new(),
            Some((_, content)) if durable == Some(last) || rng.percent(care) => content.clone(),
            Some(_) => {
                let first = durable.unwrap_or(0);
                let chosen = first + rng.below(contents.len() - first);
                let content = contents[chosen].1.clone();
                match durable == Some(chosen) {
                    true => content,
                    false => {
                        let kept = durable.map_or(0, |at| common(&contents[at].1, &content));
                        damaged(content, kept, rng)
                    }
                }
            }
        };
        let first = durable_mode.unwrap_or(0);
        let mode = match modes.is_empty() {
            true => 0o600,
            false => modes[first + rng.below(modes.len() - first)].1,
        };
        Remains::File(content, mode)
    }
}

/// The op of the initial content.
const START: usize = usize::MAX;

impl Node {
    fn new(kind: Kind) -> Self {
        let (contents, modes) = (Vec::new(), Vec::new());
        Self {
            kind,
            contents,
            modes,
        }
    }

    fn read(path: &Path) -> (Self, Inode) {
        let metadata = path.symlink_metadata().unwrap();
        let kind = match metadata.file_type() {
            kind if kind.is_dir() => Kind::Folder,
            kind if kind.is_symlink() => Kind::Link(fs::read_link(path).unwrap()),
            _ => Kind::File,
        };
        let mut node = Self::new(kind);
        if node.kind == Kind::File {
            node.contents.push((START, fs::read(path).unwrap()));
            node.modes.push((START, metadata.mode()));
        }
        (node, metadata.ino())
    }
}

/// Returns the length of the common beginning of two contents.
fn common(one: &[u8], other: &[u8]) -> usize {
    let pairs = one.iter().zip(other);
    pairs.take_while(|(one, other)| one == other).count()
}

/// Damages a content as a power cut may, except for its first `kept` bytes: bytes appended to
/// a durable file can be lost, but not the durable bytes before it.
fn damaged(mut content: Vec<u8>, kept: usize, rng: &mut Rng) -> Vec<u8> {
    let mut end = content.split_off(kept);
    damage(&mut end, rng);
    content.extend(end);
    content
}

fn damage(content: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.below(content.len() + 1);
    match rng.below(5) {
        0 => content.clear(),
        1 => content.truncate(at),
        2 => content[at..].fill(0),
        3 => content.fill(0),
        _ => {
            let end = (at + 1 + rng.below(512)).min(content.len());
            content[at..end].fill_with(|| rng.next() as u8);
        }
    }
}

/// Records ops by inode number and current name.
#[derive(Default)]
pub(crate) struct Writer {
    ids: HashMap<Inode, Id>,
    names: Names,
}

impl Writer {
    /// Records all ops.
    pub(crate) fn write(&mut self, lossy: &mut Lossy, ops: &[Op]) {
        for op in ops {
            let at = lossy.length;
            lossy.length += 1;
            match op {
                Op::Content { file, bytes } => {
                    let id = self.id(lossy, *file, &Kind::File);
                    lossy.nodes[id].contents.push((at, bytes.clone()));
                }
                Op::Mode { file, mode } => {
                    let id = self.id(lossy, *file, &Kind::File);
                    lossy.nodes[id].modes.push((at, *mode));
                }
                Op::Name { path, node, kind } => {
                    let id = self.id(lossy, *node, kind);
                    let place = self.place(path);
                    self.change(lossy, at, vec![(place, Some(id))]);
                }
                Op::Unname { path } => {
                    let place = self.place(path);
                    self.change(lossy, at, vec![(place, None)]);
                }
                Op::Rename { from, to } => {
                    let (from, to) = (self.place(from), self.place(to));
                    let id = from.as_ref().and_then(|from| self.names.get(from).copied());
                    self.change(lossy, at, vec![(to, id), (from, None)]);
                }
                Op::Exchange { one, other } => {
                    let places = [self.place(one), self.place(other)];
                    let ids = places
                        .each_ref()
                        .map(|place| self.names.get(place.as_ref()?).copied());
                    let [one, other] = places;
                    self.change(lossy, at, vec![(one, ids[1]), (other, ids[0])]);
                }
                Op::Sync { what, begun } => {
                    let what = match what {
                        Synced::All => None,
                        Synced::One(inode) => Some(self.id(lossy, *inode, &Kind::File)),
                    };
                    let begun = *begun;
                    lossy.waits.push(Wait { what, begun, at });
                }
            }
        }
    }

    fn id(&mut self, lossy: &mut Lossy, inode: Inode, kind: &Kind) -> Id {
        *self.ids.entry(inode).or_insert_with(|| {
            lossy.nodes.push(Node::new(kind.clone()));
            lossy.nodes.len() - 1
        })
    }

    /// Returns the folder of a path and the name in it, if the folder has a name.
    fn place(&self, path: &Path) -> Place {
        let mut folder = 0;
        for part in path.parent()? {
            folder = *self.names.get(&(folder, part.into()))?;
        }
        Some((folder, path.file_name()?.into()))
    }

    fn change(&mut self, lossy: &mut Lossy, at: usize, changes: Vec<(Place, Option<Id>)>) {
        let known = changes.into_iter().filter_map(|(place, id)| {
            let (folder, name) = place?;
            Some((folder, name, id))
        });
        let changes: Vec<_> = known.collect();
        for (folder, name, id) in &changes {
            let place = (*folder, name.clone());
            match id {
                Some(id) => drop(self.names.insert(place, *id)),
                None => drop(self.names.remove(&place)),
            }
        }
        lossy.moves.push(Move { at, changes });
    }
}

/// Writes the remains of a folder, or of a part of it, to a real folder.
pub(crate) fn put(left: &Left, part: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for (path, remains) in left {
        let Ok(below) = path.strip_prefix(part) else {
            continue;
        };
        let place = to.join(below);
        match remains {
            Remains::Folder => fs::create_dir_all(place)?,
            Remains::Link(target) => symlink(target, place)?,
            Remains::File(bytes, mode) => {
                fs::write(&place, bytes)?;
                if mode & 0o777 != 0o644 {
                    fs::set_permissions(place, fs::Permissions::from_mode(mode & 0o7777))?;
                }
            }
        }
    }
    Ok(())
}
