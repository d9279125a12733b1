//! Records of a store as an attacker or a broken disk could write them: every part may have a
//! value that fbuild never writes.

use std::fs;
use std::path::{Path, PathBuf};

use fbuild::digest::{Digest, Key};
use serde::{Serialize, Serializer};

/// The length of magic, format, key (hash and size) and payload length.
pub(crate) const HEADER: usize = 8 + 4 + 32 + 8 + 8;

/// The length of the seal, and of the checksum.
const CODE: usize = 32;

/// The parts of a record.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) magic: Vec<u8>,
    pub(crate) format: u32,
    pub(crate) key: [u8; 32],
    pub(crate) key_size: u64,
    /// A wrong length of the payload.
    pub(crate) length: Option<u64>,
    pub(crate) payload: Vec<u8>,
    /// The key that seals the record.
    pub(crate) user: Key,
    /// A wrong seal.
    pub(crate) seal: Option<[u8; 32]>,
    /// A wrong checksum.
    pub(crate) checksum: Option<[u8; 32]>,
}

impl Record {
    /// Parses a record of the owner of `user`.
    pub(crate) fn read(bytes: &[u8], user: &Key) -> Self {
        Self {
            magic: bytes[..8].to_vec(),
            format: u32::from_le_bytes(bytes[8..12].try_into().unwrap()),
            key: bytes[12..44].try_into().unwrap(),
            key_size: u64::from_le_bytes(bytes[44..52].try_into().unwrap()),
            length: None,
            payload: bytes[HEADER..bytes.len() - 2 * CODE].to_vec(),
            user: user.derive(&[b"fbuild record 1"]),
            seal: None,
            checksum: None,
        }
    }

    /// Encodes the record.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let length = self.length.unwrap_or(self.payload.len() as u64);
        let mut bytes = self.magic.clone();
        bytes.extend(self.format.to_le_bytes());
        bytes.extend(self.key);
        bytes.extend(self.key_size.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(&self.payload);
        let seal = self.seal.unwrap_or_else(|| self.user.mac(&[&bytes]));
        bytes.extend(seal);
        let checksum = self.checksum.unwrap_or(*Digest::of(&bytes).hash());
        bytes.extend(checksum);
        bytes
    }

    /// Returns the record with another payload.
    pub(crate) fn with(&self, payload: &impl Serialize) -> Self {
        Self {
            payload: postcard::to_stdvec(payload).unwrap(),
            ..self.clone()
        }
    }
}

/// The payload of a record.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Payload {
    pub(crate) outputs: Vec<Entry>,
    pub(crate) log: Option<RawDigest>,
    pub(crate) manifest: RawDigest,
    pub(crate) duration_ms: u64,
}

/// A hash and a size that need not match.
pub(crate) type RawDigest = ([u8; 32], u64);

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    pub(crate) path: Bytes,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) enum Kind {
    File {
        digest: RawDigest,
        mode: u16,
    },
    Link {
        target: Bytes,
        content: Option<RawDigest>,
    },
    Folder,
}

#[derive(Clone, Debug)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

/// Returns the digest of a content.
pub(crate) fn raw(content: &[u8]) -> RawDigest {
    let digest = Digest::of(content);
    (*digest.hash(), digest.size())
}

pub(crate) fn file(path: impl AsRef<[u8]>, digest: RawDigest) -> Entry {
    let kind = Kind::File {
        digest,
        mode: 0o644,
    };
    let path = Bytes(path.as_ref().to_vec());
    Entry { path, kind }
}

pub(crate) fn folder(path: impl AsRef<[u8]>) -> Entry {
    let path = Bytes(path.as_ref().to_vec());
    let kind = Kind::Folder;
    Entry { path, kind }
}

pub(crate) fn link(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Entry {
    let kind = Kind::Link {
        target: Bytes(target.as_ref().to_vec()),
        content: None,
    };
    let path = Bytes(path.as_ref().to_vec());
    Entry { path, kind }
}

/// Returns the path of an object in the store below `state`.
pub(crate) fn place(state: &Path, kind: &str, hash: &[u8; 32]) -> PathBuf {
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    state.join(kind).join(&hex[..2]).join(hex)
}

/// Returns the paths of all objects of a kind in the store below `state`.
pub(crate) fn objects(state: &Path, kind: &str) -> Vec<PathBuf> {
    let shards = fs::read_dir(state.join(kind)).unwrap();
    let shards = shards.map(|shard| shard.unwrap().path());
    let mut objects: Vec<PathBuf> = shards
        .flat_map(|shard| fs::read_dir(shard).unwrap())
        .map(|object| object.unwrap().path())
        .collect();
    objects.sort();
    objects
}
