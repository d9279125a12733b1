//! Opens the records of what fbuild made in a checkout.

use std::fmt::Display;
use std::path::Path;

use super::Host;
use super::state::State;
use super::state_key::WARNING as KEY;
use crate::event::Warning;
use crate::journal::Memory;
use crate::journal::ownership::{Checkout, Ledger, Problem};
use crate::workspace::Workspace;

/// Opens the records for a run that changes the tree, in the user's state folder or, if that
/// is unusable, in the project's.
pub(super) fn open(
    host: &Host<'_>,
    workspace: &Workspace,
    state: &mut State,
    memory: &Memory,
) -> Ledger {
    let root = workspace.root.path();
    let folder = workspace.layout.state().parent().unwrap_or(Path::new("."));
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let checkout = match Checkout::of(&folder, root) {
        Ok(checkout) => checkout,
        Err(source) => {
            let path = root.to_owned();
            state.warnings.push(warning(&Problem::Io { path, source }));
            return Ledger::off();
        }
    };
    let user = host
        .state_key
        .folder_outside(&host.project())
        .and_then(|user| Ledger::check_folder(&user, root).map_err(|problem| problem.to_string()));
    let ledger = match user {
        Ok(user) => Ledger::new(&user, checkout, host.durability),
        Err(problem) => {
            // Without a home folder, the user knows: a secret replaces the key. Otherwise, a
            // missing key has the same cause.
            let is_known = |warning: &Warning| warning.code == KEY;
            if host.state_key.has_folder() && !state.warnings.iter().any(is_known) {
                state.warnings.push(warning(&problem));
            }
            Ledger::in_state(state.layout.state(), checkout, host.durability)
        }
    };
    if ledger.is_new() {
        // An earlier version or a copied checkout has left only the state folder.
        for (target, success) in memory.successes() {
            ledger.succeed(target, &success.result.outputs);
        }
    }
    ledger
}

/// Returns the warning about a problem with the records.
pub(super) fn warning(problem: &dyn Display) -> Warning {
    Warning::new(
        "fbuild::journal::ownership",
        format!(
            "{problem}; if `.build-cache` is deleted, its outputs count as files that fbuild did \
             not make"
        ),
    )
}
