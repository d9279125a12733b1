//! Golden cases of the graph, in `fixtures/graph`, and the checks of the own Buildfile.

use std::path::Path;

use super::{CODES, Graph};
use crate::buildfile::{load, load_text};
use crate::source::golden::{self, Diagnosed};

/// The codes that no Buildfile short enough for a fixture causes, and that of the command line;
/// unit tests cover them.
const WITHOUT_CASE: [&str; 3] = [
    super::resolve::TOO_LARGE,
    super::outputs::UNCHECKED,
    super::select::ARGUMENTS,
];

fn diagnose(file: &Path) -> Diagnosed {
    let loaded = load(file, Path::new("Buildfile.kdl")).unwrap();
    assert_eq!(loaded.diagnostics, [], "{}", file.display());
    (loaded.sources, Graph::new(loaded.buildfile).1)
}

#[test]
fn golden_cases_are_unchanged() {
    golden::check("graph", diagnose);
}

#[test]
fn every_code_of_a_diagnostic_has_a_golden_case() {
    let codes = golden::codes("graph", diagnose);
    for (code, _) in CODES
        .iter()
        .filter(|(code, _)| !WITHOUT_CASE.contains(code))
    {
        assert!(
            codes.iter().any(|c| c == code),
            "no case in fixtures/graph has {code}"
        );
    }
}

const OWN_BUILDFILE: &str = include_str!("../../Buildfile.kdl");

#[test]
fn own_buildfile_has_no_mistakes() {
    let loaded = load_text(OWN_BUILDFILE, Path::new("Buildfile.kdl"));
    assert_eq!(loaded.diagnostics, []);
    let (graph, diagnostics) = Graph::new(loaded.buildfile);
    assert_eq!(diagnostics, []);
    assert!(!graph.default_targets().is_empty());
}

#[test]
fn edge_removed_from_the_own_buildfile_is_missed() {
    let inputs = "    inputs files=addon-sources\n";
    let with_edge = format!("    needs generate-py\n    tools python3\n{inputs}");
    let text = OWN_BUILDFILE.replace(&with_edge, inputs);
    let loaded = load_text(&text, Path::new("Buildfile.kdl"));
    let (_, diagnostics) = Graph::new(loaded.buildfile);
    let [missing] = &diagnostics[..] else {
        panic!("{diagnostics:#?}")
    };
    assert_eq!(
        missing.message,
        "`addon-zip` may read what `generate-py` produces, but does not need it"
    );
    assert_eq!(
        missing.help.as_deref(),
        Some(
            "add `needs generate-py` to `addon-zip`, or `except \"addon/flamenco/manager/**\"` to these inputs if it reads none of it"
        )
    );
}
