//! Formats durations, sizes, counts, lists and foreign text for people.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The length of a shortened id.
const SHORT_ID: usize = 12;

/// Formats milliseconds as `850ms`, `4.1s`, `1m 02s` or `2h 05m`.
pub fn duration(ms: u64) -> String {
    let tenths = (ms + 50) / 100;
    let seconds = (ms + 500) / 1000;
    let minutes = (ms + 30_000) / 60_000;
    match ms {
        0..=999 => format!("{ms}ms"),
        _ if tenths < 600 => format!("{}.{}s", tenths / 10, tenths % 10),
        _ if seconds < 3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", minutes / 60, minutes % 60),
    }
}

/// Formats a number of bytes as `812 B`, `45 KiB` or `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    let places = |bytes: u64| if bytes < 10 * 1024 * 1024 { 0 } else { 1 };
    let options = humansize::BINARY
        .decimal_places(places(bytes))
        .decimal_zeroes(0);
    humansize::format_size(bytes, options)
}

/// Formats a number with its noun, as in `1 target` or `12,000 targets`.
pub fn count(n: usize, noun: &str) -> String {
    let ending = if n == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", number(n))
}

/// Formats a number with commas between the thousands.
pub fn number(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Formats names as `a`, `a and b` or `a, b and c`. After `most` names it counts the rest:
/// `a, b and 12 others`.
pub fn list(names: &[&str], most: usize) -> String {
    let shown = if names.len() > most {
        &names[..most]
    } else {
        names
    };
    let rest = names.len() - shown.len();
    let others = match rest {
        0 => None,
        1 => Some("1 other".to_owned()),
        n => Some(format!("{} others", number(n))),
    };
    let mut parts: Vec<Cow<'_, str>> = shown.iter().map(|name| harmless(name)).collect();
    parts.extend(others.map(Cow::Owned));
    match parts.split_last() {
        None => String::new(),
        Some((last, [])) => last.to_string(),
        Some((last, before)) => format!("{} and {last}", before.join(", ")),
    }
}

/// Returns the beginning of an id.
pub fn short(id: &str) -> &str {
    id.get(..SHORT_ID).unwrap_or(id)
}

/// Escapes control characters and marks that change the writing direction, as in `\x1b`, so
/// that text cannot act on a terminal or leave its line. Unlike [`crate::path::escape`] it
/// keeps backslashes, so escaped paths pass unchanged.
pub fn harmless(text: &str) -> Cow<'_, str> {
    let is_harmful = |c: char| c != '\\' && crate::path::is_escaped(c);
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if !is_harmful(c) {
            out.push(c)
        } else {
            c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\x{byte:02x}");
            })
        }
    }
    Cow::Owned(out)
}

/// Returns the width of a text on a terminal in columns. East Asian characters and pictures
/// count as two. Combining marks count as well, so the result may be too large.
pub fn columns(text: &str) -> usize {
    let wide = |c: &char| matches!(*c, '\u{1100}'..='\u{115F}' | '\u{2E80}'..='\u{A4CF}' | '\u{AC00}'..='\u{D7A3}' | '\u{F900}'..='\u{FAFF}' | '\u{FE30}'..='\u{FE6F}' | '\u{FF00}'..='\u{FF60}' | '\u{1F300}'..='\u{1FAFF}' | '\u{20000}'..='\u{3FFFD}');
    text.chars().count() + text.chars().filter(wide).count()
}

/// Cuts a text to `width` columns, and ends it with `…` if anything is cut.
pub fn fit(text: &str, width: usize) -> Cow<'_, str> {
    if columns(text) <= width {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += columns(c.encode_utf8(&mut [0; 4]));
        if used > width {
            break;
        }
        out.push(c);
    }
    if width > 0 {
        out.push('…');
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_uses_the_largest_fitting_unit() {
        let shown = [
            0, 4, 999, 1000, 4149, 59_949, 59_950, 62_000, 3_599_499, 3_599_500, 7_500_000,
        ]
        .map(duration);
        assert_eq!(
            shown,
            [
                "0ms", "4ms", "999ms", "1.0s", "4.1s", "59.9s", "1m 00s", "1m 02s", "59m 59s",
                "1h 00m", "2h 05m"
            ]
        );
    }

    #[test]
    fn size_uses_binary_units() {
        let shown = [0, 812, 1024, 46_080, 47_185_920, 1_610_612_736].map(size);
        assert_eq!(
            shown,
            ["0 B", "812 B", "1 KiB", "45 KiB", "45 MiB", "1.5 GiB"]
        );
    }

    #[test]
    fn count_adds_plural_and_commas() {
        assert_eq!(count(0, "target"), "0 targets");
        assert_eq!(count(1, "target"), "1 target");
        assert_eq!(count(1_234_567, "target"), "1,234,567 targets");
        assert_eq!(number(100), "100");
        assert_eq!(number(1000), "1,000");
    }

    #[test]
    fn list_counts_the_names_it_cuts() {
        assert_eq!(list(&[], 3), "");
        assert_eq!(list(&["a"], 3), "a");
        assert_eq!(list(&["a", "b", "c"], 3), "a, b and c");
        assert_eq!(list(&["a", "b", "c", "d"], 3), "a, b, c and 1 other");
        assert_eq!(list(&["a", "b", "c"], 1), "a and 2 others");
    }

    #[test]
    fn harmless_escapes_control_characters() {
        assert_eq!(
            harmless("a\u{1b}[2J\n\u{202e}\\x"),
            r"a\x1b[2J\x0a\xe2\x80\xae\x"
        );
        assert!(matches!(harmless(r"ö\x0a"), Cow::Borrowed(_)));
    }

    #[test]
    fn fit_cuts_to_columns() {
        assert_eq!(fit("abcdef", 6), "abcdef");
        assert_eq!(fit("abcdef", 5), "abcd…");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("abc", 0), "");
    }

    #[test]
    fn short_cuts_ids() {
        assert_eq!(short("0123456789abcdef"), "0123456789ab");
        assert_eq!(short("abc"), "abc");
    }
}
