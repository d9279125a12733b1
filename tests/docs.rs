//! The pages for people are true where that can be checked: every link leads
//! somewhere, what is made from the sources is fresh, and the sentence that says what fbuild is is the same everywhere.
//!
//! `UPDATE=1 cargo test --test docs` makes the parts of `docs/errors.md` anew that are made
//! from the sources.

#![expect(clippy::expect_used, reason = "these are tests")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn the_generated_part_of_the_errors_is_fresh() {
    let file = root().join("docs/errors.md");
    let page = read(&file);
    let made = with_section(&page, "buildfile", fbuild::buildfile::CODES);
    let made = with_section(&made, "graph", fbuild::graph::CODES);
    #[expect(
        clippy::disallowed_methods,
        reason = "a switch for whoever runs the tests"
    )]
    let is_update = std::env::var_os("UPDATE").is_some();
    if is_update {
        fs::write(&file, &made).expect("the page can be written");
    }
    assert!(
        is_update || made == page,
        "docs/errors.md is stale; `UPDATE=1 cargo test --test docs` makes it anew"
    );
}

#[test]
fn every_test_that_the_page_on_reliability_names_is_there() {
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
            match path.is_dir() {
                true => pending.push(path),
                false => files.push(path),
            }
        }
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    files
}

#[test]
fn every_link_leads_somewhere() {
    let mut dead = String::new();
    for page in pages() {
        let text = read(&page);
        for link in links(&without_fences(&text)) {
            if !leads_somewhere(&page, &text, &link) {
                let _ = writeln!(dead, "{}: {link}", page.display());
            }
        }
    }
    assert!(dead.is_empty(), "{dead}");
}

#[test]
fn every_page_can_be_reached_from_the_readme() {
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
fn the_sentence_is_the_same_everywhere() {
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
fn the_package_says_what_it_is_and_under_which_licences() {
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

/// Returns `page` with the explanations of `codes` between the marks of `name`.
fn with_section(page: &str, name: &str, codes: &[(&str, &str)]) -> String {
    let (begin, end) = (
        format!("<!-- {name}: begin -->\n"),
        format!("<!-- {name}: end -->"),
    );
    let start = page.find(&begin).expect("the page has the mark") + begin.len();
    let stop = start + page[start..].find(&end).expect("the page has the mark");
    let mut section = String::new();
    for (code, text) in codes {
        let _ = write!(section, "\n### `{code}`\n\n{}\n", sentence(text));
    }
    format!("{}{section}\n{}", &page[..start], &page[stop..])
}

/// Begins with a capital and ends with a period.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().into_iter().flat_map(char::to_uppercase);
    let text: String = first.chain(chars).collect();
    match text.ends_with('.') {
        true => text,
        false => text + ".",
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

/// Returns a page without what stands between fences.
fn without_fences(page: &str) -> String {
    let parts = page.split("\n```").step_by(2);
    parts.collect::<Vec<_>>().join("\n")
}

/// Returns what the links of a page lead to.
fn links(text: &str) -> Vec<String> {
    let ends = text.match_indices("](").map(|(at, _)| &text[at + 2..]);
    ends.filter_map(|rest| Some(rest[..rest.find(')')?].to_owned()))
        .collect()
}

fn leads_somewhere(page: &Path, text: &str, link: &str) -> bool {
    if link.starts_with("https://") {
        return true;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = page.parent().unwrap_or(root()).join(file);
    let text = match file.is_empty() {
        true => text.to_owned(),
        false if !target.exists() => return false,
        false if anchor.is_empty() => return true,
        false => read(&target),
    };
    let headings = text.lines().filter(|line| line.starts_with('#'));
    anchor.is_empty() || headings.map(slug).any(|slug| slug == anchor)
}

/// Returns the anchor that a heading gets.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
