//! `fbuild explain`: prints the facts in a target's key, and their changes since its last
//! success. Runs no command except probes of tools.

use crate::action::manifest::{Change, Fact};
use crate::build::Explained;
use crate::cli::args::Explain;
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::graph::{Graph, Named, TargetId};
use crate::report::text::{duration, harmless, list};
use crate::report::{Color, Style, Verbosity};
use crate::session::{Access, Session, Start};
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
        None => Ok(session.select(&[name.to_owned()]).map(|_| TargetId(0))?),
    }
}

/// Formats an explanation.
struct Page<'s> {
    graph: &'s Graph,
    style: Style,
}

impl Page<'_> {
    fn write(&self, id: TargetId, explained: &Explained) -> String {
        let name = harmless(self.graph.name(id));
        let mut text = format!("{}\n", self.style.paint(Color::Bold, &name));
        text += &self.verdict(explained);
        match &explained.changes {
            Some(changes) if !changes.is_empty() => {
                text += "\nChanged since its last success:\n";
                for change in changes {
                    text += &self.change(change);
                }
            }
            _ => {
                text += "\nIts result depends on:\n";
                for (fact, name, value) in explained.manifest.facts() {
                    text += &format!("  {:<9} {}\n", word(fact), fact_text(fact, &name, value));
                }
            }
        }
        text
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
    }
}

fn fact_text(fact: Fact, name: &str, value: &str) -> String {
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
