//! Prints events as plain lines, in their order: for files, pipes and simple terminals.

use std::io::Write;
use std::sync::Arc;

use super::Out;
use super::lines::{Lines, Starts};
use crate::event::{Event, Sink};
use crate::report::Style;
use crate::source::Sources;

/// Prints events as plain lines.
pub struct Plain<W> {
    lines: Lines,
    out: Out<W>,
}

impl<W: Write> Plain<W> {
    /// Creates a reporter. After a failed write it writes nothing more.
    pub fn new(writer: W, style: Style) -> Self {
        Self {
            lines: Lines::new(style, Starts::Shown),
            out: Out::new(writer),
        }
    }

    /// Adds the source texts of diagnostics, so that their places are printed.
    #[must_use]
    pub fn with_sources(mut self, sources: Arc<Sources>) -> Self {
        self.lines.set_sources(sources);
        self
    }
}

impl<W: Write> Sink for Plain<W> {
    fn on_event(&mut self, event: &Event) {
        let bytes = self.lines.text(event);
        self.out.write(&bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::event::{Outcome, Summary};
    use crate::report::Verbosity;
    use crate::report::testing::{
        Broken, Screen, begin, end, fail, over, print, send, skip, start, warn,
    };

    fn shown(style: Style, events: &[Event]) -> String {
        let screen = Screen::default();
        send(&mut Plain::new(screen.clone(), style), events);
        screen.take()
    }

    fn verbose() -> Style {
        Style {
            verbosity: Verbosity::Verbose,
            ..Style::PLAIN
        }
    }

    fn quiet() -> Style {
        Style {
            verbosity: Verbosity::Quiet,
            ..Style::PLAIN
        }
    }

    /// A build of two generators, the second of which prints output, and the manager.
    fn build_events() -> Vec<Event> {
        vec![
            begin(4, 2),
            end(5, 1, "lint", Outcome::UpToDate, 0),
            start(10, 2, "generate-go"),
            start(11, 3, "generate-py"),
            end(2110, 2, "generate-go", Outcome::Built, 2100),
            print(3210, "generate-py", "writing models\nno newline at the end"),
            end(3211, 3, "generate-py", Outcome::Built, 3200),
            start(3220, 4, "manager"),
            end(16_100, 4, "manager", Outcome::Built, 12_880),
            over(Summary {
                targets: 4,
                built: 3,
                up_to_date: 1,
                wall_ms: 16_100,
                work_ms: 18_180,
                critical_path_ms: 16_080,
                bound_ms: 16_080,
                jobs: 2,
                ..Summary::default()
            }),
        ]
    }

    #[test]
    fn plain_prints_a_build_line_by_line() {
        assert_eq!(
            shown(Style::PLAIN, &build_events()),
            "Building 4 targets, up to 2 at once\n\
             [2/4] Starting generate-go: never built here\n\
             [3/4] Starting generate-py: never built here\n\
             [2/4] Completed generate-go (2.1s, total elapsed: 2.1s)\n\
             output of generate-py:\n\
             writing models\n\
             no newline at the end\n\
             [3/4] Completed generate-py (3.2s, total elapsed: 3.2s)\n\
             [4/4] Starting manager: never built here\n\
             [4/4] Completed manager (12.9s, total elapsed: 16.1s)\n\
             Finished in 16.1s: 3 built, 1 up to date; 18.2s of work, 99% of the best possible with 2 jobs\n"
        );
    }

    #[test]
    fn meaningless_percentages_are_left_out() {
        let end = |wall_ms, work_ms, bound_ms| {
            let summary = Summary {
                built: 3,
                wall_ms,
                work_ms,
                bound_ms,
                jobs: 4,
                ..Summary::default()
            };
            shown(Style::PLAIN, &[over(summary)])
        };
        let percent = |text: &str| text.contains("% of the best possible");
        assert!(percent(&end(2000, 4000, 1000)));
        assert!(!percent(&end(999, 3000, 900)), "a short run");
        assert!(!percent(&end(9000, 3000, 2000)), "little work");
        assert!(!percent(&end(9000, 18_000, 90)), "too many jobs");
    }

    #[test]
    fn quiet_prints_nothing_on_success() {
        assert_eq!(shown(quiet(), &build_events()), "");
    }

    #[test]
    fn no_op_build_prints_one_line() {
        let mut events = vec![begin(6, 4)];
        events.extend((1..=6).map(|n| end(2, n, &format!("t{n}"), Outcome::UpToDate, 0)));
        events.push(over(Summary {
            targets: 6,
            up_to_date: 6,
            wall_ms: 4,
            jobs: 4,
            ..Summary::default()
        }));
        let line = "nothing to do: 6 targets up to date (4ms)\n";
        assert_eq!(shown(Style::PLAIN, &events), line);
        let lines: String = (1..=6)
            .map(|n| format!("[{n}/6] Up to date: t{n}\n"))
            .collect();
        assert_eq!(shown(verbose(), &events), lines + line);
    }

    /// A build in which `api` fails while `web` runs, and two targets are skipped.
    fn failed_events() -> Vec<Event> {
        vec![
            begin(5, 2),
            start(0, 1, "api"),
            start(0, 2, "web"),
            print(900, "api", "main.go:3: undefined: x\nmain.go:4: also\n"),
            end(900, 1, "api", fail("`go` exited with code 1"), 900),
            end(901, 2, "manager", skip("api"), 0),
            end(901, 3, "all", skip("manager"), 0),
            end(1200, 4, "web", Outcome::Built, 1200),
            end(1200, 5, "lint", Outcome::UpToDate, 0),
            over(Summary {
                targets: 5,
                built: 1,
                failed: 1,
                skipped: 2,
                up_to_date: 1,
                wall_ms: 1200,
                work_ms: 2100,
                bound_ms: 1200,
                jobs: 2,
                ..Summary::default()
            }),
        ]
    }

    const CLOSING: &str = "
error[fbuild::exec::exit]: api failed: `go` exited with code 1
  | main.go:3: undefined: x
  | main.go:4: also
  to repeat it by hand:
    (cd /src && go build ./...)
  not built because of it: manager and all

Failed after 1.2s: 1 failed, 2 skipped, 1 built, 1 up to date; 2.1s of work
";

    #[test]
    fn failure_is_printed_at_once_and_at_the_end() {
        let before = "Building 5 targets, up to 2 at once\n\
             [1/5] Starting api: never built here\n\
             [2/5] Starting web: never built here\n\
             output of api:\n\
             main.go:3: undefined: x\n\
             main.go:4: also\n\
             [1/5] Failed api (900ms, total elapsed: 900ms): `go` exited with code 1\n\
             [4/5] Completed web (1.2s, total elapsed: 1.2s)\n";
        assert_eq!(
            shown(Style::PLAIN, &failed_events()),
            format!("{before}{CLOSING}")
        );
    }

    #[test]
    fn quiet_prints_failures() {
        assert_eq!(shown(quiet(), &failed_events()), CLOSING);
    }

    #[test]
    fn verbose_names_each_skipped_target() {
        let text = shown(verbose(), &failed_events());
        assert!(
            text.contains("[2/5] Skipped manager: `api` was not built\n"),
            "{text}"
        );
        assert!(text.contains("[5/5] Up to date: lint\n"), "{text}");
    }

    #[test]
    fn equal_failures_are_one_error() {
        let mut missing = fail("tool `java` cannot be used");
        if let Outcome::Failed { failure } = &mut missing {
            (failure.repeat, failure.tail) = (None, String::new());
        }
        let events = [
            begin(4, 2),
            end(1, 1, "a", missing.clone(), 0),
            end(1, 2, "b", missing, 0),
            end(1, 3, "c", skip("b"), 0),
            end(1, 4, "d", fail("it failed"), 0),
            over(Summary::default()),
        ];
        let text = shown(quiet(), &events);
        let head = "error[fbuild::exec::exit]: a and b failed: tool `java` cannot be used\n  \
                    not built because of it: c\n";
        assert!(text.contains(head), "{text}");
        assert_eq!(text.matches("error[").count(), 2, "{text}");
    }

    #[test]
    fn closing_does_not_repeat_output_just_above() {
        let mut events = failed_events();
        events.retain(|e| !matches!(&e.kind, crate::event::EventKind::TargetFinished { target, .. } if target == "web"));
        let text = shown(Style::PLAIN, &events);
        assert!(!text.contains("  | main.go:3"), "{text}");
        assert!(text.contains("to repeat it by hand"), "{text}");
    }

    #[test]
    fn restored_and_dry_run_targets_have_own_words() {
        let summary = |s: Summary| Summary {
            targets: 2,
            wall_ms: 40,
            jobs: 4,
            ..s
        };
        let restored = [
            begin(2, 4),
            print(30, "web", "12 modules\n"),
            end(31, 1, "web", Outcome::Restored, 0),
            end(32, 2, "api", Outcome::UpToDate, 0),
            over(summary(Summary {
                restored: 1,
                up_to_date: 1,
                ..Summary::default()
            })),
        ];
        assert_eq!(
            shown(Style::PLAIN, &restored),
            "Building 2 targets, up to 2 at once\n\
             output of web:\n\
             12 modules\n\
             [1/2] Restored web from the cache: never built here (total elapsed: 31ms)\n\
             Finished in 40ms: 1 restored, 1 up to date\n"
        );
        let dry = [
            begin(2, 4),
            end(1, 1, "web", Outcome::WouldRestore, 0),
            end(2, 2, "api", Outcome::WouldRun, 0),
            over(summary(Summary {
                would_run: 1,
                would_restore: 1,
                ..Summary::default()
            })),
        ];
        assert_eq!(
            shown(Style::PLAIN, &dry),
            "[1/2] Would restore web: never built here\n\
             [2/2] Would run api: never built here\n\
             1 would run, 1 would be restored\n"
        );
    }

    #[test]
    fn interrupted_run_names_stopped_targets() {
        let events = [
            begin(3, 1),
            start(0, 1, "a"),
            end(700, 1, "a", Outcome::Cancelled, 700),
            end(700, 2, "b", Outcome::Cancelled, 0),
            over(Summary {
                targets: 2,
                cancelled: 2,
                wall_ms: 700,
                interrupted: true,
                ..Summary::default()
            }),
        ];
        assert_eq!(
            shown(Style::PLAIN, &events),
            "Building 3 targets\n\
             [1/3] Starting a: never built here\n\
             [1/3] Stopped a (700ms, total elapsed: 700ms)\n\
             Interrupted after 700ms: 2 not finished\n"
        );
    }

    #[test]
    fn quiet_prints_warnings() {
        let line = "warning[fbuild::store::corrupt]: manager: blob `x` is damaged\n";
        assert_eq!(
            shown(quiet(), &[begin(1, 1), warn(1, "blob `x` is damaged")]),
            line
        );
    }

    #[test]
    fn alternating_outputs_each_have_a_header() {
        let events = [
            begin(2, 2),
            start(0, 1, "a"),
            start(0, 2, "b"),
            print(1, "a", "1\n"),
            print(2, "b", "2\n"),
            print(3, "a", "3\n"),
            print(4, "a", "4\n"),
        ];
        let text = shown(verbose(), &events);
        let blocks = text.split_once("output").unwrap().1;
        assert_eq!(blocks, " of a:\n1\noutput of b:\n2\noutput of a:\n3\n4\n");
    }

    #[test]
    fn streamed_outputs_mix_whole_lines_only() {
        let events = [
            begin(2, 2),
            start(0, 1, "a"),
            start(0, 2, "b"),
            print(1, "a", "one "),
            print(2, "b", "1\n2"),
            print(3, "a", "line\nhalf"),
            end(4, 1, "a", Outcome::Built, 4),
            print(5, "b", "3"),
        ];
        let text = shown(verbose(), &events);
        let blocks = text.split_once("output").unwrap().1;
        assert_eq!(
            blocks,
            " of b:\n1\noutput of a:\none line\nhalf\n\
             [1/2] Completed a (4ms, total elapsed: 4ms)\noutput of b:\n23"
        );
    }

    #[test]
    fn last_target_streams_incomplete_lines() {
        let events = [begin(1, 1), start(0, 1, "a"), print(1, "a", "...")];
        assert!(shown(verbose(), &events).ends_with("output of a:\n..."));
    }

    #[test]
    fn long_incomplete_line_is_printed() {
        let long = "x".repeat(super::super::lines::MAX_HELD + 1);
        let events = [begin(2, 2), start(0, 1, "a"), print(1, "a", &long)];
        assert!(shown(verbose(), &events).ends_with(&long));
    }

    #[test]
    fn output_is_filtered_by_style_and_origin() {
        let bytes = b"\x1b]0;x\x07 \xff\x1b[31m\n";
        let terminal = Style {
            terminal: true,
            color: true,
            ..Style::PLAIN
        };
        let run = |style: Style, events: &[Event]| -> Vec<u8> {
            let mut out = Vec::new();
            send(&mut Plain::new(&mut out, style), events);
            out
        };
        let live = [begin(1, 1), start(0, 1, "a"), print(1, "a", bytes)];
        let replayed = [begin(1, 1), print(1, "a", bytes)];
        assert!(run(terminal, &live).ends_with(bytes));
        assert!(run(terminal, &replayed).ends_with(b"^[]0;x^G \xff\x1b[31m\n"));
        assert!(run(Style::PLAIN, &live).ends_with(b":\n \xff\n"));
        assert!(run(Style::PLAIN, &replayed).ends_with(b":\n \xff\n"));
    }

    #[test]
    fn tail_of_a_failure_is_filtered() {
        let mut failed = fail("it failed");
        if let Outcome::Failed { failure } = &mut failed {
            failure.tail = "\u{1b}[31mred\u{1b}[0m".to_owned();
        }
        let events = [
            begin(1, 1),
            end(1, 1, "a", failed, 1),
            over(Summary::default()),
        ];
        assert!(shown(Style::PLAIN, &events).contains("  | red\n"));
        let color = Style {
            color: true,
            ..Style::PLAIN
        };
        let red = "  | \u{1b}[31mred\u{1b}[0m\u{1b}[0m\n";
        assert!(shown(color, &events).contains(red));
    }

    #[test]
    fn names_are_escaped() {
        let text = shown(Style::PLAIN, &[begin(1, 1), start(0, 1, "a\u{1b}[2J\nb")]);
        assert!(
            text.ends_with("[1/1] Starting a\\x1b[2J\\x0ab: never built here\n"),
            "{text}"
        );
    }

    #[test]
    fn colours_do_not_change_the_words() {
        let color = Style {
            color: true,
            ..Style::PLAIN
        };
        let text = shown(color, &build_events());
        let bare = text
            .replace("\x1b[1m", "")
            .replace("\x1b[2m", "")
            .replace("\x1b[32m", "")
            .replace("\x1b[0m", "");
        assert!(
            text.contains("\x1b[32mCompleted\x1b[0m \x1b[1mgenerate-go\x1b[0m"),
            "{text}"
        );
        assert_eq!(bare, shown(Style::PLAIN, &build_events()));
    }

    #[test]
    fn closed_pipe_gets_no_second_write() {
        let tries = Rc::new(RefCell::new(0));
        send(
            &mut Plain::new(Broken(tries.clone()), Style::PLAIN),
            &build_events(),
        );
        assert_eq!(*tries.borrow(), 1);
    }
}
