//! Supports tests of processes: the helper `fbt`, a folder for it, and a mark by which its
//! processes are found.

#![expect(clippy::unwrap_used, reason = "these are tests")]
#![expect(
    clippy::disallowed_methods,
    reason = "stands in for the shell that starts fbuild"
)]

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Returns the path of `fbt` (`examples/fbt.rs`). Cargo builds it beside the tests; this builds
/// it if only some tests are run and it is missing or old.
pub(crate) fn fbt() -> &'static PathBuf {
    static FBT: OnceLock<PathBuf> = OnceLock::new();
    FBT.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let fbt = test.ancestors().nth(2).unwrap().join("examples/fbt");
        let age = |path: &PathBuf| path.metadata().and_then(|m| m.modified()).ok();
        if age(&fbt) < age(&test) {
            let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args([
                "build",
                "--quiet",
                "--example",
                "fbt",
                "--manifest-path",
                manifest,
            ]);
            assert!(cargo.status().unwrap().success(), "cannot build fbt");
        }
        assert!(fbt.exists(), "{} is missing", fbt.display());
        fbt
    })
}

/// A folder for commands, and the mark of their processes.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    pub(crate) mark: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (id, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self {
            dir: tempfile::tempdir().unwrap(),
            mark: format!("mark-{id}-{number}-"),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns the arguments of `fbt` for these words. `MARK` and `FILE` are expanded, and `FBT`
    /// is the path of `fbt`.
    pub(crate) fn fbt(&self, words: &str) -> Vec<OsString> {
        let words = words.split_whitespace().map(|word| match word {
            "FILE" => self.path("file").into_os_string(),
            "MARK" => OsString::from(&self.mark),
            "FBT" => OsString::from(fbt()),
            word => OsString::from(word),
        });
        std::iter::once(fbt().into()).chain(words).collect()
    }

    /// Returns the live processes with this mark.
    pub(crate) fn alive(&self) -> Vec<i32> {
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let read = |pid: i32, file| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let mark = self.mark.as_bytes();
        let has = |text: &[u8]| text.windows(mark.len()).any(|window| window == mark);
        pids.filter(|pid| has(&read(*pid, "cmdline")) || has(&read(*pid, "environ")))
            .collect()
    }
}
