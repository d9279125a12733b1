//! Matches patterns in the simplest way, as a reference: it supports `*`, `?`, `**`, classes,
//! backslashes and a trailing slash, and tries every split.

/// Returns true if `pattern` matches `path`.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    let pattern = match pattern.strip_suffix('/') {
        Some(folder) => format!("{folder}/**"),
        None => pattern.to_owned(),
    };
    let pattern: Vec<&str> = pattern.split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    matches_parts(&pattern, &path)
}

/// Returns true if a pattern matches only one path.
pub(crate) fn is_literal(pattern: &str) -> bool {
    !pattern.ends_with('/') && !pattern.replace("\\[", "").contains(['*', '?', '[', '{'])
}

/// Returns the one path that a pattern without wildcards matches.
pub(crate) fn unescaped(pattern: &str) -> String {
    pattern.replace('\\', "")
}

/// Returns the folder that contains every match of a pattern.
pub(crate) fn folder(pattern: &str) -> String {
    let parts: Vec<&str> = pattern.split('/').collect();
    let literal = parts
        .iter()
        .take(parts.len() - 1)
        .take_while(|part| is_literal(part));
    let literal: Vec<&str> = literal.copied().collect();
    unescaped(&literal.join("/"))
}

fn matches_parts(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern, path) {
        ([], path) => path.is_empty(),
        // A final `**` matches at least one component: the content of the folder, not the
        // folder.
        (["**"], path) => !path.is_empty(),
        (["**", rest @ ..], path) => (0..=path.len()).any(|at| matches_parts(rest, &path[at..])),
        ([first, rest @ ..], [name, below @ ..]) => {
            let pattern: Vec<char> = first.chars().collect();
            let name: Vec<char> = name.chars().collect();
            matches_name(&pattern, &name) && matches_parts(rest, below)
        }
        (_, []) => false,
    }
}

fn matches_name(pattern: &[char], name: &[char]) -> bool {
    match (pattern, name) {
        ([], name) => name.is_empty(),
        (['*', rest @ ..], name) => (0..=name.len()).any(|at| matches_name(rest, &name[at..])),
        (['\\', c, rest @ ..], [first, below @ ..]) => c == first && matches_name(rest, below),
        (['?', rest @ ..], [_, below @ ..]) => matches_name(rest, below),
        (['[', class @ ..], [first, below @ ..]) => {
            let (is_in, rest) = matches_class(class, *first);
            is_in && matches_name(rest, below)
        }
        ([c, rest @ ..], [first, below @ ..]) => c == first && matches_name(rest, below),
        (_, []) => false,
    }
}

/// Returns true if a class contains a character, and the rest after the class.
fn matches_class(class: &[char], c: char) -> (bool, &[char]) {
    let (is_negated, mut class) = match class {
        ['!' | '^', class @ ..] => (true, class),
        class => (false, class),
    };
    let (mut is_first, mut is_in) = (true, false);
    loop {
        class = match class {
            [']', rest @ ..] if !is_first => return (is_in != is_negated, rest),
            [from, '-', to, rest @ ..] if *to != ']' => {
                is_in |= (*from..=*to).contains(&c);
                rest
            }
            [one, rest @ ..] => {
                is_in |= *one == c;
                rest
            }
            [] => panic!("a class without an end"),
        };
        is_first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fbuild::glob::Pattern;
    use fbuild::path::RelPath;

    #[test]
    fn matches_agrees_with_fbuild() {
        let patterns = [
            "a",
            "*",
            "a/*",
            "a/",
            "**/b.c",
            "a/**/b.c",
            "a/?.c",
            "*/b.*",
            "\\[x].c",
            "**",
            "[a-b]",
            "**/[!a-c].c",
            "a/b/[à-ü].c",
            "[]-]",
            "*/[.x]*",
            "[^.]*",
        ];
        let paths = [
            "a",
            "a/b.c",
            "b.c",
            "a/x/b.c",
            "a/x/y/b.c",
            "[x].c",
            "a/b/é.c",
            ".a",
            "a/.b",
        ];
        for pattern in patterns {
            let real = Pattern::new(pattern).unwrap();
            for path in paths {
                let expected = real.matches(&RelPath::new(path).unwrap());
                assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
            }
        }
    }
}
