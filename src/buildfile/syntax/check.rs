//! Checks what the `kdl` crate parsed against the grammar: names, places, counts, types.
//! The table in [`grammar`] drives all of it.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use kdl::{KdlDocument, KdlEntry, KdlNode, KdlValue};

use super::node::{Data, Node, Prop, Value};
use crate::buildfile::codes;
use crate::buildfile::grammar::{self, Kind, NodeSpec, Type, allowed};
use crate::buildfile::model::Spanned;
use crate::buildfile::names;
use crate::buildfile::sink::{Sink, listed, shown};
use crate::source::{Diagnostic, FileId, Span, nearest};

/// Turns parsed nodes into [`Node`]s.
pub(super) struct Checker<'t, 's> {
    text: &'t str,
    file: FileId,
    damaged: &'t [usize],
    pub(crate) sink: &'s mut Sink,
    /// Where the text being checked starts in the file.
    offset: usize,
    /// The top-level nodes seen so far of those that may be given only once.
    once: Vec<(Kind, Span)>,
    /// Whether a top-level node was left out, and with it the name that it declares.
    pub(crate) has_lost_names: bool,
}

impl<'t, 's> Checker<'t, 's> {
    pub(crate) fn new(
        text: &'t str,
        file: FileId,
        damaged: &'t [usize],
        sink: &'s mut Sink,
    ) -> Self {
        Self {
            text,
            file,
            damaged,
            sink,
            offset: 0,
            once: Vec::new(),
            has_lost_names: false,
        }
    }

    /// Returns the span between two offsets in the text.
    pub(crate) fn span(&self, start: usize, end: usize) -> Span {
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Span {
            file: self.file,
            start: narrow(start),
            len: narrow(end.saturating_sub(start)),
        }
    }

    fn place(&self, span: miette::SourceSpan) -> Span {
        let start = self.offset + span.offset();
        self.span(start, start + span.len())
    }

    /// Checks the nodes parsed from the part of the text that starts at `offset`.
    pub(crate) fn piece(&mut self, document: &KdlDocument, offset: usize) -> Vec<Node> {
        self.offset = offset;
        let mut once = std::mem::take(&mut self.once);
        let nodes = self.nodes(document, None, &mut once);
        self.once = once;
        nodes
    }

    fn nodes(
        &mut self,
        document: &KdlDocument,
        parent: Option<&'static NodeSpec>,
        once: &mut Vec<(Kind, Span)>,
    ) -> Vec<Node> {
        let mut nodes = Vec::with_capacity(document.nodes().len());
        for kdl in document.nodes() {
            let Some(spec) = grammar::find(allowed(parent), kdl.name().value()) else {
                self.unknown_node(kdl, parent);
                self.has_lost_names |= parent.is_none();
                continue;
            };
            let span = self.place(kdl.name().span());
            if !spec.is_repeatable {
                if let Some((_, earlier)) = once.iter().find(|(kind, _)| *kind == spec.kind) {
                    let message = format!("`{}` is given twice", spec.name);
                    self.repeated(message, span, *earlier);
                    continue;
                }
                once.push((spec.kind, span));
            }
            let node = self.node(kdl, spec, span);
            self.has_lost_names |=
                parent.is_none() && node.args.is_empty() && !spec.args.is_empty();
            nodes.push(node);
        }
        nodes
    }

    fn node(&mut self, kdl: &KdlNode, spec: &'static NodeSpec, span: Span) -> Node {
        let errors = self.sink.errors();
        let mut node = Node {
            spec,
            span,
            args: Vec::new(),
            props: Vec::new(),
            children: Vec::new(),
            is_damaged: self.is_damaged(span),
        };
        let mut entries = Entries::default();
        for entry in kdl.entries() {
            match entry.name() {
                None => self.argument(entry, &mut node, &mut entries),
                Some(_) => self.property(entry, &mut node, &mut entries),
            }
        }
        self.check_count(&node, entries.args);
        if let Some(children) = kdl.children() {
            if spec.children.is_empty() {
                self.no_block(spec, span);
            } else {
                node.children = self.nodes(children, Some(spec), &mut Vec::new());
            }
        }
        node.is_damaged |= self.sink.errors() > errors;
        node.is_damaged |= node.children.iter().any(|child| child.is_damaged);
        node
    }

    fn argument(&mut self, entry: &KdlEntry, node: &mut Node, entries: &mut Entries) {
        let spec = node.spec;
        let index = entries.args;
        entries.args += 1;
        let rest = spec.rest.as_ref().map(|rest| &rest.arg);
        match spec.args.get(index).or(rest) {
            Some(arg) => {
                let value = self.value(entry, arg.ty, spec);
                node.args.extend(value);
            }
            None if index == spec.args.len() => self.extra_argument(entry, spec),
            None => {}
        }
    }

    fn property(&mut self, entry: &KdlEntry, node: &mut Node, entries: &mut Entries) {
        let Some(name) = entry.name() else {
            return;
        };
        let spec = node.spec;
        let span = self.place(name.span());
        let known = spec.props.iter().find(|prop| prop.name == name.value());
        let Some(prop) = known.or(spec.any_prop.as_ref()) else {
            self.unknown_property(name.value(), span, spec);
            return;
        };
        if let Some(earlier) = entries.props.insert(name.value().to_owned(), span) {
            let message = format!("the property `{}` is given twice", shown(name.value()));
            self.repeated(message, span, earlier);
            return;
        }
        let is_any = known.is_none();
        if is_any {
            let ty = match spec.kind {
                Kind::Env => Type::Variable,
                _ => Type::VarName,
            };
            self.check_name(name.value(), span, ty);
        }
        let Some(value) = self.value(entry, prop.ty, spec) else {
            return;
        };
        let name = Spanned::new(name.value().to_owned(), span);
        node.props.push(Prop {
            spec: prop,
            name,
            value,
            is_any,
        });
    }

    /// Returns the value of an entry if it has the type `ty`, or reports that it has not.
    fn value(&mut self, entry: &KdlEntry, ty: Type, spec: &NodeSpec) -> Option<Value> {
        let span = self.value_span(entry);
        let written = self.written(span);
        let data = match (entry.value(), ty) {
            (KdlValue::Bool(flag), Type::Flag) => Data::Flag(*flag),
            (KdlValue::Integer(n), Type::Count(min, max)) => {
                let n = self.count(*n, min..=max, span)?;
                Data::Count(n)
            }
            (_, Type::Flag | Type::Count(..)) => return self.wrong_type(entry, ty, spec),
            (KdlValue::String(text), _) => {
                self.check_name(text, span, ty);
                Data::Text(text.clone())
            }
            (KdlValue::Integer(_) | KdlValue::Float(_), ty)
                if ty.takes_numbers() && !written.starts_with('#') =>
            {
                Data::Text(written.to_owned())
            }
            _ => return self.wrong_type(entry, ty, spec),
        };
        Some(Value { data, span })
    }

    /// Returns the span of an entry's value, without the name of a property.
    fn value_span(&self, entry: &KdlEntry) -> Span {
        let whole = entry.span();
        let end = self.offset + whole.offset() + whole.len();
        let len = entry.format().map_or(whole.len(), |f| f.value_repr.len());
        self.span(end - len.min(whole.len()), end)
    }

    fn written(&self, span: Span) -> &'t str {
        let start = span.start as usize;
        let end = start + span.len as usize;
        self.text.get(start..end).unwrap_or("")
    }

    fn count(&mut self, n: i128, allowed: RangeInclusive<u32>, span: Span) -> Option<u32> {
        let count = u32::try_from(n).ok().filter(|n| allowed.contains(n));
        if count.is_none() {
            let (min, max) = allowed.into_inner();
            let bound = if n < i128::from(min) {
                format!("the smallest value here is {min}")
            } else {
                format!("the largest value here is {max}")
            };
            let diagnostic = Diagnostic::error(codes::RANGE, format!("{n} is out of range"));
            let help = format!("write a number from {min} to {max}");
            self.sink.push(diagnostic.label(span, bound).help(help));
        }
        count
    }

    fn check_name(&mut self, name: &str, span: Span, ty: Type) {
        let Err(rule) = names::check(name, ty) else {
            return;
        };
        let message = match name {
            "" => "a name is empty".to_owned(),
            name => format!("`{}` cannot be {}", shown(name), ty.name()),
        };
        let diagnostic = Diagnostic::error(codes::NAME, message).label(span, "not a name");
        self.sink
            .push(diagnostic.help(format!("such a name is {rule}")));
    }

    fn wrong_type(&mut self, entry: &KdlEntry, ty: Type, spec: &NodeSpec) -> Option<Value> {
        let span = self.value_span(entry);
        let written = shown(self.written(span));
        let found = match entry.value() {
            KdlValue::String(_) => "text",
            KdlValue::Integer(_) | KdlValue::Float(_) => "a number",
            KdlValue::Bool(_) => "a flag",
            KdlValue::Null => "#null",
        };
        let inner = entry.value().as_string().unwrap_or("");
        let help = match (ty, inner) {
            (Type::Flag, "true" | "yes" | "on" | "1") => "write `#true`".to_owned(),
            (Type::Flag, "false" | "no" | "off" | "0") => "write `#false`".to_owned(),
            (Type::Flag, _) => "write `#true` or `#false`".to_owned(),
            (Type::Count(..), text) if text.parse::<u32>().is_ok() => format!("write `{text}`"),
            (Type::Count(..), _) => spec.hint(),
            (Type::Duration, _) if found == "a number" => {
                format!("write it with its unit, such as \"{written}s\"")
            }
            (Type::Size, _) if found == "a number" => {
                format!("write it with its unit, such as \"{written} MB\"")
            }
            _ => format!("put it in quotes: \"{written}\""),
        };
        let message = format!("expected {}, found {found}", ty.name());
        let diagnostic = Diagnostic::error(codes::TYPE, message);
        let label = format!("this is {found}");
        self.sink.push(diagnostic.label(span, label).help(help));
        None
    }

    fn check_count(&mut self, node: &Node, given: usize) {
        let spec = node.spec;
        let needed = spec.args.len() + spec.rest.as_ref().map_or(0, |rest| rest.min);
        if given >= needed || node.is_damaged {
            return;
        }
        let rest = spec.rest.as_ref().map(|rest| &rest.arg);
        let missing = spec.args.get(given).or(rest);
        let what = missing.map_or("an argument", |arg| arg.ty.name());
        let message = format!("`{}` needs {what}", spec.name);
        let diagnostic = Diagnostic::error(codes::MISSING, message);
        let label = missing.map_or(String::new(), |arg| format!("{} is missing", arg.what));
        self.sink
            .push(diagnostic.label(node.span, label).help(spec.hint()));
    }

    /// Returns true if the guard blanked a part of the node whose name is at this span.
    fn is_damaged(&self, name: Span) -> bool {
        self.damaged.binary_search(&(name.start as usize)).is_ok()
    }

    fn unknown_node(&mut self, kdl: &KdlNode, parent: Option<&'static NodeSpec>) {
        let name = kdl.name().value();
        let span = self.place(kdl.name().span());
        let places = grammar::places(name);
        let here = parent.map_or("at the top level".to_owned(), |p| {
            format!("in `{}`", p.name)
        });
        if !places.is_empty() {
            let message = format!("`{name}` does not belong {here}");
            let diagnostic = Diagnostic::error(codes::MISPLACED, message);
            self.sink.push(
                diagnostic
                    .label(span, "has no meaning here")
                    .help(belongs(&places)),
            );
            return;
        }
        let names = allowed(parent).iter().map(|spec| spec.name);
        let message = format!("unknown node `{}`", shown(name));
        let help = match nearest(name, names.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("{here} there can be {}", listed(names)),
        };
        let diagnostic = Diagnostic::error(codes::UNKNOWN_NODE, message);
        self.sink.push(
            diagnostic
                .label(span, "not a node of the language")
                .help(help),
        );
    }

    fn unknown_property(&mut self, name: &str, span: Span, spec: &NodeSpec) {
        let diagnostic = Diagnostic::error(
            codes::UNKNOWN_PROPERTY,
            format!("`{}` has no property `{}`", spec.name, shown(name)),
        );
        let names = spec.props.iter().map(|prop| prop.name);
        let help = match (spec.kind, nearest(name, names.clone())) {
            (Kind::Run | Kind::Probe, _) => {
                format!("put the whole argument in quotes: \"{}=…\"", shown(name))
            }
            (_, Some(near)) => format!("did you mean `{near}`?"),
            (_, None) if spec.props.is_empty() => format!("it has none; {}", spec.hint()),
            (_, None) => format!("it has {}", listed(names)),
        };
        self.sink.push(
            diagnostic
                .label(span, "not a property of this node")
                .help(help),
        );
    }

    fn extra_argument(&mut self, entry: &KdlEntry, spec: &NodeSpec) {
        let span = self.place(entry.span());
        let message = match spec.args.len() {
            0 => format!("`{}` takes no arguments", spec.name),
            1 => format!("`{}` takes one argument", spec.name),
            n => format!("`{}` takes {n} arguments", spec.name),
        };
        let diagnostic = Diagnostic::error(codes::UNEXPECTED, message);
        let help = match spec.kind {
            Kind::Sh => "put the whole script in one pair of quotes".to_owned(),
            _ => spec.hint(),
        };
        self.sink
            .push(diagnostic.label(span, "one too many").help(help));
    }

    fn no_block(&mut self, spec: &NodeSpec, span: Span) {
        let message = format!("`{}` has no block", spec.name);
        let diagnostic = Diagnostic::error(codes::UNEXPECTED, message);
        let help = match spec.kind {
            Kind::Run => "put an argument with braces in quotes: run echo \"{args}\"".to_owned(),
            _ => spec.hint(),
        };
        self.sink
            .push(diagnostic.label(span, "a block follows").help(help));
    }

    fn repeated(&mut self, message: String, span: Span, earlier: Span) {
        let diagnostic = Diagnostic::error(codes::REPEATED, message)
            .label(span, "again here")
            .label(earlier, "first given here");
        self.sink.push(diagnostic.help("keep one of them"));
    }
}

/// The arguments and properties of a node that were read so far.
#[derive(Default)]
struct Entries {
    args: usize,
    props: HashMap<String, Span>,
}

fn belongs(places: &[&str]) -> String {
    let mut places: Vec<_> = places.to_vec();
    places.dedup();
    match places[..] {
        [""] => "move it to the top level of the main Buildfile".to_owned(),
        _ => format!(
            "move it into {}",
            listed(places.into_iter().filter(|p| !p.is_empty()))
        ),
    }
}
