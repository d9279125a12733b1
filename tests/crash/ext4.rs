//! Suite T5: power cuts of a real file system. An ext4 image is copied while builds write to it,
//! as the disk has it at that moment; the copy is mounted, its journal is replayed, and the next
//! build runs in it. Also measures the cost of durability.

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
use crate::model::comparison::{Comparison, Fault};
use crate::model::expected::World;
use crate::model::process::{Process, mix};
use crate::model::store_model::{StoreModel, Trust};
use crate::support::image::Image;
use crate::support::rng::Rng;
use crate::support::scale::{Suite, count};
use crate::support::tree;
use crate::support::user;

#[test]
fn t5_ext4_power_cut_leaves_results_right_or_missing() {
    let suite = Suite::begin("T5");
    let mut rng = Rng::new(suite.seed);
    let images = count(12);
    let (mut builds, mut results, mut damaged, mut discarded) = (0, 0, 0, 0);
    for number in 0..images {
        // ext4 commits every second here, by default only every five.
        let image = match Image::mounted(&[], "commit=1") {
            Ok(image) => image,
            Err(why) => return suite.skip("power cuts of a real disk", &why),
        };
        let delay = Duration::from_millis(100 + rng.below(2400) as u64);
        let done = cut(&image, delay).and_then(|(done, (copy, copies))| {
            builds += done;
            discarded += copies;
            examine(&copy)
        });
        let found = done.unwrap_or_else(|fault| panic!("image {number}, {delay:?}: {fault}"));
        results += found.0;
        damaged += found.1;
    }
    suite.report(&format!(
        "{images} images of ext4 cut off during {builds} builds: {results} results present, 0 of \
         them without their blobs, 0 wrong bytes; {damaged} damaged objects without a result went \
         to quarantine; {discarded} inconsistent copies discarded"
    ));
}

/// Builds repeatedly for a while, then cuts the power. Returns the number of builds and the
/// disk.
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
        // Nothing is sent: the thread waits because the system writes by the clock.
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

/// Examines a disk after a power cut; returns the numbers of results and of damaged objects that
/// no result needs.
fn examine(copy: &Image) -> Result<(usize, usize), Fault> {
    let work = copy.path().join("work");
    let store = Disk::open(
        &work.join(".build-cache"),
        Durability::Batched,
        &user::key(),
    );
    let found = store.verify(false).unwrap();
    let is_incomplete = |damage: &Damage| matches!(damage, Damage::Incomplete(_));
    if found
        .damaged
        .iter()
        .any(|damaged| is_incomplete(&damaged.damage))
    {
        return Err(format!("results lack blobs: {:?}", found.damaged));
    }
    // Unsynced sources are lost as well, but fbuild does not own them.
    write_sources(&work, &world());
    let builder = Process::new(&work, 2);
    let mut comparison = Comparison::on(&work, world(), StoreModel::default(), Box::new(builder));
    comparison.trust(Trust::Either);
    comparison.build()?;
    let mut verify = fbuild(&work, &world(), &["cache", "verify", "--repair"]);
    let verified = verify.stdout(Stdio::null()).status().unwrap();
    match verified.success() {
        true => Ok((found.read.results, found.damaged.len())),
        false => Err("it does not heal".to_owned()),
    }
}

#[test]
fn t5_cost_of_durability_is_printed() {
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
    suite.report(&format!(
        "100 results with 500 blobs of 4 KiB, stored in the temporary folder: \
         {batched:.1} ms in a synced batch, {none:.1} ms without sync (medians)"
    ));
}

/// Stores results in a new store and returns the elapsed time.
fn store_some(durability: Durability, round: usize) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let store = Disk::open(folder.path(), durability, &user::key());
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
