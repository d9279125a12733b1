//! Tests cancellation and timeouts.

use super::*;

/// Commands to stop, and whether they end on TERM.
const RUNNING: [(&str, bool); 6] = [
    ("wait MARK", true),
    ("stop MARK", true),
    ("launch session stay -- wait MARK", true),
    ("ignore-term MARK", false),
    ("launch session mute stay -- ignore-term MARK", false),
    ("launch fork session stay -- stop MARK", true),
];

/// Returns a grace period that ends after the command, or soon if the command ignores TERM.
fn grace(ends_on_term: bool) -> Duration {
    if ends_on_term { LONG } else { SHORT }
}

impl FinishedCommand {
    /// Asserts that nothing is left, and that the command ended with `end` before the grace
    /// period was over.
    fn assert_ended_in_grace(&self, place: &Place, words: &str, end: End) {
        place.assert_nothing_left(words);
        assert_eq!(self.end(), end, "{words}");
        let duration = self.duration;
        assert!(duration < LONG, "{words}: {duration:?}");
    }

    /// Asserts that nothing is left, and that the command ended with `end`, in its grace
    /// period or, if it ignores TERM, after it.
    fn assert_stopped(&self, place: &Place, words: &str, end: End, ends_on_term: bool) {
        place.assert_nothing_left(words);
        assert_eq!(self.end(), end, "{words}");
        let (duration, grace) = (self.duration, grace(ends_on_term));
        assert_eq!(duration < grace, ends_on_term, "{words}: {duration:?}");
    }
}

#[test]
fn cancelled_command_gets_term_and_later_kill() {
    let place = Place::new();
    for (words, ends_on_term) in RUNNING {
        let run = place.run_and(words, grace(ends_on_term), Cancel::raise);
        run.assert_stopped(&place, words, End::Cancelled, ends_on_term);
    }
}

#[test]
fn second_cancel_kills_at_once() {
    let place = Place::new();
    for (words, _) in RUNNING {
        let run = place.run_and(words, LONG, |cancel| {
            cancel.raise();
            cancel.raise();
        });
        run.assert_ended_in_grace(&place, words, End::Cancelled);
    }
}

#[test]
fn second_cancel_cuts_the_grace_period_short() {
    let (place, cancel) = (Place::new(), Cancel::new());
    let mut output = |bytes: &[u8]| {
        if bytes.ends_with(b"ready\n") || bytes.ends_with(b"term\n") {
            cancel.raise();
        }
    };
    let argv = place.fbt("ignore-term MARK");
    let run = place.watch(&argv, NO_LIMITS, &mut output, &cancel);
    assert_eq!(run.text(), "ready\nterm\n");
    run.assert_ended_in_grace(&place, "ignore-term", End::Cancelled);
}

#[test]
fn timed_out_command_gets_term_and_later_kill() {
    let place = Place::new();
    for (words, ends_on_term) in RUNNING {
        let limits = Limits {
            timeout: Some(SHORT),
            grace: grace(ends_on_term),
        };
        let run = place.watch(&place.fbt(words), limits, &mut |_| {}, &Cancel::new());
        run.assert_stopped(&place, words, End::TimedOut, ends_on_term);
    }
}

#[test]
fn cancelled_run_starts_nothing() {
    let (place, cancel) = (Place::new(), Cancel::new());
    cancel.raise();
    let run = place.watch(&place.fbt("write FILE"), NO_LIMITS, &mut |_| {}, &cancel);
    assert_eq!(run.end(), End::Cancelled);
    assert!(!place.path("file").exists());
}

#[test]
fn each_process_gets_term_once_and_may_clean_up() {
    let place = Place::new();
    for how in ["stay", "session stay", "fork stay", "fork session stay"] {
        let words = format!("launch {how} -- on-term FILE MARK");
        let run = place.run_and(&words, LONG, Cancel::raise);
        run.assert_ended_in_grace(&place, &words, End::Cancelled);
        let file = place.path("file");
        assert_eq!(fs::read_to_string(&file).unwrap(), "term\n", "{words}");
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn command_with_endless_output_is_stopped() {
    let (place, cancel) = (Place::new(), Cancel::new());
    let argv = place.fbt("spam 1000000000000 MARK");
    let run = place.watch(&argv, NO_LIMITS, &mut |_| cancel.raise(), &cancel);
    run.assert_ended_in_grace(&place, "spam", End::Cancelled);
}
