//! Verifies every object of a store and, on request, moves damaged ones to the quarantine.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::OFlags;

use super::blobs::with_buffer;
use super::layout::{Layout, name, open_object};
use super::walk::{Object, StoreEntry, walk};
use super::{Disk, Inner, Usage, io_error, quarantine, read_record};
use crate::digest::Digest;
use crate::path::escape;
use crate::store::{Error, Refusal, record};

/// The result of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// The size of all objects read, including the damaged ones.
    pub read: Usage,
    /// The damaged objects, sorted by path.
    pub damaged: Vec<DamagedObject>,
    /// The number of damaged objects that were removed from their place.
    pub repaired: usize,
}

/// A damaged object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DamagedObject {
    /// The path below the store's folder, escaped for display.
    pub path: String,
    /// The kind of damage.
    pub damage: Damage,
}

/// A kind of damage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Damage {
    /// The content of a blob does not match its name.
    #[error("its content does not match its name")]
    Content,
    /// The object cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// The entry is not an object.
    #[error("it is not an object of the cache")]
    Foreign,
    /// A record cannot be decoded, or belongs to another key.
    #[error("{0}")]
    Record(String),
    /// A record needs blobs that are missing or damaged.
    #[error("{0} of its blobs are missing or damaged")]
    Incomplete(usize),
}

impl Disk {
    /// Reads every object and returns the damaged ones. With `repair`, damaged and foreign
    /// entries go to the quarantine, and records that need a missing blob are removed: the
    /// next build makes their results again.
    ///
    /// A record of another version of this program is not damaged and not changed.
    pub fn verify(&self, repair: bool) -> Result<Verification, Error> {
        let Some(layout) = &self.0.layout else {
            return Ok(Verification::default());
        };
        let mut check = Check {
            inner: &self.0,
            layout,
            repair: repair && self.0.writable().is_some(),
            bad: HashSet::new(),
            found: Verification::default(),
        };
        let io = |error: io::Error| io_error("list", &layout.path)(error);
        check.blobs().map_err(io)?;
        check.records().map_err(io)?;
        check.found.damaged.sort();
        Ok(check.found)
    }
}

struct Check<'a> {
    inner: &'a Inner,
    layout: &'a Layout,
    repair: bool,
    /// The damaged blobs.
    bad: HashSet<[u8; 32]>,
    found: Verification,
}

impl Check<'_> {
    fn blobs(&mut self) -> io::Result<()> {
        let met = all(&self.layout.artifacts)?;
        for met in met {
            match met {
                StoreEntry::Foreign(path) => self.damaged("artifacts", &path, Damage::Foreign),
                StoreEntry::Object(object) => {
                    self.found.read.blobs += 1;
                    self.found.read.bytes += object.digest.size();
                    if let Some(damage) = self.damage_of_blob(object) {
                        self.bad.insert(*object.digest.hash());
                        let path = name(&object.digest);
                        self.damaged("artifacts", path.as_bytes(), damage);
                    }
                }
            }
        }
        Ok(())
    }

    fn damage_of_blob(&self, object: Object) -> Option<Damage> {
        let path = name(&object.digest);
        let read = open_object(&self.layout.artifacts, &path, OFlags::RDONLY)
            .and_then(|mut file| with_buffer(|buffer| Digest::of_reader(&mut file, buffer)));
        match read {
            Ok(actual) if actual.hash() == object.digest.hash() => None,
            Ok(_) => Some(Damage::Content),
            // A collection or a build removed it in the meantime.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(Damage::Unreadable(error.to_string())),
        }
    }

    fn records(&mut self) -> io::Result<()> {
        let met = all(&self.layout.actions)?;
        for met in met {
            match met {
                StoreEntry::Foreign(path) => self.damaged("actions", &path, Damage::Foreign),
                StoreEntry::Object(object) => {
                    self.found.read.results += 1;
                    self.found.read.bytes += object.digest.size();
                    if let Some(damage) = self.damage_of_record(object) {
                        let path = name(&object.digest);
                        self.damaged("actions", path.as_bytes(), damage);
                    }
                }
            }
        }
        Ok(())
    }

    fn damage_of_record(&self, object: Object) -> Option<Damage> {
        let bytes = match read_record(self.layout, &name(&object.digest)) {
            Ok((bytes, _)) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return Some(Damage::Unreadable(error.to_string())),
        };
        let decoded = record::decode_any(&bytes).and_then(|(key, result)| {
            if key.0.hash() == object.digest.hash() {
                Ok(result)
            } else {
                Err(Refusal::Key)
            }
        });
        let result = match decoded {
            Ok(result) => result,
            Err(Refusal::Format(_)) => return None,
            Err(refusal) => return Some(Damage::Record(refusal.to_string())),
        };
        let is_there =
            |blob: &Digest| !self.bad.contains(blob.hash()) && self.inner.has_blob(*blob);
        match result.blobs().iter().filter(|blob| !is_there(blob)).count() {
            0 => None,
            missing => Some(Damage::Incomplete(missing)),
        }
    }

    /// Adds a damaged object to the result and repairs it if requested.
    fn damaged(&mut self, folder: &str, path: &[u8], damage: Damage) {
        if self.repair {
            let folder = match folder {
                "actions" => &self.layout.actions,
                _ => &self.layout.artifacts,
            };
            let is_gone = match damage {
                // Nothing in an intact record is worth inspecting.
                Damage::Incomplete(_) => quarantine::remove(folder, path),
                _ => quarantine::move_there(self.layout, folder, path),
            };
            self.found.repaired += usize::from(is_gone);
        }
        let path = format!("{folder}/{}", escape(path));
        self.found.damaged.push(DamagedObject { path, damage });
    }
}

fn all(folder: &OwnedFd) -> io::Result<Vec<StoreEntry>> {
    let mut all = Vec::new();
    walk(folder, &mut |met| all.push(met))?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::Durability;
    use super::super::tests::Sample;
    use super::*;
    use crate::action::{ActionKey, ActionResult, Entry, EntryKind};
    use crate::digest::Key;
    use crate::path::RelPath;
    use crate::stamp::FileMode;
    use crate::store::Store as _;

    fn fill(sample: &Sample) -> Vec<(ActionKey, ActionResult)> {
        let results = (0..6_u8).map(|number| {
            let manifest = sample.write(&[b'm', number]);
            let entry = |file: u8| {
                let content = vec![number; 1 + 40 * usize::from(number) * usize::from(file)];
                let kind = EntryKind::File {
                    digest: sample.write(&content),
                    mode: FileMode::PLAIN,
                };
                let path = RelPath::new([b'f', b'0' + file]).unwrap();
                Entry { path, kind }
            };
            let result = ActionResult {
                outputs: (0..3).map(entry).collect(),
                log: (number % 2 == 0).then(|| sample.write(b"log")),
                manifest,
                duration_ms: 1,
            };
            (ActionKey(manifest), result)
        });
        let results: Vec<_> = results.collect();
        sample.store.record(&results).unwrap();
        results
    }

    #[test]
    fn repair_quarantines_foreign_entries() {
        let sample = Sample::new();
        fill(&sample);
        let hex = Digest::of(b"manifest").hex();
        let foreign = [
            "artifacts/README".to_owned(),
            "artifacts/zz/x".to_owned(),
            "artifacts/ab/short".to_owned(),
            format!("artifacts/00/{hex}"),
            format!("actions/{}/{}", &hex[..2], hex.to_uppercase()),
        ];
        for path in &foreign {
            let path = sample.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        fs::create_dir_all(sample.path("actions/ab/folder/inner")).unwrap();
        let found = sample.store.verify(true).unwrap();
        let paths: Vec<&str> = found.damaged.iter().map(|d| &*d.path).collect();
        let mut expected: Vec<&str> = foreign.iter().map(|path| &**path).collect();
        expected.extend(["actions/ab/folder"]);
        expected[1] = "artifacts/zz";
        expected.sort_unstable();
        assert_eq!(paths, expected);
        assert!(found.damaged.iter().all(|d| d.damage == Damage::Foreign));
        assert_eq!(sample.store.verify(false).unwrap().damaged, []);
    }

    #[test]
    fn verify_of_an_unusable_store_finds_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let store = Disk::open(&file, Durability::Batched, &Key::new([7; 32]));
        assert_eq!(store.verify(true).unwrap(), Verification::default());
    }

    #[test]
    fn object_removed_during_verify_is_not_damage() {
        let sample = Sample::new();
        let check = check(&sample);
        let object = missing_object();
        assert_eq!(check.damage_of_blob(object), None);
        assert_eq!(check.damage_of_record(object), None);
    }

    fn check(sample: &Sample) -> Check<'_> {
        Check {
            inner: &sample.store.0,
            layout: sample.store.0.layout.as_ref().unwrap(),
            repair: false,
            bad: HashSet::new(),
            found: Verification::default(),
        }
    }

    fn missing_object() -> Object {
        let (digest, mtime) = (Digest::of(b"nothing"), 0);
        Object { digest, mtime }
    }

    #[test]
    fn unreadable_object_is_damage() {
        let sample = Sample::new();
        let check = check(&sample);
        let object = missing_object();
        for folder in ["artifacts", "actions"] {
            let place = sample.path(folder).join(name(&object.digest));
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink("nowhere", place).unwrap();
        }
        let is_unreadable = |damage| matches!(damage, Some(Damage::Unreadable(_)));
        assert!(is_unreadable(check.damage_of_blob(object)));
        assert!(is_unreadable(check.damage_of_record(object)));
    }

    #[test]
    fn verify_names_records_of_a_damaged_blob() {
        let sample = Sample::new();
        let results = fill(&sample);
        let whole = sample.store.verify(false).unwrap();
        assert_eq!(whole.read, sample.store.usage().unwrap());
        let (key, _) = &results[3];
        fs::write(sample.artifact(key.0), b"n\x03").unwrap();
        let record = format!("actions/{}", name(&key.0));
        let found = sample.store.verify(false).unwrap();
        let named: Vec<_> = found
            .damaged
            .iter()
            .map(|d| (&*d.path, &d.damage))
            .collect();
        let blob = format!("artifacts/{}", name(&key.0));
        assert_eq!(
            named,
            [
                (&*record, &Damage::Incomplete(1)),
                (&*blob, &Damage::Content)
            ]
        );
        assert_eq!((found.read, found.repaired), (whole.read, 0));
    }
}
