//! From names to edges. Targets and groups are numbered together here (targets first),
//! so that cycles and paths through groups are found like all others; [`flatten`] then
//! leaves the groups out. It does not judge the edges.

use crate::buildfile::model::{Buildfile, Spanned};
use crate::source::{Diagnostic, Span};

use super::TargetId;
use super::lists::{Lists, number};

/// The code of a name that no target and no group has.
pub const UNKNOWN: &str = "fbuild::graph::unknown";
pub(super) const TOO_LARGE: &str = "fbuild::graph::too_large";

/// The most unknown names for which a near one is looked for: each look is linear.
const MOST_SUGGESTIONS: usize = 50;
/// The most edges after groups are resolved: fifty for each of 100,000 targets.
const MOST_EDGES: usize = 5_000_000;

/// A target or a group: its number among both, targets first.
pub(super) type Node = u32;

/// All names of a Buildfile, and who names whom.
pub(super) struct Names<'b> {
    buildfile: &'b Buildfile,
    /// All nodes sorted by name, each name once.
    sorted: Vec<Node>,
    /// Where each node's edges start in `edges`, and where the last one's end.
    starts: Vec<u32>,
    edges: Vec<Edge>,
    /// For each node, whether it writes a name that is nobody's.
    is_vague: Vec<bool>,
}

/// One name in a `needs` or `after`, resolved.
#[derive(Clone, Copy)]
pub(super) struct Edge {
    /// Whom it names.
    pub(super) to: Node,
    /// How.
    pub(super) kind: Kind,
    /// Where the name stands.
    pub(super) span: Span,
}

/// How one target names another.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `needs`
    Needs,
    /// `after`
    After,
}

impl<'b> Names<'b> {
    /// Resolves all names, and reports those that are nobody's.
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
        for node in 0..number(names.len()) {
            for (kind, name) in names.written(node) {
                match names.find(&name.value) {
                    Some(to) => names.edges.push(Edge {
                        to,
                        kind,
                        span: name.span,
                    }),
                    None => {
                        names.is_vague[node as usize] = true;
                        unknown.push(name);
                    }
                }
            }
            names.starts.push(number(names.edges.len()));
        }
        let default = buildfile.project.iter().flat_map(|p| &p.default);
        unknown.extend(default.filter(|name| names.find(&name.value).is_none()));
        let report = |(i, name)| names.unknown(name, i < MOST_SUGGESTIONS);
        let diagnostics = unknown.into_iter().enumerate().map(report).collect();
        (names, diagnostics)
    }

    /// Returns the Buildfile whose names these are.
    pub(super) fn buildfile(&self) -> &'b Buildfile {
        self.buildfile
    }

    /// Returns how many nodes there are.
    pub(super) fn len(&self) -> usize {
        self.buildfile.targets.len() + self.buildfile.groups.len()
    }

    /// Returns the name of a node.
    pub(super) fn name(&self, node: Node) -> &'b str {
        name(self.buildfile, node)
    }

    /// Returns the target that a node is, if it is not a group.
    pub(super) fn as_target(&self, node: Node) -> Option<TargetId> {
        ((node as usize) < self.buildfile.targets.len()).then_some(TargetId(node))
    }

    /// Returns whom a node names.
    pub(super) fn edges(&self, node: Node) -> &[Edge] {
        let node = node as usize;
        &self.edges[self.starts[node] as usize..self.starts[node + 1] as usize]
    }

    /// Returns true if a node writes a name that is nobody's: what it leads to is not all
    /// that was meant.
    pub(super) fn is_vague(&self, node: Node) -> bool {
        self.is_vague[node as usize]
    }

    /// Gives away the nodes sorted by name.
    pub(super) fn into_sorted(self) -> Vec<Node> {
        self.sorted
    }

    /// Sorts the nodes by name; of two with one name, the first written stays.
    fn sort(&self) -> Vec<Node> {
        let mut sorted: Vec<Node> = (0..number(self.len())).collect();
        sorted.sort_by(|a, b| self.name(*a).cmp(self.name(*b)));
        sorted.dedup_by(|later, first| self.name(*later) == self.name(*first));
        sorted
    }

    fn find(&self, name: &str) -> Option<Node> {
        find(self.buildfile, &self.sorted, name)
    }

    /// Returns the names that a node writes, `needs` first.
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

    fn unknown(&self, name: &Spanned<String>, suggest: bool) -> Diagnostic {
        let message = format!("unknown target `{}`", name.value);
        let diagnostic =
            Diagnostic::error(UNKNOWN, message).label(name.span, "not a target or group");
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

/// Returns the node with a name, by bisection of the `sorted` nodes.
pub(super) fn find(buildfile: &Buildfile, sorted: &[Node], wanted: &str) -> Option<Node> {
    let at = sorted.binary_search_by(|node| name(buildfile, *node).cmp(wanted));
    at.ok().map(|at| sorted[at])
}

/// Edges between targets only.
#[derive(Default)]
pub(super) struct Edges {
    /// For each target, what it needs, each once.
    pub(super) needs: Lists,
    /// For each target, what it follows and does not need, each once.
    pub(super) after: Lists,
    /// For each group, what it stands for, each once.
    pub(super) members: Lists,
}

/// Puts the targets that a group stands for in its place, wherever it is named. When
/// there would be too many edges, the rest are left out and that is reported.
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

/// Collects the targets behind a node's edges, going through groups.
struct Walk<'n, 'b> {
    names: &'n Names<'b>,
    /// For each node, the last turn in which it was met.
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

    /// Forgets what was met.
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

    /// Opens what a node names, so that the first named is the first taken.
    fn push_edges(&mut self, node: Node, kind: Kind) {
        let edges = self.names.edges(node).iter().rev();
        let wanted = edges.filter(|edge| edge.kind == kind).map(|edge| edge.to);
        self.open.extend(wanted);
    }
}

fn report_too_large(names: &Names<'_>, node: Node) -> Diagnostic {
    let message = format!(
        "groups make more than {} million edges between targets",
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
    use super::super::testing::{check, shown};

    #[test]
    fn every_unknown_name_is_reported_with_the_nearest_one() {
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
    fn of_two_things_with_one_name_the_first_has_it() {
        assert_eq!(shown("target a needs b\ntarget b\ngroup b needs a"), "");
    }

    #[test]
    fn groups_that_multiply_are_stopped() {
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
}
