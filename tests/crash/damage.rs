//! Promise R13: after any corruption of an object in a store (bits, length, place, removal),
//! `verify` names it, and `verify --repair` leaves an intact store.

use std::fs;
use std::path::{Path, PathBuf};

use fbuild::action::{ActionKey, ActionResult, Entry, EntryKind};
use fbuild::path::RelPath;
use fbuild::stamp::FileMode;
use fbuild::store::Store as _;
use fbuild::store::disk::{Disk, Durability};

use crate::model::history::place;
use crate::support::rng::Rng;
use crate::support::scale::{Suite, count, on_all};
use crate::support::user;

#[test]
fn verify_names_and_repairs_every_corruption() {
    let suite = Suite::begin("R13");
    let cases = on_all(suite.seed, corrupt_many, count(10_000));
    suite.report(&format!(
        "{cases} objects with a bit flipped, cut, swapped or removed: all found, named and healed"
    ));
}

fn corrupt_many(rng: &mut Rng, cases: usize) -> usize {
    let folder = place();
    let lab = Lab::new(&folder);
    for case in 0..cases {
        lab.corrupt_one(rng, case);
    }
    let _ = fs::remove_dir_all(folder);
    cases
}

/// A store with some results, and the paths of its objects.
struct Lab {
    folder: PathBuf,
    store: Disk,
    results: Vec<(ActionKey, ActionResult)>,
    objects: Vec<String>,
}

/// The damage of an object.
struct Harm {
    /// The objects that `verify` must name.
    named: Vec<String>,
    /// Whether `verify` must report damage.
    is_damage: bool,
}

impl Lab {
    fn new(folder: &Path) -> Self {
        let store = Disk::open(&folder.join("store"), Durability::None, &user::key());
        let mut lab = Self {
            folder: folder.join("store"),
            results: (0..6).map(|number| result(&store, number)).collect(),
            objects: Vec::new(),
            store,
        };
        lab.store.record(&lab.results).unwrap();
        lab.objects = objects(&lab.folder);
        assert_eq!(lab.damaged(false), [""; 0]);
        lab
    }

    /// Damages one object, checks that it is found and repaired, and fills the store again.
    fn corrupt_one(&self, rng: &mut Rng, case: usize) {
        let harm = self.corrupt(rng);
        let found = self.damaged(false);
        for name in &harm.named {
            assert!(
                found.contains(name),
                "case {case}: {name} is not in {found:?}"
            );
        }
        assert_eq!(!found.is_empty(), harm.is_damage, "case {case}: {found:?}");
        let repaired = self.store.verify(true).unwrap();
        assert_eq!(repaired.damaged.len(), found.len(), "case {case}");
        assert_eq!(repaired.repaired, found.len(), "case {case}");
        assert_eq!(self.damaged(false), [""; 0], "case {case}");
        for (key, _) in &self.results {
            if let Some(result) = self.store.result(*key).unwrap() {
                assert_eq!(
                    self.store.missing(&result.blobs()).unwrap(),
                    [],
                    "case {case}"
                );
            }
        }
        for number in 0..6 {
            result(&self.store, number);
        }
        self.store.record(&self.results).unwrap();
    }

    fn damaged(&self, repair: bool) -> Vec<String> {
        let found = self.store.verify(repair).unwrap();
        assert_eq!(found.repaired, 0);
        found
            .damaged
            .into_iter()
            .map(|damaged| damaged.path)
            .collect()
    }

    fn corrupt(&self, rng: &mut Rng) -> Harm {
        let victim = rng.pick(&self.objects);
        let path = self.folder.join(victim);
        let mut bytes = fs::read(&path).unwrap();
        let is_record = victim.starts_with("actions");
        let mut named = vec![victim.clone()];
        match rng.below(4) {
            0 => {
                let at = rng.below(bytes.len());
                bytes[at] ^= 1 << rng.below(8);
                fs::write(&path, bytes).unwrap();
            }
            1 => {
                bytes.truncate(rng.below(bytes.len()));
                fs::write(&path, bytes).unwrap();
            }
            2 => {
                let other = self.other(rng, victim);
                let (spare, other_path) = (self.folder.join("spare"), self.folder.join(other));
                fs::rename(&path, &spare).unwrap();
                fs::rename(&other_path, &path).unwrap();
                fs::rename(&spare, &other_path).unwrap();
                named.push(other.clone());
            }
            _ => {
                fs::remove_file(&path).unwrap();
                // A missing record is no damage: nothing refers to it. For a missing blob,
                // `verify` names the records that need it.
                named = match is_record {
                    true => Vec::new(),
                    false => self.records_with(victim),
                };
            }
        }
        let is_damage = !named.is_empty();
        Harm { named, is_damage }
    }

    /// Returns another object of the same kind.
    fn other(&self, rng: &mut Rng, victim: &String) -> &String {
        let kind = victim.split('/').next().unwrap();
        let others = self.objects.iter();
        let others = others.filter(|other| other.starts_with(kind) && *other != victim);
        let others: Vec<&String> = others.collect();
        others[rng.below(others.len())]
    }

    /// Returns the records of the results that need a blob.
    fn records_with(&self, blob: &str) -> Vec<String> {
        let needs = |(_, result): &&(ActionKey, ActionResult)| {
            let mut blobs = result.blobs().into_iter();
            blobs.any(|digest| blob.ends_with(&digest.hex()))
        };
        let records = self.results.iter().filter(needs);
        let record = |(key, _): &(ActionKey, ActionResult)| {
            let hex = key.0.hex();
            format!("actions/{}/{hex}", &hex[..2])
        };
        records.map(record).collect()
    }
}

/// Writes the blobs of a result into a store.
fn result(store: &Disk, number: u8) -> (ActionKey, ActionResult) {
    let write = |mut bytes: &[u8]| store.write(&mut bytes).unwrap();
    let manifest = write(&[b'm', number]);
    let entry = |file: u8| {
        let content = vec![number; 1 + 40 * usize::from(number) * usize::from(file)];
        let kind = EntryKind::File {
            digest: write(&content),
            mode: FileMode::PLAIN,
        };
        let path = RelPath::new([b'f', b'0' + file]).unwrap();
        Entry { path, kind }
    };
    let result = ActionResult {
        outputs: (0..3).map(entry).collect(),
        log: number.is_multiple_of(2).then(|| write(b"log")),
        manifest,
        duration_ms: 1,
    };
    (ActionKey(manifest), result)
}

/// Returns the paths of all records and blobs below a store's folder.
fn objects(store: &Path) -> Vec<String> {
    let list = |path: PathBuf| {
        fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
    };
    let shards = ["artifacts", "actions"]
        .into_iter()
        .flat_map(|kind| list(store.join(kind)));
    let paths = shards.flat_map(list);
    let below = |path: PathBuf| {
        path.strip_prefix(store)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    let mut objects: Vec<String> = paths.map(below).collect();
    objects.sort();
    objects
}
