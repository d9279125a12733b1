//! Opens the records of what fbuild made in a checkout.

use std::path::Path;

use super::context::Context;
use crate::event::Warning;
use crate::journal::Memory;
use crate::journal::ownership::{Checkout, Ledger, Problem};
use crate::workspace::{Layout, Workspace};

/// Opens the records for a run that changes the tree, in the user's state folder or, if that
/// is unusable, in the project's.
pub(super) fn open(
    context: &Context,
    workspace: &Workspace,
    layout: &Layout,
    memory: &Memory,
) -> (Ledger, Option<Warning>) {
    let root = workspace.root.path();
    let folder = layout.state().parent().unwrap_or(Path::new("."));
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let checkout = match Checkout::of(&folder, root) {
        Ok(checkout) => checkout,
        Err(source) => {
            let path = root.to_owned();
            return (Ledger::off(), Some(unusable(&Problem::Io { path, source })));
        }
    };
    let (ledger, warning) = match Ledger::check_folder(context.user_state(), root) {
        Ok(user) => (Ledger::new(&user, checkout), None),
        Err(problem) => (
            Ledger::new(layout.state(), checkout),
            Some(unusable(&problem)),
        ),
    };
    if ledger.is_new() {
        // An earlier version or a copied checkout has left only the state folder.
        for (target, success) in memory.successes() {
            ledger.succeed(target, &success.result.outputs);
        }
    }
    (ledger, warning)
}

fn unusable(problem: &Problem) -> Warning {
    Warning::new(
        "fbuild::journal::ownership",
        format!(
            "{problem}; if `.build-cache` is deleted, its outputs count as files that fbuild did \
             not make"
        ),
    )
}
