//! Redis as a shared cache: `<prefix>ac:<name>` and `<prefix>cas:<hash>`, blobs compressed.
//! What is kept for how long is the server's policy (`maxmemory-policy`).

use std::io::{Read, Write};
use std::sync::{Mutex, PoisonError};

use redis::{Client, Connection, ErrorKind, RedisError};

use super::backend::{Backend, Error, Kind, RecordName, Timeouts, hex};
use super::codec;
use crate::digest::Digest;

/// A value of Redis has at most 512 MB; larger ones would also block the server.
const LARGEST: u64 = 256 << 20;

/// A server and the connections that are open to it.
pub(super) struct Redis {
    client: Client,
    prefix: String,
    timeouts: Timeouts,
    idle: Mutex<Vec<Connection>>,
}

impl Redis {
    /// Returns the backend of a server; connects when the first request is sent.
    pub(super) fn new(url: &str, prefix: &str, timeouts: Timeouts) -> Result<Self, Error> {
        Ok(Self {
            client: Client::open(url).map_err(|error| of_redis(&error))?,
            prefix: prefix.to_owned(),
            timeouts,
            idle: Mutex::new(Vec::new()),
        })
    }

    /// Runs `work` with a connection. One that failed is dropped, not used again.
    fn with<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, RedisError>,
    ) -> Result<T, Error> {
        let idle = self.lock().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.connect().map_err(|error| of_redis(&error))?,
        };
        let done = work(&mut connection).map_err(|error| of_redis(&error))?;
        self.lock().push(connection);
        Ok(done)
    }

    fn connect(&self) -> Result<Connection, RedisError> {
        let connection = self
            .client
            .get_connection_with_timeout(self.timeouts.connect)?;
        connection.set_read_timeout(Some(self.timeouts.idle))?;
        connection.set_write_timeout(Some(self.timeouts.idle))?;
        Ok(connection)
    }

    fn record_key(&self, name: &RecordName) -> String {
        format!("{}ac:{}", self.prefix, name.hex())
    }

    fn blob_key(&self, digest: Digest) -> String {
        format!("{}cas:{}", self.prefix, hex(digest))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for Redis {
    fn record(&self, name: &RecordName) -> Result<Option<Vec<u8>>, Error> {
        self.with(|connection| {
            redis::cmd("GET")
                .arg(self.record_key(name))
                .query(connection)
        })
    }

    fn put_record(&self, name: &RecordName, record: &[u8], _: &[Digest]) -> Result<(), Error> {
        let key = self.record_key(name);
        self.with(|connection| redis::cmd("SET").arg(key).arg(record).query(connection))
    }

    fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, Error> {
        if digests.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        for digest in digests {
            pipe.cmd("EXISTS").arg(self.blob_key(*digest));
        }
        let exist: Vec<bool> = self.with(|connection| pipe.query(connection))?;
        let pairs = digests.iter().zip(exist);
        Ok(pairs
            .filter(|(_, exists)| !exists)
            .map(|(digest, _)| *digest)
            .collect())
    }

    fn fetch(&self, digest: Digest, to: &mut dyn Write) -> Result<bool, Error> {
        let key = self.blob_key(digest);
        let found: Option<Vec<u8>> = self.with(|c| redis::cmd("GET").arg(key).query(c))?;
        let Some(bytes) = found else {
            return Ok(false);
        };
        codec::decompress(digest, &mut &bytes[..], to)?;
        Ok(true)
    }

    fn send(&self, digest: Digest, from: &mut (dyn Read + Send)) -> Result<(), Error> {
        let bytes = packed(from)?;
        let key = self.blob_key(digest);
        self.with(|connection| redis::cmd("SET").arg(key).arg(bytes).query(connection))
    }

    fn fetch_small(&self, digests: &[Digest]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let mut pipe = redis::pipe();
        for digest in digests {
            pipe.cmd("GET").arg(self.blob_key(*digest));
        }
        let found: Vec<Option<Vec<u8>>> = self.with(|connection| pipe.query(connection))?;
        let unpack = |(digest, packed): (&Digest, Option<Vec<u8>>)| {
            let Some(packed) = packed else {
                return Ok(None);
            };
            let mut bytes = Vec::new();
            codec::decompress(*digest, &mut &packed[..], &mut bytes)?;
            Ok(Some(bytes))
        };
        digests.iter().zip(found).map(unpack).collect()
    }

    fn send_small(&self, blobs: &[(Digest, Vec<u8>)]) -> Result<(), Error> {
        let mut pipe = redis::pipe();
        for (digest, bytes) in blobs {
            pipe.cmd("SET")
                .arg(self.blob_key(*digest))
                .arg(packed(&mut &bytes[..])?)
                .ignore();
        }
        self.with(|connection| pipe.query(connection))
    }

    fn probe(&self) -> Result<Vec<String>, Error> {
        let info: String = self.with(|c| redis::cmd("INFO").arg("server").query(c))?;
        let version = info
            .lines()
            .find_map(|line| line.strip_prefix("redis_version:"));
        Ok(version
            .map(|version| format!("Redis {version}"))
            .into_iter()
            .collect())
    }
}

fn packed(from: &mut dyn Read) -> Result<Vec<u8>, Error> {
    let (mut file, length) = codec::compress(from).map_err(|e| Error::local(&e))?;
    if length > LARGEST {
        let message = format!("a blob of {length} bytes is too large for Redis");
        return Err(Error::new(Kind::Local, message));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|e| Error::local(&e))?;
    Ok(bytes)
}

fn of_redis(error: &RedisError) -> Error {
    let kind = match error.kind() {
        ErrorKind::AuthenticationFailed => Kind::Denied,
        ErrorKind::Io if error.is_timeout() => Kind::Timeout,
        ErrorKind::Io => Kind::Unavailable,
        _ if error.code() == Some("OOM") => Kind::Full,
        _ if matches!(error.code(), Some("NOAUTH" | "NOPERM" | "WRONGPASS")) => Kind::Denied,
        _ => Kind::Protocol,
    };
    Error::new(kind, error.to_string())
}
