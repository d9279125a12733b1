//! Writes cases as one JUnit file, which GitLab, Jenkins, GitHub's actions and IDEs show.

use super::{Case, Counts, Status};

/// The cases of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suite {
    /// The name of the test.
    pub name: String,
    /// The time it took.
    pub duration_ms: u64,
    /// Its cases.
    pub cases: Vec<Case>,
}

/// Returns the suites as a JUnit file. An element has the same attributes in every file, in the
/// same order.
pub fn junit(suites: &[Suite]) -> String {
    let mut all = Counts::default();
    for suite in suites {
        all.add(Counts::of(&suite.cases));
    }
    let time = suites.iter().map(|suite| suite.duration_ms).sum();
    let mut out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
    out += &format!("<testsuites name=\"fbuild\"{}>\n", totals(all, time));
    for suite in suites {
        let counts = totals(Counts::of(&suite.cases), suite.duration_ms);
        let name = escaped(&suite.name);
        out += &format!("  <testsuite name=\"{name}\"{counts}>\n");
        for case in &suite.cases {
            add_case(&mut out, case, &suite.name);
        }
        out += "  </testsuite>\n";
    }
    out + "</testsuites>\n"
}

fn totals(counts: Counts, time: u64) -> String {
    format!(
        " tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\" time=\"{}\"",
        counts.all(),
        counts.failed,
        counts.skipped,
        seconds(time)
    )
}

fn add_case(out: &mut String, case: &Case, suite: &str) {
    let class = if case.suite.is_empty() {
        suite
    } else {
        &case.suite
    };
    *out += &format!(
        "    <testcase classname=\"{}\" name=\"{}\" time=\"{}\"",
        escaped(class),
        escaped(&case.name),
        seconds(case.duration_ms)
    );
    let message = case.message.as_deref().unwrap_or("");
    let first = escaped(message.lines().next().unwrap_or(""));
    *out += &match case.status {
        Status::Passed => "/>\n".to_owned(),
        Status::Failed => format!(
            ">\n      <failure message=\"{first}\" type=\"failure\">{}</failure>\n    </testcase>\n",
            escaped(message)
        ),
        Status::Skipped => {
            format!(">\n      <skipped message=\"{first}\"/>\n    </testcase>\n")
        }
    };
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// Escapes text for attributes and content. Characters that XML cannot contain become `\u{FFFD}`.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '&' => out += "&amp;",
            '"' => out += "&quot;",
            '\n' => out += "&#10;",
            '\t' => out += "&#9;",
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(suite: &str, name: &str, status: Status, message: Option<&str>) -> Case {
        Case {
            suite: suite.to_owned(),
            name: name.to_owned(),
            status,
            duration_ms: 1005,
            message: message.map(str::to_owned),
        }
    }

    #[test]
    fn written_file_reads_back() {
        let cases = vec![
            case("a.b", "x<1> & \"y\"", Status::Passed, None),
            case("a.b", "two", Status::Failed, Some("line 1\n\tline 2")),
            case("a.b", "three", Status::Skipped, Some("no db")),
        ];
        let suite = |cases: &[Case]| Suite {
            name: "api".to_owned(),
            duration_ms: 61_005,
            cases: cases.to_vec(),
        };
        let text = junit(&[suite(&cases), suite(&[])]);
        let mut back = super::super::read(text.as_bytes()).unwrap();
        // The first line of a message is an attribute, too.
        for case in &mut back {
            let message = case.message.take();
            case.message = message.map(|text| {
                text.split_once('\n')
                    .map_or(text.clone(), |(_, rest)| rest.to_owned())
            });
        }
        assert_eq!(back, cases);
        assert!(text.contains("<testsuite name=\"api\" tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\" time=\"61.005\">"), "{text}");
    }

    #[test]
    fn characters_that_xml_lacks_are_replaced() {
        assert_eq!(
            escaped("a\u{1b}[1m\u{ffff}\0"),
            "a\u{fffd}[1m\u{fffd}\u{fffd}"
        );
    }
}
