//! Reads TAP, the Test Anything Protocol, as node's test runner, bats and prove write it.

use super::{Case, Error, Status, shortened};

/// Reads the cases at the top level. Those that the plan counts and that are missing failed:
/// the runner died.
pub(super) fn read(text: &str) -> Result<Vec<Case>, Error> {
    let mut cases: Vec<Case> = Vec::new();
    let mut planned = None;
    for line in text.lines() {
        if let Some(case) = case(line) {
            cases.push(case);
        } else if let Some(count) = plan(line) {
            planned = Some(count);
        } else if let Some(reason) = line.strip_prefix("Bail out!") {
            cases.push(missing("Bail out!", reason));
        } else if line.starts_with([' ', '\t', '#'])
            && let Some(case) = cases.last_mut()
            && case.status == Status::Failed
        {
            add_line(case, line);
        }
    }
    for case in &mut cases {
        case.message = case.message.take().map(|text| shortened(&text));
    }
    let Some(planned) = planned else {
        return if cases.is_empty() {
            Err(Error::Unknown)
        } else {
            Err(Error::Cut)
        };
    };
    for number in cases.len()..planned.min(cases.len() + MOST_MISSING) {
        let name = format!("{}", number + 1);
        cases.push(missing(&name, "it is planned, and has no result"));
    }
    Ok(cases)
}

/// The most missing cases that are listed.
const MOST_MISSING: usize = 1000;

fn missing(name: &str, reason: &str) -> Case {
    Case {
        suite: String::new(),
        name: name.to_owned(),
        status: Status::Failed,
        duration_ms: 0,
        message: Some(reason.trim().to_owned()),
    }
}

/// Reads `ok 1 - name # SKIP reason`.
fn case(line: &str) -> Option<Case> {
    let (is_ok, rest) = match line.strip_prefix("not ok") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok")?),
    };
    if !rest.is_empty() && !rest.starts_with([' ', '\t']) {
        return None;
    }
    let (name, directive) = rest.split_once(" # ").unwrap_or((rest, ""));
    let name = name.trim_start();
    let name = name.trim_start_matches(|c: char| c.is_ascii_digit());
    let name = name.trim_start().trim_start_matches("- ");
    let word = directive.split_whitespace().next().unwrap_or("");
    let has = |expected: &str| word.to_ascii_lowercase().starts_with(expected);
    let status = match is_ok {
        _ if has("skip") => Status::Skipped,
        // A failure that is expected, which is no failure.
        false if has("todo") => Status::Skipped,
        true => Status::Passed,
        false => Status::Failed,
    };
    let reason = directive.get(word.len()..).unwrap_or("").trim();
    Some(Case {
        suite: String::new(),
        name: name.trim().to_owned(),
        status,
        duration_ms: 0,
        message: (status == Status::Skipped && !reason.is_empty()).then(|| reason.to_owned()),
    })
}

/// Reads `1..4`.
fn plan(line: &str) -> Option<usize> {
    let count = line.trim_end().strip_prefix("1..")?;
    let count = count.split_whitespace().next()?;
    count.parse().ok()
}

fn add_line(case: &mut Case, line: &str) {
    let message = case.message.get_or_insert_default();
    if message.len() < super::MOST_MESSAGE {
        message.push_str(line.trim_start_matches("# ").trim_end());
        message.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_and_diagnostics_are_read() {
        let text = "TAP version 13\n1..5\nok 1 - one\nnot ok 2 - two\n  ---\n  message: no\n  ...\n\
                    ok 3 three # SKIP no database\nnot ok 4 # todo later\nokay\n    ok 1 - inner\nok 5\n";
        let cases = read(text).unwrap();
        let shown: Vec<_> = cases
            .iter()
            .map(|case| (&*case.name, case.status, case.message.as_deref()))
            .collect();
        assert_eq!(
            shown,
            [
                ("one", Status::Passed, None),
                ("two", Status::Failed, Some("---\n  message: no\n  ...")),
                ("three", Status::Skipped, Some("no database")),
                ("", Status::Skipped, Some("later")),
                ("", Status::Passed, None),
            ]
        );
    }

    #[test]
    fn missing_cases_of_the_plan_failed() {
        let cases = read("1..3\nok 1 - one\n").unwrap();
        let failed: Vec<_> = cases
            .iter()
            .filter(|case| case.status == Status::Failed)
            .map(|case| &*case.name)
            .collect();
        assert_eq!(failed, ["2", "3"]);
        let bailed = read("1..1\nBail out! no database\n").unwrap();
        assert_eq!(bailed[0].message.as_deref(), Some("no database"));
    }

    #[test]
    fn report_without_plan_is_cut() {
        assert_eq!(read("ok 1 - one\n"), Err(Error::Cut));
    }
}
