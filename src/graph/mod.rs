//! The graph of targets: names resolved, edges checked. It is immutable, and knows no
//! files, keys or execution.
//!
//! Every algorithm is iterative and close to linear in the text of the Buildfile: a chain
//! of 50,000 targets and a file of 100,000 are ordinary input. The serialised graph is the
//! compiled Buildfile, read at the start of every run, so edges, order and names are
//! computed once, when it is made.

mod cycles;
#[cfg(test)]
mod golden;
mod lists;
mod missing;
mod outputs;
mod producers;
mod reach;
mod resolve;
mod select;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::buildfile::model::{Buildfile, Group, Inputs, Spanned, Target, Tool};
use crate::path::RelPath;
use crate::source::{Diagnostic, Span};
use lists::Lists;
use outputs::Produced;

pub use resolve::UNKNOWN;

/// The codes of the graph's diagnostics, each with an explanation.
pub const CODES: &[(&str, &str)] = &[
    (UNKNOWN, "a name that no target and no group has"),
    (
        select::ARGUMENTS,
        "arguments after `--` for a target whose commands have no place for them, or for more than one target. Write \"{args}\" as an argument of its `run`, or \"$@\" in the script of its `sh`",
    ),
    (
        resolve::TOO_LARGE,
        "groups of so many targets that the edges between targets would fill the memory",
    ),
    (
        cycles::CYCLE,
        "targets that need each other in a circle, so that none of them can run first",
    ),
    (
        producers::TWO_PRODUCERS,
        "two targets that produce the same file, or one that produces a file in a folder that another one owns",
    ),
    (
        missing::MISSING_EDGE,
        "a target that reads what another one produces, with no `needs` or `after` that decides which runs first. It is an error if both name the same path, or if a file shows it, also behind a link; if patterns merely could match the same path, it is a warning. Add `needs`, or `except` if the target does not read these files",
    ),
    (
        missing::OWN_OUTPUT,
        "an input that only the target itself produces; a target's own outputs are never its inputs",
    ),
    (
        outputs::UNCHECKED,
        "so many inputs and outputs in the same folders that not all of them were compared",
    ),
];

/// A target of a [`Graph`]; ids are dense, from 0, in the order of the Buildfile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TargetId(pub u32);

impl TargetId {
    /// Returns it as an index into a slice with one item for each target.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The target or group with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// A target.
    Target(TargetId),
    /// A group, by its index in [`Graph::groups`].
    Group(usize),
}

/// Targets with their edges, and the other content of the Buildfile.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Graph {
    buildfile: Buildfile,
    /// For each target, the targets that it needs, groups resolved, in the order written.
    needs: Lists,
    /// For each target, the targets that it only runs after.
    after: Lists,
    /// For each target, the targets that need it or run after it.
    dependants: Lists,
    /// For each group, its targets.
    members: Lists,
    /// For each target, the targets that may produce its inputs although nothing orders the
    /// two.
    unordered: Lists,
    /// All targets, each after the targets that it needs or runs after.
    order: Vec<TargetId>,
    /// The numbers of all names (targets, then groups), sorted by name.
    by_name: Vec<u32>,
}

impl Graph {
    /// Resolves names into edges, and reports every mistake. A graph with mistakes can be
    /// inspected, but must not be built.
    pub fn new(buildfile: Buildfile) -> (Self, Vec<Diagnostic>) {
        let (names, mut diagnostics) = resolve::Names::new(&buildfile);
        let components = cycles::Components::of(&names);
        diagnostics.extend(cycles::report(&names, &components));
        let outputs = outputs::Index::new(&buildfile);
        let mut budget = outputs::Budget::default();
        diagnostics.extend(producers::report(&names, &outputs, &mut budget));
        let unordered = missing::check(&names, &components, &outputs, &mut budget);
        diagnostics.extend(unordered.diagnostics);
        diagnostics.extend(budget.report());
        let (edges, too_large) = resolve::flatten(&names);
        diagnostics.extend(too_large);
        let lists = [&edges.needs, &edges.after];
        let graph = Self {
            dependants: Lists::reversed(&lists, buildfile.targets.len()),
            order: components.target_order(&names),
            by_name: names.into_sorted(),
            needs: edges.needs,
            after: edges.after,
            members: edges.members,
            unordered: unordered.producers,
            buildfile,
        };
        (graph, diagnostics)
    }

    /// Returns the number of targets.
    pub fn len(&self) -> usize {
        self.buildfile.targets.len()
    }

    /// Returns true if there are no targets.
    pub fn is_empty(&self) -> bool {
        self.buildfile.targets.is_empty()
    }

    /// Returns all ids.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = TargetId> + use<> {
        (0..lists::number(self.len())).map(TargetId)
    }

    /// Returns all ids, each after those that it needs or runs after.
    pub fn order(&self) -> &[TargetId] {
        &self.order
    }

    /// Returns the declaration of a target.
    pub fn target(&self, id: TargetId) -> &Target {
        &self.buildfile.targets[id.index()]
    }

    /// Returns a target's name.
    pub fn name(&self, id: TargetId) -> &str {
        &self.target(id).name.value
    }

    /// Returns the targets whose outputs are inputs of this one.
    pub fn needs(&self, id: TargetId) -> &[TargetId] {
        self.needs.get(id.index())
    }

    /// Returns the targets that only run before this one.
    pub fn after(&self, id: TargetId) -> &[TargetId] {
        self.after.get(id.index())
    }

    /// Returns the targets that need this one or run after it, each once.
    pub fn dependants(&self, id: TargetId) -> &[TargetId] {
        self.dependants.get(id.index())
    }

    /// Returns the errors of reading `paths`, the inputs of a target, where other targets
    /// produce them and nothing orders the two: one for each producer. `behind` are those that
    /// a pattern, whose span they have, reaches through a link.
    pub fn unordered_reads<'p>(
        &self,
        id: TargetId,
        paths: impl Iterator<Item = &'p RelPath> + Clone,
        behind: &[Spanned<RelPath>],
    ) -> Vec<Diagnostic> {
        let producers = self.unordered.get(id.index()).iter();
        let reads = producers.filter_map(|producer| {
            let outputs: Vec<_> = Produced::by(*producer, self.target(*producer)).collect();
            paths.clone().find_map(|path| {
                let output = outputs.iter().find(|output| output.produces(path))?;
                self.unordered_read(id, output, path)
            })
        });
        let behind = self.unordered_reads_behind_links(id, behind);
        reads.chain(behind).collect()
    }

    fn unordered_reads_behind_links(
        &self,
        id: TargetId,
        paths: &[Spanned<RelPath>],
    ) -> Vec<Diagnostic> {
        if paths.is_empty() {
            return Vec::new();
        }
        let outputs = outputs::Index::new(&self.buildfile);
        let before = self.closure(&[id]);
        let mut producers = BTreeSet::new();
        let mut reads = Vec::new();
        for path in paths {
            let near = outputs.around(&path.value).chain(outputs.at(&path.value));
            let near = near.map(|at| &outputs.all()[at]);
            let mut producing = near.filter(|output| output.produces(&path.value));
            let producer = producing.find(|output| !before.contains(&output.target));
            if let Some(output) = producer
                && producers.insert(output.target)
            {
                let read = format!("reaches `{}` through a link", path.value);
                reads.push(self.missing_edge(id, output, path.span, &read));
            }
        }
        reads
    }

    fn unordered_read(
        &self,
        id: TargetId,
        output: &Produced<'_>,
        path: &RelPath,
    ) -> Option<Diagnostic> {
        let is_read = |inputs: &&Inputs| !inputs.except.iter().any(|e| e.value.matches(path));
        let inputs = self.target(id).inputs.iter().filter(is_read);
        let mut patterns = inputs.flat_map(|inputs| &inputs.patterns);
        let input = patterns.find(|input| input.value.matches(path))?;
        Some(self.missing_edge(id, output, input.span, &format!("matches `{path}`")))
    }

    fn missing_edge(
        &self,
        id: TargetId,
        output: &Produced<'_>,
        input: Span,
        read: &str,
    ) -> Diagnostic {
        let edge = missing::Edge {
            reader: self.name(id),
            producer: self.name(output.target),
            input,
            output: output.span,
            except: output.pattern(),
        };
        let is_after = self.closure(&[output.target]).contains(&id);
        edge.error(read, is_after)
    }

    /// Returns the groups, in the order written.
    pub fn groups(&self) -> &[Group] {
        &self.buildfile.groups
    }

    /// Returns the targets of a group, nested groups resolved, each once.
    pub fn members(&self, group: usize) -> &[TargetId] {
        self.members.get(group)
    }

    /// Returns the tool that the Buildfile declares under this name.
    pub fn tool(&self, name: &str) -> Option<&Tool> {
        self.buildfile.tools.iter().find(|t| t.name.value == name)
    }

    /// Returns the content of the Buildfile, with its settings.
    pub fn buildfile(&self) -> &Buildfile {
        &self.buildfile
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{BuildText, graph, names};
    use super::*;

    #[test]
    fn edges_go_through_groups_in_the_order_written() {
        let graph = graph(
            "target app needs all lib after gen
             target lib needs gen
             target gen
             target doc
             group inner needs gen doc
             group all needs lib inner",
        );
        let id = |name: &str| match graph.find(name) {
            Some(Named::Target(id)) => id,
            other => panic!("{name} is {other:?}"),
        };
        assert_eq!(names(&graph, graph.needs(id("app"))), "lib gen doc");
        assert_eq!(names(&graph, graph.after(id("app"))), "");
        assert_eq!(names(&graph, graph.dependants(id("gen"))), "app lib");
        assert_eq!(names(&graph, graph.order()), "gen lib doc app");
        assert_eq!(names(&graph, graph.members(1)), "lib gen doc");
    }

    #[test]
    fn target_both_needed_and_followed_is_needed() {
        let graph = graph("target a needs b after b c\ntarget b\ntarget c");
        assert_eq!(names(&graph, graph.needs(TargetId(0))), "b");
        assert_eq!(names(&graph, graph.after(TargetId(0))), "c");
    }

    #[test]
    fn compiled_form_is_the_same_graph() {
        let graph = graph("target a needs b outputs o/ keep o/x\ntarget b\ngroup g needs a");
        let bytes = postcard::to_stdvec(&graph).unwrap();
        let back: Graph = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(format!("{back:?}"), format!("{graph:?}"));
        assert_eq!(back.find("g"), Some(Named::Group(0)));
    }

    #[test]
    fn every_code_is_explained_once() {
        let mut codes: Vec<_> = CODES.iter().map(|(code, _)| *code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), CODES.len());
        assert!(codes.iter().all(|code| code.starts_with("fbuild::graph::")));
    }

    /// Builds a graph on a small stack, which recursion would overflow, and returns the time.
    #[track_caller]
    fn time(text: BuildText) -> (Graph, Vec<Diagnostic>, std::time::Duration) {
        let build = move || {
            let buildfile = text.buildfile;
            let start = std::time::Instant::now();
            let (graph, diagnostics) = Graph::new(buildfile);
            (graph, diagnostics, start.elapsed())
        };
        let thread = std::thread::Builder::new().stack_size(256 * 1024);
        thread.spawn(build).unwrap().join().unwrap()
    }

    fn lines(n: usize, line: impl Fn(usize) -> String) -> BuildText {
        let text: Vec<String> = (0..n).map(line).collect();
        BuildText::read(&text.join("\n"))
    }

    #[test]
    fn chain_of_50000_does_not_overflow_the_stack() {
        let chain = lines(50_000, |i| match i {
            0 => "target t0 outputs out/0".to_owned(),
            i => format!(
                "target t{i} needs t{} inputs out/{} outputs out/{i}",
                i - 1,
                i / 2
            ),
        });
        let (graph, diagnostics, _) = time(chain);
        assert_eq!(diagnostics, []);
        assert_eq!(graph.order()[49_999], TargetId(49_999));
        assert_eq!(graph.closure(&[TargetId(49_999)]).len(), 50_000);
    }

    #[test]
    fn ring_of_50000_is_one_cycle() {
        let ring = lines(50_000, |i| {
            format!("target t{i} needs t{}", (i + 1) % 50_000)
        });
        let (_, diagnostics, _) = time(ring);
        assert_eq!(diagnostics.len(), 1);
        assert_eq!(diagnostics[0].labels.len(), cycles::MOST_HOPS);
    }

    #[test]
    fn graph_is_built_in_about_linear_time() {
        let layered = |n: usize| {
            lines(n, |i| {
                let needs = if i < 100 {
                    String::new()
                } else {
                    format!("needs t{} t{}", i - 100, i - 1 - i % 100)
                };
                format!(
                    "target t{i} {needs} inputs src/{i}/**/*.go go.mod outputs out/{i}/bin gen/{i}/"
                )
            })
        };
        let (_, diagnostics, small) = time(layered(5_000));
        assert_eq!(diagnostics, []);
        let (_, diagnostics, large) = time(layered(40_000));
        assert_eq!(diagnostics, []);
        assert!(
            large < small * 40 + std::time::Duration::from_millis(200),
            "{small:?} for 5,000 and {large:?} for 40,000"
        );
    }
}
