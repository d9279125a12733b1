//! The shared cache of a run: the Buildfile's `remote` node, with what the command line and
//! the environment override.

use std::ffi::OsStr;

use super::context::Context;
use super::failure::Failure;
use crate::buildfile::model::{RemoteAuth, RemoteMode, RemoteServer, Spanned};
use crate::remote::backend::Timeouts;
use crate::remote::{Auth, Config, Remote};
use crate::source::{FileId, Span};

/// The scope of results where none is named.
const SCOPE: &str = "main";
/// Results with a larger file are not sent unless the Buildfile allows it, in bytes.
const UPLOAD_MAX: u64 = 512 << 20;
/// How many results are sent at once unless the Buildfile says otherwise.
const UPLOAD_JOBS: usize = 4;

/// Prepares the use of the server that `written` names, or that `typed` or `FBUILD_REMOTE`
/// names instead; `None` if there is none. Sends nothing.
pub(super) fn open(
    context: &Context,
    written: Option<&RemoteServer>,
    typed: Option<&str>,
) -> Result<Option<Remote>, Failure> {
    let Some(config) = config(context, written, typed)? else {
        return Ok(None);
    };
    let remote = Remote::new(&config).map_err(|error| Failure::usage(error.to_string()))?;
    Ok(Some(remote))
}

/// Returns the settings of the server; `None` if there is none or it is off.
pub(super) fn config(
    context: &Context,
    written: Option<&RemoteServer>,
    typed: Option<&str>,
) -> Result<Option<Config>, Failure> {
    let value = |name: &str| context.value(name);
    let named = typed.map(str::to_owned).or_else(|| value("FBUILD_REMOTE"));
    let server = match named.as_deref() {
        Some("off") => return Ok(None),
        Some(url) => with_url(written, url),
        None => match written {
            Some(server) => server.clone(),
            None => return Ok(None),
        },
    };
    let mode = match value("FBUILD_REMOTE_MODE") {
        Some(text) => RemoteMode::parse(&text).ok_or_else(|| {
            let message = format!("`FBUILD_REMOTE_MODE` is `{text}`, which is not a mode");
            Failure::usage_with_help(
                message,
                "set it to `off`, `read`, `write` or `read-write`".to_owned(),
            )
        })?,
        None => server.mode.unwrap_or_default(),
    };
    if mode == RemoteMode::Off {
        return Ok(None);
    }
    let scope = server
        .write_scope
        .clone()
        .unwrap_or_else(|| SCOPE.to_owned());
    let read_scopes = if server.read_scopes.is_empty() {
        vec![scope.clone()]
    } else {
        server.read_scopes.clone()
    };
    let usual = Timeouts::default();
    Ok(Some(Config {
        auth: auth(context, &server),
        mode,
        timeouts: Timeouts {
            connect: server.connect.unwrap_or(usual.connect),
            idle: server.idle.unwrap_or(usual.idle),
            total: server.total.unwrap_or(usual.total),
        },
        upload_max: server.upload_max.unwrap_or(UPLOAD_MAX),
        upload_jobs: server.upload_jobs.map_or(UPLOAD_JOBS, |jobs| jobs as usize),
        signing_key: server.signing_key_env.as_deref().and_then(value),
        trusted_keys: server.trusted.iter().map(|key| key.value.clone()).collect(),
        read_scopes,
        write_scope: scope,
        url: server.url.value,
    }))
}

/// Returns the written settings with another URL.
fn with_url(written: Option<&RemoteServer>, url: &str) -> RemoteServer {
    let nowhere = Span {
        file: FileId(0),
        start: 0,
        len: 0,
    };
    let url = Spanned::new(url.to_owned(), nowhere);
    match written {
        Some(server) => RemoteServer {
            url,
            ..server.clone()
        },
        None => RemoteServer::new(url),
    }
}

/// Returns the credentials. Variables that are not set give none: the server decides.
fn auth(context: &Context, server: &RemoteServer) -> Auth {
    let value = |name: &str| context.value(name);
    let url = &server.url.value;
    let is_bucket = url.starts_with("s3:") || url.starts_with("gs:");
    match &server.auth {
        Some(RemoteAuth::Token { env }) => value(env).map_or(Auth::None, Auth::Token),
        Some(RemoteAuth::Password {
            user_env,
            password_env,
        }) => match (value(user_env), value(password_env)) {
            (Some(key), Some(secret)) if is_bucket => Auth::Keys(key, secret, None),
            (Some(user), Some(password)) => Auth::Basic(user, password),
            _ => Auth::None,
        },
        Some(RemoteAuth::Netrc) => netrc(context, url).unwrap_or_default(),
        None if is_bucket => {
            let (key, secret) = (value("AWS_ACCESS_KEY_ID"), value("AWS_SECRET_ACCESS_KEY"));
            match (key, secret) {
                (Some(key), Some(secret)) => Auth::Keys(key, secret, value("AWS_SESSION_TOKEN")),
                _ => Auth::None,
            }
        }
        None => Auth::None,
    }
}

/// Returns the login for a host in `~/.netrc`, as curl and git read it.
fn netrc(context: &Context, url: &str) -> Option<Auth> {
    let home = context.host_env().get(OsStr::new("HOME"))?;
    let text = std::fs::read_to_string(std::path::Path::new(home).join(".netrc")).ok()?;
    let rest = url.split_once("//")?.1;
    let host = rest.split(['/', ':']).next()?;
    login(&text, host)
}

fn login(netrc: &str, host: &str) -> Option<Auth> {
    let (mut is_ours, mut user, mut password) = (false, None, None);
    let mut words = netrc.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "machine" if is_ours => break,
            "machine" => is_ours = words.next()? == host,
            "default" if is_ours => break,
            "default" => is_ours = true,
            "login" if is_ours => user = words.next(),
            "password" if is_ours => password = words.next(),
            _ => {}
        }
    }
    Some(Auth::Basic(user?.to_owned(), password?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(netrc: &str, host: &str) -> Option<String> {
        match login(netrc, host)? {
            Auth::Basic(user, password) => Some(format!("{user}:{password}")),
            _ => None,
        }
    }

    #[test]
    fn netrc_gives_the_login_of_the_host() {
        let netrc = "machine a.example login x password y\nmachine b.example\n  login u\n  password v\ndefault login d password e";
        assert_eq!(user(netrc, "b.example").as_deref(), Some("u:v"));
        assert_eq!(user(netrc, "a.example").as_deref(), Some("x:y"));
        assert_eq!(user(netrc, "c.example").as_deref(), Some("d:e"));
        assert_eq!(user("machine a login x", "a"), None);
    }
}
