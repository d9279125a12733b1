//! T5: the power fails under a real file system. An ext4 image is copied while builds write
//! to it, which is what a disk has at that moment; the copy is mounted, its journal played
//! back, and the next build made in it. And what it costs that results survive that.

use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use fbuild::action::{ActionKey, ActionResult};
use fbuild::digest::Digest;
use fbuild::store::Store as _;
use fbuild::store::disk::{Damage, Disk, Durability};
use fbuild::workspace::FILE_NAME;

use crate::crash::fixture::{RUN, fbuild, world};
use crate::model::cached::{Known, Trust};
use crate::model::comparison::{Bench, Fault};
use crate::model::expected::World;
use crate::model::process::{Process, mix};
use crate::support::image::Image;
use crate::support::rng::Rng;
use crate::support::scale::{Suite, count};
use crate::support::tree;

#[test]
fn t5_after_a_power_cut_of_a_real_disk_results_are_right_or_missing() {
    let suite = Suite::begin("T5");
    let mut rng = Rng::new(suite.seed);
    let images = count(12);
    let (mut builds, mut results, mut damaged, mut smeared) = (0, 0, 0, 0);
    for number in 0..images {
        // ext4 writes what it knows every second here, and every five where nobody asks.
        let image = match Image::mounted(&[], "commit=1") {
            Ok(image) => image,
            Err(why) => return suite.skip("power cuts of a real disk", &why),
        };
        let delay = Duration::from_millis(100 + rng.below(2400) as u64);
        let done = cut(&image, delay).and_then(|(done, (copy, thrown_away))| {
            builds += done;
            smeared += thrown_away;
            look(&copy)
        });
        let found = done.unwrap_or_else(|fault| panic!("image {number}, {delay:?}: {fault}"));
        results += found.0;
        damaged += found.1;
    }
    suite.say(&format!(
        "{images} images of ext4 cut off during {builds} builds: {results} results there, 0 of \
         them without their blobs, {damaged} objects of no result damaged; 0 wrong bytes; \
         {smeared} copies thrown away that were not of one moment"
    ));
}

/// Builds again and again for a while, then cuts the power. Returns how many builds there
/// were and what the disk has then.
fn cut(image: &Image, delay: Duration) -> Result<(usize, (Image, usize)), Fault> {
    let (work, world) = (image.path().join("work"), world());
    write_sources(&work, &world);
    rustix::fs::sync();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let building = threads.spawn(|| {
            let mut builds = 0;
            while !is_over.load(Ordering::SeqCst) {
                let header = tree::Node::file(format!("number {builds}"));
                tree::write(&work.join("src/a.h"), &header).unwrap();
                let status = fbuild(&work, &world, RUN).status().unwrap();
                assert!(status.success(), "build {builds} failed: {status}");
                builds += 1;
            }
            builds
        });
        // Nobody sends anything: time has to pass, because the system writes by the clock.
        let (_send, never) = channel::<()>();
        let _ = never.recv_timeout(delay);
        let copy = image.copy();
        is_over.store(true, Ordering::SeqCst);
        let builds = building.join().unwrap();
        Ok((builds, copy?))
    })
}

fn write_sources(work: &Path, world: &World) {
    for (path, node) in world.tree.all() {
        tree::write(&work.join(path), node).unwrap();
    }
    let text = world.project.text(mix().to_str());
    std::fs::write(work.join(FILE_NAME), text).unwrap();
}

/// Looks at what a disk has after a power cut: returns how many results, and how many
/// damaged objects that no result needs.
fn look(copy: &Image) -> Result<(usize, usize), Fault> {
    let work = copy.path().join("work");
    let store = Disk::open(&work.join(".build-cache"), Durability::Batched);
    let found = store.verify(false).unwrap();
    let is_incomplete = |damage: &Damage| matches!(damage, Damage::Incomplete(_));
    if found
        .damaged
        .iter()
        .any(|damaged| is_incomplete(&damaged.damage))
    {
        return Err(format!("results lack blobs: {:?}", found.damaged));
    }
    // Sources that nobody waited for are lost as well, and are not fbuild's.
    write_sources(&work, &world());
    let builder = Process::new(&work, 2);
    let mut bench = Bench::on(&work, world(), Known::default(), Box::new(builder));
    bench.trust(Trust::Either);
    bench.build()?;
    let mut verify = fbuild(&work, &world(), &["cache", "verify", "--repair"]);
    let verified = verify.stdout(Stdio::null()).status().unwrap();
    match verified.success() {
        true => Ok((found.read.results, found.damaged.len())),
        false => Err("it does not heal".to_owned()),
    }
}

#[test]
fn t5_what_it_costs_that_results_survive_a_power_cut() {
    let suite = Suite::begin("T5");
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..count(20).max(5) {
        for (durability, times) in [Durability::Batched, Durability::None]
            .iter()
            .zip(&mut times)
        {
            times.push(store_some(*durability, round));
        }
    }
    let [batched, none] = times.map(|mut times| {
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1000.0
    });
    suite.say(&format!(
        "100 results with 500 blobs of 4 KiB, stored on the disk for temporary files: \
         {batched:.1} ms in a batch that is waited for, {none:.1} ms without waiting (medians)"
    ));
}

/// Stores results in a new store, and returns how long that took.
fn store_some(durability: Durability, round: usize) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let store = Disk::open(folder.path(), durability);
    let started = Instant::now();
    let batch = (0..100).map(|number| {
        let blobs = (0..5).map(|blob| {
            let mut bytes = format!("{round} {number} {blob}").into_bytes();
            bytes.resize(4096, b'.');
            store.write(&mut bytes.as_slice()).unwrap()
        });
        let blobs: Vec<Digest> = blobs.collect();
        let key = ActionKey(Digest::of(format!("{round} {number}").as_bytes()));
        let result = ActionResult {
            outputs: Vec::new(),
            log: Some(blobs[0]),
            manifest: blobs[1],
            duration_ms: 1,
        };
        (key, result)
    });
    let batch: Vec<_> = batch.collect();
    store.record(&batch).unwrap();
    let took = started.elapsed();
    assert!(store.result(batch[0].0).unwrap().is_some());
    took
}
