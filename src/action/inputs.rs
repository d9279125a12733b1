//! Finds the files that a target's `inputs` and `outputs` nodes match on the disk.

use std::collections::BTreeMap;

use super::index::{self, FileIndex, Matches, Scope, Selection};
use super::{Entry, EntryKind, OutputSpec};
use crate::buildfile::model::{Inputs, Output, Spanned, Target};
use crate::glob::{self, Pattern};
use crate::graph::{Graph, TargetId};
use crate::path::RelPath;
use crate::source::Diagnostic;
use crate::stamp::{FileKind, Stamp};
use crate::workspace::Layout;

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

/// The outputs of needed targets, by the targets' names.
pub type Needs = BTreeMap<String, Vec<Entry>>;

/// The inputs of a target.
#[derive(Debug, Default)]
pub struct Found {
    /// The files, links and empty folders, sorted by path, each once.
    pub entries: Vec<Entry>,
    /// The links among them that lead out of the root, sorted.
    pub outside: Vec<RelPath>,
    /// Those that a pattern reaches through a link, with the span of the pattern.
    pub behind: Vec<Spanned<RelPath>>,
}

/// Finds the inputs of a target: the matches of its patterns, and the files behind links to
/// folders that needed targets made. The target's own outputs are never inputs.
pub fn find(index: &FileIndex, graph: &Graph, id: TargetId, needs: &Needs) -> Result<Found, Error> {
    let target = graph.target(id);
    let own = own_outputs(target);
    let mut found = Found::default();
    let mut empty = Vec::new();
    for inputs in &target.inputs {
        let include: Vec<&Pattern> = inputs.patterns.iter().map(|p| &p.value).collect();
        let except: Vec<&Pattern> = inputs.except.iter().map(|p| &p.value).chain(&own).collect();
        let matches = index.find(Selection {
            include: &include,
            except: &except,
            scope: Scope::Inputs,
        })?;
        empty.extend(unmatched(index, inputs, &matches));
        found.entries.extend(matches.entries);
        found.outside.extend(matches.outside);
        let behind = matches.behind.into_iter();
        found.behind.extend(behind.map(|(pattern, value)| Spanned {
            value,
            span: inputs.patterns[pattern].span,
        }));
    }
    if !empty.is_empty() {
        return Err(Error::Empty(empty));
    }
    let behind = find_behind_needs(index, graph, id, needs)?;
    if target.inputs.len() > 1 || !behind.entries.is_empty() {
        found.entries.extend(behind.entries);
        found.entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        found.entries.dedup_by(|a, b| a.path == b.path);
    }
    found.outside.extend(behind.outside);
    found.outside.sort_unstable();
    found.outside.dedup();
    Ok(found)
}

/// Replaces links among the outputs of a needed target by the same links with the content
/// behind them.
pub fn read_behind(index: &FileIndex, outputs: &mut [Entry]) -> Result<(), index::Error> {
    for entry in outputs {
        if matches!(entry.kind, EntryKind::Link { .. })
            && let Some(link @ EntryKind::Link { .. }) = index.entry(&entry.path)?
        {
            entry.kind = link;
        }
    }
    Ok(())
}

/// Finds the files behind links to folders that needed targets made. Outputs of other targets
/// are left out: those of needed targets are in the key already, and to read others without
/// `needs` is a mistake that is reported elsewhere.
fn find_behind_needs(
    index: &FileIndex,
    graph: &Graph,
    id: TargetId,
    needs: &Needs,
) -> Result<Matches, index::Error> {
    let is_link = |entry: &&Entry| matches!(entry.kind, EntryKind::Link { content: None, .. });
    let (mut links, mut folders) = (Vec::new(), Vec::new());
    for link in needs.values().flatten().filter(is_link) {
        if let Some(folder) = index.folder_behind(&link.path)? {
            links.push(Pattern::everything_below(&link.path));
            folders.push(folder);
        }
    }
    if links.is_empty() {
        return Ok(Matches::default());
    }
    let is_near = |pattern: &Pattern| {
        let near = |folder: &RelPath| {
            pattern.folder().is_within(folder) || folder.is_within(pattern.folder())
        };
        folders.iter().any(near)
    };
    let outputs = graph.ids().flat_map(|id| own_outputs(graph.target(id)));
    let mut except: Vec<Pattern> = outputs.filter(is_near).collect();
    let inputs = graph.target(id).inputs.iter();
    let excepted = inputs.flat_map(|inputs| &inputs.except);
    except.extend(excepted.map(|pattern| pattern.value.clone()));
    index.find(Selection {
        include: &links.iter().collect::<Vec<_>>(),
        except: &except.iter().collect::<Vec<_>>(),
        scope: Scope::Inputs,
    })
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
        scope: match spec.output {
            Output::Folder(_) => Scope::OwnedFolder,
            Output::File(_) | Output::Glob(_) => Scope::OutputFiles,
        },
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

fn unmatched(index: &FileIndex, inputs: &Inputs, matches: &Matches) -> Vec<Diagnostic> {
    if inputs.optional {
        return Vec::new();
    }
    let empty = inputs
        .patterns
        .iter()
        .zip(&matches.counts)
        .filter(|(_, n)| **n == 0);
    let no_match = |pattern| no_match(index, pattern, &matches.outside);
    empty.map(|(pattern, _)| no_match(pattern)).collect()
}

fn no_match(index: &FileIndex, pattern: &Spanned<Pattern>, outside: &[RelPath]) -> Diagnostic {
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
    let folder = pattern.value.folder();
    let mut outside = outside.iter();
    let link_out = outside.find(|link| folder.is_within(link) && *link != folder);
    let message = match (link_out, literal.map(|path| (path, kind(index, path)))) {
        (Some(link), _) => {
            format!("`{text}` is no input: the link `{link}` leads out of the project")
        }
        (None, Some((path, _))) if path.components().any(Layout::is_own) => {
            format!("`{text}` is no input: it is a file of fbuild")
        }
        (None, Some((_, Some(FileKind::File)))) => {
            format!("`{text}` is no input: `except` or an output of the target leaves it out")
        }
        (None, Some((_, Some(FileKind::Special)))) => {
            format!("the input `{text}` is neither a file nor a link")
        }
        (None, Some(_)) => format!("the input `{text}` does not exist"),
        (None, None) => format!("the pattern `{text}` matches no file"),
    };
    let help = if is_file_with_brackets(index, &pattern.value) {
        let escaped = glob::escaped(text);
        format!("write #\"{escaped}\"# for the file of that name: brackets are a class")
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

fn kind(index: &FileIndex, path: &RelPath) -> Option<FileKind> {
    let stamp = Stamp::at(index.root(), path.as_path()).ok()??;
    Some(stamp.kind())
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
            let (graph, _) = Graph::new(loaded.buildfile);
            let id = graph.ids().next().unwrap();
            let found = find(&index, &graph, id, &Needs::new()).unwrap().entries;
            let found: Vec<_> = found.iter().map(|entry| entry.path.to_string()).collect();
            assert_eq!(found, expected);
        }
    }
}
