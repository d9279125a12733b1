//! Searches everything that fbuild stores and prints for a secret and for an undeclared
//! variable, plain and encoded (suite T11).

use std::fs;
use std::path::{Path, PathBuf};

use super::project::{FinishedRun, Project};

/// Unique values of 32 bytes, with characters that encodings change.
const SECRET: &str = "s3cr3t/canary+value?&%=#0123456!";
const HIDDEN: &str = "und3clared/canary+value?&%=#012!";

/// Targets that print the secret in every way.
const BUILDFILE: &str = r#"
    target plain { secret TOKEN; outputs plain; sh "echo $TOKEN; echo $TOKEN >&2; echo ok > plain" }
    target encoded {
        secret TOKEN
        outputs encoded
        run sh "encode.sh"
        sh "echo ok > encoded"
    }
    target argument { secret TOKEN; outputs argument; sh "sh -c 'echo \"got: $1\"; echo ok > argument' sh \"$TOKEN\"" }
    target pieces { secret TOKEN; outputs pieces; run sh "pieces.sh"; sh "echo ok > pieces" }
    target environment { secret TOKEN; outputs environment; sh "env; echo ok > environment" }
    target fails { secret TOKEN; inputs in; sh "echo failing with $TOKEN >&2; exit 1" }
    target missing { secret TOKEN; run no-such-program; outputs missing }
    target hangs { secret TOKEN; timeout "100ms"; sh "echo $TOKEN; sleep 60" }
    target again { secret TOKEN; retries 1; sh "echo trying with $TOKEN; exit 3" }
    target user { needs plain encoded; outputs user; sh "cat plain encoded > user" }
"#;

/// Prints the secret in every encoding, alone and inside other text.
const ENCODE: &str = r#"
for text in "$TOKEN" "x$TOKEN" "xy$TOKEN" "${TOKEN}z"; do
    printf %s "$text" | base64 -w0
    echo
    printf %s "$text" | base64 -w0 | tr '+/' '-_'
    echo
done
hex=$(printf %s "$TOKEN" | od -An -v -tx1 | tr -d ' \n')
echo "$hex $(echo "$hex" | tr a-f A-F)"
printf '%s\n' "$TOKEN" | sed -e 's/%/%25/g' -e 's/\//%2F/g' -e 's/+/%2B/g' -e 's/?/%3F/g' \
    -e 's/&/%26/g' -e 's/=/%3D/g' -e 's/#/%23/g' -e 's/!/%21/g'
printf '%s\n' "$TOKEN" | sed -e 's/%/%25/g' -e 's/\//%2f/g' -e 's/+/%2b/g' -e 's/?/%3f/g' \
    -e 's/&/%26/g' -e 's/=/%3d/g' -e 's/#/%23/g' -e 's/!/%21/g'
printf '%s\n' "$TOKEN" | sed -e 's/&/\\u0026/g'
printf '%s\n' "$TOKEN" | sed -e 's/\//\\\//g'
printf '%s\n' "$TOKEN" | sed -e 's/&/\&amp;/g'
printf '%s\n' "$TOKEN" | sed -e 's/[?&!]/\\&/g'
"#;

/// Prints the secret one character at a time.
const PIECES: &str = r#"
rest=$TOKEN
while [ -n "$rest" ]; do
    printf %.1s "$rest"
    rest=${rest#?}
done
"#;

/// Returns the texts that would reveal a secret.
fn forms(secret: &str) -> Vec<(&'static str, Vec<u8>)> {
    let bytes = secret.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let percent: String = bytes
        .iter()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                char::from(*byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect();
    let mut forms = vec![
        ("plain", bytes.to_vec()),
        ("half", bytes[..20].to_vec()),
        ("hex", hex.clone().into_bytes()),
        ("HEX", hex.to_uppercase().into_bytes()),
        ("percent", percent.into_bytes()),
    ];
    for offset in 0..3 {
        // The digits in the middle do not depend on the surrounding text.
        let text = [&vec![b'x'; offset], bytes].concat();
        let digits = base64(&text);
        let middle = &digits[4..digits.len() - 4];
        forms.push(("base64", middle.as_bytes().to_vec()));
        let safe = middle.replace('+', "-").replace('/', "_");
        forms.push(("base64, for addresses", safe.into_bytes()));
    }
    forms
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut bits = 0;
        for at in 0..3 {
            bits = bits << 8 | u32::from(group.get(at).copied().unwrap_or(0));
        }
        for at in (0..4).rev() {
            text.push(char::from(DIGITS[(bits >> (6 * at)) as usize & 63]));
        }
    }
    text
}

/// Returns the forms of the two values that occur in `bytes`.
fn found(bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for (whose, secret) in [("the secret", SECRET), ("the variable", HIDDEN)] {
        for (form, needle) in forms(secret) {
            if bytes.windows(needle.len()).any(|window| window == needle) {
                found.push(format!("{whose} ({form})"));
            }
        }
    }
    found
}

fn run(project: &Project, words: &str) -> FinishedRun {
    let run = project.fbuild(words).env("TOKEN", SECRET);
    run.env("UNDECLARED", HIDDEN).end()
}

fn all_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(all_files(&path));
        } else {
            files.push(path);
        }
    }
    files
}

#[test]
fn search_finds_every_form() {
    let text = format!("x{}y", base64(format!("token={SECRET};").as_bytes()));
    assert_eq!(found(text.as_bytes())[0], "the secret (base64)");
    assert_eq!(
        found(HIDDEN.as_bytes()),
        ["the variable (plain)", "the variable (half)"]
    );
    assert_eq!(found(b"nothing"), [""; 0]);
}

#[test]
fn secret_is_stored_or_printed_in_no_form() {
    let project = Project::new(BUILDFILE)
        .file("in", "1")
        .file("encode.sh", ENCODE)
        .file("pieces.sh", PIECES);
    let targets = "plain encoded argument pieces environment user";
    let mut commands = vec![format!("run {targets}")];
    for words in [
        "run -v --force",
        "run --json --force",
        "run --no-cache",
        "run -n",
        "status",
    ] {
        commands.push(format!("{words} {targets}"));
    }
    for target in ["fails", "missing", "hangs", "again"] {
        commands.push(format!("run {target}"));
        commands.push(format!("run --json -v {target}"));
    }
    for words in ["plain", "encoded", "user", "fails"].map(|target| format!("explain {target}")) {
        commands.push(words);
    }
    for words in [
        "list --json",
        "graph --format json user",
        "check",
        "cache status",
        "cache verify",
    ] {
        commands.push(words.to_owned());
    }
    run(&project, &commands[0]).code(0);
    for words in &commands {
        let done = run(&project, words);
        let printed = [done.stdout, done.stderr].concat();
        assert_eq!(found(printed.as_bytes()), [""; 0], "{words}: {printed}");
    }
    // Restored results print their recorded output.
    for output in ["plain", "encoded", "pieces", "environment"] {
        fs::remove_file(project.path(output)).unwrap();
    }
    let done = run(&project, &format!("run -v {targets}"));
    assert!(done.stdout.contains("***"), "{}", done.stdout);
    assert_eq!(found(done.stdout.as_bytes()), [""; 0], "{}", done.stdout);
    let kept = all_files(&project.path(".build-cache"));
    assert!(kept.len() > 20, "{kept:?}");
    for path in kept {
        let name = path.as_os_str().as_encoded_bytes();
        assert_eq!(found(name), [""; 0], "{}", path.display());
        let bytes = fs::read(&path).unwrap();
        assert_eq!(found(&bytes), [""; 0], "{}", path.display());
    }
}
