//! Reads the templates, and resolves what each starts from. It knows no targets.

use std::borrow::Cow;
use std::collections::HashMap;

use super::body::{self, Body};
use super::definitions::{Definitions, Placed};
use super::scope::{Local, Scope, cycle};
use crate::buildfile::codes;
use crate::buildfile::grammar::Kind;
use crate::buildfile::model::Spanned;
use crate::buildfile::sink::{Sink, listed, shown};
use crate::buildfile::syntax::node::{Node, Value};
use crate::source::{Diagnostic, Label, Span};

/// The templates, and the template that each starts from.
pub(crate) struct Templates<'n> {
    index: HashMap<String, usize>,
    nodes: Vec<&'n Placed>,
    /// The content of each; where it depends on a parameter without a default, it is left out.
    pub(crate) bodies: Vec<Body>,
    params: Vec<Vec<Param>>,
    from: Vec<Option<usize>>,
}

/// A parameter of a template.
struct Param {
    name: Spanned<String>,
    default: Option<Local>,
}

/// A use of a template: its number, and the parameters that are given to it.
pub(crate) struct Use {
    template: usize,
    given: Vec<Spanned<String>>,
    values: Vec<Local>,
    /// The span of the template's name.
    span: Span,
}

impl<'n> Templates<'n> {
    pub(crate) fn new(definitions: &Definitions<'n>, scope: &mut Scope<'_>) -> Self {
        let all: Vec<&Placed> = definitions.of_kind(Kind::Template).collect();
        let names: Vec<Spanned<String>> = all.iter().filter_map(|p| p.node.first()).collect();
        let index = names
            .iter()
            .enumerate()
            .map(|(i, name)| (name.value.clone(), i));
        let mut templates = Self {
            index: index.collect(),
            params: all.iter().map(|p| params(&p.node, scope)).collect(),
            bodies: Vec::new(),
            nodes: all,
            from: Vec::new(),
        };
        for (placed, params) in templates.nodes.iter().zip(&templates.params) {
            scope.locals = params.iter().map(Param::at_definition).collect();
            let body = body::read(&placed.node, &placed.base, scope);
            templates.bodies.push(body);
            scope.locals.clear();
        }
        for placed in &templates.nodes {
            let from = templates.named_by(&placed.node, definitions, scope.sink);
            templates.from.push(from);
        }
        templates.break_cycles(&names, scope.sink);
        templates
    }

    /// Returns the template that a node starts from, and the parameters that it gives.
    pub(crate) fn used_by(
        &self,
        node: &Node,
        definitions: &Definitions<'_>,
        scope: &mut Scope<'_>,
    ) -> Option<Use> {
        let given = node.props.iter().filter(|prop| prop.is_any);
        let Some(from) = node.prop("from") else {
            for prop in given {
                scope.sink.push(not_a_property(node, &prop.name));
            }
            return None;
        };
        let template = self.named_by(node, definitions, scope.sink)?;
        self.use_of(template, node, from, scope)
    }

    fn use_of(
        &self,
        template: usize,
        node: &Node,
        from: &Value,
        scope: &mut Scope<'_>,
    ) -> Option<Use> {
        let given = node.props.iter().filter(|prop| prop.is_any);
        let values = given.clone().map(|prop| Local {
            name: prop.name.value.clone(),
            value: scope.plain(&prop.value),
            span: prop.value.span,
        });
        Some(Use {
            template,
            values: values.collect(),
            given: given.map(|prop| prop.name.clone()).collect(),
            span: from.span,
        })
    }

    fn named_by(
        &self,
        node: &Node,
        definitions: &Definitions<'_>,
        sink: &mut Sink,
    ) -> Option<usize> {
        let from = node.prop("from")?;
        let found = self.index.get(from.text()).copied();
        if found.is_none() {
            let name = Spanned::new(from.text().to_owned(), from.span);
            definitions.unknown(Kind::Template, &name, sink);
        }
        found
    }

    /// Reports cycles of templates, and cuts each of them.
    fn break_cycles(&mut self, names: &[Spanned<String>], sink: &mut Sink) {
        // The number of the walk that saw each template first, or 0.
        let mut seen = vec![0; self.from.len()];
        for start in 0..self.from.len() {
            let (mut path, mut at) = (Vec::new(), Some(start));
            while let Some(index) = at.filter(|index| seen[*index] == 0) {
                seen[index] = start + 1;
                path.push(index);
                at = self.from[index];
            }
            let Some(closed) = at.filter(|index| seen[*index] == start + 1) else {
                continue;
            };
            let begin = path.iter().position(|index| *index == closed).unwrap_or(0);
            let hop = |index: &usize| (names[*index].value.as_str(), names[*index].span);
            let hops: Vec<_> = path[begin..].iter().map(hop).collect();
            sink.push(cycle("templates", &hops));
            self.from[closed] = None;
        }
    }

    /// Returns the bodies of a template and of those that it builds on, base first.
    pub(crate) fn layers(
        &self,
        first: Option<Use>,
        scope: &mut Scope<'_>,
        span: Span,
    ) -> Vec<Cow<'_, Body>> {
        let mut layers = Vec::new();
        let mut at = first;
        let outer = std::mem::take(&mut scope.locals);
        let context = scope.sink.set_context(None);
        while let Some(used) = at {
            let index = used.template;
            if !scope.charge(1 + self.bodies[index].len(), span) {
                break;
            }
            scope.locals = self.bind(&used, context.as_deref(), scope);
            if self.params[index].is_empty() {
                layers.push(Cow::Borrowed(&self.bodies[index]));
            } else {
                let given = used.values.iter().map(Local::label);
                let labels: Vec<Label> = given.chain(context.iter().flatten().cloned()).collect();
                scope.sink.set_context(Some(labels));
                let Placed { node, base } = self.nodes[index];
                layers.push(Cow::Owned(body::read(node, base, scope)));
            }
            let node = &self.nodes[index].node;
            at = match (self.from[index], node.prop("from")) {
                (Some(next), Some(from)) => self.use_of(next, node, from, scope),
                _ => None,
            };
        }
        scope.locals = outer;
        scope.sink.set_context(context);
        layers.reverse();
        layers
    }

    /// Returns the values of a template's parameters in one use of it. Reports those that it
    /// does not have, and those that are missing.
    fn bind(&self, used: &Use, context: Option<&[Label]>, scope: &mut Scope<'_>) -> Vec<Local> {
        let params = &self.params[used.template];
        let template = self.nodes[used.template].node.first();
        let template = shown(template.as_ref().map_or("", |name| &name.value));
        scope.sink.set_context(context.map(<[Label]>::to_vec));
        for name in &used.given {
            if !params.iter().any(|param| param.name.value == name.value) {
                let known = || params.iter().map(|param| param.name.value.as_str());
                let help = match scope.sink.nearest(&name.value, known().chain(["from"])) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if params.is_empty() => {
                        format!(
                            "it has none; declare it there: param {}",
                            shown(&name.value)
                        )
                    }
                    None => format!("it has {}", listed(known())),
                };
                let message = format!(
                    "the template `{template}` has no parameter `{}`",
                    shown(&name.value)
                );
                let diagnostic = Diagnostic::error(codes::PARAMETER, message);
                let diagnostic = diagnostic.label(name.span, "not a parameter");
                scope.sink.push(diagnostic.help(help));
            }
        }
        let mut locals = Vec::with_capacity(params.len());
        for param in params {
            let name = &param.name.value;
            let given = used.values.iter().find(|value| value.name == *name);
            if let Some(value) = given.or(param.default.as_ref()) {
                locals.push(value.clone());
                continue;
            }
            let message = format!("the template `{template}` needs `{}`", shown(name));
            let diagnostic = Diagnostic::error(codes::PARAMETER, message)
                .label(used.span, "is not given here")
                .label(param.name.span, "has no default")
                .help(format!(
                    "write it behind: from={template} {}=\"…\"",
                    shown(name)
                ));
            scope.sink.push(diagnostic);
            locals.push(param.at_definition());
        }
        locals
    }
}

impl Param {
    /// Returns the value while nothing is given.
    fn at_definition(&self) -> Local {
        self.default.clone().unwrap_or_else(|| Local {
            name: self.name.value.clone(),
            value: None,
            span: self.name.span,
        })
    }
}

/// Reads the parameters that a template declares.
fn params(node: &Node, scope: &mut Scope<'_>) -> Vec<Param> {
    let mut params: Vec<Param> = Vec::new();
    for child in node.children.iter().filter(|c| c.spec.kind == Kind::Param) {
        let Some(name) = child.first() else { continue };
        if scope.check_local_name(&name).is_none() {
            continue;
        }
        let earlier = params.iter().find(|param| param.name.value == name.value);
        if let Some(earlier) = earlier {
            let message = format!("the parameter `{}` is declared twice", shown(&name.value));
            let diagnostic = Diagnostic::error(codes::DUPLICATE, message)
                .label(name.span, "again here")
                .label(earlier.name.span, "first declared here");
            scope.sink.push(diagnostic.help("rename one of them"));
            continue;
        }
        let default = child.prop("default").map(|value| Local {
            name: name.value.clone(),
            value: scope.plain(value),
            span: value.span,
        });
        params.push(Param { name, default });
    }
    params
}

fn not_a_property(node: &Node, name: &Spanned<String>) -> Diagnostic {
    let message = format!(
        "`{}` has no property `{}`",
        node.spec.name,
        shown(&name.value)
    );
    let help = match crate::source::nearest(&name.value, ["from"]) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "it has `from`; parameters of a template follow `from=TEMPLATE`".to_owned(),
    };
    Diagnostic::error(codes::UNKNOWN_PROPERTY, message)
        .label(name.span, "not a property of this node")
        .help(help)
}
