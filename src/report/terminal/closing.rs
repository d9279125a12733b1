//! What is said at the end of a run: the failures, what was not built because of them, and
//! the run in numbers. It works out nothing that the events do not say.

use std::collections::HashMap;
use std::sync::Arc;

use crate::event::{Failure, Outcome, Summary};
use crate::report::text::{count, duration, harmless, list, number};
use crate::report::{Color, Style, Verbosity, problem_head};
use crate::source::{RenderOptions, Severity, Sources, render_all};

use super::sieve::Sieve;

/// The most names of targets that were not built because of one failure.
const MOST_NAMES: usize = 8;

/// What is kept of the events for the end.
#[derive(Default)]
pub(super) struct Closing {
    /// The texts in which failures may have places.
    pub(super) sources: Option<Arc<Sources>>,
    failures: Vec<Failed>,
    /// For each target that failed or was skipped, the failure behind it.
    behind: HashMap<String, usize>,
}

struct Failed {
    target: String,
    failure: Failure,
    not_built: Vec<String>,
}

impl Closing {
    /// Takes in what became of a target.
    pub(super) fn settle(&mut self, target: &str, outcome: &Outcome) {
        match outcome {
            Outcome::Failed { failure } => {
                self.behind.insert(target.to_owned(), self.failures.len());
                self.failures.push(Failed {
                    target: target.to_owned(),
                    failure: failure.clone(),
                    not_built: Vec::new(),
                });
            }
            Outcome::Skipped { because } => {
                if let Some(failure) = self.behind.get(because).copied() {
                    self.behind.insert(target.to_owned(), failure);
                    self.failures[failure].not_built.push(target.to_owned());
                }
            }
            _ => {}
        }
    }

    /// Returns the last words, below the output of the target `shown`.
    pub(super) fn say(&self, summary: &Summary, shown: Option<&str>, style: Style) -> String {
        let mut out = String::new();
        for failed in &self.failures {
            let is_shown = shown == Some(&*failed.target);
            out.push_str(&failed.say(is_shown, self.sources.as_deref(), style));
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
    /// Tells of a failure; its output is left out when it is on the screen already.
    fn say(&self, is_shown: bool, sources: Option<&Sources>, style: Style) -> String {
        let mut out = format!("\n{}\n", self.message(sources, style));
        if !is_shown {
            for line in tail(&self.failure, style).lines() {
                out.push_str(&format!("  | {line}\n"));
            }
        }
        // What has its place in the Buildfile has its help there.
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
                list(&names, MOST_NAMES)
            ));
        }
        out
    }

    fn message(&self, sources: Option<&Sources>, style: Style) -> String {
        let failure = &self.failure;
        let head = problem_head(Severity::Error, &failure.code, style);
        let name = style.paint(Color::Bold, &harmless(&self.target));
        let message = harmless(&failure.message);
        let text = format!("{head}: {name} failed: {message}");
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

/// Returns the last lines that a failed target printed, as they may be shown.
fn tail(failure: &Failure, style: Style) -> String {
    if !style.terminal {
        return failure.tail.clone();
    }
    let (mut sieve, mut out) = (Sieve::default(), Vec::new());
    sieve.push(failure.tail.as_bytes(), &mut out);
    sieve.finish(&mut out);
    let text = String::from_utf8_lossy(&out);
    // Colours end with their line, which others follow.
    let lines = text.lines().map(|line| {
        if line.contains('\u{1b}') {
            format!("{line}\u{1b}[0m\n")
        } else {
            format!("{line}\n")
        }
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
    } else if summary.built + summary.restored == 0 {
        return nothing(summary);
    } else {
        (Color::Green, format!("Finished in {wall}: {counts}"))
    };
    let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
    format!("{} {rest}{}", style.paint(color, word), work(summary))
}

fn nothing(summary: &Summary) -> String {
    let wall = duration(summary.wall_ms);
    match summary.up_to_date {
        0 => format!("nothing to do ({wall})"),
        n => format!("nothing to do: {} up to date ({wall})", count(n, "target")),
    }
}

/// Returns how many targets came to what, leaving out what none came to.
fn counts(summary: &Summary) -> String {
    let counts = [
        (summary.failed, "failed"),
        (summary.skipped, "not tried"),
        (summary.cancelled, "not finished"),
        (summary.built, "built"),
        (summary.would_run, "would run"),
        (summary.restored, "restored"),
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

/// Returns how much work the commands did, and how near that came to what could be.
fn work(summary: &Summary) -> String {
    let ran = summary.built + summary.failed;
    if ran < 2 || summary.work_ms == 0 {
        return String::new();
    }
    let work = duration(summary.work_ms);
    let is_whole = !summary.interrupted && summary.failed == 0 && summary.wall_ms > 0;
    let best = is_whole.then(|| {
        let percent = (summary.bound_ms * 100 / summary.wall_ms).min(100);
        format!(
            ", {percent}% of the best possible with {}",
            count(summary.jobs, "job")
        )
    });
    format!("; {work} of work{}", best.unwrap_or_default())
}
