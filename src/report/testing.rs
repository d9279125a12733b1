//! Short constructors of events, for tests.

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;

use crate::event::{
    Event, EventKind, FORMAT, Failure, Finding, Outcome, Printed, Reason, Sink, Summary, Warning,
};
use crate::source::{Diagnostic, FileId, Span};

/// A writer whose bytes can be read while a reporter holds it.
#[derive(Clone, Default)]
pub(super) struct Screen(Rc<RefCell<Vec<u8>>>);

impl Screen {
    /// Takes the text written since the last call.
    pub(super) fn take(&self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut *self.0.borrow_mut())).into_owned()
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A writer that fails, as a pipe without a reader does; counts the attempts.
pub(super) struct Broken(pub(super) Rc<RefCell<usize>>);

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        *self.0.borrow_mut() += 1;
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn send(reporter: &mut dyn Sink, events: &[Event]) {
    for event in events {
        reporter.on_event(event);
    }
}

pub(super) fn begin(targets: usize, jobs: usize) -> Event {
    at(
        0,
        EventKind::RunStarted {
            format: FORMAT,
            fbuild: "0.1.0".to_owned(),
            wanted: vec!["all".to_owned()],
            targets,
            jobs,
            expected_ms: None,
        },
    )
}

pub(super) fn start(at_ms: u64, number: usize, target: &str) -> Event {
    let kind = EventKind::TargetStarted {
        target: target.to_owned(),
        number,
        reason: Reason::NeverBuilt,
        expected_ms: None,
        attempt: 1,
        interactive: false,
    };
    at(at_ms, kind)
}

pub(super) fn print(at_ms: u64, target: &str, text: impl AsRef<[u8]>) -> Event {
    let kind = EventKind::TargetOutput {
        target: target.to_owned(),
        text: Printed(text.as_ref().to_vec()),
    };
    at(at_ms, kind)
}

pub(super) fn end(
    at_ms: u64,
    number: usize,
    target: &str,
    outcome: Outcome,
    duration_ms: u64,
) -> Event {
    let reason = match outcome {
        Outcome::UpToDate | Outcome::Skipped { .. } | Outcome::Cancelled => None,
        _ => Some(Reason::NeverBuilt),
    };
    let kind = EventKind::TargetFinished {
        target: target.to_owned(),
        number,
        outcome,
        reason,
        key: None,
        duration_ms,
    };
    at(at_ms, kind)
}

pub(super) fn fail(message: &str) -> Outcome {
    Outcome::Failed {
        failure: Failure {
            code: "fbuild::exec::exit".to_owned(),
            message: message.to_owned(),
            help: None,
            repeat: Some("(cd /src && go build ./...)".to_owned()),
            tail: "main.go:3: undefined: x\nmain.go:4: also".to_owned(),
            exit_code: Some(1),
            diagnostics: Vec::new(),
            cases: Vec::new(),
        },
    }
}

pub(super) fn skip(because: &str) -> Outcome {
    Outcome::Skipped {
        because: because.to_owned(),
    }
}

/// The commands of a target read an undeclared file.
pub(super) fn find(at_ms: u64, target: &str) -> Event {
    let span = Span {
        file: FileId(0),
        start: 3,
        len: 4,
    };
    let message = format!("`{target}` reads `x` and does not declare it");
    let finding = Finding {
        target: target.to_owned(),
        diagnostic: Diagnostic::warning("fbuild::audit::input", message).label(span, "here"),
        paths: vec!["x".to_owned()],
        count: 1,
        program: Some("cat".to_owned()),
    };
    at(at_ms, EventKind::Finding(finding))
}

pub(super) fn warn(at_ms: u64, message: &str) -> Event {
    let warning = Warning::new("fbuild::store::corrupt", message).about("manager");
    at(at_ms, EventKind::Warning(warning))
}

pub(super) fn over(summary: Summary) -> Event {
    at(summary.wall_ms, EventKind::RunFinished(summary))
}

pub(super) fn at(at_ms: u64, kind: EventKind) -> Event {
    Event { at_ms, kind }
}
