//! Finds what a target's `inputs` and `outputs` nodes mean on the disk right now. It
//! knows one target at a time and nothing of the graph.

use std::collections::HashSet;

use super::index::{self, FileIndex, Selection};
use super::{Entry, EntryKind, OutputSpec};
use crate::buildfile::model::{Inputs, Output, Spanned, Target};
use crate::glob::Pattern;
use crate::path::RelPath;
use crate::source::Diagnostic;

/// Why the inputs of a target could not be found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Files could not be read.
    #[error(transparent)]
    Index(#[from] index::Error),
    /// Patterns match nothing: one diagnostic for each.
    #[error("{} match nothing", .0.len())]
    Empty(Vec<Diagnostic>),
}

/// Returns the input files of a target, sorted by path, each once. Its own outputs are
/// never among them.
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
        empty.extend(unmatched(index, inputs, &found.matches));
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

/// Returns what stands where a target's outputs belong, sorted by path, folders included.
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
                let mut found = find_spec(index, spec, &[&folder, &everything])?;
                if !spec.keep.is_empty() {
                    leave_kept_folders(index, spec, path, &mut found)?;
                }
                entries.extend(found);
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

/// Leaves out folders below the owned one in which nothing but kept things lies: they are
/// kept as well.
fn leave_kept_folders(
    index: &FileIndex,
    spec: &OutputSpec,
    owned: &RelPath,
    entries: &mut Vec<Entry>,
) -> Result<(), index::Error> {
    let kept = index.find(Selection {
        include: &spec.keep.iter().collect::<Vec<_>>(),
        except: &[],
        folders: true,
    })?;
    let holds_kept = |folder: &RelPath| kept.entries.iter().any(|kept| kept.path.is_within(folder));
    let mut own: Vec<Entry> = Vec::with_capacity(entries.len());
    let mut holds_own: HashSet<RelPath> = HashSet::new();
    // What is in a folder stands behind it.
    for entry in entries.drain(..).rev() {
        let is_ours = entry.kind != EntryKind::Folder
            || entry.path == *owned
            || holds_own.contains(&entry.path)
            || !holds_kept(&entry.path);
        if is_ours {
            holds_own.extend(entry.path.parent());
            own.push(entry);
        }
    }
    entries.extend(own.into_iter().rev());
    Ok(())
}

/// Returns a target's outputs as they are declared.
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
    let message = match literal {
        Some(_) => format!("the input `{text}` does not exist"),
        None => format!("the pattern `{text}` matches no file"),
    };
    Diagnostic::error("fbuild::action::no_match", message)
        .label(pattern.span, "nothing here")
        .help("correct it, or write `optional=#true` after the patterns if nothing is fine")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::path::Root;

    #[test]
    fn folders_in_which_nothing_but_kept_things_lies_are_kept_too() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        for file in [
            "own/a",
            "own/deep/b",
            "own/kept/x.keep",
            "own/both/y.keep",
            "own/both/c",
            "own/both-x",
        ] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        fs::create_dir(dir.path().join("own/empty")).unwrap();
        let spec = OutputSpec {
            output: Output::Folder(RelPath::new("own").unwrap()),
            committed: false,
            keep: vec![Pattern::new("own/**/*.keep").unwrap()],
        };
        let index = FileIndex::open(root, &dir.path().join("index"), Vec::new());
        let found = find_outputs(&index, &[spec]).unwrap();
        let names: Vec<String> = found.iter().map(|entry| entry.path.to_string()).collect();
        let expected = [
            "own",
            "own/a",
            "own/both",
            "own/both-x",
            "own/both/c",
            "own/deep",
            "own/deep/b",
            "own/empty",
        ];
        assert_eq!(names, expected);
    }
}
