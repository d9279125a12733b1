//! Servers that speak the Remote Execution API, version 2: content store, action cache and
//! byte streams. The only asynchronous code; each verb blocks its caller until the answer
//! is there or its time is up.
//!
//! Protocol: `build/bazel/remote/execution/v2/remote_execution.proto`, versions 2.1 to 2.12.

use std::future::Future;
use std::io::{self, Read, Write};
use std::sync::OnceLock;

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::google::bytestream;
use bytestream::byte_stream_client::ByteStreamClient;
use reapi::action_cache_client::ActionCacheClient;
use reapi::capabilities_client::CapabilitiesClient;
use reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status};

use super::backend::{Backend, Error, Kind, Limited, MAX_RECORD, RecordName, SMALL, Timeouts};
use super::wire::{self, Found};
use super::{codec, runtime};
use crate::digest::Digest;
use crate::event::error_chain;

/// The most bytes in one batch where the server states no limit: gRPC's usual limit of a
/// message, less room for what is around the blobs.
const BATCH: usize = (4 << 20) - (64 << 10);
/// Messages that are read may be this large.
const MAX_MESSAGE: usize = 16 << 20;
/// How many digests go into one question.
const DIGESTS: usize = 10_000;
/// How many bytes of a stream go into one message.
const CHUNK: usize = 256 << 10;
/// The digest function SHA-256, as the protocol numbers it.
const SHA256: i32 = 1;
/// The compressor zstd, as the protocol numbers it.
const ZSTD: i32 = 1;

/// A server and the connection to it.
pub(super) struct Grpc {
    runtime: Runtime,
    channel: Channel,
    instance: String,
    authorization: Option<MetadataValue<Ascii>>,
    timeouts: Timeouts,
    abilities: OnceLock<Abilities>,
}

/// The parts of a server's capabilities that decide how to talk to it.
#[derive(Clone, Copy, Debug)]
struct Abilities {
    /// The most bytes in a batch.
    batch: usize,
    /// Whether streams may be compressed.
    has_zstd: bool,
}

impl Grpc {
    /// Returns the backend of a server; connects when the first request is sent. `url` is
    /// `http://…` or `https://…`.
    pub(super) fn new(
        url: &str,
        instance: &str,
        authorization: Option<&str>,
        timeouts: Timeouts,
    ) -> Result<Self, Error> {
        let runtime = runtime::start().map_err(|e| Error::local(&e))?;
        let malformed = |_| Error::new(Kind::Protocol, "the URL is malformed");
        let mut endpoint = Endpoint::from_shared(url.to_owned())
            .map_err(malformed)?
            .connect_timeout(timeouts.connect);
        // No keep-alive pings: by default, gRPC servers close a connection with more than one
        // in five minutes. Each call has a deadline of its own.
        if url.starts_with("https:") {
            let tls = ClientTlsConfig::new().with_native_roots();
            endpoint = endpoint
                .tls_config(tls)
                .map_err(|e| Error::new(Kind::Protocol, error_chain(&e)))?;
        }
        let authorization = authorization.map(str::parse).transpose();
        let authorization = authorization.map_err(|_| {
            Error::new(
                Kind::Denied,
                "the credentials hold characters that a header cannot hold",
            )
        })?;
        let channel = {
            let _guard = runtime.enter();
            endpoint.connect_lazy()
        };
        Ok(Self {
            runtime,
            channel,
            instance: instance.to_owned(),
            authorization,
            timeouts,
            abilities: OnceLock::new(),
        })
    }

    /// Waits for an answer, at most as long as one exchange may take.
    fn wait<T>(
        &self,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Status> {
        let total = self.timeouts.total;
        let answer = self
            .runtime
            .block_on(async { tokio::time::timeout(total, answer).await });
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
        answer.map(Response::into_inner)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(value) = &self.authorization {
            request
                .metadata_mut()
                .insert("authorization", value.clone());
        }
        request
    }

    fn content_store(&self) -> ContentAddressableStorageClient<Channel> {
        ContentAddressableStorageClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    fn action_cache(&self) -> ActionCacheClient<Channel> {
        ActionCacheClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    fn streams(&self) -> ByteStreamClient<Channel> {
        ByteStreamClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    fn capabilities(&self) -> Result<reapi::ServerCapabilities, Error> {
        let mut client = CapabilitiesClient::new(self.channel.clone());
        let request = reapi::GetCapabilitiesRequest {
            instance_name: self.instance.clone(),
        };
        let request = self.request(request);
        self.wait(client.get_capabilities(request))
            .map_err(|status| of_status(&status))
    }

    /// Returns the server's abilities, which are asked for once.
    fn abilities(&self) -> Result<Abilities, Error> {
        if let Some(abilities) = self.abilities.get() {
            return Ok(*abilities);
        }
        let capabilities = self.capabilities()?;
        let cache = capabilities.cache_capabilities.unwrap_or_default();
        // Unknown numbers are functions that this program does not know; they do no harm.
        if !cache.digest_functions.is_empty() && !cache.digest_functions.contains(&SHA256) {
            return Err(Error::new(
                Kind::Denied,
                "the server does not take SHA-256 digests",
            ));
        }
        let stated = usize::try_from(cache.max_batch_total_size_bytes).unwrap_or(0);
        let batch = if stated == 0 {
            BATCH
        } else {
            stated.min(BATCH)
        };
        let abilities = Abilities {
            batch,
            has_zstd: cache.supported_compressors.contains(&ZSTD),
        };
        Ok(*self.abilities.get_or_init(|| abilities))
    }

    /// Returns the name of a blob as a stream, and whether it is compressed.
    fn resource(&self, digest: Digest, upload: Option<&str>) -> Result<(String, bool), Error> {
        // Small blobs shrink by less than a frame costs.
        let has_zstd = self.abilities()?.has_zstd && digest.size() > 1024;
        let kind = if has_zstd {
            "compressed-blobs/zstd"
        } else {
            "blobs"
        };
        let upload = upload
            .map(|id| format!("uploads/{id}/"))
            .unwrap_or_default();
        let name = format!("{upload}{kind}/{}/{}", digest.hex(), digest.size());
        if self.instance.is_empty() {
            return Ok((name, has_zstd));
        }
        Ok((format!("{}/{name}", self.instance), has_zstd))
    }

    /// Reads a stream to its end; false if there is no such blob. `to` gets raw messages.
    fn read_stream(&self, resource_name: String, to: &mut dyn Write) -> Result<bool, Error> {
        let request = self.request(bytestream::ReadRequest {
            resource_name,
            read_offset: 0,
            read_limit: 0,
        });
        let mut client = self.streams();
        let idle = self.timeouts.idle;
        let late = |_| Error::new(Kind::Timeout, "no data in time");
        self.runtime.block_on(async {
            let opened = tokio::time::timeout(idle, client.read(request))
                .await
                .map_err(late)?;
            let mut stream = match opened {
                Ok(stream) => stream.into_inner(),
                Err(status) if status.code() == Code::NotFound => return Ok(false),
                Err(status) => return Err(of_status(&status)),
            };
            loop {
                match tokio::time::timeout(idle, stream.message())
                    .await
                    .map_err(late)?
                {
                    Ok(Some(piece)) => to.write_all(&piece.data).map_err(|e| Error::of_io(&e))?,
                    Ok(None) => return Ok(true),
                    Err(status) if status.code() == Code::NotFound => return Ok(false),
                    Err(status) => return Err(of_status(&status)),
                }
            }
        })
    }

    /// Writes a stream. A server that has the blob already may stop reading early.
    fn write_stream(
        &self,
        resource_name: String,
        from: &mut (dyn Read + Send),
    ) -> Result<(), Error> {
        let (sender, receiver) = mpsc::channel::<bytestream::WriteRequest>(4);
        let mut client = self.streams();
        let request = self.request(ReceiverStream::new(receiver));
        let pieces = async {
            let mut offset = 0;
            let mut name = resource_name;
            loop {
                let mut data = vec![0; CHUNK];
                let length = read_full(from, &mut data)?;
                data.truncate(length);
                let is_last = length < CHUNK;
                let piece = bytestream::WriteRequest {
                    resource_name: std::mem::take(&mut name),
                    write_offset: offset,
                    finish_write: is_last,
                    data,
                };
                offset += i64::try_from(length).unwrap_or(i64::MAX);
                // The receiver is gone when the server has answered.
                if sender.send(piece).await.is_err() || is_last {
                    break;
                }
            }
            drop(sender);
            Ok::<(), io::Error>(())
        };
        let total = self.timeouts.total;
        let both = async {
            tokio::time::timeout(total, async { tokio::join!(client.write(request), pieces) }).await
        };
        let (answer, sent) = self
            .runtime
            .block_on(both)
            .map_err(|_| Error::new(Kind::Timeout, "the blob was not taken in time"))?;
        sent.map_err(|e| Error::local(&e))?;
        match answer {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::AlreadyExists => Ok(()),
            Err(status) => Err(of_status(&status)),
        }
    }

    /// Sends blobs that fit into one batch.
    fn send_batch(&self, blobs: &[(Digest, Vec<u8>)]) -> Result<(), Error> {
        use reapi::batch_update_blobs_request::Request as Blob;
        let blob = |(digest, data): &(Digest, Vec<u8>)| Blob {
            digest: Some(wire::digest(*digest)),
            data: data.clone(),
            ..Default::default()
        };
        let request = reapi::BatchUpdateBlobsRequest {
            instance_name: self.instance.clone(),
            requests: blobs.iter().map(blob).collect(),
            digest_function: SHA256,
        };
        let request = self.request(request);
        let mut client = self.content_store();
        let answer = self
            .wait(client.batch_update_blobs(request))
            .map_err(|s| of_status(&s))?;
        let failed = answer
            .responses
            .into_iter()
            .filter_map(|response| response.status);
        match failed.into_iter().find(|status| status.code != 0) {
            Some(status) => Err(of_code(Code::from(status.code), &status.message)),
            None => Ok(()),
        }
    }
}

impl Backend for Grpc {
    fn record(&self, name: &RecordName) -> Result<Option<Vec<u8>>, Error> {
        let request = self.request(reapi::GetActionResultRequest {
            instance_name: self.instance.clone(),
            action_digest: Some(wire::digest(name.digest)),
            digest_function: SHA256,
            ..Default::default()
        });
        let mut client = self.action_cache();
        let result = match self.wait(client.get_action_result(request)) {
            Ok(result) => result,
            Err(status) if status.code() == Code::NotFound => return Ok(None),
            Err(status) => return Err(of_status(&status)),
        };
        match wire::unwrap(result) {
            Some(Found::Inline(record)) => Ok(Some(record)),
            Some(Found::Blob(digest)) if digest.size() <= MAX_RECORD => self.fetch_one(digest),
            _ => Ok(None),
        }
    }

    fn put_record(&self, name: &RecordName, record: &[u8], blobs: &[Digest]) -> Result<(), Error> {
        let record_digest = Digest::of(record);
        if record_digest.size() <= SMALL {
            self.send_small(&[
                (name.digest, name.action.clone()),
                (record_digest, record.to_vec()),
            ])?;
        } else {
            self.send_small(&[(name.digest, name.action.clone())])?;
            self.send(record_digest, &mut &record[..])?;
        }
        let request = self.request(reapi::UpdateActionResultRequest {
            instance_name: self.instance.clone(),
            action_digest: Some(wire::digest(name.digest)),
            action_result: Some(wire::wrap(record, blobs)),
            digest_function: SHA256,
            ..Default::default()
        });
        let mut client = self.action_cache();
        self.wait(client.update_action_result(request))
            .map(drop)
            .map_err(|s| of_status(&s))
    }

    fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, Error> {
        let mut missing = Vec::new();
        for some in digests.chunks(DIGESTS) {
            let request = self.request(reapi::FindMissingBlobsRequest {
                instance_name: self.instance.clone(),
                blob_digests: some.iter().map(|digest| wire::digest(*digest)).collect(),
                digest_function: SHA256,
            });
            let mut client = self.content_store();
            let answer = self
                .wait(client.find_missing_blobs(request))
                .map_err(|s| of_status(&s))?;
            missing.extend(answer.missing_blob_digests.iter().filter_map(wire::parse));
        }
        Ok(missing)
    }

    fn fetch(&self, digest: Digest, to: &mut dyn Write) -> Result<bool, Error> {
        // The protocol has it that every server has the empty blob.
        if digest.size() == 0 {
            return Ok(true);
        }
        let (resource, is_compressed) = self.resource(digest, None)?;
        if !is_compressed {
            return self.read_stream(resource, &mut Limited::new(to, digest.size()));
        }
        let mut decoder = zstd::stream::write::Decoder::new(Limited::new(to, digest.size()))
            .map_err(|e| Error::local(&e))?;
        let is_there = self.read_stream(resource, &mut decoder)?;
        decoder.flush().map_err(|e| Error::of_io(&e))?;
        Ok(is_there)
    }

    fn send(&self, digest: Digest, from: &mut (dyn Read + Send)) -> Result<(), Error> {
        if digest.size() == 0 {
            return Ok(());
        }
        let id = upload_id(digest);
        let (resource, is_compressed) = self.resource(digest, Some(&id))?;
        if !is_compressed {
            return self.write_stream(resource, from);
        }
        let (mut file, _) = codec::compress(from).map_err(|e| Error::local(&e))?;
        self.write_stream(resource, &mut file)
    }

    fn fetch_small(&self, digests: &[Digest]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let limit = self.abilities()?.batch;
        let mut found = std::collections::HashMap::new();
        for some in batches(digests, limit, |digest| digest.size()) {
            let request = self.request(reapi::BatchReadBlobsRequest {
                instance_name: self.instance.clone(),
                digests: some.iter().map(|digest| wire::digest(*digest)).collect(),
                digest_function: SHA256,
                ..Default::default()
            });
            let mut client = self.content_store();
            let answer = self
                .wait(client.batch_read_blobs(request))
                .map_err(|s| of_status(&s))?;
            for response in answer.responses {
                let code = response.status.map_or(0, |status| status.code);
                let digest = response.digest.as_ref().and_then(wire::parse);
                if let (0, Some(digest)) = (code, digest) {
                    found.insert(digest, response.data);
                }
            }
        }
        Ok(digests
            .iter()
            .map(|digest| match digest.size() {
                0 => Some(Vec::new()),
                _ => found.get(digest).cloned(),
            })
            .collect())
    }

    fn send_small(&self, blobs: &[(Digest, Vec<u8>)]) -> Result<(), Error> {
        let limit = self.abilities()?.batch;
        batches(blobs, limit, |(digest, _)| digest.size())
            .try_for_each(|some| self.send_batch(some))
    }

    fn probe(&self) -> Result<Vec<String>, Error> {
        let capabilities = self.capabilities()?;
        let version = |v: Option<bazel_remote_apis::build::bazel::semver::SemVer>| {
            v.map(|v| format!("{}.{}", v.major, v.minor))
                .unwrap_or_default()
        };
        let (low, high) = (
            version(capabilities.low_api_version),
            version(capabilities.high_api_version),
        );
        let cache = capabilities.cache_capabilities.unwrap_or_default();
        let updates = cache
            .action_cache_update_capabilities
            .is_some_and(|c| c.update_enabled);
        let execution = capabilities
            .execution_capabilities
            .is_some_and(|c| c.exec_enabled);
        let yes = |is: bool| if is { "yes" } else { "no" };
        Ok(vec![
            format!("REAPI {low} to {high}"),
            format!("results can be written: {}", yes(updates)),
            format!("commands can be executed: {}", yes(execution)),
            format!("zstd: {}", yes(cache.supported_compressors.contains(&ZSTD))),
        ])
    }
}

/// Splits items into runs of at most `limit` bytes, but of one item at least.
fn batches<T>(items: &[T], limit: usize, size: impl Fn(&T) -> u64) -> impl Iterator<Item = &[T]> {
    // Around each blob are its digest and some tags.
    const AROUND: usize = 128;
    let mut rest = items;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut total = 0;
        let fits = |item: &&T| {
            total += usize::try_from(size(item)).unwrap_or(usize::MAX / 2) + AROUND;
            total <= limit
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (batch, tail) = rest.split_at(count);
        rest = tail;
        Some(batch)
    })
}

/// Fills `buffer` unless the reader ends before.
fn read_full(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match from.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Returns an id of an upload in the form of a UUID, which some servers insist on. Two
/// uploads of one blob by one process may share it: they send the same bytes.
fn upload_id(digest: Digest) -> String {
    let seed = format!("{} {}", std::process::id(), digest.hex());
    let hash = Digest::of(seed.as_bytes()).hex();
    format!(
        "{}-{}-4{}-8{}-{}",
        &hash[..8],
        &hash[8..12],
        &hash[13..16],
        &hash[17..20],
        &hash[20..32]
    )
}

fn of_status(status: &Status) -> Error {
    of_code(status.code(), status.message())
}

fn of_code(code: Code, message: &str) -> Error {
    let kind = match code {
        Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented => Kind::Denied,
        Code::DeadlineExceeded => Kind::Timeout,
        Code::Unavailable
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Internal
        | Code::Unknown
        | Code::Cancelled => Kind::Unavailable,
        _ => Kind::Protocol,
    };
    Error::new(kind, format!("{code:?}: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_stay_below_the_limit() {
        let sizes = [100_u64, 100, 100, 5000, 100];
        let split: Vec<usize> = batches(&sizes, 500, |size| *size)
            .map(<[u64]>::len)
            .collect();
        assert_eq!(split, [2, 1, 1, 1]);
    }

    #[test]
    fn upload_ids_have_the_form_of_a_uuid() {
        let id = upload_id(Digest::of(b"x"));
        let lengths: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
    }
}
