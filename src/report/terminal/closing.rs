//! Words the end of a run: its failures, the targets skipped because of them, and its totals.

use std::collections::HashMap;
use std::sync::Arc;

use crate::event::{Failure, Outcome, Summary};
use crate::report::text::{count, duration, harmless, list, number, size};
use crate::report::{Color, Style, Verbosity, problem_head};
use crate::source::{RenderOptions, Severity, Sources, render_all};

use super::escapes::{EscapeFilter, Origin};

/// The most targets to name for one failure.
const MAX_NAMES: usize = 8;

/// The shortest run, in milliseconds, for which to print how close it came to its bound.
const MIN_WALL_MS: u64 = 1000;
/// The lowest percentage to print. Less means that the bound does not fit: the machine cannot
/// run that many jobs.
const MIN_PERCENT: u64 = 10;

/// The part of the events that the end of a run needs.
#[derive(Default)]
pub(super) struct Closing {
    /// The source texts of diagnostics.
    pub(super) sources: Option<Arc<Sources>>,
    failures: Vec<Failed>,
    /// The failure that caused each failed or skipped target.
    cause: HashMap<String, usize>,
}

/// A failure, and the targets that failed because of it.
struct Failed {
    targets: Vec<String>,
    failure: Failure,
    not_built: Vec<String>,
}

impl Closing {
    /// Records the outcome of a target.
    pub(super) fn record(&mut self, target: &str, outcome: &Outcome) {
        match outcome {
            Outcome::Failed { failure } => {
                let index = self.add(target, failure);
                self.cause.insert(target.to_owned(), index);
            }
            Outcome::Skipped { because } => {
                if let Some(failure) = self.cause.get(because).copied() {
                    self.cause.insert(target.to_owned(), failure);
                    self.failures[failure].not_built.push(target.to_owned());
                }
            }
            _ => {}
        }
    }

    /// Adds a failure, or its target to an equal one: a missing tool fails many targets.
    fn add(&mut self, target: &str, failure: &Failure) -> usize {
        let is_same = |known: &Failed| known.failure == *failure && failure.repeat.is_none();
        if let Some(index) = self.failures.iter().position(is_same) {
            self.failures[index].targets.push(target.to_owned());
            return index;
        }
        self.failures.push(Failed {
            targets: vec![target.to_owned()],
            failure: failure.clone(),
            not_built: Vec::new(),
        });
        self.failures.len() - 1
    }

    /// Returns the text for the end. The output of the target `on_screen` is printed just
    /// above and not repeated.
    pub(super) fn text(&self, summary: &Summary, on_screen: Option<&str>, style: Style) -> String {
        let mut out = String::new();
        for failed in &self.failures {
            let is_on_screen = failed.targets.iter().any(|name| on_screen == Some(name));
            let tail = if is_on_screen {
                String::new()
            } else {
                tail(&failed.failure, style)
            };
            out.push_str(&failed.text(&tail, self.sources.as_deref(), style));
        }
        let is_bad =
            summary.failed + summary.skipped + summary.cancelled > 0 || summary.interrupted;
        if is_bad || style.verbosity > Verbosity::Quiet {
            if !out.is_empty() {
                out.push('\n');
            }
            out.push_str(&of_summary(summary, style));
            out.push('\n');
        }
        out
    }
}

impl Failed {
    /// Words the failure, with the last lines of its output.
    fn text(&self, tail: &str, sources: Option<&Sources>, style: Style) -> String {
        let mut out = format!("\n{}\n", self.message(sources, style));
        for line in tail.lines() {
            out.push_str(&format!("  | {line}\n"));
        }
        // A diagnostic prints the help below its place in the Buildfile.
        let is_placed = sources.is_some() && !self.failure.diagnostics.is_empty();
        if let Some(help) = self.failure.help.as_ref().filter(|_| !is_placed) {
            out.push_str(&format!("  help: {}\n", harmless(help)));
        }
        if let Some(command) = &self.failure.repeat {
            out.push_str(&format!(
                "  to repeat it by hand:\n    {}\n",
                harmless(command)
            ));
        }
        if !self.not_built.is_empty() {
            let names: Vec<&str> = self.not_built.iter().map(String::as_str).collect();
            out.push_str(&format!(
                "  not built because of it: {}\n",
                list(&names, MAX_NAMES)
            ));
        }
        out
    }

    fn message(&self, sources: Option<&Sources>, style: Style) -> String {
        let failure = &self.failure;
        let head = problem_head(Severity::Error, &failure.code, style);
        let names: Vec<&str> = self.targets.iter().map(String::as_str).collect();
        let names = style.paint(Color::Bold, &list(&names, MAX_NAMES));
        let message = harmless(&failure.message);
        let text = format!("{head}: {names} failed: {message}");
        match sources {
            Some(sources) if !failure.diagnostics.is_empty() => {
                let options = RenderOptions {
                    color: style.color,
                    width: style.width,
                };
                let places = render_all(&failure.diagnostics, sources, options);
                format!("{text}\n{}", places.trim_end())
            }
            _ => text,
        }
    }
}

/// Returns the last lines of a failed target's output.
fn tail(failure: &Failure, style: Style) -> String {
    let text = EscapeFilter::filter(style, Origin::Replay, &failure.tail);
    // The next line must not inherit a colour.
    let lines = text.lines().map(|line| {
        let reset = if style.color && line.contains('\u{1b}') {
            "\x1b[0m"
        } else {
            ""
        };
        format!("{line}{reset}\n")
    });
    lines.collect()
}

fn of_summary(summary: &Summary, style: Style) -> String {
    let wall = duration(summary.wall_ms);
    let is_dry = summary.would_run + summary.would_restore > 0;
    let counts = counts(summary);
    let (color, text) = if summary.interrupted {
        (Color::Yellow, format!("Interrupted after {wall}: {counts}"))
    } else if summary.failed > 0 {
        (Color::Red, format!("Failed after {wall}: {counts}"))
    } else if is_dry {
        return counts;
    } else if summary.built + summary.restored + summary.fetched == 0 {
        return nothing(summary);
    } else {
        (Color::Green, format!("Finished in {wall}: {counts}"))
    };
    let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
    let (work, remote) = (work(summary), remote(summary));
    format!("{} {rest}{work}{remote}", style.paint(color, word))
}

/// Words the traffic with the remote cache, if there was any.
fn remote(summary: &Summary) -> String {
    let Some(usage) = &summary.remote else {
        return String::new();
    };
    if usage.hits + usage.misses + usage.bytes_out == 0 {
        return String::new();
    }
    let (received, sent) = (size(usage.bytes_in), size(usage.bytes_out));
    let waited = duration(usage.waited_ms);
    format!("; remote: {received} in, {sent} out, {waited} waiting")
}

fn nothing(summary: &Summary) -> String {
    let wall = duration(summary.wall_ms);
    match summary.up_to_date {
        0 => format!("nothing to do ({wall})"),
        n => format!("nothing to do: {} up to date ({wall})", count(n, "target")),
    }
}

/// Words the number of targets for each outcome that occurs.
fn counts(summary: &Summary) -> String {
    let counts = [
        (summary.failed, "failed"),
        (summary.skipped, "skipped"),
        (summary.cancelled, "not finished"),
        (summary.built, "built"),
        (summary.would_run, "would run"),
        (summary.restored, "restored"),
        (summary.fetched, "fetched"),
        (summary.would_restore, "would be restored"),
        (summary.up_to_date, "up to date"),
    ];
    let some = counts.iter().filter(|(n, _)| *n > 0);
    let parts: Vec<String> = some
        .map(|(n, what)| format!("{} {what}", number(*n)))
        .collect();
    if parts.is_empty() {
        "nothing done".to_owned()
    } else {
        parts.join(", ")
    }
}

/// Words the work of all commands, and how close the run came to its lower bound.
fn work(summary: &Summary) -> String {
    let ran = summary.built + summary.failed;
    if ran < 2 || summary.work_ms == 0 {
        return String::new();
    }
    let best = percent_of_best(summary).map(|percent| {
        let jobs = count(summary.jobs, "job");
        format!(", {percent}% of the best possible with {jobs}")
    });
    let work = duration(summary.work_ms);
    format!("; {work} of work{}", best.unwrap_or_default())
}

/// Returns how close the run came to its lower bound, if that says something about the order
/// of the commands: other things take most of a short run, or of one with little work.
fn percent_of_best(summary: &Summary) -> Option<u64> {
    let is_whole = !summary.interrupted && summary.failed == 0;
    let is_mostly_work = summary.work_ms >= summary.wall_ms / 2;
    if !is_whole || !is_mostly_work || summary.wall_ms < MIN_WALL_MS {
        return None;
    }
    let percent = (summary.bound_ms * 100 / summary.wall_ms).min(100);
    (percent >= MIN_PERCENT).then_some(percent)
}
