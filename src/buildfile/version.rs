//! Finds versions in the output of tools, and compares them with requirements such as
//! `>=1.21, <2`. It runs no tool.

use super::model::{Comparison, Requirement, Version};

/// The most digits of one part of a version.
const MOST_DIGITS: usize = 18;

/// The error of reading a requirement, and its help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The message.
    pub message: String,
    /// The text to write instead.
    pub help: &'static str,
}

const EXAMPLES: &str = "write comparisons and numbers, such as `>=1.21`, `>=1.21, <2` or `1.26`";

impl Version {
    /// Finds the version in the output of a tool: the first number with a dot in it
    /// (`go version go1.26.8`, `v20.20.2`), else the first number. A number in parentheses is
    /// the version of something else, such as the compiler that built the tool, unless it
    /// completes the first number (`perl 5, version 36, subversion 0 (v5.36.0)`).
    pub fn find(text: &str) -> Option<Self> {
        let outside = first_number(&without_parentheses(text))?;
        if outside.0.len() > 1 {
            return Some(outside);
        }
        let inside = text.split('(').skip(1).filter_map(|rest| {
            let (inside, _) = rest.split_once(')')?;
            inside.strip_prefix('v').unwrap_or(inside).parse().ok()
        });
        let mut complete = inside.filter(|version: &Self| version.0.first() == outside.0.first());
        Some(complete.next().unwrap_or(outside))
    }

    /// Returns its part at `index`, or zero.
    fn part(&self, index: usize) -> u64 {
        self.0.get(index).copied().unwrap_or(0)
    }
}

/// Returns the first number with a dot in it, else the first number.
fn first_number(text: &str) -> Option<Version> {
    let bytes = text.as_bytes();
    let mut first = None;
    let mut at = 0;
    while let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit) {
        let start = at + start;
        let end = start + dotted_len(&bytes[start..]);
        let version = text[start..end].parse().ok();
        match version {
            Some(Version(parts)) if parts.len() > 1 => return Some(Version(parts)),
            found => first = first.or(found),
        }
        at = end;
    }
    first
}

/// Replaces everything in parentheses with spaces. One that is not closed ends with its line.
fn without_parentheses(text: &str) -> String {
    let mut depth = 0_usize;
    let kept = text.chars().map(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '\n' => depth = 0,
            _ if depth == 0 => return c,
            _ => {}
        }
        ' '
    });
    kept.collect()
}

/// Returns the number of leading bytes that are digits, or dots between digits.
fn dotted_len(bytes: &[u8]) -> usize {
    let mut end = 0;
    while let Some(byte) = bytes.get(end) {
        let is_inner_dot = *byte == b'.' && bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
        if !byte.is_ascii_digit() && !is_inner_dot {
            break;
        }
        end += 1;
    }
    end
}

/// Reads numbers with dots between them.
impl std::str::FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let part = |part: &str| -> Option<u64> {
            let is_number = part.len() <= MOST_DIGITS && part.bytes().all(|b| b.is_ascii_digit());
            part.parse().ok().filter(|_| is_number)
        };
        let parts: Option<Vec<u64>> = text.split('.').map(part).collect();
        parts.map(Self).ok_or_else(|| Error {
            message: format!("`{text}` is not a version: numbers with dots between them"),
            help: EXAMPLES,
        })
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> = self.0.iter().map(u64::to_string).collect();
        f.write_str(&parts.join("."))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        let longest = self.0.len().max(other.0.len());
        let parts = |version: &Self| (0..longest).map(|i| version.part(i)).collect::<Vec<_>>();
        Some(parts(self).cmp(&parts(other)))
    }
}

impl Requirement {
    /// Returns true if `version` satisfies every bound.
    pub fn accepts(&self, version: &Version) -> bool {
        self.bounds
            .iter()
            .all(|(comparison, bound)| match comparison {
                Comparison::AtLeast => version >= bound,
                Comparison::Above => version > bound,
                Comparison::AtMost => version <= bound,
                Comparison::Below => version < bound,
                Comparison::Exactly => (0..bound.0.len()).all(|i| version.part(i) == bound.part(i)),
            })
    }
}

/// Reads comparisons with commas between them.
impl std::str::FromStr for Requirement {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bounds: Result<_, _> = text.split(',').map(parse_bound).collect();
        Ok(Self {
            text: text.to_owned(),
            bounds: bounds?,
        })
    }
}

fn parse_bound(text: &str) -> Result<(Comparison, Version), Error> {
    const SIGNS: [(&str, Comparison); 6] = [
        (">=", Comparison::AtLeast),
        ("<=", Comparison::AtMost),
        ("==", Comparison::Exactly),
        (">", Comparison::Above),
        ("<", Comparison::Below),
        ("=", Comparison::Exactly),
    ];
    let text = text.trim();
    let signed = SIGNS
        .iter()
        .find_map(|(sign, comparison)| Some((*comparison, text.strip_prefix(sign)?)));
    let (comparison, number) = signed.unwrap_or((Comparison::Exactly, text));
    match number.trim() {
        "" if text.is_empty() => Err(Error {
            message: "a comparison is missing".to_owned(),
            help: EXAMPLES,
        }),
        "" => Err(Error {
            message: format!("no version follows `{text}`"),
            help: EXAMPLES,
        }),
        number if number.starts_with(['^', '~']) => Err(Error {
            message: format!("`{text}` is not a comparison that fbuild knows"),
            help: "say the range with `>=` and `<`, such as `>=1.21, <2`",
        }),
        number => Ok((comparison, number.parse()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_parentheses_are_ignored() {
        let find = |text| Version::find(text).map(|version| version.to_string());
        let found = |text| find(text).unwrap_or_default();
        assert_eq!(found("foo 1.2 (bar 3.4)"), "1.2");
        assert_eq!(found("foo (bar 3.4 (baz 5.6)) 1.2"), "1.2");
        assert_eq!(found("foo 1 (bar 3.4)"), "1");
        assert_eq!(found("foo (bar 3.4\nfoo 1.2"), "1.2");
        assert_eq!(found("foo 1 (3.4)"), "1");
        assert_eq!(found("foo (3.4)"), "");
    }

    #[test]
    fn find_prefers_the_first_dotted_number() {
        for (text, expected) in [
            ("go version go1.26.8 linux/amd64", "1.26.8"),
            ("v20.20.2\n", "20.20.2"),
            ("openjdk version \"17.0.15\" 2025-04-15", "17.0.15"),
            ("openjdk version \"17\" 2021-09-14", "17"),
            ("Python 3.11.7", "3.11.7"),
            ("gcc (Debian 12.2.0-14) 12.2.0", "12.2.0"),
            (
                "This is perl 5, version 36, subversion 0 (v5.36.0)",
                "5.36.0",
            ),
            ("go1.27rc1.", "1.27"),
        ] {
            let found = Version::find(text).map(|v| v.to_string());
            assert_eq!(found.as_deref(), Some(expected), "{text}");
        }
        assert_eq!(Version::find("no number"), None);
        assert_eq!(Version::find(&"9".repeat(100_000)), None);
    }

    #[test]
    fn requirement_accepts_versions_within_all_bounds() {
        let accepts = |requirement: &str, version: &str| {
            let requirement: Requirement = requirement.parse().unwrap();
            requirement.accepts(&version.parse().unwrap())
        };
        assert!(accepts(">=1.21", "1.26.8") && accepts(">=1.21", "1.21"));
        assert!(!accepts(">=1.21", "1.9") && !accepts(">=11", "1.8.0"));
        assert!(accepts(">=1.21, <2", "1.99") && !accepts(">=1.21, <2", "2.0"));
        assert!(accepts("1.26", "1.26.8") && !accepts("1.26", "1.2.6"));
        assert!(accepts("=1.2.3", "1.2.3") && !accepts("=1.2.3", "1.2.4"));
        assert!(accepts("<=2", "2.0.0") && !accepts("<=2", "2.0.1"));
        assert!(accepts("> 2", "2.0.1") && !accepts(">2", "2.0"));
    }

    #[test]
    fn bad_requirements_are_refused_with_help() {
        let error = |text: &str| text.parse::<Requirement>().unwrap_err();
        assert_eq!(error("").message, "a comparison is missing");
        assert_eq!(error(">=").message, "no version follows `>=`");
        assert!(error("^1.2").help.contains(">=1.21, <2"));
        for text in ["latest", "1.x", ">=1.2.*", "1..2", ">=1,", "1 2", "1.2-rc1"] {
            error(text);
        }
        error(&"9".repeat(20));
    }
}
