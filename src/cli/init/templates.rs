//! What targets of a kind share, as text: the tools, and the variables that their commands
//! see. It knows no project.

use super::Kind;

/// What commands see of the ways to the network. The key ignores it.
const NETWORK: &str =
    "SSL_CERT_FILE SSL_CERT_DIR HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy";

/// Returns what targets of a kind share.
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
// What Go targets share. Commands see only the variables named here: `env` is part of
// what decides a result, `pass` is not (where Go keeps and fetches things).
template go {
    tools go
    env GOOS GOARCH CGO_ENABLED
    // Neither the checkout's path nor its commit in what is built: both would make every
    // checkout, and every commit, another result.
    env GOFLAGS=\"-trimpath -buildvcs=false\"
    pass GOPATH GOCACHE GOMODCACHE GOPROXY GONOPROXY GOSUMDB GONOSUMDB GOPRIVATE GOTOOLCHAIN
    pass NETWORK
}
";
const CARGO: &str = "
// What Rust targets share. Commands see only the variables named here: `env` is part of
// what decides a result, `pass` is not (where Cargo and rustup keep and fetch things).
template cargo {
    tools cargo rustc
    env RUSTFLAGS CARGO_BUILD_TARGET
    pass CARGO_HOME RUSTUP_HOME RUSTUP_TOOLCHAIN
    pass NETWORK
}
";
const NPM: &str = "
// What npm targets share. Commands see only the variables named here: `env` is part of
// what decides a result, `pass` is not (where npm keeps and fetches things).
template npm {
    tools node npm
    env CI=\"true\" // nobody watches, nobody answers questions
    pass npm_config_cache npm_config_registry NODE_EXTRA_CA_CERTS
    pass NETWORK
}
";
const YARN: &str = "
// What Yarn targets share. Commands see only the variables named here: `env` is part of
// what decides a result, `pass` is not (where Yarn keeps and fetches things).
template yarn {
    tools node yarn
    env CI=\"true\" // nobody watches, nobody answers questions
    pass YARN_CACHE_FOLDER NODE_EXTRA_CA_CERTS
    pass NETWORK
}
";
const PNPM: &str = "
// What pnpm targets share. Commands see only the variables named here: `env` is part of
// what decides a result, `pass` is not (where pnpm keeps and fetches things).
template pnpm {
    tools node pnpm
    env CI=\"true\" // nobody watches, nobody answers questions
    pass PNPM_HOME XDG_DATA_HOME NODE_EXTRA_CA_CERTS
    pass NETWORK
}
";
const PYTHON: &str = "
// What Python targets share. Commands see only the variables named here: `env` is part of
// what decides a result, `pass` is not (where pip keeps and fetches things).
template python {
    tools python3
    env PYTHONDONTWRITEBYTECODE=\"1\"
    pass PIP_CACHE_DIR PIP_INDEX_URL PIP_EXTRA_INDEX_URL
    pass NETWORK
}
";
const UV: &str = "
// What uv targets share. Commands see only the variables named here: `env` is part of
// what decides a result, `pass` is not (where uv keeps and fetches things).
template uv {
    tools python3 uv
    env PYTHONDONTWRITEBYTECODE=\"1\"
    pass UV_CACHE_DIR UV_DEFAULT_INDEX UV_INDEX_URL
    pass NETWORK
}
";
