//! Answers for many pairs of nodes whether a path over `needs`, `after` and groups leads
//! from one to the other. It does not know the reason for the question.
//!
//! 64 goals share one pass over the components between them, which are already sorted:
//! the set of goals of each component, one bit each, is the union of its successors' sets.

use super::cycles::Components;
use super::lists::number;
use super::resolve::{Names, Node};

/// Returns for each pair whether a path leads from its first node to its second.
pub(super) fn paths(
    names: &Names<'_>,
    components: &Components,
    pairs: &[(Node, Node)],
) -> Vec<bool> {
    let mut goals: Vec<Node> = pairs.iter().map(|(_, goal)| *goal).collect();
    goals.sort_unstable_by_key(|goal| (components.number(*goal), *goal));
    goals.dedup();
    let mut by_goal: Vec<usize> = (0..pairs.len()).collect();
    by_goal.sort_unstable_by_key(|i| (components.number(pairs[*i].1), pairs[*i].1));
    let mut answers = vec![false; pairs.len()];
    let mut pass = Pass {
        names,
        components,
        bits: vec![0; names.len()],
        reached: vec![0; components.len()],
    };
    let mut rest = &by_goal[..];
    for goals in goals.chunks(64) {
        let is_here = |i: &usize| goals.contains(&pairs[*i].1);
        let (here, later) = rest.split_at(rest.partition_point(is_here));
        let starts = here.iter().map(|i| components.number(pairs[*i].0));
        pass.run(goals, starts.max().unwrap_or(0));
        for i in here {
            answers[*i] = pass.leads(pairs[*i]);
        }
        pass.forget(goals);
        rest = later;
    }
    answers
}

/// Returns for each component whether it has or leads to a node with unknown names, so
/// that a path may be missing only because of them.
pub(super) fn vague(names: &Names<'_>, components: &Components) -> Vec<bool> {
    let mut vague = vec![false; components.len()];
    for component in 0..number(components.len()) {
        let is_vague = components.nodes(component).iter().any(|node| {
            let mut edges = names.edges(*node).iter();
            names.is_vague(*node) || edges.any(|e| vague[components.number(e.to) as usize])
        });
        vague[component as usize] = is_vague;
    }
    vague
}

struct Pass<'n, 'b> {
    names: &'n Names<'b>,
    components: &'n Components,
    /// The bit of each goal of this pass, 0 for all other nodes.
    bits: Vec<u64>,
    /// The goals that each component leads to. Values below the first goal and above the
    /// last start are left over from earlier passes.
    reached: Vec<u64>,
}

impl Pass<'_, '_> {
    /// Computes `reached` from the first of the sorted `goals` up to the component `last`.
    fn run(&mut self, goals: &[Node], last: u32) {
        for (i, goal) in goals.iter().enumerate() {
            self.bits[*goal as usize] = 1 << i;
        }
        let first = goals
            .first()
            .map_or(0, |goal| self.components.number(*goal));
        for component in first..=last {
            self.reached[component as usize] = 0;
            self.reached[component as usize] = self.union(component, first);
        }
    }

    fn forget(&mut self, goals: &[Node]) {
        for goal in goals {
            self.bits[*goal as usize] = 0;
        }
    }

    fn union(&self, component: u32, first: u32) -> u64 {
        let nodes = self.components.nodes(component).iter();
        let edges = nodes.flat_map(|node| self.names.edges(*node));
        edges.fold(0, |set, edge| {
            let to = self.components.number(edge.to);
            let beyond = if to < first {
                0
            } else {
                self.reached[to as usize]
            };
            set | beyond | self.bits[edge.to as usize]
        })
    }

    fn leads(&self, (start, goal): (Node, Node)) -> bool {
        let start = self.components.number(start);
        // A component leads only to lower numbers, so no path starts below the goal.
        start >= self.components.number(goal)
            && self.reached[start as usize] & self.bits[goal as usize] != 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::BuildText;
    use super::*;
    use proptest::prelude::*;

    /// Returns the nodes reachable from `start`, edge by edge.
    fn walk(edges: &[(usize, usize)], start: usize) -> Vec<bool> {
        let mut is_met = vec![false; 150];
        let mut open = vec![start];
        while let Some(at) = open.pop() {
            for (_, to) in edges.iter().filter(|(from, _)| *from == at) {
                if !std::mem::replace(&mut is_met[*to], true) {
                    open.push(*to);
                }
            }
        }
        is_met
    }

    proptest! {
        #[test]
        fn paths_agree_with_a_plain_search(
            edges in proptest::collection::vec((0..150usize, 0..150usize), 0..250),
            questions in proptest::collection::vec((0..150u32, 0..150u32), 1..400),
        ) {
            let line = |i: usize| {
                let needs = edges.iter().filter(|(from, _)| *from == i);
                let needs: String = needs.map(|(_, to)| format!(" t{to}")).collect();
                match i % 5 {
                    // Groups are numbered after all targets, as in `Names`.
                    _ if i >= 120 => format!("group t{i} needs{needs}\n"),
                    0 => format!("target t{i} after{needs}\n"),
                    _ => format!("target t{i} needs{needs}\n"),
                }
            };
            let text = BuildText::read(&(0..150).map(line).collect::<String>());
            let (names, _) = Names::new(&text.buildfile);
            let components = Components::of(&names);
            let answers = paths(&names, &components, &questions);
            for ((from, to), answer) in questions.into_iter().zip(answers) {
                prop_assert_eq!(answer, walk(&edges, from as usize)[to as usize]);
            }
        }
    }
}
