//! Writes an action as canonical text, whose digest is its key. `explain` compares the same
//! text, stored as a blob: the reason shown cannot disagree with the key.
//!
//! Format 2: one line per fact, its fields separated by tabs, each field escaped by
//! [`path::escape`] (so that none contains a tab or a newline), the lines in the order of the
//! list below and sorted within each kind.
//!
//! ```text
//! fbuild-action 2
//! platform <os> <architecture>
//! dir <path>
//! run <argument>…            sh <script> [<argument>…]
//! output <file|folder|glob> <path> [committed] [keep <pattern>…]
//! tool <name> <version> <digest of the probe's output>
//! env <name> [=<value>]      secret <name>
//! input <path> <content>     need <path> <content>
//! ran <key>
//! ```
//!
//! `<content>` is `file` or `exec`, the digest, and the permission bits in octal unless they are
//! 0644 or 0755; `link`, its text, and the content of the file behind it, if any; or `folder`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;

use super::{Action, ActionKey, Entry, EntryKind, OutputSpec, ResolvedCommand};
use crate::buildfile::model::Output;
use crate::digest::Digest;
use crate::path;
use crate::stamp::FileMode;

/// The first line: the version of the key format is in every key.
const HEADER: &str = "fbuild-action\t2\n";

/// The content of an empty folder.
const FOLDER: &str = "folder";

/// An action as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    text: String,
}

/// One difference between two manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What kind of fact it is about.
    pub fact: Fact,
    /// Its name: a path, a variable, a tool; empty where there is only one.
    pub name: String,
    /// The old value, escaped; `None` if it is new.
    pub from: Option<String>,
    /// The new value, escaped; `None` if it is gone.
    pub to: Option<String>,
}

/// The kinds of facts in a manifest, the better reasons first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fact {
    /// The version of the key format.
    Format,
    /// The system and the processor.
    Platform,
    /// A tool and its version.
    Tool,
    /// A variable and its value; before the commands, which may hold the value.
    Env,
    /// The name of a secret.
    Secret,
    /// A command, by its number.
    Command,
    /// The working directory.
    Dir,
    /// A declared output.
    Output,
    /// An input file.
    Input,
    /// An output of a needed target.
    Need,
    /// A needed target without outputs, and its key.
    Ran,
}

impl Manifest {
    /// Returns the manifest of an action.
    pub fn of(action: &Action) -> Self {
        let files = action.inputs.len() + action.needs.values().map(Vec::len).sum::<usize>();
        let mut lines = Lines(String::with_capacity(512 + files * 128));
        lines.0.push_str(HEADER);
        lines.line(&["platform", std::env::consts::OS, std::env::consts::ARCH]);
        lines.line(&["dir", &action.dir.to_string()]);
        for command in &action.commands {
            lines.command(command);
        }
        for output in &action.outputs {
            lines.output(output);
        }
        for (name, tool) in &action.tools {
            let output = tool.output.to_string();
            lines.line(&[
                "tool",
                &path::escape(name.as_bytes()),
                &tool.version,
                &output,
            ]);
        }
        for (name, value) in &action.env {
            lines.env(name, value.as_deref());
        }
        for name in action.secrets.keys() {
            lines.line(&["secret", &path::escape(name.as_bytes())]);
        }
        for entry in &action.inputs {
            lines.entry("input", entry);
        }
        for entry in merged(&action.needs) {
            lines.entry("need", entry);
        }
        let ran: BTreeSet<ActionKey> = action.ran.values().copied().collect();
        for key in ran {
            lines.line(&["ran", &key.0.to_string()]);
        }
        Self { text: lines.0 }
    }

    /// Decodes a manifest; `None` if it is not of this format.
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let text = String::from_utf8(bytes).ok()?;
        text.starts_with(HEADER).then_some(Self { text })
    }

    /// Returns its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the key of the action that it describes.
    pub fn key(&self) -> ActionKey {
        ActionKey(Digest::of(self.text.as_bytes()))
    }

    /// Returns its facts in order: kind, name, value.
    pub fn facts(&self) -> impl Iterator<Item = (Fact, String, &str)> {
        let mut commands = 0;
        self.text.lines().filter_map(move |line| {
            let (word, rest) = line.split_once('\t').unwrap_or((line, ""));
            let (fact, has_name) = fact(word)?;
            if fact == Fact::Command {
                commands += 1;
                return Some((fact, commands.to_string(), line));
            }
            let (name, value) = if has_name {
                rest.split_once('\t').unwrap_or((rest, ""))
            } else {
                ("", rest)
            };
            Some((fact, name.to_owned(), value))
        })
    }

    /// Returns the differences from an earlier manifest to this one, the better reasons first.
    pub fn changes_since(&self, earlier: &Self) -> Vec<Change> {
        let facts = |manifest: &Self| -> BTreeMap<(Fact, String), String> {
            let facts = manifest.facts();
            let pair = |(fact, name, value): (_, _, &str)| ((fact, name), value.to_owned());
            facts.map(pair).collect()
        };
        let (mut old, new) = (facts(earlier), facts(self));
        let mut changes = Vec::new();
        for ((fact, name), to) in new {
            let from = old.remove(&(fact, name.clone()));
            if from.as_ref() != Some(&to) {
                changes.push(Change {
                    fact,
                    name,
                    from,
                    to: Some(to),
                });
            }
        }
        changes.extend(old.into_iter().map(|((fact, name), from)| Change {
            fact,
            name,
            from: Some(from),
            to: None,
        }));
        // A folder that became empty is a worse reason than the file that was in it.
        let order = |change: &Change| {
            let value = change.to.as_ref().or(change.from.as_ref());
            (change.fact, value.is_some_and(|value| value == FOLDER))
        };
        changes.sort_by(|a, b| (order(a), &a.name).cmp(&(order(b), &b.name)));
        changes
    }
}

/// Returns the kind of fact that a line begins with, and whether a name follows.
fn fact(word: &str) -> Option<(Fact, bool)> {
    Some(match word {
        "fbuild-action" => (Fact::Format, false),
        "platform" => (Fact::Platform, false),
        "dir" => (Fact::Dir, false),
        "run" | "sh" => (Fact::Command, false),
        "output" => (Fact::Output, false),
        "tool" => (Fact::Tool, true),
        "env" => (Fact::Env, true),
        "secret" => (Fact::Secret, true),
        "input" => (Fact::Input, true),
        "need" => (Fact::Need, true),
        "ran" => (Fact::Ran, true),
        _ => return None,
    })
}

/// Returns the outputs of the needed targets, sorted by path, each once: which target made one
/// is not part of the key.
fn merged(needs: &BTreeMap<String, Vec<Entry>>) -> Vec<&Entry> {
    let mut entries: Vec<&Entry> = needs.values().flatten().collect();
    entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    entries.dedup_by(|a, b| a.path == b.path);
    entries
}

struct Lines(String);

impl Lines {
    /// Adds a line of fields that are escaped already.
    fn line(&mut self, fields: &[&str]) {
        for (at, field) in fields.iter().enumerate() {
            if at > 0 {
                self.0.push('\t');
            }
            self.0.push_str(field);
        }
        self.0.push('\n');
    }

    fn command(&mut self, command: &ResolvedCommand) {
        let mut fields: Vec<Cow<'_, str>> = Vec::new();
        match command {
            ResolvedCommand::Run(argv) => {
                fields.push("run".into());
                fields.extend(argv.iter().map(|arg| path::escape(arg.as_bytes())));
            }
            ResolvedCommand::Sh(script) => {
                fields.extend(["sh".into(), path::escape(script.as_bytes())]);
            }
            ResolvedCommand::ShWith(script, args) => {
                fields.extend(["sh".into(), path::escape(script.as_bytes())]);
                fields.extend(args.iter().map(|arg| path::escape(arg.as_bytes())));
            }
        }
        self.line(&fields.iter().map(AsRef::as_ref).collect::<Vec<_>>());
    }

    fn output(&mut self, spec: &OutputSpec) {
        let (kind, what) = match &spec.output {
            Output::File(path) => ("file", path.to_string()),
            Output::Folder(path) => ("folder", path.to_string()),
            Output::Glob(pattern) => ("glob", path::escape(pattern.text().as_bytes()).into()),
        };
        let mut fields = vec!["output", kind, &what];
        if spec.committed {
            fields.push("committed");
        }
        let keep: Vec<Cow<'_, str>> = spec
            .keep
            .iter()
            .map(|pattern| path::escape(pattern.text().as_bytes()))
            .collect();
        if !keep.is_empty() {
            fields.push("keep");
            fields.extend(keep.iter().map(AsRef::as_ref));
        }
        self.line(&fields);
    }

    fn env(&mut self, name: &str, value: Option<&std::ffi::OsStr>) {
        let name = path::escape(name.as_bytes());
        match value {
            Some(value) => {
                let value = format!("={}", path::escape(value.as_bytes()));
                self.line(&["env", &name, &value]);
            }
            None => self.line(&["env", &name]),
        }
    }

    fn entry(&mut self, word: &str, entry: &Entry) {
        self.0.push_str(word);
        self.0.push('\t');
        self.0.push_str(&path::escape(entry.path.as_bytes()));
        self.0.push('\t');
        match &entry.kind {
            EntryKind::File { digest, mode } => self.content(*digest, *mode),
            EntryKind::Link { target, content } => {
                self.0.push_str("link\t");
                self.0.push_str(&path::escape(target));
                if let Some(content) = content {
                    self.0.push('\t');
                    self.content(content.digest, content.mode);
                }
            }
            EntryKind::Folder => self.0.push_str(FOLDER),
        }
        self.0.push('\n');
    }

    fn content(&mut self, digest: Digest, mode: FileMode) {
        let is_executable = mode.is_executable();
        self.0
            .push_str(if is_executable { "exec\t" } else { "file\t" });
        digest.push_to(&mut self.0);
        if mode != mode.simplified() {
            self.0.push_str(&format!("\t{:04o}", mode.bits()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::action::{FileContent, ToolVersion};
    use crate::path::RelPath;

    fn entry(path: &str, text: &str) -> Entry {
        Entry {
            path: RelPath::new(path).unwrap(),
            kind: EntryKind::File {
                digest: Digest::of(text.as_bytes()),
                mode: FileMode::PLAIN,
            },
        }
    }

    fn action() -> Action {
        let tool = ToolVersion {
            version: "1.26.8".into(),
            output: Digest::of(b"go version go1.26.8 linux/amd64\n"),
        };
        Action {
            commands: vec![ResolvedCommand::Run(vec!["go".into(), "build".into()])],
            dir: RelPath::root(),
            env: [
                ("CGO_ENABLED".to_owned(), Some("0".into())),
                ("GOOS".to_owned(), None),
            ]
            .into(),
            inherited: [("HOME".to_owned(), OsString::from("/root"))].into(),
            secrets: [("TOKEN".to_owned(), OsString::from("s3cret"))].into(),
            tools: [("go".to_owned(), tool)].into(),
            inputs: vec![entry("go.mod", "module x\n")],
            needs: [(
                "generate".to_owned(),
                vec![entry("a.gen.go", "package a\n")],
            )]
            .into(),
            ran: BTreeMap::new(),
            outputs: vec![OutputSpec {
                output: Output::File(RelPath::new("app").unwrap()),
                committed: false,
                keep: Vec::new(),
            }],
        }
    }

    #[track_caller]
    fn changes(edit: impl FnOnce(&mut Action)) -> Vec<(Fact, String)> {
        let before = Manifest::of(&action());
        let mut edited = action();
        edit(&mut edited);
        let after = Manifest::of(&edited);
        let changes = after.changes_since(&before);
        assert_eq!(changes.is_empty(), after.key() == before.key());
        changes.into_iter().map(|c| (c.fact, c.name)).collect()
    }

    #[test]
    fn text_has_the_documented_format() {
        let os = std::env::consts::OS;
        let arch = std::env::consts::ARCH;
        let (tool, module, generated) = (
            Digest::of(b"go version go1.26.8 linux/amd64\n"),
            Digest::of(b"module x\n"),
            Digest::of(b"package a\n"),
        );
        let expected = format!(
            "fbuild-action\t2\nplatform\t{os}\t{arch}\ndir\t.\nrun\tgo\tbuild\n\
             output\tfile\tapp\ntool\tgo\t1.26.8\t{tool}\nenv\tCGO_ENABLED\t=0\nenv\tGOOS\n\
             secret\tTOKEN\ninput\tgo.mod\tfile\t{module}\nneed\ta.gen.go\tfile\t{generated}\n"
        );
        assert_eq!(Manifest::of(&action()).text(), expected);
    }

    #[test]
    fn command_variable_or_input_changes_the_key() {
        let one = |fact, name: &str| vec![(fact, name.to_owned())];
        assert_eq!(changes(|_| {}), []);
        let command = |a: &mut Action| a.commands.push(ResolvedCommand::Sh("true".into()));
        assert_eq!(changes(command), one(Fact::Command, "2"));
        let dir = |a: &mut Action| a.dir = RelPath::new("sub").unwrap();
        assert_eq!(changes(dir), one(Fact::Dir, ""));
        let unset = |a: &mut Action| a.env.insert("CGO_ENABLED".into(), None);
        assert_eq!(changes(|a| drop(unset(a))), one(Fact::Env, "CGO_ENABLED"));
        let empty = |a: &mut Action| a.env.insert("GOOS".into(), Some("".into()));
        assert_eq!(changes(|a| drop(empty(a))), one(Fact::Env, "GOOS"));
        let input = |a: &mut Action| a.inputs[0] = entry("go.mod", "module y\n");
        assert_eq!(changes(input), one(Fact::Input, "go.mod"));
    }

    #[test]
    fn path_need_tool_or_output_changes_the_key() {
        let one = |fact, name: &str| vec![(fact, name.to_owned())];
        let moved = |a: &mut Action| a.inputs[0].path = RelPath::new("go.sum").unwrap();
        let both = [one(Fact::Input, "go.mod"), one(Fact::Input, "go.sum")];
        assert_eq!(changes(moved), both.concat());
        let need = |a: &mut Action| a.needs = [("g".into(), vec![entry("a.gen.go", "b")])].into();
        assert_eq!(changes(need), one(Fact::Need, "a.gen.go"));
        let key = ActionKey(Digest::of(b""));
        let ran = |a: &mut Action| a.ran = [("install".into(), key)].into();
        assert_eq!(changes(ran), one(Fact::Ran, &key.0.to_string()));
        let tool = |a: &mut Action| {
            let go = a.tools.get_mut("go").unwrap();
            go.output = Digest::of(b"go version go1.26.8 linux/arm64\n");
        };
        assert_eq!(changes(tool), one(Fact::Tool, "go"));
        let committed = |a: &mut Action| a.outputs[0].committed = true;
        assert_eq!(changes(committed), one(Fact::Output, ""));
        let secret = |a: &mut Action| drop(a.secrets.remove("TOKEN"));
        assert_eq!(changes(secret), one(Fact::Secret, "TOKEN"));
    }

    /// Returns the key of an action with one input.
    fn key_of(kind: EntryKind) -> ActionKey {
        let mut action = action();
        action.inputs[0].kind = kind;
        Manifest::of(&action).key()
    }

    #[test]
    fn permission_bits_of_an_input_change_the_key() {
        let digest = Digest::of(b"a");
        let bits = [0o644, 0o755, 0o600, 0o640, 0o444, 0o711, 0o4755];
        let key = |bits| {
            let mode = FileMode::new(bits);
            key_of(EntryKind::File { digest, mode })
        };
        assert_eq!(BTreeSet::from(bits.map(key)).len(), bits.len());
        assert_eq!(key(0o664), key(0o644), "the umask decides that bit");
    }

    #[test]
    fn content_behind_a_link_changes_the_key() {
        let key = |content: Option<(&[u8], u32)>| {
            let target = b"x".to_vec();
            let content = content.map(|(text, bits)| FileContent {
                digest: Digest::of(text),
                mode: FileMode::new(bits),
            });
            key_of(EntryKind::Link { target, content })
        };
        let keys = [
            key(None),
            key(Some((b"a", 0o644))),
            key(Some((b"b", 0o644))),
            key(Some((b"a", 0o755))),
            key(Some((b"a", 0o600))),
        ];
        assert_eq!(BTreeSet::from(keys).len(), keys.len());
    }

    #[test]
    fn inherited_and_secret_values_are_not_in_the_key() {
        assert_eq!(changes(|a| a.inherited.clear()), []);
        let secret = |a: &mut Action| a.secrets.insert("TOKEN".into(), "other".into());
        assert_eq!(changes(|a| drop(secret(a))), []);
        let renamed = |a: &mut Action| {
            let made = a.needs.remove("generate").unwrap();
            a.needs.insert("renamed".into(), made);
        };
        assert_eq!(changes(renamed), []);
        assert!(!Manifest::of(&action()).text().contains("s3cret"));
    }

    #[test]
    fn arguments_cannot_run_together() {
        let key = |args: &[&str]| {
            let mut action = action();
            action.commands = vec![ResolvedCommand::Run(args.iter().map(Into::into).collect())];
            Manifest::of(&action).key()
        };
        let keys = [
            key(&["ab", "c"]),
            key(&["a", "bc"]),
            key(&["a\tb", "c"]),
            key(&["a\nrun\tb", "c"]),
            key(&["ab", "c", ""]),
        ];
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }

    #[test]
    fn arguments_of_a_script_change_the_key() {
        let key = |command: ResolvedCommand| {
            let mut action = action();
            action.commands = vec![command];
            Manifest::of(&action).key()
        };
        let with = |args: &[&str]| {
            let args = args.iter().map(Into::into).collect();
            key(ResolvedCommand::ShWith("ls \"$@\"".into(), args))
        };
        let keys = [
            key(ResolvedCommand::Sh("ls \"$@\"".into())),
            with(&["a"]),
            with(&["a b"]),
            with(&["a", "b"]),
            with(&["a", ""]),
        ];
        assert_eq!(BTreeSet::from(keys).len(), keys.len());
    }
}
