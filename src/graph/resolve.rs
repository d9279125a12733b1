//! Resolves names into edges. Targets and groups share one numbering here (targets
//! first), so that cycles and paths through groups need no special case; [`flatten`] then
//! removes the groups. It does not check the edges.

use std::collections::{HashMap, HashSet};

use crate::buildfile::model::{Buildfile, Spanned, Target};
use crate::source::{Diagnostic, Span};

use super::TargetId;
use super::lists::{Lists, number};

/// The code of a name that no target and no group has.
pub const UNKNOWN: &str = "fbuild::graph::unknown";
pub(super) const TOO_LARGE: &str = "fbuild::graph::too_large";

/// The most unknown names with a suggestion; each takes linear time.
const MOST_SUGGESTIONS: usize = 50;
/// The most edges after groups are resolved: fifty for each of 100,000 targets.
const MOST_EDGES: usize = 5_000_000;

/// The most names that are compared with patterns: two hundred patterns over 100,000 targets.
const MOST_SEARCHED: usize = 20_000_000;

/// The number of a target or group, targets first.
pub(super) type Node = u32;

/// The names of a Buildfile and the edges between them.
pub(super) struct Names<'b> {
    buildfile: &'b Buildfile,
    /// All nodes sorted by name, each name once.
    sorted: Vec<Node>,
    /// The start of each node's edges in `edges`, and the end of the last one's.
    starts: Vec<u32>,
    edges: Vec<Edge>,
    /// For each node, whether it refers to an unknown name.
    is_vague: Vec<bool>,
}

/// One name in a `needs` or `after`, resolved.
#[derive(Clone, Copy)]
pub(super) struct Edge {
    /// The node that is named.
    pub(super) to: Node,
    /// The kind of edge.
    pub(super) kind: Kind,
    /// The span of the name.
    pub(super) span: Span,
}

/// The kind of an edge.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `needs`
    Needs,
    /// `after`
    After,
}

impl<'b> Names<'b> {
    /// Resolves all names, and reports unknown ones.
    pub(super) fn new(buildfile: &'b Buildfile) -> (Self, Vec<Diagnostic>) {
        let mut names = Self {
            buildfile,
            sorted: Vec::new(),
            starts: vec![0],
            edges: Vec::new(),
            is_vague: Vec::new(),
        };
        names.sorted = names.sort();
        names.is_vague = vec![false; names.len()];
        let mut unknown = Vec::new();
        let mut patterns = Patterns::default();
        for node in 0..number(names.len()) {
            for (kind, name) in names.written(node) {
                let before = names.edges.len();
                let edge = |to| Edge {
                    to,
                    kind,
                    span: name.span,
                };
                if is_pattern(&name.value) {
                    let found = patterns.find(&names, &name.value).iter();
                    // A target that matches the pattern of its own needs is not meant.
                    let others = found.filter(|found| **found != node);
                    names.edges.extend(others.map(|to| edge(*to)));
                } else {
                    names.edges.extend(names.find(&name.value).map(edge));
                }
                if names.edges.len() == before {
                    names.is_vague[node as usize] = true;
                    unknown.push((Some(node), name));
                }
            }
            patterns.check(names.edges.len(), node);
            names.starts.push(number(names.edges.len()));
        }
        let default = buildfile.project.iter().flat_map(|p| &p.default);
        let is_unknown = |name: &&Spanned<String>| names.matching(&name.value).is_empty();
        unknown.extend(default.filter(is_unknown).map(|name| (None, name)));
        let report = |(i, (node, name))| names.unknown(node, name, i < MOST_SUGGESTIONS);
        // The targets of one `for` share their names, and one mistake in them.
        let mut seen = HashSet::new();
        unknown.retain(|(_, name)| seen.insert((name.span, name.value.as_str())));
        let unknown = unknown.into_iter().enumerate().map(report);
        let too_large = patterns
            .too_large
            .map(|node| report_too_large(&names, node));
        let diagnostics = unknown.chain(too_large).collect();
        (names, diagnostics)
    }

    /// Returns the nodes that a name or pattern stands for.
    fn matching(&self, name: &str) -> Vec<Node> {
        matching(self.buildfile, &self.sorted, name)
    }

    /// Returns the Buildfile with these names.
    pub(super) fn buildfile(&self) -> &'b Buildfile {
        self.buildfile
    }

    /// Returns the number of nodes.
    pub(super) fn len(&self) -> usize {
        self.buildfile.targets.len() + self.buildfile.groups.len()
    }

    /// Returns the name of a node.
    pub(super) fn name(&self, node: Node) -> &'b str {
        name(self.buildfile, node)
    }

    /// Returns a node as a target, unless it is a group.
    pub(super) fn as_target(&self, node: Node) -> Option<TargetId> {
        ((node as usize) < self.buildfile.targets.len()).then_some(TargetId(node))
    }

    /// Returns the edges of a node.
    pub(super) fn edges(&self, node: Node) -> &[Edge] {
        let node = node as usize;
        &self.edges[self.starts[node] as usize..self.starts[node + 1] as usize]
    }

    /// Returns true if a node refers to an unknown name, so that edges may be missing.
    pub(super) fn is_vague(&self, node: Node) -> bool {
        self.is_vague[node as usize]
    }

    /// Returns the nodes sorted by name.
    pub(super) fn into_sorted(self) -> Vec<Node> {
        self.sorted
    }

    /// Sorts the nodes by name, and keeps the first of those with one name.
    fn sort(&self) -> Vec<Node> {
        let mut sorted: Vec<Node> = (0..number(self.len())).collect();
        sorted.sort_by(|a, b| self.name(*a).cmp(self.name(*b)));
        sorted.dedup_by(|later, first| self.name(*later) == self.name(*first));
        sorted
    }

    fn find(&self, name: &str) -> Option<Node> {
        find(self.buildfile, &self.sorted, name)
    }

    /// Returns the names that a node refers to, `needs` first.
    fn written(&self, node: Node) -> impl Iterator<Item = (Kind, &'b Spanned<String>)> + use<'b> {
        let buildfile = self.buildfile;
        let index = node as usize;
        let (needs, after) = match buildfile.targets.get(index) {
            Some(target) => (&target.needs[..], &target.after[..]),
            None => {
                let group = &buildfile.groups[index - buildfile.targets.len()];
                (&group.needs[..], &[][..])
            }
        };
        let needs = needs.iter().map(|name| (Kind::Needs, name));
        needs.chain(after.iter().map(|name| (Kind::After, name)))
    }

    fn unknown(&self, node: Option<Node>, name: &Spanned<String>, suggest: bool) -> Diagnostic {
        let target = node.and_then(|node| self.buildfile.targets.get(node as usize));
        if is_pattern(&name.value) {
            let message = format!("no target matches `{}`", name.value);
            let diagnostic = Diagnostic::error(UNKNOWN, message)
                .label(name.span, "matches no target and no group")
                .help("`*` stands for any characters of a name; `fbuild list` shows all names");
            return with_values(diagnostic, target);
        }
        let message = format!("unknown target `{}`", name.value);
        let diagnostic =
            Diagnostic::error(UNKNOWN, message).label(name.span, "not a target or group");
        let diagnostic = with_values(diagnostic, target);
        if suggest {
            diagnostic.did_you_mean(&name.value, self.all())
        } else {
            diagnostic
        }
    }

    fn all(&self) -> impl Iterator<Item = &'b str> {
        self.sorted.iter().map(|node| self.name(*node))
    }
}

/// Returns the name of a node.
pub(super) fn name(buildfile: &Buildfile, node: Node) -> &str {
    let index = node as usize;
    match buildfile.targets.get(index) {
        Some(target) => &target.name.value,
        None => &buildfile.groups[index - buildfile.targets.len()].name.value,
    }
}

/// Returns the node with a name, by binary search in the `sorted` nodes.
pub(super) fn find(buildfile: &Buildfile, sorted: &[Node], wanted: &str) -> Option<Node> {
    let at = sorted.binary_search_by(|node| name(buildfile, *node).cmp(wanted));
    at.ok().map(|at| sorted[at])
}

/// Returns true if a name stands for all names that match it.
pub(super) fn is_pattern(name: &str) -> bool {
    name.contains('*')
}

/// Returns the nodes with names that match a name or pattern, sorted by name.
pub(super) fn matching(buildfile: &Buildfile, sorted: &[Node], wanted: &str) -> Vec<Node> {
    if !is_pattern(wanted) {
        return find(buildfile, sorted, wanted).into_iter().collect();
    }
    let near = with_prefix(buildfile, sorted, wanted).iter().copied();
    near.filter(|node| matches(wanted, name(buildfile, *node)))
        .collect()
}

/// Returns the nodes with names that start like a pattern.
fn with_prefix<'s>(buildfile: &Buildfile, sorted: &'s [Node], pattern: &str) -> &'s [Node] {
    let prefix = pattern.split('*').next().unwrap_or("");
    let start = sorted.partition_point(|node| name(buildfile, *node) < prefix);
    let from = &sorted[start..];
    let len = from.partition_point(|node| name(buildfile, *node).starts_with(prefix));
    &from[..len]
}

/// Returns true if a name matches a pattern in which `*` is any number of characters. The first
/// place of each part is enough, because a later part can only gain from it.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let (Some(last), Some(mut rest)) = (parts.next_back(), name.strip_prefix(first)) else {
        return pattern == name;
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The nodes that patterns stand for, each found once.
#[derive(Default)]
struct Patterns<'b> {
    found: HashMap<&'b str, Vec<Node>>,
    /// The number of names among which patterns were searched.
    searched: usize,
    /// The node at which the limit was reached.
    too_large: Option<Node>,
}

impl<'b> Patterns<'b> {
    /// Returns the nodes that match; none once the limit is reached.
    fn find(&mut self, names: &Names<'b>, pattern: &'b str) -> &[Node] {
        if self.too_large.is_some() {
            return &[];
        }
        self.found.entry(pattern).or_insert_with(|| {
            self.searched += with_prefix(names.buildfile, &names.sorted, pattern).len();
            names.matching(pattern)
        })
    }

    fn check(&mut self, edges: usize, node: Node) {
        if edges > MOST_EDGES || self.searched > MOST_SEARCHED {
            self.too_large.get_or_insert(node);
        }
    }
}

/// Adds the values of `for` that a target was made with.
pub(super) fn with_values(diagnostic: Diagnostic, target: Option<&Target>) -> Diagnostic {
    let values = target.into_iter().flat_map(|target| &target.values);
    values.fold(diagnostic, |diagnostic, (name, value)| {
        diagnostic.label(value.span, format!("with `{name}` = `{}`", value.value))
    })
}

/// Edges between targets only.
#[derive(Default)]
pub(super) struct Edges {
    /// For each target, the targets that it needs, each once.
    pub(super) needs: Lists,
    /// For each target, the targets that it only runs after, each once.
    pub(super) after: Lists,
    /// For each group, its targets, each once.
    pub(super) members: Lists,
}

/// Replaces each group by its targets. If there would be too many edges, the rest are left
/// out and that is reported.
pub(super) fn flatten(names: &Names<'_>) -> (Edges, Option<Diagnostic>) {
    let mut edges = Edges::default();
    let mut walk = Walk::new(names);
    let mut too_large = None;
    for node in 0..number(names.len()) {
        walk.begin();
        if edges.needs.total() + edges.after.total() + edges.members.total() > MOST_EDGES {
            too_large.get_or_insert(node);
        }
        let is_full = too_large.is_some();
        match names.as_target(node) {
            _ if is_full => {}
            Some(_) => {
                walk.collect(node, Kind::Needs, &mut edges.needs);
                walk.collect(node, Kind::After, &mut edges.after);
            }
            None => walk.collect(node, Kind::Needs, &mut edges.members),
        }
        match names.as_target(node) {
            Some(_) => {
                edges.needs.end_list();
                edges.after.end_list();
            }
            None => edges.members.end_list(),
        }
    }
    (edges, too_large.map(|node| report_too_large(names, node)))
}

/// Collects the targets that a node's edges lead to through groups.
struct Walk<'n, 'b> {
    names: &'n Names<'b>,
    /// For each node, the last turn in which it was seen.
    met: Vec<u32>,
    turn: u32,
    open: Vec<Node>,
}

impl<'n, 'b> Walk<'n, 'b> {
    fn new(names: &'n Names<'b>) -> Self {
        Self {
            names,
            met: vec![0; names.len()],
            turn: 0,
            open: Vec::new(),
        }
    }

    /// Starts a new turn, in which no node was seen.
    fn begin(&mut self) {
        self.turn += 1;
    }

    fn collect(&mut self, node: Node, kind: Kind, into: &mut Lists) {
        self.push_edges(node, kind);
        while let Some(node) = self.open.pop() {
            if std::mem::replace(&mut self.met[node as usize], self.turn) == self.turn {
                continue;
            }
            match self.names.as_target(node) {
                Some(target) => into.push(target),
                None => self.push_edges(node, Kind::Needs),
            }
        }
    }

    /// Pushes the edges of a node in reverse, so that the first named is taken first.
    fn push_edges(&mut self, node: Node, kind: Kind) {
        let edges = self.names.edges(node).iter().rev();
        let wanted = edges.filter(|edge| edge.kind == kind).map(|edge| edge.to);
        self.open.extend(wanted);
    }
}

fn report_too_large(names: &Names<'_>, node: Node) -> Diagnostic {
    let message = format!(
        "groups and patterns make more than {} million edges between targets",
        MOST_EDGES / 1_000_000
    );
    let diagnostic = Diagnostic::error(TOO_LARGE, message)
        .help("let a target need the few targets whose outputs it reads rather than large groups");
    match names.edges(node).first() {
        Some(edge) => diagnostic.label(edge.span, "the limit is reached here"),
        None => diagnostic,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Named;
    use super::super::testing::{check, graph, names, shown};
    use super::matches;

    #[test]
    fn unknown_names_are_reported_with_suggestions() {
        check(
            "default biuld
             target manager needs webap after zip
             target webapp
             group build needs manager wbapp",
            "error fbuild::graph::unknown: unknown target `webap`
               2 `webap`: not a target or group
               help: did you mean `webapp`?
             error fbuild::graph::unknown: unknown target `zip`
               2 `zip`: not a target or group
             error fbuild::graph::unknown: unknown target `wbapp`
               4 `wbapp`: not a target or group
               help: did you mean `webapp`?
             error fbuild::graph::unknown: unknown target `biuld`
               1 `biuld`: not a target or group
               help: did you mean `build`?",
        );
    }

    #[test]
    fn first_of_two_nodes_has_the_name() {
        assert_eq!(shown("target a needs b\ntarget b\ngroup b needs a"), "");
    }

    #[test]
    fn edges_through_groups_are_limited() {
        let many: Vec<String> = (0..2500).map(|i| format!("target t{i}")).collect();
        let all: Vec<String> = (0..2500).map(|i| format!("t{i}")).collect();
        let readers = (0..2500).map(|i| format!("target r{i} needs all"));
        let mut text = many;
        text.extend(readers);
        text.push(format!("group all needs {}", all.join(" ")));
        let report = shown(&text.join("\n"));
        assert_eq!(report.lines().count(), 3, "{report}");
        assert!(report.contains("more than 5 million edges"), "{report}");
    }

    #[test]
    fn pattern_stands_for_all_names_that_match() {
        let graph = graph(
            "default *x
             target test-all needs test-* *-gen
             target test-b
             target test-a after te*b
             target c-gen
             group test-x needs test-b*",
        );
        let id = |name| match graph.find(name) {
            Some(Named::Target(id)) => id,
            other => panic!("{name} is {other:?}"),
        };
        assert_eq!(
            names(&graph, graph.needs(id("test-all"))),
            "test-a test-b c-gen"
        );
    }

    #[test]
    fn star_is_any_number_of_characters() {
        for (pattern, name) in [
            ("*", ""),
            ("*", "a"),
            ("a*", "a"),
            ("*a", "ba"),
            ("a*c", "abc"),
            ("a*b*c", "axbxbxc"),
            ("**", "a"),
            ("*-*", "a-b"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("a*", "ba"),
            ("*a", "ab"),
            ("ab*ba", "aba"),
            ("a*b*c", "acb"),
            ("*-*", "ab"),
            ("a?*", "ab"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_over_many_names_are_limited() {
        let target = |i| format!("target t{i} needs *x{i}");
        let text: Vec<String> = (0..5_000).map(target).collect();
        let report = shown(&text.join("\n"));
        assert!(
            report.contains("groups and patterns make more than 5 million"),
            "{}",
            report.len()
        );
    }
}
