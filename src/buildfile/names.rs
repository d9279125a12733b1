//! Checks the spelling of names. It does not know which names exist.

use super::grammar::Type;

/// The longest name, in bytes.
const LONGEST: usize = 200;

/// Checks a name of the type `ty`, and returns the rule that it breaks, if any. A text of
/// another type is always good.
pub(super) fn check(name: &str, ty: Type) -> Result<(), &'static str> {
    let (is_good, rule) = match ty {
        // Checked again when variables are in place.
        Type::NewName | Type::Reference if name.contains('{') => return Ok(()),
        Type::Reference => (
            is_name(&name.replace('*', "x")),
            "letters, digits and `-_.:+/@`, at most 200, with `*` for any of them",
        ),
        Type::Name | Type::NewName => (
            is_name(name),
            "letters, digits and `-_.:+/@`, at most 200, beginning with a letter, a digit, `_` or `@`",
        ),
        Type::Variable => (
            is_variable(name),
            "letters, digits and `_`, not beginning with a digit",
        ),
        Type::VarName => (
            is_var_name(name),
            "letters, digits, `-` and `_`, beginning with a letter or `_`",
        ),
        _ => return Ok(()),
    };
    is_good.then_some(()).ok_or(rule)
}

/// Returns true if a text can name a target or the like: it is safe on a command line, and
/// as a path below some folder.
fn is_name(name: &str) -> bool {
    let is_first = |c: char| c.is_alphanumeric() || c == '_' || c == '@';
    name.starts_with(is_first)
        && name.len() <= LONGEST
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || "-_.:+/@".contains(c))
        && !name.split('/').any(|part| matches!(part, "" | "." | ".."))
}

/// Returns true if a text can name an environment variable.
pub(super) fn is_variable(name: &str) -> bool {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(is_first)
        && name.len() <= LONGEST
        && name.chars().all(|c| is_first(c) || c.is_ascii_digit())
}

/// Returns true if a text can name a `var`.
pub(super) fn is_var_name(name: &str) -> bool {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_other = |c: char| is_first(c) || c.is_ascii_digit() || c == '-';
    name.starts_with(is_first) && name.len() <= LONGEST && name.chars().all(is_other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_as_arguments_and_paths() {
        for good in [
            "a",
            "go-1.26",
            "@scope/pkg",
            "//x".trim_start_matches('/'),
            "web:build",
            "größe",
            "_x",
            "1",
        ] {
            assert_eq!(check(good, Type::Name), Ok(()), "{good}");
        }
        let long = "n".repeat(201);
        for bad in [
            "", "-x", "a b", "../a", "a/../b", "a//b", "a/", "/a", ".", "a\nb", "a*", &long,
        ] {
            assert!(check(bad, Type::Name).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_of_variables_follow_the_shell() {
        for (name, variable, var) in [
            ("A_1", true, true),
            ("a-b", false, true),
            ("1a", false, false),
            ("", false, false),
            ("a.b", false, false),
            ("é", false, false),
        ] {
            assert_eq!(is_variable(name), variable, "{name}");
            assert_eq!(is_var_name(name), var, "{name}");
        }
    }
}
