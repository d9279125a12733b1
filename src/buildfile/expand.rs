//! Expands nodes to a [`Buildfile`]: variables into strings, templates into targets, sets
//! into inputs. It resolves the names of the language; those in `needs`, `after` and
//! `default` are left to the graph.

use std::collections::HashMap;
use std::path::Path;

use super::checks::target::{self as check, Protected};
use super::codes;
use super::grammar::{Kind, Type};
use super::listing::Listing;
use super::meaning::body::{self, Body};
use super::meaning::definitions::{Defined, Definitions, Placed};
use super::meaning::loops::{Files, Loops};
use super::meaning::remote;
use super::meaning::scope::{Local, Scope};
use super::meaning::target;
use super::meaning::templates::Templates;
use super::meaning::values;
use super::model::{Buildfile, Cache, Group, Inputs, Project, Spanned, Target, Tool};
use super::sink::{Sink, shown};
use super::syntax::node::Node;
use crate::path::RelPath;
use crate::source::{Diagnostic, Sources, Span};

/// Everything but the nodes that decides what they expand to.
pub(super) struct Surroundings<'s> {
    pub(super) protected: &'s Protected,
    pub(super) sources: &'s Sources,
    /// The root; `None` for a text that is not a file.
    pub(super) root: Option<&'s Path>,
}

/// A Buildfile, and what was found out while it was made.
pub(super) struct Expanded {
    pub(super) buildfile: Buildfile,
    /// The names of files that `for` found.
    pub(super) listings: Vec<Listing>,
    /// True if targets are missing because of mistakes.
    pub(super) has_lost_names: bool,
}

/// Makes a Buildfile of all nodes, those of included files in the place of their `include`.
pub(super) fn expand(
    nodes: &[Placed],
    surroundings: &Surroundings<'_>,
    sink: &mut Sink,
) -> Expanded {
    let Surroundings {
        protected,
        sources,
        root,
    } = *surroundings;
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
        files: Files {
            root,
            listings: Vec::new(),
        },
        names: HashMap::new(),
        has_lost_names: false,
    };
    Expanded {
        buildfile: expander.buildfile(nodes),
        listings: expander.files.listings,
        has_lost_names: expander.has_lost_names,
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
        let mut read = |value| values::pattern(value, base, scope);
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
    templates: Templates<'n>,
    sets: HashMap<String, Inputs>,
    scope: Scope<'s>,
    protected: &'s Protected,
    files: Files<'s>,
    /// The places that define the targets and groups so far.
    names: HashMap<String, Defined>,
    has_lost_names: bool,
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
                    let jobs = node.args.first().and_then(values::count);
                    buildfile.jobs = jobs.and_then(|n| usize::try_from(n).ok());
                }
                Kind::Remote => buildfile.remote = remote::server(node, &mut self.scope),
                Kind::Tool if self.definitions.is_first(placed) => {
                    buildfile.tools.extend(self.tool(node));
                }
                Kind::Group | Kind::Target | Kind::Test => self.each(placed, &mut buildfile),
                Kind::Template => self.misplaced(node, Kind::For, "a target or group"),
                _ => {}
            }
        }
        check::check_cache(&buildfile, &mut self.scope);
        buildfile
    }

    fn project(&mut self, node: &Node) -> Option<Project> {
        let children = |kind| node.children.iter().filter(move |c| c.spec.kind == kind);
        let root = children(Kind::Root).find_map(|c| c.args.first());
        Some(Project {
            name: node.first()?,
            // A bad path was reported when the files were loaded.
            root: root.and_then(|v| Some(Spanned::new(RelPath::new(v.text()).ok()?, v.span))),
            trace: children(Kind::Trace)
                .find_map(|c| c.args.first())
                .and_then(|v| values::trace_mode(v, &mut self.scope)),
            default: children(Kind::Default)
                .flat_map(|node| body::references(node, &mut self.scope))
                .collect(),
        })
    }

    fn cache(&mut self, node: &Node) -> Cache {
        let scope = &mut self.scope;
        let dir = node
            .prop("dir")
            .and_then(|v| Some(Spanned::new(scope.plain(v)?, v.span)));
        if let Some(dir) = dir.as_ref().filter(|dir| dir.value.trim().is_empty()) {
            let diagnostic =
                Diagnostic::error(codes::PATH, "the folder of the cache is an empty text")
                    .label(dir.span, "not a folder")
                    .help("leave `dir` out for `.build-cache`");
            scope.sink.push(diagnostic);
        }
        if let Some(dir) = dir.as_ref().filter(|dir| dir.value.starts_with('~')) {
            let message = format!("`{}` is below a folder called `~`", shown(&dir.value));
            let diagnostic = Diagnostic::error(codes::LOOKALIKE, message)
                .label(dir.span, "no shell replaces the `~`")
                .help("write the whole path, as in \"/home/me/.cache/x\", or \"./~…\" for a folder of that name");
            scope.sink.push(diagnostic);
        }
        Cache {
            dir,
            max_size: node.prop("max-size").and_then(|v| values::size(v, scope)),
            max_age: node
                .prop("max-age")
                .and_then(|v| values::duration(v, scope)),
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
            requirement: version.and_then(|v| values::requirement(v, &mut self.scope)),
            name,
            probe,
        })
    }

    /// Makes the targets or groups of a node: one, or one for each combination of the values of
    /// its `for`.
    fn each(&mut self, placed: &Placed, buildfile: &mut Buildfile) {
        let node = &placed.node;
        self.misplaced(node, Kind::Param, "a template");
        let loops = Loops::read(node, &placed.base, &mut self.files, &mut self.scope);
        let Some(loops) = loops else {
            self.has_lost_names = true;
            return;
        };
        if loops.is_empty() {
            self.one(placed, buildfile);
            return;
        }
        for number in 0..loops.len() {
            let Some(locals) = loops.nth(number) else {
                continue;
            };
            if !self.scope.charge(1, node.span) {
                break;
            }
            let labels = locals.iter().map(Local::label);
            self.scope.sink.set_context(Some(labels.collect()));
            self.scope.locals = locals;
            self.one(placed, buildfile);
        }
        self.scope.sink.set_context(None);
        self.scope.locals.clear();
    }

    fn one(&mut self, placed: &Placed, buildfile: &mut Buildfile) {
        let node = &placed.node;
        let Some(name) = node.args.first() else {
            return;
        };
        let Some(name) = self.scope.name(name, Type::NewName) else {
            self.has_lost_names = true;
            return;
        };
        if !self.define(&name, node) {
            return;
        }
        if node.spec.kind == Kind::Group {
            let group = self.group(node, name);
            buildfile.groups.push(group);
        } else {
            let target = self.target(placed, name);
            buildfile.targets.push(target);
        }
    }

    /// Notes the place of a name; returns false if there is one already.
    fn define(&mut self, name: &Spanned<String>, node: &Node) -> bool {
        let here = Defined {
            kind: node.spec.name,
            span: name.span,
        };
        let Some(earlier) = self.names.insert(name.value.clone(), here) else {
            return true;
        };
        self.names.insert(name.value.clone(), earlier);
        let diagnostic = if earlier.span == here.span {
            let message = format!("`for` gives two targets the name `{}`", shown(&name.value));
            Diagnostic::error(codes::FOR, message)
                .label(here.span, "the same for other values")
                .help("put something between the values, as in \"{a}-{b}\"")
        } else {
            here.duplicate(&name.value, earlier)
        };
        self.scope.sink.push(diagnostic);
        false
    }

    fn misplaced(&mut self, node: &Node, kind: Kind, place: &str) {
        for child in node.children.iter().filter(|c| c.spec.kind == kind) {
            let (what, parent) = (child.spec.name, node.spec.name);
            let message = format!("`{what}` does not belong in a `{parent}`");
            let diagnostic = Diagnostic::error(codes::MISPLACED, message);
            let diagnostic = diagnostic.label(child.span, "has no meaning here");
            self.scope
                .sink
                .push(diagnostic.help(format!("move it into {place}")));
        }
    }

    fn group(&mut self, node: &Node, name: Spanned<String>) -> Group {
        let children = |kind| node.children.iter().filter(move |c| c.spec.kind == kind);
        let about = children(Kind::About).find_map(|c| c.args.first());
        Group {
            name,
            about: about.and_then(|v| self.scope.plain(v)),
            needs: children(Kind::Needs)
                .flat_map(|node| body::references(node, &mut self.scope))
                .collect(),
        }
    }

    /// Checks the names in templates, whether or not a target starts from them.
    fn check_templates(&mut self) {
        for body in &self.templates.bodies {
            check_names(body, &self.definitions, &mut self.scope);
        }
    }

    fn target(&mut self, placed: &Placed, name: Spanned<String>) -> Target {
        let Placed { node, base } = placed;
        let own = body::read(node, base, &mut self.scope);
        check_names(&own, &self.definitions, &mut self.scope);
        let from = self
            .templates
            .used_by(node, &self.definitions, &mut self.scope);
        let layers = self.templates.layers(from, &mut self.scope, name.span);
        let layers: Vec<&Body> = layers.iter().map(AsRef::as_ref).chain([&own]).collect();
        let mut body = Body::layered(&layers);
        self.fill_sets(&mut body, name.span);
        check::check(&name, &body, self.protected, &mut self.scope);
        let assemble = if node.spec.kind == Kind::Test {
            target::assemble_test
        } else {
            target::assemble
        };
        assemble(name, body, base, &mut self.scope)
    }

    /// Puts the patterns of sets into the inputs that name them with `files=`.
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
    check::check_variables(body, scope);
}

/// Returns the command that prints a tool's version if the Buildfile names none.
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
