//! Checks the read-only commands: `list`, `graph`, `check`, `status` and `explain`.

use super::project::Project;

fn project() -> Project {
    Project::new(
        r#"
        project demo { default all }
        jobs 2
        target copy {
            about "a copy of what is there"
            inputs "in.txt"
            outputs "copy.txt"
            run cp "in.txt" "copy.txt"
        }
        target shout {
            needs copy
            env LOUD default="yes"
            outputs "shout.txt"
            sh "tr a-z A-Z < copy.txt > shout.txt"
        }
        group all {
            about "everything"
            needs shout
        }
        "#,
    )
    .file("in.txt", "hello\n")
}

#[test]
fn list_prints_targets_groups_and_descriptions() {
    project().run("list").ok("
        copy   a copy of what is there
        shout
        all    (group) everything
        ");
}

#[test]
fn list_prints_json() {
    project().run("list --json").ok(r#"
        [
          {
            "name": "copy",
            "kind": "target",
            "about": "a copy of what is there"
          },
          {
            "name": "shout",
            "kind": "target",
            "about": null
          },
          {
            "name": "all",
            "kind": "group",
            "about": "everything"
          }
        ]
        "#);
}

#[test]
fn graph_prints_a_tree_with_states() {
    let project = project();
    project.run("graph").ok("
        all (group)  everything
        └─ shout [would run: `copy` would run before it]
           └─ copy [would run: never built here]  a copy of what is there
        ");
    project.run("run -q").ok("");
    project.run("graph shout").ok("
        shout [up to date]
        └─ copy [up to date]  a copy of what is there
        ");
}

#[test]
fn graph_prints_dot_mermaid_and_json() {
    let project = project();
    project.run("graph --format dot").ok(r#"
        digraph "demo" {
          rankdir=LR
          node [shape=box]
          "all" [shape=folder, tooltip="everything"]
          "copy" [tooltip="a copy of what is there"]
          "shout"
          "all" -> "shout"
          "shout" -> "copy"
        }
        "#);
    project.run("graph --format mermaid copy").ok(r#"
        flowchart LR
          n0["copy"]
        "#);
    let json = project.run("graph --format json").code(0);
    let json: serde_json::Value = serde_json::from_slice(&json.bytes).unwrap();
    let schema = include_str!("../../schemas/graph.schema.json");
    let schema = serde_json::from_str(schema).unwrap();
    assert!(jsonschema::is_valid(&schema, &json), "{json:#}");
}

#[test]
fn check_prints_every_mistake() {
    let project = project();
    project
        .run("check")
        .ok("2 targets and 1 group: no mistakes found\n");
    project.buildfile(
        r#"
        target a { inputs "none/**" x; outputs o; sh "true" }
        target b { inputs "missing.txt"; sh "true" }
        "#,
    );
    project.write("x", "");
    project.run("check").ended(
        2,
        "",
        "
        fbuild::action::no_match

          × the pattern `none/**` matches no file
           ╭─[Buildfile.kdl:1:19]
         1 │ target a { inputs \"none/**\" x; outputs o; sh \"true\" }
           ·                   ────┬────
           ·                       ╰── nothing here
         2 │ target b { inputs \"missing.txt\"; sh \"true\" }
           ╰────
          help: correct it, or write `optional=#true` after the patterns if nothing is
                fine

        fbuild::action::no_match

          × the input `missing.txt` does not exist
           ╭─[Buildfile.kdl:2:19]
         1 │ target a { inputs \"none/**\" x; outputs o; sh \"true\" }
         2 │ target b { inputs \"missing.txt\"; sh \"true\" }
           ·                   ──────┬──────
           ·                         ╰── nothing here
           ╰────
          help: correct it, or write `optional=#true` after the patterns if nothing is
                fine

        ",
    );
}

#[test]
fn check_prints_a_shared_mistake_once() {
    let project = Project::new(
        "template t { inputs nothing; sh \"true\" }\n\
         target a from=t\ntarget b from=t\ntarget c { inputs none; sh \"true\" }\n",
    );
    let stderr = project.run("check").code(2).stderr;
    assert_eq!(
        stderr.matches("fbuild::action::no_match").count(),
        2,
        "{stderr}"
    );
    assert_eq!(stderr.matches("used by").count(), 1, "{stderr}");
    assert!(stderr.contains("used by a and b"), "{stderr}");
}

#[test]
fn status_prints_targets_and_reasons() {
    let project = project();
    project.run("status").ok("
        [1/2] Would run copy: never built here
        [2/2] Would run shout: `copy` would run before it
        2 would run
        ");
    project.run("run -q").ok("");
    project.write("in.txt", "other\n");
    project.run("status shout").ok("
        [1/2] Would run copy: `in.txt` changed
        [2/2] Would run shout: `copy` would run before it
        2 would run
        ");
    project.write("in.txt", "hello\n");
    project.run("status").ok("
        [1/2] Up to date: copy
        [2/2] Up to date: shout
        nothing to do: 2 targets up to date ([time])
        ");
    project.run("status nope").ended(
        2,
        "",
        "
        error[fbuild::graph::unknown]: unknown target `nope`
          help: `fbuild list` shows all of them
        ",
    );
}

#[test]
fn explain_prints_facts_and_changes() {
    let project = project();
    project.run("explain copy").ok("
        copy
          key [id]
          it would run or be restored: never built here

        Its result depends on:
          format    2
          platform  linux [arch]
          dir       .
          command   run cp in.txt copy.txt
          output    file copy.txt
          input     in.txt file [id]
        ");
    project.run("run -q").ok("");
    project.run("explain shout").ok("
        shout
          key [id]
          last success with key [id], took [time]
          it is up to date

        Its result depends on:
          format    2
          platform  linux [arch]
          dir       .
          command   sh tr a-z A-Z < copy.txt > shout.txt
          output    file shout.txt
          env       LOUD=yes
          need      copy.txt file [id]
        ");
    let changed = project.fbuild("explain shout").env("LOUD", "no").end();
    changed.ok("
        shout
          key [id]
          last success with key [id], took [time]
          it would run or be restored

        Changed since its last success:
          env LOUD
            - yes
            + no
        ");
}

#[test]
fn explain_folds_large_folders() {
    let project = Project::new("target t { inputs \"**\"; sh \"true\" }\n");
    for number in 0..300 {
        project.write(format!("web/src/{number}.ts"), "x");
    }
    project.write("go.mod", "module x\n");
    let facts = |words: &str| -> Vec<String> {
        let page = project.run(words).code(0).stdout;
        let lines = page.lines().filter(|line| line.starts_with("  input"));
        lines.map(|line| line.trim().to_owned()).collect()
    };
    assert_eq!(
        facts("explain t").last().unwrap(),
        "input     web/src/ (300 files)"
    );
    assert_eq!(facts("explain t").len(), 3);
    assert_eq!(facts("explain -v t").len(), 302);
    project.run("run -q t").ok("");
    for number in 0..30 {
        project.write(format!("web/src/{number}.ts"), "y");
    }
    assert_eq!(facts("explain t"), ["input web/src/ (30 changed files)"]);
}

#[test]
fn explain_refuses_a_group() {
    let project = project();
    project.run("explain all").ended(
        2,
        "",
        "
        error: `all` is a group
          help: explain one of its targets: shout
        ",
    );
    project.run("explain shuot").ended(
        2,
        "",
        "
        error[fbuild::graph::unknown]: unknown target `shuot`
          help: did you mean `shout`?
        ",
    );
    let missing = project.run("explain").code(2);
    assert!(missing.stderr.contains("<TARGET>"), "{}", missing.stderr);
}

#[test]
fn read_only_commands_change_no_file() {
    for state in ["new", "to be built", "to be restored"] {
        let project = project();
        let first = project.read("in.txt");
        if state != "new" {
            project.run("run -q").ok("");
            project.write("in.txt", "other\n");
            std::fs::remove_file(project.path("shout.txt")).unwrap();
        }
        if state == "to be restored" {
            project.run("run -q").ok("");
            project.write("in.txt", first);
        }
        let before = project.snapshot("");
        let commands = [
            "run -n",
            "status",
            "graph",
            "list",
            "check",
            "explain copy",
            "cache status",
            "cache verify",
            "fmt --check",
            "init --print",
            "completions bash",
            "man",
        ];
        for command in commands {
            project.run(command).code(0);
            assert_eq!(project.snapshot(""), before, "{command}");
        }
    }
}

#[test]
fn closed_pipe_is_not_an_error() {
    let project = project();
    for command in ["list", "graph", "man", "run -n", "completions zsh"] {
        let mut run = project.fbuild(command).command();
        run.stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut child = run.spawn().unwrap();
        drop(child.stdout.take());
        let done = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(done.stderr).unwrap(), "", "{command}");
        assert!(done.status.success(), "{command}: {}", done.status);
    }
}
