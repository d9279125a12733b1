//! Finds variables that are set around fbuild, that a target's tools read, and that the target
//! hides from them: `fbuild check` warns of each. Only names are compared.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use super::environment::{HostEnv, STANDARD};
use crate::buildfile::model::{Spanned, Target};
use crate::source::Diagnostic;

/// Tools, and the variables that change their results, from the documentation of each.
const READ: &[(&[&str], &[&str])] = &[
    (
        &["go"],
        &[
            "CGO_CFLAGS",
            "CGO_ENABLED",
            "CGO_LDFLAGS",
            "GOAMD64",
            "GOARCH",
            "GOARM64",
            "GOEXPERIMENT",
            "GOFLAGS",
            "GOOS",
            "GOTOOLCHAIN",
            "GOWORK",
        ],
    ),
    (
        &["node", "npm", "npx", "yarn", "pnpm"],
        &["NODE_ENV", "NODE_OPTIONS", "NODE_PATH"],
    ),
    (
        &["python", "python3", "pip", "uv"],
        &[
            "PYTHONHASHSEED",
            "PYTHONOPTIMIZE",
            "PYTHONPATH",
            "VIRTUAL_ENV",
        ],
    ),
    (
        &["java", "javac", "mvn", "gradle"],
        &[
            "CLASSPATH",
            "JAVA_HOME",
            "JAVA_TOOL_OPTIONS",
            "JDK_JAVA_OPTIONS",
            "MAVEN_OPTS",
        ],
    ),
    (
        &["cargo", "rustc"],
        &[
            "CARGO_BUILD_TARGET",
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTC_WRAPPER",
            "RUSTFLAGS",
        ],
    ),
    (
        &[
            "cc", "gcc", "g++", "c++", "clang", "clang++", "make", "cmake",
        ],
        &[
            "CC",
            "CFLAGS",
            "CPPFLAGS",
            "CXX",
            "CXXFLAGS",
            "LDFLAGS",
            "MAKEFLAGS",
        ],
    ),
];

/// A target, and where it names a tool.
type Place<'t> = (&'t Target, &'t Spanned<String>);

/// Returns a warning for each variable that is hidden from a tool which reads it, with a
/// place for each target that hides it.
pub fn warnings<'t>(
    targets: impl Iterator<Item = &'t Target>,
    host_env: &HostEnv,
) -> Vec<Diagnostic> {
    let mut hidden: BTreeMap<(&str, &str), Vec<Place<'_>>> = BTreeMap::new();
    for target in targets {
        for tool in &target.tools {
            for name in read_by(&tool.value) {
                if host_env.contains_key(OsStr::new(name)) && !sees(target, name) {
                    let places = hidden.entry((name, &tool.value)).or_default();
                    places.push((target, tool));
                }
            }
        }
    }
    let warnings = hidden.into_iter();
    warnings
        .map(|((name, tool), places)| warning(name, tool, &places))
        .collect()
}

fn read_by(tool: &str) -> impl Iterator<Item = &'static str> {
    let lists = READ.iter().filter(move |(tools, _)| tools.contains(&tool));
    lists.flat_map(|(_, names)| names.iter().copied())
}

fn sees(target: &Target, name: &str) -> bool {
    let declared = target.env.iter().map(|var| &var.name);
    let mut seen = declared.chain(&target.pass).chain(&target.secret);
    STANDARD.contains(&name) || seen.any(|seen| seen.value == name)
}

fn warning(name: &str, tool: &str, places: &[(&Target, &Spanned<String>)]) -> Diagnostic {
    let message = format!("`{name}` is set here and `{tool}` reads it, but targets hide it");
    let mut diagnostic = Diagnostic::warning("fbuild::action::hidden_variable", message);
    for (target, place) in places {
        let text = format!("hidden from `{}`", target.name.value);
        diagnostic = diagnostic.label(place.span, text);
    }
    diagnostic.help(format!(
        "write `env {name}` if it decides the result, `pass {name}` if it does not, or unset it"
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::buildfile;

    fn messages(body: &str, set: &str) -> Vec<String> {
        let text = format!("tool go\ntarget a {{ tools go; {body}; run go build }}");
        let loaded = buildfile::load_text(&text, Path::new("Buildfile.kdl"));
        assert_eq!(loaded.diagnostics, []);
        let host_env = [(set.into(), "x".into())].into();
        let warnings = warnings(loaded.buildfile.targets.iter(), &host_env);
        warnings
            .into_iter()
            .map(|warning| warning.message)
            .collect()
    }

    #[test]
    fn hidden_variable_of_a_tool_is_a_warning() {
        let said = ["`GOFLAGS` is set here and `go` reads it, but targets hide it"];
        assert_eq!(messages("env GOOS", "GOFLAGS"), said);
        for body in ["env GOFLAGS", "pass GOFLAGS", "secret GOFLAGS"] {
            assert_eq!(messages(body, "GOFLAGS"), [""; 0], "{body}");
        }
        assert_eq!(messages("env GOOS", "NODE_ENV"), [""; 0]);
    }
}
