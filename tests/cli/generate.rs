//! `fbuild completions` and `fbuild man`: they contain every command and option, and the shells
//! and man readers accept them.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::project::{Project, skip};

const COMMANDS: [&str; 24] = [
    "run",
    "test",
    "graph",
    "list",
    "check",
    "status",
    "explain",
    "cache status",
    "cache trust",
    "cache verify",
    "cache gc",
    "cache clear",
    "remote status",
    "remote push",
    "remote key",
    "clean",
    "trash list",
    "trash restore",
    "trash empty",
    "fmt",
    "add",
    "init",
    "completions",
    "man",
];

/// Feeds a text to a program; `None` if the program is missing.
fn read_by(program: &str, args: &[&str], text: &str) -> Option<(bool, String)> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    let mut stdin = child.stdin.take().unwrap();
    let text = text.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8(printed).unwrap()))
}

#[test]
fn man_page_has_every_command_and_option() {
    let page = Project::empty().run("man").code(0).stdout;
    assert!(page.contains("\n.TH fbuild 1 "), "{page}");
    let lines = |start: &str| {
        let lines = page.lines().filter_map(|line| line.strip_prefix(start));
        lines
            .map(|line| line.trim_matches('"').to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        lines(".SS "),
        COMMANDS.map(|command| format!("fbuild {command}"))
    );
    assert_eq!(
        lines(".SH ").join(", "),
        "NAME, SYNOPSIS, DESCRIPTION, COMMANDS, OPTIONS, EXIT STATUS, FILES, VERSION"
    );
    for word in [
        "keep\\-going",
        "dry\\-run",
        "max\\-size",
        "repair",
        "drift",
        "from",
    ] {
        assert!(page.contains(word), "{word} is not in the page");
    }
    assert_eq!(page.matches(".ie ").count(), 1);
}

#[test]
fn man_page_is_valid_roff() {
    let page = Project::empty().run("man").code(0).stdout;
    let Some((is_good, printed)) = read_by("groff", &["-man", "-Tutf8", "-ww", "-z"], &page) else {
        return skip("there is no groff");
    };
    assert!(is_good && printed.is_empty(), "{printed}");
}

#[test]
fn completions_name_every_command() {
    let project = Project::empty();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = project.run(&format!("completions {shell}")).code(0).stdout;
        let words = COMMANDS.iter().flat_map(|command| command.split(' '));
        for word in words.chain(["keep-going", "repair"]) {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
}

#[test]
fn completions_are_valid_for_their_shell() {
    let project = Project::empty();
    for shell in ["bash", "zsh", "fish"] {
        let script = project.run(&format!("completions {shell}")).code(0).stdout;
        let only_read = match shell {
            "fish" => "--no-execute",
            _ => "-n",
        };
        match read_by(shell, &[only_read], &script) {
            Some((is_good, printed)) => {
                assert!(is_good && printed.is_empty(), "{shell}: {printed}")
            }
            None => skip(&format!("there is no {shell}")),
        }
    }
}

#[test]
fn bash_completes_commands_and_options() {
    let script = Project::empty().run("completions bash").code(0).stdout;
    let complete = |words: &str, current: usize| {
        let before = current - 1;
        let ask = format!(
            "{script}\nCOMP_WORDS=({words})\nCOMP_CWORD={current}\n\
             _fbuild fbuild \"${{COMP_WORDS[{current}]}}\" \"${{COMP_WORDS[{before}]}}\"\n\
             echo \"${{COMPREPLY[*]}}\"\n"
        );
        read_by("bash", &["--norc", "--noprofile"], &ask)
    };
    let Some((_, commands)) = complete("fbuild ex", 1) else {
        return skip("there is no bash");
    };
    assert_eq!(commands, "explain\n");
    let (_, options) = complete("fbuild run --keep", 2).unwrap();
    assert_eq!(options, "--keep-going\n");
}
