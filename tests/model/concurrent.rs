//! T7: many builds at once, in one checkout, in many checkouts with one cache, and with
//! collections among them: all end, all are right, and nobody does in a checkout what was
//! done there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use fbuild::workspace::FILE_NAME;

use crate::crash::fixture::{RUN, check_outputs, fbuild, world};
use crate::model::comparison::Fault;
use crate::model::expected::World;
use crate::model::history::place;
use crate::model::process::{mix, report};
use crate::model::step::{How, Step};
use crate::support::scale::{Suite, count};
use crate::support::tree;

/// How many run at once.
const CROWD: usize = 32;
/// A round that takes longer than this (seconds) hangs.
const PATIENCE: u64 = 120;

/// Who is in the crowd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    OneCheckout,
    OneStore,
    /// Half of them collect, again and again.
    Collections,
}

#[test]
fn t7_a_crowd_of_builds_is_right_and_ends() {
    let suite = Suite::begin("T7");
    let rounds = count(20);
    let (mut runs, mut executed, mut collections) = (0, 0, 0);
    for layout in [Layout::OneCheckout, Layout::OneStore, Layout::Collections] {
        let mut crowd = Crowd::new(layout);
        for round in 0..rounds {
            let done = crowd.round(round);
            let what = || format!("{layout:?}, round {round}");
            let done = done.unwrap_or_else(|fault| panic!("{}: {fault}", what()));
            runs += done.runs;
            executed += done.executed;
            collections += done.collections;
        }
    }
    suite.say(&format!(
        "3 layouts, {rounds} rounds of {CROWD} at once: {runs} runs, {executed} targets ran, \
         {collections} collections; 0 wrong, 0 hung, none ran twice in a checkout"
    ));
}

/// A checkout, and who counts what runs in it.
struct Checkout {
    folder: PathBuf,
    control: PathBuf,
}

struct Crowd {
    above: PathBuf,
    layout: Layout,
    world: World,
    checkouts: Vec<Checkout>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Done {
    runs: usize,
    executed: usize,
    collections: usize,
}

/// Somebody has ended: who, and what of.
type Ended = (usize, Output);

impl Crowd {
    fn new(layout: Layout) -> Self {
        let (above, world) = (place(), world());
        let checkouts = match layout {
            Layout::OneCheckout => 1,
            _ => CROWD,
        };
        let checkouts = (0..checkouts).map(|number| Checkout::new(&above, number, &world));
        Self {
            checkouts: checkouts.collect(),
            above,
            layout,
            world,
        }
    }

    /// Changes a source, lets all run at once, and looks at what they made.
    fn round(&mut self, round: usize) -> Result<Done, Fault> {
        let step = Step::Write {
            path: "src/a.h".to_owned(),
            text: format!("round {round}"),
            how: How::InPlace,
        };
        self.world.apply(&step);
        for checkout in &self.checkouts {
            let header = self.world.tree.get("src/a.h").unwrap();
            tree::write(&checkout.folder.join("src/a.h"), header).unwrap();
        }
        let mut done = self.run_all()?;
        let expected = self.world.expect();
        for checkout in self.builders() {
            check_outputs(&checkout.folder, &expected.tree)?;
            done.executed += checkout.executed()?;
        }
        self.world.tree = expected.tree;
        let last = self.builders().last().unwrap();
        let idle = last.command(&self.world, RUN).output().unwrap();
        match (report(&idle).exit, last.executed()?) {
            (0, 0) => Ok(done),
            other => Err(format!("there was something left to do: {other:?}")),
        }
    }

    /// Returns the checkouts in which builds run.
    fn builders(&self) -> impl Iterator<Item = &Checkout> {
        let step = match self.layout {
            Layout::Collections => 2,
            _ => 1,
        };
        self.checkouts.iter().step_by(step)
    }

    fn run_all(&self) -> Result<Done, Fault> {
        let (send, ended) = channel();
        let barrier = Arc::new(Barrier::new(CROWD));
        let builders = match self.layout {
            Layout::Collections => CROWD / 2,
            _ => CROWD,
        };
        let building = Arc::new(AtomicUsize::new(builders));
        for number in 0..CROWD {
            let checkout = &self.checkouts[number % self.checkouts.len()];
            let collects = self.layout == Layout::Collections && number % 2 == 1;
            let arguments: &[&str] = match collects {
                true => &["cache", "gc", "--max-size", "1 B"],
                false => RUN,
            };
            let mut fbuild = checkout.command(&self.world, arguments);
            let (send, barrier): (Sender<Ended>, _) = (send.clone(), barrier.clone());
            let building = building.clone();
            std::thread::spawn(move || {
                barrier.wait();
                loop {
                    let output = fbuild.output().unwrap();
                    let is_over = !collects || building.load(Ordering::SeqCst) == 0;
                    // Nobody listens any more if something went wrong elsewhere.
                    let _ = send.send((number, output));
                    if is_over {
                        break;
                    }
                }
                if !collects {
                    building.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
        drop(send);
        self.wait(&ended)
    }

    /// Waits until all have ended, and looks at how.
    fn wait(&self, ended: &Receiver<Ended>) -> Result<Done, Fault> {
        let mut done = Done::default();
        loop {
            let patience = Duration::from_secs(PATIENCE);
            let (number, output) = match ended.recv_timeout(patience) {
                Ok(ended) => ended,
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return Ok(done),
                Err(_) => return Err(format!("some hang, {} have ended", done.runs)),
            };
            let collects = self.layout == Layout::Collections && number % 2 == 1;
            done.runs += usize::from(!collects);
            done.collections += usize::from(collects);
            if !output.status.success() {
                let report = report(&output);
                return Err(format!("number {number} failed: {report:?}"));
            }
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // It is in a place for temporary files.
        let _ = fs::remove_dir_all(&self.above);
    }
}

impl Checkout {
    fn new(above: &Path, number: usize, world: &World) -> Self {
        let folder = above.join(format!("checkout-{number}"));
        let control = above.join(format!("control-{number}"));
        fs::create_dir_all(&control).unwrap();
        for (path, node) in world.tree.all() {
            tree::write(&folder.join(path), node).unwrap();
        }
        let text = world.project.text(mix().to_str());
        let text = format!("cache dir=\"../shared\"\n{text}");
        fs::write(folder.join(FILE_NAME), text).unwrap();
        Self { folder, control }
    }

    fn command(&self, world: &World, arguments: &[&str]) -> std::process::Command {
        let mut fbuild = fbuild(&self.folder, world, arguments);
        fbuild.env("MIX_CONTROL", &self.control);
        fbuild.stdout(Stdio::piped()).stderr(Stdio::piped());
        fbuild
    }

    /// Returns how many targets ran here since the last call; no target may twice.
    fn executed(&self) -> Result<usize, Fault> {
        let journal = self.control.join("journal");
        let text = fs::read_to_string(&journal).unwrap_or_default();
        let _ = fs::remove_file(journal);
        let mut times = BTreeMap::new();
        for name in text.lines() {
            *times.entry(name).or_insert(0) += 1;
        }
        match times.iter().find(|(_, times)| **times > 1) {
            Some((name, times)) => Err(format!("{name} ran {times} times in one checkout")),
            None => Ok(times.len()),
        }
    }
}
