//! The last success of a target as JSON, for people and programs:
//! `metadata/<target>.meta.json`, described by `schemas/metadata.schema.json`. fbuild
//! itself never reads it.

use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;

use super::Success;
use crate::action::Entry;
use crate::digest::Digest;

/// The longest part of a file's name taken from a target's name, in bytes.
const MOST_NAME: usize = 150;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    format: u32,
    target: &'a str,
    key: String,
    manifest: Digest,
    log: Option<Digest>,
    duration_ms: u64,
    /// When the outputs were made or put back, in milliseconds since 1970.
    settled_at_ms: i64,
    outputs: &'a [Entry],
}

/// Writes the metadata of a target into `folder`.
pub fn write(folder: &Path, target: &str, success: &Success) -> io::Result<()> {
    let result = &success.result;
    let metadata = Metadata {
        format: 1,
        target,
        key: success.key.0.hex(),
        manifest: result.manifest,
        log: result.log,
        duration_ms: result.duration_ms,
        settled_at_ms: crate::stamp::now() / 1_000_000,
        outputs: &result.outputs,
    };
    let mut json = serde_json::to_vec_pretty(&metadata)?;
    json.push(b'\n');
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&json)?;
    file.persist(folder.join(file_name(target)))?;
    Ok(())
}

/// Returns the file's name: the target's, with what file systems cannot take written as
/// `%XX`, and for a very long one its beginning and digest, so that no two share a file.
fn file_name(target: &str) -> String {
    let mut name = String::new();
    for byte in target.bytes() {
        let is_plain = byte.is_ascii_alphanumeric() || b"-_.+@:".contains(&byte);
        match is_plain && !(name.is_empty() && byte == b'.') {
            true => name.push(byte as char),
            false => name.push_str(&format!("%{byte:02X}")),
        }
    }
    if name.len() > MOST_NAME {
        let digest = Digest::of(target.as_bytes()).hex();
        name = format!("{}%{digest}", &name[..MOST_NAME]);
    }
    name + ".meta.json"
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn no_two_targets_share_a_file() {
        assert_eq!(file_name("webapp-static"), "webapp-static.meta.json");
        assert_eq!(file_name("a/b"), "a%2Fb.meta.json");
        assert_eq!(file_name("a%2Fb"), "a%252Fb.meta.json");
        assert_eq!(file_name(".."), "%2E..meta.json");
        let long = |last: char| file_name(&format!("{}{last}", "x".repeat(500)));
        assert_ne!(long('a'), long('b'));
        assert!(long('a').len() < 255);
    }
}
