//! Expands nodes to a [`Buildfile`]: variables into strings, templates into targets, sets
//! into inputs. It resolves the names of the language; those in `needs`, `after` and
//! `default` are left to the graph.

use std::collections::HashMap;

use super::checks::target::{self as check, Protected};
use super::codes;
use super::grammar::Kind;
use super::meaning::body::{self, Body};
use super::meaning::definitions::{Definitions, Placed};
use super::meaning::remote;
use super::meaning::scope::Scope;
use super::meaning::target;
use super::meaning::templates::Templates;
use super::meaning::values;
use super::model::{Buildfile, Cache, Group, Inputs, Project, Spanned, Tool};
use super::sink::{Sink, shown};
use super::syntax::node::Node;
use crate::path::RelPath;
use crate::source::{Diagnostic, Sources, Span};

/// Makes a Buildfile of all nodes, those of included files in the place of their `include`.
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
                    let jobs = node.args.first().and_then(values::count);
                    buildfile.jobs = jobs.and_then(|n| usize::try_from(n).ok());
                }
                Kind::Remote => buildfile.remote = remote::server(node, &mut self.scope),
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
            default: children(Kind::Default).flat_map(body::names).collect(),
            trace: children(Kind::Trace)
                .find_map(|c| c.args.first())
                .and_then(|v| values::trace_mode(v, &mut self.scope)),
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

    fn group(&mut self, node: &Node) -> Option<Group> {
        let children = |kind| node.children.iter().filter(move |c| c.spec.kind == kind);
        let about = children(Kind::About).find_map(|c| c.args.first());
        Some(Group {
            name: node.first()?,
            about: about.and_then(|v| self.scope.plain(v)),
            needs: children(Kind::Needs).flat_map(body::names).collect(),
        })
    }

    /// Checks the names in templates, whether or not a target starts from them.
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
        check::check(&name, &body, self.protected, &mut self.scope);
        let target = target::assemble(name, body, &placed.base, &mut self.scope);
        buildfile.targets.push(target);
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
