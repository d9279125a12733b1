//! Stores many short lists of targets in one allocation: half the size of a `Vec` of
//! `Vec`s, and read back with two allocations. It does not know their meaning.

use serde::{Deserialize, Serialize};

use super::TargetId;

/// One list of targets for each index from 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lists {
    /// The start of each list in `items`, and the end of the last one.
    starts: Vec<u32>,
    items: Vec<TargetId>,
}

impl Default for Lists {
    fn default() -> Self {
        Self {
            starts: vec![0],
            items: Vec::new(),
        }
    }
}

impl Lists {
    /// Returns the list at `index`.
    pub(super) fn get(&self, index: usize) -> &[TargetId] {
        &self.items[self.starts[index] as usize..self.starts[index + 1] as usize]
    }

    /// Adds an item to the list that the next [`Self::end_list`] ends.
    pub(super) fn push(&mut self, item: TargetId) {
        self.items.push(item);
    }

    /// Ends the current list, and starts the next one.
    pub(super) fn end_list(&mut self) {
        self.starts.push(number(self.items.len()));
    }

    /// Returns the number of items in all lists.
    pub(super) fn total(&self) -> usize {
        self.items.len()
    }

    /// Reverses edges: the list at `t` holds, sorted, the indices below `len` at which one of
    /// `lists` holds `t`. No two of `lists` may hold the same target at one index.
    pub(super) fn reversed(lists: &[&Self], len: usize) -> Self {
        let mut starts = vec![0; len + 1];
        for to in lists.iter().flat_map(|list| &list.items) {
            starts[to.index() + 1] += 1;
        }
        for index in 0..len {
            starts[index + 1] += starts[index];
        }
        let mut items = vec![TargetId(0); starts[len] as usize];
        let mut next = starts.clone();
        for from in 0..len {
            for to in lists.iter().flat_map(|list| list.get(from)) {
                items[next[to.index()] as usize] = TargetId(number(from));
                next[to.index()] += 1;
            }
        }
        Self { starts, items }
    }
}

/// Narrows an index; a Buildfile is too small to hold more than `u32::MAX` of anything.
pub(super) fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
