//! The places of a session: the folder of the store, and paths below the root.

use std::path::{Path, PathBuf};

use super::Access;
use super::state::State;
use crate::event::Warning;
use crate::path::RelPath;
use crate::store::disk::is_foreign;
use crate::workspace::Workspace;

/// Returns the folder of the store; `None` if it holds other things or must not be touched.
pub(super) fn choose_store(workspace: &Workspace, state: &mut State) -> Option<PathBuf> {
    let store = store_folder(workspace);
    if store == workspace.layout.state() {
        if state.is_refused() {
            return None;
        }
        // A read-only checkout has a read-only store, unless the Buildfile names another.
        let is_replaced = state.is_elsewhere() && !state.is_temporary();
        let folder = if is_replaced {
            state.layout.state()
        } else {
            &store
        };
        return Some(folder.to_owned());
    }
    if !is_foreign(&store) {
        return Some(store);
    }
    let store = store.canonicalize().unwrap_or(store);
    let message = format!(
        "`{}` is to be the cache folder and holds other things, which are left alone; \
         nothing is cached",
        store.display()
    );
    let warning = Warning::new("fbuild::store::off", message);
    state.warnings.push(warning);
    None
}

/// Returns true if a store can be opened without creating a folder that does not last.
pub(super) fn is_usable(store: &Path, access: Access, state: &State) -> bool {
    match access {
        Access::Write => !state.is_temporary() || store.is_dir(),
        Access::Read => store.join("version").exists(),
    }
}

/// Returns the folder in which a workspace keeps blobs and results.
pub fn store_folder(workspace: &Workspace) -> PathBuf {
    let layout = &workspace.layout;
    let dir = workspace.graph.buildfile().cache.dir.as_ref();
    match (dir, layout.state().parent()) {
        (Some(dir), Some(folder)) => folder.join(&dir.value),
        _ => layout.state().to_owned(),
    }
}

/// Returns the path below the root of a folder that need not exist yet.
pub(super) fn below(workspace: &Workspace, path: &Path) -> Option<RelPath> {
    // It may be created during the run, and is hidden from patterns then as well.
    let real = path.canonicalize().ok().or_else(|| {
        let parent = path.parent()?.canonicalize().ok()?;
        Some(parent.join(path.file_name()?))
    })?;
    workspace.root.relative(&real)
}

/// Returns the path of an entry below the root, even if the entry is a link to elsewhere.
pub(super) fn entry_below(workspace: &Workspace, path: &Path) -> Option<RelPath> {
    let folder = path.parent()?.canonicalize().ok()?;
    workspace.root.relative(&folder.join(path.file_name()?))
}

/// Returns true if a target declares a path as an output.
pub(super) fn is_output(workspace: &Workspace, path: &RelPath) -> bool {
    let graph = &workspace.graph;
    let outputs = graph.ids().flat_map(|id| &graph.target(id).outputs);
    let mut paths = outputs.flat_map(|outputs| &outputs.paths);
    paths.any(|output| output.value.covers(path))
}
