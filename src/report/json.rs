//! Prints events as JSON, one object on each line, as `schemas/events.schema.json`
//! describes.

use std::io::Write;

use super::terminal::Out;
use crate::event::{Event, Sink};

/// Writes each event as one line of JSON.
pub struct Json<W> {
    out: Out<W>,
}

impl<W: Write> Json<W> {
    /// Creates a reporter. After a failed write it writes nothing more.
    pub fn new(writer: W) -> Self {
        Self {
            out: Out::new(writer),
        }
    }
}

impl<W: Write> Sink for Json<W> {
    fn on_event(&mut self, event: &Event) {
        // Events are plain data: serialising them cannot fail.
        if let Ok(mut line) = serde_json::to_vec(event) {
            line.push(b'\n');
            self.out.write(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventKind, Failure, Outcome, Reason, Summary};
    use crate::report::testing::{
        Screen, begin, end, fail, find, over, print, send, skip, start, warn,
    };
    use crate::source::{Diagnostic, FileId, Span};
    use crate::test_report::{Case, Status};

    fn reasons() -> Vec<Reason> {
        let text = || "x".to_owned();
        let change = |from, to| (text(), from, to);
        let (name, from, to) = change(None, Some(text()));
        vec![
            Reason::NeverBuilt,
            Reason::Forced,
            Reason::Rerun,
            Reason::Uncached,
            Reason::NotCached,
            Reason::Arguments,
            Reason::NeedWouldRun { target: text() },
            Reason::ToolUnknown { name: text() },
            Reason::Changed,
            Reason::FormatChanged,
            Reason::InputChanged {
                path: text(),
                others: 3,
            },
            Reason::InputAdded {
                path: text(),
                others: 0,
            },
            Reason::InputRemoved {
                path: text(),
                others: 0,
            },
            Reason::NeedChanged {
                target: text(),
                path: text(),
            },
            Reason::NeedsChanged,
            Reason::NeedRan { target: text() },
            Reason::EnvChanged {
                name: name.clone(),
                from: from.clone(),
                to: to.clone(),
            },
            Reason::ToolChanged {
                name,
                from: to,
                to: from,
            },
            Reason::CommandChanged,
            Reason::DirChanged,
            Reason::OutputsChanged,
            Reason::PlatformChanged,
            Reason::OutputDeleted { path: text() },
            Reason::OutputModified { path: text() },
            Reason::OutputStray { path: text() },
            Reason::Evicted,
        ]
    }

    fn outcomes() -> Vec<Outcome> {
        let span = Span {
            file: FileId(0),
            start: 3,
            len: 4,
        };
        let case = |status| Case {
            suite: "s".to_owned(),
            name: "n".to_owned(),
            status,
            duration_ms: 3,
            message: (status == Status::Failed).then(|| "no".to_owned()),
        };
        let places = Failure {
            diagnostics: vec![Diagnostic::error("fbuild::x", "m").label(span, "here")],
            cases: [Status::Passed, Status::Failed, Status::Skipped]
                .map(case)
                .to_vec(),
            ..Failure::default()
        };
        vec![
            Outcome::Built,
            Outcome::Restored,
            Outcome::Fetched,
            Outcome::UpToDate,
            Outcome::WouldRun,
            Outcome::WouldRestore,
            fail("it failed"),
            Outcome::Failed { failure: places },
            skip("x"),
            Outcome::Cancelled,
        ]
    }

    /// Returns an event of each kind, with each outcome and each reason.
    fn samples() -> Vec<Event> {
        let mut events = vec![
            begin(3, 2),
            print(5, "a", b"caf\xc3\xa9 \xff\x1b[0m\n"),
            warn(6, "w"),
            find(6, "a"),
        ];
        events.extend(
            outcomes()
                .into_iter()
                .map(|outcome| end(7, 1, "a", outcome, 5)),
        );
        for reason in reasons() {
            let mut event = start(8, 1, "a");
            if let EventKind::TargetStarted { reason: place, .. } = &mut event.kind {
                *place = reason;
            }
            events.push(event);
        }
        events.push(over(Summary {
            built: 2,
            ..Summary::default()
        }));
        events
    }

    fn written(events: &[Event]) -> String {
        let screen = Screen::default();
        send(&mut Json::new(screen.clone()), events);
        screen.take()
    }

    #[test]
    fn event_line_reads_back_as_the_event() {
        let text = written(&samples());
        assert_eq!(text.lines().count(), samples().len());
        for (line, event) in text.lines().zip(samples()) {
            let back: Event = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&back).unwrap(), line, "{event:?}");
        }
    }

    #[test]
    fn event_line_keeps_its_form() {
        let events = [
            start(12, 1, "manager"),
            end(900, 1, "manager", Outcome::Built, 888),
        ];
        let expected = r#"{"atMs":12,"event":"target-started","target":"manager","number":1,"reason":{"why":"never-built"},"expectedMs":null,"attempt":1,"interactive":false}
{"atMs":900,"event":"target-finished","target":"manager","number":1,"outcome":{"outcome":"built"},"reason":{"why":"never-built"},"key":null,"durationMs":888}
"#;
        assert_eq!(written(&events), expected);
    }

    #[test]
    fn events_match_their_schema() {
        let schema = include_str!("../../schemas/events.schema.json");
        let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        for line in written(&samples()).lines() {
            let value = serde_json::from_str(line).unwrap();
            if let Err(error) = validator.validate(&value) {
                panic!("{error}\n{line}");
            }
        }
        let count = |list: &serde_json::Value| list.as_array().map_or(0, Vec::len);
        assert_eq!(count(&schema["oneOf"]), 7);
        assert_eq!(count(&schema["$defs"]["reason"]["oneOf"]), reasons().len());
        assert_eq!(
            count(&schema["$defs"]["outcome"]["oneOf"]),
            outcomes().len() - 1
        );
        let strange = serde_json::json!({"atMs": 1, "event": "warning", "code": "x", "message": "y", "target": null, "z": 1});
        assert!(validator.validate(&strange).is_err());
    }

    /// Fails to compile if a kind of event, outcome or reason is added: add it to the
    /// samples above and to the schema.
    #[expect(dead_code, reason = "only its patterns matter")]
    fn every_kind_is_sampled(kind: &EventKind, outcome: &Outcome, reason: &Reason) {
        match kind {
            EventKind::RunStarted { .. }
            | EventKind::TargetStarted { .. }
            | EventKind::TargetOutput { .. } => {}
            EventKind::TargetFinished { .. }
            | EventKind::Warning(_)
            | EventKind::Finding(_)
            | EventKind::RunFinished(_) => {}
        }
        match outcome {
            Outcome::Built
            | Outcome::Restored
            | Outcome::Fetched
            | Outcome::UpToDate
            | Outcome::WouldRun => {}
            Outcome::WouldRestore | Outcome::Failed { .. } | Outcome::Skipped { .. } => {}
            Outcome::Cancelled => {}
        }
        match reason {
            Reason::NeverBuilt
            | Reason::Forced
            | Reason::Rerun
            | Reason::Uncached
            | Reason::NotCached
            | Reason::Arguments
            | Reason::Changed => {}
            Reason::NeedWouldRun { .. } | Reason::ToolUnknown { .. } => {}
            Reason::FormatChanged | Reason::NeedsChanged | Reason::NeedRan { .. } => {}
            Reason::InputChanged { .. } | Reason::InputAdded { .. } => {}
            Reason::InputRemoved { .. } | Reason::NeedChanged { .. } => {}
            Reason::EnvChanged { .. } | Reason::ToolChanged { .. } | Reason::CommandChanged => {}
            Reason::DirChanged | Reason::OutputsChanged | Reason::PlatformChanged => {}
            Reason::OutputDeleted { .. } | Reason::OutputModified { .. } => {}
            Reason::OutputStray { .. } | Reason::Evicted => {}
        }
    }
}
