//! From nodes to a [`Buildfile`]: names defined once, variables in place, templates laid
//! under targets, sets put into inputs. It resolves what only the language knows; the
//! names in `needs`, `after` and `default` are left to the graph.

use std::collections::HashMap;
use std::sync::Arc;

use super::body::{self, Body};
use super::codes;
use super::grammar::Kind;
use super::model::{Buildfile, Cache, Group, Inputs, Project, Spanned, Tool};
use super::parse::Node;
use super::scope::{Scope, cycle};
use super::sink::{Sink, shown};
use super::target::{self, Protected};
use crate::path::RelPath;
use crate::source::{Diagnostic, Sources, Span};

/// A node outside all blocks, and the folder that its paths are relative to.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) node: Node,
    pub(super) base: Arc<RelPath>,
}

/// Makes a Buildfile of all nodes, those of included files in place of their `include`.
pub(super) fn expand(
    nodes: &[Placed],
    protected: &Protected,
    sources: &Sources,
    sink: &mut Sink,
) -> Buildfile {
    let definitions = Definitions::of(nodes, sink);
    let vars: Vec<&Node> = definitions.of_kind(Kind::Var).map(|p| &p.node).collect();
    let mut scope = Scope::new(&vars, sources, sink);
    let templates = Templates::new(&definitions, &mut scope);
    let mut expander = Expander {
        sets: sets(&definitions, &mut scope),
        templates,
        definitions,
        scope,
        protected,
    };
    expander.buildfile(nodes)
}

/// What has a name, by kind and name.
struct Definitions<'n> {
    by_name: HashMap<(Kind, &'n str), &'n Placed>,
    all: &'n [Placed],
}

impl<'n> Definitions<'n> {
    fn of(nodes: &'n [Placed], sink: &mut Sink) -> Self {
        let mut by_name: HashMap<_, &Placed> = HashMap::with_capacity(nodes.len());
        for placed in nodes {
            let (Some(kind), Some(name)) = (space(placed), placed.node.args.first()) else {
                continue;
            };
            match by_name.get(&(kind, name.text())) {
                None => {
                    by_name.insert((kind, name.text()), placed);
                }
                Some(earlier) => sink.push(duplicate(placed, earlier)),
            }
        }
        let all = nodes;
        Self { by_name, all }
    }

    /// Returns the nodes of one kind, without later ones of the same name.
    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &'n Placed> {
        let all = self.all.iter().filter(move |p| p.node.spec.kind == kind);
        all.filter(|placed| self.is_first(placed))
    }

    fn is_first(&self, placed: &Placed) -> bool {
        let (Some(kind), Some(name)) = (space(placed), placed.node.args.first()) else {
            return false;
        };
        let first = self.by_name.get(&(kind, name.text()));
        first.is_some_and(|first| std::ptr::eq(*first, placed))
    }

    fn get(&self, kind: Kind, name: &str) -> Option<&'n Placed> {
        self.by_name.get(&(kind, name)).copied()
    }

    /// Reports a name that nothing of this kind has.
    fn unknown(&self, kind: Kind, name: &Spanned<String>, sink: &mut Sink) {
        let word = name.value.as_str();
        let (what, declaration) = match kind {
            Kind::Template => ("template", format!("template {word} {{ … }}")),
            Kind::Files => ("set of files", format!("files {word} \"…\"")),
            _ => ("tool", format!("tool {word}")),
        };
        let known = self
            .by_name
            .keys()
            .filter(|(k, _)| *k == kind)
            .map(|(_, name)| *name);
        let help = match sink.nearest(word, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("declare it: {}", shown(&declaration)),
        };
        let message = format!("unknown {what} `{}`", shown(word));
        let diagnostic = Diagnostic::error(codes::UNKNOWN_NAME, message);
        sink.push(diagnostic.label(name.span, "not declared").help(help));
    }
}

/// Returns the kind that shares names with a node; targets and groups share theirs.
fn space(placed: &Placed) -> Option<Kind> {
    match placed.node.spec.kind {
        Kind::Group => Some(Kind::Target),
        kind @ (Kind::Target | Kind::Template | Kind::Files | Kind::Tool | Kind::Var) => Some(kind),
        _ => None,
    }
}

fn duplicate(placed: &Placed, earlier: &Placed) -> Diagnostic {
    let of = |placed: &Placed| {
        placed
            .node
            .args
            .first()
            .map_or(placed.node.span, |v| v.span)
    };
    let name = placed
        .node
        .first()
        .map_or_else(String::new, |name| name.value);
    let (this, other) = (placed.node.spec.name, earlier.node.spec.name);
    let what = match this {
        "files" => "set of files",
        "var" => "variable",
        this => this,
    };
    let message = match this == other {
        true => format!("the {what} `{}` is defined twice", shown(&name)),
        false => format!(
            "`{}` is the name of a {other} and of a {this}",
            shown(&name)
        ),
    };
    Diagnostic::error(codes::DUPLICATE, message)
        .label(of(placed), "again here")
        .label(of(earlier), "first defined here")
        .help("rename one of them")
}

/// The templates, each read once, and which of them each starts from.
struct Templates {
    index: HashMap<String, usize>,
    bodies: Vec<Body>,
    from: Vec<Option<usize>>,
}

impl Templates {
    fn new(definitions: &Definitions<'_>, scope: &mut Scope<'_>) -> Self {
        let all: Vec<&Placed> = definitions.of_kind(Kind::Template).collect();
        let names: Vec<Spanned<String>> = all.iter().filter_map(|p| p.node.first()).collect();
        let index = names
            .iter()
            .enumerate()
            .map(|(i, name)| (name.value.clone(), i));
        let mut templates = Self {
            index: index.collect(),
            bodies: all
                .iter()
                .map(|p| body::read(&p.node, &p.base, scope))
                .collect(),
            from: Vec::new(),
        };
        for placed in all {
            let from = templates.named_by(&placed.node, definitions, scope.sink);
            templates.from.push(from);
        }
        templates.break_cycles(&names, scope.sink);
        templates
    }

    /// Returns the template that a node starts from.
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

    /// Reports templates that start from themselves, and lets them start from nothing.
    fn break_cycles(&mut self, names: &[Spanned<String>], sink: &mut Sink) {
        // The walk in which each template was seen first; 0 is none.
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

    /// Returns the bodies that `first` stands for, the one that the others build on first.
    fn layers(&self, first: Option<usize>, scope: &mut Scope<'_>, span: Span) -> Vec<&Body> {
        let mut layers = Vec::new();
        let mut at = first;
        while let Some(index) = at {
            if !scope.charge(1 + self.bodies[index].len(), span) {
                break;
            }
            layers.push(&self.bodies[index]);
            at = self.from[index];
        }
        layers.reverse();
        layers
    }
}

/// Reads the named sets of patterns.
fn sets(definitions: &Definitions<'_>, scope: &mut Scope<'_>) -> HashMap<String, Inputs> {
    let mut sets = HashMap::new();
    for Placed { node, base } in definitions.of_kind(Kind::Files) {
        let Some((name, patterns)) = node.args.split_first() else {
            continue;
        };
        let excepts = node.children.iter().flat_map(|child| &child.args);
        let mut read = |value| body::pattern(value, base, scope);
        let set = Inputs {
            patterns: patterns.iter().filter_map(&mut read).collect(),
            except: excepts.filter_map(&mut read).collect(),
            optional: false,
        };
        sets.insert(name.text().to_owned(), set);
    }
    sets
}

struct Expander<'n, 's> {
    definitions: Definitions<'n>,
    templates: Templates,
    sets: HashMap<String, Inputs>,
    scope: Scope<'s>,
    protected: &'s Protected,
}

impl Expander<'_, '_> {
    fn buildfile(&mut self, nodes: &[Placed]) -> Buildfile {
        let mut buildfile = Buildfile::default();
        self.check_templates();
        for placed in nodes {
            let node = &placed.node;
            match node.spec.kind {
                Kind::Project => buildfile.project = self.project(node),
                Kind::Cache => buildfile.cache = self.cache(node),
                Kind::Jobs => {
                    let jobs = node.args.first().and_then(body::count);
                    buildfile.jobs = jobs.and_then(|n| usize::try_from(n).ok());
                }
                Kind::Tool if self.definitions.is_first(placed) => {
                    buildfile.tools.extend(self.tool(node));
                }
                Kind::Group if self.definitions.is_first(placed) => {
                    buildfile.groups.extend(self.group(node));
                }
                Kind::Target if self.definitions.is_first(placed) => {
                    self.target(placed, &mut buildfile)
                }
                _ => {}
            }
        }
        buildfile
    }

    fn project(&mut self, node: &Node) -> Option<Project> {
        let children = |kind| node.children.iter().filter(move |c| c.spec.kind == kind);
        let root = children(Kind::Root).find_map(|c| c.args.first());
        Some(Project {
            name: node.first()?,
            // Whether it is a path was said when the files were found.
            root: root.and_then(|v| Some(Spanned::new(RelPath::new(v.text()).ok()?, v.span))),
            default: children(Kind::Default).flat_map(body::names).collect(),
        })
    }

    fn cache(&mut self, node: &Node) -> Cache {
        let scope = &mut self.scope;
        let dir = node
            .prop("dir")
            .and_then(|v| Some(Spanned::new(scope.plain(v)?, v.span)));
        if let Some(dir) = dir.as_ref().filter(|dir| dir.value.trim().is_empty()) {
            let diagnostic =
                Diagnostic::error(codes::PATH, "the folder of the cache is empty text")
                    .label(dir.span, "not a folder")
                    .help("leave `dir` out for `.build-cache`");
            scope.sink.push(diagnostic);
        }
        Cache {
            dir,
            max_size: node.prop("max-size").and_then(|v| body::size(v, scope)),
            max_age: node.prop("max-age").and_then(|v| body::duration(v, scope)),
        }
    }

    fn tool(&mut self, node: &Node) -> Option<Tool> {
        let name = node.first()?;
        let probe = node.children.first().map(|probe| &probe.args);
        let probe = match probe {
            Some(argv) => argv.iter().filter_map(|v| self.scope.plain(v)).collect(),
            None => default_probe(&name.value),
        };
        let version = node.prop("version");
        Some(Tool {
            requirement: version.and_then(|v| body::requirement(v, &mut self.scope)),
            name,
            probe,
        })
    }

    fn group(&mut self, node: &Node) -> Option<Group> {
        let children = |kind| node.children.iter().filter(move |c| c.spec.kind == kind);
        let about = children(Kind::About).find_map(|c| c.args.first());
        Some(Group {
            name: node.first()?,
            about: about.and_then(|v| self.scope.plain(v)),
            needs: children(Kind::Needs).flat_map(body::names).collect(),
        })
    }

    /// Checks what templates name, whether or not a target starts from them.
    fn check_templates(&mut self) {
        for body in &self.templates.bodies {
            check_names(body, &self.definitions, &mut self.scope);
        }
    }

    fn target(&mut self, placed: &Placed, buildfile: &mut Buildfile) {
        let Some(name) = placed.node.first() else {
            return;
        };
        let own = body::read(&placed.node, &placed.base, &mut self.scope);
        check_names(&own, &self.definitions, &mut self.scope);
        let from = self
            .templates
            .named_by(&placed.node, &self.definitions, self.scope.sink);
        let mut layers = self.templates.layers(from, &mut self.scope, name.span);
        layers.push(&own);
        let mut body = Body::layered(&layers);
        self.fill_sets(&mut body, name.span);
        let mut checks = target::Checks {
            scope: &mut self.scope,
            protected: self.protected,
        };
        buildfile
            .targets
            .push(checks.finish(name, body, &placed.base));
    }

    /// Puts the patterns of named sets where `inputs files=` names them.
    fn fill_sets(&mut self, body: &mut Body, span: Span) {
        for (name, index) in &body.sets {
            let (Some(set), Some(inputs)) =
                (self.sets.get(&name.value), body.inputs.get_mut(*index))
            else {
                continue;
            };
            if !self
                .scope
                .charge(set.patterns.len() + set.except.len(), span)
            {
                return;
            }
            inputs.patterns.extend_from_slice(&set.patterns);
            inputs.except.extend_from_slice(&set.except);
        }
    }
}

fn check_names(body: &Body, definitions: &Definitions<'_>, scope: &mut Scope<'_>) {
    for tool in &body.tools {
        if definitions.get(Kind::Tool, &tool.value).is_none() {
            definitions.unknown(Kind::Tool, tool, scope.sink);
        }
    }
    for (set, _) in &body.sets {
        if definitions.get(Kind::Files, &set.value).is_none() {
            definitions.unknown(Kind::Files, set, scope.sink);
        }
    }
    target::check_variables(body, scope);
}

/// Returns the command that prints the version of a tool that declares none.
fn default_probe(name: &str) -> Vec<String> {
    let arguments: &[&str] = match name {
        "go" | "zig" | "terraform" | "hugo" | "helm" | "openssl" | "buf" => &["version"],
        "java" | "javac" | "ffmpeg" | "scala" => &["-version"],
        "lua" | "ssh" => &["-v"],
        "unzip" | "zip" => &["-v"],
        "kubectl" => &["version", "--client"],
        _ => &["--version"],
    };
    let argv = std::iter::once(&name).chain(arguments);
    argv.map(|arg| (*arg).to_owned()).collect()
}
