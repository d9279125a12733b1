//! Counts words that comments and docs avoid, and test names that are too long. The recorded
//! numbers may only fall: reword the text instead of raising a number.

use std::fs;
use std::path::{Path, PathBuf};

/// The longest name of a test.
const MAX_NAME: usize = 50;

/// A kind of text to avoid, with the recorded counts in `src`, `tests` and `docs`.
const RECORDED: &[(&str, Count, [usize; 3])] = &[
    ("people as actors, archaic adverbs", people, [5, 0, 0]),
    ("comments that start with a question", questions, [20, 0, 2]),
    ("says or tells with a question", reports, [3, 0, 0]),
    ("what and whatever per 10,000 words", relatives, [23, 8, 7]),
];

type Count = fn(&[String]) -> usize;

fn people(lines: &[String]) -> usize {
    let avoided = ["nobody", "somebody", "whoever", "anew", "seldom"];
    let is_avoided = |word: &String| avoided.contains(&word.as_str());
    lines
        .iter()
        .flat_map(|line| words(line))
        .filter(is_avoided)
        .count()
}

/// Counts lines that start with a question. "Whether" may describe a flag.
fn questions(lines: &[String]) -> usize {
    let starts = ["What ", "Who ", "Whatever "];
    let is_question = |line: &&String| starts.iter().any(|start| line.starts_with(start));
    lines.iter().filter(is_question).count()
}

fn reports(lines: &[String]) -> usize {
    let is_report = |pair: &[String]| {
        matches!(pair[0].as_str(), "says" | "tells")
            && matches!(pair[1].as_str(), "what" | "who" | "whether")
    };
    let all: Vec<String> = lines.iter().flat_map(|line| words(line)).collect();
    all.windows(2).filter(|pair| is_report(pair)).count()
}

fn relatives(lines: &[String]) -> usize {
    let all: Vec<String> = lines.iter().flat_map(|line| words(line)).collect();
    let is_relative = |word: &&String| matches!(word.as_str(), "what" | "whatever");
    let found = all.iter().filter(is_relative).count();
    (10_000 * found).div_ceil(all.len().max(1))
}

/// Returns the lower-case words of a text.
fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

#[test]
fn avoided_words_do_not_increase() {
    let areas = [
        ("src", comments("src")),
        ("tests", comments("tests")),
        ("docs", pages()),
    ];
    let mut wrong = Vec::new();
    for (name, count, recorded) in RECORDED {
        for ((area, lines), recorded) in areas.iter().zip(recorded) {
            let found = count(lines);
            if found > *recorded {
                wrong.push(format!("{area}: {name}: {found}, recorded {recorded}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn test_names_are_short() {
    let files = ["src", "tests"].map(files_below).concat();
    let mut long = Vec::new();
    for file in files.iter().filter(|file| is_rust(file)) {
        let text = read(file);
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            let name = line
                .strip_prefix("fn ")
                .and_then(|rest| rest.split(['(', '<']).next());
            match name {
                _ if line == "#[test]" => is_test = true,
                Some(name) if is_test && name.len() > MAX_NAME => long.push(name.to_owned()),
                _ => {}
            }
            is_test &= name.is_none();
        }
    }
    assert!(long.is_empty(), "over {MAX_NAME} characters: {long:#?}");
}

/// Returns the lines of all comments below a folder.
fn comments(folder: &str) -> Vec<String> {
    let files = files_below(folder).into_iter().filter(|file| is_rust(file));
    let lines = files.flat_map(|file| read(&file).lines().map(str::to_owned).collect::<Vec<_>>());
    let comment = |line: String| {
        let text = line.trim().strip_prefix("//")?;
        Some(text.trim_start_matches(['/', '!']).trim().to_owned())
    };
    lines.filter_map(comment).collect()
}

/// Returns the lines of all pages, without fenced blocks.
fn pages() -> Vec<String> {
    let mut lines = Vec::new();
    for file in files_below("docs")
        .iter()
        .filter(|file| file.extension().is_some_and(|e| e == "md"))
    {
        let mut is_fenced = false;
        for line in read(file).lines() {
            is_fenced ^= line.starts_with("```");
            if !is_fenced {
                lines.push(line.to_owned());
            }
        }
    }
    lines
}

pub(super) fn files_below(folder: &str) -> Vec<PathBuf> {
    let mut pending = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).expect("the folder can be listed") {
            let path = entry.expect("the folder can be listed").path();
            if path.is_dir() {
                pending.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files
}

fn is_rust(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "rs")
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).expect("the file can be read")
}
