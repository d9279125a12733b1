//! Generates repeated edits of the same files between several runs. Some errors in updating a
//! snapshot show only then.

use crate::model::expected::World;
use crate::model::generate::{any_path, any_target, source_path, text};
use crate::model::step::{Edit, How, Step, Toggle};
use crate::support::rng::Rng;
use crate::support::tree::{Node, child};

/// The steps between two runs.
type Round = Vec<Step>;

/// Generates repeated steps, and whether a build follows each.
pub(crate) fn repeat(rng: &mut Rng, world: &World) -> Vec<(Step, bool)> {
    let turns: Vec<Round> = turns(rng, world);
    let rounds = 3 + rng.below(3);
    // In half of the cases no idle run comes in between.
    let is_bare = rng.percent(50);
    let mut steps = Vec::new();
    for round in turns.iter().cycle().take(rounds) {
        steps.extend(round.iter().map(|step| (step.clone(), false)));
        match steps.last_mut() {
            Some(_) if is_bare => steps.push((Step::Once, false)),
            Some(last) => last.1 = true,
            None => {}
        }
    }
    steps
}

/// Returns the rounds of a cycle: one change, or a change and its inverse.
fn turns(rng: &mut Rng, world: &World) -> Vec<Round> {
    match rng.below(20) {
        0..6 => vec![some(rng, |rng| Step::Remove {
            path: output(rng, world),
        })],
        6..8 => vec![some(rng, |rng| Step::Touch {
            path: any_path(rng, world),
        })],
        8..11 => edits(rng, world),
        11..13 => removals(rng, world),
        13 => renamings(rng, world),
        14..17 => edits_of_the_buildfile(rng, world),
        17 => ["1", "2"].map(|value| vec![variable(value)]).to_vec(),
        18 => vec![vec![Step::Put {
            path: child(&any_path(rng, world), "again"),
            node: Node::file("again"),
        }]],
        _ => {
            let turn = |build| vec![Step::Branch { build }];
            vec![turn(rng.below(4)), turn(rng.below(8))]
        }
    }
}

/// Generates one to three steps.
fn some(rng: &mut Rng, step: impl Fn(&mut Rng) -> Step) -> Round {
    (0..=rng.below(3)).map(|_| step(rng)).collect()
}

fn variable(value: &str) -> Step {
    Step::Env {
        name: "V0".to_owned(),
        value: Some(value.to_owned()),
    }
}

/// Edits a file and undoes the edit.
fn edits(rng: &mut Rng, world: &World) -> Vec<Round> {
    let path = match rng.percent(70) {
        true => source_path(rng, world),
        false => output(rng, world),
    };
    let how = *rng.pick(&[How::InPlace, How::Renamed, How::SameTime]);
    let written = |text: String| {
        let path = path.clone();
        vec![Step::Write { path, text, how }]
    };
    let before = match world.tree.get(&path) {
        Some(Node::File { text, .. }) => text.clone(),
        _ => text(rng),
    };
    vec![written(text(rng)), written(before)]
}

/// Removes a node and restores it.
fn removals(rng: &mut Rng, world: &World) -> Vec<Round> {
    let path = source_path(rng, world);
    let node = world.tree.get(&path).cloned();
    let node = node.unwrap_or_else(|| Node::file("back"));
    vec![
        vec![Step::Remove { path: path.clone() }],
        vec![Step::Put { path, node }],
    ]
}

/// Renames a node and renames it back.
fn renamings(rng: &mut Rng, world: &World) -> Vec<Round> {
    let (from, to) = (source_path(rng, world), source_path(rng, world));
    let back = Step::Rename {
        from: to.clone(),
        to: from.clone(),
    };
    vec![vec![Step::Rename { from, to }], vec![back]]
}

/// Edits the Buildfile and undoes the edit.
fn edits_of_the_buildfile(rng: &mut Rng, world: &World) -> Vec<Round> {
    let target = any_target(rng, &world.project);
    let before = world.project.target(&target);
    let before = before.map(|target| target.salt.clone()).unwrap_or_default();
    let salt = |salt: String| Edit::Salt {
        target: target.clone(),
        salt,
    };
    let edits = match rng.below(4) {
        0 => vec![Edit::Comment],
        1 => vec![Edit::Toggle {
            target: target.clone(),
            what: *rng.pick(&[Toggle::Coarse, Toggle::Shell, Toggle::Committed]),
        }],
        _ => vec![salt("again".to_owned()), salt(before)],
    };
    edits
        .into_iter()
        .map(|edit| vec![Step::Edit(edit)])
        .collect()
}

/// Returns the path of an output, or a parent of one.
fn output(rng: &mut Rng, world: &World) -> String {
    let is_made = |path: &str| {
        let is_in = |folder: &&str| path.starts_with(*folder);
        ["out/", "gen/", "lib/"].iter().any(is_in) || path.contains(".gen.")
    };
    let made = world.tree.all().map(|(path, _)| path);
    let made: Vec<&str> = made.filter(|path| is_made(path)).collect();
    match made.is_empty() || rng.percent(10) {
        true => (*rng.pick(&["out", "gen", "lib"])).to_owned(),
        false => (*rng.pick(&made)).to_owned(),
    }
}
