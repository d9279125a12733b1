//! Finds variables that are set around fbuild, that a target's tools read, and that the target
//! hides from them: `fbuild check` warns of each, and a run when the target fails. Only names
//! are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;

use super::environment::{HostEnv, STANDARD};
use crate::buildfile::model::{Command, Piece, Spanned, Target};
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
            "GOPRIVATE",
            "GOPROXY",
            "GOTOOLCHAIN",
            "GOWORK",
        ],
    ),
    (
        &["node", "npm", "npx", "yarn", "pnpm", "corepack"],
        &[
            "NODENV_VERSION",
            "NODE_ENV",
            "NODE_EXTRA_CA_CERTS",
            "NODE_OPTIONS",
            "NODE_PATH",
            "NPM_CONFIG_REGISTRY",
            "npm_config_registry",
        ],
    ),
    (
        &["python", "python3", "pip", "uv"],
        &[
            "PYTHONHASHSEED",
            "PYTHONOPTIMIZE",
            "PIP_INDEX_URL",
            "PYENV_VERSION",
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
            "RUSTUP_TOOLCHAIN",
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

/// Variables that any program with access to the network may read: proxies, and the
/// certificates of authorities.
const NETWORK: &[&str] = &[
    "ALL_PROXY",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NODE_EXTRA_CA_CERTS",
    "NO_PROXY",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
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

/// Returns the variables whose absence may explain why a target failed: those that its tools
/// and the programs that it starts read, and those for the network.
pub fn suspects(target: &Target, host_env: &HostEnv) -> Vec<&'static str> {
    let declared = target.tools.iter().map(|tool| tool.value.as_str());
    let started = target
        .commands
        .iter()
        .flat_map(|command| words(&command.value));
    let read = declared.chain(started).flat_map(read_by);
    let names: BTreeSet<&'static str> = read.chain(NETWORK.iter().copied()).collect();
    let is_set = |name: &&str| {
        host_env
            .get(OsStr::new(name))
            .is_some_and(|v| !v.is_empty())
    };
    let suspects = names.into_iter().filter(is_set);
    suspects.filter(|name| !sees(target, name)).collect()
}

/// Returns the words of a command that may be names of programs.
fn words(command: &Command) -> Vec<&str> {
    match command {
        Command::Run(argv) => match argv.first().map(|program| program.0.as_slice()) {
            Some([Piece::Literal(program)]) => vec![program],
            _ => Vec::new(),
        },
        Command::Sh(script) => {
            let is_end = |c: char| c.is_whitespace() || ";|&()".contains(c);
            script.split(is_end).collect()
        }
    }
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

    #[test]
    fn failed_target_may_lack_hidden_variables() {
        let names = [
            "HTTPS_PROXY",
            "NODE_OPTIONS",
            "GOFLAGS",
            "HOME",
            "RUSTFLAGS",
            "NO_PROXY",
        ];
        let mut host_env: HostEnv = names.iter().map(|n| (n.into(), "x".into())).collect();
        host_env.insert("NO_PROXY".into(), "".into());
        let text = "tool go\ntarget a { tools go; pass GOPROXY; sh \"cd web; npm ci\" }";
        let loaded = buildfile::load_text(text, Path::new("Buildfile.kdl"));
        let suspects = suspects(&loaded.buildfile.targets[0], &host_env);
        assert_eq!(suspects, ["GOFLAGS", "HTTPS_PROXY", "NODE_OPTIONS"]);
    }
}
