//! Returns the text of a template for each kind of project: its tools, and the variables that
//! its commands see.

use super::Kind;

/// Variables for the network. They are not part of the key.
const NETWORK: &str =
    "SSL_CERT_FILE SSL_CERT_DIR HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy";

/// Returns the template for a kind of project.
pub(super) fn of(kind: Kind) -> String {
    let template = match kind {
        Kind::Go => GO,
        Kind::Cargo => CARGO,
        Kind::Npm => NPM,
        Kind::Yarn => YARN,
        Kind::Pnpm => PNPM,
        Kind::Python => PYTHON,
        Kind::Uv => UV,
    };
    template.replace("NETWORK", NETWORK)
}

const GO: &str = "
// Shared by the Go targets. Commands see only the variables named here: `env` is part of
// the key, `pass` is not (where Go keeps and fetches things).
template go {
    tools go
    env GOOS GOARCH CGO_ENABLED
    // Keeps the checkout's path and commit out of the program, so that all checkouts and
    // commits can share results.
    env GOFLAGS=\"-trimpath -buildvcs=false\"
    pass GOPATH GOCACHE GOMODCACHE GOPROXY GONOPROXY GOSUMDB GONOSUMDB GOPRIVATE GOTOOLCHAIN
    pass NETWORK
}
";
const CARGO: &str = "
// Shared by the Rust targets. Commands see only the variables named here: `env` is part of
// the key, `pass` is not (where Cargo and rustup keep and fetch things).
template cargo {
    tools cargo rustc
    env RUSTFLAGS CARGO_BUILD_TARGET
    pass CARGO_HOME RUSTUP_HOME RUSTUP_TOOLCHAIN
    pass NETWORK
}
";
const NPM: &str = "
// Shared by the npm targets. Commands see only the variables named here: `env` is part of
// the key, `pass` is not (where npm keeps and fetches things).
template npm {
    tools node npm
    env CI=\"true\" // no prompts, no watching
    pass npm_config_cache npm_config_registry NODE_EXTRA_CA_CERTS
    pass NETWORK
}
";
const YARN: &str = "
// Shared by the Yarn targets. Commands see only the variables named here: `env` is part of
// the key, `pass` is not (where Yarn keeps and fetches things).
template yarn {
    tools node yarn
    env CI=\"true\" // no prompts, no watching
    pass YARN_CACHE_FOLDER NODE_EXTRA_CA_CERTS
    pass NETWORK
}
";
const PNPM: &str = "
// Shared by the pnpm targets. Commands see only the variables named here: `env` is part of
// the key, `pass` is not (where pnpm keeps and fetches things).
template pnpm {
    tools node pnpm
    env CI=\"true\" // no prompts, no watching
    pass PNPM_HOME XDG_DATA_HOME NODE_EXTRA_CA_CERTS
    pass NETWORK
}
";
const PYTHON: &str = "
// Shared by the Python targets. Commands see only the variables named here: `env` is part of
// the key, `pass` is not (where pip keeps and fetches things).
template python {
    tools python3
    env PYTHONDONTWRITEBYTECODE=\"1\"
    pass PIP_CACHE_DIR PIP_INDEX_URL PIP_EXTRA_INDEX_URL
    pass NETWORK
}
";
const UV: &str = "
// Shared by the uv targets. Commands see only the variables named here: `env` is part of
// the key, `pass` is not (where uv keeps and fetches things).
template uv {
    tools python3 uv
    env PYTHONDONTWRITEBYTECODE=\"1\"
    pass UV_CACHE_DIR UV_DEFAULT_INDEX UV_INDEX_URL
    pass NETWORK
}
";
