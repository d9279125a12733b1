//! Formats commands in shell syntax: to run them, to show them, and to repeat them by
//! hand. It starts no shell.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::Task;
use super::mask::Masker;
use crate::action::{Action, ResolvedCommand};
use crate::path::{self, Root};

/// Formats one line that repeats a task's command by hand, from any folder: it enters the
/// command's directory and sets exactly its environment.
///
/// A secret is written as a reference to a variable, `"$TOKEN"`; within other values it is
/// masked. `TMPDIR` is left out: the private folder no longer exists.
pub fn command_line(root: &Root, task: &Task<'_>, command: &ResolvedCommand) -> String {
    let action = task.action;
    let masker = Masker::new(action.secrets.values());
    let hidden = |word: &[u8]| quote(&masker.mask(word));
    let setting =
        |name: &str, value: &OsStr| hidden(&[name.as_bytes(), value.as_bytes()].join(&b'='));
    let dir = root.absolute(&action.dir);
    let mut words = vec![format!(
        "cd {} && env -i",
        hidden(dir.as_os_str().as_bytes())
    )];
    for (name, value) in variables(action) {
        match value {
            _ if action.secrets.contains_key(name) => words.push(format!("{name}=\"${name}\"")),
            Some(value) => words.push(setting(name, value)),
            None => {}
        }
    }
    words.push(setting("FBUILD_TARGET", OsStr::new(task.name)));
    words.extend(argv(command).iter().map(|word| hidden(word.as_bytes())));
    words.join(" ")
}

/// The longest script that is passed as an argument. Linux accepts one of 128 KiB with the
/// zero at its end.
const MAX_SCRIPT: usize = (128 << 10) - 1;

/// Returns the script of a command if it is too long for an argument.
pub(super) fn long_script(command: &ResolvedCommand) -> Option<&OsStr> {
    match command {
        ResolvedCommand::Sh(script) | ResolvedCommand::ShWith(script, _)
            if script.len() > MAX_SCRIPT =>
        {
            Some(OsStr::new(script))
        }
        _ => None,
    }
}

/// Returns the program and the arguments that run a script in a file. As with a script in an
/// argument, `$0` is the shell and standard input is not used.
pub(super) fn argv_of_file(script: &Path, command: &ResolvedCommand) -> Vec<OsString> {
    let source = format!(". {}", quote(script.as_os_str().as_bytes()));
    let args = match command {
        ResolvedCommand::ShWith(_, args) => args,
        ResolvedCommand::Sh(_) | ResolvedCommand::Run(_) => &Vec::new(),
    };
    argv_of_script(&source, args)
}

/// Returns the program and the arguments of a command.
pub(super) fn argv(command: &ResolvedCommand) -> Vec<OsString> {
    match command {
        ResolvedCommand::Run(argv) => argv.clone(),
        ResolvedCommand::Sh(script) => argv_of_script(script, &[]),
        ResolvedCommand::ShWith(script, args) => argv_of_script(script, args),
    }
}

fn argv_of_script(script: &str, args: &[OsString]) -> Vec<OsString> {
    let mut argv: Vec<OsString> = ["sh", "-eu", "-c", script].map(OsString::from).into();
    if !args.is_empty() {
        // The first one is `$0`.
        argv.push("sh".into());
        argv.extend_from_slice(args);
    }
    argv
}

/// Returns the variables of an action, each once, sorted by name: a secret wins over a
/// declared variable, which wins over an inherited one. `None` unsets the variable.
pub(super) fn variables(action: &Action) -> impl Iterator<Item = (&str, Option<&OsString>)> {
    let mut all: BTreeMap<&str, Option<&OsString>> = BTreeMap::new();
    for (name, value) in &action.inherited {
        all.insert(name, Some(value));
    }
    for (name, value) in &action.env {
        all.insert(name, value.as_ref());
    }
    for (name, value) in &action.secrets {
        all.insert(name, Some(value));
    }
    all.into_iter()
}

/// Quotes a word for a shell: plain words stay as they are, others are put in quotes.
/// Control characters and bytes that are not UTF-8 become `$'\xNN'`.
pub fn quote(word: &[u8]) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(byte);
    match std::str::from_utf8(word) {
        Ok(text) if !text.is_empty() && word.iter().all(is_plain) => text.to_owned(),
        Ok(text) if !text.contains(|c| c != '\\' && path::is_escaped(c)) => {
            format!("'{}'", text.replace('\'', "'\\''"))
        }
        _ => format!("$'{}'", path::escape(word).replace('\'', "\\'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::RelPath;

    #[test]
    fn quote_adds_quotes_only_where_needed() {
        let cases: [(&[u8], &str); 8] = [
            (b"-o=./a,b:c@d%e+f_1", "-o=./a,b:c@d%e+f_1"),
            (b"", "''"),
            (b"two words", "'two words'"),
            (b"it's", r"'it'\''s'"),
            (br"a\b $x `y`", r"'a\b $x `y`'"),
            ("grün".as_bytes(), "'grün'"),
            (b"a\nb'c\\", r"$'a\x0ab\'c\\'"),
            (b"\xff", r"$'\xff'"),
        ];
        for (word, quoted) in cases {
            assert_eq!(quote(word), quoted);
        }
    }

    #[test]
    fn arguments_of_a_script_follow_its_name() {
        let command = ResolvedCommand::ShWith("ls \"$@\"".into(), vec!["-a".into(), "".into()]);
        let words = |argv: Vec<OsString>| -> Vec<String> {
            argv.iter().map(|word| quote(word.as_bytes())).collect()
        };
        let expected = ["sh", "-eu", "-c", "'ls \"$@\"'", "sh", "-a", "''"];
        assert_eq!(words(argv(&command)), expected);
        let of_file = words(argv_of_file(Path::new("/tmp/s"), &command));
        assert_eq!(of_file[3..], ["'. /tmp/s'", "sh", "-a", "''"]);
    }

    #[test]
    fn command_line_repeats_command_without_secret() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.into());
        let action = Action {
            commands: Vec::new(),
            dir: RelPath::new("web").unwrap(),
            env: BTreeMap::from([("URL".to_owned(), Some("u:hunter2@host".into()))]),
            inherited: BTreeMap::from([("PATH", "/bin"), ("TOKEN", "x")].map(pair)),
            secrets: BTreeMap::from([("TOKEN", "hunter2")].map(pair)),
            tools: BTreeMap::new(),
            inputs: Vec::new(),
            needs: BTreeMap::new(),
            ran: BTreeMap::new(),
            outputs: Vec::new(),
        };
        let task = Task {
            name: "web app",
            action: &action,
            timeout: None,
            interactive: false,
            tracing: crate::exec::Tracing::Off,
        };
        let command = ResolvedCommand::Sh("echo hunter2".to_owned());
        let line = command_line(&root, &task, &command);
        let line = line.replace(root.path().to_str().unwrap(), "ROOT");
        let expected = "cd ROOT/web && env -i PATH=/bin TOKEN=\"$TOKEN\" 'URL=u:***@host' \
                        'FBUILD_TARGET=web app' sh -eu -c 'echo ***'";
        assert_eq!(line, expected);
    }
}
