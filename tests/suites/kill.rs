//! T3: killed anywhere, and never wrong. The real program is killed before each call that
//! changes a file, in the middle of each write, and at random; the next run, with nothing
//! repaired by hand, must make everything what it should be, and find the cache sound.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::bench::{Bench, Fault};
use crate::history::place;
use crate::known::{Known, Trust};
use crate::oracle::World;
use crate::process::Process;
use crate::project::{Inputs, Output, Project, Target, What};
use crate::rng::Rng;
use crate::scale::{Suite, count};
use crate::step::{Edit, Forgotten, Harm, How, Step};
use crate::tracer::{self, Act, CAN_CHANGE, Calls};
use crate::tree::{Node, Tree};

/// What is killed: a name, what happens before, and the arguments.
struct Victim {
    name: &'static str,
    /// Whether everything is built first.
    is_built: bool,
    steps: Vec<Step>,
    arguments: &'static [&'static str],
    /// How far what was stored before is there when it was killed.
    leaves: Trust,
}

const RUN: &[&str] = &[
    "run", "--json", "-j", "2", "headers", "lib", "program", "docs",
];

fn victims() -> Vec<Victim> {
    let victim = |name, is_built, steps, arguments| Victim {
        name,
        is_built,
        steps,
        arguments,
        leaves: match name {
            "collection" | "repair" | "build with a damaged cache" => Trust::Either,
            _ => Trust::More,
        },
    };
    let remove = |path: &str| Step::Remove {
        path: path.to_owned(),
    };
    let write = Step::Write {
        path: "src/a.h".to_owned(),
        text: "changed".to_owned(),
        how: How::InPlace,
    };
    let salt = Step::Edit(Edit::Salt {
        target: "lib".to_owned(),
        salt: "other".to_owned(),
    });
    let restore = ["out", "gen", "lib", "src/generated.gen.h"].map(remove);
    let harm = Step::Harm {
        how: Harm::Flip,
        pick: 3,
    };
    vec![
        victim("first build", false, vec![], RUN),
        victim("build after an edit", true, vec![write.clone()], RUN),
        victim("build of another Buildfile", true, vec![salt.clone()], RUN),
        victim("restore", true, restore.to_vec(), RUN),
        victim(
            "restore without state",
            true,
            [&restore[..], &[Step::Forget(Forgotten::State)]].concat(),
            RUN,
        ),
        victim("nothing to do", true, vec![], RUN),
        victim(
            "collection",
            true,
            vec![write],
            &["cache", "gc", "--max-size", "1"],
        ),
        victim(
            "repair",
            true,
            vec![harm.clone()],
            &["cache", "verify", "--repair"],
        ),
        victim(
            "build with a damaged cache",
            true,
            [&restore[..], &[harm]].concat(),
            RUN,
        ),
        victim("clean", true, vec![salt], &["clean"]),
    ]
}

/// Where one thread kills: a folder as it was before, and the same where it happens.
struct Scene<'v> {
    victim: &'v Victim,
    above: PathBuf,
    world: World,
    known: Known,
}

#[test]
fn t3_killed_anywhere_the_next_run_is_right() {
    let suite = Suite::begin("T3");
    let victims = victims();
    let counts: Vec<Counts> = victims
        .iter()
        .map(|victim| Scene::prepare(victim).count())
        .collect();
    let points = points(&counts, suite.seed);
    let tally = kill_at(&victims, &points);
    let done: Vec<String> = tally
        .iter()
        .map(|(kind, n)| format!("{n} {kind}"))
        .collect();
    let changing: u64 = counts.iter().map(|counts| counts.changing).sum();
    suite.say(&format!(
        "{} points in {} victims with {changing} changing calls: {}; 0 wrong, 0 unsound",
        points.len(),
        victims.len(),
        done.join(", "),
    ));
}

/// How many calls a victim makes.
struct Counts {
    changing: u64,
    writes: u64,
    all: u64,
}

type Point = (usize, Calls, Act);

/// Returns every call that changes a file, every write, and places at random.
fn points(counts: &[Counts], seed: u64) -> Vec<Point> {
    let mut points = Vec::new();
    for (number, counts) in counts.iter().enumerate() {
        let kill = |at| (number, Calls::Changing, Act::Kill(at));
        points.extend((1..=counts.changing).map(kill));
        let tear = |at| (number, Calls::Writes, Act::Tear(at));
        points.extend((1..=counts.writes).filter(|_| CAN_CHANGE).map(tear));
    }
    let most = count(points.len());
    sample(&mut points, most);
    let mut rng = Rng::new(seed);
    points.extend((0..count(1000)).map(|_| {
        let number = rng.below(counts.len());
        let all = usize::try_from(counts[number].all).unwrap();
        let anywhere = Act::Kill(1 + rng.below(all) as u64);
        (number, Calls::All, anywhere)
    }));
    points
}

/// Leaves out points evenly until there are no more than this.
fn sample(points: &mut Vec<Point>, most: usize) {
    if points.len() > most {
        let all = std::mem::take(points);
        let step = all.len() as f64 / most as f64;
        points.extend((0..most).map(|at| all[(at as f64 * step) as usize]));
    }
}

/// Kills at each point, on all processors, and counts what was done.
fn kill_at(victims: &[Victim], points: &[Point]) -> BTreeMap<&'static str, usize> {
    let (next, tally) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut scenes: BTreeMap<usize, Scene<'_>> = BTreeMap::new();
        while let Some((number, calls, act)) = points.get(next.fetch_add(1, Ordering::SeqCst)) {
            let prepare = || Scene::prepare(&victims[*number]);
            let scene = scenes.entry(*number).or_insert_with(prepare);
            let kind = scene.kill(*calls, *act);
            *tally.lock().unwrap().entry(kind).or_insert(0) += 1;
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    tally.into_inner().unwrap()
}

impl<'v> Scene<'v> {
    /// Makes the folder as it is before the program is killed.
    fn prepare(victim: &'v Victim) -> Self {
        let above = place();
        let (work, base) = (above.join("work"), above.join("base"));
        let builder = Process::new(&work, 2);
        let mut bench = Bench::new(work.clone(), world(), Box::new(builder));
        if victim.is_built {
            bench.build().unwrap();
        }
        for step in &victim.steps {
            bench.step(step).unwrap();
        }
        bench.write_buildfile();
        let (world, known) = bench.into_parts();
        fs::rename(&work, &base).unwrap();
        Self {
            victim,
            above,
            world,
            known,
        }
    }

    /// Returns how many calls of each kind there are.
    fn count(&self) -> Counts {
        let count = |calls| self.run(calls, Act::Count).calls;
        Counts {
            changing: count(Calls::Changing),
            writes: count(Calls::Writes),
            all: count(Calls::All),
        }
    }

    /// Runs the victim on a fresh copy of the folder.
    fn run(&self, calls: Calls, act: Act) -> tracer::Traced {
        let work = self.above.join("work");
        let _ = fs::remove_dir_all(&work);
        copy(&self.above.join("base"), &work);
        let mut fbuild = fbuild(&work, &self.world, self.victim.arguments);
        tracer::run(&mut fbuild, calls, act).unwrap()
    }

    /// Kills the victim and looks at what the next runs make of it. Returns what was done.
    fn kill(&self, calls: Calls, act: Act) -> &'static str {
        let traced = self.run(calls, act);
        let work = self.above.join("work");
        let known = self.known.clone();
        let mut bench = Bench::on(
            &work,
            self.world.clone(),
            known,
            Box::new(Process::new(&work, 2)),
        );
        bench.trust(self.victim.leaves);
        let checked = self.check(&mut bench, &work);
        let what = || format!("{}, {calls:?}, {act:?}", self.victim.name);
        checked.unwrap_or_else(|fault| panic!("{}: {fault}", what()));
        match (traced.acted, act) {
            (false, _) => "not reached",
            (_, Act::Tear(_)) => "writes torn",
            _ if calls == Calls::All => "kills at random",
            _ => "kills before a change",
        }
    }

    /// Checks that the next run makes everything right, that the cache is then sound, that
    /// a change is seen, and that nothing lies about after that.
    fn check(&self, bench: &mut Bench, work: &Path) -> Result<(), Fault> {
        bench.build()?;
        if self.victim.leaves == Trust::Either {
            // What was damaged beforehand is not the fault of whoever was killed.
            self.verify(work, &["cache", "verify", "--repair"])?;
        }
        self.verify(work, &["cache", "verify"])?;
        bench.step(&Step::Write {
            path: "src/b.c".to_owned(),
            text: "written afterwards".to_owned(),
            how: How::InPlace,
        })?;
        bench.build()?;
        for folder in ["stage", "tmp", "incoming"] {
            let listed = fs::read_dir(work.join(".build-cache").join(folder));
            let left: Vec<_> = listed.into_iter().flatten().flatten().collect();
            if !left.is_empty() {
                return Err(format!("left in `{folder}`: {left:?}"));
            }
        }
        Ok(())
    }

    fn verify(&self, work: &Path, arguments: &[&str]) -> Result<(), Fault> {
        let mut fbuild = fbuild(work, &self.world, arguments);
        let verified = fbuild.stdout(Stdio::piped()).output().unwrap();
        match verified.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&verified.stdout).into_owned()),
        }
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        // It is in a place for temporary files.
        let _ = fs::remove_dir_all(&self.above);
    }
}

/// Returns a small project with one output of each kind.
fn world() -> World {
    let mut tree = Tree::default();
    for (path, text) in [
        ("src/a.h", "header"),
        ("src/b.c", "source"),
        ("src/c.c", "another source"),
        ("docs/one.md", "one"),
        ("docs/two.md", "two"),
    ] {
        tree.put(path, Node::file(text));
    }
    let output = |what, path: &str| Output {
        what,
        path: path.to_owned(),
        committed: path.starts_with("src"),
        keep: Vec::new(),
    };
    let target = |name: &str, needs: &[&str], patterns: &[&str], outputs: Vec<Output>| Target {
        name: name.to_owned(),
        needs: needs.iter().map(|need| (*need).to_owned()).collect(),
        inputs: vec![Inputs {
            patterns: patterns
                .iter()
                .map(|pattern| (*pattern).to_owned())
                .collect(),
            ..Inputs::default()
        }],
        outputs,
        ..Target::default()
    };
    let project = Project {
        root: None,
        comment: 0,
        targets: vec![
            target(
                "headers",
                &[],
                &["src/a.h"],
                vec![output(What::File, "src/generated.gen.h")],
            ),
            target(
                "lib",
                &["headers"],
                &["src/*.c"],
                vec![
                    output(What::Folder, "gen/lib"),
                    output(What::Glob, "lib/lib-*.g"),
                ],
            ),
            target(
                "program",
                &["lib"],
                &["src/b.c"],
                vec![
                    output(What::Exec, "out/program"),
                    output(What::Link, "out/link"),
                ],
            ),
            target(
                "docs",
                &[],
                &["docs/**"],
                vec![output(What::Folder, "gen/docs")],
            ),
        ],
    };
    World {
        project,
        tree,
        env: BTreeMap::new(),
    }
}

/// Returns the program, to be run in a folder.
#[expect(
    clippy::disallowed_methods,
    reason = "this plays the shell that starts fbuild"
)]
fn fbuild(folder: &Path, world: &World, arguments: &[&str]) -> Command {
    let mut fbuild = Command::new(env!("CARGO_BIN_EXE_fbuild"));
    fbuild.arg("-C").arg(folder).args(arguments);
    fbuild
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .envs(&world.env);
    fbuild
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    fbuild
}

/// Copies a folder and everything in it, times included.
fn copy(from: &Path, to: &Path) {
    #[expect(clippy::disallowed_methods, reason = "this is no part of fbuild")]
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.unwrap().success());
}
