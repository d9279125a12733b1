//! Finds strongly connected components of the names (Tarjan's algorithm, without
//! recursion): the order in which targets can run, and the cycles that prevent it.

use std::collections::VecDeque;

use crate::source::Diagnostic;

use super::TargetId;
use super::lists::number;
use super::resolve::{Edge, Kind, Names, Node};

pub(super) const CYCLE: &str = "fbuild::graph::cycle";

/// The most hops of one cycle that are labelled.
pub(super) const MOST_HOPS: usize = 30;
/// The most names in the message of one cycle.
const MOST_NAMES: usize = 8;

/// Nodes by strongly connected component; a component comes after all that it leads to.
pub(super) struct Components {
    /// The number of each node's component.
    of: Vec<u32>,
    /// All nodes, component by component.
    nodes: Vec<Node>,
    /// The start of each component in `nodes`, and the end of the last one.
    starts: Vec<u32>,
}

impl Components {
    /// Finds the components, in time linear in nodes and edges.
    pub(super) fn of(names: &Names<'_>) -> Self {
        let mut search = Search::new(names);
        for node in 0..number(names.len()) {
            if search.seen[node as usize] == UNSEEN {
                search.run(node);
            }
        }
        search.found
    }

    /// Returns the number of components.
    pub(super) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Returns the number of a node's component; a node leads only to lower or equal numbers.
    pub(super) fn number(&self, node: Node) -> u32 {
        self.of[node as usize]
    }

    /// Returns the nodes of a component.
    pub(super) fn nodes(&self, component: u32) -> &[Node] {
        let component = component as usize;
        &self.nodes[self.starts[component] as usize..self.starts[component + 1] as usize]
    }

    /// Returns the targets, each after all that it leads to.
    pub(super) fn target_order(&self, names: &Names<'_>) -> Vec<TargetId> {
        let targets = self.nodes.iter().filter_map(|node| names.as_target(*node));
        targets.collect()
    }
}

const UNSEEN: u32 = u32::MAX;
const UNPLACED: u32 = u32::MAX;

/// The state of Tarjan's algorithm.
struct Search<'n, 'b> {
    names: &'n Names<'b>,
    /// The time at which each node was first seen.
    seen: Vec<u32>,
    /// The earliest node known to be reachable from each.
    low: Vec<u32>,
    clock: u32,
    /// The nodes seen whose component is not complete.
    open: Vec<Node>,
    /// The path to the current node; each node with the next of its edges to follow.
    way: Vec<(Node, usize)>,
    found: Components,
}

impl<'n, 'b> Search<'n, 'b> {
    fn new(names: &'n Names<'b>) -> Self {
        let len = names.len();
        Self {
            names,
            seen: vec![UNSEEN; len],
            low: vec![UNSEEN; len],
            clock: 0,
            open: Vec::new(),
            way: Vec::new(),
            found: Components {
                of: vec![UNPLACED; len],
                nodes: Vec::with_capacity(len),
                starts: vec![0],
            },
        }
    }

    fn run(&mut self, root: Node) {
        self.enter(root);
        while let Some((node, next)) = self.way.last_mut() {
            let node = *node;
            match self.names.edges(node).get(*next) {
                Some(edge) => {
                    *next += 1;
                    self.follow(node, edge.to);
                }
                None => self.leave(node),
            }
        }
    }

    fn enter(&mut self, node: Node) {
        self.seen[node as usize] = self.clock;
        self.low[node as usize] = self.clock;
        self.clock += 1;
        self.open.push(node);
        self.way.push((node, 0));
    }

    fn follow(&mut self, from: Node, to: Node) {
        if self.seen[to as usize] == UNSEEN {
            self.enter(to);
        } else if self.found.of[to as usize] == UNPLACED {
            self.lower(from, self.seen[to as usize]);
        }
    }

    fn leave(&mut self, node: Node) {
        self.way.pop();
        let low = self.low[node as usize];
        if let Some((before, _)) = self.way.last() {
            self.lower(*before, low);
        }
        if low == self.seen[node as usize] {
            self.close(node);
        }
    }

    fn lower(&mut self, node: Node, low: u32) {
        let own = &mut self.low[node as usize];
        *own = low.min(*own);
    }

    /// Makes a component of all nodes opened since `first`.
    fn close(&mut self, first: Node) {
        let component = number(self.found.len());
        while let Some(node) = self.open.pop() {
            self.found.of[node as usize] = component;
            self.found.nodes.push(node);
            if node == first {
                break;
            }
        }
        self.found.starts.push(number(self.found.nodes.len()));
    }
}

/// Reports one cycle, a shortest one, in each component that has cycles.
pub(super) fn report(names: &Names<'_>, components: &Components) -> Vec<Diagnostic> {
    let mut firsts: Vec<Node> = (0..number(components.len()))
        .filter_map(|component| components.nodes(component).iter().min().copied())
        .filter(|first| is_cyclic(names, components, *first))
        .collect();
    firsts.sort_unstable();
    let cycles = firsts.into_iter().map(|first| {
        let hops = shortest(names, components, first);
        describe(names, &hops)
    });
    cycles.collect()
}

fn is_cyclic(names: &Names<'_>, components: &Components, node: Node) -> bool {
    components.nodes(components.number(node)).len() > 1
        || names.edges(node).iter().any(|edge| edge.to == node)
}

/// One edge of a cycle and the node it starts from.
type Hop = (Node, Edge);

/// Returns a shortest path from `first` back to itself, by breadth-first search.
fn shortest(names: &Names<'_>, components: &Components, first: Node) -> Vec<Hop> {
    let component = components.number(first);
    let mut came: std::collections::HashMap<Node, Hop> = std::collections::HashMap::new();
    let mut open = VecDeque::from([first]);
    while let Some(node) = open.pop_front() {
        for edge in names.edges(node) {
            if components.number(edge.to) != component || came.contains_key(&edge.to) {
                continue;
            }
            came.insert(edge.to, (node, *edge));
            if edge.to == first {
                return trace(&came, first);
            }
            open.push_back(edge.to);
        }
    }
    Vec::new()
}

fn trace(came: &std::collections::HashMap<Node, Hop>, first: Node) -> Vec<Hop> {
    let mut hops = Vec::new();
    let mut at = first;
    while let Some(hop) = came.get(&at) {
        hops.push(*hop);
        at = hop.0;
        if at == first {
            break;
        }
    }
    hops.reverse();
    hops
}

fn describe(names: &Names<'_>, hops: &[Hop]) -> Diagnostic {
    let message = match hops {
        [(node, _)] => format!("`{}` needs itself", names.name(*node)),
        _ => format!(
            "targets need each other in a cycle: {}",
            circle(names, hops)
        ),
    };
    let mut diagnostic = Diagnostic::error(CYCLE, message);
    let half = MOST_HOPS / 2;
    let is_shown = |i: &usize| *i < half || hops.len() - i <= MOST_HOPS - half;
    for (node, edge) in (0..hops.len()).filter(is_shown).map(|i| &hops[i]) {
        let verb = match edge.kind {
            Kind::Needs => "needs",
            Kind::After => "runs after",
        };
        let text = format!("`{}` {verb} `{}`", names.name(*node), names.name(edge.to));
        diagnostic = diagnostic.label(edge.span, text);
    }
    diagnostic.help(match hops.len() {
        1 => "remove the name",
        _ => "remove one of these names, or move what both sides need into a target of its own",
    })
}

/// Returns the names along a cycle, the first one again at the end.
fn circle(names: &Names<'_>, hops: &[Hop]) -> String {
    let quoted = |node: Node| format!("`{}`", names.name(node));
    let nodes = hops.iter().map(|(node, _)| quoted(*node));
    let mut shown: Vec<String> = nodes.take(MOST_NAMES).collect();
    if hops.len() > MOST_NAMES {
        shown.push(format!("… {} more", hops.len() - MOST_NAMES));
    }
    shown.extend(hops.first().map(|(node, _)| quoted(*node)));
    shown.join(" → ")
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;

    #[test]
    fn every_hop_of_a_cycle_is_labelled() {
        check(
            "target a needs b
             target b after x c
             target c needs a
             target x",
            "error fbuild::graph::cycle: targets need each other in a cycle: `a` → `b` → `c` → `a`
               1 `b`: `a` needs `b`
               2 `c`: `b` runs after `c`
               3 `a`: `c` needs `a`
               help: remove one of these names, or move what both sides need into a target of its own",
        );
    }

    #[test]
    fn target_that_needs_itself_is_a_cycle() {
        check(
            "target a needs a",
            "error fbuild::graph::cycle: `a` needs itself
               1 `a`: `a` needs `a`
               help: remove the name",
        );
    }

    #[test]
    fn cycles_through_groups_are_found_once_each() {
        check(
            "target a needs all
             target b needs c
             target c needs b
             group all needs a
             group one needs two
             group two needs one",
            "error fbuild::graph::cycle: targets need each other in a cycle: `a` → `all` → `a`
               1 `all`: `a` needs `all`
               4 `a`: `all` needs `a`
               help: remove one of these names, or move what both sides need into a target of its own
             error fbuild::graph::cycle: targets need each other in a cycle: `b` → `c` → `b`
               2 `c`: `b` needs `c`
               3 `b`: `c` needs `b`
               help: remove one of these names, or move what both sides need into a target of its own
             error fbuild::graph::cycle: targets need each other in a cycle: `one` → `two` → `one`
               5 `two`: `one` needs `two`
               6 `one`: `two` needs `one`
               help: remove one of these names, or move what both sides need into a target of its own",
        );
    }

    #[test]
    fn shortest_of_overlapping_cycles_is_shown() {
        check(
            "target a needs b
             target b needs c
             target c needs a b",
            "error fbuild::graph::cycle: targets need each other in a cycle: `a` → `b` → `c` → `a`
               1 `b`: `a` needs `b`
               2 `c`: `b` needs `c`
               3 `a`: `c` needs `a`
               help: remove one of these names, or move what both sides need into a target of its own",
        );
    }
}
