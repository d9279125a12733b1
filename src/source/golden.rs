//! Golden cases for tests: each folder of `fixtures/NAME` holds a Buildfile and, in
//! `expected.txt`, the diagnostics about it. `UPDATE=1 cargo test golden` updates them.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Diagnostic, RenderOptions, Sources, render_all};

/// The texts of a Buildfile and the diagnostics about it.
pub(crate) type Diagnosed = (Sources, Vec<Diagnostic>);

/// Checks that the diagnostics of each case are as expected.
pub(crate) fn check(name: &str, diagnose: fn(&Path) -> Diagnosed) {
    let mut wrong = String::new();
    for case in cases(name) {
        let expected = case.join("expected.txt");
        let actual = text(&diagnose(&case.join("Buildfile.kdl")));
        if is_updating() {
            fs::write(&expected, actual).unwrap();
            continue;
        }
        let before = fs::read_to_string(&expected).unwrap_or_default();
        if before != actual {
            let name = case.file_name().unwrap().to_string_lossy();
            wrong.push_str(&format!("\n== {name}\n{}", diff(&before, &actual)));
        }
    }
    assert!(
        wrong.is_empty(),
        "{wrong}\n`UPDATE=1 cargo test golden` accepts this"
    );
}

/// Returns the codes of the diagnostics of all cases.
pub(crate) fn codes(name: &str, diagnose: fn(&Path) -> Diagnosed) -> Vec<String> {
    let cases = cases(name).into_iter();
    let all = cases.flat_map(|case| diagnose(&case.join("Buildfile.kdl")).1);
    all.map(|diagnostic| diagnostic.code).collect()
}

fn cases(name: &str) -> Vec<PathBuf> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let entries = fs::read_dir(fixtures.join(name)).unwrap();
    let mut cases: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

fn text((sources, diagnostics): &Diagnosed) -> String {
    let options = RenderOptions {
        color: false,
        width: 80,
    };
    if diagnostics.is_empty() {
        "nothing is wrong\n".to_owned()
    } else {
        render_all(diagnostics, sources, options)
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests' own switch")]
pub(crate) fn is_updating() -> bool {
    std::env::var_os("UPDATE").is_some()
}

/// Returns the lines that only one of two texts has.
fn diff(before: &str, after: &str) -> String {
    let only_in = |sign: &str, one: &str, other: &str| -> String {
        let lines = one
            .lines()
            .filter(|line| !other.lines().any(|l| l == *line));
        lines.map(|line| format!("{sign} {line}\n")).collect()
    };
    only_in("-", before, after) + &only_in("+", after, before)
}
