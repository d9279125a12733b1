//! A history: a project and a sequence of steps. It can be generated from a seed, run against
//! fbuild, minimized while it fails, and saved to a file.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::builder::Builder;
use crate::model::comparison::{Comparison, Fault};
use crate::model::expected::World;
use crate::model::generate;
use crate::model::inprocess::InProcess;
use crate::model::process::Process;
use crate::model::project::Project;
use crate::model::repeat::repeat;
use crate::model::step::Step;
use crate::support::rng::Rng;
use crate::support::tree::{Node, Tree};

/// The number of steps in a hundred that start a repeated sequence.
const REPEATS: usize = 5;

/// A project and the steps that change it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct History {
    pub(crate) setting: Setting,
    pub(crate) project: Project,
    files: Vec<(String, Node)>,
    env: Vec<(String, String)>,
    /// Each step, and whether a build follows it.
    pub(crate) steps: Vec<(Step, bool)>,
}

/// The kind of builder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setting {
    pub(crate) jobs: usize,
    pub(crate) how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum How {
    /// In-process, with results in memory.
    Memory,
    /// In-process, with results in a folder.
    Folder,
    /// The real program.
    Process,
}

/// A history that is generated while it runs.
pub(crate) struct Run {
    pub(crate) history: History,
    pub(crate) comparison: Comparison,
    rng: Rng,
    folder: PathBuf,
    /// The next steps, and whether a build follows each.
    planned: VecDeque<(Step, bool)>,
}

/// The figures of a history.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) steps: usize,
    pub(crate) builds: usize,
    pub(crate) runs: usize,
    pub(crate) executed: usize,
    /// The numbers of targets that were expected to succeed and to fail, over all builds.
    pub(crate) fates: [usize; 2],
    /// The number of builds without an expected failure.
    pub(crate) well: usize,
    /// The number of results that were not stored although no file was written during the run.
    pub(crate) spurious_warnings: usize,
}

impl Done {
    /// Adds the figures of another history.
    pub(crate) fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.builds += other.builds;
        self.runs += other.runs;
        self.executed += other.executed;
        self.well += other.well;
        self.spurious_warnings += other.spurious_warnings;
        self.fates[0] += other.fates[0];
        self.fates[1] += other.fates[1];
    }
}

impl Run {
    /// Starts a history in a new folder.
    pub(crate) fn begin(seed: u64, is_real: bool) -> Self {
        let mut rng = Rng::new(seed);
        let how = match rng.percent(80) {
            _ if is_real => How::Process,
            true => How::Memory,
            false => How::Folder,
        };
        Self::begin_with(rng, how, place())
    }

    /// Starts a history in a new folder below `above`.
    pub(crate) fn begin_in(seed: u64, above: &Path) -> Self {
        Self::begin_with(Rng::new(seed), How::Folder, place_in(above))
    }

    fn begin_with(mut rng: Rng, how: How, folder: PathBuf) -> Self {
        let jobs = 1 + rng.below(4);
        let setting = Setting { jobs, how };
        let world = generate::world(&mut rng);
        let history = History {
            setting,
            project: world.project.clone(),
            files: world
                .tree
                .all()
                .map(|(path, node)| (path.to_owned(), node.clone()))
                .collect(),
            env: world.env.clone().into_iter().collect(),
            steps: Vec::new(),
        };
        Self {
            comparison: comparison(&folder, world, setting),
            history,
            rng,
            folder,
            planned: VecDeque::new(),
        }
    }

    /// Generates the next step and runs it.
    pub(crate) fn step(&mut self) -> Result<(), Fault> {
        let (step, builds) = self.next_step();
        self.history.steps.push((step.clone(), builds));
        do_step(&mut self.comparison, &step, builds)?;
        match builds && self.history.setting.how == How::Process && self.rng.percent(10) {
            true => self.history.check_clean(&self.comparison),
            false => Ok(()),
        }
    }

    fn next_step(&mut self) -> (Step, bool) {
        let (rng, world) = (&mut self.rng, self.comparison.world());
        if self.planned.is_empty() && rng.percent(REPEATS) {
            self.planned = repeat(rng, world).into();
        }
        if let Some(planned) = self.planned.pop_front() {
            return planned;
        }
        let step = match self.comparison.is_sick && rng.percent(50) {
            true => Step::Branch {
                build: rng.below(3),
            },
            false => generate::step(rng, world),
        };
        (step, rng.percent(80))
    }

    pub(crate) fn done(&self) -> Done {
        done(&self.comparison, self.history.steps.len())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        remove(&self.folder);
    }
}

impl History {
    /// Runs the history from its start in a new folder.
    pub(crate) fn run(&self) -> Result<Done, Fault> {
        let folder = place();
        let result = self.run_in(&folder);
        remove(&folder);
        result
    }

    fn run_in(&self, folder: &Path) -> Result<Done, Fault> {
        let mut tree = Tree::default();
        self.files
            .iter()
            .for_each(|(path, node)| tree.put(path, node.clone()));
        let world = World {
            project: self.project.clone(),
            env: self.env.iter().cloned().collect(),
            tree,
        };
        let mut comparison = comparison(folder, world, self.setting);
        comparison.build()?;
        for (step, builds) in &self.steps {
            do_step(&mut comparison, step, *builds)?;
        }
        Ok(done(&comparison, self.steps.len()))
    }

    /// Builds the same project from scratch with the real program and compares the outputs.
    fn check_clean(&self, comparison: &Comparison) -> Result<(), Fault> {
        let folder = place();
        let builder = Process::new(&folder, self.setting.jobs).replacing();
        let mut clean = comparison.without_outputs(folder.clone(), Box::new(builder));
        let checked = clean.build_like(comparison);
        remove(&folder);
        checked
    }

    /// Removes steps, targets and files as long as the history still fails, with at most `tries`
    /// runs.
    pub(crate) fn shrunk(mut self, mut tries: usize) -> (Self, Fault) {
        let mut fault = match self.run() {
            Err(fault) => fault,
            Ok(_) => {
                return (
                    self,
                    "it failed once, and did not when it was repeated".to_owned(),
                );
            }
        };
        let mut size = self.steps.len().max(1);
        loop {
            let mut has_shrunk = false;
            for smaller in self.smaller(size) {
                if tries == 0 {
                    return (self, fault);
                }
                tries -= 1;
                if let Err(still) = smaller.run() {
                    (self, fault, has_shrunk) = (smaller, still, true);
                    break;
                }
            }
            match (has_shrunk, size) {
                (true, _) => size = size.min(self.steps.len().max(1)),
                (false, 1) => return (self, fault),
                (false, _) => size /= 2,
            }
        }
    }

    /// Returns smaller histories: without `size` steps, a build, a target or a file.
    fn smaller(&self, size: usize) -> Vec<Self> {
        let mut smaller = Vec::new();
        for start in (0..self.steps.len()).step_by(size).rev() {
            let mut less = self.clone();
            let end = (start + size).min(less.steps.len());
            less.steps.drain(start..end);
            smaller.push(less);
        }
        if size > 1 {
            return smaller;
        }
        for at in 0..self.project.targets.len() {
            let mut less = self.clone();
            let name = less.project.targets.remove(at).name;
            for target in &mut less.project.targets {
                target.needs.retain(|need| *need != name);
                target.after.retain(|after| *after != name);
            }
            let is_right = crate::model::comparison::is_valid(&less.project.text(None));
            smaller.extend(is_right.then_some(less));
        }
        for at in (0..self.steps.len()).filter(|at| self.steps[*at].1) {
            let mut less = self.clone();
            less.steps[at].1 = false;
            smaller.push(less);
        }
        for at in 0..self.files.len() {
            let mut less = self.clone();
            let (path, _) = less.files.remove(at);
            let is_leaf = self
                .files
                .iter()
                .all(|(other, _)| !other.starts_with(&format!("{path}/")));
            smaller.extend(is_leaf.then_some(less));
        }
        smaller
    }
}

fn do_step(comparison: &mut Comparison, step: &Step, builds: bool) -> Result<(), Fault> {
    comparison.step(step)?;
    match builds {
        true => comparison.build(),
        false => Ok(()),
    }
}

fn done(comparison: &Comparison, steps: usize) -> Done {
    Done {
        steps,
        builds: comparison.builds(),
        well: comparison.well,
        spurious_warnings: comparison.spurious_warnings,
        runs: comparison.runs,
        executed: comparison.executed,
        fates: comparison.fates,
    }
}

fn comparison(folder: &Path, world: World, setting: Setting) -> Comparison {
    let builder: Box<dyn Builder> = match setting.how {
        How::Memory => Box::new(InProcess::new(folder, setting.jobs, true)),
        How::Folder => Box::new(InProcess::new(folder, setting.jobs, false)),
        How::Process => Box::new(Process::new(folder, setting.jobs).replacing()),
    };
    Comparison::new(folder.to_owned(), world, builder)
}

/// Creates an empty folder, in memory if possible.
pub(crate) fn place() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let above = match memory.is_dir() {
        true => memory.to_owned(),
        false => std::env::temp_dir(),
    };
    place_in(&above)
}

fn place_in(above: &Path) -> PathBuf {
    let place = tempfile::Builder::new().prefix("fbuild-").tempdir_in(above);
    place.unwrap().keep().canonicalize().unwrap()
}

fn remove(folder: &Path) {
    // Ignore the error: the folder is temporary.
    let _ = std::fs::remove_dir_all(folder);
}
