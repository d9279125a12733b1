//! `Buildfile.lock`: committed outputs are used as they are while they agree with it, without
//! the tools that made them.

use std::fs;

use super::project::{FinishedRun, Project};

/// A generator that is built with one tool and run with another, and a reader of its output.
const BUILDFILE: &str = r#"
    tool javac { probe javac version }
    tool java { probe java version }
    target generator { tools javac; inputs "gen/*.src"; outputs "build/gen.jar"; sh "mkdir -p build; cat gen/*.src > build/gen.jar" }
    target generate {
        needs generator
        tools java
        inputs api "build/gen.jar"
        outputs "client/" committed=#true
        sh "mkdir -p client/sub; java; cp api client/sub/code"
    }
    target test { needs generate; inputs "**" { except out }; outputs out; sh "cat client/sub/code > out" }
"#;

/// A project in which everything was built, with its outputs committed.
fn built() -> Project {
    let project = Project::new(BUILDFILE)
        .file("api", "1\n")
        .file("gen/a.src", "a")
        .tool("javac", "echo javac 1.0")
        .tool("java", "echo java 1.0");
    project.run("run -q test").code(0);
    project
}

/// Copies the committed files into another checkout and removes the tools.
fn clone(project: &Project) {
    for tool in ["java", "javac"] {
        fs::remove_file(project.path("../bin").join(tool)).unwrap();
    }
    for file in [
        "Buildfile.kdl",
        "Buildfile.lock",
        "api",
        "gen/a.src",
        "client/sub/code",
    ] {
        project.write(format!("../clone/{file}"), project.read(file));
    }
}

fn run_in_clone(project: &Project, words: &str) -> FinishedRun {
    project.fbuild(words).from("../clone").end()
}

#[test]
fn clone_needs_no_tools_while_lock_and_tree_agree() {
    let project = built();
    clone(&project);
    run_in_clone(&project, "run test").ok("
        Building 2 targets, up to 2 at once
        [2/2] Starting test: never built here
        [2/2] Completed test ([time], total elapsed: [time])
        Finished in [time]: 1 built, 1 up to date
        ");
    assert_eq!(project.read("../clone/out"), "1\n");
    assert!(!project.has("../clone/build"), "the generator was built");
    let again = run_in_clone(&project, "run test").code(0);
    assert!(
        again.stdout.contains("nothing to do: 2 targets"),
        "{}",
        again.stdout
    );
    run_in_clone(&project, "run generate").code(0);
    let lock = |folder: &str| project.read(format!("{folder}/Buildfile.lock"));
    assert_eq!(lock("../clone"), lock("."));
}

#[test]
fn change_after_a_no_op_build_of_a_clone_is_noticed() {
    for change in ["api", "gen/a.src", "client/sub/code", "Buildfile.lock"] {
        let project = built();
        clone(&project);
        run_in_clone(&project, "run -q test").ok("");
        assert!(project.has("../clone/.build-cache/snapshot"));
        run_in_clone(&project, "run -q test").ok("");
        project.write(format!("../clone/{change}"), "2\n");
        run_in_clone(&project, "run -q test").code(1);
    }
}

#[test]
fn missing_tool_is_named_with_the_changed_inputs() {
    for (file, changed) in [
        ("api", "its inputs changed"),
        ("gen/a.src", "its inputs changed"),
        ("client/sub/code", "its committed outputs changed"),
        ("client/sub/stray", "its committed outputs changed"),
    ] {
        let project = built();
        clone(&project);
        project.write(format!("../clone/{file}"), "2\n");
        let done = run_in_clone(&project, "run test").code(1);
        let printed = [done.stdout, done.stderr].concat();
        let words = printed.split_whitespace().collect::<Vec<_>>().join(" ");
        let reason = format!("`generate` must run because {changed}");
        assert!(words.contains(&reason), "{file}: {printed}");
        assert!(words.contains("tool `java"), "{file}: {printed}");
    }
}

#[test]
fn generator_runs_when_lock_and_tree_disagree() {
    let project = built();
    let before = project.read("Buildfile.lock");
    project.write("api", "2\n");
    project.run("run -q test").code(0);
    assert_eq!(project.read("out"), "2\n");
    let after = project.read("Buildfile.lock");
    assert_ne!(before, after);
    project.write("api", "1\n");
    project.run("run -q test").code(0);
    assert_eq!(project.read("Buildfile.lock"), before);
}

#[test]
fn agreeing_change_of_others_is_not_generated_again() {
    let project = built();
    let before = project.read("Buildfile.lock");
    project.write("api", "2\n");
    project.run("run -q test").code(0);
    let after = project.read("Buildfile.lock");
    for (path, old) in [
        ("api", "1\n"),
        ("client/sub/code", "1\n"),
        ("Buildfile.lock", &*before),
    ] {
        project.write(path, old);
    }
    project.run("run -q --force test").code(0);
    for (path, new) in [
        ("api", "2\n"),
        ("client/sub/code", "2\n"),
        ("Buildfile.lock", &*after),
    ] {
        project.write(path, new);
    }
    let done = project.run("run test").code(0);
    assert!(!done.stdout.contains("generate"), "{}", done.stdout);
    assert_eq!(project.read("out"), "2\n");
}

#[test]
fn new_tool_version_runs_the_generator_again() {
    let project = built().tool("java", "echo java 2.0");
    let done = project.run("run test").code(0);
    assert!(
        done.stdout.contains("Starting generate: `java` changed"),
        "{}",
        done.stdout
    );
}

#[test]
fn removed_lock_is_written_again() {
    let project = built();
    let lock = project.read("Buildfile.lock");
    fs::remove_file(project.path("Buildfile.lock")).unwrap();
    project.run("run -q test").ok("");
    assert_eq!(project.read("Buildfile.lock"), lock);
    project
        .run("run test")
        .ok("nothing to do: 3 targets up to date ([time])\n");
}

#[test]
fn lock_has_a_line_for_each_committed_target() {
    let project = built();
    let lock = project.read("Buildfile.lock");
    let lines: Vec<&str> = lock.lines().skip(2).collect();
    assert_eq!(lines.len(), 1, "{lock}");
    assert!(lines[0].starts_with("generate inputs="), "{lock}");
    project.buildfile("target a { outputs x committed=#true; sh \"echo > x\" }\n");
    project.run("run -q a").ok("");
    let lock = project.read("Buildfile.lock");
    assert!(
        lock.contains("\na inputs=") && !lock.contains("generate"),
        "{lock}"
    );
}

#[test]
fn project_without_committed_outputs_has_no_lock() {
    let project = Project::new("target a { outputs x; sh \"echo > x\" }\n");
    project.run("run -q a").ok("");
    assert!(!project.has("Buildfile.lock"));
}

#[test]
fn dry_run_writes_no_lock() {
    let project = built();
    fs::remove_file(project.path("Buildfile.lock")).unwrap();
    project.run("run -n test").code(0);
    project.run("status test").code(0);
    assert!(!project.has("Buildfile.lock"));
}
