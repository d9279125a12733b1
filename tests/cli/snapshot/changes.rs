//! Every kind of change, and changes without effect.

use super::*;

/// Changes, and a part of the following output.
const CHANGES: &[(&str, Change, &str)] = &[
    ("an input", |p| p.write("src/a", "9\n"), "`src/a` changed"),
    (
        "an input of the same size",
        |p| p.write("src/below/b", "9\n"),
        "`src/below/b` changed",
    ),
    (
        "an input and its time",
        |p| edit_keeping_time(&p.path("src/a"), "9\n"),
        "`src/a` changed",
    ),
    (
        "another file in its place",
        |p| {
            p.write("beside", "9\n");
            fs::rename(p.path("beside"), p.path("src/a")).unwrap();
        },
        "`src/a` changed",
    ),
    (
        "an executable bit",
        |p| chmod(&p.path("src/a"), 0o755),
        "1 built",
    ),
    (
        "a new file",
        |p| p.write("src/new", "9\n"),
        "`src/new` is new",
    ),
    (
        "a new file in a new folder",
        |p| p.write("src/x/y/new", "9\n"),
        "`src/x/y/new` is new",
    ),
    (
        "a removed file",
        |p| fs::remove_file(p.path("src/below/b")).unwrap(),
        "`src/below/b` was removed",
    ),
    (
        "a file that might be there",
        |p| p.write("maybe/now.txt", "9\n"),
        "`maybe/now.txt` is new",
    ),
    ("the target of a link", |p| p.write("real", "9\n"), "`link`"),
    (
        "where a link leads",
        |p| {
            fs::remove_file(p.path("link")).unwrap();
            symlink("base.in", p.path("link")).unwrap();
        },
        "`link`",
    ),
    (
        "the missing target of a link",
        |p| p.write("nowhere", "9\n"),
        "`dangling`",
    ),
    (
        "a folder replaced by a link to itself",
        |p| {
            fs::rename(p.path("src"), p.path("moved")).unwrap();
            symlink("moved", p.path("src")).unwrap();
        },
        "`moved/a` is new",
    ),
    (
        "an input of a needed target",
        |p| p.write("base.in", "9\n"),
        "2 built",
    ),
    (
        "an output",
        |p| p.write("out.txt", "touched\n"),
        "1 restored",
    ),
    (
        "an output of a needed target",
        |p| p.write("base.txt", "touched\n"),
        "1 restored",
    ),
    (
        "a removed output",
        |p| fs::remove_file(p.path("out.txt")).unwrap(),
        "1 restored",
    ),
    (
        "an output's mode",
        |p| chmod(&p.path("out.txt"), 0o755),
        "1 restored",
    ),
    (
        "a stray file in an owned folder",
        |p| p.write("site/deep/stray", "9\n"),
        "`site/` has a file that fbuild did not make: `site/deep/stray`",
    ),
    (
        "a stray folder in an owned folder",
        |p| fs::create_dir(p.path("site/empty")).unwrap(),
        "1 restored",
    ),
    (
        "a missing owned folder",
        |p| fs::remove_dir_all(p.path("site/deep")).unwrap(),
        "1 restored",
    ),
    (
        "a new match of an output's pattern",
        |p| p.write("gen/b.c", "9\n"),
        "`gen/*.c` has a file that fbuild did not make: `gen/b.c`",
    ),
    (
        "a committed output",
        |p| p.write("committed.txt", "9\n"),
        "1 ",
    ),
    (
        "the Buildfile",
        |p| {
            p.write(
                "Buildfile.kdl",
                p.read("Buildfile.kdl").replace("mkdir -p", "mkdir  -p"),
            )
        },
        "1 built",
    ),
    (
        "an included file",
        |p| p.write("lib/Buildfile.kdl", "target t {}\n"),
        "error",
    ),
    (
        "a tool",
        |p| p.write("../bin/teller", "#!/bin/sh\necho teller 2.0\n"),
        "1 built",
    ),
    (
        "a tool in front of it on PATH",
        |p| {
            fs::rename(p.path("../bin/teller"), p.path("../bin/other")).unwrap();
            symlink("other", p.path("../bin/teller")).unwrap();
            p.write("../bin/other", "#!/bin/sh\necho teller 3.0\n");
        },
        "1 built",
    ),
    (
        "a tool that is gone",
        |p| fs::remove_file(p.path("../bin/teller")).unwrap(),
        "tool `teller` cannot be used",
    ),
];

#[test]
fn every_change_is_detected() {
    for (name, change, expected) in CHANGES {
        let project = project();
        settle(&project);
        change(&project);
        let text = text(&project.run("run"));
        assert!(text.contains(expected), "{name}: {text}");
    }
}

#[test]
fn changes_without_effect_are_examined() {
    let changes: &[(&str, Change)] = &[
        ("a touched input", |p| p.write("src/a", "1\n")),
        ("a kept file in an owned folder", |p| {
            p.write("site/kept", "9\n")
        }),
        ("a lost index", |p| {
            fs::remove_file(p.path(".build-cache/index")).unwrap()
        }),
        ("lost metadata", |p| {
            fs::remove_dir_all(p.path(".build-cache/metadata")).unwrap()
        }),
        ("a comment", |p| {
            p.write("Buildfile.kdl", p.read("Buildfile.kdl") + "// yes\n")
        }),
    ];
    for (name, change) in changes {
        let project = project();
        settle(&project);
        change(&project);
        assert_eq!(text(&project.run("run")), BUILT, "{name}");
    }
}

#[test]
fn touched_file_is_read_only_until_it_is_old() {
    for file in ["src/a", "out.txt", "site/deep/page", "committed.txt"] {
        let project = project();
        settle(&project);
        let still = project.path(".build-cache/snapshot");
        let before = fs::read(&still).unwrap();
        project.write(file, project.read(file));
        let deadline = Instant::now() + Duration::from_secs(20);
        while fs::read(&still).unwrap() == before {
            assert!(Instant::now() < deadline, "{file} is read again each time");
            assert!(
                is_skipped(&project, || project.run("run").ok(BUILT)),
                "{file}"
            );
        }
        // From here on the touch has no effect.
        fs::remove_file(project.path(".build-cache/index")).unwrap();
        assert!(
            is_skipped(&project, || project.run("run").ok(BUILT)),
            "{file}"
        );
    }
}

#[test]
fn touched_file_that_differs_is_examined() {
    let changes: &[(&str, Change, &str)] = &[
        (
            "touched, and another mode",
            |p| {
                p.write("src/a", "1\n");
                chmod(&p.path("src/a"), 0o755);
            },
            "1 built",
        ),
        (
            "touched, and other bytes of the same number",
            |p| p.write("src/a", "9\n"),
            "1 built",
        ),
        (
            "one touched, another edited",
            |p| {
                p.write("base.in", "3\n");
                p.write("src/a", "9\n");
            },
            "1 built",
        ),
        (
            "one touched, another gone",
            |p| {
                p.write("base.in", "3\n");
                fs::remove_file(p.path("src/below/b")).unwrap();
            },
            "1 built",
        ),
        (
            "touched, and a link of the same text instead",
            |p| {
                p.write("src/c", "1\n");
                fs::remove_file(p.path("src/a")).unwrap();
                symlink("c", p.path("src/a")).unwrap();
            },
            "1 built",
        ),
    ];
    for (name, change, expected) in changes {
        let project = project();
        settle(&project);
        change(&project);
        let mut done = String::new();
        let run = || done = text(&project.run("run"));
        assert!(!is_skipped(&project, run), "{name}");
        assert!(done.contains(expected), "{name}: {done}");
    }
}
