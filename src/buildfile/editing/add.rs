//! Adds a target to a Buildfile's text, for `fbuild add`. Every byte of the old text
//! stays; the new one is laid out as `fmt` does. It writes no file.

use std::ops::Range;
use std::path::Path;

use super::quote::{in_quotes, quoted, script_text};
use crate::buildfile::load_text;
use crate::buildfile::sink::Sink;
use crate::buildfile::syntax::guard::guard;
use crate::buildfile::syntax::lex::{Kind, Lexer};
use crate::source::{Diagnostic, FileId};

/// A target to add. Texts are spelled as in a Buildfile, so `{NAME}` is a variable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTarget {
    /// Its name.
    pub name: String,
    /// The template to start from.
    pub from: Option<String>,
    /// A line that describes it.
    pub about: Option<String>,
    /// The targets that it needs.
    pub needs: Vec<String>,
    /// The tools that it uses.
    pub tools: Vec<String>,
    /// Patterns of its inputs.
    pub inputs: Vec<String>,
    /// The files and folders that it makes.
    pub outputs: Vec<String>,
    /// Its variables, each with the value that it sets, if any.
    pub env: Vec<(String, Option<String>)>,
    /// Its commands, in order.
    pub commands: Vec<NewCommand>,
}

/// A command of a [`NewTarget`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewCommand {
    /// A program and its arguments.
    Run(Vec<String>),
    /// A script.
    Sh(String),
}

/// The error of [`add_target`].
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum AddError {
    /// The text is not KDL.
    #[error("the Buildfile has mistakes that must be fixed first")]
    #[diagnostic(
        code("fbuild::buildfile::add_broken"),
        help("`fbuild check` shows them")
    )]
    Broken {
        /// The mistakes in the old text.
        diagnostics: Vec<Diagnostic>,
    },
    /// A target or group has that name.
    #[error("there is a target or group `{name}` already, in line {line}")]
    #[diagnostic(
        code("fbuild::buildfile::add_exists"),
        help("choose another name, or edit that one")
    )]
    Exists {
        /// The name.
        name: String,
        /// The line of that target, from 1.
        line: usize,
    },
    /// The new target would be wrong.
    #[error("the target would have a mistake: {}", first_of(diagnostics))]
    #[diagnostic(
        code("fbuild::buildfile::add_wrong"),
        help("nothing was written; correct the command")
    )]
    Wrong {
        /// The mistakes, about `text`.
        diagnostics: Vec<Diagnostic>,
        /// The text with the new target.
        text: String,
    },
}

fn first_of(diagnostics: &[Diagnostic]) -> &str {
    diagnostics.first().map_or("", |first| &first.message)
}

/// Returns `text` with `new` in it: after its last target, else before its first group,
/// else at its end.
pub fn add_target(text: &str, new: &NewTarget) -> Result<String, AddError> {
    let mut sink = Sink::default();
    let guarded = guard(text, FileId(0), &mut sink);
    let Some(guarded) = guarded.filter(|_| sink.errors() == 0) else {
        let diagnostics = sink.into_diagnostics();
        return Err(AddError::Broken { diagnostics });
    };
    check_name(text, &new.name)?;
    let place = place(text, &guarded.nodes);
    let added = surrounded(text, place, &written(new));
    let result = [&text[..place], &added, &text[place..]].concat();
    check_result(result, place..place + added.len())
}

fn check_name(text: &str, name: &str) -> Result<(), AddError> {
    let loaded = load_text(text, Path::new("Buildfile.kdl"));
    let targets = loaded.buildfile.targets.iter().map(|target| &target.name);
    let groups = loaded.buildfile.groups.iter().map(|group| &group.name);
    match targets.chain(groups).find(|known| known.value == name) {
        Some(known) => Err(AddError::Exists {
            name: name.to_owned(),
            line: loaded
                .sources
                .position(known.span)
                .map_or(0, |(_, line, _)| line),
        }),
        None => Ok(()),
    }
}

/// Returns an error if the new part has mistakes; the old part may have some.
fn check_result(text: String, new: Range<usize>) -> Result<String, AddError> {
    let mut diagnostics = load_text(&text, Path::new("Buildfile.kdl")).diagnostics;
    diagnostics.retain(|diagnostic| {
        let is_new = |label: &crate::source::Label| new.contains(&(label.span.start as usize));
        diagnostic.severity == crate::source::Severity::Error
            && diagnostic.labels.first().is_some_and(is_new)
    });
    if diagnostics.is_empty() {
        Ok(text)
    } else {
        Err(AddError::Wrong { diagnostics, text })
    }
}

/// Returns the offset for a new target: the start of a line, or the end of the text.
fn place(text: &str, nodes: &[Range<usize>]) -> usize {
    let is = |node: &Range<usize>, name: &str| {
        let word = Lexer::new(&text[node.clone()]).next();
        word.is_some_and(|word| text[node.start..node.start + word.end].trim_matches('"') == name)
    };
    if let Some(last) = nodes.iter().rposition(|node| is(node, "target")) {
        return end_of_line(text, &nodes[last..]);
    }
    match nodes.iter().find(|node| is(node, "group")) {
        Some(group) => start_with_comments(text, group.start),
        None => text.len(),
    }
}

/// Returns the end of the line on which the first node ends, including nodes that start on
/// that line.
fn end_of_line(text: &str, nodes: &[Range<usize>]) -> usize {
    let mut end = nodes.first().map_or(0, |node| node.end);
    let mut rest = nodes.iter().skip(1).peekable();
    let line_end = |from: usize| {
        let newline = Lexer::new(&text[from..]).find(|token| token.kind == Kind::Newline);
        newline.map_or(text.len(), |token| from + token.end)
    };
    while let Some(next) = rest.next_if(|next| next.start < line_end(end)) {
        end = next.end;
    }
    line_end(end)
}

/// Returns the start of the line of `node`, or of the comments directly above it.
fn start_with_comments(text: &str, node: usize) -> usize {
    let mut start = text[..node].rfind('\n').map_or(0, |at| at + 1);
    while let Some(above) = text[..start].strip_suffix('\n') {
        let line = above.rfind('\n').map_or(0, |at| at + 1);
        if !above[line..].trim_start().starts_with("//") {
            break;
        }
        start = line;
    }
    start
}

/// Returns a node with the line breaks that separate it from the text around `place`.
fn surrounded(text: &str, place: usize, node: &str) -> String {
    let (before, after) = text.split_at(place);
    let newlines = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let is_start = before.trim_start_matches('\u{FEFF}').is_empty();
    let lead = if is_start || before.ends_with("\n\n") || before.ends_with("\n\r\n") {
        ""
    } else if before.ends_with('\n') {
        "\n"
    } else {
        "\n\n"
    };
    let is_blank = after.is_empty() || after.starts_with(['\n', '\r']);
    let tail = if is_blank { "" } else { "\n" };
    format!("{lead}{node}{tail}").replace('\n', newlines)
}

/// Returns the text of a target.
fn written(new: &NewTarget) -> String {
    let mut out = format!("target {}", quoted(&new.name));
    if let Some(from) = &new.from {
        out.push_str(&format!(" from={}", quoted(from)));
    }
    out.push_str(" {\n");
    if let Some(about) = &new.about {
        out.push_str(&format!("    about {}\n", in_quotes(about)));
    }
    let lists = [
        ("needs", &new.needs),
        ("tools", &new.tools),
        ("inputs", &new.inputs),
        ("outputs", &new.outputs),
    ];
    for (name, values) in lists {
        push_line(&mut out, name, values.iter().map(|value| quoted(value)));
    }
    let variable = |(name, value): &(String, Option<String>)| match value {
        Some(value) => format!("{}={}", quoted(name), in_quotes(value)),
        None => quoted(name),
    };
    push_line(&mut out, "env", new.env.iter().map(variable));
    for command in &new.commands {
        match command {
            NewCommand::Run(argv) => push_line(&mut out, "run", argv.iter().map(|arg| quoted(arg))),
            NewCommand::Sh(script) => push_line(&mut out, "sh", [script_text(script)].into_iter()),
        }
    }
    out.push_str("}\n");
    out
}

fn push_line(out: &mut String, name: &str, values: impl Iterator<Item = String>) {
    let values: Vec<String> = values.collect();
    if !values.is_empty() {
        out.push_str(&format!("    {name} {}\n", values.join(" ")));
    }
}

#[cfg(test)]
mod tests {
    use miette::Diagnostic as _;
    use proptest::prelude::*;

    use super::*;
    use crate::buildfile::model::{Command, Piece, Text};
    use crate::buildfile::{CODES, format};

    fn target(name: &str) -> NewTarget {
        NewTarget {
            name: name.to_owned(),
            commands: vec![NewCommand::Run(vec!["x".to_owned()])],
            ..NewTarget::default()
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(add_target(text, &target("new")).unwrap(), expected);
    }

    #[test]
    fn target_is_laid_out_as_fmt_does() {
        let text = |text: &str| text.to_owned();
        let new = NewTarget {
            name: text("worker"),
            from: Some(text("go-binary")),
            about: Some(text("the \"Worker\"")),
            needs: vec![text("generate-go")],
            tools: vec![text("go")],
            inputs: vec![text("go.mod"), text("cmd/**")],
            outputs: vec![text("bin/worker")],
            env: vec![(text("GOOS"), None), (text("CGO_ENABLED"), Some(text("0")))],
            commands: vec![
                NewCommand::Run(vec![
                    text("go"),
                    text("build"),
                    text("-o"),
                    text("5"),
                    text("./cmd"),
                ]),
                NewCommand::Sh(text("echo \"$GOOS\"\n\nexit 1\n")),
                NewCommand::Sh(text("ls")),
            ],
        };
        let expected = r##"target worker from=go-binary {
    about #"the "Worker""#
    needs generate-go
    tools go
    inputs go.mod "cmd/**"
    outputs "bin/worker"
    env GOOS CGO_ENABLED="0"
    run go build -o "5" "./cmd"
    sh #"""
        echo "$GOOS"

        exit 1
        """#
    sh "ls"
}
"##;
        let before = "tool go\ntemplate go-binary {}\n";
        let result = add_target(before, &new).unwrap();
        assert_eq!(result, format!("{before}\n{}", expected));
        assert_eq!(format(&result).unwrap(), result);
    }

    #[test]
    fn target_is_added_after_the_last_one() {
        let new = "target new {\n    run x\n}\n";
        check("", new);
        check("jobs 1", &format!("jobs 1\n\n{new}"));
        check(
            "target a { run y } // why\n\n\n// groups\ngroup b { needs a }",
            &format!("target a {{ run y }} // why\n\n{new}\n\n// groups\ngroup b {{ needs a }}"),
        );
        check(
            "target a {\n  run y\n}\ngroup b { needs a }\n",
            &format!("target a {{\n  run y\n}}\n\n{new}\ngroup b {{ needs a }}\n"),
        );
        check(
            "target a { run y }; group b {\nneeds a }; /* c\nd */\n",
            &format!("target a {{ run y }}; group b {{\nneeds a }}; /* c\nd */\n\n{new}"),
        );
    }

    #[test]
    fn target_is_added_before_the_first_group() {
        check(
            "jobs 1\n\n// all\n// of it\ngroup a { needs new }\n",
            "jobs 1\n\ntarget new {\n    run x\n}\n\n// all\n// of it\ngroup a { needs new }\n",
        );
    }

    #[test]
    fn line_ends_follow_the_file() {
        check(
            "jobs 1\r\n",
            "jobs 1\r\n\r\ntarget new {\r\n    run x\r\n}\r\n",
        );
    }

    #[track_caller]
    fn refused(text: &str, new: &NewTarget) -> String {
        let error = add_target(text, new).unwrap_err();
        let code = error.code().unwrap().to_string();
        assert!(CODES.iter().any(|(known, _)| *known == code), "{code}");
        error.to_string()
    }

    #[test]
    fn errors_name_the_cause() {
        let taken = "jobs 1\ngroup new { needs b }";
        assert_eq!(
            refused(taken, &target("new")),
            "there is a target or group `new` already, in line 2"
        );
        assert_eq!(
            refused("target {", &target("new")),
            "the Buildfile has mistakes that must be fixed first"
        );
        assert_eq!(
            refused("", &target("-x")),
            "the target would have a mistake: `-x` cannot be a name"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn commands_survive_quoting(
            arg in "[^{}]{1,20}",
            script in "[ -~\\n\u{e9}]{0,40}[a-z]",
        ) {
            let mut new = target("new");
            new.commands = vec![
                NewCommand::Run(vec!["x".to_owned(), arg.clone()]),
                NewCommand::Sh(script.clone()),
            ];
            let text = add_target("jobs 1\n", &new).unwrap();
            let loaded = load_text(&text, Path::new("Buildfile.kdl"));
            let commands = &loaded.buildfile.targets[0].commands;
            let literal = |text: &str| Text(vec![Piece::Literal(text.to_owned())]);
            prop_assert_eq!(&commands[0].value, &Command::Run(vec![literal("x"), literal(&arg)]));
            prop_assert_eq!(&commands[1].value, &Command::Sh(script));
        }
    }
}
