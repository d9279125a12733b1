//! Suite T13 in part: files longer than 4 GiB are normal inputs and outputs, and are never held
//! in memory.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use fbuild::workspace::FILE_NAME;

use crate::support::scale::{Suite, count};
use crate::support::user;

const GIB: u64 = 1 << 30;
/// Its low 32 bits are also a valid length.
const LONG: u64 = 4 * GIB + SHORT;
const SHORT: u64 = 1 << 20;
/// The address space of fbuild in KiB: less than a quarter of the file.
const MEMORY: &str = "1000000";
/// Space for the output, its blob, and a margin.
const ROOM: u64 = 10 * GIB;

const BUILDFILE: &str = r#"
target reader { inputs big; outputs end; sh "tail -c 4 big > end" }
target writer { outputs out; sh "truncate -s 4G out; echo end >> out" }
"#;

#[test]
fn t13_files_over_four_gib_are_built_and_restored() {
    let suite = Suite::begin("T13");
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join(FILE_NAME), BUILDFILE).unwrap();
    // Even zeros take much time and space at this size.
    if count(1) < 2 {
        return suite.skip("files of more than 4 GiB", "less than twice the figures");
    }
    inputs(folder);
    let input = format!("an input of {LONG} bytes, after one of {SHORT}");
    let room = rustix::fs::statvfs(folder).unwrap();
    if room.f_bavail * room.f_frsize < ROOM {
        suite.skip("an output of more than 4 GiB", "no room");
        return suite.report(&input);
    }
    outputs(folder);
    suite.report(&format!(
        "{input}; an output of {} bytes, stored, verified and restored",
        4 * GIB + 4
    ));
}

fn inputs(folder: &Path) {
    let big = File::create(folder.join("big")).unwrap();
    let end = |length: u64, text: &str| {
        big.set_len(0).unwrap();
        big.set_len(length).unwrap();
        big.write_all_at(text.as_bytes(), length - 4).unwrap();
    };
    let made = || fs::read_to_string(folder.join("end")).unwrap();
    end(SHORT, "shrt");
    prints(folder, "run reader", "1 built");
    assert_eq!(made(), "shrt");
    // The same length in 32 bits.
    end(LONG, "long");
    prints(folder, "run reader", "1 built");
    assert_eq!(made(), "long");
    prints(folder, "run reader", "1 target up to date");
}

fn outputs(folder: &Path) {
    prints(folder, "run writer", "1 built");
    let made = folder.join("out");
    fs::remove_file(&made).unwrap();
    prints(folder, "run writer", "1 restored");
    let made = File::open(made).unwrap();
    assert_eq!(made.metadata().unwrap().len(), 4 * GIB + 4);
    let mut end = [0; 6];
    made.read_exact_at(&mut end, 4 * GIB - 2).unwrap();
    assert_eq!(&end, b"\0\0end\n");
    prints(folder, "cache verify", "");
    prints(folder, "run writer", "1 target up to date");
}

/// Runs fbuild with little memory and checks its success and its output.
#[expect(
    clippy::disallowed_methods,
    reason = "this plays the shell that starts fbuild"
)]
fn prints(folder: &Path, words: &str, part: &str) {
    let script = format!("ulimit -v {MEMORY}; exec \"$0\" -C \"$1\" {words}");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_fbuild")]);
    shell.env("FBUILD_CACHE_KEY", user::SECRET);
    let done = shell.arg(folder).output().unwrap();
    let output = [done.stdout, done.stderr].concat();
    let output = String::from_utf8_lossy(&output);
    assert!(done.status.success(), "{words}: {output}");
    assert!(output.contains(part), "{words}: {output}");
}
