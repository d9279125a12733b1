//! The one place where durations, sizes, counts and foreign text become words for people.
//! It does not know what they are about.

use std::borrow::Cow;
use std::fmt::Write as _;

/// How many digits of an id people are shown.
const SHORT_ID: usize = 12;

/// Returns a duration in milliseconds as `850ms`, `4.1s`, `1m 02s` or `2h 05m`.
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

/// Returns a number of bytes as `812 B`, `45 KiB` or `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    let places = |bytes: u64| if bytes < 10 * 1024 * 1024 { 0 } else { 1 };
    let options = humansize::BINARY
        .decimal_places(places(bytes))
        .decimal_zeroes(0);
    humansize::format_size(bytes, options)
}

/// Returns a number and what is counted, such as `1 target` or `12,000 targets`.
pub fn count(n: usize, noun: &str) -> String {
    let ending = if n == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", number(n))
}

/// Returns a number with commas between the thousands.
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

/// Returns names as `a`, `a and b`, `a, b and c`, or with only `most` of them shown,
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

/// Returns the beginning of an id, long enough to tell it from others.
pub fn short(id: &str) -> &str {
    id.get(..SHORT_ID).unwrap_or(id)
}

/// Returns text that does nothing to a terminal and stays on its line: control characters
/// and marks that turn the writing direction are shown as `\x1b`. Unlike
/// [`crate::path::escape`] it leaves backslashes alone, so escaped paths pass unchanged.
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

/// Returns how many columns a text takes on a terminal. Characters of East Asian scripts
/// and pictures count as two; combining marks are not looked for, so it may be too many.
pub fn columns(text: &str) -> usize {
    let wide = |c: &char| matches!(*c, '\u{1100}'..='\u{115F}' | '\u{2E80}'..='\u{A4CF}' | '\u{AC00}'..='\u{D7A3}' | '\u{F900}'..='\u{FAFF}' | '\u{FE30}'..='\u{FE6F}' | '\u{FF00}'..='\u{FF60}' | '\u{1F300}'..='\u{1FAFF}' | '\u{20000}'..='\u{3FFFD}');
    text.chars().count() + text.chars().filter(wide).count()
}

/// Returns as much of a text as fits into `width` columns, `…` at its end when some is left out.
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
    fn durations_have_the_unit_that_fits_and_never_sixty_of_one() {
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
    fn sizes_are_binary() {
        let shown = [0, 812, 1024, 46_080, 47_185_920, 1_610_612_736].map(size);
        assert_eq!(
            shown,
            ["0 B", "812 B", "1 KiB", "45 KiB", "45 MiB", "1.5 GiB"]
        );
    }

    #[test]
    fn counts_have_their_plural_and_their_commas() {
        assert_eq!(count(0, "target"), "0 targets");
        assert_eq!(count(1, "target"), "1 target");
        assert_eq!(count(1_234_567, "target"), "1,234,567 targets");
        assert_eq!(number(100), "100");
        assert_eq!(number(1000), "1,000");
    }

    #[test]
    fn long_lists_are_cut_and_counted() {
        assert_eq!(list(&[], 3), "");
        assert_eq!(list(&["a"], 3), "a");
        assert_eq!(list(&["a", "b", "c"], 3), "a, b and c");
        assert_eq!(list(&["a", "b", "c", "d"], 3), "a, b, c and 1 other");
        assert_eq!(list(&["a", "b", "c"], 1), "a and 2 others");
    }

    #[test]
    fn foreign_text_neither_acts_nor_leaves_its_line() {
        assert_eq!(
            harmless("a\u{1b}[2J\n\u{202e}\\x"),
            r"a\x1b[2J\x0a\xe2\x80\xae\x"
        );
        assert!(matches!(harmless(r"ö\x0a"), Cow::Borrowed(_)));
    }

    #[test]
    fn text_is_cut_to_the_columns_it_takes() {
        assert_eq!(fit("abcdef", 6), "abcdef");
        assert_eq!(fit("abcdef", 5), "abcd…");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("abc", 0), "");
    }

    #[test]
    fn ids_are_shortened() {
        assert_eq!(short("0123456789abcdef"), "0123456789ab");
        assert_eq!(short("abc"), "abc");
    }
}
