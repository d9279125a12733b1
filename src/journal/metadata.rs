//! Writes the last success of a target as JSON, for people and programs:
//! `metadata/<target>.meta.json`, described by `schemas/metadata.schema.json`. fbuild itself
//! never reads it.

use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;

use super::Success;
use crate::action::{Entry, EntryKind};
use crate::checked_file::{self, system_error};
use crate::digest::Digest;
use crate::path::escape;

/// The most bytes of a target's name in the name of its file.
const MOST_NAME: usize = 150;

/// The version of the format.
const FORMAT: u32 = 1;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    format: u32,
    target: &'a str,
    key: String,
    manifest: Digest,
    log: Option<Digest>,
    duration_ms: u64,
    /// The time when the outputs were made or restored, in milliseconds since 1970.
    settled_at_ms: i64,
    outputs: Vec<Output>,
}

/// An output: its path, kind and content.
#[derive(Serialize)]
struct Output {
    path: String,
    #[serde(flatten)]
    what: What,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum What {
    File { digest: Digest, executable: bool },
    Link { target: String },
    Folder,
}

impl Output {
    fn of(entry: &Entry) -> Self {
        let what = match &entry.kind {
            EntryKind::File { digest, mode } => What::File {
                digest: *digest,
                executable: mode.is_executable(),
            },
            EntryKind::Link { target, .. } => What::Link {
                target: escape(target).into_owned(),
            },
            EntryKind::Folder => What::Folder,
        };
        Self {
            path: entry.path.to_string(),
            what,
        }
    }
}

/// Writes the metadata of a target into `folder`.
pub fn write(folder: &Path, target: &str, success: &Success) -> io::Result<()> {
    let result = &success.result;
    let metadata = Metadata {
        format: FORMAT,
        target,
        key: success.key.0.hex(),
        manifest: result.manifest,
        log: result.log,
        duration_ms: result.duration_ms,
        settled_at_ms: crate::stamp::now() / 1_000_000,
        outputs: result.outputs.iter().map(Output::of).collect(),
    };
    let mut json = serde_json::to_vec_pretty(&metadata)?;
    json.push(b'\n');
    publish(folder, &file_name(target), &json).map_err(system_error)
}

fn publish(folder: &Path, name: &str, json: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(json)?;
    checked_file::replace(&folder.join(name), file)
}

/// Returns the file's name: the target's, with bytes that some file systems refuse written as
/// `%XX`, and a very long one cut and followed by its digest, so that no two share a file.
fn file_name(target: &str) -> String {
    let mut name = String::new();
    for byte in target.bytes() {
        let is_plain = byte.is_ascii_alphanumeric() || b"-_.+@:".contains(&byte);
        if is_plain && !(name.is_empty() && byte == b'.') {
            name.push(byte as char);
        } else {
            name.push_str(&format!("%{byte:02X}"));
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
    use super::*;
    use crate::action::{ActionKey, ActionResult};
    use crate::path::RelPath;
    use crate::stamp::FileMode;

    const SCHEMA: &str = include_str!("../../schemas/metadata.schema.json");

    fn success() -> Success {
        let digest = Digest::of(b"content");
        let file = EntryKind::File {
            digest,
            mode: FileMode::EXECUTABLE,
        };
        let link = EntryKind::Link {
            target: b"file\xff".to_vec(),
            content: None,
        };
        let outputs = [
            ("out", EntryKind::Folder),
            ("out/file", file),
            ("out/link", link),
        ];
        let entry = |(path, kind)| Entry {
            path: RelPath::new(path).unwrap(),
            kind,
        };
        Success {
            key: ActionKey(digest),
            result: ActionResult {
                outputs: outputs.map(entry).into(),
                log: Some(digest),
                manifest: digest,
                duration_ms: 5,
            },
        }
    }

    fn written(success: &Success) -> serde_json::Value {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a target", success).unwrap();
        let file = dir.path().join("a%20target.meta.json");
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
    }

    #[test]
    fn metadata_matches_its_schema() {
        let schema = serde_json::from_str(SCHEMA).unwrap();
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        let mut metadata = written(&success());
        if let Err(error) = validator.validate(&metadata) {
            panic!("{error}");
        }
        metadata["outputs"][1]["strange"] = true.into();
        assert!(validator.validate(&metadata).is_err());
        let mut silent = success();
        silent.result.log = None;
        silent.result.outputs.clear();
        assert!(validator.is_valid(&written(&silent)));
    }

    #[test]
    fn targets_have_different_files() {
        assert_eq!(file_name("webapp-static"), "webapp-static.meta.json");
        assert_eq!(file_name("a/b"), "a%2Fb.meta.json");
        assert_eq!(file_name("a%2Fb"), "a%252Fb.meta.json");
        assert_eq!(file_name(".."), "%2E..meta.json");
        let long = |last: char| file_name(&format!("{}{last}", "x".repeat(500)));
        assert_ne!(long('a'), long('b'));
        assert!(long('a').len() < 255);
    }
}
