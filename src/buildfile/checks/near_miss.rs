//! Finds names of environment variables that are one typo away from one that common
//! tools read. It knows names, not values.

use std::collections::HashMap;
use std::sync::LazyLock;

/// The least length of a name that is compared: shorter names are alike by chance.
const SHORTEST: usize = 5;

/// Variables that Go, Node, Python, Java, Rust, C compilers and the system read.
const WELL_KNOWN: &[&str] = &[
    // Go
    "CGO_CFLAGS",
    "CGO_CPPFLAGS",
    "CGO_CXXFLAGS",
    "CGO_ENABLED",
    "CGO_LDFLAGS",
    "GO111MODULE",
    "GOAMD64",
    "GOARCH",
    "GOARM",
    "GOARM64",
    "GOBIN",
    "GOCACHE",
    "GODEBUG",
    "GOENV",
    "GOEXPERIMENT",
    "GOFLAGS",
    "GOINSECURE",
    "GOMAXPROCS",
    "GOMEMLIMIT",
    "GOMODCACHE",
    "GONOPROXY",
    "GONOSUMDB",
    "GOPATH",
    "GOPRIVATE",
    "GOPROXY",
    "GOROOT",
    "GOSUMDB",
    "GOTMPDIR",
    "GOTOOLCHAIN",
    "GOTOOLDIR",
    "GOTRACEBACK",
    "GOVCS",
    "GOWASM",
    "GOWORK",
    // Node
    "NODE_ENV",
    "NODE_EXTRA_CA_CERTS",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NPM_CONFIG_CACHE",
    "NPM_CONFIG_REGISTRY",
    "NPM_TOKEN",
    "YARN_CACHE_FOLDER",
    // Python
    "PIP_CACHE_DIR",
    "PIP_CONSTRAINT",
    "PIP_EXTRA_INDEX_URL",
    "PIP_INDEX_URL",
    "PIP_NO_CACHE_DIR",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONHASHSEED",
    "PYTHONHOME",
    "PYTHONOPTIMIZE",
    "PYTHONPATH",
    "PYTHONUNBUFFERED",
    "PYTHONUTF8",
    "PYTHONWARNINGS",
    "UV_CACHE_DIR",
    "UV_INDEX_URL",
    "UV_LINK_MODE",
    "UV_PYTHON",
    "VIRTUAL_ENV",
    // Java
    "CLASSPATH",
    "GRADLE_OPTS",
    "GRADLE_USER_HOME",
    "JAVA_HOME",
    "JAVA_OPTS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "MAVEN_ARGS",
    "MAVEN_OPTS",
    // Rust
    "CARGO_BUILD_JOBS",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_HOME",
    "CARGO_INCREMENTAL",
    "CARGO_NET_OFFLINE",
    "CARGO_PROFILE_RELEASE_LTO",
    "CARGO_TARGET_DIR",
    "RUSTC_WRAPPER",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "RUST_BACKTRACE",
    "RUST_LOG",
    // C and its relatives
    "ARFLAGS",
    "ASFLAGS",
    "CFLAGS",
    "CMAKE_BUILD_TYPE",
    "CMAKE_GENERATOR",
    "CMAKE_PREFIX_PATH",
    "CPLUS_INCLUDE_PATH",
    "CPPFLAGS",
    "CXXFLAGS",
    "C_INCLUDE_PATH",
    "FFLAGS",
    "LDFLAGS",
    "LDLIBS",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "LD_RUN_PATH",
    "LIBRARY_PATH",
    "MACOSX_DEPLOYMENT_TARGET",
    "MAKEFLAGS",
    "PKG_CONFIG_LIBDIR",
    "PKG_CONFIG_PATH",
    // The system, version control, services
    "DISPLAY",
    "DOCKER_BUILDKIT",
    "DOCKER_HOST",
    "GIT_AUTHOR_EMAIL",
    "GIT_AUTHOR_NAME",
    "GIT_COMMITTER_EMAIL",
    "GIT_COMMITTER_NAME",
    "GIT_SSH_COMMAND",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "LC_ALL",
    "LC_CTYPE",
    "LOGNAME",
    "NO_COLOR",
    "NO_PROXY",
    "SHELL",
    "SOURCE_DATE_EPOCH",
    "SSH_AUTH_SOCK",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
];

/// The well-known names by their letters in upper case, without underscores.
static BY_LETTERS: LazyLock<HashMap<String, &str>> = LazyLock::new(|| {
    WELL_KNOWN
        .iter()
        .map(|name| (letters(name), *name))
        .collect()
});

/// Returns the well-known variable that `name` is one typo away from: other underscores or
/// capitals, a letter missing, too many, or swapped with the next.
pub(crate) fn find(name: &str) -> Option<&'static str> {
    if name.len() < SHORTEST || name.len() > 64 || WELL_KNOWN.contains(&name) {
        return None;
    }
    let is_lower = name.chars().any(|c| c.is_ascii_lowercase());
    if is_lower && name.eq_ignore_ascii_case("http_proxy") {
        return None;
    }
    let letters = letters(name);
    let same_letters = BY_LETTERS.get(&letters).copied();
    // Lower case is another name on purpose (`http_proxy`), unless underscores differ too.
    if is_lower {
        return same_letters.filter(|known| !known.eq_ignore_ascii_case(name));
    }
    let is_near = |known: &&&str| known.len() >= SHORTEST && is_one_slip(name, known);
    same_letters.or_else(|| WELL_KNOWN.iter().find(is_near).copied())
}

fn letters(name: &str) -> String {
    name.replace('_', "").to_ascii_uppercase()
}

/// Returns true if one letter added, removed, or swapped with the next turns `b` into `a`.
fn is_one_slip(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let same = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[same..], &b[same..]);
    match (a, b) {
        ([x, y, a @ ..], [z, w, b @ ..]) if x == w && y == z => a == b,
        ([_, a @ ..], b) if a == b => true,
        (a, [_, b @ ..]) => a == b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typo_finds_the_intended_variable() {
        for (slip, meant) in [
            ("CGOENABLED", "CGO_ENABLED"),
            ("CGO_ENABLE", "CGO_ENABLED"),
            ("LDFLAG", "LDFLAGS"),
            ("LD_FLAGS", "LDFLAGS"),
            ("GOPRXOY", "GOPROXY"),
            ("JAVAHOME", "JAVA_HOME"),
            ("PYTHON_PATH", "PYTHONPATH"),
            ("NODEENV", "NODE_ENV"),
            ("CCFLAGS", "CFLAGS"),
        ] {
            assert_eq!(find(slip), Some(meant), "{slip}");
        }
    }

    #[test]
    fn unrelated_names_have_no_near_miss() {
        for name in [
            "CGO_ENABLED",
            "MY_FLAGS",
            "JFLAGS",
            "HOME",
            "PATH",
            "USER",
            "GOOS",
            "http_proxy",
            "HTTP_PROXY",
            "VERSION",
            "FLAMENCO_VERSION",
        ] {
            assert_eq!(find(name), None, "{name}");
        }
    }

    #[test]
    fn well_known_names_are_not_near_misses() {
        for name in WELL_KNOWN {
            assert_eq!(find(name), None);
        }
        let by_letters: Vec<_> = WELL_KNOWN.iter().map(|n| letters(n)).collect();
        assert_eq!(by_letters.len(), BY_LETTERS.len());
    }
}
