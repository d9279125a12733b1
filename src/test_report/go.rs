//! Reads the lines of `go test -json` (test2json).

use std::collections::HashMap;

use serde::Deserialize;

use super::{Case, Error, Status, shortened};

/// A line.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    #[serde(default)]
    action: String,
    #[serde(default)]
    package: String,
    #[serde(default)]
    import_path: String,
    #[serde(default)]
    test: String,
    #[serde(default)]
    elapsed: f64,
    #[serde(default)]
    output: String,
}

/// Reads the cases: tests and subtests, and packages that fail without a failed test. Lines
/// that are no JSON come from programs that print past the runner, and are ignored.
pub(super) fn read(text: &str) -> Result<Vec<Case>, Error> {
    let mut cases: Vec<Case> = Vec::new();
    let mut outputs: HashMap<(String, String), String> = HashMap::new();
    let mut has_lines = false;
    for line in text.lines() {
        let Ok(line) = serde_json::from_str::<Line>(line) else {
            continue;
        };
        has_lines |= !line.action.is_empty();
        let package = if line.package.is_empty() {
            line.import_path
        } else {
            line.package
        };
        let key = (package, line.test);
        let status = match &*line.action {
            "output" | "build-output" => {
                outputs.entry(key).or_default().push_str(&line.output);
                continue;
            }
            "pass" => Status::Passed,
            "fail" | "build-fail" => Status::Failed,
            "skip" => Status::Skipped,
            _ => continue,
        };
        let output = outputs.remove(&key);
        let (suite, name) = key;
        // A package fails with its tests, and is no case of its own then.
        let is_package = name.is_empty();
        let has_failed = |case: &Case| case.suite == suite && case.status == Status::Failed;
        if is_package && (status != Status::Failed || cases.iter().any(has_failed)) {
            continue;
        }
        let message = output.filter(|_| status != Status::Passed);
        cases.push(Case {
            name: if is_package { suite.clone() } else { name },
            suite,
            status,
            duration_ms: std::time::Duration::try_from_secs_f64(line.elapsed)
                .map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(0)),
            message: message.map(|text| shortened(&text)),
        });
    }
    if has_lines {
        Ok(cases)
    } else {
        Err(Error::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<(String, Status, Option<String>)> {
        let cases = read(text).unwrap().into_iter();
        cases
            .map(|case| {
                (
                    format!("{} {}", case.suite, case.name),
                    case.status,
                    case.message,
                )
            })
            .collect()
    }

    #[test]
    fn tests_and_subtests_are_cases() {
        let text = r#"{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
printed past the runner
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":0.25}
{"Action":"output","Package":"p","Test":"TestB/x","Output":"a_test.go:3: wrong\n"}
{"Action":"fail","Package":"p","Test":"TestB/x","Elapsed":0}
{"Action":"skip","Package":"p","Test":"TestC","Elapsed":0}
{"Action":"fail","Package":"p","Elapsed":0.5}
"#;
        assert_eq!(
            shown(text),
            [
                ("p TestA".to_owned(), Status::Passed, None),
                (
                    "p TestB/x".to_owned(),
                    Status::Failed,
                    Some("a_test.go:3: wrong".to_owned())
                ),
                ("p TestC".to_owned(), Status::Skipped, None),
            ]
        );
        assert_eq!(read(text).unwrap()[0].duration_ms, 250);
    }

    #[test]
    fn package_that_does_not_build_is_a_failed_case() {
        let text = r#"{"ImportPath":"p","Action":"build-output","Output":"x.go:1: no\n"}
{"ImportPath":"p","Action":"build-fail"}
{"Action":"fail","Package":"p","Elapsed":0,"FailedBuild":"p"}
"#;
        assert_eq!(
            shown(text),
            [(
                "p p".to_owned(),
                Status::Failed,
                Some("x.go:1: no".to_owned())
            )]
        );
    }

    #[test]
    fn other_json_is_no_report() {
        assert_eq!(read("{\"name\": 1}\n"), Err(Error::Unknown));
    }
}
