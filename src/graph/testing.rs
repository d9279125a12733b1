//! Makes Buildfiles for tests without KDL, one line for each target, with true spans:
//! `target NAME needs A B after C inputs P Q except R outputs O keep K`, `group NAME
//! needs A`, `default NAME`.

use std::time::Duration;

use super::{Graph, TargetId};
use crate::buildfile::model::{
    Buildfile, Group, Inputs, Output, Outputs, Project, Spanned, Target,
};
use crate::glob::Pattern;
use crate::path::RelPath;
use crate::source::{Diagnostic, FileId, Span};

/// A Buildfile and its text.
pub(crate) struct BuildText {
    /// The content of the text.
    pub(crate) buildfile: Buildfile,
    text: String,
}

/// Returns the graph of a text without mistakes.
#[track_caller]
pub(crate) fn graph(text: &str) -> Graph {
    let (graph, diagnostics) = Graph::new(BuildText::read(text).buildfile);
    assert_eq!(diagnostics, []);
    graph
}

/// Returns names joined by spaces.
pub(crate) fn names(graph: &Graph, targets: &[TargetId]) -> String {
    let names: Vec<&str> = targets.iter().map(|id| graph.name(*id)).collect();
    names.join(" ")
}

/// Checks the report about a text; indentation does not matter.
#[track_caller]
pub(crate) fn check(text: &str, expected: &str) {
    let lines: Vec<&str> = expected.lines().map(str::trim).collect();
    assert_eq!(shown(text), lines.join("\n"));
}

/// Returns the report about a text: a line for the message, one for each label with its
/// line number and its words, and one for the help.
pub(crate) fn shown(text: &str) -> String {
    let read = BuildText::read(text);
    let (_, diagnostics) = Graph::new(read.buildfile.clone());
    let lines: Vec<String> = diagnostics.iter().map(|d| read.show(d)).collect();
    lines.join("\n")
}

impl BuildText {
    /// Reads a text of the form above, or panics.
    #[track_caller]
    pub(crate) fn read(text: &str) -> Self {
        let mut buildfile = Buildfile::default();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            read_line(&mut buildfile, &words(line, start));
            start += line.len();
        }
        Self {
            buildfile,
            text: text.to_owned(),
        }
    }

    fn show(&self, diagnostic: &Diagnostic) -> String {
        let mut lines = vec![format!(
            "{} {}: {}",
            diagnostic.severity, diagnostic.code, diagnostic.message
        )];
        for label in &diagnostic.labels {
            let start = label.span.start as usize;
            let words = &self.text[start..start + label.span.len as usize];
            let line = self.text[..start].matches('\n').count() + 1;
            lines.push(format!("{line} `{words}`: {}", label.text));
        }
        lines.extend(diagnostic.help.as_ref().map(|help| format!("help: {help}")));
        lines.join("\n")
    }
}

type Word = Spanned<String>;

fn words(line: &str, start: usize) -> Vec<Word> {
    let words = line.split_ascii_whitespace().map(|word| {
        let at = start + (word.as_ptr() as usize - line.as_ptr() as usize);
        let span = Span {
            file: FileId(0),
            start: u32::try_from(at).unwrap(),
            len: u32::try_from(word.len()).unwrap(),
        };
        Spanned::new(word.to_owned(), span)
    });
    words.collect()
}

#[track_caller]
fn read_line(buildfile: &mut Buildfile, words: &[Word]) {
    let [keyword, rest @ ..] = words else { return };
    match (keyword.value.as_str(), rest) {
        ("default", names) => {
            buildfile.project = Some(Project {
                name: Spanned::new("test".to_owned(), keyword.span),
                root: None,
                default: names.to_vec(),
                trace: None,
            });
        }
        ("target", [name, rest @ ..]) => {
            let mut target = empty_target(name.clone());
            read_sections(rest, |section, words| add(&mut target, section, words));
            buildfile.targets.push(target);
        }
        ("group", [name, _needs, needs @ ..]) => buildfile.groups.push(Group {
            name: name.clone(),
            about: None,
            needs: needs.to_vec(),
        }),
        _ => panic!("no such line: {words:?}"),
    }
}

fn read_sections(words: &[Word], mut take: impl FnMut(&str, &[Word])) {
    const SECTIONS: [&str; 6] = ["needs", "after", "inputs", "except", "outputs", "keep"];
    let is_section = |word: &Word| SECTIONS.contains(&word.value.as_str());
    let starts: Vec<usize> = (0..words.len())
        .filter(|i| is_section(&words[*i]))
        .collect();
    for (i, start) in starts.iter().enumerate() {
        let end = starts.get(i + 1).copied().unwrap_or(words.len());
        take(&words[*start].value, &words[start + 1..end]);
    }
}

fn add(target: &mut Target, section: &str, words: &[Word]) {
    let patterns = || {
        words
            .iter()
            .map(|w| Spanned::new(Pattern::new(&w.value).unwrap(), w.span))
    };
    let output = |w: &Word| Spanned::new(output(&w.value), w.span);
    match section {
        "needs" => target.needs.extend(words.iter().cloned()),
        "after" => target.after.extend(words.iter().cloned()),
        "inputs" => target.inputs.push(Inputs {
            patterns: patterns().collect(),
            except: Vec::new(),
            optional: false,
        }),
        "except" => target.inputs.last_mut().unwrap().except.extend(patterns()),
        "outputs" => target.outputs.push(Outputs {
            paths: words.iter().map(output).collect(),
            committed: false,
            keep: Vec::new(),
        }),
        _ => target.outputs.last_mut().unwrap().keep.extend(patterns()),
    }
}

fn output(text: &str) -> Output {
    match text {
        _ if text.contains(['*', '{', '?']) => Output::Glob(Pattern::new(text).unwrap()),
        _ if text.ends_with('/') => Output::Folder(RelPath::new(text).unwrap()),
        _ => Output::File(RelPath::new(text).unwrap()),
    }
}

fn empty_target(name: Word) -> Target {
    Target {
        name,
        values: Vec::new(),
        about: None,
        needs: Vec::new(),
        after: Vec::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        env: Vec::new(),
        pass: Vec::new(),
        secret: Vec::new(),
        tools: Vec::new(),
        commands: Vec::new(),
        dir: RelPath::root(),
        timeout: None::<Duration>,
        retries: 0,
        cache: true,
        remote: true,
        interactive: false,
        locks: Vec::new(),
        trace: None,
        test: None,
    }
}
