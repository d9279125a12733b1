//! Reads the block of a target or template into plain types: patterns, paths, commands.
//! Each block is read once, however many targets start from it. It does not know which
//! template a target starts from, nor whether a name exists.

use std::time::Duration;

use super::braces::{Part, parts};
use super::scope::{RESERVED, Scope};
use super::values;
use crate::buildfile::checks::spelling;
use crate::buildfile::codes;
use crate::buildfile::grammar::{Kind, Type};
use crate::buildfile::model::{
    Command, Date, EnvValue, EnvVar, Inputs, Output, Outputs, Piece, Spanned, Text, TraceMode,
};
use crate::buildfile::sink::shown;
use crate::buildfile::syntax::node::{Node, Value};
use crate::glob::Pattern;
use crate::path::RelPath;
use crate::source::{Diagnostic, Span};

/// The argument of `run` that the arguments given to a run replace.
const ARGS: &str = "{args}";

/// The content of the block of a target or template.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    /// Whether something is missing because it was wrong.
    pub(crate) is_damaged: bool,
    pub(crate) about: Option<String>,
    pub(crate) needs: Vec<Spanned<String>>,
    pub(crate) after: Vec<Spanned<String>>,
    pub(crate) inputs: Vec<Inputs>,
    /// The sets that `inputs files=` names, each with the index in `inputs` that it fills.
    pub(crate) sets: Vec<(Spanned<String>, usize)>,
    pub(crate) outputs: Vec<Outputs>,
    pub(crate) env: Vec<EnvVar>,
    /// The references in values of `env`: the variable, and the one that it refers to.
    pub(crate) env_uses: Vec<(String, Spanned<String>)>,
    pub(crate) pass: Vec<Spanned<String>>,
    pub(crate) secret: Vec<Spanned<String>>,
    pub(crate) tools: Vec<Spanned<String>>,
    pub(crate) commands: Vec<Spanned<Command>>,
    /// The environment variables that commands refer to.
    pub(crate) uses: Vec<Spanned<String>>,
    pub(crate) dir: Option<RelPath>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retries: Option<u32>,
    pub(crate) cache: Option<bool>,
    pub(crate) remote: Option<bool>,
    pub(crate) interactive: Option<bool>,
    pub(crate) locks: Vec<Spanned<String>>,
    pub(crate) trace: Option<TraceMode>,
    /// The outputs that are reports of a test.
    pub(crate) reports: Vec<Spanned<Output>>,
    /// The last day of a test's quarantine.
    pub(crate) quarantine: Option<Date>,
}

/// Reads the block of `node`; its paths are relative to `base`.
pub(crate) fn read(node: &Node, base: &RelPath, scope: &mut Scope<'_>) -> Body {
    let env = node
        .children
        .iter()
        .filter(|child| child.spec.kind == Kind::Env);
    scope.local = env.flat_map(variables).collect();
    let mut reader = Reader {
        base,
        scope,
        body: Body {
            is_damaged: node.is_damaged,
            ..Body::default()
        },
    };
    for child in &node.children {
        reader.node(child);
    }
    reader.body
}

/// Returns the variables that an `env` node declares.
fn variables(env: &Node) -> impl Iterator<Item = String> {
    let named = env.args.iter().map(|value| value.text().to_owned());
    let set = env.props.iter().filter(|prop| prop.is_any);
    named.chain(set.map(|prop| prop.name.value.clone()))
}

/// Returns the arguments of a node as names.
pub(crate) fn names(node: &Node) -> impl Iterator<Item = Spanned<String>> {
    let name = |value: &Value| Spanned::new(value.text().to_owned(), value.span);
    node.args.iter().map(name)
}

/// Returns the arguments of a node as names of targets, or patterns over them.
pub(crate) fn references<'n>(
    node: &'n Node,
    scope: &mut Scope<'_>,
) -> impl Iterator<Item = Spanned<String>> + use<'n> {
    let name = |value| scope.name(value, Type::Reference);
    let names: Vec<_> = node.args.iter().filter_map(name).collect();
    names.into_iter()
}

struct Reader<'r, 's> {
    base: &'r RelPath,
    scope: &'r mut Scope<'s>,
    body: Body,
}

impl Reader<'_, '_> {
    fn node(&mut self, node: &Node) {
        match node.spec.kind {
            Kind::About => self.body.about = node.args.first().and_then(|v| self.scope.plain(v)),
            Kind::Needs => self.body.needs.extend(references(node, self.scope)),
            Kind::After => self.body.after.extend(references(node, self.scope)),
            Kind::Inputs => self.inputs(node),
            Kind::Outputs => self.outputs(node),
            Kind::Env => self.env(node),
            Kind::Pass => self.body.pass.extend(names(node)),
            Kind::Secret => self.body.secret.extend(names(node)),
            Kind::Tools => self.body.tools.extend(names(node)),
            Kind::Run => self.run(node),
            Kind::Sh => self.sh(node),
            Kind::Dir => self.body.dir = node.args.first().and_then(|v| self.path(v)),
            Kind::Timeout => self.body.timeout = node.args.first().and_then(|v| self.timeout(v)),
            Kind::Retries => self.body.retries = node.args.first().and_then(values::count),
            Kind::Stored => self.body.cache = node.args.first().and_then(values::flag),
            Kind::Shared => self.body.remote = node.args.first().and_then(values::flag),
            Kind::Interactive => self.body.interactive = node.args.first().and_then(values::flag),
            Kind::Locks => self.body.locks.extend(names(node)),
            Kind::Trace => {
                let mode = node.args.first();
                self.body.trace = mode.and_then(|v| values::trace_mode(v, self.scope));
            }
            Kind::Report => self.report(node),
            Kind::Quarantine => self.quarantine(node),
            // The grammar allows no other node in this block.
            _ => {}
        }
    }

    fn inputs(&mut self, node: &Node) {
        let patterns = self.patterns(&node.args);
        let except = self.excepts(node);
        let optional = node
            .prop("optional")
            .and_then(values::flag)
            .unwrap_or(false);
        let of = |patterns| Inputs {
            patterns,
            except: except.clone(),
            optional,
        };
        if let Some(set) = node.prop("files") {
            let name = Spanned::new(set.text().to_owned(), set.span);
            self.body.sets.push((name, self.body.inputs.len()));
            self.body.inputs.push(of(Vec::new()));
        } else if node.args.is_empty() && !node.is_damaged {
            let diagnostic = Diagnostic::error(codes::MISSING, "`inputs` needs a pattern")
                .label(node.span, "PATTERN is missing")
                .help("for example: inputs \"src/**\"");
            self.scope.sink.push(diagnostic);
        }
        if !patterns.is_empty() {
            self.body.inputs.push(of(patterns));
        }
    }

    fn excepts(&mut self, node: &Node) -> Vec<Spanned<Pattern>> {
        let excepts = node.children.iter().filter(|c| c.spec.kind == Kind::Except);
        excepts
            .flat_map(|child| self.patterns(&child.args))
            .collect()
    }

    fn patterns(&mut self, values: &[Value]) -> Vec<Spanned<Pattern>> {
        values
            .iter()
            .filter_map(|v| values::pattern(v, self.base, self.scope))
            .collect()
    }

    fn path(&mut self, value: &Value) -> Option<RelPath> {
        let text = self.scope.plain(value)?;
        match RelPath::new(&text) {
            Ok(path) => Some(self.base.join(&path)),
            Err(error) => {
                self.scope
                    .sink
                    .push(values::bad_path(&text, error, value.span));
                None
            }
        }
    }

    fn outputs(&mut self, node: &Node) {
        let paths: Vec<_> = node.args.iter().filter_map(|v| self.output(v)).collect();
        let mut keep = Vec::new();
        for child in node.children.iter().filter(|c| c.spec.kind == Kind::Keep) {
            let folders = paths.iter().filter_map(|path| match &path.value {
                Output::Folder(folder) => Some(folder),
                Output::File(_) | Output::Glob(_) => None,
            });
            let before = keep.len();
            for folder in folders {
                let patterns = child
                    .args
                    .iter()
                    .filter_map(|v| values::pattern(v, folder, self.scope));
                keep.extend(patterns);
            }
            if keep.len() == before && !paths.is_empty() {
                self.keep_nothing(child, &paths[0]);
            }
        }
        self.body.outputs.push(Outputs {
            paths,
            committed: node
                .prop("committed")
                .and_then(values::flag)
                .unwrap_or(false),
            keep,
        });
    }

    /// Reads a `report`: its files are outputs, so that they are stored and restored.
    fn report(&mut self, node: &Node) {
        let paths: Vec<_> = node.args.iter().filter_map(|v| self.output(v)).collect();
        self.body.reports.extend_from_slice(&paths);
        self.body.outputs.push(Outputs {
            paths,
            committed: false,
            keep: Vec::new(),
        });
    }

    fn quarantine(&mut self, node: &Node) {
        match node.prop("until") {
            Some(until) => self.body.quarantine = values::date(until, self.scope),
            None if node.is_damaged => {}
            None => {
                let diagnostic =
                    Diagnostic::error(codes::MISSING, "`quarantine` needs its last day")
                        .label(node.span, "until= is missing")
                        .help(node.spec.hint());
                self.scope.sink.push(diagnostic);
            }
        }
    }

    fn keep_nothing(&mut self, keep: &Node, first: &Spanned<Output>) {
        let is_folder = |o: &Output| matches!(o, Output::Folder(_));
        if is_folder(&first.value) {
            return;
        }
        let diagnostic = Diagnostic::error(codes::KEEP, "`keep` outside an owned folder")
            .label(keep.span, "there is no folder to keep something in")
            .label(first.span, "not a folder")
            .help("write the folder with a trailing slash, as in outputs \"web/static/\"");
        self.scope.sink.push(diagnostic);
    }

    fn output(&mut self, value: &Value) -> Option<Spanned<Output>> {
        let text = self.scope.plain(value)?;
        let is_glob = text.contains(['*', '?', '[', ']', '{', '}', '\\']);
        if is_glob && !text.ends_with('/') {
            let pattern = values::pattern_of(&text, value.span, self.base, self.scope)?;
            return Some(Spanned::new(Output::Glob(pattern.value), value.span));
        }
        if is_glob {
            let message = format!("an owned folder cannot be a pattern: `{}`", shown(&text));
            let diagnostic = Diagnostic::error(codes::OUTPUT, message)
                .label(value.span, "has wildcards and a trailing slash")
                .help("name the folder, or the files in it: \"gen/*.go\"");
            self.scope.sink.push(diagnostic);
            return None;
        }
        match RelPath::new(&text) {
            Ok(path) if path.is_root() => {
                self.scope.sink.push(whole_root(value.span));
                None
            }
            Ok(path) if text.ends_with('/') => Some(Spanned::new(
                Output::Folder(self.base.join(&path)),
                value.span,
            )),
            Ok(path) => Some(Spanned::new(
                Output::File(self.base.join(&path)),
                value.span,
            )),
            Err(error) => {
                self.scope
                    .sink
                    .push(values::bad_path(&text, error, value.span));
                None
            }
        }
    }

    fn env(&mut self, node: &Node) {
        let default = node.prop("default");
        if let Some(default) = default.filter(|_| node.args.len() != 1) {
            let message = "`default` needs exactly one variable before it";
            let diagnostic = Diagnostic::error(codes::MISSING, message)
                .label(default.span, "the default of which variable?")
                .help("write one line for each: env GOFLAGS default=\"-trimpath\"");
            self.scope.sink.push(diagnostic);
        }
        for name in names(node) {
            let value = match default {
                Some(default) => EnvValue::Default(self.env_value(&name.value, default)),
                None => EnvValue::Inherit,
            };
            self.body.env.push(EnvVar { name, value });
        }
        for prop in node.props.iter().filter(|prop| prop.is_any) {
            let value = EnvValue::Set(self.env_value(&prop.name.value, &prop.value));
            let name = prop.name.clone();
            self.body.env.push(EnvVar { name, value });
        }
        if node.args.is_empty() && node.props.is_empty() && !node.is_damaged {
            let diagnostic = Diagnostic::error(codes::MISSING, "`env` needs a variable")
                .label(node.span, "NAME or NAME=VALUE is missing")
                .help("for example: env GOOS CGO_ENABLED=\"0\"");
            self.scope.sink.push(diagnostic);
        }
    }

    fn env_value(&mut self, name: &str, value: &Value) -> Text {
        let mut uses = Vec::new();
        let text = self.scope.text(value, &mut uses);
        let uses = uses.into_iter().map(|used| (name.to_owned(), used));
        self.body.env_uses.extend(uses);
        text
    }

    fn run(&mut self, node: &Node) {
        let Some(program) = node.args.first() else {
            return;
        };
        if program.text().trim().is_empty() {
            let diagnostic = Diagnostic::error(codes::COMMAND, "a command has no program")
                .label(program.span, "nothing to run")
                .help("for example: run go build \"./cmd/worker\"");
            self.scope.sink.push(diagnostic);
        } else if let Some(mistake) = spelling::program(program.text(), program.span) {
            self.scope.sink.push(mistake);
        }
        let mut argv = Vec::with_capacity(node.args.len());
        for value in &node.args {
            argv.push(if value.text() == ARGS && !std::ptr::eq(value, program) {
                Text(vec![Piece::Args])
            } else {
                self.scope.text(value, &mut self.body.uses)
            });
        }
        let command = Spanned::new(Command::Run(argv), whole(node));
        self.body.commands.push(command);
    }

    fn sh(&mut self, node: &Node) {
        let Some(value) = node.args.first() else {
            return;
        };
        let script = value.text();
        if script.trim().is_empty() {
            let diagnostic = Diagnostic::error(codes::COMMAND, "a script is empty")
                .label(value.span, "nothing to run")
                .help("for example: sh \"npm ci && npm run build\"");
            self.scope.sink.push(diagnostic);
        }
        self.check_script(value);
        let command = Spanned::new(Command::Sh(script.to_owned()), whole(node));
        self.body.commands.push(command);
    }

    /// Warns once per script of a reference that looks like a variable of the Buildfile.
    fn check_script(&mut self, value: &Value) {
        let mut before = "";
        for part in parts(value.text()) {
            // `${NAME}` is the shell's own notation.
            let is_shells = before.ends_with('$');
            match part {
                Part::Literal(text) => before = text,
                Part::Var(RESERVED) if !is_shells => return self.args_in_script(value.span),
                Part::Var(name) if self.scope.has_var(name) && !is_shells => {
                    let variable = name.to_uppercase().replace('-', "_");
                    let declaration = format!("env {variable}=\"{{{name}}}\"");
                    return self.braces_in_script(value.span, name, &variable, &declaration);
                }
                Part::Env(name) if !is_shells => {
                    let (inner, declaration) = (format!("env.{name}"), format!("env {name}"));
                    return self.braces_in_script(value.span, &inner, name, &declaration);
                }
                Part::Var(_) | Part::Env(_) => {}
            }
        }
    }

    fn args_in_script(&mut self, span: Span) {
        let diagnostic = Diagnostic::warning(
            codes::SH_BRACES,
            "nothing is pasted into scripts: `{args}` stays unchanged",
        )
        .label(self.scope.narrow(span, ARGS), "the shell sees these braces")
        .help("write \"$@\" for the arguments given to the run");
        self.scope.sink.push(diagnostic);
    }

    /// Warns of `{inner}` in a script, in favour of a `variable` and its declaration.
    fn braces_in_script(&mut self, span: Span, inner: &str, variable: &str, declaration: &str) {
        let place = self.scope.narrow(span, &format!("{{{inner}}}"));
        let message = format!("nothing is pasted into scripts: `{{{inner}}}` stays unchanged");
        let diagnostic = Diagnostic::warning(codes::SH_BRACES, message)
            .label(place, "the shell sees these braces")
            .help(format!(
                "declare `{declaration}`, and write \"${variable}\" in the script"
            ));
        self.scope.sink.push(diagnostic);
    }

    fn timeout(&mut self, value: &Value) -> Option<Duration> {
        let timeout = values::duration(value, self.scope)?;
        if timeout.is_zero() {
            let diagnostic = Diagnostic::error(codes::RANGE, "a timeout of zero leaves no time")
                .label(value.span, "must be more than zero")
                .help("leave `timeout` out for no limit");
            self.scope.sink.push(diagnostic);
            return None;
        }
        Some(timeout)
    }
}

/// Returns the span of a node from its name to its last argument.
fn whole(node: &Node) -> Span {
    let last = node.args.last().map_or(node.span, |value| value.span);
    Span {
        len: last.start + last.len - node.span.start,
        ..node.span
    }
}

fn whole_root(span: Span) -> Diagnostic {
    Diagnostic::error(
        codes::OUTPUT,
        "the folder of the Buildfile cannot be an output",
    )
    .label(span, "owning it would delete everything in it")
    .help("let the commands write into a folder of their own, such as \"out/\"")
}
