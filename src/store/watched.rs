//! A store that is watched at work, for tests. All that it does another one does for it.

use std::io::Read;

use super::{Error, Memory, Store};
use crate::action::{ActionKey, ActionResult};
use crate::digest::Digest;

pub(super) struct Watched<'a> {
    store: &'a Memory,
    before_read: &'a (dyn Fn() + Sync),
    after_write: &'a (dyn Fn() + Sync),
}

impl<'a> Watched<'a> {
    pub(super) fn new(store: &'a Memory) -> Self {
        Self {
            store,
            before_read: &|| {},
            after_write: &|| {},
        }
    }

    /// Has something done whenever a blob is asked for.
    pub(super) fn before_read(self, before_read: &'a (dyn Fn() + Sync)) -> Self {
        Self {
            before_read,
            ..self
        }
    }

    /// Has something done whenever a blob was taken in.
    pub(super) fn after_write(self, after_write: &'a (dyn Fn() + Sync)) -> Self {
        Self {
            after_write,
            ..self
        }
    }
}

impl Store for Watched<'_> {
    fn result(&self, key: ActionKey) -> Result<Option<ActionResult>, Error> {
        self.store.result(key)
    }

    fn record(&self, batch: &[(ActionKey, ActionResult)]) -> Result<(), Error> {
        self.store.record(batch)
    }

    fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, Error> {
        self.store.missing(digests)
    }

    fn read(&self, digest: Digest) -> Result<Option<Box<dyn Read + Send>>, Error> {
        (self.before_read)();
        self.store.read(digest)
    }

    fn write(&self, bytes: &mut dyn Read) -> Result<Digest, Error> {
        let digest = self.store.write(bytes);
        (self.after_write)();
        digest
    }
}
