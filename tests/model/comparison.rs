//! A model and a folder side by side: every step is done to both, and after every build
//! they must agree. What does not is a [`Fault`], in words.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fbuild::workspace::FILE_NAME;

use crate::model::builder::{Builder, How, Intrusion, Report};
use crate::model::cached::{Known, Trust};
use crate::model::expected::{Fate, World, clear, counts};
use crate::model::project::{Output, Project};
use crate::model::step::{Edit, Forgotten, How as Writing, Look, Step};
use crate::support::tree::{self, Node, Tree};

/// What is wrong.
pub(crate) type Fault = String;

/// A model and a folder.
pub(crate) struct Bench {
    folder: PathBuf,
    root: PathBuf,
    world: World,
    builder: Box<dyn Builder>,
    known: Known,
    branches: Vec<Branch>,
    /// What the Buildfile on the disk says.
    written: String,
    builds: usize,
    pub(crate) runs: usize,
    pub(crate) executed: usize,
    /// How many targets were to succeed, and how many not, over all builds.
    pub(crate) fates: [usize; 2],
    /// In how many builds none was to fail.
    pub(crate) well: usize,
    /// Whether more than a few targets were to fail in the last build.
    pub(crate) is_sick: bool,
    /// How many results fbuild said it did not store for doubt, though nobody intruded.
    pub(crate) doubted: usize,
}

/// The sources and the Buildfile as they were.
struct Branch {
    project: Project,
    sources: Vec<(String, Node, SystemTime)>,
}

impl Bench {
    /// Makes the folder what the model is.
    pub(crate) fn new(folder: PathBuf, world: World, builder: Box<dyn Builder>) -> Self {
        let bench = Self::empty(folder, world, builder);
        let (root, world) = (&bench.root, &bench.world);
        fs::create_dir_all(root.join("tools")).unwrap();
        for (path, node) in world.tree.all() {
            match node {
                Node::Folder => fs::create_dir_all(root.join(path)).unwrap(),
                node => tree::write(&root.join(path), node).unwrap(),
            }
        }
        bench
    }

    fn empty(folder: PathBuf, world: World, builder: Box<dyn Builder>) -> Self {
        let root = match &world.project.root {
            Some(below) => folder.join(below),
            None => folder.clone(),
        };
        Self {
            known: Known::default(),
            branches: Vec::new(),
            written: String::new(),
            builds: 0,
            runs: 0,
            executed: 0,
            fates: [0, 0],
            well: 0,
            is_sick: false,
            doubted: 0,
            folder,
            root,
            world,
            builder,
        }
    }

    /// Takes over a folder that is what the model is, and what is known of its store.
    pub(crate) fn on(folder: &Path, world: World, known: Known, builder: Box<dyn Builder>) -> Self {
        let written = fs::read_to_string(folder.join(FILE_NAME)).unwrap_or_default();
        let mut bench = Self::empty(folder.to_owned(), world, builder);
        (bench.known, bench.written) = (known, written);
        bench
    }

    /// Returns the model and what is known of the store.
    pub(crate) fn into_parts(self) -> (World, Known) {
        (self.world, self.known)
    }

    /// Says how far it can be relied on what is known of the store.
    pub(crate) fn trust(&mut self, trust: Trust) {
        self.known.trust = trust;
    }

    /// Returns the model.
    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// Returns how many builds were checked.
    pub(crate) fn builds(&self) -> usize {
        self.builds
    }

    /// Does a step, and checks what it does by itself.
    pub(crate) fn step(&mut self, step: &Step) -> Result<(), Fault> {
        match step {
            Step::Edit(edit) => return self.edit(edit),
            Step::Branch { build } => self.switch(*build),
            Step::Forget(what) => self.forget(*what),
            Step::Harm { how, pick } => {
                let harmed = self.builder.harm(*how, *pick);
                self.known.harm(&harmed);
            }
            Step::Look(look) => return self.look(*look),
            Step::Disturb {
                target,
                salt,
                before,
                after,
            } => {
                let (target, before, after) = (target.clone(), before.clone(), after.clone());
                let stops = false;
                let intrusion = Intrusion {
                    target,
                    before,
                    after,
                    stops,
                };
                return self.intrude(salt, intrusion);
            }
            Step::Stop { target, salt } => {
                let target = target.clone();
                let (before, after, stops) = (Vec::new(), Vec::new(), true);
                let intrusion = Intrusion {
                    target,
                    before,
                    after,
                    stops,
                };
                return self.intrude(salt, intrusion);
            }
            Step::Once => return self.build_once().map(drop),
            step => self.change(step),
        }
        Ok(())
    }

    /// Changes files: in the model, and if it makes sense there, on the disk.
    fn change(&mut self, step: &Step) {
        if !self.world.apply(step) {
            return;
        }
        let at = |path: &str| self.root.join(path);
        let node = |path: &str| self.world.tree.get(path).cloned();
        match step {
            Step::Write { path, how, .. } => self.write(path, *how),
            Step::Put { path, node } => tree::write(&at(path), node).unwrap(),
            Step::Chmod { path, .. } => tree::write(&at(path), &node(path).unwrap()).unwrap(),
            Step::Touch { path } => {
                let file = fs::File::options().write(true).open(at(path)).unwrap();
                file.set_modified(SystemTime::now()).unwrap();
            }
            Step::Remove { path } => tree::erase(&at(path)).unwrap(),
            Step::Rename { from, to } => {
                fs::create_dir_all(at(to).parent().unwrap()).unwrap();
                fs::rename(at(from), at(to)).unwrap();
            }
            _ => {}
        }
    }

    fn write(&self, path: &str, how: Writing) {
        let (node, file) = (self.world.tree.get(path).unwrap(), self.root.join(path));
        let before = file
            .metadata()
            .and_then(|metadata| metadata.modified())
            .ok();
        match how {
            Writing::InPlace | Writing::SameTime => tree::write(&file, node).unwrap(),
            Writing::Renamed => {
                let beside = self.folder.join(".beside");
                tree::write(&beside, node).unwrap();
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::rename(beside, &file).unwrap();
            }
        }
        if let (Writing::SameTime, Some(before)) = (how, before) {
            let file = fs::File::options().write(true).open(file).unwrap();
            file.set_modified(before).unwrap();
        }
    }

    /// Edits the Buildfile. One that is wrong must be refused, and is then taken back.
    fn edit(&mut self, edit: &Edit) -> Result<(), Fault> {
        let Some(project) = edit.apply(&self.world.project) else {
            return Ok(());
        };
        let before = std::mem::replace(&mut self.world.project, project);
        self.write_buildfile();
        if self.builder.check() {
            return Ok(());
        }
        let report = self.run(None);
        if report.exit != 2 || !report.executed.is_empty() {
            return Err(format!("a Buildfile with mistakes was built: {report:?}"));
        }
        self.world.project = before;
        self.check_tree(&self.world.tree)
    }

    fn forget(&mut self, what: Forgotten) {
        let state = self.folder.join(".build-cache");
        let part = match what {
            Forgotten::All => state,
            Forgotten::Index => state.join("index"),
            Forgotten::State => state.join("state"),
            Forgotten::Graph => state.join("graph"),
            Forgotten::Metadata => state.join("metadata"),
        };
        tree::erase(&part).unwrap();
        if what == Forgotten::All && self.builder.keeps_store_in_state() {
            self.known.forget_results();
        }
    }

    /// Makes sources and Buildfile what they were before an earlier build.
    fn switch(&mut self, build: usize) {
        let Some(branch) = self.branches.get(build) else {
            return;
        };
        let mut world = self.world.clone();
        let is_gone = |path: &str| branch.sources.iter().all(|(source, ..)| source != path);
        let sources = sources(&self.world).into_iter();
        for path in sources.filter(|path| is_gone(path)) {
            world.tree.remove(&path);
            tree::erase(&self.root.join(&path)).unwrap();
        }
        for (path, node, time) in &branch.sources {
            let there = world.tree.get(path);
            let is_free = there != Some(&Node::Folder) && world.tree.has_room(path);
            if there == Some(node) || !is_free {
                continue;
            }
            world.tree.put(path, node.clone());
            let file = self.root.join(path);
            tree::write(&file, node).unwrap();
            if matches!(node, Node::File { .. }) {
                let file = fs::File::options().write(true).open(file).unwrap();
                file.set_modified(*time).unwrap();
            }
        }
        world.project = branch.project.clone();
        self.world = world;
    }

    fn remember_branch(&mut self) {
        let time = |path: &str| {
            let metadata = self.root.join(path).symlink_metadata();
            metadata
                .and_then(|metadata| metadata.modified())
                .unwrap_or(SystemTime::UNIX_EPOCH)
        };
        let paths = sources(&self.world).into_iter();
        let sources = paths.map(|path| {
            (
                path.clone(),
                self.world.tree.get(&path).unwrap().clone(),
                time(&path),
            )
        });
        let sources = sources.collect();
        let project = self.world.project.clone();
        self.branches.push(Branch { project, sources });
    }

    /// Asks what would be done, which must change nothing and be true.
    fn look(&mut self, look: Look) -> Result<(), Fault> {
        self.write_buildfile();
        let before = state(&self.folder);
        self.runs += 1;
        let report = self.builder.look(&self.world, look);
        if state(&self.folder) != before {
            return Err(format!("{look:?} changed what is remembered"));
        }
        if !report.executed.is_empty() {
            return Err(format!("{look:?} executed {:?}", report.executed));
        }
        self.check_tree(&self.world.tree)?;
        if look == Look::Explain {
            return Ok(());
        }
        let expected = self.world.expect();
        for (name, fate) in &expected.fates {
            let Fate::Made { fingerprint, .. } = fate else {
                continue;
            };
            let (how, key) = (report.how(name), report.key(name));
            let may_not = matches!(how, Some(How::UpToDate | How::WouldRestore));
            let uncached = self
                .world
                .project
                .target(name)
                .is_some_and(|target| target.uncached);
            if may_not && (uncached || self.known.must_run(fingerprint, key)) {
                return Err(format!(
                    "{look:?} says that {name} is {how:?}, but it must run"
                ));
            }
        }
        Ok(())
    }

    /// Builds everything, and checks all there is to check; also that there is nothing to do
    /// then.
    pub(crate) fn build(&mut self) -> Result<(), Fault> {
        let (fates, said, doubted) = self.build_once()?;
        let again = self.run(None);
        let project = &self.world.project;
        let checked = self
            .known
            .check_idle((project, &fates), &again, doubted > 0);
        let said = |fault| format!("{fault}\nin the second run: {again:?}{said}");
        checked.map_err(said)?;
        self.check_tree(&self.world.tree).map_err(said)
    }

    /// Builds everything, and checks what came of it. Returns that, what was said, and how
    /// much of it was not stored for doubt.
    fn build_once(&mut self) -> Result<(BTreeMap<String, Fate>, String, usize), Fault> {
        self.builds += 1;
        self.remember_branch();
        let expected = self.world.expect();
        let is_made = |fate: &&Fate| matches!(fate, Fate::Made { .. });
        let made = expected.fates.values().filter(is_made).count();
        let failing = expected.fates.len() - made;
        self.fates = [self.fates[0] + made, self.fates[1] + failing];
        self.well += usize::from(failing == 0);
        self.is_sick = failing * 5 > made;
        let report = self.run(None);
        let said = format!("\nin the first run: {report:?}");
        let checked = self
            .known
            .check(&self.world.project, &expected.fates, &report);
        checked.map_err(|fault| fault + &said)?;
        self.world.tree = expected.tree;
        self.adopt(&expected.fates);
        self.check_tree(&self.world.tree)
            .map_err(|fault| fault + &said)?;
        let is_doubted = |warning: &&String| warning.contains("the result is not stored");
        let doubted = report.warnings.iter().filter(is_doubted).count();
        self.doubted += doubted;
        Ok((expected.fates, said, doubted))
    }

    /// Returns another bench with the same sources and none of what was made of them, but
    /// what targets left that do not succeed now.
    pub(crate) fn without_outputs(&self, folder: PathBuf, builder: Box<dyn Builder>) -> Self {
        let mut world = self.world.clone();
        let fates = self.world.expect().fates;
        for target in &self.world.project.targets {
            if matches!(fates.get(&target.name), Some(Fate::Made { .. })) {
                clear(&mut world.tree, target);
            }
        }
        Self::new(folder, world, builder)
    }

    /// Builds once, from nothing, and compares what comes of it with another bench.
    pub(crate) fn build_like(&mut self, other: &Self) -> Result<(), Fault> {
        let report = self.run(None);
        let compared = self.check_tree(&other.world.tree);
        compared.map_err(|fault| format!("a clean build differs: {fault}\n{report:?}"))
    }

    /// Runs a build while somebody intrudes. What it makes is checked by the next.
    fn intrude(&mut self, salt: &str, mut intrusion: Intrusion) -> Result<(), Fault> {
        let (target, salt) = (intrusion.target.clone(), salt.to_owned());
        self.edit(&Edit::Salt { target, salt })?;
        let mut world = self.world.clone();
        for written in [&mut intrusion.before, &mut intrusion.after] {
            written.retain(|(path, text)| {
                let is_source = !is_any_output(&world.project, path, |_| true);
                is_source && world.tree.get(path).is_some() && world.write(path, text)
            });
        }
        let report = self.run(Some(&intrusion));
        if report.intruded {
            self.world.tree = world.tree;
        }
        if intrusion.stops && report.intruded && report.exit != 130 {
            return Err(format!(
                "a stopped run ended with {}: {report:?}",
                report.exit
            ));
        }
        self.known.doubt(&report);
        // Whichever of its inputs a target saw, its outputs are for the next build to see to.
        self.adopt_all();
        Ok(())
    }

    /// Takes over what the disk has of targets that said nothing of it.
    fn adopt(&mut self, fates: &BTreeMap<String, Fate>) {
        let is_unsaid = |name: &str| fates.get(name) == Some(&Fate::Blocked);
        if self
            .world
            .project
            .targets
            .iter()
            .any(|target| is_unsaid(&target.name))
        {
            self.adopt_all();
        }
    }

    /// Takes over what the disk has of outputs.
    fn adopt_all(&mut self) {
        let disk = Tree::read(&self.root);
        let world = &self.world;
        let paths = disk
            .all()
            .chain(world.tree.all())
            .map(|(path, _)| path.to_owned());
        let outputs: Vec<String> = paths
            .filter(|path| is_any_output(&world.project, path, |_| true))
            .collect();
        for path in outputs {
            match disk.get(&path) {
                Some(Node::Folder) if self.world.tree.get(&path) == Some(&Node::Folder) => {}
                Some(node) => self.world.tree.put(&path, node.clone()),
                None => self.world.tree.remove(&path),
            }
        }
    }

    fn run(&mut self, intrusion: Option<&Intrusion>) -> Report {
        self.write_buildfile();
        self.runs += 1;
        let report = self.builder.build(&self.world, intrusion);
        self.executed += report.executed.len();
        report
    }

    /// Writes the Buildfile if it is not what it should be.
    pub(crate) fn write_buildfile(&mut self) {
        let text = self.world.project.text(self.builder.mix());
        if text != self.written {
            fs::write(self.folder.join(FILE_NAME), &text).unwrap();
            self.written = text;
        }
    }

    /// Compares the disk with a tree: all files and links, and the folders that matter.
    fn check_tree(&self, expected: &Tree) -> Result<(), Fault> {
        let found = Tree::read(&self.root);
        let matters = |(path, node): &(&str, &Node)| {
            let is_ours = *path == FILE_NAME || *path == "tools";
            !is_ours && (**node != Node::Folder || counts(&self.world.project, path))
        };
        let mut faults = Vec::new();
        for (path, node) in expected.all().filter(matters) {
            match found.get(path) {
                Some(there) if there == node => {}
                there => faults.push(format!("{path} is {there:?} and should be {node:?}")),
            }
        }
        let stray = found.all().filter(matters);
        let stray = stray.filter(|(path, _)| expected.get(path).is_none());
        faults.extend(stray.map(|(path, node)| format!("{path} is {node:?} and should not be")));
        match faults.is_empty() {
            true => Ok(()),
            false => Err(faults.join("\n")),
        }
    }
}

/// Tells whether a Buildfile has no mistakes.
pub(crate) fn is_valid(text: &str) -> bool {
    let loaded = fbuild::buildfile::load_text(text, FILE_NAME.as_ref());
    let (_, mistakes) = fbuild::graph::Graph::new(loaded.buildfile);
    let mut all = loaded.diagnostics.iter().chain(&mistakes);
    all.all(|diagnostic| diagnostic.severity != fbuild::source::Severity::Error)
}

/// Returns the paths of everything that is no output, or lives in version control.
fn sources(world: &World) -> Vec<String> {
    let nodes = world.tree.all().filter(|(_, node)| **node != Node::Folder);
    let paths = nodes.map(|(path, _)| path.to_owned());
    paths
        .filter(|path| !is_output(&world.project, path))
        .collect()
}

/// Tells whether a path is where a target's outputs belong that do not live in version
/// control.
fn is_output(project: &Project, path: &str) -> bool {
    is_any_output(project, path, |output| !output.committed)
}

/// Tells whether a path is where some of the outputs belong.
fn is_any_output(project: &Project, path: &str, is_meant: fn(&Output) -> bool) -> bool {
    let outputs = project.targets.iter().flat_map(|target| &target.outputs);
    let is_it = |output: &Output| {
        let folder = format!("{}/", output.path);
        path == output.path
            || path.starts_with(&folder)
            || crate::support::glob::matches(&output.path, path)
    };
    outputs
        .into_iter()
        .any(|output| is_meant(output) && is_it(output))
}

/// Reads what fbuild remembers, all of it.
fn state(folder: &std::path::Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut pending = vec![folder.join(".build-cache")];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => pending.push(path),
                false => files.push((path.clone(), fs::read(path).unwrap_or_default())),
            }
        }
    }
    files.sort();
    files
}
