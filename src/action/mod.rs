//! An [`Action`] is everything that decides a result, and an [`ActionResult`] is that result.
//! Neither knows where results are stored or how they are made.
//!
//! `inputs` finds and hashes the files, and `index` caches their digests by stat data;
//! `manifest` writes an action as canonical text, whose digest is its key.

pub mod environment;
pub mod hidden;
pub mod index;
pub mod inputs;
pub mod manifest;
pub mod tools;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::buildfile::model::Output;
use crate::digest::Digest;
use crate::glob::Pattern;
use crate::path::RelPath;
use crate::stamp::FileMode;

/// The name of a result: the digest of its action's manifest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActionKey(pub Digest);

impl fmt::Debug for ActionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActionKey({})", self.0.short())
    }
}

/// Everything that decides a result, and the variables that do not.
#[derive(Clone, Debug)]
pub struct Action {
    /// The commands after expansion.
    pub commands: Vec<ResolvedCommand>,
    /// Their working directory.
    pub dir: RelPath,
    /// The declared variables and their values; unset ones are `None`.
    pub env: BTreeMap<String, Option<OsString>>,
    /// Variables that commands see and the key ignores: `pass` and the standard list.
    pub inherited: BTreeMap<String, OsString>,
    /// Variables that commands see and nothing may show.
    pub secrets: BTreeMap<String, OsString>,
    /// The tools and their versions.
    pub tools: BTreeMap<String, ToolVersion>,
    /// The input files, sorted by path, each once.
    pub inputs: Vec<Entry>,
    /// The outputs of the needed targets, by the targets' names.
    pub needs: BTreeMap<String, Vec<Entry>>,
    /// The keys of the needed targets that declare no outputs, by their names.
    pub ran: BTreeMap<String, ActionKey>,
    /// The declared outputs.
    pub outputs: Vec<OutputSpec>,
}

/// A command with every value in place.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ResolvedCommand {
    /// A program and its arguments.
    Run(Vec<OsString>),
    /// A script for `sh -eu`.
    Sh(String),
    /// A script for `sh -eu`, and its positional parameters.
    ShWith(String, Vec<OsString>),
}

/// The version that a tool's probe printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolVersion {
    /// The first version number in the probe's output, such as `1.26.8`.
    pub version: String,
    /// The digest of the whole output.
    pub output: Digest,
}

/// A declared output and its options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputSpec {
    /// Its path or pattern.
    pub output: Output,
    /// Lives in version control: rewritten only where the content differs.
    pub committed: bool,
    /// The patterns of files in an owned folder that do not belong to it, from the root.
    pub keep: Vec<Pattern>,
}

/// A file, link or folder with the digest of its content: an input, or a part of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its path.
    pub path: RelPath,
    /// Its kind and content.
    pub kind: EntryKind,
}

/// The kind and content of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Its content.
        digest: Digest,
        /// Its permission bits; in results, one of two modes by the executable bit.
        mode: FileMode,
    },
    /// A symbolic link, never followed to a folder.
    Link {
        /// Its text.
        #[serde(with = "bytes_as_text")]
        target: Vec<u8>,
        /// The content of the regular file behind it; `None` if there is none, and in results.
        content: Option<FileContent>,
    },
    /// A folder (listed in results only, so that empty ones come back).
    Folder,
}

/// The content of a regular file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileContent {
    /// Its digest.
    pub digest: Digest,
    /// Its permission bits.
    pub mode: FileMode,
}

/// Serializes the text of a link: escaped in formats for people, as bytes elsewhere.
mod bytes_as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            to.serialize_str(&crate::path::escape(bytes))
        } else {
            to.serialize_bytes(bytes)
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        if from.is_human_readable() {
            let text = String::deserialize(from)?;
            crate::path::unescape(&text).ok_or_else(|| D::Error::custom("not an escaped target"))
        } else {
            Ok(<&[u8]>::deserialize(from)?.to_vec())
        }
    }
}

/// The result of an action: enough to restore its outputs and to print its log again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionResult {
    /// Its outputs, sorted by path, each once; a folder comes before its entries.
    pub outputs: Vec<Entry>,
    /// The blob of its log, with secrets masked; `None` if it printed nothing.
    pub log: Option<Digest>,
    /// The blob of its manifest.
    pub manifest: Digest,
    /// The time that its commands took, in milliseconds.
    pub duration_ms: u64,
}

impl ActionResult {
    /// Returns every blob that the result needs, each once.
    pub fn blobs(&self) -> Vec<Digest> {
        let files = self.outputs.iter().filter_map(|entry| match entry.kind {
            EntryKind::File { digest, .. } => Some(digest),
            _ => None,
        });
        let mut blobs: Vec<Digest> = files.chain(self.log).chain([self.manifest]).collect();
        blobs.sort_unstable();
        blobs.dedup();
        blobs
    }
}
