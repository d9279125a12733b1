//! Finds the files that a target's `inputs` and `outputs` nodes match on the disk. It knows
//! one target at a time and not the graph.

use super::index::{self, FileIndex, Selection};
use super::{Entry, OutputSpec};
use crate::buildfile::model::{Inputs, Output, Spanned, Target};
use crate::glob::{self, Pattern};
use crate::path::RelPath;
use crate::source::Diagnostic;

/// Why the inputs of a target cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error(transparent)]
    Index(#[from] index::Error),
    /// Some patterns match nothing: one diagnostic for each.
    #[error("{} match nothing", .0.len())]
    Empty(Vec<Diagnostic>),
}

/// Returns the input files of a target, sorted by path, each once. Its own outputs are never
/// inputs.
pub fn find(index: &FileIndex, target: &Target) -> Result<Vec<Entry>, Error> {
    let own = own_outputs(target);
    let mut entries = Vec::new();
    let mut empty = Vec::new();
    for inputs in &target.inputs {
        let include: Vec<&Pattern> = inputs.patterns.iter().map(|p| &p.value).collect();
        let except: Vec<&Pattern> = inputs.except.iter().map(|p| &p.value).chain(&own).collect();
        let found = index.find(Selection {
            include: &include,
            except: &except,
            folders: false,
        })?;
        empty.extend(unmatched(index, inputs, &found.counts));
        entries.extend(found.entries);
    }
    if !empty.is_empty() {
        return Err(Error::Empty(empty));
    }
    if target.inputs.len() > 1 {
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        entries.dedup_by(|a, b| a.path == b.path);
    }
    Ok(entries)
}

/// Returns everything at the paths of a target's outputs, sorted by path. In an owned folder
/// that includes every folder, also one that exists only for a kept file.
pub fn find_outputs(index: &FileIndex, specs: &[OutputSpec]) -> Result<Vec<Entry>, index::Error> {
    let mut entries = Vec::new();
    for spec in specs {
        match &spec.output {
            Output::File(path) => {
                let entry = |kind| Entry {
                    path: path.clone(),
                    kind,
                };
                entries.extend(index.entry(path)?.map(entry));
            }
            Output::Folder(path) => {
                let folder = Pattern::literal_path(path);
                let everything = Pattern::everything_below(path);
                entries.extend(find_spec(index, spec, &[&folder, &everything])?);
            }
            Output::Glob(pattern) => entries.extend(find_spec(index, spec, &[pattern])?),
        }
    }
    entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    entries.dedup_by(|a, b| a.path == b.path);
    Ok(entries)
}

fn find_spec(
    index: &FileIndex,
    spec: &OutputSpec,
    include: &[&Pattern],
) -> Result<Vec<Entry>, index::Error> {
    let found = index.find(Selection {
        include,
        except: &spec.keep.iter().collect::<Vec<_>>(),
        folders: matches!(spec.output, Output::Folder(_)),
    })?;
    Ok(found.entries)
}

/// Returns the declared outputs of a target.
pub fn specs(target: &Target) -> Vec<OutputSpec> {
    let spec = |outputs: &crate::buildfile::model::Outputs, output: &Spanned<Output>| OutputSpec {
        output: output.value.clone(),
        committed: outputs.committed,
        keep: match output.value {
            Output::Folder(_) => outputs.keep.iter().map(|k| k.value.clone()).collect(),
            _ => Vec::new(),
        },
    };
    let all = target.outputs.iter();
    all.flat_map(|outputs| outputs.paths.iter().map(|o| spec(outputs, o)))
        .collect()
}

fn own_outputs(target: &Target) -> Vec<Pattern> {
    let outputs = target.outputs.iter().flat_map(|outputs| &outputs.paths);
    outputs.map(|output| output.value.pattern()).collect()
}

fn unmatched(index: &FileIndex, inputs: &Inputs, matches: &[usize]) -> Vec<Diagnostic> {
    if inputs.optional {
        return Vec::new();
    }
    let empty = inputs
        .patterns
        .iter()
        .zip(matches)
        .filter(|(_, n)| **n == 0);
    empty.map(|(pattern, _)| no_match(index, pattern)).collect()
}

fn no_match(index: &FileIndex, pattern: &Spanned<Pattern>) -> Diagnostic {
    let text = pattern.value.text();
    let literal = pattern.value.as_literal();
    if literal.is_some_and(|path| index.root().absolute(path).is_dir()) {
        return Diagnostic::error(
            "fbuild::action::input_is_folder",
            format!("the input `{text}` is a folder"),
        )
        .label(pattern.span, "files are inputs, folders are not")
        .help(format!("for everything below it, write `{text}/`"));
    }
    let is_other = |path| {
        let metadata = index.root().absolute(path).symlink_metadata();
        metadata.is_ok_and(|metadata| !metadata.is_file() && !metadata.is_symlink())
    };
    let message = match literal {
        Some(path) if is_other(path) => format!("the input `{text}` is neither a file nor a link"),
        Some(_) => format!("the input `{text}` does not exist"),
        None => format!("the pattern `{text}` matches no file"),
    };
    let help = if is_file_with_brackets(index, &pattern.value) {
        let escaped = glob::escaped(text);
        format!("a file of that name exists, but brackets are a class; write #\"{escaped}\"#")
    } else {
        "correct it, or write `optional=#true` after the patterns if nothing is fine".to_owned()
    };
    Diagnostic::error("fbuild::action::no_match", message)
        .label(pattern.span, "nothing here")
        .help(help)
}

/// Returns a warning for each pattern of a target that is also the name of an existing file,
/// which it does not match because brackets are a class.
pub fn bracket_warnings(index: &FileIndex, target: &Target) -> Vec<Diagnostic> {
    let patterns = target.inputs.iter().flat_map(|inputs| &inputs.patterns);
    let misread = patterns.filter(|pattern| is_file_with_brackets(index, &pattern.value));
    let warning = |pattern: &Spanned<Pattern>| {
        let text = pattern.value.text();
        let escaped = glob::escaped(text);
        let message = format!("the file `{text}` is not an input");
        Diagnostic::warning("fbuild::buildfile::lookalike", message)
            .label(pattern.span, "brackets are a class in patterns")
            .help(format!("for the file, write #\"{escaped}\"#"))
    };
    misread.map(warning).collect()
}

fn is_file_with_brackets(index: &FileIndex, pattern: &Pattern) -> bool {
    let text = pattern.text();
    let named = || {
        RelPath::new(text)
            .ok()
            .filter(|path| !pattern.matches(path))
    };
    text.contains('[')
        && named().is_some_and(|path| index.root().absolute(&path).symlink_metadata().is_ok())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::buildfile;
    use crate::checked_file::StateFile;
    use crate::digest::Key;
    use crate::path::Root;

    #[test]
    fn inputs_of_several_nodes_are_sorted_and_unique() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c", "d"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let root = Root::open(dir.path()).unwrap();
        let file = StateFile::new(dir.path().join("no index"), Key::new([1; 32]));
        let index = FileIndex::open(root, &file, Vec::new());
        for (inputs, expected) in [
            (
                "inputs b c; inputs a b; inputs d",
                &["a", "b", "c", "d"][..],
            ),
            ("inputs d; inputs a", &["a", "d"]),
            ("inputs c a", &["a", "c"]),
        ] {
            let text = format!("target t {{ {inputs}; outputs out; sh \"true\" }}");
            let loaded = buildfile::load_text(&text, Path::new("Buildfile.kdl"));
            assert_eq!(loaded.diagnostics, []);
            let found = find(&index, &loaded.buildfile.targets[0]).unwrap();
            let found: Vec<_> = found.iter().map(|entry| entry.path.to_string()).collect();
            assert_eq!(found, expected);
        }
    }
}
