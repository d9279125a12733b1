//! Reads the cases of a test from its reports, and fails a test with failed cases although its
//! commands succeeded.

use super::{Parts, outputs};
use crate::action::{Entry, EntryKind, OutputSpec};
use crate::buildfile::model::Target;
use crate::event::Failure;
use crate::exec::Execution;
use crate::path::{RelPath, Root};
use crate::test_report::{self, Case, Counts, UnreadableReport};

/// Returns the cases in the reports of a test, whose outputs are in the tree.
pub fn reported_cases(
    root: &Root,
    target: &Target,
    outputs: &[Entry],
) -> Result<Vec<Case>, UnreadableReport> {
    let reports = target.test.iter().flat_map(|test| &test.reports);
    let covers = |path: &RelPath| reports.clone().any(|report| report.value.covers(path));
    let mut cases = Vec::new();
    for entry in outputs {
        if !matches!(entry.kind, EntryKind::File { .. }) || !covers(&entry.path) {
            continue;
        }
        cases.extend(test_report::read_file(root, &entry.path)?);
    }
    Ok(cases)
}

/// Adds the cases to the failure of a test, and fails a test with failed cases.
pub(super) fn check(
    parts: &Parts<'_>,
    target: &Target,
    executed: Result<Option<Execution>, Failure>,
) -> Result<Option<Execution>, Failure> {
    match executed {
        Ok(Some(execution)) => {
            let cases = present_cases(parts, target)?;
            let failed = Counts::of(&cases).failed;
            if failed == 0 {
                return Ok(Some(execution));
            }
            Err(of_failed_cases(failed, cases))
        }
        Ok(None) => Ok(None),
        // A runner that crashed may leave half a report: its failure matters more.
        Err(failure) => Err(Failure {
            cases: present_cases(parts, target).unwrap_or_default(),
            ..failure
        }),
    }
}

/// Returns the cases in the reports that are in the tree.
fn present_cases(parts: &Parts<'_>, target: &Target) -> Result<Vec<Case>, Failure> {
    let reports = target.test.iter().flat_map(|test| &test.reports);
    let specs: Vec<OutputSpec> = reports
        .map(|report| OutputSpec {
            output: report.value.clone(),
            committed: false,
            keep: Vec::new(),
        })
        .collect();
    let found = outputs::find(parts.index, &specs)?;
    let cases = reported_cases(&parts.workspace.root, target, &found);
    cases.map_err(|error| Failure::of(&error))
}

fn of_failed_cases(failed: usize, cases: Vec<Case>) -> Failure {
    let noun = if failed == 1 { "case" } else { "cases" };
    Failure {
        code: "fbuild::test::cases".to_owned(),
        message: format!("its commands succeeded, but its report has {failed} failed {noun}"),
        help: Some(
            "let the command fail with its cases; `a | b` in `sh` has the exit code of `b`"
                .to_owned(),
        ),
        cases,
        ..Failure::default()
    }
}
