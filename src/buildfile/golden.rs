//! Golden cases: each folder of `fixtures/buildfile` holds a Buildfile and what is said
//! about it. `UPDATE=1 cargo test buildfile` writes down what is said now.

use std::fs;
use std::path::{Path, PathBuf};

use super::{CODES, load};
use crate::source::{RenderOptions, render_all};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/buildfile");
    let entries = fs::read_dir(folder).unwrap();
    let mut cases: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

/// Returns what is said about the Buildfile of a case, and which codes are in it.
fn said(case: &Path) -> (String, Vec<String>) {
    let file = case.join("Buildfile.kdl");
    let loaded = load(&file, Path::new("Buildfile.kdl")).unwrap();
    let options = RenderOptions {
        color: false,
        width: 80,
    };
    let codes = loaded.diagnostics.iter().map(|d| d.code.clone()).collect();
    match loaded.diagnostics.is_empty() {
        true => ("nothing is wrong\n".to_owned(), codes),
        false => (
            render_all(&loaded.diagnostics, &loaded.sources, options),
            codes,
        ),
    }
}

#[expect(clippy::disallowed_methods, reason = "the test's own switch")]
fn is_updating() -> bool {
    std::env::var_os("UPDATE").is_some()
}

#[test]
fn golden_cases_say_what_they_said() {
    let mut wrong = String::new();
    for case in cases() {
        let expected = case.join("expected.txt");
        let (actual, _) = said(&case);
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

/// Marks the lines that only one of two texts has.
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

#[test]
fn every_code_of_a_diagnostic_has_a_golden_case() {
    let said: Vec<String> = cases().iter().flat_map(|case| said(case).1).collect();
    let of_files = "fbuild::buildfile::file_";
    for (code, _) in CODES.iter().filter(|(code, _)| !code.starts_with(of_files)) {
        assert!(
            said.iter().any(|s| s == code),
            "no case in fixtures/buildfile says {code}"
        );
    }
    for code in said {
        assert!(
            CODES.iter().any(|(known, _)| *known == code),
            "{code} is not explained"
        );
    }
}
