//! Golden cases for tests: each folder of `fixtures/NAME` holds a Buildfile and, in
//! `expected.txt`, what is said about it. `UPDATE=1 cargo test golden` writes down what
//! is said now.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Diagnostic, RenderOptions, Sources, render_all};

/// What is said about a Buildfile.
pub(crate) type Said = (Sources, Vec<Diagnostic>);

/// Checks that what `say` says about each case is what is expected.
pub(crate) fn check(name: &str, say: fn(&Path) -> Said) {
    let mut wrong = String::new();
    for case in cases(name) {
        let expected = case.join("expected.txt");
        let actual = text(&say(&case.join("Buildfile.kdl")));
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

/// Returns the codes of everything that `say` says about the cases.
pub(crate) fn codes(name: &str, say: fn(&Path) -> Said) -> Vec<String> {
    let cases = cases(name).into_iter();
    let said = cases.flat_map(|case| say(&case.join("Buildfile.kdl")).1);
    said.map(|diagnostic| diagnostic.code).collect()
}

fn cases(name: &str) -> Vec<PathBuf> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let entries = fs::read_dir(fixtures.join(name)).unwrap();
    let mut cases: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

fn text((sources, diagnostics): &Said) -> String {
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

/// Fingerprints the lines that only one of two texts has.
fn diff(before: &str, after: &str) -> String {
    let gone = before
        .lines()
        .filter(|line| !after.lines().any(|l| l == *line));
    let new = after
        .lines()
        .filter(|line| !before.lines().any(|l| l == *line));
    let gone = gone.map(|line| format!("- {line}\n"));
    gone.chain(new.map(|line| format!("+ {line}\n"))).collect()
}
