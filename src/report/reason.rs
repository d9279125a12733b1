//! Words each [`Reason`] as one sentence.

use std::fmt;

use super::text::{count, fit, harmless};
use crate::event::Reason;

/// The most columns of a variable's value to print.
const MAX_VALUE_COLUMNS: usize = 60;

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverBuilt => f.write_str("never built here"),
            Self::Forced => f.write_str("`--force` was given"),
            Self::Rerun => f.write_str("`--rerun` was given"),
            Self::Uncached => f.write_str("`--no-cache` was given"),
            Self::NotCached => f.write_str("it always runs"),
            Self::Arguments => f.write_str("it was given arguments"),
            Self::NeedWouldRun { target } => write!(f, "{} would run before it", quoted(target)),
            Self::ToolUnknown { name } => {
                write!(f, "the version of {} is not known yet", quoted(name))
            }
            Self::Changed => f.write_str("it changed"),
            Self::FormatChanged => f.write_str("this version of fbuild writes keys differently"),
            Self::InputChanged { path, others } => input(f, path, "changed", *others),
            Self::InputAdded { path, others } => input(f, path, "is new", *others),
            Self::InputRemoved { path, others } => input(f, path, "was removed", *others),
            Self::NeedChanged { target, path } => {
                write!(f, "{} changed, made by {}", quoted(path), quoted(target))
            }
            Self::NeedsChanged => f.write_str("it needs other targets than before"),
            Self::NeedRan { target } => write!(f, "{}, which it needs, ran again", quoted(target)),
            Self::EnvChanged { name, from, to } => {
                variable(f, name, from.as_deref(), to.as_deref())
            }
            Self::ToolChanged { name, from, to } => tool(f, name, from.as_deref(), to.as_deref()),
            Self::CommandChanged => f.write_str("the command changed"),
            Self::DirChanged => f.write_str("the working directory changed"),
            Self::OutputsChanged => f.write_str("other outputs are declared"),
            Self::PlatformChanged => f.write_str("the platform changed"),
            Self::OutputDeleted { path } => write!(f, "its output {} was deleted", quoted(path)),
            Self::OutputModified { path } => write!(f, "its output {} was modified", quoted(path)),
            Self::OutputStray { path } => {
                write!(
                    f,
                    "{} is in its output folder but is not one of its outputs",
                    quoted(path)
                )
            }
            Self::Evicted => f.write_str("its result is no longer in the cache"),
        }
    }
}

fn quoted(text: &str) -> String {
    format!("`{}`", harmless(text))
}

fn input(f: &mut fmt::Formatter<'_>, path: &str, verb: &str, others: usize) -> fmt::Result {
    write!(f, "{} {verb}", quoted(path))?;
    if others > 0 {
        write!(f, ", and {}", count(others, "other"))?;
    }
    Ok(())
}

fn variable(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    from: Option<&str>,
    to: Option<&str>,
) -> fmt::Result {
    let name = quoted(name);
    let value = |text: &str| quoted(&fit(&harmless(text), MAX_VALUE_COLUMNS));
    match (from, to) {
        (Some(from), Some(to)) => {
            write!(f, "{name} changed from {} to {}", value(from), value(to))
        }
        (None, Some(to)) => write!(f, "{name} was set to {}", value(to)),
        (Some(from), None) => write!(f, "{name} is no longer set, and was {}", value(from)),
        (None, None) => write!(f, "{name} changed"),
    }
}

fn tool(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    from: Option<&str>,
    to: Option<&str>,
) -> fmt::Result {
    let name = quoted(name);
    match (from, to) {
        (Some(from), Some(to)) if from == to => {
            write!(
                f,
                "{name} changed, and still reports version {}",
                harmless(to)
            )
        }
        (Some(from), Some(to)) => {
            write!(
                f,
                "{name} changed from {} to {}",
                harmless(from),
                harmless(to)
            )
        }
        (None, Some(_)) => write!(f, "{name} is used now"),
        (Some(_), None) => write!(f, "{name} is no longer used"),
        (None, None) => write!(f, "{name} changed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(from: Option<&str>, to: Option<&str>) -> Reason {
        Reason::EnvChanged {
            name: "CGO_ENABLED".to_owned(),
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
        }
    }

    fn tool(from: Option<&str>, to: Option<&str>) -> Reason {
        Reason::ToolChanged {
            name: "go".to_owned(),
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
        }
    }

    #[test]
    fn reason_names_the_change() {
        let path = || "pkg/api/openapi.yaml".to_owned();
        let target = || "gen".to_owned();
        let cases = [
            (
                Reason::InputChanged {
                    path: path(),
                    others: 0,
                },
                "`pkg/api/openapi.yaml` changed",
            ),
            (
                Reason::InputChanged {
                    path: path(),
                    others: 3,
                },
                "`pkg/api/openapi.yaml` changed, and 3 others",
            ),
            (
                Reason::InputAdded {
                    path: path(),
                    others: 1,
                },
                "`pkg/api/openapi.yaml` is new, and 1 other",
            ),
            (
                Reason::InputRemoved {
                    path: path(),
                    others: 0,
                },
                "`pkg/api/openapi.yaml` was removed",
            ),
            (
                Reason::NeedChanged {
                    target: target(),
                    path: path(),
                },
                "`pkg/api/openapi.yaml` changed, made by `gen`",
            ),
            (
                Reason::NeedRan { target: target() },
                "`gen`, which it needs, ran again",
            ),
            (
                Reason::NeedWouldRun { target: target() },
                "`gen` would run before it",
            ),
            (
                Reason::ToolUnknown {
                    name: "go".to_owned(),
                },
                "the version of `go` is not known yet",
            ),
            (
                Reason::OutputDeleted { path: path() },
                "its output `pkg/api/openapi.yaml` was deleted",
            ),
            (
                Reason::OutputModified { path: path() },
                "its output `pkg/api/openapi.yaml` was modified",
            ),
            (
                Reason::OutputStray { path: path() },
                "`pkg/api/openapi.yaml` is in its output folder but is not one of its outputs",
            ),
            (
                env(Some("0"), Some("1")),
                "`CGO_ENABLED` changed from `0` to `1`",
            ),
            (env(None, Some("1")), "`CGO_ENABLED` was set to `1`"),
            (
                env(Some("1"), None),
                "`CGO_ENABLED` is no longer set, and was `1`",
            ),
            (env(None, None), "`CGO_ENABLED` changed"),
            (
                tool(Some("1.26.2"), Some("1.26.8")),
                "`go` changed from 1.26.2 to 1.26.8",
            ),
            (
                tool(Some("1.26.2"), Some("1.26.2")),
                "`go` changed, and still reports version 1.26.2",
            ),
            (tool(None, Some("1.26.2")), "`go` is used now"),
            (tool(Some("1.26.2"), None), "`go` is no longer used"),
            (Reason::NeverBuilt, "never built here"),
            (Reason::CommandChanged, "the command changed"),
            (Reason::Evicted, "its result is no longer in the cache"),
        ];
        for (reason, sentence) in cases {
            assert_eq!(reason.to_string(), sentence);
        }
    }

    #[test]
    fn reason_cuts_and_escapes_values() {
        let sentence = env(Some("\u{1b}[31m\n"), Some(&"x".repeat(500))).to_string();
        let cut = "x".repeat(59);
        assert_eq!(
            sentence,
            format!("`CGO_ENABLED` changed from `\\x1b[31m\\x0a` to `{cut}…`")
        );
    }
}
