//! Who waits, who is ready, who runs, who is done: a pure state machine. It makes no
//! system calls, starts no threads and reads no clock; the loop asks it and tells it.
//!
//! ```text
//! Waiting ──all before it succeeded──▶ Ready ──next_to_prepare──▶ Preparing
//! Preparing ──settle──▶ Done      Preparing ──queue──▶ Queued ──next_to_run──▶ Running
//! Running ──settle──▶ Done        Waiting ──one before it failed──▶ Done
//! ```

use std::collections::{BTreeSet, BinaryHeap, VecDeque};

use crate::graph::{Graph, TargetId};

/// The state of every target in a run.
pub(super) struct Plan<'g> {
    graph: &'g Graph,
    states: Vec<State>,
    /// For each target, the time from its start to the end of the longest chain it begins.
    urgency: Vec<u64>,
    ready: VecDeque<TargetId>,
    queue: BinaryHeap<(u64, std::cmp::Reverse<TargetId>)>,
    held: BTreeSet<&'g str>,
    jobs: usize,
    preparing: usize,
    running: usize,
    unfinished: usize,
    closed: bool,
}

/// Where a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It takes no part.
    Absent,
    /// So many before it are not done.
    Waiting(usize),
    /// Everything before it succeeded.
    Ready,
    /// Its key is being found out.
    Preparing,
    /// Its commands are to run.
    Queued,
    /// Its commands run.
    Running,
    /// It is settled.
    Done,
}

impl<'g> Plan<'g> {
    /// Plans to settle `wanted`, which must hold everything that its members need. `cost`
    /// is how long a target is expected to take, in milliseconds.
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

    /// Returns a target whose key is to be found out.
    pub(super) fn next_to_prepare(&mut self) -> Option<TargetId> {
        if self.closed {
            return None;
        }
        let id = self.ready.pop_front()?;
        self.move_to(id, State::Ready, State::Preparing);
        self.preparing += 1;
        Some(id)
    }

    /// Tells whether there are targets whose keys are to be found out.
    pub(super) fn has_ready(&self) -> bool {
        !self.closed && !self.ready.is_empty()
    }

    /// Notes that a prepared target has to run.
    pub(super) fn queue(&mut self, id: TargetId) {
        self.move_to(id, State::Preparing, State::Queued);
        self.preparing -= 1;
        self.queue
            .push((self.urgency[id.index()], std::cmp::Reverse(id)));
    }

    /// Returns the most urgent target that may run now: there is a free job, nobody holds
    /// its locks, and the terminal is free if it wants it (and not taken from it).
    pub(super) fn next_to_run(&mut self) -> Option<TargetId> {
        if self.closed || self.running >= self.jobs {
            return None;
        }
        let mut passed = Vec::new();
        let found = loop {
            let Some(next) = self.queue.pop() else {
                break None;
            };
            if self.may_run(next.1.0) {
                break Some(next.1.0);
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

    /// Notes that a target is settled well: what waits for it comes nearer.
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

    /// Notes that a target failed, and returns all that is settled by that: what waits for
    /// it, directly or not, nearest first.
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

    /// Starts nothing more, and returns all that is settled by that: whatever was neither
    /// being prepared nor running. Later calls return what was prepared meanwhile.
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

    /// Tells whether nothing more is started.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Tells whether every target is settled.
    pub(super) fn is_finished(&self) -> bool {
        self.unfinished == 0
    }

    /// Returns how many targets run.
    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// Returns how many targets' keys are being found out.
    pub(super) fn preparing(&self) -> usize {
        self.preparing
    }

    /// Tells whether something is being prepared or runs, so that there is something to
    /// wait for.
    pub(super) fn is_busy(&self) -> bool {
        self.preparing + self.running > 0
    }

    /// Tells whether one running target is all there is until it ends: everything else
    /// that is not settled waits for it.
    pub(super) fn is_alone(&self) -> bool {
        let idle = self.preparing == 0 && self.ready.is_empty() && self.queue.is_empty();
        self.running == 1 && idle
    }

    /// Returns what settling everything would take with unlimited jobs, in milliseconds.
    pub(super) fn longest_chain(&self) -> u64 {
        self.urgency.iter().copied().max().unwrap_or(0)
    }

    /// Returns how many targets that take part run before this one.
    fn before(&self, id: TargetId) -> usize {
        let before = self.graph.needs(id).iter().chain(self.graph.after(id));
        before
            .filter(|b| self.states[b.index()] != State::Absent)
            .count()
    }

    /// Works out how urgent each target is, last ones first.
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
            State::Absent | State::Done => unreachable!("bug: a target was settled twice"),
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
    fn a_target_is_ready_once_everything_before_it_succeeded() {
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
    fn a_failure_skips_what_waits_for_it_and_nothing_else() {
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
    fn a_closed_plan_starts_nothing_and_lets_what_runs_finish() {
        let graph = graph(CHAIN);
        let mut plan = plan(&graph, 1);
        queue_all(&mut plan);
        assert_eq!(next(&mut plan).as_deref(), Some("a"));
        let settled = plan.close();
        assert_eq!(settled.len(), 3);
        assert_eq!(next(&mut plan), None);
        plan.succeed(id(&graph, "a"));
        assert_eq!(plan.next_to_prepare(), None);
        assert!(plan.is_finished());
    }

    #[test]
    fn jobs_locks_and_the_terminal_bound_what_runs_at_once() {
        let graph = graph(
            "target a { locks db; run one }
             target b { locks db; run one }
             target c { run one }
             target i { interactive #true; run one }",
        );
        let mut limited = plan(&graph, 1);
        queue_all(&mut limited);
        assert!(next(&mut limited).is_some());
        assert_eq!(next(&mut limited), None);
        let mut plan = plan(&graph, 9);
        queue_all(&mut plan);
        assert_eq!(next(&mut plan).as_deref(), Some("a"));
        assert_eq!(next(&mut plan).as_deref(), Some("c"));
        assert_eq!(
            next(&mut plan),
            None,
            "b waits for the lock, i for the terminal"
        );
        plan.succeed(id(&graph, "a"));
        assert_eq!(next(&mut plan).as_deref(), Some("b"));
        plan.succeed(id(&graph, "b"));
        plan.succeed(id(&graph, "c"));
        assert_eq!(next(&mut plan).as_deref(), Some("i"));
    }

    #[test]
    fn a_chain_of_fifty_thousand_targets_needs_no_stack() {
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
