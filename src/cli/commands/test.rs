//! `fbuild test`: runs tests, and reports their results.

use std::collections::HashMap;

use super::run::open_shared;
use crate::build::{self, Options, Policy};
use crate::buildfile::model::{Date, Target};
use crate::cancel::Cancel;
use crate::cli::args::{Shard, Test};
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::reporter::{Show, reporter, show, verbosity};
use crate::cli::signals;
use crate::event::{Outcome, Summary, Warning};
use crate::graph::{Graph, TargetId};
use crate::journal::{LastRun, TestHistory, test_history};
use crate::report::Verbosity;
use crate::report::test_table::{Ended, Ends, TestResult, Verdict, suites, table};
use crate::session::{Access, Order, Session, Start};
use crate::stamp;
use crate::test_report;

pub(in crate::cli) fn run(context: &Context, args: &Test) -> Result<(), Failure> {
    let host = context.host()?;
    let mut session = Session::open(&host, Access::Write, Start::default())?;
    let history = test_history(&session.layout().runs());
    let chosen = choose(&session.workspace.graph, args, &history)?;
    if chosen.is_empty() {
        session.close_at_exit();
        write_junit(context, args, &[])?;
        return context.print(nothing_to_do(args).as_bytes());
    }
    let graph = &session.workspace.graph;
    let names: Vec<String> = chosen.iter().map(|id| graph.name(*id).to_owned()).collect();
    let wanted = graph.closure(&chosen);
    let has_failed = |id: &TargetId| {
        let history = history.get(graph.name(*id));
        graph.target(*id).test.is_some() && history.is_some_and(|h| h.last == LastRun::Failed)
    };
    let first: Vec<TargetId> = wanted.iter().copied().filter(has_failed).collect();
    let shared = open_shared(context, args.remote.as_deref(), &session.workspace)?;
    let cancel = Cancel::new();
    let _signals = signals::watch(&cancel);
    let order = Order {
        names: &names,
        wanted: &wanted,
        first: &first,
        options: Options {
            jobs: args.jobs.unwrap_or_else(|| session.jobs()),
            keep_going: true,
            stream: args.display.verbose,
            policy: Policy {
                rerun_tests: args.rerun,
                ..Policy::default()
            },
        },
        arguments: None,
        cancel: &cancel,
        shared: shared.as_deref(),
    };
    let (show, verbosity) = (show(context, args.display), verbosity(args.display));
    let mut reporter = reporter(context, &session.workspace, show, verbosity);
    let mut ends = Ends::new(&mut *reporter);
    let summary = session.build(&order, &mut ends);
    let results = results(context, &session, &wanted, &mut ends, &history);
    session.close_at_exit();
    let is_good = |result: &TestResult| result.verdict == Verdict::Passed;
    if show != Show::Json && (verbosity > Verbosity::Quiet || !results.iter().all(is_good)) {
        context.print(table(&results, context.out_style(verbosity)).as_bytes())?;
    }
    write_junit(context, args, &results)?;
    exit(&summary, &results)
}

/// Returns the targets to run: the named ones or all tests, as far as the options choose them.
fn choose(
    graph: &Graph,
    args: &Test,
    history: &HashMap<String, TestHistory>,
) -> Result<Vec<TargetId>, Failure> {
    let is_test = |id: &TargetId| graph.target(*id).test.is_some();
    let mut chosen: Vec<TargetId> = if args.targets.is_empty() {
        graph.ids().filter(is_test).collect()
    } else {
        let chosen = graph.select(&args.targets);
        chosen.map_err(|unknown| Failure::unknown_names(&unknown))?
    };
    if !chosen.iter().any(is_test) {
        return Err(no_test(graph, args));
    }
    let has_passed = |id: &TargetId| {
        let history = history.get(graph.name(*id));
        history.is_none_or(|history| history.last == LastRun::Passed)
    };
    if args.failed {
        chosen.retain(|id| !has_passed(id));
    }
    if let Some(shard) = args.shard {
        chosen.sort_by_key(|id| graph.name(*id));
        let mut number = 0;
        chosen.retain(|_| {
            number += 1;
            (number - 1) % shard.of == shard.number - 1
        });
    }
    Ok(chosen)
}

fn no_test(graph: &Graph, args: &Test) -> Failure {
    let [name, ..] = &args.targets[..] else {
        return Failure::usage_with_help(
            "the Buildfile has no test",
            "declare one: test unit { run go test \"./...\" }",
        );
    };
    let has_tests = graph.ids().any(|id| graph.target(id).test.is_some());
    let help = if has_tests {
        format!("`fbuild run {name}` builds it, and `fbuild test` runs all tests")
    } else {
        format!("to make it one, write `test {name} {{ … }}` instead of `target`")
    };
    Failure::usage_with_help(
        format!("`{name}` is not a test, and no group of tests"),
        help,
    )
}

fn nothing_to_do(args: &Test) -> String {
    let which = match args.shard {
        Some(Shard { number, of }) => format!(" in shard {number}/{of}"),
        None => String::new(),
    };
    if args.failed {
        format!("nothing to do: no test{which} failed last time\n")
    } else {
        format!("nothing to do: no test{which}\n")
    }
}

/// Returns the results of the tests of a run, in the order of the Buildfile.
fn results(
    context: &Context,
    session: &Session<'_>,
    wanted: &[TargetId],
    ends: &mut Ends<'_>,
    history: &HashMap<String, TestHistory>,
) -> Vec<TestResult> {
    let graph = &session.workspace.graph;
    let today = Date::at(stamp::now() / 1_000_000_000);
    let mut wanted = wanted.to_vec();
    wanted.sort_unstable();
    let mut results = Vec::new();
    for id in wanted {
        let target = graph.target(id);
        let name = graph.name(id);
        let Some(ended) = ends.take(name).filter(|_| target.test.is_some()) else {
            continue;
        };
        let past = history.get(name).cloned().unwrap_or_default();
        let (verdict, note) = verdict(target, &ended, &past, today);
        results.push(TestResult {
            name: name.to_owned(),
            verdict,
            is_cached: ended.outcome.is_success() && ended.attempts == 0,
            duration_ms: ended.duration_ms,
            cases: cases(context, session, id, ended.outcome),
            note,
        });
    }
    results
}

/// Returns the verdict on a test, and the reason if it did not simply pass.
fn verdict(target: &Target, ended: &Ended, past: &TestHistory, today: Date) -> (Verdict, String) {
    match &ended.outcome {
        Outcome::Failed { failure } => {
            let quarantine = target.test.as_ref().and_then(|test| test.quarantine);
            let message = &failure.message;
            match quarantine {
                Some(until) if today <= until => (
                    Verdict::Quarantined,
                    format!("{message}; does not count until {until}"),
                ),
                Some(until) => (
                    Verdict::Failed,
                    format!("{message}; its quarantine ended on {until}"),
                ),
                None => (Verdict::Failed, message.clone()),
            }
        }
        Outcome::Skipped { because } => (Verdict::Skipped, format!("`{because}` failed")),
        Outcome::Cancelled => (Verdict::Cancelled, "the run was interrupted".to_owned()),
        Outcome::Built if past.is_flaky(ended.key.as_deref(), ended.attempts) => {
            (Verdict::Flaky, flaky(ended.attempts, past))
        }
        _ => (Verdict::Passed, String::new()),
    }
}

/// Describes a flaky test.
fn flaky(attempts: u32, past: &TestHistory) -> String {
    let how = match attempts {
        0 | 1 => "passed now, and failed last time with the same key".to_owned(),
        n => format!("passed on attempt {n}"),
    };
    if past.flaky == 0 {
        how
    } else {
        let (times, runs) = (past.flaky + 1, past.runs + 1);
        format!("{how}; flaky in {times} of its last {runs} runs")
    }
}

/// Returns the cases of a test. Those of a success are in its reports in the tree.
fn cases(
    context: &Context,
    session: &Session<'_>,
    id: TargetId,
    outcome: Outcome,
) -> Vec<test_report::Case> {
    if let Outcome::Failed { failure } = outcome {
        return failure.cases;
    }
    let Some(success) = session.last(id).filter(|_| outcome.is_success()) else {
        return Vec::new();
    };
    let workspace = &session.workspace;
    let outputs = &success.result.outputs;
    let read = build::reported_cases(&workspace.root, workspace.graph.target(id), outputs);
    read.unwrap_or_else(|error| {
        context.warn(&Warning::of(&error).about(workspace.graph.name(id)));
        Vec::new()
    })
}

fn write_junit(context: &Context, args: &Test, results: &[TestResult]) -> Result<(), Failure> {
    let Some(file) = &args.junit else {
        return Ok(());
    };
    let text = test_report::junit(&suites(results));
    let written = std::fs::write(context.folder().join(file), text);
    written.map_err(|error| Failure::world(&format!("cannot write `{}`", file.display()), &error))
}

/// Returns the result of the command: a failure in quarantine is none.
fn exit(summary: &Summary, results: &[TestResult]) -> Result<(), Failure> {
    let is_excused = |result: &&TestResult| result.verdict == Verdict::Quarantined;
    let excused = results.iter().filter(is_excused).count();
    if summary.interrupted {
        Err(Failure::silent(Exit::Interrupted))
    } else if summary.failed > excused {
        Err(Failure::silent(Exit::Target))
    } else {
        Ok(())
    }
}
