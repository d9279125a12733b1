//! Collects the results of tests from the events of a run, and words them as a table.

use std::collections::HashMap;

use crate::event::{Event, EventKind, Outcome, Sink};
use crate::report::text::{columns, count, duration, fit, harmless};
use crate::report::{Color, Style};
use crate::test_report::{Case, Counts, Status, Suite};

/// The most failed cases to list for one test.
const MOST_CASES: usize = 10;
/// The number of slow tests to name.
const SLOWEST: usize = 3;
/// The width of the column with the verdicts.
const VERDICTS: usize = 11;

/// A test that a run finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestResult {
    /// Its name.
    pub name: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// True if its commands did not run, because its result is known.
    pub is_cached: bool,
    /// The time that its commands took.
    pub duration_ms: u64,
    /// Its cases; empty if it has no report.
    pub cases: Vec<Case>,
    /// The reason for the verdict, if it is not that it passed.
    pub note: String,
}

/// The verdict on a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passed.
    Passed,
    /// It passed, after it failed under the same key.
    Flaky,
    /// It failed.
    Failed,
    /// It failed, and is in quarantine.
    Quarantined,
    /// It was skipped, because a target that it needs failed.
    Skipped,
    /// It was stopped.
    Cancelled,
}

impl Verdict {
    /// All verdicts, in the order of the table.
    const ALL: [Self; 6] = [
        Self::Passed,
        Self::Failed,
        Self::Quarantined,
        Self::Flaky,
        Self::Skipped,
        Self::Cancelled,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Flaky => "flaky",
            Self::Failed => "failed",
            Self::Quarantined => "quarantined",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }

    fn color(self) -> Color {
        match self {
            Self::Passed => Color::Green,
            Self::Failed => Color::Red,
            _ => Color::Yellow,
        }
    }
}

/// The end of a target, as the events of a run have it.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its outcome.
    pub outcome: Outcome,
    /// Its key, if that was computed.
    pub key: Option<String>,
    /// The number of attempts; 0 if its commands did not run.
    pub attempts: u32,
    /// The time that its commands took.
    pub duration_ms: u64,
}

/// Passes events on, and keeps the end of each target.
pub struct Ends<'a> {
    inner: &'a mut dyn Sink,
    attempts: HashMap<String, u32>,
    ends: HashMap<String, Ended>,
}

impl<'a> Ends<'a> {
    /// Returns a sink that passes events on to `inner`.
    pub fn new(inner: &'a mut dyn Sink) -> Self {
        Self {
            inner,
            attempts: HashMap::new(),
            ends: HashMap::new(),
        }
    }

    /// Takes the end of a target.
    pub fn take(&mut self, target: &str) -> Option<Ended> {
        self.ends.remove(target)
    }
}

impl Sink for Ends<'_> {
    fn on_event(&mut self, event: &Event) {
        match &event.kind {
            EventKind::TargetStarted {
                target, attempt, ..
            } => {
                self.attempts.insert(target.clone(), *attempt);
            }
            EventKind::TargetFinished {
                target,
                outcome,
                key,
                duration_ms,
                ..
            } => {
                let ended = Ended {
                    outcome: outcome.clone(),
                    key: key.clone(),
                    attempts: self.attempts.get(target).copied().unwrap_or(0),
                    duration_ms: *duration_ms,
                };
                self.ends.insert(target.clone(), ended);
            }
            _ => {}
        }
        self.inner.on_event(event);
    }

    fn tick(&mut self, at_ms: u64) {
        self.inner.tick(at_ms);
    }
}

/// Returns the table: a line with the totals, one for each test that did not simply pass, and
/// the slowest tests.
pub fn table(results: &[TestResult], style: Style) -> String {
    let mut out = totals(results, style);
    let mut rest: Vec<&TestResult> = results
        .iter()
        .filter(|result| result.verdict != Verdict::Passed)
        .collect();
    rest.sort_by_key(|result| Verdict::ALL.iter().position(|v| *v == result.verdict));
    for result in rest {
        out += &line(result, style);
    }
    let mut slowest: Vec<&TestResult> = results
        .iter()
        .filter(|result| !result.is_cached && result.duration_ms > 0)
        .collect();
    slowest.sort_by_key(|result| std::cmp::Reverse(result.duration_ms));
    if slowest.len() > 1 {
        let shown = slowest.iter().take(SLOWEST).map(|result| {
            let time = duration(result.duration_ms);
            format!("{} {time}", harmless(&result.name))
        });
        let shown = shown.collect::<Vec<_>>().join(", ");
        out += &format!("  {:VERDICTS$}  {shown}\n", "slowest");
    }
    out
}

fn totals(results: &[TestResult], style: Style) -> String {
    let mut parts = Vec::new();
    for verdict in Verdict::ALL {
        let these = || results.iter().filter(|result| result.verdict == verdict);
        let (all, cached) = (these().count(), these().filter(|r| r.is_cached).count());
        if all == 0 {
            continue;
        }
        let cached = match cached {
            0 => String::new(),
            n => format!(" ({n} cached)"),
        };
        let text = format!("{all} {}{cached}", verdict.word());
        parts.push(style.paint(verdict.color(), &text));
    }
    let mut cases = Counts::default();
    for result in results {
        cases.add(Counts::of(&result.cases));
    }
    let cases = if cases.all() == 0 {
        String::new()
    } else {
        format!("; {}: {}", count(cases.all(), "case"), of_cases(cases))
    };
    format!("Tests: {}{cases}\n", parts.join(", "))
}

/// Words counts, without those that are zero.
fn of_cases(counts: Counts) -> String {
    let parts = [
        (counts.passed, "passed"),
        (counts.failed, "failed"),
        (counts.skipped, "skipped"),
    ];
    let shown = parts.iter().filter(|(n, _)| *n > 0);
    let shown: Vec<String> = shown.map(|(n, word)| format!("{n} {word}")).collect();
    shown.join(", ")
}

fn line(result: &TestResult, style: Style) -> String {
    let verdict = format!("{:VERDICTS$}", result.verdict.word());
    let verdict = style.paint(result.verdict.color(), &verdict);
    let name = style.paint(Color::Bold, &harmless(&result.name));
    let mut out = format!("  {verdict}  {name}: {}\n", harmless(&result.note));
    let is_failed = |case: &&Case| case.status == Status::Failed;
    let failed: Vec<&Case> = result.cases.iter().filter(is_failed).collect();
    let indent = " ".repeat(VERDICTS + 6);
    for case in failed.iter().take(MOST_CASES) {
        let text = of_case(case);
        let room = style.width.max(columns(&indent) + 20) - columns(&indent);
        out += &format!("{indent}{}\n", fit(&harmless(&text), room));
    }
    if failed.len() > MOST_CASES {
        let others = failed.len() - MOST_CASES;
        out += &format!("{indent}and {}\n", count(others, "other"));
    }
    out
}

/// Words a failed case: where it is, and the first line of its message.
fn of_case(case: &Case) -> String {
    let place = if case.suite.is_empty() || case.suite == case.name {
        case.name.clone()
    } else {
        format!("{} {}", case.suite, case.name)
    };
    let mut lines = case.message.as_deref().unwrap_or("").lines();
    match lines.find(|line| !line.trim().is_empty()) {
        Some(line) => format!("{place}: {}", line.trim()),
        None => place,
    }
}

/// Returns the results as suites of a JUnit file, sorted by name. A test without a report, or
/// whose reports do not explain its failure, has a case of its own name.
pub fn suites(results: &[TestResult]) -> Vec<Suite> {
    let mut suites: Vec<Suite> = results.iter().map(suite).collect();
    suites.sort_by(|a, b| a.name.cmp(&b.name));
    suites
}

fn suite(result: &TestResult) -> Suite {
    let status = match result.verdict {
        Verdict::Passed | Verdict::Flaky => Status::Passed,
        Verdict::Failed => Status::Failed,
        Verdict::Quarantined | Verdict::Skipped | Verdict::Cancelled => Status::Skipped,
    };
    let mut cases = result.cases.clone();
    if result.verdict == Verdict::Quarantined {
        // Failures that do not count would fail the job that reads the file.
        for case in &mut cases {
            if case.status == Status::Failed {
                case.status = Status::Skipped;
            }
        }
    }
    let is_explained = match status {
        Status::Failed => cases.iter().any(|case| case.status == Status::Failed),
        _ => !cases.is_empty(),
    };
    if !is_explained {
        cases.push(Case {
            suite: result.name.clone(),
            name: result.name.clone(),
            status,
            duration_ms: result.duration_ms,
            message: (status != Status::Passed).then(|| result.note.clone()),
        });
    }
    Suite {
        name: result.name.clone(),
        duration_ms: result.duration_ms,
        cases,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str, status: Status, message: Option<&str>) -> Case {
        Case {
            suite: "pkg".to_owned(),
            name: name.to_owned(),
            status,
            duration_ms: 5,
            message: message.map(str::to_owned),
        }
    }

    fn result(name: &str, verdict: Verdict, note: &str) -> TestResult {
        TestResult {
            name: name.to_owned(),
            verdict,
            is_cached: false,
            duration_ms: 1200,
            cases: Vec::new(),
            note: note.to_owned(),
        }
    }

    fn results() -> Vec<TestResult> {
        let mut api = result("api", Verdict::Failed, "`pytest` exited with code 1");
        api.cases = vec![
            case("a", Status::Passed, None),
            case("b", Status::Failed, Some("\n  expected 3\n  found 4")),
        ];
        api.duration_ms = 12_300;
        let mut web = result("web", Verdict::Passed, "");
        web.is_cached = true;
        web.cases = vec![case("c", Status::Skipped, None)];
        vec![
            web,
            result("db", Verdict::Flaky, "it passed on attempt 2"),
            api,
            result("e2e", Verdict::Skipped, "`manager` failed"),
            result("go", Verdict::Passed, ""),
        ]
    }

    #[test]
    fn table_lists_what_did_not_simply_pass() {
        let expected = "\
Tests: 2 passed (1 cached), 1 failed, 1 flaky, 1 skipped; 3 cases: 1 passed, 1 failed, 1 skipped
  failed       api: `pytest` exited with code 1
                 pkg b: expected 3
  flaky        db: it passed on attempt 2
  skipped      e2e: `manager` failed
  slowest      api 12.3s, db 1.2s, e2e 1.2s
";
        assert_eq!(table(&results(), Style::PLAIN), expected);
    }

    #[test]
    fn table_counts_failed_cases_beyond_the_first() {
        let mut api = result("api", Verdict::Failed, "no");
        let failed = |n: usize| case(&format!("t{n}"), Status::Failed, None);
        api.cases = (0..12).map(failed).collect();
        let text = table(&[api], Style::PLAIN);
        assert!(
            text.ends_with("pkg t9\n                 and 2 others\n"),
            "{text}"
        );
    }

    #[test]
    fn test_without_report_is_one_case() {
        let shown = |verdict| {
            let suites = suites(&[result("go", verdict, "why")]);
            let case = suites[0].cases[0].clone();
            (case.name, case.status, case.message)
        };
        let name = || "go".to_owned();
        let why = || Some("why".to_owned());
        assert_eq!(shown(Verdict::Passed), (name(), Status::Passed, None));
        assert_eq!(shown(Verdict::Flaky), (name(), Status::Passed, None));
        assert_eq!(shown(Verdict::Failed), (name(), Status::Failed, why()));
        assert_eq!(shown(Verdict::Skipped), (name(), Status::Skipped, why()));
    }

    #[test]
    fn failure_that_no_case_explains_is_a_case() {
        let mut api = result("api", Verdict::Failed, "it timed out");
        api.cases = vec![case("a", Status::Passed, None)];
        let cases = &suites(&[api])[0].cases;
        assert_eq!(cases.len(), 2);
        assert_eq!(cases[1].message.as_deref(), Some("it timed out"));
    }

    #[test]
    fn quarantined_failures_are_skipped_cases() {
        let mut api = result("api", Verdict::Quarantined, "until 2026-12-31");
        api.cases = vec![case("a", Status::Failed, Some("no"))];
        let cases = &suites(&[api])[0].cases;
        assert_eq!(cases.len(), 1);
        assert_eq!(cases[0].status, Status::Skipped);
    }
}
