//! Words each event as bytes: a line for the start of a target, a block for its output, and
//! a line for its end.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::closing::Closing;
use super::escapes::{EscapeFilter, Origin};
use crate::event::{Event, EventKind, Finding, Outcome, Reason, Warning};
use crate::report::text::{count, duration, harmless};
use crate::report::{Color, Style, Verbosity, problem_head};
use crate::source::{Diagnostic, RenderOptions, Severity, Sources, render_all};

/// The longest incomplete line to hold back, in bytes.
pub(super) const MAX_HELD: usize = 64 * 1024;

/// Turns events into text.
pub(super) struct Lines {
    style: Style,
    /// Whether the start of a target has a line; if not, its last line has the reason.
    starts: Starts,
    /// The line before the first target that runs, until it is printed.
    head: Option<String>,
    targets: usize,
    finished: usize,
    running: HashSet<String>,
    /// The incomplete last line of each target's output, while others may print as well.
    held: HashMap<String, Vec<u8>>,
    block: Option<Block>,
    /// The target whose output is the last text on the screen, except for its final line.
    on_screen: Option<String>,
    closing: Closing,
    out: Vec<u8>,
}

/// Whether the start of a target has a line of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Starts {
    Shown,
    Hidden,
}

/// The output of a target, while it is the last text on the screen.
struct Block {
    target: String,
    /// Whether the last byte was a line break.
    is_at_line_start: bool,
    /// Filters escape sequences, unless all may pass.
    filter: Option<EscapeFilter>,
}

impl Lines {
    pub(super) fn new(style: Style, starts: Starts) -> Self {
        Self {
            style,
            starts,
            head: None,
            targets: 0,
            finished: 0,
            running: HashSet::new(),
            held: HashMap::new(),
            block: None,
            on_screen: None,
            closing: Closing::default(),
            out: Vec::new(),
        }
    }

    /// Sets the source texts of diagnostics.
    pub(super) fn set_sources(&mut self, sources: Arc<Sources>) {
        self.closing.sources = Some(sources);
    }

    /// Returns the text for an event.
    pub(super) fn text(&mut self, event: &Event) -> Vec<u8> {
        match &event.kind {
            EventKind::RunStarted {
                targets,
                jobs,
                expected_ms,
                ..
            } => {
                self.targets = *targets;
                self.head = Some(head(*targets, *jobs, *expected_ms));
            }
            EventKind::TargetStarted { .. } => self.started(&event.kind),
            EventKind::TargetOutput { target, text } => self.output(target, &text.0),
            EventKind::TargetFinished { .. } => self.finished(event),
            EventKind::Warning(warning) => self.warning(warning),
            EventKind::Finding(finding) => self.finding(finding),
            EventKind::RunFinished(summary) => {
                self.end_block();
                let shown = self.on_screen.as_deref();
                let text = self.closing.text(summary, shown, self.style);
                self.out.extend(text.bytes());
            }
        }
        std::mem::take(&mut self.out)
    }

    /// Returns true if the last line is complete, so that another can follow.
    pub(super) fn is_at_line_start(&self) -> bool {
        self.block
            .as_ref()
            .is_none_or(|block| block.is_at_line_start)
    }

    fn started(&mut self, kind: &EventKind) {
        let EventKind::TargetStarted {
            target,
            number,
            reason,
            attempt,
            ..
        } = kind
        else {
            return;
        };
        self.release(target);
        self.running.insert(target.clone());
        self.add_head();
        let again = match attempt {
            0 | 1 => String::new(),
            n => format!(" again (attempt {n})"),
        };
        if self.starts == Starts::Shown || *attempt > 1 {
            let why = self.style.paint(Color::Dim, &reason.to_string());
            let text = format!("Starting {}{again}: {why}", self.name(target));
            self.numbered(*number, &text);
        }
    }

    fn finished(&mut self, event: &Event) {
        let EventKind::TargetFinished {
            target,
            number,
            outcome,
            reason,
            duration_ms,
            ..
        } = &event.kind
        else {
            return;
        };
        self.release(target);
        self.finished += 1;
        let had_started = self.running.remove(target);
        self.closing.record(target, outcome);
        let finished = Finished {
            name: self.name(target),
            why: self.why(reason.as_ref()),
            took: duration(*duration_ms),
            elapsed: duration(event.at_ms),
            had_started,
            starts: self.starts,
        };
        let is_verbose = self.style.verbosity == Verbosity::Verbose;
        let Some(text) = finished.text(outcome, self.style, is_verbose) else {
            return;
        };
        let own = self.on_screen.take_if(|shown| shown == target);
        if had_started || matches!(outcome, Outcome::Restored | Outcome::Fetched) {
            self.add_head();
        }
        self.numbered(*number, &text);
        self.on_screen = own;
    }

    /// Words the reason for the line of a finished target.
    fn why(&self, reason: Option<&Reason>) -> String {
        let why = reason.map(|reason| format!(": {reason}"));
        self.style.paint(Color::Dim, &why.unwrap_or_default())
    }

    fn output(&mut self, target: &str, bytes: &[u8]) {
        let mut text = self.held.remove(target).unwrap_or_default();
        text.extend(bytes);
        // Only a verbose run streams several outputs at once. Their lines must not mix.
        if self.style.verbosity == Verbosity::Verbose && self.finished + 1 < self.targets {
            let whole = text.iter().rposition(|byte| *byte == b'\n');
            let rest = text.split_off(whole.map_or(0, |end| end + 1));
            if rest.len() > MAX_HELD {
                text.extend(rest);
            } else if !rest.is_empty() {
                self.held.insert(target.to_owned(), rest);
            }
        }
        self.write_output(target, &text);
    }

    /// Adds the incomplete line that a target left.
    fn release(&mut self, target: &str) {
        if let Some(rest) = self.held.remove(target) {
            self.write_output(target, &rest);
        }
    }

    fn write_output(&mut self, target: &str, bytes: &[u8]) {
        if self.style.verbosity == Verbosity::Quiet || bytes.is_empty() {
            return;
        }
        if self
            .block
            .as_ref()
            .is_none_or(|block| block.target != target)
        {
            let header = format!("output of {}:", self.name(target));
            let header = self.style.paint(Color::Dim, &header);
            self.add_head();
            self.line(&header);
            self.on_screen = Some(target.to_owned());
            let origin = if self.running.contains(target) {
                Origin::Command
            } else {
                Origin::Replay
            };
            self.block = Some(Block {
                target: target.to_owned(),
                is_at_line_start: true,
                filter: EscapeFilter::new(self.style, origin),
            });
        }
        let Some(block) = &mut self.block else { return };
        let before = self.out.len();
        match &mut block.filter {
            Some(filter) => filter.push(bytes, &mut self.out),
            None => self.out.extend_from_slice(bytes),
        }
        if self.out.len() > before {
            block.is_at_line_start = self.out.ends_with(b"\n");
        }
    }

    fn warning(&mut self, warning: &Warning) {
        let target = warning.target.as_ref();
        let about = target.map_or_else(String::new, |name| format!("{}: ", self.name(name)));
        let head = problem_head(Severity::Warning, &warning.code, self.style);
        self.end_block();
        self.on_screen = None;
        let line = format!("{head}: {about}{}\n", harmless(&warning.message));
        self.out.extend(line.bytes());
    }

    fn finding(&mut self, finding: &Finding) {
        let text = match &self.closing.sources {
            Some(sources) => {
                let options = RenderOptions {
                    color: self.style.color,
                    width: self.style.width,
                };
                render_all(std::slice::from_ref(&finding.diagnostic), sources, options)
            }
            None => {
                let Diagnostic { code, message, .. } = &finding.diagnostic;
                let head = problem_head(Severity::Warning, code, self.style);
                format!("{head}: {}\n", harmless(message))
            }
        };
        self.end_block();
        self.on_screen = None;
        self.out.extend(text.bytes());
    }

    /// Adds a line about the target with this number.
    fn numbered(&mut self, number: usize, text: &str) {
        let line = format!("[{number}/{}] {text}", self.targets);
        self.line(&line);
    }

    /// Adds a line, unless the verbosity is quiet.
    fn line(&mut self, text: &str) {
        if self.style.verbosity == Verbosity::Quiet {
            return;
        }
        self.end_block();
        self.on_screen = None;
        self.out.extend(text.bytes());
        self.out.push(b'\n');
    }

    /// Adds the head line, before the first target that runs.
    fn add_head(&mut self) {
        if let Some(head) = self.head.take() {
            self.line(&head);
        }
    }

    /// Ends a block of output, because other text follows.
    fn end_block(&mut self) {
        let Some(mut block) = self.block.take() else {
            return;
        };
        if let Some(filter) = &mut block.filter {
            filter.finish(&mut self.out);
        }
        if self.style.color {
            // A colour that the command left on must not colour the next line.
            self.out.extend(b"\x1b[0m");
        }
        if !block.is_at_line_start {
            self.out.push(b'\n');
        }
    }

    fn name(&self, target: &str) -> String {
        self.style.paint(Color::Bold, &harmless(target))
    }
}

fn head(targets: usize, jobs: usize, expected_ms: Option<u64>) -> String {
    let at_once = match jobs.min(targets) {
        0 | 1 => String::new(),
        n => format!(", up to {n} at once"),
    };
    let expected = expected_ms.map(|ms| format!("; everything takes about {}", duration(ms)));
    let expected = expected.unwrap_or_default();
    format!("Building {}{at_once}{expected}", count(targets, "target"))
}

/// The facts about a finished target.
struct Finished {
    name: String,
    why: String,
    took: String,
    elapsed: String,
    had_started: bool,
    starts: Starts,
}

impl Finished {
    fn text(&self, outcome: &Outcome, style: Style, is_verbose: bool) -> Option<String> {
        let Self {
            name,
            why,
            took,
            elapsed,
            ..
        } = self;
        let word = |color, word| style.paint(color, word);
        let times = format!("({took}, total elapsed: {elapsed})");
        Some(match outcome {
            Outcome::Built => {
                let why = if self.starts == Starts::Hidden {
                    why
                } else {
                    ""
                };
                format!("{} {name} {times}{why}", word(Color::Green, "Completed"))
            }
            Outcome::Restored => {
                let word = word(Color::Cyan, "Restored");
                format!("{word} {name} from the cache{why} (total elapsed: {elapsed})")
            }
            Outcome::Fetched => {
                let word = word(Color::Cyan, "Fetched");
                format!("{word} {name} from the remote cache{why} (total elapsed: {elapsed})")
            }
            Outcome::WouldRun => format!("{} {name}{why}", word(Color::Yellow, "Would run")),
            Outcome::WouldRestore => format!("{} {name}{why}", word(Color::Cyan, "Would restore")),
            Outcome::Failed { failure } => {
                let message = harmless(&failure.message);
                format!("{} {name} {times}: {message}", word(Color::Red, "Failed"))
            }
            Outcome::Cancelled if self.had_started => {
                format!("{} {name} {times}", word(Color::Yellow, "Stopped"))
            }
            Outcome::UpToDate if is_verbose => format!("Up to date: {name}"),
            Outcome::Skipped { because } if is_verbose => {
                format!("Skipped {name}: `{}` was not built", harmless(because))
            }
            Outcome::Cancelled if is_verbose => format!("Not started: {name}"),
            Outcome::UpToDate | Outcome::Skipped { .. } | Outcome::Cancelled => return None,
        })
    }
}
