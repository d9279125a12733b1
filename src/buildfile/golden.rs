//! Golden cases of the language, in `fixtures/buildfile`.

use std::path::Path;

use super::{CODES, load};
use crate::source::golden::{self, Diagnosed};

fn diagnose(file: &Path) -> Diagnosed {
    let loaded = load(file, Path::new("Buildfile.kdl")).unwrap();
    (loaded.sources, loaded.diagnostics)
}

#[test]
fn golden_cases_are_unchanged() {
    golden::check("buildfile", diagnose);
}

#[test]
fn every_code_of_a_diagnostic_has_a_golden_case() {
    let codes = golden::codes("buildfile", diagnose);
    let is_error = |code: &str| code.contains("::file_") || code.contains("::add_");
    for (code, _) in CODES.iter().filter(|(code, _)| !is_error(code)) {
        assert!(
            codes.iter().any(|c| c == code),
            "no case in fixtures/buildfile has {code}"
        );
    }
    for code in codes {
        assert!(
            CODES.iter().any(|(known, _)| *known == code),
            "{code} is not explained"
        );
    }
}
