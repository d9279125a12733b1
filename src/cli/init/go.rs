//! Finds Go modules by `go.mod`, with their programs and tests.

use std::collections::BTreeSet;

use super::sources::below;
use super::tree::Tree;
use super::{Kind, Project, Purpose, Step, Tool};
use crate::glob::Pattern;
use crate::path::RelPath;

/// Finds all modules.
pub(super) fn find(tree: &Tree) -> Vec<Project> {
    let folders = tree.folders_with("go.mod");
    let module = |folder: &RelPath| {
        let inner: Vec<&RelPath> = folders
            .iter()
            .filter(|f| *f != folder && f.is_within(folder))
            .collect();
        module(tree, folder, &inner)
    };
    folders.iter().map(module).collect()
}

/// Describes a module, without the `inner` modules below its folder.
fn module(tree: &Tree, folder: &RelPath, inner: &[&RelPath]) -> Project {
    let text = tree.text_in(folder, "go.mod");
    let word_after = |first: &str| {
        let mut lines = text.lines().map(str::trim);
        let rest = lines.find_map(|line| line.strip_prefix(first)?.strip_prefix(' '))?;
        rest.split_whitespace()
            .next()
            .map(|word| word.trim_matches('"').to_owned())
    };
    let title = word_after("module");
    let is_own = |file: &&RelPath| {
        file.name().ends_with(b".go") && !inner.iter().any(|inner| file.is_within(inner))
    };
    let files: Vec<&RelPath> = tree.below(folder).filter(is_own).collect();
    let reaches = reaches(tree, folder, &files);
    let is_test = |file: &&RelPath| file.name().ends_with(b"_test.go");
    let (tests, code): (Vec<&RelPath>, Vec<&RelPath>) = files.into_iter().partition(is_test);
    let mut steps = programs(tree, folder, &code, title.as_deref());
    if steps.is_empty() && !code.is_empty() {
        let mut step = Step::new(Purpose::Build, "compiles everything");
        step.except.push("**/*_test.go");
        steps.push(step.run(&["go", "build", "./..."]));
    }
    if !tests.is_empty() {
        steps.push(Step::new(Purpose::Test, "the Go tests").run(&["go", "test", "./..."]));
    }
    Project {
        kind: Kind::Go,
        folder: folder.clone(),
        title,
        manifest: "go.mod",
        tools: vec![Tool {
            name: "go",
            version: word_after("go").map(|version| format!(">={version}")),
        }],
        litter: Vec::new(),
        reaches,
        notes: Vec::new(),
        steps,
    }
}

/// Returns a step for each program, in the module's own folder and below `cmd`.
fn programs(tree: &Tree, folder: &RelPath, code: &[&RelPath], title: Option<&str>) -> Vec<Step> {
    let packages: BTreeSet<RelPath> = code
        .iter()
        .filter_map(|file| file.parent())
        .filter(|package| package == folder || package.is_within(&folder.child(b"cmd")))
        .collect();
    let is_program = |package: &&RelPath| {
        let mut files = code
            .iter()
            .filter(|file| file.parent().as_ref() == Some(*package));
        files.any(|file| is_main(&tree.text(file)))
    };
    let own_name = || {
        let mut parts = title.unwrap_or("program").rsplit('/');
        let is_version = |part: &&str| {
            part.strip_prefix('v')
                .is_some_and(|n| n.parse::<u32>().is_ok())
        };
        let name = parts.find(|part| !is_version(part)).unwrap_or("");
        let is_plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        if name.starts_with(char::is_alphanumeric) && name.chars().all(is_plain) {
            name.to_owned()
        } else {
            "program".to_owned()
        }
    };
    let program = |package: &RelPath| {
        let below = package.below(folder).filter(|below| !below.is_root());
        match below {
            None => program(own_name(), "."),
            Some(below) => {
                let name = String::from_utf8_lossy(below.name()).into_owned();
                program(name, &format!("./{below}"))
            }
        }
    };
    packages.iter().filter(is_program).map(program).collect()
}

fn program(name: String, package: &str) -> Step {
    let output = format!("bin/{name}");
    let mut step = Step::new(Purpose::Build, format!("the program {name}"));
    step = step.run(&["go", "build", "-o", &output, package]);
    step.outputs.push(output);
    step.except.push("**/*_test.go");
    step.name = Some(name);
    step
}

/// Returns patterns for the Go files of every package and for the files that they embed.
fn reaches(tree: &Tree, folder: &RelPath, files: &[&RelPath]) -> Vec<String> {
    let mut patterns = BTreeSet::new();
    for file in files {
        let Some(package) = file.parent().and_then(|package| package.below(folder)) else {
            continue;
        };
        patterns.insert(below(&package, "*.go"));
        for path in embedded(&tree.text(file)) {
            patterns.insert(below(&package, &path));
            if !path.contains('*') {
                patterns.insert(below(&package, &format!("{path}/**")));
            }
        }
    }
    let is_pattern = |pattern: &String| Pattern::new(pattern).is_ok();
    patterns.into_iter().filter(is_pattern).collect()
}

/// Returns the patterns of `//go:embed` lines.
fn embedded(text: &str) -> Vec<String> {
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("//go:embed "));
    let words = lines.flat_map(str::split_whitespace);
    let plain = words.map(|word| word.trim_matches(['"', '`']));
    let plain = plain.map(|word| word.strip_prefix("all:").unwrap_or(word));
    let is_known = |word: &&str| {
        word.chars()
            .all(|c| c.is_alphanumeric() || "-_./*".contains(c))
    };
    plain.filter(is_known).map(str::to_owned).collect()
}

/// Returns true if a text is a file of a program that is built by default.
fn is_main(text: &str) -> bool {
    let lines = || text.lines().map(str::trim);
    let is_package = |line: &str| line.split("//").next().map(str::trim) == Some("package main");
    lines().any(is_package) && !lines().any(|line| line.starts_with("//go:build ignore"))
}
