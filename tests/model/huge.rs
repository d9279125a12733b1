//! T13, in part: files whose length needs more than 32 bits are inputs and outputs like all
//! others, and are never held in memory as a whole.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use fbuild::workspace::FILE_NAME;

use crate::support::scale::{Suite, count};

const GIB: u64 = 1 << 30;
/// What is left of it in 32 bits is a length that a file can have, too.
const LONG: u64 = 4 * GIB + SHORT;
const SHORT: u64 = 1 << 20;
/// How much of the address space fbuild gets, in KiB: less than a quarter of the file.
const MEMORY: &str = "1000000";
/// Room for the output and for its copy in the store, and some more.
const ROOM: u64 = 10 * GIB;

const BUILDFILE: &str = r#"
target reader { inputs big; outputs end; sh "tail -c 4 big > end" }
target writer { outputs made; sh "truncate -s 4G made; echo end >> made" }
"#;

#[test]
fn t13_files_of_more_than_four_gib_are_files_like_all_others() {
    let suite = Suite::begin("T13");
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join(FILE_NAME), BUILDFILE).unwrap();
    // Even of zeros, reading and writing so many takes its time and room.
    if count(1) < 2 {
        return suite.skip("files of more than 4 GiB", "less than twice the figures");
    }
    inputs(folder);
    let said = format!("an input of {LONG} bytes, after one of {SHORT}");
    let room = rustix::fs::statvfs(folder).unwrap();
    if room.f_bavail * room.f_frsize < ROOM {
        suite.skip("an output of more than 4 GiB", "no room");
        return suite.say(&said);
    }
    outputs(folder);
    suite.say(&format!(
        "{said}; an output of {} bytes, stored, verified and restored",
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
    says(folder, "run reader", "1 built");
    assert_eq!(made(), "shrt");
    // As long, in 32 bits.
    end(LONG, "long");
    says(folder, "run reader", "1 built");
    assert_eq!(made(), "long");
    says(folder, "run reader", "1 target up to date");
}

fn outputs(folder: &Path) {
    says(folder, "run writer", "1 built");
    let made = folder.join("made");
    fs::remove_file(&made).unwrap();
    says(folder, "run writer", "1 restored");
    let made = File::open(made).unwrap();
    assert_eq!(made.metadata().unwrap().len(), 4 * GIB + 4);
    let mut end = [0; 6];
    made.read_exact_at(&mut end, 4 * GIB - 2).unwrap();
    assert_eq!(&end, b"\0\0end\n");
    says(folder, "cache verify", "");
    says(folder, "run writer", "1 target up to date");
}

/// Runs fbuild with little memory, and checks that it succeeds and says something.
#[expect(
    clippy::disallowed_methods,
    reason = "this plays the shell that starts fbuild"
)]
fn says(folder: &Path, words: &str, part: &str) {
    let script = format!("ulimit -v {MEMORY}; exec \"$0\" -C \"$1\" {words}");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_fbuild")]);
    let done = shell.arg(folder).output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(done.status.success(), "{words}: {said}");
    assert!(said.contains(part), "{words}: {said}");
}
