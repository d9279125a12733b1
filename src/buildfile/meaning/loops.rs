//! Reads the `for` nodes of a target or group, and lists the combinations of their values. It
//! does not know what is made of them.

use std::collections::HashSet;
use std::path::Path;

use super::scope::{Local, Scope};
use crate::buildfile::codes;
use crate::buildfile::grammar::Kind;
use crate::buildfile::listing::{self, Listing};
use crate::buildfile::model::Spanned;
use crate::buildfile::sink::shown;
use crate::buildfile::syntax::node::{Node, Value};
use crate::path::RelPath;
use crate::source::{Diagnostic, Span};

/// The most combinations of one target.
const MOST: usize = 100_000;

/// The folder in which `for` finds files, and what was found there.
pub(crate) struct Files<'f> {
    /// The root; `None` for a text that is not a file.
    pub(crate) root: Option<&'f Path>,
    pub(crate) listings: Vec<Listing>,
}

/// A `for` node.
struct Loop {
    name: Spanned<String>,
    values: Vec<Spanned<String>>,
}

/// The `for` nodes of one target or group.
#[derive(Default)]
pub(crate) struct Loops {
    loops: Vec<Loop>,
    /// Left out combinations: for some loops, by their index, a value.
    excepts: Vec<Vec<(usize, String)>>,
}

impl Loops {
    /// Reads the `for` nodes in a block; `None` if there is a mistake in them.
    pub(crate) fn read(
        node: &Node,
        base: &RelPath,
        files: &mut Files<'_>,
        scope: &mut Scope<'_>,
    ) -> Option<Self> {
        let nodes = node.children.iter().filter(|c| c.spec.kind == Kind::For);
        let mut all = Self::default();
        let errors = scope.sink.errors();
        for node in nodes.clone() {
            let read = all.read_one(node, base, files, scope);
            all.loops.push(read?);
        }
        for node in nodes {
            all.read_excepts(node, scope);
        }
        if !all.loops.is_empty() {
            all.check_count(scope);
            all.check_name(node, scope);
        }
        (scope.sink.errors() == errors).then_some(all)
    }

    /// Returns true if there is no `for`.
    pub(crate) fn is_empty(&self) -> bool {
        self.loops.is_empty()
    }

    /// Returns the number of combinations, those that are left out included.
    pub(crate) fn len(&self) -> usize {
        let lens = self.loops.iter().map(|one| one.values.len());
        lens.fold(1, usize::saturating_mul)
    }

    /// Returns a combination, in which the last `for` changes first; `None` if it is left out.
    pub(crate) fn nth(&self, mut number: usize) -> Option<Vec<Local>> {
        let mut locals = Vec::with_capacity(self.loops.len());
        for one in self.loops.iter().rev() {
            let value = one.values.get(number % one.values.len().max(1))?;
            number /= one.values.len().max(1);
            locals.push(Local {
                name: one.name.value.clone(),
                value: Some(value.value.clone()),
                span: value.span,
            });
        }
        locals.reverse();
        let is_left_out = |except: &Vec<(usize, String)>| {
            let mut pairs = except.iter();
            pairs.all(|(index, value)| locals[*index].value.as_ref() == Some(value))
        };
        (!self.excepts.iter().any(is_left_out)).then_some(locals)
    }

    fn read_one(
        &self,
        node: &Node,
        base: &RelPath,
        files: &mut Files<'_>,
        scope: &mut Scope<'_>,
    ) -> Option<Loop> {
        let (first, values) = node.args.split_first()?;
        let name = Spanned::new(first.text().to_owned(), first.span);
        self.check_loop_name(&name, scope)?;
        let values = match (values, node.prop("files")) {
            ([], None) if node.is_damaged => return None,
            ([], None) => {
                let message = format!("`for {}` has no values", name.value);
                let diagnostic = Diagnostic::error(codes::FOR, message)
                    .label(name.span, "for which values?")
                    .help("write them behind it, as in `for os linux darwin`, or name files: `for unit files=\"src/{unit}.c\"`");
                scope.sink.push(diagnostic);
                return None;
            }
            ([value, ..], Some(_)) => {
                let message = format!("`for {}` has values and files", name.value);
                let diagnostic = Diagnostic::error(codes::FOR, message)
                    .label(
                        value.span,
                        "a value, although the values are names of files",
                    )
                    .help("write two targets, or one of both");
                scope.sink.push(diagnostic);
                return None;
            }
            ([], Some(pattern)) => found(&name, pattern, base, files, scope)?,
            (values, None) => listed(&name, values, scope)?,
        };
        Some(Loop { name, values })
    }

    fn check_loop_name(&self, name: &Spanned<String>, scope: &mut Scope<'_>) -> Option<()> {
        let earlier = self.loops.iter().find(|one| one.name.value == name.value);
        let shown = shown(&name.value);
        let diagnostic = if let Some(earlier) = earlier {
            Diagnostic::error(
                codes::FOR,
                format!("two `for` of one target have the name `{shown}`"),
            )
            .label(name.span, "again here")
            .label(earlier.name.span, "first here")
            .help("rename one of them, or write all values behind one of them")
        } else {
            return scope.check_local_name(name);
        };
        scope.sink.push(diagnostic);
        None
    }

    fn read_excepts(&mut self, node: &Node, scope: &mut Scope<'_>) {
        for except in &node.children {
            let mut pairs = Vec::new();
            for prop in except.props.iter().filter(|prop| prop.is_any) {
                let Some(value) = scope.plain(&prop.value) else {
                    return;
                };
                let index = self
                    .loops
                    .iter()
                    .position(|one| one.name.value == prop.name.value);
                let Some(index) = index else {
                    self.unknown_loop(&prop.name, scope);
                    return;
                };
                let loop_of = &self.loops[index];
                if !loop_of.values.iter().any(|known| known.value == value) {
                    unknown_value(loop_of, &value, prop.value.span, scope);
                    return;
                }
                pairs.push((index, value));
            }
            if pairs.is_empty() && !except.is_damaged {
                let diagnostic = Diagnostic::error(codes::FOR, "this `except` leaves out nothing")
                    .label(except.span, "NAME=VALUE is missing")
                    .help("for example: except os=windows arch=arm64");
                scope.sink.push(diagnostic);
            }
            if !pairs.is_empty() {
                self.excepts.push(pairs);
            }
        }
    }

    fn unknown_loop(&self, name: &Spanned<String>, scope: &mut Scope<'_>) {
        let known = self.loops.iter().map(|one| one.name.value.as_str());
        let help = match scope.sink.nearest(&name.value, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "it names values of `for`, such as `{}`",
                self.loops[0].name.value
            ),
        };
        let message = format!(
            "no `for` of this target has the name `{}`",
            shown(&name.value)
        );
        let diagnostic = Diagnostic::error(codes::FOR, message);
        scope
            .sink
            .push(diagnostic.label(name.span, "not a `for`").help(help));
    }

    fn check_count(&self, scope: &mut Scope<'_>) {
        let span = self.loops[0].name.span;
        let count = self.len();
        if count > MOST {
            let message = format!("`for` makes {count} targets, and the limit is {MOST}");
            let diagnostic = Diagnostic::error(codes::FOR, message)
                .label(span, "with this one, and all others of the target")
                .help("let one target do several of these");
            scope.sink.push(diagnostic);
        } else if !self.excepts.is_empty() && (0..count).all(|n| self.nth(n).is_none()) {
            let diagnostic = Diagnostic::error(codes::FOR, "`except` leaves out every combination")
                .label(span, "no target is left")
                .help("remove an `except`, or the target");
            scope.sink.push(diagnostic);
        }
    }

    /// Reports a value that is not in the name, so that several targets would have one name.
    fn check_name(&self, node: &Node, scope: &mut Scope<'_>) {
        let Some(written) = node.args.first() else {
            return;
        };
        let is_missing = |one: &&Loop| !scope.refers(written, &one.name.value);
        let several = self.loops.iter().filter(|one| one.values.len() > 1);
        let missing = several.clone().find(is_missing);
        let (Some(one), Some(values)) = (missing, missing.map(|one| one.values.len())) else {
            return;
        };
        let (name, of) = (&one.name.value, shown(written.text()));
        let message = format!("the {values} values of `for {name}` give the same name `{of}`");
        let diagnostic = Diagnostic::error(codes::FOR, message)
            .label(written.span, format!("has no `{{{name}}}` in it"))
            .label(one.name.span, "these values")
            .help(format!("put it into the name: \"{of}-{{{name}}}\""));
        scope.sink.push(diagnostic);
    }
}

/// Reads the values that are written.
fn listed(
    name: &Spanned<String>,
    values: &[Value],
    scope: &mut Scope<'_>,
) -> Option<Vec<Spanned<String>>> {
    let mut seen = HashSet::with_capacity(values.len());
    let mut all = Vec::with_capacity(values.len());
    for value in values {
        let text = scope.plain(value)?;
        if !seen.insert(text.clone()) {
            let message = format!(
                "`for {}` has the value `{}` twice",
                name.value,
                shown(&text)
            );
            let diagnostic = Diagnostic::error(codes::FOR, message);
            let diagnostic = diagnostic.label(value.span, "again here");
            scope.sink.push(diagnostic.help("remove one of them"));
            return None;
        }
        all.push(Spanned::new(text, value.span));
    }
    Some(all)
}

/// Finds the values in the names of files.
fn found(
    name: &Spanned<String>,
    pattern: &Value,
    base: &RelPath,
    files: &mut Files<'_>,
    scope: &mut Scope<'_>,
) -> Option<Vec<Spanned<String>>> {
    // The name is a place in the pattern, and stays as it is.
    let place = Local {
        name: name.value.clone(),
        value: Some(format!("{{{}}}", name.value)),
        span: name.span,
    };
    let outer = std::mem::replace(&mut scope.locals, vec![place]);
    let text = scope.plain(pattern);
    scope.locals = outer;
    let text = text?;
    // A text that is not in a file has no folder in which to search.
    let folder = files.root?.join(base.as_path());
    if text.starts_with('/') {
        let message = format!("`{}` is an absolute path", shown(&text));
        wrong_pattern(message, pattern.span, &name.value, scope);
        return None;
    }
    match Listing::find(&folder, &text, &name.value) {
        Ok((listing, values)) => {
            files.listings.push(listing);
            if values.is_empty() {
                let message = format!("no file matches `{}`", shown(&text));
                let diagnostic = Diagnostic::error(codes::FOR, message)
                    .label(pattern.span, format!("there is no value for `{}`", name.value))
                    .help("the path is relative to the project's root; names that start with a dot do not match");
                scope.sink.push(diagnostic);
                return None;
            }
            let values = values.into_iter();
            Some(
                values
                    .map(|value| Spanned::new(value, pattern.span))
                    .collect(),
            )
        }
        Err(error) => {
            let message = match error {
                listing::Error::Part { .. } | listing::Error::Place { .. } => {
                    format!("`{}` is not a pattern of a `for`: {error}", shown(&text))
                }
                error => shown(&error.to_string()),
            };
            wrong_pattern(message, pattern.span, &name.value, scope);
            None
        }
    }
}

fn wrong_pattern(message: String, span: Span, name: &str, scope: &mut Scope<'_>) {
    let help = format!(
        "write one `{{{name}}}` for a part of a name, with plain text around it: \"src/{{{name}}}.c\", \"apps/*/{{{name}}}/package.json\""
    );
    let diagnostic = Diagnostic::error(codes::FOR, message);
    scope
        .sink
        .push(diagnostic.label(span, "cannot be searched").help(help));
}

fn unknown_value(loop_of: &Loop, value: &str, span: Span, scope: &mut Scope<'_>) {
    let name = &loop_of.name.value;
    let message = format!("`{name}` is never `{}`", shown(value));
    let known = loop_of.values.iter().map(|known| known.value.as_str());
    let help = match scope.sink.nearest(value, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("its values are behind `for {name}`"),
    };
    let diagnostic = Diagnostic::error(codes::FOR, message)
        .label(span, "not one of its values")
        .label(loop_of.name.span, "its values are here");
    scope.sink.push(diagnostic.help(help));
}
