//! Checks the documentation: links resolve, generated sections are current, and the opening
//! sentence is the same everywhere.
//!
//! `UPDATE=1 cargo test --test docs` rewrites the generated sections of `docs/errors.md` and
//! `docs/reliability.md`.

#![expect(clippy::expect_used, reason = "these are tests")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn error_page_matches_codes() {
    check_generated("docs/errors.md", |page| {
        let made = with_section(page, "buildfile", &explanations(fbuild::buildfile::CODES));
        with_section(&made, "graph", &explanations(fbuild::graph::CODES))
    });
}

#[test]
fn reliability_page_matches_suite_results() {
    let results = read(&root().join("docs/suite-results.txt"));
    let table = results_table(&results);
    check_generated("docs/reliability.md", |page| {
        with_section(page, "results", &table)
    });
}

/// Fails unless a page equals its generated form; rewrites it if `UPDATE` is set.
fn check_generated(name: &str, generate: impl Fn(&str) -> String) {
    let file = root().join(name);
    let page = read(&file);
    let made = generate(&page);
    #[expect(clippy::disallowed_methods, reason = "a switch for developers")]
    let is_update = std::env::var_os("UPDATE").is_some();
    if is_update {
        fs::write(&file, &made).expect("the page can be written");
    }
    assert!(
        is_update || made == page,
        "{name} is stale; `UPDATE=1 cargo test --test docs` rewrites it"
    );
}

/// Returns the lines that the suites print as a table.
fn results_table(results: &str) -> String {
    let mut table = "\n| suite | result | seed | seconds |\n|---|---|---|---|\n".to_owned();
    for line in results.lines() {
        let (suite, rest) = line.split_once(": ").expect("a line begins with its suite");
        let (rest, seconds) = match rest.strip_suffix(" s").and_then(|it| it.rsplit_once(", ")) {
            Some((rest, seconds)) => (rest, seconds),
            None => (rest, ""),
        };
        let (figures, seed) = rest.rsplit_once(", seed ").unwrap_or((rest, ""));
        let _ = writeln!(table, "| {suite} | {figures} | {seed} | {seconds} |");
    }
    table
}

#[test]
fn reliability_page_names_existing_tests() {
    let page = read(&root().join("docs/reliability.md"));
    let sources: String = rust_files().iter().map(|file| read(file)).collect();
    let is_name = |text: &&str| {
        let mut letters = text.chars();
        text.matches('_').count() >= 3
            && letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let named: Vec<&str> = page.split('`').filter(is_name).collect();
    assert!(named.len() > 50, "the names were not found");
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !sources.contains(&format!("fn {name}(")))
        .collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}

fn rust_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut pending = vec![root().join("src"), root().join("tests")];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                pending.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    files
}

#[test]
fn links_resolve() {
    let mut dead = String::new();
    for page in pages() {
        let text = read(&page);
        for link in links(&without_fences(&text)) {
            if !resolves(&page, &text, &link) {
                let _ = writeln!(dead, "{}: {link}", page.display());
            }
        }
    }
    assert!(dead.is_empty(), "{dead}");
}

#[test]
fn readme_links_every_page() {
    let readme = read(&root().join("README.md"));
    let linked = links(&without_fences(&readme));
    for page in pages() {
        let name = page.strip_prefix(root()).expect("it is below the root");
        let name = name.to_str().expect("a plain name");
        let is_linked = linked
            .iter()
            .any(|link| link.split('#').next() == Some(name));
        assert!(
            is_linked || name == "README.md",
            "the README does not link {name}"
        );
    }
}

#[test]
fn opening_sentence_is_the_same_everywhere() {
    let first = |file: &str| {
        let text = read(&root().join(file)).replace("//!", "");
        let start = text
            .find("A **buildfile**")
            .expect("it begins with the sentence");
        let end = text[start..]
            .find("\n\n")
            .or_else(|| text[start..].find("\n \n"));
        let end = start + end.expect("a paragraph ends");
        text[start..end]
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    let sentence = first("src/lib.rs");
    assert!(sentence.ends_with("is the face."), "{sentence}");
    assert_eq!(first("README.md"), sentence);
    assert_eq!(first("docs/ARCHITECTURE.md"), sentence);
}

#[test]
fn package_has_description_and_licences() {
    assert_eq!(env!("CARGO_PKG_LICENSE"), "MIT OR Apache-2.0");
    assert!(!env!("CARGO_PKG_DESCRIPTION").is_empty());
    assert!(root().join(env!("CARGO_PKG_README")).exists());
    assert!(read(&root().join("LICENSE-MIT")).starts_with("MIT License"));
    let apache = read(&root().join("LICENSE-APACHE"));
    assert!(apache.contains("Apache License\n") && apache.contains("END OF TERMS AND CONDITIONS"));
    let rust = env!("CARGO_PKG_RUST_VERSION");
    assert!(read(&root().join("README.md")).contains(&format!("Rust {rust}")));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Returns the explanations of codes, each with a heading.
fn explanations(codes: &[(&str, &str)]) -> String {
    let mut section = String::new();
    for (code, text) in codes {
        let _ = write!(section, "\n### `{code}`\n\n{}\n", sentence(text));
    }
    section
}

/// Returns `page` with `section` between the marks of `name`.
fn with_section(page: &str, name: &str, section: &str) -> String {
    let (begin, end) = (
        format!("<!-- {name}: begin -->\n"),
        format!("<!-- {name}: end -->"),
    );
    let start = page.find(&begin).expect("the page has the mark") + begin.len();
    let stop = start + page[start..].find(&end).expect("the page has the mark");
    format!("{}{section}\n{}", &page[..start], &page[stop..])
}

/// Returns a text with a capital first and a period at its end.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().into_iter().flat_map(char::to_uppercase);
    let text: String = first.chain(chars).collect();
    if text.ends_with('.') {
        text
    } else {
        text + "."
    }
}

fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    for entry in fs::read_dir(root().join("docs")).expect("docs can be listed") {
        let path = entry.expect("docs can be listed").path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    pages
}

/// Returns a page without its fenced blocks.
fn without_fences(page: &str) -> String {
    let parts = page.split("\n```").step_by(2);
    parts.collect::<Vec<_>>().join("\n")
}

/// Returns the targets of a page's links.
fn links(text: &str) -> Vec<String> {
    let ends = text.match_indices("](").map(|(at, _)| &text[at + 2..]);
    ends.filter_map(|rest| Some(rest[..rest.find(')')?].to_owned()))
        .collect()
}

fn resolves(page: &Path, text: &str, link: &str) -> bool {
    if link.starts_with("https://") {
        return true;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = page.parent().unwrap_or(root()).join(file);
    if !target.exists() || anchor.is_empty() {
        return target.exists();
    }
    let text = if file.is_empty() {
        text.to_owned()
    } else {
        read(&target)
    };
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(slug).any(|slug| slug == anchor)
}

/// Returns the anchor of a heading.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
