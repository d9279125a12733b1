//! T10, second part: names with a meaning for a shell, a program or a file system, outputs
//! in wrong places, and commands that must not start a process.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use super::project::Project;

/// Names with a meaning for some program.
const NAMES: &[&str] = &[
    "$(touch pwned)",
    "`touch pwned`",
    ";touch pwned;",
    "|touch pwned",
    "&& touch pwned",
    "> pwned",
    "$IFS$9pwned",
    "${PATH}",
    "%s%n",
    "-rf",
    "--help",
    "~",
    "~root",
    "*",
    "[a-z]?",
    "!!",
    "#no comment",
    "a b  c",
    "quo\"te's",
    "back\\slash",
    "new\nline",
    "tab\there",
    "bell\u{7}",
    "escape\u{1b}[31m",
    "a\u{301}",
    "\u{e1}",
    "UPPER",
    "upper",
    "con.txt",
    "con.txt.",
    ".hidden",
    "...",
];

/// Returns a text as a quoted string of the Buildfile.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '{' => quoted.push_str("{{"),
            '}' => quoted.push_str("}}"),
            c if c.is_control() => quoted.push_str(&format!("\\u{{{:x}}}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// Returns a pattern that matches only the given path.
fn literal(path: &str) -> String {
    let special = |c| matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\');
    let mut pattern = String::new();
    for c in path.chars() {
        if special(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[test]
fn special_names_work_as_inputs_outputs_and_values() {
    let mut buildfile = String::new();
    let project = Project::empty();
    for (number, name) in NAMES.iter().enumerate() {
        let (input, output) = (format!("in/{name}"), format!("out/{name}"));
        project.write(&input, name);
        buildfile += &format!(
            "target t{number} {{\n    env WORD={}\n    inputs {}\n    outputs {} v{number}\n    \
             run cp -- {} {}\n    run sh -c \"printf '%s' \\\"$1\\\" \\\"$WORD\\\" > v{number}\" sh {}\n}}\n",
            quoted(name),
            quoted(&literal(&input)),
            quoted(&literal(&output)),
            quoted(&input),
            quoted(&output),
            quoted(name),
        );
    }
    buildfile += "group all { needs t* }\n";
    let list: Vec<String> = (0..NAMES.len()).map(|n| format!("t{n}")).collect();
    let buildfile = buildfile.replace("t*", &list.join(" "));
    project.buildfile(&buildfile);
    project.run("run -q all").ok("");
    let check = || {
        for (number, name) in NAMES.iter().enumerate() {
            assert_eq!(project.read(format!("out/{name}")), *name);
            assert_eq!(project.read(format!("v{number}")), name.repeat(2));
        }
        assert_eq!(project.names("out").len(), NAMES.len());
        assert!(!project.names("").iter().any(|name| name == "pwned"));
    };
    check();
    project.run("run all").code(0);
    fs::remove_dir_all(project.path("out")).unwrap();
    let done = project.run("run all").code(0);
    assert!(
        done.stdout.contains(&format!("{} restored", NAMES.len())),
        "{}",
        done.stdout
    );
    check();
    // No output may contain a character that acts on a terminal.
    project.write("in/escape\u{1b}[31m", "changed");
    for words in [
        "status all",
        "explain t23",
        "run -n all",
        "graph all",
        "run -v all",
    ] {
        let done = project.run(words).code(0);
        let output = [done.stdout, done.stderr].concat();
        let acts = output.chars().any(|c| c.is_control() && c != '\n');
        assert!(!acts, "{words}: {output:?}");
    }
}

#[test]
fn names_that_are_not_utf8_work() {
    let project =
        Project::new(r#"target t { inputs "in/*"; outputs "out/"; sh "cp -R in/. out" }"#);
    let names: [&[u8]; 4] = [b"\xff", b"a\xc3", b"\xed\xa0\x80", &[b'x'; 255]];
    for name in names {
        let path = std::path::Path::new("in").join(std::ffi::OsStr::from_bytes(name));
        project.write(path, name);
    }
    project.run("run -q t").ok("");
    fs::remove_dir_all(project.path("out")).unwrap();
    project.run("run -q t").ok("");
    assert_eq!(project.names("out"), project.names("in"));
}

/// Pairs of outputs that exclude each other, and places where no output may be, with the
/// code of the error.
const WRONG: &[(&str, &str, &str)] = &[
    ("outputs x", "outputs x", "graph::two_producers"),
    ("outputs x", r#"outputs "./x""#, "graph::two_producers"),
    (
        r#"outputs "a/x""#,
        r#"outputs "a//x""#,
        "graph::two_producers",
    ),
    (r#"outputs "x/""#, "outputs x", "graph::two_producers"),
    (r#"outputs "x/""#, r#"outputs "x/""#, "graph::two_producers"),
    (
        r#"outputs "x/""#,
        r#"outputs "x/y""#,
        "graph::two_producers",
    ),
    (
        r#"outputs "x/""#,
        r#"outputs "x/y/z/""#,
        "graph::two_producers",
    ),
    (
        r#"outputs "x/""#,
        r#"outputs "x/**/*.o""#,
        "graph::two_producers",
    ),
    ("outputs x", r#"outputs "x/y""#, "graph::two_producers"),
    (
        r#"outputs "*.o""#,
        r#"outputs "a.o""#,
        "graph::two_producers",
    ),
    (
        r#"outputs "*.o""#,
        r#"outputs "a*""#,
        "graph::two_producers",
    ),
    (
        r#"outputs "**/*.gen.go""#,
        r#"outputs "pkg/x.gen.go""#,
        "graph::two_producers",
    ),
    (
        r#"outputs "x/" { keep y }"#,
        r#"outputs "x/z""#,
        "graph::two_producers",
    ),
    (r#"outputs "a/b/../x""#, "", "buildfile::path"),
    (r#"outputs "../x""#, "", "buildfile::path"),
    (r#"outputs "../canary/precious""#, "", "buildfile::path"),
    (r#"outputs "/tmp/fbuild-escape""#, "", "buildfile::path"),
    (r#"outputs "a/../../x""#, "", "buildfile::path"),
    (r#"outputs "a/..""#, "", "buildfile::path"),
    (r#"outputs "a\u{0}b""#, "", "buildfile::path"),
    (r#"outputs "**/../../x""#, "", "buildfile::path"),
    (r#"outputs "x/" { keep "../y" }"#, "", "buildfile::path"),
    (r#"outputs """#, "", "buildfile::output"),
    (r#"outputs ".""#, "", "buildfile::output"),
    (r#"outputs "./""#, "", "buildfile::output"),
    (r#"outputs "Buildfile.kdl""#, "", "buildfile::output"),
    (r#"dir "..""#, "", "buildfile::path"),
    (r#"dir "/""#, "", "buildfile::path"),
    (r#"inputs "../in""#, "", "buildfile::path"),
    (r#"inputs "/etc/passwd""#, "", "buildfile::path"),
    (r#"env "A=B"=c"#, "", "buildfile::name"),
    (r#"env """#, "", "buildfile::name"),
    (r#"env "A\u{0}"=c"#, "", "buildfile::name"),
    (r#"pass "A B""#, "", "buildfile::name"),
    (r#"secret "1A""#, "", "buildfile::name"),
    (r#"run """#, "", "buildfile::command"),
];

#[test]
fn wrong_outputs_are_refused_before_anything_runs() {
    for (first, second, code) in WRONG {
        let target = |name: &str, node: &str| {
            format!("target {name} {{\n    {node}\n    sh \"echo {name} >> ran\"\n}}\n")
        };
        let project = Project::empty();
        project.write("Buildfile.kdl", target("a", first) + &target("b", second));
        project.write("../canary/precious", "precious\n");
        let before = project.snapshot("../canary");
        for words in ["check", "run a b"] {
            let done = project.run(words).code(2);
            let output = [done.stdout, done.stderr].concat();
            let codes = output
                .lines()
                .filter_map(|line| line.strip_prefix("fbuild::"));
            assert_eq!(
                codes.collect::<Vec<_>>(),
                [*code],
                "{first} | {second}: {output}"
            );
            assert!(!project.has("ran"), "{first} | {second}: {output}");
        }
        assert_eq!(project.snapshot("../canary"), before);
    }
}

#[test]
fn bad_target_names_are_refused() {
    for name in [
        "",
        ".",
        "..",
        "-x",
        "--all",
        "a b",
        "a\\nb",
        "a/../b",
        "/a",
        "a$b",
        "a;b",
        "a\\u{0}",
        "a\\u{202e}b",
        "a*",
    ] {
        let project = Project::new(&format!("target \"{name}\" {{ sh \"echo ran > ran\" }}\n"));
        let done = project.run("run");
        done.code(2);
        assert!(!project.has("ran"), "{name}");
        assert!(!project.has("../ran"), "{name}");
    }
}

#[test]
fn inspecting_commands_start_no_process() {
    let project = Project::new(
        r#"
        tool compiler version=">=1.2" { probe compiler -version }
        target t { tools compiler; inputs in; outputs out; run compiler out }
        target u { needs t; outputs u; sh "cp out u" }
        "#,
    )
    .file("in", "")
    .tool("compiler", "echo ran >> ran; echo compiler 1.3");
    let log = project.base().join("log");
    for words in [
        "list",
        "list --json",
        "graph",
        "graph --format json",
        "check",
        "run -n u",
        "fmt --check",
        "cache status",
        "cache verify",
        "completions bash",
        "man",
        "--version",
        "--help",
        "init --dry-run",
    ] {
        let trace = ["strace", "-f", "-qq", "-e", "trace=execve,execveat", "-o"];
        let wrapper = trace
            .map(Into::into)
            .into_iter()
            .chain([log.clone().into_os_string()]);
        let done = project.fbuild(words).under(wrapper).end();
        let traced = fs::read_to_string(&log).unwrap();
        let started: Vec<&str> = traced.lines().filter(|l| l.contains("exec")).collect();
        assert_eq!(started.len(), 1, "{words} started these: {started:?}");
        let output = [done.stdout, done.stderr].concat();
        assert!(!output.contains("panicked"), "{words}: {output}");
        assert!(!project.has("ran"), "{words} asked a tool");
    }
}
