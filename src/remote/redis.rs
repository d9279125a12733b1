//! Redis as a shared cache: `<prefix>ac:<name>` and `<prefix>cas:<hash>`, blobs compressed.
//! What is kept for how long is the server's policy (`maxmemory-policy`).

use std::io::{Read, Write};
use std::sync::{Mutex, PoisonError};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, FromRedisValue, Pipeline, RedisError};
use tokio::runtime::Runtime;

use super::backend::{Backend, Error, Kind, RecordName, Timeouts};
use super::{codec, runtime};
use crate::digest::Digest;

/// A value of Redis has at most 512 MB; larger ones would also block the server.
const LARGEST: u64 = 256 << 20;

/// A server and the connection to it.
pub(super) struct Redis {
    runtime: Runtime,
    client: Client,
    prefix: String,
    timeouts: Timeouts,
    /// Shared by all threads; `None` until the first request, and after a failure.
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl Redis {
    /// Returns the backend of a server; connects when the first request is sent.
    pub(super) fn new(url: &str, prefix: &str, timeouts: Timeouts) -> Result<Self, Error> {
        Ok(Self {
            runtime: runtime::start().map_err(|e| Error::local(&e))?,
            client: Client::open(url).map_err(|error| of_redis(&error))?,
            prefix: prefix.to_owned(),
            timeouts,
            connection: Mutex::new(None),
        })
    }

    /// Sends commands and waits for their answers, at most as long as one exchange may take.
    fn run<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, Error> {
        let late = |_| Error::new(Kind::Timeout, "no answer in time");
        let answer = self.runtime.block_on(async {
            let mut connection = self.connect().await?;
            let answer = commands.query_async(&mut connection);
            let answer = tokio::time::timeout(self.timeouts.total, answer)
                .await
                .map_err(late)?;
            answer.map_err(|error| of_redis(&error))
        });
        if answer.is_err() {
            // Answers that come late would be taken for those of the next request.
            *self.lock() = None;
        }
        answer
    }

    async fn connect(&self) -> Result<MultiplexedConnection, Error> {
        let known = self.lock().clone();
        if let Some(connection) = known {
            return Ok(connection);
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeouts.connect))
            .set_response_timeout(Some(self.timeouts.total));
        let connection = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        let connection = connection.await.map_err(|error| of_redis(&error))?;
        *self.lock() = Some(connection.clone());
        Ok(connection)
    }

    fn record_key(&self, name: &RecordName) -> String {
        format!("{}ac:{}", self.prefix, name.hex())
    }

    fn blob_key(&self, digest: Digest) -> String {
        format!("{}cas:{}", self.prefix, digest.hex())
    }

    /// Returns packed blobs, `None` for those that the server lacks.
    fn get(&self, digests: &[Digest]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let mut commands = redis::pipe();
        for digest in digests {
            commands.cmd("GET").arg(self.blob_key(*digest));
        }
        self.run(&commands)
    }

    /// Each change is one assignment, so a panic elsewhere left the value whole.
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<MultiplexedConnection>> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for Redis {
    fn record(&self, name: &RecordName) -> Result<Option<Vec<u8>>, Error> {
        let mut commands = redis::pipe();
        commands.cmd("GET").arg(self.record_key(name));
        let (record,) = self.run(&commands)?;
        Ok(record)
    }

    fn put_record(&self, name: &RecordName, record: &[u8], _: &[Digest]) -> Result<(), Error> {
        let mut commands = redis::pipe();
        commands
            .cmd("SET")
            .arg(self.record_key(name))
            .arg(record)
            .ignore();
        self.run(&commands)
    }

    fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, Error> {
        if digests.is_empty() {
            return Ok(Vec::new());
        }
        let mut commands = redis::pipe();
        for digest in digests {
            commands.cmd("EXISTS").arg(self.blob_key(*digest));
        }
        let exist: Vec<bool> = self.run(&commands)?;
        let pairs = digests.iter().zip(exist);
        Ok(pairs
            .filter(|(_, exists)| !exists)
            .map(|(digest, _)| *digest)
            .collect())
    }

    fn fetch(&self, digest: Digest, to: &mut dyn Write) -> Result<bool, Error> {
        let Some(Some(packed)) = self.get(&[digest])?.pop() else {
            return Ok(false);
        };
        codec::decompress(digest, &mut &packed[..], to)?;
        Ok(true)
    }

    fn send(&self, digest: Digest, from: &mut (dyn Read + Send)) -> Result<(), Error> {
        let mut commands = redis::pipe();
        commands
            .cmd("SET")
            .arg(self.blob_key(digest))
            .arg(packed(from)?)
            .ignore();
        self.run(&commands)
    }

    fn fetch_small(&self, digests: &[Digest]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let unpack = |(digest, packed): (&Digest, Option<Vec<u8>>)| {
            let Some(packed) = packed else {
                return Ok(None);
            };
            let mut bytes = Vec::new();
            codec::decompress(*digest, &mut &packed[..], &mut bytes)?;
            Ok(Some(bytes))
        };
        digests.iter().zip(self.get(digests)?).map(unpack).collect()
    }

    fn send_small(&self, blobs: &[(Digest, Vec<u8>)]) -> Result<(), Error> {
        let mut commands = redis::pipe();
        for (digest, bytes) in blobs {
            commands
                .cmd("SET")
                .arg(self.blob_key(*digest))
                .arg(packed(&mut &bytes[..])?)
                .ignore();
        }
        self.run(&commands)
    }

    fn probe(&self) -> Result<Vec<String>, Error> {
        let mut commands = redis::pipe();
        commands.cmd("INFO").arg("server");
        let (info,): (String,) = self.run(&commands)?;
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
