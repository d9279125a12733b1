//! Reads JUnit XML, as pytest, Maven, vitest, Jest, nextest and others write it.

use std::borrow::Cow;

use xmlparser::{ElementEnd, Token, Tokenizer};

use super::{Case, Error, Status, milliseconds, shortened};

/// Reads the cases of a document.
pub(super) fn read(text: &str) -> Result<Vec<Case>, Error> {
    let mut reader = Reader::default();
    for token in Tokenizer::from(text) {
        reader.token(token.map_err(|error| Error::Xml(error.to_string()))?)?;
    }
    if reader.open.is_empty() && reader.has_root {
        Ok(reader.cases)
    } else {
        Err(Error::Cut)
    }
}

#[derive(Default)]
struct Reader {
    cases: Vec<Case>,
    /// The names of the elements that are open.
    open: Vec<String>,
    has_root: bool,
    /// The element whose attributes are being read.
    element: Element,
    /// The names of the open suites, for cases without a class.
    suites: Vec<String>,
    /// The message of the open result, and the text in it.
    text: Option<String>,
}

/// The attributes of an element that matter.
#[derive(Default)]
struct Element {
    name: String,
    case: String,
    class: String,
    time: String,
    message: String,
    /// The verdict of runners that write it as an attribute.
    status: String,
}

impl Reader {
    fn token(&mut self, token: Token<'_>) -> Result<(), Error> {
        match token {
            Token::ElementStart { local, .. } => {
                self.element = Element {
                    name: local.as_str().to_owned(),
                    ..Element::default()
                };
            }
            Token::Attribute { local, value, .. } => {
                let value = unescaped(value.as_str()).into_owned();
                match local.as_str() {
                    "name" => self.element.case = value,
                    "classname" | "class" => self.element.class = value,
                    "time" => self.element.time = value,
                    "message" => self.element.message = value,
                    "status" | "result" => self.element.status = value,
                    _ => {}
                }
            }
            Token::ElementEnd { end, .. } => match end {
                ElementEnd::Open => self.begin()?,
                ElementEnd::Empty => {
                    self.begin()?;
                    self.end(None)?;
                }
                ElementEnd::Close(_, local) => self.end(Some(local.as_str()))?,
            },
            Token::Text { text } => self.add_text(&unescaped(text.as_str())),
            Token::Cdata { text, .. } => self.add_text(text.as_str()),
            _ => {}
        }
        Ok(())
    }

    /// Begins the element whose attributes were read.
    fn begin(&mut self) -> Result<(), Error> {
        let element = std::mem::take(&mut self.element);
        if self.open.is_empty() && !matches!(&*element.name, "testsuites" | "testsuite") {
            return Err(Error::NotJunit(element.name));
        }
        self.has_root = true;
        let is_in_case = self.open.last().is_some_and(|name| name == "testcase");
        match &*element.name {
            "testsuite" => self.suites.push(element.case),
            "testcase" => self.add_case(element.case(self.suites.last())),
            "failure" | "error" if is_in_case => self.verdict(Status::Failed, element.message),
            "skipped" if is_in_case => self.verdict(Status::Skipped, element.message),
            _ => {}
        }
        self.open.push(element.name);
        Ok(())
    }

    fn add_case(&mut self, case: Case) {
        self.cases.push(case);
    }

    /// Sets the result of the open case; its message follows as text, too.
    fn verdict(&mut self, status: Status, message: String) {
        if let Some(case) = self.cases.last_mut() {
            case.status = status;
        }
        self.text = Some(message);
    }

    fn add_text(&mut self, text: &str) {
        if let Some(message) = &mut self.text
            && !text.trim().is_empty()
        {
            if !message.is_empty() {
                message.push('\n');
            }
            message.push_str(text.trim_end());
        }
    }

    /// Ends the open element, which must have this name.
    fn end(&mut self, name: Option<&str>) -> Result<(), Error> {
        let Some(open) = self.open.pop() else {
            return Err(Error::Xml("an element ends that was not begun".to_owned()));
        };
        if name.is_some_and(|name| name != open) {
            return Err(Error::Xml(format!("`{open}` is not closed")));
        }
        match &*open {
            "testsuite" => {
                self.suites.pop();
            }
            "failure" | "error" | "skipped" => {
                let message = self.text.take().filter(|text| !text.trim().is_empty());
                if let (Some(message), Some(case)) = (message, self.cases.last_mut()) {
                    case.message.get_or_insert(shortened(&message));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Element {
    /// Returns the case that a `testcase` begins.
    fn case(&self, suite: Option<&String>) -> Case {
        let class = if self.class.is_empty() {
            suite.cloned().unwrap_or_default()
        } else {
            self.class.clone()
        };
        // Ant writes `status`, GoogleTest `status="notrun"`: nothing else is a verdict.
        let status = match &*self.status {
            "notrun" | "skipped" | "disabled" => Status::Skipped,
            _ => Status::Passed,
        };
        Case {
            suite: class,
            name: self.case.clone(),
            status,
            duration_ms: milliseconds(&self.time),
            message: None,
        }
    }
}

/// Replaces the references that XML defines; others stay.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.find(';').unwrap_or(0);
        match character(rest.get(1..end).unwrap_or("")) {
            Some(character) => {
                out.push(character);
                rest = &rest[end + 1..];
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Returns the character that a reference, without its `&` and `;`, stands for.
fn character(reference: &str) -> Option<char> {
    Some(match reference {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "quot" => '"',
        "apos" => '\'',
        other => {
            let number = other.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report of pytest, shortened.
    const PYTEST: &str = r#"<?xml version="1.0" encoding="utf-8"?>
        <testsuites name="pytest tests"><testsuite name="pytest" errors="0" failures="1" skipped="1" tests="3" time="0.1">
        <testcase classname="test_a" name="test_one" time="0.012" />
        <testcase classname="test_a" name="test_two[a&lt;b]" time="1.5"><failure message="assert 1 == 2&#10;more">def test_two():
    assert 1 == 2</failure><system-out>noise</system-out></testcase>
        <testcase classname="test_a" name="test_three" time="0"><skipped type="pytest.skip" message="no &quot;db&quot;">x.py:3</skipped></testcase>
        </testsuite></testsuites>"#;

    #[test]
    fn cases_have_class_name_time_and_message() {
        let cases = read(PYTEST).unwrap();
        let case = |name: &str, status, duration_ms, message: Option<&str>| Case {
            suite: "test_a".to_owned(),
            name: name.to_owned(),
            status,
            duration_ms,
            message: message.map(str::to_owned),
        };
        let failure = "assert 1 == 2\nmore\ndef test_two():\n    assert 1 == 2";
        assert_eq!(
            cases,
            [
                case("test_one", Status::Passed, 12, None),
                case("test_two[a<b]", Status::Failed, 1500, Some(failure)),
                case("test_three", Status::Skipped, 0, Some("no \"db\"\nx.py:3")),
            ]
        );
    }

    #[test]
    fn case_without_class_is_in_its_suite() {
        let text = "<testsuites><testsuite name='outer'><testsuite name='inner'>\
                    <testcase name='a'><error/></testcase></testsuite>\
                    <testcase name='b' status='notrun'/></testsuite></testsuites>";
        let cases = read(text).unwrap();
        let shown: Vec<_> = cases
            .iter()
            .map(|case| (&*case.suite, &*case.name, case.status))
            .collect();
        assert_eq!(
            shown,
            [
                ("inner", "a", Status::Failed),
                ("outer", "b", Status::Skipped)
            ]
        );
    }

    #[test]
    fn text_of_a_case_is_no_message() {
        let text = "<testsuite><testcase name='a'>words<system-err>x</system-err></testcase><failure>stray</failure></testsuite>";
        assert_eq!(read(text).unwrap()[0].message, None);
        assert_eq!(read(text).unwrap()[0].status, Status::Passed);
    }

    #[test]
    fn broken_documents_are_errors() {
        assert_eq!(read("<testsuite><testcase name='a'>"), Err(Error::Cut));
        assert_eq!(read("<html></html>"), Err(Error::NotJunit("html".into())));
        assert!(matches!(
            read("<testsuite><a></b></testsuite>"),
            Err(Error::Xml(_))
        ));
        assert!(matches!(read("<testsuite <"), Err(Error::Xml(_))));
    }

    #[test]
    fn unknown_references_stay() {
        assert_eq!(
            unescaped("&a; &#x41; &#66; & &#xD800; &lt"),
            "&a; A B & &#xD800; &lt"
        );
    }
}
