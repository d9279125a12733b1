//! Suite T14: fbuild detects changes that timestamps do not show, with any clock of the file
//! system and after times were set back.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fbuild::action::EntryKind;
use fbuild::action::index::FileIndex;
use fbuild::checked_file::StateFile;
use fbuild::digest::Digest;
use fbuild::path::{RelPath, Root};

use crate::model::history::{Done, Run, place};
use crate::model::store_model::Trust;
use crate::support::image::Image;
use crate::support::scale::{Suite, count};
use crate::support::user;

/// How often a file is rewritten immediately after a read.
const REWRITES: usize = 10_000;

/// A folder on a file system and its file index.
struct Place {
    folder: PathBuf,
    index: FileIndex,
}

#[test]
fn t14_changes_with_equal_timestamps_are_detected() {
    let suite = Suite::begin("T14");
    let mut figures = Vec::new();
    let memory = place();
    figures.push(rewrites("in memory", &memory));
    let disk = tempfile::tempdir().unwrap();
    figures.push(rewrites("on disk", disk.path()));
    times_that_are_set(disk.path());
    times_that_are_set(&memory);
    fs::remove_dir_all(memory).unwrap();
    match Image::new(&["-I", "128"]) {
        Ok(image) => {
            figures.push(rewrites("on ext4 with whole seconds", &image.path()));
            times_that_are_set(&image.path());
            let done = histories(&suite, &image.path());
            figures.push(format!(
                "there {} states checked in histories of the model, 0 differences",
                done.builds
            ));
        }
        Err(why) => suite.skip("ext4 with whole seconds", &why),
    }
    suite.report(&figures.join("; "));
}

/// Writes a file, reads it through the index, and immediately writes other bytes of the same
/// length. Returns how many changes the stamp did not show.
fn rewrites(name: &str, folder: &Path) -> String {
    let mut place = Place::new(folder);
    let (rounds, mut invisible) = (count(REWRITES), 0);
    let file = folder.join("tree/file");
    for round in 0..rounds {
        let text = format!("{round:08}");
        let before = fs::metadata(&file).ok();
        fs::write(&file, &text).unwrap();
        let after = fs::metadata(&file).unwrap();
        invisible += usize::from(before.is_some_and(|before| stamp(&before) == stamp(&after)));
        match round % 3 {
            0 => place.index.begin_epoch(),
            1 => place.reopen(),
            _ => place.index = FileIndex::open(place.root(), &place.saved(), Vec::new()),
        }
        assert_eq!(place.digest("file"), Digest::of(text.as_bytes()), "{name}");
    }
    format!("{rounds} rewrites {name}, {invisible} invisible, 0 missed")
}

/// Changes a file in ways that also set its times.
fn times_that_are_set(folder: &Path) {
    let mut place = Place::new(folder);
    let file = folder.join("tree/times");
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
    let times = [
        long_ago,
        SystemTime::now() + Duration::from_secs(1_000_000_000),
        SystemTime::now() - Duration::from_secs(5),
    ];
    let set = |path: &Path, time| {
        let open = File::options().write(true).open(path).unwrap();
        open.set_modified(time).unwrap();
    };
    for (number, time) in times
        .into_iter()
        .cycle()
        .take(count(600).max(12))
        .enumerate()
    {
        let text = format!("{number:08}");
        if number % 2 == 0 {
            fs::write(&file, &text).unwrap();
            set(&file, time);
        } else {
            // Like unpacking an archive or switching branches: another file with old times.
            let beside = folder.join("beside");
            fs::write(&beside, &text).unwrap();
            set(&beside, time);
            fs::rename(&beside, &file).unwrap();
        }
        place.reopen();
        assert_eq!(
            place.digest("times"),
            Digest::of(text.as_bytes()),
            "{time:?}"
        );
    }
}

/// Runs random histories in a folder.
fn histories(suite: &Suite, above: &Path) -> Done {
    let mut total = Done::default();
    for number in 0..count(40) as u64 {
        let mut run = Run::begin_in(suite.seed.wrapping_add(number), above);
        run.comparison.trust(Trust::Less);
        run.comparison.build().unwrap();
        for _ in 0..15 {
            if let Err(fault) = run.step() {
                panic!(
                    "{fault}\nafter {:?}",
                    run.history.steps.iter().rev().take(4).collect::<Vec<_>>()
                );
            }
        }
        total.add(run.done());
    }
    total
}

fn stamp(metadata: &fs::Metadata) -> [i64; 6] {
    let (m, inode, size) = (metadata, metadata.ino(), metadata.size());
    let [inode, size] = [inode, size].map(|number| i64::try_from(number).unwrap());
    [
        m.mtime(),
        m.mtime_nsec(),
        m.ctime(),
        m.ctime_nsec(),
        inode,
        size,
    ]
}

fn saved(folder: &Path) -> StateFile {
    StateFile::new(folder.join("index"), user::key())
}

impl Place {
    fn new(folder: &Path) -> Self {
        fs::create_dir_all(folder.join("tree")).unwrap();
        let root = Root::open(&folder.join("tree")).unwrap();
        Self {
            folder: folder.to_owned(),
            index: FileIndex::open(root, &saved(folder), Vec::new()),
        }
    }

    fn root(&self) -> Root {
        Root::open(&self.folder.join("tree")).unwrap()
    }

    fn saved(&self) -> StateFile {
        saved(&self.folder)
    }

    /// Saves the index and loads it again, as the next run would.
    fn reopen(&mut self) {
        self.index.save(&self.saved()).unwrap();
        self.index = FileIndex::open(self.root(), &self.saved(), Vec::new());
    }

    fn digest(&self, name: &str) -> Digest {
        match self.index.entry(&RelPath::new(name).unwrap()).unwrap() {
            Some(EntryKind::File { digest, .. }) => digest,
            other => panic!("{other:?}"),
        }
    }
}
