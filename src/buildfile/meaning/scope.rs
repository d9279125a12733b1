//! Puts the values of `var` into strings. It limits the text and the items that a
//! Buildfile can expand to, and knows no targets.

use std::collections::{HashMap, HashSet};

use super::braces::{Part, parts};
use crate::buildfile::codes;
use crate::buildfile::grammar::Type;
use crate::buildfile::model::{Piece, Spanned, Text};
use crate::buildfile::names;
use crate::buildfile::sink::{Sink, shown};
use crate::buildfile::syntax::node::{Node, Value};
use crate::source::{Diagnostic, Label, Sources, Span};

/// The most bytes in the value of one `var`.
const LONGEST_VALUE: usize = 64 << 10;
/// The most bytes that variables can put into strings.
const MOST_TEXT: usize = 64 << 20;
/// The most items that templates and sets can put into targets.
const MOST_ITEMS: usize = 4_000_000;
/// The most names that are compared with the well-known ones.
const MOST_LINTS: usize = 20_000;

/// The name in braces that stands for the arguments given to a run.
pub(super) const RESERVED: &str = "args";

/// A value of `for`, or of a template's parameter.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    pub(crate) name: String,
    /// `None` if it is not known what it will be.
    pub(crate) value: Option<String>,
    /// The span of the value.
    pub(crate) span: Span,
}

impl Local {
    /// Returns a label that names the value.
    pub(crate) fn label(&self) -> Label {
        let value = shown(self.value.as_deref().unwrap_or(""));
        Label {
            span: self.span,
            text: format!("with `{}` = `{value}`", self.name),
        }
    }
}

/// The variables that strings can refer to, and the sink for mistakes in them.
pub(crate) struct Scope<'a> {
    /// The values; `None` for one with a mistake in it.
    vars: HashMap<String, Option<String>>,
    /// The values that hold only in what is read now.
    pub(crate) locals: Vec<Local>,
    /// The variables that the current target declares, for hints.
    pub(super) local: HashSet<String>,
    sources: &'a Sources,
    pub(crate) sink: &'a mut Sink,
    text_left: usize,
    items_left: usize,
    is_exceeded: bool,
    lints_left: usize,
    /// The code and span of each mistake reported by [`Scope::once`].
    reported: HashSet<(String, Span)>,
}

impl<'a> Scope<'a> {
    /// Resolves the variables that `nodes`, all of them `var`, define.
    pub(crate) fn new(nodes: &[&Node], sources: &'a Sources, sink: &'a mut Sink) -> Self {
        let mut scope = Self {
            vars: HashMap::new(),
            locals: Vec::new(),
            local: HashSet::new(),
            sources,
            sink,
            text_left: MOST_TEXT,
            items_left: MOST_ITEMS,
            is_exceeded: false,
            lints_left: MOST_LINTS,
            reported: HashSet::new(),
        };
        Resolver::new(nodes).run(&mut scope);
        let names = nodes.iter().filter_map(|node| node.args.first());
        for name in names.filter(|name| name.text() == RESERVED) {
            let message = "`args` is not a name for a variable";
            let diagnostic = Diagnostic::error(codes::ARGS_PLACE, message)
                .label(
                    name.span,
                    "`{args}` stands for the arguments given to a run",
                )
                .help("choose another name");
            scope.sink.push(diagnostic);
        }
        scope.vars.remove(RESERVED);
        scope
    }

    /// Returns true if `name` is a variable.
    pub(super) fn has_var(&self, name: &str) -> bool {
        self.vars.contains_key(name) || self.locals.iter().any(|local| local.name == name)
    }

    /// Reports a name of a `for` or a parameter that has another meaning in braces already.
    pub(super) fn check_local_name(&mut self, name: &Spanned<String>) -> Option<()> {
        let shown = shown(&name.value);
        let diagnostic = if name.value == RESERVED {
            Diagnostic::error(codes::ARGS_PLACE, "`args` is not a name for values").label(
                name.span,
                "`{args}` stands for the arguments given to a run",
            )
        } else if self.vars.contains_key(&name.value) {
            let message = format!("`{shown}` is the name of a `var`, too");
            Diagnostic::error(codes::DUPLICATE, message).label(name.span, "again here")
        } else {
            return Some(());
        };
        self.sink.push(diagnostic.help("choose another name"));
        None
    }

    /// Returns the values that hold now.
    pub(super) fn values(&self) -> Vec<(String, Spanned<String>)> {
        let locals = self.locals.iter();
        let value = |local: &Local| {
            let value = Spanned::new(local.value.clone()?, local.span);
            Some((local.name.clone(), value))
        };
        locals.filter_map(value).collect()
    }

    /// Returns true if a text has `{name}` in it.
    pub(super) fn refers(&self, value: &Value, name: &str) -> bool {
        parts(value.text()).any(|part| part == Part::Var(name))
    }

    /// Returns a name with variables in place; `None` if it has a mistake, or is none then.
    pub(crate) fn name(&mut self, value: &Value, ty: Type) -> Option<Spanned<String>> {
        let text = self.plain(value)?;
        if value.text().contains('{')
            && let Err(rule) = names::check(&text.replace('{', "\n"), ty)
        {
            let message = format!("`{}` cannot be {}", shown(&text), ty.name());
            let diagnostic =
                Diagnostic::error(codes::NAME, message).label(value.span, "not a name");
            self.sink
                .push(diagnostic.help(format!("such a name is {rule}")));
            return None;
        }
        Some(Spanned::new(text, value.span))
    }

    /// Returns the text of `value` with variables in place; `None` if it has a mistake. A
    /// `{env.NAME}` is one.
    pub(crate) fn plain(&mut self, value: &Value) -> Option<String> {
        if !value.text().contains('{') {
            return Some(value.text().to_owned());
        }
        let mut out = Some(String::new());
        for part in parts(value.text()) {
            let piece = match part {
                Part::Literal(text) => Some(text.to_owned()),
                Part::Var(name) => self.value(name, value.span),
                Part::Env(name) => {
                    self.env_out_of_place(name, value.span);
                    None
                }
            };
            out = out.zip(piece).map(|(out, piece)| out + &piece);
        }
        out
    }

    /// Returns the text of `value` with variables in place, and adds the environment
    /// variables that it refers to to `uses`.
    pub(crate) fn text(&mut self, value: &Value, uses: &mut Vec<Spanned<String>>) -> Text {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        for part in parts(value.text()) {
            match part {
                Part::Literal(text) => literal.push_str(text),
                Part::Var(name) => {
                    literal.push_str(&self.value(name, value.span).unwrap_or_default());
                }
                Part::Env(name) => {
                    if !literal.is_empty() {
                        pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                    }
                    pieces.push(Piece::Env(name.to_owned()));
                    let place = self.narrow(value.span, &format!("{{env.{name}}}"));
                    uses.push(Spanned::new(name.to_owned(), place));
                }
            }
        }
        if !literal.is_empty() || pieces.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Text(pieces)
    }

    fn value(&mut self, name: &str, span: Span) -> Option<String> {
        let local = self.locals.iter().find(|local| local.name == name);
        let local = local.map(|local| &local.value);
        let Some(value) = local.or_else(|| self.vars.get(name)) else {
            self.unknown(name, span);
            return None;
        };
        let value = value.as_ref()?;
        let Some(left) = self.text_left.checked_sub(value.len()) else {
            self.exceeded(span);
            return None;
        };
        self.text_left = left;
        Some(value.clone())
    }

    /// Reports a mistake unless its code and span were reported before: a mistake in a
    /// template is one mistake, however many targets start from it.
    pub(crate) fn once(&mut self, diagnostic: Diagnostic) {
        let Some(place) = diagnostic.labels.first().map(|label| label.span) else {
            return;
        };
        if self.reported.insert((diagnostic.code.clone(), place)) {
            self.sink.push(diagnostic);
        }
    }

    /// Returns true if one more name may be compared with the well-known ones.
    pub(crate) fn is_linting(&mut self) -> bool {
        self.lints_left = self.lints_left.saturating_sub(1);
        self.lints_left > 0
    }

    /// Subtracts `count` items that a template or set adds from the limit; returns false
    /// when the limit is exceeded.
    pub(crate) fn charge(&mut self, count: usize, span: Span) -> bool {
        match self.items_left.checked_sub(count) {
            Some(left) => self.items_left = left,
            None => self.exceeded(span),
        }
        !self.is_exceeded
    }

    fn exceeded(&mut self, span: Span) {
        if !self.is_exceeded {
            self.is_exceeded = true;
            let message = "variables, templates and sets of files expand to too much";
            let diagnostic = Diagnostic::error(codes::EXPANSION, message);
            let help = "they must not be nested to grow without bound";
            self.sink
                .push(diagnostic.label(span, "while this is expanded").help(help));
        }
    }

    fn unknown(&mut self, name: &str, span: Span) {
        if name == RESERVED {
            self.args_out_of_place(span);
            return;
        }
        let place = self.narrow(span, &format!("{{{name}}}"));
        let message = format!("unknown variable `{}`", shown(name));
        let diagnostic = Diagnostic::error(codes::VARIABLE, message);
        let locals = self.locals.iter().map(|local| local.name.as_str());
        let near = self
            .sink
            .nearest(name, locals.chain(self.vars.keys().map(String::as_str)));
        let help = match near {
            _ if self.local.contains(name) => {
                format!("the variable that the target declares is `{{env.{name}}}`")
            }
            Some(near) => format!("did you mean `{{{near}}}`?"),
            None => format!(
                "declare it with `var {name} \"…\"`, or write `{{{{{name}}}}}` for the text itself"
            ),
        };
        self.sink.push(
            diagnostic
                .label(place, "not declared with `var`")
                .help(help),
        );
    }

    fn args_out_of_place(&mut self, span: Span) {
        let place = self.narrow(span, "{args}");
        let message = "`{args}` is allowed only in `run`, as an argument of its own";
        let help = "for example: run go test \"{args}\"; a script of `sh` has them in \"$@\"";
        let diagnostic = Diagnostic::error(codes::ARGS_PLACE, message);
        let label = "arguments given to a run have no meaning here";
        self.sink.push(diagnostic.label(place, label).help(help));
    }

    fn env_out_of_place(&mut self, name: &str, span: Span) {
        let place = self.narrow(span, &format!("{{env.{name}}}"));
        let message = format!("`{{env.{name}}}` is allowed only in `run` and in values of `env`");
        let diagnostic = Diagnostic::error(codes::ENV_PLACE, message);
        let help = "for a value known when the Buildfile is read, use a `var`";
        self.sink.push(
            diagnostic
                .label(place, "the environment has no meaning here")
                .help(help),
        );
    }

    /// Returns the span of `needle` within `span`, or all of `span` if it is spelled otherwise.
    pub(crate) fn narrow(&self, span: Span, needle: &str) -> Span {
        let start = span.start as usize;
        let text = self.sources.get(span.file).map(|file| &file.text);
        let written = text.and_then(|text| text.get(start..start + span.len as usize));
        let found = written.and_then(|written| written.find(needle));
        let narrow = |n: usize| u32::try_from(n).unwrap_or(0);
        match found {
            Some(at) => Span {
                start: span.start + narrow(at),
                len: narrow(needle.len()),
                ..span
            },
            None => span,
        }
    }
}

/// Resolves variables that refer to each other, without recursion.
struct Resolver<'n> {
    vars: Vec<Var<'n>>,
    by_name: HashMap<&'n str, usize>,
}

struct Var<'n> {
    name: &'n str,
    name_span: Span,
    value: &'n Value,
    needs: Vec<&'n str>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unseen,
    Open,
    Done,
}

impl<'n> Resolver<'n> {
    fn new(nodes: &[&'n Node]) -> Self {
        let var = |node: &&'n Node| {
            let [name, value] = &node.args[..] else {
                return None;
            };
            let needs = parts(value.text()).filter_map(|part| match part {
                Part::Var(name) => Some(name),
                Part::Literal(_) | Part::Env(_) => None,
            });
            Some(Var {
                name: name.text(),
                name_span: name.span,
                value,
                needs: needs.collect(),
                state: State::Unseen,
            })
        };
        let vars: Vec<_> = nodes.iter().filter_map(var).collect();
        let by_name = vars.iter().enumerate().rev().map(|(i, var)| (var.name, i));
        Self {
            by_name: by_name.collect(),
            vars,
        }
    }

    fn run(&mut self, scope: &mut Scope<'_>) {
        // Defined before resolved, so that a mistake in one value causes no second one elsewhere.
        let names = self.vars.iter().map(|var| (var.name.to_owned(), None));
        scope.vars = names.collect();
        for index in 0..self.vars.len() {
            if self.vars[index].state == State::Unseen {
                self.resolve(index, scope);
            }
        }
    }

    /// Resolves a variable after those that it refers to.
    fn resolve(&mut self, index: usize, scope: &mut Scope<'_>) {
        let mut open = vec![(index, 0)];
        self.vars[index].state = State::Open;
        while let Some((index, next)) = open.pop() {
            let Some(name) = self.vars[index].needs.get(next) else {
                self.finish(index, scope);
                continue;
            };
            let needed = self.by_name.get(name).copied();
            open.push((index, next + 1));
            match needed.map(|needed| (needed, self.vars[needed].state)) {
                Some((needed, State::Unseen)) => {
                    self.vars[needed].state = State::Open;
                    open.push((needed, 0));
                }
                Some((needed, State::Open)) => self.cycle(&open, needed, scope),
                _ => {}
            }
        }
    }

    fn finish(&mut self, index: usize, scope: &mut Scope<'_>) {
        let var = &mut self.vars[index];
        var.state = State::Done;
        let value = scope.plain(var.value);
        if value
            .as_ref()
            .is_some_and(|value| value.len() > LONGEST_VALUE)
        {
            scope.exceeded(var.value.span);
            return;
        }
        scope.vars.insert(var.name.to_owned(), value);
    }

    fn cycle(&self, open: &[(usize, usize)], needed: usize, scope: &mut Scope<'_>) {
        let from = open
            .iter()
            .position(|(index, _)| *index == needed)
            .unwrap_or(0);
        let hops = open[from..].iter().map(|(index, _)| &self.vars[*index]);
        let hops = hops
            .map(|var| (var.name, var.name_span))
            .collect::<Vec<_>>();
        scope.once(cycle("variables", &hops));
    }
}

/// The most hops of a cycle that are labelled.
const MOST_HOPS: usize = 20;

/// Makes the report of a cycle in which each name refers to the next.
pub(crate) fn cycle(what: &str, hops: &[(&str, Span)]) -> Diagnostic {
    let first = hops.first().map_or("", |(name, _)| name);
    let message = match hops.len() {
        1 => format!("{what} refer to each other in a circle: `{first}` refers to itself"),
        n => format!("{n} {what} refer to each other in a circle"),
    };
    let mut diagnostic = Diagnostic::error(codes::CYCLE, message);
    let nexts = hops.iter().cycle().skip(1);
    for ((_, span), (next, _)) in hops.iter().zip(nexts).take(MOST_HOPS) {
        diagnostic = diagnostic.label(*span, format!("refers to `{next}`"));
    }
    diagnostic.help("break the circle at one of these places")
}
