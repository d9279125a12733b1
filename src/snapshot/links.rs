//! Changes behind links to folders. Observations and changes have paths without links;
//! patterns see the paths by which a walk reached them.

use std::collections::HashMap;

use super::change::Change;
use super::list::List;
use crate::action::index::observations::Expectation;
use crate::path::RelPath;
use crate::stamp::FileId;

/// Adds a change of each link that leads to a folder in which something changed, directly or
/// through other links; `None` if the list is malformed.
pub(super) fn add_changes_behind(list: List<'_>, changes: &mut Vec<Change>) -> Option<()> {
    let mut links = links(list)?;
    let mut next = 0;
    while let Some(change) = changes.get(next) {
        let changed = change.path().clone();
        // A folder above the one behind the link may have been moved with it.
        let is_near = |folder: &RelPath| changed.is_within(folder) || folder.is_within(&changed);
        let affected = links.extract_if(.., |(_, folder)| is_near(folder));
        let affected: Vec<Change> = affected.map(|(link, _)| Change::Anything(link)).collect();
        changes.extend(affected);
        next += 1;
    }
    Some(())
}

/// Returns the links, each with the folder that it leads to. Those out of the root have none.
fn links(list: List<'_>) -> Option<Vec<(RelPath, RelPath)>> {
    let (mut links, mut folders) = (Vec::new(), HashMap::<FileId, Vec<RelPath>>::new());
    for entry in list.entries() {
        let path = || RelPath::new(list.path(&entry)?.to_bytes()).ok();
        match entry.expectation()? {
            Expectation::LinkToFolder(id) => links.push((path()?, id)),
            Expectation::FolderBehind(id) => folders.entry(id).or_default().push(path()?),
            _ => {}
        }
    }
    let mut pairs = Vec::new();
    for (link, id) in links {
        // A folder that was moved while the run went on has two paths.
        for folder in folders.get(&id).into_iter().flatten() {
            pairs.push((link.clone(), folder.clone()));
        }
    }
    Some(pairs)
}
