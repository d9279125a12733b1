//! Counts what became of the targets of a run and adds up their times. It reads no clock.

use crate::event::{Outcome, Summary};
use crate::graph::{Graph, TargetId};

/// The counts of a run so far.
pub(super) struct Tally<'g> {
    graph: &'g Graph,
    summary: Summary,
    /// For each target, the commands' times on the longest chain that ends with it.
    chains: Vec<u64>,
    settled: usize,
}

impl<'g> Tally<'g> {
    /// Starts counting a run of so many targets.
    pub(super) fn new(graph: &'g Graph, targets: usize, jobs: usize) -> Self {
        Self {
            graph,
            summary: Summary {
                targets,
                jobs,
                ..Summary::default()
            },
            chains: vec![0; graph.len()],
            settled: 0,
        }
    }

    /// Counts a settled target, whose commands took so long, and returns its number.
    pub(super) fn settle(&mut self, id: TargetId, outcome: &Outcome, duration_ms: u64) -> usize {
        let summary = &mut self.summary;
        let count = match outcome {
            Outcome::Built => &mut summary.built,
            Outcome::Restored => &mut summary.restored,
            Outcome::UpToDate => &mut summary.up_to_date,
            Outcome::WouldRun => &mut summary.would_run,
            Outcome::WouldRestore => &mut summary.would_restore,
            Outcome::Failed { .. } => &mut summary.failed,
            Outcome::Skipped { .. } => &mut summary.skipped,
            Outcome::Cancelled => &mut summary.cancelled,
        };
        *count += 1;
        summary.work_ms += duration_ms;
        let before = self.graph.needs(id).iter().chain(self.graph.after(id));
        let longest = before.map(|b| self.chains[b.index()]).max();
        let chain = longest.unwrap_or(0) + duration_ms;
        self.chains[id.index()] = chain;
        summary.critical_path_ms = summary.critical_path_ms.max(chain);
        self.settled += 1;
        self.settled
    }

    /// Counts a warning.
    pub(super) fn warn(&mut self) {
        self.summary.warnings += 1;
    }

    /// Returns how many targets are settled.
    pub(super) fn settled(&self) -> usize {
        self.settled
    }

    /// Returns the numbers of a run that took so long.
    pub(super) fn finish(mut self, wall_ms: u64, interrupted: bool) -> Summary {
        let summary = &mut self.summary;
        let jobs = summary.jobs.max(1) as u64;
        summary.wall_ms = wall_ms;
        summary.bound_ms = summary.critical_path_ms.max(summary.work_ms.div_ceil(jobs));
        summary.interrupted = interrupted;
        self.summary
    }
}
