//! The fixture of the crash suites: a small project with one output of each kind, and runs of
//! the real program that change many files. Each suite decides how they are interrupted.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::model::comparison::{Comparison, Fault};
use crate::model::expected::World;
use crate::model::history::place;
use crate::model::process::Process;
use crate::model::project::{Inputs, Output, Project, Target, What};
use crate::model::step::{Edit, Forgotten, Harm, How, Step};
use crate::model::store_model::{StoreModel, Trust};
use crate::support::tree::{Node, Tree};
use crate::support::user;

/// A run to interrupt: its name, the steps before it, and its arguments.
pub(crate) struct Victim {
    pub(crate) name: &'static str,
    /// Whether everything is built first.
    is_built: bool,
    steps: Vec<Step>,
    pub(crate) arguments: &'static [&'static str],
    /// How the store may differ from its model after the interruption.
    pub(crate) leaves: Trust,
}

/// The arguments of a complete run.
pub(crate) const RUN: &[&str] = &[
    "run", "--json", "-j", "2", "headers", "lib", "program", "docs",
];

/// Returns a run of each kind.
pub(crate) fn victims() -> Vec<Victim> {
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
            &["cache", "gc", "--max-size", "1 B"],
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

/// The folders of one thread: the prepared project, and a copy in which the run is interrupted.
pub(crate) struct Fixture<'v> {
    pub(crate) victim: &'v Victim,
    pub(crate) above: PathBuf,
    pub(crate) world: World,
    pub(crate) store: StoreModel,
}

/// The records of the outputs that an earlier run has left.
#[derive(Clone, Copy)]
pub(crate) enum Left {
    /// The earlier run has recorded that it made them.
    Recorded,
    /// It could not, and has said so: they count as files of the user.
    Unrecorded,
}

impl<'v> Fixture<'v> {
    /// Creates the project as it is before the run.
    pub(crate) fn prepare(victim: &'v Victim) -> Self {
        let above = place();
        let (work, base) = (above.join("work"), above.join("base"));
        let builder = Process::new(&work, 2);
        let mut comparison = Comparison::new(work.clone(), world(), Box::new(builder));
        if victim.is_built {
            comparison.build().unwrap();
        }
        for step in &victim.steps {
            comparison.step(step).unwrap();
        }
        comparison.write_buildfile();
        let (world, store) = comparison.into_parts();
        fs::rename(&work, &base).unwrap();
        Self {
            victim,
            above,
            world,
            store,
        }
    }

    /// Copies the prepared folder again and returns the path of the copy.
    pub(crate) fn fresh(&self) -> PathBuf {
        let work = self.work();
        let _ = fs::remove_dir_all(&work);
        copy(&self.above.join("base"), &work);
        work
    }

    /// Returns the path of the copy.
    pub(crate) fn work(&self) -> PathBuf {
        self.above.join("work")
    }

    /// Returns the program with the arguments of the run.
    pub(crate) fn command(&self, work: &Path) -> Command {
        fbuild(work, &self.world, self.victim.arguments)
    }

    /// Returns a comparison on a folder in which the run was interrupted.
    fn comparison(&self, work: &Path, left: Left) -> Comparison {
        let builder = match left {
            Left::Recorded => Process::new(work, 2),
            Left::Unrecorded => Process::new(work, 2).replacing(),
        };
        let (world, store) = (self.world.clone(), self.store.clone());
        Comparison::on(work, world, store, Box::new(builder))
    }

    /// Checks a folder in which the run was interrupted: the next run produces correct outputs,
    /// the store is sound afterwards, a change is detected, and no temporary files remain.
    /// `leaves` is how the store may differ from its model.
    pub(crate) fn check(&self, work: &Path, leaves: Trust) -> Result<(), Fault> {
        self.check_after(work, leaves, Left::Recorded)
    }

    /// The same, after a run that has `left` outputs.
    pub(crate) fn check_after(&self, work: &Path, leaves: Trust, left: Left) -> Result<(), Fault> {
        let mut comparison = self.comparison(work, left);
        comparison.trust(leaves);
        comparison.build()?;
        if leaves == Trust::Either {
            // Objects that no run has read yet may be damaged.
            self.verify(work, &["cache", "verify", "--repair"])?;
        }
        self.verify(work, &["cache", "verify"])?;
        comparison.step(&Step::Write {
            path: "src/b.c".to_owned(),
            text: "written afterwards".to_owned(),
            how: How::InPlace,
        })?;
        comparison.build()?;
        for folder in ["stage", "tmp", "incoming"] {
            let listed = fs::read_dir(work.join(".build-cache").join(folder));
            let mut left: Vec<_> = listed.into_iter().flatten().flatten().collect();
            // A collection removes it once it is old.
            left.retain(|entry| !entry.file_name().to_string_lossy().starts_with("version-"));
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

impl Drop for Fixture<'_> {
    fn drop(&mut self) {
        // Ignore the error: the folder is temporary.
        let _ = fs::remove_dir_all(&self.above);
    }
}

/// Returns a small project with one output of each kind.
pub(crate) fn world() -> World {
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
pub(crate) fn fbuild(folder: &Path, world: &World, arguments: &[&str]) -> Command {
    let mut fbuild = Command::new(env!("CARGO_BIN_EXE_fbuild"));
    fbuild.arg("-C").arg(folder).args(arguments);
    fbuild
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("FBUILD_CACHE_KEY", user::SECRET)
        .envs(&world.env);
    fbuild
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    fbuild
}

/// Checks that a folder contains every expected file and link.
pub(crate) fn check_outputs(folder: &Path, expected: &Tree) -> Result<(), Fault> {
    let found = Tree::read(folder);
    for (path, node) in expected.all() {
        if *node != Node::Folder && found.get(path) != Some(node) {
            return Err(format!("{path} is {:?}, not {node:?}", found.get(path)));
        }
    }
    Ok(())
}

/// Copies a folder recursively, with times.
pub(crate) fn copy(from: &Path, to: &Path) {
    #[expect(clippy::disallowed_methods, reason = "this is no part of fbuild")]
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.unwrap().success());
}
