//! A store that calls the test before reads and after writes, and delegates to [`Memory`].

use std::io::Read;

use super::{Error, Memory, Store};
use crate::action::{ActionKey, ActionResult};
use crate::digest::Digest;

pub(super) struct SpyStore<'a> {
    store: &'a Memory,
    before_read: &'a (dyn Fn() + Sync),
    after_write: &'a (dyn Fn() + Sync),
}

impl<'a> SpyStore<'a> {
    pub(super) fn new(store: &'a Memory) -> Self {
        Self {
            store,
            before_read: &|| {},
            after_write: &|| {},
        }
    }

    /// Calls `before_read` before each read of a blob.
    pub(super) fn before_read(self, before_read: &'a (dyn Fn() + Sync)) -> Self {
        Self {
            before_read,
            ..self
        }
    }

    /// Calls `after_write` after each write of a blob.
    pub(super) fn after_write(self, after_write: &'a (dyn Fn() + Sync)) -> Self {
        Self {
            after_write,
            ..self
        }
    }
}

impl Store for SpyStore<'_> {
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
