//! Decides which files in the tree belong to fbuild: those that a recorded success of this
//! checkout made, and those whose content a store has. All other files in the place of
//! outputs are foreign.
//!
//! The records survive the deletion of the state folder, because they are in the user's
//! state folder; see [`Ledger`].

mod ignored;
mod ledger;

use std::cell::Cell;

use super::Success;
use crate::action::index::FileIndex;
use crate::action::{EntryKind, OutputSpec};
use crate::path::RelPath;
use crate::stamp::{FileKind, Stamp};
use crate::store::Store;
use crate::store::outputs::{Claim, Claims};

pub use ignored::IgnoreRules;
pub use ledger::{Checkout, Ledger, Problem};

/// The knowledge about the files of a checkout.
#[derive(Clone, Copy)]
pub struct Ownership<'a> {
    /// The records of what fbuild made.
    pub ledger: &'a Ledger,
    /// The content of files.
    pub index: &'a FileIndex,
    /// Results, whose content is not lost.
    pub store: &'a dyn Store,
    /// The rules of version control.
    pub ignored: &'a IgnoreRules,
    /// True if all foreign files may be moved to the trash.
    pub replace: bool,
}

impl<'a> Ownership<'a> {
    /// Returns the claims on entries in the place of the outputs of a target, whose last
    /// success is `last`.
    pub fn of(self, target: &'a str, last: Option<&'a Success>) -> TargetClaims<'a> {
        TargetClaims {
            ownership: self,
            target,
            last,
            has_begun: Cell::new(false),
        }
    }
}

/// The claims on entries in the place of one target's outputs.
pub struct TargetClaims<'a> {
    ownership: Ownership<'a>,
    target: &'a str,
    /// Its last success, in case that the ledger has lost it.
    last: Option<&'a Success>,
    /// True once the index was told that files may have changed.
    has_begun: Cell<bool>,
}

impl TargetClaims<'_> {
    /// Returns the current content of a path; `None` if it cannot be read.
    fn current(&self, path: &RelPath) -> Option<EntryKind> {
        let index = self.ownership.index;
        // The target may have waited for long since its outputs were compared.
        if !self.has_begun.replace(true) {
            index.begin_epoch();
        }
        index.entry(path).ok().flatten()
    }

    /// Returns what fbuild has made at a path.
    fn made(&self, path: &RelPath) -> Option<EntryKind> {
        let by_target = self.ownership.ledger.made(self.target, path);
        by_target.or_else(|| {
            let outputs = &self.last?.result.outputs;
            let at = outputs
                .binary_search_by(|entry| entry.path.cmp(path))
                .ok()?;
            Some(outputs[at].kind.clone())
        })
    }

    /// Returns true if a run that did not end may have left an entry.
    fn may_be_left(&self, path: &RelPath) -> bool {
        let stamp = Stamp::at(self.ownership.index.root(), path.as_path());
        let stamp = stamp.ok().flatten();
        let ledger = self.ownership.ledger;
        stamp.is_some_and(|stamp| ledger.may_be_left(self.target, &stamp))
    }

    fn is_stored(&self, content: &EntryKind) -> bool {
        let EntryKind::File { digest, .. } = content else {
            return false;
        };
        // A store has the empty blob sooner or later, which says nothing about the file.
        digest.size() > 0
            && self
                .ownership
                .store
                .missing(&[*digest])
                .is_ok_and(|missing| missing.is_empty())
    }

    /// Claims an entry that fbuild did not make.
    fn claim_foreign(&self, spec: &OutputSpec, path: &RelPath, kind: FileKind) -> Claim {
        let Ownership {
            ignored, replace, ..
        } = self.ownership;
        let is_precious = replace
            || spec.committed
            || self.may_be_left(path)
            || ignored.is_ignored(path, kind == FileKind::Folder);
        if is_precious {
            Claim::Precious
        } else {
            Claim::Foreign
        }
    }
}

impl Claims for TargetClaims<'_> {
    fn claim(&self, spec: &OutputSpec, path: &RelPath, kind: FileKind) -> Claim {
        match kind {
            // A pipe, a socket or a device has no content to lose.
            FileKind::Special => return Claim::Owned,
            FileKind::Folder => return self.claim_foreign(spec, path, kind),
            FileKind::File | FileKind::Link => {}
        }
        let Some(current) = self.current(path) else {
            return self.claim_foreign(spec, path, kind);
        };
        match self.made(path) {
            Some(made) if is_same_content(&made, &current) => Claim::Owned,
            Some(_) if self.is_stored(&current) => Claim::Owned,
            Some(_) => Claim::Precious,
            None if self.is_stored(&current) => Claim::Owned,
            None => self.claim_foreign(spec, path, kind),
        }
    }
}

/// Returns true if two files have the same bytes, or two links the same target.
pub fn is_same_content(a: &EntryKind, b: &EntryKind) -> bool {
    match (a, b) {
        (EntryKind::File { digest: a, .. }, EntryKind::File { digest: b, .. }) => a == b,
        (EntryKind::Link { target: a, .. }, EntryKind::Link { target: b, .. }) => a == b,
        (EntryKind::Folder, EntryKind::Folder) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
