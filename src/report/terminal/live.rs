//! Prints events as lines, and below them a footer with the progress: the number of finished
//! targets, the running ones, and the time left. Does not use the alternate screen, so that
//! all lines can be scrolled to, searched and copied, during and after the run.

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::Out;
use super::lines::{Lines, Starts};
use crate::event::{Event, EventKind, Sink};
use crate::report::text::{columns, count, duration, fit, harmless};
use crate::report::{Color, Style};
use crate::source::Sources;

const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";
/// Moves to the start of the line and clears from there to the end of the screen.
const CLEAR_BELOW: &str = "\r\x1b[J";

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// The characters in a line.
    pub columns: usize,
    /// The number of lines.
    pub rows: usize,
}

/// Returns the size of a terminal, or `None` if it is unknown.
pub fn size_of(terminal: impl AsFd) -> Option<Size> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    let size = Size {
        columns: size.ws_col.into(),
        rows: size.ws_row.into(),
    };
    (size.columns > 0 && size.rows > 0).then_some(size)
}

/// Prints events as lines above a footer that it redraws.
pub struct Live<W: Write> {
    lines: Lines,
    out: Out<W>,
    style: Style,
    size: Box<dyn Fn() -> Option<Size>>,
    progress: ProgressState,
    /// The width of each line of the footer on the screen; empty if there is none.
    footer: Vec<usize>,
}

impl<W: Write> Live<W> {
    /// Creates a reporter for a terminal; `size` returns its current size.
    pub fn new(writer: W, style: Style, size: impl Fn() -> Option<Size> + 'static) -> Self {
        Self {
            lines: Lines::new(style, Starts::Hidden),
            out: Out::new(writer),
            style,
            size: Box::new(size),
            progress: ProgressState::default(),
            footer: Vec::new(),
        }
    }

    /// Adds the source texts of diagnostics, so that their places are printed.
    #[must_use]
    pub fn with_sources(mut self, sources: Arc<Sources>) -> Self {
        self.lines.set_sources(sources);
        self
    }

    /// Writes lines above the footer and redraws or removes it, in a single write to avoid
    /// flicker.
    fn write(&mut self, lines: &[u8], footer: Footer) {
        let had_footer = !self.footer.is_empty();
        let size = (self.size)().unwrap_or(Size {
            columns: self.style.width,
            rows: 24,
        });
        let mut frame = self.clear(size).into_bytes();
        frame.extend_from_slice(lines);
        if footer == Footer::Redrawn
            && self.lines.is_at_line_start()
            && !self.progress.is_handed_over()
        {
            let lines = self.progress.footer(size, self.style);
            self.footer = lines.iter().map(|line| line.columns).collect();
            let texts: Vec<String> = lines.into_iter().map(|line| line.text).collect();
            frame.extend(if had_footer { "" } else { HIDE_CURSOR }.bytes());
            frame.extend(texts.join("\r\n").bytes());
        } else if had_footer {
            frame.extend(SHOW_CURSOR.bytes());
        }
        self.out.write(&frame);
    }

    /// Returns the escape sequence that clears the footer. Its lines fitted the terminal when
    /// they were written; if that became narrower, each takes several rows now.
    fn clear(&mut self, size: Size) -> String {
        let width = size.columns.max(1);
        let rows = |columns: usize| columns.max(1).div_ceil(width);
        let up: usize = self.footer.drain(..).map(rows).sum();
        match up {
            0 => String::new(),
            1 => CLEAR_BELOW.to_owned(),
            n => format!("\x1b[{}A{CLEAR_BELOW}", n - 1),
        }
    }
}

impl<W: Write> Sink for Live<W> {
    fn on_event(&mut self, event: &Event) {
        self.progress.record(event);
        let lines = self.lines.text(event);
        let starts = matches!(event.kind, EventKind::TargetStarted { .. });
        if starts || !lines.is_empty() {
            let has_footer = starts || !self.footer.is_empty();
            let footer = if has_footer && !self.progress.is_over {
                Footer::Redrawn
            } else {
                Footer::Removed
            };
            self.write(&lines, footer);
        }
    }

    fn tick(&mut self, at_ms: u64) {
        self.progress.at_ms = at_ms;
        if self.progress.has_begun && !self.progress.is_over {
            self.write(b"", Footer::Redrawn);
        }
    }
}

impl<W: Write> Drop for Live<W> {
    fn drop(&mut self) {
        if !self.footer.is_empty() {
            self.write(b"", Footer::Removed);
        }
    }
}

/// Whether a write leaves a footer on the screen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Footer {
    Redrawn,
    Removed,
}

/// The progress of the run.
#[derive(Default)]
struct ProgressState {
    at_ms: u64,
    has_begun: bool,
    is_over: bool,
    targets: usize,
    /// The number of finished targets.
    finished: usize,
    /// The number of these that did not run.
    not_run: usize,
    /// The expected time if every target runs, estimated from past runs.
    expected_ms: Option<u64>,
    running: Vec<Running>,
}

struct Running {
    target: String,
    since_ms: u64,
    expected_ms: Option<u64>,
    is_interactive: bool,
}

/// A line of the footer and its width.
struct Line {
    text: String,
    columns: usize,
}

impl ProgressState {
    fn record(&mut self, event: &Event) {
        self.at_ms = event.at_ms;
        match &event.kind {
            EventKind::RunStarted {
                targets,
                expected_ms,
                ..
            } => {
                self.has_begun = true;
                self.targets = *targets;
                self.expected_ms = *expected_ms;
            }
            EventKind::TargetStarted {
                target,
                expected_ms,
                interactive,
                ..
            } => {
                self.running.retain(|running| running.target != *target);
                self.running.push(Running {
                    target: target.clone(),
                    since_ms: event.at_ms,
                    expected_ms: *expected_ms,
                    is_interactive: *interactive,
                });
            }
            EventKind::TargetFinished { target, .. } => {
                let before = self.running.len();
                self.running.retain(|running| running.target != *target);
                self.finished += 1;
                self.not_run += usize::from(before == self.running.len());
            }
            EventKind::RunFinished(_) => self.is_over = true,
            EventKind::TargetOutput { .. } | EventKind::Warning(_) | EventKind::Finding(_) => {}
        }
    }

    /// Returns true if a running target owns the terminal.
    fn is_handed_over(&self) -> bool {
        self.running.iter().any(|running| running.is_interactive)
    }

    /// Returns the lines of the footer. None reaches the last column, where some terminals
    /// break the line, and they leave some rows for earlier lines.
    fn footer(&self, size: Size, style: Style) -> Vec<Line> {
        let width = size.columns.saturating_sub(1);
        let most = size.rows.saturating_sub(3).clamp(1, 12);
        let mut lines = vec![self.overview(width, style)];
        let shown = if self.running.len() < most {
            self.running.len()
        } else {
            most.saturating_sub(2)
        };
        for running in &self.running[..shown] {
            lines.push(Line::new(&running.text(self.at_ms), width));
        }
        match self.running.len() - shown {
            0 => {}
            _ if most < 2 => {}
            more => lines.push(Line::new(&format!("  and {more} more"), width)),
        }
        lines
    }

    fn overview(&self, width: usize, style: Style) -> Line {
        let left = self
            .left_ms()
            .map(|ms| format!(", about {} left", whole(ms)));
        let running = match self.running.len() {
            0 => String::new(),
            n => format!(", {n} running"),
        };
        let text = format!(
            "{}/{} done{running}, {} elapsed{}",
            self.finished,
            count(self.targets, "target"),
            whole(self.at_ms),
            left.unwrap_or_default()
        );
        let bar = (width.saturating_sub(columns(&text) + 1)).min(24);
        if bar < 8 {
            return Line::new(&text, width);
        }
        let full = (bar * self.finished.min(self.targets)).checked_div(self.targets);
        let full = full.unwrap_or(bar);
        let (done, open) = ("━".repeat(full), "─".repeat(bar - full));
        let (done, open) = (
            style.paint(Color::Green, &done),
            style.paint(Color::Dim, &open),
        );
        Line {
            columns: bar + 1 + columns(&text),
            text: format!("{done}{open} {text}"),
        }
    }

    /// Estimates the time left from the times of past runs: that of the whole run, and those
    /// of the running targets. Targets that did not run count as average. Returns `None`
    /// without past runs.
    fn left_ms(&self) -> Option<u64> {
        let left = |running: &Running| {
            let expected = running.expected_ms?;
            Some((running.since_ms + expected).saturating_sub(self.at_ms))
        };
        let running = self.running.iter().filter_map(left).max();
        let are_all_running = self.finished + self.running.len() == self.targets;
        let whole = match (
            self.expected_ms,
            self.targets - self.not_run.min(self.targets),
        ) {
            _ if are_all_running => None,
            (Some(expected), to_run) if self.targets > 0 => {
                let expected = expected * to_run as u64 / self.targets as u64;
                Some(expected.saturating_sub(self.at_ms))
            }
            _ => return None,
        };
        running.max(whole).filter(|left| *left > 0)
    }
}

impl Running {
    fn text(&self, at_ms: u64) -> String {
        let took = whole(at_ms.saturating_sub(self.since_ms));
        let of = self
            .expected_ms
            .map(|ms| format!(" of about {}", whole(ms)));
        let name = harmless(&self.target);
        format!("  {name}  {took}{}", of.unwrap_or_default())
    }
}

/// Formats a time in whole seconds, because tenths would flicker.
fn whole(ms: u64) -> String {
    match ms {
        0..60_000 => format!("{}s", ms / 1000),
        _ => duration(ms),
    }
}

impl Line {
    fn new(text: &str, width: usize) -> Self {
        let text = fit(text, width);
        Self {
            columns: columns(&text),
            text: text.into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use super::*;
    use crate::event::{Outcome, Summary};
    use crate::report::testing::{Broken, Screen, begin, end, fail, over, print, send, start};

    const TERMINAL: Style = Style {
        terminal: true,
        ..Style::PLAIN
    };

    struct Test {
        screen: Screen,
        columns: Rc<Cell<usize>>,
        live: Live<Screen>,
    }

    impl Test {
        fn new(columns: usize, rows: usize) -> Self {
            let screen = Screen::default();
            let columns = Rc::new(Cell::new(columns));
            let width = columns.clone();
            let size = move || {
                let columns = width.get();
                Some(Size { columns, rows })
            };
            Self {
                live: Live::new(screen.clone(), TERMINAL, size),
                screen,
                columns,
            }
        }

        fn send(&mut self, events: &[Event]) -> String {
            send(&mut self.live, events);
            self.screen.take()
        }

        fn tick(&mut self, at_ms: u64) -> String {
            self.live.tick(at_ms);
            self.screen.take()
        }
    }

    fn expect(mut event: Event, ms: u64) -> Event {
        match &mut event.kind {
            EventKind::RunStarted { expected_ms, .. }
            | EventKind::TargetStarted { expected_ms, .. } => {
                *expected_ms = Some(ms);
            }
            _ => {}
        }
        event
    }

    #[test]
    fn footer_lists_running_targets_below_lines() {
        let mut test = Test::new(70, 24);
        assert_eq!(test.send(&[expect(begin(3, 2), 9000)]), "");
        assert_eq!(
            test.send(&[expect(start(10, 1, "api"), 4000)]),
            "Building 3 targets, up to 2 at once; everything takes about 9.0s\n\
             \x1b[?25l────────────── 0/3 targets done, 1 running, 0s elapsed, about 8s left\r\n  api  0s of about 4s"
        );
        test.columns.set(80);
        assert_eq!(
            test.send(&[start(1500, 2, "web")]),
            "\x1b[1A\r\x1b[J──────────────────────── 0/3 targets done, 2 running, 1s elapsed, about 7s left\r\n  api  1s of about 4s\r\n  web  0s"
        );
        assert_eq!(
            test.send(&[end(4010, 1, "api", Outcome::Built, 4000)]),
            "\x1b[2A\r\x1b[J[1/3] Completed api (4.0s, total elapsed: 4.0s): never built here\n\
             ━━━━━━━━──────────────── 1/3 targets done, 1 running, 4s elapsed, about 4s left\r\n  web  2s"
        );
        assert_eq!(
            test.tick(5000),
            "\x1b[1A\r\x1b[J━━━━━━━━──────────────── 1/3 targets done, 1 running, 5s elapsed, about 4s left\r\n  web  3s"
        );
    }

    #[test]
    fn end_of_run_clears_footer_and_shows_cursor() {
        let mut test = Test::new(80, 24);
        test.send(&[begin(1, 1), start(10, 1, "api")]);
        let summary = Summary {
            built: 1,
            wall_ms: 4010,
            jobs: 1,
            ..Summary::default()
        };
        test.send(&[end(4010, 1, "api", Outcome::Built, 4000)]);
        assert_eq!(
            test.send(&[over(summary)]),
            "\r\x1b[JFinished in 4.0s: 1 built\n\x1b[?25h"
        );
        assert_eq!(test.tick(5000), "");
        drop(test.live);
        assert_eq!(test.screen.take(), "");
    }

    #[test]
    fn drop_restores_the_cursor() {
        let mut test = Test::new(80, 24);
        test.send(&[begin(1, 1), start(10, 1, "api")]);
        drop(test.live);
        assert_eq!(test.screen.take(), "\x1b[1A\r\x1b[J\x1b[?25h");
    }

    #[test]
    fn no_op_run_draws_no_footer() {
        let mut test = Test::new(80, 24);
        let summary = Summary {
            up_to_date: 1,
            ..Summary::default()
        };
        let up_to_date = end(1, 1, "api", Outcome::UpToDate, 0);
        assert_eq!(
            test.send(&[begin(1, 1), up_to_date, over(summary)]),
            "nothing to do: 1 target up to date (0ms)\n"
        );
    }

    #[test]
    fn footer_waits_for_the_end_of_a_line() {
        let mut test = Test::new(80, 24);
        test.send(&[begin(1, 1), start(0, 1, "api")]);
        assert_eq!(
            test.send(&[print(5, "api", "half a ")]),
            "\x1b[1A\r\x1b[Joutput of api:\nhalf a \x1b[?25h"
        );
        assert_eq!(test.tick(100), "");
        assert_eq!(test.send(&[print(200, "api", "line\n")]), "line\n");
        assert!(test.tick(300).starts_with("\x1b[?25l──"));
    }

    #[test]
    fn footer_is_hidden_for_interactive_targets() {
        let mut test = Test::new(80, 24);
        test.send(&[begin(2, 2), start(0, 1, "api")]);
        let mut shell = start(5, 2, "shell");
        if let EventKind::TargetStarted { interactive, .. } = &mut shell.kind {
            *interactive = true;
        }
        assert_eq!(test.send(&[shell]), "\x1b[1A\r\x1b[J\x1b[?25h");
        assert_eq!(test.tick(100), "");
        test.send(&[end(200, 1, "shell", Outcome::Built, 195)]);
        assert!(test.tick(300).starts_with("\x1b[?25l"));
    }

    #[test]
    fn clear_covers_lines_broken_by_a_resize() {
        let mut test = Test::new(80, 24);
        test.send(&[begin(1, 1), start(0, 1, "api")]);
        test.columns.set(20);
        // 24 + 1 + 40 columns are four lines of 20, and `  api  0s` is one.
        assert_eq!(
            test.tick(100),
            "\x1b[4A\r\x1b[J0/1 target done, 1…\r\n  api  0s"
        );
    }

    #[test]
    fn footer_leaves_rows_for_lines() {
        let mut test = Test::new(80, 7);
        test.send(&[begin(9, 9)]);
        let names = ["a", "b", "c", "d", "e", "f"];
        for (i, name) in names.into_iter().enumerate() {
            test.send(&[start(0, i + 1, name)]);
        }
        let frame = test.tick(2000);
        let lines: Vec<&str> = frame.split("\r\n").skip(1).collect();
        assert_eq!(lines, ["  a  2s", "  b  2s", "  and 4 more"]);
    }

    #[test]
    fn footer_escapes_names() {
        let mut test = Test::new(80, 24);
        let frame = test.send(&[begin(1, 1), start(0, 1, "a\u{1b}[2J")]);
        assert!(frame.ends_with("  a\\x1b[2J  0s"), "{frame:?}");
    }

    #[test]
    fn live_prints_failures() {
        let mut test = Test::new(80, 24);
        test.send(&[begin(1, 1), start(0, 1, "a")]);
        let text = test.send(&[end(5, 1, "a", fail("it exited with code 1"), 5)]);
        assert!(
            text.contains("[1/1] Failed a (5ms, total elapsed: 5ms): it exited"),
            "{text}"
        );
    }

    #[test]
    fn closed_pipe_gets_no_second_write() {
        let tries = Rc::new(RefCell::new(0));
        let mut live = Live::new(Broken(tries.clone()), TERMINAL, || None);
        send(&mut live, &[begin(1, 1), start(0, 1, "a")]);
        live.tick(100);
        drop(live);
        assert_eq!(*tries.borrow(), 1);
    }
}
