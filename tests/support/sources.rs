//! Reads the sources of fbuild as text, with comments, literals and tests blanked, for the tests
//! of architecture and words.

#![expect(clippy::expect_used, reason = "these are tests")]

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// A source file.
pub(crate) struct Source {
    /// The path below `src`, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The text with comments and literals blanked.
    pub(crate) code: String,
    /// The code with tests blanked as well.
    pub(crate) product: String,
    /// The text with tests blanked.
    pub(crate) product_text: String,
}

impl Source {
    /// Returns true if the file is one of `places`, or is in one that ends with a slash.
    pub(crate) fn is_at(&self, places: &[&str]) -> bool {
        let is_there = |place: &&str| match place.ends_with('/') {
            true => self.path.starts_with(*place),
            false => self.path == *place,
        };
        places.iter().any(is_there)
    }

    /// Returns the module path of the file.
    pub(crate) fn module(&self) -> Vec<&str> {
        let path = self.path.trim_end_matches(".rs").trim_end_matches("/mod");
        path.split('/')
            .filter(|name| !matches!(*name, "lib" | "main"))
            .collect()
    }
}

/// Returns the files of `src`, sorted by path.
pub(crate) fn sources() -> &'static [Source] {
    static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(read_all);
    &SOURCES
}

/// Reads `src`. A file that contains only tests has no product.
fn read_all() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources: Vec<Source> = rust_files(&root)
        .iter()
        .map(|file| read(&root, file))
        .collect();
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    let tests: BTreeSet<String> = sources.iter().flat_map(test_modules).collect();
    for source in &mut sources {
        let module = source.module().join("/");
        let is_below = |test: &String| module == *test || module.starts_with(&format!("{test}/"));
        if tests.iter().any(is_below) {
            source.product = blank(&source.product);
            source.product_text = blank(&source.product_text);
        }
    }
    assert!(sources.len() > 50, "the sources were not found");
    sources
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("src can be listed") {
        let path = entry.expect("src can be listed").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn read(root: &Path, file: &Path) -> Source {
    let path = file.strip_prefix(root).expect("it is below src");
    let text = fs::read_to_string(file).expect("sources can be read");
    let code = without_words(&text);
    let items = test_items(&code);
    Source {
        path: path.to_str().expect("a plain name").to_owned(),
        product: blank_all(&code, &items),
        product_text: blank_all(&text, &items),
        code,
        text,
    }
}

/// Returns the lines that contain `word` as a whole word.
pub(crate) fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let is_whole = |at: &usize| {
        let before = code[..*at].chars().next_back().is_some_and(is_part);
        let after = code[at + word.len()..].chars().next();
        !before && (word.ends_with('!') || !after.is_some_and(is_part))
    };
    let found = code.match_indices(word).map(|(at, _)| at).filter(is_whole);
    found.map(|at| line_of(code, at)).collect()
}

pub(crate) fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// Returns the identifiers of some code with their offsets.
pub(crate) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = 0;
    std::iter::from_fn(move || {
        let start = rest + code[rest..].find(is_part)?;
        let length = code[start..]
            .find(|c| !is_part(c))
            .unwrap_or(code.len() - start);
        rest = start + length;
        Some((start, &code[start..rest]))
    })
}

/// A function of the product.
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) lines: usize,
    pub(crate) parameters: usize,
}

pub(crate) fn functions(code: &str) -> Vec<Function> {
    let words: Vec<(usize, &str)> = words(code).collect();
    let named = words.windows(2).filter(|pair| pair[0].1 == "fn");
    let functions = named.filter_map(|pair| {
        let (start, (at, name)) = (pair[0].0, pair[1]);
        let open = at + code[at..].find('(')?;
        let close = closing(code, open)?;
        let body = close + code[close..].find(['{', ';'])?;
        let end = if code[body..].starts_with('{') {
            closing(code, body)?
        } else {
            body
        };
        Some(Function {
            name: name.to_owned(),
            line: line_of(code, start),
            lines: code[start..end].matches('\n').count() + 1,
            parameters: parameters(&code[open + 1..close]),
        })
    });
    functions.collect()
}

/// Counts parameters without `self`.
pub(crate) fn parameters(list: &str) -> usize {
    let (mut depth, mut parts) = (0_i32, vec![String::new()]);
    for c in list.replace("->", "  ").chars() {
        match c {
            '(' | '[' | '{' | '<' => depth += 1,
            ')' | ']' | '}' | '>' => depth -= 1,
            ',' if depth == 0 => parts.push(String::new()),
            _ => {}
        }
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    let is_self =
        |part: &str| words(part).all(|(_, word)| matches!(word, "self" | "mut" | "a" | "_"));
    parts.iter().filter(|part| !is_self(part)).count()
}

/// Returns the offset of the bracket that closes the one at `open`.
fn closing(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in code[open..].char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(open + at);
        }
    }
    None
}

/// Returns the number of lines of a file outside of its tests.
pub(crate) fn product_lines(source: &Source) -> usize {
    let is_test =
        |(code, product): &(&str, &str)| !code.trim().is_empty() && product.trim().is_empty();
    let all = source.text.lines().count();
    let pairs = source.code.lines().zip(source.product.lines());
    let first_test = pairs.clone().position(|pair| is_test(&pair));
    let tests = pairs.filter(is_test).count();
    // A test module at the end includes the blank lines and comments before it.
    let tail = source.product.trim_end().lines().count();
    match first_test {
        Some(_) if tail < all => tail.min(all - tests),
        Some(_) => all - tests,
        None => all,
    }
}

/// The attribute before an item for tests.
const TEST: &str = "#[cfg(test)]";

/// Returns the paths of the test modules that a file declares.
fn test_modules(source: &Source) -> Vec<String> {
    let found = source.code.match_indices(TEST).filter_map(|(at, _)| {
        let item = &source.code[at + TEST.len()..];
        let head = item.split([';', '{']).next()?;
        let name = head
            .split_whitespace()
            .skip_while(|word| *word != "mod")
            .nth(1)?;
        let mut module = source.module();
        module.push(name);
        Some(module.join("/"))
    });
    found.collect()
}

/// Blanks every item that is compiled for tests only.
pub(crate) fn without_tests(code: &str) -> String {
    blank_all(code, &test_items(code))
}

/// Returns the ranges of the items that are compiled for tests only.
fn test_items(code: &str) -> Vec<Range<usize>> {
    let mut items: Vec<Range<usize>> = Vec::new();
    for (at, _) in code.match_indices(TEST) {
        if items.last().is_none_or(|last| last.end <= at) {
            let rest = at + TEST.len();
            let stop = code[rest..].find([';', '{']).map(|stop| rest + stop);
            let end = match stop {
                Some(stop) if code[stop..].starts_with('{') => closing(code, stop),
                other => other,
            };
            items.push(at..end.map_or(code.len(), |end| end + 1));
        }
    }
    items
}

fn blank_all(text: &str, ranges: &[Range<usize>]) -> String {
    let mut text = text.to_owned();
    for range in ranges {
        let blanked = blank(&text[range.clone()]);
        text.replace_range(range.clone(), &blanked);
    }
    text
}

/// Returns as many spaces as `text` has bytes, with the same line breaks.
fn blank(text: &str) -> String {
    let bytes = text.bytes();
    bytes
        .map(|byte| if byte == b'\n' { '\n' } else { ' ' })
        .collect()
}

/// Blanks comments, strings and characters without moving the rest.
pub(crate) fn without_words(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = match length_of_words(rest, code.chars().next_back()) {
            0 => {
                code.push_str(&if c.is_ascii() {
                    c.to_string()
                } else {
                    " ".repeat(c.len_utf8())
                });
                c.len_utf8()
            }
            length => {
                code.push_str(&blank(&rest[..length]));
                length
            }
        };
        rest = &rest[length..];
    }
    code
}

/// Returns the length of the comment or literal that starts here, or 0.
fn length_of_words(rest: &str, before: Option<char>) -> usize {
    let after = |end: Option<usize>, length: usize| end.map_or(rest.len(), |at| at + length);
    if rest.starts_with("//") {
        return after(rest.find('\n'), 0);
    }
    if rest.starts_with("/*") {
        return after(rest.find("*/"), 2);
    }
    let is_prefix = !before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let raw = rest
        .strip_prefix('b')
        .unwrap_or(rest)
        .strip_prefix('r')
        .filter(|_| is_prefix);
    if let Some(raw) = raw {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let skip = rest.len() - raw.len() + hashes + 1;
            let end = format!("\"{}", "#".repeat(hashes));
            return after(rest[skip..].find(&end).map(|at| at + skip), end.len());
        }
    }
    if rest.starts_with('"') {
        return quoted(rest, '"');
    }
    match rest
        .strip_prefix('\'')
        .map(|text| (text.chars().next(), text.chars().nth(1)))
    {
        Some((Some('\\'), _)) => quoted(rest, '\''),
        Some((Some(c), Some('\''))) => c.len_utf8() + 2,
        _ => 0,
    }
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}
