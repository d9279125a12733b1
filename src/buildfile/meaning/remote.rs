//! Reads the `remote` node: a server that shares results.

use super::scope::Scope;
use super::values;
use crate::buildfile::codes;
use crate::buildfile::grammar::Kind;
use crate::buildfile::model::{RemoteAuth, RemoteMode, RemoteServer, Spanned};
use crate::buildfile::syntax::node::{Node, Value};
use crate::source::Diagnostic;

/// Reads a `remote` node; `None` if it has no URL.
pub(crate) fn server(node: &Node, scope: &mut Scope<'_>) -> Option<RemoteServer> {
    let url = node.args.first()?;
    let mut server = RemoteServer::new(Spanned::new(scope.plain(url)?, url.span));
    for child in &node.children {
        match child.spec.kind {
            Kind::RemoteMode => {
                server.mode = child.args.first().and_then(|value| mode(value, scope));
            }
            Kind::Timeout => {
                let mut read = |name| child.prop(name).and_then(|v| values::duration(v, scope));
                server.connect = read("connect");
                server.idle = read("idle");
                server.total = read("total");
            }
            Kind::Upload => {
                server.upload_max = child.prop("max").and_then(|v| values::size(v, scope));
                server.upload_jobs = child.prop("jobs").and_then(values::count);
            }
            Kind::Auth => server.auth = auth(child, scope),
            Kind::Sign => {
                let key = child.prop("key-env");
                server.signing_key_env = key.and_then(|value| scope.plain(value));
                let trusted = child.prop("trust").into_iter().chain(&child.args);
                let key = |value: &Value| Some(Spanned::new(scope.plain(value)?, value.span));
                server.trusted.extend(trusted.filter_map(key));
            }
            Kind::Scope => {
                let name = child.args.first();
                server.write_scope = name.and_then(|value| scope.plain(value));
                let read = child.prop("read").and_then(|value| scope.plain(value));
                server.read_scopes = read
                    .map(|names| names.split_whitespace().map(str::to_owned).collect())
                    .unwrap_or_default();
            }
            _ => {}
        }
    }
    check(&server, scope);
    Some(server)
}

/// The schemes of URLs that name a server.
const SCHEMES: [&str; 9] = [
    "file", "http", "https", "s3", "gs", "redis", "rediss", "grpc", "grpcs",
];

/// Reports a URL that names no server, and reading without a trusted key.
fn check(server: &RemoteServer, scope: &mut Scope<'_>) {
    let span = server.url.span;
    let scheme = server.url.value.split_once(':').map(|(scheme, _)| scheme);
    if !scheme.is_some_and(|scheme| SCHEMES.contains(&scheme)) {
        let diagnostic = Diagnostic::error(codes::REMOTE, "this is not the URL of a server")
            .label(span, "no scheme that fbuild knows")
            .help(format!(
                "begin it with one of {}",
                SCHEMES.map(|s| format!("`{s}:`")).join(", ")
            ));
        scope.sink.push(diagnostic);
    }
    if has_credentials(&server.url.value) {
        let diagnostic = Diagnostic::error(codes::REMOTE, "the URL of the server holds a password")
            .label(span, "everyone who reads this file can read it")
            .help("name environment variables instead: `auth user-env=… password-env=…`");
        scope.sink.push(diagnostic);
    }
    if server.mode.unwrap_or_default().reads() && server.trusted.is_empty() {
        let diagnostic =
            Diagnostic::error(codes::REMOTE, "results are read, and no key is trusted")
                .label(span, "every result from here would be refused")
                .help("add `sign trust=\"ed25519:…\"`; `fbuild remote key` makes a pair of keys");
        scope.sink.push(diagnostic);
    }
}

/// Returns true if a URL has a password before its host.
fn has_credentials(url: &str) -> bool {
    let rest = url.split_once("//").map_or("", |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    user.is_some_and(|user| user.contains(':'))
}

fn mode(value: &Value, scope: &mut Scope<'_>) -> Option<RemoteMode> {
    let mode = RemoteMode::parse(value.text());
    if mode.is_none() {
        let message = format!("`{}` is not a mode of a remote cache", value.text());
        let diagnostic = Diagnostic::error(codes::REMOTE, message)
            .label(value.span, "not a mode")
            .help("write `off`, `read`, `write` or `read-write`");
        scope.sink.push(diagnostic);
    }
    mode
}

fn auth(node: &Node, scope: &mut Scope<'_>) -> Option<RemoteAuth> {
    let mut name = |prop| node.prop(prop).and_then(|value| scope.plain(value));
    if let Some(token) = name("env") {
        return Some(RemoteAuth::Token { env: token });
    }
    if let (Some(user), Some(password)) = (name("user-env"), name("password-env")) {
        return Some(RemoteAuth::Password {
            user_env: user,
            password_env: password,
        });
    }
    let netrc = node.prop("netrc").and_then(values::flag);
    netrc.unwrap_or(false).then_some(RemoteAuth::Netrc)
}
