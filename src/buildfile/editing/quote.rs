//! Spells texts as KDL values. It does not decide where they are put.

use std::fmt::Write as _;

use crate::buildfile::syntax::lex;

/// Returns a text as a KDL value, with quotes only if it needs them.
pub fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.+:@".contains(c);
    let is_word = !text.is_empty()
        && text.chars().all(is_plain)
        && !lex::is_number_like(text)
        && !matches!(text, "true" | "false" | "null" | "inf" | "-inf" | "nan");
    if is_word {
        text.to_owned()
    } else {
        in_quotes(text)
    }
}

/// Returns a text as a KDL string on one line.
pub fn in_quotes(text: &str) -> String {
    let is_special = |c: char| lex::is_forbidden(c) || c.is_control() || lex::is_newline(c);
    let has_escapes = text.contains(['"', '\\']);
    if has_escapes && !text.contains(is_special) && !text.starts_with('"') {
        let mut hashes = "#".to_owned();
        while text.contains(&format!("\"{hashes}")) {
            hashes.push('#');
        }
        return format!("{hashes}\"{text}\"{hashes}");
    }
    let mut out = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_special(c) => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{{{:x}}}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Returns a script as a KDL string, of several lines if the script has several.
pub(super) fn script_text(script: &str) -> String {
    let script = script.trim_end_matches('\n');
    let is_odd = |line: &str| !line.is_empty() && line.trim().is_empty();
    let is_special = |c: char| {
        !matches!(c, '\n' | '\t') && (lex::is_forbidden(c) || c.is_control() || lex::is_newline(c))
    };
    if !script.contains('\n') || script.contains(is_special) || script.lines().any(is_odd) {
        return in_quotes(script);
    }
    let mut hashes = String::new();
    if script.contains(['\\', '"']) {
        hashes.push('#');
        while script.contains(&format!("\"\"\"{hashes}")) {
            hashes.push('#');
        }
    }
    let mut out = format!("{hashes}\"\"\"\n");
    for line in script.lines() {
        let indent = if line.is_empty() { "" } else { "        " };
        out.push_str(&format!("{indent}{line}\n"));
    }
    out + "        \"\"\"" + &hashes
}
