//! The history of tests, from the events of past runs.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

use crate::event::{Event, EventKind, Outcome};

/// The past of a test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestHistory {
    /// The end of its last run.
    pub last: LastRun,
    /// The key under which it failed, if it failed last.
    pub failed_key: Option<String>,
    /// The number of runs in which its commands ran.
    pub runs: usize,
    /// The number of those in which it was flaky.
    pub flaky: usize,
}

/// The end of the last run of a test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LastRun {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It was skipped or stopped.
    #[default]
    Unfinished,
}

/// Returns the history of each target that past runs have events of. `folder` has their logs;
/// those that cannot be read are left out.
pub fn test_history(folder: &Path) -> HashMap<String, TestHistory> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return HashMap::new();
    };
    let mut files: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    // Their names begin with the time.
    files.sort_unstable();
    let mut history = HashMap::new();
    for file in files {
        // Its other lines count even if one cannot be read.
        let _ = add_run(&mut history, &file);
    }
    history
}

fn add_run(history: &mut HashMap<String, TestHistory>, file: &Path) -> io::Result<()> {
    let mut attempts: HashMap<String, u32> = HashMap::new();
    for line in BufReader::new(File::open(file)?).lines() {
        let Ok(event) = serde_json::from_str::<Event>(&line?) else {
            continue;
        };
        match event.kind {
            EventKind::TargetStarted {
                target, attempt, ..
            } => {
                attempts.insert(target, attempt);
            }
            EventKind::TargetFinished {
                target,
                outcome,
                key,
                ..
            } => {
                let attempts = attempts.get(&target).copied().unwrap_or(0);
                history
                    .entry(target)
                    .or_default()
                    .add(&outcome, key, attempts);
            }
            _ => {}
        }
    }
    Ok(())
}

impl TestHistory {
    /// Adds the next run.
    fn add(&mut self, outcome: &Outcome, key: Option<String>, attempts: u32) {
        match outcome {
            Outcome::Built => {
                self.runs += 1;
                self.flaky += usize::from(self.is_flaky(key.as_deref(), attempts));
            }
            Outcome::Failed { .. } if attempts > 0 => self.runs += 1,
            _ => {}
        }
        self.last = match outcome {
            Outcome::Failed { .. } => LastRun::Failed,
            Outcome::Skipped { .. } | Outcome::Cancelled => LastRun::Unfinished,
            _ => LastRun::Passed,
        };
        self.failed_key = match outcome {
            Outcome::Failed { .. } => key,
            Outcome::Skipped { .. } | Outcome::Cancelled => self.failed_key.take(),
            _ => None,
        };
    }

    /// Returns true if a test whose commands succeeded failed before under the same key: in the
    /// same run, or in the one before.
    pub fn is_flaky(&self, key: Option<&str>, attempts: u32) -> bool {
        attempts > 1 || (key.is_some() && self.failed_key.as_deref() == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Failure, Reason};
    use crate::journal::RunLog;

    /// Logs a run in which `a` made some attempts and ended.
    fn log(folder: &Path, attempts: u32, outcome: Outcome, key: &str) {
        let mut log = RunLog::new(folder);
        let event = |kind| Event { at_ms: 0, kind };
        for attempt in 1..=attempts {
            log.record(&event(EventKind::TargetStarted {
                target: "a".to_owned(),
                number: 1,
                reason: Reason::NeverBuilt,
                expected_ms: None,
                attempt,
                interactive: false,
            }))
            .unwrap();
        }
        log.record(&event(EventKind::TargetFinished {
            target: "a".to_owned(),
            number: 1,
            outcome,
            reason: None,
            key: Some(key.to_owned()),
            duration_ms: 1,
        }))
        .unwrap();
        log.record(&event(EventKind::RunFinished(Default::default())))
            .unwrap();
        // Logs are named by the millisecond.
        let before = crate::stamp::now() / 1_000_000;
        while crate::stamp::now() / 1_000_000 == before {
            std::hint::spin_loop();
        }
    }

    fn failed() -> Outcome {
        Outcome::Failed {
            failure: Failure::default(),
        }
    }

    fn history(runs: &[(u32, Outcome, &str)]) -> TestHistory {
        let folder = tempfile::tempdir().unwrap();
        for (attempts, outcome, key) in runs {
            log(folder.path(), *attempts, outcome.clone(), key);
        }
        test_history(folder.path()).remove("a").unwrap()
    }

    #[test]
    fn last_run_decides_whether_a_test_passed() {
        let last = |outcome| history(&[(1, Outcome::Built, "k"), (1, outcome, "k")]).last;
        assert_eq!(last(failed()), LastRun::Failed);
        assert_eq!(last(Outcome::Cancelled), LastRun::Unfinished);
        assert_eq!(last(Outcome::Restored), LastRun::Passed);
    }

    #[test]
    fn success_after_a_failure_under_one_key_is_flaky() {
        let flaky = |runs: &[_]| {
            let history = history(runs);
            (history.flaky, history.runs)
        };
        let built = || Outcome::Built;
        assert_eq!(flaky(&[(1, failed(), "k"), (1, built(), "k")]), (1, 2));
        assert_eq!(flaky(&[(1, failed(), "k"), (1, built(), "l")]), (0, 2));
        assert_eq!(flaky(&[(2, built(), "k"), (1, built(), "l")]), (1, 2));
        let between = Outcome::Cancelled;
        assert_eq!(
            flaky(&[(1, failed(), "k"), (0, between, "k"), (1, built(), "k")]),
            (1, 2)
        );
    }

    #[test]
    fn damaged_log_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("0.jsonl"), b"{\xff\nnonsense\n").unwrap();
        assert_eq!(test_history(folder.path()), HashMap::new());
        assert_eq!(test_history(Path::new("/does/not/exist")), HashMap::new());
    }
}
