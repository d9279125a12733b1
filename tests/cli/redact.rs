//! Replaces values that vary between runs by words in brackets, so that the rest can be compared
//! byte by byte.

use std::path::Path;

use super::processes;

/// Replaces the project's folder, durations, percentages, process numbers and shortened digests.
pub(crate) fn redact(text: &str, root: &Path) -> String {
    let base = root.parent().unwrap().to_str().unwrap();
    let text = text.replace(root.to_str().unwrap(), "[root]");
    let text = text.replace(&format!("{base}/bin:{}", super::project::PATH), "[path]");
    let text = text.replace(base, "[base]");
    let text = match text.contains("/examples/fbt") {
        true => text.replace(processes::fbt().to_str().unwrap(), "[fbt]"),
        false => text,
    };
    let text = text.replace(std::env::consts::ARCH, "[arch]");
    let text = without_percentages(&text);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        let is_start = !before.is_ascii_alphanumeric() && before != '.';
        let found = is_start.then(|| known(rest)).flatten();
        let taken = match found {
            Some((word, length)) => {
                out.push_str(word);
                length
            }
            None => {
                out.push(c);
                c.len_utf8()
            }
        };
        before = rest[..taken].chars().next_back().unwrap_or(' ');
        rest = &rest[taken..];
    }
    out
}

/// Returns the replacement and the length of a varying value at the start of `text`.
fn known(text: &str) -> Option<(&'static str, usize)> {
    duration(text)
        .map(|length| ("[time]", length))
        .or_else(|| process(text))
        .or_else(|| digest(text))
}

/// Returns the length of a duration such as `12ms`, `1.2s` or `1m 02s`.
fn duration(text: &str) -> Option<usize> {
    let whole = digits(text)?;
    let rest = &text[whole..];
    let length = if rest.starts_with("ms") {
        whole + 2
    } else if let Some(minutes) = rest.strip_prefix("m ") {
        let seconds = digits(minutes)?;
        minutes[seconds..]
            .starts_with('s')
            .then_some(whole + 2 + seconds + 1)?
    } else {
        let part = rest.strip_prefix('.')?;
        let tenths = digits(part)?;
        part[tenths..]
            .starts_with('s')
            .then_some(whole + 1 + tenths + 1)?
    };
    ends_there(text, length)
}

/// Removes the percentages of the best possible, which short and slow runs do not print.
fn without_percentages(text: &str) -> String {
    let mut parts = text.split("% of the best possible with ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.truncate(out.rfind(", ").unwrap_or(out.len()));
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        let rest = rest.strip_prefix(" jobs").or(rest.strip_prefix(" job"));
        out.push_str(rest.unwrap_or(part));
    }
    out
}

/// Returns the replacement and the length of a process number.
fn process(text: &str) -> Option<(&'static str, usize)> {
    let number = text.strip_prefix("process ")?;
    Some(("process [pid]", "process ".len() + digits(number)?))
}

/// Returns the length of a digest, shortened or whole. A word without digits is none.
fn digest(text: &str) -> Option<(&'static str, usize)> {
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let length = text.find(|c| !is_hex(c)).unwrap_or(text.len());
    let has_digit = text[..length].contains(|c: char| c.is_ascii_digit());
    let is_it = matches!(length, 12 | 64) && has_digit;
    ends_there(text, length)
        .filter(|_| is_it)
        .map(|length| ("[id]", length))
}

fn digits(text: &str) -> Option<usize> {
    let length = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    (length > 0).then_some(length)
}

fn ends_there(text: &str, length: usize) -> Option<usize> {
    let next = text[length..].chars().next();
    (!next.is_some_and(|c| c.is_ascii_alphanumeric())).then_some(length)
}

#[test]
fn redact_replaces_only_varying_values() {
    let root = Path::new("/tmp/x/tree");
    let text = "in /tmp/x/tree/a: 12ms, 1.2s, 1m 02s; key 0123456789ab of 3.9 MiB, 5s old; \
                9s of work, 99% of the best possible with 2 jobs; 12msx v1.2s deadbeefcafe (process 12)";
    assert_eq!(
        redact(text, root),
        "in [root]/a: [time], [time], [time]; key [id] of 3.9 MiB, 5s old; \
         9s of work; 12msx v1.2s deadbeefcafe (process [pid])"
    );
}
