//! Generates random projects and steps. Follows the model, so that most steps are meaningful and
//! some are not.

use crate::model::comparison::is_valid;
use crate::model::expected::World;
use crate::model::project::{Inputs, Output, Project, Target, Value, What};
use crate::model::step::{Edit, Forgotten, Harm, How, Preview, Step, Toggle, Written};
use crate::support::rng::Rng;
use crate::support::tree::{Node, child, parent};

const FOLDERS: [&str; 5] = ["src/d0", "src/d1", "src/d1/n", "src/d 2", "src/.d3"];
const NAMES: [&str; 10] = [
    "a.c", "b.c", "c d.c", "-e.c", "ü.h", ".hid.c", "n.txt", "[x].c", "z.tmp", "k.h",
];
/// A folder to which links lead. No target makes a file in it: a command that reads one through
/// a link would not say that it needs that target.
const LINKED: &str = "../linked";
const VARIABLES: [&str; 4] = ["V0", "V1", "V2", "V3"];

/// Generates a project and its files.
pub(crate) fn world(rng: &mut Rng) -> World {
    let mut world = World::default();
    for folder in FOLDERS.into_iter().chain(["src/linked"]) {
        for _ in 0..=rng.below(3) {
            let path = child(folder, pick(rng, &NAMES));
            match node(rng) {
                Node::File { text, .. } if ["FAIL", "SKIP"].contains(&text.as_str()) => {}
                node => world.tree.put(&path, node),
            }
        }
    }
    for name in &VARIABLES[..2] {
        world.env.insert((*name).to_owned(), value(rng));
    }
    world.project.root = rng.percent(20).then(|| "below it".to_owned());
    let count = match rng.below(100) {
        0..70 => 2 + rng.below(5),
        70..95 => 7 + rng.below(8),
        _ => 15 + rng.below(26),
    };
    add_targets(rng, &mut world, 0, count);
    if world.project.targets.is_empty() {
        world.project.targets.push(Target {
            name: "only".to_owned(),
            ..Target::default()
        });
    }
    world
}

/// Adds `count` targets. If some of them are invalid, adds each half separately, down to a
/// single target, which is left out.
fn add_targets(rng: &mut Rng, world: &mut World, first: usize, count: usize) {
    let before = world.project.targets.len();
    for number in first..first + count {
        let target = target(rng, world, number);
        world.project.targets.push(target);
    }
    if is_valid(&world.project.text(None)) {
        return;
    }
    world.project.targets.truncate(before);
    if count > 1 {
        let half = count / 2;
        add_targets(rng, world, first, half);
        add_targets(rng, world, first + half, count - half);
    }
}

fn target(rng: &mut Rng, world: &World, number: usize) -> Target {
    let names: Vec<&String> = world
        .project
        .targets
        .iter()
        .map(|target| &target.name)
        .collect();
    let some = |rng: &mut Rng, percent| -> Vec<String> {
        let recent = names.iter().rev().take(5);
        recent
            .filter(|_| rng.percent(percent))
            .map(|name| (*name).clone())
            .collect()
    };
    let (needs, after) = (some(rng, 25), some(rng, 5));
    let name = match rng.below(10) {
        0 => format!("gen-{number}"),
        1 => format!("t.{number}"),
        _ => format!("t{number}"),
    };
    let mut target = Target {
        inputs: (0..=rng.below(2))
            .map(|_| inputs(rng, world, &needs))
            .collect(),
        outputs: outputs(rng, &name),
        env: env(rng),
        salt: format!("{}", rng.below(10)),
        coarse: rng.percent(15),
        shell: rng.percent(10),
        indoors: rng.percent(10),
        uncached: rng.percent(3),
        needs,
        after,
        name,
    };
    target.after.retain(|name| !target.needs.contains(name));
    target
}

fn inputs(rng: &mut Rng, world: &World, needs: &[String]) -> Inputs {
    let mut inputs = Inputs {
        optional: rng.percent(90),
        ..Inputs::default()
    };
    for _ in 0..=rng.below(3) {
        let folder = rng.pick(&FOLDERS);
        let pattern = match rng.below(12) {
            0..4 => source_path(rng, world).replace('[', "\\["),
            4 => format!("{folder}/"),
            5 | 6 => format!("{folder}/*.c"),
            7 => "src/**/*.h".to_owned(),
            8 => "src/*/a.c".to_owned(),
            9 => "src/**".to_owned(),
            _ => {
                let made = needs.iter().filter_map(|name| world.project.target(name));
                let made: Vec<&Output> = made.flat_map(|target| &target.outputs).collect();
                match made.as_slice() {
                    [] => format!("{folder}/**/?.c"),
                    made => match rng.pick(made) {
                        Output {
                            what: What::Folder,
                            path,
                            ..
                        } => format!("{path}/**"),
                        Output { path, .. } => path.clone(),
                    },
                }
            }
        };
        if !inputs.patterns.contains(&pattern) {
            inputs.patterns.push(pattern);
        }
    }
    // Without an edge, a run refuses to read what another target produces.
    inputs.except.push("**/*.gen*".to_owned());
    if rng.percent(20) {
        inputs.except.push("**/*.tmp".to_owned());
    }
    if rng.percent(10) {
        inputs.except.push(format!("{}/**", rng.pick(&FOLDERS)));
    }
    inputs
}

fn outputs(rng: &mut Rng, name: &str) -> Vec<Output> {
    let mut outputs: Vec<Output> = Vec::new();
    for _ in 0..rng.below(4) {
        let folder = rng.pick(&FOLDERS);
        let (what, path, committed) = match rng.below(9) {
            0 | 1 => (What::File, format!("out/{name}.o"), false),
            2 => (What::Exec, format!("out/bin/{name}"), false),
            3 => (What::Link, format!("out/{name}.ln"), false),
            4 | 5 => (What::Folder, format!("gen/{name}"), rng.percent(20)),
            6 => (What::Glob, format!("lib/{name}-*.g"), false),
            7 => (What::File, format!("{folder}/{name}.gen.h"), true),
            _ => (What::Glob, format!("{folder}/{name}_*.gen.c"), true),
        };
        let mut keep = Vec::new();
        if what == What::Folder {
            keep = ["kept.txt", "kept/**", "**/*.keep"]
                .map(str::to_owned)
                .to_vec();
            keep.retain(|_| rng.percent(30));
        }
        if outputs.iter().all(|output| output.path != path) {
            outputs.push(Output {
                what,
                path,
                committed,
                keep,
            });
        }
    }
    outputs
}

fn env(rng: &mut Rng) -> Vec<(String, Value)> {
    let mut env = Vec::new();
    for name in VARIABLES {
        if rng.percent(15) {
            let value = match rng.below(3) {
                0 => Value::Inherit,
                1 => Value::Set(value(rng)),
                _ => Value::Default(value(rng)),
            };
            env.push((name.to_owned(), value));
        }
    }
    env
}

fn value(rng: &mut Rng) -> String {
    (*rng.pick(&["", "1", "two words", "--x=y", "\"q\""])).to_owned()
}

pub(crate) fn text(rng: &mut Rng) -> String {
    match rng.below(120) {
        0 => "FAIL".to_owned(),
        1 => "SKIP".to_owned(),
        2 => String::new(),
        3 => "long ".repeat(1 + rng.below(300)),
        _ => format!("text {:04}", rng.below(10_000)),
    }
}

fn node(rng: &mut Rng) -> Node {
    match rng.below(20) {
        0 => Node::Link((*rng.pick(&["a.c", "../d0/a.c", "nothing", LINKED, "."])).to_owned()),
        n => Node::File {
            text: text(rng),
            exec: n == 1,
        },
    }
}

/// Generates a step.
pub(crate) fn step(rng: &mut Rng, world: &World) -> Step {
    match rng.below(100) {
        0..26 => write(rng, world),
        26..30 => Step::Touch {
            path: any_path(rng, world),
        },
        30..38 => Step::Remove {
            path: any_path(rng, world),
        },
        38..42 => Step::Rename {
            from: any_path(rng, world),
            to: source_path(rng, world),
        },
        42..47 => Step::Chmod {
            path: any_path(rng, world),
            exec: rng.percent(50),
        },
        47..54 => put(rng, world),
        54..59 => Step::Env {
            name: (*rng.pick(&VARIABLES)).to_owned(),
            value: rng.percent(70).then(|| value(rng)),
        },
        59..75 => Step::Edit(edit(rng, world)),
        75..80 => Step::Branch {
            build: rng.below(30),
        },
        80..84 => Step::Forget(match rng.below(8) {
            0 => Forgotten::All,
            1 | 2 => Forgotten::Index,
            3 | 4 => Forgotten::State,
            5 | 6 => Forgotten::Graph,
            _ => Forgotten::Metadata,
        }),
        84..88 => Step::Harm {
            how: *rng.pick(&[Harm::Remove, Harm::Flip, Harm::Cut]),
            pick: rng.next() >> 16,
        },
        88..91 => Step::Preview(*rng.pick(&[Preview::DryRun, Preview::Status, Preview::Explain])),
        91..98 => disturb(rng, world),
        _ => Step::Stop {
            target: any_target(rng, &world.project),
            salt: format!("stop {}", rng.next()),
        },
    }
}

fn write(rng: &mut Rng, world: &World) -> Step {
    Step::Write {
        path: match rng.percent(70) {
            true => source_path(rng, world),
            false => any_path(rng, world),
        },
        text: text(rng),
        how: *rng.pick(&[How::InPlace, How::Renamed, How::SameTime]),
    }
}

fn put(rng: &mut Rng, world: &World) -> Step {
    let path = match rng.below(20) {
        // A path next to an output, or one of its parents.
        0 => (*rng.pick(&["out", "gen", "lib", "src/d0", "src/d1"])).to_owned(),
        _ => any_path(rng, world),
    };
    let (path, node) = match rng.below(4) {
        0 => (path, Node::Folder),
        1 => (child(&path, "inside"), node(rng)),
        _ => (path, node(rng)),
    };
    // A link to the root would make inputs of the Buildfile and of all outputs.
    match path == "src" && node == Node::Link(".".to_owned()) {
        true => Step::Remove { path },
        false => Step::Put { path, node },
    }
}

fn disturb(rng: &mut Rng, world: &World) -> Step {
    let target = any_target(rng, &world.project);
    let written = |rng: &mut Rng| -> Vec<Written> {
        let count = rng.below(3);
        (0..count)
            .map(|_| (source_path(rng, world), text(rng)))
            .collect()
    };
    let before = written(rng);
    let mut after = written(rng);
    if rng.percent(50) {
        // The write is undone before fbuild checks the file.
        let contents = before
            .iter()
            .filter_map(|(path, _)| match world.tree.get(path) {
                Some(Node::File { text, .. }) => Some((path.clone(), text.clone())),
                _ => None,
            });
        after = contents.collect();
    }
    let salt = format!("disturbed {}", rng.next());
    Step::Disturb {
        target,
        salt,
        before,
        after,
    }
}

fn edit(rng: &mut Rng, world: &World) -> Edit {
    let target = any_target(rng, &world.project);
    let needs = world
        .project
        .target(&target)
        .map(|target| target.needs.clone());
    match rng.below(20) {
        0..4 => Edit::Salt {
            target,
            salt: format!("{}", rng.below(10)),
        },
        4..6 => Edit::Env {
            target,
            env: env(rng),
        },
        6..9 => {
            let inputs = inputs(rng, world, &needs.unwrap_or_default());
            Edit::Inputs {
                target,
                inputs: vec![inputs],
            }
        }
        9..11 => Edit::Outputs {
            outputs: outputs(rng, &target),
            target,
        },
        11 => {
            let needs = (0..rng.below(3)).map(|_| any_target(rng, &world.project));
            let mut needs: Vec<String> = needs.filter(|name| *name != target).collect();
            needs.dedup();
            Edit::Needs { target, needs }
        }
        12 | 13 => Edit::Toggle {
            target,
            what: *rng.pick(&[
                Toggle::Coarse,
                Toggle::Shell,
                Toggle::Indoors,
                Toggle::Uncached,
                Toggle::Committed,
            ]),
        },
        14 | 15 => {
            let number = 100 + rng.below(1000);
            Edit::Add(self::target(rng, world, number))
        }
        16 => Edit::Drop { target },
        17 | 18 => Edit::Reorder {
            by: 1 + rng.below(5),
        },
        _ => Edit::Comment,
    }
}

fn pick(rng: &mut Rng, names: &[&'static str]) -> &'static str {
    names[rng.below(names.len())]
}

pub(crate) fn any_target(rng: &mut Rng, project: &Project) -> String {
    rng.pick(&project.targets).name.clone()
}

/// Returns the path of a source, existing or not.
pub(crate) fn source_path(rng: &mut Rng, world: &World) -> String {
    let is_leaf = |(path, node): &(&str, &Node)| path.starts_with("src/") && **node != Node::Folder;
    let sources: Vec<&str> = world
        .tree
        .all()
        .filter(is_leaf)
        .map(|(path, _)| path)
        .collect();
    match rng.percent(75) && !sources.is_empty() {
        true => (*rng.pick(&sources)).to_owned(),
        false => child(pick(rng, &FOLDERS), pick(rng, &NAMES)),
    }
}

/// Returns any path or a sibling of one. Never a path in an empty folder of a command's output:
/// a kept file there would not show which process created the folder.
pub(crate) fn any_path(rng: &mut Rng, world: &World) -> String {
    let path = some_path(rng, world);
    match path.contains("/e/") {
        true => source_path(rng, world),
        false => path,
    }
}

fn some_path(rng: &mut Rng, world: &World) -> String {
    let paths: Vec<&str> = world.tree.all().map(|(path, _)| path).collect();
    let Some(path) = (!paths.is_empty()).then(|| *rng.pick(&paths)) else {
        return source_path(rng, world);
    };
    let names = [
        "stray", "kept.txt", "kept/x", "y.keep", "s", "f0", "s/z.keep", "l",
    ];
    match rng.below(10) {
        0..2 => child(parent(path).unwrap_or("src"), pick(rng, &names)),
        2 => source_path(rng, world),
        _ => path.to_owned(),
    }
}
