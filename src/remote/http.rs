//! Servers that speak HTTP: the `/ac` and `/cas` layout of Bazel's HTTP cache on any server
//! with GET, PUT and HEAD, and buckets of S3 and of what speaks like it.
//!
//! Layout of Bazel's cache: <https://bazel.build/remote/caching#http-caching>. Requests to
//! buckets are signed URLs (AWS Signature Version 4), so no credential is ever a header.

use std::io::{self, Read, Write};
use std::time::Duration;

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use prost::Message as _;
use rusty_s3::{Bucket, Credentials, S3Action as _};
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body, SendBody};

use super::backend::{Backend, Error, Kind, Limited, MAX_RECORD, RecordName, Timeouts};
use super::codec;
use super::wire::{self, Found};
use crate::digest::Digest;

/// How long a signed URL is valid: longer than any exchange takes.
const SIGNED: Duration = Duration::from_secs(3600);

/// A server and the layout of its objects.
pub(super) struct Http {
    agent: Agent,
    layout: Layout,
}

/// Where objects are and how requests are authorised.
pub(super) enum Layout {
    /// `<base>/ac/<name>` and `<base>/cas/<hash>`, uncompressed.
    Bazel {
        /// The URL without a slash at its end.
        base: String,
        /// The value of the `Authorization` header.
        authorization: Option<String>,
    },
    /// `<prefix>v1/ac/<name>` and `<prefix>v1/cas/<hash>`, blobs compressed.
    Bucket {
        /// The bucket.
        bucket: Box<Bucket>,
        /// The key pair; `None` for public buckets.
        credentials: Option<Credentials>,
        /// What names begin with.
        prefix: String,
    },
}

#[derive(Clone, Copy)]
enum Method {
    Get,
    Head,
    Put,
}

impl Http {
    /// Returns the backend of a server; connects when the first request is sent.
    pub(super) fn new(layout: Layout, timeouts: Timeouts) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(3)
            .timeout_connect(Some(timeouts.connect))
            .timeout_per_read(Some(timeouts.idle))
            .timeout_per_write(Some(timeouts.idle))
            .timeout_recv_response(Some(timeouts.idle))
            .timeout_global(Some(timeouts.total))
            .max_idle_connections(128)
            .max_idle_connections_per_host(128)
            // A body in another coding would be taken for damage.
            .accept_encoding("identity")
            .tls_config(
                ureq::tls::TlsConfig::builder()
                    .root_certs(ureq::tls::RootCerts::PlatformVerifier)
                    .build(),
            )
            .user_agent(concat!("fbuild/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            agent: config.new_agent(),
            layout,
        }
    }

    /// Returns the URL of an object, signed for `method` where the layout signs URLs.
    fn url(&self, method: Method, object: &str) -> String {
        match &self.layout {
            Layout::Bazel { base, .. } => format!("{base}/{object}"),
            Layout::Bucket {
                bucket,
                credentials,
                prefix,
            } => {
                let (name, keys) = (format!("{prefix}v1/{object}"), credentials.as_ref());
                let url = match method {
                    Method::Get => bucket.get_object(keys, &name).sign(SIGNED),
                    Method::Head => bucket.head_object(keys, &name).sign(SIGNED),
                    Method::Put => bucket.put_object(keys, &name).sign(SIGNED),
                };
                url.into()
            }
        }
    }

    fn authorization(&self) -> Option<&str> {
        match &self.layout {
            Layout::Bazel { authorization, .. } => authorization.as_deref(),
            Layout::Bucket { .. } => None,
        }
    }

    fn is_compressed(&self) -> bool {
        matches!(self.layout, Layout::Bucket { .. })
    }

    /// Sends a request without a body.
    fn ask(&self, method: Method, object: &str) -> Result<Response<Body>, Error> {
        let url = self.url(method, object);
        let mut request = match method {
            Method::Head => self.agent.head(url),
            _ => self.agent.get(url),
        };
        if let Some(value) = self.authorization() {
            request = request.header("authorization", value);
        }
        request.call().map_err(of_ureq)
    }

    fn get(&self, object: &str) -> Result<Option<Response<Body>>, Error> {
        let response = self.ask(Method::Get, object)?;
        match response.status() {
            StatusCode::OK => Ok(Some(response)),
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
            status => Err(of_status(status, &response)),
        }
    }

    fn put(&self, object: &str, length: u64, body: &mut dyn Read) -> Result<(), Error> {
        let url = self.url(Method::Put, object);
        let mut request = self
            .agent
            .put(url)
            .header("content-type", "application/octet-stream")
            .header("content-length", length.to_string());
        if let Some(value) = self.authorization() {
            request = request.header("authorization", value);
        }
        let response = request.send(SendBody::from_reader(body)).map_err(of_ureq)?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(of_status(response.status(), &response))
    }
}

impl Backend for Http {
    fn record(&self, name: &RecordName) -> Result<Option<Vec<u8>>, Error> {
        let Some(response) = self.get(&format!("ac/{}", name.hex()))? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let body = response.into_body().into_reader();
        body.take(MAX_RECORD + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::of_io(&e))?;
        if self.is_compressed() {
            return Ok(Some(bytes));
        }
        let result = reapi::ActionResult::decode(&bytes[..])
            .map_err(|_| Error::new(Kind::Protocol, "the server sent no result of an action"))?;
        match wire::unwrap(result) {
            Some(Found::Inline(record)) => Ok(Some(record)),
            Some(Found::Blob(digest)) if digest.size() <= MAX_RECORD => self.fetch_one(digest),
            _ => Ok(None),
        }
    }

    fn put_record(&self, name: &RecordName, record: &[u8], blobs: &[Digest]) -> Result<(), Error> {
        let object = format!("ac/{}", name.hex());
        if self.is_compressed() {
            return self.put(&object, record.len() as u64, &mut &record[..]);
        }
        let blob = Digest::of(record);
        self.put(
            &format!("cas/{}", blob.hex()),
            record.len() as u64,
            &mut &record[..],
        )?;
        let result = wire::wrap(record, blobs).encode_to_vec();
        self.put(&object, result.len() as u64, &mut &result[..])
    }

    fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, Error> {
        let mut missing = Vec::new();
        for digest in digests {
            let response = self.ask(Method::Head, &format!("cas/{}", digest.hex()))?;
            match response.status() {
                StatusCode::OK | StatusCode::NO_CONTENT => {}
                StatusCode::NOT_FOUND | StatusCode::GONE => missing.push(*digest),
                status => return Err(of_status(status, &response)),
            }
        }
        Ok(missing)
    }

    fn fetch(&self, digest: Digest, to: &mut dyn Write) -> Result<bool, Error> {
        let Some(response) = self.get(&format!("cas/{}", digest.hex()))? else {
            return Ok(false);
        };
        let mut body = response.into_body().into_reader();
        if self.is_compressed() {
            codec::decompress(digest, &mut body, to)?;
        } else {
            let mut limited = Limited::new(to, digest.size());
            io::copy(&mut body, &mut limited).map_err(|e| Error::of_io(&e))?;
        }
        Ok(true)
    }

    fn send(&self, digest: Digest, from: &mut (dyn Read + Send)) -> Result<(), Error> {
        let object = format!("cas/{}", digest.hex());
        if self.is_compressed() {
            let (mut file, length) = codec::compress(from).map_err(|e| Error::local(&e))?;
            return self.put(&object, length, &mut file);
        }
        self.put(&object, digest.size(), from)
    }

    fn probe(&self) -> Result<Vec<String>, Error> {
        let object = format!("cas/{}", Digest::of(b"").hex());
        let response = self.ask(Method::Head, &object)?;
        let status = response.status();
        let is_answer = status.is_success() || status == StatusCode::NOT_FOUND;
        if !is_answer {
            return Err(of_status(status, &response));
        }
        let server = response
            .headers()
            .get("server")
            .and_then(|s| s.to_str().ok());
        Ok(server
            .map(|server| format!("server {server}"))
            .into_iter()
            .collect())
    }
}

fn of_status(status: StatusCode, response: &Response<Body>) -> Error {
    let kind = match status.as_u16() {
        401 | 403 | 405 | 407 => Kind::Denied,
        408 => Kind::Timeout,
        413 | 507 => Kind::Full,
        429 | 500..=599 => Kind::Unavailable,
        _ => Kind::Protocol,
    };
    let after = response
        .headers()
        .get("retry-after")
        .and_then(|value| value.to_str().ok());
    let after = after
        .map(|value| format!(" (retry after {value})"))
        .unwrap_or_default();
    Error::new(kind, format!("the server answered {status}{after}"))
}

/// Words an error without the URL, whose query may hold a signature.
fn of_ureq(error: ureq::Error) -> Error {
    let kind = match &error {
        ureq::Error::Timeout(_) => Kind::Timeout,
        ureq::Error::Io(error) => return Error::of_io(error),
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => Kind::Unavailable,
        ureq::Error::ConnectProxyFailed(_) | ureq::Error::BodyStalled => Kind::Unavailable,
        _ => Kind::Protocol,
    };
    let message = match &error {
        ureq::Error::Timeout(what) => format!("no answer in time ({what})"),
        ureq::Error::BadUri(_) => "the URL is malformed".to_owned(),
        ureq::Error::TooManyRedirects | ureq::Error::RedirectFailed => {
            "the server redirects without an end".to_owned()
        }
        error => error.to_string(),
    };
    Error::new(kind, message)
}
