//! The state of every target in a run: a pure state machine. Makes no system calls, starts
//! no threads and reads no clock.
//!
//! ```text
//! Waiting ──all before it succeeded──▶ Ready ──next_to_prepare──▶ Preparing
//! Preparing ──queue──▶ Queued ──next_to_run──▶ Running
//! Preparing, Running ──succeed, fail──▶ Done
//! Waiting ──one before it failed──▶ Done        Waiting, Ready, Queued ──close──▶ Done
//! ```

use std::collections::{BTreeSet, BinaryHeap, VecDeque};

use crate::graph::{Graph, TargetId};

/// The states of all targets, and the queues between them.
pub(super) struct Plan<'g> {
    graph: &'g Graph,
    states: Vec<State>,
    /// For each target, the duration of the longest chain that it begins, in milliseconds.
    urgency: Vec<u64>,
    /// For each target, true if it or one that waits for it is to run before all others.
    is_preferred: Vec<bool>,
    has_preferred: bool,
    ready: VecDeque<TargetId>,
    queue: BinaryHeap<(bool, u64, std::cmp::Reverse<TargetId>)>,
    held: BTreeSet<&'g str>,
    jobs: usize,
    preparing: usize,
    running: usize,
    unfinished: usize,
    closed: bool,
}

/// The state of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It takes no part.
    Absent,
    /// This many targets before it are not done.
    Waiting(usize),
    /// Everything before it succeeded.
    Ready,
    /// Its key is being computed and its result looked up.
    Preparing,
    /// Its commands must run.
    Queued,
    /// Its commands are running.
    Running,
    /// It is finished.
    Done,
}

impl<'g> Plan<'g> {
    /// Plans to finish `wanted`, which must include everything that its members need. `cost`
    /// returns the expected duration of a target, in milliseconds.
    pub(super) fn new(
        graph: &'g Graph,
        wanted: &[TargetId],
        cost: impl Fn(TargetId) -> u64,
        jobs: usize,
    ) -> Self {
        let mut plan = Self {
            graph,
            states: vec![State::Absent; graph.len()],
            urgency: vec![0; graph.len()],
            is_preferred: vec![false; graph.len()],
            has_preferred: false,
            ready: VecDeque::new(),
            queue: BinaryHeap::new(),
            held: BTreeSet::new(),
            jobs: jobs.max(1),
            preparing: 0,
            running: 0,
            unfinished: wanted.len(),
            closed: false,
        };
        for &id in wanted {
            plan.states[id.index()] = State::Waiting(0);
        }
        for &id in wanted {
            plan.states[id.index()] = State::Waiting(plan.before(id));
        }
        plan.weigh(cost);
        plan.ready = wanted
            .iter()
            .copied()
            .filter(|&id| plan.is_free(id))
            .collect();
        for &id in &plan.ready {
            plan.states[id.index()] = State::Ready;
        }
        plan
    }

    /// Has targets run before all others, with those that they wait for.
    pub(super) fn prefer(&mut self, targets: &[TargetId]) {
        self.has_preferred = true;
        for id in targets {
            self.is_preferred[id.index()] = true;
        }
        for &id in self.graph.order().iter().rev() {
            let mut dependants = self.graph.dependants(id).iter();
            self.is_preferred[id.index()] |= dependants.any(|d| self.is_preferred[d.index()]);
        }
        let (first, rest) = self
            .ready
            .iter()
            .partition(|id| self.is_preferred[id.index()]);
        self.ready = first;
        self.ready.extend::<VecDeque<_>>(rest);
    }

    /// Returns a target to prepare.
    pub(super) fn next_to_prepare(&mut self) -> Option<TargetId> {
        if self.closed {
            return None;
        }
        // A target may have failed while it was ready.
        let id = loop {
            let id = self.ready.pop_front()?;
            if self.states[id.index()] == State::Ready {
                break id;
            }
        };
        self.move_to(id, State::Ready, State::Preparing);
        self.preparing += 1;
        Some(id)
    }

    /// Returns true if there are targets to prepare.
    pub(super) fn has_ready(&self) -> bool {
        !self.closed && !self.ready.is_empty()
    }

    /// Queues a prepared target whose commands must run.
    pub(super) fn queue(&mut self, id: TargetId) {
        self.move_to(id, State::Preparing, State::Queued);
        self.preparing -= 1;
        let (is_preferred, urgency) = (self.is_preferred[id.index()], self.urgency[id.index()]);
        self.queue
            .push((is_preferred, urgency, std::cmp::Reverse(id)));
    }

    /// Returns the most urgent target that may run now: there is a free job, its locks are
    /// free, and so is the terminal. An interactive target runs alone.
    pub(super) fn next_to_run(&mut self) -> Option<TargetId> {
        if self.closed || self.running >= self.jobs {
            return None;
        }
        // A preferred target that is about to be queued would come too late.
        let must_wait = self.is_preparing_preferred();
        let mut passed = Vec::new();
        let found = loop {
            let Some(next) = self.queue.pop() else {
                break None;
            };
            if must_wait && !next.0 {
                passed.push(next);
                break None;
            }
            if self.may_run(next.2.0) {
                break Some(next.2.0);
            }
            passed.push(next);
        };
        self.queue.extend(passed);
        let id = found?;
        self.move_to(id, State::Queued, State::Running);
        self.running += 1;
        self.held.extend(locks(self.graph, id));
        Some(id)
    }

    /// Returns true if a preferred target is being prepared.
    fn is_preparing_preferred(&self) -> bool {
        let mut states = self.states.iter().zip(&self.is_preferred);
        self.has_preferred
            && self.preparing > 0
            && states.any(|(state, is_preferred)| *is_preferred && *state == State::Preparing)
    }

    /// Finishes a target that succeeded. Those that waited only for it become ready.
    pub(super) fn succeed(&mut self, id: TargetId) {
        self.finish(id);
        for dependant in self.graph.dependants(id) {
            let state = &mut self.states[dependant.index()];
            if let State::Waiting(left) = state {
                *left -= 1;
                if *left == 0 {
                    *state = State::Ready;
                    self.ready.push_back(*dependant);
                }
            }
        }
    }

    /// Finishes a target that failed, and all that wait for it, directly or not. Returns
    /// those, the nearest first.
    pub(super) fn fail(&mut self, id: TargetId) -> Vec<TargetId> {
        self.finish(id);
        let mut skipped: Vec<TargetId> = Vec::new();
        let mut pending = VecDeque::from([id]);
        while let Some(id) = pending.pop_front() {
            for &dependant in self.graph.dependants(id) {
                if matches!(self.states[dependant.index()], State::Waiting(_)) {
                    self.finish(dependant);
                    skipped.push(dependant);
                    pending.push_back(dependant);
                }
            }
        }
        skipped
    }

    /// Closes the plan: nothing more starts. Finishes and returns every target that is
    /// neither being prepared nor running.
    pub(super) fn close(&mut self) -> Vec<TargetId> {
        self.closed = true;
        self.ready.clear();
        self.queue.clear();
        let is_idle = |state| matches!(state, State::Waiting(_) | State::Ready | State::Queued);
        let idle = |id: &TargetId| is_idle(self.states[id.index()]);
        let idle: Vec<TargetId> = self.graph.ids().filter(idle).collect();
        for &id in &idle {
            self.finish(id);
        }
        idle
    }

    /// Fails targets before the run begins, and closes the plan if a target is given as the
    /// reason. Returns the other targets that never run, each with the target because of which.
    pub(super) fn fail_early(
        &mut self,
        failing: &[TargetId],
        closing: Option<TargetId>,
    ) -> Vec<(TargetId, TargetId)> {
        let mut skipped = Vec::new();
        for &id in failing {
            // It may be finished already, as one that waits for another failing target.
            if self.is_unfinished(id) {
                skipped.extend(self.fail(id).into_iter().map(|waiting| (waiting, id)));
            }
        }
        if let Some(because) = closing {
            skipped.extend(self.close().into_iter().map(|id| (id, because)));
        }
        skipped.retain(|(id, _)| !failing.contains(id));
        skipped
    }

    /// Returns true if a target takes part and is not finished.
    fn is_unfinished(&self, id: TargetId) -> bool {
        !matches!(self.states[id.index()], State::Absent | State::Done)
    }

    /// Returns true if nothing more starts.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Returns true if every target is finished.
    pub(super) fn is_finished(&self) -> bool {
        self.unfinished == 0
    }

    /// Returns how many targets are running.
    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// Returns how many targets are being prepared.
    pub(super) fn preparing(&self) -> usize {
        self.preparing
    }

    /// Returns true if a target is being prepared or running: there is an answer to wait for.
    pub(super) fn is_busy(&self) -> bool {
        self.preparing + self.running > 0
    }

    /// Returns true if a single target is running and every other unfinished one waits for it.
    pub(super) fn is_alone(&self) -> bool {
        let idle = self.preparing == 0 && self.ready.is_empty() && self.queue.is_empty();
        self.running == 1 && idle
    }

    /// Returns how long the run would take with unlimited jobs, in milliseconds.
    pub(super) fn longest_chain(&self) -> u64 {
        self.urgency.iter().copied().max().unwrap_or(0)
    }

    /// Returns how many targets of this run must finish before this one.
    fn before(&self, id: TargetId) -> usize {
        let before = self.graph.needs(id).iter().chain(self.graph.after(id));
        before
            .filter(|b| self.states[b.index()] != State::Absent)
            .count()
    }

    /// Computes the urgency of each target from that of its dependants.
    fn weigh(&mut self, cost: impl Fn(TargetId) -> u64) {
        for &id in self.graph.order().iter().rev() {
            if self.states[id.index()] != State::Absent {
                let dependants = self.graph.dependants(id).iter();
                let rest = dependants.map(|d| self.urgency[d.index()]).max();
                self.urgency[id.index()] = cost(id) + rest.unwrap_or(0);
            }
        }
    }

    fn is_free(&self, id: TargetId) -> bool {
        self.states[id.index()] == State::Waiting(0)
    }

    /// Returns true if nothing that runs conflicts with a queued target.
    fn may_run(&self, id: TargetId) -> bool {
        let is_taken = locks(self.graph, id).any(|lock| self.held.contains(lock));
        !is_taken
            && !self.held.contains(TERMINAL)
            && (!wants_terminal(self.graph, id) || self.running == 0)
    }

    fn finish(&mut self, id: TargetId) {
        match self.states[id.index()] {
            State::Preparing => self.preparing -= 1,
            State::Running => {
                self.running -= 1;
                for lock in locks(self.graph, id) {
                    self.held.remove(lock);
                }
            }
            State::Absent | State::Done => unreachable!("bug: a target finished twice"),
            State::Waiting(_) | State::Ready | State::Queued => {}
        }
        self.states[id.index()] = State::Done;
        self.unfinished -= 1;
    }

    fn move_to(&mut self, id: TargetId, from: State, to: State) {
        let state = &mut self.states[id.index()];
        debug_assert_eq!(*state, from, "bug: {} moves to {to:?}", self.graph.name(id));
        *state = to;
    }
}

/// The lock that an interactive target holds; no name in a Buildfile is empty.
const TERMINAL: &str = "";

fn wants_terminal(graph: &Graph, id: TargetId) -> bool {
    graph.target(id).interactive
}

fn locks(graph: &Graph, id: TargetId) -> impl Iterator<Item = &str> {
    let locks = graph
        .target(id)
        .locks
        .iter()
        .map(|lock| lock.value.as_str());
    locks.chain(wants_terminal(graph, id).then_some(TERMINAL))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::buildfile;

    fn graph(text: &str) -> Graph {
        let loaded = buildfile::load_text(text, Path::new("Buildfile.kdl"));
        assert_eq!(loaded.diagnostics, []);
        let (graph, diagnostics) = Graph::new(loaded.buildfile);
        assert_eq!(diagnostics, []);
        graph
    }

    fn plan(graph: &Graph, jobs: usize) -> Plan<'_> {
        let all: Vec<TargetId> = graph.ids().collect();
        Plan::new(graph, &all, |_| 1, jobs)
    }

    /// Prepares and queues everything that is ready; returns the names.
    fn queue_all(plan: &mut Plan<'_>) -> Vec<String> {
        let mut names = Vec::new();
        while let Some(id) = plan.next_to_prepare() {
            names.push(plan.graph.name(id).to_owned());
            plan.queue(id);
        }
        names
    }

    fn next(plan: &mut Plan<'_>) -> Option<String> {
        plan.next_to_run().map(|id| plan.graph.name(id).to_owned())
    }

    fn id(graph: &Graph, name: &str) -> TargetId {
        graph.ids().find(|id| graph.name(*id) == name).unwrap()
    }

    const CHAIN: &str = "
        target a { run one }
        target b { needs a; run one }
        target c { after b; run one }
        target d { run one }";

    #[test]
    fn a_target_is_ready_once_all_before_it_succeeded() {
        let graph = graph(CHAIN);
        let mut plan = plan(&graph, 9);
        assert_eq!(queue_all(&mut plan), ["a", "d"]);
        assert_eq!(
            next(&mut plan).as_deref(),
            Some("a"),
            "the longest chain first"
        );
        assert_eq!(next(&mut plan).as_deref(), Some("d"));
        plan.succeed(id(&graph, "a"));
        assert_eq!(queue_all(&mut plan), ["b"]);
        assert!(!plan.is_finished());
    }

    #[test]
    fn preferred_target_runs_before_longer_chains() {
        let graph = graph(CHAIN);
        let mut plan = plan(&graph, 1);
        plan.prefer(&[id(&graph, "d")]);
        assert_eq!(queue_all(&mut plan), ["d", "a"]);
        assert_eq!(next(&mut plan).as_deref(), Some("d"));
    }

    #[test]
    fn needs_of_a_preferred_target_are_preferred() {
        let graph =
            graph("target a { run one }; target b { run one }; target c { needs b; run one }");
        let mut plan = plan(&graph, 1);
        plan.prefer(&[id(&graph, "c")]);
        queue_all(&mut plan);
        assert_eq!(next(&mut plan).as_deref(), Some("b"));
    }

    #[test]
    fn preferred_target_in_preparation_is_waited_for() {
        let graph = graph(CHAIN);
        let mut plan = plan(&graph, 9);
        plan.prefer(&[id(&graph, "d")]);
        while plan.next_to_prepare().is_some() {}
        plan.queue(id(&graph, "a"));
        assert_eq!(next(&mut plan), None);
        plan.queue(id(&graph, "d"));
        assert_eq!(next(&mut plan).as_deref(), Some("d"));
        assert_eq!(next(&mut plan).as_deref(), Some("a"));
    }

    #[test]
    fn a_failure_skips_only_what_waits_for_it() {
        let graph = graph(CHAIN);
        let mut plan = plan(&graph, 9);
        queue_all(&mut plan);
        while next(&mut plan).is_some() {}
        assert_eq!(
            plan.fail(id(&graph, "a")),
            [id(&graph, "b"), id(&graph, "c")]
        );
        assert!(!plan.is_finished());
        plan.succeed(id(&graph, "d"));
        assert!(plan.is_finished());
    }

    #[test]
    fn a_closed_plan_lets_running_targets_finish() {
        let graph = graph(CHAIN);
        let mut plan = plan(&graph, 1);
        queue_all(&mut plan);
        assert_eq!(next(&mut plan).as_deref(), Some("a"));
        assert_eq!(plan.close().len(), 3);
        assert_eq!(next(&mut plan), None);
        plan.succeed(id(&graph, "a"));
        assert_eq!(plan.next_to_prepare(), None);
        assert!(plan.is_finished());
    }

    #[test]
    fn at_most_as_many_targets_run_as_jobs() {
        let graph = graph("target a { run one }; target b { run one }");
        let mut plan = plan(&graph, 1);
        queue_all(&mut plan);
        assert!(next(&mut plan).is_some());
        assert_eq!(next(&mut plan), None);
    }

    #[test]
    fn targets_with_the_same_lock_run_one_by_one() {
        let graph = graph(
            "target a { locks db; run one }
             target b { locks db; run one }
             target c { run one }",
        );
        let mut plan = plan(&graph, 9);
        queue_all(&mut plan);
        assert_eq!(next(&mut plan).as_deref(), Some("a"));
        assert_eq!(next(&mut plan).as_deref(), Some("c"));
        assert_eq!(next(&mut plan), None);
        plan.succeed(id(&graph, "a"));
        assert_eq!(next(&mut plan).as_deref(), Some("b"));
    }

    #[test]
    fn an_interactive_target_runs_alone() {
        let graph = graph(
            "target a { run one }
             target i { interactive #true; run one }
             target z { run one }",
        );
        let mut plan = plan(&graph, 9);
        queue_all(&mut plan);
        assert_eq!(next(&mut plan).as_deref(), Some("a"));
        assert_eq!(next(&mut plan).as_deref(), Some("z"));
        assert_eq!(next(&mut plan), None);
        plan.succeed(id(&graph, "a"));
        plan.succeed(id(&graph, "z"));
        assert_eq!(next(&mut plan).as_deref(), Some("i"));
    }

    #[test]
    fn a_long_chain_does_not_overflow_the_stack() {
        let text: String = (0..50_000)
            .map(|n| match n {
                0 => "target t0 { run one }\n".to_owned(),
                n => format!("target t{n} {{ needs t{}; run one }}\n", n - 1),
            })
            .collect();
        let graph = graph(&text);
        let small = std::thread::Builder::new().stack_size(256 * 1024);
        let skipped = std::thread::scope(|threads| {
            let work = || {
                let mut plan = plan(&graph, 1);
                assert_eq!(plan.longest_chain(), 50_000);
                queue_all(&mut plan);
                let first = plan.next_to_run().unwrap();
                plan.fail(first).len()
            };
            small.spawn_scoped(threads, work).unwrap().join().unwrap()
        });
        assert_eq!(skipped, 49_999);
    }
}
