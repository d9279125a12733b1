//! Finds `{NAME}` and `{env.NAME}` in strings. It knows no values.
//!
//! A brace has a meaning only around a plain name. Doubled braces around a name lose one
//! pair and are then text: `{{name}}` is `{name}`. So `{a,b}`, `{}`, `{print $1}` and
//! `{{.Dir}}` mean themselves.

use crate::buildfile::names::{is_var_name, is_variable};

/// A piece of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'t> {
    /// Text without a meaning.
    Literal(&'t str),
    /// `{NAME}`
    Var(&'t str),
    /// `{env.NAME}`
    Env(&'t str),
}

/// Returns the pieces of `text`, in linear time.
pub(crate) fn parts(text: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (part, after) = first(rest)?;
        rest = after;
        Some(part)
    })
}

fn first(text: &str) -> Option<(Part<'_>, &str)> {
    let open = text.find('{').unwrap_or(text.len());
    if open > 0 {
        return Some((Part::Literal(&text[..open]), &text[open..]));
    }
    let opened = run(text, '{');
    if opened == 0 {
        return None;
    }
    let name_len = name_len(&text[opened..]);
    let end = opened + name_len;
    let closed = run(&text[end..], '}').min(opened);
    let name = &text[opened..end];
    let part = match (name_of(name), opened, closed) {
        (None, ..) | (_, _, 0) => return Some((Part::Literal(&text[..opened]), &text[opened..])),
        (Some(part), 1, _) => part,
        (_, _, 1) => {
            let (literal, rest) = text.split_at(opened - 1);
            return Some((Part::Literal(literal), rest));
        }
        _ => Part::Literal(&text[1..end + closed - 1]),
    };
    Some((part, &text[end + closed..]))
}

fn run(text: &str, c: char) -> usize {
    text.bytes().take_while(|b| *b == c as u8).count()
}

fn name_len(text: &str) -> usize {
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    text.bytes().take_while(is_name).count()
}

fn name_of(name: &str) -> Option<Part<'_>> {
    match name.strip_prefix("env.") {
        Some(variable) => is_variable(variable).then_some(Part::Env(variable)),
        None => is_var_name(name).then_some(Part::Var(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Part::{Env, Literal, Var};

    #[track_caller]
    fn check(text: &str, expected: &[Part<'_>]) {
        assert_eq!(parts(text).collect::<Vec<_>>(), expected, "{text}");
    }

    #[test]
    fn names_in_braces_are_references() {
        check("", &[]);
        check("a", &[Literal("a")]);
        check("{v}", &[Var("v")]);
        check(
            "a{v}b{env.X}",
            &[Literal("a"), Var("v"), Literal("b"), Env("X")],
        );
        check("{go-version}", &[Var("go-version")]);
        check(
            "{{a},{b}}",
            &[Literal("{"), Var("a"), Literal(","), Var("b"), Literal("}")],
        );
    }

    #[test]
    fn other_braces_are_text() {
        for text in [
            "{a,b}",
            "{}",
            "{print $1}",
            "{0}",
            "{",
            "}",
            "{a",
            "a}",
            "{env.}",
            "{a.b}",
        ] {
            assert!(parts(text).all(|p| matches!(p, Literal(_))), "{text}");
            let together: String = parts(text).map(literal).collect();
            assert_eq!(together, text);
        }
        for text in ["{{.Dir}}", "{{range .X}}", "}}", "{a,{b,c}}"] {
            let together: String = parts(text).map(literal).collect();
            assert_eq!(together, text);
        }
    }

    #[test]
    fn doubled_braces_around_a_name_lose_one_pair() {
        check("{{v}}", &[Literal("{v}")]);
        check("{{{v}}}", &[Literal("{{v}}")]);
        check("{{env.X}}!", &[Literal("{env.X}"), Literal("!")]);
    }

    fn literal(part: Part<'_>) -> &str {
        match part {
            Literal(text) => text,
            part => panic!("{part:?}"),
        }
    }

    #[test]
    fn unclosed_braces_take_linear_time() {
        let text = "{a".repeat(200_000) + &"{".repeat(200_000);
        assert!(parts(&text).count() > 200_000);
    }
}
