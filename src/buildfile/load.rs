//! Loads the files of a Buildfile: the main one, then those that `include` names, each
//! once and none outside the root. It parses them; `expand` gives them a meaning.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checks::target::Protected;
use super::codes;
use super::grammar::Kind;
use super::meaning::definitions::Placed;
use super::meaning::values::bad_path;
use super::read::{Error, read};
use super::sink::{Sink, shown};
use super::syntax::node::{Node, Value};
use super::syntax::node_cache::NodeCache;
use super::syntax::parse::parse;
use crate::digest::Digest;
use crate::path::{RelPath, Root};
use crate::source::{Diagnostic, FileId, Sources, Span};

/// The most files of one Buildfile.
const MOST_FILES: usize = 1_000;

/// The loaded files and their nodes.
#[derive(Default)]
pub(super) struct Files {
    pub(super) sources: Sources,
    pub(super) sink: Sink,
    /// Every top-level node, in the order written.
    pub(super) nodes: Vec<Placed>,
    /// Every loaded file, with the digest of its text.
    pub(super) read: Vec<(PathBuf, Digest)>,
    pub(super) protected: Protected,
    /// The project's root.
    pub(super) root: PathBuf,
    /// The folders of files; `None` for a text without files, where `include` is a mistake.
    disk: Option<Disk>,
    /// The first `include` of each file, by its canonical path.
    seen: HashMap<PathBuf, Option<Span>>,
    /// The number of files.
    count: usize,
    /// Whether names may be missing because of mistakes.
    pub(super) has_lost_names: bool,
}

/// The folder of the main Buildfile, and the root below it.
struct Disk {
    folder: Root,
    root: RelPath,
    /// The canonical path of the root, if it exists.
    real_root: Option<PathBuf>,
    shown: PathBuf,
}

/// A file whose nodes are being read.
struct Open {
    nodes: std::vec::IntoIter<Node>,
    /// Its folder, relative to the main Buildfile's.
    folder: RelPath,
    /// The folder that its paths are relative to, relative to the root.
    base: Arc<RelPath>,
    /// Its canonical path.
    real: PathBuf,
}

impl Files {
    /// Loads the Buildfile at `path`, called `shown` in messages, and all that it includes.
    pub(super) fn load(path: &Path, shown: &Path, cache: &mut NodeCache) -> Result<Self, Error> {
        let text = read(path).map_err(|error| error.at(shown))?;
        let unreadable = |cause| Error::Unreadable {
            path: shown.to_owned(),
            cause,
        };
        let real = path.canonicalize().map_err(unreadable)?;
        let folder = real.parent().unwrap_or(Path::new("/"));
        let folder = Root::open(folder).map_err(unreadable)?;
        let mut files = Self::default();
        files.read.push((real.clone(), Digest::of(text.as_bytes())));
        files.seen.insert(real.clone(), None);
        let nodes = files.parse(shown, text, cache);
        let root = files.root_of(&nodes);
        files.root = folder.absolute(&root);
        let real_root = files.root.canonicalize().ok().filter(|path| path.is_dir());
        files.check_root(&nodes, real_root.is_some());
        let below_root = folder.relative(&real).and_then(|file| file.below(&root));
        below_root
            .into_iter()
            .for_each(|path| files.protected.add(path));
        files.disk = Some(Disk {
            folder,
            root,
            real_root,
            shown: shown.to_owned(),
        });
        files.take(nodes, real, cache);
        Ok(files)
    }

    /// Reads a text that is not in a file; `include` is a mistake in it.
    pub(super) fn from_text(text: &str, shown: &Path) -> Self {
        let mut files = Self::default();
        let cache = &mut NodeCache::default();
        let nodes = files.parse(shown, text.to_owned(), cache);
        files.root_of(&nodes);
        files.take(nodes, shown.to_owned(), cache);
        files
    }

    fn parse(&mut self, shown: &Path, text: String, cache: &mut NodeCache) -> Vec<Node> {
        let text: Arc<str> = text.into();
        let file = self.sources.add(shown, text.clone());
        self.count += 1;
        let parsed = parse(&text, file, &mut self.sink, cache);
        self.has_lost_names |= parsed.has_lost_names;
        parsed.nodes
    }

    /// Returns the root that the main Buildfile declares, relative to its folder.
    fn root_of(&mut self, nodes: &[Node]) -> RelPath {
        let Some(value) = root_value(nodes) else {
            return RelPath::root();
        };
        RelPath::new(value.text()).unwrap_or_else(|error| {
            self.sink.push(bad_path(value.text(), error, value.span));
            RelPath::root()
        })
    }

    fn check_root(&mut self, nodes: &[Node], is_there: bool) {
        if let (Some(value), false) = (root_value(nodes), is_there || self.sink.errors() > 0) {
            let message = format!("there is no folder `{}`", shown(value.text()));
            let diagnostic = Diagnostic::error(codes::PATH, message)
                .label(value.span, "the root must exist")
                .help("its path is relative to the Buildfile's folder");
            self.sink.push(diagnostic);
        }
    }

    /// Collects the nodes of the main Buildfile, and those of others where they are included.
    fn take(&mut self, nodes: Vec<Node>, real: PathBuf, cache: &mut NodeCache) {
        let mut open = vec![Open {
            nodes: nodes.into_iter(),
            folder: RelPath::root(),
            base: Arc::default(),
            real,
        }];
        while let Some(file) = open.last_mut() {
            let Some(node) = file.nodes.next() else {
                open.pop();
                continue;
            };
            let is_main = file.base.is_root() && file.folder.is_root() && open.len() == 1;
            match node.spec.kind {
                Kind::Include => open.extend(self.include(&node, &open, cache)),
                Kind::Project | Kind::Cache | Kind::Jobs if !is_main => self.only_in_main(&node),
                _ => {
                    let base = open
                        .last()
                        .map(|file| file.base.clone())
                        .unwrap_or_default();
                    self.nodes.push(Placed { node, base });
                }
            }
        }
    }

    fn only_in_main(&mut self, node: &Node) {
        let message = format!("`{}` does not belong in an included file", node.spec.name);
        let diagnostic = Diagnostic::error(codes::MISPLACED, message)
            .label(node.span, "applies to the whole project")
            .help("move it into the main Buildfile");
        self.sink.push(diagnostic);
    }

    /// Opens the file that an `include` names.
    fn include(&mut self, node: &Node, open: &[Open], cache: &mut NodeCache) -> Option<Open> {
        let value = node.args.first()?;
        let from = open.last()?;
        match self.find(value, from, open, cache) {
            Ok(file) => Some(file),
            Err(diagnostic) => {
                self.sink.push(*diagnostic);
                self.has_lost_names = true;
                None
            }
        }
    }

    /// Opens the file that `value` names in the file `from`.
    fn find(
        &mut self,
        value: &Value,
        from: &Open,
        open: &[Open],
        cache: &mut NodeCache,
    ) -> Result<Open, Box<Diagnostic>> {
        let name = shown(value.text());
        let Some(disk) = &self.disk else {
            let message = format!("`{name}` cannot be included in a text that is not a file");
            return Err(wrong(value, message, "save the Buildfile first"));
        };
        if self.count >= MOST_FILES {
            let message = format!("more than {MOST_FILES} files");
            return Err(wrong(value, message, "put several into one"));
        }
        let (path, real, text) = disk.read(&from.folder, value)?;
        let base = path.parent().and_then(|folder| folder.below(&disk.root));
        let shown = disk.shown.with_file_name(path.as_path());
        let below_root = path.below(&disk.root);
        if let Some(first) = self.seen.insert(real.clone(), Some(value.span)) {
            let is_open = open.iter().any(|open| open.real == real);
            return Err(Box::new(again(&name, value.span, first, is_open)));
        }
        self.read.push((real.clone(), Digest::of(text.as_bytes())));
        below_root
            .into_iter()
            .for_each(|path| self.protected.add(path));
        Ok(Open {
            nodes: self.parse(&shown, text, cache).into_iter(),
            folder: path.parent().unwrap_or_default(),
            base: Arc::new(base.unwrap_or_default()),
            real,
        })
    }
}

impl Disk {
    /// Reads the file that `value` names from `folder`. Returns its path relative to the
    /// main Buildfile's folder, its canonical path, and its text.
    fn read(
        &self,
        folder: &RelPath,
        value: &Value,
    ) -> Result<(RelPath, PathBuf, String), Box<Diagnostic>> {
        let name = shown(value.text());
        let outside = || {
            let message = format!("`{name}` leaves the project's root");
            let help = "move the root up with `project NAME { root … }`, or the file below it";
            wrong(value, message, help)
        };
        let path = resolve(folder, value.text()).filter(|path| path.is_within(&self.root));
        let path = path.ok_or_else(outside)?;
        let absolute = self.folder.absolute(&path);
        let text = read(&absolute).map_err(|error| {
            let message = match error {
                Error::Missing { .. } => format!("there is no file `{name}`"),
                error => error.at(Path::new(&name)).to_string(),
            };
            let help = "the path is relative to the file that includes it";
            wrong(value, message, help)
        })?;
        let real = absolute.canonicalize().unwrap_or(absolute);
        let root = self.real_root.as_ref();
        if root.is_some_and(|root| !real.starts_with(root)) {
            return Err(outside());
        }
        Ok((path, real, text))
    }
}

fn wrong(value: &Value, message: String, help: &str) -> Box<Diagnostic> {
    let diagnostic = Diagnostic::error(codes::INCLUDE, message);
    Box::new(
        diagnostic
            .label(value.span, "cannot be included")
            .help(help),
    )
}

fn root_value(nodes: &[Node]) -> Option<&Value> {
    let project = nodes.iter().find(|node| node.spec.kind == Kind::Project)?;
    let root = project
        .children
        .iter()
        .find(|c| c.spec.kind == Kind::Root)?;
    root.args.first()
}

fn again(name: &str, span: Span, first: Option<Span>, is_open: bool) -> Diagnostic {
    let message = if is_open {
        format!("`{name}` includes itself")
    } else {
        format!("`{name}` is included twice")
    };
    let mut diagnostic = Diagnostic::error(codes::INCLUDE, message).label(span, "again here");
    if let Some(first) = first {
        diagnostic = diagnostic.label(first, "first included here");
    }
    diagnostic.help("delete this line: the definitions of a file are known everywhere")
}

/// Returns the path that `text` names from `folder`; `None` if it leaves the folder that
/// both are relative to, or is not a path.
fn resolve(folder: &RelPath, text: &str) -> Option<RelPath> {
    if text.starts_with('/') {
        return None;
    }
    let mut at = folder.clone();
    for part in text.split('/') {
        at = match part {
            "" | "." => at,
            ".." => at.parent()?,
            name => at.join(&RelPath::new(name).ok()?),
        };
    }
    Some(at)
}

/// Returns an empty span at the start of a file.
pub(super) fn start_of(file: u32) -> Span {
    Span {
        file: FileId(file),
        start: 0,
        len: 0,
    }
}
