//! The settings of a server, and the backend that its URL means. Reads no environment:
//! credentials come as values from the caller.

use std::path::PathBuf;

use rusty_s3::{Bucket, Credentials, UrlStyle};

use super::Mode;
use super::backend::{Backend, Timeouts};
use super::files::Files;
use super::grpc::Grpc;
use super::http::{Http, Layout};
use super::redis::Redis;
use super::trust::{KeyError, PublicKey, Signer};

/// The credentials of a server.
#[derive(Clone, Default)]
pub enum Auth {
    /// None.
    #[default]
    None,
    /// A bearer token.
    Token(String),
    /// A user and a password.
    Basic(String, String),
    /// The key pair of a bucket and a session token.
    Keys(String, String, Option<String>),
}

/// Everything that the use of a server depends on.
#[derive(Clone)]
pub struct Config {
    /// Where the server is: `file:`, `http(s):`, `s3:`, `gs:`, `redis(s):` or `grpc(s):`.
    pub url: String,
    /// Whether it is read and written.
    pub mode: Mode,
    /// How long its calls may take.
    pub timeouts: Timeouts,
    /// Blobs above this many bytes are not sent.
    pub upload_max: u64,
    /// How many results are sent at once.
    pub upload_jobs: usize,
    /// The credentials.
    pub auth: Auth,
    /// The private key that signs, as text.
    pub signing_key: Option<String>,
    /// The public keys that are trusted, as text.
    pub trusted_keys: Vec<String>,
    /// The scopes that are read.
    pub read_scopes: Vec<String>,
    /// The scope that is written.
    pub write_scope: String,
}

/// Settings that make no sense.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The URL has no scheme that fbuild knows.
    #[error(
        "`{0}` is not the URL of a server: it begins with file:, http:, https:, s3:, gs:, redis:, rediss:, grpc: or grpcs:"
    )]
    Scheme(String),
    /// The rest of the URL is malformed.
    #[error("the URL of the server is malformed: {0}")]
    Url(String),
    /// A key is malformed.
    #[error("{0}")]
    Key(#[from] KeyError),
}

impl Config {
    /// Returns the backend that the URL means.
    pub(super) fn backend(&self) -> Result<Box<dyn Backend>, ConfigError> {
        let (scheme, rest) = self.url.split_once(':').ok_or_else(|| self.unknown())?;
        Ok(match scheme {
            "file" => Box::new(Files::new(&folder(rest))),
            "http" | "https" => Box::new(Http::new(self.bazel(), self.timeouts)),
            "s3" => Box::new(Http::new(
                self.bucket("https://s3.{region}.amazonaws.com")?,
                self.timeouts,
            )),
            "gs" => Box::new(Http::new(
                self.bucket("https://storage.googleapis.com")?,
                self.timeouts,
            )),
            "redis" | "rediss" => Box::new(self.redis()?),
            "grpc" => Box::new(self.grpc("http", rest)?),
            "grpcs" => Box::new(self.grpc("https", rest)?),
            _ => return Err(self.unknown()),
        })
    }

    pub(super) fn trusted(&self) -> Result<Vec<PublicKey>, ConfigError> {
        let keys = self.trusted_keys.iter().map(|key| PublicKey::parse(key));
        keys.collect::<Result<_, _>>().map_err(ConfigError::from)
    }

    pub(super) fn signer(&self) -> Result<Option<Signer>, ConfigError> {
        let key = self.signing_key.as_deref().map(Signer::parse);
        key.transpose().map_err(ConfigError::from)
    }

    fn unknown(&self) -> ConfigError {
        // What follows the scheme may hold a password.
        ConfigError::Scheme(self.url.split(':').next().unwrap_or_default().to_owned())
    }

    fn authorization(&self) -> Option<String> {
        match &self.auth {
            Auth::Token(token) => Some(format!("Bearer {token}")),
            Auth::Basic(user, password) => Some(format!(
                "Basic {}",
                base64(format!("{user}:{password}").as_bytes())
            )),
            Auth::None | Auth::Keys(..) => None,
        }
    }

    fn bazel(&self) -> Layout {
        Layout::Bazel {
            base: self.url.trim_end_matches('/').to_owned(),
            authorization: self.authorization(),
        }
    }

    /// Reads `s3://bucket/prefix?endpoint=…&region=…&style=path`.
    fn bucket(&self, usual: &str) -> Result<Layout, ConfigError> {
        let malformed = |what: &str| ConfigError::Url(what.to_owned());
        let url =
            url::Url::parse(&self.url).map_err(|error| ConfigError::Url(error.to_string()))?;
        let name = url.host_str().filter(|name| !name.is_empty());
        let name =
            name.ok_or_else(|| malformed("a bucket is missing, as in `s3://bucket/prefix`"))?;
        let option = |wanted: &str| {
            let mut pairs = url.query_pairs();
            pairs
                .find(|(key, _)| key == wanted)
                .map(|(_, value)| value.into_owned())
        };
        let region = option("region").unwrap_or_else(|| "us-east-1".to_owned());
        let endpoint = option("endpoint").unwrap_or_else(|| usual.replace("{region}", &region));
        let is_own = option("endpoint").is_some();
        let style = match option("style").as_deref() {
            Some("host") => UrlStyle::VirtualHost,
            Some("path") => UrlStyle::Path,
            Some(_) => return Err(malformed("`style` is `path` or `host`")),
            // Own servers rarely have a host name for each bucket.
            None if is_own => UrlStyle::Path,
            None => UrlStyle::VirtualHost,
        };
        let endpoint = endpoint
            .parse()
            .map_err(|_| malformed("`endpoint` is not a URL"))?;
        let bucket = Bucket::new(endpoint, style, name.to_owned(), region)
            .map_err(|error| ConfigError::Url(error.to_string()))?;
        let credentials = match &self.auth {
            Auth::Keys(key, secret, Some(token)) => {
                Some(Credentials::new_with_token(key, secret, token))
            }
            Auth::Keys(key, secret, None) => Some(Credentials::new(key, secret)),
            _ => None,
        };
        let prefix = url.path().trim_matches('/');
        let prefix = if prefix.is_empty() {
            String::new()
        } else {
            format!("{prefix}/")
        };
        Ok(Layout::Bucket {
            bucket: Box::new(bucket),
            credentials,
            prefix,
        })
    }

    /// Reads `redis://host:port/database?prefix=…`.
    fn redis(&self) -> Result<Redis, ConfigError> {
        let mut url =
            url::Url::parse(&self.url).map_err(|error| ConfigError::Url(error.to_string()))?;
        let prefix = url.query_pairs().find(|(key, _)| key == "prefix");
        let prefix = prefix.map_or_else(|| "fbuild:".to_owned(), |(_, value)| value.into_owned());
        url.set_query(None);
        if let Auth::Basic(user, password) = &self.auth {
            let set = url
                .set_username(user)
                .and_then(|()| url.set_password(Some(password)));
            set.map_err(|()| ConfigError::Url("it cannot hold credentials".to_owned()))?;
        }
        Redis::new(url.as_str(), &prefix, self.timeouts)
            .map_err(|error| ConfigError::Url(error.to_string()))
    }

    /// Reads `grpc://host:port/instance`.
    fn grpc(&self, scheme: &str, rest: &str) -> Result<Grpc, ConfigError> {
        let rest = rest.trim_start_matches('/');
        let (host, instance) = rest.split_once('/').unwrap_or((rest, ""));
        let authorization = self.authorization();
        let url = format!("{scheme}://{host}");
        Grpc::new(
            &url,
            instance.trim_matches('/'),
            authorization.as_deref(),
            self.timeouts,
        )
        .map_err(|error| ConfigError::Url(error.to_string()))
    }
}

fn folder(rest: &str) -> PathBuf {
    PathBuf::from(rest.strip_prefix("//").unwrap_or(rest))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= chunk.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> Config {
        Config {
            url: url.to_owned(),
            mode: Mode::Read,
            timeouts: Timeouts::default(),
            upload_max: 1 << 29,
            upload_jobs: 4,
            auth: Auth::None,
            signing_key: None,
            trusted_keys: Vec::new(),
            read_scopes: vec!["main".to_owned()],
            write_scope: "main".to_owned(),
        }
    }

    #[test]
    fn each_scheme_has_a_backend() {
        let urls = [
            "file:///tmp/cache",
            "http://127.0.0.1:1/cache",
            "https://127.0.0.1:1",
            "s3://bucket/prefix?region=eu-west-1",
            "gs://bucket",
            "redis://127.0.0.1:1/0?prefix=x:",
            "grpc://127.0.0.1:1/main",
            "grpcs://127.0.0.1:1",
        ];
        for url in urls {
            assert!(config(url).backend().is_ok(), "{url}");
        }
    }

    #[test]
    fn urls_that_make_no_sense_are_refused() {
        for url in [
            "",
            "cache",
            "ftp://x",
            "s3:///x",
            "s3://b?style=x",
            "s3://b?endpoint=x",
        ] {
            assert!(config(url).backend().is_err(), "{url}");
        }
    }

    #[test]
    fn an_unknown_scheme_is_reported_without_the_rest() {
        let error = config("ftp://user:secret@host").backend().err().unwrap();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn basic_credentials_are_base64() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
