//! Checks that the rows of `tests/mutants/seeded.toml` fit the sources: each file contains its
//! text, and each named test exists. `tests/mutants/run.py --seeded` plants and runs them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn seeded_bugs_fit_the_sources() {
    let rows = read("tests/mutants/seeded.toml");
    let tests = names_of_functions();
    let (mut wrong, mut count, mut name, mut file) = (Vec::new(), 0, "", "");
    for (key, value) in pairs(&rows) {
        match key {
            "name" => name = value,
            "file" => file = value,
            "text" => {
                count += 1;
                if !tokens(&read(file)).contains(&tokens(value)) {
                    wrong.push(format!("{name}: {file} does not contain `{value}`"));
                }
            }
            "test" => {
                let test = value.rsplit([':', ' ']).next().unwrap_or_default();
                if !tests.contains(test) {
                    wrong.push(format!("{name}: no test `{test}`"));
                }
            }
            _ => {}
        }
    }
    assert!(count > 80, "only {count} rows were found");
    let help = "update tests/mutants/seeded.toml; see `tests/mutants/run.py --seeded --list`";
    assert!(wrong.is_empty(), "{wrong:#?}\n{help}");
}

/// Returns the keys and string values of a TOML file with one pair per line.
fn pairs(text: &str) -> Vec<(&str, &str)> {
    let mut pairs = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(" = ") {
        let key = rest[..at].rsplit('\n').next().unwrap_or_default();
        let value = &rest[at + 3..];
        let quote = match value {
            _ if value.starts_with("'''") => "'''",
            _ if value.starts_with('\'') => "'",
            _ => "\"",
        };
        let is_string = value.starts_with(quote) && !key.starts_with('#');
        let inside = &value[if is_string { quote.len() } else { 0 }..];
        let end = inside.find(if is_string { quote } else { "\n" });
        let end = end.unwrap_or(inside.len());
        if is_string {
            pairs.push((key, &inside[..end]));
        }
        rest = &inside[end..];
    }
    pairs
}

/// Returns a text without white space and without commas before closing brackets, which
/// rustfmt adds and removes.
fn tokens(text: &str) -> String {
    let packed: String = text.split_whitespace().collect();
    packed
        .replace(",)", ")")
        .replace(",}", "}")
        .replace(",]", "]")
}

/// Returns the names of all functions in `src` and `tests`.
fn names_of_functions() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in ["src", "tests"].map(super::words::files_below).concat() {
        if file.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(file).expect("sources can be read");
            let found = text.split("fn ").skip(1);
            names.extend(found.filter_map(|rest| rest.split(['(', '<']).next().map(str::to_owned)));
        }
    }
    names
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_default()
}
