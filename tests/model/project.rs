//! A project as plain data and as the text of a Buildfile. Knows declarations, not outputs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use fbuild::digest::Digest;
use serde::{Deserialize, Serialize};

/// A Buildfile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Project {
    /// The folder of all files, relative to the Buildfile; empty if it is the same.
    #[serde(default)]
    pub(crate) root: Option<String>,
    /// A comment, which only changes the text.
    #[serde(default)]
    pub(crate) comment: usize,
    /// In the order of the text.
    pub(crate) targets: Vec<Target>,
}

/// A target. All of this decides the arguments of its command, `mix`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) needs: Vec<String>,
    #[serde(default)]
    pub(crate) after: Vec<String>,
    #[serde(default)]
    pub(crate) inputs: Vec<Inputs>,
    #[serde(default)]
    pub(crate) outputs: Vec<Output>,
    #[serde(default)]
    pub(crate) env: Vec<(String, Value)>,
    /// An argument without effect other than its text.
    #[serde(default)]
    pub(crate) salt: String,
    /// Whether the outputs depend on only one bit of the inputs.
    #[serde(default)]
    pub(crate) coarse: bool,
    /// Whether the command is a shell script.
    #[serde(default)]
    pub(crate) shell: bool,
    /// Whether the command runs in the folder `tools`.
    #[serde(default)]
    pub(crate) indoors: bool,
    /// Whether the target always runs.
    #[serde(default)]
    pub(crate) uncached: bool,
}

/// An `inputs` node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inputs {
    pub(crate) patterns: Vec<String>,
    #[serde(default)]
    pub(crate) except: Vec<String>,
    #[serde(default)]
    pub(crate) optional: bool,
}

/// An `outputs` node with one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Output {
    pub(crate) what: What,
    /// A file, a folder without slash, or a pattern.
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) committed: bool,
    /// Kept patterns, relative to the folder.
    #[serde(default)]
    pub(crate) keep: Vec<String>,
}

/// The kind of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum What {
    /// A file.
    File,
    /// A file whose executable bit depends on the inputs.
    Exec,
    /// A link, declared as a file.
    Link,
    /// A folder with some files.
    Folder,
    /// A pattern with one `*`, which is replaced by names.
    Glob,
}

/// The value of a variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Value {
    Inherit,
    Set(String),
    Default(String),
}

impl Project {
    /// Removes inputs that name the outputs of a target without a path to it: a run refuses
    /// to read them.
    pub(crate) fn drop_unordered_reads(&mut self) {
        for at in 0..self.targets.len() {
            let before = self.names_before(at);
            let others = self.targets.iter().filter(|t| !before.contains(&t.name));
            let outputs = others.flat_map(|target| &target.outputs);
            let named: Vec<String> = outputs
                .flat_map(|output| [output.path.clone(), format!("{}/**", output.path)])
                .collect();
            for inputs in &mut self.targets[at].inputs {
                inputs.patterns.retain(|pattern| !named.contains(pattern));
            }
        }
    }

    /// Returns the names of a target and of all that run before it.
    fn names_before(&self, at: usize) -> Vec<String> {
        let mut names = vec![self.targets[at].name.clone()];
        let mut next = 0;
        while let Some(target) = names.get(next).and_then(|name| self.target(name)) {
            next += 1;
            for name in target.needs.iter().chain(&target.after) {
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
        }
        names
    }

    /// Returns the target of a name.
    pub(crate) fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|target| target.name == name)
    }

    /// Returns the targets, each after its dependencies. Leaves out those on a cycle.
    pub(crate) fn in_order(&self) -> Vec<&Target> {
        let mut ordered: Vec<&Target> = Vec::new();
        let mut left: Vec<&Target> = self.targets.iter().collect();
        loop {
            let is_done = |name: &String| ordered.iter().any(|target| target.name == *name);
            let is_ready = |target: &&Target| target.before().all(is_done);
            let (ready, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(is_ready);
            if ready.is_empty() {
                return ordered;
            }
            ordered.extend(ready);
            left = rest;
        }
    }

    /// Returns the text of the Buildfile. `mix` is the program of the commands; without it,
    /// commands only name their target.
    pub(crate) fn text(&self, mix: Option<&str>) -> String {
        let mut text = format!("// {}\n", self.comment);
        if let Some(root) = &self.root {
            writeln!(text, "project p {{\n    root {}\n}}", quoted(root)).unwrap();
        }
        for target in &self.targets {
            self.write_target(target, mix, &mut text).unwrap();
        }
        text
    }

    fn write_target(
        &self,
        target: &Target,
        mix: Option<&str>,
        text: &mut String,
    ) -> std::fmt::Result {
        writeln!(text, "target {} {{", quoted(&target.name))?;
        writeln!(text, "    about \"number {}\"", self.comment)?;
        write_list(text, "needs", &target.needs)?;
        write_list(text, "after", &target.after)?;
        for inputs in &target.inputs {
            let optional = if inputs.optional {
                " optional=#true"
            } else {
                ""
            };
            let patterns = all_quoted(&inputs.patterns);
            let except = match inputs.except.as_slice() {
                [] => String::new(),
                except => format!(" {{ except {} }}", all_quoted(except)),
            };
            writeln!(text, "    inputs {patterns}{optional}{except}")?;
        }
        for output in &target.outputs {
            let slash = if output.what == What::Folder { "/" } else { "" };
            let path = quoted(&format!("{}{slash}", output.path));
            let committed = if output.committed {
                " committed=#true"
            } else {
                ""
            };
            let keep = match output.keep.as_slice() {
                [] => String::new(),
                keep => format!(" {{ keep {} }}", all_quoted(keep)),
            };
            writeln!(text, "    outputs {path}{committed}{keep}")?;
        }
        for (name, value) in &target.env {
            match value {
                Value::Inherit => writeln!(text, "    env {name}")?,
                Value::Set(value) => writeln!(text, "    env {name}={}", quoted(value))?,
                Value::Default(value) => {
                    writeln!(text, "    env {name} default={}", quoted(value))?;
                }
            }
        }
        if target.uncached {
            writeln!(text, "    cache #false")?;
        }
        if target.indoors {
            writeln!(text, "    dir \"tools\"")?;
        }
        writeln!(text, "    pass MIX_CONTROL")?;
        let (mix, words) = match mix {
            Some(mix) => (mix, self.words(target)),
            None => ("mix", self.short_words(target)),
        };
        match target.shell {
            true => {
                let words: Vec<String> = words.iter().map(|word| for_shell(word)).collect();
                let script = format!("{} {}", for_shell(mix), words.join(" "));
                writeln!(text, "    sh {}", quoted(&script))?;
            }
            false => writeln!(text, "    run {} {}", quoted(mix), all_quoted(&words))?,
        }
        writeln!(text, "}}")
    }

    /// Returns short arguments for a command: the digest of the real ones, and those with
    /// inserted values.
    pub(crate) fn short_words(&self, target: &Target) -> Vec<String> {
        let words = self.words(target);
        let digest = Digest::of(
            words
                .join(
                    "
",
                )
                .as_bytes(),
        )
        .hex();
        let says = words.into_iter().filter(|word| word.starts_with("say="));
        std::iter::once(digest).chain(says).collect()
    }

    /// Returns the arguments of a target's command for `mix`.
    pub(crate) fn words(&self, target: &Target) -> Vec<String> {
        let mut words = vec![format!("salt={}", target.salt)];
        words.extend(target.coarse.then(|| "coarse".to_owned()));
        words.extend(target.indoors.then(|| "indoors".to_owned()));
        for (name, _) in &target.env {
            words.push(format!("env={name}"));
            // Nothing is inserted into a shell script.
            words.extend((!target.shell).then(|| format!("say={{env.{name}}}")));
        }
        for inputs in &target.inputs {
            words.extend(
                inputs
                    .patterns
                    .iter()
                    .map(|pattern| format!("in={pattern}")),
            );
            words.extend(inputs.except.iter().map(|pattern| format!("not={pattern}")));
            words.extend(own_patterns(target).map(|pattern| format!("not={pattern}")));
            words.push("end".to_owned());
        }
        for need in target.needs.iter().filter_map(|name| self.target(name)) {
            for output in &need.outputs {
                words.push(format!("need={}", output.word()));
                words.extend(output.kept().map(|keep| format!("keep={keep}")));
            }
        }
        for output in &target.outputs {
            words.push(format!("out={}", output.word()));
        }
        words
    }
}

impl Target {
    /// Returns the names of the targets that run before this one.
    pub(crate) fn before(&self) -> impl Iterator<Item = &String> {
        self.needs.iter().chain(&self.after)
    }

    /// Returns the values of the target's variables in an environment.
    pub(crate) fn values(
        &self,
        outer: &BTreeMap<String, String>,
    ) -> BTreeMap<&str, Option<String>> {
        let value = |name: &str, value: &Value| match value {
            Value::Inherit => outer.get(name).cloned(),
            Value::Set(value) => Some(value.clone()),
            Value::Default(value) => Some(outer.get(name).unwrap_or(value).clone()),
        };
        let env = self.env.iter();
        env.map(|(name, v)| (name.as_str(), value(name, v)))
            .collect()
    }
}

impl Output {
    /// Returns the output as an argument of `mix`.
    pub(crate) fn word(&self) -> String {
        let what = match self.what {
            What::File => "file",
            What::Exec => "exec",
            What::Link => "link",
            What::Folder => "folder",
            What::Glob => "glob",
        };
        format!("{what}:{}", self.path)
    }

    /// Returns the kept patterns of the output's folder.
    pub(crate) fn kept(&self) -> impl Iterator<Item = String> {
        self.keep.iter().map(|keep| format!("{}/{keep}", self.path))
    }
}

/// Returns the patterns of a target's own outputs, which it never reads.
fn own_patterns(target: &Target) -> impl Iterator<Item = String> {
    let pattern = |output: &Output| match output.what {
        What::Folder => format!("{}/**", output.path),
        _ => output.path.clone(),
    };
    target.outputs.iter().map(pattern)
}

fn write_list(text: &mut String, word: &str, names: &[String]) -> std::fmt::Result {
    match names {
        [] => Ok(()),
        names => writeln!(text, "    {word} {}", all_quoted(names)),
    }
}

fn all_quoted(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    words.join(" ")
}

fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

fn for_shell(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
