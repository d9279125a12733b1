//! `fbuild graph`: prints targets, their dependencies and their states. Runs no command.

use crate::build::{Options, Policy};
use crate::cancel::Cancel;
use crate::cli::args::{Graph, GraphFormat};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::event::{Event, EventKind, Sink};
use crate::graph::Named;
use crate::report::Verbosity;
use crate::report::graph::{Format, State, View, all_roots, render};
use crate::session::{Access, Order, Session, Start};

pub(in crate::cli) fn run(context: &Context, args: &Graph) -> Result<(), Failure> {
    let host = context.host()?;
    let mut session = Session::open(&host, Access::Read, Start::default())?;
    let roots = if args.targets.is_empty() {
        all_roots(&session.workspace.graph)
    } else {
        let roots = session.workspace.graph.resolve(&args.targets);
        roots.map_err(|unknown| Failure::unknown_names(&unknown))?
    };
    let states = match args.format {
        GraphFormat::Tree | GraphFormat::Json => states(&mut session),
        GraphFormat::Dot | GraphFormat::Mermaid => Vec::new(),
    };
    let view = View {
        graph: &session.workspace.graph,
        roots,
        states,
    };
    let style = context.out_style(Verbosity::Normal);
    context.print(render(&view, args.format.into(), style).as_bytes())
}

/// Returns the state of each target, from a dry run.
fn states(session: &mut Session<'_>) -> Vec<Option<State>> {
    let all: Vec<_> = session.workspace.graph.ids().collect();
    let options = Options {
        jobs: 1,
        keep_going: true,
        stream: false,
        policy: Policy {
            dry_run: true,
            no_probes: true,
            ..Policy::default()
        },
    };
    let order = Order {
        names: &[],
        wanted: &all,
        first: &[],
        options,
        cancel: &Cancel::new(),
        shared: None,
        arguments: None,
    };
    let mut states = States::default();
    session.build(&order, &mut states);
    let graph = &session.workspace.graph;
    let mut by_target = vec![None; graph.len()];
    for (name, state) in states.0 {
        if let Some(Named::Target(id)) = graph.find(&name) {
            by_target[id.index()] = Some(state);
        }
    }
    by_target
}

/// Collects the outcomes of targets.
#[derive(Default)]
struct States(Vec<(String, State)>);

impl Sink for States {
    fn on_event(&mut self, event: &Event) {
        if let EventKind::TargetFinished {
            target,
            outcome,
            reason,
            ..
        } = &event.kind
        {
            let (outcome, reason) = (outcome.clone(), reason.clone());
            self.0.push((target.clone(), State { outcome, reason }));
        }
    }
}

impl From<GraphFormat> for Format {
    fn from(format: GraphFormat) -> Self {
        match format {
            GraphFormat::Tree => Self::Tree,
            GraphFormat::Dot => Self::Dot,
            GraphFormat::Mermaid => Self::Mermaid,
            GraphFormat::Json => Self::Json,
        }
    }
}
