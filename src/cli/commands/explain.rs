//! `fbuild explain`: prints the facts in a target's key, and their changes since its last
//! success. Runs no command except probes of tools.

use crate::action::manifest::{Change, Fact, Manifest};
use crate::build::Explained;
use crate::cli::args::Explain;
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::graph::{Graph, Named, TargetId};
use crate::report::fold::{Line, fold};
use crate::report::text::{count, duration, harmless, list};
use crate::report::{Color, Style, Verbosity};
use crate::session::{self, Access, Session, Start};
use crate::source::render_all;

pub(in crate::cli) fn run(context: &Context, args: &Explain) -> Result<(), Failure> {
    let host = context.host()?;
    let mut session = Session::open(&host, Access::Read, Start::default())?;
    let id = target(&session, &args.target)?;
    let explained = session.explain(id);
    let explained = explained.map_err(|failure| {
        let sources = &session.workspace.sources;
        context.eprint(&render_all(
            &failure.diagnostics,
            sources,
            context.render_options(),
        ));
        if failure.diagnostics.is_empty() {
            Failure::usage(failure.message)
        } else {
            Failure::silent(Exit::Usage)
        }
    })?;
    let page = Page {
        graph: &session.workspace.graph,
        style: context.out_style(Verbosity::Normal),
        max_lines: if args.verbose { usize::MAX } else { MAX_LINES },
    };
    context.print(page.write(id, &explained).as_bytes())
}

fn target(session: &Session<'_>, name: &str) -> Result<TargetId, Failure> {
    let graph = &session.workspace.graph;
    match graph.find(name) {
        Some(Named::Target(id)) => Ok(id),
        Some(Named::Group(group)) => {
            let members = graph.members(group).iter().map(|id| graph.name(*id));
            let members: Vec<&str> = members.collect();
            let help = format!("explain one of its targets: {}", list(&members, 8));
            Err(Failure::usage_with_help(
                format!("`{name}` is a group"),
                help,
            ))
        }
        None => {
            let names = [name.to_owned()];
            let found = graph.select(&names).map_err(session::Error::Names)?;
            match found[..] {
                [id] => Ok(id),
                _ => {
                    let names: Vec<&str> = found.iter().map(|id| graph.name(*id)).collect();
                    let message = format!("`{}` matches several targets", harmless(name));
                    let help = format!("explain one of them: {}", list(&names, 8));
                    Err(Failure::usage_with_help(message, help))
                }
            }
        }
    }
}

/// The most lines for the facts of one kind.
const MAX_LINES: usize = 20;

/// Formats an explanation.
struct Page<'s> {
    graph: &'s Graph,
    style: Style,
    /// The most lines for the facts of one kind.
    max_lines: usize,
}

impl Page<'_> {
    fn write(&self, id: TargetId, explained: &Explained) -> String {
        let name = harmless(self.graph.name(id));
        let mut text = format!("{}\n", self.style.paint(Color::Bold, &name));
        text += &self.verdict(explained);
        match &explained.changes {
            Some(changes) if !changes.is_empty() => {
                text += "\nChanged since its last success:\n";
                text += &self.changes(changes);
            }
            _ => {
                text += "\nIts result depends on:\n";
                text += &self.facts(&explained.manifest);
            }
        }
        text
    }

    fn facts(&self, manifest: &Manifest) -> String {
        let facts: Vec<_> = manifest.facts().collect();
        let names = facts.iter().map(|(fact, name, _)| (*fact, name.as_str()));
        let names: Vec<_> = names.collect();
        let lines = fold_facts(&names, self.max_lines).into_iter();
        let texts = lines.map(|(fact, line)| match line {
            Line::Path(index) => {
                let (_, name, value) = &facts[index];
                format!("  {:<9} {}\n", word(fact), fact_text(fact, name, value))
            }
            Line::Folder(folder, inner) => {
                let files = count(inner.len(), "file");
                format!("  {:<9} {} ({files})\n", word(fact), harmless(&folder))
            }
        });
        texts.collect()
    }

    fn changes(&self, changes: &[Change]) -> String {
        let names = changes
            .iter()
            .map(|change| (change.fact, change.name.as_str()));
        let names: Vec<_> = names.collect();
        let lines = fold_facts(&names, self.max_lines).into_iter();
        let texts = lines.map(|(fact, line)| match line {
            Line::Path(index) => self.change(&changes[index]),
            Line::Folder(folder, inner) => {
                let files = count(inner.len(), "changed file");
                format!("  {} {} ({files})\n", word(fact), harmless(&folder))
            }
        });
        texts.collect()
    }

    fn verdict(&self, explained: &Explained) -> String {
        let key = explained.manifest.key().0.short();
        let mut text = format!("  key {key}\n");
        if let Some(last) = &explained.last {
            let took = duration(last.result.duration_ms);
            text += &format!(
                "  last success with key {}, took {took}\n",
                last.key.0.short()
            );
        }
        let unknown: Vec<&str> = explained
            .unknown
            .iter()
            .map(|id| self.graph.name(*id))
            .collect();
        let verdict = match (&explained.last, &explained.changes, &explained.touched) {
            _ if !unknown.is_empty() => {
                format!("it would run after {}, never built here", list(&unknown, 8))
            }
            (None, ..) => "it would run or be restored: never built here".to_owned(),
            (_, Some(changes), Some(reason)) if changes.is_empty() => {
                format!("its outputs would be restored: {reason}")
            }
            (_, Some(changes), None) if changes.is_empty() => "it is up to date".to_owned(),
            (Some(last), None, _) if last.key == explained.manifest.key() => {
                "it is up to date".to_owned()
            }
            (_, None, _) => "it changed; its earlier manifest is no longer in the cache".to_owned(),
            (_, Some(_), _) => "it would run or be restored".to_owned(),
        };
        text + &format!("  {verdict}\n")
    }

    fn change(&self, change: &Change) -> String {
        let show = |value: &Option<String>| match value {
            Some(value) => fact_value(change.fact, value),
            None => "nothing".to_owned(),
        };
        let name = if change.name.is_empty() {
            String::new()
        } else {
            format!(" {}", harmless(&change.name))
        };
        let from = self
            .style
            .paint(Color::Red, &format!("- {}", show(&change.from)));
        let to = self
            .style
            .paint(Color::Green, &format!("+ {}", show(&change.to)));
        format!("  {}{name}\n    {from}\n    {to}\n", word(change.fact))
    }
}

/// Returns a line for each fact, with large folders of inputs and needs folded. Consecutive
/// facts of one kind are one list.
fn fold_facts(facts: &[(Fact, &str)], most: usize) -> Vec<(Fact, Line)> {
    let mut lines = Vec::new();
    let mut start = 0;
    for chunk in facts.chunk_by(|(a, _), (b, _)| a == b) {
        let fact = chunk[0].0;
        let at = |index: usize| start + index;
        if chunk.len() > most && matches!(fact, Fact::Input | Fact::Need) {
            let names: Vec<&str> = chunk.iter().map(|(_, name)| *name).collect();
            lines.extend(fold(&names, most).into_iter().map(|line| match line {
                Line::Path(index) => (fact, Line::Path(at(index))),
                folder @ Line::Folder(..) => (fact, folder),
            }));
        } else {
            lines.extend((0..chunk.len()).map(|index| (fact, Line::Path(at(index)))));
        }
        start += chunk.len();
    }
    lines
}

fn word(fact: Fact) -> &'static str {
    match fact {
        Fact::Format => "format",
        Fact::Platform => "platform",
        Fact::Command => "command",
        Fact::Dir => "dir",
        Fact::Output => "output",
        Fact::Tool => "tool",
        Fact::Env => "env",
        Fact::Secret => "secret",
        Fact::Input => "input",
        Fact::Need => "need",
        Fact::Ran => "ran",
    }
}

fn fact_text(fact: Fact, name: &str, value: &str) -> String {
    if fact == Fact::Ran {
        return fact_value(fact, name);
    }
    let is_set = value.starts_with('=');
    let value = fact_value(fact, value);
    match (fact, name.is_empty()) {
        (Fact::Command, _) | (_, true) => value,
        (Fact::Env, _) if is_set => format!("{}={value}", harmless(name)),
        _ => format!("{} {value}", harmless(name)),
    }
}

/// Formats the value of a fact: separates its fields and shortens its digests.
fn fact_value(fact: Fact, value: &str) -> String {
    let digest = |field: &str| field.parse::<crate::digest::Digest>().ok();
    let shown = |field: &str| match digest(field) {
        Some(digest) => digest.short(),
        None => field.to_owned(),
    };
    let fields: Vec<String> = value.split('\t').map(shown).collect();
    match (fact, value.strip_prefix('=')) {
        (Fact::Env, Some(value)) => value.to_owned(),
        (Fact::Env, None) => "(unset)".to_owned(),
        _ => fields.join(" "),
    }
}
