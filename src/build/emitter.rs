//! Emits events with the time at which they happened.

use std::collections::HashMap;
use std::io::Read;
use std::time::Instant;

use super::runner::millis;
use crate::event::{Event, EventKind, Printed, Sink, Warning};

/// The longest piece of output in one event, in bytes.
const PIECE: u64 = 64 * 1024;

/// Passes events to a sink, with milliseconds since the start of the run.
pub(super) struct Emitter<'a> {
    sink: &'a mut dyn Sink,
    start: Instant,
    /// The incomplete character at the end of each target's output so far.
    incomplete: HashMap<String, Vec<u8>>,
}

impl<'a> Emitter<'a> {
    /// Returns an emitter for a run that began at `start`.
    pub(super) fn new(sink: &'a mut dyn Sink, start: Instant) -> Self {
        Self {
            sink,
            start,
            incomplete: HashMap::new(),
        }
    }

    /// Emits an event that happens now.
    pub(super) fn emit(&mut self, kind: EventKind) {
        if let EventKind::TargetStarted { target, .. } | EventKind::TargetFinished { target, .. } =
            &kind
            && let Some(rest) = self.incomplete.remove(target)
        {
            self.send(printed(target, rest));
        }
        self.send(kind);
    }

    fn send(&mut self, kind: EventKind) {
        let at_ms = self.elapsed_ms();
        self.sink.on_event(&Event { at_ms, kind });
    }

    /// Emits a warning, about a target if one is named.
    pub(super) fn warning(&mut self, warning: Warning) {
        self.emit(EventKind::Warning(warning));
    }

    /// Emits a piece of a target's output. An event never ends within a character: the bytes of
    /// an incomplete one wait for the next piece.
    pub(super) fn output(&mut self, target: &str, bytes: Vec<u8>) {
        let mut text = self.incomplete.remove(target).unwrap_or_default();
        text.extend(bytes);
        let rest = text.split_off(text.len() - incomplete_bytes(&text));
        if !rest.is_empty() {
            self.incomplete.insert(target.to_owned(), rest);
        }
        if !text.is_empty() {
            self.send(printed(target, text));
        }
    }

    /// Emits a target's whole output, up to the first read error.
    pub(super) fn output_of(&mut self, target: &str, mut printed: impl Read) {
        loop {
            let mut piece = Vec::new();
            let read = printed.by_ref().take(PIECE).read_to_end(&mut piece);
            if read.is_err() || piece.is_empty() {
                return;
            }
            self.output(target, piece);
        }
    }

    /// Lets the sink show that time passes.
    pub(super) fn tick(&mut self) {
        let at_ms = self.elapsed_ms();
        self.sink.tick(at_ms);
    }

    /// Returns the milliseconds since the start of the run.
    pub(super) fn elapsed_ms(&self) -> u64 {
        millis(self.start.elapsed())
    }
}

fn printed(target: &str, bytes: Vec<u8>) -> EventKind {
    EventKind::TargetOutput {
        target: target.to_owned(),
        text: Printed(bytes),
    }
}

/// Returns the number of bytes of an incomplete UTF-8 character at the end of `bytes`.
fn incomplete_bytes(bytes: &[u8]) -> usize {
    let is_incomplete = |n: &usize| {
        let tail = std::str::from_utf8(&bytes[bytes.len() - n..]);
        tail.is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    (1..=bytes.len().min(3)).find(is_incomplete).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Texts(Vec<String>);

    impl Sink for Texts {
        fn on_event(&mut self, event: &Event) {
            if let EventKind::TargetOutput { target, text } = &event.kind {
                let text = String::from_utf8_lossy(&text.0);
                self.0.push(format!("{target}: {text}"));
            }
        }
    }

    fn emitted(pieces: &[(&str, &[u8])]) -> Vec<String> {
        let mut texts = Texts::default();
        let mut emitter = Emitter::new(&mut texts, Instant::now());
        for (target, bytes) in pieces {
            emitter.output(target, bytes.to_vec());
        }
        emitter.emit(EventKind::TargetFinished {
            target: "a".to_owned(),
            number: 1,
            outcome: crate::event::Outcome::Built,
            reason: None,
            key: None,
            duration_ms: 0,
        });
        texts.0
    }

    #[test]
    fn output_event_holds_whole_characters() {
        let pieces: [(&str, &[u8]); 4] = [
            ("a", b"caf\xc3"),
            ("b", b"\xe2\x82"),
            ("a", b"\xa9\n"),
            ("b", b"\xac"),
        ];
        assert_eq!(emitted(&pieces), ["a: caf", "a: \u{e9}\n", "b: \u{20ac}"]);
    }

    #[test]
    fn end_of_target_emits_incomplete_characters() {
        assert_eq!(emitted(&[("a", b"x\xf0\x9f")]), ["a: x", "a: \u{fffd}"]);
        assert_eq!(emitted(&[("a", b"\xff\x80")]), ["a: \u{fffd}\u{fffd}"]);
    }

    #[test]
    fn whole_output_is_cut_between_characters() {
        let text = "\u{20ac}".repeat(40_000);
        let mut texts = Texts::default();
        let mut emitter = Emitter::new(&mut texts, Instant::now());
        emitter.output_of("a", text.as_bytes());
        let joined: String = texts
            .0
            .iter()
            .filter_map(|t| t.strip_prefix("a: "))
            .collect();
        assert_eq!((joined == text, texts.0.len()), (true, 2));
    }
}
