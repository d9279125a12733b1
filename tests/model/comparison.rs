//! Applies every step to a model and to a folder; after every build the two must agree. A
//! difference is a [`Fault`].

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fbuild::workspace::FILE_NAME;

use crate::model::builder::{Builder, How, Intrusion, Report};
use crate::model::expected::{Fate, World, clear, counts};
use crate::model::project::{Output, Project};
use crate::model::step::{Edit, Forgotten, How as Writing, Preview, Step};
use crate::model::store_model::{StoreModel, Trust, is_settled};
use crate::support::tree::{self, Node, Tree};

/// A description of a difference.
pub(crate) type Fault = String;

/// A model and a folder.
pub(crate) struct Comparison {
    folder: PathBuf,
    root: PathBuf,
    world: World,
    builder: Box<dyn Builder>,
    store: StoreModel,
    branches: Vec<Branch>,
    /// The text of the Buildfile on the disk.
    written: String,
    builds: usize,
    pub(crate) runs: usize,
    pub(crate) executed: usize,
    /// The numbers of targets that were expected to succeed and to fail, over all builds.
    pub(crate) fates: [usize; 2],
    /// The number of builds without an expected failure.
    pub(crate) well: usize,
    /// Whether more than a few targets were expected to fail in the last build.
    pub(crate) is_sick: bool,
    /// The number of results that fbuild refused to store although no file was written during
    /// the run.
    pub(crate) spurious_warnings: usize,
}

/// The sources and the Buildfile before an earlier build.
struct Branch {
    project: Project,
    sources: Vec<(String, Node, SystemTime)>,
}

impl Comparison {
    /// Creates the files of the model in a folder.
    pub(crate) fn new(folder: PathBuf, world: World, builder: Box<dyn Builder>) -> Self {
        let comparison = Self::empty(folder, world, builder);
        let (root, world) = (&comparison.root, &comparison.world);
        fs::create_dir_all(root.join("tools")).unwrap();
        for (path, node) in world.tree.all() {
            match node {
                Node::Folder => fs::create_dir_all(root.join(path)).unwrap(),
                node => tree::write(&root.join(path), node).unwrap(),
            }
        }
        comparison
    }

    fn empty(folder: PathBuf, world: World, builder: Box<dyn Builder>) -> Self {
        let root = match &world.project.root {
            Some(below) => folder.join(below),
            None => folder.clone(),
        };
        Self {
            store: StoreModel::default(),
            branches: Vec::new(),
            written: String::new(),
            builds: 0,
            runs: 0,
            executed: 0,
            fates: [0, 0],
            well: 0,
            is_sick: false,
            spurious_warnings: 0,
            folder,
            root,
            world,
            builder,
        }
    }

    /// Takes over a folder that already equals the model, with the model of its store.
    pub(crate) fn on(
        folder: &Path,
        world: World,
        store: StoreModel,
        builder: Box<dyn Builder>,
    ) -> Self {
        let written = fs::read_to_string(folder.join(FILE_NAME)).unwrap_or_default();
        let mut comparison = Self::empty(folder.to_owned(), world, builder);
        (comparison.store, comparison.written) = (store, written);
        comparison
    }

    /// Returns the model and the model of the store.
    pub(crate) fn into_parts(self) -> (World, StoreModel) {
        (self.world, self.store)
    }

    /// Sets how the store may differ from its model.
    pub(crate) fn trust(&mut self, trust: Trust) {
        self.store.trust = trust;
    }

    /// Returns the model.
    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// Returns the number of checked builds.
    pub(crate) fn builds(&self) -> usize {
        self.builds
    }

    /// Applies a step and checks its immediate effects.
    pub(crate) fn step(&mut self, step: &Step) -> Result<(), Fault> {
        match step {
            Step::Edit(edit) => return self.edit(edit),
            Step::Branch { build } => self.switch(*build),
            Step::Forget(what) => self.forget(*what),
            Step::Harm { how, pick } => {
                let harmed = self.builder.harm(*how, *pick);
                self.store.harm(&harmed);
            }
            Step::Preview(preview) => return self.preview(*preview),
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

    /// Applies a change of files to the model and, if the model changed, to the disk.
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

    /// Edits the Buildfile. fbuild must reject an invalid edit, which is then undone.
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
            self.store.forget_results();
        }
    }

    /// Restores the sources and the Buildfile of an earlier build.
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

    /// Previews a run: the preview must be correct and change nothing.
    fn preview(&mut self, preview: Preview) -> Result<(), Fault> {
        self.write_buildfile();
        let before = state(&self.folder);
        self.runs += 1;
        let report = self.builder.preview(&self.world, preview);
        if state(&self.folder) != before {
            return Err(format!("{preview:?} changed the state folder"));
        }
        if !report.executed.is_empty() {
            return Err(format!("{preview:?} executed {:?}", report.executed));
        }
        self.check_tree(&self.world.tree)?;
        if preview == Preview::Explain {
            return Ok(());
        }
        let expected = self.world.expect();
        for (name, fate) in &expected.fates {
            let Fate::Made { fingerprint, .. } = fate else {
                continue;
            };
            if is_settled(&self.world.project, &report, name) {
                continue;
            }
            let (how, key) = (report.how(name), report.key(name));
            let may_not = matches!(how, Some(How::UpToDate | How::WouldRestore));
            let uncached = self
                .world
                .project
                .target(name)
                .is_some_and(|target| target.uncached);
            if may_not && (uncached || self.store.must_run(fingerprint, key)) {
                return Err(format!(
                    "{preview:?} reports {name} as {how:?}, but it must run"
                ));
            }
        }
        Ok(())
    }

    /// Builds everything and checks the result, then checks that a second run does nothing.
    pub(crate) fn build(&mut self) -> Result<(), Fault> {
        let (fates, first_run, spurious_warnings) = self.build_once()?;
        let again = self.run(None);
        let project = &self.world.project;
        let checked = self
            .store
            .check_idle((project, &fates), &again, spurious_warnings > 0);
        let first_run = |fault| format!("{fault}\nin the second run: {again:?}{first_run}");
        checked.map_err(first_run)?;
        self.check_tree(&self.world.tree).map_err(first_run)
    }

    /// Builds everything and checks the result. Returns the fates, the output, and the number of
    /// spurious warnings.
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
        let first_run = format!("\nin the first run: {report:?}");
        let checked = self
            .store
            .check(&self.world.project, &expected.fates, &report);
        checked.map_err(|fault| fault + &first_run)?;
        self.world.tree = expected.tree;
        self.adopt(&expected.fates);
        self.check_tree(&self.world.tree)
            .map_err(|fault| fault + &first_run)?;
        let is_spurious = |warning: &&String| warning.contains("the result is not stored");
        let spurious_warnings = report.warnings.iter().filter(is_spurious).count();
        self.spurious_warnings += spurious_warnings;
        Ok((expected.fates, first_run, spurious_warnings))
    }

    /// Returns another comparison with the same sources and no outputs, except for leftovers of
    /// targets that fail now.
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

    /// Builds once from scratch and compares the result with another comparison.
    pub(crate) fn build_like(&mut self, other: &Self) -> Result<(), Fault> {
        let report = self.run(None);
        let compared = self.check_tree(&other.world.tree);
        compared.map_err(|fault| format!("a clean build differs: {fault}\n{report:?}"))
    }

    /// Writes files during a build. The next build checks the outputs.
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
        self.store.forget_origin_of(&report);
        // A target may have read the old or the new file; the next build decides.
        self.adopt_all();
        Ok(())
    }

    /// Copies from the disk to the model the outputs whose content the model does not predict.
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

    /// Copies all outputs from the disk to the model.
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

    /// Writes the Buildfile if its text changed.
    pub(crate) fn write_buildfile(&mut self) {
        let text = self.world.project.text(self.builder.mix());
        if text != self.written {
            fs::write(self.folder.join(FILE_NAME), &text).unwrap();
            self.written = text;
        }
    }

    /// Compares the disk with a tree: all files and links, and the folders in owned folders.
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

/// Returns true if a Buildfile is valid.
pub(crate) fn is_valid(text: &str) -> bool {
    let loaded = fbuild::buildfile::load_text(text, FILE_NAME.as_ref());
    let (_, mistakes) = fbuild::graph::Graph::new(loaded.buildfile);
    let mut all = loaded.diagnostics.iter().chain(&mistakes);
    all.all(|diagnostic| diagnostic.severity != fbuild::source::Severity::Error)
}

/// Returns the paths of all sources and committed outputs.
fn sources(world: &World) -> Vec<String> {
    let nodes = world.tree.all().filter(|(_, node)| **node != Node::Folder);
    let paths = nodes.map(|(path, _)| path.to_owned());
    paths
        .filter(|path| !is_output(&world.project, path))
        .collect()
}

/// Returns true if a path is an output that is not committed.
fn is_output(project: &Project, path: &str) -> bool {
    is_any_output(project, path, |output| !output.committed)
}

/// Returns true if a path is one of the selected outputs.
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

/// Reads all files of the state folder.
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
