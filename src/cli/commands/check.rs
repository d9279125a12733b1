//! `fbuild check`: finds mistakes without running targets. With `--drift`, runs generators and
//! compares their outputs with the committed ones.

use crate::action::{hidden, inputs};
use crate::build::{Options, Policy, missing_tools};
use crate::buildfile::model::{Output, Spanned};
use crate::cancel::Cancel;
use crate::cli::args::Check;
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure, of_summary};
use crate::cli::reporter::{Show, reporter};
use crate::cli::signals;
use crate::glob::may_overlap;
use crate::graph::{Graph, TargetId};
use crate::path::RelPath;
use crate::report::Verbosity;
use crate::report::text::{count, list};
use crate::session::{Access, Order, Session, Start};
use crate::source::{Diagnostic, Span, render_all};
use crate::store::outputs::{self, list_paths};
use crate::workspace::tracked_files;

/// The most targets to name for one mistake.
const MAX_NAMES: usize = 8;

pub(in crate::cli) fn run(context: &Context, args: &Check) -> Result<(), Failure> {
    if args.drift {
        check_drift(context)
    } else {
        check(context)
    }
}

fn check(context: &Context) -> Result<(), Failure> {
    let host = context.host()?;
    let session = Session::open(&host, Access::Read, Start::default())?;
    let graph = &session.workspace.graph;
    let mistakes = input_mistakes(&session)?;
    if !mistakes.is_empty() {
        let sources = &session.workspace.sources;
        context.eprint(&render_all(&mistakes, sources, context.render_options()));
        return Err(Failure::silent(Exit::Usage));
    }
    let targets = || graph.ids().map(|id| graph.target(id));
    let mut warnings = hidden::warnings(targets(), context.host_env());
    let misread = |target| inputs::bracket_warnings(&session.index, target);
    warnings.extend(targets().flat_map(misread));
    let root = &session.workspace.root;
    warnings.extend(missing_tools(graph, root, context.host_env()));
    let sources = &session.workspace.sources;
    warnings.extend(tracked_outputs(&session));
    context.eprint(&render_all(&warnings, sources, context.render_options()));
    let (targets, groups) = (
        count(graph.len(), "target"),
        count(graph.groups().len(), "group"),
    );
    context.print(format!("{targets} and {groups}: no mistakes found\n").as_bytes())
}

/// Returns the mistakes in inputs that the existing files show: patterns that match neither a
/// file nor an output of a needed target, and files that another target produces although
/// nothing orders the two.
fn input_mistakes(session: &Session<'_>) -> Result<Vec<Diagnostic>, Failure> {
    let graph = &session.workspace.graph;
    let mut all = Mistakes::default();
    for id in graph.ids() {
        let name = &graph.target(id).name;
        match inputs::find(&session.index, graph, id, &inputs::Needs::new()) {
            Ok(found) => {
                let paths = found.entries.iter().map(|entry| &entry.path);
                all.add(name, graph.unordered_reads(id, paths, &found.behind));
            }
            Err(inputs::Error::Index(error)) => return Err(Failure::of(Exit::World, &error)),
            Err(inputs::Error::Empty(unmatched)) => {
                all.add(
                    name,
                    unmatched.into_iter().filter(|d| !is_made(graph, id, d)),
                );
            }
        }
    }
    Ok(all.into_diagnostics())
}

/// Mistakes, each with the names of the targets that it occurs in.
#[derive(Default)]
struct Mistakes<'g>(Vec<(Diagnostic, Vec<&'g Spanned<String>>)>);

impl<'g> Mistakes<'g> {
    /// Adds the mistakes of a target. One in a template or a `files` node occurs in many.
    fn add(&mut self, target: &'g Spanned<String>, all: impl IntoIterator<Item = Diagnostic>) {
        for diagnostic in all {
            match self.0.iter_mut().find(|(known, _)| *known == diagnostic) {
                Some((_, targets)) => targets.push(target),
                None => self.0.push((diagnostic, vec![target])),
            }
        }
    }

    /// Returns each mistake once. If its place does not show the targets, its help names them.
    fn into_diagnostics(self) -> Vec<Diagnostic> {
        let name = |(diagnostic, targets): (Diagnostic, Vec<&Spanned<String>>)| {
            let is_elsewhere = |target: &&Spanned<String>| {
                let place = diagnostic.labels.first().map(|label| label.span);
                place.is_none_or(|place| {
                    place.file != target.span.file || place.start < target.span.start
                })
            };
            if targets.len() == 1 && !targets.iter().any(is_elsewhere) {
                return diagnostic;
            }
            let names: Vec<&str> = targets.iter().map(|name| name.value.as_str()).collect();
            let users = format!("used by {}", list(&names, MAX_NAMES));
            let help = match &diagnostic.help {
                Some(help) => format!("{help}; {users}"),
                None => users,
            };
            diagnostic.help(help)
        };
        self.0.into_iter().map(name).collect()
    }
}

/// Returns warnings about outputs that cover files under version control, which a run would
/// refuse to replace.
fn tracked_outputs(session: &Session<'_>) -> Vec<Diagnostic> {
    let graph = &session.workspace.graph;
    let tracked = tracked_files(session.workspace.root.path());
    let mut all = Vec::new();
    if tracked.is_empty() {
        return all;
    }
    for target in graph.ids().map(|id| graph.target(id)) {
        let places = target.outputs.iter().flat_map(|outputs| &outputs.paths);
        for (spec, place) in inputs::specs(target).iter().zip(places) {
            let is_kept = |path: &RelPath| spec.keep.iter().any(|keep| keep.matches(path));
            let is_covered = |path: &&RelPath| spec.output.covers(path) && !is_kept(path);
            let covered: Vec<RelPath> = tracked.iter().filter(is_covered).cloned().collect();
            if !(spec.committed || covered.is_empty()) {
                all.push(tracked_output(&spec.output, place.span, &covered));
            }
        }
    }
    all
}

fn tracked_output(output: &Output, place: Span, covered: &[RelPath]) -> Diagnostic {
    let files = count(covered.len(), "file");
    let list = list_paths(covered, covered.len());
    let text = outputs::text(output);
    let message = format!("`{text}` covers {files} under version control: {list}");
    Diagnostic::warning("fbuild::build::tracked_output", message)
        .label(place, "fbuild does not replace these files")
        .help(match output {
            Output::Folder(_) => {
                "name files that the target does not make with `keep`; if it makes them, write \
                 `committed=#true`"
            }
            Output::File(_) | Output::Glob(_) => {
                "if the target makes these files, write `committed=#true`; otherwise, choose \
                 another path or pattern"
            }
        })
}

/// Returns true if a target that runs earlier may make a file for the pattern at the place
/// of a diagnostic.
fn is_made(graph: &Graph, id: TargetId, diagnostic: &Diagnostic) -> bool {
    let place = diagnostic.labels.first().map(|label| label.span);
    let patterns = graph
        .target(id)
        .inputs
        .iter()
        .flat_map(|inputs| &inputs.patterns);
    let mut patterns = patterns.filter(|pattern| Some(pattern.span) == place);
    let before = graph.closure(&[id]);
    let outputs = || {
        before
            .iter()
            .flat_map(|id| inputs::specs(graph.target(*id)))
    };
    patterns
        .any(|pattern| outputs().any(|spec| may_overlap(&pattern.value, &spec.output.pattern())))
}

fn check_drift(context: &Context) -> Result<(), Failure> {
    let host = context.host()?;
    let mut session = Session::open(&host, Access::Write, Start::default())?;
    let graph = &session.workspace.graph;
    let is_committed = |id: &TargetId| graph.target(*id).outputs.iter().any(|o| o.committed);
    let committed: Vec<TargetId> = graph.ids().filter(is_committed).collect();
    let names = committed.iter().map(|id| graph.name(*id).to_owned());
    let cancel = Cancel::new();
    let _signals = signals::watch(&cancel);
    let order = Order {
        names: &names.collect::<Vec<_>>(),
        wanted: &graph.closure(&committed),
        first: &[],
        options: Options {
            jobs: session.jobs(),
            keep_going: true,
            stream: false,
            policy: Policy {
                drift: true,
                ..Policy::default()
            },
        },
        cancel: &cancel,
        shared: None,
        arguments: None,
    };
    let mut reporter = reporter(context, &session.workspace, Show::Plain, Verbosity::Normal);
    let summary = session.build(&order, &mut *reporter);
    session.close_at_exit();
    of_summary(&summary)
}
