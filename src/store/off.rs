//! A store that keeps nothing, for runs without a cache.

use std::io::Read;

use super::{Error, Store};
use crate::action::{ActionKey, ActionResult};
use crate::digest::Digest;

/// Keeps nothing; `write` returns the digest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Off;

impl Store for Off {
    fn result(&self, _: ActionKey) -> Result<Option<ActionResult>, Error> {
        Ok(None)
    }

    fn record(&self, _: &[(ActionKey, ActionResult)]) -> Result<(), Error> {
        Ok(())
    }

    fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, Error> {
        Ok(digests.to_vec())
    }

    fn read(&self, _: Digest) -> Result<Option<Box<dyn Read + Send>>, Error> {
        Ok(None)
    }

    fn write(&self, bytes: &mut dyn Read) -> Result<Digest, Error> {
        Digest::of_reader(bytes, &mut Vec::new()).map_err(Error::Input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_returns_the_digest_and_stores_nothing() {
        let digest = Off.write(&mut &b"text"[..]).unwrap();
        assert_eq!(digest, Digest::of(b"text"));
        assert_eq!(Off.missing(&[digest]).unwrap(), [digest]);
        assert!(Off.read(digest).unwrap().is_none());
    }
}
