//! Counts the outcomes of a run and adds up durations. Reads no clock.

use crate::event::{Outcome, RemoteUsage, Summary};
use crate::graph::{Graph, TargetId};

/// The counts of a run so far.
pub(super) struct Tally<'g> {
    graph: &'g Graph,
    summary: Summary,
    /// For each target, the duration of the longest chain of commands that ends with it.
    chains: Vec<u64>,
    finished: usize,
}

impl<'g> Tally<'g> {
    /// Returns the counts of a run that has just begun.
    pub(super) fn new(graph: &'g Graph, targets: usize, jobs: usize) -> Self {
        Self {
            graph,
            summary: Summary {
                targets,
                jobs,
                ..Summary::default()
            },
            chains: vec![0; graph.len()],
            finished: 0,
        }
    }

    /// Counts a finished target and returns its number, from 1.
    pub(super) fn count(&mut self, id: TargetId, outcome: &Outcome, duration_ms: u64) -> usize {
        let summary = &mut self.summary;
        let count = match outcome {
            Outcome::Built => &mut summary.built,
            Outcome::Restored => &mut summary.restored,
            Outcome::Fetched => &mut summary.fetched,
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
        self.finished += 1;
        self.finished
    }

    /// Counts a warning.
    pub(super) fn warn(&mut self) {
        self.summary.warnings += 1;
    }

    /// Notes the traffic with the remote cache.
    pub(super) fn note_remote(&mut self, usage: RemoteUsage) {
        self.summary.remote = Some(usage);
    }

    /// Returns how many targets are finished.
    pub(super) fn finished(&self) -> usize {
        self.finished
    }

    /// Returns the numbers of a run that took `wall_ms`.
    pub(super) fn finish(mut self, wall_ms: u64, interrupted: bool) -> Summary {
        let summary = &mut self.summary;
        let jobs = summary.jobs.max(1) as u64;
        summary.wall_ms = wall_ms;
        summary.bound_ms = summary.critical_path_ms.max(summary.work_ms.div_ceil(jobs));
        summary.interrupted = interrupted;
        self.summary
    }
}
