//! Tests of the meaning of Buildfiles, and of the errors of reading one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use miette::Diagnostic as _;

use super::model::{Command, EnvValue, Output, Piece, Target, Text};
use super::{CODES, Error, Loaded, load, load_text};
use crate::digest::Digest;
use crate::source::Diagnostic;

fn good(text: &str) -> Loaded {
    let loaded = load_text(text, Path::new("Buildfile.kdl"));
    assert_eq!(loaded.diagnostics, [], "{text}");
    assert!(loaded.is_complete);
    loaded
}

fn target(text: &str) -> Target {
    good(text).buildfile.targets.pop().unwrap()
}

fn literal(text: &str) -> Text {
    Text(vec![Piece::Literal(text.to_owned())])
}

fn patterns(target: &Target) -> Vec<Vec<&str>> {
    let texts = |inputs: &super::model::Inputs| {
        let patterns = inputs.patterns.iter().map(|p| p.value.text());
        let except = inputs.except.iter().map(|p| p.value.text());
        patterns
            .chain(["-"])
            .chain(except)
            .map(|t| t.to_owned())
            .collect::<Vec<_>>()
    };
    let leaked = |texts: Vec<String>| texts.into_iter().map(|t| &*t.leak()).collect();
    target.inputs.iter().map(texts).map(leaked).collect()
}

fn names(names: &[super::model::Spanned<String>]) -> Vec<&str> {
    names.iter().map(|name| name.value.as_str()).collect()
}

#[test]
fn variables_are_expanded_in_strings() {
    let target = target(
        r#"
        var name "mgr"
        var out "{name}-1.{minor}"
        var minor 10
        target a {
            about "{name} of {{name}}"
            outputs "bin/{out}"
            run x
        }"#,
    );
    assert_eq!(target.about.as_deref(), Some("mgr of {name}"));
    let Output::File(path) = &target.outputs[0].paths[0].value else {
        panic!()
    };
    assert_eq!(path.to_string(), "bin/mgr-1.10");
}

#[test]
fn commands_refer_to_variables_of_the_environment() {
    let target = target(
        r#"
        var out "mgr-1.10"
        target a {
            env LDFLAGS
            run go -ldflags "{env.LDFLAGS} -X v={out}" "{{.Dir}}" "{a,b}" 1.50
            sh "echo {}"
        }"#,
    );
    let flags = Text(vec![
        Piece::Env("LDFLAGS".to_owned()),
        Piece::Literal(" -X v=mgr-1.10".to_owned()),
    ]);
    let argv = vec![
        literal("go"),
        literal("-ldflags"),
        flags,
        literal("{{.Dir}}"),
        literal("{a,b}"),
        literal("1.50"),
    ];
    assert_eq!(target.commands[0].value, Command::Run(argv));
    assert_eq!(target.commands[1].value, Command::Sh("echo {}".to_owned()));
}

#[test]
fn templates_add_lists_and_replace_single_values() {
    let target = target(
        r#"
        tool go
        files sources "*.go" { except "*_test.go" }
        template base { needs a; timeout "1m"; env X="1" Y; run first; retries 3 }
        template go from=base { tools go; inputs files=sources { except gen.go } ; timeout "2m" }
        target t from=go {
            needs a b
            inputs go.mod files=sources optional=#true
            env X="2"
            run second
            timeout "3m"
        }"#,
    );
    assert_eq!(names(&target.needs), ["a", "b"]);
    assert_eq!(names(&target.tools), ["go"]);
    assert_eq!(target.timeout, Some(Duration::from_secs(180)));
    assert_eq!(target.retries, 3);
    let env: Vec<_> = target
        .env
        .iter()
        .map(|v| (v.name.value.as_str(), &v.value))
        .collect();
    assert_eq!(
        env,
        [
            ("Y", &EnvValue::Inherit),
            ("X", &EnvValue::Set(literal("2")))
        ]
    );
    assert_eq!(target.commands.len(), 2);
    let expected: [&[&str]; 3] = [
        &["*.go", "-", "gen.go", "*_test.go"],
        &["*.go", "-", "*_test.go"],
        &["go.mod", "-"],
    ];
    assert_eq!(patterns(&target), expected);
    assert_eq!(
        target.inputs.iter().map(|i| i.optional).collect::<Vec<_>>(),
        [false, true, true]
    );
}

#[test]
fn outputs_are_files_folders_or_patterns() {
    let target = target("target a { outputs x \"web/\" \"gen/*.go\" committed=#true; run x }");
    let kind = |path: &super::model::Spanned<Output>| match &path.value {
        Output::File(path) => format!("file {path}"),
        Output::Folder(path) => format!("folder {path}"),
        Output::Glob(pattern) => format!("glob {pattern}"),
    };
    let kinds: Vec<_> = target.outputs[0].paths.iter().map(kind).collect();
    assert_eq!(kinds, ["file x", "folder web", "glob gen/*.go"]);
    assert!(target.outputs[0].committed);
}

#[test]
fn kept_patterns_are_relative_to_the_folder() {
    let target = target("target a { outputs \"web/\" { keep empty \"**/*.md\" }; run x }");
    let keep = target.outputs[0].keep.iter().map(|k| k.value.text());
    assert_eq!(keep.collect::<Vec<_>>(), ["web/empty", "web/**/*.md"]);
}

#[test]
fn env_variables_follow_those_they_refer_to() {
    let target = target(
        r#"target a {
            env A="{env.B}/a" C="{env.D}" B="{env.D}/b"
            env D
            run x
        }"#,
    );
    let order: Vec<_> = target.env.iter().map(|v| v.name.value.as_str()).collect();
    assert_eq!(order, ["D", "B", "A", "C"]);
}

#[test]
fn tools_have_default_probes() {
    let text = "tool go\ntool java\ntool node\ntool x { probe y \"-V {v}\" }\nvar v 1\ngroup g { needs a }";
    let tools = good(text).buildfile.tools;
    let probes: Vec<_> = tools.iter().map(|tool| tool.probe.join(" ")).collect();
    assert_eq!(
        probes,
        ["go version", "java -version", "node --version", "y -V 1"]
    );
}

#[test]
fn project_settings_are_read() {
    let text = r#"
        project p { root sub; default a b }
        cache dir="../cache" max-size="1.5 GiB" max-age="30d"
        jobs 3
        group a { about "both"; needs b }"#;
    let buildfile = good(text).buildfile;
    let project = buildfile.project.unwrap();
    assert_eq!(project.root.unwrap().value.to_string(), "sub");
    assert_eq!(names(&project.default), ["a", "b"]);
    assert_eq!(buildfile.cache.max_size, Some(3 << 29));
    assert_eq!(
        buildfile.cache.max_age,
        Some(Duration::from_secs(30 * 86_400))
    );
    assert_eq!(buildfile.cache.dir.unwrap().value, "../cache");
    assert_eq!(buildfile.jobs, Some(3));
    assert_eq!(buildfile.groups[0].about.as_deref(), Some("both"));
}

/// A folder with files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

const TOOLS: &str = r#"
    include "../common.kdl"
    target gen from=base {
        inputs "src/**"
        outputs "out/" { keep x }
        run x
    }
    target here { run x; dir sub }"#;

/// Returns a folder with a Buildfile that includes two others.
fn nested() -> tempfile::TempDir {
    let main = "project p { root r }\ninclude \"r/tools/Buildfile.kdl\"\ntarget last { run x }";
    folder(&[
        ("Buildfile.kdl", main),
        ("r/tools/Buildfile.kdl", TOOLS),
        ("r/common.kdl", "template base { inputs common.txt }"),
    ])
}

fn load_from(folder: &tempfile::TempDir) -> Loaded {
    let path = folder.path().join("Buildfile.kdl");
    load(&path, Path::new("Buildfile.kdl")).unwrap()
}

#[test]
fn included_paths_are_relative_to_their_file() {
    let loaded = load_from(&nested());
    assert_eq!(loaded.diagnostics, []);
    let [generate, here, last] = &loaded.buildfile.targets[..] else {
        panic!()
    };
    let expected: [&[&str]; 2] = [&["common.txt", "-"], &["tools/src/**", "-"]];
    assert_eq!(patterns(generate), expected);
    assert_eq!(generate.outputs[0].keep[0].value.text(), "tools/out/x");
    let folders = [generate, here, last].map(|target| target.dir.to_string());
    assert_eq!(folders, ["tools", "tools/sub", "."]);
}

#[test]
fn root_is_relative_to_the_main_buildfile() {
    let folder = nested();
    let expected = folder.path().canonicalize().unwrap().join("r");
    assert_eq!(load_from(&folder).root, expected);
}

#[test]
fn load_lists_every_file_with_its_digest() {
    let loaded = load_from(&nested());
    let files = loaded.files.iter();
    let names: Vec<_> = files.map(|(path, _)| path.file_name().unwrap()).collect();
    assert_eq!(names, ["Buildfile.kdl", "Buildfile.kdl", "common.kdl"]);
    assert_eq!(loaded.files[1].1, Digest::of(TOOLS.as_bytes()));
    let shown = loaded.sources.files().iter().map(|file| file.path.clone());
    let expected = ["Buildfile.kdl", "r/tools/Buildfile.kdl", "r/common.kdl"];
    assert_eq!(shown.collect::<Vec<_>>(), expected.map(PathBuf::from));
}

#[test]
fn include_cannot_leave_the_root_through_a_link() {
    let outside = folder(&[("evil.kdl", "target evil { run x }")]);
    let folder = folder(&[("Buildfile.kdl", "include \"link.kdl\"\ntarget a { run x }")]);
    let link = folder.path().join("link.kdl");
    std::os::unix::fs::symlink(outside.path().join("evil.kdl"), link).unwrap();
    let loaded = load_from(&folder);
    assert_eq!(
        loaded.diagnostics[0].message,
        "`link.kdl` leaves the project's root"
    );
    assert_eq!(loaded.buildfile.targets.len(), 1);
}

#[test]
fn missing_root_is_a_mistake() {
    let folder = folder(&[(
        "Buildfile.kdl",
        "project p { root nowhere }\ntarget a { run x }",
    )]);
    let loaded = load_from(&folder);
    assert_eq!(
        loaded.diagnostics[0].message,
        "there is no folder `nowhere`"
    );
}

#[test]
fn lost_names_are_not_reported_as_unknown() {
    let text = "templat t { run x }\ntarget a from=t { tools go }\n12 x\ntool go { }}";
    let loaded = load_text(text, Path::new("Buildfile.kdl"));
    assert!(!loaded.is_complete);
    let messages: Vec<_> = loaded
        .diagnostics
        .iter()
        .map(|d| d.message.as_str())
        .collect();
    assert_eq!(
        messages,
        [
            "unknown node `templat`",
            "`12` cannot be the name of a node",
            "unexpected `}`"
        ]
    );
    assert_eq!(loaded.buildfile.targets.len(), 1);
}

#[test]
fn mistakes_in_a_long_text_have_their_spans() {
    let is_wrong = |n: usize| n % 500 == 7;
    let node = |n: usize| {
        if is_wrong(n) {
            format!("target t{n} {{ wrong x; run x }}\n")
        } else {
            format!("target t{n} {{ run x; about \"{n}\" }}\n")
        }
    };
    let nodes: Vec<String> = (0..3000).map(node).collect();
    let text = nodes.concat();
    let loaded = load_text(&text, Path::new("Buildfile.kdl"));
    let of = |n: usize| nodes[..n].concat().len();
    for (n, target) in loaded.buildfile.targets.iter().enumerate() {
        let place = target.name.span.start as usize;
        assert_eq!(target.name.value, format!("t{n}"));
        assert_eq!(place, of(n) + "target ".len());
    }
    assert_eq!(loaded.buildfile.targets.len(), 3000);
    let place = |n: usize| of(n) + nodes[n].find("wrong").unwrap();
    let expected: Vec<usize> = (0..3000).filter(|n| is_wrong(*n)).map(place).collect();
    let place = |d: &Diagnostic| d.labels[0].span.start as usize;
    let places: Vec<usize> = loaded.diagnostics.iter().map(place).collect();
    assert_eq!(places, expected);
}

#[test]
fn slash_dash_removes_nodes_values_and_blocks() {
    let target = target(
        "/-target b { run y }\ntarget a /-from=zzz { run x /-y z; /- needs b\n} /-{ nothing }",
    );
    let argv = vec![literal("x"), literal("z")];
    assert_eq!(target.commands[0].value, Command::Run(argv));
}

fn error(path: &Path) -> (String, String) {
    let error = load(path, path).unwrap_err();
    let code = error.code().unwrap().to_string();
    assert!(CODES.iter().any(|(known, _)| *known == code), "{code}");
    assert!(error.help().is_some());
    let text = error
        .to_string()
        .replace(&path.display().to_string(), "PATH");
    (code, text)
}

#[test]
fn read_errors_name_the_cause() {
    let folder = folder(&[("latin1.kdl", ""), ("large.kdl", "")]);
    let at = |name: &str| folder.path().join(name);
    let missing = (
        "fbuild::buildfile::file_missing".into(),
        "there is no Buildfile at `PATH`".into(),
    );
    assert_eq!(error(&at("Buildfile.kdl")), missing);
    let not_a_file = |what: &str| {
        (
            "fbuild::buildfile::file_folder".to_owned(),
            format!("`PATH` is {what}, not a file"),
        )
    };
    assert_eq!(error(folder.path()), not_a_file("a folder"));
    assert_eq!(
        error(Path::new("/dev/null")),
        not_a_file("a device or a pipe")
    );
    let large = fs::File::create(at("large.kdl")).unwrap();
    large.set_len(50 << 20).unwrap();
    let too_large = "`PATH` is too large to be a Buildfile: 52428800 bytes".to_owned();
    assert_eq!(
        error(&at("large.kdl")),
        ("fbuild::buildfile::file_too_large".to_owned(), too_large)
    );
    fs::write(at("latin1.kdl"), b"// caf\xc3\xa9\ntarget caf\xe9 {}").unwrap();
    let encoding = "`PATH` is not UTF-8 text: line 2, byte 19".to_owned();
    assert_eq!(
        error(&at("latin1.kdl")),
        ("fbuild::buildfile::file_encoding".to_owned(), encoding)
    );
}

#[test]
fn unreadable_file_shows_the_system_error() {
    let cause = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    let path = PathBuf::from("Buildfile.kdl");
    let error = Error::Unreadable { path, cause };
    assert_eq!(
        error.to_string(),
        "cannot read `Buildfile.kdl`: permission denied"
    );
    assert_eq!(
        error.code().unwrap().to_string(),
        "fbuild::buildfile::file_unreadable"
    );
}

#[test]
fn byte_order_mark_and_crlf_are_accepted() {
    let text = "\u{feff}target a {\r\n    sh \"\"\"\r\n        one\r\n        two\r\n        \"\"\"\r\n}\r\n";
    assert_eq!(
        target(text).commands[0].value,
        Command::Sh("one\ntwo".to_owned())
    );
}

#[test]
fn own_buildfile_has_no_mistakes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Buildfile.kdl");
    let loaded = load(&path, Path::new("Buildfile.kdl")).unwrap();
    assert_eq!(loaded.diagnostics, []);
    assert!(loaded.root.ends_with("fixtures/flamenco"));
}
