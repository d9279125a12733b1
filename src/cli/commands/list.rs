//! `fbuild list`: prints the targets and groups with their descriptions.

use serde::Serialize;

use crate::cli::args::List;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::graph::Graph;
use crate::report::text::{columns, harmless};
use crate::report::{Color, Verbosity};

/// A target or group in the list.
#[derive(Serialize)]
struct Item<'g> {
    name: &'g str,
    kind: &'static str,
    about: Option<&'g str>,
}

pub(in crate::cli) fn run(context: &Context, args: &List) -> Result<(), Failure> {
    let workspace = context.host()?.open_workspace()?;
    let items = items(&workspace.graph);
    if args.json {
        return context.print_json(&items);
    }
    let style = context.out_style(Verbosity::Normal);
    let width = items
        .iter()
        .map(|item| columns(item.name))
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for item in &items {
        let pad = " ".repeat(width - columns(item.name));
        let kind = match item.kind {
            "target" => String::new(),
            kind => format!("({kind}) "),
        };
        let about = harmless(item.about.unwrap_or(""));
        let line = format!(
            "{}{pad}  {kind}{about}",
            style.paint(Color::Bold, &harmless(item.name))
        );
        text += line.trim_end();
        text.push('\n');
    }
    context.print(text.as_bytes())
}

fn items(graph: &Graph) -> Vec<Item<'_>> {
    let targets = graph.ids().map(|id| graph.target(id)).map(|target| Item {
        name: &target.name.value,
        kind: if target.test.is_some() {
            "test"
        } else {
            "target"
        },
        about: target.about.as_deref(),
    });
    let groups = graph.groups().iter().map(|group| Item {
        name: &group.name.value,
        kind: "group",
        about: group.about.as_deref(),
    });
    targets.chain(groups).collect()
}
