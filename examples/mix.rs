//! A deterministic command for tests: its outputs are digests of its arguments and of the
//! variables and files that they name. `tests/support/fake_tool.rs` implements it.
//!
//! It appends the target's name to `journal` in the folder `$MIX_CONTROL`. If that folder
//! contains a socket with the target's name, the command reports there when it starts and
//! when it has read its inputs, and waits for an answer each time.

#![expect(
    clippy::disallowed_methods,
    reason = "a test program, not part of fbuild"
)]
#![expect(dead_code, reason = "this program uses only a part of these modules")]

use std::error::Error;
use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[path = "../tests/support/fake_tool.rs"]
mod fake_tool;
#[path = "../tests/support/glob.rs"]
mod glob;
#[path = "../tests/support/tree.rs"]
mod tree;

use fake_tool::{Outcome, Words};

/// The exit code of a command that fails as it was told to.
const FAILED: u8 = 3;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(code) => code,
        Err(error) => {
            // Ignore the error: there is no other place to report it.
            let _ = writeln!(std::io::stderr(), "mix: {error}");
            ExitCode::from(99)
        }
    }
}

fn run(words: &[String]) -> Result<ExitCode, Box<dyn Error>> {
    let name = std::env::var("FBUILD_TARGET")?;
    let mut control = Control::new(&name)?;
    let words = Words::parse(words.iter().map(String::as_str))?;
    let root = Path::new(if words.indoors { ".." } else { "." });
    let view = fake_tool::Disk(root);
    control.pause()?;
    let (inputs, needs) = (words.read_inputs(&view), words.read_needs(&view));
    control.pause()?;
    let outcome = words.mix(&|name| std::env::var(name).ok(), &inputs, &needs);
    let (Outcome::Made(made) | Outcome::Failed(made)) = &outcome;
    for (path, node) in made {
        match (node, root.join(path)) {
            (tree::Node::Folder, path) => std::fs::create_dir_all(path)?,
            (node, path) => tree::write(&path, node)?,
        }
    }
    Ok(match outcome {
        Outcome::Made(_) => ExitCode::SUCCESS,
        Outcome::Failed(_) => ExitCode::from(FAILED),
    })
}

/// The connection to the test that controls the command.
struct Control(Option<UnixStream>);

impl Control {
    fn new(name: &str) -> Result<Self, Box<dyn Error>> {
        let Some(folder) = std::env::var_os("MIX_CONTROL").map(PathBuf::from) else {
            return Ok(Self(None));
        };
        let mut journal = OpenOptions::new()
            .append(true)
            .create(true)
            .open(folder.join("journal"))?;
        journal.write_all(format!("{name}\n").as_bytes())?;
        Ok(Self(UnixStream::connect(folder.join(name)).ok()))
    }

    /// Waits until the test lets the command go on.
    fn pause(&mut self) -> std::io::Result<()> {
        match &mut self.0 {
            None => Ok(()),
            Some(stream) => {
                stream.write_all(b"?")?;
                stream.read_exact(&mut [0])
            }
        }
    }
}
