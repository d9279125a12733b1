//! Messages of the Remote Execution API that carry records, so that servers which check
//! what they keep (bazel-remote, Buildbarn) take them for results of actions. Where a
//! record is inside them is decided here and nowhere else.

use bazel_remote_apis::build::bazel::remote::execution::v2 as reapi;
use bazel_remote_apis::google::protobuf::Any;
use prost::Message as _;

use crate::digest::Digest;

/// The path under which the record itself is listed among a result's files.
const RECORD: &str = "fbuild-record";
/// The type of the inline copy of a record.
const TYPE: &str = "type.googleapis.com/fbuild.Record";
/// Records up to this many bytes are also inline, which saves one exchange.
const INLINE: usize = 64 * 1024;

/// Returns an encoded `Action` that stands for `text`: the message of no command in an
/// empty folder, which differs from others in its salt only.
pub(super) fn action(text: Vec<u8>) -> Vec<u8> {
    let empty = Some(digest(Digest::of(b"")));
    let action = reapi::Action {
        command_digest: empty.clone(),
        input_root_digest: empty,
        salt: text,
        ..Default::default()
    };
    action.encode_to_vec()
}

/// Returns an `ActionResult` whose files are the record and all blobs that it names. A
/// server that checks completeness drops it when one of them is gone.
pub(super) fn wrap(record: &[u8], blobs: &[Digest]) -> reapi::ActionResult {
    let file = |path: String, content: Digest| reapi::OutputFile {
        path,
        digest: Some(digest(content)),
        ..Default::default()
    };
    let record_file = file(RECORD.to_owned(), Digest::of(record));
    let blobs = blobs
        .iter()
        .map(|blob| file(format!("blob/{}", blob.hex()), *blob));
    let inline = (record.len() <= INLINE).then(|| Any {
        type_url: TYPE.to_owned(),
        value: record.to_vec(),
    });
    reapi::ActionResult {
        output_files: std::iter::once(record_file).chain(blobs).collect(),
        execution_metadata: Some(reapi::ExecutedActionMetadata {
            auxiliary_metadata: inline.into_iter().collect(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A record as a server keeps it.
pub(super) enum Found {
    /// Its bytes.
    Inline(Vec<u8>),
    /// The blob that holds it.
    Blob(Digest),
}

/// Finds the record in an `ActionResult`; `None` if it holds none.
pub(super) fn unwrap(result: reapi::ActionResult) -> Option<Found> {
    let metadata = result.execution_metadata.unwrap_or_default();
    let mut inline = metadata.auxiliary_metadata.into_iter();
    if let Some(any) = inline.find(|any| any.type_url == TYPE) {
        return Some(Found::Inline(any.value));
    }
    let file = result
        .output_files
        .iter()
        .find(|file| file.path == RECORD)?;
    parse(file.digest.as_ref()?).map(Found::Blob)
}

/// Returns a digest as a message.
pub(super) fn digest(digest: Digest) -> reapi::Digest {
    reapi::Digest {
        hash: digest.hex(),
        size_bytes: i64::try_from(digest.size()).unwrap_or(i64::MAX),
    }
}

/// Reads a digest; `None` if it is not a SHA-256 and a length.
pub(super) fn parse(digest: &reapi::Digest) -> Option<Digest> {
    let size = u64::try_from(digest.size_bytes).ok()?;
    if digest.hash.len() != 64
        || !digest
            .hash
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    {
        return None;
    }
    let mut hash = [0; 32];
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digest.hash[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(Digest::from_parts(hash, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_record_is_found_inline() {
        let found = unwrap(wrap(b"record", &[Digest::of(b"x")]));
        assert!(matches!(found, Some(Found::Inline(bytes)) if bytes == b"record"));
    }

    #[test]
    fn a_large_record_is_found_as_a_blob() {
        let record = vec![7; INLINE + 1];
        let found = unwrap(wrap(&record, &[]));
        assert!(matches!(found, Some(Found::Blob(digest)) if digest == Digest::of(&record)));
    }

    #[test]
    fn a_result_without_a_record_holds_none() {
        assert!(unwrap(reapi::ActionResult::default()).is_none());
    }

    #[test]
    fn digests_round_trip_and_others_are_refused() {
        let message = digest(Digest::of(b"abc"));
        assert_eq!(parse(&message), Some(Digest::of(b"abc")));
        for hash in [
            message.hash.to_uppercase(),
            message.hash[1..].to_owned(),
            "../".repeat(22),
        ] {
            assert_eq!(
                parse(&reapi::Digest {
                    hash,
                    size_bytes: 3
                }),
                None
            );
        }
        assert_eq!(
            parse(&reapi::Digest {
                size_bytes: -1,
                ..message
            }),
            None
        );
    }
}
