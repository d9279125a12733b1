//! Inputs that another target produces although nothing says that it runs first: run in
//! parallel, a target could read what is half written. And inputs that only the target
//! itself produces. It works on patterns; what files there are does not matter.

use std::collections::HashMap;

use crate::buildfile::model::{Inputs, Spanned, Target};
use crate::glob::Pattern;
use crate::path::RelPath;
use crate::source::{Diagnostic, Span};

use super::TargetId;
use super::cycles::Components;
use super::lists::number;
use super::outputs::{Budget, Index, Produced};
use super::reach;
use super::resolve::{Names, Node};

pub(super) const MISSING_EDGE: &str = "fbuild::graph::missing_edge";
pub(super) const OWN_OUTPUT: &str = "fbuild::graph::own_output";

/// The most reports of one kind: more would only fill the memory.
const MOST_REPORTS: usize = 1000;

/// Reports inputs that are produced by the target itself, or by others that need not have
/// run before it.
pub(super) fn report(
    names: &Names<'_>,
    components: &Components,
    (outputs, budget): (&Index<'_>, &mut Budget),
) -> Vec<Diagnostic> {
    let mut reports = Vec::new();
    let mut search = Search::new(names, outputs, budget);
    for (i, target) in names.buildfile().targets.iter().enumerate() {
        let id = TargetId(number(i));
        reports.extend(own_outputs(id, target));
        search.read_by(id, target);
    }
    let mut reads = search.found;
    let vague = reach::vague(names, components);
    reads.retain(|read| !vague[components.number(read.reader.0) as usize]);
    let pairs: Vec<(Node, Node)> = reads.iter().map(Read::pair).collect();
    let has_path = reach::paths(names, components, &pairs);
    let missing = reads
        .into_iter()
        .zip(has_path)
        .filter(|(_, has_path)| !has_path);
    let missing: Vec<Read<'_>> = missing.map(|(read, _)| read).take(MOST_REPORTS).collect();
    let backwards: Vec<(Node, Node)> = missing.iter().map(|read| swap(read.pair())).collect();
    let is_after = reach::paths(names, components, &backwards);
    let described = missing.iter().zip(is_after);
    reports.extend(described.map(|(read, is_after)| read.describe(names, outputs, is_after)));
    reports
}

fn swap<T>((a, b): (T, T)) -> (T, T) {
    (b, a)
}

/// An input of one target that another target can produce.
struct Read<'b> {
    reader: TargetId,
    producer: TargetId,
    input: &'b Spanned<Pattern>,
    /// Which output it is.
    output: usize,
    /// A path that is both.
    witness: RelPath,
}

struct Search<'s, 'b> {
    names: &'s Names<'b>,
    outputs: &'s Index<'b>,
    budget: &'s mut Budget,
    /// For each pattern with wildcards, the outputs that it can match: many targets
    /// have the same patterns.
    matches: HashMap<&'b str, Vec<(usize, RelPath)>>,
    /// For each node, the last reader that names it or for which it was found.
    settled: Vec<u32>,
    found: Vec<Read<'b>>,
}

impl<'s, 'b> Search<'s, 'b> {
    fn new(names: &'s Names<'b>, outputs: &'s Index<'b>, budget: &'s mut Budget) -> Self {
        Self {
            names,
            outputs,
            budget,
            matches: HashMap::new(),
            settled: vec![u32::MAX; names.len()],
            found: Vec::new(),
        }
    }

    /// Finds what a target reads of others that it does not name itself, once for each.
    fn read_by(&mut self, reader: TargetId, target: &'b Target) {
        self.settled[reader.index()] = reader.0;
        for edge in self.names.edges(reader.0) {
            self.settled[edge.to as usize] = reader.0;
        }
        for inputs in &target.inputs {
            for input in &inputs.patterns {
                match input.value.as_literal() {
                    Some(path) => self.literal(reader, inputs, (input, path)),
                    None => self.pattern(reader, inputs, input),
                }
            }
        }
    }

    fn literal(
        &mut self,
        reader: TargetId,
        inputs: &'b Inputs,
        input: (&'b Spanned<Pattern>, &RelPath),
    ) {
        let (input, path) = input;
        let outputs = self.outputs;
        for output in outputs.around(path).chain(outputs.at(path)) {
            if !self.budget.look() {
                return;
            }
            if outputs.all()[output].produces(path) {
                self.add(reader, inputs, (input, output, path));
            }
        }
    }

    fn pattern(&mut self, reader: TargetId, inputs: &'b Inputs, input: &'b Spanned<Pattern>) {
        let text = input.value.text();
        let matches = match self.matches.remove(text) {
            Some(matches) => matches,
            None => self.matching(&input.value),
        };
        for (output, witness) in &matches {
            if self.budget.look() {
                self.add(reader, inputs, (input, *output, witness));
            }
        }
        self.matches.insert(text, matches);
    }

    fn matching(&mut self, pattern: &Pattern) -> Vec<(usize, RelPath)> {
        let folder = pattern.folder();
        let mut matches = Vec::new();
        for output in self
            .outputs
            .around(folder)
            .chain(self.outputs.within(folder))
        {
            if !self.budget.compare() {
                break;
            }
            let witness = self.outputs.all()[output].overlap(pattern);
            matches.extend(witness.map(|witness| (output, witness)));
        }
        matches
    }

    /// Takes in a read, unless it is of no account.
    fn add(
        &mut self,
        reader: TargetId,
        inputs: &Inputs,
        read: (&'b Spanned<Pattern>, usize, &RelPath),
    ) {
        let (input, output, witness) = read;
        let producer = self.outputs.all()[output].target;
        let is_settled = self.settled[producer.index()] == reader.0;
        let is_excepted = || inputs.except.iter().any(|e| e.value.matches(witness));
        let target = &self.names.buildfile().targets[reader.index()];
        let is_own = || Produced::by(reader, target).any(|own| own.produces(witness));
        if is_settled || is_excepted() || is_own() {
            return;
        }
        self.settled[producer.index()] = reader.0;
        self.found.push(Read {
            reader,
            producer,
            input,
            output,
            witness: witness.clone(),
        });
    }
}

impl Read<'_> {
    fn pair(&self) -> (Node, Node) {
        (self.reader.0, self.producer.0)
    }

    fn describe(&self, names: &Names<'_>, outputs: &Index<'_>, is_after: bool) -> Diagnostic {
        let output = &outputs.all()[self.output];
        let (reader, producer) = (names.name(self.reader.0), names.name(self.producer.0));
        let (message, help) = if !is_after {
            (
                format!("`{reader}` reads what `{producer}` produces, but does not need it"),
                format!("add `needs {producer}` to `{reader}`"),
            )
        } else {
            (
                format!("`{reader}` reads what `{producer}` produces, which runs after it"),
                format!(
                    "add `except \"{}\"` to these inputs, or turn the edge between the two around",
                    output.pattern()
                ),
            )
        };
        let read = match self.input.value.as_literal() {
            Some(_) => format!("read by `{reader}`"),
            None => format!("matches `{}`", self.witness),
        };
        Diagnostic::error(MISSING_EDGE, message)
            .label(self.input.span, read)
            .label(output.span, format!("produced by `{producer}`"))
            .help(help)
    }
}

/// Reports inputs that can only be a target's own outputs.
fn own_outputs(id: TargetId, target: &Target) -> Vec<Diagnostic> {
    let inputs = target.inputs.iter().flat_map(|inputs| &inputs.patterns);
    let pairs = inputs.filter_map(|input| {
        let mut own = Produced::by(id, target);
        let output = own.find(|own| own.produces_all(&input.value))?;
        Some((input, output.span))
    });
    pairs
        .map(|(input, output)| describe_own(&target.name.value, input, output))
        .collect()
}

fn describe_own(name: &str, input: &Spanned<Pattern>, output: Span) -> Diagnostic {
    let message = format!(
        "`{}` is an input of `{name}` and its own output",
        input.value
    );
    Diagnostic::error(OWN_OUTPUT, message)
        .label(input.span, "read here")
        .label(output, "produced here")
        .help("remove the input: a target's own outputs are never its inputs")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, shown};

    #[test]
    fn unordered_read_is_reported_with_a_path() {
        check(
            "target generate-py outputs addon/flamenco/manager/
             target generate-js outputs web/app/src/manager-api/
             target webapp-static needs generate-js inputs web/app/** addon/** outputs web/static/",
            "error fbuild::graph::missing_edge: `webapp-static` reads what `generate-py` produces, but does not need it
               3 `addon/**`: matches `addon/flamenco/manager/any-file`
               1 `addon/flamenco/manager/`: produced by `generate-py`
               help: add `needs generate-py` to `webapp-static`",
        );
    }

    #[test]
    fn a_way_over_needs_after_and_groups_is_enough() {
        let text = "target app needs all inputs gen/x
            target lib after gen
            target gen outputs gen/ other/y
            target doc after lib inputs other/*
            group all needs lib";
        assert_eq!(shown(text), "");
    }

    #[test]
    fn exceptions_kept_files_and_own_outputs_are_not_read() {
        let text = "target gen outputs gen/ keep gen/README outputs x/*.gen.go
            target a inputs gen/README
            target b needs c inputs ** except gen/** **/*.gen.go
            target c inputs x/* except x/*.gen.go outputs x/c.go";
        assert_eq!(shown(text), "");
    }

    #[test]
    fn unknown_name_is_not_also_a_missing_edge() {
        check(
            "target gen outputs gen/x
             target lib needs gne
             target app needs lib inputs gen/x",
            "error fbuild::graph::unknown: unknown target `gne`
               2 `gne`: not a target or group
               help: did you mean `gen`?",
        );
    }

    #[test]
    fn of_many_common_files_one_is_reported_for_each_pair() {
        check(
            "target gen outputs a b c d/*
             target app inputs d/* a b c",
            "error fbuild::graph::missing_edge: `app` reads what `gen` produces, but does not need it
               2 `d/*`: matches `d/any-file`
               1 `d/*`: produced by `gen`
               help: add `needs gen` to `app`",
        );
    }

    #[test]
    fn reading_what_runs_later_is_reported_as_such() {
        check(
            "target fmt needs app outputs src/fmt.go
             target app inputs src/**",
            "error fbuild::graph::missing_edge: `app` reads what `fmt` produces, which runs after it
               2 `src/**`: matches `src/fmt.go`
               1 `src/fmt.go`: produced by `fmt`
               help: add `except \"src/fmt.go\"` to these inputs, or turn the edge between the two around",
        );
    }

    #[test]
    fn input_made_only_by_its_own_target_is_reported() {
        check(
            "target app inputs out/app out/x/* gen/*.go src/** outputs out/ gen/*.go src/gen.go",
            "error fbuild::graph::own_output: `out/app` is an input of `app` and its own output
               1 `out/app`: read here
               1 `out/`: produced here
               help: remove the input: a target's own outputs are never its inputs
             error fbuild::graph::own_output: `out/x/*` is an input of `app` and its own output
               1 `out/x/*`: read here
               1 `out/`: produced here
               help: remove the input: a target's own outputs are never its inputs
             error fbuild::graph::own_output: `gen/*.go` is an input of `app` and its own output
               1 `gen/*.go`: read here
               1 `gen/*.go`: produced here
               help: remove the input: a target's own outputs are never its inputs",
        );
    }

    #[test]
    fn literal_input_in_another_output_is_a_read() {
        check(
            "target gen outputs gen/
             target glob outputs **/*.gen.go
             target a inputs gen/a/b
             target b needs gen inputs x/y.gen.go",
            "error fbuild::graph::two_producers: `glob` and `gen` can both produce `gen/any-file.gen.go`
               1 `gen/`: produced by `gen`
               2 `**/*.gen.go`: produced by `glob`
               help: remove it from one of them, or let one target produce it and the other need that target
             error fbuild::graph::missing_edge: `a` reads what `gen` produces, but does not need it
               3 `gen/a/b`: read by `a`
               1 `gen/`: produced by `gen`
               help: add `needs gen` to `a`
             error fbuild::graph::missing_edge: `b` reads what `glob` produces, but does not need it
               4 `x/y.gen.go`: read by `b`
               2 `**/*.gen.go`: produced by `glob`
               help: add `needs glob` to `b`",
        );
    }

    #[test]
    fn check_of_too_many_patterns_ends_with_a_warning() {
        let line = |i: usize| format!("target t{i} needs first inputs ** {i}/**/* outputs **/x{i}");
        let mut lines: Vec<String> = (0..700).map(line).collect();
        lines.push("target first".to_owned());
        let report = shown(&lines.join("\n"));
        assert!(report.contains("not every input was compared"), "{report}");
    }
}
