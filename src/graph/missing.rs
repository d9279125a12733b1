//! Finds inputs that another target may produce although nothing orders the two: a target
//! could read a file that is half written, or stale. Also finds inputs that only the target
//! itself produces. It works on patterns and knows no files, so most of what it finds is a
//! warning; [`Graph::unordered_reads`] turns it into an error once a file shows it.
//!
//! [`Graph::unordered_reads`]: super::Graph::unordered_reads

use std::collections::HashMap;

use crate::buildfile::model::{Inputs, Output, Spanned, Target};
use crate::glob::{Exception, Overlap, Pattern};
use crate::path::RelPath;
use crate::source::{Diagnostic, Span};

use super::TargetId;
use super::cycles::Components;
use super::lists::{Lists, number};
use super::outputs::{Budget, Index, Produced};
use super::reach;
use super::resolve::{Names, Node};

pub(super) const MISSING_EDGE: &str = "fbuild::graph::missing_edge";
pub(super) const OWN_OUTPUT: &str = "fbuild::graph::own_output";

/// The most reports of one kind: more would only fill the memory.
const MOST_REPORTS: usize = 1000;

/// The result of the check.
pub(super) struct Unordered {
    pub(super) diagnostics: Vec<Diagnostic>,
    /// For each target, the targets that may produce its inputs although nothing orders the
    /// two.
    pub(super) producers: Lists,
}

/// Checks the inputs of all targets.
pub(super) fn check(
    names: &Names<'_>,
    components: &Components,
    outputs: &Index<'_>,
    budget: &mut Budget,
) -> Unordered {
    let mut diagnostics = Vec::new();
    let mut search = Search::new(names, outputs, budget);
    for (i, target) in names.buildfile().targets.iter().enumerate() {
        let id = TargetId(number(i));
        diagnostics.extend(own_outputs(id, target));
        search.read_by(id, target);
    }
    let mut reads = search.found;
    // With an unknown name on the way, the edge may be there and misspelled.
    let vague = reach::vague(names, components);
    reads.retain(|read| !vague[components.number(read.reader.0) as usize]);
    let pairs: Vec<(Node, Node)> = reads.iter().map(Read::pair).collect();
    let mut has_path = reach::paths(names, components, &pairs).into_iter();
    reads.retain(|_| !has_path.next().unwrap_or(false));
    let shown = &reads[..reads.len().min(MOST_REPORTS)];
    let backwards: Vec<(Node, Node)> = shown.iter().map(|read| swap(read.pair())).collect();
    let is_after = reach::paths(names, components, &backwards);
    let described = shown.iter().zip(is_after);
    diagnostics.extend(described.map(|(read, is_after)| read.describe(names, outputs, is_after)));
    Unordered {
        diagnostics,
        producers: by_reader(&reads, names.buildfile().targets.len()),
    }
}

fn swap<T>((a, b): (T, T)) -> (T, T) {
    (b, a)
}

/// Returns the producers for each of `len` readers; `reads` are in the order of readers.
fn by_reader(reads: &[Read<'_>], len: usize) -> Lists {
    let mut producers = Lists::default();
    let mut reads = reads.iter().peekable();
    for reader in 0..len {
        while let Some(read) = reads.next_if(|read| read.reader.index() == reader) {
            producers.push(read.producer);
        }
        producers.end_list();
    }
    producers
}

/// An input of one target that another target may produce.
struct Read<'b> {
    reader: TargetId,
    producer: TargetId,
    input: &'b Spanned<Pattern>,
    /// The index of the output.
    output: usize,
    /// A path that is both, unless the search for one was given up.
    witness: Option<RelPath>,
}

struct Search<'s, 'b> {
    names: &'s Names<'b>,
    outputs: &'s Index<'b>,
    budget: &'s mut Budget,
    /// For each pattern with wildcards, the outputs that it may match: many targets have the
    /// same patterns.
    matches: HashMap<&'b str, Vec<(usize, Overlap)>>,
    /// For each node, the last reader that names it or for which it was found.
    settled: Vec<u32>,
    found: Vec<Read<'b>>,
}

/// Patterns of a target's inputs, with the paths that do not count.
struct Reader<'b> {
    id: TargetId,
    target: &'b Target,
    inputs: &'b Inputs,
}

impl<'b> Reader<'b> {
    fn own(&self) -> impl Iterator<Item = Produced<'b>> {
        Produced::by(self.id, self.target)
    }

    /// Returns true if an exception or an own output matches a path.
    fn excludes(&self, path: &RelPath) -> bool {
        let mut except = self.inputs.except.iter();
        except.any(|except| except.value.matches(path)) || self.own().any(|o| o.produces(path))
    }
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

    /// Finds the targets that produce inputs of a target which does not name them itself, each
    /// once.
    fn read_by(&mut self, reader: TargetId, target: &'b Target) {
        self.settled[reader.index()] = reader.0;
        for edge in self.names.edges(reader.0) {
            self.settled[edge.to as usize] = reader.0;
        }
        for inputs in &target.inputs {
            let reader = Reader {
                id: reader,
                target,
                inputs,
            };
            for input in &inputs.patterns {
                match input.value.as_literal() {
                    Some(path) => self.literal(&reader, input, path),
                    None => self.pattern(&reader, input),
                }
            }
        }
    }

    fn literal(&mut self, reader: &Reader<'b>, input: &'b Spanned<Pattern>, path: &RelPath) {
        let outputs = self.outputs;
        for output in outputs.around(path).chain(outputs.at(path)) {
            if !self.budget.look() {
                return;
            }
            let is_new = !self.is_settled(reader, output);
            if is_new && outputs.all()[output].produces(path) && !reader.excludes(path) {
                self.add(reader, input, output, Some(path.clone()));
            }
        }
    }

    fn pattern(&mut self, reader: &Reader<'b>, input: &'b Spanned<Pattern>) {
        let text = input.value.text();
        let matches = match self.matches.remove(text) {
            Some(matches) => matches,
            None => self.matching(&input.value),
        };
        for (output, overlap) in &matches {
            if !self.budget.look() || self.is_settled(reader, *output) {
                continue;
            }
            match overlap {
                Overlap::At(path) if !reader.excludes(path) => {
                    self.add(reader, input, *output, Some(path.clone()));
                }
                _ => self.search(reader, input, *output),
            }
        }
        self.matches.insert(text, matches);
    }

    /// Searches for a common path that the reader does not exclude.
    fn search(&mut self, reader: &Reader<'b>, input: &'b Spanned<Pattern>, output: usize) {
        let own: Vec<_> = reader
            .own()
            .map(|own| (own.pattern(), own.kept()))
            .collect();
        let own = own.iter().map(|(pattern, keep)| Exception {
            pattern,
            keep: keep.clone(),
        });
        let except = reader.inputs.except.iter().map(|except| Exception {
            pattern: &except.value,
            keep: Vec::new(),
        });
        let except: Vec<Exception<'_>> = except.chain(own).collect();
        let produced = &self.outputs.all()[output];
        match produced.overlap(&input.value, &except, self.budget) {
            Overlap::Never => {}
            Overlap::At(path) => self.add(reader, input, output, Some(path)),
            // Without proof it may be one.
            Overlap::Unknown => self.add(reader, input, output, None),
        }
    }

    fn matching(&mut self, pattern: &Pattern) -> Vec<(usize, Overlap)> {
        let folder = pattern.folder();
        let mut matches = Vec::new();
        let nearby = self.outputs.around(folder);
        for output in nearby.chain(self.outputs.within(folder)) {
            if !self.budget.compare() {
                break;
            }
            match self.outputs.all()[output].overlap(pattern, &[], self.budget) {
                Overlap::Never => {}
                overlap => matches.push((output, overlap)),
            }
        }
        matches
    }

    fn is_settled(&self, reader: &Reader<'_>, output: usize) -> bool {
        let producer = self.outputs.all()[output].target;
        self.settled[producer.index()] == reader.id.0
    }

    fn add(
        &mut self,
        reader: &Reader<'b>,
        input: &'b Spanned<Pattern>,
        output: usize,
        witness: Option<RelPath>,
    ) {
        let producer = self.outputs.all()[output].target;
        self.settled[producer.index()] = reader.id.0;
        self.found.push(Read {
            reader: reader.id,
            producer,
            input,
            output,
            witness,
        });
    }
}

impl Read<'_> {
    fn pair(&self) -> (Node, Node) {
        (self.reader.0, self.producer.0)
    }

    fn describe(&self, names: &Names<'_>, outputs: &Index<'_>, is_after: bool) -> Diagnostic {
        let output = &outputs.all()[self.output];
        let edge = Edge {
            reader: names.name(self.reader.0),
            producer: names.name(self.producer.0),
            input: self.input.span,
            output: output.span,
            except: output.pattern(),
        };
        let is_literal = self.input.value.as_literal().is_some();
        let read = match &self.witness {
            Some(_) if is_literal => format!("read by `{}`", edge.reader),
            Some(path) => format!("may match `{path}`"),
            None => "may match it".to_owned(),
        };
        if is_literal && matches!(output.output, Output::File(_)) {
            edge.error(&read, is_after)
        } else {
            edge.warning(&read, is_after)
        }
    }
}

/// The words about a missing edge.
pub(super) struct Edge<'e> {
    pub(super) reader: &'e str,
    pub(super) producer: &'e str,
    pub(super) input: Span,
    pub(super) output: Span,
    /// The pattern of the output.
    pub(super) except: Pattern,
}

impl Edge<'_> {
    /// Reports an edge that is missing for certain.
    pub(super) fn error(&self, read: &str, is_after: bool) -> Diagnostic {
        let (reader, producer) = (self.reader, self.producer);
        if is_after {
            let message =
                format!("`{reader}` reads what `{producer}` produces, which runs after it");
            return self.finish(Diagnostic::error(MISSING_EDGE, message), read, self.turn());
        }
        let message = format!("`{reader}` reads what `{producer}` produces, but does not need it");
        let help = format!("add `needs {producer}` to `{reader}`");
        self.finish(Diagnostic::error(MISSING_EDGE, message), read, help)
    }

    /// Reports an edge that is missing if a file exists.
    fn warning(&self, read: &str, is_after: bool) -> Diagnostic {
        let (reader, producer) = (self.reader, self.producer);
        if is_after {
            let message =
                format!("`{reader}` may read what `{producer}` produces, which runs after it");
            return self.finish(
                Diagnostic::warning(MISSING_EDGE, message),
                read,
                self.turn(),
            );
        }
        let message =
            format!("`{reader}` may read what `{producer}` produces, but does not need it");
        let help = format!(
            "add `needs {producer}` to `{reader}`, or `except \"{}\"` to these inputs if it reads none of it",
            self.except
        );
        self.finish(Diagnostic::warning(MISSING_EDGE, message), read, help)
    }

    fn turn(&self) -> String {
        format!(
            "add `except \"{}\"` to these inputs, or turn the edge between the two around",
            self.except
        )
    }

    fn finish(&self, diagnostic: Diagnostic, read: &str, help: String) -> Diagnostic {
        diagnostic
            .label(self.input, read)
            .label(self.output, format!("produced by `{}`", self.producer))
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
    use super::super::testing::{BuildText, check, shown};
    use super::super::{Graph, Named};
    use crate::path::RelPath;
    use crate::source::Severity;

    #[test]
    fn possible_read_is_a_warning_with_a_path() {
        check(
            "target generate-py outputs addon/flamenco/manager/
             target generate-js outputs web/app/src/manager-api/
             target webapp-static needs generate-js inputs web/app/** addon/** outputs web/static/",
            "warning fbuild::graph::missing_edge: `webapp-static` may read what `generate-py` produces, but does not need it
               3 `addon/**`: may match `addon/flamenco/manager/any-file`
               1 `addon/flamenco/manager/`: produced by `generate-py`
               help: add `needs generate-py` to `webapp-static`, or `except \"addon/flamenco/manager/**\"` to these inputs if it reads none of it",
        );
    }

    #[test]
    fn literal_read_of_a_literal_output_is_an_error() {
        check(
            "target gen outputs gen/x
             target app inputs gen/x",
            "error fbuild::graph::missing_edge: `app` reads what `gen` produces, but does not need it
               2 `gen/x`: read by `app`
               1 `gen/x`: produced by `gen`
               help: add `needs gen` to `app`",
        );
    }

    #[test]
    fn read_beside_an_exception_is_found() {
        check(
            "target gen outputs a/{x,y}/f.go*
             target use inputs a/** except a/x/**",
            "warning fbuild::graph::missing_edge: `use` may read what `gen` produces, but does not need it
               2 `a/**`: may match `a/y/f.go`
               1 `a/{x,y}/f.go*`: produced by `gen`
               help: add `needs gen` to `use`, or `except \"a/{x,y}/f.go*\"` to these inputs if it reads none of it",
        );
    }

    #[test]
    fn paths_over_needs_after_and_groups_order_a_read() {
        let text = "target app needs all inputs gen/x
            target lib after gen
            target gen outputs gen/ other/y
            target doc after lib inputs other/*
            group all needs lib";
        assert_eq!(shown(text), "");
    }

    #[test]
    fn exceptions_are_not_read() {
        let text = "target gen outputs gen/ x/*.gen.go
            target b inputs ** except gen/** **/*.gen.go";
        assert_eq!(shown(text), "");
    }

    #[test]
    fn kept_files_are_not_produced() {
        let text = "target gen outputs gen/ keep gen/README gen/doc/
            target a inputs gen/README gen/doc/**";
        assert_eq!(shown(text), "");
    }

    #[test]
    fn own_outputs_are_not_read() {
        let text = "target a outputs x/*.a x/b
            target c needs a inputs x/*.c outputs x/*.c
            target d needs c inputs x/? outputs x/*";
        let reports = shown(text);
        assert!(!reports.contains("missing_edge"), "{reports}");
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
    fn pair_with_many_common_files_is_reported_once() {
        check(
            "target gen outputs a b c d/*
             target app inputs a b c d/*",
            "error fbuild::graph::missing_edge: `app` reads what `gen` produces, but does not need it
               2 `a`: read by `app`
               1 `a`: produced by `gen`
               help: add `needs gen` to `app`",
        );
    }

    #[test]
    fn read_of_a_later_target_suggests_an_exception() {
        check(
            "target fmt needs app outputs src/fmt.go
             target app inputs src/**",
            "warning fbuild::graph::missing_edge: `app` may read what `fmt` produces, which runs after it
               2 `src/**`: may match `src/fmt.go`
               1 `src/fmt.go`: produced by `fmt`
               help: add `except \"src/fmt.go\"` to these inputs, or turn the edge between the two around",
        );
    }

    #[test]
    fn input_that_only_the_target_produces_is_reported() {
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
    fn literal_input_below_an_output_folder_is_a_read() {
        check(
            "target gen outputs gen/
             target a inputs gen/a/b",
            "warning fbuild::graph::missing_edge: `a` may read what `gen` produces, but does not need it
               2 `gen/a/b`: read by `a`
               1 `gen/`: produced by `gen`
               help: add `needs gen` to `a`, or `except \"gen/**\"` to these inputs if it reads none of it",
        );
    }

    #[test]
    fn exhausted_budget_is_reported() {
        let line = |i: usize| format!("target t{i} needs first inputs ** {i}/**/* outputs **/x{i}");
        let mut lines: Vec<String> = (0..700).map(line).collect();
        lines.push("target first".to_owned());
        let report = shown(&lines.join("\n"));
        assert!(report.contains("not every input was compared"), "{report}");
    }

    #[test]
    fn unordered_reads_name_the_path() {
        let text = "target gen outputs gen/ keep gen/README
            target app inputs gen/** except gen/x";
        let (graph, _) = Graph::new(BuildText::read(text).buildfile);
        let Some(Named::Target(app)) = graph.find("app") else {
            panic!()
        };
        let reads = |paths: &[&str]| {
            let paths: Vec<_> = paths.iter().map(|p| RelPath::new(p).unwrap()).collect();
            graph.unordered_reads(app, paths.iter(), &[])
        };
        assert_eq!(reads(&["gen/README", "gen/x", "other"]), []);
        let [error] = &reads(&["gen/x", "gen/y", "gen/z"])[..] else {
            panic!()
        };
        assert_eq!(error.severity, Severity::Error);
        assert_eq!(error.labels[0].text, "matches `gen/y`");
    }
}
