//! Stores the compiled Buildfile: the graph and its diagnostics, under the digests of the
//! texts that they were made from. A file that does not fit is ignored.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::buildfile::listing::Listing;
use crate::checked_file::{self, Magic, StateFile};
use crate::digest::Digest;
use crate::graph::Graph;
use crate::path::StatePath;
use crate::source::{Diagnostic, Sources};

const MAGIC: &Magic = b"fbuild-graph  5\n";

/// The texts of a Buildfile and the graph made from them.
pub(super) struct Parts {
    pub(super) graph: Graph,
    pub(super) sources: Sources,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// The path and digest of every text, in order.
    pub(super) files: Vec<(PathBuf, Digest)>,
    /// The names of files that `for` found.
    pub(super) listings: Vec<Listing>,
}

/// The first part of the file, checked before the rest is decoded.
#[derive(Serialize, Deserialize)]
struct Head {
    /// The version of fbuild: another one may read the same text differently.
    fbuild: String,
    /// Path, path as shown, and digest of each text.
    files: Vec<(StatePath, StatePath, Digest)>,
    listings: Vec<Listing>,
}

/// Returns the compiled form in `file` if it was made from the Buildfile at `path`, and
/// the texts are unchanged.
pub(super) fn read(file: &StateFile, path: &Path) -> Option<Parts> {
    let checked = checked_file::read(file, MAGIC)?;
    let (head, rest) = postcard::take_from_bytes::<Head>(&checked).ok()?;
    let is_ours = head.fbuild == env!("CARGO_PKG_VERSION");
    let is_first = head
        .files
        .first()
        .is_some_and(|(first, ..)| **first == *path);
    if !is_ours || !is_first {
        return None;
    }
    let mut sources = Sources::default();
    for (path, shown, digest) in &head.files {
        let text = std::fs::read(&**path).ok()?;
        if Digest::of(&text) != *digest {
            return None;
        }
        sources.add(&**shown, String::from_utf8(text).ok()?);
    }
    if !head.listings.iter().all(Listing::is_current) {
        return None;
    }
    let (diagnostics, graph) = postcard::from_bytes(rest).ok()?;
    let files = head.files.into_iter();
    Some(Parts {
        graph,
        sources,
        diagnostics,
        files: files
            .map(|(path, _, digest)| (path.to_path_buf(), digest))
            .collect(),
        listings: head.listings,
    })
}

/// Writes the compiled form to `file`.
pub(super) fn write(
    file: &StateFile,
    (files, sources, listings): (&[(PathBuf, Digest)], &Sources, &[Listing]),
    content: (&[Diagnostic], &Graph),
) -> io::Result<()> {
    let shown = sources.files().iter().map(|f| f.path.clone());
    let files = files.iter().zip(shown);
    let head = Head {
        fbuild: env!("CARGO_PKG_VERSION").to_owned(),
        files: files
            .map(|((path, digest), shown)| (path.clone().into(), shown.into(), *digest))
            .collect(),
        listings: listings.to_vec(),
    };
    let head = postcard::to_stdvec(&head).map_err(io::Error::other)?;
    let content = postcard::to_stdvec(&content).map_err(io::Error::other)?;
    checked_file::write(file, MAGIC, &[&head, &content])
}
