//! Suite T7: many concurrent builds in one checkout, in many checkouts with one store, and with
//! concurrent collections. All of them end with correct outputs, and no checkout repeats work.

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

/// The number of concurrent processes.
const PROCESSES: usize = 32;
/// The timeout of a round in seconds.
const TIMEOUT: u64 = 120;

/// The processes of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    OneCheckout,
    OneStore,
    /// Half of them collect garbage in a loop.
    Collections,
}

#[test]
fn t7_concurrent_builds_end_with_correct_outputs() {
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
    suite.report(&format!(
        "{rounds} rounds of {PROCESSES} at once in 3 layouts: {runs} runs, {executed} targets \
         executed, {collections} collections, 0 wrong, 0 hung, 0 executed twice in a checkout"
    ));
}

/// A checkout and the counter of its commands.
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

/// The number of a checkout and the output of its process.
type Ended = (usize, Output);

impl Crowd {
    fn new(layout: Layout) -> Self {
        let (above, world) = (place(), world());
        let checkouts = match layout {
            Layout::OneCheckout => 1,
            _ => PROCESSES,
        };
        let checkouts = (0..checkouts).map(|number| Checkout::new(&above, number, &world));
        Self {
            checkouts: checkouts.collect(),
            above,
            layout,
            world,
        }
    }

    /// Changes a source, runs all builds at once, and checks their outputs.
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

    /// Returns the checkouts that build.
    fn builders(&self) -> impl Iterator<Item = &Checkout> {
        let step = match self.layout {
            Layout::Collections => 2,
            _ => 1,
        };
        self.checkouts.iter().step_by(step)
    }

    fn run_all(&self) -> Result<Done, Fault> {
        let (send, ended) = channel();
        let barrier = Arc::new(Barrier::new(PROCESSES));
        let builders = match self.layout {
            Layout::Collections => PROCESSES / 2,
            _ => PROCESSES,
        };
        let building = Arc::new(AtomicUsize::new(builders));
        for number in 0..PROCESSES {
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
                    // The receiver is gone if another checkout failed.
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

    /// Waits for all processes and checks their results.
    fn wait(&self, ended: &Receiver<Ended>) -> Result<Done, Fault> {
        let mut done = Done::default();
        loop {
            let patience = Duration::from_secs(TIMEOUT);
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
        // Ignore the error: the folder is temporary.
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

    /// Returns the number of targets that ran here since the last call; each may run once.
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
