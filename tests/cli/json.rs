//! Checks `--json`: one event on each line, as the schema describes.

use serde_json::Value;

use super::project::Project;

/// Returns the events of a run, validated against the schema.
#[track_caller]
fn events(bytes: &[u8]) -> Vec<Value> {
    let schema = include_str!("../../schemas/events.schema.json");
    let schema: Value = serde_json::from_str(schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let text = std::str::from_utf8(bytes).unwrap();
    let event = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&event)
            .map(|e| e.to_string())
            .collect();
        assert!(errors.is_empty(), "{line}: {errors:#?}");
        event
    };
    text.lines().map(event).collect()
}

/// Returns a line for each event, with consecutive outputs joined.
fn story(events: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let line = |event: &Value| {
        let about = [
            &event["target"],
            &event["outcome"]["outcome"],
            &event["reason"]["why"],
            &event["code"],
        ];
        let about = about.map(text).into_iter().filter(|part| !part.is_empty());
        let words: Vec<String> = [text(&event["event"])].into_iter().chain(about).collect();
        words.join(" ")
    };
    let mut story: Vec<String> = events.iter().map(line).collect();
    // Into how many pieces an output falls is a matter of time.
    story.dedup();
    story
}

fn project() -> Project {
    Project::new(
        r#"
        jobs 1
        target a { inputs in; outputs a; sh "cp in a; echo making a" }
        target b { needs a; outputs b; sh "cat a > b; ! grep -q bad a" }
        target c { needs b; outputs c; sh "cp b c" }
        target flaky { retries 1; sh "mkdir tried" }
        "#,
    )
    .file("in", "1\n")
}

#[test]
fn json_prints_the_events_in_order() {
    let project = project();
    let first = events(&project.run("run --json c").code(0).bytes);
    assert_eq!(
        story(&first),
        [
            "run-started",
            "target-started a never-built",
            "target-output a",
            "target-finished a built never-built",
            "target-started b never-built",
            "target-finished b built never-built",
            "target-started c never-built",
            "target-finished c built never-built",
            "run-finished"
        ]
    );
    assert_eq!(first[0]["wanted"], serde_json::json!(["c"]));
    assert_eq!(first[2]["text"], "making a\n");
    assert_eq!(first[8]["built"], 3);
    std::fs::remove_file(project.path("c")).unwrap();
    let second = events(&project.run("run --json c").code(0).bytes);
    assert_eq!(
        story(&second),
        [
            "run-started",
            "target-finished a up-to-date",
            "target-finished b up-to-date",
            "target-finished c restored output-deleted",
            "run-finished"
        ]
    );
}

#[test]
fn json_times_are_monotonic_and_add_up() {
    let all = events(&project().run("run --json c").code(0).bytes);
    let at: Vec<u64> = all
        .iter()
        .map(|event| event["atMs"].as_u64().unwrap())
        .collect();
    assert!(at.is_sorted(), "{at:?}");
    let durations = all.iter().filter_map(|event| event["durationMs"].as_u64());
    let end = all.last().unwrap();
    let number = |name: &str| end[name].as_u64().unwrap();
    assert_eq!(durations.sum::<u64>(), number("workMs"));
    assert!(number("criticalPathMs") <= number("workMs"));
    assert!(number("boundMs") <= number("wallMs") + 1);
}

#[test]
fn json_reports_failures_and_skips() {
    let project = project();
    project.write("in", "bad\n");
    let done = project.run("run --json c flaky").code(1);
    let all = events(&done.bytes);
    assert_eq!(
        story(&all),
        [
            "run-started",
            "target-started a never-built",
            "target-output a",
            "target-finished a built never-built",
            "target-started b never-built",
            "target-finished b failed never-built",
            "target-finished c skipped",
            "target-finished flaky skipped",
            "run-finished"
        ]
    );
    let failure = &all[5]["outcome"]["failure"];
    assert_eq!(failure["code"], "fbuild::exec::exit");
    assert_eq!(failure["exitCode"], 1);
    assert_eq!(all[6]["outcome"]["because"], "b");
}

#[test]
fn json_reports_attempts_and_warnings() {
    let project = project();
    std::fs::create_dir(project.path("tried")).unwrap();
    let all = events(&project.run("run --json flaky").code(1).bytes);
    assert_eq!(
        story(&all),
        [
            "run-started",
            "target-started flaky never-built",
            "target-output flaky",
            "warning flaky fbuild::build::retried",
            "target-started flaky never-built",
            "target-output flaky",
            "target-finished flaky failed never-built",
            "run-finished"
        ]
    );
    let attempts = all.iter().filter_map(|event| event["attempt"].as_u64());
    assert_eq!(attempts.collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn json_reports_dry_runs() {
    let project = project();
    let would = [
        "run-started",
        "target-finished a would-run never-built",
        "target-finished b would-run need-would-run",
        "target-finished c would-run need-would-run",
        "run-finished",
    ];
    assert_eq!(
        story(&events(&project.run("run -n --json c").code(0).bytes)),
        would
    );
    assert_eq!(
        story(&events(&project.run("status --json c").code(0).bytes)),
        would
    );
}

#[test]
fn run_log_and_metadata_are_json() {
    let project = project();
    project.run("run -q c").ok("");
    let runs = project.names(".build-cache/runs");
    let [run] = runs.as_slice() else {
        panic!("{runs:?}")
    };
    let log = std::fs::read(project.path(".build-cache/runs").join(run)).unwrap();
    let built = "target-finished c built never-built".to_owned();
    assert!(story(&events(&log)).contains(&built));
    let schema = include_str!("../../schemas/metadata.schema.json");
    let schema: Value = serde_json::from_str(schema).unwrap();
    let metadata = project.read(".build-cache/metadata/c.meta.json");
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    assert!(jsonschema::is_valid(&schema, &metadata), "{metadata:#}");
    // A run in which nothing was to be done leaves nothing behind.
    project.run("run -q c").ok("");
    assert_eq!(project.names(".build-cache/runs").len(), 1);
}
