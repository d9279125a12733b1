//! Indexes the outputs of all targets by folder, so that those related to a path or a
//! pattern are found without comparing all of them. It reads no files.

use std::collections::HashMap;
use std::ops::Range;

use crate::buildfile::model::{Buildfile, Output, Spanned, Target};
use crate::glob::{Exception, Overlap, Pattern, Question};
use crate::path::RelPath;
use crate::source::{Diagnostic, Span};

use super::TargetId;
use super::lists::number;

pub(super) const UNCHECKED: &str = "fbuild::graph::unchecked";

/// The budget for comparisons, in visited outputs: about a second.
const MOST_LOOKS: usize = 5_000_000;
/// The cost of comparing two patterns, and of each state of a search, in visited outputs.
const COMPARISON: usize = 20;

/// An output and its target.
pub(super) struct Produced<'b> {
    /// The target that produces it.
    pub(super) target: TargetId,
    /// The declaration.
    pub(super) output: &'b Output,
    /// The span of the declaration.
    pub(super) span: Span,
    /// Files in it that are not the target's.
    keep: &'b [Spanned<Pattern>],
}

impl<'b> Produced<'b> {
    /// Returns the outputs of a target.
    pub(super) fn by(id: TargetId, target: &'b Target) -> impl Iterator<Item = Self> {
        target.outputs.iter().flat_map(move |outputs| {
            outputs.paths.iter().map(move |path| Self {
                target: id,
                output: &path.value,
                span: path.span,
                keep: &outputs.keep,
            })
        })
    }

    /// Returns its file or folder, or the folder of a pattern.
    pub(super) fn place(&self) -> &'b RelPath {
        match self.output {
            Output::File(path) | Output::Folder(path) => path,
            Output::Glob(pattern) => pattern.folder(),
        }
    }

    /// Returns the pattern that its files match.
    pub(super) fn pattern(&self) -> Pattern {
        match self.output {
            Output::File(path) => Pattern::literal_path(path),
            Output::Folder(folder) => Pattern::everything_below(folder),
            Output::Glob(pattern) => pattern.clone(),
        }
    }

    /// Returns true if the target produces a file at `path` with it.
    pub(super) fn produces(&self, path: &RelPath) -> bool {
        match self.output {
            Output::File(file) => file == path,
            Output::Folder(folder) => {
                path.is_within(folder) && path != folder && !self.keeps_file(path)
            }
            Output::Glob(pattern) => pattern.matches(path),
        }
    }

    /// Returns true if every match of a pattern is produced with it.
    pub(super) fn produces_all(&self, pattern: &Pattern) -> bool {
        match (pattern.as_literal(), self.output) {
            (Some(path), _) => self.produces(path),
            (None, Output::Folder(folder)) => {
                pattern.folder().is_within(folder) && self.keep.is_empty()
            }
            (None, Output::Glob(own)) => own == pattern,
            (None, Output::File(_)) => false,
        }
    }

    /// Returns a path that it can produce, `pattern` matches, and no exception matches.
    pub(super) fn overlap(
        &self,
        pattern: &Pattern,
        except: &[Exception<'_>],
        budget: &mut Budget,
    ) -> Overlap {
        let own = self.pattern();
        let mut question = Question {
            both: [pattern, &own],
            except: except.to_vec(),
        };
        if matches!(self.output, Output::Folder(_)) {
            question
                .except
                .extend(self.keep.iter().map(|keep| Exception {
                    pattern: &keep.value,
                    keep: Vec::new(),
                }));
        }
        budget.answer(&question)
    }

    /// Returns the patterns of the files in its folder that are not the target's.
    pub(super) fn kept(&self) -> Vec<&'b Pattern> {
        match self.output {
            Output::Folder(_) => self.keep.iter().map(|keep| &keep.value).collect(),
            Output::File(_) | Output::Glob(_) => Vec::new(),
        }
    }

    /// Returns true if it is a folder that keeps all of another output.
    pub(super) fn keeps(&self, other: &Self) -> bool {
        let Output::Folder(folder) = self.output else {
            return false;
        };
        let covers = |inner: &RelPath| {
            let mut keep = self.keep.iter();
            inner != folder && keep.any(|k| k.value.covers_folder(inner))
        };
        match other.output {
            Output::File(path) => self.keeps_file(path),
            Output::Folder(inner) => covers(inner),
            Output::Glob(pattern) => {
                covers(pattern.folder()) || self.keep.iter().any(|k| k.value == *pattern)
            }
        }
    }

    fn keeps_file(&self, path: &RelPath) -> bool {
        self.keep.iter().any(|keep| keep.value.matches(path))
    }
}

/// All outputs of a Buildfile.
pub(super) struct Index<'b> {
    /// Sorted by place, component by component; folders come first at each place.
    sorted: Vec<Produced<'b>>,
    /// The outputs at each place.
    at: HashMap<&'b [u8], Range<u32>>,
}

impl<'b> Index<'b> {
    /// Sorts the outputs of all targets.
    pub(super) fn new(buildfile: &'b Buildfile) -> Self {
        let targets = buildfile.targets.iter().enumerate();
        let mut sorted: Vec<Produced<'b>> = targets
            .flat_map(|(i, target)| Produced::by(TargetId(number(i)), target))
            .collect();
        sorted.sort_by_cached_key(|output| {
            let is_folder = matches!(output.output, Output::Folder(_));
            (sort_key(output.place()), !is_folder)
        });
        let mut at: HashMap<&[u8], Range<u32>> = HashMap::with_capacity(sorted.len());
        for (i, output) in sorted.iter().enumerate() {
            let i = number(i);
            let range = at.entry(output.place().as_bytes()).or_insert(i..i);
            range.end = i + 1;
        }
        Self { sorted, at }
    }

    /// Returns all outputs, sorted by place.
    pub(super) fn all(&self) -> &[Produced<'b>] {
        &self.sorted
    }

    /// Returns the outputs at `folder` or below it.
    pub(super) fn within(&self, folder: &RelPath) -> Range<usize> {
        let key = sort_key(folder);
        let start = self
            .sorted
            .partition_point(|output| sort_key(output.place()) < key);
        let inside = self.sorted[start..].partition_point(|o| o.place().is_within(folder));
        start..start + inside
    }

    /// Returns the outputs exactly at `path`.
    pub(super) fn at(&self, path: &RelPath) -> Range<usize> {
        self.at_bytes(path.as_bytes())
    }

    /// Returns the outputs at the folders around `path`, from the root inwards.
    pub(super) fn around<'a>(&'a self, path: &'a RelPath) -> impl Iterator<Item = usize> + 'a {
        let bytes = path.as_bytes();
        let ends = (0..bytes.len()).filter(|i| *i == 0 || bytes[*i] == b'/');
        ends.flat_map(|end| self.at_bytes(&bytes[..end]))
    }

    fn at_bytes(&self, path: &[u8]) -> Range<usize> {
        let range = self.at.get(path).cloned().unwrap_or_default();
        range.start as usize..range.end as usize
    }
}

/// Returns a sort key that puts a folder directly before everything below it.
fn sort_key(path: &RelPath) -> Vec<u8> {
    let bytes = path.as_bytes().iter();
    bytes.map(|b| if *b == b'/' { 0 } else { *b }).collect()
}

/// The remaining budget for comparisons.
pub(super) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(MOST_LOOKS)
    }
}

impl Budget {
    /// Pays for visiting an output; returns false if the budget is used up.
    pub(super) fn look(&mut self) -> bool {
        self.pay(1)
    }

    /// Pays for comparing two patterns; returns false if the budget is used up.
    pub(super) fn compare(&mut self) -> bool {
        self.pay(COMPARISON)
    }

    /// Answers a question, and pays for each state of its search.
    fn answer(&mut self, question: &Question<'_>) -> Overlap {
        let most = self.0 / COMPARISON;
        let mut left = most;
        let answer = question.answer(&mut left);
        self.0 -= (most - left) * COMPARISON;
        answer
    }

    /// Uses up the rest, because an answer was not found.
    pub(super) fn exhaust(&mut self) {
        self.0 = 0;
    }

    fn pay(&mut self, looks: usize) -> bool {
        self.0 = self.0.saturating_sub(looks);
        self.0 > 0
    }

    /// Reports that the budget is used up.
    pub(super) fn report(&self) -> Option<Diagnostic> {
        let message =
            "not every input was compared with every output: too many of them share folders";
        let help = "start patterns with the folders that they are meant for";
        (self.0 == 0).then(|| Diagnostic::warning(UNCHECKED, message).help(help))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::BuildText;
    use super::*;

    #[test]
    fn outputs_are_found_below_at_and_around_a_place() {
        let text = BuildText::read("target t outputs a-b a/ a/x/*.go a/x/y ab **/z");
        let index = Index::new(&text.buildfile);
        let path = |p: &str| RelPath::new(p).unwrap();
        let show = |found: &mut dyn Iterator<Item = usize>| -> Vec<String> {
            found
                .map(|i| index.all()[i].pattern().to_string())
                .collect()
        };
        assert_eq!(
            show(&mut index.within(&path("a"))),
            ["a/**", "a/x/*.go", "a/x/y"]
        );
        assert_eq!(show(&mut index.at(&path("a/x"))), ["a/x/*.go"]);
        assert_eq!(
            show(&mut index.around(&path("a/x/y"))),
            ["**/z", "a/**", "a/x/*.go"]
        );
    }
}
