//! Finds patterns and commands that mean something else than they seem to: `!pattern`, a
//! folder `[id]`, `run cd`. It looks at the text alone, and knows no files.

use crate::buildfile::codes;
use crate::buildfile::sink::shown;
use crate::glob;
use crate::source::{Diagnostic, Span};

/// Commands that act on the shell they are given to, and so do nothing in `run`.
const OF_THE_SHELL: [&str; 9] = [
    ".", "alias", "cd", "export", "popd", "pushd", "set", "source", "unset",
];

/// Returns a warning about a pattern that looks like an exception, or like the path of a file
/// with brackets in its name.
pub(crate) fn pattern(text: &str, span: Span) -> Option<Diagnostic> {
    if let Some(name) = text.strip_prefix('!') {
        let message = format!("`{}` names a file, and excludes nothing", shown(text));
        return Some(
            Diagnostic::warning(codes::LOOKALIKE, message)
                .label(span, "a `!` has no meaning here")
                .help(format!(
                    "write exceptions in the block: {{ except \"{}\" }}; for a file of that name, \"./{}\"",
                    shown(name),
                    shown(text)
                )),
        );
    }
    let class = text.split('/').find_map(route)?;
    let message = format!("`{}` matches one of the characters in it", shown(class));
    Some(
        Diagnostic::warning(codes::LOOKALIKE, message)
            .label(span, "brackets are a class in patterns")
            .help(format!(
                "for a file or folder of that name, write {}; for the class, {}",
                raw(text),
                alternatives(class)
            )),
    )
}

/// Returns the pattern that matches only the path `text`, as it is written in a Buildfile.
fn raw(text: &str) -> String {
    format!("#\"{}\"#", shown(&glob::escaped(text)))
}

/// Returns the alternatives that match what a class does.
fn alternatives(class: &str) -> String {
    let mut chars: Vec<String> = Vec::new();
    for c in class.chars().filter(|c| !matches!(c, '[' | ']')) {
        let c = c.to_string();
        if !chars.contains(&c) {
            chars.push(c);
        }
    }
    format!("`{{{}}}`", chars.join(","))
}

/// Returns the class at the start of a component that looks like the parameter of a route:
/// `[id]`, `[id].tsx`, `[...slug]`, `[[...slug]]`.
fn route(component: &str) -> Option<&str> {
    let end = component.rfind(']')? + 1;
    let (class, rest) = component.split_at(end);
    let inner = class.strip_prefix('[')?.strip_suffix(']')?;
    let inner = inner
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'))
        .unwrap_or(inner);
    let name = inner.strip_prefix("...").unwrap_or(inner);
    let is_name = name.chars().all(|c| c.is_alphanumeric() || c == '_')
        && name.chars().any(char::is_alphabetic);
    // Classes are meant for `[Mm]akefile` and `[a-z]`.
    let mut letters = name.chars().map(|c| c.to_ascii_lowercase());
    let first = letters.next();
    let is_one_letter = letters.all(|letter| Some(letter) == first);
    let is_whole = rest.is_empty() || rest.starts_with('.');
    (is_name && !is_one_letter && is_whole).then_some(class)
}

/// Returns an error about a program that only a shell can run with an effect.
pub(crate) fn program(name: &str, span: Span) -> Option<Diagnostic> {
    if !OF_THE_SHELL.contains(&name) {
        return None;
    }
    let message = format!("`{name}` has no effect on the commands after it");
    let help = match name {
        "cd" | "pushd" | "popd" => {
            "set the folder of all commands with `dir \"…\"`, or write them in one script: sh \"cd … && …\""
        }
        "export" | "set" | "unset" => {
            "declare variables with `env NAME=\"value\"`, or write the commands in one script with `sh`"
        }
        _ => "write the commands in one script with `sh`",
    };
    Some(
        Diagnostic::error(codes::COMMAND, message)
            .label(span, "a command of the shell, and `run` starts no shell")
            .help(help),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_told_from_classes() {
        for route_like in ["[id]", "[id].tsx", "[...slug]", "[[...slug]]", "[user_id]"] {
            assert_eq!(
                route(route_like),
                Some(route_like.split(".tsx").next().unwrap())
            );
        }
        for class in [
            "[a-z]",
            "[Mm]akefile",
            "*.[ch]",
            "[ab]?",
            "[01]",
            "[!ab]",
            "[a]",
            "a[bc]",
            "[]",
        ] {
            assert_eq!(route(class), None, "{class}");
        }
    }

    #[test]
    fn literal_form_escapes_brackets() {
        assert_eq!(raw("app/[id]/x"), r##"#"app/\[id\]/x"#"##);
        assert_eq!(alternatives("[idd]"), "`{i,d}`");
    }
}
