//! Accepts the results of other users: seals their records with the key of this one.

use std::io;

use super::layout::{Layout, name};
use super::publish::IfExists;
use super::walk::{Object, StoreEntry, walk};
use super::{Disk, Inner, io_error, read_record};
use crate::store::{Error, record};

impl Disk {
    /// Seals every sound record, of any user, and returns how many were not this
    /// user's. Damaged records stay as they are.
    pub fn trust(&self) -> Result<usize, Error> {
        let Some(layout) = self.0.writable() else {
            return Ok(0);
        };
        let mut objects = Vec::new();
        let listed = walk(&layout.actions, &mut |entry| {
            if let StoreEntry::Object(object) = entry {
                objects.push(object);
            }
        });
        listed.map_err(io_error("list", &layout.path))?;
        let mut accepted = 0;
        for object in objects {
            let sealed = self.0.accept(layout, object);
            accepted += usize::from(sealed.map_err(io_error("write", &layout.path))?);
        }
        Ok(accepted)
    }
}

impl Inner {
    /// Seals a record unless it is this user's, or damaged.
    fn accept(&self, layout: &Layout, object: Object) -> io::Result<bool> {
        let name = name(&object.digest);
        let Ok((bytes, _)) = read_record(layout, &name) else {
            return Ok(false);
        };
        let Ok((key, result)) = record::decode_any(&bytes) else {
            return Ok(false);
        };
        let is_misplaced = key.0.hash() != object.digest.hash();
        if is_misplaced || record::decode(key, &bytes, &self.key).is_ok() {
            return Ok(false);
        }
        let bytes = record::encode(key, &result, &self.key).map_err(io::Error::other)?;
        let mut temp = self.publisher.create(layout)?;
        temp.write_all(&bytes)?;
        self.publisher
            .publish(temp, &layout.actions, &name, IfExists::Replace)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::Durability;
    use super::super::layout;
    use super::super::tests::Sample;
    use super::*;
    use crate::digest::Key;
    use crate::store::Store as _;

    fn other(sample: &Sample) -> Disk {
        let key = Key::new([8; 32]);
        Disk::open(&sample.path(""), Durability::None, &key)
    }

    fn codes(store: &Disk) -> Vec<String> {
        let warnings = store.take_warnings().into_iter();
        warnings.map(|warning| warning.code).collect()
    }

    #[test]
    fn results_of_another_key_are_missing() {
        let sample = Sample::new();
        let keys = [b"one", b"two"].map(|name| sample.record(name).0);
        let other = other(&sample);
        for key in keys {
            assert_eq!(other.result(key).unwrap(), None);
        }
        assert_eq!(codes(&other), ["fbuild::store::untrusted"]);
        // They stay in place, for their user.
        assert!(sample.store.result(keys[0]).unwrap().is_some());
        assert_eq!(sample.quarantined(), 0);
    }

    #[test]
    fn trusted_results_are_found() {
        let sample = Sample::new();
        let (key, result) = sample.record(b"one");
        let other = other(&sample);
        assert_eq!(other.trust().unwrap(), 1);
        assert_eq!(other.result(key).unwrap(), Some(result));
        assert_eq!(other.trust().unwrap(), 0);
        assert_eq!(codes(&other), [""; 0]);
        assert_eq!(sample.store.result(key).unwrap(), None);
    }

    #[test]
    fn trust_accepts_no_damaged_or_misplaced_record() {
        let sample = Sample::new();
        let place = |key: crate::action::ActionKey| {
            let name = layout::name(&key.0);
            sample.path("actions").join(name)
        };
        let [one, two, three] = [b"one", b"two", b"thr"].map(|name| sample.record(name).0);
        let mut bytes = fs::read(place(one)).unwrap();
        bytes[70] ^= 1;
        fs::write(place(one), bytes).unwrap();
        fs::copy(place(three), place(two)).unwrap();
        let other = other(&sample);
        assert_eq!(other.trust().unwrap(), 1);
        assert!(other.result(three).unwrap().is_some());
        assert_eq!(other.result(two).unwrap(), None);
        assert_eq!(other.result(one).unwrap(), None);
    }
}
