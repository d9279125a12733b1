//! A store in memory, for tests and for builds that must leave no trace. It has no limits.

use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Error, Store};
use crate::action::{ActionKey, ActionResult};
use crate::digest::{Digest, Verified};

/// Keeps results and blobs in two maps.
#[derive(Debug, Default)]
pub struct Memory {
    results: Mutex<HashMap<ActionKey, ActionResult>>,
    blobs: Mutex<HashMap<Digest, Arc<[u8]>>>,
}

impl Memory {
    /// Returns an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Removes a blob, as a collection or a disk fault would.
    pub fn forget(&self, digest: Digest) {
        lock(&self.blobs).remove(&digest);
    }

    /// Replaces the content of a blob, as a disk fault would.
    pub fn damage(&self, digest: Digest, bytes: &[u8]) {
        lock(&self.blobs).insert(digest, bytes.into());
    }
}

impl Store for Memory {
    fn result(&self, key: ActionKey) -> Result<Option<ActionResult>, Error> {
        Ok(lock(&self.results).get(&key).cloned())
    }

    fn record(&self, batch: &[(ActionKey, ActionResult)]) -> Result<(), Error> {
        lock(&self.results).extend(batch.iter().cloned());
        Ok(())
    }

    fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, Error> {
        let blobs = lock(&self.blobs);
        let is_missing = |digest: &&Digest| !blobs.contains_key(digest);
        Ok(digests.iter().filter(is_missing).copied().collect())
    }

    fn read(&self, digest: Digest) -> Result<Option<Box<dyn Read + Send>>, Error> {
        let bytes = lock(&self.blobs).get(&digest).cloned();
        Ok(bytes.map(|bytes| Box::new(Verified::new(Cursor::new(bytes), digest)) as _))
    }

    fn write(&self, bytes: &mut dyn Read) -> Result<Digest, Error> {
        let mut content = Vec::new();
        bytes.read_to_end(&mut content).map_err(Error::Input)?;
        let digest = Digest::of(&content);
        lock(&self.blobs).insert(digest, content.into());
        Ok(digest)
    }
}

/// Ignores poisoning: each change is one call on a map, which a panic cannot interrupt.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_satisfies_the_contract() {
        super::super::contract::holds(&Memory::new());
    }

    #[test]
    fn reader_refuses_a_damaged_blob() {
        let store = Memory::new();
        let digest = store.write(&mut &b"abc"[..]).unwrap();
        store.damage(digest, b"abd");
        let mut reader = store.read(digest).unwrap().unwrap();
        assert!(reader.read_to_end(&mut Vec::new()).is_err());
        store.forget(digest);
        assert_eq!(store.missing(&[digest]).unwrap(), [digest]);
    }
}
