//! A history: a project and what happens to it, step by step. It can be made up from a
//! seed, run against fbuild, made smaller while it still fails, and kept as a file.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::builder::Builder;
use crate::model::comparison::{Bench, Fault};
use crate::model::expected::World;
use crate::model::generate;
use crate::model::inprocess::InProcess;
use crate::model::process::Process;
use crate::model::project::Project;
use crate::model::repeat::habit;
use crate::model::step::Step;
use crate::support::rng::Rng;
use crate::support::tree::{Node, Tree};

/// How many of a hundred steps begin a habit, of several rounds.
const HABITS: usize = 5;

/// A project and what happens to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct History {
    pub(crate) setting: Setting,
    pub(crate) project: Project,
    files: Vec<(String, Node)>,
    env: Vec<(String, String)>,
    /// Each step, and whether a build follows it.
    pub(crate) steps: Vec<(Step, bool)>,
}

/// How builds are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setting {
    pub(crate) jobs: usize,
    pub(crate) how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum How {
    /// Within the test, results in memory.
    Memory,
    /// Within the test, results in a folder.
    Folder,
    /// By the real program.
    Process,
}

/// A history that is being made up while it runs.
pub(crate) struct Run {
    pub(crate) history: History,
    pub(crate) bench: Bench,
    rng: Rng,
    folder: PathBuf,
    /// What comes next, and whether a build follows it.
    planned: VecDeque<(Step, bool)>,
}

/// What a history came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) steps: usize,
    pub(crate) builds: usize,
    pub(crate) runs: usize,
    pub(crate) executed: usize,
    /// How many targets were to succeed, and how many not, over all builds.
    pub(crate) fates: [usize; 2],
    /// In how many builds none was to fail.
    pub(crate) well: usize,
    /// How many results were not stored for doubt, though nobody intruded.
    pub(crate) doubted: usize,
}

impl Done {
    /// Adds what another history came to.
    pub(crate) fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.builds += other.builds;
        self.runs += other.runs;
        self.executed += other.executed;
        self.well += other.well;
        self.doubted += other.doubted;
        self.fates[0] += other.fates[0];
        self.fates[1] += other.fates[1];
    }
}

impl Run {
    /// Makes up the beginning of a history, in a folder of its own.
    pub(crate) fn begin(seed: u64, is_real: bool) -> Self {
        let mut rng = Rng::new(seed);
        let how = match rng.percent(80) {
            _ if is_real => How::Process,
            true => How::Memory,
            false => How::Folder,
        };
        Self::begin_with(rng, how, place())
    }

    /// Makes up the beginning of a history, in a folder of its own below this one.
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
            bench: bench(&folder, world, setting),
            history,
            rng,
            folder,
            planned: VecDeque::new(),
        }
    }

    /// Makes up the next step, and does it.
    pub(crate) fn step(&mut self) -> Result<(), Fault> {
        let (step, builds) = self.next_step();
        self.history.steps.push((step.clone(), builds));
        do_step(&mut self.bench, &step, builds)?;
        match builds && self.history.setting.how == How::Process && self.rng.percent(10) {
            true => self.history.check_clean(&self.bench),
            false => Ok(()),
        }
    }

    fn next_step(&mut self) -> (Step, bool) {
        let (rng, world) = (&mut self.rng, self.bench.world());
        if self.planned.is_empty() && rng.percent(HABITS) {
            self.planned = habit(rng, world).into();
        }
        if let Some(planned) = self.planned.pop_front() {
            return planned;
        }
        let step = match self.bench.is_sick && rng.percent(50) {
            true => Step::Branch {
                build: rng.below(3),
            },
            false => generate::step(rng, world),
        };
        (step, rng.percent(80))
    }

    pub(crate) fn done(&self) -> Done {
        done(&self.bench, self.history.steps.len())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        remove(&self.folder);
    }
}

impl History {
    /// Runs it from its beginning, in a folder of its own.
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
        let mut bench = bench(folder, world, self.setting);
        bench.build()?;
        for (step, builds) in &self.steps {
            do_step(&mut bench, step, *builds)?;
        }
        Ok(done(&bench, self.steps.len()))
    }

    /// Builds the same from nothing, with the real program, and compares.
    fn check_clean(&self, bench: &Bench) -> Result<(), Fault> {
        let folder = place();
        let builder = Process::new(&folder, self.setting.jobs);
        let mut clean = bench.without_outputs(folder.clone(), Box::new(builder));
        let checked = clean.build_like(bench);
        remove(&folder);
        checked
    }

    /// Leaves out what can be left out so that it still fails, within so many tries.
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

    /// Returns this without some of it: so many steps, a build, a target, a file.
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

fn do_step(bench: &mut Bench, step: &Step, builds: bool) -> Result<(), Fault> {
    bench.step(step)?;
    match builds {
        true => bench.build(),
        false => Ok(()),
    }
}

fn done(bench: &Bench, steps: usize) -> Done {
    Done {
        steps,
        builds: bench.builds(),
        well: bench.well,
        doubted: bench.doubted,
        runs: bench.runs,
        executed: bench.executed,
        fates: bench.fates,
    }
}

fn bench(folder: &Path, world: World, setting: Setting) -> Bench {
    let builder: Box<dyn Builder> = match setting.how {
        How::Memory => Box::new(InProcess::new(folder, setting.jobs, true)),
        How::Folder => Box::new(InProcess::new(folder, setting.jobs, false)),
        How::Process => Box::new(Process::new(folder, setting.jobs)),
    };
    Bench::new(folder.to_owned(), world, builder)
}

/// Makes an empty folder, in memory if the system has such a place.
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
    // It is in a place for temporary files.
    let _ = std::fs::remove_dir_all(folder);
}
