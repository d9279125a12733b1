//! Reports files that two targets produce: at one path, in a folder that another target
//! owns, or matched by the patterns of both.

use crate::buildfile::model::Output;
use crate::glob::Overlap;
use crate::path::RelPath;
use crate::source::Diagnostic;

use super::outputs::{Budget, Index, Produced};
use super::resolve::{Names, with_values};

pub(super) const TWO_PRODUCERS: &str = "fbuild::graph::two_producers";

/// Reports shared outputs, in the order of the text.
pub(super) fn report(
    names: &Names<'_>,
    outputs: &Index<'_>,
    budget: &mut Budget,
) -> Vec<Diagnostic> {
    let mut found = in_one_place(outputs);
    found.extend(by_pattern(outputs, budget));
    let mut reports: Vec<Diagnostic> = found.iter().map(|shared| shared.describe(names)).collect();
    reports.sort_by_key(|report| report.labels.first().map(|label| label.span));
    reports
}

/// An output that two targets share.
struct Shared<'o, 'b> {
    /// The outer one, or the first written.
    owner: &'o Produced<'b>,
    other: &'o Produced<'b>,
    how: How,
}

enum How {
    /// Both are files, or folders, at one path.
    Same,
    /// The other one is in the owner's folder, or below its file.
    Inside,
    /// Both can produce this path.
    CanMatch(RelPath),
}

/// Finds outputs at or below files and folders of other targets. One pass is enough: the
/// outputs are sorted by place, so the enclosing ones were seen before. A reported output
/// is not compared again, so a hundred targets with one output are 99 reports.
fn in_one_place<'o, 'b>(outputs: &'o Index<'b>) -> Vec<Shared<'o, 'b>> {
    let mut found = Vec::new();
    let mut around: Vec<&Produced<'b>> = Vec::new();
    for output in outputs.all() {
        while around
            .pop_if(|o| !output.place().is_within(o.place()))
            .is_some()
        {}
        let clashes = |o: &&&Produced<'b>| o.target != output.target && !o.keeps(output);
        if let Some(owner) = around.iter().rev().find(clashes) {
            let how = match output.output {
                Output::File(path) | Output::Folder(path) if path == owner.place() => How::Same,
                _ => How::Inside,
            };
            found.push(Shared {
                owner,
                other: output,
                how,
            });
        } else if !matches!(output.output, Output::Glob(_))
            && around.last().is_none_or(|o| o.place() != output.place())
        {
            around.push(output);
        }
    }
    found
}

/// Finds outputs that the patterns of other targets can match.
fn by_pattern<'o, 'b>(outputs: &'o Index<'b>, budget: &mut Budget) -> Vec<Shared<'o, 'b>> {
    let mut found = Vec::new();
    for (i, owner) in outputs.all().iter().enumerate() {
        let Output::Glob(pattern) = owner.output else {
            continue;
        };
        for j in outputs.within(pattern.folder()) {
            let other = &outputs.all()[j];
            if other.target == owner.target || is_seen_elsewhere((i, owner), (j, other)) {
                continue;
            }
            if !budget.compare() {
                return found;
            }
            match other.overlap(pattern, &[], budget) {
                Overlap::Never => {}
                Overlap::At(path) => {
                    let how = How::CanMatch(path);
                    found.push(Shared { owner, other, how });
                }
                // Not an error without proof; the budget reports that it was not checked.
                Overlap::Unknown => budget.exhaust(),
            }
        }
    }
    found
}

/// Returns true if a pattern and an output below its folder are compared elsewhere: two
/// patterns when the first is the owner, a folder around the pattern by its place.
fn is_seen_elsewhere(
    (i, owner): (usize, &Produced<'_>),
    (j, other): (usize, &Produced<'_>),
) -> bool {
    match other.output {
        Output::File(_) => false,
        Output::Folder(folder) => owner.place().is_within(folder),
        Output::Glob(pattern) => j < i && pattern.folder() == owner.place(),
    }
}

impl Shared<'_, '_> {
    fn describe(&self, names: &Names<'_>) -> Diagnostic {
        let name = |output: &Produced<'_>| names.name(output.target.0);
        let (owner, other) = (name(self.owner), name(self.other));
        let shown = self.other.pattern();
        let message = match (&self.how, self.owner.output) {
            (How::Same, _) => format!(
                "`{owner}` and `{other}` both produce `{}`",
                self.other.place()
            ),
            (How::Inside, Output::File(_)) => {
                format!("`{other}` produces `{shown}` below a file that `{owner}` produces")
            }
            (How::Inside, _) => {
                format!("`{other}` produces `{shown}` in a folder that `{owner}` owns")
            }
            (How::CanMatch(path), _) => {
                format!("`{owner}` and `{other}` can both produce `{path}`")
            }
        };
        let mut labels = [(self.owner, owner), (self.other, other)];
        labels.sort_by_key(|(output, _)| output.span);
        let diagnostic = Diagnostic::error(TWO_PRODUCERS, message).help(self.help(owner));
        let diagnostic = labels
            .iter()
            .fold(diagnostic, |diagnostic, (output, name)| {
                diagnostic.label(output.span, format!("produced by `{name}`"))
            });
        labels.iter().fold(diagnostic, |diagnostic, (output, _)| {
            let target = names.buildfile().targets.get(output.target.index());
            with_values(diagnostic, target)
        })
    }

    fn help(&self, owner: &str) -> String {
        const ONE: &str = "let one target produce it and the other need that target";
        match (&self.how, self.owner.output) {
            (How::Inside, Output::Folder(folder)) => {
                let inner = self.other.pattern().to_string();
                let below = if folder.is_root() {
                    &inner
                } else {
                    &inner[folder.to_string().len() + 1..]
                };
                format!("add `keep \"{below}\"` to the outputs of `{owner}`, or {ONE}")
            }
            _ => format!("remove it from one of them, or {ONE}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, shown};

    #[test]
    fn one_file_has_one_producer() {
        check(
            "target a outputs out/app
             target b outputs out/app
             target c outputs out/./app",
            "error fbuild::graph::two_producers: `a` and `b` both produce `out/app`
               1 `out/app`: produced by `a`
               2 `out/app`: produced by `b`
               help: remove it from one of them, or let one target produce it and the other need that target
             error fbuild::graph::two_producers: `a` and `c` both produce `out/app`
               1 `out/app`: produced by `a`
               3 `out/./app`: produced by `c`
               help: remove it from one of them, or let one target produce it and the other need that target",
        );
    }

    #[test]
    fn owned_folder_holds_no_output_of_another_target() {
        check(
            "target zip outputs web/static/addon.zip web/static/x/ web/static/y/*.js
             target web outputs web/static/",
            "error fbuild::graph::two_producers: `zip` produces `web/static/addon.zip` in a folder that `web` owns
               1 `web/static/addon.zip`: produced by `zip`
               2 `web/static/`: produced by `web`
               help: add `keep \"addon.zip\"` to the outputs of `web`, or let one target produce it and the other need that target
             error fbuild::graph::two_producers: `zip` produces `web/static/x/**` in a folder that `web` owns
               1 `web/static/x/`: produced by `zip`
               2 `web/static/`: produced by `web`
               help: add `keep \"x/**\"` to the outputs of `web`, or let one target produce it and the other need that target
             error fbuild::graph::two_producers: `zip` produces `web/static/y/*.js` in a folder that `web` owns
               1 `web/static/y/*.js`: produced by `zip`
               2 `web/static/`: produced by `web`
               help: add `keep \"y/*.js\"` to the outputs of `web`, or let one target produce it and the other need that target",
        );
    }

    #[test]
    fn kept_files_may_be_produced_by_another_target() {
        let text =
            "target web outputs web/static/ keep web/static/*.zip web/static/x/ web/static/y/*.js
            target zip outputs web/static/addon.zip web/static/x/ web/static/y/*.js";
        assert_eq!(shown(text), "");
    }

    #[test]
    fn file_cannot_also_be_a_folder() {
        check(
            "target a outputs out
             target b outputs out/app",
            "error fbuild::graph::two_producers: `b` produces `out/app` below a file that `a` produces
               1 `out`: produced by `a`
               2 `out/app`: produced by `b`
               help: remove it from one of them, or let one target produce it and the other need that target",
        );
    }

    #[test]
    fn patterns_that_share_a_file_are_reported() {
        check(
            "target a outputs pkg/**/*.gen.go
             target b outputs pkg/api/*.go
             target c outputs pkg/x.gen.go
             target d outputs pkg/*.rs",
            "error fbuild::graph::two_producers: `a` and `b` can both produce `pkg/api/any-file.gen.go`
               1 `pkg/**/*.gen.go`: produced by `a`
               2 `pkg/api/*.go`: produced by `b`
               help: remove it from one of them, or let one target produce it and the other need that target
             error fbuild::graph::two_producers: `a` and `c` can both produce `pkg/x.gen.go`
               1 `pkg/**/*.gen.go`: produced by `a`
               3 `pkg/x.gen.go`: produced by `c`
               help: remove it from one of them, or let one target produce it and the other need that target",
        );
    }

    #[test]
    fn neighbouring_outputs_are_not_shared() {
        let text = "target a outputs out/a out/x/ out/*.o
            target b outputs out/b out/xy/ out/x.d out-2/ outer";
        assert_eq!(shown(text), "");
        assert_eq!(shown("target a outputs out/ out/a out/*.o"), "");
    }

    #[test]
    fn copies_of_an_output_are_compared_in_linear_time() {
        let copies: Vec<String> = (0..30_000)
            .map(|i| format!("target t{i} outputs x"))
            .collect();
        let buildfile = super::super::testing::BuildText::read(&copies.join("\n")).buildfile;
        let (_, diagnostics) = super::super::Graph::new(buildfile);
        assert_eq!(diagnostics.len(), 29_999);
    }
}
