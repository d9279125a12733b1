//! Implements the command `mix` as a function from its arguments, variables and declared files
//! to its outputs. The program, the in-process executor and the model call it, each with its own
//! view of the files.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use fbuild::digest::Digest;

use super::glob;
use super::tree::{Node, Tree, ancestors, child, parent};

/// A tree as a command sees it.
pub(crate) trait View {
    /// Returns the kind of the node at a path.
    fn kind(&self, path: &str) -> Option<Kind>;
    /// Returns the names in a folder.
    fn names(&self, folder: &str) -> Vec<String>;
    /// Returns the content of the regular file that a path leads to.
    fn content(&self, path: &str) -> Option<String>;
    /// Returns the path without links of the file or folder that a path leads to.
    fn real(&self, path: &str) -> Option<String>;
}

/// The kind of a node, without its content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    File { exec: bool },
    Link(String),
    Folder,
}

/// A file that a command read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fact {
    pub(crate) path: String,
    pub(crate) kind: Kind,
    /// The content of the file, or of the file that the link leads to.
    pub(crate) content: Option<String>,
    /// Whether the file that the link leads to is executable.
    pub(crate) is_exec_behind: bool,
}

/// The parsed arguments of a command.
#[derive(Debug, Default)]
pub(crate) struct Words<'w> {
    all: Vec<&'w str>,
    coarse: bool,
    pub(crate) indoors: bool,
    env: Vec<&'w str>,
    pub(crate) inputs: Vec<Patterns<'w>>,
    needs: Vec<(&'w str, Vec<&'w str>)>,
    outputs: Vec<&'w str>,
}

/// The patterns of an `inputs` node.
#[derive(Debug, Default)]
pub(crate) struct Patterns<'w> {
    pub(crate) include: Vec<&'w str>,
    pub(crate) except: Vec<&'w str>,
}

/// The result of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It succeeds after it wrote these nodes.
    Made(Vec<(String, Node)>),
    /// It fails after it wrote these nodes.
    Failed(Vec<(String, Node)>),
}

impl<'w> Words<'w> {
    /// Parses the arguments of a command, or returns the first unknown one.
    pub(crate) fn parse(words: impl IntoIterator<Item = &'w str>) -> Result<Self, &'w str> {
        let mut parsed = Self::default();
        let mut inputs = Patterns::default();
        for word in words {
            parsed.all.push(word);
            match word.split_once('=').unwrap_or((word, "")) {
                ("salt" | "say", _) => {}
                ("coarse", _) => parsed.coarse = true,
                ("indoors", _) => parsed.indoors = true,
                ("env", name) => parsed.env.push(name),
                ("in", pattern) => inputs.include.push(pattern),
                ("not", pattern) => inputs.except.push(pattern),
                ("end", _) => parsed.inputs.push(std::mem::take(&mut inputs)),
                ("need", need) => parsed.needs.push((need, Vec::new())),
                ("keep", keep) => parsed.needs.last_mut().ok_or(word)?.1.push(keep),
                ("out", output) => parsed.outputs.push(output),
                _ => return Err(word),
            }
        }
        Ok(parsed)
    }

    /// Reads the declared inputs, sorted by path, each once.
    pub(crate) fn read_inputs(&self, view: &dyn View) -> Vec<Fact> {
        let mut facts = Vec::new();
        for patterns in &self.inputs {
            for pattern in &patterns.include {
                let found = find_inputs(view, pattern, &patterns.except);
                let found = found.matches.into_iter().chain(found.others);
                facts.extend(found.filter_map(|path| fact(view, path)));
            }
        }
        facts.sort_unstable();
        facts.dedup();
        facts
    }

    /// Reads the outputs of the needed targets: files and links, sorted by path, each once.
    pub(crate) fn read_needs(&self, view: &dyn View) -> Vec<Fact> {
        let mut facts = Vec::new();
        for (need, keep) in &self.needs {
            let (what, path) = need.split_once(':').unwrap_or((need, ""));
            let pattern = match what {
                "folder" => format!("{}/**", path.replace('[', "\\[")),
                _ => path.to_owned(),
            };
            let is_kept = |path: &str| keep.iter().any(|keep| glob::matches(keep, path));
            let found = find(view, &pattern, keep).into_iter();
            let found = found.filter(|path| !ancestors(path).any(is_kept));
            facts.extend(found.filter_map(|path| match fact(view, path)? {
                // The file behind the link belongs to another target.
                fact if matches!(fact.kind, Kind::Link(_)) => Some(Fact {
                    content: None,
                    is_exec_behind: false,
                    ..fact
                }),
                fact => Some(fact),
            }));
        }
        facts.sort_unstable();
        facts.dedup();
        facts
    }

    /// Returns the outputs for these inputs. `env` returns the values of variables.
    pub(crate) fn mix(
        &self,
        env: &dyn Fn(&str) -> Option<String>,
        inputs: &[Fact],
        needs: &[Fact],
    ) -> Outcome {
        let mut mixed = Mixed::default();
        self.all.iter().for_each(|word| mixed.add(word));
        for name in &self.env {
            mixed.add(name);
            mixed.add(&format!("{:?}", env(name)));
        }
        for fact in inputs.iter().chain(needs) {
            mixed.add(&format!("{fact:?}"));
        }
        let digest = mixed.digest();
        let seed = match self.coarse {
            true => [digest[0] & 1; 32],
            false => digest,
        };
        let mut made: Vec<(String, Node)> = Vec::new();
        let says = |word: &str| {
            let contents = inputs.iter().filter_map(|fact| fact.content.as_deref());
            contents
                .into_iter()
                .any(|content| content.starts_with(word))
        };
        let (fails, skips) = (says("FAIL"), says("SKIP"));
        let count = self.outputs.len() - usize::from((fails || skips) && !self.outputs.is_empty());
        for output in &self.outputs[..count] {
            made.extend(produce(&seed, output));
        }
        match fails {
            true => Outcome::Failed(made),
            false => Outcome::Made(made),
        }
    }
}

/// Bytes that are collected and then digested.
#[derive(Default)]
struct Mixed(Vec<u8>);

impl Mixed {
    fn add(&mut self, part: &str) {
        self.0.extend_from_slice(&(part.len() as u64).to_le_bytes());
        self.0.extend_from_slice(part.as_bytes());
    }

    fn digest(&self) -> [u8; 32] {
        *Digest::of(&self.0).hash()
    }
}

/// Returns the files and links that a pattern matches, sorted. Links are not followed.
pub(crate) fn find(view: &dyn View, pattern: &str, except: &[&str]) -> Vec<String> {
    let is_excepted = |path: &str| except.iter().any(|except| glob::matches(except, path));
    let is_leaf =
        |path: &String| matches!(view.kind(path), Some(Kind::File { .. } | Kind::Link(_)));
    let is_folder = |path: &str| path.is_empty() || view.kind(path) == Some(Kind::Folder);
    if glob::is_literal(pattern) {
        let path = glob::unescaped(pattern);
        let is_open = ancestors(&path).all(is_folder);
        let found = Some(path).filter(|path| is_open && !is_excepted(path) && is_leaf(path));
        return found.into_iter().collect();
    }
    let folder = glob::folder(pattern);
    let mut found = Vec::new();
    let mut pending: Vec<String> = match ancestors(&folder).all(is_folder) && is_folder(&folder) {
        true => vec![folder],
        false => Vec::new(),
    };
    while let Some(folder) = pending.pop() {
        for name in view.names(&folder) {
            let path = child(&folder, &name);
            match view.kind(&path) {
                Some(Kind::Folder) => pending.push(path),
                Some(_) if glob::matches(pattern, &path) && !is_excepted(&path) => found.push(path),
                _ => {}
            }
        }
    }
    found.sort_unstable();
    found
}

/// The inputs that a pattern selects, by their paths without links.
#[derive(Default)]
pub(crate) struct Inputs {
    /// The files and links that it matches.
    pub(crate) matches: BTreeSet<String>,
    /// The links to folders on the way to a match, and the empty folders that it covers.
    others: BTreeSet<String>,
}

/// Finds the inputs that a pattern selects. Links to folders are followed.
pub(crate) fn find_inputs(view: &dyn View, pattern: &str, except: &[&str]) -> Inputs {
    let mut search = Search {
        view,
        pattern,
        except,
        found: Inputs::default(),
    };
    let (folder, name) = if glob::is_literal(pattern) {
        let path = glob::unescaped(pattern);
        let folder = parent(&path).unwrap_or_default().to_owned();
        (folder, Some(path))
    } else {
        (glob::folder(pattern), None)
    };
    let Some((real, links)) = search.resolve(&folder) else {
        return search.found;
    };
    let has_found = match name {
        Some(path) => search.file(
            &path,
            &child(&real, &path[path.rfind('/').map_or(0, |at| at + 1)..]),
        ),
        None => search.folder(&folder, &real, &mut Vec::new()),
    };
    if has_found {
        search.found.others.extend(links);
    }
    search.found
}

struct Search<'a> {
    view: &'a dyn View,
    pattern: &'a str,
    except: &'a [&'a str],
    found: Inputs,
}

impl Search<'_> {
    /// Follows the links on the way to a folder. Returns its real path, and the links.
    fn resolve(&self, folder: &str) -> Option<(String, Vec<String>)> {
        let (mut real, mut links) = (String::new(), Vec::new());
        for name in folder.split('/').filter(|name| !name.is_empty()) {
            let next = child(&real, name);
            real = match self.view.kind(&next)? {
                Kind::File { .. } => return None,
                Kind::Folder => next,
                Kind::Link(_) => {
                    let to = self.folder_behind(&next)?;
                    links.push(next);
                    to
                }
            };
        }
        Some((real, links))
    }

    fn folder_behind(&self, link: &str) -> Option<String> {
        let real = self.view.real(link)?;
        let is_folder = real.is_empty() || self.view.kind(&real) == Some(Kind::Folder);
        is_folder.then_some(real)
    }

    /// Adds a file or link if it matches. Returns true if it does.
    fn file(&mut self, path: &str, real: &str) -> bool {
        let is_leaf = matches!(
            self.view.kind(real),
            Some(Kind::File { .. } | Kind::Link(_))
        );
        let is_match =
            is_leaf && glob::matches(self.pattern, path) && !self.is_left_out(path, real);
        if is_match {
            self.found.matches.insert(real.to_owned());
        }
        is_match
    }

    /// Adds everything in a folder. Returns true if there is anything. `around` has the real
    /// paths of the folders around this one.
    fn folder(&mut self, path: &str, real: &str, around: &mut Vec<String>) -> bool {
        // A third round in a loop of links finds nothing new for the patterns of the tests.
        if around.iter().filter(|above| *above == real).count() > 2 {
            return false;
        }
        around.push(real.to_owned());
        let names = self.view.names(real);
        let mut has_found = names.is_empty() && self.counts_if_empty(path, real);
        if has_found {
            self.found.others.insert(real.to_owned());
        }
        for name in names {
            let (path, real) = (child(path, &name), child(real, &name));
            let kind = self.view.kind(&real);
            let below = match kind {
                Some(Kind::Folder) => Some(real.clone()),
                Some(Kind::Link(_)) if !self.is_left_out(&path, &real) => self.folder_behind(&real),
                _ => None,
            };
            has_found |= self.file(&path, &real);
            if let Some(to) = below
                && self.folder(&path, &to, around)
            {
                has_found = true;
                if to != real {
                    self.found.others.insert(real);
                }
            }
        }
        around.pop();
        has_found
    }

    /// Returns true if an exception matches one of the two paths of a file or link.
    fn is_left_out(&self, path: &str, real: &str) -> bool {
        let mut except = self.except.iter();
        except.any(|except| glob::matches(except, path) || glob::matches(except, real))
    }

    /// Returns true if the pattern covers an empty folder and no exception may match in it.
    fn counts_if_empty(&self, path: &str, real: &str) -> bool {
        let is_covering = self.pattern.ends_with("**") || self.pattern.ends_with('/');
        let is_near = |except: &&str, folder: &str| {
            let base = if glob::is_literal(except) {
                glob::unescaped(except)
            } else {
                glob::folder(except)
            };
            let depth = |path: &str| path.split('/').filter(|name| !name.is_empty()).count();
            let is_deep = except.contains("**") || except.ends_with('/');
            let reaches = !glob::is_literal(except) && (is_deep || depth(folder) < depth(except));
            is_within(&base, folder) || is_within(folder, &base) && reaches
        };
        let is_safe = |except: &&&str| !is_near(except, path) && !is_near(except, real);
        is_covering
            && glob::matches(self.pattern, &child(path, "any name"))
            && self.except.iter().all(|except| is_safe(&except))
    }
}

fn is_within(path: &str, folder: &str) -> bool {
    let rest = path.strip_prefix(folder);
    folder.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn fact(view: &dyn View, path: String) -> Option<Fact> {
    let kind = view.kind(&path)?;
    let content = view.content(&path);
    let behind = match kind {
        Kind::Link(_) => view.real(&path),
        _ => None,
    };
    let is_exec = |real: String| view.kind(&real) == Some(Kind::File { exec: true });
    Some(Fact {
        is_exec_behind: behind.is_some_and(is_exec),
        content,
        kind,
        path,
    })
}

/// Returns the nodes of one declared output. None of them matches a `keep` pattern.
fn produce(seed: &[u8; 32], output: &str) -> Vec<(String, Node)> {
    let mut mixed = Mixed(seed.to_vec());
    mixed.add(output);
    let bits = mixed.digest();
    let text = |salt: u8| {
        let hex = Digest::of(&[&bits[..], &[salt]].concat()).hex();
        hex[..8 + usize::from(bits[usize::from(salt)] % 56)].to_owned()
    };
    let has = |bit: u8| bits[31] >> bit & 1 == 1;
    let file = |salt: u8, exec| Node::File {
        text: text(salt),
        exec,
    };
    let (what, path) = output.split_once(':').unwrap_or((output, ""));
    match what {
        "file" => vec![(path.to_owned(), file(0, false))],
        "exec" => vec![(path.to_owned(), file(0, has(0)))],
        "link" => vec![(path.to_owned(), Node::Link(text(0)))],
        "glob" => {
            let names = ["a", "b", "c d"].iter().enumerate();
            let is_made = |i: usize| i == 0 || has(i as u8);
            let names = names.filter(|(i, _)| is_made(*i));
            let made = names.map(|(i, name)| (path.replace('*', name), file(i as u8, has(3))));
            made.collect()
        }
        _ => {
            let mut made = vec![(path.to_owned(), Node::Folder)];
            let names = ["f0", "f 1", "s/f2", "s/t/f3", "s/é"].iter().enumerate();
            let names = names.filter(|(i, _)| has(*i as u8));
            made.extend(names.map(|(i, name)| (child(path, name), file(i as u8, has(7)))));
            if has(5) {
                made.push((child(path, "e"), Node::Folder));
            }
            if has(6) {
                made.push((child(path, "l"), Node::Link(text(6))));
            }
            made
        }
    }
}

impl View for Tree {
    fn kind(&self, path: &str) -> Option<Kind> {
        Some(match self.get(path)? {
            Node::File { exec, .. } => Kind::File { exec: *exec },
            Node::Link(target) => Kind::Link(target.clone()),
            Node::Folder => Kind::Folder,
        })
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let skip = if folder.is_empty() {
            0
        } else {
            folder.len() + 1
        };
        let names = self.below(folder).map(|(path, _)| &path[skip..]);
        names
            .filter(|name| !name.contains('/'))
            .map(str::to_owned)
            .collect()
    }

    fn content(&self, path: &str) -> Option<String> {
        self.content(path).map(str::to_owned)
    }

    fn real(&self, path: &str) -> Option<String> {
        self.real(path)
    }
}

/// The tree below a folder on the disk.
pub(crate) struct Disk<'p>(pub(crate) &'p Path);

impl View for Disk<'_> {
    fn kind(&self, path: &str) -> Option<Kind> {
        let path = self.0.join(path);
        let metadata = path.symlink_metadata().ok()?;
        if metadata.is_symlink() {
            return Some(Kind::Link(
                fs::read_link(path).ok()?.to_string_lossy().into_owned(),
            ));
        }
        Some(match metadata.is_dir() {
            true => Kind::Folder,
            false => Kind::File {
                exec: metadata.permissions().mode() & 0o100 != 0,
            },
        })
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.0.join(folder))
            .into_iter()
            .flatten()
            .flatten();
        let names = entries.map(|entry| {
            let name = entry.file_name();
            String::from_utf8_lossy(name.as_bytes()).into_owned()
        });
        names
            .filter(|name| {
                ![".build-cache", ".build-trash", ".git", "Buildfile.lock"].contains(&&**name)
            })
            .collect()
    }

    fn content(&self, path: &str) -> Option<String> {
        let path = self.0.join(path);
        let is_file = path.metadata().is_ok_and(|metadata| metadata.is_file());
        let text = is_file.then(|| fs::read(path).ok())??;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    fn real(&self, path: &str) -> Option<String> {
        let (root, path) = (self.0.canonicalize().ok()?, self.0.join(path));
        let real = path.canonicalize().ok()?;
        let below = real.strip_prefix(root).ok()?;
        Some(below.to_string_lossy().into_owned())
    }
}
