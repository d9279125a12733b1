//! A store that keeps nothing, for runs that are to go without one.

use std::io::Read;

use super::{Error, Store};
use crate::action::{ActionKey, ActionResult};
use crate::digest::Digest;

/// Has nothing and keeps nothing, and still tells the digest of what it is given.
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
    fn it_tells_digests_and_lacks_all_that_it_was_given() {
        let digest = Off.write(&mut &b"text"[..]).unwrap();
        assert_eq!(digest, Digest::of(b"text"));
        assert_eq!(Off.missing(&[digest]).unwrap(), [digest]);
        assert!(Off.read(digest).unwrap().is_none());
    }
}
